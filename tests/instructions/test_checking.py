"""Running checks over a dataset: what is found is kept, looked at again only where it changed, and mended as one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.instructions import checking
from studio.instructions.checking import CheckRecords, checks_of, mend, run_check
from studio.instructions.checks import Flag, RecordCheck, check_from
from studio.instructions.records import insertable
from studio.store import Dataset, Record, RecordFilter, Store
from tests.prompts.desk import DeskRun

ROWS = (
    {"instruction": "Where can I write to?", "response": "Write to shop@brackenfold.example, please."},
    {"instruction": "How do I wash it?", "response": "TODO"},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
)


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    made = sqlite_store.create_dataset("gear", author="ann")
    sqlite_store.add_records(made.id, map(insertable, ROWS), author="ann", source="test")
    return made


def flagged(store: Store, dataset: Dataset, check: str) -> list[int]:
    ids = [record.id for record in store.records(dataset.id)]
    return [ids.index(record.id) for record in store.records(dataset.id, RecordFilter(flag=check))]


def test_a_job_runs_the_checks_and_what_they_find_filters_the_records(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    run = DeskRun(sqlite_store, tmp_path, task := CheckRecords(dataset="gear"), {})
    told = task.do(run)
    assert told["records"] == 4
    assert {name: told["flagged"][name] for name in ("personal", "placeholders", "duplicates")} == {
        "personal": 1, "placeholders": 1, "duplicates": 1,
    }  # fmt: skip
    assert flagged(sqlite_store, dataset, "personal") == [0]
    assert flagged(sqlite_store, dataset, "placeholders") == [1]
    assert flagged(sqlite_store, dataset, "duplicates") == [3]
    assert sqlite_store.check_runs(dataset.id)["personal"].flagged == 1


def test_only_what_changed_is_looked_at_again(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_from("personal")
    run_check(sqlite_store, dataset, check, tmp_path)
    first, _, third, _ = sqlite_store.records(dataset.id)
    sqlite_store.edit_record(first.id, 1, {"response": "Write to us."}, author="ann")
    sqlite_store.edit_record(third.id, 1, {"response": "Ask heron@brackenfold.example."}, author="ann")
    seen: list[int] = []
    look = type(check).look_at
    monkeypatch.setattr(type(check), "look_at", lambda self, r: seen.extend(x.id for x in r) or look(self, r))
    assert run_check(sqlite_store, dataset, check, tmp_path).flagged == 1
    assert seen == [first.id, third.id]
    assert flagged(sqlite_store, dataset, "personal") == [2]


def test_a_record_that_was_being_stored_when_a_check_began_is_seen_by_the_next(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_from("placeholders")
    moment = sqlite_store.newest_change(dataset.id) + 1e-6  # of a large part, whose transaction ends after the check
    run_check(sqlite_store, dataset, check, tmp_path)
    monkeypatch.setattr("studio.store.datasets.now", lambda: moment)
    late = insertable({"instruction": "Is it light?", "response": "TODO"})
    sqlite_store.add_records(dataset.id, [late], author="ann", source="late")
    assert run_check(sqlite_store, dataset, check, tmp_path).flagged == 2


def test_rejected_records_are_left_alone(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    checks = checks_of(("personal", "duplicates"))
    first, _, third, _ = sqlite_store.records(dataset.id)
    assert [run_check(sqlite_store, dataset, check, tmp_path).flagged for check in checks] == [1, 1]
    for record in (first, third):
        sqlite_store.edit_record(record.id, 1, {"state": "rejected"}, author="ann")
    again = [run_check(sqlite_store, dataset, check, tmp_path) for check in checks]
    assert [(run.flagged, run.records) for run in again] == [(0, 2), (0, 2)]
    assert sqlite_store.flags(dataset.id, "personal") == []
    for record in (first, third):
        sqlite_store.edit_record(record.id, 2, {"state": "draft"}, author="ann")
    assert [run_check(sqlite_store, dataset, check, tmp_path).flagged for check in checks] == [1, 1]


class Wordy(RecordCheck):
    """Finds five hundred things in every record."""

    name = "wordy"
    title = "Wordy"
    explains = "Says much."

    def look_at(self, records: Sequence[Record]) -> Iterator[Flag]:
        for record in records:
            for n in range(500):
                yield Flag(record.id, self.name, "response", f"ünd {n} " + "…" * 500, n, n + 1, {"n": n, "of": ["ß"]})


def test_what_a_check_finds_is_kept_whole_and_in_little_memory(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_FLAGS_IN_MEMORY", 1 << 16)
    sqlite_store.add_records(dataset.id, map(insertable, 5 * [ROWS[0]]), author="ann", source="test")
    tracemalloc.start()
    try:
        run = run_check(sqlite_store, dataset, Wordy(), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert run.flagged == 9
    assert peak < 7 << 20  # 4,500 notes of 1 kB: held, they would be twice as much
    kept = sqlite_store.flags(dataset.id, "wordy")
    assert [(flag.record_id, flag.start) for flag in kept] == [
        (record.id, n) for record in sqlite_store.records(dataset.id) for n in range(500)
    ]
    assert (kept[17].note, kept[17].details) == ("ünd 17 " + "…" * 500, {"n": 17, "of": ["ß"]})


def test_a_remedy_is_one_stroke_that_can_be_undone(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    run_check(sqlite_store, dataset, check_from("personal"), tmp_path)
    before = [r.response for r in sqlite_store.records(dataset.id)]
    edit = mend(sqlite_store, dataset, "personal", "mask", author="ben")
    assert edit.records == 1
    assert "brackenfold.example" not in sqlite_store.records(dataset.id)[0].response
    with pytest.raises(InputError, match="nothing left to mend here"):
        mend(sqlite_store, dataset, "personal", "mask", author="ben")
    sqlite_store.undo(dataset.id, author="ben")
    assert [r.response for r in sqlite_store.records(dataset.id)] == before


def test_a_copy_is_removed_only_while_nothing_changed_since(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    run_check(sqlite_store, dataset, check_from("duplicates"), tmp_path)
    third = sqlite_store.records(dataset.id)[2]
    sqlite_store.edit_record(third.id, 1, {"response": "No longer the same."}, author="ann")
    with pytest.raises(InputError, match="changed after 'Exact duplicates' ran"):
        mend(sqlite_store, dataset, "duplicates", "remove", author="ben")
    sqlite_store.undo(dataset.id, author="ann")
    run_check(sqlite_store, dataset, check_from("duplicates"), tmp_path)
    mend(sqlite_store, dataset, "duplicates", "remove", author="ben")
    assert sqlite_store.count_records(dataset.id) == 3


def test_a_check_that_did_not_run_is_named(sqlite_store: Store, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="'personal' has not run over gear yet"):
        mend(sqlite_store, dataset, "personal", "mask", author="ben")


def test_what_needs_a_tokenizer_is_left_out_without_a_model_unless_it_is_asked_for() -> None:
    assert "too_long" not in [check.name for check in checks_of(())]
    with pytest.raises(InputError, match="Choose a model, or leave this check out"):
        checks_of(("too_long",))


def test_a_check_of_nothing_is_refused_before_it_is_queued(sqlite_store: Store, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no check 'spelling'"):
        CheckRecords(dataset="gear", checks=("spelling",)).check(sqlite_store)
