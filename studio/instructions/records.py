"""Instruction records: dolly-15k's schema, their split, and the conversation each one teaches."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError
from studio.specs import Message, assistant, user
from studio.store import Dataset, Record, RecordFilter, Snapshot, Store

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "Split",
    "add_record",
    "checked_fields",
    "conversation",
    "edit_record",
    "freeze",
    "group_hash",
    "question",
    "split_of",
]

FIELDS = ("instruction", "context", "response", "category")

# The eight kinds of task that dolly-15k sorts its records into.
CATEGORIES = (
    "open_qa",
    "general_qa",
    "closed_qa",
    "information_extraction",
    "summarization",
    "classification",
    "brainstorming",
    "creative_writing",
)

Split = Literal["train", "validation", "test"]


def group_hash(instruction: str, context: str) -> str:
    """SHA-256 of the prompt, insensitive to case, white space and Unicode form: equal prompts share a split."""
    text = unicodedata.normalize("NFKC", f"{instruction}\n{context}").casefold()
    return hashlib.sha256(re.sub(r"\s+", " ", text).strip().encode()).hexdigest()


def split_of(group: str) -> Split:
    """80 % train, 10 % validation, 10 % test, decided by the hash alone, so that it never changes."""
    bucket = int(group[:8], 16) % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def question(instruction: str, context: str = "") -> str:
    """What the person says to the model: the instruction and, under it, the text it is about."""
    return f"{instruction}\n\n{context}" if context else instruction


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """The conversation one record teaches."""
    return [user(question(row["instruction"], row.get("context", ""))), assistant(row["response"])]


def checked_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The four fields, trimmed. Raises InputError when a record would teach nothing."""
    clean = {name: _storable(str(fields.get(name) or "")) for name in FIELDS}
    for name in ("instruction", "response"):
        if not clean[name]:
            raise InputError(f"The {name} is empty. Write one, or leave the record out.")
    return clean


def _storable(text: str) -> str:
    """Trimmed, and without what no database keeps: NUL, and half a character (a lone surrogate)."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode().strip()


def insertable(fields: Mapping[str, str]) -> dict[str, str]:
    """Checked fields with the group and the split that a new row needs."""
    clean = checked_fields(fields)
    group = group_hash(clean["instruction"], clean["context"])
    return {**clean, "group_hash": group, "split": split_of(group)}


def add_record(store: Store, dataset: Dataset, fields: Mapping[str, str], *, author: str, source: str) -> None:
    """Append one record, for example an answer kept in the playground."""
    store.add_records(dataset.id, [insertable(fields)], author=author, source=source)


def edit_record(store: Store, record_id: int, revision: int, fields: Mapping[str, str], *, author: str) -> Record:
    """Save an edit. The split stays where the record was born, so that nothing moves out of test by editing."""
    return store.edit_record(record_id, revision, checked_fields(fields), author=author)


def freeze(store: Store, root: Path, dataset: Dataset, *, author: str, where: RecordFilter | None = None) -> Snapshot:
    """Freeze a dataset (or the part that `where` leaves) as `data:NAME@next`."""
    rows: Iterable[Record] = store.all_records(dataset.id)
    if where is not None:
        rows = store.records(dataset.id, where, limit=store.count_records(dataset.id, where))
    kept = ({**{f: getattr(r, f) for f in FIELDS}, "split": r.split, "group": r.group_hash} for r in rows)
    return store.freeze(root, "data", dataset.name, kept, author=author, licence=dataset.licence)
