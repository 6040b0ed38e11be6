"""One generator of forms: a pydantic class in, widgets out, and what people typed back as a validated object.

    knobs = form(Lora, given={"base": base, "data": data}, first=("effort",))
    start.click(handler(begin), knobs.inputs, [job], validator=knobs.validator())

    def begin(*values):
        workspace.queue(knobs.read(values), author=...)

Everything a field needs is said on the field (see studio/fields.py); there is no second list to keep in step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gradio as gr
from gradio.components import Component
from pydantic import BaseModel, ValidationError

from studio.errors import InputError
from studio.fields import Field, complaints, describe, fill_in, without_blanks

__all__ = ["Form", "form", "named_lines"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Form(Generic[M]):
    """Widgets for a class, in the order of its fields."""

    model: type[M]
    widgets: Mapping[str, Component]
    folded: frozenset[str] = frozenset()  # fields in the closed part, where a message would not be seen

    @property
    def inputs(self) -> list[Component]:
        """What to give a listener as `inputs`; further inputs may follow."""
        return list(self.widgets.values())

    def read(self, values: Sequence[Any], **fixed: Any) -> M:
        """The object people described, `fixed` fields added; raises InputError with a sentence per bad field."""
        return fill_in(self.model, {**self.named(values), **fixed})

    def show(self, values: BaseModel | Mapping[str, Any]) -> list[Any]:
        """Values for the widgets, to return from a handler whose outputs are `inputs`."""
        given = values.model_dump(mode="json") if isinstance(values, BaseModel) else values
        kinds = {f.name: f for f in describe(self.model)}
        return [_shown(kinds[name], given[name]) if name in given else gr.skip() for name in self.widgets]

    def validator(self, **fixed: Any) -> Callable[..., list[dict[str, Any]]]:
        """For a listener's `validator=`: says what is wrong under the field where it is wrong.

        Folded fields are left to `read`, whose sentence is seen whatever is open.
        """

        def check(*values: Any) -> list[dict[str, Any]]:
            wrong = self._complaints({**self.named(values), **fixed})
            verdicts = [gr.validate(name not in wrong, wrong.get(name, "")) for name in self.widgets]
            return verdicts + [gr.validate(True, "")] * (len(values) - len(verdicts))

        return check

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.widgets, values, strict=False))

    def _complaints(self, values: Mapping[str, Any]) -> dict[str, str]:
        # Only fields have a place for a message; what is wrong with the whole is said by `read`. Nor may anything
        # be raised here: Gradio shows a validator's exception text to the person as it is.
        try:
            self.model.model_validate(without_blanks(self.model, values))
        except ValidationError as error:
            said = complaints(self.model, error)
            shown = {name: text for name, text in said.items() if name not in self.folded}
            return {name: f"{text[:1].upper()}{text[1:]}." for name, text in shown.items()}
        except Exception:
            log.exception("The form of %s could not be checked", self.model.__name__)
        return {}


def form(
    model: type[M],
    *,
    given: Mapping[str, Component] | None = None,
    skip: Collection[str] = (),
    first: Sequence[str] | None = None,
    more: str = "More settings",
    columns: int = 1,
) -> Form[M]:
    """Lay out widgets for a class where it is called.

    `given` widgets stand elsewhere on the page and belong to the form all the same; `skip` fields are left out (give
    them to `read` as fixed values). With `first`, only those fields show at once and the others fold away under `more`.
    """
    ours = [f for f in describe(model) if f.name not in skip]
    made: dict[str, Component] = dict(given or {})
    open_ones = [f for f in ours if f.name not in made and (first is None or f.name in first)]
    folded = [f for f in ours if f.name not in made and f not in open_ones]
    made |= _lay_out(open_ones, columns)
    if folded:
        with gr.Accordion(more, open=False, elem_classes=["more"]):
            made |= _lay_out(folded, columns)
    return Form(model, {f.name: made[f.name] for f in ours}, frozenset(f.name for f in folded))


def _lay_out(fields: Sequence[Field], columns: int) -> dict[str, Component]:
    if columns == 1:
        return {f.name: _widget(f) for f in fields}
    made: dict[str, Component] = {}
    for start in range(0, len(fields), columns):
        with gr.Row(elem_classes=["form-row"]):
            made |= {f.name: _widget(f) for f in fields[start : start + columns]}
    return made


def _widget(field: Field) -> Component:
    """The widget for a field. Bounds are left to validation: gr.Number would answer them with a toast of its own."""
    common: dict[str, Any] = {
        "label": field.title,
        "info": field.hint or None,
        "value": _shown(field, field.default),
        "min_width": 160,
    }
    match field.kind:
        case "bool":
            return gr.Checkbox(**common)
        case "int" | "float" if field.is_optional:
            return gr.Textbox(**common, placeholder="Empty")  # gr.Number turns an empty box into 0
        case "int" | "float":
            return gr.Number(**common)
        case "choice" if len(field.choices) <= 4 and not field.is_optional:
            return gr.Radio(choices=list(field.choices), **common)
        case "choice":
            return gr.Dropdown(choices=list(field.choices), **common)
        case "list":
            return gr.Textbox(lines=max(2, field.lines), placeholder="One a line", **common)
        case _:
            return gr.Textbox(lines=field.lines, **common)


def _shown(field: Field, value: Any) -> Any:
    if field.kind == "list":
        return "\n".join(str(item) for item in value or ())
    if field.kind == "choice" and value is not None:
        return getattr(value, "value", value)
    is_written = field.kind == "text" or (field.is_optional and field.kind in ("int", "float"))
    return ("" if value is None else str(value)) if is_written else value


def named_lines(text: str, what: str) -> dict[str, tuple[int, str]]:
    """`name: value`, one a line, as {name: (line, value)}. Raises InputError for a line of `what` without a name."""
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise InputError(f"Line {number} of the {what} is '{line.strip()[:60]}'. Write it as 'name: value'.")
        found[name.strip()] = number, value.strip()
    return found
