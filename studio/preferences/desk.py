"""The labeling desk: which items a person gets next, and what he says of them.

Items are leased, so that two people do not rank the same one, and shuffled per person by a stored seed. A lease only
decides who gets an item next: what is judged is kept, however late it comes.
"""

from __future__ import annotations

import hashlib

from studio.errors import NotFound
from studio.specs import SnapshotRef
from studio.store import DeskItem, Judged, Progress, Ranking, Store

__all__ = ["LEASE_SECONDS", "guidelines_of", "judge", "last_judged", "next_items", "progress", "skip"]

# Long enough to read four answers twice and be called away once; an absent person's items go on after that.
LEASE_SECONDS = 10 * 60.0


def next_items(store: Store, batch: str, annotator_name: str, count: int = 2) -> list[DeskItem]:
    """The items on this person's desk, up to `count`: those he has first, so that a reload shows the same ones."""
    annotator = store.annotator(annotator_name)
    shown = guidelines_of(store, batch)
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12] if shown else ""
    return store.lease_items(batch, annotator, count, seconds=LEASE_SECONDS, guideline=digest)


def judge(store: Store, ranking: Ranking, annotator_name: str) -> Judged:
    """Keep a ranking; the same client id again gives the first judgement back."""
    return store.judge(ranking, store.annotator(annotator_name))


def skip(store: Store, batch: str, assignment_id: int, annotator_name: str) -> None:
    """Leave an item to others; what was judged before stays judged."""
    store.skip_item(batch, assignment_id, store.annotator(annotator_name))


def last_judged(store: Store, batch: str, annotator_name: str) -> DeskItem:
    """The item this person judged or skipped last, to be judged again as a new revision."""
    return store.take_back(batch, store.annotator(annotator_name), seconds=LEASE_SECONDS)


def progress(store: Store, batch: str, annotator_name: str) -> Progress:
    return store.labeling_progress(batch, store.annotator(annotator_name))


def guidelines_of(store: Store, batch: str) -> str:
    """How answers should be: the guidelines of the dataset that the batch's prompts are named after, '' if none."""
    source = store.batch_source(batch)
    if not source:
        return ""
    try:
        return store.dataset(SnapshotRef(source).name).guidelines
    except NotFound:
        return ""
