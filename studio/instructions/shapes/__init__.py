"""Schemas of rows, one file each. A new one is a file here with a Shape; no list has to be kept."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from studio.discovery import classes_in
from studio.errors import InputError
from studio.instructions.shapes.base import OMITTED, Exportable, RowError, Shape

__all__ = ["OMITTED", "Exportable", "RowError", "Shape", "recognised", "shape_named", "shapes"]


@functools.cache
def shapes() -> Mapping[str, Shape]:
    """Every shape by its name, in the order in which they are asked."""
    found = [kind() for kind in classes_in(__path__, __name__, Shape)]  # type: ignore[type-abstract]
    return {shape.name: shape for shape in sorted(found, key=lambda shape: shape.rank)}


def shape_named(name: str) -> Shape:
    if name not in shapes():
        raise InputError(f"There is no shape '{name}'. Known shapes: {', '.join(shapes())}.")
    return shapes()[name]


def recognised(columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> Shape | None:
    """The shape that a file has, judged by its columns and first rows."""
    return next((shape for shape in shapes().values() if shape.recognises(columns, rows)), None)
