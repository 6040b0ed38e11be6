"""What every way of tuning on an instruction dataset is told. A method is one file in this folder, with its own knobs.

Teaches the tokens of the responses and nothing else; the base stays untouched.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.discovery import classes_in
from studio.errors import InputError
from studio.instructions import conversation
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
from studio.tasks import Recipe, Run
from studio.training.method import Method

__all__ = ["Tuning", "tuning_methods"]

_EPOCHS = {"quick": 1, "balanced": 2, "thorough": 4}


class Tuning(Recipe):
    """Tune a model on a frozen instruction dataset."""

    name: ClassVar[str]  # what people call the method
    explains: ClassVar[str]  # two sentences: what it does, and what it costs
    cost: ClassVar[str]  # a few words for the list: "small file, fast"
    peak_rate: ClassVar[float]  # learning rate when nobody says one

    data: SnapshotRef = Field(title="What to teach", description="A frozen instruction dataset.")
    base: ModelRef = Field(title="Which model", description="The model that learns. It stays as it is.")
    effort: Literal["quick", "balanced", "thorough"] = Field(
        "balanced", title="How thorough", description="How often the records are gone through: 1, 2 or 4 times."
    )
    epochs: int | None = Field(
        None, ge=1, le=50, title="Epochs", description="Passes over the records; empty: as thorough as above."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, title="Learning rate", description="Size of a step at its peak; empty: what suits the method."
    )
    batch_size: int = Field(8, ge=1, le=256, title="Batch size", description="Records per step.")
    max_length: int = Field(
        1024, ge=16, le=32768, title="Longest record", description="In tokens; longer records are left out, not cut."
    )
    patience: int = Field(
        3,
        ge=0,
        le=100,
        title="Patience",
        description="Stop after so many looks at the validation records without a better loss; 0: never.",
    )
    saves_memory: bool = Field(
        False,
        title="Save memory",
        description="Recompute activations instead of keeping them: far less memory, about a third slower.",
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same order of records, same start.")

    @abstractmethod
    def method(self) -> Method:
        """What of the model learns."""

    @property
    def title(self) -> str:
        learner = self.base.name if self.base.kind != "run" else self.base
        return f"Tune {learner} on {self.data} ({self.name}, {self.effort})"

    @property
    def passes(self) -> int:
        """Epochs asked for, by number or by preset."""
        return self.epochs or _EPOCHS[self.effort]

    @property
    def rate(self) -> float:
        """The learning rate at its peak."""
        return self.learning_rate or self.peak_rate

    def steps(self, records: int) -> int:
        """How many steps go through that many records."""
        return math.ceil(records / self.batch_size) * self.passes

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
        from studio.training import sft, tuning

        started = time.monotonic()
        weights = run.weights(self.base)
        rows = run.snapshot(self.data)
        schedule = sft.Schedule(
            epochs=self.passes,
            batch_size=self.batch_size,
            learning_rate=self.rate,
            patience=self.patience,
            recomputes=self.saves_memory,
            seed=self.seed,
        )
        trained = tuning.train(
            weights,
            [conversation(r) for r in rows if r["split"] == "train"],
            [conversation(r) for r in rows if r["split"] == "validation"],
            self.method(),
            tuning.Knobs(schedule, self.max_length),
            run,
        )
        if not trained.finished:
            return {}
        outcome = trained.outcome
        return {
            "method": self.kind,
            "base": str(self.base),
            "snapshot": str(self.data),
            "licence": weights.licence,
            "base_digest": weights.digest,
            "new_parameters": trained.new_parameters,
            "train_seconds": time.monotonic() - started,
            "validation_loss": outcome.validation_loss,
            "validation_loss_before": outcome.validation_loss_before,
            "best_step": outcome.best_step,
            "stopped_early": outcome.stopped_early,
            "left_out": trained.left_out,
        }


def tuning_methods() -> dict[str, type[Tuning]]:
    """Kind -> method, LoRA first: what most people need."""
    import studio.recipes as folder

    made = classes_in(folder.__path__, folder.__name__, Tuning)  # type: ignore[type-abstract]
    found = {kind.kind: kind for kind in made}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "lora", item[1].name.lower())))
