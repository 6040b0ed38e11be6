"""Playground: everything about prompts without changing a weight. One page per kind of work, one file each.

Prompt      ask up to four models, templates or settings beside each other
Chat        several turns, as a tree
Examples    the worked examples that prompts show
Documents   the company's own texts, searched for each question
Evaluate    prompts x models over all rows of a set
Checks      does it help here, how fragile is it, is there a better one
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components import pages as bars
from components.frame import Refresh, TabWidgets, handler, page_header
from components.playground import chat, checks, documents, evaluate, examples, prompt
from components.playground.prompt import Given, PlaygroundWidgets, beside_base
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
    bar = bars.PageBar("playground", [bars.Page(page.id, page.title) for page in pages])
    built: dict[str, TabWidgets] = {}
    for page in pages:
        with bar.page(page.id):
            built[page.id] = page.build(workspace)
        bar.keep_fresh(page.id, built[page.id].refresh)
    for page in pages[1:]:
        bar.open_when_asked_for(page.id, list(built[page.id].links.values()))
    first = built[pages[0].id]
    assert isinstance(first, PlaygroundWidgets)
    if isinstance(checked := built.get("checks"), checks.ChecksWidgets):
        _wire_handing_over(bar.bar, first.to_check, "checks", checked.take, checked.refresh)
    if isinstance(measured := built.get("evaluate"), evaluate.EvaluateWidgets):
        _wire_handing_over(bar.bar, first.to_evaluate, "evaluate", measured.take, measured.refresh)
    return PlaygroundWidgets(
        refresh=bar.refresh,
        models=first.models,
        to_check=first.to_check,
        to_evaluate=first.to_evaluate,
        links={**{name: box for widgets in built.values() for name, box in widgets.links.items()}},
    )


def _wire_handing_over(bar: gr.Tabs, given: Given, name: str, take: Refresh, look: Refresh | None) -> None:
    """What one page gives away another takes, and opens: in this order, since a page that opens reads its rows again, and
    its first look would put what it proposes in the place of what was given."""
    assert look is not None
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    # In the queue, since what cannot be taken is said in a toast, and outside of it nobody would see that.
    taken = given.by.success(
        handler(take.fn), [given.box, *take.inputs], list(take.outputs), **{**quiet, "queue": True}
    )
    looked = taken.success(handler(look.fn), list(look.inputs), list(look.outputs), **quiet)
    looked.success(handler(lambda: gr.Tabs(selected=name)), None, bar, **quiet)
