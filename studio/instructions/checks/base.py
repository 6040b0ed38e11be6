"""What every check is: a name, words for people, bounds that a person can set, what it finds, and how it mends.

A check is a pure function over records: it reads no database and changes nothing. One that looks at each record by
itself is a `RecordCheck`, so that after an edit only that record is looked at again; one that has to see all of them
is a `DatasetCheck`. The shortest check is one function:

    @record_check(name="shouting", title="Shouting", explains="Answers in capital letters. They teach the model to shout.")
    def shouting(record: Record) -> Iterator[Finding]:
        if record.response.isupper():
            yield Finding("response", "The whole answer is in capital letters.")
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from studio.errors import InputError
from studio.store import Record

__all__ = [
    "EXCLUDE",
    "MOST",
    "NOTHING",
    "REJECT",
    "REMOVE",
    "Check",
    "DatasetCheck",
    "Finding",
    "Flag",
    "Mended",
    "RecordCheck",
    "Remedy",
    "answers",
    "live",
    "mended_record",
    "prompt_of",
    "record_check",
    "rewritten",
    "texts",
]

MOST = 1000  # finds in one field that are listed one by one; a cell of 10 MB can hold a million addresses


@dataclass(frozen=True)
class Finding:
    """One find in a record: the field ('' for all of it), a short sentence, and the span of characters it is about."""

    field: str
    note: str
    start: int | None = None
    end: int | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Flag:
    """A find with the record it is in (0: the dataset as a whole) and the check that made it.

    `field` is instruction, context, response, category, turns.N, or '' for the whole record.
    """

    record_id: int
    check: str
    field: str
    note: str
    start: int | None = None
    end: int | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Remedy:
    """What one click does about the finds of a check."""

    name: str
    title: str
    explains: str


@dataclass(frozen=True)
class Mended:
    """What becomes of a record; of several only one is set, and of none nothing changes."""

    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remove: bool = False
    split: Literal["excluded"] | None = None
    state: Literal["rejected"] | None = None

    def __bool__(self) -> bool:
        return self != NOTHING


NOTHING = Mended()

REJECT = Remedy(
    "reject", "Reject", "The record stays in the dataset, marked as rejected, and is left out of snapshots."
)
REMOVE = Remedy("remove", "Remove", "The record leaves the dataset. Undo brings it back.")
EXCLUDE = Remedy(
    "exclude",
    "Take out of validation and test",
    "The record moves out of validation or test into 'excluded'. A training record is never moved.",
)


class Check(BaseModel):
    """What both kinds share. A subclass is found by its `name`; its fields are the bounds that a person can set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    title: ClassVar[str]
    explains: ClassVar[str]
    remedies: ClassVar[tuple[Remedy, ...]] = (REJECT, REMOVE)
    version: ClassVar[int] = 1  # raised when the same settings come to find something else

    @property
    def stamp(self) -> str:
        """Changes whenever finds made before can no longer be relied on: with the version and the settings."""
        settings = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.name}-{self.version}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    def mend(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        """What the remedy makes of the record; nothing where none of the flags holds any longer."""
        known = [r.name for r in self.remedies]
        if remedy not in known:
            raise InputError(
                f"'{self.title}' has no remedy '{remedy}'. It has: {', '.join(known) or 'none, look at them one by one'}."
            )
        here = [flag for flag in flags if flag.record_id == record.id and flag.check == self.name]
        if not (here := self._still_true(record, here)):
            return NOTHING
        if remedy == REMOVE.name:
            return Mended(remove=True)
        if remedy == REJECT.name:
            return NOTHING if record.state == "rejected" else Mended(state="rejected")
        if remedy == EXCLUDE.name:
            return Mended(split="excluded") if record.split in ("validation", "test") else NOTHING
        return self._rewrite(record, here, remedy)

    def _still_true(self, record: Record, flags: list[Flag]) -> list[Flag]:
        return flags

    def _rewrite(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        """What a remedy of the check's own does. Only checks that have one write it."""
        raise NotImplementedError(f"{type(self).__name__} says it has the remedy '{remedy}' but not what it does.")

    def _flag(self, record_id: int, found: Finding) -> Flag:
        return Flag(record_id, self.name, found.field, found.note, found.start, found.end, found.details)


class RecordCheck(Check):
    """A check that looks at one record at a time."""

    def find(self, record: Record) -> Iterable[Finding]:
        """What is to be said about a record."""
        raise NotImplementedError

    def look(self, record: Record) -> list[Flag]:
        return [self._flag(record.id, found) for found in self.find(record)]

    def look_at(self, records: Sequence[Record]) -> Iterator[Flag]:
        """The flags of a batch: what a runner calls, because some checks are much quicker with many at once."""
        for record in records:
            yield from self.look(record)

    def _still_true(self, record: Record, flags: list[Flag]) -> list[Flag]:
        # A flag may be older than the text: it counts only while a fresh look finds the same at the same place.
        if not flags:
            return []
        asked, fresh = {_place(flag) for flag in flags}, self.look(record)
        return [flag for flag in fresh if _place(flag) in asked]


class DatasetCheck(Check):
    """A check that has to see all records.

    `records` is iterated more than once: a list, or an object whose `__iter__` reads anew; not a generator. `memory` is
    a folder for what spares work at the next run; it may be deleted at any time.
    """

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        raise NotImplementedError


def record_check(
    *, name: str, title: str, explains: str, remedies: tuple[Remedy, ...] = (REJECT, REMOVE), version: int = 1
) -> Callable[[Callable[[Record], Iterable[Finding]]], type[RecordCheck]]:
    """Make a check of one function that yields findings."""

    def made(find: Callable[[Record], Iterable[Finding]]) -> type[RecordCheck]:
        words = {"name": name, "title": title, "explains": explains, "remedies": remedies, "version": version}
        parts = {"__module__": find.__module__, "__doc__": find.__doc__, "find": lambda self, record: find(record)}
        return types.new_class(find.__name__, (RecordCheck,), exec_body=lambda body: body.update(words | parts))

    return made


def live(records: Iterable[Record]) -> Iterator[Record]:
    """Those that can still reach a snapshot: a rejected record is nobody's duplicate."""
    if iter(records) is records:
        raise TypeError(
            "A dataset check reads the records more than once: give a list or an object that can be reread."
        )
    return (record for record in records if record.state != "rejected")


def texts(record: Record) -> list[tuple[str, str]]:
    """Every text of a record with the field it is in; of a conversation the turns, which hold all of it."""
    if record.turns is not None:
        return [(f"turns.{n}", turn["content"]) for n, turn in enumerate(record.turns)]
    return [("instruction", record.instruction), ("context", record.context), ("response", record.response)]


def answers(record: Record) -> list[tuple[str, str]]:
    """What the model learns to say, with the field it is in."""
    if record.turns is None:
        return [("response", record.response)]
    return [(f"turns.{n}", turn["content"]) for n, turn in enumerate(record.turns) if turn["role"] == "assistant"]


def prompt_of(record: Record) -> str:
    """Everything that stands before the last answer."""
    if record.turns is None:
        return f"{record.instruction}\n{record.context}"
    return "\n".join(turn["content"] for turn in record.turns[:-1])


def rewritten(record: Record, new: Mapping[str, str]) -> Mended:
    """The record with new texts by field; in a conversation the first question and the last answer follow."""
    changed = {name: text for name, text in new.items() if text != dict(texts(record))[name]}
    if not changed:
        return NOTHING
    if record.turns is None:
        return Mended(changed)
    turns = [{**turn, "content": changed.get(f"turns.{n}", turn["content"])} for n, turn in enumerate(record.turns)]
    asked = next((turn["content"] for turn in turns if turn["role"] == "user"), record.instruction)
    said = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), record.response)
    ends = {"instruction": asked, "response": said}
    return Mended({"turns": turns, **{name: text for name, text in ends.items() if text != getattr(record, name)}})


def mended_record(record: Record, mended: Mended) -> Record:
    """The record as it is after a remedy that keeps it."""
    fields: dict[str, Any] = dict(mended.fields)
    fields |= {name: value for name, value in (("split", mended.split), ("state", mended.state)) if value is not None}
    return replace(record, **fields)


def _place(flag: Flag) -> tuple[str, int | None, int | None]:
    return flag.field, flag.start, flag.end
