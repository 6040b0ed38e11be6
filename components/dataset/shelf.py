"""The left of the tab: the datasets and their sizes, what the open one is, and filters that somebody saved."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.dataset.shared import Shared, to_show
from components.dataset.words import heading, size
from components.frame import handler, markup, section
from components.picking import pick_list, picked, pressed, rows_to_pick
from studio.errors import NotFound
from studio.instructions.datasets import COUNTED
from studio.store import Dataset, SavedFilter

__all__ = ["Shelf", "build_shelf"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Shelf:
    """`datasets.pick` says which dataset somebody wants; whoever wires it writes `Shared.chosen`."""

    shared: Shared
    datasets: gr.HTML
    saved: gr.HTML
    about: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """Outputs of `show`."""
        return [self.datasets, self.saved, self.about]

    def show(self, current: str) -> list[Any]:
        """All of the shelf, with the dataset of that name as the open one."""
        store = self.shared.workspace.store
        datasets = store.datasets()
        rows = [(d.name, (html.escape(d.name), f"{store.count_records(d.id):,}")) for d in datasets]
        head = "Datasets and how many records each has"
        listed = rows_to_pick(head, (), rows, current=current, widths=("", "84px"))
        opened = next((d for d in datasets if d.name == current), None)
        if opened is None:
            return [listed, "", ""]
        return [listed, self._saved(opened), self._about(opened)]

    def _saved(self, dataset: Dataset) -> str:
        """HTML: each with how many records it finds now."""
        store = self.shared.workspace.store
        rows = []
        for saved in store.saved_filters(dataset.id):
            many = store.count_records(dataset.id, saved.filter, most=COUNTED + 1)
            words = f"{COUNTED:,}+" if many > COUNTED else f"{many:,}"
            rows.append((saved.id, (_named(saved), words, _away(saved))))
        if not rows:
            return ""
        head = "Saved filters and how many records each finds"
        return heading("Saved filters") + rows_to_pick(head, (), rows, widths=("", "60px", "30px"))

    def _about(self, dataset: Dataset) -> str:
        words = f"<p>{html.escape(dataset.description)}</p>" if dataset.description else ""
        licence = html.escape(dataset.licence or "No licence stated")
        taken = [s for s in self.shared.workspace.store.snapshots("data") if s.name == dataset.name]
        newest = taken[0] if taken else None
        told = f"Newest snapshot: {newest.ref}, {size(newest)}." if newest else "No snapshot yet."
        return f'<div class="about">{words}<p>{licence}</p><p>{html.escape(told)}</p></div>'

    # -- saved filters ---------------------------------------------------------------------------------------------

    def apply(self, event: gr.EventData, name: str) -> str:
        """For `Shared.show`: the records that a saved filter finds."""
        return to_show(self._of(name, picked(event)).filter)

    def remove(self, event: gr.EventData, name: str) -> list[Any]:
        _, key = pressed(event)
        self.shared.workspace.store.remove_filter(self._of(name, key).id)
        return self.show(name)

    def _of(self, name: str, key: str) -> SavedFilter:
        store = self.shared.workspace.store
        found = next((s for s in store.saved_filters(store.dataset(name).id) if str(s.id) == key), None)
        if found is None:
            raise NotFound(f"The saved filter {key} is no longer there: somebody removed it.")
        return found


def build_shelf(shared: Shared) -> Shelf:
    with gr.Column(scale=0, min_width=184, elem_classes=["shelf"]):
        section("Datasets")
        datasets = pick_list("Datasets", elem_id="datasets")
        saved = pick_list("Saved filters", elem_id="saved-filters")
        about = markup()
    shelf = Shelf(shared, datasets, saved, about)
    saved.pick(handler(shelf.apply), shared.chosen, shared.show, api_name="apply_filter", **_QUIET)
    saved.act(handler(shelf.remove), shared.chosen, shelf.shown, api_name="remove_filter", **_QUIET)
    return shelf


def _named(saved: SavedFilter) -> str:
    return (
        f'<span class="clamp" title="Saved by {html.escape(saved.author, quote=True)}">{html.escape(saved.name)}</span>'
    )


def _away(saved: SavedFilter) -> str:
    words = html.escape(f"Remove the filter {saved.name}", quote=True)
    told = f'title="{words}" aria-label="{words}"'
    return f'<button type="button" class="away" data-do="remove" data-key="{saved.id}" {told}>✕</button>'
