"""The import card of the dataset page: a file, what it seems to be, which column is what, and what came of it.

Rows come from a file of the browser, from the folder for imports in the workspace, or from the hub. The page keeps which
of these it is, and the file's name; the file is read again for the import.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from components.dataset.mending import Mending
from components.frame import (
    actions,
    card,
    handler,
    live_dropdown,
    markup,
    notice,
    progress,
    section,
    untouched,
    user_of,
)
from components.picking import rows_to_read
from studio.errors import InputError, StudioError
from studio.instructions import FIELDS, ImportReport, Preview, dataset_named, import_into, name_for, preview
from studio.instructions.formats import Layout, format_named, formats
from studio.instructions.hub_import import ImportFromHub
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import (
    SERVER_FOLDER,
    Reading,
    check_reading,
    preview_hub,
    read_fields,
    server_file,
    server_files,
)
from studio.instructions.shapes import shape_named
from studio.models import licence as licence_named
from studio.serving import require
from studio.store import Job
from studio.uploads import in_words, park, upload_limit
from studio.workspace import Workspace

__all__ = ["ImportCard", "build_import"]

Step = Literal["choose", "map", "result"]

_CELL_LETTERS = 240
_QUICK_BYTES = 4 << 20  # a page takes this much in while somebody waits: a second or two
_TICK_SECONDS = 1.0
_LICENCES = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-NC-4.0")
_OPTIONAL = ("context", "category")
_WRITTEN_AS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with a byte order mark",
    "cp1252": "Western European (Windows-1252)",
    "iso8859-1": "Western European (Latin 1)",
    "mac-roman": "Western European (Mac Roman)",
    "cp1250": "Central European (Windows-1250)",
    "cp1251": "Cyrillic (Windows-1251)",
    "cp1253": "Greek (Windows-1253)",
    "utf-16": "UTF-16",
    "shift_jis": "Japanese (Shift-JIS)",
    "gb18030": "Chinese (GB 18030)",
    "big5": "Chinese (Big5)",
    "euc_kr": "Korean (EUC-KR)",
}
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class ImportCard:
    """What the page around it needs: show and hide `box`; `done` and `away` end the import."""

    box: gr.Column
    target: gr.Dropdown
    done: gr.Button
    away: gr.Button


def build_import(workspace: Workspace) -> ImportCard:
    """Lay out and wire the card, closed."""
    desk = _Card(workspace)
    _wire_choosing(desk)
    _wire_importing(desk)
    return ImportCard(desk.box, desk.target, desk.done, desk.away)


@dataclass(frozen=True)
class _Origin:
    """Where rows come from, as a hidden box can hold it."""

    kind: Literal["upload", "server", "hub"]
    name: str = ""
    split: str = ""

    def __str__(self) -> str:
        return "\n".join((self.kind, self.name, self.split))

    @classmethod
    def read(cls, text: str) -> _Origin:
        kind, _, rest = text.partition("\n")
        name, _, split = rest.partition("\n")
        return cls("server" if kind == "server" else "hub" if kind == "hub" else "upload", name, split)


class _Card:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with gr.Row(elem_classes=["off-screen"]):
            self.origin = gr.Textbox("", label="Where rows come from", visible="hidden")
            self.watched = gr.Textbox("", label="Import watched", visible="hidden")
        # Ticks only while a job of this card reads: here rows matter, and the pulse tells of states alone.
        self.timer = gr.Timer(_TICK_SECONDS, active=False)
        with card("Import records", visible=False, elem_classes=["import"]) as self.box:
            with gr.Column() as self.choose:
                self._lay_out_choosing()
            with gr.Column(visible=False) as self.map:
                self._lay_out_mapping()
            with gr.Column(visible=False) as self.result:
                self.said = markup()
                self.mending = Mending(workspace, "import", "{} of the row", is_main=False)
            with actions():
                self.start = gr.Button("Import", variant="primary", visible=False)
                self.done = gr.Button("Show the records", variant="primary", visible=False)
                self.again = gr.Button("Choose another file", visible=False)
                self.away = gr.Button("Cancel")

    def _lay_out_choosing(self) -> None:
        largest = in_words(upload_limit(self.workspace.settings))
        markup(
            "<p>A spreadsheet (.xlsx, .csv, .tsv), .json, .jsonl, .parquet, or a .zip of them, of up to "
            f"{largest}. dolly, Alpaca, ShareGPT, OpenAI chat and prompt/completion files are recognised; of others you "
            "say which column is what.</p>"
        )
        self.file = gr.File(
            label="File to import",
            show_label=False,
            file_types=sorted({suffix for form in formats().values() for suffix in form.suffixes} | {".zip"}),
            type="filepath",
            height=128,
            elem_classes=["drop"],
        )
        self.trouble = markup(label="What speaks against the file")
        with gr.Accordion("From the server or the hub", open=False, elem_classes=["more"]):
            with gr.Row(elem_classes=["import-from"]):
                self.served = live_dropdown(
                    [],
                    label="File on the server",
                    info=f"What lies in the folder '{SERVER_FOLDER}' of the workspace, however large. For administrators.",
                    min_width=260,
                )
                self.list_served = gr.Button("List the files", elem_id="import-list", min_width=0, scale=0)
            with gr.Row(elem_classes=["import-from"]):
                self.hub = gr.Textbox(
                    label="Data set on the hub",
                    info="On huggingface.co, where the studio may go online.",
                    placeholder="hf:databricks/databricks-dolly-15k",
                    max_lines=1,
                    min_width=260,
                )
                self.split = gr.Textbox(
                    "train", label="Split on the hub", info="Which part of it.", max_lines=1, min_width=140, scale=0
                )
                self.ask_hub = gr.Button("Look at it", elem_id="import-hub", min_width=0, scale=0)

    def _lay_out_mapping(self) -> None:
        self.looks = markup()
        with gr.Accordion("Read it differently", open=False, elem_classes=["more"]) as self.differently:
            with gr.Row(elem_classes=["form-row"]):
                self.member = live_dropdown([], label="File inside the zip", min_width=200)
                self.sheet = live_dropdown([], label="Sheet of the workbook", min_width=200)
                self.encoding = gr.Dropdown(
                    [(words, name) for name, words in _ENCODINGS.items()],
                    label="Encoding of the file",
                    info="Or the name of another one.",
                    allow_custom_value=True,
                    min_width=200,
                )
                self.delimiter = gr.Dropdown(
                    [(words.capitalize(), sign) for sign, words in _WRITTEN_AS.items()],
                    label="Between two cells",
                    info="Or another sign.",
                    allow_custom_value=True,
                    min_width=160,
                )
            self.by_hand = gr.Checkbox(False, label="Say which column is what, whatever was recognised", visible=False)
        with gr.Column() as self.matching:
            section("Which column is what", "guessed from the names")
            with gr.Row(elem_classes=["form-row"]):
                self.columns = {field: _column_choice(field) for field in FIELDS}
        with gr.Row(elem_classes=["form-row"]):
            self.target = gr.Dropdown(
                label="Into dataset",
                info="Choose one, or write a new name.",
                allow_custom_value=True,
                min_width=260,
            )
            self.licence = gr.Dropdown(
                label="Licence of the records",
                info="A model made from them has to keep to it.",
                choices=[("Not stated", ""), *((licence_named(name).name, name) for name in _LICENCES)],
                value="",
                allow_custom_value=True,
                min_width=260,
            )

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def steps(self) -> list[Any]:
        """Outputs of `_at`."""
        return [self.choose, self.map, self.result, self.start, self.done, self.again, self.away]

    @property
    def layout(self) -> list[Any]:
        """What says how the file is read."""
        return [self.member, self.sheet, self.encoding, self.delimiter]

    @property
    def preview(self) -> list[Any]:
        """Outputs of `_previewed`."""
        fields = self.columns.values()
        return [self.looks, self.differently, *self.layout, self.by_hand, self.matching, *fields]

    @property
    def looked(self) -> list[Any]:
        """Outputs of the listeners that look at something for the first time."""
        return [self.origin, self.trouble, self.file, *self.preview, self.target, *self.steps]

    @property
    def fresh(self) -> list[Any]:
        """Outputs of `start_over`."""
        return [self.file, self.trouble, self.watched, self.timer, self.served, *self.steps]

    # -- choosing ------------------------------------------------------------------------------------------------

    def look(self, path: str) -> list[Any]:
        return self._look(_Origin("upload"), Path(path))

    def look_served(self, request: gr.Request, name: str | None) -> list[Any]:
        require(user_of(request), "admin")
        return self._look(_Origin("server", name or ""), None)

    def look_at_hub(self, ref: str, split: str) -> list[Any]:
        return self._look(_Origin("hub", (ref or "").strip(), (split or "").strip() or "train"), None)

    def list_files(self, request: gr.Request) -> list[Any]:
        """What an administrator put into the folder for imports."""
        require(user_of(request), "admin")
        names = server_files(self.workspace.path)
        told = "" if names else notice(f"The folder '{SERVER_FOLDER}' of the workspace holds no table. Put one there.")
        return [gr.Dropdown(choices=names, value=None), told]

    def _look(self, origin: _Origin, upload: Path | None) -> list[Any]:
        """The preview, or why there is none, said where the file was dropped; then another one can be."""
        try:
            seen = self._seen(origin, upload)
        except StudioError as error:
            shown = untouched([*self.preview, self.target, *self.steps])
            return ["", notice(str(error), "bad"), None, *shown]
        named = self._file(origin, upload) if origin.kind != "hub" else Path(origin.name.rpartition("/")[2])
        file = gr.skip() if origin.kind == "upload" else None
        target = name_for(named if origin.kind != "hub" else named.with_suffix(""))
        return [str(origin), "", file, *self._previewed(origin, named.name, seen), target, *_at("map")]

    def look_again(
        self,
        changed: Literal["member", "sheet", "text"],
        file: str | None,
        origin: str,
        member: str | None,
        sheet: str | None,
        encoding: str | None,
        delimiter: str | None,
    ) -> list[Any]:
        """The same file read as somebody says; what that makes moot is guessed anew."""
        told = _Origin.read(origin)
        wanted = Layout(member=member or "")
        if changed == "sheet":
            wanted = Layout(member=member or "", sheet=sheet or "")
        elif changed == "text":
            wanted = _layout(member, sheet, encoding, delimiter)
        try:
            path = self._file(told, Path(file) if file else None)
            return self._previewed(told, path.name, preview(path, wanted=wanted))
        except StudioError as error:
            return [notice(str(error), "bad"), *untouched(self.preview[1:])]

    def _file(self, origin: _Origin, upload: Path | None) -> Path:
        if origin.kind == "server":
            return server_file(self.workspace.path, origin.name)
        if upload is None or not upload.is_file():
            raise InputError("The uploaded file is no longer there. Choose it again.")
        return upload

    def _seen(self, origin: _Origin, upload: Path | None, wanted: Layout | None = None) -> Preview:
        if origin.kind == "hub":
            return preview_hub(origin.name, origin.split, self.workspace.settings)
        return preview(self._file(origin, upload), wanted=wanted)

    def _previewed(self, origin: _Origin, name: str, seen: Preview) -> list[Any]:
        encodings = dict(_ENCODINGS)
        if seen.encoding:
            encodings.setdefault(seen.encoding, seen.encoding)
        delimiters = dict(_WRITTEN_AS) | ({seen.delimiter: seen.delimiter} if seen.delimiter not in _WRITTEN_AS else {})
        is_file = origin.kind != "hub"
        choices = bool(len(seen.members) > 1 or len(seen.sheets) > 1 or seen.encoding or seen.shape)
        return [
            _looks(name, seen),
            gr.Accordion(visible=choices),
            gr.Dropdown(choices=list(seen.members), value=seen.member or None, visible=len(seen.members) > 1),
            gr.Dropdown(choices=list(seen.sheets), value=seen.sheet or None, visible=len(seen.sheets) > 1),
            gr.Dropdown(
                choices=[(words, key) for key, words in encodings.items()],
                value=seen.encoding or None,
                visible=is_file and bool(seen.encoding),
            ),
            gr.Dropdown(
                choices=[(words.capitalize(), sign) for sign, words in delimiters.items() if sign],
                value=seen.delimiter or None,
                visible=bool(seen.delimiter),
            ),
            gr.Checkbox(value=False, visible=bool(seen.shape)),
            gr.Column(visible=not seen.shape),
            *(_columns(seen, field) for field in FIELDS),
        ]

    # -- importing -----------------------------------------------------------------------------------------------

    def import_file(
        self,
        request: gr.Request,
        file: str | None,
        origin: str,
        dataset: str | None,
        licence: str | None,
        by_hand: bool,
        *told: Any,
    ) -> list[Any]:
        """Take the rows in, or queue a job that does; the result says what was left out, and it can be mended there."""
        layout, chosen = _layout(*told[: len(self.layout)]), _mapping(*told[len(self.layout) :])
        name, licence, come = (dataset or "").strip(), licence or "", _Origin.read(origin)
        by = require(user_of(request), "admin") if come.kind == "server" else user_of(request)
        upload = Path(file) if file else None
        seen = self._seen(come, upload, layout)
        reading = seen.reading if seen.shape and not by_hand else seen.mapped(chosen)
        if come.kind == "hub":
            check_reading(come.name, reading, seen.columns)
            dataset_named(self.workspace.store, name, author=by, licence=licence)
            job = self.workspace.queue(
                ImportFromHub(dataset=name, ref=come.name, split=come.split, reading=reading, licence=licence),
                author=by,
            )
            return self._queued(job)
        path = self._file(come, upload)
        if come.kind == "upload" and path.stat().st_size <= _QUICK_BYTES:
            report = import_into(self.workspace.store, name, path, reading, author=by, licence=licence)
            shown = self.mending.show(name) if report.rejected else untouched(self.mending.shown)
            return ["", gr.Timer(active=False), _result(report, name), *shown, *_at("result")]
        return self._queued(self._job(come, path, name, reading, licence, by))

    def _job(self, come: _Origin, path: Path, name: str, reading: Reading, licence: str, by: str) -> Job:
        read_fields(path, reading)  # raises for a mapping that cannot be, which no job need find out
        dataset_named(self.workspace.store, name, author=by, licence=licence)  # to be shown while it fills
        where: dict[str, Any] = {"path": path}
        if come.kind == "upload":
            [place] = park(self.workspace.path, [path])
            where = {"upload": place}
        return self.workspace.queue(ImportRecords(dataset=name, reading=reading, licence=licence, **where), author=by)

    def _queued(self, job: Job) -> list[Any]:
        return [str(job.id), gr.Timer(active=True), _going(job), *self.mending.show_nothing(), *_at("result")]

    def tick(self, watched: str, dataset: str | None) -> list[Any]:
        """How far the job is; at its end, the rows it left out. Runs outside the queue: never raises."""
        still = untouched(self.mending.shown)
        try:
            job = self.workspace.store.job(int(watched))
            if not job.is_over:
                return [gr.skip(), gr.skip(), _going(job), *still]
            left_out = (job.result or {}).get("left_out", 0)
            shown = self.mending.show((dataset or "").strip()) if left_out else still
            return ["", gr.Timer(active=False), _ended(job), *shown]
        except (StudioError, ValueError):
            return ["", gr.Timer(active=False), gr.skip(), *still]

    def start_over(self) -> list[Any]:
        return [None, "", "", gr.Timer(active=False), gr.Dropdown(value=None), *_at("choose")]


# -- wiring ----------------------------------------------------------------------------------------------------


def _wire_choosing(desk: _Card) -> None:
    desk.file.upload(handler(desk.look), desk.file, desk.looked, api_visibility="private")
    desk.list_served.click(
        handler(desk.list_files, role="admin"),
        None,
        [desk.served, desk.trouble],
        api_name="import_list_files",
        **_QUIET,
    )
    desk.served.input(
        handler(desk.look_served, role="admin"),
        desk.served,
        desk.looked,
        api_name="import_look_served",
        api_visibility="private",
    )
    gr.on(
        [desk.ask_hub.click, desk.hub.submit],
        handler(desk.look_at_hub),
        [desk.hub, desk.split],
        desk.looked,
        api_name="import_look_hub",
        api_visibility="private",
    )
    ways: tuple[tuple[Literal["member", "sheet", "text"], list[Any]], ...] = (
        ("member", [desk.member]),
        ("sheet", [desk.sheet]),
        ("text", [desk.encoding, desk.delimiter]),
    )
    for changed, widgets in ways:

        def again(*told: Any, changed: Literal["member", "sheet", "text"] = changed) -> list[Any]:
            return desk.look_again(changed, *told)

        gr.on(
            [widget.input for widget in widgets],
            handler(again),
            [desk.file, desk.origin, *desk.layout],
            desk.preview,
            api_name=f"import_read_{changed}",
            api_visibility="private",
        )
    desk.by_hand.input(
        handler(lambda by_hand: gr.Column(visible=by_hand)),
        desk.by_hand,
        desk.matching,
        api_name="import_by_hand",
        **_QUIET,
    )


def _wire_importing(desk: _Card) -> None:
    going = [desk.watched, desk.timer, desk.said, *desk.mending.shown]
    desk.start.click(
        handler(desk.import_file),
        [desk.file, desk.origin, desk.target, desk.licence, desk.by_hand, *desk.layout, *desk.columns.values()],
        [*going, *desk.steps],
        api_visibility="private",
    )
    desk.timer.tick(
        handler(desk.tick),
        [desk.watched, desk.target],
        going,
        queue=False,
        trigger_mode="once",
        api_name="import_tick",
        **_QUIET,
    )
    gr.on(
        [desk.file.clear, desk.again.click, desk.away.click, desk.done.click],
        handler(desk.start_over),
        None,
        desk.fresh,
        api_visibility="private",
    )
    desk.target.change(handler(lambda name: _licence_of(desk.workspace, name)), desk.target, desk.licence, **_QUIET)
    desk.mending.wire(desk.target)


# -- words and small parts ---------------------------------------------------------------------------------------


def _layout(member: str | None, sheet: str | None, encoding: str | None, delimiter: str | None) -> Layout:
    return Layout(member=member or "", sheet=sheet or "", encoding=(encoding or "").strip(), delimiter=delimiter or "")


def _mapping(*columns: str | None) -> Mapping[str, str]:
    return dict(zip(FIELDS, (column or "" for column in columns), strict=True))


def _column_choice(field: str) -> gr.Dropdown:
    info = "May stay empty." if field in _OPTIONAL else "Needed."
    return live_dropdown(label=f"{field.capitalize()} column", info=info, choices=[], min_width=160)


def _columns(seen: Preview, field: str) -> gr.Dropdown:
    none = [("(none)", "")] if field in _OPTIONAL else []
    guess = seen.mapping.get(field) or ("" if none else None)
    return gr.Dropdown(choices=[*none, *((c, c) for c in seen.columns)], value=guess)


def _at(step: Step) -> list[Any]:
    """Visibility of the card's parts, in the order of `steps`."""
    is_map, is_result = step == "map", step == "result"
    shown = [step == "choose", is_map, is_result, is_map, is_result, step != "choose", not is_result]
    parts = [gr.Column] * 3 + [gr.Button] * 4
    return [part(visible=on) for part, on in zip(parts, shown, strict=True)]


