"""PPO: practises on prompts, and learns from what a reward model says of the answers (Schulman et al. 2017,
arXiv 1707.06347; Ouyang et al. 2022, arXiv 2203.02155).

A penalty keeps the policy near the model it began as (the reference); how far it went is told as the KL divergence of
a whole answer, in nats.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.errors import InputError, NotFound
from studio.instructions import question
from studio.specs import Message, ModelRef, SnapshotRef, user
from studio.store import Store
from studio.tasks import Recipe, Run

__all__ = ["Ppo"]

_EVALUATED = 16  # prompts of the validation split that show how it goes


class Ppo(Recipe):
    """Align a tuned model with a reward model."""

    kind: ClassVar[str] = "ppo"

    base: ModelRef = Field(title="Which model", description="The tuned model that practises. It stays as it is.")
    reward: ModelRef = Field(title="Reward model", description="What scores its answers.")
    prompts: SnapshotRef = Field(title="Prompts", description="What it practises on; their training split.")
    iterations: int = Field(30, ge=1, le=5000, title="Iterations", description="Rounds of answering and learning.")
    kl_coef: float = Field(
        0.02,
        ge=0,
        le=10,
        title="Pull towards the tuned model (KL coefficient)",
        description="Higher keeps answers closer to those of the tuned model.",
    )
    learning_rate: float = Field(1e-4, gt=0, le=0.1, title="Learning rate", description="Size of a step at its peak.")
    episodes: int = Field(16, ge=2, le=4096, title="Answers per iteration", description="Prompts answered each round.")
    minibatch: int = Field(8, ge=1, le=4096, title="Answers per step", description="At most as many as per iteration.")
    epochs: int = Field(2, ge=1, le=16, title="Epochs", description="How often each round's answers are gone over.")
    max_tokens: int = Field(96, ge=4, le=2048, title="Longest answer", description="In tokens.")
    max_prompt: int = Field(
        512, ge=8, le=32768, title="Longest prompt", description="In tokens; longer ones are left out, not cut."
    )
    temperature: float = Field(0.7, gt=0, le=2, title="Temperature", description="Of the answers it practises with.")
    unfinished_penalty: float = Field(
        1.0, ge=0, le=10, title="Penalty for no end", description="Taken off an answer that is cut off by its length."
    )
    value_mode: Literal["shared", "adapter"] = Field(
        "shared",
        title="Value model",
        description="shared: a head on the policy, twice as fast. adapter: an adapter of its own, begun as the reward's.",
    )
    value_learning_rate: float = Field(
        1e-3, gt=0, le=0.1, title="Value learning rate", description="Of the head that expects rewards."
    )
    kl_target: float | None = Field(
        None, gt=0, le=1000, title="KL target", description="Steers the pull so that answers move this far; in nats."
    )
    target_kl: float = Field(
        0.05, gt=0, le=10, title="Step limit", description="An iteration ends early past this divergence per token."
    )
    kl_stop: float = Field(
        30.0, gt=0, le=1000, title="KL stop", description="The run ends past this divergence per answer, in nats."
    )
    evaluate_every: int = Field(
        10, ge=1, le=1000, title="Evaluate every", description="Iterations between looks at the validation prompts."
    )
    checkpointing: bool = Field(
        False, title="Save memory", description="Computes activations twice instead of keeping them; slower."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same prompts, same answers.")

    @property
    def title(self) -> str:
        return f"Align {self.base} with {self.reward} (PPO)"

    def check(self, store: Store) -> None:
        if self.prompts.kind not in ("prompts", "data"):
            raise InputError(f"{self.prompts} holds no prompts. Choose a snapshot like prompts:brackenfold@1.")
        store.snapshot(self.prompts)
        if self.minibatch > self.episodes:
            raise InputError(
                f"A step of {self.minibatch} answers cannot be taken from {self.episodes} an iteration. "
                "Lower the answers per step."
            )
        if self.base.kind in ("echo", "endpoint"):
            raise InputError(f"{self.base} has no weights here that could be aligned. Choose a model on this machine.")
        if self.base.kind == "run" and not store.model(self.base).answers:
            raise InputError(f"{self.base} scores answers and gives none. Choose a model that answers.")
        if self.reward.kind != "run":
            raise InputError(f"{self.reward} is not a reward model. Train one under Alignment and choose its run.")
        scorer = store.model(self.reward)
        if not scorer.scores:
            raise InputError(f"{self.reward} answers and does not score. Choose a run of the recipe `reward`.")
        if self.base.kind == "run" and store.model(self.base).base_digest != scorer.base_digest:
            raise InputError(
                f"{self.reward} stands on another base than {self.base}, so it cannot score its answers. "
                f"Train a reward model that starts from {self.base}."
            )

    def do(self, run: Run) -> dict[str, Any]:
        # Imported here, since the page reads this class for its form and must never load torch.
        from studio.training.alignment import align
        from studio.training.ppo import Knobs

        started = time.monotonic()
        weights, reward = run.weights(self.base), run.weights(self.reward)
        rows = run.snapshot(self.prompts)
        aligned = align(
            weights,
            reward,
            [_asked(r) for r in rows if r["split"] == "train"],
            [_asked(r) for r in rows if r["split"] == "validation"][:_EVALUATED],
            self.max_prompt,
            Knobs(**{name: value for name, value in self.model_dump().items() if name in Knobs.__dataclass_fields__}),
            run,
        )
        outcome = aligned.outcome
        if not outcome.finished:
            return {}
        return {
            "method": self.kind,
            "base": str(self.base),
            "reward": str(self.reward),
            "snapshot": str(self.prompts),
            "simulated": _simulated(run.store, self.reward),
            "licence": weights.licence,
            "base_digest": weights.digest,
            "new_parameters": aligned.new_parameters,
            "train_seconds": time.monotonic() - started,
            "iterations": outcome.iterations,
            "episodes": outcome.iterations * self.episodes,
            "before": asdict(outcome.before) if outcome.before else None,
            "best": asdict(outcome.best) if outcome.best else None,
            "halted": outcome.halted,
            "skipped": outcome.skipped,
            "left_out": aligned.left_out,
            "prompts": aligned.prompts,
            "evaluated": aligned.evaluated,
        }


def _simulated(store: Store, reward: ModelRef) -> int:
    """How many of the judgements behind a reward model a rule gave in the place of people."""
    with suppress(NotFound):  # a model brought from another workspace has no job here
        return int((store.job(int(reward.name)).result or {}).get("simulated", 0))
    return 0


def _asked(row: Mapping[str, Any]) -> list[Message]:
    return [user(question(row["instruction"], row.get("context", "")))]
