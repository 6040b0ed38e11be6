"""What every way of tuning on an instruction dataset is told. A method is one file in this folder, with its own knobs.

Teaches the tokens of the responses and nothing else; the base stays untouched.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from studio.discovery import classes_in
from studio.errors import InputError
from studio.instructions import conversation
from studio.models.licences import USES, Use
from studio.models.lineage import licences_of
from studio.recipes.licensing import hold_licences, licence_gate
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
from studio.tasks import Recipe, Run
from studio.training.method import Method
from studio.training.sizes import Saving, machine

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
    saves_memory: Saving = Field(
        "auto",
        title="Save memory",
        description="Recompute activations instead of keeping them: far less memory, about a third slower.",
        json_schema_extra={"labels": {"auto": "When it is short", "yes": "Always", "no": "Never"}},
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same order of records, same start.")
    use: Use = Field(
        "company",
        title="What it is for",
        description="Licences allow some uses and not others.",
        json_schema_extra={"labels": {use: words.capitalize() for use, words in USES.items()}},
    )

    @field_validator("saves_memory", mode="before")
    @classmethod
    def _once_a_switch(cls, told: Any) -> Any:
        """Manifests were written when it was on or off."""
        return {"true": "yes", "false": "no"}.get(str(told).lower(), told)

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
        self.check_choices(store)
        hold_licences(licence_gate(store, self.base, store.snapshot(self.data), self.use))

    def check_choices(self, store: Store) -> None:
        """Raise a StudioError when data or model are not there, or not of a kind that goes together."""
        if self.data.kind != "data":
            raise InputError(f"{self.data} is not an instruction dataset. Choose a snapshot like data:brackenfold@1.")
        store.snapshot(self.data)
        if self.base.kind in ("echo", "endpoint"):
            raise InputError(f"{self.base} has no weights here that could be tuned. Choose a model on this machine.")
        if self.base.kind == "run" and not store.model(self.base).answers:
            raise InputError(f"{self.base} scores answers and gives none. Choose a model that answers.")

    def do(self, run: Run) -> dict[str, Any]:
        # Imported here, since the page reads this class for its form and must never load torch.
        from studio.recipes.dry_run import measured
        from studio.training import sft, tuning

        started = time.monotonic()
        weights = run.weights(self.base)
        rows = run.snapshot(self.data)
        snapshot = run.store.snapshot(self.data)
        found = licence_gate(
            run.store,
            self.base,
            snapshot,
            self.use,
            weights=weights,
            named=lambda one: licences_of(run.snapshot(one.ref)),
        )
        hold_licences(found)
        seen = measured(run.store, self, snapshot, weights)
        training = [(number, row) for number, row in enumerate(rows, 1) if row["split"] == "train"]
        schedule = sft.Schedule(
            epochs=self.passes,
            batch_size=self.batch_size,
            learning_rate=self.rate,
            patience=self.patience,
            seed=self.seed,
        )
        trained = tuning.train(
            weights,
            [conversation(row) for _, row in training],
            [conversation(r) for r in rows if r["split"] == "validation"],
            self.method(),
            tuning.Knobs(schedule, self.max_length, self.saves_memory, seen.keeping(machine()) if seen else None),
            run,
            numbers=[number for number, _ in training],
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
            "saved_memory": trained.recomputes,
        }


@cache
def tuning_methods() -> Mapping[str, type[Tuning]]:
    """Kind -> method, LoRA first: what most people need."""
    import studio.recipes as folder

    made = classes_in(folder.__path__, folder.__name__, Tuning)  # type: ignore[type-abstract]
    found = {kind.kind: kind for kind in made}
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: (item[0] != "lora", item[1].name.lower()))))
