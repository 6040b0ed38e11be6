"""Checkpoints: `runs/ID/checkpoints/step-N`, there in full or not at all.

A checkpoint is written under a hidden name, sealed with a list of its files and their hashes, synced, and
renamed. So one that has its proper name was complete once, and the seal tells whether it still is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from studio.errors import RunError

__all__ = ["SEAL", "Checkpoints", "damage", "sync_tree"]

_NAME = re.compile(r"step-(\d+)")
SEAL = "checkpoint.json"


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / "checkpoints"

    def begin(self, step: int) -> Path:
        """A fresh folder to write the checkpoint of a step into."""
        part = self.folder / f".step-{step}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        return part

    def publish(self, part: Path) -> Path:
        """Seal, sync and rename; the older ones stay until `keep_only`."""
        final = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        if part.parent != self.folder or not _NAME.fullmatch(final.name) or final == part:
            raise RunError(f"{part} is not a folder that checkpoint() gave out, so it cannot be published.")
        _seal(part)
        sync_tree(part)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _sync(self.folder)
        return final

    def keep_only(self, newest: Path) -> None:
        for other in self._named():
            if other != newest:
                shutil.rmtree(other, ignore_errors=True)

    def discard_unfinished(self) -> None:
        for part in self.folder.glob(".step-*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def any_saved(self) -> bool:
        """Whether there is one at all: cheap enough for a page, where `newest` reads every byte to be sure."""
        return bool(self._named())

    def newest(self) -> Path | None:
        """The newest one that is still complete."""
        return next((folder for folder in self._named() if not damage(folder)), None)

    def resume_from(self, expected: str | None) -> tuple[Path | None, str]:
        """Where to go on from, and a sentence when that is not the checkpoint that was saved last.

        Raises RunError, naming it, when that one is missing or damaged and no other can take its place.
        """
        newest = self.newest()
        if expected is None or (newest is not None and _step(newest) >= _step(self.folder / expected)):
            return newest, ""
        wrong = damage(self.folder / expected)
        if newest is None:
            raise RunError(
                f"Checkpoint {expected} in {self.folder} cannot be used: {wrong}. "
                "Put it back from a backup to resume this run, or start a new run."
            )
        return newest, f"Checkpoint {expected} cannot be used ({wrong}): going on from {newest.name} instead."

    def _named(self) -> list[Path]:
        """Newest first."""
        folders = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]
        return sorted(folders, key=_step, reverse=True)


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, in a few words; '' when it is whole."""
    if not folder.is_dir():
        return "it is missing"
    try:
        files = json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return f"its {SEAL} is missing or damaged"
    for name, digest in files.items():
        try:
            if _digest(folder / name) != digest:
                return f"its file {name} is damaged"
        except OSError:
            return f"its file {name} is missing or unreadable"
    return ""


def sync_tree(folder: Path) -> None:
    """Make sure that a folder's files are on the disk before a row names them."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _seal(folder: Path) -> None:
    files = {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / SEAL).write_text(json.dumps({"files": files}, indent=2), encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else -1


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
