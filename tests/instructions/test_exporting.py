"""Exporting: what goes out comes in again, exactly, in every format and shape; and nothing that goes out bites."""

from __future__ import annotations

import csv
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import InputError, StorageError
from studio.instructions import freeze
from studio.instructions.conversations import fields_of_turns
from studio.instructions.export_task import ExportRecords, exported_file
from studio.instructions.exporting import export_folder, export_records, suffix_for
from studio.instructions.formats import Layout, Rejected, formats
from studio.instructions.importing import Reading, preview, read_fields
from studio.instructions.records import checked_fields, insertable, storable
from studio.instructions.shapes import shapes
from studio.jobs.registry import task_from
from studio.store import Dataset, Record, Store, read_rows
from tests.prompts.desk import DeskRun

TEXTS_ONLY = "prompt_completion"


def record(number: int = 1, **fields: Any) -> Record:
    """A stored record with these fields."""
    plain: dict[str, Any] = {
        **dict.fromkeys(("context", "category", "licence", "source", "group_hash"), ""),
        **{"instruction": "q", "response": "a", "turns": None, "state": "approved", "split": "train"},
        **{"letters": 0, "provenance": None, "author": "ann", "revision": 1, "created_at": 0.0, "updated_at": 0.0},
    }
    return Record(id=number, dataset_id=1, **{**plain, **fields})


def _comes_back(path: Path, reading: Reading | None = None) -> list[dict[str, Any]]:
    """The fields of every row of an exported file, read as it is recognised."""
    found = [fields for _, fields in read_fields(path, reading or preview(path).reading)]
    assert not [fields for fields in found if isinstance(fields, Rejected)]
    return [{"licence": "", "source": "", **fields} for fields in found if isinstance(fields, dict)]


def _fields(one: Record) -> dict[str, Any]:
    names = ("instruction", "context", "response", "category", "turns", "licence", "source")
    return {name: getattr(one, name) for name in names}


# -- what goes out comes in ----------------------------------------------------------------------------------

