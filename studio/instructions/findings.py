"""What the checks of a dataset found, as a person goes through it: where each check stands, examples of what it found,
and what a remedy would change.

However large a dataset is, only as much is read as a page shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError
from studio.instructions.checking import CheckRecords, run_check
from studio.instructions.checks import (
    Check,
    DatasetCheck,
    Flag,
    RecordCheck,
    TooLong,
    check_from,
    check_kinds,
    told_settings,
)
from studio.instructions.records import checked_fields
from studio.specs import ModelRef
from studio.store import CheckRun, Dataset, FlagRow, Record, Store

__all__ = [
    "MOST_CHANGED",
    "CheckState",
    "Example",
    "Found",
    "check_again",
    "examples",
    "look_again",
    "remarks",
    "states",
    "would_change",
]

MOST_CHANGED = 100  # changed records that are counted; beyond, there are "more than 100"
_EXAMPLES = 20
_MEMBERS = 6  # records of one cluster that are shown
_FIRST = 500  # finds that examples are taken from
_FLAGS = 20_000
_TRIED = 200  # records that remedies are tried on to say how many they would change
_AT_ONCE = 500  # changed records that are looked at while a person waits
_KEPT = ("instruction", "context", "response", "category", "turns")


@dataclass(frozen=True)
class CheckState:
    """Where a check stands: its newest run, and how many records changed since, counted up to MOST_CHANGED + 1."""

    kind: type[Check]
    run: CheckRun | None = None
    changed: int = 0
    remarks: int = 0  # about the dataset as a whole

    @property
    def records(self) -> int:
        """Records in which something was found."""
        return self.run.flagged - bool(self.remarks) if self.run else 0

    @property
    def has_found(self) -> bool:
        return bool(self.run and self.run.flagged)

    @property
    def must_run_again(self) -> bool:
        """Whether its finds can no longer be mended: in one record alone nobody sees whether it is still a copy."""
        return self.changed > 0 and issubclass(self.kind, DatasetCheck)


@dataclass(frozen=True)
class Found:
    """A record with what was found in it; one that changed since may no longer have it."""

    record: Record
    flags: tuple[FlagRow, ...]
    has_changed: bool = False


@dataclass(frozen=True)
class Example:
    """Something a check found, with all that has to be seen beside it.

    alone    one record
    copies   records that say what `beside` says, which stays
    answers  records that answer one question otherwise
    leak     a record of validation or test, and the training record `beside` it
    """

    kind: Literal["alone", "copies", "answers", "leak"]
    members: tuple[Found, ...]
    beside: Record | None = None
    size: int = 1  # of the whole cluster; not all of it need be among the members


def states(store: Store, dataset: Dataset) -> list[CheckState]:
    """Every check there is, in the order they are shown."""
    runs = {name: run for name, run in store.check_runs(dataset.id).items() if name in check_kinds()}
    changes = _changes(store, dataset, min((run.until for run in runs.values()), default=time.time()))
    found: list[CheckState] = []
    for name, kind in check_kinds().items():
        run = runs.get(name)
        if run is None:
            found.append(CheckState(kind))
            continue
        changed = sum(moment > run.until for moment in changes)
        # Only a check that sees all records has something to say about all of them.
        about_all = remarks(store, dataset, name) if run.flagged and issubclass(kind, DatasetCheck) else ()
        found.append(CheckState(kind, run, changed, len(about_all)))
    return found


def remarks(store: Store, dataset: Dataset, name: str) -> list[FlagRow]:
    """What a check says about the dataset as a whole."""
    return store.flags(dataset.id, name, record_ids=[0], limit=_FLAGS)


def examples(store: Store, run: CheckRun, limit: int = _EXAMPLES) -> list[Example]:
    """Up to `limit` of what a run found, the oldest records first; of a cluster once, with its others beside."""
    drafts: dict[tuple[str, int], _Draft] = {}
    seen: set[int] = set()
    for row in store.flags(run.dataset_id, run.check, limit=_FIRST):
        if row.record_id == 0 or (row.record_id not in seen and len(seen) >= limit):
            continue
        seen.add(row.record_id)
        draft = _draft(row)
        known = drafts.setdefault((draft.kind, draft.key), draft)
        known.ids[row.record_id] = None
    wanted = {key for draft in drafts.values() for key in (*draft.some, *((draft.beside,) if draft.beside else ()))}
    records = {record.id: record for record in store.some_records(sorted(wanted))}
    flags: dict[int, list[FlagRow]] = {}
    for row in store.flags(run.dataset_id, run.check, record_ids=sorted(wanted), limit=_FLAGS):
        flags.setdefault(row.record_id, []).append(row)

    def found(key: int) -> Found:
        return Found(records[key], tuple(flags[key]), records[key].updated_at > run.until)

    made: list[Example] = []
    for draft in drafts.values():
        members = tuple(found(key) for key in draft.some if key in records and key in flags)
        if members:
            made.append(Example(draft.kind, members, records.get(draft.beside), max(draft.size, len(members))))
    return made


def would_change(store: Store, run: CheckRun, record_ids: Sequence[int] | None = None) -> dict[str, int | None]:
    """Remedy -> how many records it would change now; None where there are too many to try it on each.

    Given ids, only those records are tried.
    """
    check = check_from(run.check, run.settings)
    if (run.flagged if record_ids is None else len(record_ids)) > _TRIED:
        return {remedy.name: None for remedy in check.remedies}
    flags: dict[int, list[Flag]] = {}
    for row in store.flags(run.dataset_id, run.check, record_ids=record_ids):
        flag = Flag(row.record_id, row.check, row.field, row.note, row.start, row.end, row.details or {})
        flags.setdefault(row.record_id, []).append(flag)
    records = store.some_records([key for key in flags if key])
    return {
        remedy.name: sum(_changes_by(check, record, flags[record.id], remedy.name) for record in records)
        for remedy in check.remedies
    }


def look_again(store: Store, dataset: Dataset, name: str, memory: Path) -> bool:
    """Look again at what changed, if a check can do that while a person waits; says whether it did."""
    run = store.check_runs(dataset.id).get(name)
    if run is None or name == TooLong.name:  # which needs a tokenizer
        return False
    check = check_from(name, run.settings)
    if not isinstance(check, RecordCheck) or check.stamp != run.version:
        return False
    newest = store.records(dataset.id, order="newest", limit=_AT_ONCE + 1)
    if len(newest) > _AT_ONCE and newest[-1].updated_at > run.until:
        return False
    run_check(store, dataset, check, memory)
    return True


def check_again(dataset: Dataset, run: CheckRun) -> CheckRecords:
    """The job that runs a check as it ran before."""
    if run.check == TooLong.name:
        model, window = run.settings.get("model", ""), run.settings.get("window", 2048)
        return CheckRecords(
            dataset=dataset.name, checks=(run.check,), model=ModelRef(model) if model else None, window=window
        )
    settings = told_settings(check_from(run.check, run.settings))
    return CheckRecords(dataset=dataset.name, checks=(run.check,), settings=tuple(settings))


# -- how ----------------------------------------------------------------------------------------------------------


def _changes(store: Store, dataset: Dataset, since: float) -> list[float]:
    """When records changed after `since`, newest first: as many as are counted."""
    newest = store.records(dataset.id, order="newest", limit=1)
    if not newest or newest[0].updated_at <= since:
        return []
    latest = store.records(dataset.id, order="newest", limit=MOST_CHANGED + 1)
    return [record.updated_at for record in latest if record.updated_at > since]


@dataclass
class _Draft:
    """An example of which only ids are known."""

    kind: Literal["alone", "copies", "answers", "leak"]
    key: int
    beside: int
    size: int
    others: tuple[int, ...]
    ids: dict[int, None]

    @property
    def some(self) -> list[int]:
        """Who is shown: those that were found, then others of the cluster."""
        return list(dict.fromkeys((*self.ids, *self.others)))[:_MEMBERS]


def _draft(row: FlagRow) -> _Draft:
    """What a flag's details say about who belongs together; a check of one's own may say the same."""
    details: Mapping[str, Any] = row.details or {}
    cluster, size = details.get("cluster"), int(details.get("of", 1))
    others = _whole(details.get("others", ()))
    if cluster and "against" in details:
        return _Draft("answers", int(cluster), 0, size, tuple(others), {})
    if cluster:
        return _Draft("copies", int(cluster), int(cluster), size, tuple(o for o in others if o != cluster), {})
    if details.get("nearest"):
        return _Draft("leak", row.record_id, int(details["nearest"]), 1, (), {})
    return _Draft("alone", row.record_id, 0, 1, (), {})


def _whole(ids: Iterable[Any]) -> list[int]:
    return [key for key in ids if isinstance(key, int)]


def _changes_by(check: Check, record: Record, flags: Sequence[Flag], remedy: str) -> bool:
    mended = check.mend(record, flags, remedy)
    if mended.fields:
        try:
            checked_fields({**{name: getattr(record, name) for name in _KEPT}, **mended.fields})
        except InputError:  # nothing would be left of a field that has to be there
            return False
    return bool(mended)
