"""Datasets and their instruction records: added, found, counted. Editing them is in edits.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa

from studio.errors import NotFound
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now
from studio.store.words import FOUND_ID, matching, terms

__all__ = ["RECORD_STATES", "Dataset", "DatasetVerbs", "Order", "Record", "RecordFilter", "RowsTaken"]

RECORD_STATES = ("draft", "approved", "rejected")
Order = Literal["oldest", "newest", "shortest", "longest"]

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
    change: int = 0  # moves on every write to the dataset


@dataclass(frozen=True)
class Record:
    """One instruction record; `revision` counts its versions from 1.

    `turns` is None for a question and its answer, and the whole conversation for anything longer; then `instruction`
    is the first thing the user says and `response` the last answer. `letters` counts the characters of all its text.
    """

    id: int
    dataset_id: int
    instruction: str
    context: str
    response: str
    category: str
    turns: list[dict[str, str]] | None
    licence: str
    state: str
    letters: int
    group_hash: str
    split: str
    source: str
    provenance: dict[str, Any] | None
    author: str
    revision: int
    created_at: float
    updated_at: float


_RECORD = [t.records.c[f.name] for f in fields(Record)]


@dataclass(frozen=True)
class RecordFilter:
    """Which records of a dataset are meant; what is empty asks for nothing.

    `text`: words that all have to be there, the last one perhaps only begun; "words in quotes" stand side by side.
    `flag`: the name of a check that found something. `shortest`, `longest`: bounds of `letters`, both within.
    """

    text: str = ""
    category: str | None = ""  # None: those without one
    split: str = ""
    state: str = ""
    author: str = ""
    source: str = ""
    flag: str = ""
    shortest: int = 0
    longest: int = 0
    ids: tuple[int, ...] = ()

    def told(self) -> dict[str, Any]:
        """What it asks for, as plain values that JSON can hold; `of` makes the filter again."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {**told, "ids": list(self.ids)} if self.ids else told

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> RecordFilter:
        """From what `told` gave; names that a filter does not have (any more) ask for nothing."""
        known = {f.name for f in fields(cls)}
        kept = {name: value for name, value in told.items() if name in known}
        return cls(**{**kept, "ids": tuple(int(key) for key in kept.get("ids", ()))})