def _licence_of(workspace: Workspace, name: str | None) -> gr.Dropdown:
    """A dataset that exists has a licence; only a new one needs to be told."""
    known = {d.name: d.licence for d in workspace.store.datasets()}
    is_new = (name or "").strip() not in known
    return gr.Dropdown(value=known.get((name or "").strip(), ""), interactive=is_new, allow_custom_value=True)


def _looks(name: str, seen: Preview) -> str:
    kind = format_named(seen.format).title if seen.format else "a data set of the hub"
    if seen.delimiter:
        kind += f" with {_WRITTEN_AS.get(seen.delimiter, seen.delimiter)}"
    where = f" ({seen.member or seen.sheet})" if seen.member or seen.sheet else ""
    known = f", in the shape of {shape_named(seen.shape).title}" if seen.shape else ""
    shown = f"The first {len(seen.rows)} rows" if len(seen.rows) > 1 else "The first row"
    encoding = f", {seen.encoding.upper().removesuffix('-SIG')}" if seen.encoding else ""
    words = f"{name}{where} reads as {kind}{encoding}{known}. {shown}:"
    if seen.omitted:
        words = f"{seen.omitted:,} values of these rows have no place in a record. {words}"
    rows = ([_short(row.get(column, "")) for column in seen.columns] for row in seen.rows)
    return f"<p>{html.escape(words)}</p>" + _scrolling(rows_to_read("First rows", seen.columns, rows))


