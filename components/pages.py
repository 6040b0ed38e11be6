"""A tab that has several pages: the bar of pages, and refreshes that reach the open page alone.

pages = PageBar("dataset", [Page("records", "Records"), Page("checks", "Checks")])
with pages.page("records"):
    pages.keep_fresh("records", build_records(workspace).refresh)
return TabWidgets(refresh=pages.refresh)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.frame import Refresh, handler

__all__ = ["Page", "PageBar"]


@dataclass(frozen=True)
class Page:
    """One page of a tab: its id, and the words on the bar."""

    id: str
    title: str


class PageBar:
    """The bar. Its pages are filled one by one, in order."""

    def __init__(self, name: str, pages: Sequence[Page]) -> None:
        self._titles = {page.id: page.title for page in pages}
        first = pages[0].id
        with gr.Row(elem_classes=["off-screen"]):  # Gradio brings a hidden box out when a block around it is shown
            self.open_page = gr.Textbox(first, label=f"Open page of {name}", visible="hidden")
            self._beats = {page.id: gr.Textbox("", label=f"Beat of {page.id}", visible="hidden") for page in pages}
        self.bar = gr.Tabs(elem_id=f"{name}-pages", elem_classes=["pages"], selected=first)
        self._tabs: dict[str, gr.Tab] = {}

    @contextmanager
    def page(self, name: str) -> Iterator[None]:
        """Where a page is laid out."""
        with self.bar, gr.Tab(self._titles[name], id=name, elem_id=f"page-{name}") as tab:
            self._tabs[name] = tab
            yield

    def keep_fresh(self, name: str, refresh: Refresh | None) -> None:
        """A page reads its rows at every beat; opening it is one. By one listener, so that looks do not overtake each
        other: two first ones at once would bring a draft back twice."""
        opened = f"() => ['{name}', `opened ${{Date.now()}}`]"
        self._tabs[name].select(None, None, [self.open_page, self._beats[name]], js=opened, api_visibility="private")
        if refresh is None:
            return
        self._beats[name].change(
            handler(refresh.fn),
            list(refresh.inputs),
            list(refresh.outputs),
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )

    def open_when_asked_for(self, name: str, boxes: Sequence[Any]) -> None:
        """Something in one of the boxes opens the page: an address that names one of its things
        (`?tab=playground&check=12`), or another page that hands over."""
        for box in boxes:
            box.change(
                handler(lambda asked: gr.Tabs(selected=name) if asked else gr.skip()),
                box,
                self.bar,
                queue=False,
                show_progress="hidden",
                trigger_mode="multiple",  # the box may have another listener, and only one of a box may wait its turn
                api_visibility="private",
            )

    @property
    def refresh(self) -> Refresh:
        """Hands the tab's beat on to the open page. The pages are not refreshed by one listener: Gradio's page goes over
        all inputs of every listener that ever ran, at each event, also at each key of somebody who writes."""

        def hand_on(opened: str) -> list[Any]:
            return [str(time.monotonic_ns()) if name == opened else gr.skip() for name in self._beats]

        return Refresh(hand_on, [self.open_page], list(self._beats.values()), is_plain=True)
