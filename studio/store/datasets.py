"""Datasets and their instruction records: added, found, counted. Editing them is in edits.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from operator import itemgetter
from typing import Any, Literal

import sqlalchemy as sa

from studio.errors import NotFound
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now
from studio.store.words import FOUND_ID, INDEX_WORDS, finds_of, matching, terms

__all__ = ["RECORD_STATES", "Dataset", "DatasetVerbs", "Order", "Record", "RecordFilter", "RowsTaken"]

RECORD_STATES = ("draft", "approved", "rejected")
Order = Literal["oldest", "newest", "shortest", "longest"]

_BATCH = 1000
# A word that so many records have; how many records are asked for it, and how many of them at once: 10 ms.
_FREQUENT = 20_000
_FRONT = 2000
_FEW = 20_000  # records that are sorted sooner than gone through
_MOST_JUMPS = 300
_ASKED_AT_ONCE = 250


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
        added = 0
        with self._write() as c, self._inserting(c) as insert:
            edit_id, at = edit, now()
            for batch in _batches(rows):
                if edit_id is None:
                    edit_id = begun(c, dataset_id, "add", f"Added from {source}" if source else "Added", author)
                insert([_row(row, dataset_id, author, source, edit_id, at) for row in batch])
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
        e = t.edits.c
        with self._write() as c:
            if rows:
                at = now()  # in here, where nobody else writes: what is stored later also changed later
                with self._inserting(c) as insert:
                    insert([_row(row, dataset_id, author, source, edit, at) for row in rows])
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

    @contextmanager
    def _inserting(self, c: sa.Connection) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
        """Takes new rows in parts; at the end of the block their words can be searched."""
        if not self.is_sqlite:
            yield lambda rows: put_rows(c, t.records, rows)
            return
        # A transaction has SQLite to itself, so all rows behind this one are its own.
        last = c.execute(sa.select(sa.func.coalesce(sa.func.max(t.records.c.id), 0))).scalar_one()
        is_roomy = False

        def insert(rows: list[dict[str, Any]]) -> None:
            nonlocal is_roomy
            if len(rows) >= _BATCH and not is_roomy:
                is_roomy = _make_room(c)
            put_rows(c, t.records, rows)

        yield insert
        c.exec_driver_sql(INDEX_WORDS, (last,))

    # -- finding --------------------------------------------------------------------------------------------------

    def records(
        self,
        dataset_id: int,
        where: RecordFilter | None = None,
        *,
        order: Order = "oldest",
        offset: int = 0,
        limit: int = 50,
        of: int = 0,
    ) -> list[Record]:
        """Some of the records that the filter leaves, in that order. Where it is known `of` how many they are, those of
        the second half are looked for from the end, which is nearer."""
        with self._read() as c:
            # In two steps: the ids from an index alone, then only the rows that are shown.
            if (few := self._few(c, dataset_id, where)) is not None:
                some = self._ids(dataset_id, where, order, few=few).offset(offset).limit(limit)
                keys = list(c.execute(some).scalars())
            elif 2 * offset > of > 0:
                limit = max(0, min(limit, of - offset))
                before_end = max(0, of - offset - limit)
                some = self._ids(dataset_id, where, order, is_backward=True).offset(before_end).limit(limit)
                keys = list(c.execute(some).scalars())[::-1]
            elif (first := self._front(c, dataset_id, where, order, offset + limit)) is not None:
                keys = first[offset:]
            else:
                keys = list(c.execute(self._ids(dataset_id, where, order).offset(offset).limit(limit)).scalars())
            found = c.execute(sa.select(*_RECORD).where(t.records.c.id.in_(keys))).mappings()
            by_id = {row["id"]: Record(**row) for row in found}
        return [by_id[key] for key in keys]

    def _front(
        self, c: sa.Connection, dataset_id: int, where: RecordFilter | None, order: Order, many: int
    ) -> list[int] | None:
        """The ids of the first `many` finds of frequent words, where the index of words is not how they are found
        soonest; None where it is.

        It hands out all finds, oldest first: in another order they would have to be sorted, and with a filter that
        leaves few of them nearly all are in vain. In a million records that takes 300 ms. So the records at the front
        of what the filter leaves are asked for the words, until as many are found as are needed.
        """
        if not self.is_sqlite or where is None or (finds := finds_of(where.text)) is None:
            return None
        rest = replace(where, text="")
        few = self._few(c, dataset_id, rest)
        if order == "oldest" and few is None:
            return None
        if c.execute(finds.offset(_FREQUENT).limit(1)).first() is None:
            return None
        front = list(c.execute(self._ids(dataset_id, rest, order, few=few).limit(_FRONT)).scalars())
        found: list[int] = []
        for start in range(0, len(front), _ASKED_AT_ONCE):
            part = front[start : start + _ASKED_AT_ONCE]
            there = set(c.execute(finds.where(FOUND_ID.in_(part))).scalars())
            found += [key for key in part if key in there]
            if len(found) >= many:
                return found[:many]
        return found if len(front) < _FRONT else None

    def _few(
        self, c: sa.Connection, dataset_id: int, where: RecordFilter | None
    ) -> list[sa.ColumnElement[bool]] | None:
        """How to find a filter's records soonest when they are few enough to be sorted; None for many or when nobody
        can tell. Going through an order until enough of a few are found takes 2 s in a million records."""
        way = self._way_in(c, dataset_id, where)
        if way is None:
            return None
        found = self._found(t.records.c.id, dataset_id, where).where(*way)
        return way if c.execute(found.offset(_FEW).limit(1)).first() is None else None

    def _way_in(
        self, c: sa.Connection, dataset_id: int, where: RecordFilter | None
    ) -> list[sa.ColumnElement[bool]] | None:
        """Conditions that say nothing new, but with which SQLite can enter the index of filters where the records are:
        every value there is of the columns before the last one that is asked for. None where that is of no use."""
        if not self.is_sqlite or where is None or where.text.strip() or where.ids or where.flag:
            return None
        asked = [name for name in _FILTERED if getattr(where, name) != ""]
        if not asked:
            return None
        before = [t.records.c[name] for name in _FILTERED[: _FILTERED.index(asked[-1])]]
        values = _values_of(c, dataset_id, before) if len(asked) <= len(before) else []
        if values is None:
            return None
        there = zip(before, values, strict=False)
        return [column.in_(sorted(known)) for column, known in there if column.name not in asked]

    def record_ids(
        self, dataset_id: int, where: RecordFilter | None = None, order: Order = "oldest", limit: int | None = None
    ) -> list[int]:
        with self._read() as c:
            few = self._few(c, dataset_id, where)
            return list(c.execute(self._ids(dataset_id, where, order, few=few).limit(limit)).scalars())

    def count_records(self, dataset_id: int, where: RecordFilter | None = None, *, most: int | None = None) -> int:
        """How many records the filter leaves, counted no further than `most`."""
        with self._read() as c:
            if (found := self._front(c, dataset_id, where, "oldest", most or sys.maxsize)) is not None:
                return len(found)
            query = self._found(t.records.c.id, dataset_id, where).where(*self._way_in(c, dataset_id, where) or ())
            query = sa.select(sa.func.count()).select_from(query.limit(most).subquery())
            return int(c.execute(query).scalar_one())

    def beside(
        self, record: Record, where: RecordFilter | None, order: Order, step: Literal[-1, 1]
    ) -> tuple[Record, int] | None:
        """The record after (or before) one in that order, and how many come before it; None at the end.

        `record` itself need not be among those found (any more): it then lies where it would be.
        """
        column, is_rising = _ORDERS[order]
        sign = step if is_rising else -step
        with self._read() as c:
            few = self._few(c, record.dataset_id, where)
            way = _way(column, few is not None)
            found = self._found(t.records.c.id, record.dataset_id, where).where(*few or ())
            key, here = sa.tuple_(*way), _place(record, column)
            further = found.where(key > here if sign > 0 else key < here)
            nearest = c.execute(further.order_by(*_turned(way, is_backward=sign < 0)).limit(1)).scalar()
            if nearest is None:
                return None
            there = self._record(c, nearest)
            start = _place(there, column)
            earlier = found.where(key < start if is_rising else key > start).subquery()
            before = c.execute(sa.select(sa.func.count()).select_from(earlier)).scalar_one()
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

    def newest_change(self, dataset_id: int) -> float:
        """When the record that changed last did so; 0 for none. What `all_records` gives since then came later."""
        r = t.records.c
        newest = sa.select(sa.func.max(r.updated_at)).where(r.dataset_id == dataset_id, r.removed_at.is_(None))
        with self._read() as c:
            return float(c.execute(newest).scalar() or 0.0)

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

    def _ids(
        self,
        dataset_id: int,
        where: RecordFilter | None,
        order: Order,
        *,
        is_backward: bool = False,
        few: list[sa.ColumnElement[bool]] | None = None,
    ) -> sa.Select[Any]:
        query = self._found(t.records.c.id, dataset_id, where)
        column, is_rising = _ORDERS[order]
        if few is not None:
            way = _way(column, True)
            query = query.where(*few)
        elif order == "oldest" and self.is_sqlite and where and terms(where.text):
            # The full-text index hands out its finds in this order, so that a page of them needs no more than a page.
            way = [FOUND_ID]
        else:
            way = _way(column, False)
        return query.order_by(*_turned(way, is_backward=is_rising == is_backward))

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


def _way(column: sa.Column[Any], is_sorted: bool) -> list[sa.ColumnElement[Any]]:
    """What records are put in order by. `is_sorted` gives an order that no index has, so that SQLite sorts what it found,
    instead of going through an index until it has found enough."""
    ids = t.records.c.id
    columns = [ids] if column is ids else [column, ids]
    return [part + 0 for part in columns] if is_sorted else list(columns)


def _turned(way: Sequence[sa.ColumnElement[Any]], *, is_backward: bool) -> list[sa.ColumnElement[Any]]:
    return [part.desc() for part in way] if is_backward else list(way)


def _place(record: Record, column: sa.Column[Any]) -> sa.Tuple:
    """Where a record stands in an order."""
    ids = (sa.literal(record.id),)
    return sa.tuple_(*ids if column is t.records.c.id else (sa.literal(getattr(record, column.name)), *ids))


# As they stand in the index ix_records_filters.
_FILTERED = ("category", "split", "state", "author", "source")


def _values_of(c: sa.Connection, dataset_id: int, columns: Sequence[sa.Column[Any]]) -> list[set[str]] | None:
    """What the records have in the first columns of the index of filters, found by jumping from each value to the next;
    None when there is too much of it."""
    r = t.records.c
    found: list[set[str]] = [set() for _ in columns]
    jumps = 0

    def look(under: sa.Select[Any], depth: int) -> bool:
        nonlocal jumps
        if depth == len(columns):
            return True
        column, last = columns[depth], None
        while (jumps := jumps + 1) <= _MOST_JUMPS:
            further = under if last is None else under.where(column > last)
            last = c.execute(further.with_only_columns(column).order_by(column).limit(1)).scalar()
            if last is None:
                return True
            found[depth].add(last)
            if not look(under.where(column == last), depth + 1):
                return False
        return False

    there = sa.select(r.id).where(r.dataset_id == dataset_id, r.removed_at.is_(None))
    return found if look(there, 0) else None


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


def put_rows(c: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert many rows that have the same columns, and all those that have a default."""
    if not rows:
        return
    if c.dialect.name != "sqlite":
        c.execute(table.insert(), rows)
        return
    # Past SQLAlchemy's care for each value, which costs as much as the insert: a fifth of an import.
    insert = table.insert().compile(dialect=c.dialect, column_keys=list(rows[0]))
    values = itemgetter(*(insert.positiontup or ()))
    told = [name for name in rows[0] if isinstance(table.c[name].type, sa.JSON)]

    def bound(row: dict[str, Any]) -> Any:
        for name in told:
            if row[name] is not None:
                row = {**row, name: json.dumps(row[name])}
        return values(row)

    c.exec_driver_sql(str(insert), [bound(row) for row in rows])


def _make_room(c: sa.Connection) -> Literal[True]:
    """For a connection that takes in many records: SQLite's own 2 MB of pages hold no index of a million of them, and
    a log that is copied into the file every 4 MB is copied again and again. Measured: a tenth faster."""
    c.exec_driver_sql("PRAGMA cache_size = -65536")
    c.exec_driver_sql("PRAGMA wal_autocheckpoint = 16000")
    return True


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
