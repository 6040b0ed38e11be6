"""The dataset page: which dataset, which records, and one record open beside them; import and snapshots on top.

Nothing is kept in the page but ids: the dataset's name, the page number, and id and revision of the open record.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import gradio as gr
from gradio.events import api

from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    card,
    empty_state,
    handler,
    live_dropdown,
    markup,
    notice,
    page_header,
    section,
    untouched,
    user_of,
)
from components.importing import ImportCard, build_import, uploaded
from components.picking import mark_row, pick_list, picked, rows_to_pick, rows_to_read
from studio.errors import Conflict, InputError, StudioError
from studio.example import load_example
from studio.instructions import (
    CATEGORIES,
    FIELDS,
    Page,
    add_record,
    edit_record,
    import_into,
    is_unsaved,
    neighbour,
    page_of,
    take_snapshot,
)
from studio.store import Dataset, Record, RecordFilter, Snapshot
from studio.workspace import Workspace

__all__ = ["DatasetWidgets", "build"]

_CELL_LETTERS = 160
_SPLITS = ("train", "validation", "test")
_ALL_CATEGORIES, _ALL_SPLITS = "All categories", "All splits"


@dataclass(frozen=True, kw_only=True)
class DatasetWidgets(TabWidgets):
    """`chosen` holds the name of the open dataset."""

    chosen: gr.Textbox


@dataclass(frozen=True)
class _Browser:
    """The left and the middle: datasets, snapshots, filters, the table and its pages."""

    chosen: gr.Textbox
    datasets: gr.HTML
    about: gr.HTML
    said: gr.HTML
    search: gr.Textbox
    category: gr.Dropdown
    split: gr.Dropdown
    rows: gr.HTML
    range: gr.HTML
    page: gr.Number
    first: gr.Button
    previous: gr.Button
    next: gr.Button
    last: gr.Button
    undo: gr.Button
    redo: gr.Button

    @property
    def where(self) -> list[Any]:
        """Inputs that say which records are meant."""
        return [self.chosen, self.search, self.category, self.split, self.page]

    @property
    def sheet(self) -> list[Any]:
        """Outputs of `_sheet`."""
        return [self.rows, self.range, self.page, self.first, self.previous, self.next, self.last]


@dataclass(frozen=True)
class _Form:
    """The right: one record."""

    record: gr.Number
    revision: gr.Number
    heading: gr.HTML
    fields: Mapping[str, Any]
    message: gr.HTML
    history: gr.HTML
    back: gr.Button
    forth: gr.Button
    save: gr.Button
    reload: gr.Button

    @property
    def typed(self) -> list[Any]:
        """Inputs: the open record and what is in its fields."""
        return [self.record, *self.fields.values()]

    @property
    def shown(self) -> list[Any]:
        """Outputs of `_open` and `_blank`."""
        return [self.record, self.revision, self.heading, *self.fields.values(), self.message, self.history]


def build(workspace: Workspace) -> DatasetWidgets:
    """Lay out the page and wire it."""
    with page_header("dataset", "The records a model learns from: read, mend, and freeze them."):
        add = gr.Button("Add record")
        bring = gr.Button("Import")
        freeze = gr.Button("Take snapshot", variant="primary")
    nothing = empty_state("There are no records here yet.", "Import a file", "Try it with the example", visible=False)
    importer = build_import(workspace)
    with gr.Row(elem_classes=["columns", "dataset-columns"]) as body:
        browser = _lay_out_browser()
        form = _lay_out_form()
    with gr.Row(elem_classes=["off-screen"]):
        asked_dataset = gr.Textbox("", label="Dataset asked for", visible="hidden")
        asked_record = gr.Textbox("", label="Record asked for", visible="hidden")
        mode = gr.Textbox("records", label="What is open", visible="hidden")

    page = _Page(workspace, browser, form)
    frame = [mode, add, bring, freeze, nothing.box, body, importer.box]
    everything = [*frame, *page.outputs]

    def refresh(mode: str, *now: Any) -> list[Any]:
        try:
            if mode == "import":
                return untouched(everything)
            if not workspace.store.datasets():
                return [*_frame_for("empty"), *untouched(page.outputs)]
            return [*_frame_for("records"), *page.again(*now)]
        except StudioError:
            return untouched(everything)

    def example() -> list[Any]:
        load_example(workspace.store, workspace.path)
        return [*_frame_for("records"), *page.first_look("", "")]

    _wire_browser(page)
    _wire_form(page, add)
    _wire_import(workspace, importer, page, (bring, nothing.action), frame, everything)
    freeze.click(handler(page.take_snapshot), browser.chosen, [browser.about, browser.said], api_visibility="private")
    if nothing.example is not None:
        nothing.example.click(handler(example), None, everything, api_visibility="private")
    _serve(workspace)
    return DatasetWidgets(
        refresh=Refresh(refresh, [mode, asked_dataset, asked_record, *browser.where, form.record], everything),
        links={"dataset": asked_dataset, "record": asked_record},
        chosen=browser.chosen,
    )


def _lay_out_browser() -> _Browser:
    with gr.Column(scale=0, min_width=184, elem_classes=["shelf"]):
        section("Datasets")
        datasets = pick_list("Datasets", elem_id="datasets")
        about = markup()
        said = markup()
    with gr.Column(scale=1, min_width=420, elem_classes=["sheet"]):
        with gr.Row(elem_classes=["filters"]):
            search = gr.Textbox(
                label="Search the records",
                show_label=False,
                placeholder="Search the records",
                lines=1,
                max_lines=1,
                scale=1,
                min_width=160,
                container=False,
            )
            category = live_dropdown([(_ALL_CATEGORIES, "")], value="", label="Category shown", show_label=False,
                                     scale=0, min_width=184, container=False)  # fmt: skip
            split = gr.Dropdown([(_ALL_SPLITS, ""), *((s, s) for s in _SPLITS)], value="", label="Split shown",
                                show_label=False, scale=0, min_width=120, container=False)  # fmt: skip
        rows = pick_list("Records", elem_id="records")
        with gr.Row(elem_classes=["pager"]):
            undo = gr.Button("Undo", size="sm", min_width=0, scale=0)
            redo = gr.Button("Redo", size="sm", min_width=0, scale=0, elem_classes=["apart"])
            first = gr.Button("First", size="sm", min_width=0, scale=0)
            previous = gr.Button("Previous", size="sm", min_width=0, scale=0)
            shown = markup()
            following = gr.Button("Next", size="sm", min_width=0, scale=0)
            last = gr.Button("Last", size="sm", min_width=0, scale=0)
    with gr.Row(elem_classes=["off-screen"]):
        chosen = gr.Textbox("", label="Dataset", visible="hidden")
        page = gr.Number(1, label="Page", precision=0, visible="hidden")
    return _Browser(
        chosen,
        datasets,
        about,
        said,
        search,
        category,
        split,
        rows,
        shown,
        page,
        first,
        previous,
        following,
        last,
        undo,
        redo,
    )


def _lay_out_form() -> _Form:
    with card(scale=0, min_width=344, elem_classes=["record"]):
        with gr.Row(elem_classes=["record-head"]):
            heading = markup()
            back = gr.Button("Previous", size="sm", min_width=0, scale=0)
            forth = gr.Button("Next", size="sm", min_width=0, scale=0)
        fields = {
            "instruction": gr.Textbox(label="Instruction", lines=2, max_lines=6),
            "context": gr.Textbox(label="Context", lines=2, max_lines=8, placeholder="The text it is about, if any"),
            "response": gr.Textbox(label="Response", lines=5, max_lines=12),
            "category": gr.Dropdown(
                [("No category", ""), *((_words(c), c) for c in CATEGORIES)],
                value="",
                label="Category",
                allow_custom_value=True,  # imported records may have others
            ),
        }
        message = markup()
        with actions():
            save = gr.Button("Save", variant="primary", min_width=0, scale=0)
            reload = gr.Button("Reload record", min_width=0, scale=0)
        history = markup()
    with gr.Row(elem_classes=["off-screen"]):
        record = gr.Number(None, label="Record", precision=0, visible="hidden")
        revision = gr.Number(None, label="Revision", precision=0, visible="hidden")
    return _Form(record, revision, heading, fields, message, history, back, forth, save, reload)


class _Page:
    """What the handlers of this page share: the workspace, and which widgets they read and write."""

    def __init__(self, workspace: Workspace, browser: _Browser, form: _Form) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.browser, self.form = browser, form

    @property
    def outputs(self) -> list[Any]:
        b = self.browser
        return [b.chosen, b.datasets, b.about, b.search, b.category, b.split, *b.sheet, *self.form.shown]

    # -- which dataset, which page -----------------------------------------------------------------------------

    def again(
        self,
        asked_dataset: str,
        asked_record: str,
        name: str,
        text: str,
        category: str,
        split: str,
        number: float,
        record: float | None,
    ) -> list[Any]:
        """All of the page as the database has it now; what somebody is typing stays."""
        if not name:
            return self.first_look(asked_dataset, asked_record)
        dataset, where = self.store.dataset(name), _filter(text, category, split)
        sheet = _sheet(page_of(self.store, dataset, where, _whole(number)), where, _whole(record, 0))
        filters = [gr.skip(), self._categories(dataset, category), gr.skip()]
        return [name, self._shelf(name), self._about(dataset), *filters, *sheet, *untouched(self.form.shown)]

    def first_look(self, asked_dataset: str, asked_record: str) -> list[Any]:
        """The page for a person who just came: at what the address names, or else at the first dataset."""
        datasets = {d.id: d for d in self.store.datasets()}
        record = self.store.record(int(asked_record)) if asked_record.isdecimal() else None
        if record is not None:
            return self.opened(datasets[record.dataset_id], record)
        named = next((d for d in datasets.values() if d.name == asked_dataset), None)
        return self.opened(named or next(iter(datasets.values())))

    def opened(self, dataset: Dataset, record: Record | None = None, number: int = 1) -> list[Any]:
        """A dataset from its start (or at a page), unfiltered, with a record of it in the form."""
        page = page_of(self.store, dataset, None, number)
        record = record or next(iter(page.records), None)
        form = self.record_shown(record) if record else self.blank(dataset.name)
        sheet = _sheet(page, RecordFilter(), record.id if record else 0)
        filters = ["", self._categories(dataset, ""), ""]
        return [dataset.name, self._shelf(dataset.name), self._about(dataset), *filters, *sheet, *form]

    def open_dataset(self, event: gr.EventData, record: float | None, *typed: str) -> list[Any]:
        self.must_be_saved(record, typed)
        return [*self.opened(self.store.dataset(picked(event))), ""]

    def show(self, name: str, text: str, category: str, split: str, number: float, record: float | None) -> list[Any]:
        where = _filter(text, category, split)
        return _sheet(page_of(self.store, self.store.dataset(name), where, _whole(number)), where, _whole(record, 0))

    def _shelf(self, current: str) -> str:
        rows = [(d.name, (html.escape(d.name), f"{self.store.count_records(d.id):,}")) for d in self.store.datasets()]
        return rows_to_pick("Datasets and how many records each has", (), rows, current=current, widths=("", "64px"))

    def _categories(self, dataset: Dataset, current: str) -> gr.Dropdown:
        counts = self.store.categories(dataset.id)
        choices = [(f"{_words(c)} ({n:,})", c) for c, n in counts.items() if c]
        return gr.Dropdown(choices=[(_ALL_CATEGORIES, ""), *choices], value=current if current in counts else "")

    def _about(self, dataset: Dataset) -> str:
        licence = dataset.licence or "No licence stated"
        words = f"<p>{html.escape(dataset.description)}</p>" if dataset.description else ""
        taken = [s for s in self.store.snapshots("data") if s.name == dataset.name]
        rows = [
            (f'<b>{html.escape(s.ref)}</b><p class="quiet" title="{_at(s.created_at)}">{_size(s)}</p>',) for s in taken
        ]
        none = "<p>None yet. A snapshot freezes the records, so that a model can be traced back to them.</p>"
        listed = rows_to_read("Snapshots", (), rows) if rows else none
        return (
            f'<div class="about">{words}<p>{html.escape(licence)}</p>'
            f'<h3 class="section-title">Snapshots</h3>{listed}</div>'
        )

    # -- one record ----------------------------------------------------------------------------------------------

    def record_shown(self, record: Record, message: str = "") -> list[Any]:
        """A record in the form."""
        by = f"Revision {record.revision}, by {record.author}, {_when(record.updated_at)}."
        came = f"In {record.split}. Came from {record.source}." if record.source else f"In {record.split}."
        history = f'<p class="quiet">{html.escape(by)}<br>{html.escape(came)}</p>'
        fields = [getattr(record, name) for name in FIELDS]
        return [record.id, record.revision, _heading(f"Record {record.id}"), *fields, message, history]

    def blank(self, dataset: str) -> list[Any]:
        """An empty form, for a new record."""
        told = f'<p class="quiet">It becomes a record of {html.escape(dataset)} when you save it.</p>'
        return [None, None, _heading("New record"), "", "", "", "", "", told]

    def must_be_saved(self, record: float | None, typed: Sequence[str]) -> None:
        """Refuse to leave a form whose text is not in the database."""
        stored = self.store.record(_whole(record)) if record else None
        if is_unsaved(stored, dict(zip(FIELDS, typed, strict=True))):
            what = f"Record {stored.id} has" if stored else "The new record has"
            raise Conflict(f"{what} changes that are not saved. Save them, or press Reload record to drop them.")

    def open_record(self, event: gr.EventData, record: float | None, *typed: str) -> list[Any]:
        self.must_be_saved(record, typed)
        return self.record_shown(self.store.record(int(picked(event) or 0)))

    def step(self, by: Literal[-1, 1], *now: Any) -> list[Any]:
        name, text, category, split, number, record, *typed = now
        self.must_be_saved(record, typed)
        where, dataset = _filter(text, category, split), self.store.dataset(name)
        if not record:  # from a new record: to the first of those shown
            first = next(iter(page_of(self.store, dataset, where, _whole(number)).records), None)
            return [*untouched(self.browser.sheet), *(self.record_shown(first) if first else self.blank(name))]
        there, beside = neighbour(self.store, where, _whole(record), by)
        if there == _whole(number):
            return [*untouched(self.browser.sheet), *self.record_shown(beside)]
        return [*_sheet(page_of(self.store, dataset, where, there), where, beside.id), *self.record_shown(beside)]

    def reload(self, name: str, record: float | None) -> list[Any]:
        return self.record_shown(self.store.record(_whole(record))) if record else self.blank(name)

    def new(self, name: str, record: float | None, *typed: str) -> list[Any]:
        self.must_be_saved(record, typed)
        return self.blank(name)

    def save(
        self, request: gr.Request, name: str, revision: float | None, record: float | None, *typed: str
    ) -> list[Any]:
        """Store what is in the form. What speaks against it is said beside the button, and the text stays."""
        fields = {key: value or "" for key, value in zip(FIELDS, typed, strict=True)}
        try:
            if record:
                by = user_of(request)
                saved = edit_record(self.store, _whole(record), _whole(revision), fields, author=by)
                return self.record_shown(saved, notice(f"Record {saved.id} is saved.", "good"))
            return self._save_new(name, fields, user_of(request))
        except InputError as error:
            form = untouched(self.form.shown)
            form[-2] = notice(str(error), "caution")
            return form

    def _save_new(self, name: str, fields: dict[str, str], author: str) -> list[Any]:
        dataset = self.store.dataset(name)
        add_record(self.store, dataset, fields, author=author, source="written here")
        newest = self.store.records(dataset.id, offset=self.store.count_records(dataset.id) - 1, limit=1)[0]
        return self.record_shown(newest, notice(f"Record {newest.id} was added to {name}.", "good"))

    def take_back(self, way: Literal["undo", "redo"], request: gr.Request, *now: Any) -> list[Any]:
        """Undo or redo the person's last stroke in the dataset, and show what is there then."""
        name, text, category, split, number, record, *typed = now
        self.must_be_saved(record, typed)
        dataset, by = self.store.dataset(name), user_of(request)
        edit = (self.store.undo if way == "undo" else self.store.redo)(dataset.id, author=by)
        many = f" ({edit.records:,} records)" if edit.records > 1 else ""
        gr.Success(f"{'Undone' if way == 'undo' else 'Done again'}: {edit.title}{many}.", duration=4)
        where = _filter(text, category, split)
        page = page_of(self.store, dataset, where, _whole(number))
        found = self.store.some_records([_whole(record)]) if record else []
        shown = found[0] if found else next(iter(page.records), None)
        form = self.record_shown(shown) if shown else self.blank(name)
        return [self._shelf(name), *_sheet(page, where, shown.id if shown else 0), *form]

    def recount(self, name: str) -> list[Any]:
        dataset = self.store.dataset(name)
        return [self._shelf(name), self._categories(dataset, "")]

    # -- snapshots ------------------------------------------------------------------------------------------------

    def take_snapshot(self, name: str, request: gr.Request) -> list[Any]:
        dataset = self.store.dataset(name)
        taken = take_snapshot(self.store, self.workspace.path, dataset, author=user_of(request))
        ref, rows = taken.snapshot.ref, taken.snapshot.rows
        new = f"Snapshot {ref} with {rows:,} records."
        old = f"No record changed since {ref} ({rows:,} records), so it is still the newest snapshot."
        said = notice(new, "good") if taken.is_new else notice(old)
        return [self._about(dataset), said]


