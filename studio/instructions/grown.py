"""What growing a dataset came to: its runs and their drafts, and the answers that people kept in the playground."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from studio.errors import InputError
from studio.instructions.filling_in import ToFillIn
from studio.instructions.growing import LEFT_OUT, FromDocuments, Growing, Paraphrase, SelfInstruct
from studio.store import Dataset, Job, RecordFilter, Store

__all__ = [
    "MOST_SHOWN",
    "WAYS",
    "Outcome",
    "drafts_of",
    "growing_run",
    "growing_runs",
    "kept_answer_ids",
    "kept_answers",
    "outcome",
]

WAYS: Mapping[str, type[Growing | ToFillIn]] = {
    way.kind: way for way in (SelfInstruct, FromDocuments, Paraphrase, ToFillIn)
}

MOST_SHOWN = 5000  # records that a filter by their numbers may ask for
_RECENT = 500  # jobs of all datasets that are looked through
_KEPT = re.compile(r"(?:corrected )?answer \d+ of \S")  # as the playground names what was kept from it


@dataclass(frozen=True)
class Outcome:
    """What came of a run so far: drafts by state, and what was left out as (number, reason), most first."""

    drafts: int
    approved: int
    rejected: int
    left_out: tuple[tuple[int, str], ...]
    note: str

    @property
    def to_review(self) -> int:
        return self.drafts - self.approved - self.rejected


def growing_runs(store: Store, dataset: str, limit: int = 20) -> list[Job]:
    """The dataset's newest runs, newest first."""
    jobs = store.jobs(limit=_RECENT, kinds=set(WAYS))
    return [job for job in jobs if job.task["dataset"] == dataset][:limit]


def growing_run(store: Store, number: str, dataset: str) -> Job:
    """The run with that number. Raises InputError for one that drafted nothing for this dataset."""
    job = store.job(int(number)) if number.isdecimal() and len(number) < 10 else None
    if job is None or job.kind not in WAYS or job.task["dataset"] != dataset:
        raise InputError(f"'{number[:20]}' is not the number of a growing run of {dataset}. Choose one of the list.")
    return job


def drafts_of(job: Job) -> RecordFilter:
    """The records that a run added and that stand."""
    # As it was told then: fields may have other bounds by now.
    return RecordFilter(source=WAYS[job.kind].model_construct(**job.task).source(job.id))


def outcome(store: Store, dataset: Dataset, job: Job) -> Outcome:
    where = drafts_of(job)
    drafts, approved, rejected = (
        store.count_records(dataset.id, RecordFilter(source=where.source, state=state))
        for state in ("", "approved", "rejected")
    )
    result = job.result or {}
    left_out = [(int(n), LEFT_OUT.get(why, why)) for why, n in result.get("left_out", {}).items()]
    return Outcome(drafts, approved, rejected, tuple(sorted(left_out, reverse=True)), str(result.get("note", "")))


def kept_answers(store: Store, dataset: Dataset) -> int:
    """How many records are answers that somebody kept in the playground."""
    return sum(n for source, n in store.record_shares(dataset.id, "source").items() if _KEPT.match(source))


def kept_answer_ids(store: Store, dataset: Dataset) -> tuple[int, ...]:
    """Which records those are; the first MOST_SHOWN of them."""
    left = min(kept_answers(store, dataset), MOST_SHOWN)
    found: list[int] = []
    for record in store.all_records(dataset.id):
        if len(found) == left:
            break
        if _KEPT.match(record.source):
            found.append(record.id)
    return tuple(found)