# Signs that some format gives a meaning of its own, among all others.
SIGNS = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    st.sampled_from(["'", "''", "=", "+", "-", "@", "\t", "\r", "\n", "\r\n", "＝", '"', ",", ";", "\\", "\\ud83d"]),
    st.sampled_from(
        ["_x0041_", "_x005F_", "_x", "x0041_", "_x0007", "\x07", "\x1b", "\x85", "\u2028", "\ufeff", "\uffff"]
    ),
    st.sampled_from(
        ["😀", "👩🏽‍🔧", "עברית", "\u202e", "<b>&amp;", "]]>", "[", "{", "null", "[]", '{"role": "user"}', "\n\n"]
    ),
)
TEXT = st.lists(SIGNS, max_size=8).map(lambda signs: storable("".join(signs)))
FULL = TEXT.filter(bool)
SPEAKERS = st.lists(st.sampled_from(["user", "assistant"]), max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    """Turns of any speakers that end with an answer after a question; most take turns, as most conversations do."""
    roles = ["user", *draw(st.one_of(st.just(["assistant", "user"]), SPEAKERS)), "assistant"]
    if draw(st.booleans()):
        roles.insert(0, "system")
    return [{"role": role, "content": draw(FULL)} for role in roles]


@st.composite
def records(draw: st.DrawFn) -> Record:
    fields = {"instruction": draw(FULL), "context": draw(TEXT), "response": draw(FULL)}
    if draw(st.booleans()):
        fields = fields_of_turns(draw(conversations()))
    return record(category=draw(TEXT), licence=draw(TEXT), source=draw(TEXT), **fields)


@pytest.mark.parametrize("shape", list(shapes()))
@pytest.mark.parametrize("format", list(formats()))
@given(some=st.lists(records(), min_size=1, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_exported_is_imported_as_it_was(tmp_path: Path, format: str, shape: str, some: list[Record]) -> None:
    kept = [one for one in some if not (shape == TEXTS_ONLY and one.turns)]
    if not kept:
        return
    path = tmp_path / f"records{suffix_for(format)}"
    assert export_records(kept, path, format, shape) == len(kept)
    assert preview(path).shape == shape
    assert _comes_back(path) == [_fields(one) for one in kept]
    assert all(checked_fields(_fields(one))["response"] == one.response for one in kept)  # they could be stored at all
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("format", list(formats()))
def test_a_conversation_far_into_a_file_comes_back_too(tmp_path: Path, format: str) -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    some = [*(record(n) for n in range(500)), record(500, **fields_of_turns(turns)), record(501, context="c")]
    path = tmp_path / f"records{suffix_for(format)}"
    export_records(some, path, format, "dolly")
    assert _comes_back(path) == [_fields(one) for one in some]


# -- other tools ---------------------------------------------------------------------------------------------


def test_a_spreadsheet_sees_text_where_a_formula_would_begin(tmp_path: Path) -> None:
    texts = ["=1+1", "+49 30", "- item", "@cmd", "＝1", "'=1", "''-x", "'quoted'", "plain"]
    path = tmp_path / "records.csv"
    export_records([record(n, response=text) for n, text in enumerate(texts)], path, "csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        written = [row["response"] for row in csv.DictReader(file)]
    assert written == ["'=1+1", "'+49 30", "'- item", "'@cmd", "'＝1", "''=1", "'''-x", "'quoted'", "plain"]
    assert [fields["response"] for fields in _comes_back(path)] == texts


def test_a_table_that_was_not_guarded_keeps_its_apostrophes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("instruction,response\nq,-1\nr,'-1\n")
    assert preview(path).is_guarded is False
    assert [fields["response"] for fields in _comes_back(path)] == ["-1", "'-1"]
    told = Reading(shape="dolly", is_guarded=True)
    assert [fields["response"] for fields in _comes_back(path, told)] == ["-1", "-1"]


def test_a_plain_record_is_written_without_keys_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    expected = {
        "dolly": {"instruction": "q", "context": "", "response": "a", "category": ""},
        "alpaca": {"instruction": "q", "input": "", "output": "a"},
        "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        "openai_chat": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        "prompt_completion": {"prompt": "q", "completion": "a"},
        "prompt_completion_chat": {
            "prompt": [{"role": "user", "content": "q"}],
            "completion": [{"role": "assistant", "content": "a"}],
        },
        "evals": {"input": [{"role": "user", "content": "q"}], "ideal": "a"},
    }
    for shape, row in expected.items():
        export_records([record()], path, "jsonl", shape)
        assert json.loads(path.read_text()) == row


def test_earlier_turns_are_written_for_alpaca_as_its_tools_read_them(tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": f"{role}{n}"} for n, role in enumerate(roles)]
    export_records([record(**fields_of_turns(turns))], tmp_path / "records.jsonl", "jsonl", "alpaca")
    assert json.loads((tmp_path / "records.jsonl").read_text()) == {
        "instruction": "user3",
        "input": "",
        "output": "assistant4",
        "system": "system0",
        "history": [["user1", "assistant2"]],
    }


def test_parquet_has_messages_as_lists_and_texts_as_texts(tmp_path: Path) -> None:
    export_records([record()], tmp_path / "records.parquet", "parquet", "openai_chat")
    schema = pq.read_schema(tmp_path / "records.parquet")
    assert str(schema.field("messages").type).startswith("list<element: struct<role: string, content: string>>")
    assert str(schema.field("category").type) == "string"


def test_a_zip_holds_json_lines(tmp_path: Path) -> None:
    export_records([record()], tmp_path / "records.zip", "zip")
    with zipfile.ZipFile(tmp_path / "records.zip") as archive:
        assert archive.namelist() == ["records.jsonl"]


# -- what cannot be ------------------------------------------------------------------------------------------


def test_a_text_that_no_excel_cell_holds_is_refused_by_its_record(tmp_path: Path) -> None:
    some = [record(1), record(17, response="😀" * 16_384), record(18)]
    with pytest.raises(InputError, match=r"The response of record 17 is too long\. .* 32,767 .*Export as CSV, Parquet"):
        export_records(some, tmp_path / "records.xlsx", "excel")
    assert list(tmp_path.iterdir()) == []


def test_a_conversation_is_refused_where_only_texts_fit(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]
    with pytest.raises(InputError, match=r"Record 9 is a conversation of several turns, which 'Prompt and completion'"):
        export_records([record(9, **fields_of_turns(turns))], tmp_path / "records.jsonl", "jsonl", TEXTS_ONLY)


@pytest.mark.parametrize(
    ("format", "shape", "sentence"),
    [("doc", "dolly", r"no format 'doc'\. Known"), ("csv", "parrot", r"no shape 'parrot'\. Known")],
)
def test_an_unknown_format_or_shape_is_refused(tmp_path: Path, format: str, shape: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        export_records([record()], tmp_path / "records", format, shape)


def test_an_export_that_fails_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("older")

    def broken() -> Iterator[Record]:
        yield record()
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"records\.jsonl could not be written .*No space left"):
        export_records(broken(), path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("records.jsonl", "older")]


# -- a folder for datasets -----------------------------------------------------------------------------------

CARD = "---\nlicense: apache-2.0\n---\n\n# Gear\n"


def test_a_folder_opens_in_datasets_with_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    some = [record(n, split="train", response=f"a{n}") for n in range(2500)]
    some += [record(1, split="test", **fields_of_turns(turns)), record(2, split="excluded")]
    counts = export_folder(some, tmp_path / "gear", card=CARD)
    assert counts == {"train": 2500, "test": 1}
    found = datasets.load_dataset(str(tmp_path / "gear"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in found.items()} == counts
    assert found["train"][2499]["response"] == "a2499"
    assert found["test"][0]["turns"] == turns
    assert (tmp_path / "gear" / "README.md").read_text() == CARD


def test_each_file_of_a_folder_is_imported_as_it_was(tmp_path: Path) -> None:
    export_folder([record(1), record(2, split="validation", context="c")], tmp_path / "gear", card=CARD)
    assert [f["context"] for f in _comes_back(tmp_path / "gear" / "validation.parquet")] == ["c"]


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"is there already and not empty\. Choose a folder"):
        export_folder([record()], tmp_path, card=CARD)


def test_a_folder_without_a_record_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No record is in train, validation or test"):
        export_folder([record(split="excluded")], tmp_path / "gear", card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_layout_survives_json() -> None:
    layout = Layout(format="csv", encoding="utf-8", delimiter=";", is_guarded=True)
    assert Layout.model_validate_json(layout.model_dump_json()) == layout


# -- snapshots, and the job ------------------------------------------------------------------------------------------


TURNS = [{"role": role, "content": f"{role} {n}"} for n, role in enumerate(["user", "assistant", "user", "assistant"])]


def _dataset(store: Store) -> Dataset:
    dataset = store.create_dataset("gear", author="ann", licence="MIT")
    rows = [insertable({"instruction": f"q{n}", "response": f"a{n}", "category": "open_qa"}) for n in range(30)]
    rows += [insertable({"turns": TURNS}), insertable({"instruction": "bad", "response": "x", "state": "rejected"})]
    store.add_records(dataset.id, rows, author="ann", source="shop.csv")
    return dataset


@pytest.mark.parametrize("shape", [name for name in shapes() if name != TEXTS_ONLY])
def test_a_frozen_record_is_exported_as_the_record_was(sqlite_store: Store, tmp_path: Path, shape: str) -> None:
    dataset = _dataset(sqlite_store)
    snapshot = freeze(sqlite_store, tmp_path, dataset, author="ann")
    path, n = ExportRecords(dataset="gear", snapshot=str(snapshot.ref), shape=shape).write(
        sqlite_store, tmp_path, tmp_path / "out", author="ann"
    )
    kept = [one for one in sqlite_store.all_records(dataset.id) if one.state != "rejected"]
    assert n == 31
    assert _comes_back(path) == [{**_fields(one), "source": ""} for one in kept]


@pytest.mark.parametrize(
    ("asked", "n"),
    [
        ({}, 31),
        ({"rejected": True}, 32),
        ({"filter": {"text": "q7"}}, 1),
        ({"filter": {"state": "rejected"}, "rejected": True}, 1),
    ],
    ids=["all but rejected", "all", "a filter", "the rejected"],
)
def test_the_records_now_are_exported_as_chosen(
    sqlite_store: Store, tmp_path: Path, asked: dict[str, Any], n: int
) -> None:
    _dataset(sqlite_store)
    path, written = ExportRecords(dataset="gear", **asked).write(sqlite_store, tmp_path, tmp_path / "out", author="ann")
    assert (path.name, written, len(path.read_text().splitlines())) == ("gear.jsonl", n, n)


def test_a_choice_without_records_leaves_no_file(sqlite_store: Store, tmp_path: Path) -> None:
    _dataset(sqlite_store)
    with pytest.raises(InputError, match="No record is among those chosen"):
        ExportRecords(dataset="gear", filter={"text": "nowhere"}).write(
            sqlite_store, tmp_path, tmp_path / "out", author="ann"
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_zipped_folder_opens_in_the_datasets_library_offline(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it went to the network"))
    snapshot = freeze(sqlite_store, tmp_path, _dataset(sqlite_store), author="ann")
    task = ExportRecords(dataset="gear", snapshot=str(snapshot.ref), format="folder")
    path, n = task.write(sqlite_store, tmp_path, tmp_path / "out", author="ann")
    assert [file.name for file in path.parent.iterdir()] == ["gear@1.zip"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "there")
    found = datasets.load_dataset(str(tmp_path / "there" / "gear@1"), cache_dir=str(tmp_path / "cache"))
    counts = Counter(row["split"] for row in read_rows(tmp_path, snapshot))
    assert {split: rows.num_rows for split, rows in found.items()} == counts
    assert n == counts.total() == 31
    assert "pretty_name: gear" in (tmp_path / "there" / "gear@1" / "README.md").read_text()


def test_the_job_leaves_a_file_that_can_be_fetched(sqlite_store: Store, tmp_path: Path) -> None:
    _dataset(sqlite_store)
    task = ExportRecords(dataset="gear", format="csv", shape="alpaca")
    assert task_from(task.kind, json.loads(task.model_dump_json())) == task
    run = DeskRun(sqlite_store, tmp_path, task, {})
    run.output.mkdir(parents=True)
    told = task.do(run)
    path = exported_file(tmp_path, run.id, told["file"])
    assert (path.name, told["records"], told["bytes"]) == ("gear-alpaca.csv", 31, path.stat().st_size)
    with pytest.raises(InputError, match="is no longer there"):
        exported_file(tmp_path, run.id, "../log.txt")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dataset": "nothing"}, "There is no dataset 'nothing'"),
        ({"dataset": "gear", "snapshot": "data:other@1"}, "There is no snapshot"),
        ({"dataset": "gear", "format": "docx"}, "There is no format 'docx'"),
        ({"dataset": "gear", "shape": "round"}, "There is no shape 'round'"),
    ],
)
def test_what_cannot_be_exported_is_said_before_a_job_is_queued(
    sqlite_store: Store, asked: dict[str, Any], said: str
) -> None:
    _dataset(sqlite_store)
    with pytest.raises(InputError, match=said):
        ExportRecords(**asked).check(sqlite_store)
