"""Prefix tuning: keys and values that stand before every text, in every layer (Li & Liang 2021, arXiv 2101.00190)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["Prefix"]


class Prefix(Tuning):
    """Tune a model on a frozen instruction dataset with prefix tuning."""

    kind: ClassVar[str] = "prefix"
    name: ClassVar[str] = "Prefix tuning"
    explains: ClassVar[str] = (
        "Learns a few invisible words that every layer reads before each question. "
        "Very few new numbers and no change inside the model; it takes a large learning rate and more passes than LoRA."
    )
    cost: ClassVar[str] = "very small file, learns slowly"
    peak_rate: ClassVar[float] = 1e-2

    virtual_tokens: int = Field(
        20, ge=1, le=512, title="Invisible words", description="Length of the prefix; it takes so much of the window."
    )

    def method(self) -> Method:
        return Method("PREFIX_TUNING", {"num_virtual_tokens": self.virtual_tokens})
