"""Domain documents and the passages they were cut into.

The file comes first, under its digest, then the row that names it. Removing is soft: file and passages stay, so that
what an old answer cited can still be read, and the same file given again comes back instead of being there twice.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound, StorageError
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Document", "DocumentVerbs", "NewDocument", "NewPassage", "Passage"]

# PostgreSQL advisory lock: imports end one after the other, so that ids of passages grow in the order they can be seen.
_DOCUMENTS_KEY = 0x1ADDED


@dataclass(frozen=True)
class Document:
    """A file and what was read from it. `passages` counts them; `path` is relative to the workspace, `characters`
    those of the text, `language` an ISO 639-1 code or ''."""

    id: int
    name: str
    format: str
    digest: str
    path: str
    characters: int
    language: str
    author: str
    created_at: float
    removed_at: float | None
    passages: int


@dataclass(frozen=True)
class Passage:
    """A piece of a document; `near_id` is the earliest passage that says nearly the same, if there is one."""

    id: int
    document_id: int
    position: int
    place: str
    text: str
    near_id: int | None


@dataclass(frozen=True)
class NewPassage:
    """A passage to be. It may say nearly the same as a stored passage (`near_id`) or as an earlier one of the same
    document (`twin`, its position from 0)."""

    place: str
    text: str
    near_id: int | None = None
    twin: int | None = None


@dataclass(frozen=True)
class NewDocument:
    """A document to be; `digest` is the SHA-256 of its file."""

    name: str
    format: str
    digest: str
    characters: int
    language: str
    passages: tuple[NewPassage, ...]


class DocumentVerbs(Database):
    def add_document(self, root: Path, file: Path, document: NewDocument, *, author: str) -> Document:
        """Move a synced `file` into `root`/documents and name it, with its passages, in one step.

        A document of the same bytes that somebody added meanwhile is given back instead. Raises StorageError when
        the disk refuses; whatever goes wrong, no file and no row is left behind.
        """
        folder = root / "documents"
        unnamed = file  # the file that no row names (yet)
        try:
            with self._write() as c:
                self._take_turns(c, _DOCUMENTS_KEY)
                known = c.execute(_documents(t.documents.c.digest == document.digest)).mappings().first()
                if known is not None:
                    return Document(**known)
                path = folder / f"{document.digest}.{document.format}"
                file.replace(path)
                unnamed = path
                _sync_folder(folder)
                key = _insert(c, document, path=str(path.relative_to(root)), author=author)
                added = Document(**c.execute(_documents(t.documents.c.id == key)).mappings().one())
            unnamed = file
            return added
        except OSError as error:
            raise StorageError(
                f"{document.name} could not be written to {folder} ({error.strerror}). "
                "Nothing was changed; free some space or check the folder's permissions, and try again."
            ) from error
        finally:
            with suppress(OSError):
                unnamed.unlink()

    def documents(self, *, removed: bool = False) -> list[Document]:
        """The documents in use by name, or those that were removed."""
        gone = t.documents.c.removed_at.is_not(None) if removed else t.documents.c.removed_at.is_(None)
        query = _documents(gone).order_by(t.documents.c.name, t.documents.c.id)
        with self._read() as c:
            return [Document(**r) for r in c.execute(query).mappings()]

    def document(self, document_id: int) -> Document:
        """A document, removed or not."""
        with self._read() as c:
            row = c.execute(_documents(t.documents.c.id == document_id)).mappings().first()
        if row is None:
            known = ", ".join(d.name for d in self.documents()) or "none yet"
            raise NotFound(f"There is no document {document_id}. Known documents: {known}.")
        return Document(**row)

    def documents_of_digest(self, digest: str) -> list[Document]:
        """The document of those bytes, removed or not: one or none."""
        with self._read() as c:
            return [Document(**r) for r in c.execute(_documents(t.documents.c.digest == digest)).mappings()]

    def remove_document(self, document_id: int) -> Document:
        """Take a document out of use; doing so twice changes nothing."""
        return self._set_removed(document_id, now())

    def restore_document(self, document_id: int) -> Document:
        """Bring a removed document back into use."""
        return self._set_removed(document_id, None)

    def _set_removed(self, document_id: int, at: float | None) -> Document:
        document = self.document(document_id)
        if (document.removed_at is None) != (at is None):
            with self._write() as c:
                c.execute(t.documents.update().where(t.documents.c.id == document_id).values(removed_at=at))
        return self.document(document_id)

    def documents_token(self) -> str:
        """Changes whenever a document is added, removed or brought back."""
        d = t.documents.c
        query = sa.select(sa.func.count(), sa.func.count(d.removed_at), sa.func.max(d.id), sa.func.max(d.removed_at))
        with self._read() as c:
            return "/".join(repr(value) for value in c.execute(query).one())

    def passages(self, document_id: int) -> list[Passage]:
        """The passages of a document, in its order."""
        query = sa.select(t.passages).where(t.passages.c.document_id == document_id).order_by(t.passages.c.position)
        with self._read() as c:
            return [Passage(**r) for r in c.execute(query).mappings()]

    def live_passages(self) -> list[Passage]:
        """The passages of all documents in use: documents as they were added, passages in their order."""
        query = (
            sa.select(t.passages)
            .join(t.documents, t.documents.c.id == t.passages.c.document_id)
            .where(t.documents.c.removed_at.is_(None))
            .order_by(t.passages.c.document_id, t.passages.c.position)
        )
        with self._read() as c:
            return [Passage(**r) for r in c.execute(query).mappings()]

    def passages_after(self, passage_id: int, limit: int = 1000) -> list[Passage]:
        """Passages that were added after that one, of removed documents too, oldest first."""
        query = sa.select(t.passages).where(t.passages.c.id > passage_id).order_by(t.passages.c.id).limit(limit)
        with self._read() as c:
            return [Passage(**r) for r in c.execute(query).mappings()]

    def live_passages_of(self, passage_ids: Collection[int]) -> list[Passage]:
        """Those of the passages whose documents are in use, oldest first."""
        query = (
            sa.select(t.passages)
            .join(t.documents, t.documents.c.id == t.passages.c.document_id)
            .where(t.passages.c.id.in_(passage_ids), t.documents.c.removed_at.is_(None))
            .order_by(t.passages.c.id)
        )
        with self._read() as c:
            return [Passage(**r) for r in c.execute(query).mappings()]


def _insert(c: sa.Connection, document: NewDocument, *, path: str, author: str) -> int:
    row = {
        "name": document.name,
        "format": document.format,
        "digest": document.digest,
        "path": path,
        "characters": document.characters,
        "language": document.language,
        "author": author,
        "created_at": now(),
    }
    key = int(c.execute(t.documents.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]
    rows = [
        {"document_id": key, "position": n, "place": p.place, "text": p.text.replace("\x00", ""), "near_id": p.near_id}
        for n, p in enumerate(document.passages)
    ]
    statement = t.passages.insert().returning(t.passages.c.id, sort_by_parameter_order=True)
    ids = list(c.execute(statement, rows).scalars()) if rows else []
    twins = [{"key": ids[n], "near": ids[p.twin]} for n, p in enumerate(document.passages) if p.twin is not None]
    if twins:
        mark = t.passages.update().where(t.passages.c.id == sa.bindparam("key")).values(near_id=sa.bindparam("near"))
        c.execute(mark, twins)
    return key


def _documents(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    count = sa.select(sa.func.count()).where(t.passages.c.document_id == t.documents.c.id).scalar_subquery()
    return sa.select(t.documents, count.label("passages")).where(where)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
