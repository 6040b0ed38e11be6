"""Playground: everything about prompts without changing a weight. One page per kind of work, one file each.

Prompt      ask up to four models, templates or settings beside each other
Chat        several turns, as a tree
Examples    the worked examples that prompts show
Documents   the company's own texts, searched for each question
Evaluate    prompts x models over all rows of a set
Checks      does it help here, how fragile is it, is there a better one
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.frame import Refresh, TabWidgets, handler, page_header
from components.playground import chat, checks, documents, evaluate, examples, prompt
from components.playground.prompt import PlaygroundWidgets, beside_base
from studio.workspace import Workspace

__all__ = ["PAGES", "Page", "PlaygroundWidgets", "beside_base", "build"]


@dataclass(frozen=True)
class Page:
    """One kind of work: its id, the words on its tab, who builds it."""

    id: str
    title: str
    build: Callable[[Workspace], TabWidgets]


PAGES = (
    Page("prompt", "Prompt", prompt.build),
    Page("chat", "Chat", chat.build),
    Page("examples", "Examples", examples.build),
    Page("documents", "Documents", documents.build),
    Page("evaluate", "Evaluate", evaluate.build),
    Page("checks", "Checks", checks.build),
)


def build(workspace: Workspace, pages: Sequence[Page] = PAGES) -> PlaygroundWidgets:
    """Lay out the pages under one title; only the open one reads its rows again."""
    page_header("playground", "Find the prompt that works: see exactly what the model gets, compare, measure, keep.")
    open_page = gr.Textbox(pages[0].id, label="Open page", visible="hidden")
    built: dict[str, TabWidgets] = {}
    with gr.Tabs(elem_id="playground-pages", elem_classes=["pages"], selected=pages[0].id) as bar:
        for page in pages:
            with gr.Tab(page.title, id=page.id, elem_id=f"page-{page.id}") as tab:
                built[page.id] = page.build(workspace)
            _wire_opening(tab, page.id, open_page, built[page.id].refresh)
    for page in pages[1:]:
        _open_when_asked_for(bar, page.id, list(built[page.id].links.values()))
    first = built[pages[0].id]
    assert isinstance(first, PlaygroundWidgets)
    return PlaygroundWidgets(
        refresh=_together(open_page, built),
        models=first.models,
        links={**{name: box for widgets in built.values() for name, box in widgets.links.items()}},
    )


def _wire_opening(tab: gr.Tab, name: str, open_page: gr.Textbox, refresh: Refresh | None) -> None:
    tab.select(None, None, open_page, js=f"() => '{name}'", api_visibility="private")
    if refresh is not None:
        tab.select(
            handler(refresh.fn),
            list(refresh.inputs),
            list(refresh.outputs),
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )


def _open_when_asked_for(bar: gr.Tabs, name: str, links: Sequence[Any]) -> None:
    """An address that names one of the page's things (`?tab=playground&check=12`) opens the page too."""
    for box in links:
        box.change(
            handler(lambda asked: gr.Tabs(selected=name) if asked else gr.skip()),
            box,
            bar,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def _together(open_page: gr.Textbox, built: dict[str, TabWidgets]) -> Refresh:
    """One refresh for all pages, which reads the rows of the open one alone."""
    parts = {name: widgets.refresh for name, widgets in built.items() if widgets.refresh is not None}

    def again(request: gr.Request, opened: str, *values: Any) -> list[Any]:
        found: list[Any] = []
        left = list(values)
        for name, part in parts.items():
            given, left = left[: len(part.inputs)], left[len(part.inputs) :]
            if name != opened:
                found += [gr.skip()] * len(part.outputs)
                continue
            wants_request = "request" in inspect.signature(part.fn).parameters
            shown = part.fn(request, *given) if wants_request else part.fn(*given)
            found += list(shown) if len(part.outputs) != 1 or isinstance(shown, list | tuple) else [shown]
        return found

    inputs = [widget for part in parts.values() for widget in part.inputs]
    outputs = [widget for part in parts.values() for widget in part.outputs]
    return Refresh(again, [open_page, *inputs], outputs)
