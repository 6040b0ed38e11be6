"""Export: a snapshot or the records as they are now, in any format and shape. Few rows at once, many as a job."""

from __future__ import annotations

import html
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from components.dataset.shared import Shared
from components.dataset.words import at, count
from components.frame import (
    actions,
    fresh_choices,
    handler,
    hidden_download,
    live_dropdown,
    markup,
    notice,
    user_of,
)
from components.picking import pick_list, picked, rows_to_pick
from studio.errors import InputError
from studio.instructions.export_task import CARD, FOLDER, QUICK_ROWS, ExportRecords, exported_file
from studio.instructions.formats import formats
from studio.instructions.shapes import shapes
from studio.instructions.snapshots import selections
from studio.store import Dataset, Job, Snapshot
from studio.uploads import in_words

__all__ = ["ExportPart", "build_export", "save_if_made"]

_FIRST, _NOW, _ALL = "jsonl", "now: ", "All records, rejected ones too"
_SHOWN = 5
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class ExportPart:
    """The widgets of the export."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.workspace, self.store = shared, shared.workspace, shared.workspace.store
        kinds = [(form.title, name) for name, form in formats().items()]
        first = next((name for _, name in kinds if name == _FIRST), kinds[0][1])
        with gr.Row(elem_classes=["form-row", "snapshot-row"]):
            self.what = live_dropdown(label="What to export", choices=[], min_width=240)
            self.format = gr.Dropdown(
                [*kinds, ("Folder for the datasets library (zip)", FOLDER), ("Dataset card alone (README.md)", CARD)],
                value=first,
                label="Export format",
                min_width=200,
            )
            self.shape = gr.Dropdown(
                [(shape.title, name) for name, shape in shapes().items()],
                value="dolly",
                label="Shape of the rows",
                min_width=200,
            )
        self.explains = markup(self.explained(first, "dolly"), elem_classes=["snapshot-sentence"])
        with actions():
            self.go = gr.Button("Export")
        self.said = markup()
        self.jobs = pick_list("Exports made by jobs", elem_id="snapshot-exports")
        with gr.Row(elem_classes=["off-screen"]):
            self.file = hidden_download()

    def choices(self, dataset: Dataset, snapshots: Sequence[Snapshot], what: str | None) -> gr.Dropdown:
        now = [*selections(self.store, dataset), _ALL]
        named = [(f"Now: {words[:1].lower()}{words[1:]}", f"{_NOW}{words}") for words in now]
        return fresh_choices([*((str(s.ref), str(s.ref)) for s in snapshots), *named], what, named[0][1])

    def explained(self, format: str, shape: str) -> str:
        """What comes of the choice, as HTML."""
        if format == CARD:
            told = "The card says what is in it, how it was made, what was checked and where it falls short."
        else:
            told = shapes()[shape].explains if shape in shapes() else ""
        if format == FOLDER:
            told = f"A Parquet file a split and the card as README.md: datasets.load_dataset opens it offline. Rows: {told}"
        return f'<p class="quiet">{html.escape(told.replace("`", ""))}</p>'

    def export(
        self, request: gr.Request, name: str, what: str | None, format: str | None, shape: str | None
    ) -> list[Any]:
        """A file to save, or a job that makes one."""
        dataset = self.store.dataset(name)
        task = self._task(dataset, what or "", format or _FIRST, shape or "dolly")
        task.check(self.store)
        if task.rows(self.store) > QUICK_ROWS:
            job = self.workspace.queue(task, author=user_of(request))
            return [notice(self._queued(task, job)), self.made(name), None]
        folder = Path(tempfile.mkdtemp())
        path, records = task.write(self.store, self.workspace.path, folder, author=user_of(request))
        return [notice(f"{path.name} holds {count(records)}.", "good"), gr.skip(), str(path)]

    def fetch(self, event: gr.EventData) -> list[Any]:
        """The file of an export that a job made."""
        key = picked(event)
        job = self.store.job(int(key)) if key.isdecimal() else None
        if job is None or job.kind != ExportRecords.kind:
            raise InputError("That is no export. Reload the page, and choose one from the list.")
        if job.state != "done" or not job.result:
            raise InputError(f"Job {job.id} is {job.state}, so there is no file yet. Jobs shows how far it is.")
        path = exported_file(self.workspace.path, job.id, str(job.result["file"]))
        copy = Path(tempfile.mkdtemp()) / path.name  # pages may not take files out of the workspace
        _linked(path, copy)
        return [notice(f"{path.name} of job {job.id}: {in_words(path.stat().st_size)}.", "good"), str(copy)]

    def made(self, name: str) -> str:
        """Exports of the dataset that jobs made or make, newest first, as HTML; '' for none."""
        jobs = [job for job in self.store.jobs(limit=200, kinds={ExportRecords.kind}) if job.task["dataset"] == name]
        if not jobs:
            return ""
        rows = [(job.id, (html.escape(job.title), _how_far(job), at(job.created_at))) for job in jobs[:_SHOWN]]
        head = ("Exports made by jobs: pick one to save its file", "State", "Asked for")
        return (
            f'<div class="framed">{rows_to_pick("Exports made by jobs", head, rows, widths=("", "34%", "20%"))}</div>'
        )

    def _task(self, dataset: Dataset, what: str, format: str, shape: str) -> ExportRecords:
        told: dict[str, Any] = {"dataset": dataset.name, "format": format, "shape": shape}
        if not what.startswith(_NOW):
            return ExportRecords(**told, snapshot=what)
        words = what.removeprefix(_NOW)
        if words == _ALL:
            return ExportRecords(**told, rejected=True)
        known = selections(self.store, dataset)
        if words not in known:
            raise InputError(f"'{words}' is no choice any more. Choose again what to export.")
        return ExportRecords(**told, filter=known[words].told())

    def _queued(self, task: ExportRecords, job: Job) -> str:
        rows = count(task.rows(self.store))
        return f"{rows} are written by job {job.id}. Its file is in the list below when it is done; Jobs shows how far it is."


def save_if_made(made: Any, file: gr.DownloadButton) -> None:
    """After a listener that may have put a file into the hidden button, save it in the browser, if there is one."""
    made.success(None, file, None, js=_SAVE, api_visibility="private")


_SAVE = """(file) => {
  if (file) Object.assign(document.createElement('a'), { href: file.url, download: file.orig_name ?? '' }).click();
}"""


def _how_far(job: Job) -> str:
    if job.state == "done" and job.result:
        return f"{count(int(job.result['records']))}, {in_words(int(job.result['bytes']))}"
    return html.escape(job.error or job.state)


def _linked(path: Path, copy: Path) -> None:
    try:
        copy.hardlink_to(path)
    except OSError:  # another disk
        shutil.copyfile(path, copy)


def build_export(shared: Shared) -> ExportPart:
    part = ExportPart(shared)
    gr.on(
        [part.format.input, part.shape.input],
        handler(lambda format, shape: part.explained(format or _FIRST, shape or "dolly")),
        [part.format, part.shape],
        part.explains,
        queue=False,
        trigger_mode="always_last",
        api_name="snap_explain",
        **_QUIET,
    )
    made = part.go.click(
        handler(part.export),
        [shared.chosen, part.what, part.format, part.shape],
        [part.said, part.jobs, part.file],
        api_name="snap_export",
        api_visibility="private",
    )
    save_if_made(made, part.file)
    fetched = part.jobs.pick(
        handler(part.fetch), None, [part.said, part.file], api_name="snap_fetch", api_visibility="private"
    )
    save_if_made(fetched, part.file)
    return part
