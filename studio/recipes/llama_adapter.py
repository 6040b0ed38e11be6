"""LLaMA-Adapter: gated prompts in the upper attention layers (Zhang et al. 2023, arXiv 2303.16199)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["LlamaAdapter"]


class LlamaAdapter(Tuning):
    """Tune a model on a frozen instruction dataset with LLaMA-Adapter."""

    kind: ClassVar[str] = "llama_adapter"
    name: ClassVar[str] = "LLaMA-Adapter"
    explains: ClassVar[str] = (
        "Adds learned prompts to the upper layers behind a gate that opens slowly, so the start is exactly the base. "
        "Made for models of the LLaMA family; small, and gentle to what the model knew."
    )
    cost: ClassVar[str] = "small file, gentle, LLaMA family only"
    peak_rate: ClassVar[float] = 1e-2

    adapter_length: int = Field(10, ge=1, le=256, title="Prompt length", description="Learned words in each layer.")
    adapter_layers: int = Field(
        30, ge=1, le=512, title="Layers", description="How many of the upper layers get one; at most all."
    )

    def method(self) -> Method:
        return Method("ADAPTION_PROMPT", {"adapter_len": self.adapter_length, "adapter_layers": self.adapter_layers})
