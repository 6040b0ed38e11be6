"""Checks of a dataset, one file each. A new one is a file here with a class or a decorated function; no list is kept.

Checks of an installation's own live in modules that LADDER_EXTRA_CHECKS names, separated by commas.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from studio.discovery import classes_in, classes_of
from studio.errors import InputError
from studio.instructions.checks.base import (
    Check,
    DatasetCheck,
    Finding,
    Flag,
    Mended,
    RecordCheck,
    Remedy,
    mended_record,
    record_check,
)
from studio.instructions.checks.too_long import TooLong

__all__ = [
    "Check",
    "DatasetCheck",
    "Finding",
    "Flag",
    "Mended",
    "RecordCheck",
    "Remedy",
    "TooLong",
    "check_from",
    "check_kinds",
    "mended_record",
    "record_check",
    "settings_of",
    "told_settings",
]

_EXTRA = "LADDER_EXTRA_CHECKS"

# What most people want to see first; a check that is not named here comes after these, by name. Too long is the last of
# ours: it needs a model, and when that does not answer the others are done.
_ORDER = (
    "placeholders duplicates near_duplicates conflicts leakage languages encoding personal names secrets offensive "
    "refusals categories imbalance too_long"
).split()


@functools.cache
def check_kinds() -> Mapping[str, type[Check]]:
    """Every check by its name."""
    found: dict[str, type[Check]] = {}
    for kind in (*classes_in(__path__, __name__, Check), *_extra()):
        if "name" not in vars(kind):
            continue
        if found.setdefault(kind.name, kind) is not kind:
            raise InputError(f"Two checks are called '{kind.name}', one of them in {kind.__module__}. Rename it.")
    places = {name: place for place, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: (places.get(item[0], len(places)), item[0])))


def check_from(name: str, settings: Mapping[str, Any] | None = None) -> Check:
    """A check by its name with a person's settings. Raises InputError naming what does not fit."""
    if name not in check_kinds():
        raise InputError(f"There is no check '{name}'. Known checks: {', '.join(check_kinds())}.")
    kind = check_kinds()[name]
    try:
        return kind.model_validate(dict(settings or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or name
        raise InputError(f"{kind.title}: {where}: {first['msg'].removeprefix('Value error, ')}.") from error


def settings_of(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Check -> its settings, from lines like `near_duplicates.threshold=0.9`. Raises InputError for one that is not.

    A value is written as in JSON; one that is no JSON is taken as text.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        place, equals, text = line.partition("=")
        name, dot, setting = place.strip().partition(".")
        if not (equals and dot and name and setting):
            raise InputError(f"'{line[:80]}' sets nothing. Write it like near_duplicates.threshold=0.9.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text.strip()
        found.setdefault(name, {})[setting] = value
    for name, settings in found.items():
        check_from(name, settings)
    return found


def told_settings(check: Check) -> list[str]:
    """The settings of a check that are not what it comes with, as `settings_of` reads them."""
    given = check.model_dump(mode="json")
    usual = {name: field.get_default() for name, field in type(check).model_fields.items()}
    return [
        f"{check.name}.{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in given.items()
        if getattr(check, name) != usual[name]
    ]


def _extra() -> Iterator[type[Check]]:
    for name in filter(None, (part.strip() for part in os.environ.get(_EXTRA, "").split(","))):
        try:
            yield from classes_of(importlib.import_module(name), Check)
        except ModuleNotFoundError as error:
            raise InputError(f"{_EXTRA} names the module '{name}', which cannot be found. Mend or unset it.") from error
