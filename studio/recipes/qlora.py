"""QLoRA: LoRA beside weights that are kept in 4 bits (Dettmers et al. 2023, arXiv 2305.14314)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from studio.recipes.lora import Lora
from studio.training.method import Method

__all__ = ["QLora"]


class QLora(Lora):
    """Tune a model on a frozen instruction dataset with LoRA beside 4-bit weights."""

    kind: ClassVar[str] = "qlora"
    name: ClassVar[str] = "QLoRA"
    explains: ClassVar[str] = (
        "LoRA beside a base that is squeezed into 4 bits while it learns. "
        "A quarter of the memory for the weights, a little slower; it needs a GPU that bitsandbytes can use."
    )
    cost: ClassVar[str] = "LoRA in a quarter of the memory, GPU only"

    def method(self) -> Method:
        return replace(super().method(), is_quantized=True)
