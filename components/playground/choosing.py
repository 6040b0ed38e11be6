"""Widgets for a way to choose examples: which selector, its knobs, and the one that it works on top of, if it does.

    choosing = SelectorForm()
    choosing.lay_out_choice(); choosing.lay_out_knobs()        # where each belongs on the page
    button.click(handler(show), [question, *choosing.inputs], shown)   # def show(question, *values): choosing.read(values)

A new selector is one file in studio/prompts/selectors; it gets its widgets here without a line of ours.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr
from pydantic import BaseModel, create_model

from components.forms import Form, form
from components.frame import handler, markup

# Not from studio.prompts: there the name `selectors` is this package and its function, whichever was bound last.
from studio.prompts.selectors import Selector, selector, selectors

__all__ = ["SelectorForm"]

_USUAL = "knn"
_INNER = "inner"  # the field of a wrapper that holds another selector


class SelectorForm:
    """Two dropdowns and, per selector, its knobs; those that do not count at the moment are out of sight."""

    name: gr.Dropdown
    inner: gr.Dropdown

    def __init__(self) -> None:
        self._kinds = selectors()
        self._knobs: dict[str, Form[BaseModel]] = {}

    def lay_out_choice(self) -> None:
        """The selector and, for one that works on what another chose, which other."""
        named = {name: kind.title for name, kind in self._kinds.items()}
        plain = [(title, name) for name, title in named.items() if not self._kinds[name].is_wrapper]
        self.name = gr.Dropdown([(t, n) for n, t in named.items()], value=_USUAL, label="Selector", min_width=212)
        self.inner = gr.Dropdown(plain, value=_USUAL, label="Chooses first", visible=False, min_width=212)

    def lay_out_knobs(self) -> None:
        """What the selector is, in words, and its knobs; wires the choice, so it comes second."""
        summary = markup(_summary(_USUAL))
        boxes: list[gr.Column] = []
        for name, kind in self._kinds.items():
            with gr.Column(visible=name == _USUAL, elem_classes=["knobs"]) as box:
                self._knobs[name] = form(_knobs_of(kind), columns=3)
            boxes.append(box)

        def show(name: str, inner: str) -> list[Any]:
            seen = {name, inner} if self._wraps(name) else {name}
            columns = [gr.Column(visible=key in seen and bool(knobs.inputs)) for key, knobs in self._knobs.items()]
            return [_summary(name), gr.Dropdown(visible=self._wraps(name)), *columns]

        gr.on(
            [self.name.input, self.inner.input],
            handler(show),
            [self.name, self.inner],
            [summary, self.inner, *boxes],
            show_progress="hidden",
            api_name="show_knobs",
            api_visibility="private",
        )

    @property
    def inputs(self) -> list[Any]:
        """What to give a listener as inputs, last of all."""
        return [self.name, self.inner, *(widget for knobs in self._knobs.values() for widget in knobs.inputs)]

    def read(self, values: Sequence[Any]) -> Selector:
        """The selector people described; raises InputError naming the knob, or NotFound."""
        name, inner, *typed = values
        made = self._described(name, typed)
        return selector({**made, _INNER: self._described(inner, typed)} if self._wraps(name) else made)

    def _wraps(self, name: str) -> bool:
        return name in self._kinds and self._kinds[name].is_wrapper

    def _described(self, name: str, typed: Sequence[Any]) -> dict[str, Any]:
        """A selector as `selector` takes it, with its own part of what was typed."""
        left = list(typed)
        for key, knobs in self._knobs.items():
            own, left = left[: len(knobs.inputs)], left[len(knobs.inputs) :]
            if key == name:
                return {"name": name, **knobs.read(own).model_dump()}
        return {"name": name}


def _knobs_of(kind: type[Selector]) -> type[BaseModel]:
    """A selector's own knobs as a class of their own: no widget asks for the selector inside another one."""
    own: dict[str, Any] = {n: (info.annotation, info) for n, info in kind.model_fields.items() if n != _INNER}
    return create_model(f"{kind.__name__}Knobs", **own)


def _summary(name: str) -> str:
    kind = selectors().get(name)
    if kind is None:
        return ""
    return f'<p class="quiet">{html.escape(kind.summary)} {html.escape(kind.citation)}</p>'
