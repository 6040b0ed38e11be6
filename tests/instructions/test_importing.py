"""Importing: tables as other programs write them; bad rows are listed, good ones kept, and nothing is guessed away.

What single formats and shapes promise is in test_formats.py and test_shapes.py.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.instructions import FIELDS, import_file, preview
from studio.instructions.importing import (
    ImportReport,
    Layout,
    Reading,
    Rejected,
    import_into,
    mended_fields,
    preview_hub,
    read_fields,
)
from studio.instructions.records import checked_fields
from studio.settings import Settings
from studio.store import Dataset, Store

MAPPING = {"instruction": "instruction", "context": "context", "response": "response", "category": "category"}
TWO = {"instruction": "instruction", "response": "response"}


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    return sqlite_store.create_dataset("gear", author="ann")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes | str], Path]:
    """Writes an uploaded file."""

    def write(content: bytes | str, name: str = "rows.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def _import(
    store: Store, dataset: Dataset, path: Path, mapping: dict[str, str] = TWO
) -> tuple[ImportReport, list[tuple[str, str]]]:
    report = import_file(store, dataset, path, mapping, author="ann")
    return report, [(r.instruction, r.response) for r in store.all_records(dataset.id)]


# -- tables that are read ------------------------------------------------------------------------------------

GERMAN = "instruction;response\nWäsche?;30 °C – dünn, für dich\n"
FRENCH = "instruction,response\nOù est la crème brûlée ?,Déjà là – près du four à côté.\n"
CURLY = "instruction,response\nWhat’s the price?,It’s 4 € – cheap\n"
POLISH = (
    "instruction;response\nGdzie jest sklep?;Sklep znajduje się w porcie, zaraz obok żółtej latarni. "
    "Otwarte są drzwi od wtorku.\nIle kosztuje zwrot?;Zwrot jest bezpłatny, proszę napisać do nas.\n"
)
RUSSIAN = "instruction;response\nГде находится магазин?;Магазин находится в порту, рядом с маяком.\n"
JAPANESE = "instruction,response\nお店はどこですか,港の灯台の隣にあります。火曜日から営業しています。\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("instruction,response\nq,a\n", [("q", "a")], id="comma"),
        pytest.param("instruction;response\nq, really;a, b\n", [("q, really", "a, b")], id="semicolon"),
        pytest.param("instruction\tresponse\nq, x;y\ta\n", [("q, x;y", "a")], id="tab"),
        pytest.param("instruction|response\nq|a\n", [("q", "a")], id="bar"),
        pytest.param("instruction,response\r\nq,a\r\nr,b\r\n", [("q", "a"), ("r", "b")], id="Windows lines"),
        pytest.param("instruction,response\rq,a\r", [("q", "a")], id="old Mac lines"),
        pytest.param("instruction,response\nq,a", [("q", "a")], id="no line break at the end"),
        pytest.param("\n\n instruction , response \n\n q , a \n\n", [("q", "a")], id="spaces and blank lines"),
        pytest.param(
            'instruction,response\n"q, ""quoted""","a\nover\n\nlines"\n',
            [('q, "quoted"', "a\nover\n\nlines")],
            id="quotes with line breaks",
        ),
        pytest.param("instruction,,response,,\nq,x,a,,\n", [("q", "a")], id="columns without a name"),
        pytest.param('instruction,response\n5" pipe?,6" long\n', [('5" pipe?', '6" long')], id="inch marks"),
        pytest.param(b"\xef\xbb\xbf" + GERMAN.encode(), [("Wäsche?", "30 °C – dünn, für dich")], id="BOM"),
        pytest.param(GERMAN.encode("utf-16"), [("Wäsche?", "30 °C – dünn, für dich")], id="UTF-16"),
        pytest.param(b"\xfe\xff" + GERMAN.encode("utf-16-be"), [("Wäsche?", "30 °C – dünn, für dich")], id="UTF-16 BE"),
        pytest.param(GERMAN.encode("cp1252"), [("Wäsche?", "30 °C – dünn, für dich")], id="cp1252 German"),
        pytest.param(
            FRENCH.encode("cp1252"),
            [("Où est la crème brûlée ?", "Déjà là – près du four à côté.")],
            id="cp1252 French",
        ),
        pytest.param(CURLY.encode("cp1252"), [("What’s the price?", "It’s 4 € – cheap")], id="cp1252 quotes and euro"),
        pytest.param("instruction,response\nq,für".encode("cp1252"), [("q", "für")], id="cp1252 only in the last line"),
        pytest.param(
            POLISH.encode("cp1250"),
            [tuple(line.split(";")) for line in POLISH.splitlines()[1:]],
            id="cp1250 Polish",
        ),
        pytest.param(RUSSIAN.encode("cp1251"), [tuple(RUSSIAN.splitlines()[1].split(";"))], id="cp1251 Russian"),
        pytest.param(
            JAPANESE.encode("shift_jis"), [tuple(JAPANESE.splitlines()[1].split(","))], id="Shift-JIS Japanese"
        ),
        pytest.param(
            '{"instruction": "q", "response": "a"}\n\n{"response": "b\\nc", "instruction": "r"}\n',
            [("q", "a"), ("r", "b\nc")],
            id="JSONL",
        ),
        pytest.param(
            '{"instruction": 7, "response": ["a", 1.5], "more": null}', [("7", '["a", 1.5]')], id="JSONL values"
        ),
        pytest.param(GERMAN.encode("utf-16-le"), [("Wäsche?", "30 °C – dünn, für dich")], id="UTF-16 without BOM"),
        pytest.param(
            JAPANESE.encode("utf-16-be"), [tuple(JAPANESE.splitlines()[1].split(","))], id="UTF-16 BE without"
        ),
        pytest.param(
            "instruction,response\r\nq,a\nr,b\rs,c\r\n", [("q", "a"), ("r", "b"), ("s", "c")], id="mixed line ends"
        ),
        pytest.param(
            "instruction,response\nما هي ساعات العمل؟,من التاسعة 🕘\u200f\n🇩🇪👩🏽‍🔧,עברית\n",
            [("ما هي ساعات العمل؟", "من التاسعة 🕘\u200f"), ("🇩🇪👩🏽‍🔧", "עברית")],
            id="right to left and emoji",
        ),
    ],
)
def test_a_table_is_read_as_it_was_meant(
    sqlite_store: Store,
    dataset: Dataset,
    file: Callable[..., Path],
    content: bytes | str,
    expected: list[tuple[str, str]],
) -> None:
    report, rows = _import(sqlite_store, dataset, file(content))
    assert rows == expected
    assert report == ImportReport(len(expected), ())


