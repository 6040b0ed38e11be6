"""Instruction records: dolly-15k's schema, their split, and the conversation each one teaches."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError
from studio.instructions.conversations import checked_turns, fields_of_turns
from studio.specs import Message, assistant, user
from studio.store import Dataset, Record, RecordFilter, Snapshot, Store

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "GAP_ANSWER",
    "GAP_QUESTION",
    "Split",
    "add_record",
    "checked_fields",
    "conversation",
    "edit_record",
    "freeze",
    "frozen_row",
    "group_hash",
    "insertable",
    "is_ready",
    "is_unfilled",
    "plain_fields",
    "question",
    "split_of",
    "storable",
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

# What stands where somebody still has to write. The check for placeholders finds both.
GAP_QUESTION = "[Fill in a question that the context answers]"
GAP_ANSWER = "[Fill in the answer]"

Split = Literal["train", "validation", "test"]


def group_hash(instruction: str, context: str) -> str:
    """SHA-256 of the prompt, insensitive to case, white space and Unicode form: equal prompts share a split."""
    text = f"{instruction}\n{context}"
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def split_of(group: str) -> Split:
    """80 % train, 10 % validation, 10 % test, decided by the hash alone, so that it never changes."""
    bucket = int(group[:8], 16) % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def question(instruction: str, context: str = "") -> str:
    """What the person says to the model: the instruction and, under it, the text it is about."""
    return f"{instruction}\n\n{context}" if context else instruction


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """The conversation one record teaches."""
    if row.get("turns"):
        return [Message(**turn) for turn in row["turns"]]
    return [user(question(row["instruction"], row.get("context", ""))), assistant(row["response"])]


def checked_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The four fields and `turns`, trimmed. Raises InputError when a record would teach nothing.

    A conversation in `turns` has the word: instruction and response are read from it, and it becomes a plain record
    when it is one question and its answer.
    """
    if fields.get("turns"):
        said = [{"role": turn["role"], "content": storable(turn["content"])} for turn in fields["turns"]]
        return {**fields_of_turns(checked_turns(said)), "category": storable(str(fields.get("category") or ""))}
    clean: dict[str, Any] = {name: storable(str(fields.get(name) or "")) for name in FIELDS}
    for name in ("instruction", "response"):
        if not clean[name]:
            raise InputError(f"The {name} is empty. Write one, or leave the record out.")
    return {**clean, "turns": None}


def plain_fields(fields: Mapping[str, Any]) -> dict[str, str]:
    """The four fields of one question and its answer, trimmed, whatever else there is. Raises like `checked_fields`."""
    clean = checked_fields({name: fields.get(name) for name in FIELDS})
    return {name: clean[name] for name in FIELDS}


def storable(text: str) -> str:
    """Trimmed, and without what no database keeps: NUL, and half a character (a lone surrogate)."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode().strip()


def insertable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Checked fields with the group and the split that a new row needs; licence, state and provenance go along."""
    clean = checked_fields(fields)
    group = group_hash(clean["instruction"], clean["context"])
    more = {name: fields[name] for name in ("licence", "state", "source", "provenance") if fields.get(name)}
    return {**more, **clean, "group_hash": group, "split": split_of(group)}


def add_record(store: Store, dataset: Dataset, fields: Mapping[str, Any], *, author: str, source: str) -> None:
    """Append one record, for example an answer kept in the playground."""
    store.add_records(dataset.id, [insertable(fields)], author=author, source=source)


def edit_record(store: Store, record_id: int, revision: int, fields: Mapping[str, Any], *, author: str) -> Record:
    """Save an edit. The split stays where the record was born, so that nothing moves out of test by editing.

    Of a conversation whose `turns` are not given, instruction and response are the first question and the last answer.
    Raises InputError for a context of a conversation, which has no place for one.
    """
    before = store.record(record_id)
    if before.turns and "turns" not in fields:
        if str(fields.get("context") or "").strip():
            raise InputError("A conversation has no context of its own. Write it into the turn it belongs to.")
        ends = {_first_asked(before.turns): "instruction", _last_said(before.turns): "response"}
        turns = [
            {**t, "content": str(fields[ends[n]]) if n in ends else t["content"]} for n, t in enumerate(before.turns)
        ]
        fields = {**fields, "turns": turns}
    return store.edit_record(record_id, revision, checked_fields(fields), author=author)


def _first_asked(turns: Sequence[Mapping[str, str]]) -> int:
    return next(place for place, turn in enumerate(turns) if turn["role"] == "user")


def _last_said(turns: Sequence[Mapping[str, str]]) -> int:
    return max(place for place, turn in enumerate(turns) if turn["role"] == "assistant")


def is_unfilled(record: Record) -> bool:
    """Whether its question or its answer is still a gap: it goes into no snapshot, and no model is shown it."""
    return record.instruction == GAP_QUESTION or record.response == GAP_ANSWER


def is_ready(record: Record) -> bool:
    """Whether a snapshot would hold it: it is not rejected, and nothing of it waits to be filled in."""
    return record.state != "rejected" and not is_unfilled(record)


def freeze(store: Store, root: Path, dataset: Dataset, *, author: str, where: RecordFilter | None = None) -> Snapshot:
    """Freeze a dataset (or the part that `where` leaves) as `data:NAME@next`, without rejected records and those
    that nobody has filled in yet."""
    rows: Iterable[Record] = store.all_records(dataset.id)
    if where is not None:
        rows = store.some_records(store.record_ids(dataset.id, where))
    kept = (frozen_row(r) for r in rows if is_ready(r))
    return store.freeze(root, "data", dataset.name, kept, author=author, licence=dataset.licence)


def frozen_row(record: Record) -> dict[str, Any]:
    """A record as snapshots hold it. Nothing in it depends on when or where it was stored, so that equal records have
    equal hashes everywhere; what only some records have is there only for them.

    The fields of a conversation are its last question, what was said before it, and the last answer: so it can be an
    example or be asked like any other. What is learned from is `turns`.
    """
    more = {"turns": record.turns, "licence": record.licence}
    return {
        **{name: getattr(record, name) for name in FIELDS},
        **(_last_question(record.turns) if record.turns else {}),
        "split": record.split,
        "group": record.group_hash,
        **{name: value for name, value in more.items() if value},
    }


def _last_question(turns: Sequence[Mapping[str, str]]) -> dict[str, str]:
    said = _last_said(turns)
    asked = max(place for place, turn in enumerate(turns[:said]) if turn["role"] == "user")
    before = (f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns[:asked])
    return {
        "instruction": turns[asked]["content"],
        "context": "\n\n".join(before),
        "response": turns[said]["content"],
    }
