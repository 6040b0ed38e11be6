"""What a run is told: three fields, and under "Advanced" the method and its knobs.

Every widget comes from the classes of studio/recipes: the knobs that all methods share once, each method's own in a group
of its own, of which the chosen method's is in sight. Methods with the same knobs share a group.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from components.charts import compact
from components.forms import Form, form
from components.frame import chip, duration, live_dropdown, markup
from components.picking import pick_list, rows_to_pick
from studio.errors import InputError, StudioError
from studio.fields import describe
from studio.models import EMBEDDED, Weights
from studio.recipes.tuning import Tuning, tuning_methods
from studio.recipes.tuning_state import MethodLine, by_effort, method_named, methods_on, stated_defaults
from studio.specs import ModelRef
from studio.workspace import Workspace

__all__ = ["Knobs", "bases", "snapshots"]

_THREE = ("data", "base", "effort")
_STATED = ("epochs", "learning_rate")  # empty fields that stand for something else with each method


class Knobs:
    """The form. `inputs` begin with the method; `read` makes the task of what they hold. `use` is made here and stands
    where its owner renders it."""

    def __init__(self, workspace: Workspace, method: gr.Textbox) -> None:
        """`method` is a hidden box with the kind of the chosen method."""
        self.workspace, self.method = workspace, method
        three, self.use = self._lay_out_three(), _use()
        self.minutes = markup(elem_classes=["effort-minutes"])
        with gr.Accordion("Advanced", open=False, elem_classes=["more"], elem_id="tune-advanced") as self.advanced:
            markup('<h3 class="knob-title">Method</h3>')
            self.methods = pick_list("Methods", elem_id="tune-methods")
            markup('<h3 class="knob-title">Knobs of every method</h3>')
            common = form(Tuning, given={**three, "use": self.use}, columns=4)  # type: ignore[type-abstract]
            self._lay_out_own()
        self.common = common.widgets
        for name, words in self._defaults(method.value, "balanced").items():
            self.common[name].placeholder = words  # type: ignore[attr-defined]

    def _lay_out_three(self) -> dict[str, Component]:
        asked = {field.name: field for field in describe(Tuning)}
        data, base, effort = (asked[name] for name in _THREE)
        with gr.Row(elem_classes=["form-row", "three"]):
            self.data = live_dropdown(snapshots(self.workspace), label=data.title, info=data.help, elem_id="tune-data")
            self.base = live_dropdown(
                bases(self.workspace), value=str(EMBEDDED), label=base.title, info=base.help, elem_id="tune-base"
            )
            self.effort = gr.Radio(
                [(words, value) for words, value in effort.choices],
                value=effort.default,
                label=effort.title,
                info=effort.help,
                elem_id="tune-effort",
            )
        return {"data": self.data, "base": self.base, "effort": self.effort}

    def _lay_out_own(self) -> None:
        self.groups: list[gr.Column] = []
        self._own: dict[str, int] = {}  # kind -> place in `groups`; a method without knobs of its own has none
        self._forms: list[Form[Any]] = []
        alike: dict[tuple[tuple[str, str | None], ...], int] = {}
        for kind, method in tuning_methods().items():
            fields = {n: f for n, f in method.model_fields.items() if n not in Tuning.model_fields}
            if not fields:
                continue
            key = tuple((name, field.title) for name, field in fields.items())
            if key not in alike:
                alike[key] = len(self.groups)
                with gr.Column(visible=kind == self.method.value, elem_classes=["own-knobs"]) as column:
                    markup(f'<h3 class="knob-title">Knobs of {html.escape(_sharing(key))}</h3>')
                    self._forms.append(form(method, skip=tuple(Tuning.model_fields), columns=4))
                self.groups.append(column)
            self._own[kind] = alike[key]

    # -- in and out ---------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[Component]:
        """The method, the fields that all methods share, then every group."""
        return [self.method, *self.common.values(), *(w for group in self._forms for w in group.inputs)]

    def read(self, values: Sequence[Any]) -> Tuning:
        """The task that the widgets describe; raises InputError with a sentence per bad field."""
        chosen, ours = self._chosen(values)
        return chosen.read(ours)

    def show(self, task: Tuning) -> list[Any]:
        """Values for `inputs`, so that the form says what that task was told."""
        shown = self._form(task.kind).show(task)
        by_widget = {id(w): value for w, value in zip(self._form(task.kind).inputs, shown, strict=True)}
        found = [by_widget.get(id(widget), gr.skip()) for widget in self.inputs[1:]]
        # A list holds values against its choices, and those of the page are from the time when the server started.
        names = list(self.common)
        lists: dict[str, Any] = {"data": snapshots(self.workspace), "base": bases(self.workspace)}
        for name, choices in lists.items():
            found[names.index(name)] = gr.Dropdown(choices=choices, value=str(getattr(task, name)))
        return [task.kind, *found]

    def validator(self) -> Callable[..., list[dict[str, Any]]]:
        """Says what is wrong under the three fields; what is folded away is said by `read`, in a sentence."""

        def check(*values: Any) -> list[dict[str, Any]]:
            fine = gr.validate(True, "")
            verdicts = [fine] * len(self.inputs)
            try:
                chosen, ours = self._chosen(values)
            except InputError:
                return verdicts
            said = dict(zip(chosen.widgets, chosen.validator()(*ours), strict=False))
            for name in _THREE:
                verdicts[1 + list(self.common).index(name)] = said[name]
            return verdicts

        return check

    def _chosen(self, values: Sequence[Any]) -> tuple[Form[Tuning], list[Any]]:
        """The form of the chosen method, and its part of the values."""
        chosen = self._form(str(values[0]))
        by_widget = {id(w): value for w, value in zip(self.inputs, values, strict=False)}
        return chosen, [by_widget[id(widget)] for widget in chosen.inputs]

    def _form(self, kind: str) -> Form[Tuning]:
        method = method_named(kind)
        own = self._forms[self._own[kind]].widgets if kind in self._own else {}
        ours = {**self.common, **own}
        return Form(method, {f: ours[f] for f in method.model_fields}, frozenset(ours) - set(_THREE))

    # -- what depends on the choice -----------------------------------------------------------------------------

    @property
    def choice_outputs(self) -> list[Any]:
        """What `choice` returns: the list of methods, what empty fields stand for, and the chosen method's knobs."""
        return [self.methods, *(self.common[name] for name in _STATED), *self.groups]

    def choice(self, kind: str, base: str, effort: str) -> list[Any]:
        """After another method, model or effort."""
        stated = self._defaults(kind, effort)
        shown = self._own.get(kind)
        return [
            self.method_list(kind, base),
            *(gr.Textbox(placeholder=stated[name]) for name in _STATED),
            *(gr.Column(visible=place == shown) for place in range(len(self.groups))),
        ]

    def method_list(self, kind: str, base: str) -> str:
        """The methods with what they add to the model, as HTML; the chosen one is marked."""
        lines = methods_on(self.weights(base))
        head = ("Method", "What it does", "Cost", "New parameters", "Here")
        rows = [(line.kind, _cells(line)) for line in lines]
        widths = ("130px", "", "19%", "124px", "96px")
        return f'<div class="framed">{rows_to_pick("Methods", head, rows, current=kind, widths=widths)}</div>'

    def weights(self, base: str) -> Weights | None:
        """Of the chosen model; None while they are not there."""
        try:
            return self.workspace.weights(ModelRef(base), wait=False)
        except StudioError:
            return None

    def minutes_of(self, task: Tuning | None, seconds: float | None) -> str:
        """What the presets mean on this machine, as HTML; '' until a run here has shown it."""
        presets = by_effort(task, seconds) if task is not None else {}
        if not presets:
            return ""
        words = " · ".join(f"{effort.capitalize()} about {duration(took)}" for effort, took in presets.items())
        return f'<p class="quiet">On this machine: {html.escape(words)}</p>'

    def _defaults(self, kind: str, effort: str) -> dict[str, str]:
        stated = stated_defaults(kind, effort)
        return {name: f"Empty: {stated[name]}" if name in stated else "Empty" for name in _STATED}


