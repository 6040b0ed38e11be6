"""Selective layers: only the named layers of a copy of the model learn."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.recipes.tuning import Tuning
from studio.training.method import Method

__all__ = ["Selective"]


class Selective(Tuning):
    """Tune some layers of a copy of a model on a frozen instruction dataset."""

    kind: ClassVar[str] = "selective"
    name: ClassVar[str] = "Selective layers"
    explains: ClassVar[str] = (
        "Trains a few of the model's own layers and freezes the rest. "
        "Cheaper than full fine-tuning and without new parts, but the result is a file as large as the model."
    )
    cost: ClassVar[str] = "a whole model, less memory than full"
    peak_rate: ClassVar[float] = 2e-4

    last_layers: int = Field(
        4, ge=1, le=512, title="Last layers", description="How many of the upper layers learn, when none are named."
    )
    layers: tuple[str, ...] = Field(
        (), title="Named layers", description="Parts of layer names, such as layers.29.mlp or norm; * stands for any."
    )

    def method(self) -> Method:
        return Method(layers=self.layers, last=self.last_layers)
