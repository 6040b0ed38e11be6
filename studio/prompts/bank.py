"""The example bank: how examples come in, and the watch that no evaluation item is ever among them.

An example that is also a question of an evaluation set teaches the answer that it is measured on. So a question that
the studio holds out (every item of an evaluation set, every row outside the training split) is refused by name when it
comes in, and again whenever examples are chosen, since a set may have been frozen after the bank was filled.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import Conflict, InputError, StorageError
from studio.instructions import group_hash
from studio.instructions.records import plain_fields
from studio.prompts.examples import choose_examples
from studio.specs import SnapshotRef
from studio.store import Example, Snapshot, Store, read_rows

__all__ = [
    "LARGEST_BANK",
    "Filled",
    "HeldOut",
    "Leak",
    "Place",
    "Pool",
    "Refused",
    "add_example",
    "edit_example",
    "fill_bank",
    "held_out",
    "leaks",
    "pool_of",
]

LARGEST_BANK = 2_000  # a page draws and a selector reads all of them at every key that is pressed
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Place:
    """Where a question is held out: the row (from 1) of a snapshot, and its split ('' in an evaluation set)."""

    snapshot: SnapshotRef
    row: int
    split: str = ""

    @property
    def words(self) -> str:
        return f"row {self.row} of {self.snapshot}" + (f" ({self.split})" if self.split else "")


@dataclass(frozen=True)
class HeldOut:
    """Every question that no prompt may show, by group; `unread` says which sets could not be looked into."""

    places: tuple[Mapping[str, Place], ...] = ()
    unread: tuple[str, ...] = ()

    def among(self, groups: Mapping[str, Any]) -> dict[str, Place]:
        """Which of these groups are held out, and the first place where."""
        found: dict[str, Place] = {}
        for places in self.places:
            for group in groups.keys() & places.keys():
                found.setdefault(group, places[group])
        return found


@dataclass(frozen=True)
class Leak:
    """An example of the bank that a model would be measured on."""

    example: Example
    place: Place

    @property
    def sentence(self) -> str:
        return f"{_quoted(self.example.instruction)} is {self.place.words}, so no prompt may show it. Remove it."


@dataclass(frozen=True)
class Refused:
    """A training row (from 1) that was left out of a bank since it is held out elsewhere."""

    row: int
    instruction: str
    place: Place

    @property
    def sentence(self) -> str:
        return f"Row {self.row} ({_quoted(self.instruction)}) is also {self.place.words}."


@dataclass(frozen=True)
class Filled:
    """What became of a snapshot's rows: added, in the bank already (or twice in the snapshot), outside the training
    split, over the limit, or held out elsewhere."""

    added: int
    present: int
    other_splits: int
    left_out: int
    refused: tuple[Refused, ...]
    unread: tuple[str, ...]

    @property
    def sentence(self) -> str:
        parts = [f"Added {self.added:,} examples."]
        if self.present:
            parts.append(f"{self.present:,} were there already.")
        if self.other_splits:
            parts.append(f"{self.other_splits:,} rows are kept for validation and test.")
        if self.left_out:
            parts.append(f"{self.left_out:,} more did not fit: a bank holds {LARGEST_BANK:,}.")
        if self.refused:
            parts.append(f"{len(self.refused):,} are held out. {self.refused[0].sentence}")
        return " ".join([*parts, *self.unread])


@dataclass(frozen=True)
class Pool:
    """What a selector may choose from, in the bank's order, and the examples that were refused."""

    examples: tuple[Example, ...]
    leaks: tuple[Leak, ...]
    unread: tuple[str, ...]


def fill_bank(store: Store, root: Path, bank: str, snapshot: str, *, author: str) -> Filled:
    """Add the training rows of a `data:` snapshot, in its order, in one go. What is there already is skipped.

    Where more rows fit than the bank has room for, all categories get their share. Raises InputError for a snapshot
    of another kind or without training rows, and for a full bank.
    """
    name = _bank_name(bank)
    rows = _training_rows(root, store.snapshot(snapshot))
    held = held_out(store, root)
    candidates, refused = _sifted(rows.training, held)
    known = {example.group_hash for example in store.bank_examples(name)}
    fresh = [row for group, row in candidates.items() if group not in known]
    fitting = _fitting(name, fresh, LARGEST_BANK - len(known))
    added = store.add_examples(name, fitting, author=author, source=snapshot)
    left_out = len(fresh) - len(fitting)
    return Filled(
        added=len(added),
        present=len(rows.training) - len(refused) - left_out - len(added),
        other_splits=rows.others,
        left_out=left_out,
        refused=tuple(refused),
        unread=held.unread,
    )


def add_example(
    store: Store, root: Path, bank: str, fields: Mapping[str, str], *, author: str, source: str = ""
) -> Example:
    """Write one by hand, at the end of the bank.

    Raises InputError when instruction or response is empty, when the question is held out or the bank is full, and
    Conflict when it is there already.
    """
    name, row = _bank_name(bank), _checked(store, root, fields)
    known = store.bank_examples(name)
    if len(known) >= LARGEST_BANK:
        raise _full(name)
    added = store.add_examples(name, [row], author=author, source=source)
    if not added:
        raise Conflict(f"Bank '{name}' has an example with this question already. Edit that one, or ask another.")
    return store.bank_example(added[0])


