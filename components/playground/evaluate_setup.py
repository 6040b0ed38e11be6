"""What an evaluation is put together from: columns, metrics with their settings, and a plan of what it will take.

Columns travel in a hidden box as JSON and metrics as the value of their list; both are checked whenever they are used.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from components.forms import named_lines
from components.frame import duration, notice
from studio.errors import InputError
from studio.evaluation.metrics import metric_kinds
from studio.evaluation.metrics.contains import Contains
from studio.fields import complaints, describe, fill_in
from studio.models.endpoints import whereabouts
from studio.prompts import find_template
from studio.prompts.grid import Earlier, Estimate, Grid, GridColumn, plan_grid, technique_for
from studio.prompts.grid.columns import check_column
from studio.prompts.selectors import selector
from studio.prompts.trials import check_set
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Store
from studio.workspace import Workspace

__all__ = [
    "METRICS_SCRIPT",
    "NO_PLAN",
    "Choices",
    "Columns",
    "board_html",
    "checked",
    "column_of",
    "metric_board",
    "metrics_on",
    "picked_of",
    "plan_html",
    "restored",
    "told_apart",
    "typed_metrics",
]

_MOST_COLUMNS = next(rule.max_length for rule in Grid.model_fields["columns"].metadata if hasattr(rule, "max_length"))
_LONGEST_NAME = 80
_STANDARD = ("instruction", "context", "guidelines", "category")  # filled in from the row and the column
_USUAL = ("rules", "exact", "f1")  # the first metrics of somebody who chose none
_HAS = {"eval": "rules", "data": "reference"}  # what a set's rows can be held against

M = TypeVar("M", bound=BaseModel)
Choices = list[tuple[str, str]]


# -- columns ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """The columns that are being put together; `edited` is the place of the one that is being changed."""

    columns: tuple[GridColumn, ...] = ()
    edited: int | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """From the page's hidden box; raises InputError for what is none of ours."""
        try:
            found = json.loads(text or "{}")
            columns = tuple(GridColumn.model_validate(column) for column in found.get("columns", ()))
            edited = found.get("edited")
        except (ValueError, TypeError, AttributeError) as error:  # a ValidationError is a ValueError
            raise InputError("The columns of this page cannot be read. Reload it and add them again.") from error
        return cls(columns, edited if isinstance(edited, int) and 0 <= edited < len(columns) else None)

    def plain(self) -> list[dict[str, Any]]:
        return [column.model_dump(mode="json") for column in self.columns]

    def written(self) -> str:
        return json.dumps({"columns": self.plain(), "edited": self.edited})

    def saved(self, column: GridColumn) -> Self:
        """With one more, or with the one that is being changed as it is now."""
        if self.edited is not None:
            return type(self)((*self.columns[: self.edited], column, *self.columns[self.edited + 1 :]))
        return self._with((*self.columns, column))

    def joined(self, more: Sequence[GridColumn]) -> Self:
        """With those of `more` that are not here yet."""
        return self._with((*self.columns, *(column for column in more if column not in self.columns)))

    def after(self, do: str, place: int) -> Self:
        """Changed, duplicated or removed at a place from 0."""
        if not 0 <= place < len(self.columns):
            raise InputError(f"There is no column {place + 1}; there are {len(self.columns)}. Reload the page.")
        match do:
            case "change":
                return replace(self, edited=None if place == self.edited else place)
            case "duplicate":
                twin = self.columns[place].model_copy(update={"label": ""})
                return self._with((*self.columns[: place + 1], twin, *self.columns[place + 1 :]))
            case "remove":
                return type(self)((*self.columns[:place], *self.columns[place + 1 :]))
            case _:
                raise InputError(f"A column cannot be told to '{do}'. Reload the page.")

    def _with(self, columns: tuple[GridColumn, ...]) -> Self:
        if len(columns) > _MOST_COLUMNS:
            raise InputError(f"An evaluation has at most {_MOST_COLUMNS} columns. Remove one first.")
        return type(self)(columns)


def restored(draft: Mapping[str, Any]) -> list[Any]:
    """Columns, limit and repeats of a draft; columns of an earlier version of the studio are left out."""
    found = []
    for column in draft.get("columns", ()):
        try:
            found.append(GridColumn.model_validate(column))
        except ValidationError:
            continue
    return [Columns(tuple(found)).written(), draft.get("limit", 0), draft.get("repeats", 1)]


