"""The job that takes in a data set of the hub: fetched whole first, so that a network that breaks leaves nothing half
imported, then read like a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from studio.instructions.formats import Rejected
from studio.instructions.formats.hub import checked_ref, hub_rows
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import Reading
from studio.store import Store
from studio.tasks import Lane, Run, Task

__all__ = ["ImportFromHub"]

_BETWEEN_LOOKS = 1000  # rows between two looks at whether somebody wants to stop


class ImportFromHub(Task):
    """Add the rows of a data set on the Hugging Face hub to a dataset."""

    kind: ClassVar[str] = "import-hub"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Into dataset", description="Made when it is not there yet.")
    ref: str = Field(title="Data set on the hub", description="Like hf:databricks/databricks-dolly-15k.")
    split: str = Field(default="train", min_length=1, title="Split", description="Which part of it.")
    reading: Reading = Field(default=Reading(), title="Reading", description="How the rows are read; empty: guessed.")
    licence: str = Field(default="", title="Licence", description="Of the records, for a new dataset.")

    @property
    def title(self) -> str:
        return f"Import {self.ref} ({self.split}) into {self.dataset}"

    def check(self, store: Store) -> None:
        checked_ref(self.ref)

    def do(self, run: Run) -> dict[str, Any]:
        file = run.output / f"{_file_name(self.ref)}-{_file_name(self.split)}.jsonl"
        unread = 0
        if not file.exists():
            unread = self._fetch(run, file)
        if run.stop_requested():
            return {"dataset": self.dataset, "added": 0, "left_out": unread, "omitted": 0}
        reading = self.reading.model_copy(update={"format": "jsonl", "encoding": "utf-8"})
        taken = ImportRecords(dataset=self.dataset, path=file, reading=reading, licence=self.licence).do(run)
        if not run.stop_requested():
            file.unlink()
        return {**taken, "left_out": taken["left_out"] + unread}

    def _fetch(self, run: Run, file: Path) -> int:
        """Write the rows into the file; returns how many could not be read. Raises InputError when they do not come."""
        part, unread = file.with_suffix(".part"), 0
        with part.open("w", encoding="utf-8") as out:
            for number, row in hub_rows(self.ref, self.split, run.settings):
                if isinstance(row, Rejected):
                    unread += 1
                else:
                    out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                if number % _BETWEEN_LOOKS == 0:
                    run.say(f"{number:,} rows were fetched.")
                    if run.stop_requested():
                        return unread
        part.rename(file)
        return unread


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text.removeprefix("hf:")).strip("-.") or "rows"