# -- wiring --------------------------------------------------------------------------------------------------


def _wire_browser(page: _Page) -> None:
    b, form = page.browser, page.form
    b.datasets.pick(
        handler(page.open_dataset),
        form.typed,
        [*page.outputs, b.said],
        show_progress="hidden",
        api_visibility="private",
    )
    show = handler(page.show)
    from_here = [*b.where, form.record]
    gr.on(
        [b.search.input, b.search.submit, b.category.input, b.split.input],
        handler(lambda name, text, category, split, record: page.show(name, text, category, split, 1, record)),
        [b.chosen, b.search, b.category, b.split, form.record],
        b.sheet,
        trigger_mode="always_last",  # while somebody types, one question at a time is on its way
        show_progress="hidden",
        api_visibility="private",
        api_name="filter_records",
    )
    turns = {b.first: "1", b.previous: "page - 1", b.next: "page + 1", b.last: "1e9"}
    for button, to in turns.items():
        button.click(
            show,
            from_here,
            b.sheet,
            js=f"(name, text, category, split, page, record) => [name, text, category, split, {to}, record]",
            show_progress="hidden",
            api_visibility="private",
            api_name=f"turn_to_{button.value.lower()}",
        )
    form.record.change(None, form.record, None, js=mark_row("records"), api_visibility="private")


