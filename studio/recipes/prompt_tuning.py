"""Prompt tuning: embeddings that stand before every text (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["PromptTuning"]


class PromptTuning(Tuning):
    """Tune a model on a frozen instruction dataset with prompt tuning."""

    kind: ClassVar[str] = "prompt"
    name: ClassVar[str] = "Prompt tuning"
    explains: ClassVar[str] = (
        "Learns the best invisible words to put before each question, and nothing else. "
        "The smallest file of all; on a small model it changes little."
    )
    cost: ClassVar[str] = "the smallest file, the least effect"
    peak_rate: ClassVar[float] = 3e-2

    virtual_tokens: int = Field(
        20, ge=1, le=512, title="Invisible words", description="How many; they take so much of the window."
    )

    def method(self) -> Method:
        return Method("PROMPT_TUNING", {"num_virtual_tokens": self.virtual_tokens})
