"""Changing records: every version before stays, every stroke can be undone and redone, nobody overwrites silently."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import Conflict, NotFound
from studio.store import tables as t
from studio.store.database import now
from studio.store.datasets import DatasetVerbs, Record, begun, changed, derived

__all__ = ["Comment", "Edit", "EditVerbs", "RecordChange"]

_TRACKED = ("instruction", "context", "response", "category", "turns", "licence", "state", "split")
_TEXT = ("instruction", "context", "response", "turns")
_BY_HAND = ("add", "change", "remove")
_PART = 500


@dataclass(frozen=True)
class Edit:
    """What somebody did to a dataset at one stroke."""

    id: int
    dataset_id: int
    kind: str  # add | change | remove, or undo | redo of another
    title: str
    of_id: int | None
    records: int
    last_row: int  # of the file it came from, so far
    author: str
    created_at: float
    undone_at: float | None


@dataclass(frozen=True)
class RecordChange:
    """New values of some fields of a record; `revision`, where given, has to be its newest."""

    record_id: int
    fields: Mapping[str, Any]
    revision: int | None = None
    is_removed: bool = False


@dataclass(frozen=True)
class Comment:
    id: int
    record_id: int
    text: str
    author: str
    created_at: float


class EditVerbs(DatasetVerbs):
    def edit_record(
        self, record_id: int, revision: int, fields: Mapping[str, Any], *, author: str, within: float = 0.0
    ) -> Record:
        """Save new field values if `revision` is still the newest; the values before stay in the history.

        Where the person's last stroke was a change of this very record, began at most `within` seconds ago, and nobody
        changed the record since, this goes on with it: both are undone at once. A form that saves by itself asks so.
        """
        with self._write() as c:
            before = self._record(c, record_id, lock=True)
            if before.revision != revision:
                raise Conflict(
                    f"Record {record_id} was changed by {before.author} while you were editing "
                    f"(revision {before.revision}, you have {revision}). Your text is still in the form: "
                    "copy what you need, reload the record and save again."
                )
            if all(getattr(before, name) == value for name, value in fields.items()):
                return before
            title = f"Changed record {record_id}"
            edit = _to_go_on_with(c, before, title, author, now() - within) if within else None
            self._apply(
                c,
                [RecordChange(record_id, fields)],
                edit or begun(c, before.dataset_id, "change", title, author),
                author,
                is_counted=edit is None,
            )
            changed(c, before.dataset_id)
            return self._record(c, record_id)

    def change_records(self, dataset_id: int, title: str, changes: Sequence[RecordChange], *, author: str) -> Edit:
        """Many records at one stroke, all of them or none; it is undone as one.

        Raises Conflict when a record is no longer at the revision its change was made for.
        """
        kind = "remove" if changes and all(change.is_removed for change in changes) else "change"
        with self._write() as c:
            edit = begun(c, dataset_id, kind, title, author)
            self._apply(c, changes, edit, author)
            changed(c, dataset_id)
            return _edit(c, edit)

    def edits(self, dataset_id: int, *, author: str = "", limit: int = 50) -> list[Edit]:
        """What was done by hand, newest first."""
        e = t.edits.c
        query = sa.select(t.edits).where(e.dataset_id == dataset_id, e.kind.in_(_BY_HAND)).order_by(e.id.desc())
        if author:
            query = query.where(e.author == author)
        with self._read() as c:
            return [Edit(**row) for row in c.execute(query.limit(limit)).mappings()]

    def edits_of(self, ids: Collection[int]) -> dict[int, Edit]:
        """Strokes by their ids, undoing and redoing included."""
        with self._read() as c:
            rows = c.execute(sa.select(t.edits).where(t.edits.c.id.in_(ids))).mappings()
            return {row["id"]: Edit(**row) for row in rows}

    def next_undo(self, dataset_id: int, author: str) -> Edit | None:
        """What `undo` would take back: the person's newest stroke that stands."""
        with self._read() as c:
            return _to_undo(c, dataset_id, author)

    def next_redo(self, dataset_id: int, author: str) -> Edit | None:
        """What `redo` would do again: the stroke undone last, unless the person did something else since."""
        with self._read() as c:
            return _to_redo(c, dataset_id, author)

    def undo(self, dataset_id: int, *, author: str) -> Edit:
        """Take back the person's newest stroke. Raises NotFound for none, Conflict when a record changed since."""
        with self._write() as c:
            edit = _to_undo(c, dataset_id, author)
            if edit is None:
                raise NotFound("There is nothing of yours to undo in this dataset.")
            at = now()
            if edit.kind == "add":
                self._take_back_added(c, edit, at)
            else:
                self._revert(c, edit, "undo", author)
            c.execute(t.edits.update().where(t.edits.c.id == edit.id).values(undone_at=at))
            changed(c, dataset_id)
            return _edit(c, edit.id)

    def redo(self, dataset_id: int, *, author: str) -> Edit:
        """Do again what the person undid last. Raises NotFound for none, Conflict when a record changed since."""
        with self._write() as c:
            edit = _to_redo(c, dataset_id, author)
            if edit is None:
                raise NotFound("There is nothing of yours to redo in this dataset.")
            if edit.kind == "add":
                r = t.records.c
                again = t.records.update().where(r.added_by == edit.id, r.removed_at == edit.undone_at)
                c.execute(again.values(removed_at=None, updated_at=now()))  # for checks that ran meanwhile: new
            else:
                self._revert(c, edit, "redo", author)
            c.execute(t.edits.update().where(t.edits.c.id == edit.id).values(undone_at=None))
            changed(c, dataset_id)
            return _edit(c, edit.id)

    def record_history(self, record_id: int) -> list[dict[str, Any]]:
        """Earlier versions of a record, newest first: revision, fields, author, created_at."""
        table = t.record_revisions
        query = sa.select(table).where(table.c.record_id == record_id).order_by(table.c.revision.desc())
        with self._read() as c:
            return [dict(r) for r in c.execute(query).mappings()]

    # -- comments ---------------------------------------------------------------------------------------------------

    def comment(self, record_id: int, text: str, *, author: str) -> Comment:
        with self._write() as c:
            record = self._record(c, record_id)
            row: dict[str, Any] = {"record_id": record_id, "text": text, "author": author, "created_at": now()}
            key = c.execute(t.comments.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            changed(c, record.dataset_id)
            return Comment(id=key, **row)

    def comments(self, record_id: int) -> list[Comment]:
        """Oldest first."""
        query = sa.select(t.comments).where(t.comments.c.record_id == record_id).order_by(t.comments.c.id)
        with self._read() as c:
            return [Comment(**row) for row in c.execute(query).mappings()]

    # -- how --------------------------------------------------------------------------------------------------------

    def _apply(
        self, c: sa.Connection, changes: Sequence[RecordChange], edit: int, author: str, *, is_counted: bool = True
    ) -> None:
        """Write new versions of records and keep the ones before under `edit`, which counts them."""
        at, total = now(), 0
        for start in range(0, len(changes), _PART):
            part = changes[start : start + _PART]
            before = _rows(c, [change.record_id for change in part])
            kept, made = [], []
            for change in part:
                row = before.get(change.record_id)
                if row is None or (change.revision is not None and row["revision"] != change.revision):
                    by = f"by {row['author']} " if row else ""
                    raise Conflict(
                        f"Record {change.record_id} was changed {by}meanwhile. Nothing was changed; try again."
                    )
                new = {name: change.fields.get(name, row[name]) for name in _TRACKED}
                if all(new[name] == row[name] for name in _TRACKED) and change.is_removed == bool(row["removed_at"]):
                    continue
                kept.append(_kept(row, edit))
                made.append(_made(row, new, change.is_removed, author, at))
            if made:
                c.execute(t.record_revisions.insert(), kept)
                c.execute(_UPDATE, made)
            total += len(made) if is_counted else 0
        c.execute(t.edits.update().where(t.edits.c.id == edit).values(records=t.edits.c.records + total))

    def _revert(self, c: sa.Connection, edit: Edit, kind: str, author: str) -> None:
        """Put the versions back that the newest doing (or undoing) of `edit` ended."""
        e, v = t.edits.c, t.record_revisions.c
        query = sa.select(sa.func.max(e.id)).where(sa.or_(e.id == edit.id, e.of_id == edit.id))
        newest = int(c.execute(query).scalar_one())
        versions = sa.select(t.record_revisions).where(v.edit_id == newest).order_by(v.record_id, v.revision.desc())
        # Of a record that was saved several times at one stroke: what it was before the first.
        ended = list({row["record_id"]: row for row in c.execute(versions).mappings()}.values())
        current = _rows(c, [row["record_id"] for row in ended])
        left = _left_by(c, newest)
        for row in ended:
            now_there = current[row["record_id"]]
            # What later strokes did and undid again does not matter: what is there has to be what this one left.
            if left.get(row["record_id"], _content(now_there)) != _content(now_there):
                raise Conflict(
                    f"'{edit.title}' cannot be {kind}ne: record {row['record_id']} was changed by "
                    f"{now_there['author']} since. Open its history to bring an earlier version back."
                )
        changes = [
            RecordChange(row["record_id"], row["fields"], is_removed=row["fields"].get("removed", False))
            for row in ended
        ]
        again = begun(c, edit.dataset_id, kind, edit.title, author, of=edit.id)
        self._apply(c, changes, again, author)

    def _take_back_added(self, c: sa.Connection, edit: Edit, at: float) -> None:
        r = t.records.c
        mine = (r.added_by == edit.id, r.removed_at.is_(None))
        others = (r.revision > 1, r.author != edit.author)  # the person's own later strokes were undone before this one
        touched = c.execute(sa.select(r.id, r.author).where(*mine, *others).order_by(r.id).limit(1)).first()
        if touched is not None:
            raise Conflict(
                f"'{edit.title}' cannot be undone: record {touched.id} was changed by {touched.author} since. "
                "Remove the records you do not want instead."
            )
        c.execute(t.records.update().where(*mine).values(removed_at=at))


_UPDATE = (
    t.records.update()
    .where(t.records.c.id == sa.bindparam("key"))
    .values(
        {
            name: sa.bindparam(f"new_{name}")
            for name in (*_TRACKED, "letters", "talk", "revision", "author", "updated_at", "removed_at")
        }
    )
)


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _TRACKED}, "removed": row["removed_at"] is not None}


