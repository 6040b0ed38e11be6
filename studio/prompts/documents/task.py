"""The job that takes in many or large documents, and the place where uploads wait for it."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.errors import InputError, StorageError
from studio.prompts.documents.importing import Imported, Refused, import_document, upload_limit
from studio.tasks import Lane, Run, Task

__all__ = ["ImportDocuments", "park"]

_INBOX = "inbox"
_WAITS = 7 * 24 * 3600.0  # seconds; an upload whose job never ran, or was cancelled, goes after that


def park(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """Move uploads to where a job finds them later; their names for `ImportDocuments`. Pages' own uploads vanish.

    Raises StorageError when the disk refuses; then nothing is parked.
    """
    inbox = root / "documents" / _INBOX
    _sweep(inbox)
    folder = inbox / uuid.uuid4().hex
    parked: list[str] = []
    try:
        for number, file in enumerate(files):
            place = folder / str(number)  # two uploads may have one name
            place.mkdir(parents=True)
            shutil.copyfile(file, place / file.name)
            parked.append(f"{folder.name}/{number}/{file.name}")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(
            f"The uploads could not be kept in {inbox} ({error.strerror}). Free some space and add them again."
        ) from error
    return tuple(parked)


class ImportDocuments(Task):
    """Read documents, cut them into passages and mark those that say nearly the same."""

    kind: ClassVar[str] = "documents"
    lane: ClassVar[Lane] = "light"

    files: tuple[str, ...] = Field(
        min_length=1, title="Files", description="Uploads that wait in the workspace: BATCH/NUMBER/NAME."
    )

    @field_validator("files")
    @classmethod
    def _wait_in_the_inbox(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for file in files:
            parts = file.split("/")
            if len(parts) != 3 or any(part in ("", ".", "..") or "\x00" in part for part in parts):
                raise ValueError(f"'{file}' does not name an upload; add the file on the page")
        return files

    @property
    def title(self) -> str:
        names = [file.rpartition("/")[2] for file in self.files]
        return f"Import {names[0]}" if len(names) == 1 else f"Import {len(names)} documents"

    def do(self, run: Run) -> dict[str, Any]:
        root = run.output.parents[1]
        inbox, author = root / "documents" / _INBOX, run.store.job(run.id).author
        limit = upload_limit(run.settings)
        imported: list[Imported] = []
        refused: list[Refused] = []

        def say(sentence: str) -> None:
            if run.stop_requested():
                raise _Stopped
            run.say(sentence)

        for number, file in enumerate(self.files, start=1):
            try:
                say(f"Document {number} of {len(self.files)}.")
                imported.append(import_document(run.store, root, inbox / file, author=author, limit=limit, say=say))
            except InputError as error:
                refused.append(Refused(file.rpartition("/")[2], str(error)))
            except _Stopped:
                return _result(imported, refused)  # the uploads stay, so that the job can go on
            run.log(number, len(self.files))
        for folder in {inbox / file.split("/", 1)[0] for file in self.files}:
            shutil.rmtree(folder, ignore_errors=True)
        if not imported:
            raise InputError(" ".join(r.reason for r in refused[:3]))
        return _result(imported, refused)


class _Stopped(Exception):
    pass


def _result(imported: list[Imported], refused: list[Refused]) -> dict[str, Any]:
    return {
        "documents": [i.document.id for i in imported],
        "said": [i.sentence for i in imported],
        "refused": [{"name": r.name, "reason": r.reason} for r in refused],
    }


def _sweep(inbox: Path) -> None:
    for folder in inbox.glob("*"):
        if time.time() - folder.stat().st_mtime > _WAITS:
            shutil.rmtree(folder, ignore_errors=True)
