"""Everything the studio remembers: every table, migration and SQL statement. Verbs in, typed rows out.

One transaction per verb; no database session leaves the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from studio.store.assignments import (
    Annotator,
    AnnotatorKind,
    DeskItem,
    Judged,
    Judgement,
    NotYours,
    Progress,
    RankedAnswer,
    Ranking,
    TieKind,
)
from studio.store.bank import BankVerbs
from studio.store.chats import ChatVerbs
from studio.store.completions import Answer, CompletionVerbs
from studio.store.datasets import Dataset, DatasetVerbs, Record, RecordFilter
from studio.store.documents import DocumentVerbs
from studio.store.endpoints import EndpointVerbs
from studio.store.evaluations import Evaluation, EvaluationVerbs, ScoredItem
from studio.store.grids import GridVerbs
from studio.store.jobs import Job, JobEvent, JobVerbs, Metric
from studio.store.models import Model, ModelVerbs, model_row
from studio.store.preferences import Batch, NewItem, PreferenceVerbs, Prompt, RankedItem
from studio.store.snapshots import Snapshot, SnapshotVerbs, read_rows
from studio.store.templates import TemplateVerbs

__all__ = [
    "Annotator",
    "AnnotatorKind",
    "Answer",
    "Batch",
    "Dataset",
    "DeskItem",
    "Evaluation",
    "Job",
    "JobEvent",
    "Judged",
    "Judgement",
    "Metric",
    "Model",
    "NewItem",
    "NotYours",
    "Progress",
    "Prompt",
    "RankedAnswer",
    "RankedItem",
    "Ranking",
    "Record",
    "RecordFilter",
    "ScoredItem",
    "Snapshot",
    "Store",
    "TieKind",
    "model_row",
    "read_rows",
]


class Store(
    BankVerbs,
    ChatVerbs,
    CompletionVerbs,
    DatasetVerbs,
    DocumentVerbs,
    EndpointVerbs,
    EvaluationVerbs,
    GridVerbs,
    JobVerbs,
    ModelVerbs,
    PreferenceVerbs,
    SnapshotVerbs,
    TemplateVerbs,
):
    """The studio's memory."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect and bring the schema up to date."""
        store = cls(url)
        store.upgrade()
        return store

    @classmethod
    def in_folder(cls, folder: Path, url: str | None = None) -> Self:
        """The store of a workspace folder: its own SQLite file unless a database URL is given."""
        return cls.open(url or f"sqlite:///{folder / 'studio.db'}")
