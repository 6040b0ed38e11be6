"""Full fine-tuning: every weight of a copy of the model learns."""

from __future__ import annotations

from typing import ClassVar

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["Full"]


class Full(Tuning):
    """Tune all weights of a copy of a model on a frozen instruction dataset."""

    kind: ClassVar[str] = "full"
    name: ClassVar[str] = "Full fine-tuning"
    explains: ClassVar[str] = (
        "Every number of a copy of the model may move. "
        "Learns the most and forgets the most; about 14 bytes of memory for each of the model's numbers, and a file as "
        "large as the model."
    )
    cost: ClassVar[str] = "a whole model, most memory"
    peak_rate: ClassVar[float] = 5e-5

    def method(self) -> Method:
        return Method()
