"""The job that takes in a file of records, however large: row by row, resumable, and undone at one stroke."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.errors import InputError
from studio.instructions.datasets import dataset_named
from studio.instructions.formats import Rejected
from studio.instructions.importing import Fields, Reading, preview, read_fields
from studio.instructions.records import insertable
from studio.instructions.shapes import OMITTED
from studio.store import Dataset, Store
from studio.tasks import Lane, Run, Task
from studio.uploads import checked_place, discard, parked

__all__ = ["ImportRecords", "take_in"]

_AT_ONCE = 5000  # rows a transaction: a fraction of a second in which nobody else can write
_MOST_LEFT_OUT = 10_000  # kept to be mended; a file of which more is bad was read the wrong way


class ImportRecords(Task):
    """Add the rows of a file to a dataset."""

    kind: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Into dataset", description="Made when it is not there yet.")
    upload: str = Field(default="", title="Upload", description="A file that waits in the workspace.")
    path: Path | None = Field(default=None, title="File on the server", description="A file this machine can read.")
    reading: Reading = Field(default=Reading(), title="Reading", description="How the file is read; empty: guessed.")
    licence: str = Field(default="", title="Licence", description="Of the records, for a new dataset.")

    @field_validator("upload")
    @classmethod
    def _waits_in_the_inbox(cls, upload: str) -> str:
        return checked_place(upload) if upload else upload

    @property
    def title(self) -> str:
        return f"Import {self.path.name if self.path else self.upload.rpartition('/')[2]} into {self.dataset}"

    def check(self, store: Store) -> None:
        if (self.path is None) == (not self.upload):
            raise InputError("An import takes one file: an upload, or a file on the server.")
        if self.path is not None and not self.path.is_file():
            raise InputError(f"There is no file {self.path} on this machine. Check its path.")

    def do(self, run: Run) -> dict[str, Any]:
        root, author = run.output.parents[1], run.store.job(run.id).author
        file = self.path or parked(root, self.upload)
        if not file.is_file():
            raise InputError(f"{file.name} is no longer there. Upload it again.")
        dataset = dataset_named(run.store, self.dataset, author=author, licence=self.licence)
        edit = self._edit(run, dataset, file, author)
        reading = self.reading
        if not reading.shape and not reading.mapping:
            reading = preview(file, wanted=reading).reading
        told = take_in(run, dataset, file, reading, edit, author)
        if self.upload and not run.stop_requested():
            discard(root, [self.upload])
        return {"dataset": dataset.name, **told}

    def _edit(self, run: Run, dataset: Dataset, file: Path, author: str) -> int:
        """The stroke that all rows belong to: that of the first attempt, so that a resumed import goes on with it."""
        mark = run.output / "edit"
        if not mark.exists():
            mark.write_text(str(run.store.begin_edit(dataset.id, "add", f"Imported {file.name}", author=author)))
        return int(mark.read_text())


def take_in(run: Run, dataset: Dataset, file: Path, reading: Reading, edit: int, author: str) -> dict[str, int]:
    """Store the file's rows behind those that an earlier attempt of this edit stored. Raises InputError for none."""
    done = run.store.rows_taken(edit)
    rows = ((number, fields) for number, fields in read_fields(file, reading) if number > done.last_row)
    added, left_out, omitted = done.added, done.left_out, 0
    first_reason = ""
    for part in _parts(rows):
        good: list[dict[str, Any]] = []
        bad: list[tuple[int, str, str, dict[str, str]]] = []
        for number, fields in part:
            if isinstance(fields, Rejected):
                first_reason = first_reason or f"Row {fields.row}: {fields.reason}"
                bad.append((number, fields.column, fields.reason, dict(fields.cells)))
            else:
                omitted += fields.pop(OMITTED, 0)
                good.append(insertable(fields))
        kept = bad[: max(0, _MOST_LEFT_OUT - left_out)]
        last = part[-1][0]
        run.store.take_rows(dataset.id, edit, good, kept, last_row=last, author=author, source=file.name)
        added, left_out = added + len(good), left_out + len(bad)
        run.say(f"{added:,} records are in{f', {left_out:,} rows left out' if left_out else ''}.")
        run.log(added)
        if run.stop_requested():
            break
    if not added and not run.stop_requested():
        raise InputError(f"{file.name} has no usable rows, so nothing was imported. {first_reason}".strip())
    return {"added": added, "left_out": left_out, "omitted": omitted}


def _parts(rows: Iterator[tuple[int, Fields | Rejected]]) -> Iterator[list[tuple[int, Fields | Rejected]]]:
    while part := list(islice(rows, _AT_ONCE)):
        yield part
