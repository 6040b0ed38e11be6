"""Where a model comes from: the runs that led to it, what each one learned from, and whose licences come along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.errors import NotFound
from studio.models.catalogue import Licence, catalogue, licence

if TYPE_CHECKING:
    from studio.store import Model, Snapshot, Store

__all__ = ["Step", "lineage", "obligations"]


@dataclass(frozen=True)
class Step:
    """One run of a lineage: the model it made, and the frozen data it learned from, if that is known here."""

    model: Model
    snapshot: Snapshot | None


def lineage(store: Store, ref: str) -> list[Step]:
    """The runs behind a model, the newest first; the last one's base is the model that all began with."""
    steps: list[Step] = []
    while ref.startswith("run:") and all(step.model.ref != ref for step in steps):
        try:
            model = store.model(ref)
        except NotFound:
            if not steps:
                raise
            break  # made from a model whose row is not in this workspace
        steps.append(Step(model, _snapshot(store, model.snapshot)))
        ref = model.base
    return steps


def obligations(steps: list[Step]) -> list[tuple[str, Licence]]:
    """What somebody promises with this model: (what it is for, its licence), for the first base and for all data."""
    if not steps:
        return []
    base = steps[-1].model.base
    known = {str(entry.ref): entry.licence for entry in catalogue()}
    found = {base: licence(known.get(base) or steps[-1].model.licence)}
    found |= {str(step.snapshot.ref): licence(step.snapshot.licence) for step in steps if step.snapshot}
    return list(found.items())


def _snapshot(store: Store, ref: str) -> Snapshot | None:
    try:
        return store.snapshot(ref) if ref else None
    except NotFound:
        return None
