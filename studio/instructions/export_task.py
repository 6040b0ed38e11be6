"""What is exported: a snapshot, or the records as they are now; as a file of any format and shape, as a folder that
`datasets.load_dataset` opens, or the dataset card alone. A page writes a few thousand records itself, a job any number.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.card import Facts, card, facts_now, facts_of
from studio.instructions.exporting import export_records, export_zipped_folder, frozen_records, suffix_for
from studio.instructions.formats import format_named
from studio.instructions.records import is_ready
from studio.instructions.shapes import Exportable, shape_named
from studio.instructions.snapshots import rows_of
from studio.store import Dataset, Record, RecordFilter, Store
from studio.tasks import Lane, Run, Task

__all__ = ["CARD", "FOLDER", "QUICK_ROWS", "ExportRecords", "exported_file"]

FOLDER, CARD = "folder", "card"  # beside the formats of files
QUICK_ROWS = 20_000  # a page writes so many while somebody waits: a second or two

_BATCH = 1000


class ExportRecords(Task):
    """Write records of a dataset to a file."""

    kind: ClassVar[str] = "export"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Dataset", description="Which records.")
    snapshot: str = Field(default="", title="Snapshot", description="A snapshot of it; empty: the records as they are.")
    filter: dict[str, Any] = Field(
        default_factory=dict, title="Filter", description="Which of the records as they are; empty: all of them."
    )
    rejected: bool = Field(default=False, title="Rejected too", description="Also records that were rejected.")
    format: str = Field(default="jsonl", title="Format", description="Of the file, or 'folder', or 'card'.")
    shape: str = Field(default="dolly", title="Shape", description="Which columns the rows have.")

    @property
    def title(self) -> str:
        return f"Export {self.snapshot or self.dataset} as {self._format_title}"

    @property
    def name(self) -> str:
        """Of the file: 'brackenfold@2-alpaca.csv', 'brackenfold@2.zip', 'README.md'."""
        if self.format == CARD:
            return "README.md"
        stem = self.snapshot.partition(":")[2] or self.dataset
        if self.format == FOLDER:
            return f"{stem}.zip"
        return f"{stem}{'' if self.shape == 'dolly' else f'-{self.shape}'}{suffix_for(self.format)}"

    @property
    def _format_title(self) -> str:
        return {FOLDER: "a folder", CARD: "a card"}.get(self.format) or format_named(self.format).title

    def check(self, store: Store) -> None:
        dataset = store.dataset(self.dataset)
        if self.format not in (FOLDER, CARD):
            format_named(self.format)
        shape_named(self.shape)
        if self.snapshot and store.snapshot(self.snapshot).name != dataset.name:
            raise InputError(f"{self.snapshot} is no snapshot of {self.dataset}. Choose one of its own.")

    def rows(self, store: Store) -> int:
        """How many records it is about."""
        if self.snapshot:
            return store.snapshot(self.snapshot).rows
        return store.count_records(store.dataset(self.dataset).id, RecordFilter.of(self.filter))

    def write(self, store: Store, root: Path, folder: Path, *, author: str) -> tuple[Path, int]:
        """The file in that folder, and how many records are in it. Raises InputError when there are none."""
        self.check(store)
        dataset, path = store.dataset(self.dataset), folder / self.name
        if self.format == CARD:
            facts = self._facts(store, root, dataset, author)
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(card(facts), encoding="utf-8")
            return path, facts.summary.records
        records = self._chosen(store, root, dataset)
        if self.format == FOLDER:
            told = card(self._facts(store, root, dataset, author))
            return path, sum(export_zipped_folder(records, path, card=told, shape=self.shape).values())
        written = export_records(records, path, self.format, self.shape)
        if not written:
            path.unlink(missing_ok=True)
            raise InputError("No record is among those chosen, so there is nothing to export. Choose others.")
        return path, written

    def _facts(self, store: Store, root: Path, dataset: Dataset, author: str) -> Facts:
        if self.snapshot:
            return facts_of(store, root, store.snapshot(self.snapshot))
        return facts_now(store, dataset, self._now(store, dataset), author=author, at=time.time())

    def _chosen(self, store: Store, root: Path, dataset: Dataset) -> Iterable[Exportable]:
        if self.snapshot:
            return frozen_records(rows_of(root, store.snapshot(self.snapshot)))
        return self._now(store, dataset)

    def _now(self, store: Store, dataset: Dataset) -> Iterable[Record]:
        where = RecordFilter.of(self.filter)
        found: Iterable[Record] = store.all_records(dataset.id)
        if where != RecordFilter():
            ids = store.record_ids(dataset.id, where)
            parts = (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
            found = (record for part in parts for record in store.some_records(part))
        return (record for record in found if self.rejected or is_ready(record))

    def do(self, run: Run) -> dict[str, Any]:
        total = self.rows(run.store)
        run.say(f"{total:,} records are written.")
        run.log(0, 1)
        author = run.store.job(run.id).author
        path, written = self.write(run.store, run.output.parents[1], run.output / "export", author=author)
        run.log(1, 1)
        return {"file": path.name, "records": written, "bytes": path.stat().st_size}


def exported_file(root: Path, job_id: int, name: str) -> Path:
    """The file that an export left. Raises InputError when it is not there any more."""
    folder = root / "runs" / str(job_id) / "export"
    path = folder / Path(name).name
    if not path.is_file():
        raise InputError(f"The file of job {job_id} is no longer there: a purge takes exports away. Export again.")
    return path
