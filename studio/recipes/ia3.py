"""IA3: one learned factor for each key, value and feed-forward channel (Liu et al. 2022, arXiv 2205.05638)."""

from __future__ import annotations

from typing import ClassVar

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["Ia3"]


class Ia3(Tuning):
    """Tune a model on a frozen instruction dataset with IA3."""

    kind: ClassVar[str] = "ia3"
    name: ClassVar[str] = "IA3"
    explains: ClassVar[str] = (
        "Turns the existing channels of the model up or down instead of adding new ones. "
        "A file of some kilobytes, merged into the base without a trace; it learns style sooner than facts."
    )
    cost: ClassVar[str] = "kilobytes, learns style"
    peak_rate: ClassVar[float] = 1e-2

    def method(self) -> Method:
        return Method("IA3")
