"""Which numbers of a model a run may change, in plain words for `methods` to act on. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Method"]


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
