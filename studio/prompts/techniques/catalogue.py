"""Which techniques there are: found by looking through this package, so that a new one is one file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import NotFound, RunError
from studio.prompts import techniques as package
from studio.prompts.techniques.base import Technique

if TYPE_CHECKING:
    from studio.prompts.templates import Template

__all__ = ["technique", "technique_of", "techniques"]


def techniques() -> dict[str, Technique]:
    """Every technique by its name with the settings it comes with, cheapest first."""
    found: dict[str, type[Technique]] = {}
    for kind in _kinds():
        other = found.setdefault(kind.name, kind)
        if other is not kind:
            raise RunError(f"Two techniques are called '{kind.name}': {_path(other)} and {_path(kind)}. Rename one.")
    made = [kind() for kind in found.values()]
    return {t.name: t for t in sorted(made, key=lambda t: (t.calls, t.name != "direct", t.name))}


def technique(name: str, settings: Mapping[str, Any] | None = None) -> Technique:
    """A technique by its name, or by the kind of template that it answers ('few-shot' is direct).

    Raises NotFound with the known names, and InputError for settings that cannot be used.
    """
    known = techniques()
    aliases = {alias: t for t in known.values() for alias in t.aliases}
    if name not in known and name not in aliases:
        raise NotFound(f"There is no technique '{name}'. Known techniques: {', '.join(known)}.")
    return (known | aliases | known)[name].with_settings(settings or {})


def technique_of(chosen: Template, settings: Mapping[str, Any] | None = None) -> Technique:
    """The technique a template was written for: the template gives the instruction itself, with its own marker, labels or
    schema, and brings its own room for steps (`chosen.with_room`).

    A template of a kind that no technique answers to is asked directly. Raises InputError as `technique` does.
    """
    try:
        found = technique(chosen.technique)
    except NotFound:
        found = technique("direct")
    said = {"marker": chosen.answer_after, "labels": chosen.labels, "json_schema": chosen.json_schema}
    given: dict[str, Any] = {name: value for name, value in said.items() if value}
    if chosen.extra_tokens:
        given["room"] = 0
    known = {name: value for name, value in given.items() if name in found.knobs.model_fields}
    return type(found)(is_told=True).with_settings(known | dict(settings or {}))


def _kinds() -> Iterator[type[Technique]]:
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            is_own = member.__module__ == module.__name__
            if is_own and issubclass(member, Technique) and not inspect.isabstract(member):
                yield member


def _path(kind: type[Technique]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
