"""What to compare next: what can be compared, what would be sensible, and what it will take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from studio.errors import NotFound
from studio.models import catalogue
from studio.prompts.compare import Compare
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Model, Snapshot, Store

__all__ = ["Options", "Plan", "Proposal", "comparisons", "options", "plan", "propose"]


@dataclass(frozen=True)
class Options:
    """What a comparison can be made of; newest first."""

    bases: tuple[ModelRef, ...]
    tuned: tuple[Model, ...]
    evaluations: tuple[SnapshotRef, ...]
    examples: tuple[SnapshotRef, ...]


@dataclass(frozen=True)
class Proposal:
    """A sensible comparison; '' where the workspace has nothing to propose."""

    base: str = ""
    tuned: str = ""
    evaluation: str = ""
    development: str = ""
    examples: str = ""
    guidelines: str = ""


@dataclass(frozen=True)
class Plan:
    """What a comparison will ask of the models."""

    prompts: int
    development: int
    frozen: int

    @property
    def answers(self) -> int:
        """At most so many; measurements that were made before are not made again."""
        return self.prompts * self.development + 2 * self.frozen


def options(store: Store) -> Options:
    """The models and sets to choose from."""
    tuned = [m for m in store.models(answers=True) if m.ref.kind == "run"]
    bases = [entry.ref for entry in catalogue()]
    bases += [ModelRef(m.base) for m in tuned if m.base and m.base not in bases]
    evaluations, examples = (tuple(s.ref for s in store.snapshots(kind)) for kind in ("eval", "data"))
    return Options(tuple(dict.fromkeys(bases)), tuple(tuned), evaluations, examples)


def propose(store: Store, tuned: str = "") -> Proposal:
    """The newest tuned model, or the given one, against its base, on the sets that belong to its dataset."""
    runs = [m for m in store.models(answers=True) if m.ref.kind == "run"]
    model = next((m for m in runs if tuned in ("", m.ref)), None)
    taught = SnapshotRef(model.snapshot) if model is not None and model.snapshot else None
    examples = taught or next((s.ref for s in store.snapshots("data")), None)
    name = examples.name if examples is not None else ""
    sets = store.snapshots("eval")
    return Proposal(
        base=model.base if model is not None else str(catalogue()[0].ref),
        tuned=str(model.ref) if model is not None else "",
        evaluation=_set_called(sets, name),
        development=_set_called(sets, f"{name}-development"),
        examples=examples or "",
        guidelines=_guidelines(store, name),
    )


def plan(store: Store, task: Compare) -> Plan:
    """How many answers a task will ask for at most; raises InputError when the task cannot work."""
    task.check(store)
    return Plan(len(task.templates), store.snapshot(task.development).rows, store.snapshot(task.evaluation).rows)


def comparisons(store: Store, limit: int = 30) -> list[Job]:
    """Comparisons that are at work or found something, newest first."""
    jobs = store.jobs(limit=500, kinds={Compare.kind})
    return [j for j in jobs if not j.is_over or (j.result or {}).get("rungs") or j.error][:limit]


def _set_called(sets: Sequence[Snapshot], name: str) -> str:
    return next((s.ref for s in sets if s.name == name), "")  # the newest version is listed first


def _guidelines(store: Store, name: str) -> str:
    with suppress(NotFound):
        return store.dataset(name).guidelines if name else ""
    return ""
