"""Importing: tables as other programs write them; bad rows are listed, good ones kept, and nothing is guessed away."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.instructions import FIELDS, import_file, preview
from studio.instructions.importing import ImportReport, Rejected
from studio.instructions.records import checked_fields
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
            [(2, "", "Check its quotes")],
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


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("rows.csv", "instruction,response\nq,a\n")
    return made.getvalue()


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
        pytest.param('[{"instruction": "q"}]', r"is a JSON list\. Save it as JSON Lines", id="JSON list"),
        pytest.param(_zip(), r"is a binary file, not a table", id="zip"),
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


# -- what goes out comes in ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
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
    found = [{f: getattr(r, f) for f in FIELDS} for r in store.all_records(dataset.id)]
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
