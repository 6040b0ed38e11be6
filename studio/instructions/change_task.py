"""The job that does one thing to more records than a page changes while somebody waits.

It goes in parts of `AT_ONCE`, each a stroke of its own: others can save in between, and undo takes back part by part
(a hundred thousand records at one stroke held everybody else's saves for half a minute).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.editing import AT_ONCE, Stroke, do_stroke
from studio.store import Dataset, RecordFilter, Store
from studio.tasks import Lane, Run, Task

__all__ = ["ChangeRecords"]

_DOING = {
    "approve": "Approve",
    "reject": "Reject",
    "draft": "Put back to draft:",
    "category": "Give a category to",
    "remove": "Remove",
    "duplicate": "Duplicate",
    "replace": "Find and replace in",
}


class ChangeRecords(Task):
    """Do one thing to many records."""

    kind: ClassVar[str] = "change"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Dataset", description="Which records.")
    stroke: Stroke = Field(title="What is done", description="Approve, reject, category, remove, duplicate, replace.")
    where: dict[str, Any] = Field(default={}, title="Filter", description="Which records of it; empty: all.")

    @property
    def title(self) -> str:
        which = "records" if self.where else "all records"
        return f"{_DOING[self.stroke.verb]} {which} of {self.dataset}"

    def check(self, store: Store) -> None:
        store.dataset(self.dataset)
        RecordFilter.of(self.where)
        if self.stroke.replacement:
            self.stroke.replacement.compiled()

    def do(self, run: Run) -> dict[str, Any]:
        dataset, author = run.store.dataset(self.dataset), run.store.job(run.id).author
        ids = self._meant(run, dataset)
        changed = int(_read(run, "changed") or 0)
        for start in range(int(_read(run, "done") or 0), len(ids), AT_ONCE):
            if run.stop_requested():
                break
            part = ids[start : start + AT_ONCE]
            changed += self._do_part(run, dataset, part, _part_of(start, len(ids)), author)
            done = start + len(part)
            (run.output / "changed").write_text(str(changed))
            (run.output / "done").write_text(str(done))
            run.say(f"{done:,} of {len(ids):,} records.")
            run.log(done, len(ids))
        if not changed and not run.stop_requested():
            raise InputError("There was nothing to change in these records, so they are as they were.")
        return {"dataset": self.dataset, "records": changed, "looked_at": len(ids)}

    def _meant(self, run: Run, dataset: Dataset) -> list[int]:
        """The records as they were found at the first attempt: what is approved no longer matches 'draft'."""
        if not (kept := _read(run, "ids")):
            kept = json.dumps(run.store.record_ids(dataset.id, RecordFilter.of(self.where)))
            (run.output / "ids").write_text(kept)
        ids: list[int] = json.loads(kept)
        return ids

    def _do_part(self, run: Run, dataset: Dataset, part: Sequence[int], note: str, author: str) -> int:
        if run.attempt > 1 and self._is_done(run, dataset, note, author):
            return 0
        try:
            where = RecordFilter(ids=tuple(part))
            return do_stroke(run.store, dataset, self.stroke, where, author=author, note=note).records
        except InputError:  # nothing to replace in this part, or all of it was removed meanwhile
            return 0

    def _is_done(self, run: Run, dataset: Dataset, note: str, author: str) -> bool:
        """Whether an attempt that ended before it could say so has done this part: a copy made twice would be two."""
        since = run.store.job(run.id).created_at
        edits = run.store.edits(dataset.id, author=author)
        return any(edit.title.endswith(note) and edit.records and edit.created_at > since for edit in edits)


def _part_of(start: int, total: int) -> str:
    return f" (part {start // AT_ONCE + 1} of {-(-total // AT_ONCE)})"


def _read(run: Run, name: str) -> str:
    path = run.output / name
    return path.read_text() if path.exists() else ""
