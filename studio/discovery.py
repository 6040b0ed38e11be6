"""Finding what a folder holds, so that a new format, check or metric is one file and no list has to be kept."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TypeVar

__all__ = ["classes_in", "classes_of"]

T = TypeVar("T")


def classes_in(path: Iterable[str], package: str, base: type[T]) -> Iterator[type[T]]:
    """The concrete subclasses of `base` that the modules of a package define; give it the package's own `__path__`."""
    for info in pkgutil.iter_modules(path):
        yield from classes_of(importlib.import_module(f"{package}.{info.name}"), base)


def classes_of(module: ModuleType, base: type[T]) -> Iterator[type[T]]:
    """The concrete subclasses of `base` that a module defines itself."""
    for _, kind in inspect.getmembers(module, inspect.isclass):
        is_own = kind.__module__ == module.__name__ and kind is not base
        if is_own and issubclass(kind, base) and not inspect.isabstract(kind):
            yield kind
