"""Restoring a snapshot: its records as the content of the dataset again, at one stroke that undo takes back.

A record is found again by the prompt group that it was born into, which no edit changes; so every row of a snapshot has
its record, unless that was purged. Records keep the split they are in: those that a check moved out of validation or
test since stay out, and no group is ever in two splits. Rejected records are in no snapshot and stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from studio.errors import Conflict, InputError
from studio.instructions.comparing import TEXTS, Change, Difference, most_alike, shown
from studio.instructions.datasets import new_dataset
from studio.instructions.records import checked_fields, frozen_row, is_ready
from studio.instructions.snapshots import rows_of
from studio.store import Dataset, Edit, Record, RecordChange, Snapshot, Store

__all__ = ["Plan", "plan", "restore", "restore_as_new"]

Row: TypeAlias = Mapping[str, Any]

_MOST = 50_000  # records that a restore touches: 40,000 of 100 words took 200 MB while it was planned


@dataclass(frozen=True)
class Plan:
    """What a restore would do. `difference` leads from the records now to those of the snapshot; `lost` rows have no
    record any more; `at` is the state of the dataset that it was made for."""

    snapshot: Snapshot
    difference: Difference
    changes: tuple[RecordChange, ...]
    lost: int
    rejected: int
    at: int

    @property
    def sentence(self) -> str:
        found = self.difference
        if not self.changes:
            return f"The records are as in {self.snapshot.ref} already: {_many(found.same)}.{self._lost}"
        parts = [
            f"{_many(len(found.added))} would come back" if found.added else "",
            f"{n:,} would get {'its' if n == 1 else 'their'} earlier text" if (n := len(found.changed)) else "",
            f"{len(found.removed):,} would be removed" if found.removed else "",
            f"{found.same:,} stay{'s as it is' if found.same == 1 else ' as they are'}",
        ]
        stays = ""
        if n := self.rejected:
            stays = f" {n:,} rejected or unfilled record{'s are' if n > 1 else ' is'} left as {'they are' if n > 1 else 'it is'}."
        told = ", ".join(part for part in parts if part)
        return f"{told[:1].upper()}{told[1:]}.{stays}{self._lost}"

    @property
    def _lost(self) -> str:
        if not self.lost:
            return ""
        were = "it was" if self.lost == 1 else "they were"
        return f" {_many(self.lost)} of the snapshot cannot come back, as {were} purged."


def plan(store: Store, root: Path, dataset: Dataset, snapshot: Snapshot) -> Plan:
    """Look what a restore would do, change nothing. Raises InputError for a snapshot of another dataset."""
    if snapshot.kind != "data" or snapshot.name != dataset.name:
        raise InputError(
            f"{snapshot.ref} is no snapshot of {dataset.name}. Restore it as a new dataset, or choose another."
        )
    at = store.dataset(dataset.name).change
    wanted: dict[bytes, int] = {}
    for row in rows_of(root, snapshot):
        mark = _mark(row)
        wanted[mark] = wanted.get(mark, 0) + 1
    over: list[Record] = []  # there, and not as the snapshot has them
    rejected: list[Record] = []
    same = 0
    for record in store.all_records(dataset.id):
        mark = _mark(frozen_row(record))
        if not is_ready(record):
            rejected.append(record)
        elif wanted.get(mark):
            wanted[mark] -= 1
            same += 1
        else:
            over.append(record)
            _refuse_too_many(over)
    missing: list[dict[str, Any]] = []
    for row in rows_of(root, snapshot):
        mark = _mark(row)
        if wanted.get(mark):
            wanted[mark] -= 1
            missing.append(row)
            _refuse_too_many(missing)
    gone = store.records_of_groups(dataset.id, {row["group"] for row in missing}, removed=True)
    return _planned(snapshot, at, same, missing, over, rejected, gone)


def restore(
    store: Store, root: Path, dataset: Dataset, snapshot: Snapshot, *, author: str, seen: int | None = None
) -> Edit:
    """Do it. Raises InputError when there is nothing to do, and Conflict when the dataset is not in the state `seen`,
    or somebody changes a record meanwhile."""
    made = plan(store, root, dataset, snapshot)
    if seen is not None and made.at != seen:
        raise Conflict(
            f"{dataset.name} was changed since you looked. Look again what a restore would do, then restore."
        )
    if not made.changes:
        raise InputError(made.sentence)
    return store.change_records(dataset.id, f"Restored {snapshot.ref}", made.changes, author=author)


def restore_as_new(store: Store, root: Path, snapshot: Snapshot, name: str, *, author: str) -> Dataset:
    """A new dataset of the snapshot's rows, as drafts, in the groups and splits that they have there."""
    if snapshot.kind != "data":
        raise InputError(f"{snapshot.ref} holds no records. Choose a snapshot of a dataset.")
    for _ in rows_of(root, snapshot):  # raises before anything is made when the file is not what was frozen
        pass
    dataset = new_dataset(
        store, name, author=author, licence=snapshot.licence, description=f"Restored from {snapshot.ref}."
    )
    rows = ({**_fields(row), "group_hash": row["group"], "split": row["split"]} for row in rows_of(root, snapshot))
    store.add_records(dataset.id, rows, author=author, source=str(snapshot.ref))
    return dataset