def _use() -> gr.Dropdown:
    asked = next(field for field in describe(Tuning) if field.name == "use")
    return gr.Dropdown(
        list(asked.choices),
        value=asked.default,
        label=asked.title,
        info=asked.help,
        scale=0,
        min_width=300,
        elem_id="tune-use",
        render=False,
    )


def snapshots(workspace: Workspace) -> list[str]:
    """The frozen datasets that a model can learn from."""
    return [str(s.ref) for s in workspace.store.snapshots("data")]


def bases(workspace: Workspace) -> list[tuple[str, str]]:
    """The models that answer: (words, reference)."""
    return [(offer.label, str(offer.ref)) for offer in workspace.offers()]


def _sharing(key: tuple[tuple[str, str | None], ...]) -> str:
    """'LoRA and QLoRA': the methods that have just these knobs of their own."""
    names = [
        method.name
        for method in tuning_methods().values()
        if tuple((n, f.title) for n, f in method.model_fields.items() if n not in Tuning.model_fields) == key
    ]
    return " and ".join(names)


def _cells(line: MethodLine) -> tuple[str, ...]:
    works = chip("Not here", "caution", line.refusal) if line.refusal else chip("Works", "good")
    why = f'<p class="quiet">{html.escape(line.refusal)}</p>' if line.refusal else ""
    count = "–" if line.new_parameters is None else compact(line.new_parameters)
    exact = "" if line.new_parameters is None else f' title="{line.new_parameters:,}"'
    if line.new_parameters is None and not line.refusal:
        works = "–"  # no model, nothing known
    return (
        f"<b>{html.escape(line.name)}</b>",
        f"{html.escape(line.explains)}{why}",
        html.escape(line.cost),
        f"<span{exact}>{count}</span>",
        works,
    )
