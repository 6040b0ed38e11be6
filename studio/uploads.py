"""Files that people hand in: how large they may be, and where they wait for the job that takes them in."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from studio.errors import InputError, StorageError
from studio.settings import Settings

__all__ = ["checked_place", "discard", "in_words", "park", "parked", "upload_limit"]

_WAITS = 7 * 24 * 3600.0  # seconds; an upload whose job never ran, or was cancelled, goes after that
_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}


def upload_limit(settings: Settings) -> int:
    """The largest upload in bytes. Raises InputError when LADDER_MAX_UPLOAD is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", settings.max_upload.casefold())
    if not match or match[2] not in _UNITS:
        raise InputError(f"LADDER_MAX_UPLOAD is '{settings.max_upload}', which is no size. Write it like 200mb or 4gb.")
    return int(float(match[1]) * _UNITS[match[2]])


def in_words(size: int) -> str:
    """'340 kB', '4.0 GB': a number of bytes as people say it."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "bytes" else f"{value:.0f} {unit}"


def park(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """Put uploads where a job finds them later (pages' own uploads vanish); their places: BATCH/NUMBER/NAME.

    Raises StorageError when the disk refuses; then nothing is parked.
    """
    inbox = root / "inbox"
    _sweep(inbox)
    folder = inbox / uuid.uuid4().hex
    places: list[str] = []
    try:
        for number, file in enumerate(files):
            place = folder / str(number)  # two uploads may have one name
            place.mkdir(parents=True)
            _put(file, place / file.name)
            places.append(f"{folder.name}/{number}/{file.name}")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(
            f"The uploads could not be kept in {inbox} ({error.strerror}). Free some space and add them again."
        ) from error
    return tuple(places)


def checked_place(place: str) -> str:
    """The place of an upload as `park` names it; raises ValueError for anything that could lie elsewhere."""
    parts = place.split("/")
    if len(parts) != 3 or any(part in ("", ".", "..") or "\x00" in part for part in parts):
        raise ValueError(f"'{place}' does not name an upload; add the file on the page")
    return place


def parked(root: Path, place: str) -> Path:
    """Where a parked upload lies."""
    return root / "inbox" / place


def discard(root: Path, places: Iterable[str]) -> None:
    """Remove uploads that were taken in."""
    for folder in {root / "inbox" / place.split("/", 1)[0] for place in places}:
        shutil.rmtree(folder, ignore_errors=True)


def _put(file: Path, place: Path) -> None:
    """A second name for the same bytes where the disk can do that: gigabytes then take no time."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _sweep(inbox: Path) -> None:
    for folder in inbox.glob("*"):
        if time.time() - folder.stat().st_mtime > _WAITS:
            shutil.rmtree(folder, ignore_errors=True)
