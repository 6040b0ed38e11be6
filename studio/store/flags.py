"""What the checks found in a dataset, and when they last looked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from studio.store import tables as t
from studio.store.database import Database, now
from studio.store.datasets import changed, put_rows

__all__ = ["CheckRun", "FlagRow", "FlagVerbs"]

_BATCH = 1000


@dataclass(frozen=True)
class FlagRow:
    """One find: which record (0: the dataset), where in it, and why, in words."""

    record_id: int
    check: str
    field: str
    note: str
    start: int | None = None
    end: int | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True)
class CheckRun:
    """The newest run of a check over a dataset; what changed after `until` it has not seen."""

    dataset_id: int
    check: str
    version: str
    settings: dict[str, Any]
    records: int
    flagged: int
    seconds: float
    until: float
    ended_at: float


class FlagVerbs(Database):
    def put_flags(self, run: CheckRun, flags: Iterable[FlagRow], *, only: Sequence[int] | None = None) -> CheckRun:
        """Put a run's finds in place of the earlier ones: of all records, or of those in `only`. All or nothing."""
        f, r = t.flags.c, t.check_runs.c
        mine = (f.dataset_id == run.dataset_id, f.check == run.check)
        with self._write() as c:
            if only is None:
                c.execute(t.flags.delete().where(*mine))
            else:
                for start in range(0, len(only), _BATCH):
                    c.execute(t.flags.delete().where(*mine, f.record_id.in_(only[start : start + _BATCH])))
            left = iter(flags)
            while batch := list(islice(left, _BATCH)):
                put_rows(c, t.flags, [_row(run, flag) for flag in batch])
            flagged = int(c.execute(_flagged().where(*mine)).scalar_one())
            done = CheckRun(**{**run.__dict__, "flagged": flagged, "ended_at": now()})
            key = (r.dataset_id == run.dataset_id, r.check == run.check)
            c.execute(t.check_runs.delete().where(*key))
            c.execute(t.check_runs.insert().values(done.__dict__))
            changed(c, run.dataset_id)
        return done

    def check_runs(self, dataset_id: int) -> dict[str, CheckRun]:
        """Name of a check -> its newest run; `flagged` counts the records that are still there."""
        query = sa.select(t.check_runs).where(t.check_runs.c.dataset_id == dataset_id).order_by(t.check_runs.c.check)
        f = t.flags.c
        counts = _flagged().add_columns(f.check).where(f.dataset_id == dataset_id).group_by(f.check)
        with self._read() as c:
            there = {check: int(n) for n, check in c.execute(counts)}
            runs = [CheckRun(**row) for row in c.execute(query).mappings()]
        return {run.check: CheckRun(**{**run.__dict__, "flagged": there.get(run.check, 0)}) for run in runs}

    def flags(
        self, dataset_id: int, check: str, *, record_ids: Sequence[int] | None = None, limit: int | None = None
    ) -> list[FlagRow]:
        """Finds of one check, in order of records; those of removed records are left out."""
        f = t.flags.c
        query = _there(sa.select(t.flags)).where(f.dataset_id == dataset_id, f.check == check)
        if record_ids is not None:
            query = query.where(f.record_id.in_(record_ids))
        with self._read() as c:
            rows = c.execute(query.order_by(f.record_id, f.id).limit(limit)).mappings()
            return [_flag(row) for row in rows]

    def flags_of(self, record_ids: Sequence[int]) -> dict[int, list[FlagRow]]:
        """Record -> all that was found in it."""
        f = t.flags.c
        found: dict[int, list[FlagRow]] = {}
        query = sa.select(t.flags).where(f.record_id.in_(record_ids)).order_by(f.record_id, f.check, f.id)
        with self._read() as c:
            for row in c.execute(query).mappings():
                found.setdefault(row["record_id"], []).append(_flag(row))
        return found


def _there(query: sa.Select[Any]) -> sa.Select[Any]:
    """Of records that are there, and of the dataset as a whole."""
    f, r = t.flags.c, t.records.c
    joined = query.select_from(t.flags.outerjoin(t.records, r.id == f.record_id))
    return joined.where(sa.or_(f.record_id == 0, sa.and_(r.id.is_not(None), r.removed_at.is_(None))))


def _flagged() -> sa.Select[Any]:
    return _there(sa.select(sa.func.count(sa.distinct(t.flags.c.record_id))))


def _row(run: CheckRun, flag: FlagRow) -> dict[str, Any]:
    row = {"dataset_id": run.dataset_id, **flag.__dict__, "check": run.check}
    return {**row, "details": flag.details or {}}


def _flag(row: Any) -> FlagRow:
    return FlagRow(**{name: row[name] for name in FlagRow.__dataclass_fields__})
