"""Records to fill in: each passage of the documents becomes a draft, and people write what is asked and answered.

Nothing is made up, and nothing is learned before it is written: a gap is in no snapshot (see studio.instructions.records),
no model is shown it, and the check for placeholders finds it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.growing.from_documents import chosen_passages
from studio.instructions.records import GAP_ANSWER, GAP_QUESTION, group_hash, insertable, split_of
from studio.store import Passage, Store
from studio.tasks import Lane, Run, Task

__all__ = ["ToFillIn"]


class ToFillIn(Task):
    """Make a draft of each passage of the documents, with a question and an answer for people to write."""

    kind: ClassVar[str] = "to-fill-in"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Dataset", description="Where the drafts go.")
    documents: tuple[str, ...] = Field(
        (), title="Documents", description="Names of documents to take passages from; empty for all that are in use."
    )
    count: int = Field(50, ge=1, le=10_000, title="Drafts", description="So many at the most.")

    @property
    def title(self) -> str:
        return f"Make {self.count} records for {self.dataset} to fill in, from documents"

    def source(self, job_id: int) -> str:
        """What the records of a run say of where they come from."""
        return f"job {job_id}: passages to fill in"

    def check(self, store: Store) -> None:
        store.dataset(self.dataset)
        chosen_passages(store, self.documents)

    def do(self, run: Run) -> dict[str, Any]:
        dataset, passages = run.store.dataset(self.dataset), chosen_passages(run.store, self.documents)
        run.say(f"Looking which of {len(passages):,} passages have a record already.")
        # One text is one group, whoever wrote the question, so that it is never in two splits.
        known = {record.group_hash for record in run.store.all_records(dataset.id)}
        groups = {group_hash("", passage.text): passage for passage in passages}
        fresh = {group: passage for group, passage in groups.items() if group not in known}
        if not fresh:
            raise InputError(
                f"Each of the {len(groups):,} passages has a record in {self.dataset} already. "
                "Choose other documents, or add some in the Playground."
            )
        rows = [self._row(run.id, group, passage) for group, passage in list(fresh.items())[: self.count]]
        author = run.store.job(run.id).author
        run.store.add_records(dataset.id, rows, author=author, source=self.source(run.id))
        run.log(len(rows), len(rows))
        counts = {"known": len(groups) - len(fresh), "surplus": len(fresh) - len(rows)}
        left_out = {why: n for why, n in counts.items() if n}
        return {"dataset": self.dataset, "added": len(rows), "left_out": left_out, "note": ""}

    def _row(self, job_id: int, group: str, passage: Passage) -> dict[str, Any]:
        fields = {
            "instruction": GAP_QUESTION,
            "context": passage.text,
            "response": GAP_ANSWER,
            "category": "closed_qa",
            "state": "draft",
            "provenance": {"way": self.kind, "job": job_id, "passages": [passage.id]},
        }
        return {**insertable(fields), "group_hash": group, "split": split_of(group)}