@dataclass(frozen=True)
class RowsTaken:
    """How far an import has come: records stored, rows left out, and the number of the last row of the file."""

    added: int
    left_out: int
    last_row: int


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

    def describe_dataset(self, dataset_id: int, **words: str) -> None:
        """Change description, guidelines or licence."""
        with self._write() as c:
            c.execute(t.datasets.update().where(t.datasets.c.id == dataset_id).values(words))
            changed(c, dataset_id)

    # -- adding ---------------------------------------------------------------------------------------------------

    def begin_edit(self, dataset_id: int, kind: str, title: str, *, author: str) -> int:
        """The id of a new edit, for records that are added in several transactions and can be undone as one."""
        with self._write() as c:
            return begun(c, dataset_id, kind, title, author)

    def add_records(
        self, dataset_id: int, rows: Iterable[Mapping[str, Any]], *, author: str, source: str, edit: int | None = None
    ) -> int:
        """Append rows (dolly's fields plus `group_hash` and `split`); returns how many. All of them or none.

        A row may also have `turns`, `licence`, `state`, `provenance`, and a `source` of its own.
        """
        added, at = 0, now()
        with self._write() as c:
            edit_id = edit
            for batch in _batches(rows):
                if edit_id is None:
                    edit_id = begun(c, dataset_id, "add", f"Added from {source}" if source else "Added", author)
                c.execute(t.records.insert(), [_row(row, dataset_id, author, source, edit_id, at) for row in batch])
                added += len(batch)
            if edit_id is not None and added:
                more = {"records": t.edits.c.records + added}
                c.execute(t.edits.update().where(t.edits.c.id == edit_id).values(more))
                changed(c, dataset_id)
        return added

    def take_rows(
        self,
        dataset_id: int,
        edit: int,
        rows: Sequence[Mapping[str, Any]],
        left_out: Sequence[tuple[int, str, str, Mapping[str, str]]],
        *,
        last_row: int,
        author: str,
        source: str,
    ) -> None:
        """Part of a file at one stroke: rows as for `add_records`, and (row, column, reason, cells) of what cannot be
        used. `last_row` is where an import that stops here goes on."""
        at, e = now(), t.edits.c
        with self._write() as c:
            if rows:
                c.execute(t.records.insert(), [_row(row, dataset_id, author, source, edit, at) for row in rows])
            if left_out:
                names = ("row", "column", "reason", "cells")
                bad = (
                    {"dataset_id": dataset_id, "edit_id": edit, **dict(zip(names, row, strict=True))}
                    for row in left_out
                )
                c.execute(t.left_out_rows.insert(), list(bad))
            done = {"records": e.records + len(rows), "last_row": last_row}
            c.execute(t.edits.update().where(e.id == edit).values(done))
            changed(c, dataset_id)

    def rows_taken(self, edit: int) -> RowsTaken:
        """How far an import has come."""
        x = t.left_out_rows.c
        with self._read() as c:
            row = c.execute(sa.select(t.edits).where(t.edits.c.id == edit)).mappings().one()
            bad = c.execute(sa.select(sa.func.count()).select_from(t.left_out_rows).where(x.edit_id == edit))
            return RowsTaken(row["records"], int(bad.scalar_one()), row["last_row"])

    # -- finding --------------------------------------------------------------------------------------------------

    def records(
        self,
        dataset_id: int,
        where: RecordFilter | None = None,
        *,
        order: Order = "oldest",
        offset: int = 0,
        limit: int = 50,
    ) -> list[Record]:
        """Some of the records that the filter leaves, in that order."""
        with self._read() as c:
            # In two steps: the ids from an index alone, then only the rows that are shown.
            keys = list(c.execute(self._ids(dataset_id, where, order).offset(offset).limit(limit)).scalars())
            found = c.execute(sa.select(*_RECORD).where(t.records.c.id.in_(keys))).mappings()
            by_id = {row["id"]: Record(**row) for row in found}
        return [by_id[key] for key in keys]

    def record_ids(
        self, dataset_id: int, where: RecordFilter | None = None, order: Order = "oldest", limit: int | None = None
    ) -> list[int]:
        with self._read() as c:
            return list(c.execute(self._ids(dataset_id, where, order).limit(limit)).scalars())

    def count_records(self, dataset_id: int, where: RecordFilter | None = None) -> int:
        query = self._found(sa.func.count(), dataset_id, where)
        with self._read() as c:
            return int(c.execute(query).scalar_one())

    def beside(
        self, record: Record, where: RecordFilter | None, order: Order, step: Literal[-1, 1]
    ) -> tuple[Record, int] | None:
        """The record after (or before) one in that order, and how many come before it; None at the end.

        `record` itself need not be among those found (any more): it then lies where it would be.
        """
        column, is_rising = _ORDERS[order]
        sign = step if is_rising else -step
        key = sa.tuple_(column, t.records.c.id)
        here = sa.tuple_(sa.literal(getattr(record, column.name)), sa.literal(record.id))
        further = key > here if sign > 0 else key < here
        query = self._found(t.records.c.id, record.dataset_id, where).where(further)
        way = [column, t.records.c.id] if sign > 0 else [column.desc(), t.records.c.id.desc()]
        with self._read() as c:
            found = c.execute(query.order_by(*way).limit(1)).scalar()
            if found is None:
                return None
            there = self._record(c, found)
            start = sa.tuple_(sa.literal(getattr(there, column.name)), sa.literal(there.id))
            earlier = key < start if is_rising else key > start
            before = c.execute(self._found(sa.func.count(), record.dataset_id, where).where(earlier)).scalar_one()
        return there, int(before)

    def all_records(self, dataset_id: int, since: float = 0.0) -> Iterator[Record]:
        """Every record (that changed after `since`) in order of insertion, read in batches."""
        last = 0
        while True:
            query = (
                sa.select(*_RECORD)
                .where(t.records.c.dataset_id == dataset_id, t.records.c.id > last, t.records.c.removed_at.is_(None))
                .order_by(t.records.c.id)
                .limit(_BATCH)
            )
            if since:
                query = query.where(t.records.c.updated_at > since)
            with self._read() as c:
                rows = [Record(**r) for r in c.execute(query).mappings()]
            if not rows:
                return
            yield from rows
            last = rows[-1].id

    def some_records(self, ids: Sequence[int]) -> list[Record]:
        """The records with those ids that are there, in order of ids."""
        query = sa.select(*_RECORD).where(t.records.c.removed_at.is_(None)).order_by(t.records.c.id)
        with self._read() as c:
            return [
                Record(**row)
                for part in _batches(sorted(ids))
                for row in c.execute(query.where(t.records.c.id.in_(part))).mappings()
            ]

    def record_shares(self, dataset_id: int, column: str) -> dict[str, int]:
        """Value of category, split, state, author or source -> number of records, largest first."""
        counted, many = t.records.c[column], sa.func.count()
        query = self._found(counted, dataset_id, None).add_columns(many).group_by(counted)
        with self._read() as c:
            return {value: int(n) for value, n in c.execute(query.order_by(many.desc(), counted))}

    def categories(self, dataset_id: int) -> dict[str, int]:
        """Category -> number of records, largest first."""
        return self.record_shares(dataset_id, "category")

    def record(self, record_id: int) -> Record:
        with self._read() as c:
            return self._record(c, record_id)

    def _record(self, c: sa.Connection, record_id: int, *, lock: bool = False) -> Record:
        query = sa.select(*_RECORD).where(t.records.c.id == record_id, t.records.c.removed_at.is_(None))
        # PostgreSQL only: the second of two simultaneous edits waits here and then sees the first one's revision.
        row = c.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise NotFound(f"There is no record {record_id}. Reload the page: it may have been removed.")
        return Record(**row)

    def _ids(self, dataset_id: int, where: RecordFilter | None, order: Order) -> sa.Select[Any]:
        query = self._found(t.records.c.id, dataset_id, where)
        if order == "oldest":
            # The full-text index hands out its finds in this order, so that a page of them needs no more than a page.
            return query.order_by(FOUND_ID if self.is_sqlite and where and terms(where.text) else t.records.c.id)
        column, is_rising = _ORDERS[order]
        way = (column, t.records.c.id) if is_rising else (column.desc(), t.records.c.id.desc())
        return query.order_by(*way)

    def _found(self, what: Any, dataset_id: int, where: RecordFilter | None) -> sa.Select[Any]:
        """`what` of the records that the filter leaves."""
        r = t.records.c
        mine = r.dataset_id == dataset_id
        if self.is_sqlite and where and terms(where.text):
            # The plus keeps SQLite from going through the dataset's own index and asking that of the words once for
            # each record: measured in a million, 3 ms became minutes.
            mine = sa.literal_column("+records.dataset_id", sa.Integer) == dataset_id
        query = sa.select(what).select_from(t.records).where(mine, r.removed_at.is_(None))
        if where is None:
            return query
        if where.text.strip():
            query = matching(query, where.text, is_sqlite=self.is_sqlite)
        if where.category is None or where.category:
            query = query.where(r.category == (where.category or ""))
        for name in ("split", "state", "author", "source"):
            if wanted := getattr(where, name):
                query = query.where(r[name] == wanted)
        if where.shortest:
            query = query.where(r.letters >= where.shortest)
        if where.longest:
            query = query.where(r.letters <= where.longest)
        if where.ids:
            query = query.where(r.id.in_(where.ids))
        if where.flag:
            f = t.flags.c
            flagged = sa.select(f.record_id).where(f.dataset_id == dataset_id, f.check == where.flag)
            query = query.where(r.id.in_(flagged))
        return query


