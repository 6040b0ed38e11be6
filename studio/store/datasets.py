"""Datasets and their records: the instruction rows people edit, with every earlier version kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import Conflict, NotFound
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now

__all__ = ["Dataset", "DatasetVerbs", "Record", "RecordFilter"]

_BATCH = 1000


@dataclass(frozen=True)
class Dataset:
    id: int
    name: str
    description: str
    guidelines: str
    licence: str
    author: str
    created_at: float


@dataclass(frozen=True)
class Record:
    """One instruction record; `revision` counts its versions from 1."""

    id: int
    dataset_id: int
    instruction: str
    context: str
    response: str
    category: str
    group_hash: str
    split: str
    source: str
    author: str
    revision: int
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class RecordFilter:
    """Which records of a dataset are meant. `text` is looked for in instruction, context and response."""

    text: str = ""
    category: str = ""
    split: str = ""


class DatasetVerbs(Database):
    @conflict_is("A dataset of that name exists already. Choose another name, or open the existing one.")
    def create_dataset(
        self, name: str, *, author: str, description: str = "", guidelines: str = "", licence: str = ""
    ) -> Dataset:
        with self._write() as c:
            row: dict[str, Any] = {
                "name": name,
                "description": description,
                "guidelines": guidelines,
                "licence": licence,
                "author": author,
                "created_at": now(),
            }
            key = c.execute(t.datasets.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            return Dataset(id=key, **row)

    def datasets(self) -> list[Dataset]:
        with self._read() as c:
            return [Dataset(**r) for r in c.execute(sa.select(t.datasets).order_by(t.datasets.c.name)).mappings()]

    def dataset(self, name: str) -> Dataset:
        with self._read() as c:
            row = c.execute(sa.select(t.datasets).where(t.datasets.c.name == name)).mappings().first()
        if row is None:
            known = ", ".join(d.name for d in self.datasets()) or "none yet"
            raise NotFound(f"There is no dataset '{name}'. Known datasets: {known}.")
        return Dataset(**row)

    def add_records(self, dataset_id: int, rows: Iterable[dict[str, Any]], *, author: str, source: str) -> int:
        """Append rows (dolly's fields plus `group_hash` and `split`); returns how many. All of them or none."""
        added, at = 0, now()
        with self._write() as c:
            for batch in _batches(rows):
                made = [
                    {
                        "dataset_id": dataset_id,
                        "source": source,
                        "author": author,
                        "revision": 1,
                        "created_at": at,
                        "updated_at": at,
                        **row,
                    }
                    for row in batch
                ]
                c.execute(t.records.insert(), made)
                added += len(made)
        return added

    def records(
        self, dataset_id: int, where: RecordFilter | None = None, *, offset: int = 0, limit: int = 50
    ) -> list[Record]:
        query = _filtered(sa.select(t.records), dataset_id, where).order_by(t.records.c.id)
        with self._read() as c:
            return [Record(**r) for r in c.execute(query.offset(offset).limit(limit)).mappings()]

    def count_records(self, dataset_id: int, where: RecordFilter | None = None) -> int:
        query = _filtered(sa.select(sa.func.count()).select_from(t.records), dataset_id, where)
        with self._read() as c:
            return int(c.execute(query).scalar_one())

    def all_records(self, dataset_id: int) -> Iterator[Record]:
        """Every record in order of insertion, read in batches."""
        last = 0
        while True:
            query = (
                sa.select(t.records)
                .where(t.records.c.dataset_id == dataset_id, t.records.c.id > last)
                .order_by(t.records.c.id)
                .limit(_BATCH)
            )
            with self._read() as c:
                rows = [Record(**r) for r in c.execute(query).mappings()]
            if not rows:
                return
            yield from rows
            last = rows[-1].id

    def categories(self, dataset_id: int) -> dict[str, int]:
        """Category -> number of records, largest first."""
        query = (
            sa.select(t.records.c.category, sa.func.count())
            .where(t.records.c.dataset_id == dataset_id)
            .group_by(t.records.c.category)
            .order_by(sa.func.count().desc(), t.records.c.category)
        )
        with self._read() as c:
            return {category: int(n) for category, n in c.execute(query)}

    def record(self, record_id: int) -> Record:
        with self._read() as c:
            return self._record(c, record_id)

    def _record(self, c: sa.Connection, record_id: int, *, lock: bool = False) -> Record:
        query = sa.select(t.records).where(t.records.c.id == record_id)
        # PostgreSQL only: the second of two simultaneous edits waits here and then sees the first one's revision.
        row = c.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise NotFound(f"There is no record {record_id}. Reload the page: it may have been removed.")
        return Record(**row)

    def edit_record(self, record_id: int, revision: int, fields: dict[str, str], *, author: str) -> Record:
        """Save new field values if `revision` is still the newest; the values before stay in the history."""
        with self._write() as c:
            before = self._record(c, record_id, lock=True)
            if before.revision != revision:
                raise Conflict(
                    f"Record {record_id} was changed by {before.author} while you were editing "
                    f"(revision {before.revision}, you have {revision}). Your text is still in the form: "
                    "copy what you need, reload the record and save again."
                )
            changed = {k: v for k, v in fields.items() if getattr(before, k) != v}
            if not changed:
                return before
            old = {k: getattr(before, k) for k in ("instruction", "context", "response", "category")}
            c.execute(
                t.record_revisions.insert().values(
                    record_id=record_id,
                    revision=revision,
                    fields=old,
                    author=before.author,
                    created_at=before.updated_at,
                )
            )
            c.execute(
                t.records.update()
                .where(t.records.c.id == record_id)
                .values(**changed, revision=revision + 1, author=author, updated_at=now())
            )
            return self._record(c, record_id)

    def record_history(self, record_id: int) -> list[dict[str, Any]]:
        """Earlier versions of a record, newest first: revision, fields, author, created_at."""
        table = t.record_revisions
        query = sa.select(table).where(table.c.record_id == record_id).order_by(table.c.revision.desc())
        with self._read() as c:
            return [dict(r) for r in c.execute(query).mappings()]


def _filtered(query: sa.Select[Any], dataset_id: int, where: RecordFilter | None) -> sa.Select[Any]:
    query = query.where(t.records.c.dataset_id == dataset_id)
    if where is None:
        return query
    if where.text:
        columns = (t.records.c.instruction, t.records.c.context, t.records.c.response)
        query = query.where(sa.or_(*(c.icontains(where.text, autoescape=True) for c in columns)))
    if where.category:
        query = query.where(t.records.c.category == where.category)
    if where.split:
        query = query.where(t.records.c.split == where.split)
    return query


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
