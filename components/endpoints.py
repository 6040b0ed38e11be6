"""The endpoints in the models page: add a server, test it, change what is offered and its price, remove it."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from components.forms import Form, form
from components.frame import actions, card, chip, facts, handler, markup, notice, user_of
from components.picking import mark_row, pick_list, picked, rows_to_pick
from studio.backends import Trial, try_endpoint
from studio.errors import StudioError
from studio.fields import describe
from studio.models.endpoints import NewEndpoint, Terms, add_endpoint, change_endpoint, open_endpoint, whereabouts_of
from studio.store import Endpoint, Price
from studio.workspace import Workspace

__all__ = ["EndpointsSection", "build_endpoints"]

_INTRODUCTION = (
    "Any server with an OpenAI-compatible API can answer here: vLLM, Ollama, or a hosted one. "
    "What you send to a server elsewhere leaves this machine, and every page says so."
)
_LIMITS = (
    "Its chat template and tokenizer stay with it: the rendered prompt and token counts before sending cannot be had. "
    "It may ignore a seed, and nothing tells."
)


@dataclass(frozen=True)
class EndpointsSection:
    """`chosen` holds the name of the open endpoint; `look` gives the values of `outputs`."""

    workspace: Workspace
    chosen: gr.Textbox
    listed: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.listed]

    def look(self, current: str) -> list[Any]:
        return [_list_html(self.workspace, current)]


def build_endpoints(workspace: Workspace) -> EndpointsSection:
    """Lay out the section where it is called, and wire it."""
    page = _Page(workspace)
    # Who may add a server decides where the company's text can go.
    page.add.click(
        handler(page.add_endpoint, role="admin"),
        page.knobs.inputs,
        [page.listed, page.chosen, *page.emptied, *page.shown],
        validator=page.knobs.validator(),
        show_progress="hidden",
        api_name="add_endpoint",
    )
    page.listed.pick(
        handler(page.open_endpoint),
        None,
        [page.chosen, *page.shown],
        show_progress="hidden",
        api_name="open_endpoint",
        api_visibility="private",
    )
    page.chosen.change(None, page.chosen, None, js=mark_row("endpoint-rows"), api_visibility="private")
    page.test.click(
        handler(page.test_endpoint, role="admin"),
        page.chosen,
        [page.listed, *page.shown],
        show_progress_on=[page.said],
        api_name="test_endpoint",
    )
    page.save.click(
        handler(page.change_endpoint, role="admin"),
        [*page.terms.inputs, page.chosen],
        [page.listed, *page.shown],
        validator=page.terms.validator(),
        show_progress="hidden",
        api_name="change_endpoint",
    )
    page.remove.click(
        handler(page.remove_endpoint, role="admin"),
        page.chosen,
        [page.listed, page.chosen, *page.shown],
        show_progress="hidden",
        api_name="remove_endpoint",
    )
    return EndpointsSection(workspace, page.chosen, page.listed)


class _Page:
    """The widgets, and what happens when they are used."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        markup(f'<p class="quiet">{html.escape(_INTRODUCTION)}</p>')
        with gr.Row(elem_classes=["columns"]):
            with gr.Column(scale=1, min_width=480):
                self.listed = pick_list("Endpoints", elem_id="endpoint-rows")
                self._lay_out_open_one()
            with card("Add an endpoint", scale=0, min_width=400, elem_classes=["model-card"]):
                self._lay_out_new_one()
        with gr.Row(elem_classes=["off-screen"]):
            self.chosen = gr.Textbox("", label="Endpoint", visible="hidden")

    def _lay_out_open_one(self) -> None:
        with card(visible=False) as self.detail:
            self.where = markup()
            self.about = markup()
            markup(f'<p class="quiet">{html.escape(_LIMITS)}</p>')
            boxes: dict[str, Component] = {
                "models": gr.Textbox(label="Models offered", lines=3, placeholder="One a line"),
            }
            with gr.Row(elem_classes=["form-row"]):
                for name, label in (("prompt_price", "Price in"), ("output_price", "Price out")):
                    boxes[name] = gr.Textbox(
                        label=label, info="Of a million tokens", placeholder="Empty", min_width=120
                    )
                boxes["currency"] = gr.Textbox(label="Priced in", info="EUR, USD, …", min_width=120)
            self.terms: Form[Terms] = form(Terms, given=boxes)
            with actions():
                self.test = gr.Button("Test", min_width=0, scale=0)
                self.save = gr.Button("Save changes", variant="primary", min_width=0, scale=0)
                self.remove = gr.Button("Remove", min_width=0, scale=0)
            self.said = markup()

    def _lay_out_new_one(self) -> None:
        asked = {f.name: f for f in describe(NewEndpoint)}

        def box(name: str, **options: Any) -> gr.Textbox:
            return gr.Textbox(label=asked[name].title, info=asked[name].hint, **options)

        # `new-password` keeps the browser from offering to remember the key.
        attributes = gr.InputHTMLAttributes(autocomplete="new-password")
        first = {
            "name": box("name", placeholder="office"),
            "url": box("url", placeholder="http://127.0.0.1:8000/v1"),
            "key": box("key", type="password", html_attributes=attributes),
        }
        self.emptied = list(first.values())  # once it was added: a key does not stay on the page
        self.knobs: Form[NewEndpoint] = form(NewEndpoint, given=first, first=("models",), more="Price and patience")
        self.add = gr.Button("Add endpoint", variant="primary")

    @property
    def shown(self) -> list[Any]:
        """What shows the open endpoint."""
        return [self.detail, self.where, self.about, self.said, *self.terms.inputs]

    def add_endpoint(self, request: gr.Request, *values: Any) -> list[Any]:
        new = self.knobs.read(values)
        place = self.workspace
        made = add_endpoint(place.store, place.path, place.settings, new, author=user_of(request))
        said = notice(f"{made.name} was added. Test it to see whether it answers.", "good")
        return [_list_html(place, made.name), made.name, *("" for _ in self.emptied), *self._show(made, said)]

    def open_endpoint(self, event: gr.EventData) -> list[Any]:
        found = self.workspace.store.endpoint(picked(event))
        return [found.name, *self._show(found)]

    async def test_endpoint(self, name: str) -> list[Any]:
        """Ask the server one tiny question. What is wrong stays on the page, beside what would cure it."""
        place = self.workspace
        endpoint = place.store.endpoint(name)
        try:
            opened = open_endpoint(name, store=place.store, workspace=place.path, settings=place.settings)
            trial = await try_endpoint(opened)
            endpoint = place.store.set_endpoint_models(name, trial.models)
            said = _said(trial)
        except StudioError as error:
            said = notice(str(error), "bad")
        return [_list_html(place, name), *self._show(endpoint, said)]

    def change_endpoint(self, *values: Any) -> list[Any]:
        *typed, name = values
        changed = change_endpoint(self.workspace.store, name, self.terms.read(typed))
        return [_list_html(self.workspace, name), *self._show(changed, notice("Saved.", "good"))]

    def remove_endpoint(self, name: str) -> list[Any]:
        self.workspace.store.remove_endpoint(name)
        return [_list_html(self.workspace, ""), "", *self._show(None)]

    def _show(self, endpoint: Endpoint | None, said: str = "") -> list[Any]:
        if endpoint is None:
            return [gr.Column(visible=False), "", "", "", *(gr.skip() for _ in self.terms.inputs)]
        return [gr.Column(visible=True), _where(endpoint), _about(endpoint), said, *self.terms.show(_terms(endpoint))]