def _wire_form(page: _Page, add: gr.Button) -> None:
    b, form = page.browser, page.form
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    b.rows.pick(handler(page.open_record), form.typed, form.shown, trigger_mode="always_last", **quiet)
    steps: tuple[tuple[gr.Button, Literal[-1, 1], str], ...] = ((form.back, -1, "back"), (form.forth, 1, "forth"))
    for button, by, name in steps:
        button.click(
            handler(partial(page.step, by)),
            [*b.where, *form.typed],
            [*b.sheet, *form.shown],
            api_name=f"step_{name}",
            **quiet,
        )
    form.save.click(handler(page.save), [b.chosen, form.revision, *form.typed], form.shown, **quiet).success(
        handler(page.recount), b.chosen, [b.datasets, b.category], **quiet
    ).success(handler(page.show), [*b.where, form.record], b.sheet, api_name="show_saved", **quiet)
    ways: tuple[tuple[gr.Button, Literal["undo", "redo"]], ...] = ((b.undo, "undo"), (b.redo, "redo"))
    for button, way in ways:
        button.click(
            handler(partial(page.take_back, way)),
            [*b.where, *form.typed],
            [b.datasets, *b.sheet, *form.shown],
            api_name=f"{way}_stroke",
            **quiet,
        )
    form.reload.click(handler(page.reload), [b.chosen, form.record], form.shown, **quiet)
    add.click(handler(page.new), [b.chosen, *form.typed], form.shown, **quiet)


