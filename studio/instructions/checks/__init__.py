"""Checks of a dataset, one file each. A new one is a file here with a class or a decorated function; no list is kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from studio.discovery import classes_in
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
]

# What most people want to see first; a check that is not named here comes after these, by name.
_ORDER = (
    "placeholders duplicates near_duplicates conflicts leakage too_long languages encoding personal names secrets offensive "
    "refusals categories imbalance"
).split()


@functools.cache
def check_kinds() -> Mapping[str, type[Check]]:
    """Every check by its name."""
    found = {kind.name: kind for kind in classes_in(__path__, __name__, Check) if "name" in vars(kind)}
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