def test_a_large_file_whose_sample_ends_inside_a_character_is_still_utf_8(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    long = "ü" * 400_000
    _, rows = _import(sqlite_store, dataset, file(f"instruction,response\nx,{long}\n"))
    assert rows == [("x", long)]


def test_preview_shows_what_the_import_would_take(file: Callable[..., Path]) -> None:
    seen = preview(file("Frage;Prompt;Output;Notes\na;b;c;d\ne;f;g;h\n"), rows=1)
    assert (seen.format, seen.encoding, seen.delimiter) == ("csv", "utf-8", ";")
    assert seen.columns == ("Frage", "Prompt", "Output", "Notes")
    assert seen.rows == ({"Frage": "a", "Prompt": "b", "Output": "c", "Notes": "d"},)
    assert seen.mapping == {"instruction": "Prompt", "context": "", "response": "Output", "category": ""}


def test_preview_knows_dolly_and_alpaca_by_their_columns(file: Callable[..., Path]) -> None:
    dolly = preview(file(json.dumps(dict.fromkeys(FIELDS, "x")), "dolly.jsonl"))
    alpaca = preview(file('{"instruction": "x", "input": "y", "output": "z"}', "alpaca.jsonl"))
    assert dolly.mapping == MAPPING
    assert alpaca.mapping == {"instruction": "instruction", "context": "input", "response": "output", "category": ""}


def test_a_field_that_is_mapped_to_nothing_stays_empty(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    path = file("instruction,context,response\nq,c,a\n")
    import_file(sqlite_store, dataset, path, TWO | {"context": ""}, author="ann")
    (record,) = sqlite_store.all_records(dataset.id)
    assert (record.context, record.category, record.source) == ("", "", "rows.csv")


# -- bad rows among good ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kept", "rejected"),
    [
        pytest.param(
            "instruction,response\nq,a\n,b\nr,\ns,c\n",
            [("q", "a"), ("s", "c")],
            [(2, "instruction", "The instruction is empty"), (3, "response", "The response is empty")],
            id="empty cells",
        ),
        pytest.param(
            "instruction,response\nq,a, b\nr,c\n",
            [("r", "c")],
            [(1, "response", "The row has 3 cells, the header 2. Put quotes around text with a ','")],
            id="too many cells",
        ),
        pytest.param(
            "instruction,response\nq\nr,c\n",
            [("r", "c")],
            [(1, "response", "The response is empty")],
            id="too few cells",
        ),
        pytest.param(
            'instruction,response\nq,a\nr,"never closed\ns,b\n',
            [("q", "a")],
            [(2, "", "begins in line 3 and cannot be read up to line 4")],
            id="a quote that is never closed swallows nothing silently",
        ),
        pytest.param(
            'instruction,response\nq,"a" b\nr,c\n',
            [("r", "c")],
            [(1, "", "Check its quotes")],
            id="text after a closing quote",
        ),
        pytest.param(
            '{"instruction": "q", "response": "a"}\n{"instruction": "r", \n[1, 2]\n"text"\n'
            '{"instruction": "s", "response": "b"}',
            [("q", "a"), ("s", "b")],
            [(2, "", "not JSON"), (3, "", "not a JSON object"), (4, "", "not a JSON object")],
            id="JSONL lines",
        ),
        pytest.param(
            '{"instruction": "q", "response": "a"}\n{"instruction": "r", "response": null}\n{"instruction": "s"}\n',
            [("q", "a")],
            [(2, "response", "The response is empty"), (3, "response", "The response is empty")],
            id="JSONL without an answer",
        ),
        pytest.param(
            '{"instruction": "q", "response": "a"}\n{"n": ' + "9" * 5000 + "}\n" + '{"n": ' + "[" * 100_000 + "\n",
            [("q", "a")],
            [(2, "", "cannot be read"), (3, "", "cannot be read")],
            id="JSON bombs",
        ),
        pytest.param(
            '{"instruction": "q", "response": "a"}\n{"instruction": "r", "response": "half \\ud83d"}\n',
            [("q", "a")],
            [(2, "response", "not utf-8 text")],
            id="half an emoji",
        ),
    ],
)
def test_bad_rows_are_listed_and_good_ones_kept(
    sqlite_store: Store,
    dataset: Dataset,
    file: Callable[..., Path],
    content: str,
    kept: list[tuple[str, str]],
    rejected: list[tuple[int, str, str]],
) -> None:
    report, rows = _import(sqlite_store, dataset, file(content))
    assert rows == kept
    assert report.added == len(kept)
    assert [(r.row, r.column) for r in report.rejected] == [(row, column) for row, column, _ in rejected]
    for found, (_, _, reason) in zip(report.rejected, rejected, strict=True):
        assert reason in found.reason


def test_bytes_of_another_encoding_far_into_a_file_are_listed_not_replaced(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    good = b"instruction,response\n" + (b"q," + b"a" * 1000 + b"\n") * 300
    path = file(good + "r,für\n".encode("cp1252") + b"s,b\n")
    report, rows = _import(sqlite_store, dataset, path)
    assert report.rejected == (
        Rejected(301, "response", "The cell holds bytes that are not utf-8 text. Save the file as UTF-8."),
    )
    assert rows[-1] == ("s", "b")
    assert report.added == 301


# -- files that are refused whole ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", r"rows\.csv is empty", id="empty"),
        pytest.param(b" \n\r\n\t ", r"rows\.csv is empty", id="only white space"),
        pytest.param(b"\xef\xbb\xbf", r"rows\.csv is empty", id="only a BOM"),
        pytest.param("instruction,response\n", r"has no rows\. Choose a CSV with a header", id="header only"),
        pytest.param("instruction\nq\n", r"has a single column \('instruction'\)", id="single column"),
        pytest.param("a,response,a\nq,b,c\n", r"two columns named 'a'\. Rename one", id="duplicate header"),
        pytest.param('"instruction" x,response\nq,a\n', r"header line .*Check its quotes", id="header quotes"),
        pytest.param('[{"instruction": "q"}]', r"has no column 'response'", id="JSON list without answers"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", r"is a binary file, not a table", id="png"),
        pytest.param("instruction,response\nq\x00,a\n", r"is a binary file, not a table", id="NUL bytes"),
        pytest.param("instruction,response\n,a\nq,\n", r"no usable rows.* Row 1: The instruction", id="bad rows"),
        pytest.param("{broken\n{too\n", r"has no rows", id="no JSON line is whole"),
    ],
)
def test_a_file_without_a_table_is_refused_with_the_cure_and_changes_nothing(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path], content: bytes | str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        import_file(sqlite_store, dataset, file(content), TWO, author="ann")
    assert sqlite_store.count_records(dataset.id) == 0


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        pytest.param({"instruction": "instruction"}, r"is mapped to 'response'\. Its columns are:", id="missing"),
        pytest.param(TWO | {"response": ""}, r"is mapped to 'response'", id="left out"),
        pytest.param(TWO | {"response": "antwort"}, r"has no column 'antwort' for 'response'", id="wrong"),
        pytest.param(TWO | {"context": "response"}, r"'response' is mapped to two fields", id="twice"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_the_columns_there_are(
    sqlite_store: Store,
    dataset: Dataset,
    file: Callable[..., Path],
    mapping: dict[str, str],
    sentence: str,
) -> None:
    with pytest.raises(InputError, match=sentence):
        import_file(sqlite_store, dataset, file("instruction,response\nq,a\n"), mapping, author="ann")
    assert sqlite_store.count_records(dataset.id) == 0


def test_a_file_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv cannot be read .*Upload it again"):
        preview(tmp_path / "gone.csv")


# -- how a file is read --------------------------------------------------------------------------------------

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def test_what_is_guessed_can_be_told_instead(file: Callable[..., Path]) -> None:
    path = file("instruction;response\nGrün;blau\n".encode("cp1252"))
    assert preview(path).encoding == "cp1252"
    told = preview(path, wanted=Layout(encoding="cp1250", delimiter=","))
    assert (told.encoding, told.delimiter) == ("cp1250", ",")
    assert told.columns == ("instruction;response",)
    with pytest.raises(InputError, match=r"'klingon' is no encoding of text\. Common ones are utf-8"):
        preview(path, wanted=Layout(encoding="klingon"))
    with pytest.raises(InputError, match=r"Choose one sign"):
        preview(path, wanted=Layout(delimiter="::"))


def test_a_reading_survives_json_and_reads_the_same(file: Callable[..., Path]) -> None:
    path = file(json.dumps(CHAT) + "\n" + json.dumps(CHAT), "chat.jsonl")
    reading = preview(path).reading
    assert reading.shape == "openai_chat"
    again = Reading.model_validate_json(reading.model_dump_json())
    assert again == reading
    assert list(read_fields(path, again)) == list(read_fields(path, Reading()))


def test_rows_keep_their_numbers_so_that_an_import_can_go_on(file: Callable[..., Path]) -> None:
    path = file("instruction,response\na,1\n\nb,\nc,3\n")
    numbers = [(n, isinstance(fields, Rejected)) for n, fields in read_fields(path, Reading())]
    assert numbers == [(1, False), (2, True), (3, False)]


def test_cells_deep_in_objects_are_columns_with_a_dotted_path(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    row = {"data": {"question": "q", "meta": {"lang": "en"}}, "answers": [{"text": "a"}, {"text": "b"}], "a.b": "c"}
    path = file(json.dumps(row), "nested.jsonl")
    assert preview(path).columns == ("data.question", "data.meta.lang", "answers", "a.b")
    mapping = {"instruction": "data.question", "response": "answers.0.text", "context": "a.b", "category": "data.meta"}
    import_file(sqlite_store, dataset, path, mapping, author="ann")
    (record,) = sqlite_store.all_records(dataset.id)
    assert (record.instruction, record.response, record.context) == ("q", "a", "c")
    assert record.category == '{"lang": "en"}'


def test_a_conversation_in_any_column_can_be_mapped(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    turns = [{"from": who, "value": text} for who, text in (("human", "q"), ("gpt", "a"), ("human", "r"), ("gpt", "b"))]
    path = file(json.dumps({"id": 1, "dialogue": turns}), "odd.jsonl")
    assert preview(path).shape == ""
    import_file(sqlite_store, dataset, path, {"turns": "dialogue"}, author="ann")
    (record,) = sqlite_store.all_records(dataset.id)
    assert (record.instruction, record.response) == ("q", "b")
    assert record.turns is not None
    assert [turn["role"] for turn in record.turns] == ["user", "assistant", "user", "assistant"]


def test_licence_and_source_of_a_row_are_kept(sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]) -> None:
    path = file("instruction,response,license,source\nq,a,CC-BY-4.0,handbook\nr,b,,\n")
    import_file(sqlite_store, dataset, path, preview(path).reading, author="ann")
    kept = [(r.licence, r.source) for r in sqlite_store.all_records(dataset.id)]
    assert kept == [("CC-BY-4.0", "handbook"), ("", "rows.csv")]


def test_columns_that_a_shape_leaves_aside_are_named(file: Callable[..., Path]) -> None:
    assert preview(file("instruction,response,rating\nq,a,5\n")).unused == ("rating",)


def test_a_field_that_does_not_exist_cannot_be_mapped(file: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no field 'answer'\. Columns can be mapped to: instruction"):
        list(read_fields(file("a,b\n1,2\n"), Reading(mapping={"answer": "b"})))


# -- mending -------------------------------------------------------------------------------------------------


def test_a_bad_row_brings_its_cells_and_can_be_mended(file: Callable[..., Path]) -> None:
    path = file("instruction,response\nq,\nr,a, b\n")
    reading = preview(path).reading
    empty, split = (row for _, row in read_fields(path, reading) if isinstance(row, Rejected))
    assert empty.cells == {"instruction": "q", "response": ""}
    assert split.cells == {"instruction": "r", "response": "a, b"}
    assert mended_fields(split.cells, reading)["response"] == "a, b"
    with pytest.raises(InputError, match=r"The response is empty"):
        mended_fields(empty.cells, reading)


def test_a_conversation_is_mended_as_its_text(file: Callable[..., Path]) -> None:
    path = file(json.dumps(CHAT) + "\n" + json.dumps({"messages": CHAT["messages"][:1]}), "chat.jsonl")
    reading = preview(path).reading
    (bad,) = (row for _, row in read_fields(path, reading) if isinstance(row, Rejected))
    assert (bad.row, bad.column) == (2, "messages")
    assert "no assistant turn" in bad.reason
    mended = bad.cells["messages"].replace("]", ', {"role": "assistant", "content": "b"}]')
    assert mended_fields({"messages": mended}, reading)["response"] == "b"


def test_a_row_that_is_too_long_to_be_listed_says_so(file: Callable[..., Path]) -> None:
    path = file("instruction,response\n," + "a" * 100_000 + "\nq,a\n")
    (bad,) = (row for _, row in read_fields(path, Reading()) if isinstance(row, Rejected))
    assert bad.is_cut
    assert len(bad.cells["response"]) < 100_000


def test_a_file_of_bad_rows_is_counted_and_its_first_are_listed(
    sqlite_store: Store, dataset: Dataset, file: Callable[..., Path]
) -> None:
    path = file("instruction,response\nq,a\n" + "r,\n" * 2500)
    report = import_file(sqlite_store, dataset, path, TWO, author="ann")
    assert (report.added, len(report.rejected), report.unlisted, report.left_out) == (1, 1000, 1500, 2500)


# -- nothing is left behind ----------------------------------------------------------------------------------


def test_a_file_without_a_usable_row_makes_no_dataset(sqlite_store: Store, file: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no usable rows"):
        import_into(sqlite_store, "new", file("instruction,response\nq,\n"), Reading(), author="ann")
    assert sqlite_store.datasets() == []


# -- the hub -------------------------------------------------------------------------------------------------


def test_the_hub_is_not_asked_when_the_studio_is_offline() -> None:
    with pytest.raises(
        InputError, match=r"hf:a/b is on huggingface\.co, and the studio is offline\. .*LADDER_OFFLINE=0"
    ):
        preview_hub("hf:a/b", "train", Settings(offline=True))


def test_a_name_that_is_none_of_the_hub_is_refused() -> None:
    with pytest.raises(InputError, match=r"'hf:a b' names no data set of the hub\. Write it like hf:"):
        preview_hub("hf:a b", "train", Settings(offline=False))


def test_a_hub_that_cannot_be_reached_is_a_sentence() -> None:
    code = (
        "from studio.instructions.importing import preview_hub; from studio.settings import Settings\n"
        "from studio.errors import InputError\n"
        "try: preview_hub('hf:nobody/nothing', 'train', Settings(offline=False))\n"
        "except InputError as error: print(error)"
    )
    # The hub's own library refuses at once; a network that is down takes it 20 s of trying to come to the same.
    cut_off = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=cut_off, capture_output=True, text=True, timeout=240)
    assert "hf:nobody/nothing (train) cannot be read from the hub after 0 rows" in ran.stdout, ran.stderr


# -- what goes out comes in ----------------------------------------------------------------------------------

# An apostrophe before a sign that spreadsheets calculate with is taken off (see test_exporting.py).
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40).filter(
    lambda text: not text.startswith("'")
)
FULL = TEXT.filter(lambda text: bool(text.strip()))
ROWS = st.lists(
    st.fixed_dictionaries({"instruction": FULL, "context": TEXT, "response": FULL, "category": TEXT}),
    min_size=1,
    max_size=6,
)
in_and_out = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _comes_back(store: Store, path: Path, rows: list[dict[str, str]]) -> None:
    dataset = store.create_dataset(f"set-{len(store.datasets())}", author="ann")
    report = import_file(store, dataset, path, MAPPING, author="ann")
    assert report == ImportReport(len(rows), ())
    found = [{f: getattr(r, f) for f in (*FIELDS, "turns")} for r in store.all_records(dataset.id)]
    assert found == [checked_fields(row) for row in rows]


@given(rows=ROWS, dialect=st.sampled_from([(d, e) for d in ",;\t|" for e in ("utf-8", "utf-8-sig", "utf-16")]))
@in_and_out
def test_rows_written_as_csv_come_in_unchanged(
    sqlite_store: Store, tmp_path: Path, rows: list[dict[str, str]], dialect: tuple[str, str]
) -> None:
    delimiter, encoding = dialect
    path = tmp_path / "rows.csv"
    with path.open("w", encoding=encoding, newline="") as out:
        writer = csv.DictWriter(out, FIELDS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    _comes_back(sqlite_store, path, rows)


@given(rows=ROWS, ascii_only=st.booleans())
@in_and_out
def test_rows_written_as_jsonl_come_in_unchanged(
    sqlite_store: Store, tmp_path: Path, rows: list[dict[str, Any]], ascii_only: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=ascii_only) + "\n" for r in rows), encoding="utf-8")
    _comes_back(sqlite_store, path, rows)
