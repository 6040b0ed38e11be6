"""Where a model comes from: the runs that led to it, what each one learned from, and whose licences come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.errors import NotFound, StudioError
from studio.models.catalogue import Licence, catalogue, licence
from studio.models.licences import Source

if TYPE_CHECKING:
    from studio.store import Model, Snapshot, Store

__all__ = ["Named", "Step", "licences_of", "lineage", "obligations", "sources_in"]

Named = Callable[["Snapshot"], Mapping[str, int]]  # how many rows of a dataset name which licence, see `licences_of`


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


def obligations(steps: list[Step], named: Named | None = None) -> list[tuple[str, Licence]]:
    """What somebody promises with this model: (what it is for, its licence), for the first base and for all data; with
    `named`, for single records that name a licence of their own too."""
    if not steps:
        return []
    base = steps[-1].model.base
    known = {str(entry.ref): entry.licence for entry in catalogue()}
    found = [Source(base, known.get(base) or steps[-1].model.licence)]
    for step in steps:
        if step.snapshot:
            found += sources_in(step.snapshot, named)
    return [(source.name, licence(source.licence)) for source in dict.fromkeys(found)]


def sources_in(snapshot: Snapshot, named: Named | None = None) -> Iterator[Source]:
    """Whose licences come along with a dataset: its own, and those that its rows name themselves."""
    ref, own = str(snapshot.ref), {"": snapshot.rows}
    if named is not None and snapshot.kind == "data":
        try:
            own = dict(named(snapshot)) or own
        except StudioError:  # of a run further back; what is learned from now was read before
            yield Source(f"single records of {ref}, which cannot be read any more", "")
    if own.pop("", 0) or snapshot.licence:
        yield Source(ref, snapshot.licence)
    for name, n in own.items():
        yield Source(f"{n:,} record{'s' * (n != 1)} of {ref}", name)


def licences_of(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many of the rows that are learned from or checked with name which licence; '' where they name none."""
    return Counter(str(row.get("licence") or "") for row in rows if row["split"] in ("train", "validation"))


def _snapshot(store: Store, ref: str) -> Snapshot | None:
    try:
        return store.snapshot(ref) if ref else None
    except NotFound:
        return None
