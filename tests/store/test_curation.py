"""Beside the records: filters by name, flags of checks, rows to mend, and the purge that leaves no text behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio.errors import Conflict, NotFound
from studio.instructions.records import freeze
from studio.store import CheckRun, Dataset, FlagRow, RecordChange, RecordFilter, Store
from tests.store.rows import record_row


@pytest.fixture
def dataset(store: Store) -> Dataset:
    made = store.create_dataset("gear", author="ann")
    store.add_records(made.id, map(record_row, range(4)), author="ann", source="test")
    return made


def ran(dataset: Dataset, check: str = "personal") -> CheckRun:
    return CheckRun(dataset.id, check, f"{check}-1", {}, 4, 0, 0.5, time.time(), 0.0)


def test_a_filter_is_found_again_as_it_was_saved(store: Store, dataset: Dataset) -> None:
    where = RecordFilter(text="tent", category=None, state="draft", shortest=10, ids=(1, 2))
    store.save_filter(dataset.id, "to do", where, author="ann")
    (saved,) = store.saved_filters(dataset.id)
    assert (saved.name, saved.filter, saved.author) == ("to do", where, "ann")
    with pytest.raises(Conflict, match="A filter of that name exists already"):
        store.save_filter(dataset.id, "to do", RecordFilter(), author="ben")
    store.remove_filter(saved.id)
    assert store.saved_filters(dataset.id) == []


def test_flags_are_those_of_the_newest_run_of_each_check(store: Store, dataset: Dataset) -> None:
    first, second, third, _ = store.record_ids(dataset.id)
    store.put_flags(ran(dataset), [FlagRow(first, "personal", "response", "An address.", 3, 9)])
    store.put_flags(ran(dataset, "names"), [FlagRow(third, "names", "", "A name.")])
    done = store.put_flags(
        ran(dataset), [FlagRow(second, "personal", "", "A phone."), FlagRow(second, "personal", "", "Two.")]
    )
    assert done.flagged == 1
    assert store.record_ids(dataset.id, RecordFilter(flag="personal")) == [second]
    assert {check: run.flagged for check, run in store.check_runs(dataset.id).items()} == {"names": 1, "personal": 1}
    assert [flag.note for flag in store.flags_of([second])[second]] == ["A phone.", "Two."]


def test_a_run_over_a_few_records_leaves_the_flags_of_the_others(store: Store, dataset: Dataset) -> None:
    first, second, *_ = store.record_ids(dataset.id)
    store.put_flags(ran(dataset), [FlagRow(first, "personal", "", "One."), FlagRow(second, "personal", "", "Two.")])
    assert store.put_flags(ran(dataset), [], only=[first]).flagged == 1
    assert store.record_ids(dataset.id, RecordFilter(flag="personal")) == [second]


def test_flags_of_removed_records_do_not_count_until_undo(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    store.put_flags(
        ran(dataset), [FlagRow(record.id, "personal", "", "One."), FlagRow(0, "personal", "", "All of it.")]
    )
    store.change_records(dataset.id, "Removed", [RecordChange(record.id, {}, is_removed=True)], author="ann")
    assert [flag.record_id for flag in store.flags(dataset.id, "personal")] == [0]
    store.undo(dataset.id, author="ann")
    assert [flag.record_id for flag in store.flags(dataset.id, "personal")] == [0, record.id]


def test_rows_left_out_wait_until_they_are_settled(store: Store, dataset: Dataset) -> None:
    edit = store.begin_edit(dataset.id, "add", "Imported shop.csv", author="ann")
    bad = [(n, "response", "The response is empty.", {"question": f"Q{n}"}) for n in (3, 7)]
    store.take_rows(dataset.id, edit, [record_row(9)], bad, last_row=8, author="ann", source="shop.csv")
    assert (store.rows_taken(edit).added, store.rows_taken(edit).left_out, store.rows_taken(edit).last_row) == (1, 2, 8)
    waiting, total = store.left_out(dataset.id)
    assert ([row.row for row in waiting], total) == ([3, 7], 2)
    assert store.left_out_row(waiting[0].id).cells == {"question": "Q3"}
    store.settle([waiting[0].id])
    assert [row.row for row in store.left_out(dataset.id)[0]] == [7]
    store.settle_all(dataset.id)
    assert store.left_out(dataset.id) == ([], 0)
    with pytest.raises(NotFound, match="There is no left-out row 99"):
        store.left_out_row(99)


def test_a_purge_leaves_no_word_of_a_record_and_marks_the_snapshots_that_held_it(
    store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    snapshot = freeze(store, tmp_path, dataset, author="ann")
    record = store.records(dataset.id)[0]
    store.edit_record(record.id, 1, {"response": "Her number is 0171 2345."}, author="ann")
    store.edit_record(record.id, 2, {"response": "Nothing."}, author="ann")
    store.comment(record.id, "0171 2345 must go", author="ann")
    store.put_flags(ran(dataset), [FlagRow(record.id, "personal", "response", "0171 2345")])
    purge = store.purge_records(dataset.id, [record.id], "She asked for it.", [snapshot.ref], author="ben")
    assert (purge.records, purge.snapshots, purge.author) == (1, [snapshot.ref], "ben")
    assert store.purges(dataset.id) == [purge]
    assert store.record_history(record.id) == store.comments(record.id) == []
    assert store.flags_of([record.id]) == {}
    assert store.snapshot(snapshot.ref).purged_at is not None
    assert store.count_records(dataset.id) == 3
    with pytest.raises(NotFound):
        store.record(record.id)