def _planned(
    snapshot: Snapshot,
    at: int,
    same: int,
    missing: Sequence[Row],
    over: Sequence[Record],
    rejected: Sequence[Record],
    gone: Sequence[Record],
) -> Plan:
    """Every missing row gets a record of its group: one that is there before a rejected or a removed one, and one with
    its very text before any other."""
    there = {record.id for record in over}
    candidates: dict[str, list[Record]] = {}
    for record in (*over, *rejected, *gone):
        candidates.setdefault(record.group_hash, []).append(record)
    pairs: list[tuple[Row, Record]] = []
    lost = 0
    for group, rows in _grouped(missing).items():
        found, left = _paired(rows, candidates.get(group, []), there)
        pairs += found
        lost += left
    used = {record.id for _, record in pairs}
    changes = [_change(row, record) for row, record in pairs]
    changes += [RecordChange(r.id, {}, r.revision, is_removed=True) for r in over if r.id not in used]
    difference = Difference(
        added=tuple({**row, "record": r.id} for row, r in pairs if r.id not in there),
        removed=tuple({**frozen_row(r), "record": r.id} for r in over if r.id not in used),
        changed=tuple(_changed(row, r) for row, r in pairs if r.id in there),
        moved=(),
        same=same,
    )
    stay = sum(record.id not in used for record in rejected)
    return Plan(snapshot, difference, tuple(sorted(changes, key=lambda c: c.record_id)), lost, stay, at)


def _paired(rows: Sequence[Row], candidates: Sequence[Record], there: set[int]) -> tuple[list[tuple[Row, Record]], int]:
    """Rows of one group with the records of it, and how many rows are left without one."""
    found: list[tuple[Row, Record]] = []
    waiting, free = list(rows), list(candidates)  # those that are there stand first among the candidates
    by_mark: dict[bytes, list[Record]] = {}
    for record in reversed(free):
        by_mark.setdefault(_mark(frozen_row(record)), []).append(record)
    left = []
    for row in waiting:
        if twins := by_mark.get(_mark(row)):
            found.append((row, twins.pop()))
        else:
            left.append(row)
    used = {record.id for _, record in found}
    free = [record for record in free if record.id not in used]
    for some in ([r for r in free if r.id in there], [r for r in free if r.id not in there]):
        pairs = most_alike([frozen_row(r) for r in some], left)
        found += [(left[b], some[a]) for a, b in pairs]
        paired = {b for _, b in pairs}
        left = [row for place, row in enumerate(left) if place not in paired]
    return found, len(left)


def _change(row: Row, record: Record) -> RecordChange:
    """Back to the row's text. Who brings a rejected record back has it reviewed again."""
    state = {"state": "draft"} if record.state == "rejected" else {}
    return RecordChange(record.id, {**_fields(row), **state}, record.revision)


def _changed(row: Row, record: Record) -> Change:
    now = {**frozen_row(record), "record": record.id}
    before, after = shown(now), shown(row)
    fields = tuple(name for name in TEXTS if before[name] != after[name])
    return Change(now, {**row, "record": record.id}, fields)


def _fields(row: Row) -> dict[str, Any]:
    """A record's fields of a row; of a conversation the row shows the last question, and the record the first."""
    return {
        **checked_fields({name: row.get(name) for name in ("instruction", "context", "response", "category", "turns")}),
        "licence": row.get("licence", ""),
    }


def _mark(row: Row) -> bytes:
    """Rows with one mark have the same text and the same group."""
    told = [row.get("group"), *(row.get(name) or None for name in TEXTS)]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["group"], []).append(row)
    return found


def _refuse_too_many(found: Sequence[Any]) -> None:
    if len(found) > _MOST:
        raise InputError(
            f"More than {_MOST:,} records differ from the snapshot. Restore it as a new dataset instead: that takes "
            "any number."
        )


def _many(n: int) -> str:
    return f"{n:,} record{'s' * (n != 1)}"
