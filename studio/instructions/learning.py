"""One record looked at closely: what a model would learn from it, what checks found in it, what became of it.

What a model would learn is told by its own tokenizer in the engine, with the labels of training and with training's
rule for records that are too long: they are left out whole, not cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.backends import Backend, Mark
from studio.errors import Conflict, InputError, ModelError
from studio.instructions.checks import Check, RecordCheck, Remedy, check_from, check_kinds
from studio.instructions.records import conversation, frozen_row, is_unfilled
from studio.specs import Message, ModelRef
from studio.store import CheckRun, Comment, Edit, FlagRow, Record, RecordChange, Store

__all__ = [
    "Find",
    "Lesson",
    "Version",
    "can_learn",
    "comment",
    "finds_of",
    "lesson",
    "origin",
    "restore",
    "talk_of",
    "versions_of",
    "without_use",
]

_LONGEST_LOOKED_AT = 2_000_000  # characters; beyond, no model that is tuned here reads it whole
_LONGEST_COMMENT = 10_000
_TRACKED = ("instruction", "context", "response", "category", "turns", "licence", "state", "split")


# -- what a model learns ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """A record as one model learns it: its first tokens, and whether a run takes it at all.

    `longest` is the most tokens that a run takes of one record: what was asked for, or the model's own window.
    """

    model: ModelRef
    marks: tuple[Mark, ...]
    tokens: int
    learned: int
    longest: int
    is_windows: bool  # whether it is the model's window that sets the bound

    @property
    def fits(self) -> bool:
        return self.tokens <= self.longest

    @property
    def sentence(self) -> str:
        """How much of it is learned, or that nothing is, and why."""
        if self.fits:
            return f"{self.tokens:,} tokens, {self.learned:,} of them learned. It fits in {self.longest:,}."
        bound = f"{self.model} reads at once" if self.is_windows else "a run takes of one record"
        cure = "choose a model that reads more" if self.is_windows else "raise the longest record"
        return (
            f"{self.tokens:,} tokens, {self.tokens - self.longest:,} more than {bound} ({self.longest:,}). A run leaves it "
            f"out whole, so none of its {self.learned:,} answer tokens is learned. Shorten it, or {cure}."
        )


def can_learn(ref: ModelRef) -> bool:
    """Whether a model has weights and a tokenizer here, which tuning needs."""
    return ref.kind not in ("echo", "endpoint")


async def lesson(record: Record, backend: Backend, longest: int) -> Lesson:
    """What a run with records of at most `longest` tokens teaches the backend's model with this record.

    Raises ModelError for a model without a tokenizer here and InputError for text that cannot be looked at.
    """
    if not can_learn(backend.ref):
        raise ModelError(
            f"{backend.ref} has no tokenizer on this machine, so there is nothing to see of what it would learn. "
            "Choose a model on this machine."
        )
    if longest < 1:
        raise InputError(f"The longest record has {longest} tokens. Write a number from 1.")
    if record.letters > _LONGEST_LOOKED_AT:
        raise InputError(
            f"Record {record.id} has {record.letters:,} characters, more than any model here learns at once. "
            "A run leaves it out whole. Shorten it, or divide it into several records."
        )
    told = await backend.marks(talk_of(record))
    bound = min(longest, told.window)
    return Lesson(backend.ref, told.marks, told.tokens, told.learned, bound, told.window < longest)


def talk_of(record: Record) -> list[Message]:
    """The conversation that training reads, as it would be frozen."""
    return conversation(frozen_row(record))


def without_use(record: Record) -> str:
    """Why no run learns from this record, whatever its length; '' when runs do."""
    if record.state == "rejected":
        return "No run learns from it: it is rejected, and snapshots leave it out."
    if is_unfilled(record):
        return "No run learns from it yet: its question or its answer still has to be filled in."
    return {
        "validation": "No run learns from it: it is in validation, so it only checks runs on their way.",
        "test": "No run learns from it: it is in test, which is kept to measure what was learned.",
        "excluded": "No run learns from it: it is excluded from all splits.",
    }.get(record.split, "")


# -- what checks found --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Find:
    """What one check found in a record, and what one click can do about it.

    `is_old`: the record changed since the check ran, and whether it still holds only another run can tell.
    """

    check: str
    title: str
    explains: str
    remedies: tuple[Remedy, ...]
    flags: tuple[FlagRow, ...]
    is_old: bool

    @property
    def others(self) -> tuple[int, ...]:
        """Records that this one was compared with."""
        found: dict[int, None] = {}
        for flag in self.flags:
            details = flag.details or {}
            named = (details.get("nearest"), details.get("against"), *details.get("others", ()))
            found |= {key: None for key in named if isinstance(key, int) and key != flag.record_id}
        return tuple(found)


def finds_of(store: Store, record: Record) -> list[Find]:
    """What the checks found in a record that still holds, in the order of the checks.

    A check that looks at single records looks again when the record changed since it ran, so that what was mended is
    gone at once.
    """
    by_check: dict[str, list[FlagRow]] = {}
    for flag in store.flags_of([record.id]).get(record.id, []):
        by_check.setdefault(flag.check, []).append(flag)
    if not by_check:
        return []
    runs = store.check_runs(record.dataset_id)
    order = {name: place for place, name in enumerate(check_kinds())}
    finds = [
        _find(record, name, by_check[name], runs.get(name))
        for name in sorted(by_check, key=lambda name: (order.get(name, len(order)), name))
    ]
    return [find for find in finds if find.flags]


def _find(record: Record, name: str, flags: Sequence[FlagRow], run: CheckRun | None) -> Find:
    if name not in check_kinds():
        return Find(name, name, "This check is no longer there.", (), tuple(flags), True)
    check = check_from(name, run.settings if run else None)
    is_old = run is None or record.updated_at > run.until
    if is_old and (fresh := _looked_again(check, record)) is not None:
        flags, is_old = [flag for flag in flags if (flag.field, flag.start, flag.end) in fresh], False
    return Find(name, check.title, check.explains, check.remedies, tuple(flags), is_old)


def _looked_again(check: Check, record: Record) -> set[tuple[str, int | None, int | None]] | None:
    """Where the check finds something now; None for one that cannot tell from this record alone."""
    if not isinstance(check, RecordCheck):
        return None
    try:
        return {(flag.field, flag.start, flag.end) for flag in check.look(record)}
    except InputError:  # it counts with a model's tokenizer
        return None


# -- comments -----------------------------------------------------------------------------------------------------


def comment(store: Store, record_id: int, text: str, *, author: str) -> Comment:
    """Say something about a record to whoever opens it. Raises InputError for nothing, and for too much."""
    text = text.replace("\x00", "").strip()
    if not text:
        raise InputError("The comment is empty. Write it first.")
    if len(text) > _LONGEST_COMMENT:
        raise InputError(f"The comment has {len(text):,} characters, and {_LONGEST_COMMENT:,} fit. Shorten it.")
    return store.comment(record_id, text, author=author)


# -- history ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A record as it was, or is. `title` says at which stroke it was made, '' where that is not known; `same_as` is the
    newest earlier version with the same content, as after an undo."""

    number: int
    fields: Mapping[str, Any]
    author: str
    at: float
    title: str
    is_current: bool
    is_removed: bool
    same_as: int | None

    def texts(self, as_talk: bool) -> dict[str, str]:
        """Field -> text to read and compare; a conversation as one text, also a plain record beside one."""
        told = {name: str(self.fields.get(name) or "") for name in ("category", "licence", "state", "split")}
        if self.is_removed:
            told["state"] = "removed"
        if not as_talk:
            return {name: str(self.fields.get(name) or "") for name in ("instruction", "context", "response")} | told
        spoken = (f"{turn.role.capitalize()}: {turn.content}" for turn in conversation(self.fields))
        return {"conversation": "\n\n".join(spoken), **told}

    @property
    def has_turns(self) -> bool:
        return bool(self.fields.get("turns"))


