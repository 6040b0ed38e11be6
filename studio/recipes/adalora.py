"""AdaLoRA: low-rank updates whose ranks move to the layers that need them (Zhang et al. 2023, arXiv 2303.10512)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["AdaLora"]


class AdaLora(Tuning):
    """Tune a model on a frozen instruction dataset with AdaLoRA."""

    kind: ClassVar[str] = "adalora"
    name: ClassVar[str] = "AdaLoRA"
    explains: ClassVar[str] = (
        "Starts like LoRA with more rank than it keeps, and takes it away where it matters least. "
        "Slower than LoRA; worth a try when the file has to stay small and there are many steps."
    )
    cost: ClassVar[str] = "like LoRA, slower, ranks find their place"
    peak_rate: ClassVar[float] = 2e-3

    rank: int = Field(8, ge=1, le=128, title="Rank kept", description="On average over the layers, at the end.")
    first_rank: int = Field(12, ge=2, le=256, title="Rank at the start", description="Of every layer; more than kept.")
    alpha: int = Field(
        32, ge=1, le=1024, title="AdaLoRA alpha", description="Strength of the update relative to the rank."
    )

    @model_validator(mode="after")
    def _has_rank_to_take_away(self) -> AdaLora:
        if self.first_rank <= self.rank:
            raise ValueError(f"the rank at the start ({self.first_rank}) has to be above the rank kept ({self.rank})")
        return self

    def method(self) -> Method:
        ranks = {"init_r": self.first_rank, "target_r": self.rank}
        return Method("ADALORA", {**ranks, "lora_alpha": self.alpha, "lora_dropout": 0.0})