# -- words ---------------------------------------------------------------------------------------------------


def _list_html(workspace: Workspace, current: str) -> str:
    endpoints = workspace.store.endpoints()
    if not endpoints:
        return '<p class="quiet">No endpoint yet. All models that answer here are on this machine.</p>'
    head = ("Endpoint", "Models", "Key", "Price in / out")
    rows = [(e.name, _cells(e, workspace.settings.offline)) for e in endpoints]
    listed = rows_to_pick("Endpoints", head, rows, current=current, widths=("34%", "", "96px", "148px"))
    return f'<div class="framed">{listed}</div>'


def _cells(endpoint: Endpoint, is_offline: bool) -> tuple[str, ...]:
    mark = chip("This machine", "good") if endpoint.is_here else chip("Leaves this machine", "caution")
    if is_offline and not endpoint.is_here:
        mark = chip("Not while offline", "bad")
    names = ", ".join(model.name for model in endpoint.models[:4])
    more = f" and {len(endpoint.models) - 4} more" if len(endpoint.models) > 4 else ""
    return (
        f'<b>{html.escape(endpoint.name)}</b> {mark}<p class="quiet">{html.escape(endpoint.host)}</p>',
        html.escape(f"{names}{more}" or "none yet: test it"),
        "variable" if endpoint.key_variable else "locked" if endpoint.has_key else "none",
        html.escape(_price(endpoint.price)),
    )


def _where(endpoint: Endpoint) -> str:
    where = whereabouts_of(endpoint)
    title = f'<h2 class="section-title">{html.escape(endpoint.name)}</h2>'
    return f"{title}{notice(where.sentence, 'caution' if where.leaves else '')}"


def _about(endpoint: Endpoint) -> str:
    """The open endpoint in words. Of a key it says where it is, and nothing else."""
    key = "none"
    if endpoint.key_variable:
        key = f"from the environment variable {endpoint.key_variable}"
    elif endpoint.has_key:
        key = "locked with this workspace's secret, never shown"
    told = {
        "Address": endpoint.url,
        "Key": key,
        "Patience": f"{endpoint.timeout:g} seconds",
        "Added": f"{time.strftime('%d %b %Y', time.localtime(endpoint.created_at)).lstrip('0')}, by {endpoint.author}",
    }
    servers = sorted({model.server for model in endpoint.models if model.server})
    if servers:
        told["Says it is"] = ", ".join(servers)
    return facts(told)


def _said(trial: Trial) -> str:
    if trial.trouble:
        return notice(trial.trouble, "bad")
    answer = " ".join(trial.text.split())[:80]
    return notice(f"{trial.model} began to answer after {trial.first_seconds:.2f} s. It said: {answer}", "good")


def _price(price: Price) -> str:
    if price.prompt is None and price.output is None:
        return "not defined"
    amounts = " / ".join("–" if amount is None else f"{amount:g}" for amount in (price.prompt, price.output))
    return f"{amounts} {price.currency}".rstrip()


def _terms(endpoint: Endpoint) -> Mapping[str, Any]:
    """The values of the form for what can be changed."""
    return {
        "models": [model.name for model in endpoint.models],
        "prompt_price": endpoint.price.prompt,
        "output_price": endpoint.price.output,
        "currency": endpoint.price.currency,
    }