def versions_of(store: Store, record: Record) -> list[Version]:
    """All versions of a record, the newest first."""
    earlier = store.record_history(record.id)
    strokes = store.edits_of([row["edit_id"] for row in earlier if row["edit_id"]])
    # A row names the edit that ended it, which is the one that made the version after it.
    made_by = {row["revision"] + 1: row["edit_id"] for row in earlier}
    now = {name: getattr(record, name) for name in _TRACKED}
    rows = [
        (row["revision"], _fields(row["fields"]), bool(row["fields"].get("removed")), row["author"], row["created_at"])
        for row in reversed(earlier)
    ]
    rows.append((record.revision, now, False, record.author, record.updated_at))
    versions: list[Version] = []
    for number, fields, is_removed, author, at in rows:
        same = next((v.number for v in reversed(versions) if (v.fields, v.is_removed) == (fields, is_removed)), None)
        title = _stroke(strokes, made_by.get(number))
        versions.append(Version(number, fields, author, at, title, number == record.revision, is_removed, same))
    return versions[::-1]


def restore(store: Store, record_id: int, number: int, *, seen: int, author: str) -> Edit:
    """Make a version the newest one again, with all of its fields, as a stroke that undo takes back.

    Raises Conflict when the record is no longer at the revision that was `seen`.
    """
    record = store.record(record_id)
    if record.revision != seen:
        raise Conflict(
            f"Record {record_id} was changed by {record.author} meanwhile (revision {record.revision}, you saw {seen}). "
            "Nothing was restored. Look at its history again, then restore."
        )
    version = next((v for v in versions_of(store, record) if v.number == number), None)
    if version is None or version.is_removed:
        raise InputError(f"Record {record_id} has no version {number} that could be restored.")
    if all(version.fields[name] == getattr(record, name) for name in version.fields):
        raise InputError(f"Version {number} says the same as record {record_id} does now, so nothing was changed.")
    change = RecordChange(record_id, dict(version.fields), seen)
    title = f"Restored version {number} of record {record_id}"
    return store.change_records(record.dataset_id, title, [change], author=author)


