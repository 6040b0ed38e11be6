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
from studio.store.bank import EXAMPLE_FIELDS, Bank, BankVerbs, Example
from studio.store.chats import Chat, ChatVerbs, Turn
from studio.store.completions import Answer, CompletionVerbs
from studio.store.datasets import Dataset, DatasetVerbs, Record, RecordFilter
from studio.store.documents import Document, DocumentVerbs, NewDocument, NewPassage, Passage
from studio.store.endpoints import Endpoint, EndpointVerbs, Price, ServedModel
from studio.store.evaluations import Evaluation, EvaluationVerbs, ScoredItem
from studio.store.grids import CellFilter, ColumnCounts, GridCell, GridVerbs, RowScores
from studio.store.jobs import Job, JobEvent, JobVerbs, Metric
from studio.store.models import Model, ModelVerbs, model_row
from studio.store.pairs import PairVerbs
from studio.store.preferences import Batch, NewItem, PreferenceVerbs, Prompt, RankedItem
from studio.store.snapshots import Snapshot, SnapshotVerbs, read_rows
from studio.store.templates import PromptTemplate, TemplateVerbs, TemplateVersion

__all__ = [
    "EXAMPLE_FIELDS",
    "Annotator",
    "AnnotatorKind",
    "Answer",
    "Bank",
    "Batch",
    "CellFilter",
    "Chat",
    "ColumnCounts",
    "Dataset",
    "DeskItem",
    "Document",
    "Endpoint",
    "Evaluation",
    "Example",
    "GridCell",
    "Job",
    "JobEvent",
    "Judged",
    "Judgement",
    "Metric",
    "Model",
    "NewDocument",
    "NewItem",
    "NewPassage",
    "NotYours",
    "Passage",
    "Price",
    "Progress",
    "Prompt",
    "PromptTemplate",
    "RankedAnswer",
    "RankedItem",
    "Ranking",
    "Record",
    "RecordFilter",
    "RowScores",
    "ScoredItem",
    "ServedModel",
    "Snapshot",
    "Store",
    "TemplateVersion",
    "TieKind",
    "Turn",
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
    PairVerbs,
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
