"""Whose licences come along when a model is tuned, and whether they allow what it is for.

What the database knows is held against the use before a run is queued; the licence on the card of a model's folder and
those that single records name are read with the files: by the pre-flight, and by the run before its first step.
"""

from __future__ import annotations

from studio.errors import InputError
from studio.models import Weights
from studio.models.catalogue import catalogue
from studio.models.licences import Gate, Source, Use, gate, licence_on_card
from studio.models.lineage import Named, lineage, sources_in
from studio.specs import ModelRef
from studio.store import Snapshot, Store

__all__ = ["hold_licences", "licence_gate"]


def licence_gate(
    store: Store,
    base: ModelRef,
    snapshot: Snapshot,
    use: Use,
    *,
    weights: Weights | None = None,
    named: Named | None = None,
) -> Gate:
    """Whether a model made from these may be used so: from the first base, from all data that the runs behind this one
    learned from, and from the snapshot. `weights` where they can be read, and `named` where rows can."""
    sources: list[Source] = []
    first = str(base)
    for step in lineage(store, first):
        if step.snapshot:
            sources += sources_in(step.snapshot, named)
        elif step.model.snapshot:
            sources.append(Source(step.model.snapshot, ""))
        first = step.model.base
    told = (weights.licence or licence_on_card(weights.base)) if weights is not None else ""
    sources.append(Source(first, told or _listed(first)))
    sources += sources_in(snapshot, named)
    return gate(list(dict.fromkeys(sources)), use)


def hold_licences(found: Gate) -> None:
    """Raise InputError when licences do not allow the use. What nobody knows of a licence stops nothing."""
    if found.verdict == "no":
        raise InputError(" ".join((found.sentence, *found.conditions, "Or say that it is for research, if it is.")))


def _listed(ref: str) -> str:
    return next((entry.licence for entry in catalogue() if str(entry.ref) == ref), "")