def _wire_import(
    workspace: Workspace,
    importer: ImportCard,
    page: _Page,
    openers: Sequence[gr.Button],
    frame: Sequence[Any],
    everything: Sequence[Any],
) -> None:
    """While records are imported, the card stands alone."""

    def open_card(name: str, record: float | None, *typed: str) -> list[Any]:
        page.must_be_saved(record, typed)
        names = [d.name for d in workspace.store.datasets()]
        return [gr.Dropdown(choices=names), *_frame_for("import")]

    def close_card() -> list[Any]:
        return _frame_for("records" if workspace.store.datasets() else "empty")

    def show_imported(name: str) -> list[Any]:
        return [*_frame_for("records"), *page.opened(workspace.store.dataset(name.strip()))]

    for button in openers:
        button.click(
            handler(open_card),
            [page.browser.chosen, *page.form.typed],
            [importer.target, *frame],
            show_progress="hidden",
            api_visibility="private",
        )
    importer.away.click(handler(close_card), None, frame, api_visibility="private")
    importer.done.click(handler(show_imported), importer.target, everything, api_visibility="private")


# -- for scripts ---------------------------------------------------------------------------------------------


def _serve(workspace: Workspace) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store = workspace.store

    def dataset_page(
        dataset: str, text: str = "", category: str = "", split: str = "", page: int = 1
    ) -> dict[str, Any]:
        """Up to 50 records of a dataset, filtered, and where they lie in it."""
        found = page_of(store, store.dataset(dataset), RecordFilter(text.strip(), category, split), page)
        rows = [{k: getattr(r, k) for k in ("id", *FIELDS, "split", "revision")} for r in found.records]
        return {
            "records": rows, "page": found.number, "pages": found.pages,
            "first": found.first, "last": found.last, "total": found.total,
        }  # fmt: skip

    def save_record(
        request: gr.Request,
        record: int,
        revision: int,
        instruction: str,
        response: str,
        context: str = "",
        category: str = "",
    ) -> dict[str, Any]:
        """Save a record that was read at that revision; refused when somebody saved it in between."""
        fields = dict(zip(FIELDS, (instruction, context, response, category), strict=True))
        saved = edit_record(store, record, revision, fields, author=user_of(request))
        return {"record": saved.id, "revision": saved.revision, "split": saved.split}

    def import_records(
        request: gr.Request,
        file: dict[str, Any],
        dataset: str,
        instruction: str,
        response: str,
        context: str = "",
        category: str = "",
        licence: str = "",
    ) -> dict[str, Any]:
        """Add an uploaded file's rows to a dataset (made when it is new); the others name the file's columns."""
        columns = dict(zip(FIELDS, (instruction, context, response, category), strict=True))
        by = user_of(request)
        report = import_into(store, dataset, uploaded(file), columns, author=by, licence=licence)
        return {"added": report.added, "left_out": [asdict(row) for row in report.rejected]}

    def freeze_snapshot(request: gr.Request, dataset: str) -> dict[str, Any]:
        """Freeze a dataset; `is_new` is false when nothing changed since the newest snapshot."""
        taken = take_snapshot(store, workspace.path, store.dataset(dataset), author=user_of(request))
        return {"snapshot": str(taken.snapshot.ref), "rows": taken.snapshot.rows, "is_new": taken.is_new}

    for fn in (dataset_page, save_record, import_records, freeze_snapshot):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


