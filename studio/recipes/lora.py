"""LoRA: small low-rank updates beside the frozen weights (Hu et al. 2021, arXiv 2106.09685).

With its two relatives as options: rank-stabilised scaling (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732) and updates of
direction and magnitude apart (DoRA, Liu et al. 2024, arXiv 2402.09353).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["Lora"]


class Lora(Tuning):
    """Tune a model on a frozen instruction dataset with LoRA."""

    kind: ClassVar[str] = "lora"
    name: ClassVar[str] = "LoRA"
    explains: ClassVar[str] = (
        "Adds a thin update beside every layer and leaves the model itself alone. "
        "The best first choice: fast, a file of a few megabytes, and several such models share one base in memory."
    )
    cost: ClassVar[str] = "about 3 % new numbers, fast"
    peak_rate: ClassVar[float] = 1e-3

    rank: int = Field(
        16, ge=1, le=256, title="LoRA rank", description="Size of the update; new parameters grow with it."
    )
    alpha: int = Field(
        32, ge=1, le=1024, title="LoRA alpha", description="Strength of the update relative to the rank."
    )
    rank_stabilised: bool = Field(
        False, title="rsLoRA", description="Scale by the root of the rank: high ranks then learn as they should."
    )
    magnitudes: bool = Field(
        False, title="DoRA", description="Learn size and direction apart: often a little better, about twice as slow."
    )

    def method(self) -> Method:
        return Method(
            "LORA",
            {
                "r": self.rank,
                "lora_alpha": self.alpha,
                "lora_dropout": 0.0,
                "use_rslora": self.rank_stabilised,
                "use_dora": self.magnitudes,
            },
        )
