"""The filter over the table of records: its widgets, the line that says which of them are in force, and their order."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import gradio as gr

from components.dataset.words import category_words, count
from components.frame import live_dropdown
from components.picking import pressable
from studio.instructions.checks import check_kinds
from studio.instructions.datasets import Shares, shares_of
from studio.store import RECORD_STATES, Dataset, Order, RecordFilter, Store

__all__ = ["FilterBar", "check_words"]

# A category is stored without white space around it, so that no category can be called this.
_WITHOUT = " "
_SPLITS = ("train", "validation", "test", "excluded")
_ORDERS: tuple[tuple[str, Order], ...] = (
    ("Oldest first", "oldest"),
    ("Newest change first", "newest"),
    ("Shortest first", "shortest"),
    ("Longest first", "longest"),
)
_ALL = {
    "category": "All categories",
    "split": "All splits",
    "flag": "Any or none",
    "author": "Anybody",
    "source": "Any",
}
_LONGEST_CHOICE = 60


class FilterBar:
    """The widgets, and the filter that they make. `widgets` are inputs for `read` and outputs for `write`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, tuple[int, Shares]] = {}  # of a dataset as it was at that change
        with gr.Row(elem_classes=["filters"]):
            self.search = gr.Textbox(
                label="Search the records",
                show_label=False,
                placeholder="Search the records",
                lines=1,
                max_lines=1,
                scale=1,
                min_width=140,
                container=False,
                elem_id="records-search",
            )
            bare: dict[str, Any] = {"show_label": False, "scale": 0, "container": False}
            self.category = live_dropdown(
                [(_ALL["category"], "")], value="", label="Category shown", min_width=150, **bare
            )
            states = [("All states", ""), *((state.capitalize(), state) for state in RECORD_STATES)]
            self.state = gr.Dropdown(states, value="", label="State shown", min_width=112, **bare)
            self.order = gr.Dropdown(list(_ORDERS), value="oldest", label="Order", min_width=150, **bare)
        with gr.Accordion("More filters", open=False, elem_classes=["more-filters"]) as self.more:
            with gr.Row():
                self.flag = live_dropdown([(_ALL["flag"], "")], value="", label="Found by a check", min_width=140)
                splits = [(_ALL["split"], ""), *((split, split) for split in _SPLITS)]
                self.split = gr.Dropdown(splits, value="", label="Split shown", min_width=110)
                self.author = live_dropdown([(_ALL["author"], "")], value="", label="Last changed by", min_width=110)
            with gr.Row():
                self.source = live_dropdown([(_ALL["source"], "")], value="", label="Came from", min_width=140)
                self.shortest = gr.Number(None, label="Characters, at least", precision=0, minimum=0, min_width=110)
                self.longest = gr.Number(None, label="Characters, at most", precision=0, minimum=0, min_width=110)
        self.told = pressable("Filters in force", ["drop", "clear", "keep"], elem_id="filters-in-force")
        with gr.Row(elem_classes=["off-screen"]):
            self.ids = gr.Textbox("", label="Only these records", visible="hidden")

    @property
    def widgets(self) -> list[Any]:
        """In the order of `read` and `write`."""
        return [
            self.search, self.category, self.state, self.split, self.flag, self.author, self.source,
            self.shortest, self.longest, self.ids, self.order,
        ]  # fmt: skip

    @property
    def listed(self) -> list[Any]:
        """The widgets whose choices come from rows; outputs of `choices`."""
        return [self.flag, self.split, self.author, self.source]

    @property
    def touched(self) -> list[Callable[..., Any]]:
        """Events: a person asks for other records. (Of what is typed, assets/records.js tells.)"""
        lists = (self.category, self.state, self.order, self.split, self.flag, self.author, self.source)
        return [self.search.submit, *(widget.input for widget in lists)]

    # -- values ------------------------------------------------------------------------------------------------------

    def read(self, values: Sequence[Any]) -> tuple[RecordFilter, Order]:
        """From the values of `widgets`. They come from a page: what is no order is the first one."""
        text, category, state, split, flag, author, source, shortest, longest, ids, order = values
        where = RecordFilter(
            text=(text or "").strip(),
            category=None if category == _WITHOUT else category or "",
            split=split or "",
            state=state or "",
            author=author or "",
            source=source or "",
            flag=flag or "",
            shortest=max(0, int(shortest or 0)),
            longest=max(0, int(longest or 0)),
            ids=tuple(int(key) for key in (ids or "").split() if key.isdecimal()),
        )
        return where, order if order in get_args(Order) else "oldest"

    def write(self, dataset: Dataset, where: RecordFilter, order: Order = "oldest") -> list[Any]:
        """For `widgets`: this filter, with its values among the choices."""
        return [
            where.text,
            gr.Dropdown(
                choices=self.categories(dataset, where), value=_WITHOUT if where.category is None else where.category
            ),
            where.state,
            where.split,
            *(
                gr.Dropdown(choices=_with_chosen(name, {}, getattr(where, name)), value=getattr(where, name))
                for name in ("flag", "author", "source")
            ),
            where.shortest or None,
            where.longest or None,
            " ".join(map(str, where.ids)),
            order,
        ]

    def categories(self, dataset: Dataset, where: RecordFilter) -> list[tuple[str, str]]:
        counts = self._store.categories(dataset.id)
        named = [(f"{category_words(c)} ({n:,})", c) for c, n in counts.items() if c]
        without = [(f"No category ({counts.get('', 0):,})", _WITHOUT)] if "" in counts or where.category is None else []
        gone = [(f"{category_words(where.category)} (0)", where.category)] if where.category else []
        return [(_ALL["category"], ""), *named, *without, *(g for g in gone if g[1] not in counts)]

    def choices(self, dataset: Dataset, where: RecordFilter) -> list[Any]:
        """For `listed`: what the rows hold, most frequent first; what is chosen stays chosen.

        Counting takes seconds in a million records, so it is done when somebody opens the list of filters.
        """
        change, shares = self._known.get(dataset.id, (-1, None))
        if shares is None or change != dataset.change:
            shares = shares_of(self._store, dataset)
            self._known[dataset.id] = (dataset.change, shares)
        return [
            gr.Dropdown(choices=_with_chosen("flag", shares.flag, where.flag)),
            gr.Dropdown(choices=_with_chosen("split", {s: shares.split.get(s, 0) for s in _SPLITS}, where.split)),
            gr.Dropdown(choices=_with_chosen("author", shares.author, where.author)),
            gr.Dropdown(choices=_with_chosen("source", shares.source, where.source)),
        ]

    # -- what is in force --------------------------------------------------------------------------------------------

    def in_force(self, where: RecordFilter) -> str:
        """HTML: a chip for each part of the filter, which takes it out, and what can be done with all of it."""
        if where == RecordFilter():
            return ""
        chips = "".join(
            f'<button type="button" class="filter-chip" data-do="drop" data-key="{name}" title="Take this filter out" '
            f'aria-label="Take out: {html.escape(words, quote=True)}">{html.escape(words)}'
            '<span aria-hidden="true">✕</span></button>'
            for name, words in _told(where)
        )
        return (
            f'<div class="in-force" role="group" aria-label="Filters in force">{chips}'
            '<button type="button" class="text-button" data-do="clear">Clear all</button>'
            '<button type="button" class="text-button" data-do="keep">Save this filter</button></div>'
        )

    def without(self, where: RecordFilter, name: str) -> RecordFilter:
        """The filter without one of its parts."""
        return replace(where, **{name: getattr(RecordFilter(), name)}) if name in where.told() else where