def _left_by(c: sa.Connection, edit: int) -> dict[int, dict[str, Any]]:
    """Record -> what an edit left, of those records that were changed again."""
    own, after = t.record_revisions.alias(), t.record_revisions.alias()
    follows = sa.and_(after.c.record_id == own.c.record_id, after.c.revision == own.c.revision + 1)
    is_other = sa.or_(after.c.edit_id != edit, after.c.edit_id.is_(None))
    query = sa.select(after.c.record_id, after.c.fields).join_from(own, after, follows)
    query = query.where(own.c.edit_id == edit, is_other)
    return {record_id: fields for record_id, fields in c.execute(query)}


def _kept(row: Mapping[str, Any], edit: int) -> dict[str, Any]:
    return {
        "record_id": row["id"],
        "revision": row["revision"],
        "fields": _content(row),
        "edit_id": edit,
        "author": row["author"],
        "created_at": row["updated_at"],
    }


def _made(row: Mapping[str, Any], new: dict[str, Any], is_removed: bool, author: str, at: float) -> dict[str, Any]:
    values = {
        **new,
        **derived(new),
        "revision": row["revision"] + 1,
        "author": author,
        "updated_at": at,
        "removed_at": at if is_removed else None,
    }
    return {"key": row["id"], **{f"new_{name}": value for name, value in values.items()}}


