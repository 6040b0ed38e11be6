"""What a form must know about a pydantic class, without a face: pages make widgets of it, commands make flags.

Everything is said once, on the field itself: title, description, bounds, choices and default. Three extras may
stand in `json_schema_extra`: `unit` ("tokens"), `lines` (height of a text box) and `labels` ({choice: words}).
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from studio.errors import InputError

__all__ = ["Field", "Kind", "complaints", "describe", "fill_in", "without_blanks"]

Kind = Literal["bool", "int", "float", "text", "choice", "list"]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Field:
    """One question that a form asks, or one flag of a command."""

    name: str
    title: str
    help: str
    kind: Kind
    default: Any = None  # None as well when there is none
    is_required: bool = False
    is_optional: bool = False  # may be left empty
    low: float | None = None
    high: float | None = None
    low_is_allowed: bool = True
    high_is_allowed: bool = True
    choices: tuple[tuple[str, Any], ...] = ()  # (words, value)
    unit: str = ""
    lines: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """How a command line names it."""
        return "--" + self.name.replace("_", "-")

    @property
    def bounds(self) -> str:
        """'1 to 256', 'above 0, up to 1', or '' when anything goes."""
        low, high = (_number(b) if b is not None else "" for b in (self.low, self.high))
        if low and high and self.low_is_allowed and self.high_is_allowed:
            return f"{low} to {high}"
        return ", ".join(
            part
            for part in (
                low and (f"{low} or more" if self.low_is_allowed else f"above {low}"),
                high and (f"up to {high}" if self.high_is_allowed else f"below {high}"),
            )
            if part
        )

    @property
    def hint(self) -> str:
        """The help with the bounds and the unit, as one line under a label."""
        limits = " ".join(part for part in (self.bounds, self.unit) if part)
        return f"{self.help} ({limits})" if self.help and limits else self.help or limits


def describe(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a class, in the order they were written."""
    return tuple(_field(name, info) for name, info in model.model_fields.items())


def fill_in(model: type[M], values: Mapping[str, Any]) -> M:
    """The validated object; an InputError that names every field that cannot be used."""
    try:
        return model.model_validate(without_blanks(model, values))
    except ValidationError as error:
        titles = {f.name: f.title for f in describe(model)}
        wrong = complaints(model, error)
        raise InputError(
            " ".join(f"{titles[name]}: {said}." if name in titles else f"{said}." for name, said in wrong.items())
        ) from error


def complaints(model: type[BaseModel], error: ValidationError) -> dict[str, str]:
    """One plain sentence part per field ('must be above 0, not -1'); '' holds what is wrong with the whole."""
    return {str(e["loc"][0]) if e["loc"] else "": _plain(e) for e in reversed(error.errors())}


def _field(name: str, info: FieldInfo) -> Field:
    annotation, is_optional = _without_none(info.annotation)
    kind, choices = _kind(annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    labels: Any = extra.get("labels", {})
    limits: dict[str, Any] = {}
    for rule in info.metadata:
        match rule:
            case annotated_types.Ge(ge=bound):
                limits |= {"low": bound}
            case annotated_types.Gt(gt=bound):
                limits |= {"low": bound, "low_is_allowed": False}
            case annotated_types.Le(le=bound):
                limits |= {"high": bound}
            case annotated_types.Lt(lt=bound):
                limits |= {"high": bound, "high_is_allowed": False}
    return Field(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        help=info.description or "",
        kind=kind,
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        is_required=info.is_required(),
        is_optional=is_optional,
        choices=tuple((str(labels.get(str(c), _words(c))), c) for c in choices),
        unit=str(extra.get("unit", "")),
        lines=int(str(extra.get("lines", 1))),
        extra=extra,
        **limits,
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    parts = [a for a in typing.get_args(annotation) if a is not type(None)]
    if len(parts) != 1:
        raise TypeError(f"A form cannot ask for {annotation}: give the field one type, or one type or None.")
    return parts[0], True


def _kind(annotation: Any) -> tuple[Kind, tuple[Any, ...]]:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "choice", typing.get_args(annotation)
    if origin in (tuple, list):
        return "list", ()
    if not isinstance(annotation, type):
        raise TypeError(f"A form cannot ask for {annotation}.")
    if issubclass(annotation, enum.Enum):
        return "choice", tuple(member.value for member in annotation)
    # bool before int: a bool is an int to Python.
    by_type: tuple[tuple[type, Kind], ...] = ((bool, "bool"), (int, "int"), (float, "float"), (str, "text"))
    for known, kind in by_type:
        if issubclass(annotation, known):
            return kind, ()
    raise TypeError(f"A form cannot ask for {annotation}.")


def without_blanks(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """An empty box means 'not given'; a list box holds one item a line."""
    by_name = {f.name: f for f in describe(model)}
    given: dict[str, Any] = {}
    for name, value in values.items():
        known = by_name.get(name)
        if known and known.kind == "list" and isinstance(value, str):
            value = tuple(line for line in value.splitlines() if line)
        is_blank = value is None or (value == "" and known is not None and known.kind != "text")
        if known and is_blank:
            if known.is_optional:
                given[name] = None
            elif known.is_required:
                continue  # pydantic says 'missing'
            else:
                given[name] = None if known.kind in ("int", "float", "bool", "choice") else known.default
        else:
            given[name] = value
    return given


def _plain(error: ErrorDetails) -> str:
    context, given = error.get("ctx", {}), error["input"]
    if given is None or given == "" or error["type"] == "missing":
        return "is needed"
    match error["type"]:
        case "greater_than":
            return f"must be above {_number(context['gt'])}, not {_shown(given)}"
        case "greater_than_equal":
            return f"must be {_number(context['ge'])} or more, not {_shown(given)}"
        case "less_than":
            return f"must be below {_number(context['lt'])}, not {_shown(given)}"
        case "less_than_equal":
            return f"must be {_number(context['le'])} or less, not {_shown(given)}"
        case "int_parsing" | "int_from_float" | "int_type":
            return f"must be a whole number, not {_shown(given)}"
        case "float_parsing" | "float_type" | "finite_number":
            return f"must be a number, not {_shown(given)}"
        case "literal_error" | "enum":
            return f"must be {context['expected']}, not {_shown(given)}"
        case "string_too_short":
            return f"needs at least {context['min_length']} characters"
        case "string_too_long":
            return f"may have {context['max_length']} characters at most"
        case "value_error":
            return str(context["error"]).rstrip(".")
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}"


def _words(choice: Any) -> str:
    return str(choice).replace("_", " ").capitalize()


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    return _number(value) if isinstance(value, int | float) else f"'{str(value)[:60]}'"
