"""The page Records: which records of the open dataset, a page of them at a time, and one of them open in the form.

Every look is a query of one page; a million records never come near the browser. What the page itself keeps are ids: of
the open record, of the rows in the table, and of those that are ticked.
"""

from __future__ import annotations

import html
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import gradio as gr

from components.dataset.beside import build_beside
from components.dataset.bulk import ALL, BulkBar, View
from components.dataset.filters import FilterBar, check_words
from components.dataset.record import RecordForm, build_form
from components.dataset.shared import Shared, asked
from components.dataset.words import category_words, clamped, count
from components.frame import Refresh, TabWidgets, chip, handler, markup, notice, untouched, user_of
from components.picking import picked, pressable, rows_to_pick
from components.theme import ASSETS
from studio.errors import StudioError
from studio.instructions import Page, neighbour, page_of
from studio.instructions.datasets import beside_on_page, keep_filter, page_with
from studio.instructions.editing import review_in_passing
from studio.store import Dataset, Edit, FlagRow, Record, RecordFilter

__all__ = ["RecordsPage", "build"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_LONG_UNDO = 5000  # records: it takes a second or more, so it is said beforehand
_NOTES_SHOWN = 6


@dataclass(frozen=True)
class _Browser:
    """The table, its filters and its pages."""

    chosen: gr.Textbox
    shown: gr.Textbox
    seen: gr.Textbox
    filters: FilterBar
    naming: _Naming
    bulk: BulkBar
    rows: gr.HTML
    listed: gr.Textbox
    range: gr.HTML
    page: gr.Number
    first: gr.Button
    previous: gr.Button
    next: gr.Button
    last: gr.Button
    strokes: gr.HTML

    @property
    def sheet(self) -> list[Any]:
        """Outputs of `_Page.sheet`."""
        buttons = (self.first, self.previous, self.next, self.last)
        return [self.rows, self.range, self.page, *buttons, self.filters.told, self.strokes, self.listed]


@dataclass(frozen=True)
class _Naming:
    """Where a filter gets its name before it is saved."""

    row: gr.Row
    name: gr.Textbox
    save: gr.Button
    away: gr.Button


@dataclass(frozen=True, kw_only=True)
class RecordsPage(TabWidgets):
    """`form.leave` with the values of `form.typed` is to be called before another dataset is opened."""

    form: RecordForm
    add: gr.Button


def build(shared: Shared, add: gr.Button) -> RecordsPage:
    """Lay out the page and wire it. `add` is the button of the tab's header that starts a new record."""
    with gr.Row(elem_classes=["columns", "dataset-columns"]):
        browser = _lay_out(shared)
        with gr.Column(scale=0, min_width=344, elem_classes=["record-column"]):
            form = build_form(shared)
            build_beside(shared, form)
    with gr.Row(elem_classes=["off-screen"]):
        asked_record = gr.Textbox("", label="Record asked for", visible="hidden")
    page = _Page(shared, browser, form)
    _wire(page, add)

    def refresh(request: gr.Request, asked_record: str, shown: str, seen: str, *now: Any) -> list[Any]:
        try:
            return page.again(user_of(request), asked_record, shown, seen, now)
        except StudioError:
            return untouched(page.outputs)

    return RecordsPage(
        refresh=Refresh(refresh, [asked_record, browser.shown, browser.seen, *page.now], page.outputs),
        links={"record": asked_record},
        form=form,
        add=add,
    )


def _lay_out(shared: Shared) -> _Browser:
    with gr.Column(scale=1, min_width=420, elem_classes=["sheet"]):
        filters = FilterBar(shared.workspace.store)
        with gr.Row(visible=False, elem_classes=["naming"]) as row:
            name = gr.Textbox(
                label="Name of the filter", placeholder="Name of the filter", show_label=False, container=False,
                lines=1, max_lines=1, min_width=160, scale=1,
            )  # fmt: skip
            keep = gr.Button("Save filter", size="sm", min_width=0, scale=0)
            away = gr.Button("Do not save", size="sm", min_width=0, scale=0)
        bulk = BulkBar(shared)
        rows = gr.HTML(
            "",
            label="Records",
            elem_id="records",
            js_on_load=(ASSETS / "records.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            padding=False,
        )
        with gr.Row(elem_classes=["pager"]):
            strokes = pressable("Undo and redo", ["undo", "redo"], elem_id="strokes", elem_classes=["apart"])
            first = gr.Button("First", size="sm", min_width=0, scale=0)
            previous = gr.Button("Previous", size="sm", min_width=0, scale=0)
            range_shown = markup()
            following = gr.Button("Next", size="sm", min_width=0, scale=0)
            last = gr.Button("Last", size="sm", min_width=0, scale=0)
    with gr.Row(elem_classes=["off-screen"]):
        shown = gr.Textbox("", label="Dataset in the table", visible="hidden")
        seen = gr.Textbox("", label="Change in the table", visible="hidden")
        listed = gr.Textbox("", label="Records in the table", visible="hidden")
        page = gr.Number(1, label="Page", precision=0, visible="hidden")
    return _Browser(
        shared.chosen, shown, seen, filters, _Naming(row, name, keep, away), bulk, rows, listed, range_shown, page,
        first, previous, following, last, strokes,
    )  # fmt: skip


class _Page:
    """What the handlers of this page share: the store, and which widgets they read and write."""

    def __init__(self, shared: Shared, browser: _Browser, form: RecordForm) -> None:
        self.store, self.shared = shared.workspace.store, shared
        self.browser, self.form = browser, form

    @property
    def outputs(self) -> list[Any]:
        b = self.browser
        return [b.shown, b.seen, *b.filters.widgets, *b.sheet, b.bulk.ticked, *self.form.shown]

    @property
    def now(self) -> list[Any]:
        """Inputs of most handlers here; `read` makes a `View` of their values."""
        b = self.browser
        return [b.chosen, *b.filters.widgets, b.page, self.form.record, b.listed, *self.form.typed]

    def read(self, now: Sequence[Any]) -> View:
        many = len(self.browser.filters.widgets)
        name, filters, (number, record, listed, *typed) = now[0], now[1 : 1 + many], now[1 + many :]
        where, order = self.browser.filters.read(filters)
        return View(str(name), where, order, _whole(number), _whole(record, 0), _ids(listed), tuple(typed))

    def left(self, view: View, request: gr.Request) -> Dataset:
        """The open dataset, when nothing that was typed would get lost."""
        self.form.leave(view.name, user_of(request), view.typed)
        return self.store.dataset(view.name)

    # -- which dataset, which page -----------------------------------------------------------------------------

    def again(self, author: str, asked_record: str, shown: str, seen: str, now: Sequence[Any]) -> list[Any]:
        """All of the page as the database has it now; what somebody is typing stays."""
        view = self.read(now)
        if not view.name:
            return untouched(self.outputs)
        dataset = self.store.dataset(view.name)
        if view.name != shown:
            record = self.store.record(int(asked_record)) if asked_record.isdecimal() and not shown else None
            return self.opened(author, dataset, record if record and record.dataset_id == dataset.id else None)
        if seen == str(dataset.change):
            return untouched(self.outputs)
        filters = untouched(self.browser.filters.widgets)
        filters[1] = gr.Dropdown(choices=self.browser.filters.categories(dataset, view.where))
        sheet = self.sheet(author, dataset, view)
        return [view.name, str(dataset.change), *filters, *sheet, gr.skip(), *untouched(self.form.shown)]

    def opened(
        self,
        author: str,
        dataset: Dataset,
        record: Record | None = None,
        where: RecordFilter | None = None,
    ) -> list[Any]:
        """A dataset with a record of it in the form, or from its start: unfiltered, or as another page asked for."""
        where = where or RecordFilter()
        number = page_with(self.store, record) if record else 1
        page = page_of(self.store, dataset, where, number)
        record = record or next(iter(page.records), None)
        form = self.form.show(record) if record else self.form.blank(dataset.name)
        view = View(dataset.name, where, "oldest", page.number, record.id if record else 0)
        sheet = self.sheet(author, dataset, view, page)
        filters = self.browser.filters.write(dataset, where)
        return [dataset.name, str(dataset.change), *filters, *sheet, "", *form]

    def show_asked(self, told: str, request: gr.Request, *now: Any) -> list[Any]:
        """Another page wants certain records looked at."""
        if not told:
            return untouched(self.outputs)
        dataset = self.left(self.read(now), request)
        return self.opened(user_of(request), dataset, where=asked(told))

    def show(self, request: gr.Request, *now: Any) -> list[Any]:
        view = self.read(now)
        return self.sheet(user_of(request), self.store.dataset(view.name), view)

    def show_filtered(self, request: gr.Request, ticked: str, *now: Any) -> list[Any]:
        """From the first page. Ticks stay, but "all that match" were others."""
        view = replace(self.read(now), number=1)
        sheet = self.sheet(user_of(request), self.store.dataset(view.name), view)
        return [*sheet, "" if ticked == ALL else gr.skip()]

    def show_saved(self, saved: str, request: gr.Request, *now: Any) -> list[Any]:
        """Something was stored. Where a record was taken away, the one that stands in its place is opened: the form goes
        on to the next of all, which need not be among those shown."""
        view = self.read(now)
        form = untouched(self.form.shown)
        way, _, rest = saved.partition(".")
        if way == "removed":
            gone = _whole(float(rest.partition(".")[0] or 0), 0)
            following = self._instead_of(gone, view)
            if following and following.id != view.record:
                form = self.form.show(following, notice(f"Record {gone} is removed. Undo brings it back.", "good"))
                view = replace(view, record=following.id)
        elif view.record and not self.store.some_records([view.record]):
            form = self.form_now(view)
        return [*self.sheet(user_of(request), self.store.dataset(view.name), view), *form]

    def form_now(self, view: View) -> list[Any]:
        """The open record as it is now, or the one that stands in its place when it is gone."""
        found = self.store.some_records([view.record]) if view.record else []
        record = found[0] if found else self._instead_of(view.record, view)
        return self.form.show(record) if record else self.form.blank(view.name)

    def _instead_of(self, gone: int, view: View) -> Record | None:
        """What stands now where a record stood in the table."""
        page = page_of(self.store, self.store.dataset(view.name), view.where, view.number, view.order)
        place = view.listed.index(gone) if gone in view.listed else 0
        return next(iter(page.records[place:][:1] or page.records[-1:]), None)

    # -- filters -------------------------------------------------------------------------------------------------

    def refilter(
        self,
        change: Callable[[RecordFilter, str], RecordFilter],
        event: gr.EventData,
        request: gr.Request,
        ticked: str,
        *now: Any,
    ) -> list[Any]:
        view = self.read(now)
        view = replace(view, where=change(view.where, picked(event)), number=1)
        dataset = self.store.dataset(view.name)
        filters = self.browser.filters.write(dataset, view.where, view.order)
        naming = gr.Row(visible=False) if view.where == RecordFilter() else gr.skip()
        return [*filters, *self.sheet(user_of(request), dataset, view), "" if ticked == ALL else gr.skip(), naming]

    def offer(self, *now: Any) -> list[Any]:
        """What the lists under "More filters" offer."""
        view = self.read(now)
        return self.browser.filters.choices(self.store.dataset(view.name), view.where)

    def keep(self, request: gr.Request, name: str, *now: Any) -> list[Any]:
        view = self.read(now)
        saved = keep_filter(self.store, self.store.dataset(view.name), name, view.where, author=user_of(request))
        return [gr.Row(visible=False), "", notice(f"The filter '{saved.name}' is on the shelf.", "good"), stamp()]

    # -- one record ----------------------------------------------------------------------------------------------

    def open_record(self, event: gr.EventData, request: gr.Request, *now: Any) -> list[Any]:
        self.left(self.read(now), request)
        return self.form.show(self.store.record(int(picked(event) or 0)))

    def step(self, by: Literal[-1, 1], request: gr.Request, *now: Any) -> list[Any]:
        view = self.read(now)
        dataset = self.left(view, request)
        if not view.record:  # from a new record: to the first of those shown
            return [*untouched(self.browser.sheet), *self.form_now(view)]
        there, beside = view.number, beside_on_page(self.store, view.listed, view.record, by)
        if beside is None:
            there, beside = neighbour(self.store, view.where, view.record, by, view.order)
        if there == view.number and beside.id in view.listed:
            return [*untouched(self.browser.sheet), *self.form.show(beside)]
        turned = replace(view, number=there, record=beside.id)
        return [*self.sheet(user_of(request), dataset, turned), *self.form.show(beside)]

    def move(self, event: gr.EventData, request: gr.Request, *now: Any) -> list[Any]:
        return self.step(-1 if picked(event) == "-1" else 1, request, *now)

    def judge(self, event: gr.EventData, request: gr.Request, *now: Any) -> list[Any]:
        """A decision by one key, and on to the next record."""
        view = self.read(now)
        self.left(view, request)
        record = self.store.record(view.record)
        following = review_in_passing(
            self.store,
            record,
            picked(event),
            view.where,
            view.order,
            author=user_of(request),
            shown=(view.number, view.listed),
        )
        if following is None:
            gr.Info("That was the last record of those shown.", duration=4)
            return [view.number, *self.form.show(self.store.record(view.record)), stamp()]
        number, record = following
        return [number, *self.form.show(record), stamp()]

    def new(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        self.form.leave(name, user_of(request), typed)
        return self.form.blank(name)

    def take_back(self, way: Literal["undo", "redo"], request: gr.Request, *now: Any) -> list[Any]:
        """Undo or redo the person's last stroke in the dataset, and show what is there then."""
        view = self.read(now)
        dataset, by = self.left(view, request), user_of(request)
        coming = (self.store.next_undo if way == "undo" else self.store.next_redo)(dataset.id, by)
        if coming and coming.records > _LONG_UNDO:
            gr.Info(f"{count(coming.records)} are being changed back.", duration=4)
        edit = (self.store.undo if way == "undo" else self.store.redo)(dataset.id, author=by)
        said = f"{'Undone' if way == 'undo' else 'Done again'}: {_named(edit)}."
        return [*self.form_now(view), notice(said), stamp()]

    # -- the table -----------------------------------------------------------------------------------------------

    def sheet(self, author: str, dataset: Dataset, view: View, page: Page | None = None) -> list[Any]:
        """The table of a page and what stands around it, in the order of `_Browser.sheet`."""
        page = page or page_of(self.store, dataset, view.where, view.number, view.order)
        is_first = page.number == 1
        buttons = [gr.Button(interactive=not off) for off in (is_first, is_first, page.is_last, page.is_last)]
        ids = [record.id for record in page.records]
        return [
            _table(page, self.store.flags_of(ids), view),
            f'<span aria-live="polite">{_range(page)}</span>',
            page.number,
            *buttons,
            self.browser.filters.in_force(view.where),
            _strokes(self.store.next_undo(dataset.id, author), self.store.next_redo(dataset.id, author)),
            " ".join(map(str, ids)),
        ]


# -- wiring --------------------------------------------------------------------------------------------------


def _wire(page: _Page, add: gr.Button) -> None:
    b, form, now = page.browser, page.form, page.now
    _wire_filters(page)
    turns = {b.first: "1", b.previous: "page - 1", b.next: "page + 1", b.last: "1e9"}
    place = now.index(b.page)
    for button, to in turns.items():
        button.click(
            handler(page.show),
            now,
            b.sheet,
            js=f"(...now) => {{ const page = now[{place}]; now[{place}] = {to}; return now; }}",
            api_name=f"turn_to_{button.value.lower()}",
            **_QUIET,
        )
    form.record.change(None, form.record, None, js=_OPENED, api_visibility="private")
    b.bulk.ticked.change(None, None, None, js=_TICKED, trigger_mode="multiple", api_visibility="private")
    b.rows.pick(handler(page.open_record), now, form.shown, trigger_mode="always_last", **_QUIET)
    b.rows.move(handler(page.move), now, [*b.sheet, *form.shown], api_name="move_by_key", **_QUIET)
    b.rows.judge(handler(page.judge), now, [b.page, *form.shown, form.saved], api_name="judge_by_key", **_QUIET)
    steps: tuple[tuple[gr.Button, Literal[-1, 1], str], ...] = ((form.back, -1, "back"), (form.forth, 1, "forth"))
    for button, by, name in steps:
        button.click(handler(partial(page.step, by)), now, [*b.sheet, *form.shown], api_name=f"step_{name}", **_QUIET)
    # A second press while one is on its way is dropped: it would be about a record that is being changed back.
    ways: tuple[tuple[Any, Literal["undo", "redo"]], ...] = ((b.strokes.undo, "undo"), (b.strokes.redo, "redo"))
    for pressed, way in ways:
        pressed(
            handler(partial(page.take_back, way)),
            now,
            [*form.shown, page.shared.said, form.saved],
            api_name=f"{way}_stroke",
            **_QUIET,
        )
    form.saved.change(
        handler(page.show_saved), [form.saved, *now], [*b.sheet, *form.shown], api_name="show_saved", **_QUIET
    )
    add.click(handler(page.new), [b.chosen, *form.typed], form.shown, **_QUIET)
    page.shared.show.change(handler(page.show_asked), [page.shared.show, *now], page.outputs, **_QUIET)
    b.bulk.wire(page.read, page.form_now, form, now)


def _wire_filters(page: _Page) -> None:
    b, filters, now = page.browser, page.browser.filters, page.now
    gr.on(
        filters.touched,
        handler(page.show_filtered),
        [b.bulk.ticked, *now],
        [*b.sheet, b.bulk.ticked],
        trigger_mode="always_last",  # while somebody types, one question at a time is on its way
        api_name="filter_records",
        **_QUIET,
    )
    changes: tuple[tuple[Any, str, Callable[[RecordFilter, str], RecordFilter]], ...] = (
        (filters.told.drop, "drop_filter", filters.without),
        (filters.told.clear, "clear_filters", lambda where, _: RecordFilter()),
    )
    for pressed, name, change in changes:
        pressed(
            handler(partial(page.refilter, change)),
            [b.bulk.ticked, *now],
            [*filters.widgets, *b.sheet, b.bulk.ticked, b.naming.row],
            api_name=name,
            **_QUIET,
        )
    b.rows.seek(  # Gradio's own event for typing does not tell of a deletion or of what was pasted (assets/records.js)
        handler(page.show_filtered),
        [b.bulk.ticked, *now],
        [*b.sheet, b.bulk.ticked],
        trigger_mode="always_last",
        api_name="filter_typed",
        **_QUIET,
    )
    filters.more.expand(handler(page.offer), now, filters.listed, api_name="offer_filters", **_QUIET)
    naming = b.naming
    filters.told.keep(handler(lambda: gr.Row(visible=True)), None, naming.row, queue=False, **_QUIET)
    naming.away.click(handler(lambda: gr.Row(visible=False)), None, naming.row, queue=False, **_QUIET)
    gr.on(
        [naming.save.click, naming.name.submit],
        handler(page.keep),
        [naming.name, *now],
        [naming.row, naming.name, page.shared.said, page.form.saved],
        api_name="keep_filter",
        **_QUIET,
    )


# The list of rows marks the open one (assets/records.js), also when it is drawn anew.
_OPENED = "(key) => document.querySelector('#records')?.dispatchEvent(new CustomEvent('opened', { detail: String(key ?? '') }))"
_TICKED = "() => document.querySelector('#records')?.dispatchEvent(new Event('ticked'))"


# -- words and small parts -----------------------------------------------------------------------------------


def stamp() -> str:
    """For `RecordForm.saved`: records changed, so whatever shows them looks again."""
    return f"changed.{time.monotonic_ns()}"


def _whole(number: float | None, otherwise: int = 1) -> int:
    return int(number) if number else otherwise


def _ids(listed: str | None) -> tuple[int, ...]:
    return tuple(int(key) for key in (listed or "").split() if key.isdecimal())


def _table(page: Page, flags: dict[int, list[FlagRow]], view: View) -> str:
    if not page.records:
        nothing = _NOTHING_YET if view.where == RecordFilter() else _NOTHING_FOUND
        return f'<div class="records"><p class="nothing">{nothing}</p></div>'
    rows = [(r.id, _row(r, flags.get(r.id, []))) for r in page.records]
    head = ("No.", "Instruction", "Response", "Category", "Flags", "State")
    listed = rows_to_pick("Records", head, rows, current=view.record, widths=_WIDTHS, can_tick=True)
    # The same page drawn anew stays where it was scrolled to.
    same = zlib.crc32(f"{view.name} {view.where} {view.order} {page.number}".encode())
    return f'<div class="records" data-page="{same:x}">{listed}</div>'


_WIDTHS = ("56px", "", "", "104px", "62px", "82px")
_NOTHING_FOUND = "No record matches. Take a word out of the search, or one of the filters."
_NOTHING_YET = "This dataset has no records yet. Import a file, or add one."


def _range(page: Page) -> str:
    if not page.total:
        return "0 records"
    return f"{page.first:,}–{page.last:,} of {page.total_words}"


def _row(record: Record, flags: Sequence[FlagRow]) -> tuple[str, ...]:
    return (
        str(record.id),
        clamped(record.instruction),
        clamped(record.response),
        html.escape(category_words(record.category)),
        _flag_chip(flags),
        _STATES.get(record.state, html.escape(record.state)),
    )


_STATES = {
    "draft": '<span class="quiet">Draft</span>',
    "approved": chip("Approved", "good"),
    "rejected": chip("Rejected", "bad"),
}


def _flag_chip(flags: Sequence[FlagRow]) -> str:
    """How many checks found something; which and why is its tooltip."""
    if not flags:
        return ""
    notes = list(dict.fromkeys(f"{check_words(flag.check)}: {flag.note}" for flag in flags))
    more = [f"and {len(notes) - _NOTES_SHOWN} more"] if len(notes) > _NOTES_SHOWN else []
    many = len({flag.check for flag in flags})
    return chip(count(many, "flag"), "caution", "\n".join([*notes[:_NOTES_SHOWN], *more]))


def _strokes(undo: Edit | None, redo: Edit | None) -> str:
    """HTML: Undo and Redo, which say what they would take back, and the keys."""
    return f'<div class="strokes">{_stroke("undo", undo)}{_stroke("redo", redo)}{_KEYS}</div>'


def _stroke(way: Literal["undo", "redo"], edit: Edit | None) -> str:
    words, key = ("Undo", "Ctrl+Z") if way == "undo" else ("Redo", "Ctrl+Shift+Z")
    if edit is None:
        return f'<button type="button" data-do="{way}" title="There is nothing to {way}" disabled>{words}</button>'
    title = html.escape(f"{words}: {_named(edit)} ({key})", quote=True)
    return f'<button type="button" data-do="{way}" title="{title}" aria-label="{title}">{words}</button>'


def _named(edit: Edit) -> str:
    is_told = f"{edit.records:,}" in edit.title or edit.records == 1
    return edit.title if is_told else f"{edit.title} ({count(edit.records)})"


_KEY_WORDS = (
    (("J", "↓"), "next record"),
    (("K", "↑"), "previous record"),
    (("A",), "approve, and on to the next"),
    (("R",), "reject, and on to the next"),
    (("D",), "back to draft, and on to the next"),
    (("X",), "tick the row"),
    (("Shift", "click"), "tick all rows up to here"),
    (("/",), "search"),
    (("Ctrl", "Z"), "undo"),
    (("Ctrl", "Shift", "Z"), "redo"),
)
_KEYS = (
    '<button type="button" popovertarget="record-keys" title="What can be done with keys">Keys</button>'
    '<div id="record-keys" popover aria-label="Keys"><dl>'
    + "".join(
        f"<dt>{' '.join(f'<kbd>{html.escape(key)}</kbd>' for key in keys)}</dt><dd>{words}</dd>"
        for keys, words in _KEY_WORDS
    )
    + "</dl></div>"
)