def board_html(state: Columns) -> str:
    """The columns below each other, each with what may be done to it."""
    if not state.columns:
        return f'<h2 class="section-title">Columns</h2>{_NO_COLUMNS}'
    marks = [_marks(column) for column in state.columns]
    if len({column.guidelines for column in state.columns}) == 1:  # what all share tells nothing
        marks = [{about: words for about, words in own.items() if about != "guidelines"} for own in marks]
    rows = "".join(
        _board_row(place, column, marks[place], is_edited=place == state.edited)
        for place, column in enumerate(told_apart(state.columns))
    )
    note = f"<small>{len(state.columns)} of at most {_MOST_COLUMNS}; each answers every row</small>"
    return f'<h2 class="section-title">Columns {note}</h2><ol class="column-board">{rows}</ol>'


def _board_row(place: int, column: GridColumn, marks: Mapping[str, str], *, is_edited: bool) -> str:
    number = place + 1
    buttons = "".join(
        f'<button type="button" data-do="{do}" data-key="{place}" aria-label="{words} column {number}"'
        f"{pressed}>{words}</button>"
        for do, words, pressed in (
            ("change", "Change", f' aria-pressed="{"true" if is_edited else "false"}"'),
            ("duplicate", "Duplicate", ""),
            ("remove", "Remove", ""),
        )
    )
    facts = " · ".join(marks.values())
    opened = ' class="is-open"' if is_edited else ""
    return (
        f"<li{opened}>"
        f'<span class="number">{number}</span><div><b>{html.escape(column.title)}</b>'
        f'<p class="quiet">{html.escape(facts)}</p></div><div class="small-acts">{buttons}</div></li>'
    )


def _marks(column: GridColumn) -> dict[str, str]:
    """What a column is beside its prompt and model, in words; by what it is about."""
    drawn = column.sampling.model_dump(exclude={"temperature", "max_tokens"}, exclude_defaults=True)
    knobs = ", ".join(f"{name} {_plain(value)}" for name, value in column.knobs.items())
    examples = (
        "" if column.k is None and not column.bank else "examples" if column.k is None else f"{column.k} examples"
    )
    source = f" from {column.bank}, {column.selector.title.lower()}" if column.bank else ""
    told = " ".join(column.guidelines.split())
    said = {
        "temperature": f"temperature {column.sampling.temperature:g}",
        "max_tokens": f"up to {column.sampling.max_tokens:,} tokens",
        "technique": ", ".join(filter(None, (column.technique, knobs))),
        "examples": examples + source,
        "passages": _passages(column.passages),
        "sampling": ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in drawn.items()),
        "variables": ", ".join(f"{name}: {value}" for name, value in column.variables.items()),
        "guidelines": f"guidelines “{told if len(told) <= 41 else told[:40].rstrip() + '…'}”" if told else "",
    }
    return {about: words for about, words in said.items() if words}


def _passages(count: int) -> str:
    return "" if not count else "1 passage of the documents" if count == 1 else f"{count} passages of the documents"


