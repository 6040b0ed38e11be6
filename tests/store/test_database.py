"""The connection under the store: what holds when programs meet, when the disk refuses and when the schema moves."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import studio.store.database as database
from studio.errors import InputError, StorageError
from studio.store import Store
from studio.store.tables import metadata
from tests.store.rows import record_row


def _file(store: Store) -> Path:
    return Path(store.url.database or "")


@pytest.fixture
def writer(sqlite_store: Store) -> Iterator[sqlite3.Connection]:
    """Another program that has begun to write."""
    with closing(sqlite3.connect(_file(sqlite_store), isolation_level=None, check_same_thread=False)) as c:
        c.execute("BEGIN IMMEDIATE")
        yield c


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database that nobody has opened yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    url = sa.make_url(request.getfixturevalue("postgresql_url")).set(drivername="postgresql+psycopg")
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as c:
        c.execute(sa.text("CREATE DATABASE fresh"))
    yield url.set(database="fresh").render_as_string(hide_password=False)
    with server.connect() as c:
        c.execute(sa.text("DROP DATABASE fresh WITH (FORCE)"))
    server.dispose()


on_both = pytest.mark.parametrize("new_url", ["sqlite", "postgresql"], indirect=True)


# -- SQLite as we need it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        pytest.param("journal_mode", "wal", id="readers never wait for the writer"),
        pytest.param("synchronous", 2, id="what was committed survives a power cut"),
        pytest.param("foreign_keys", 1, id="no row points nowhere"),
    ],
)
def test_every_connection_is_tuned(sqlite_store: Store, pragma: str, value: str | int) -> None:
    with sqlite_store._read() as c:
        assert c.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_a_row_that_points_nowhere_is_refused(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        store.add_records(404, [record_row()], author="ann", source="test")


def test_a_writer_waits_for_another_instead_of_failing(sqlite_store: Store, writer: sqlite3.Connection) -> None:
    released = threading.Event()

    def release() -> None:
        released.set()
        writer.execute("COMMIT")

    timer = threading.Timer(0.3, release)
    timer.start()
    sqlite_store.create_dataset("waited", author="ann")
    assert released.is_set()
    assert sqlite_store.dataset("waited").author == "ann"
    timer.join()


def test_readers_go_on_while_somebody_writes(sqlite_store: Store, writer: sqlite3.Connection) -> None:
    assert sqlite_store.datasets() == []


def test_writers_in_several_threads_lose_nothing(store: Store) -> None:
    dataset = store.create_dataset("busy", author="ann")
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(store.add_records, dataset.id, [record_row(n)], author="ann", source="t") for n in range(24)
        ]
        assert [job.result() for job in jobs] == [1] * 24
    assert store.count_records(dataset.id) == 24


def test_a_locked_database_is_named_and_nothing_changes(sqlite_store: Store, writer: sqlite3.Connection) -> None:
    impatient = Store(f"sqlite:///{_file(sqlite_store)}", busy_seconds=0.05)
    with pytest.raises(StorageError, match=r"studio\.db is locked by another program\. Nothing was changed"):
        impatient.create_dataset("never", author="ann")
    writer.execute("ROLLBACK")
    assert impatient.datasets() == []
    impatient.close()


# -- where the database may lie ------------------------------------------------------------------------------


def _mounts(*pairs: tuple[Path, str]) -> Callable[..., list[SimpleNamespace]]:
    found = [SimpleNamespace(mountpoint=str(path), fstype=kind) for path, kind in pairs]
    return lambda all=False: found


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", _mounts((Path("/"), "ext4"), (tmp_path, kind)))
    with pytest.raises(StorageError, match=rf"network file system \({kind}\).*local disk.*--database-url"):
        Store.in_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_local_disk_mounted_inside_a_network_one_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", _mounts((tmp_path.parent, "nfs"), (tmp_path, "xfs")))
    Store.in_folder(tmp_path).close()
    assert (tmp_path / "studio.db").exists()


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 500, b"\x89PNG\r\n\x1a\n" + b"\x00" * 5000])
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "studio.db").write_bytes(content)
    with pytest.raises(StorageError, match=r"studio\.db is not a readable database .*Move it away"):
        Store.in_folder(tmp_path)
    assert (tmp_path / "studio.db").read_bytes() == content


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="write access to its folder"):
        Store.in_folder(tmp_path / "missing")


def test_a_postgresql_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(StorageError, match="does not answer") as refused:
        Store.open("postgresql://ann:hunter2@127.0.0.1:1/studio")
    assert "127.0.0.1" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"mysql is not supported\. Give a postgresql:// URL"):
        Store("mysql://localhost/studio")


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path, migrated_sqlite: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounting.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        shutil.copy(migrated_sqlite, disk / "studio.db")
        store = Store(f"sqlite:///{disk / 'studio.db'}")
        dataset = store.create_dataset("small", author="ann")
        with pytest.raises(StorageError, match=r"The disk that holds .* is full\. Nothing was changed"):
            store.add_records(dataset.id, map(record_row, range(10_000)), author="ann", source="t")
        assert store.count_records(dataset.id) == 0
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- the schema and its migrations ---------------------------------------------------------------------------


def test_the_migrations_make_exactly_the_tables_that_the_code_names(store: Store) -> None:
    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        return not (name or "").startswith("records_words")  # the full-text index, which each database has its own way

    options = {"compare_type": True, "include_name": is_ours}
    with store._read() as c:
        assert compare_metadata(MigrationContext.configure(c, opts=options), metadata) == []


@on_both
def test_studios_that_open_a_new_database_at_once_make_it_once(new_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(Store.open, [new_url] * 4))
    stores[0].create_dataset("shared", author="ann")
    assert [[d.name for d in s.datasets()] for s in stores] == [["shared"]] * 4
    for store in stores:
        store.close()


def test_opening_an_up_to_date_database_copies_nothing(tmp_path: Path) -> None:
    Store.in_folder(tmp_path).close()
    Store.in_folder(tmp_path).close()
    assert [p.name for p in tmp_path.glob("*.db")] == ["studio.db"]


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the studio one revision newer; the argument is the body of its migration."""

    def add(body: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(Path(database.__file__).parent / "migrations", folder)
        (newest,) = (p.stem[:4] for p in [max((folder / "versions").glob("0*.py"))])
        (folder / "versions" / "9999_next.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f'revision, down_revision = "9999", "{newest}"\n\n'
            f"def upgrade():\n    {body}\n"
        )

        def config() -> Config:
            made = Config()
            made.set_main_option("script_location", str(folder))
            return made

        monkeypatch.setattr(database, "_alembic_config", config)

    return add


_ADD_A_COLUMN = 'op.add_column("datasets", sa.Column("colour", sa.Text(), server_default="green"))'


def test_a_sqlite_file_is_copied_before_its_schema_changes(
    sqlite_store: Store, next_migration: Callable[[str], None]
) -> None:
    sqlite_store.create_dataset("precious", author="ann")
    next_migration(_ADD_A_COLUMN)
    sqlite_store.upgrade()
    (copy,) = _file(sqlite_store).parent.glob("studio.before-*.db")
    with closing(sqlite3.connect(copy)) as before, closing(sqlite3.connect(_file(sqlite_store))) as after:
        assert before.execute("SELECT name FROM datasets").fetchall() == [("precious",)]
        assert after.execute("SELECT name, colour FROM datasets").fetchall() == [("precious", "green")]


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    sqlite_store: Store, next_migration: Callable[[str], None]
) -> None:
    sqlite_store.create_dataset("precious", author="ann")
    next_migration(_ADD_A_COLUMN + "\n    raise RuntimeError('half way')")
    with pytest.raises(RuntimeError, match="half way"):
        sqlite_store.upgrade()
    assert [d.name for d in sqlite_store.datasets()] == ["precious"]
    with sqlite_store._read() as c:
        assert "colour" not in {column["name"] for column in sa.inspect(c).get_columns("datasets")}


def test_a_copy_that_does_not_fit_stops_the_migration(
    sqlite_store: Store, next_migration: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "now", lambda: 1.0)
    next_migration(_ADD_A_COLUMN)
    revision = sqlite_store._revision()
    _file(sqlite_store).with_name(f"studio.before-{revision}-1.db").mkdir()
    with pytest.raises(StorageError, match=r"could not be copied .*Nothing was changed"):
        sqlite_store.upgrade()
    assert sqlite_store._revision() == revision


def test_a_database_from_a_newer_studio_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store.in_folder(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "studio.db")) as c, c:
        c.execute("UPDATE alembic_version SET version_num = 'future'")
    with pytest.raises(StorageError, match=r"made by a newer Ladder Studio \(revision future\)"):
        Store.in_folder(tmp_path)
    assert list(tmp_path.glob("*.before-*")) == []
