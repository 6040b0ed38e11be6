"""A change of very many records: in parts that let others save, counted, stopped and resumed, and undone part by part."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError, NotFound
from studio.instructions import change_task
from studio.instructions.change_task import ChangeRecords
from studio.instructions.editing import Replacement, Stroke
from studio.instructions.records import insertable
from studio.jobs import queue
from studio.store import Dataset, RecordFilter, Store
from tests.memory_run import MemoryRun


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_task, "AT_ONCE", 10)


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    made = sqlite_store.create_dataset("gear", author="ann")
    rows = ({"instruction": f"Question {n}", "response": "An otter." if n % 2 else "A heron."} for n in range(25))
    sqlite_store.add_records(made.id, map(insertable, rows), author="ann", source="test")
    return made


def run_of(store: Store, task: ChangeRecords, output: Path, stop_after: int | None = None) -> MemoryRun:
    run = MemoryRun(output, store=store, workspace=output, stop_after=stop_after)
    run.id = queue(store, task, author="ben").id
    return run


def test_every_part_is_a_stroke_of_its_own_and_undo_takes_them_back(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    task = ChangeRecords(dataset="gear", stroke=Stroke(verb="approve"))
    run = run_of(sqlite_store, task, tmp_path)
    assert task.do(run) == {"dataset": "gear", "records": 25, "looked_at": 25}
    assert run.steps == [(10, 25), (20, 25), (25, 25)]
    titles = [edit.title for edit in sqlite_store.edits(dataset.id, author="ben")]
    assert titles == [f"Approved {n} records (part {part} of 3)" for n, part in ((5, 3), (10, 2), (10, 1))]
    for left in (20, 10, 0):
        sqlite_store.undo(dataset.id, author="ben")
        assert sqlite_store.count_records(dataset.id, RecordFilter(state="approved")) == left


def test_what_stopped_in_the_middle_goes_on_with_the_records_it_began_with(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    task = ChangeRecords(dataset="gear", stroke=Stroke(verb="approve"), where=RecordFilter(state="draft").told())
    run = run_of(sqlite_store, task, tmp_path, stop_after=1)
    task.do(run)
    assert sqlite_store.count_records(dataset.id, RecordFilter(state="approved")) == 10
    run.stop_after, run.attempt = None, 2
    assert task.do(run)["records"] == 25
    assert sqlite_store.count_records(dataset.id, RecordFilter(state="approved")) == 25


def test_a_part_that_was_done_but_not_noted_is_not_done_twice(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    task = ChangeRecords(dataset="gear", stroke=Stroke(verb="duplicate"))
    run = run_of(sqlite_store, task, tmp_path, stop_after=1)
    task.do(run)
    (tmp_path / "done").unlink()  # the worker was killed between the database and the note
    run.stop_after, run.attempt = None, 2
    task.do(run)
    assert sqlite_store.count_records(dataset.id) == 50


def test_parts_without_a_find_are_passed_over(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    task = ChangeRecords(dataset="gear", stroke=Stroke(verb="replace", replacement=Replacement("Question 3", "Q")))
    assert task.do(run_of(sqlite_store, task, tmp_path))["records"] == 1
    again = ChangeRecords(dataset="gear", stroke=Stroke(verb="replace", replacement=Replacement("zebra", "Q")))
    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match="nothing to change"):
        again.do(run_of(sqlite_store, again, tmp_path / "again"))


def test_what_cannot_work_is_refused_before_it_waits_in_line(sqlite_store: Store, dataset: Dataset) -> None:
    with pytest.raises(NotFound, match="no dataset 'geer'"):
        queue(sqlite_store, ChangeRecords(dataset="geer", stroke=Stroke(verb="approve")), author="ben")
    broken = Stroke(verb="replace", replacement=Replacement("(", "", is_pattern=True))
    with pytest.raises(InputError, match="is no pattern"):
        queue(sqlite_store, ChangeRecords(dataset="gear", stroke=broken), author="ben")


def test_a_task_survives_the_line(sqlite_store: Store, dataset: Dataset) -> None:
    stroke = Stroke(verb="replace", replacement=Replacement("a", "b", ("response",), whole_words=True))
    task = ChangeRecords(dataset="gear", stroke=stroke, where=RecordFilter(category=None, ids=(1, 2)).told())
    job = queue(sqlite_store, task, author="ben")
    again = ChangeRecords.model_validate(job.task)
    assert again == task
    assert RecordFilter.of(again.where) == RecordFilter(category=None, ids=(1, 2))
