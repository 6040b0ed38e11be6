"""P-tuning: embeddings before every text that a small network writes (Liu et al. 2021, arXiv 2103.10385)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["PTuning"]


class PTuning(Tuning):
    """Tune a model on a frozen instruction dataset with p-tuning."""

    kind: ClassVar[str] = "p_tuning"
    name: ClassVar[str] = "P-tuning"
    explains: ClassVar[str] = (
        "Like prompt tuning, but a small network writes the invisible words while it learns, which makes that steadier. "
        "The network is thrown away at the end; only its words are kept."
    )
    cost: ClassVar[str] = "the smallest file, steadier than prompt tuning"
    peak_rate: ClassVar[float] = 1e-3

    virtual_tokens: int = Field(
        20, ge=1, le=512, title="Invisible words", description="How many; they take so much of the window."
    )
    encoder_size: int = Field(128, ge=8, le=4096, title="Size of the network", description="Of its hidden layer.")

    def method(self) -> Method:
        size = {"num_virtual_tokens": self.virtual_tokens, "encoder_hidden_size": self.encoder_size}
        return Method("P_TUNING", {**size, "encoder_dropout": 0.0})