_ORDERS: dict[str, tuple[sa.Column[Any], bool]] = {
    "oldest": (t.records.c.id, True),
    "newest": (t.records.c.updated_at, False),
    "shortest": (t.records.c.letters, True),
    "longest": (t.records.c.letters, False),
}


def begun(c: sa.Connection, dataset_id: int, kind: str, title: str, author: str, of: int | None = None) -> int:
    """A new edit's id."""
    row = {"dataset_id": dataset_id, "kind": kind, "title": title, "of_id": of, "author": author, "created_at": now()}
    return int(c.execute(t.edits.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]


def changed(c: sa.Connection, dataset_id: int) -> None:
    """Pages that show the dataset look again."""
    c.execute(t.datasets.update().where(t.datasets.c.id == dataset_id).values(change=t.datasets.c.change + 1))


def derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's text says about itself: how long it is, and what a search reads beside the fields."""
    turns = row.get("turns")
    if not turns:
        return {"letters": len(row["instruction"]) + len(row["context"]) + len(row["response"]), "talk": ""}
    return {
        "letters": sum(len(turn["content"]) for turn in turns),
        "talk": "\n".join(turn["content"] for turn in turns),
    }


def _row(
    row: Mapping[str, Any], dataset_id: int, author: str, source: str, edit_id: int | None, at: float
) -> dict[str, Any]:
    return {
        **derived(row),
        "dataset_id": dataset_id,
        "instruction": row["instruction"],
        "context": row["context"],
        "response": row["response"],
        "category": row["category"],
        "turns": row.get("turns"),
        "licence": row.get("licence", ""),
        "state": row.get("state", "draft"),
        "group_hash": row["group_hash"],
        "split": row["split"],
        "source": row.get("source") or source,
        "provenance": row.get("provenance"),
        "author": author,
        "revision": 1,
        "added_by": edit_id,
        "created_at": at,
        "updated_at": at,
    }


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch
