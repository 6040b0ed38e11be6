"""Writing records to files that other tools read, in any format and shape; reading them again gives the same records."""

from __future__ import annotations

import os
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from studio.errors import InputError, StorageError
from studio.instructions.conversations import fields_of_turns
from studio.instructions.formats import format_named
from studio.instructions.formats.excel import TooMuchForExcel
from studio.instructions.formats.parquet import schema_of, table_of
from studio.instructions.shapes import Exportable, shape_named

__all__ = ["FrozenRecord", "export_folder", "export_records", "export_zipped_folder", "frozen_records", "suffix_for"]

_FOLDER_SPLITS = ("train", "validation", "test")
_BATCH = 1000


@dataclass(frozen=True)
class FrozenRecord:
    """A row of a snapshot as a record that can be exported; `id` is its place in the file, from 1."""

    id: int
    instruction: str
    context: str
    response: str
    category: str
    turns: list[dict[str, str]] | None
    licence: str
    split: str
    source: str = ""


def frozen_records(rows: Iterable[Mapping[str, Any]]) -> Iterator[FrozenRecord]:
    """Rows of a snapshot as records: of a conversation a row shows the last question, a record the first."""
    for number, row in enumerate(rows, 1):
        fields: dict[str, Any] = fields_of_turns(row["turns"]) if row.get("turns") else {"turns": None}
        texts: dict[str, str] = {
            name: fields.get(name, row.get(name) or "") for name in ("instruction", "context", "response")
        }
        more: dict[str, str] = {name: row.get(name) or "" for name in ("category", "licence", "split")}
        yield FrozenRecord(id=number, turns=fields["turns"], **texts, **more)


def suffix_for(format: str) -> str:
    """What the name of a file of that format ends in."""
    return format_named(format).suffixes[0]


def export_records(records: Iterable[Exportable], path: Path, format: str = "jsonl", shape: str = "dolly") -> int:
    """Write records to a file; returns how many. The file is there when it is whole, and replaces an older one.

    Raises InputError naming the record that the format or the shape cannot hold, and StorageError when the disk
    refuses; nothing is left behind then.
    """
    writer, rows = format_named(format), _Rows(records, shape)
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.write(part, rows, rows.columns)
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except TooMuchForExcel as error:
        where = f"The {error.column} of record {rows.last} is too long. " if error.column else ""
        raise InputError(f"{where}{error} Export as CSV, Parquet or JSON Lines instead.") from error
    except OSError as error:
        raise StorageError(
            f"{path.name} could not be written to {path.parent} ({error.strerror or error}). "
            "Free some space or check the folder's permissions, and try again."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
    return rows.count


def export_folder(records: Iterable[Exportable], folder: Path, *, card: str, shape: str = "dolly") -> dict[str, int]:
    """Write a folder that `datasets.load_dataset(folder)` opens: a Parquet file a split, and the card as README.md.

    Returns how many records each split has; records that are excluded from the splits are left out. A folder that is
    there already is never written into.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not empty. Choose a folder that does not exist yet.")
    part = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        counts = _write_splits(records, part, shape)
        (part / "README.md").write_text(card, encoding="utf-8")
        if not counts:
            raise InputError("No record is in train, validation or test, so there is nothing to export.")
        for file in part.iterdir():
            _sync(file)
        part.replace(folder)
        _sync(folder.parent)
    except OSError as error:
        raise StorageError(
            f"{folder} could not be written ({error.strerror or error}). "
            "Free some space or check the permissions, and try again."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return counts


def export_zipped_folder(
    records: Iterable[Exportable], path: Path, *, card: str, shape: str = "dolly"
) -> dict[str, int]:
    """The folder of `export_folder`, named like the file, in one zip. Raises and returns as that does."""
    work = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = export_folder(records, work, card=card, shape=shape)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:  # Parquet is compressed as it is
            for file in sorted(work.iterdir()):
                archive.write(file, f"{path.stem}/{file.name}")
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path.name} could not be written to {path.parent} ({error.strerror or error}). "
            "Free some space or check the folder's permissions, and try again."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            part.unlink()
    return counts


class _Rows(Iterable[Mapping[str, Any]]):
    """The rows of records, and which record was the last that somebody asked for."""

    def __init__(self, records: Iterable[Exportable], shape: str) -> None:
        self._records, self._shape = records, shape_named(shape)
        self.columns = self._shape.columns
        self.count = 0
        self.last = 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for record in self._records:
            self.last = record.id
            yield self._shape.write(record)
            self.count += 1


def _write_splits(records: Iterable[Exportable], folder: Path, shape: str) -> dict[str, int]:
    """One pass over the records, a Parquet file open for each split that has any."""
    writes = shape_named(shape)
    schema = schema_of(writes.columns)
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    writers: dict[str, pq.ParquetWriter] = {}
    counts: dict[str, int] = {}

    def write(split: str) -> None:
        if split not in writers:
            writers[split] = pq.ParquetWriter(folder / f"{split}.parquet", schema)
        writers[split].write_table(table_of(waiting.pop(split), schema))

    try:
        for record in records:
            if record.split not in _FOLDER_SPLITS:
                continue
            rows = waiting.setdefault(record.split, [])
            rows.append(writes.write(record))
            counts[record.split] = counts.get(record.split, 0) + 1
            if len(rows) == _BATCH:
                write(record.split)
        for split in list(waiting):
            write(split)
    finally:
        for writer in writers.values():
            writer.close()
    return {split: counts[split] for split in _FOLDER_SPLITS if split in counts}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