# -- words and small parts -----------------------------------------------------------------------------------

_Mode = Literal["records", "empty", "import"]


def _frame_for(mode: _Mode) -> list[Any]:
    """The mode, and what is there in it: Add record, Import, Take snapshot, empty state, records, import card."""
    is_there = mode == "records"
    buttons = [gr.Button(visible=is_there) for _ in range(3)]
    blocks = [gr.Column(visible=mode == "empty"), gr.Row(visible=is_there), gr.Column(visible=mode == "import")]
    return [mode, *buttons, *blocks]


def _filter(text: str | None, category: str | None, split: str | None) -> RecordFilter:
    return RecordFilter((text or "").strip(), category or "", split or "")


def _whole(number: float | None, otherwise: int = 1) -> int:
    return int(number) if number else otherwise


def _sheet(page: Page, where: RecordFilter, current: int) -> list[Any]:
    """The table of a page and the pager under it, in the order of `_Browser.sheet`."""
    rows = [(r.id, _row(r)) for r in page.records]
    widths = ("52px", "", "", "116px", "84px")
    head = ("No.", "Instruction", "Response", "Category", "Split")
    if rows:
        listed = rows_to_pick("Records", head, rows, current=current, widths=widths)
    else:
        listed = f'<p class="nothing">{_NOTHING_FOUND if where != RecordFilter() else _NOTHING_YET}</p>'
    is_first, is_last = page.number == 1, page.number == page.pages
    words = f"{page.first:,}–{page.last:,} of {page.total:,}" if page.total else "0 records"
    buttons = [gr.Button(interactive=not off) for off in (is_first, is_first, is_last, is_last)]
    return [f'<div class="records">{listed}</div>', f'<span aria-live="polite">{words}</span>', page.number, *buttons]


