"""Which numbers of a model a run may change, in plain words for `methods` to act on. Imports nothing heavy."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.errors import InputError
from studio.models.shapes import layer_number

__all__ = ["Method", "own_names"]


@dataclass(frozen=True)
class Method:
    """New parameters beside a frozen model, or the model's own.

    `peft`: PEFT's name of the method ("LORA", "PREFIX_TUNING", ...) with `settings` for its config; "" changes own
    weights: those in `layers` (shell patterns of parameter names) or, where none are named, in the `last` so many
    layers, or all of them. `is_quantized` keeps the frozen weights in 4 bits (Dettmers et al. 2023, arXiv 2305.14314).
    """

    peft: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    last: int = 0
    is_quantized: bool = False


def own_names(method: Method, names: Sequence[str], model: str) -> list[str]:
    """Of a model's parameters those that learn, where its own do. Raises InputError when a pattern names none."""
    if method.layers:
        chosen: dict[str, None] = {}
        for pattern in method.layers:
            found = fnmatch.filter(names, pattern) or fnmatch.filter(names, f"*{pattern}*")
            if not found:
                raise InputError(
                    f"No layer of {model} is called '{pattern}'. Its layers are called, for example, "
                    f"{', '.join(_examples(names))}."
                )
            chosen |= dict.fromkeys(found)
        return list(chosen)
    if method.last:
        layers = sorted({n for n in map(layer_number, names) if n is not None})[-method.last :]
        if not layers:
            raise InputError(f"The layers of {model} have no numbers. Name those that learn instead.")
        return [name for name in names if layer_number(name) in layers]
    return list(names)


def _examples(names: Iterable[str]) -> Iterator[str]:
    """One name of each kind, six at most."""
    seen: set[str] = set()
    for name in names:
        kind = ".".join("*" if part.isdecimal() else part for part in name.split("."))
        if kind not in seen and len(seen) < 6:
            seen.add(kind)
            yield name
