"""Dataset: the records a model learns from, from "here is our spreadsheet" to a snapshot. One page per kind of work.

Records      read, mend, approve: a table and one record open beside it
Checks       what would teach a model something wrong, and one-click remedies
Statistics   what is in it, in figures and pictures that open as filters
Grow         a model drafts records, people approve them; rows that an import left out
Snapshots    freeze, compare, restore, describe, export, purge

Nothing is kept in the page but ids: the dataset's name, the page number, and id and revision of the open record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from components.dataset import checks, grow, records, snapshots, statistics
from components.dataset.importing import ImportCard, build_import
from components.dataset.records import RecordsPage
from components.dataset.serve import serve
from components.dataset.shared import Shared, shared_by_pages
from components.dataset.shelf import Shelf, build_shelf
from components.dataset.words import count
from components.frame import (
    EmptyState,
    Refresh,
    TabWidgets,
    empty_state,
    handler,
    notice,
    page_header,
    untouched,
    user_of,
)
from components.pages import Page, PageBar
from components.picking import picked
from studio.errors import StudioError
from studio.example import load_example
from studio.instructions import take_snapshot
from studio.instructions.snapshots import still_flagged
from studio.workspace import Workspace

__all__ = ["DatasetWidgets", "build"]

PAGES = (
    Page("records", "Records"),
    Page("data-checks", "Checks"),
    Page("statistics", "Statistics"),
    Page("grow", "Grow"),
    Page("snapshots", "Snapshots"),
)

_OTHERS: dict[str, Callable[[Shared], TabWidgets]] = {
    "data-checks": checks.build,
    "statistics": statistics.build,
    "grow": grow.build,
    "snapshots": snapshots.build,
}

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True, kw_only=True)
class DatasetWidgets(TabWidgets):
    """`chosen` holds the name of the open dataset."""

    chosen: gr.Textbox


def build(workspace: Workspace) -> DatasetWidgets:
    """Lay out the tab and wire what its pages have in common."""
    with page_header("dataset", "The records a model learns from: read, mend, and freeze them."):
        add = gr.Button("Add record")
        bring = gr.Button("Import")
        freeze = gr.Button("Take snapshot", variant="primary")
    with gr.Row(elem_classes=["off-screen"]):
        asked_dataset = gr.Textbox("", label="Dataset asked for", visible="hidden")
        mode = gr.Textbox("records", label="What is open", visible="hidden")
    shared = shared_by_pages(workspace)
    chosen, show = shared.chosen, shared.show
    nothing = empty_state("There are no records here yet.", "Import a file", "Try it with the example", visible=False)
    importer = build_import(workspace)
    with gr.Row(elem_classes=["columns", "dataset-desk"]) as body:
        shelf = build_shelf(shared)
        with gr.Column(scale=1, min_width=0, elem_classes=["dataset-pages"]):
            bar = PageBar("dataset", PAGES)
            with bar.page("records"):
                page = records.build(shared, add)
            bar.keep_fresh("records", page.refresh)
            for name, build_page in _OTHERS.items():
                with bar.page(name):
                    other = build_page(shared)
                bar.keep_fresh(name, other.refresh)
    bar.open_when_asked_for("records", [show, page.links["record"]])

    tab = _Tab(workspace, shared, shelf, bar, page)
    tab.frame = [mode, add, bring, freeze, nothing.box, body, importer.box]
    _wire(tab, importer, nothing, (bring, nothing.action), freeze)
    serve(workspace)
    return DatasetWidgets(
        refresh=Refresh(
            tab.refresh, [mode, asked_dataset, page.links["record"], chosen, bar.open_page], tab.everything
        ),
        links={"dataset": asked_dataset, **page.links},
        chosen=chosen,
    )


class _Tab:
    """What the handlers of the tab share."""

    def __init__(self, workspace: Workspace, shared: Shared, shelf: Shelf, bar: PageBar, page: RecordsPage) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.shared, self.shelf, self.bar, self.page = shared, shelf, bar, page
        self.frame: list[Any] = []

    @property
    def everything(self) -> list[Any]:
        """Outputs of `refresh`: the frame, which dataset, the shelf, and the beat of the open page."""
        return [*self.frame, self.shared.chosen, *self.shelf.shown, *self.bar.refresh.outputs]

    def refresh(self, mode: str, asked_dataset: str, asked_record: str, name: str, open_page: str) -> list[Any]:
        """Runs outside the queue at every beat, so it does not raise."""
        try:
            if mode == "import":
                return untouched(self.everything)
            if not self.store.datasets():
                return [*_frame_for("empty"), *untouched(self.everything)[len(self.frame) :]]
            return self.opened(name or self._first(asked_dataset, asked_record), open_page)
        except StudioError:
            return untouched(self.everything)

    def opened(self, name: str, open_page: str) -> list[Any]:
        """That dataset on the shelf and in every page; the open one reads its rows."""
        return [*_frame_for("records"), name, *self.shelf.show(name), *self.bar.refresh.fn(open_page)]

    def _first(self, asked_dataset: str, asked_record: str) -> str:
        """For a person who just came: what the address names, or else the first dataset."""
        datasets = {d.id: d.name for d in self.store.datasets()}
        if asked_record.isdecimal():
            return datasets[self.store.record(int(asked_record)).dataset_id]
        return asked_dataset if asked_dataset in datasets.values() else next(iter(datasets.values()))

    def open_dataset(
        self, event: gr.EventData, request: gr.Request, open_page: str, name: str, *typed: Any
    ) -> list[Any]:
        self.page.form.leave(name, user_of(request), typed)
        return [*self.opened(self.store.dataset(picked(event)).name, open_page), ""]

    def example(self, open_page: str) -> list[Any]:
        load_example(self.store, self.workspace.path)
        return self.opened(self._first("", ""), open_page)

    def take_snapshot(self, request: gr.Request, open_page: str, name: str, *typed: Any) -> list[Any]:
        self.page.form.leave(name, user_of(request), typed)
        taken = take_snapshot(self.store, self.workspace.path, self.store.dataset(name), author=user_of(request))
        ref, rows = taken.snapshot.ref, count(taken.snapshot.rows)
        new = f"Snapshot {ref} with {rows}."
        old = f"No record changed since {ref} ({rows}), so it is still the newest snapshot."
        flagged = still_flagged(self.store, self.store.dataset(name))
        words = f"{new if taken.is_new else old} {flagged}".strip()
        said = notice(words, "caution" if flagged else "good" if taken.is_new else "")
        return [*self.shelf.show(name), said, *self.bar.refresh.fn(open_page)]


def _wire(
    tab: _Tab, importer: ImportCard, nothing: EmptyState, openers: Sequence[gr.Button], freeze: gr.Button
) -> None:
    """While records are imported, the card stands alone."""
    shared, form, open_page = tab.shared, tab.page.form, tab.bar.open_page

    def open_card(request: gr.Request, name: str, *typed: Any) -> list[Any]:
        form.leave(name, user_of(request), typed)
        names = [d.name for d in tab.store.datasets()]
        return [gr.Dropdown(choices=names), *_frame_for("import")]

    def close_card() -> list[Any]:
        return _frame_for("records" if tab.store.datasets() else "empty")

    def show_imported(name: str, open_page: str) -> list[Any]:
        return tab.opened(tab.store.dataset(name.strip()).name, open_page)

    for button in openers:
        button.click(handler(open_card), [shared.chosen, *form.typed], [importer.target, *tab.frame], **_QUIET)
    importer.away.click(handler(close_card), None, tab.frame, api_visibility="private")
    importer.done.click(handler(show_imported), [importer.target, open_page], tab.everything, api_visibility="private")
    tab.shelf.datasets.pick(
        handler(tab.open_dataset),
        [open_page, shared.chosen, *form.typed],
        [*tab.everything, shared.said],
        **_QUIET,
    )
    for name, box in (("saved", form.saved), ("moved", shared.moved)):
        box.change(
            handler(tab.shelf.show),
            shared.chosen,
            tab.shelf.shown,
            api_name=f"recount_{name}",
            trigger_mode="multiple",
            **_QUIET,
        )
    tab.page.add.click(
        None, None, tab.bar.bar, js="() => ({ __type__: 'update', selected: 'records' })", api_visibility="private"
    )
    freeze.click(
        handler(tab.take_snapshot),
        [open_page, shared.chosen, *form.typed],
        [*tab.shelf.shown, shared.said, *tab.bar.refresh.outputs],
        api_visibility="private",
    )
    if nothing.example is not None:
        nothing.example.click(handler(tab.example), open_page, tab.everything, api_visibility="private")


_Mode = Literal["records", "empty", "import"]


def _frame_for(mode: _Mode) -> list[Any]:
    """The mode, and what is there in it: Add record, Import, Take snapshot, empty state, records, import card."""
    is_there = mode == "records"
    buttons = [gr.Button(visible=is_there) for _ in range(3)]
    blocks = [gr.Column(visible=mode == "empty"), gr.Row(visible=is_there), gr.Column(visible=mode == "import")]
    return [mode, *buttons, *blocks]