_NOTHING_FOUND = "No record matches. Take a word out of the search, or choose all categories and splits."
_NOTHING_YET = "This dataset has no records yet. Import a file, or add one."


def _row(record: Record) -> tuple[str, ...]:
    return (
        str(record.id),
        _clamped(record.instruction),
        _clamped(record.response),
        html.escape(_words(record.category)),
        record.split,
    )


def _clamped(text: str) -> str:
    """At most two lines of it (style.css), and no more letters than can be in them."""
    cut = text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS].rstrip()}…"
    return f'<span class="clamp">{html.escape(cut)}</span>'


def _words(category: str) -> str:
    """open_qa -> Open QA. A category of somebody's own stays as it was written."""
    if category not in CATEGORIES:
        return category
    words = category.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}".replace(" qa", " QA")


def _heading(words: str) -> str:
    return f'<h2 class="section-title">{html.escape(words)}</h2>'


def _size(snapshot: Snapshot) -> str:
    return f"{snapshot.rows:,} record{'' if snapshot.rows == 1 else 's'}, {_day(snapshot.created_at)}"


def _day(at: float) -> str:
    return time.strftime("%d %b", time.localtime(at)).lstrip("0")


def _at(at: float) -> str:
    return f"{_day(at)} {time.strftime('%Y, %H:%M', time.localtime(at))}"


def _when(at: float) -> str:
    """12:04 for today, the day as well for earlier ones."""
    is_today = time.strftime("%x", time.localtime(at)) == time.strftime("%x")
    return time.strftime("%H:%M", time.localtime(at)) if is_today else _at(at)
