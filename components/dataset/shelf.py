"""The left of the tab: the datasets and their sizes, what the open one is, and filters that somebody saved."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.dataset.shared import Shared
from components.dataset.words import size
from components.frame import markup, section
from components.picking import pick_list, rows_to_pick
from studio.store import Dataset

__all__ = ["Shelf", "build_shelf"]


@dataclass(frozen=True)
class Shelf:
    """`datasets.pick` says which dataset somebody wants; whoever wires it writes `Shared.chosen`."""

    shared: Shared
    datasets: gr.HTML
    about: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """Outputs of `show`."""
        return [self.datasets, self.about]

    def show(self, current: str) -> list[Any]:
        """All of the shelf, with the dataset of that name as the open one."""
        store = self.shared.workspace.store
        datasets = store.datasets()
        rows = [(d.name, (html.escape(d.name), f"{store.count_records(d.id):,}")) for d in datasets]
        head = "Datasets and how many records each has"
        listed = rows_to_pick(head, (), rows, current=current, widths=("", "64px"))
        opened = next((d for d in datasets if d.name == current), None)
        return [listed, self._about(opened) if opened else ""]

    def _about(self, dataset: Dataset) -> str:
        words = f"<p>{html.escape(dataset.description)}</p>" if dataset.description else ""
        licence = html.escape(dataset.licence or "No licence stated")
        taken = [s for s in self.shared.workspace.store.snapshots("data") if s.name == dataset.name]
        newest = taken[0] if taken else None
        told = f"Newest snapshot: {newest.ref}, {size(newest)}." if newest else "No snapshot yet."
        return f'<div class="about">{words}<p>{licence}</p><p>{html.escape(told)}</p></div>'


def build_shelf(shared: Shared) -> Shelf:
    with gr.Column(scale=0, min_width=184, elem_classes=["shelf"]):
        section("Datasets")
        datasets = pick_list("Datasets", elem_id="datasets")
        about = markup()
    return Shelf(shared, datasets, about)
