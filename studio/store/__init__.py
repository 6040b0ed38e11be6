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
from studio.store.curation import CurationVerbs, LeftOutRow, Purge, RewrittenSnapshot, SavedFilter, SnapshotUse
from studio.store.datasets import RECORD_STATES, Dataset, Order, Record, RecordFilter, RowsTaken
from studio.store.documents import Document, DocumentVerbs, NewDocument, NewPassage, Passage
from studio.store.edits import Comment, Edit, EditVerbs, RecordChange
from studio.store.endpoints import Endpoint, EndpointVerbs, Price, ServedModel
from studio.store.evaluations import Evaluation, EvaluationVerbs, ScoredItem
from studio.store.flags import CheckRun, FlagRow, FlagVerbs
from studio.store.grids import CellFilter, ColumnCounts, GridCell, GridVerbs, RowScores
from studio.store.jobs import Job, JobEvent, JobVerbs, Metric, Note, Place, Queue
from studio.store.models import Model, ModelVerbs, model_row
from studio.store.notices import Notice, Webhook
from studio.store.pairs import PairVerbs
from studio.store.preferences import Batch, NewItem, PreferenceVerbs, Prompt, RankedItem
from studio.store.snapshots import Snapshot, SnapshotVerbs, read_rows
from studio.store.templates import PromptTemplate, TemplateVerbs, TemplateVersion

__all__ = [
    "EXAMPLE_FIELDS",
    "RECORD_STATES",
    "Annotator",
    "AnnotatorKind",
    "Answer",
    "Bank",
    "Batch",
    "CellFilter",
    "Chat",
    "CheckRun",
    "ColumnCounts",
    "Comment",
    "Dataset",
    "DeskItem",
    "Document",
    "Edit",
    "Endpoint",
    "Evaluation",
    "Example",
    "FlagRow",
    "GridCell",
    "Job",
    "JobEvent",
    "Judged",
    "Judgement",
    "LeftOutRow",
    "Metric",
    "Model",
    "NewDocument",
    "NewItem",
    "NewPassage",
    "NotYours",
    "Note",
    "Notice",
    "Order",
    "Passage",
    "Place",
    "Price",
    "Progress",
    "Prompt",
    "PromptTemplate",
    "Purge",
    "Queue",
    "RankedAnswer",
    "RankedItem",
    "Ranking",
    "Record",
    "RecordChange",
    "RecordFilter",
    "RewrittenSnapshot",
    "RowScores",
    "RowsTaken",
    "SavedFilter",
    "ScoredItem",
    "ServedModel",
    "Snapshot",
    "SnapshotUse",
    "Store",
    "TemplateVersion",
    "TieKind",
    "Turn",
    "Webhook",
    "model_row",
    "read_rows",
]


class Store(
    BankVerbs,
    ChatVerbs,
    CompletionVerbs,
    CurationVerbs,
    DocumentVerbs,
    EditVerbs,
    EndpointVerbs,
    EvaluationVerbs,
    FlagVerbs,
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