def check_words(name: str) -> str:
    """A check's title. One that is no longer installed keeps its name."""
    return check_kinds()[name].title if name in check_kinds() else name


def _told(where: RecordFilter) -> list[tuple[str, str]]:
    words = {
        "text": f"Search: {where.text}",
        "category": f"Category: {category_words(where.category)}" if where.category else "No category",
        "state": f"State: {where.state}",
        "split": f"Split: {where.split}",
        "flag": f"Found by: {check_words(where.flag)}",
        "author": f"Last changed by {where.author}",
        "source": f"Came from {where.source}",
        "shortest": f"At least {count(where.shortest, 'character')}",
        "longest": f"At most {count(where.longest, 'character')}",
        "ids": count(len(where.ids), "chosen record"),
    }
    return [(name, _cut(words[name])) for name in where.told()]


def _with_chosen(name: str, counts: dict[str, int], chosen: str) -> list[tuple[str, str]]:
    known = [(f"{_word(name, value)} ({n:,})", value) for value, n in counts.items() if value]
    gone = [(_word(name, chosen), chosen)] if chosen and chosen not in counts else []
    return [(_ALL[name], ""), *known, *gone]


def _word(name: str, value: str) -> str:
    return check_words(value) if name == "flag" else _cut(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CHOICE else f"{text[: _LONGEST_CHOICE - 1]}…"
