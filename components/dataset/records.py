"""The page Records: which records of the open dataset, a page of them at a time, and one of them open in the form."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import gradio as gr

from components.dataset.record import RecordForm, build_form
from components.dataset.shared import Shared, asked
from components.dataset.words import category_words, clamped
from components.frame import Refresh, TabWidgets, handler, live_dropdown, markup, untouched, user_of
from components.picking import mark_row, pick_list, picked, rows_to_pick
from studio.errors import StudioError
from studio.instructions import Page, neighbour, page_of
from studio.store import Dataset, Record, RecordFilter

__all__ = ["RecordsPage", "build"]

_SPLITS = ("train", "validation", "test")
_ALL_CATEGORIES, _ALL_SPLITS = "All categories", "All splits"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class _Browser:
    """The table, its filters and its pages."""

    chosen: gr.Textbox
    shown: gr.Textbox
    search: gr.Textbox
    category: gr.Dropdown
    split: gr.Dropdown
    ids: gr.Textbox
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
    def filters(self) -> list[Any]:
        """Widgets that together are the filter, in the order of `_filter`."""
        return [self.search, self.category, self.split, self.ids]

    @property
    def sheet(self) -> list[Any]:
        """Outputs of `_sheet`."""
        return [self.rows, self.range, self.page, self.first, self.previous, self.next, self.last]


@dataclass(frozen=True, kw_only=True)
class RecordsPage(TabWidgets):
    """`form.leave` with the values of `form.typed` is to be called before another dataset is opened."""

    form: RecordForm
    add: gr.Button


def build(shared: Shared, add: gr.Button) -> RecordsPage:
    """Lay out the page and wire it. `add` is the button of the tab's header that starts a new record."""
    with gr.Row(elem_classes=["columns", "dataset-columns"]):
        browser = _lay_out(shared)
        form = build_form(shared)
    asked_record = gr.Textbox("", label="Record asked for", visible="hidden")
    page = _Page(shared, browser, form)
    _wire(page, add)

    def refresh(asked_record: str, name: str, shown: str, *now: Any) -> list[Any]:
        try:
            return page.again(asked_record, name, shown, *now)
        except StudioError:
            return untouched(page.outputs)

    return RecordsPage(
        refresh=Refresh(
            refresh,
            [asked_record, browser.chosen, browser.shown, *browser.filters, browser.page, form.record],
            page.outputs,
        ),
        links={"record": asked_record},
        form=form,
        add=add,
    )


def _lay_out(shared: Shared) -> _Browser:
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
            range_shown = markup()
            following = gr.Button("Next", size="sm", min_width=0, scale=0)
            last = gr.Button("Last", size="sm", min_width=0, scale=0)
    with gr.Row(elem_classes=["off-screen"]):
        shown = gr.Textbox("", label="Dataset in the table", visible="hidden")
        ids = gr.Textbox("", label="Only these records", visible="hidden")
        page = gr.Number(1, label="Page", precision=0, visible="hidden")
    return _Browser(
        shared.chosen, shown, search, category, split, ids, rows, range_shown, page,
        first, previous, following, last, undo, redo,
    )  # fmt: skip


