"""The connection under the store: SQLite by default, PostgreSQL by URL, migrations, and one transaction per verb."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, make_url

from studio.errors import Conflict, InputError, StorageError

__all__ = ["Database", "now"]

P = ParamSpec("P")
R = TypeVar("R")

_NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.sshfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
}
_BUSY_SECONDS = 10.0
_UPGRADE_KEY = 0x1ADDE0  # PostgreSQL advisory lock: two studios that start together migrate one after the other


def now() -> float:
    """UTC epoch seconds, as every table holds them."""
    return time.time()


class Database:
    """One engine. Reading and writing verbs take a connection from `_read` and `_write` and never let it out."""

    def __init__(self, url: str, busy_seconds: float = _BUSY_SECONDS) -> None:
        self.url: URL = make_url(url)
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise InputError(
                f"The database {self.url.get_backend_name()} is not supported. "
                "Give a postgresql:// URL, or none for SQLite in the workspace."
            )
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            _refuse_network_file_system(Path(self.url.database or "."))
        self._engine = sa.create_engine(
            self.url,
            connect_args={"timeout": busy_seconds} if self.is_sqlite else {"connect_timeout": 10},
            pool_pre_ping=not self.is_sqlite,
        )
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", lambda connection, _record: _tune_sqlite(connection, busy_seconds))
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    @property
    def place(self) -> str:
        """Where the rows are, in words that may be shown: the file, or the URL without its password."""
        if self.is_sqlite:
            return self.url.database or ":memory:"
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with _plain_errors(self), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with _plain_errors(self), self._engine.connect().execution_options(writing=True) as connection:
            with connection.begin():
                yield connection

    def _take_turns(self, connection: sa.Connection, key: int) -> None:
        """Wait until no other transaction holds `key`. SQLite has one writer at a time anyway."""
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def close(self) -> None:
        self._engine.dispose()

    # -- schema -------------------------------------------------------------------------------------------------

    def upgrade(self) -> None:
        """Bring the schema to the newest revision; a SQLite file that holds rows is copied beside itself first."""
        with _plain_errors(self):
            current, newest = self._revision(), self._newest()
            if current == newest:
                return
            if current is not None and current not in _known_revisions():
                raise StorageError(
                    f"The database {self.place} was made by a newer Ladder Studio (revision {current}). "
                    "Start that version, or choose another workspace."
                )
            if current is not None and self.is_sqlite:
                self._copy_before_migration(current)
            with self._engine.execution_options(writing=True).begin() as connection:
                self._take_turns(connection, _UPGRADE_KEY)
                config = _alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def _newest(self) -> str | None:
        return ScriptDirectory.from_config(_alembic_config()).get_current_head()

    def _copy_before_migration(self, revision: str) -> Path:
        source = Path(self.url.database or "")
        copy = source.with_name(f"{source.stem}.before-{revision}-{int(now())}{source.suffix}")
        part = copy.with_suffix(f".part-{os.getpid()}")
        try:
            with closing(sqlite3.connect(source)) as connection:
                connection.execute("VACUUM INTO ?", (str(part),))
            part.replace(copy)
        except (sqlite3.Error, OSError) as error:
            part.unlink(missing_ok=True)
            raise StorageError(
                f"{source} could not be copied to {copy} before its migration ({error}). "
                "Nothing was changed; free some space and start again."
            ) from error
        return copy


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _tune_sqlite(connection: sqlite3.Connection, busy_seconds: float) -> None:
    # The driver's own implicit BEGIN is deferred, and a deferred transaction that turns into a writer fails at once
    # with "database is locked" instead of waiting; so transactions are begun by `_begin_sqlite`.
    connection.isolation_level = None
    _write_ahead(connection, busy_seconds)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    # SQLite's own lower() knows ASCII only, so a search for "ärmel" would miss "Ärmel".
    connection.create_function("lower", 1, _lower, deterministic=True)


def _write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Turn to WAL. Two that do so to a new file at once stand in each other's way, and there SQLite does not wait."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


def _begin_sqlite(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _refuse_network_file_system(path: Path) -> None:
    path = path.resolve()
    mounts = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    if not mounts:
        return
    mount = max(mounts, key=lambda p: len(p.mountpoint))
    if mount.fstype in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{path} is on a network file system ({mount.fstype}), where SQLite loses data. "
            "Choose a folder on a local disk, or give a PostgreSQL database with --database-url."
        )


@contextmanager
def _plain_errors(database: Database) -> Iterator[None]:
    """Turn what the driver raises into a sentence with the cure."""
    place = database.place
    try:
        yield
    except sa.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        if "locked" in reason or "busy" in reason:
            raise StorageError(
                f"The database {place} is locked by another program. Nothing was changed; "
                "close that program and try again."
            ) from error
        if "full" in reason:
            raise StorageError(
                f"The disk that holds {place} is full. Nothing was changed; free some space and try again."
            ) from error
        if "readonly" in reason or "unable to open" in reason:
            user = os.environ.get("USER", str(os.getuid()))
            raise StorageError(
                f"The database {place} cannot be written ({reason}). Give user {user} write access to its folder."
            ) from error
        raise StorageError(
            f"The database {place} does not answer ({reason}). Start it or check its address."
        ) from error
    except sa.exc.DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        if "not a database" in reason or "malformed" in reason:
            raise StorageError(
                f"The file {place} is not a readable database ({reason}). "
                "Move it away, or put back a copy from before the last migration."
            ) from error
        raise


def conflict_is(message: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn a broken uniqueness promise into a Conflict that says `message`."""

    def wrap(verb: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(verb)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return verb(*args, **kwargs)
            except sa.exc.IntegrityError as error:
                raise Conflict(message) from error

        return guarded

    return wrap
