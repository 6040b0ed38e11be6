"""Snapshots: frozen once, the same for ever, and nothing left behind when freezing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFound, StorageError
from studio.store import Snapshot, Store, read_rows

ROWS = [{"instruction": "Wash it?", "response": "At 30 degrees.\u2028Then dry."}, {"response": "ja", "n": 2}]


def _freeze(store: Store, root: Path, rows: list[dict[str, Any]] = ROWS, name: str = "gear") -> Snapshot:
    return store.freeze(root, "data", name, rows, author="ann", licence="MIT")


def _files(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file() and "snapshots" in p.parts)


def test_frozen_rows_come_back_and_are_found_by_ref(store: Store, tmp_path: Path) -> None:
    frozen = _freeze(store, tmp_path)
    assert (frozen.ref, frozen.kind, frozen.version, frozen.rows, frozen.licence) == (
        "data:gear@1",
        "data",
        1,
        2,
        "MIT",
    )
    assert store.snapshot("data:gear@1") == frozen
    assert read_rows(tmp_path, frozen) == ROWS


def test_the_same_rows_give_the_same_snapshot_back(store: Store, tmp_path: Path) -> None:
    first = _freeze(store, tmp_path)
    assert _freeze(store, tmp_path, [dict(reversed(row.items())) for row in ROWS]) == first
    assert _files(tmp_path) == ["data-gear@1.jsonl"]


def test_other_rows_make_the_next_version_and_leave_the_first_alone(store: Store, tmp_path: Path) -> None:
    first = _freeze(store, tmp_path)
    second = _freeze(store, tmp_path, ROWS[:1])
    assert second.ref == "data:gear@2"
    assert read_rows(tmp_path, first) == ROWS
    assert [s.ref for s in store.snapshots("data")] == ["data:gear@2", "data:gear@1"]
    assert store.snapshots("eval") == []


def test_simultaneous_freezes_get_versions_of_their_own(store: Store, tmp_path: Path) -> None:
    sets = [[{"n": n}] for n in range(6)]
    with ThreadPoolExecutor(4) as pool:
        frozen = list(pool.map(lambda rows: _freeze(store, tmp_path, rows), sets))
    assert sorted(s.version for s in frozen) == [1, 2, 3, 4, 5, 6]
    assert [read_rows(tmp_path, s) for s in frozen] == sets


def test_a_file_that_was_tampered_with_is_noticed(store: Store, tmp_path: Path) -> None:
    frozen = _freeze(store, tmp_path)
    path = tmp_path / frozen.path
    path.write_bytes(path.read_bytes().replace(b"30", b"90"))
    with pytest.raises(StorageError, match=r"data:gear@1 was changed after it was frozen"):
        read_rows(tmp_path, frozen)


def test_a_file_that_is_gone_is_named(store: Store, tmp_path: Path) -> None:
    frozen = _freeze(store, tmp_path)
    (tmp_path / frozen.path).unlink()
    with pytest.raises(StorageError, match=r"The file of data:gear@1 cannot be read .*from a backup"):
        read_rows(tmp_path, frozen)


def test_a_missing_snapshot_is_told_with_the_known_ones(store: Store, tmp_path: Path) -> None:
    _freeze(store, tmp_path)
    with pytest.raises(NotFound, match=r"'data:gear@9'\. Known snapshots: data:gear@1\."):
        store.snapshot("data:gear@9")


# -- nothing is left behind ----------------------------------------------------------------------------------


def test_nothing_to_freeze_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would have 0 rows"):
        _freeze(store, tmp_path, [])
    assert (store.snapshots(), _files(tmp_path)) == ([], [])


def test_rows_that_break_off_leave_nothing(store: Store, tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        store.freeze(tmp_path, "data", "gear", rows(), author="ann")
    assert (store.snapshots(), _files(tmp_path)) == ([], [])


@pytest.mark.parametrize("name", ["two words", "../escape", "a/b", ""])
def test_a_name_that_no_reference_can_hold_is_refused_before_anything_is_written(
    store: Store, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match="is not a SnapshotRef"):
        _freeze(store, tmp_path, name=name)
    assert (store.snapshots(), list(tmp_path.rglob("*.jsonl"))) == ([], [])


def test_a_database_that_refuses_leaves_no_file(sqlite_store: Store, tmp_path: Path) -> None:
    _freeze(sqlite_store, tmp_path)
    with sqlite_store._write() as c:
        c.exec_driver_sql("CREATE TRIGGER refuse BEFORE INSERT ON snapshots BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="no"):
        _freeze(sqlite_store, tmp_path, ROWS[:1])
    assert _files(tmp_path) == ["data-gear@1.jsonl"]


def test_a_file_in_the_place_of_the_folder_is_a_sentence(store: Store, tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    with pytest.raises(StorageError, match=r"could not be written to .*Nothing was changed"):
        _freeze(store, tmp_path)
    assert store.snapshots() == []


LARGE = [{"text": "x" * 1000, "n": n} for n in range(200)]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(StorageError, match=r"No space left on device\)\. Nothing was changed; free some"):
            _freeze(store, disk, LARGE)
        assert (store.snapshots(), _files(disk)) == ([], [])
        _freeze(store, disk, ROWS)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_FREEZE_UNDER_A_LIMIT = """
import json, resource, sys
from pathlib import Path
from studio.errors import StorageError
from studio.store import Store
store, root = Store(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    store.freeze(root, "data", "gear", ({"text": "x" * 1000, "n": n} for n in range(200)), author="ann")
except StorageError as error:
    print(json.dumps([str(error), [p.name for p in (root / "snapshots").iterdir()]]))
"""


def test_a_limit_on_file_sizes_is_a_sentence_too(sqlite_store: Store, tmp_path: Path) -> None:
    url = sqlite_store.url.render_as_string()
    said = subprocess.run(
        [sys.executable, "-c", _FREEZE_UNDER_A_LIMIT, url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sentence, left = json.loads(said)
    assert "(File too large)" in sentence
    assert left == []
    assert sqlite_store.snapshots() == []