def _rows(c: sa.Connection, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """The rows with those ids, also of records that were removed, held until the transaction ends."""
    found: dict[int, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _PART):
        query = sa.select(t.records).where(t.records.c.id.in_(ids[start : start + _PART])).order_by(t.records.c.id)
        found |= {row["id"]: row for row in c.execute(query.with_for_update()).mappings()}
    return found


def _edit(c: sa.Connection, edit_id: int) -> Edit:
    return Edit(**c.execute(sa.select(t.edits).where(t.edits.c.id == edit_id)).mappings().one())


def _to_go_on_with(c: sa.Connection, record: Record, title: str, author: str, since: float) -> int | None:
    """The person's last stroke, if it was a change of this record that stands, and the record's last change too."""
    e, v = t.edits.c, t.record_revisions.c
    last = (
        sa.select(t.edits).where(e.dataset_id == record.dataset_id, e.author == author).order_by(e.id.desc()).limit(1)
    )
    edit = c.execute(last).mappings().first()
    if edit is None or edit["kind"] != "change" or edit["title"] != title or edit["created_at"] < since:
        return None
    ended = sa.select(v.edit_id).where(v.record_id == record.id).order_by(v.revision.desc()).limit(1)
    goes_on = edit["undone_at"] is None and c.execute(ended).scalar() == edit["id"]
    return int(edit["id"]) if goes_on else None


def _to_undo(c: sa.Connection, dataset_id: int, author: str) -> Edit | None:
    e = t.edits.c
    query = (
        sa.select(t.edits)
        .where(e.dataset_id == dataset_id, e.author == author, e.kind.in_(_BY_HAND), e.undone_at.is_(None))
        .where(e.records > 0)
        .order_by(e.id.desc())
        .limit(1)
    )
    row = c.execute(query).mappings().first()
    return Edit(**row) if row else None


def _to_redo(c: sa.Connection, dataset_id: int, author: str) -> Edit | None:
    e = t.edits.c
    mine = (e.dataset_id == dataset_id, e.author == author, e.kind.in_(_BY_HAND))
    undone = sa.select(t.edits).where(*mine, e.undone_at.is_not(None)).order_by(e.undone_at.desc(), e.id).limit(1)
    row = c.execute(undone).mappings().first()
    if row is None:
        return None
    since = sa.select(sa.func.count()).where(*mine, e.created_at > row["undone_at"])
    return None if c.execute(since).scalar_one() else Edit(**row)
