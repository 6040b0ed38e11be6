"""Purging: records taken out of everything that is kept of a dataset. The one operation that rewrites history.

Out of the database (rows, earlier versions, flags, comments, what files had left out, the index of words), out of the
snapshots' files, which are written anew without them, and with every export of the dataset. What stays is the fact: who
purged how many records, when and why. Where else a text may have been copied to is looked for and told.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.errors import Conflict, InputError, NotFound, StorageError
from studio.instructions.describing import forget_description
from studio.instructions.records import frozen_row
from studio.instructions.snapshots import lines_of, snapshots_of
from studio.store import Dataset, Purge, Record, RewrittenSnapshot, Snapshot, Store

__all__ = ["Purged", "Purging", "look_before_purge", "numbers_in", "purge"]

_MOST = 5000  # records of one purge
_SCANNED = 64 << 20  # bytes of a file that is searched for every text
_NEEDLES = 400
_FEW = 6
_OWN = 12  # letters: a shorter text ("Yes.") says nothing of where it came from
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".npz", ".npy")


@dataclass(frozen=True)
class Purging:
    """What a purge would take: the records, the snapshots that hold them with how many rows, and other records that say
    the same and would stay."""

    records: tuple[Record, ...]
    snapshots: dict[str, int]
    twins: tuple[int, ...]

    @property
    def sentence(self) -> str:
        held = ", ".join(f"{ref} ({n:,})" for ref, n in self.snapshots.items())
        many = f"{len(self.records):,} record{'s' * (len(self.records) != 1)}"
        told = f"{many} would be taken out for good, with all earlier versions, flags and comments. "
        told += f"Snapshots that hold them, to be written anew: {held}." if held else "No snapshot holds them."
        if self.twins:
            numbers = ", ".join(map(str, self.twins[:20])) + (" and more" if len(self.twins) > 20 else "")
            told += f" The same text is in other records, which would stay: {numbers}. Add their numbers to purge them."
        return told


@dataclass(frozen=True)
class Purged:
    """What was done; `traces` says where else the texts still stand ("2 banks of examples", a file), and `trouble` why
    the database's file could not be written anew, if so."""

    purge: Purge
    traces: tuple[str, ...]
    trouble: str = ""

    @property
    def sentence(self) -> str:
        n, held = self.purge.records, len(self.purge.snapshots)
        told = f"{n:,} record{'s were' if n != 1 else ' was'} purged"
        told += f", and {held:,} snapshot{'s were' if held != 1 else ' was'} written anew." if held else "."
        if self.traces:
            told += f" The text still stands in: {'; '.join(self.traces)}. Remove it there as well."
        return f"{told} {self.trouble}".strip()


def numbers_in(told: str) -> tuple[int, ...]:
    """The record numbers in '12, 14-16 20'. Raises InputError for anything else, and for too many."""
    found: dict[int, None] = {}
    for part in re.findall(r"[^\s,;]+", re.sub(r"\s*[-–]\s*", "-", told)):
        span = re.fullmatch(r"#?(\d{1,15})(?:-#?(\d{1,15}))?", part)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if first > last:
            raise InputError(f"'{part}' is no record number. Write numbers such as 12, 14-16.")
        if last - first >= _MOST or len(found) + last - first >= _MOST:
            raise InputError(f"A purge takes {_MOST:,} records at most. Purge some of them first.")
        found |= dict.fromkeys(range(first, last + 1))
    return tuple(found)


def look_before_purge(store: Store, root: Path, dataset: Dataset, record_ids: Sequence[int]) -> Purging:
    """What a purge of these records would take; changes nothing. Raises NotFound for a number that is none of them."""
    if not record_ids:
        raise InputError("No record is chosen. Write the numbers of the records to purge.")
    if len(record_ids) > _MOST:
        raise InputError(f"A purge takes {_MOST:,} records at most. Purge some of them first.")
    records = store.every_record(dataset.id, record_ids)
    if unknown := sorted(set(record_ids) - {record.id for record in records}):
        raise NotFound(f"{dataset.name} has no record {unknown[0]}. Take the number out, or correct it.")
    marks = _marks(store, records)
    held = {snapshot.ref: n for snapshot in snapshots_of(store, dataset) if (n := _held(root, snapshot, marks))}
    groups = {record.group_hash for record in records}
    mine = {record.id for record in records}
    twins = [
        record.id
        for record in store.records_of_groups(dataset.id, groups)
        if record.id not in mine and not marks.isdisjoint(_marks(store, [record]))
    ]
    return Purging(tuple(records), {str(ref): n for ref, n in held.items()}, tuple(twins))


def purge(
    store: Store, root: Path, dataset: Dataset, record_ids: Sequence[int], *, reason: str, confirmed: int, author: str
) -> Purged:
    """Purge them. `confirmed` is their number, as the person typed it. Raises InputError when a reason is missing or
    the number is another; then nothing is touched."""
    if not reason.strip():
        raise InputError(
            "A purge needs a reason, which stays in the list of purges. Write why, without the text itself."
        )
    looked = look_before_purge(store, root, dataset, record_ids)
    if confirmed != len(looked.records):
        raise InputError(
            f"{len(looked.records):,} record{'s are' if len(looked.records) > 1 else ' is'} to be purged, and you typed "
            f"{confirmed:,}. Type how many they are, {len(looked.records)}, to confirm."
        )
    exports = _exports(store, dataset)
    texts = _texts(store, looked.records)
    if any(text in reason for text in texts if len(text) >= _OWN):
        raise InputError("The reason quotes what is to be purged, and would stay. Say it in other words.")
    marks = _marks(store, looked.records)
    rewritten: list[tuple[Snapshot, RewrittenSnapshot]] = []
    try:
        for snapshot in snapshots_of(store, dataset):
            if snapshot.ref in looked.snapshots:
                rewritten.append((snapshot, _written_without(root, snapshot, marks)))
        done = store.purge_records(
            dataset.id, [r.id for r in looked.records], reason.strip(), [new for _, new in rewritten], author=author
        )
    except BaseException:
        for _, new in rewritten:
            (root / new.path).unlink(missing_ok=True)
        raise
    _remove_what_no_row_names(store, root, dataset)
    _forget_files_that_passed_through(root)
    forget_description(root, dataset.id)
    for job in exports:
        shutil.rmtree(root / "runs" / str(job) / "export", ignore_errors=True)
    try:
        store.erase()
        trouble = ""
    except StorageError as error:
        trouble = str(error)
    found = store.traces({text for text in texts if len(text) >= _OWN})
    traces = [f"{n:,} {words}" if n > 1 else f"1 of the {words}" for words, n in found.items()]
    return Purged(done, (*traces, *_files_that_hold(root, texts)), trouble)


