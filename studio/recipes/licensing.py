"""Whose licences come along when a model is tuned, and whether they allow what it is for.

What the database knows is held against the use before a run is queued; the licence on the card of a model's folder and
those that single records name are read with the files: by the pre-flight, and by the run before its first step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from studio.errors import InputError
from studio.models import Weights
from studio.models.catalogue import catalogue
from studio.models.licences import Gate, Source, Use, gate, licence_on_card
from studio.models.lineage import lineage
from studio.specs import ModelRef
from studio.store import Snapshot, Store

__all__ = ["hold_licences", "licence_gate", "licences_of", "refusal_of"]


def licence_gate(
    store: Store,
    base: ModelRef,
    snapshot: Snapshot,
    use: Use,
    *,
    weights: Weights | None = None,
    rows: Mapping[str, int] | None = None,
) -> Gate:
    """Whether a model made from these may be used so. `weights` where they can be read; `rows` counts the licences that
    rows name themselves, see `licences_of`."""
    sources: dict[str, Source] = {}
    first = str(base)
    for step in lineage(store, first):
        if step.snapshot:
            sources[str(step.snapshot.ref)] = Source(str(step.snapshot.ref), step.snapshot.licence)
        first = step.model.base
    named = weights.licence if weights is not None else ""
    if weights is not None and not named:
        named = licence_on_card(weights.base)
    sources[first] = Source(first, named or _listed(first))
    own = dict(rows or {"": snapshot.rows})
    if own.pop("", 0) or snapshot.licence:
        sources[str(snapshot.ref)] = Source(str(snapshot.ref), snapshot.licence)
    for name, n in own.items():
        sources[f"{snapshot.ref}/{name}"] = Source(f"{n:,} record{'s' * (n != 1)} of {snapshot.ref}", name)
    return gate(list(sources.values()), use)


def hold_licences(
    store: Store,
    base: ModelRef,
    snapshot: Snapshot,
    use: Use,
    *,
    weights: Weights | None = None,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Raise InputError when a licence does not allow the use. What nobody knows of a licence stops nothing."""
    found = licence_gate(store, base, snapshot, use, weights=weights, rows=rows)
    if found.verdict == "no":
        raise InputError(refusal_of(found))


def refusal_of(found: Gate) -> str:
    """Why it may not be, and what to do about it."""
    return " ".join((found.sentence, *found.conditions, "Or say that it is for research, if it is."))


def licences_of(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many of the rows that are learned from or checked with name which licence; '' where they name none."""
    return Counter(str(row.get("licence") or "") for row in rows if row["split"] in ("train", "validation"))


def _listed(ref: str) -> str:
    return next((entry.licence for entry in catalogue() if str(entry.ref) == ref), "")
