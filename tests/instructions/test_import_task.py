"""The import job: large files in parts, stopped and resumed without a row lost or twice, undone at one stroke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError
from studio.instructions import import_task
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import preview
from studio.jobs.registry import task_from
from studio.store import RecordFilter, Store
from studio.uploads import park
from tests.prompts.desk import DeskRun


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ninety good rows; every tenth of a hundred has no answer."""
    file = tmp_path / "shop.csv"
    rows = (f"Question {n},{'' if n % 10 == 0 else f'Answer {n}'}\n" for n in range(1, 101))
    file.write_text("Prompt,Output\n" + "".join(rows), encoding="utf-8")
    return file


def instructions(store: Store) -> list[str]:
    return [record.instruction for record in store.all_records(store.dataset("shop").id)]


EXPECTED = [f"Question {n}" for n in range(1, 101) if n % 10]


def test_an_upload_comes_in_with_its_bad_rows_listed_and_leaves_the_inbox(
    sqlite_store: Store, root: Path, table: Path
) -> None:
    [upload] = park(root, [table])
    task = ImportRecords(dataset="shop", upload=upload, licence="MIT")
    assert task_from(task.kind, json.loads(task.model_dump_json())) == task
    run = DeskRun(sqlite_store, root, task, {})
    run.output.mkdir(parents=True)
    assert task.do(run) == {"dataset": "shop", "added": 90, "left_out": 10, "omitted": 0}
    dataset = sqlite_store.dataset("shop")
    assert instructions(sqlite_store) == EXPECTED
    assert dataset.licence == "MIT"
    waiting, total = sqlite_store.left_out(dataset.id)
    assert total == 10
    assert (waiting[0].row, waiting[0].cells["Prompt"]) == (10, "Question 10")
    assert "response" in waiting[0].reason
    assert not any((root / "inbox").iterdir())


def test_a_stopped_import_goes_on_where_it_was_and_is_undone_as_one(
    sqlite_store: Store, root: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_task, "_AT_ONCE", 7)
    task = ImportRecords(dataset="shop", path=table)
    run = DeskRun(sqlite_store, root, task, {})
    run.output.mkdir(parents=True)
    stops = iter(["", "", "pause"])
    run.stop = lambda: next(stops, "")  # type: ignore[assignment,return-value]
    task.do(run)
    assert instructions(sqlite_store) == EXPECTED[: 3 * 7 - 2]
    run.stop = lambda: ""
    assert task.do(run)["added"] == 90
    assert instructions(sqlite_store) == EXPECTED
    dataset = sqlite_store.dataset("shop")
    assert sqlite_store.left_out(dataset.id)[1] == 10
    assert sqlite_store.undo(dataset.id, author="ann").title == "Imported shop.csv"
    assert instructions(sqlite_store) == []


def test_long_rows_are_stored_in_smaller_parts(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_task, "_LETTERS_AT_ONCE", 1000)
    file = tmp_path / "shop.csv"
    lengths = [10] * 5 + [2000] + [600] * 4
    file.write_text("instruction,response\n" + "".join(f"Why?,{'x' * n}\n" for n in lengths), encoding="utf-8")
    dataset = sqlite_store.create_dataset("shop", author="ann")
    edit = sqlite_store.begin_edit(dataset.id, "add", "Imported shop.csv", author="ann")
    parts = import_task.take_in(sqlite_store, dataset, file, preview(file).reading, edit, "ann")
    assert [(taken.added, sqlite_store.count_records(dataset.id)) for taken in parts] == [(6, 6), (8, 8), (10, 10)]


def test_an_import_that_was_lost_goes_on_behind_its_last_whole_part(
    sqlite_store: Store, root: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_task, "_AT_ONCE", 7)
    task = ImportRecords(dataset="shop", path=table)
    run = DeskRun(sqlite_store, root, task, {})
    run.output.mkdir(parents=True)
    take, parts = Store.take_rows, iter(range(100))

    def dies(store: Store, *rest: Any, **more: Any) -> None:
        if next(parts) == 3:
            raise KeyboardInterrupt
        take(store, *rest, **more)

    monkeypatch.setattr(Store, "take_rows", dies)
    with pytest.raises(KeyboardInterrupt):
        task.do(run)
    assert instructions(sqlite_store) == EXPECTED[: 3 * 7 - 2]
    monkeypatch.setattr(Store, "take_rows", take)
    assert task.do(run)["added"] == 90
    assert instructions(sqlite_store) == EXPECTED
    dataset = sqlite_store.dataset("shop")
    for number in (1, 21, 22, 99):  # found by their words, whichever attempt brought them
        asked = RecordFilter(text=f'"Question {number}"')
        assert [r.instruction for r in sqlite_store.records(dataset.id, asked)] == [f"Question {number}"]
    assert [edit.records for edit in sqlite_store.edits(dataset.id)] == [90]


def test_a_file_without_a_usable_row_says_why(sqlite_store: Store, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("instruction,response\nWhy?,\n", encoding="utf-8")
    task = ImportRecords(dataset="shop", path=file)
    run = DeskRun(sqlite_store, root, task, {})
    run.output.mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty\.csv has no usable rows.* Row 1: The response is empty"):
        task.do(run)
    assert instructions(sqlite_store) == []


@pytest.mark.parametrize("place", ["../../etc/passwd", "a/b", "/etc/passwd", "a/../b"])
def test_an_upload_that_could_lie_elsewhere_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="does not name an upload"):
        task_from("import", {"dataset": "shop", "upload": place})


def test_one_file_is_needed_and_has_to_be_there(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes one file"):
        ImportRecords(dataset="shop").check(sqlite_store)
    with pytest.raises(InputError, match="There is no file"):
        ImportRecords(dataset="shop", path=tmp_path / "gone.csv").check(sqlite_store)