def edit_example(
    store: Store, root: Path, example_id: int, seen: float, fields: Mapping[str, str], *, author: str
) -> Example:
    """Save new words; `seen` is the `updated_at` of the words that were edited. Raises what `add_example` raises."""
    return store.edit_example(example_id, seen, _checked(store, root, fields), author=author)


def held_out(store: Store, root: Path) -> HeldOut:
    """Every question of every evaluation set, and every row that is not for training. Read once per snapshot."""
    places, unread = [], []
    for kind in ("eval", "data", "prompts"):
        for snapshot in store.snapshots(kind):
            try:
                places.append(_places(root, snapshot))
            except StorageError as error:
                unread.append(f"{snapshot.ref} was not looked into: {error}")
    return HeldOut(tuple(places), tuple(unread))


def leaks(examples: Sequence[Example], held: HeldOut) -> list[Leak]:
    """The examples that are held out, in their order; ask again whenever examples are chosen."""
    found = held.among({example.group_hash: example for example in examples})
    return [Leak(example, found[example.group_hash]) for example in examples if example.group_hash in found]


def pool_of(store: Store, root: Path, bank: str) -> Pool:
    """The examples of a bank, on and off, without those that are held out."""
    examples, held = store.bank_examples(bank), held_out(store, root)
    found = leaks(examples, held)
    leaked = {leak.example.id for leak in found}
    return Pool(tuple(e for e in examples if e.id not in leaked), tuple(found), held.unread)


@dataclass(frozen=True)
class _Rows:
    training: Sequence[tuple[int, Mapping[str, Any]]]  # the row's number from 1, and the row
    others: int


def _training_rows(root: Path, snapshot: Snapshot) -> _Rows:
    if snapshot.kind != "data":
        raise InputError(f"{snapshot.ref} holds no answers to show. Choose a snapshot like data:brackenfold@1.")
    rows = read_rows(root, snapshot)
    training = [(number, row) for number, row in enumerate(rows, 1) if row.get("split", "train") == "train"]
    if not training:
        raise InputError(f"None of the {len(rows)} rows of {snapshot.ref} is for training. Choose another snapshot.")
    return _Rows(training, len(rows) - len(training))


def _sifted(
    rows: Sequence[tuple[int, Mapping[str, Any]]], held: HeldOut
) -> tuple[dict[str, dict[str, str]], list[Refused]]:
    """One row per group that may be shown, and those that may not.

    A record keeps the group it was born with when its words are edited, so both of its groups are looked at.
    """
    groups = {number: _groups(row) for number, row in rows}
    found = held.among({group: None for pair in groups.values() for group in pair})
    candidates: dict[str, dict[str, str]] = {}
    refused = []
    for number, row in rows:
        place = next((found[group] for group in groups[number] if group in found), None)
        if place is not None:
            refused.append(Refused(number, str(row["instruction"]), place))
        else:
            now = groups[number][0]
            candidates.setdefault(now, {**plain_fields(row), "group_hash": now})
    return candidates, refused


def _groups(row: Mapping[str, Any]) -> list[str]:
    """The group of a row's words, and the one it was frozen with, where these differ."""
    now = group_hash(str(row["instruction"]), str(row.get("context") or ""))
    return list(dict.fromkeys([now, str(row.get("group") or now)]))


def _fitting(bank: str, rows: Sequence[dict[str, str]], room: int) -> Sequence[dict[str, str]]:
    if not rows or len(rows) <= room:
        return rows
    if room <= 0:
        raise _full(bank)
    chosen = {row["group_hash"] for row in choose_examples(rows, room)}
    return [row for row in rows if row["group_hash"] in chosen]


def _checked(store: Store, root: Path, fields: Mapping[str, str]) -> dict[str, str]:
    """The row to store. Raises InputError for an empty one and for one that is held out."""
    clean = {**plain_fields(fields), "reasoning": str(fields.get("reasoning") or "").strip()}
    group = group_hash(clean["instruction"], clean["context"])
    if place := held_out(store, root).among({group: None}).get(group):
        raise InputError(
            f"This question is {place.words}, which models are measured on. An example would give the answer away: "
            "write another one."
        )
    return {**clean, "group_hash": group}


def _bank_name(name: str) -> str:
    clean = " ".join(name.split())
    if not clean or len(clean) > _LONGEST_NAME:
        raise InputError(
            f"'{clean[:_LONGEST_NAME]}' cannot name a bank: a name has 1 to {_LONGEST_NAME} letters. Write a shorter one."
            if clean
            else "The bank has no name. Write one, for example 'House style'."
        )
    return clean


def _full(bank: str) -> InputError:
    return InputError(f"Bank '{bank}' is full: it holds {LARGEST_BANK:,} examples. Remove some, or fill another bank.")


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:60]}…”" if len(line) > 61 else f"“{line}”"


# Snapshots never change, so one look at each is enough; the number is far above what a workspace has.
@functools.lru_cache(maxsize=1024)
def _places(root: Path, snapshot: Snapshot) -> Mapping[str, Place]:
    places: dict[str, Place] = {}
    for number, row in enumerate(read_rows(root, snapshot), 1):
        split = "" if snapshot.kind == "eval" else str(row.get("split", "train"))
        if split != "train":
            for group in _groups(row):
                places.setdefault(group, Place(snapshot.ref, number, split))
    return places