# -- what to look for ----------------------------------------------------------------------------------------------


def _versions(store: Store, records: Iterable[Record]) -> Iterator[Record]:
    """Every record as it is and as it ever was."""
    for record in records:
        yield record
        for version in store.record_history(record.id):
            known = {name: value for name, value in version["fields"].items() if hasattr(record, name)}
            yield replace(record, **known)


def _marks(store: Store, records: Iterable[Record]) -> set[bytes]:
    return {_mark(frozen_row(version)) for version in _versions(store, records)}


def _mark(row: dict[str, Any]) -> bytes:
    told = [row.get(name) or None for name in ("instruction", "context", "response", "turns")]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def _texts(store: Store, records: Iterable[Record]) -> set[str]:
    found: set[str] = set()
    for version in _versions(store, records):
        found |= {version.instruction, version.context, version.response}
        found |= {turn["content"] for turn in version.turns or []}
    return {text for text in found if text}


# -- files ---------------------------------------------------------------------------------------------------------


def _held(root: Path, snapshot: Snapshot, marks: Collection[bytes]) -> int:
    return sum(_mark(json.loads(line)) in marks for line in lines_of(root, snapshot))


def _written_without(root: Path, snapshot: Snapshot, marks: Collection[bytes]) -> RewrittenSnapshot:
    """A new file beside the old one. Nobody reads it before the row of the snapshot names it."""
    path = (
        root / "snapshots" / f"{snapshot.kind}-{snapshot.name}@{snapshot.version}.purged-{uuid.uuid4().hex[:8]}.jsonl"
    )
    digest, rows = hashlib.sha256(), 0
    try:
        with path.open("wb") as file:
            for line in lines_of(root, snapshot):
                if _mark(json.loads(line)) in marks:
                    continue
                file.write(line)
                digest.update(line)
                rows += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"{snapshot.ref} could not be written anew ({error.strerror}). Nothing was purged; free some space or check "
            "the folder's permissions, and try again."
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return RewrittenSnapshot(str(snapshot.ref), str(path.relative_to(root)), rows, digest.hexdigest())


def _remove_what_no_row_names(store: Store, root: Path, dataset: Dataset) -> None:
    """The files that were given up, also those of a purge that was cut short."""
    named = {root / snapshot.path for snapshot in store.snapshots("data")}
    pattern = re.compile(rf"data-{re.escape(dataset.name)}@\d+(\.purged-\w+)?\.jsonl")
    for file in (root / "snapshots").glob("data-*"):
        if pattern.fullmatch(file.name) and file not in named:
            file.unlink(missing_ok=True)


def _exports(store: Store, dataset: Dataset) -> list[int]:
    """Jobs that exported the dataset to files; what was downloaded is out of reach. Raises Conflict while one runs."""
    jobs = [job for job in store.jobs(limit=1_000_000, kinds={"export"}) if job.task.get("dataset") == dataset.name]
    if active := [job for job in jobs if job.is_active]:
        raise Conflict(f"Job {active[0].id} exports {dataset.name} now. Cancel it or wait for it, and purge again.")
    return [job.id for job in jobs]


def _forget_files_that_passed_through(root: Path) -> None:
    """Uploads and downloads that the page keeps for a while. All of them: what is in a workbook or a zip is not seen from
    outside, and a spreadsheet holds the columns as well that nobody imported."""
    for place in (root / "uploads").glob("*"):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def _files_that_hold(root: Path, texts: Collection[str]) -> list[str]:
    """Files of the workspace in which one of the texts stands, plain or as JSON writes it."""
    needles: dict[bytes, None] = {}
    for text in sorted((text for text in texts if len(text) >= _OWN), key=len, reverse=True)[: _NEEDLES // 3]:
        written = (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        needles |= dict.fromkeys(part.encode() for part in written)
    if not needles:
        return []
    return [str(file.relative_to(root)) for file in _searched(root) if _holds(file, list(needles))]


def _searched(root: Path) -> Iterator[Path]:
    for file in sorted(root.rglob("*")):
        if file.is_symlink() or not file.is_file() or file.suffix in _WEIGHTS:
            continue
        if file.name not in ("studio.db", "studio.db-wal", "studio.db-shm"):
            yield file


def _holds(file: Path, needles: Sequence[bytes]) -> bool:
    """Whether one of them stands in it; of a large file a few are asked, the longest, so that it ends some day."""
    try:
        size = file.stat().st_size
        if not size:
            return False
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(data.find(needle) >= 0 for needle in (needles if size <= _SCANNED else needles[:_FEW]))
    except (OSError, ValueError):  # it went away, or is no file that can be mapped
        return False