def told_apart(columns: Sequence[GridColumn]) -> list[GridColumn]:
    """Columns that would have the same name are called by what tells them apart, at last by their number."""
    titles = [column.title for column in columns]
    named = []
    for place, column in enumerate(columns):
        twins = [_marks(other) for other, title in zip(columns, titles, strict=True) if title == column.title]
        if len(twins) > 1:
            own = _marks(column)
            differing = [words for about, words in own.items() if any(t.get(about) != words for t in twins)]
            tail = " · ".join(differing)[: _LONGEST_NAME // 2]
            same = sum(twin == own for twin in twins) > 1
            tail = " · ".join(filter(None, (tail, str(place + 1) if same else "")))
            head = column.title[: _LONGEST_NAME - len(tail) - 3].rstrip(" ·")
            column = column.model_copy(update={"label": f"{head} · {tail}"})
        named.append(column)
    return named


def column_of(store: Store, picked: Sequence[Any]) -> GridColumn:
    """The column that the pickers describe, in the order of `picked`; raises InputError naming what cannot be."""
    prompt, model, temperature, max_tokens, technique, examples, shots, chosen, guidelines, other = picked
    if not prompt or not model:
        raise InputError(f"The column has no {'prompt' if not prompt else 'model'}. Choose one.")
    template = find_template(store, prompt)
    plain = {"template": prompt, "model": model, "technique": technique or ""}
    settings = _Settings.read(str(other or ""))
    way = technique_for(template, checked(GridColumn, plain))
    declared = [name for name in template.declares if name not in _STANDARD]
    settings.refuse_others(("name", "seed", "passages", *_DRAWN, *way.knobs.model_fields, *declared))
    sampling = {"temperature": temperature, "max_tokens": max_tokens, **settings.of(_DRAWN, way.knobs.model_fields)}
    seed = settings.values.get("seed")
    column = checked(
        GridColumn,
        {
            **plain,
            "sampling": fill_in(Sampling, sampling | ({"seed": seed} if seed is not None else {})),
            "label": settings.values.get("name", ""),
            "knobs": _knobs(way.knobs, settings.values),
            "guidelines": guidelines or "",
            "variables": settings.of(declared),
            "k": _shots(shots),
            "bank": examples or "",
            "selector": selector(chosen or "fixed"),
            "passages": settings.values.get("passages", 0),
            **({"seed": seed} if seed is not None else {}),
        },
    )
    if not column.shots(template):
        column = column.model_copy(update={"bank": ""})
    check_column(store, column)
    return column


def picked_of(column: GridColumn) -> list[Any]:
    """A column in the pickers, in their order."""
    drawn = column.sampling.model_dump(exclude={"temperature", "max_tokens"}, exclude_defaults=True)
    own = {"name": column.label, "seed": column.seed, "passages": column.passages}
    lines = {**{name: value for name, value in own.items() if value}, **column.knobs, **drawn, **column.variables}
    return [
        column.template,
        str(column.model),
        column.sampling.temperature,
        column.sampling.max_tokens,
        column.technique,
        column.bank,
        "" if column.k is None else str(column.k),
        column.selector.name,
        column.guidelines,
        "\n".join(f"{name}: {_plain(value)}" for name, value in lines.items()),
    ]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_DRAWN = tuple(name for name in Sampling.model_fields if name not in ("temperature", "max_tokens", "seed"))


@dataclass(frozen=True)
class _Settings:
    """`name: value`, one a line, with the number of each line."""

    values: Mapping[str, str]
    lines: Mapping[str, int]

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises InputError for a line without a name."""
        found = named_lines(text, "other settings")
        return cls(
            {name: value for name, (_, value) in found.items()}, {name: line for name, (line, _) in found.items()}
        )

    def refuse_others(self, known: Sequence[str]) -> None:
        """Raise InputError for a setting that this column has not: it would be dropped without a word."""
        for name in self.values:
            if name not in known:
                raise InputError(
                    f"Line {self.lines[name]} of the other settings: this column has no '{name[:60]}'. "
                    f"It has: {', '.join(dict.fromkeys(known))}."
                )

    def of(self, names: Sequence[str], without: Mapping[str, Any] | Sequence[str] = ()) -> dict[str, Any]:
        """Those of these names; lists are written with commas between."""
        found: dict[str, Any] = {n: v for n, v in self.values.items() if n in names and n not in without}
        if "stop" in found:
            found["stop"] = tuple(part.strip() for part in found["stop"].split(",") if part.strip())
        return found


def _knobs(kind: type[BaseModel], values: Mapping[str, str]) -> dict[str, Any]:
    """The technique's settings among these, as what they are rather than as text; raises InputError for a bad one."""
    lists = {field.name for field in describe(kind) if field.kind == "list"}
    given = {
        name: tuple(part.strip() for part in value.split(",") if part.strip()) if name in lists else value
        for name, value in values.items()
        if name in kind.model_fields
    }
    return fill_in(kind, given).model_dump(mode="json", include=set(given)) if given else {}


def _shots(text: Any) -> int | None:
    said = str(text or "").strip()
    if said and not said.isdecimal():
        raise InputError(f"Examples shown cannot be '{said[:40]}'. Write a whole number, or leave it empty.")
    return int(said) if said else None


def checked(kind: type[M], fields: Mapping[str, Any]) -> M:
    """The validated object; an InputError that names every field that cannot be used."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        titles = {name: info.title or name for name, info in kind.model_fields.items()}
        said = complaints(kind, error)
        raise InputError(
            " ".join(
                f"{titles[name]}: {words.rstrip('.')}." if name in titles else f"{words}."
                for name, words in said.items()
            )
        ) from error


# -- metrics ---------------------------------------------------------------------------------------------------

Typed = dict[str, dict[str, Any]]  # by metric: {"on": whether it is wanted, "settings": {field: what was typed}}

# The metrics with a line on each and, for those that are on, their settings. props.value is {metrics: [{name, title, summary,
# on, why, fields: [{name, label, help, kind, value, choices}]}]}; what a person does goes back into it, so that a start that
# follows at once has it. All texts reach the page through textContent and properties.
METRICS_SCRIPT = """
const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const inputOf = (one) => {
  switch (one.kind) {
    case 'bool': return make('input', { type: 'checkbox', checked: one.value === true });
    case 'choice': return make('select', {}, ...one.choices.map(([words, value]) =>
      make('option', { textContent: words, value, selected: value === one.value })));
    case 'list': return make('textarea', { value: one.value ?? '', rows: 2, placeholder: 'One a line' });
    default: return make('input', { type: 'text', value: one.value ?? '' });
  }
};
function fieldOf(metric, one) {
  const input = inputOf(one);
  input.dataset.field = one.name;
  input.setAttribute('aria-label', `${metric.title}: ${one.label}`);
  const className = String(one.value ?? '').length > 40 ? 'wide' : '';
  return make('label', { title: one.help, className }, make('span', { textContent: one.label }), input);
}
function rowOf(metric) {
  const box = make('input', { type: 'checkbox', checked: metric.on && !metric.why, disabled: Boolean(metric.why) });
  box.dataset.on = '';
  const row = make('div', { className: 'metric' },
    make('label', { className: 'metric-head' }, box, make('b', { textContent: metric.title })),
    make('p', { className: 'quiet', textContent: metric.why || metric.summary }));
  row.dataset.name = metric.name;
  if (metric.fields.length) {
    row.append(make('div', { className: 'metric-fields' }, ...metric.fields.map((one) => fieldOf(metric, one))));
  }
  return row;
}
function paint() {
  const metrics = props.value?.metrics ?? [], others = metrics.filter((metric) => metric.why);
  const list = make('fieldset', { className: 'metrics' }, make('legend', { className: 'section-title', textContent: 'Metrics' }),
    ...metrics.filter((metric) => !metric.why).map(rowOf));
  if (others.length) {
    const words = `${others.length} more that this set has nothing for`;
    list.append(make('details', { className: 'metric-others' }, make('summary', { textContent: words }), ...others.map(rowOf)));
  }
  element.replaceChildren(list);
}
element.addEventListener('input', () => {
  const metrics = props.value.metrics.map((metric) => {
    const row = element.querySelector(`[data-name="${metric.name}"]`), box = row.querySelector('[data-on]');
    const fields = metric.fields.map((one) => {
      const input = row.querySelector(`[data-field="${one.name}"]`);
      return { ...one, value: input.type === 'checkbox' ? input.checked : input.value };
    });
    return { ...metric, on: box.disabled ? metric.on : box.checked, fields };
  });
  props.value = { metrics };
});
watch('value', paint);
paint();
"""


def metric_board(typed: Mapping[str, Any], chosen: str, models: Choices) -> dict[str, Any]:
    """What the script paints: every metric there is, those that the set has nothing for with the reason."""
    has = _HAS.get(chosen.partition(":")[0], "")
    board = []
    for name, kind in metric_kinds().items():
        known = typed.get(name, {"on": name in _USUAL, "settings": {}})
        why = "" if not chosen or kind.needs in ("", has) else _WANTING[kind.needs]
        fields = []
        for field in describe(kind):
            if field.name == "metric":
                continue
            # What holds a model is chosen from the models; all else is what the class says it is.
            is_model = kind.model_fields[field.name].annotation is ModelRef
            choices = models if is_model else [[words, value] for words, value in field.choices]
            default = (choices[0][1] if choices else "") if is_model else _shown(field.default)
            fields.append(
                {
                    "name": field.name,
                    "label": field.title,
                    "help": field.hint,
                    "kind": "choice" if is_model else field.kind,
                    "value": known["settings"].get(field.name, default),
                    "choices": [list(pair) for pair in choices],
                }
            )
        board.append(
            {
                "name": name,
                "title": kind.title,
                "summary": kind.summary,
                "on": known["on"],
                "why": why,
                "fields": fields,
            }
        )
    usual = {name: place for place, name in enumerate(_USUAL)}
    return {"metrics": sorted(board, key=lambda m: (m["why"] != "", usual.get(m["name"], len(usual)), m["title"]))}


_WANTING = {
    "reference": "Needs reference answers, and this set has rules instead.",
    "rules": "Needs rules, and this set has reference answers instead.",
}


def _shown(default: Any) -> Any:
    if isinstance(default, list | tuple):
        return "\n".join(map(str, default))
    return default if isinstance(default, bool) else "" if default is None else str(default)


def typed_metrics(value: Any) -> Typed:
    """What a person chose and typed; raises InputError for what the script would not send."""
    if not value:
        return {}
    try:
        return {
            str(one["name"]): {
                "on": bool(one["on"]),
                "settings": {str(f["name"]): f["value"] for f in one["fields"]},
            }
            for one in value["metrics"]
        }
    except (KeyError, TypeError) as error:
        raise InputError("The metrics of this page cannot be read. Reload it and choose them again.") from error


def metrics_on(typed: Typed, rows: SnapshotRef) -> Sequence[BaseModel]:
    """Those that are on and that this set can be measured by; raises InputError naming metric, setting and value."""
    has, found = _HAS.get(rows.kind, ""), []
    for name, known in (typed or {usual: {"on": True, "settings": {}} for usual in _USUAL}).items():
        kind = metric_kinds().get(name)
        if kind is None:
            raise InputError(f"There is no metric '{name}'. Known metrics: {', '.join(metric_kinds())}.")
        if known["on"] and kind.needs in ("", has):
            try:
                found.append(fill_in(kind, known["settings"]))
            except InputError as error:
                raise InputError(f"{kind.title}. {error}") from error
    return found


# -- what it will take -----------------------------------------------------------------------------------------

_NO_COLUMNS = (
    '<p class="quiet">None yet. Choose a prompt and a model below and press Add a column. Each column is one exact pair, and '
    "each answers every row.</p>"
)
NO_PLAN = '<p class="quiet">How many calls, tokens and minutes it takes is said here, once there is a column.</p>'


def plan_html(workspace: Workspace, task: Grid, earlier: Earlier) -> str:
    """Rows by columns, calls, tokens, minutes, and what is known already; then what should be known before a start."""
    plan = plan_grid(workspace.store, workspace.path, task)
    found = earlier.estimate(workspace, task.pinned(workspace.store), plan)
    by = f" × {task.repeats} answers" if task.repeats > 1 else ""
    columns = f"{len(plan.columns)} {'column' if len(plan.columns) == 1 else 'columns'}"
    said = [
        f"<b>{plan.rows:,} rows × {columns}{by} = {plan.cells:,} answers</b>, at most {plan.calls:,} "
        f"{'call' if plan.calls == 1 else 'calls'}."
    ]
    if found.known:
        said.append(f"{found.known:,} of the answers are known from earlier evaluations and are not asked for again.")
    if found.known < plan.cells:
        said += [_tokens_words(found), _time_words(found)]
    lines = "".join(f"<p>{line}</p>" for line in said)
    return f"{lines}{_cautions(workspace, task)}"


def _tokens_words(found: Estimate) -> str:
    limit = "no more than" if found.is_limit else "about"
    return (
        f"About {_rounded(found.prompt_tokens):,} tokens to read, {limit} {_rounded(found.output_tokens):,} to write."
    )


def _time_words(found: Estimate) -> str:
    if found.untimed:
        names = html.escape(" and ".join(found.untimed))
        return f"How long it takes is not known: no evaluation has timed {names} yet."
    return f"About {duration(found.seconds)}, at the pace of earlier evaluations."


def _cautions(workspace: Workspace, task: Grid) -> str:
    """A set that judges is flattered by what is chosen on it; and text that leaves the machine is said to."""
    said = []
    if task.rows.kind == "eval":
        try:
            check_set(workspace.store, task.rows)
        except InputError as error:
            said.append(str(error))
    places = {str(c.model): whereabouts(c.model, workspace.store) for c in task.columns}
    places |= {str(judge.model): whereabouts(judge.model, workspace.store) for judge in task.judges}
    said += dict.fromkeys(place.sentence for place in places.values() if place.leaves)
    if task.rows.kind != "data" and any(isinstance(m, Contains) and not m.value for m in task.metrics):
        said.append(f"Contains has no value, and {task.rows} has no references: it is not defined for any answer.")
    if not task.metrics:
        said.append("Nothing is measured: without a metric there are answers, and no scores.")
    return "".join(notice(sentence, "caution") for sentence in said)


def _rounded(count: float) -> int:
    """To two digits: an estimate that looks exact promises too much."""
    return int(float(f"{count:.1e}")) if count > 99 else math.ceil(count)
