"""Snapshots as people read them: what one would hold, what is in it, and who reads it. Files are read line by line."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from studio.errors import StorageError
from studio.instructions.records import GAP_ANSWER, GAP_QUESTION, is_unfilled
from studio.store import Dataset, Record, RecordFilter, Snapshot, SnapshotUse, Store

__all__ = [
    "SPLITS",
    "Holding",
    "first_rows",
    "holding",
    "lines_of",
    "rows_of",
    "selections",
    "snapshots_of",
    "splits_of",
    "still_flagged",
    "uses_of",
]

# Checks whose finds leave the house with a model, or make it look better than it is.
_GRAVE = {
    "personal": "personal data",
    "secrets": "keys and passwords",
    "placeholders": "placeholders",
    "leakage": "leakage",
}

SPLITS = ("train", "validation", "test", "excluded")

# The key of a row, not words of its text: there the signs around would be escaped.
_SPLIT = re.compile(rb'(?<!\\)"split": "(\w+)"')


@dataclass(frozen=True)
class Holding:
    """What a snapshot would hold: of `total` records those that the filter leaves, without the rejected and the unfilled
    among them."""

    total: int
    chosen: int
    rejected: int
    unfilled: int
    splits: Mapping[str, int]

    @property
    def rows(self) -> int:
        return self.chosen - self.rejected - self.unfilled

    @property
    def sentence(self) -> str:
        """'Would hold 240 of 264 records: 4 left out by the filter, 20 rejected. Train 200, validation 20, test 20.'"""
        left = [
            (self.total - self.chosen, "not chosen"),
            (self.rejected, "rejected"),
            (self.unfilled, "not filled in yet"),
        ]
        without = ", ".join(f"{n:,} {words}" for n, words in left if n)
        parts = ", ".join(f"{self.splits[split]:,} {split}" for split in SPLITS if self.splits.get(split))
        held = f"Would hold {self.rows:,} of {self.total:,} record{'s' * (self.total != 1)}"
        return f"{held}{f' ({without})' if without else ''}{f': {parts}' if parts else ''}."


def holding(store: Store, dataset: Dataset, where: RecordFilter | None = None) -> Holding:
    """Count what `take_snapshot` would freeze."""
    where = where or RecordFilter()

    def counted(one: RecordFilter) -> tuple[int, int]:
        """All that the filter leaves, and the rejected of them."""
        there = store.count_records(dataset.id, one)
        if one.state:
            return there, there if one.state == "rejected" else 0
        return there, store.count_records(dataset.id, replace(one, state="rejected")) if there else 0

    unfilled = Counter(record.split for record in _unfilled(store, dataset, where))
    splits = {}
    for split in SPLITS:
        if where.split in ("", split):
            there, rejected = counted(replace(where, split=split))
            splits[split] = there - rejected - unfilled[split]
    return Holding(store.count_records(dataset.id), *counted(where), unfilled.total(), splits)


def _unfilled(store: Store, dataset: Dataset, where: RecordFilter) -> Iterator[Record]:
    """Those that wait to be filled in, rejected ones aside: looked for by the words of a gap, which few others have."""
    found = set()
    for gap in (GAP_QUESTION, GAP_ANSWER):
        words = f'{where.text} "{gap.strip("[]")}"'.strip()
        found |= set(store.record_ids(dataset.id, replace(where, text=words)))
    return (r for r in store.some_records(sorted(found)) if is_unfilled(r) and r.state != "rejected")


def still_flagged(store: Store, dataset: Dataset) -> str:
    """What the last run of the checks found that a model should not learn, and that is still there; '' for nothing."""
    runs = store.check_runs(dataset.id)
    found = [(runs[name].flagged, words) for name, words in _GRAVE.items() if name in runs and runs[name].flagged]
    if not found:
        return ""
    told = ", ".join(f"{n:,} for {words}" for n, words in found)
    return f"Flagged in this dataset: {told}. Look at them under Checks."


def selections(store: Store, dataset: Dataset) -> dict[str, RecordFilter]:
    """Which records a person may choose to freeze or to export, by the words for them: saved filters among them."""
    saved = {f"Saved filter: {one.name}": one.filter for one in store.saved_filters(dataset.id)}
    return {
        "All but rejected records": RecordFilter(),
        "Approved records only": RecordFilter(state="approved"),
        **saved,
    }


def snapshots_of(store: Store, dataset: Dataset) -> list[Snapshot]:
    """Those of one dataset, newest first."""
    return [snapshot for snapshot in store.snapshots("data") if snapshot.name == dataset.name]


def uses_of(store: Store, dataset: Dataset) -> dict[str, list[SnapshotUse]]:
    """Reference of a snapshot -> the jobs that were told to read it, and the example banks that took from it."""
    found: dict[str, list[SnapshotUse]] = {}
    for use in store.snapshot_uses(f"data:{dataset.name}@"):
        found.setdefault(use.ref, []).append(use)
    return found


def splits_of(root: Path, snapshot: Snapshot) -> dict[str, int]:
    """How many rows each split has, without reading the rows as such: 100,000 of them take a fraction of a second."""
    counts = Counter(found[-1].decode() for line in lines_of(root, snapshot) if (found := _SPLIT.findall(line)))
    return {split: counts[split] for split in (*SPLITS, *sorted(set(counts) - set(SPLITS))) if counts[split]}


def first_rows(root: Path, snapshot: Snapshot, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
    """Some rows, in the order of the file."""
    path = root / snapshot.path
    try:
        with path.open("rb") as file:
            return [json.loads(line) for line in islice(file, offset, offset + limit)]
    except OSError as error:
        raise _unreadable(snapshot, path, error) from error


def rows_of(root: Path, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Every row. Raises StorageError, at the end at the latest, when the file is not what was frozen."""
    return (json.loads(line) for line in lines_of(root, snapshot))


def lines_of(root: Path, snapshot: Snapshot) -> Iterator[bytes]:
    """Every row as it stands in the file, in memory that does not grow with it. Raises like `rows_of`."""
    path, digest = root / snapshot.path, hashlib.sha256()
    try:
        with path.open("rb") as file:
            for line in file:
                digest.update(line)
                yield line
    except OSError as error:
        raise _unreadable(snapshot, path, error) from error
    if digest.hexdigest() != snapshot.digest:
        raise StorageError(
            f"The file of {snapshot.ref} was changed after it was frozen ({path}). "
            "Put the original back from a backup, or freeze a new snapshot."
        )


def _unreadable(snapshot: Snapshot, path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The file of {snapshot.ref} cannot be read ({path}: {error.strerror}). "
        "Put it back from a backup, or freeze a new snapshot."
    )
