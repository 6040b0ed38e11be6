"""Schemas of rows, one file each. A new one is a file here with a Shape; no list has to be kept."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from studio.errors import InputError
from studio.instructions.shapes.base import OMITTED, Exportable, RowError, Shape

__all__ = ["OMITTED", "Exportable", "RowError", "Shape", "recognised", "shape_named", "shapes"]


@functools.cache
def shapes() -> Mapping[str, Shape]:
    """Every shape by its name, in the order in which they are asked."""
    found: list[Shape] = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Shape) and kind.__module__ == module.__name__ and not inspect.isabstract(kind):
                found.append(kind())
    return {shape.name: shape for shape in sorted(found, key=lambda shape: shape.rank)}


def shape_named(name: str) -> Shape:
    if name not in shapes():
        raise InputError(f"There is no shape '{name}'. Known shapes: {', '.join(shapes())}.")
    return shapes()[name]


def recognised(columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> Shape | None:
    """The shape that a file has, judged by its columns and first rows."""
    return next((shape for shape in shapes().values() if shape.recognises(columns, rows)), None)
