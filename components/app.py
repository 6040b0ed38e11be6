"""The whole interface on one screen: which tabs there are, in what order, and how they reach each other.

Tabs meet in the database: a tab reads its rows again when it opens and when the pulse says that a job moved.
Only buttons that set widgets of another tab are explicit edges, and all of them are in `_wire_edges`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState

from components import alignment, compare, dataset, jobs, labeling, models, playground, tuning
from components.alignment import AlignmentWidgets
from components.frame import Pulse, TabWidgets, first_beat, handler, header
from components.labeling import LabelingWidgets
from components.playground import PlaygroundWidgets, beside_base
from components.theme import ASSETS, build_theme
from components.tuning import TuningWidgets
from studio.serving import Identify, create_app, owner_only
from studio.workspace import Workspace

__all__ = ["TABS", "Tab", "build_app", "build_pages"]


@dataclass(frozen=True)
class Tab:
    """A page: its id (in links, in the help folder), the words on it, who builds it, and whether it shows jobs step by
    step rather than state by state."""

    id: str
    title: str
    build: Callable[[Workspace], TabWidgets]
    every_step: bool = False


TABS = (
    Tab("playground", "Playground", playground.build, every_step=True),
    Tab("dataset", "Dataset", dataset.build, every_step=True),
    Tab("tuning", "Tuning", tuning.build, every_step=True),
    Tab("labeling", "Labeling", labeling.build, every_step=True),
    Tab("alignment", "Alignment", alignment.build, every_step=True),
    Tab("compare", "Compare", compare.build, every_step=True),
    Tab("models", "Models", models.build),
    Tab("jobs", "Jobs", jobs.build, every_step=True),
)


def build_app(workspace: Workspace, identify: Identify = owner_only, tabs: Sequence[Tab] = TABS) -> FastAPI:
    """The server of a workspace: the outer app with the pages mounted inside."""
    app = create_app(workspace, identify)
    uploads = workspace.path / "uploads"
    uploads.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # else uploads land in a folder that every user of the machine sees
    gr.mount_gradio_app(
        app,
        build_pages(workspace, tabs),
        path="/",
        auth_dependency=identify,
        theme=build_theme(),
        css_paths=[ASSETS / "style.css"],
        head_paths=[ASSETS / "head.html"],
        footer_links=[],
        run_history=False,
        show_error=False,  # else the person reads the text of our exceptions
        enable_monitoring=False,
        max_file_size=workspace.settings.max_upload,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    return app


class _Blocks(gr.Blocks):
    """Leaves outputs that a handler skips alone. Gradio 6 builds each of them anew for the session, as if it had changed:
    that was most of what an open page cost whenever it looked whether anything had moved."""

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[str, Any], state: SessionState | None
    ) -> list[Any]:
        outputs = block_fn.outputs
        if _is_skip(predictions):
            return [gr.skip()] * len(outputs)
        if not isinstance(predictions, list | tuple) or not len(predictions) == len(outputs) > 1:
            return await super().postprocess_data(block_fn, predictions, state)
        kept = [n for n, value in enumerate(predictions) if not _is_skip(value)]
        told: list[Any] = [gr.skip()] * len(outputs)
        if kept:
            part = copy(block_fn)
            part.outputs = [outputs[n] for n in kept]
            values = [predictions[n] for n in kept]
            done = await super().postprocess_data(part, values if len(kept) > 1 else values[0], state)
            for n, value in zip(kept, done, strict=True):
                told[n] = value
        return told


def _is_skip(value: object) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def build_pages(workspace: Workspace, tabs: Sequence[Tab] = TABS) -> gr.Blocks:
    """Every tab under one header."""
    demo = _Blocks(title="Ladder Studio", fill_width=True, delete_cache=(3600, 86400))
    with demo:
        pulse = header(workspace, [t.id for t in tabs], every_step=[t.id for t in tabs if t.every_step])
        with gr.Tabs(elem_id="tabs", selected=tabs[0].id) as bar:
            built: dict[str, tuple[gr.Tab, TabWidgets]] = {}
            for tab in tabs:
                with gr.Tab(tab.title, id=tab.id, elem_id=f"tab-{tab.id}") as page:
                    built[tab.id] = page, tab.build(workspace)
        _wire_refreshes(built, pulse)
        _wire_links(demo, workspace, bar, built, pulse)
        _wire_edges(workspace, bar, built, pulse)
    _track_no_hidden_progress(demo)
    demo.max_threads = 128  # at most so many queued events run at once, waiting streams included
    demo.state_session_capacity = 300
    demo.queue(default_concurrency_limit=8, max_size=200)
    return demo


def _track_no_hidden_progress(demo: gr.Blocks) -> None:
    """Gradio's page keeps the progress of all outputs of every listener that ever ran, hidden or not, and goes over all of
    them (a search through the whole page for each) at each event. What shows none need not be among them."""
    for fn in demo.fns.values():
        if fn.show_progress == "hidden":
            fn.show_progress_on = []


def _wire_refreshes(built: Mapping[str, tuple[gr.Tab, TabWidgets]], pulse: Pulse) -> None:
    """A tab reads its rows when it opens, and while it is open whenever the pulse beats for it."""
    for name, (page, widgets) in built.items():
        # ladderTab (assets/head.html) writes the address, whoever opened the tab.
        told = f"() => {{ window.ladderTab?.('{name}'); return '{name}' }}"
        page.select(None, None, pulse.open_tab, js=told, api_visibility="private")
        if widgets.refresh is None:
            continue
        fn, inputs, outputs = widgets.refresh.fn, list(widgets.refresh.inputs), list(widgets.refresh.outputs)
        converts = not widgets.refresh.is_plain
        for trigger in (page.select, pulse.beats[name].change):
            trigger(
                handler(fn),
                inputs,
                outputs,
                queue=False,
                preprocess=converts,
                postprocess=converts,
                show_progress="hidden",
                trigger_mode="always_last",
                api_visibility="private",
            )


def _wire_links(
    demo: gr.Blocks,
    workspace: Workspace,
    bar: gr.Tabs,
    built: Mapping[str, tuple[gr.Tab, TabWidgets]],
    pulse: Pulse,
) -> None:
    """A page opens at what its address names: `?tab=tuning&run=17`."""
    boxes = {(tab, key): box for tab, (_, widgets) in built.items() for key, box in widgets.links.items()}

    def open_page(request: gr.Request) -> list[Any]:
        asked = request.query_params
        tab = asked.get("tab")
        if tab not in built:  # the first tab is open already, unless a quick person has gone on to another
            first = next(iter(built))
            return [gr.skip(), gr.skip(), *first_beat(workspace, pulse, first), *[gr.skip()] * len(boxes)]
        given = [asked[key] if name == tab and key in asked else gr.skip() for name, key in boxes]
        return [gr.Tabs(selected=tab), tab, *first_beat(workspace, pulse, tab), *given]

    demo.load(
        handler(open_page),
        None,
        [bar, pulse.open_tab, *pulse.outputs, *boxes.values()],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    ).then(None, None, None, js="() => window.ladderIsReady()", api_visibility="private")


def _wire_edges(
    workspace: Workspace, bar: gr.Tabs, built: Mapping[str, tuple[gr.Tab, TabWidgets]], pulse: Pulse
) -> None:
    """The buttons of one tab that set widgets of another."""
    pages = {name: widgets for name, (_, widgets) in built.items()}

    def open_with(
        tab: str, button: gr.Button, given: Any, fn: Callable[..., list[Any]], outputs: Sequence[Any]
    ) -> None:
        """A click opens the tab with what fn makes of the given widget."""
        button.click(
            handler(lambda value: [tab, gr.Tabs(selected=tab), *fn(value)]),
            given,
            [pulse.open_tab, bar, *outputs],
            api_visibility="private",
        ).success(None, None, None, js="() => { window.scrollTo({ top: 0 }) }", api_visibility="private")

    def try_it(run: str) -> list[Any]:
        return beside_base(workspace, run)

    match pages:
        case {"tuning": TuningWidgets() as tuned, "playground": PlaygroundWidgets() as asked}:
            open_with("playground", tuned.try_it, tuned.run, try_it, asked.models)
    match pages:
        case {"alignment": AlignmentWidgets() as aligned, "playground": PlaygroundWidgets() as asked}:
            open_with("playground", aligned.try_it, aligned.aligned, try_it, asked.models)
    match pages:
        case {"alignment": AlignmentWidgets() as aligned, "labeling": LabelingWidgets() as desk}:
            for button in aligned.to_labeling:
                open_with("labeling", button, aligned.batch, lambda batch: [batch or gr.skip()], [desk.batch])