def _result(report: ImportReport, dataset: str) -> str:
    """What came of it; the rows that were left out stand below, to be mended."""
    one, many = report.added == 1, report.left_out
    sentence = f"{report.added:,} record{' was' if one else 's were'} imported into {dataset}."
    if not many:
        return notice(sentence, "good")
    return notice(f"{sentence} {_left_out(many, len(report.rejected))}", "caution")


def _left_out(many: int, kept: int) -> str:
    words = f"{many:,} row{' was' if many == 1 else 's were'} left out"
    if kept < many:
        return f"{words}; the first {kept:,} can be mended below. So many bad rows mean that the file was read the wrong way."
    return f"{words}, to be mended below."


def _going(job: Job) -> str:
    said = job.message or ("It waits for its turn." if job.is_waiting else "It begins.")
    words = (
        f"This takes a while, so job {job.id} takes it in. Look at the records that are there already, or leave the "
        "page: the job goes on."
    )
    return f"<p>{html.escape(words)}</p>{progress(job.progress, said)}"


def _ended(job: Job) -> str:
    if job.state != "done" or not job.result:
        why = (
            job.error
            or f"Job {job.id} is {job.state}. Rows that are in stay; resume it under Jobs, or undo the import."
        )
        return notice(why, "bad" if job.state in ("failed", "lost") else "caution")
    added, left_out = int(job.result.get("added", 0)), int(job.result.get("left_out", 0))
    sentence = f"{added:,} record{' was' if added == 1 else 's were'} imported into {job.result.get('dataset', '')}."
    if not left_out:
        return notice(sentence, "good")
    return notice(f"{sentence} {_left_out(left_out, left_out)}", "caution")


def _scrolling(inner: str) -> str:
    return f'<div class="scroll" tabindex="0">{inner}</div>'


def _short(text: str) -> str:
    cut = text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS]}…"
    return f'<span class="clamp">{html.escape(cut)}</span>'
