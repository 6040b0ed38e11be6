"""The job that takes in a file of records, however large: row by row, resumable, and undone at one stroke."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.errors import InputError, StudioError
from studio.instructions.datasets import dataset_named
from studio.instructions.formats import Rejected
from studio.instructions.importing import Fields, ImportReport, Reading, preview, read_fields
from studio.instructions.records import group_hash, split_of
from studio.instructions.shapes import OMITTED
from studio.store import Dataset, Store
from studio.tasks import Lane, Run, Task
from studio.uploads import checked_place, discard, parked

__all__ = ["ImportRecords", "Taken", "import_in_parts", "take_in"]

_AT_ONCE = 10_000  # rows a transaction: a fraction of a second in which nobody else can write
_LETTERS_AT_ONCE = 8 << 20
_LISTED = 1000  # bad rows in a report; all that are kept wait in the studio
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
        so_far = Taken()
        for so_far in take_in(run.store, dataset, file, reading, edit, author):
            left_out = f", {so_far.left_out:,} rows left out" if so_far.left_out else ""
            run.say(f"{so_far.added:,} records are in{left_out}.")
            run.log(so_far.added)
            if run.stop_requested():
                break
        if self.upload and not run.stop_requested():
            discard(root, [self.upload])
        told = {"added": so_far.added, "left_out": so_far.left_out, "omitted": so_far.omitted}
        return {"dataset": dataset.name, **told}

    def _edit(self, run: Run, dataset: Dataset, file: Path, author: str) -> int:
        """The stroke that all rows belong to: that of the first attempt, so that a resumed import goes on with it."""
        mark = run.output / "edit"
        if not mark.exists():
            mark.write_text(str(run.store.begin_edit(dataset.id, "add", f"Imported {file.name}", author=author)))
        return int(mark.read_text())


@dataclass(frozen=True)
class Taken:
    """How far an import is, and which rows its newest part left out."""

    added: int = 0
    left_out: int = 0
    omitted: int = 0
    rejected: tuple[Rejected, ...] = ()


def take_in(store: Store, dataset: Dataset, file: Path, reading: Reading, edit: int, author: str) -> Iterator[Taken]:
    """Store the file's rows, behind those that an earlier attempt of this edit stored, part by part: between two parts
    others can write, and who asks for no more stops there. Raises InputError for a file without a usable row."""
    done = store.rows_taken(edit)
    rows = ((number, fields) for number, fields in read_fields(file, reading) if number > done.last_row)
    added, left_out, omitted = done.added, done.left_out, 0
    first: Rejected | None = None
    parts = _parts(rows)
    while True:
        with _no_collection():
            part = next(parts, None)
            if part is None:
                break
            good: list[dict[str, Any]] = []
            bad: list[Rejected] = []
            for _, fields in part:
                if isinstance(fields, Rejected):
                    bad.append(fields)
                else:
                    omitted += fields.pop(OMITTED, 0)
                    good.append(_born(fields))
            kept = [(b.row, b.column, b.reason, dict(b.cells)) for b in bad[: max(0, _MOST_LEFT_OUT - left_out)]]
            store.take_rows(dataset.id, edit, good, kept, last_row=part[-1][0], author=author, source=file.name)
            added, left_out = added + len(good), left_out + len(bad)
            first = first or next(iter(bad), None)
        yield Taken(added, left_out, omitted, tuple(bad))
    if not added:
        raise _nothing(file, first)


def import_in_parts(
    store: Store, name: str, file: Path, reading: Reading, *, author: str, licence: str = ""
) -> ImportReport:
    """Add a file's rows to the dataset of that name (made when it is not there), while others can go on writing.

    It is undone as one. Raises InputError for a file without a usable row, which changes nothing; what else stops it
    says how much is in by then.
    """
    first: Rejected | None = None
    for _, fields in read_fields(file, reading):
        if not isinstance(fields, Rejected):
            break
        first = first or fields
    else:
        raise _nothing(file, first)
    dataset = dataset_named(store, name, author=author, licence=licence)
    edit = store.begin_edit(dataset.id, "add", f"Imported {file.name}", author=author)
    so_far, listed = Taken(), list[Rejected]()
    try:
        for so_far in take_in(store, dataset, file, reading, edit, author):
            listed += so_far.rejected[: _LISTED - len(listed)]
    except (StudioError, KeyboardInterrupt) as error:
        if not so_far.added:
            raise
        why = "The import was interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
        many = "1 record" if so_far.added == 1 else f"{so_far.added:,} records"
        are, them = ("is", "it") if so_far.added == 1 else ("are", "them")
        raise StudioError(f"{why} {many} of {file.name} {are} in {name}; Undo on its page takes {them} out.") from error
    return ImportReport(so_far.added, tuple(listed), so_far.left_out - len(listed), so_far.omitted, edit)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A part is a hundred thousand objects without a circle among them, and Python's search for circles goes over all
    of them again and again: a tenth of an import."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _nothing(file: Path, first: Rejected | None) -> InputError:
    reason = f" Row {first.row}: {first.reason}" if first else ""
    return InputError(f"{file.name} has no usable rows, so nothing was imported.{reason}")


def _born(fields: Fields) -> dict[str, Any]:
    """What a new row needs beside fields that were checked when they were read."""
    group = group_hash(fields["instruction"], fields["context"])
    return {**fields, "group_hash": group, "split": split_of(group)}


def _parts(rows: Iterator[tuple[int, Fields | Rejected]]) -> Iterator[list[tuple[int, Fields | Rejected]]]:
    """As many rows as a transaction takes, fewer where they are long: what is held of a file is bounded."""
    part: list[tuple[int, Fields | Rejected]] = []
    letters = 0
    for row in rows:
        part.append(row)
        letters += _letters(row[1])
        if len(part) == _AT_ONCE or letters >= _LETTERS_AT_ONCE:
            yield part
            part, letters = [], 0
    if part:
        yield part


def _letters(fields: Fields | Rejected) -> int:
    if isinstance(fields, Rejected):
        return sum(map(len, fields.cells.values()))
    said = sum(len(turn["content"]) for turn in fields["turns"] or ())
    return said + len(fields["instruction"]) + len(fields["context"]) + len(fields["response"])
