"""What people keep beside a dataset: filters by name, rows of files that wait to be mended, and what was purged."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound, StorageError
from studio.specs import SnapshotRef
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now
from studio.store.datasets import Record, RecordFilter, changed

__all__ = ["CurationVerbs", "LeftOutRow", "Purge", "RewrittenSnapshot", "SavedFilter", "SnapshotUse"]

_BATCH = 1000
_ERASE_SECONDS = 10.0  # to wait for others who read or write before the database's file is written anew
_TRACES = 200  # texts that one question looks for; SQLite takes expressions of a thousand parts
_RECORD = [t.records.c[f.name] for f in fields(Record)]


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
    """What was taken out of history: how many records and which snapshots had held them, never the text.

    `digests` has the SHA-256 that the file of a snapshot had before it was written anew without them.
    """

    id: int
    dataset_id: int
    reason: str
    records: int
    snapshots: list[str]
    author: str
    created_at: float
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RewrittenSnapshot:
    """A snapshot's new file, without the records that are purged; the one that it had is given up."""

    ref: str
    path: str
    rows: int
    digest: str


@dataclass(frozen=True)
class SnapshotUse:
    """Who reads a snapshot: a job (its kind, id and title), or a bank with examples from it (id 0)."""

    ref: str
    kind: str
    id: int
    title: str


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
        self,
        dataset_id: int,
        record_ids: Sequence[int],
        reason: str,
        snapshots: Sequence[str | RewrittenSnapshot],
        *,
        author: str,
    ) -> Purge:
        """Take records out for good: the rows, their earlier versions, flags and comments, what files had left out of
        them, and words of theirs in the titles of edits; mark the snapshots.

        The only verb that rewrites history. What stays is the fact of it. Until `erase` has run, the database's file
        may still hold the bytes.
        """
        r, v, at = t.records.c, t.record_revisions.c, now()
        refs = [one if isinstance(one, str) else one.ref for one in snapshots]
        with self._write() as c:
            gone = 0
            for start in range(0, len(record_ids), _BATCH):
                part = record_ids[start : start + _BATCH]
                mine = sa.select(r.id).where(r.dataset_id == dataset_id, r.id.in_(part))
                texts = set(_texts(c.execute(sa.select(*_RECORD).where(r.id.in_(mine))).mappings()))
                texts |= set(_texts(f for (f,) in c.execute(sa.select(v.fields).where(v.record_id.in_(mine)))))
                _forget_left_out(c, dataset_id, texts)
                _forget_titles(c, dataset_id, texts)
                for table in (t.record_revisions, t.flags, t.comments):
                    c.execute(table.delete().where(table.c.record_id.in_(mine)))
                gone += c.execute(t.records.delete().where(r.dataset_id == dataset_id, r.id.in_(part))).rowcount
            digests = {}
            for one in snapshots:
                if isinstance(one, str):
                    c.execute(t.snapshots.update().where(t.snapshots.c.ref == one).values(purged_at=at))
                    continue
                held = t.snapshots.c.ref == one.ref
                digests[one.ref] = c.execute(sa.select(t.snapshots.c.digest).where(held)).scalar_one()
                new = {"path": one.path, "rows": one.rows, "digest": one.digest, "purged_at": at}
                c.execute(t.snapshots.update().where(held).values(new))
            row: dict[str, Any] = {
                "dataset_id": dataset_id,
                "reason": reason,
                "records": gone,
                "snapshots": [{"ref": ref, "was": digests[ref]} if ref in digests else ref for ref in refs],
                "author": author,
                "created_at": at,
            }
            key = c.execute(t.purges.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            changed(c, dataset_id)
        return _purge({"id": key, **row})

    def purges(self, dataset_id: int) -> list[Purge]:
        query = sa.select(t.purges).where(t.purges.c.dataset_id == dataset_id).order_by(t.purges.c.id.desc())
        with self._read() as c:
            return [_purge(row) for row in c.execute(query).mappings()]

    def every_record(self, dataset_id: int, record_ids: Sequence[int]) -> list[Record]:
        """The records with those ids, also those that were removed, in order of ids."""
        return list(self._everyone(dataset_id, t.records.c.id, sorted(set(record_ids))))

    def records_of_groups(
        self, dataset_id: int, groups: Collection[str], *, removed: bool | None = None
    ) -> list[Record]:
        """The records of those groups, in order of ids: all, only those that were removed, or only the others."""
        found = self._everyone(dataset_id, t.records.c.group_hash, sorted(groups), removed)
        return sorted(found, key=lambda record: record.id)

    def _everyone(
        self, dataset_id: int, column: sa.ColumnElement[Any], values: Sequence[Any], removed: bool | None = None
    ) -> Iterator[Record]:
        r = t.records.c
        query = sa.select(*_RECORD).where(r.dataset_id == dataset_id).order_by(r.id)
        if removed is not None:
            query = query.where(r.removed_at.is_not(None) if removed else r.removed_at.is_(None))
        with self._read() as c:
            for start in range(0, len(values), _BATCH):
                for row in c.execute(query.where(column.in_(values[start : start + _BATCH]))).mappings():
                    yield Record(**row)

    def traces(self, texts: Collection[str]) -> dict[str, int]:
        """Where else in the database these texts stand, in words, and in how many rows: at the first 200 of them."""
        found: dict[str, int] = {}
        asked = sorted(texts)[:_TRACES]
        if not asked:
            return found
        position = sa.func.instr if self.is_sqlite else sa.func.strpos
        with self._read() as c:
            for words, table, columns in _ELSEWHERE:
                for text in asked:
                    # In a JSON column the text stands as JSON writes it.
                    parts = {text, json.dumps(text)[1:-1]}
                    here = [position(sa.cast(table.c[name], sa.Text), part) > 0 for name in columns for part in parts]
                    query = sa.select(sa.func.count()).select_from(table).where(sa.or_(*here))
                    if n := int(c.execute(query).scalar_one()):
                        found[words] = found.get(words, 0) + n
        return found

    def erase(self) -> None:
        """Write the database's file anew, so that nothing of what was deleted is left in it, in the index of words, or
        in the log of what was written ahead. Raises StorageError while somebody else keeps reading or writing."""
        try:
            self._write_anew() if self.is_sqlite else self._vacuum()
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise StorageError(
                f"The records are gone, but the database {self.place} could not be written anew ({reason}), and may "
                "still hold their bytes. Wait until nobody reads or writes it, and write it anew then."
            ) from error

    def _vacuum(self) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
            c.exec_driver_sql(f"SET lock_timeout = '{_ERASE_SECONDS:.0f}s'")
            for table in (t.records, t.record_revisions, t.flags, t.comments, t.left_out_rows, t.edits):
                c.exec_driver_sql(f"VACUUM FULL {table.name}")
            c.exec_driver_sql("RESET lock_timeout")

    def _write_anew(self) -> None:
        with closing(sqlite3.connect(self.url.database or "", timeout=_ERASE_SECONDS, isolation_level=None)) as c:
            # The index only notes what is gone, until its parts are merged.
            c.execute("INSERT INTO records_words(records_words) VALUES ('optimize')")
            c.execute("VACUUM")
            deadline = time.monotonic() + _ERASE_SECONDS
            while c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() >= deadline:
                    raise sqlite3.OperationalError("somebody else reads it")
                time.sleep(0.05)

    # -- who reads a snapshot -----------------------------------------------------------------------------------------

    def snapshot_uses(self, beginning: str) -> list[SnapshotUse]:
        """Who reads snapshots whose reference begins so, newest job first."""
        j, b = t.jobs.c, t.bank_examples.c
        told = sa.cast(j.task, sa.Text).contains(json.dumps(beginning)[1:-1], autoescape=True)
        jobs = sa.select(j.id, j.kind, j.title, j.task).where(told).order_by(j.id.desc())
        banks = (
            sa.select(b.bank, b.source, sa.func.count()).where(b.source.startswith(beginning, autoescape=True))
        ).group_by(b.bank, b.source)
        with self._read() as c:
            found = [
                SnapshotUse(ref, kind, key, title)
                for key, kind, title, task in c.execute(jobs)
                for ref in sorted(_refs(task, beginning))
            ]
            for bank, ref, n in c.execute(banks):
                found.append(SnapshotUse(ref, "examples", 0, f"{n:,} example{'s' * (n != 1)} of the bank {bank}"))
        return found


# Where else text of a record may have been copied to, in words that complete "stands in ... too".
_ELSEWHERE: tuple[tuple[str, sa.Table, tuple[str, ...]], ...] = (
    ("other records", t.records, ("instruction", "context", "response", "turns")),
    ("earlier versions of other records", t.record_revisions, ("fields",)),
    ("banks of examples", t.bank_examples, ("instruction", "context", "response")),
    ("answers of the playground", t.completions, ("messages", "text")),
    ("questions for labeling", t.prompts, ("messages",)),
    ("chats", t.turns, ("content",)),
    ("unsaved drafts", t.drafts, ("body",)),
    ("answers of evaluations", t.evaluation_items, ("output",)),
    ("samples in the log of jobs", t.job_events, ("payload",)),
    ("passages of documents", t.passages, ("text",)),
)


def _texts(rows: Any) -> Iterator[str]:
    """Every text that is long enough to be somebody's own."""
    for row in rows:
        said = [row.get(name) or "" for name in ("instruction", "context", "response")]
        said += [turn["content"] for turn in row.get("turns") or []]
        yield from (text for text in said if text)


def _forget_left_out(c: sa.Connection, dataset_id: int, texts: Collection[str]) -> None:
    """Rows of files that became these records once they were mended, or were left out beside them."""
    x = t.left_out_rows.c
    long = {text.strip() for text in texts if len(text.strip()) >= _OWN}
    held = [
        key
        for key, cells in c.execute(sa.select(x.id, x.cells).where(x.dataset_id == dataset_id)).all()
        if any(str(cell).strip() in texts or any(text in str(cell) for text in long) for cell in cells.values() if cell)
    ]
    for start in range(0, len(held), _BATCH):
        c.execute(t.left_out_rows.delete().where(x.id.in_(held[start : start + _BATCH])))


_OWN = 12  # letters: shorter texts ("Yes.") stand in what is somebody else's too
_QUOTED = re.compile(r"'([^']+)'")


def _forget_titles(c: sa.Connection, dataset_id: int, texts: Collection[str]) -> None:
    """A title quotes what was looked for and replaced, which may be the very thing that has to go."""
    e = t.edits.c
    folded = [text.casefold() for text in texts]

    def is_theirs(quoted: re.Match[str]) -> str:
        words = quoted[1].rstrip("…").casefold()
        return "'…'" if any(words in text for text in folded) else quoted[0]

    titles = c.execute(sa.select(e.id, e.title).where(e.dataset_id == dataset_id, e.title.contains("'"))).all()
    for key, title in titles:
        if (new := _QUOTED.sub(is_theirs, title)) != title:
            c.execute(t.edits.update().where(e.id == key).values(title=new))


def _refs(task: Any, beginning: str) -> set[str]:
    """The references in what a job was told."""
    if isinstance(task, str):
        return {task} if task.startswith(beginning) and re.fullmatch(r"\d+", task[len(beginning) :]) else set()
    inside = task.values() if isinstance(task, dict) else task if isinstance(task, list) else ()
    return {ref for one in inside for ref in _refs(one, beginning)}


def _purge(row: Any) -> Purge:
    told = [{"ref": one} if isinstance(one, str) else one for one in row["snapshots"]]
    refs = [SnapshotRef(one["ref"]) for one in told]
    return Purge(**{**row, "snapshots": refs}, digests={one["ref"]: one["was"] for one in told if "was" in one})


def _saved(row: Any) -> SavedFilter:
    return SavedFilter(**{**row, "filter": RecordFilter.of(row["filter"])})
