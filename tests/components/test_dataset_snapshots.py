"""The page Snapshots, as a person uses it: freeze, read, describe, export, compare, restore, purge."""

from __future__ import annotations

import html
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components.dataset import snapshot_export, snapshots
from components.dataset.shared import shared_by_pages
from studio.example import EXAMPLE
from studio.instructions.export_task import ExportRecords
from studio.store import CheckRun, FlagRow, RecordChange, RecordFilter
from studio.workspace import Workspace
from tests.components.test_dataset import Desk as WholeTab
from tests.screen import Screen

FIRST = f"data:{EXAMPLE}@1"


class Desk(Screen):
    """The page of a workspace, by itself, with a dataset chosen."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with gr.Blocks() as demo:
            shared = shared_by_pages(workspace, EXAMPLE)
            self.chosen = shared.chosen
            self.widgets = snapshots.build(shared)
        super().__init__(demo)

    def look(self) -> None:
        """What opening the page does, and every beat while it is open."""
        refresh = self.widgets.refresh
        assert refresh is not None
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)

    @property
    def html(self) -> str:
        return " ".join(str(v) for k, v in self.values.items() if isinstance(self.demo.blocks[k], gr.HTML))


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.look()
    return desk


def _plain(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def _said(desk: Desk) -> str:
    return _plain(desk.html)


def _change(desk: Desk, **fields: Any) -> int:
    """Another hand changes the first record; its number."""
    store = desk.workspace.store
    dataset = store.dataset(EXAMPLE)
    record = store.records(dataset.id)[0]
    store.change_records(dataset.id, "Changed", [RecordChange(record.id, fields)], author="ann")
    return record.id


def _file(desk: Desk, name: str) -> Path:
    """What the listener of that name handed over."""
    found = next(fn for fn in desk.demo.fns.values() if fn.api_name == name)
    return Path(desk.values[found.outputs[-1]._id])


def test_the_list_says_what_each_snapshot_holds_and_who_reads_it(desk: Desk) -> None:
    told = _plain(desk["Snapshots"])
    snapshot = desk.workspace.store.snapshot(FIRST)
    assert FIRST in told
    assert re.search(r"264: \d+ train, \d+ validation, \d+ test", told)
    assert snapshot.digest[:12] in told
    assert f'title="{snapshot.digest}"' in desk["Snapshots"]
    assert "by Ladder Studio nobody yet" in told
    desk.workspace.store.queue_job(ExportRecords(dataset=EXAMPLE, snapshot=FIRST), author="ann")
    desk.look()
    assert f"job 1 (Export {FIRST} as JSON Lines)" in _plain(desk["Snapshots"])


def test_what_would_be_frozen_is_counted_before_it_is(desk: Desk) -> None:
    assert "Would hold 264 of 264 records: " in _said(desk)
    _change(desk, state="approved", response="Changed.")
    desk.type(records_to_freeze="Approved records only")
    desk.do("snap_would_hold")
    assert "Would hold 1 of 264 records (263 not chosen): 1 " in _said(desk)
    desk.do("snap_freeze")
    assert f"Snapshot data:{EXAMPLE}@2 with 1 record." in _said(desk)
    assert desk["Snapshot that is open"] == f"data:{EXAMPLE}@2"
    desk.do("snap_freeze")
    assert f"These records are in data:{EXAMPLE}@2 already" in _said(desk)


def test_a_saved_filter_can_be_frozen(desk: Desk) -> None:
    store = desk.workspace.store
    store.save_filter(store.dataset(EXAMPLE).id, "about tents", RecordFilter(text="tent"), author="ann")
    desk.look()
    desk.type(records_to_freeze="Saved filter: about tents")
    desk.do("snap_freeze")
    rows = desk.workspace.snapshot(f"data:{EXAMPLE}@2")
    assert 0 < len(rows) < 264
    assert all("tent" in json.dumps(row).lower() for row in rows)


def test_a_snapshot_opens_with_its_facts_and_rows(desk: Desk) -> None:
    desk.do("snap_open", FIRST)
    told = _said(desk)
    snapshot = desk.workspace.store.snapshot(FIRST)
    assert snapshot.digest in told
    assert "Rows 1 to 10 of 264" in told
    assert desk.workspace.snapshot(FIRST)[0]["instruction"][:20] in html.unescape(told)
    desk.type(first_row_shown=260)
    desk.do("snap_rows_after")
    assert "Rows 261 to 264 of 264" in _said(desk)
    with pytest.raises(gr.Error, match="There is no snapshot"):
        desk.do("snap_open", "data:nothing@1")


def test_a_snapshot_of_another_dataset_is_not_opened_here(desk: Desk) -> None:
    with pytest.raises(gr.Error, match=f"is no snapshot of {EXAMPLE}"):
        desk.do("snap_open", f"eval:{EXAMPLE}@1")


def test_its_card_is_read_and_saved(desk: Desk) -> None:
    desk.do("snap_open", FIRST)
    desk.do("snap_card")
    told = _said(desk)
    assert "What it is" in told
    assert "264 records" in told
    assert "pretty_name" not in told
    desk.do("snap_save_card")
    written = _file(desk, "snap_save_card")
    assert written.name == "README.md"
    assert f"pretty_name: {EXAMPLE}" in written.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "format", "shape", "name"),
    [
        (FIRST, "csv", "alpaca", f"{EXAMPLE}@1-alpaca.csv"),
        ("now: Approved records only", "jsonl", "dolly", f"{EXAMPLE}.jsonl"),
        (FIRST, "folder", "dolly", f"{EXAMPLE}@1.zip"),
        (FIRST, "card", "dolly", "README.md"),
    ],
)
def test_a_snapshot_or_the_records_now_are_exported(desk: Desk, what: str, format: str, shape: str, name: str) -> None:
    _change(desk, state="approved")
    desk.type(what_to_export=what, export_format=format, shape_of_the_rows=shape)
    desk.do("snap_explain")
    desk.do("snap_export")
    file = _file(desk, "snap_export")
    assert file.name == name
    assert f"{name} holds {1 if 'now' in what else 264} record" in _said(desk)
    if format == "folder":
        names = set(zipfile.ZipFile(file).namelist())
        assert names == {
            f"{EXAMPLE}@1/{n}" for n in ("README.md", "train.parquet", "validation.parquet", "test.parquet")
        }


def test_many_rows_are_exported_by_a_job_and_fetched_from_the_list(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_export, "QUICK_ROWS", 10)
    desk.type(what_to_export=FIRST)
    desk.do("snap_export")
    (job,) = desk.workspace.store.jobs()
    assert (job.kind, job.task["snapshot"], job.state) == ("export", FIRST, "queued")
    assert desk.values[next(f for f in desk.demo.fns.values() if f.api_name == "snap_export").outputs[-1]._id] is None
    assert "queued" in _plain(desk["Exports made by jobs"])
    with pytest.raises(gr.Error, match="is queued, so there is no file yet"):
        desk.do("snap_fetch", job.id)
    folder = desk.workspace.path / "runs" / str(job.id) / "export"
    task = ExportRecords.model_validate(job.task)
    path, n = task.write(desk.workspace.store, desk.workspace.path, folder, author="ann")
    store = desk.workspace.store
    claimed = store.claim_job("light", "here")
    assert claimed is not None
    store.start_job(claimed.id, claimed.attempt, 1)
    told = {"file": path.name, "records": n, "bytes": path.stat().st_size}
    store.finish_job(claimed.id, claimed.attempt, "done", result=told)
    desk.look()
    assert "264 records" in _plain(desk["Exports made by jobs"])
    desk.do("snap_fetch", job.id)
    assert _file(desk, "snap_fetch").read_bytes() == path.read_bytes()


def test_two_are_compared_word_by_word(desk: Desk) -> None:
    store = desk.workspace.store
    number = _change(desk, response="Zip it up and go.")
    store.add_records(
        store.dataset(EXAMPLE).id,
        [{**desk.workspace.snapshot(FIRST)[0], "instruction": "New <b>?", "group_hash": "f" * 64, "split": "train"}],
        author="ann",
        source="",
    )
    desk.type(compare_from=FIRST, compare_to="now")
    desk.do("snap_compare")
    told = _said(desk)
    assert "1 added, 0 removed, 1 changed, 263 as they were." in told
    assert re.search(r"<ins>[^<]*Zip it up", desk.html)
    assert re.search(r"<del>", desk.html)
    assert "New" not in told.split("1 added")[1].split("Export")[0]
    desk.type(kind_of_difference="added")
    desk.do("snap_kind")
    assert "New &lt;b&gt;?" in desk.html
    desk.do("snap_freeze")
    desk.type(compare_to=f"data:{EXAMPLE}@2", kind_of_difference="changed")
    desk.do("snap_compare")
    assert "1 added, 0 removed, 1 changed, 263 as they were." in _said(desk)
    assert number == store.records(store.dataset(EXAMPLE).id)[0].id


def test_differences_come_fifty_at_a_time(desk: Desk) -> None:
    store = desk.workspace.store
    dataset = store.dataset(EXAMPLE)
    gone = store.record_ids(dataset.id)[:120]
    store.change_records(dataset.id, "Removed", [RecordChange(k, {}, is_removed=True) for k in gone], author="ann")
    desk.type(compare_from=FIRST, compare_to="now")
    desk.do("snap_compare")
    rows = next(f for f in desk.demo.fns.values() if f.api_name == "snap_compare").outputs[2]
    assert desk["Kind of difference"] == "removed"
    assert desk.values[rows._id].count("<tr>") - 1 == 50
    desk.type(page_of_changes=3)
    desk.do("snap_changes_forth")
    assert desk.values[rows._id].count("<tr>") - 1 == 20


def test_a_restore_is_shown_then_done_and_undone(desk: Desk) -> None:
    store = desk.workspace.store
    dataset = store.dataset(EXAMPLE)
    number = _change(desk, response="Wrong.")
    before = desk.workspace.snapshot(FIRST)[0]["response"]
    desk.do("snap_open", FIRST)
    with pytest.raises(gr.Error, match="Look first"):
        desk.do("snap_restore")
    desk.do("snap_look_restore")
    assert "1 would get its earlier text, 263 stay as they are." in _said(desk)
    assert store.record(number).response == "Wrong."
    desk.do("snap_restore")
    assert store.record(number).response == before
    assert f"Restored {FIRST}: 1 record changed." in _said(desk)
    store.undo(dataset.id, author="owner")
    assert store.record(number).response == "Wrong."


def test_a_restore_asks_again_when_somebody_changed_something_since(desk: Desk) -> None:
    _change(desk, response="Wrong.")
    desk.do("snap_open", FIRST)
    desk.do("snap_look_restore")
    number = _change(desk, response="Mine.")
    with pytest.raises(gr.Error, match="was changed since you looked"):
        desk.do("snap_restore")
    assert desk.workspace.store.record(number).response == "Mine."


def test_a_snapshot_becomes_a_new_dataset(desk: Desk) -> None:
    desk.do("snap_open", FIRST)
    with pytest.raises(gr.Error, match="has no name"):
        desk.do("snap_restore_as_new")
    desk.type(name_of_a_new_dataset="again")
    desk.do("snap_restore_as_new")
    store = desk.workspace.store
    assert store.count_records(store.dataset("again").id) == 264
    assert "again holds 264 records of data:brackenfold@1, as drafts." in _said(desk)


def test_a_purge_needs_a_look_a_reason_and_the_number(desk: Desk) -> None:
    store = desk.workspace.store
    dataset = store.dataset(EXAMPLE)
    number = _change(desk, response="Zaphiriel Quandt, 17 Mulberry Mews")
    desk.type(numbers_of_the_records_to_purge=str(number))
    desk.do("snap_look_purge")
    assert "1 record would be taken out for good" in _said(desk)
    assert f"{FIRST} (1)" in _said(desk)
    desk.type(reason_of_the_purge="She asked for it.")
    with pytest.raises(gr.Error, match="Type the number of records"):
        desk.do("snap_purge")
    desk.type(type_the_number_of_records="2")
    with pytest.raises(gr.Error, match="Type how many they are, 1, to confirm"):
        desk.do("snap_purge")
    assert store.count_records(dataset.id) == 264
    desk.type(type_the_number_of_records="1")
    desk.do("snap_purge")
    assert store.count_records(dataset.id) == 263
    told = _said(desk)
    assert "1 record was purged, and 1 snapshot was written anew." in told
    assert "owner 1 She asked for it. data:brackenfold@1" in told
    assert "Mulberry" not in desk.html
    assert "purged" in _plain(desk["Snapshots"])
    held = [f.name for f in desk.workspace.path.rglob("*") if f.is_file() and b"Mulberry" in f.read_bytes()]
    assert held == []


def test_only_an_admin_purges(desk: Desk) -> None:
    desk.type(numbers_of_the_records_to_purge="1", reason_of_the_purge="x", type_the_number_of_records="1")
    for name in ("snap_look_purge", "snap_purge", "snap_erase"):
        with pytest.raises(gr.Error, match="needs the role 'admin'"):
            desk.do(name, user="ann")


def test_another_dataset_shows_its_own_snapshots_and_nothing_of_the_first(desk: Desk) -> None:
    desk.do("snap_open", FIRST)
    desk.workspace.store.create_dataset("empty", author="ann")
    desk.type(dataset="empty")
    desk.look()
    assert "No snapshot of this dataset yet" in desk["Snapshots"]
    assert desk["Snapshot that is open"] == ""
    assert desk["Compare from"] is None
    with pytest.raises(gr.Error, match="would have 0 rows"):
        desk.do("snap_freeze")


def test_a_beat_leaves_what_was_chosen_and_typed_alone(desk: Desk) -> None:
    desk.do("snap_open", FIRST)
    desk.type(records_to_freeze="Approved records only", reason_of_the_purge="Half a", compare_to=FIRST)
    desk.look()
    assert desk["Records to freeze"] == "Approved records only"
    assert (desk["Reason of the purge"], desk["Compare to"]) == ("Half a", FIRST)
    assert desk["Snapshot that is open"] == FIRST


def test_the_tab_shows_the_page(project: Workspace) -> None:
    tab = WholeTab(project)
    tab.type(open_page_of_dataset="snapshots")
    tab.look()
    assert FIRST in tab["Snapshots"]
    names = [fn.api_name for fn in tab.demo.fns.values() if str(fn.api_name).startswith("snap_")]
    assert len(names) == len(set(names)) > 10


def test_freezing_says_what_the_checks_found_and_is_still_there(desk: Desk) -> None:
    store = desk.workspace.store
    dataset = store.dataset(EXAMPLE)
    run = CheckRun(dataset.id, "personal", "1", {}, 264, 1, 0.1, 0.0, 0.0)
    store.put_flags(run, [FlagRow(store.record_ids(dataset.id)[0], "personal", "response", "An address.")])
    _change(desk, response="Changed.")
    desk.do("snap_freeze")
    assert "Flagged in this dataset: 1 for personal data. Look at them under Checks." in _said(desk)
