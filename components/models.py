"""The models page: what there is to start from, and what was made here, each with its licence and where it is from;
and the servers elsewhere that answer too (components/endpoints.py)."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.endpoints import build_endpoints
from components.frame import (
    Refresh,
    TabWidgets,
    card,
    chip,
    duration,
    empty_state,
    facts,
    handler,
    markup,
    page_header,
    progress,
)
from components.picking import mark_row, pick_list, picked, rows_to_pick, rows_to_read
from studio.errors import StudioError
from studio.models import Licence
from studio.models.lineage import Step, lineage, obligations
from studio.models.shelf import ShelfModel, shelf
from studio.store import Model
from studio.workspace import Workspace

__all__ = ["ModelsWidgets", "build"]

_WATCH_SECONDS = 1.0
_METHODS = {"lora": "LoRA", "sft": "SFT", "ppo": "PPO", "dpo": "DPO", "reward": "Reward model"}


@dataclass(frozen=True, kw_only=True)
class ModelsWidgets(TabWidgets):
    """`chosen` holds the reference of the open model."""

    chosen: gr.Textbox


def build(workspace: Workspace) -> ModelsWidgets:
    """Lay out the page and wire it."""
    page_header("models", "What you can start from, and what was made here.")
    with gr.Tabs(elem_classes=["views"]) as views:
        with gr.Tab("Catalogue", id="catalogue"):
            known = markup()
        with gr.Tab("Made here", id="made"):
            nothing = empty_state(
                "No model was made here yet. Tuning one takes a frozen dataset and a few minutes.",
                "Open tuning",
                visible=False,
            )
            with gr.Row(elem_classes=["columns"]) as body:
                with gr.Column(scale=1, min_width=480):
                    made = pick_list("Models made here", elem_id="made-models")
                with card(scale=0, min_width=400, elem_classes=["model-card"]):
                    shown = markup()
        with gr.Tab("Endpoints", id="endpoints"):
            endpoints = build_endpoints(workspace)
    with gr.Row(elem_classes=["off-screen"]):
        chosen = gr.Textbox("", label="Model", visible="hidden")
        asked = gr.Textbox("", label="Model asked for", visible="hidden")
    # Ticks only while the model that comes with the studio is being converted: no job row tells of that.
    watch = gr.Timer(_WATCH_SECONDS, active=False)

    def look(ref: str, asked_ref: str, endpoint: str) -> list[Any]:
        try:
            models = workspace.store.models()
            # Only a person who just came is led to a view; later refreshes leave the open one alone.
            view = gr.skip() if ref else gr.Tabs(selected="made" if models else "catalogue")
            ref = ref or asked_ref or (models[0].ref if models else "")
            return [view, *_made(models, ref), _card(workspace, ref), ref, *see_shelf(), *endpoints.look(endpoint)]
        except StudioError:
            return [gr.skip()] * len(everything)

    def see_shelf() -> list[Any]:
        there = shelf(workspace.settings, workspace.path)
        return [_catalogue(there), gr.Timer(active=any(m.state == "preparing" for m in there))]

    def open_model(event: gr.EventData) -> list[Any]:
        return [_card(workspace, picked(event)), picked(event)]

    everything = [views, nothing.box, body, made, shown, chosen, known, watch, *endpoints.outputs]
    made.pick(handler(open_model), None, [shown, chosen], show_progress="hidden", api_visibility="private")
    chosen.change(None, chosen, None, js=mark_row("made-models"), api_visibility="private")
    watch.tick(handler(see_shelf), None, [known, watch], show_progress="hidden", api_visibility="private")
    nothing.action.click(
        None, None, None, js="() => document.getElementById('tab-tuning-button')?.click()", api_visibility="private"
    )
    refresh = Refresh(look, [chosen, asked, endpoints.chosen], everything)
    return ModelsWidgets(refresh=refresh, links={"model": asked}, chosen=chosen)


# -- made here -----------------------------------------------------------------------------------------------


def _made(models: list[Model], current: str) -> list[Any]:
    """Empty state, list and its rows."""
    head = ("Model", "Method", "Made from", "Learned from", "New parameters", "Training", "Made")
    widths = ("", "64px", "168px", "142px", "118px", "76px", "68px")
    rows = [
        (
            m.ref,
            (
                f"<b>{html.escape(m.ref)}</b>{_quiet(m.title)}",
                html.escape(_method(m)),
                f'<span class="clamp">{html.escape(_name(m.base))}</span>',
                f'<span class="clamp">{html.escape(m.snapshot)}</span>',
                _many(m.new_parameters),
                duration(m.train_seconds),
                f'<span title="{_at(m.created_at)}">{_day(m.created_at)}</span>',
            ),
        )
        for m in models
    ]
    listed = rows_to_pick("Models made here", head, rows, current=current, widths=widths)
    return [gr.Column(visible=not models), gr.Row(visible=bool(models)), f'<div class="framed">{listed}</div>']


def _card(workspace: Workspace, ref: str) -> str:
    """One model: what it is, how it came to be, and what its licences ask."""
    if not ref:
        return ""
    steps = lineage(workspace.store, ref)
    if not steps:
        return _quiet(f"{ref} was not made here.")
    model = steps[0].model
    told = {
        "Made": f"{_at(model.created_at)}, by {model.author}",
        "Training": duration(model.train_seconds),
        "New parameters": f"{model.new_parameters:,}",
        "Gives": " and ".join(w for w, on in (("answers", model.answers), ("scores", model.scores)) if on),
        "Weights": str(model.path or "none"),
    }
    told |= _losses(workspace, model)
    return (
        f'<h2 class="section-title">{html.escape(model.ref)}</h2>{_quiet(model.title)}{facts(told)}'
        f"<h3>Where it comes from</h3>{_story(steps)}<h3>What its licences ask</h3>{_duties(steps)}"
    )


def _losses(workspace: Workspace, model: Model) -> dict[str, str]:
    """How well it predicted records it had not seen, before and after."""
    try:
        result = workspace.store.job(int(model.ref.name)).result or {}
    except StudioError:
        return {}
    before, after = result.get("validation_loss_before"), result.get("validation_loss")
    if not isinstance(before, float) or not isinstance(after, float):
        return {}
    return {"Validation loss": f"{before:.2f} before, {after:.2f} after"}


def _story(steps: list[Step]) -> str:
    """run:17 ← LoRA on embedded:… with data:brackenfold@1 (264 records, Apache-2.0), a line a run."""
    lines = [
        f"<li><b>{html.escape(step.model.ref)}</b> ← {html.escape(_method(step.model))} on "
        f"<b>{html.escape(step.model.base)}</b>{_with(step)}</li>"
        for step in steps
    ]
    return f'<ol class="lineage">{"".join(lines)}</ol>'


def _with(step: Step) -> str:
    if not step.model.snapshot:
        return ""
    data = f" with <b>{html.escape(step.model.snapshot)}</b>"
    if step.snapshot is None:
        return f"{data} (not in this workspace any more)"
    terms = step.snapshot.licence or "no licence stated"
    return f"{data} ({step.snapshot.rows:,} records, {html.escape(terms)})"


def _duties(steps: list[Step]) -> str:
    # Without reading rows, of which there may be a million: what single records name is in the card of an export.
    rows = "".join(
        f"<dt>{html.escape(what)}</dt><dd>{_licence(terms)}</dd>" for what, terms in obligations(steps) if what
    )
    more = "Licences that single records name stand on the card of a model that was downloaded or exported."
    return f'<dl class="duties">{rows}</dl>{_quiet(more) if any(step.snapshot for step in steps) else ""}'


# -- the catalogue -------------------------------------------------------------------------------------------


def _catalogue(models: list[ShelfModel]) -> str:
    head = ("Model", "Licence", "Parameters", "Window", "On this machine")
    widths = ("36%", "", "104px", "112px", "24%")
    rows = [
        (
            f"<b>{_linked(m.title, m.page)}</b><code>{html.escape(m.ref)}</code>{_quiet(m.note)}",
            _licence(m.licence),
            _many(m.parameters) if m.parameters else "–",
            f"{m.window:,} tokens" if m.window else "–",
            _state(m),
        )
        for m in models
    ]
    listed = rows_to_read("Models to start from", head, rows, widths=widths)
    more = "A folder with safetensors weights in the workspace's models folder appears here as dir:FOLDER."
    return f'<div class="framed">{listed}</div>{_quiet(more)}'


def _state(model: ShelfModel) -> str:
    match model.state:
        case "ready":
            return chip("Ready", "good")
        case "preparing":
            share = model.prepared or 0.0
            return f"{chip('Being prepared', 'caution')}{progress(share, f'{share:.0%}')}{_quiet(model.says)}"
        case "unprepared":
            return f"{chip('Ready when asked')}{_quiet(model.says)}"
        case "missing":
            return f"{chip('Not here', 'caution')}{_quiet(model.says)}"
        case _:
            return f"{chip('Cannot be read', 'bad')}{_quiet(model.says)}"


def _licence(terms: Licence) -> str:
    """Its name, and in plain words what it allows and asks."""
    allows = {True: "Business use allowed.", False: "No business use.", None: ""}[terms.commercial]
    return f"{_linked(terms.name, terms.url)}{_quiet(f'{allows} {terms.duties}'.strip())}"


# -- words ---------------------------------------------------------------------------------------------------


def _quiet(text: str) -> str:
    return f'<p class="quiet">{html.escape(text)}</p>' if text else ""


def _linked(text: str, url: str) -> str:
    if not url.startswith("https://"):
        return html.escape(text)
    return f'<a href="{html.escape(url, quote=True)}" target="_blank" rel="noreferrer">{html.escape(text)}</a>'


def _method(model: Model) -> str:
    return _METHODS.get(model.method, model.method or "Brought in")


def _name(ref: str) -> str:
    """The part that tells models apart; runs keep their whole reference."""
    return ref.split(":", 1)[1] if ref.startswith("embedded:") else ref


def _many(number: int) -> str:
    """134,515,008 -> 134.5 M"""
    for size, sign in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {sign}"
    return str(number)


def _day(at: float) -> str:
    return time.strftime("%d %b", time.localtime(at)).lstrip("0")


def _at(at: float) -> str:
    return f"{_day(at)} {time.strftime('%Y, %H:%M', time.localtime(at))}"
