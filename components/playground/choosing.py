"""Widgets for a way to choose examples: which selector, its knobs, and the one that it works on top of, if it does.

    choosing = selector_form()
    button.click(handler(show), [question, *choosing.inputs], shown)   # def show(question, *values): choosing.read(values)

A new selector is one file in studio/prompts/selectors; it gets its widgets here without a line of ours.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import BaseModel, create_model

from components.forms import Form, form
from components.frame import handler, markup
from studio.prompts.selectors import Selector, selector, selectors

__all__ = ["SelectorForm", "selector_form"]

_USUAL = "knn"
_INNER = "inner"  # the field of a wrapper that holds another selector


@dataclass(frozen=True)
class SelectorForm:
    """The widgets, in the order of `inputs`."""

    name: gr.Dropdown
    inner: gr.Dropdown
    knobs: Mapping[str, Form[BaseModel]]

    @property
    def inputs(self) -> list[Any]:
        """What to give a listener as inputs."""
        return [self.name, self.inner, *(widget for knobs in self.knobs.values() for widget in knobs.inputs)]

    def read(self, values: Sequence[Any]) -> Selector:
        """The selector people described; raises InputError naming the knob, or NotFound."""
        name, inner, *rest = values
        if name not in self.knobs:
            return selector(str(name))
        made = self._given(name, rest)
        return selector({**made, _INNER: self._given(inner, rest)} if selectors()[name].is_wrapper else made)

    def _given(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        before = list(self.knobs)[: list(self.knobs).index(name)] if name in self.knobs else []
        start = sum(len(self.knobs[other].inputs) for other in before)
        own = self.knobs.get(name)
        typed = own.read(values[start : start + len(own.inputs)]).model_dump() if own else {}
        return {"name": name, **typed}


def selector_form() -> SelectorForm:
    """Lay the widgets out where this is called; the knobs that do not count at the moment are out of sight."""
    kinds = selectors()
    plain = [(kind.title, name) for name, kind in kinds.items() if not kind.is_wrapper]
    name = gr.Dropdown([(kind.title, name) for name, kind in kinds.items()], value=_USUAL, label="Selector")
    summary = markup(_summary(_USUAL))
    inner = gr.Dropdown(plain, value=_USUAL, label="Chooses first", visible=False)
    boxes: dict[str, gr.Column] = {}
    knobs: dict[str, Form[BaseModel]] = {}
    for key, kind in kinds.items():
        with gr.Column(visible=key == _USUAL, elem_classes=["knobs"]) as boxes[key]:
            knobs[key] = form(_knobs_of(kind))

    def show(name: str, inner: str) -> list[Any]:
        wraps = kinds[name].is_wrapper if name in kinds else False
        seen = {name, inner} if wraps else {name}
        columns = [gr.Column(visible=key in seen and bool(knobs[key].inputs)) for key in boxes]
        return [_summary(name), gr.Dropdown(visible=wraps), *columns]

    gr.on(
        [name.input, inner.input],
        handler(show),
        [name, inner],
        [summary, inner, *boxes.values()],
        show_progress="hidden",
        api_name="show_knobs",
        api_visibility="private",
    )
    return SelectorForm(name, inner, knobs)


def _knobs_of(kind: type[Selector]) -> type[BaseModel]:
    """A selector's own knobs as a class of their own: no widget asks for the selector inside another one."""
    own: dict[str, Any] = {n: (info.annotation, info) for n, info in kind.model_fields.items() if n != _INNER}
    return create_model(f"{kind.__name__}Knobs", **own)


def _summary(name: str) -> str:
    kind = selectors().get(name)
    if kind is None:
        return ""
    return f'<p class="quiet">{html.escape(kind.summary)} {html.escape(kind.citation)}</p>'
