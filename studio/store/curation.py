"""What people keep beside a dataset: filters by name, rows of files that wait to be mended, and what was purged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now
from studio.store.datasets import RecordFilter, changed

__all__ = ["CurationVerbs", "LeftOutRow", "Purge", "SavedFilter"]

_BATCH = 1000


@dataclass(frozen=True)
class SavedFilter:
    id: int
    dataset_id: int
    name: str
    filter: RecordFilter
    author: str
    created_at: float


@dataclass(frozen=True)
class LeftOutRow:
    """A row of a file that could not be taken in: where it was, why, and what could be read of it."""

    id: int
    dataset_id: int
    edit_id: int
    row: int
    column: str
    reason: str
    cells: dict[str, str]
    settled_at: float | None


@dataclass(frozen=True)
class Purge:
    """What was taken out of history: how many records and which snapshots had held them, never the text."""

    id: int
    dataset_id: int
    reason: str
    records: int
    snapshots: list[str]
    author: str
    created_at: float


class CurationVerbs(Database):
    @conflict_is("A filter of that name exists already. Choose another name, or remove the existing one.")
    def save_filter(self, dataset_id: int, name: str, where: RecordFilter, *, author: str) -> SavedFilter:
        row = {"dataset_id": dataset_id, "name": name, "filter": where.told(), "author": author, "created_at": now()}
        with self._write() as c:
            key = c.execute(t.saved_filters.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            changed(c, dataset_id)
        return _saved({"id": key, **row})

    def saved_filters(self, dataset_id: int) -> list[SavedFilter]:
        s = t.saved_filters.c
        query = sa.select(t.saved_filters).where(s.dataset_id == dataset_id).order_by(s.name)
        with self._read() as c:
            return [_saved(row) for row in c.execute(query).mappings()]

    def remove_filter(self, filter_id: int) -> None:
        with self._write() as c:
            c.execute(t.saved_filters.delete().where(t.saved_filters.c.id == filter_id))

    # -- rows left out by an import ---------------------------------------------------------------------------------

    def left_out(self, dataset_id: int, *, limit: int = 50) -> tuple[list[LeftOutRow], int]:
        """The first rows that still wait to be mended, and how many there are in all."""
        x = t.left_out_rows.c
        waiting = (x.dataset_id == dataset_id, x.settled_at.is_(None))
        with self._read() as c:
            rows = c.execute(sa.select(t.left_out_rows).where(*waiting).order_by(x.id).limit(limit)).mappings()
            found = [LeftOutRow(**row) for row in rows]
            total = c.execute(sa.select(sa.func.count()).select_from(t.left_out_rows).where(*waiting)).scalar_one()
        return found, int(total)

    def left_out_row(self, row_id: int) -> LeftOutRow:
        with self._read() as c:
            row = c.execute(sa.select(t.left_out_rows).where(t.left_out_rows.c.id == row_id)).mappings().first()
        if row is None:
            raise NotFound(f"There is no left-out row {row_id}. Reload the page: somebody may have settled it.")
        return LeftOutRow(**row)

    def settle(self, row_ids: Sequence[int]) -> None:
        """These rows were mended, or let go."""
        x = t.left_out_rows.c
        with self._write() as c:
            for start in range(0, len(row_ids), _BATCH):
                mine = x.id.in_(row_ids[start : start + _BATCH])
                c.execute(t.left_out_rows.update().where(mine).values(settled_at=now()))

    def settle_all(self, dataset_id: int) -> None:
        x = t.left_out_rows.c
        with self._write() as c:
            waiting = (x.dataset_id == dataset_id, x.settled_at.is_(None))
            c.execute(t.left_out_rows.update().where(*waiting).values(settled_at=now()))

    # -- purging ------------------------------------------------------------------------------------------------------

    def purge_records(
        self, dataset_id: int, record_ids: Sequence[int], reason: str, snapshots: Sequence[str], *, author: str
    ) -> Purge:
        """Take records out for good: the rows, their earlier versions, flags and comments; mark the snapshots.

        The only verb that rewrites history. What stays is the fact of it.
        """
        r, at = t.records.c, now()
        with self._write() as c:
            gone = 0
            for start in range(0, len(record_ids), _BATCH):
                part = record_ids[start : start + _BATCH]
                mine = sa.select(r.id).where(r.dataset_id == dataset_id, r.id.in_(part))
                for table in (t.record_revisions, t.flags, t.comments):
                    c.execute(table.delete().where(table.c.record_id.in_(mine)))
                gone += c.execute(t.records.delete().where(r.dataset_id == dataset_id, r.id.in_(part))).rowcount
            for ref in snapshots:
                c.execute(t.snapshots.update().where(t.snapshots.c.ref == ref).values(purged_at=at))
            row: dict[str, Any] = {
                "dataset_id": dataset_id,
                "reason": reason,
                "records": gone,
                "snapshots": list(snapshots),
                "author": author,
                "created_at": at,
            }
            key = c.execute(t.purges.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            changed(c, dataset_id)
        return Purge(id=key, **row)

    def purges(self, dataset_id: int) -> list[Purge]:
        query = sa.select(t.purges).where(t.purges.c.dataset_id == dataset_id).order_by(t.purges.c.id.desc())
        with self._read() as c:
            return [Purge(**row) for row in c.execute(query).mappings()]


def _saved(row: Any) -> SavedFilter:
    return SavedFilter(**{**row, "filter": RecordFilter.of(row["filter"])})
