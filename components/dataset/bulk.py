"""What is done to many records at once: those that are ticked, or all that match. Every stroke can be undone.

Above a thousand records it is asked twice; above `AT_ONCE` it is a job, so that nobody waits in front of the page.
"""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.dataset.record import RecordForm
from components.dataset.shared import Shared
from components.dataset.words import category_words, count
from components.frame import actions, handler, live_dropdown, markup, notice, untouched, user_of
from components.picking import pressable, rows_to_read
from studio.errors import InputError, StudioError
from studio.instructions import CATEGORIES, FIELDS
from studio.instructions.change_task import ChangeRecords
from studio.instructions.datasets import COUNTED
from studio.instructions.editing import (
    ASK_ABOVE,
    AT_ONCE,
    Proposal,
    Replacement,
    Stroke,
    Verb,
    do_stroke,
    preview_replacement,
)
from studio.prompts import Piece, word_diff
from studio.store import Dataset, Edit, Order, RecordFilter

__all__ = ["ALL", "BulkBar", "View"]

ALL = "all"  # in the box of ticks: not these ids, but whatever the filter leaves

_CATEGORIES_SHOWN = 200
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_HOW = (("Ignore case", "ignores_case"), ("Whole words", "whole_words"), ("Pattern (regular expression)", "is_pattern"))
_VERBS: tuple[tuple[Verb, str], ...] = (
    ("approve", "Approve"),
    ("reject", "Reject"),
    ("draft", "Back to draft"),
    ("duplicate", "Duplicate"),
    ("remove", "Remove"),
)
_TAGS = {"same": "span", "added": "ins", "removed": "del"}


@dataclass(frozen=True)
class View:
    """What the page of records shows: the dataset, which records in which order, which page, which one is open, the ids
    in the table, and what is in the form."""

    name: str
    where: RecordFilter
    order: Order
    number: int
    record: int = 0
    listed: tuple[int, ...] = ()
    typed: tuple[Any, ...] = ()


