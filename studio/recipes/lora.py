"""LoRA: small low-rank updates beside the frozen weights (Hu et al. 2021, arXiv 2106.09685).

Teaches the tokens of the responses and nothing else; the base stays untouched.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.errors import InputError
from studio.instructions import conversation
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
from studio.tasks import Recipe, Run

__all__ = ["Lora"]

_EPOCHS = {"quick": 1, "balanced": 2, "thorough": 4}


class Lora(Recipe):
    """Tune a model on a frozen instruction dataset with LoRA."""

    kind: ClassVar[str] = "lora"

    data: SnapshotRef = Field(title="What to teach", description="A frozen instruction dataset.")
    base: ModelRef = Field(title="Which model", description="The model that learns. It stays as it is.")
    effort: Literal["quick", "balanced", "thorough"] = Field(
        "balanced", title="How thorough", description="How often the records are gone through: 1, 2 or 4 times."
    )
    epochs: int | None = Field(
        None, ge=1, le=50, title="Epochs", description="Passes over the records; empty: as thorough as above."
    )
    rank: int = Field(
        16, ge=1, le=256, title="LoRA rank", description="Size of the update; new parameters grow with it."
    )
    alpha: int = Field(
        32, ge=1, le=1024, title="LoRA alpha", description="Strength of the update relative to the rank."
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=0.1, title="Learning rate", description="Size of a step at its peak; lower it if the loss jumps."
    )
    batch_size: int = Field(8, ge=1, le=256, title="Batch size", description="Records per step.")
    max_length: int = Field(
        1024, ge=16, le=32768, title="Longest record", description="In tokens; longer records are left out, not cut."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same order of records, same start.")

    @property
    def title(self) -> str:
        return f"Tune {self.base.name if self.base.kind != 'run' else self.base} on {self.data} (LoRA, {self.effort})"

    @property
    def passes(self) -> int:
        """Epochs asked for, by number or by preset."""
        return self.epochs or _EPOCHS[self.effort]

    def check(self, store: Store) -> None:
        if self.data.kind != "data":
            raise InputError(f"{self.data} is not an instruction dataset. Choose a snapshot like data:brackenfold@1.")
        store.snapshot(self.data)
        if self.base.kind in ("echo", "endpoint"):
            raise InputError(f"{self.base} has no weights here that could be tuned. Choose a model on this machine.")
        if self.base.kind == "run" and not store.model(self.base).answers:
            raise InputError(f"{self.base} scores answers and gives none. Choose a model that answers.")

    def do(self, run: Run) -> dict[str, Any]:
        # Imported here, since the page reads this class for its form and must never load torch.
        from studio.training import lora

        started = time.monotonic()
        weights = run.weights(self.base)
        rows = run.snapshot(self.data)
        trained = lora.train(
            weights,
            [conversation(r) for r in rows if r["split"] == "train"],
            [conversation(r) for r in rows if r["split"] == "validation"],
            lora.Knobs(
                rank=self.rank,
                alpha=self.alpha,
                max_length=self.max_length,
                epochs=self.passes,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=self.seed,
            ),
            run,
        )
        if not trained.finished:
            return {}
        return {
            "method": self.kind,
            "base": str(self.base),
            "snapshot": str(self.data),
            "licence": weights.licence,
            "base_digest": weights.digest,
            "new_parameters": trained.new_parameters,
            "train_seconds": time.monotonic() - started,
            "validation_loss": trained.validation_loss,
            "validation_loss_before": trained.validation_loss_before,
            "left_out": trained.left_out,
        }
