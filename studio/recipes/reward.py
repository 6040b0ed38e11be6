"""A reward model: learns from rankings which answers people prefer (Ouyang et al. 2022, arXiv 2203.02155).

Starts from the model whose answers were ranked, and scores instead of answering. The report says how often it agrees
with judgements it has never seen, and how far one would get by always taking the longer answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.preferences import FEWEST_JUDGEMENTS, ranking_pairs, report_card
from studio.specs import Message, ModelRef, SnapshotRef
from studio.store import Store
from studio.tasks import Recipe, Run

if TYPE_CHECKING:
    from studio.training.reward import Ranking

__all__ = ["Reward"]


class Reward(Recipe):
    """Train a model that scores answers the way people ranked them."""

    kind: ClassVar[str] = "reward"

    data: SnapshotRef = Field(title="Judgements", description="A frozen set of rankings.")
    base: ModelRef = Field(title="Starts from", description="The model whose answers were ranked. It stays as it is.")
    epochs: int = Field(
        3, ge=1, le=20, title="Epochs", description="Passes over the judgements; the best by validation is kept."
    )
    batch_size: int = Field(4, ge=1, le=256, title="Batch size", description="Judgements per step.")
    learning_rate: float = Field(2e-4, gt=0, le=0.1, title="Learning rate", description="Size of a step at its peak.")
    rank: int = Field(16, ge=1, le=256, title="LoRA rank", description="For a model that has no adapter yet.")
    alpha: int = Field(32, ge=1, le=1024, title="LoRA alpha", description="For a model that has no adapter yet.")
    centering: float = Field(
        0.01, ge=0, le=1, title="Centering", description="How strongly scores are pulled towards 0; 0 is off."
    )
    max_length: int = Field(
        1024,
        ge=16,
        le=32768,
        title="Longest conversation",
        description="Prompt and answer, in tokens; longer ones are left out, not cut.",
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same order of judgements, same start.")

    @property
    def title(self) -> str:
        return f"Train a reward model on {self.data}"

    def check(self, store: Store) -> None:
        if self.data.kind != "prefs":
            raise InputError(f"{self.data} holds no judgements. Choose a snapshot like prefs:brackenfold@1.")
        rows = store.snapshot(self.data).rows
        if rows < FEWEST_JUDGEMENTS:
            raise InputError(
                f"{self.data} has {rows} judgements; a reward model needs at least {FEWEST_JUDGEMENTS}. "
                "Rank more items under Labeling."
            )
        if self.base.kind in ("echo", "endpoint"):
            raise InputError(f"{self.base} has no weights here to start from. Choose a model on this machine.")
        if self.base.kind == "run" and not store.model(self.base).answers:
            raise InputError(f"{self.base} scores answers already. Choose the model whose answers were ranked.")

    def do(self, run: Run) -> dict[str, Any]:
        # Imported here, since the page reads this class for its form and must never load torch.
        from studio.training import reward

        started = time.monotonic()
        weights, rows = run.weights(self.base), run.snapshot(self.data)
        knobs = {name: getattr(self, name) for name in reward.Knobs.__dataclass_fields__}
        by_split = {s: [_ranking(r) for r in rows if r["split"] == s] for s in ("train", "validation", "test")}
        trained = reward.train(
            weights, by_split["train"], by_split["validation"], by_split["test"], reward.Knobs(**knobs), run
        )
        if not trained.finished:
            return {}
        return {
            "method": self.kind,
            "base": str(self.base),
            "snapshot": str(self.data),
            "answers": False,
            "scores": True,
            "licence": weights.licence,
            "base_digest": weights.digest,
            "new_parameters": trained.new_parameters,
            "train_seconds": time.monotonic() - started,
            "validation_loss": trained.validation_loss,
            "epoch": trained.epoch,
            "judgements": len(rows),
            "simulated": _simulated(rows),
            "left_out": trained.left_out,
            "gain": trained.gain,
            "bias": trained.bias,
            "report": report_card(trained.held_out),
        }


def _ranking(row: Mapping[str, Any]) -> Ranking:
    from studio.training.reward import Ranking

    place = {answer["id"]: i for i, answer in enumerate(row["answers"])}
    pairs = [(place[winner], place[loser]) for winner, loser in ranking_pairs(row["groups"])]
    texts = [answer["text"] for answer in row["answers"]]
    return Ranking([Message(**turn) for turn in row["prompt"]], texts, pairs, row["group"])


def _simulated(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many judgements a rule gave in the place of people."""
    return sum(row["annotator_kind"] == "rule" for row in rows)