class BulkBar:
    """The bar that comes out when rows are ticked. `ticked` holds their ids, or `ALL`; assets/records.js writes it."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store = shared, shared.workspace.store
        with gr.Column(visible=False, elem_classes=["bulk"], elem_id="bulk") as self.box:
            self.words = pressable("Ticked", ["all", "none"])
            with actions():
                self.buttons = {verb: gr.Button(words, size="sm", min_width=0, scale=0) for verb, words in _VERBS}
                self.sort = gr.Button("Category…", size="sm", min_width=0, scale=0)
                self.seek = gr.Button("Replace…", size="sm", min_width=0, scale=0)
            self._lay_out_category()
            self._lay_out_replace()
            with gr.Row(visible=False, elem_classes=["bulk-ask"]) as self.ask:
                self.question = markup()
                self.yes = gr.Button("Yes", variant="primary", size="sm", min_width=0, scale=0)
                self.no = gr.Button("No", size="sm", min_width=0, scale=0)
        with gr.Row(elem_classes=["off-screen"]):
            self.ticked = gr.Textbox("", label="Ticked records", visible="hidden", elem_id="ticked-records")
            self.asked = gr.Textbox("", label="Asked twice", visible="hidden")
            self.previewed = gr.Textbox("", label="Previewed", visible="hidden")

    def _lay_out_category(self) -> None:
        with gr.Row(visible=False, elem_classes=["bulk-category"]) as self.category_row:
            self.category = live_dropdown(
                [("No category", ""), *((category_words(c), c) for c in CATEGORIES)],
                value="",
                label="New category",
                show_label=False,
                container=False,
                allow_custom_value=True,
                min_width=180,
                scale=0,
            )
            self.set_category = gr.Button("Set category", variant="primary", size="sm", min_width=0, scale=0)
            self.leave_category = gr.Button("Leave it", size="sm", min_width=0, scale=0)

    def _lay_out_replace(self) -> None:
        with gr.Column(visible=False, elem_classes=["bulk-replace"]) as self.panel:
            with gr.Row():
                self.find = gr.Textbox(label="Find", lines=1, max_lines=4, min_width=160)
                self.instead = gr.Textbox(label="Replace with", lines=1, max_lines=4, min_width=160)
            with gr.Row():
                names = [(name.capitalize(), name) for name in FIELDS]
                self.fields = gr.CheckboxGroup(names, value=list(FIELDS[:3]), label="In these fields", min_width=240)
                self.how = gr.CheckboxGroup(list(_HOW), value=["ignores_case"], label="How", min_width=240)
            with actions():
                self.preview = gr.Button("Preview", size="sm", min_width=0, scale=0)
                self.replace = gr.Button("Replace", variant="primary", size="sm", min_width=0, scale=0, visible=False)
                self.close = gr.Button("Close", size="sm", min_width=0, scale=0)
            self.found = markup(label="What would be replaced")

    # -- the panels under the bar ------------------------------------------------------------------------------------

    @property
    def panels(self) -> list[Any]:
        """Outputs of `_open`."""
        return [self.category_row, self.panel, self.ask, self.question, self.yes, self.asked, self.found, self.replace]

    def _open(self, which: str = "") -> list[Any]:
        """One panel, or none; what was asked or previewed before is over."""
        return [
            gr.Row(visible=which == "category"),
            gr.Column(visible=which == "replace"),
            gr.Row(visible=which == "ask"),
            "",
            gr.Button(),
            "",
            "",
            gr.Button(visible=False),
        ]

    def choose_category(self, name: str) -> list[Any]:
        """The panel with the dataset's own categories, and dolly's after them. Outside the queue, so it does not raise."""
        try:
            own = [c for c in self.store.categories(self.store.dataset(name).id) if c][:_CATEGORIES_SHOWN]
        except StudioError:
            own = []
        known = dict.fromkeys([*own, *CATEGORIES])
        choices = [("No category", ""), *((category_words(c), c) for c in known)]
        return [gr.Dropdown(choices=choices), *self._open("category")]

    # -- which records -----------------------------------------------------------------------------------------------

    def _meant(self, ticked: str, view: View) -> RecordFilter:
        """Raises InputError when no record is meant."""
        if ticked == ALL:
            return view.where
        ids = tuple(int(key) for key in ticked.split() if key.isdecimal())
        if not ids:
            raise InputError("No record is ticked. Tick the ones that are meant.")
        return RecordFilter(ids=ids)

    def _scope(self, ticked: str, many: int) -> str:
        return f"all {many:,} that match" if ticked == ALL else count(many, "ticked record")

    def show(self, read: Callable[[Sequence[Any]], View], ticked: str, *now: Any) -> list[Any]:
        """The bar for these ticks."""
        if not ticked:
            return [gr.Column(visible=False), "", *self._open()]
        view = read(now)
        dataset = self.store.dataset(view.name)
        many = self.store.count_records(dataset.id, self._meant(ticked, view))
        more = ""
        if ticked != ALL:
            total = self.store.count_records(dataset.id, view.where, most=COUNTED + 1)
            more = "" if total <= many else _number(total)
        return [gr.Column(visible=True), _words(self._scope(ticked, many), more), *self._open()]

    # -- doing it ----------------------------------------------------------------------------------------------------

    def act(
        self, did: _Done, stroke: Stroke, request: gr.Request, ticked: str, *now: Any, asked: int = 0, changing: int = 0
    ) -> list[Any]:
        """Do it, or ask first, or hand it to a job. `asked` is the number somebody said yes to; `changing` how many
        records would change, where that is known to be fewer than are meant."""
        view = did.read(now)
        did.form.leave(view.name, user_of(request), view.typed)
        dataset, where = self.store.dataset(view.name), self._meant(ticked, view)
        many = self.store.count_records(dataset.id, where)
        if (changing or many) > ASK_ABOVE and asked != many:
            return [gr.skip(), *self._ask(stroke, self._scope(ticked, many), many), *untouched(did.after)]
        if many > AT_ONCE:
            said = self._queue(dataset, stroke, where, many, user_of(request))
            return ["", *self._open(), *untouched(did.form.shown), said, gr.skip()]
        edit = do_stroke(self.store, dataset, stroke, where, author=user_of(request))
        is_over = ticked == ALL or stroke.verb == "remove"
        return [
            "" if is_over else gr.skip(),
            *self._open(),
            *did.form_now(view),
            _told(edit, many),
            f"changed.{time.monotonic_ns()}",
        ]

    def _ask(self, stroke: Stroke, scope: str, many: int) -> list[Any]:
        opened = self._open("ask")
        words = html.escape(f"{_DOING[stroke.verb]} {scope}?")
        told = json.dumps({"stroke": stroke.model_dump(), "many": many})
        opened[3:6] = [f"<p>{words}</p>", gr.Button(f"Yes, {_YES[stroke.verb]} {count(many)}"), told]
        return opened

    def _queue(self, dataset: Dataset, stroke: Stroke, where: RecordFilter, many: int, author: str) -> str:
        task = ChangeRecords(dataset=dataset.name, stroke=stroke, where=where.told())
        job = self.shared.workspace.queue(task, author=author)
        parts = f"in parts of {AT_ONCE:,} records, and Undo takes back part by part"
        return notice(f"Job {job.id} goes through {count(many)} {parts}. The table follows.")

    def said_yes(self, did: _Done, request: gr.Request, asked: str, ticked: str, *now: Any) -> list[Any]:
        if not asked:
            return untouched([self.ticked, *self.panels, *did.after])
        told = json.loads(asked)
        return self.act(did, Stroke.model_validate(told["stroke"]), request, ticked, *now, asked=int(told["many"]))

    def sort_in(self, did: _Done, request: gr.Request, category: str | None, ticked: str, *now: Any) -> list[Any]:
        return self.act(did, Stroke(verb="category", category=category or ""), request, ticked, *now)

    # -- find and replace --------------------------------------------------------------------------------------------

    @property
    def typed(self) -> list[Any]:
        return [self.find, self.instead, self.fields, self.how]

    def look(self, did: _Done, ticked: str, *values: Any) -> list[Any]:
        """Count and show what would be replaced."""
        typed, now = values[: len(self.typed)], values[len(self.typed) :]
        view, replacement = did.read(now), _replacement(*typed)
        where = self._meant(ticked, view)
        seen = preview_replacement(self.store, self.store.dataset(view.name), replacement, where)
        told = {"replacement": asdict(replacement), "ticked": ticked, "where": where.told(), "records": seen.records}
        can_replace = bool(seen.records) or not seen.is_whole
        return [
            _found(seen),
            gr.Button(_replace_words(seen), visible=can_replace),
            json.dumps({**told, "is_whole": seen.is_whole}, sort_keys=True),
        ]

    def replace_all(self, did: _Done, request: gr.Request, previewed: str, ticked: str, *values: Any) -> list[Any]:
        typed, now = values[: len(self.typed)], values[len(self.typed) :]
        replacement, where = _replacement(*typed), self._meant(ticked, did.read(now))
        told = json.loads(previewed or "{}")
        wanted = {"replacement": asdict(replacement), "ticked": ticked, "where": where.told()}
        if json.loads(json.dumps(wanted)) != {name: told.get(name) for name in wanted}:
            raise InputError("This is not what the preview showed. Press Preview again, then replace.")
        stroke = Stroke(verb="replace", replacement=replacement)
        return self.act(did, stroke, request, ticked, *now, changing=told["records"] if told["is_whole"] else 0)

    # -- wiring ------------------------------------------------------------------------------------------------------

    def wire(
        self,
        read: Callable[[Sequence[Any]], View],
        form_now: Callable[[View], list[Any]],
        form: RecordForm,
        now: Sequence[Any],
    ) -> None:
        """`read` makes a view of the values of `now`; `form_now` are the outputs of the form after a change."""
        did = _Done(read, form_now, form, [*form.shown, self.shared.said, form.saved])
        inputs, outputs = [self.ticked, *now], [self.ticked, *self.panels, *did.after]
        self.ticked.change(
            handler(partial(self.show, read)),
            inputs,
            [self.box, self.words, *self.panels],
            api_name="show_ticks",
            **_QUIET,
        )
        quick: dict[str, Any] = {"queue": False, **_QUIET}
        self.words.all(handler(lambda: ALL), None, self.ticked, api_name="tick_all", **quick)
        self.words.none(handler(lambda: ""), None, self.ticked, api_name="tick_none", **quick)
        for verb, button in self.buttons.items():
            fn = handler(partial(self.act, did, Stroke(verb=verb)))
            button.click(fn, inputs, outputs, api_name=f"bulk_{verb}", **_QUIET)
        self.sort.click(
            handler(self.choose_category), self.shared.chosen, [self.category, *self.panels], queue=False, **_QUIET
        )
        openers = ((self.seek, "replace"),)
        closers = ((button, "") for button in (self.no, self.close, self.leave_category))
        for button, which in (*openers, *closers):
            button.click(handler(partial(self._open, which)), None, self.panels, queue=False, **_QUIET)
        self.set_category.click(
            handler(partial(self.sort_in, did)), [self.category, *inputs], outputs, api_name="bulk_category", **_QUIET
        )
        self.yes.click(
            handler(partial(self.said_yes, did)), [self.asked, *inputs], outputs, api_name="bulk_yes", **_QUIET
        )
        self.preview.click(
            handler(partial(self.look, did)),
            [self.ticked, *self.typed, *now],
            [self.found, self.replace, self.previewed],
            api_name="bulk_preview",
            **_QUIET,
        )
        self.replace.click(
            handler(partial(self.replace_all, did)),
            [self.previewed, self.ticked, *self.typed, *now],
            outputs,
            api_name="bulk_replace",
            **_QUIET,
        )
        changed = [widget.input for widget in self.typed]
        gr.on(changed, handler(lambda: gr.Button(visible=False)), None, self.replace, queue=False, **_QUIET)


@dataclass(frozen=True)
class _Done:
    """What a stroke needs to know of the page around the bar."""

    read: Callable[[Sequence[Any]], View]
    form_now: Callable[[View], list[Any]]
    form: RecordForm
    after: list[Any]  # the form, the line under the header, and the box that says that records changed


# -- words and small parts -----------------------------------------------------------------------------------------

_DOING: dict[Verb, str] = {
    "approve": "Approve",
    "reject": "Reject",
    "draft": "Put back to draft",
    "category": "Change the category of",
    "remove": "Remove",
    "duplicate": "Duplicate",
    "replace": "Replace in",
}
_YES: dict[Verb, str] = {**{verb: words.lower() for verb, words in _DOING.items()}, "draft": "put back"}


def _told(edit: Edit, many: int) -> str:
    """HTML: what was done."""
    if not edit.records:
        return notice("Nothing had to be changed: these records are like that already.")
    changed = "" if edit.records == many else f": {count(edit.records)} changed"
    return notice(f"{edit.title}{changed}. Undo takes it back.", "good")


def _number(counted: int) -> str:
    return f"more than {COUNTED:,}" if counted > COUNTED else f"{counted:,}"


def _words(scope: str, more: str) -> str:
    """HTML: which records are meant; `more` is how many there are beside the ticked ones, if any."""
    take = f'<button type="button" class="text-button" data-do="all">Take all that match ({more})</button>'
    return (
        f'<div class="bulk-words"><strong aria-live="polite">{html.escape(scope[:1].upper() + scope[1:])}</strong>'
        f'{take if more else ""}<button type="button" class="text-button" data-do="none">Clear</button></div>'
    )


def _replacement(find: str, instead: str, fields: Sequence[str], how: Sequence[str]) -> Replacement:
    if not fields:
        raise InputError("No field is chosen. Choose at least one to look in.")
    ticked = {name: name in how for _, name in _HOW}
    return Replacement(find or "", instead or "", tuple(fields), **ticked)


def _replace_words(seen: Proposal) -> str:
    return f"Replace in {count(seen.records)}" if seen.is_whole else f"Replace in all {count(seen.meant)}"


def _found(seen: Proposal) -> str:
    """HTML."""
    if not seen.records and not seen.emptied:
        where = "these records" if seen.is_whole else f"the first {count(seen.looked)}"
        return notice(f"It was not found in {where}.")
    words = f"{count(seen.places, 'place')} in {count(seen.records)}."
    if not seen.is_whole:
        words += f" Read for this: the first {seen.looked:,} of {count(seen.meant)}."
    if seen.emptied:
        words += f" {count(seen.emptied)} would be left without an instruction or a response: they stay as they are."
    rows = [
        (str(shown.record_id), html.escape(shown.field.capitalize()), _difference(word_diff(shown.before, shown.after)))
        for shown in seen.examples
    ]
    listed = rows_to_read("What would be replaced", ("No.", "Field", "Change"), rows, widths=("60px", "96px", ""))
    first = f'<p class="quiet">The first {len(rows)} of them:</p>' if seen.records > len(rows) else ""
    return f'{notice(words)}{first}<div class="framed">{listed}</div>' if rows else notice(words)


def _difference(pieces: Sequence[Piece]) -> str:
    words = "".join(f"<{_TAGS[p.kind]}>{html.escape(p.text)}</{_TAGS[p.kind]}>" for p in pieces)
    return f'<span class="difference" dir="auto">{words}</span>'