def _fields(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kept[name] for name in _TRACKED if name in kept}


def _stroke(strokes: Mapping[int, Edit], edit_id: int | None) -> str:
    edit = strokes.get(edit_id) if edit_id is not None else None
    if edit is None:
        return ""
    return {"undo": "Undone: ", "redo": "Done again: "}.get(edit.kind, "") + edit.title


# -- where it came from -------------------------------------------------------------------------------------------


def origin(store: Store, record: Record) -> str:
    """Where a record came from, in one or two sentences."""
    made = record.provenance or {}
    if made.get("model"):
        return _drafted(store, made)
    if copied := re.fullmatch(r"copy of record (\d+)", record.source):
        return f"A copy of record {copied[1]}."
    if answered := re.match(r"(corrected )?answer (\d+) of (\S+)", record.source):
        by_hand = ", corrected by a person" if answered[1] else ""
        return f"An answer of {answered[3]}, kept in the Playground{by_hand}."
    if record.source in ("", "hand", "written here"):
        return "Written here."
    if record.source == "example":
        return "Part of the example that comes with the studio."
    row = f"Row {made['row']} of" if made.get("row") else "Came in with"
    return f"{row} {record.source}."


def _drafted(store: Store, made: Mapping[str, Any]) -> str:
    """A model wrote it: which, in which run, from what."""
    run = f" in run {made['job']}" if made.get("job") else ""
    way = {
        "self-instruct": "after tasks of this dataset",
        "from-documents": "from your documents",
        "paraphrase": "as another wording",
    }.get(str(made.get("way")), str(made.get("way") or "").replace("-", " "))
    said = f"Drafted by {made['model']}{run}{f', {way}' if way else ''}."
    if seeds := made.get("seeds"):
        said += f" It was shown {_listed('record', seeds)}."
    if passages := made.get("passages"):
        said += f" It read {_places(store, passages)}."
    return said


def _places(store: Store, passages: Sequence[int]) -> str:
    """Document and place of passages; of documents that were removed since, only how many there were."""
    found = store.live_passages_of(list(passages))
    if not found:
        return f"{_listed('passage', passages)} of a document that was removed since"
    places = [f"{store.document(p.document_id).name}{f' ({p.place})' if p.place else ''}" for p in found]
    return ", ".join(dict.fromkeys(places))


def _listed(what: str, ids: Sequence[int]) -> str:
    return f"{what}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
