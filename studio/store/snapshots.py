"""Snapshots: frozen datasets. The file is written and synced first, then the row that names it."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from studio.errors import InputError, NotFound, StorageError
from studio.specs import SnapshotRef
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Snapshot", "SnapshotVerbs", "read_rows"]

_FREEZE_KEY = 0x1ADDE1  # PostgreSQL advisory lock: two freezes of one dataset never get the same version


@dataclass(frozen=True)
class Snapshot:
    """A frozen dataset; `digest` is the SHA-256 of the file at `path` (relative to the workspace)."""

    id: int
    ref: SnapshotRef
    kind: str
    name: str
    version: int
    rows: int
    digest: str
    path: str
    licence: str
    author: str
    created_at: float
    purged_at: float | None = None  # it holds what was purged from its dataset since


class SnapshotVerbs(Database):
    def freeze(
        self,
        root: Path,
        kind: str,
        name: str,
        rows: Iterable[dict[str, Any]],
        *,
        author: str,
        licence: str = "",
    ) -> Snapshot:
        """Write the rows to a new file under `root`/snapshots and name it `kind:name@next`.

        The same rows as in the newest version give that version back. Raises InputError for no rows at all and
        StorageError when the disk refuses; nothing is left behind then.
        """
        SnapshotRef(f"{kind}:{name}@1")  # a name that cannot be referred to is refused before anything is written
        folder = root / "snapshots"
        part = folder / f".{kind}-{name}-{uuid.uuid4().hex}.part"
        unnamed = part  # the file that no row names (yet)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            count, digest = _write_rows(part, rows)
            if count == 0:
                raise InputError(f"A snapshot of '{name}' would have 0 rows. Add records first, or loosen the filter.")
            with self._write() as c:
                self._take_turns(c, _FREEZE_KEY)
                newest = _newest(c, kind, name)
                if newest is not None and newest.digest == digest:
                    return newest
                version = newest.version + 1 if newest else 1
                path = folder / f"{kind}-{name}@{version}.jsonl"
                part.replace(path)
                unnamed = path
                _sync_folder(folder)
                row = {
                    "ref": f"{kind}:{name}@{version}",
                    "kind": kind,
                    "name": name,
                    "version": version,
                    "rows": count,
                    "digest": digest,
                    "path": str(path.relative_to(root)),
                    "licence": licence,
                    "author": author,
                    "created_at": now(),
                }
                key = c.execute(t.snapshots.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            unnamed = part
            return _snapshot({"id": key, **row})
        except OSError as error:
            raise StorageError(
                f"The snapshot of '{name}' could not be written to {folder} ({error.strerror}). "
                "Nothing was changed; free some space or check the folder's permissions, and try again."
            ) from error
        finally:
            with suppress(OSError):
                unnamed.unlink()

    def snapshots(self, kind: str | None = None) -> list[Snapshot]:
        query = sa.select(t.snapshots).order_by(t.snapshots.c.name, t.snapshots.c.version.desc())
        if kind:
            query = query.where(t.snapshots.c.kind == kind)
        with self._read() as c:
            return [_snapshot(r) for r in c.execute(query).mappings()]

    def snapshot(self, ref: str) -> Snapshot:
        with self._read() as c:
            row = c.execute(sa.select(t.snapshots).where(t.snapshots.c.ref == ref)).mappings().first()
        if row is None:
            known = ", ".join(s.ref for s in self.snapshots()) or "none yet"
            raise NotFound(f"There is no snapshot '{ref}'. Known snapshots: {known}.")
        return _snapshot(row)


def read_rows(root: Path, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The rows of a frozen dataset. Raises StorageError when the file is gone or differs from what was frozen."""
    path = root / snapshot.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The file of {snapshot.ref} cannot be read ({path}: {error.strerror}). "
            "Put it back from a backup, or freeze a new snapshot."
        ) from error
    if hashlib.sha256(data).hexdigest() != snapshot.digest:
        raise StorageError(
            f"The file of {snapshot.ref} was changed after it was frozen ({path}). "
            "Put the original back from a backup, or freeze a new snapshot."
        )
    return [json.loads(line) for line in data.decode().splitlines()]


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        for row in rows:
            # `splitlines` also splits at U+2028 and the like, so those leave escaped.
            line = json.dumps(row, ensure_ascii=True, sort_keys=True).encode() + b"\n"
            file.write(line)
            digest.update(line)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count, digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _newest(c: sa.Connection, kind: str, name: str) -> Snapshot | None:
    query = (
        sa.select(t.snapshots)
        .where(t.snapshots.c.kind == kind, t.snapshots.c.name == name)
        .order_by(t.snapshots.c.version.desc())
        .limit(1)
    )
    row = c.execute(query).mappings().first()
    return _snapshot(row) if row else None


def _snapshot(row: Any) -> Snapshot:
    return Snapshot(**{**row, "ref": SnapshotRef(row["ref"])})
