"""Playground: everything about prompts without changing a weight. One page per kind of work, one file each.

Prompt      ask up to four models, templates or settings beside each other
Chat        several turns, as a tree
Examples    the worked examples that prompts show
Documents   the company's own texts, searched for each question
Evaluate    prompts x models over all rows of a set
Checks      does it help here, how fragile is it, is there a better one
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

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
    open_page = gr.Textbox(pages[0].id, label="Open page", visible="hidden")
    beats = {page.id: gr.Textbox("", label=f"Beat of {page.id}", visible="hidden") for page in pages}
    built: dict[str, TabWidgets] = {}
    with gr.Tabs(elem_id="playground-pages", elem_classes=["pages"], selected=pages[0].id) as bar:
        for page in pages:
            with gr.Tab(page.title, id=page.id, elem_id=f"page-{page.id}") as tab:
                built[page.id] = page.build(workspace)
            _wire_refresh(tab, page.id, open_page, beats[page.id], built[page.id].refresh)
    for page in pages[1:]:
        _open_when_asked_for(bar, page.id, list(built[page.id].links.values()))
    first = built[pages[0].id]
    assert isinstance(first, PlaygroundWidgets)
    if isinstance(checked := built.get("checks"), checks.ChecksWidgets):
        _wire_handing_over(bar, first.to_check, "checks", checked.take, checked.refresh)
    if isinstance(measured := built.get("evaluate"), evaluate.EvaluateWidgets):
        _wire_handing_over(bar, first.to_evaluate, "evaluate", measured.take, measured.refresh)
    return PlaygroundWidgets(
        refresh=_beat(open_page, beats),
        models=first.models,
        to_check=first.to_check,
        to_evaluate=first.to_evaluate,
        links={**{name: box for widgets in built.values() for name, box in widgets.links.items()}},
    )


def _wire_refresh(tab: gr.Tab, name: str, open_page: gr.Textbox, beat: gr.Textbox, refresh: Refresh | None) -> None:
    """A page reads its rows at every beat; opening it is one. By one listener, so that looks do not overtake each other:
    two first ones at once would bring a draft back twice."""
    opened = f"() => ['{name}', `opened ${{Date.now()}}`]"
    tab.select(None, None, [open_page, beat], js=opened, api_visibility="private")
    if refresh is None:
        return
    beat.change(
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


def _beat(open_page: gr.Textbox, beats: dict[str, gr.Textbox]) -> Refresh:
    """Hands the tab's beat on to the open page. The pages are not refreshed by one listener: Gradio's page goes over all
    inputs of every listener that ever ran, at each event, also at each key of somebody who writes."""

    def hand_on(opened: str) -> list[Any]:
        return [str(time.monotonic_ns()) if name == opened else gr.skip() for name in beats]

    return Refresh(hand_on, [open_page], list(beats.values()))
