"""Purging: the text is gone from every byte of the workspace, the fact of it stays, and nothing else is touched."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFound
from studio.instructions import freeze
from studio.instructions.editing import Replacement, replace_text
from studio.instructions.export_task import ExportRecords
from studio.instructions.purging import look_before_purge, numbers_in, purge
from studio.instructions.records import insertable
from studio.store import CheckRun, Dataset, FlagRow, RecordChange, Store, read_rows

SECRET = "Zaphiriel Quandt lives at 17 Mulberry Mews"
EARLIER = "Zaphiriel's number is 0171 99887766"


def _fields(number: int, **more: Any) -> dict[str, Any]:
    return insertable({"instruction": f"How heavy is tent {number}?", "response": f"It weighs {number} kilos."} | more)


@pytest.fixture
def gear(sqlite_store: Store) -> Dataset:
    dataset = sqlite_store.create_dataset("gear", author="ann")
    sqlite_store.add_records(dataset.id, [_fields(n) for n in range(1, 60)], author="ann", source="gear.csv")
    return dataset


def _holding(root: Path, *words: str) -> list[str]:
    """Files of the workspace that hold one of the words, in whatever case."""
    needles = [word.encode().lower() for word in words]
    files = [file for file in root.rglob("*") if file.is_file()]
    return [file.name for file in files if any(needle in file.read_bytes().lower() for needle in needles)]


def _purge(store: Store, root: Path, dataset: Dataset, *ids: int, **more: Any) -> Any:
    asked = {"reason": "A customer asked for it.", "confirmed": len(ids), "author": "ben"} | more
    return purge(store, root, dataset, ids, **asked)


def test_no_byte_of_a_purged_text_is_left_in_the_workspace(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    edit = store.begin_edit(gear.id, "add", "Imported gear.csv", author="ann")
    left = [(3, "question", "The question is empty.", {"answer": SECRET}), (4, "q", "Empty.", {"answer": "Other."})]
    store.take_rows(gear.id, edit, [_fields(99, response=EARLIER)], left, last_row=4, author="ann", source="gear.csv")
    record = store.records(gear.id, order="oldest", offset=59)[0]
    freeze(store, tmp_path, gear, author="ann")
    store.edit_record(record.id, 1, {"response": SECRET}, author="ann")
    store.comment(record.id, SECRET, author="ann")
    run = CheckRun(gear.id, "personal", "1", {}, 60, 1, 0.1, 0.0, 0.0)
    store.put_flags(run, [FlagRow(record.id, "personal", "response", SECRET)])
    freeze(store, tmp_path, gear, author="ann")
    replace_text(store, gear, Replacement("Mulberry Mews", "Hazel Row"), author="ann")
    freeze(store, tmp_path, gear, author="ann")
    job = store.queue_job(ExportRecords(dataset="gear"), author="ann")
    ExportRecords(dataset="gear").write(store, tmp_path, tmp_path / "runs" / str(job.id) / "export", author="ann")
    uploaded = tmp_path / "uploads" / "0a1b" / "gear.csv"  # with a column that nobody imported
    uploaded.parent.mkdir(parents=True)
    uploaded.write_text(f"q;a;phone\nWho?;{SECRET};99887766\n", encoding="utf-8")
    words = ("Zaphiriel", "Mulberry", "99887766")
    assert {"gear.csv", "gear.jsonl", "data-gear@1.jsonl", "data-gear@2.jsonl"} <= set(_holding(tmp_path, *words))

    done = _purge(store, tmp_path, gear, record.id)

    assert _holding(tmp_path, *words) == []
    assert (done.traces, done.trouble) == ((), "")
    assert done.sentence == "1 record was purged, and 3 snapshots were written anew."
    assert [row.row for row in store.left_out(gear.id)[0]] == [4]
    assert store.count_records(gear.id) == 59
    assert [r.id for r in store.records(gear.id, limit=3)] == [1, 2, 3]


def test_snapshots_are_written_anew_marked_and_still_whole(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    first = freeze(store, tmp_path, gear, author="ann")
    store.edit_record(7, 1, {"response": SECRET}, author="ann")
    second = freeze(store, tmp_path, gear, author="ann")
    store.change_records(gear.id, "Removed", [RecordChange(7, {}, is_removed=True)], author="ann")
    third = freeze(store, tmp_path, gear, author="ann")
    untouched = (tmp_path / third.path).read_bytes()
    done = _purge(store, tmp_path, gear, 7)
    after = {s.ref: s for s in store.snapshots("data")}
    for was in (first, second):
        now = after[was.ref]
        assert now.purged_at is not None
        assert (now.rows, len(read_rows(tmp_path, now))) == (58, 58)
        assert done.purge.digests[was.ref] == was.digest != now.digest
        assert not (tmp_path / was.path).exists()
    assert after[third.ref].purged_at is None
    assert (tmp_path / third.path).read_bytes() == untouched
    assert done.purge.snapshots == [second.ref, first.ref]
    assert store.purges(gear.id) == [done.purge]


def test_the_list_of_purges_says_who_when_why_and_how_many_and_never_what(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    store.edit_record(7, 1, {"response": SECRET}, author="ann")
    with pytest.raises(InputError, match="quotes what is to be purged"):
        _purge(store, tmp_path, gear, 7, reason=f"Because {SECRET}.")
    _purge(store, tmp_path, gear, 7, 8)
    (told,) = store.purges(gear.id)
    assert (told.reason, told.records, told.author) == ("A customer asked for it.", 2, "ben")
    assert told.created_at > 0
    assert SECRET not in json.dumps(told.__dict__)


def test_what_would_go_is_shown_first_with_others_that_say_the_same(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    freeze(store, tmp_path, gear, author="ann")
    store.add_records(gear.id, [_fields(7)], author="ann", source="")
    seen = look_before_purge(store, tmp_path, gear, [7])
    assert (seen.snapshots, seen.twins) == ({"data:gear@1": 1}, (60,))
    assert "data:gear@1 (1)" in seen.sentence
    assert "The same text is in other records, which would stay: 60." in seen.sentence
    assert store.count_records(gear.id) == 60


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reason": "  "}, "needs a reason"),
        ({"confirmed": 3}, "Type how many they are, 2, to confirm"),
    ],
    ids=["no reason", "another number"],
)
def test_without_a_reason_and_the_number_nothing_is_touched(
    sqlite_store: Store, gear: Dataset, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    snapshot = freeze(sqlite_store, tmp_path, gear, author="ann")
    with pytest.raises(InputError, match=said):
        _purge(sqlite_store, tmp_path, gear, 7, 8, **more)
    assert sqlite_store.count_records(gear.id) == 59
    assert len(read_rows(tmp_path, sqlite_store.snapshot(snapshot.ref))) == 59


def test_a_number_that_is_no_record_of_the_dataset_is_refused(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    other = sqlite_store.create_dataset("other", author="ann")
    sqlite_store.add_records(other.id, [_fields(1)], author="ann", source="")
    with pytest.raises(NotFound, match="gear has no record 60"):
        _purge(sqlite_store, tmp_path, gear, 7, 60)
    assert sqlite_store.count_records(other.id) == 1


def test_copies_elsewhere_are_told(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    store.edit_record(7, 1, {"response": SECRET}, author="ann")
    store.add_records(gear.id, [_fields(70, response=f"Well: {SECRET}")], author="ann", source="")
    note = tmp_path / "runs" / "3" / "samples.jsonl"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"answer": SECRET}), encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "studio.db")) as connection:  # as before an update
        connection.execute("VACUUM INTO ?", (str(tmp_path / "studio.before-0005-1.db"),))
    done = _purge(store, tmp_path, gear, 7)
    assert done.traces == ("1 of the other records", "runs/3/samples.jsonl", "studio.before-0005-1.db")
    assert "The text still stands in: 1 of the other records; runs/3/samples.jsonl; studio.before" in done.sentence


def test_a_file_left_by_a_purge_that_was_cut_short_goes_with_the_next(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    freeze(sqlite_store, tmp_path, gear, author="ann")
    left = tmp_path / "snapshots" / "data-gear@1.purged-0011aabb.jsonl"
    others = tmp_path / "snapshots" / "data-gear.old@1.jsonl"
    for file in (left, others):
        file.write_text(SECRET, encoding="utf-8")
    _purge(sqlite_store, tmp_path, gear, 7)
    assert (left.exists(), others.exists()) == (False, True)


def test_a_database_that_somebody_reads_is_told_and_can_be_written_anew_later(
    sqlite_store: Store, gear: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.store.curation._ERASE_SECONDS", 0.1)
    sqlite_store.edit_record(7, 1, {"response": SECRET}, author="ann")
    go, read = threading.Event(), threading.Event()

    def reader() -> None:
        with sqlite_store._engine.connect() as c:
            c.exec_driver_sql("SELECT count(*) FROM records").all()
            read.set()
            go.wait(20)

    thread = threading.Thread(target=reader)
    thread.start()
    assert read.wait(20)
    done = _purge(sqlite_store, tmp_path, gear, 7)
    assert "could not be written anew" in done.trouble
    go.set()
    thread.join()
    sqlite_store.erase()
    assert _holding(tmp_path, "Zaphiriel") == []


def test_a_purge_works_on_postgresql_too(postgresql_store: Store, tmp_path: Path) -> None:
    store = postgresql_store
    dataset = store.create_dataset("gear", author="ann")
    store.add_records(dataset.id, [_fields(n) for n in (1, 2)], author="ann", source="")
    one = store.record_ids(dataset.id)[0]
    store.edit_record(one, 1, {"response": SECRET}, author="ann")
    freeze(store, tmp_path, dataset, author="ann")
    done = _purge(store, tmp_path, dataset, one)
    assert (done.traces, done.trouble, done.purge.records) == ((), "", 1)
    assert _holding(tmp_path, "Zaphiriel") == []


@pytest.mark.parametrize(
    ("told", "ids"),
    [("", ()), ("12", (12,)), ("3, 1 2", (3, 1, 2)), ("4-6;#9", (4, 5, 6, 9)), ("1 – 3", (1, 2, 3)), ("2,2", (2,))],
)
def test_numbers_are_read_as_people_write_them(told: str, ids: tuple[int, ...]) -> None:
    assert numbers_in(told) == ids


@pytest.mark.parametrize("told", ["all", "9-3", "1-999999999", "1.5", "-4"])
def test_what_is_no_number_is_refused(told: str) -> None:
    with pytest.raises(InputError):
        numbers_in(told)