class _Page:
    """What the handlers of this page share: the store, and which widgets they read and write."""

    def __init__(self, shared: Shared, browser: _Browser, form: RecordForm) -> None:
        self.store, self.shared = shared.workspace.store, shared
        self.browser, self.form = browser, form

    @property
    def outputs(self) -> list[Any]:
        b = self.browser
        return [b.shown, *b.filters, *b.sheet, *self.form.shown]

    @property
    def now(self) -> list[Any]:
        """Inputs of every handler here: dataset, filter, page, and the form; `_Now` reads them."""
        b = self.browser
        return [b.chosen, *b.filters, b.page, *self.form.typed]

    # -- which dataset, which page -----------------------------------------------------------------------------

    def again(self, asked_record: str, name: str, shown: str, *now: Any) -> list[Any]:
        """All of the page as the database has it now; what somebody is typing stays."""
        if not name:
            return untouched(self.outputs)
        dataset = self.store.dataset(name)
        if name != shown:
            record = self.store.record(int(asked_record)) if asked_record.isdecimal() and not shown else None
            return self.opened(dataset, record if record and record.dataset_id == dataset.id else None)
        *filters, number, record_id = now
        where = _filter(*filters)
        sheet = _sheet(page_of(self.store, dataset, where, _whole(number)), where, _whole(record_id, 0))
        shown_filters = [gr.skip(), self._categories(dataset, where.category or ""), gr.skip(), gr.skip()]
        return [name, *shown_filters, *sheet, *untouched(self.form.shown)]

    def opened(self, dataset: Dataset, record: Record | None = None, where: RecordFilter | None = None) -> list[Any]:
        """A dataset from its start, with a record of it in the form: unfiltered, or as another page asked for."""
        where = where or RecordFilter()
        page = page_of(self.store, dataset, where)
        record = record or next(iter(page.records), None)
        form = self.form.show(record) if record else self.form.blank(dataset.name)
        sheet = _sheet(page, where, record.id if record else 0)
        filters = [
            where.text,
            self._categories(dataset, where.category or ""),
            where.split,
            " ".join(map(str, where.ids)),
        ]
        return [dataset.name, *filters, *sheet, *form]

    def show_asked(self, told: str, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        """Another page wants certain records looked at."""
        if not told:
            return untouched(self.outputs)
        self.form.leave(name, user_of(request), typed)
        return self.opened(self.store.dataset(name), where=asked(told))

    def show(self, name: str, *now: Any) -> list[Any]:
        *filters, number, record = now
        where = _filter(*filters)
        return _sheet(page_of(self.store, self.store.dataset(name), where, _whole(number)), where, _whole(record, 0))

    def _categories(self, dataset: Dataset, current: str) -> gr.Dropdown:
        counts = self.store.categories(dataset.id)
        choices = [(f"{category_words(c)} ({n:,})", c) for c, n in counts.items() if c]
        return gr.Dropdown(choices=[(_ALL_CATEGORIES, ""), *choices], value=current if current in counts else "")

    # -- one record ----------------------------------------------------------------------------------------------

    def open_record(self, event: gr.EventData, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        self.form.leave(name, user_of(request), typed)
        return self.form.show(self.store.record(int(picked(event) or 0)))

    def step(self, by: Literal[-1, 1], request: gr.Request, *now: Any) -> list[Any]:
        name, where, number, typed = self._read(now)
        self.form.leave(name, user_of(request), typed)
        dataset, record = self.store.dataset(name), typed[0]
        if not record:  # from a new record: to the first of those shown
            first = next(iter(page_of(self.store, dataset, where, number).records), None)
            return [*untouched(self.browser.sheet), *(self.form.show(first) if first else self.form.blank(name))]
        there, beside = neighbour(self.store, where, _whole(record), by)
        if there == number:
            return [*untouched(self.browser.sheet), *self.form.show(beside)]
        return [*_sheet(page_of(self.store, dataset, where, there), where, beside.id), *self.form.show(beside)]

    def new(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        self.form.leave(name, user_of(request), typed)
        return self.form.blank(name)

    def take_back(self, way: Literal["undo", "redo"], request: gr.Request, *now: Any) -> list[Any]:
        """Undo or redo the person's last stroke in the dataset, and show what is there then."""
        name, where, number, typed = self._read(now)
        self.form.leave(name, user_of(request), typed)
        dataset, by, record = self.store.dataset(name), user_of(request), typed[0]
        edit = (self.store.undo if way == "undo" else self.store.redo)(dataset.id, author=by)
        many = f" ({edit.records:,} records)" if edit.records > 1 else ""
        gr.Success(f"{'Undone' if way == 'undo' else 'Done again'}: {edit.title}{many}.", duration=4)
        page = page_of(self.store, dataset, where, number)
        found = self.store.some_records([_whole(record)]) if record else []
        shown = found[0] if found else next(iter(page.records), None)
        form = self.form.show(shown) if shown else self.form.blank(name)
        return [*_sheet(page, where, shown.id if shown else 0), *form]

    def _read(self, now: Sequence[Any]) -> tuple[str, RecordFilter, int, Sequence[Any]]:
        """The values of `now`: dataset, filter, page number, and what is in the form."""
        many = len(self.browser.filters)
        name, filters, number = now[0], now[1 : 1 + many], now[1 + many]
        return name, _filter(*filters), _whole(number), now[2 + many :]


# -- wiring --------------------------------------------------------------------------------------------------


def _wire(page: _Page, add: gr.Button) -> None:
    b, form = page.browser, page.form
    gr.on(
        [b.search.input, b.search.submit, b.category.input, b.split.input],
        handler(lambda name, *now: page.show(name, *now[:-1], 1, now[-1])),
        [b.chosen, *b.filters, form.record],
        b.sheet,
        trigger_mode="always_last",  # while somebody types, one question at a time is on its way
        api_name="filter_records",
        **_QUIET,
    )
    from_here = [b.chosen, *b.filters, b.page, form.record]
    turns = {b.first: "1", b.previous: "page - 1", b.next: "page + 1", b.last: "1e9"}
    for button, to in turns.items():
        button.click(
            handler(page.show),
            from_here,
            b.sheet,
            js=f"(...now) => {{ const page = now.at(-2); now[now.length - 2] = {to}; return now; }}",
            api_name=f"turn_to_{button.value.lower()}",
            **_QUIET,
        )
    form.record.change(None, form.record, None, js=mark_row("records"), api_visibility="private")
    b.rows.pick(handler(page.open_record), [b.chosen, *form.typed], form.shown, trigger_mode="always_last", **_QUIET)
    steps: tuple[tuple[gr.Button, Literal[-1, 1], str], ...] = ((form.back, -1, "back"), (form.forth, 1, "forth"))
    for button, by, name in steps:
        button.click(
            handler(partial(page.step, by)), page.now, [*b.sheet, *form.shown], api_name=f"step_{name}", **_QUIET
        )
    ways: tuple[tuple[gr.Button, Literal["undo", "redo"]], ...] = ((b.undo, "undo"), (b.redo, "redo"))
    for button, way in ways:
        button.click(
            handler(partial(page.take_back, way)),
            page.now,
            [*b.sheet, *form.shown],
            api_name=f"{way}_stroke",
            **_QUIET,
        )
    form.saved.change(handler(page.show), from_here, b.sheet, api_name="show_saved", **_QUIET)
    add.click(handler(page.new), [b.chosen, *form.typed], form.shown, **_QUIET)
    page.shared.show.change(handler(page.show_asked), [page.shared.show, b.chosen, *form.typed], page.outputs, **_QUIET)


# -- words and small parts -----------------------------------------------------------------------------------


def _filter(text: str | None, category: str | None, split: str | None, ids: str | None) -> RecordFilter:
    chosen = tuple(int(key) for key in (ids or "").split() if key.isdecimal())
    return RecordFilter((text or "").strip(), category or "", split or "", ids=chosen)


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
        clamped(record.instruction),
        clamped(record.response),
        html.escape(category_words(record.category)),
        record.split,
    )
