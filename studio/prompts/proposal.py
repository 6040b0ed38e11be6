"""What to compare next: what can be compared, what would be sensible, and what it will take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from studio.errors import NotFound
from studio.models import catalogue
from studio.models.lineage import lineage
from studio.prompts.compare import Compare
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Model, Snapshot, Store

__all__ = ["Options", "Plan", "Proposal", "comparisons", "options", "plan", "propose", "reward_of"]

_ALIGNING = "ppo"  # the method whose models are a third rung


@dataclass(frozen=True)
class Options:
    """What a comparison can be made of; newest first."""

    bases: tuple[ModelRef, ...]
    tuned: tuple[Model, ...]
    evaluations: tuple[SnapshotRef, ...]
    examples: tuple[SnapshotRef, ...]
    aligned: tuple[Model, ...] = ()
    rewards: tuple[Model, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """A sensible comparison; '' where the workspace has nothing to propose."""

    base: str = ""
    tuned: str = ""
    evaluation: str = ""
    development: str = ""
    examples: str = ""
    guidelines: str = ""
    aligned: str = ""
    reward: str = ""


@dataclass(frozen=True)
class Plan:
    """What a comparison will ask of the models."""

    prompts: int
    development: int
    frozen: int
    rungs: int = 2
    is_scored: bool = False

    @property
    def answers(self) -> int:
        """At most so many; measurements that were made before are not made again."""
        return self.prompts * self.development + self.rungs * self.frozen

    @property
    def scores(self) -> int:
        """Likewise, of the reward model."""
        return self.rungs * self.frozen if self.is_scored else 0


def options(store: Store) -> Options:
    """The models and sets to choose from. What only scores answers is offered as a reward model alone."""
    tuned = [m for m in store.models(answers=True) if m.ref.kind == "run"]
    bases = [entry.ref for entry in catalogue()]
    bases += [ModelRef(m.base) for m in tuned if m.base and m.base not in bases]
    evaluations, examples = (tuple(s.ref for s in store.snapshots(kind)) for kind in ("eval", "data"))
    aligned = tuple(m for m in tuned if m.method == _ALIGNING)
    rewards = tuple(m for m in store.models(scores=True) if m.ref.kind == "run")
    return Options(tuple(dict.fromkeys(bases)), tuple(tuned), evaluations, examples, aligned, rewards)


def propose(store: Store, tuned: str = "") -> Proposal:
    """The newest tuned model, or the given one, against its base, on the sets that belong to its dataset; above it what
    was aligned from it. A model that was aligned goes before one that was only tuned.
    """
    model, aligned = _line_of(store, tuned)
    examples = _taught_on(store, model) or next((s.ref for s in store.snapshots("data")), None)
    name = examples.name if examples is not None else ""
    sets = store.snapshots("eval")
    return Proposal(
        base=model.base if model is not None else str(catalogue()[0].ref),
        tuned=str(model.ref) if model is not None else "",
        evaluation=_set_called(sets, name),
        development=_set_called(sets, f"{name}-development"),
        examples=examples or "",
        guidelines=_guidelines(store, name),
        aligned=str(aligned.ref) if aligned is not None else "",
        reward=reward_of(store, str(aligned.ref)) if aligned is not None else "",
    )


def reward_of(store: Store, aligned: str) -> str:
    """The reward model that taught an aligned one, if both are here; else ''."""
    with suppress(NotFound):
        taught_by = (store.job(int(ModelRef(aligned).name)).result or {}).get("reward", "")
        return str(store.model(taught_by).ref) if taught_by else ""
    return ""


def plan(store: Store, task: Compare) -> Plan:
    """How many answers a task will ask for at most; raises InputError when the task cannot work."""
    task.check(store)
    development, frozen = store.snapshot(task.development).rows, store.snapshot(task.evaluation).rows
    return Plan(len(task.tried), development, frozen, len(task.rungs), task.reward is not None)


def comparisons(store: Store, limit: int = 30) -> list[Job]:
    """Comparisons that are at work or found something, newest first."""
    jobs = store.jobs(limit=500, kinds={Compare.kind})
    return [j for j in jobs if not j.is_over or (j.result or {}).get("rungs") or j.error][:limit]


def _set_called(sets: Sequence[Snapshot], name: str) -> str:
    return next((s.ref for s in sets if s.name == name), "")  # the newest version is listed first


def _line_of(store: Store, tuned: str) -> tuple[Model | None, Model | None]:
    """A tuned model and the newest that was aligned from it."""
    runs = {str(m.ref): m for m in store.models(answers=True) if m.ref.kind == "run"}
    for model in runs.values():
        if model.method == _ALIGNING and model.base in runs and tuned in ("", model.base):
            return runs[model.base], model
    fitting = (m for ref, m in runs.items() if ref == tuned or not (tuned or m.method == _ALIGNING))
    return next(fitting, None), None


def _taught_on(store: Store, model: Model | None) -> SnapshotRef | None:
    """The records that it, or a model that it began as, learned from."""
    steps = lineage(store, model.ref) if model is not None else []
    found = (SnapshotRef(step.model.snapshot) for step in steps if step.model.snapshot)
    return next((ref for ref in found if ref.kind == "data"), None)


def _guidelines(store: Store, name: str) -> str:
    with suppress(NotFound):
        return store.dataset(name).guidelines if name else ""
    return ""
