"""What changed between two snapshots: records added, removed and changed, and those that moved to another split.

A record is found again by its id. Where one side has no ids, or knows it by another (a snapshot that was restored gives
its records new ones), it is found by its text, and else by its question: the most alike of the same group. Every record
of either side is in exactly one place, so that the counts add up.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from studio.errors import InputError
from studio.instructions.records import frozen_row, is_ready
from studio.instructions.snapshots import lines_of
from studio.instructions.statistics.words import words
from studio.store import Dataset, Snapshot, Store

__all__ = ["TEXTS", "Change", "Difference", "compare", "compare_snapshots", "compare_with_now", "most_alike", "shown"]

Row: TypeAlias = Mapping[str, Any]

# What a change is shown by. Whatever else differs (a split, a group) changes no record.
TEXTS = ("instruction", "context", "response", "turns", "category", "licence")

_MOST_ALIKE = 2500  # pairs of one group that are compared word by word; beyond, they are taken in their order
_LETTERS = 4000  # of each text that decide which of a group are alike
_MOST_DIFFERENT = 50_000  # rows of either side that may differ: 40,000 of 100 words took 160 MB


@dataclass(frozen=True)
class Change:
    """A record in both snapshots, as it was and as it is; `fields` are those whose text differs, in the order shown."""

    before: Row
    after: Row
    fields: tuple[str, ...]

    @property
    def record(self) -> int | None:
        """Its id now; None in a snapshot without ids."""
        return self.after.get("record")

    @property
    def move(self) -> tuple[str, str] | None:
        """From which split to which, when it moved."""
        splits = (_split(self.before), _split(self.after))
        return None if splits[0] == splits[1] else splits


@dataclass(frozen=True)
class Difference:
    """`changed` have another text, `moved` another split (some are in both), `same` neither.

    before = removed + changed or moved + same, and after = added + changed or moved + same.
    """

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[Change, ...]
    moved: tuple[Change, ...]
    same: int

    @property
    def moves(self) -> dict[tuple[str, str], int]:
        """(from, to) -> how many records, most first."""
        return dict(Counter(change.move for change in self.moved if change.move).most_common())

    @property
    def fields(self) -> dict[str, int]:
        """Field -> how many records it changed in."""
        counts = Counter(field for change in self.changed for field in change.fields)
        return {field: counts[field] for field in TEXTS if counts[field]}

    @property
    def sentence(self) -> str:
        """One line for the page and the command line."""
        if not (self.added or self.removed or self.changed or self.moved):
            return f"The two are alike: {self.same:,} records."
        counts = f"{len(self.added):,} added, {len(self.removed):,} removed, {len(self.changed):,} changed"
        moves = "; ".join(f"{n:,} from {old} to {new}" for (old, new), n in self.moves.items())
        moved = f", {len(self.moved):,} moved between splits ({moves})" if moves else ""
        return f"{counts}{moved}, {self.same:,} as they were."


def compare(before: Iterable[Row], after: Iterable[Row]) -> Difference:
    """The way from one snapshot to the other; rows in the order of the side that they stand on."""
    match = _Match(list(before), list(after))
    match.by_id()
    match.by_text()
    match.by_group()
    return match.difference()


def compare_snapshots(root: Path, before: Snapshot, after: Snapshot) -> Difference:
    """The way from one snapshot to the other, in memory that grows only with what differs.

    Raises InputError when that is too much to be looked at, and StorageError for a file that is not what was frozen.
    """
    return _compare_lines(lambda: lines_of(root, before), lambda: lines_of(root, after))


def compare_with_now(store: Store, root: Path, before: Snapshot, dataset: Dataset) -> Difference:
    """The way from a snapshot to what one taken now would hold."""

    def now() -> Iterator[bytes]:
        for record in store.all_records(dataset.id):
            if is_ready(record):
                yield json.dumps(frozen_row(record), ensure_ascii=True, sort_keys=True).encode() + b"\n"

    return _compare_lines(lambda: lines_of(root, before), now)


def _compare_lines(before: Callable[[], Iterable[bytes]], after: Callable[[], Iterable[bytes]]) -> Difference:
    """Rows that are equal to the letter belong together and need not be read; what is left is compared as such."""
    waiting: dict[bytes, int] = {}
    for line in before():
        mark = _mark(line)
        waiting[mark] = waiting.get(mark, 0) + 1
    new, same = [], 0
    for line in after():
        mark = _mark(line)
        if waiting.get(mark):
            waiting[mark] -= 1
            same += 1
        else:
            new.append(line)
            _refuse_too_many(new)
    old = []
    for line in before():
        mark = _mark(line)
        if waiting.get(mark):
            waiting[mark] -= 1
            old.append(line)
            _refuse_too_many(old)
    found = compare(map(json.loads, old), map(json.loads, new))
    return replace(found, same=found.same + same)


def _mark(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _refuse_too_many(rows: Sequence[bytes]) -> None:
    if len(rows) > _MOST_DIFFERENT:
        raise InputError(
            f"More than {_MOST_DIFFERENT:,} records differ, which is too much to be looked at one by one. "
            "Choose two that are closer to each other."
        )


def shown(row: Row) -> dict[str, str]:
    """The texts of a row as a person reads them, for a word diff of two; turns as lines of who says what."""
    return {field: _shown(row, field) for field in TEXTS}


def _shown(row: Row, field: str) -> str:
    value = row.get(field)
    if field == "turns" and value:
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return str(value or "")


def _split(row: Row) -> str:
    return str(row.get("split") or "")


class _Match:
    """Pairs of places in the two snapshots, each place in one pair at most."""

    def __init__(self, before: Sequence[Row], after: Sequence[Row]) -> None:
        self._before, self._after = before, after
        self._old = dict.fromkeys(range(len(before)))  # without a partner, in order
        self._new = dict.fromkeys(range(len(after)))
        self._pairs: dict[int, int] = {}  # place after -> place before

    def by_id(self) -> None:
        places = {row["record"]: place for place, row in enumerate(self._before) if row.get("record") is not None}
        for place, row in enumerate(self._after):
            if row.get("record") is not None and (partner := places.get(row["record"])) in self._old:
                self._pair(partner, place)

    def by_text(self) -> None:
        """Equal texts; those in the same split first, so that a repeated text does not seem to move."""
        for with_split in (True, False):
            waiting = defaultdict(list)
            for place in reversed(self._old):
                waiting[_key(self._before[place], with_split)].append(place)
            for place in list(self._new):
                if partners := waiting.get(_key(self._after[place], with_split)):
                    self._pair(partners.pop(), place)

    def by_group(self) -> None:
        old, new = _grouped(self._before, self._old), _grouped(self._after, self._new)
        for group, places in new.items():
            partners = old.get(group, [])
            alike = most_alike([self._before[p] for p in partners], [self._after[p] for p in places])
            for partner, place in alike:
                self._pair(partners[partner], places[place])

    def difference(self) -> Difference:
        changed: list[Change] = []
        moved: list[Change] = []
        for place, partner in sorted(self._pairs.items()):
            before, after = self._before[partner], self._after[place]
            fields = tuple(field for field in TEXTS if _shown(before, field) != _shown(after, field))
            change = Change(before, after, fields)
            if fields:
                changed.append(change)
            if change.move:
                moved.append(change)
        touched = len(changed) + sum(not change.fields for change in moved)
        return Difference(
            tuple(self._after[place] for place in self._new),
            tuple(self._before[place] for place in self._old),
            tuple(changed),
            tuple(moved),
            len(self._pairs) - touched,
        )

    def _pair(self, before: int | None, after: int) -> None:
        assert before is not None
        self._pairs[after] = before
        del self._old[before], self._new[after]


def most_alike(old: Sequence[Row], new: Sequence[Row]) -> list[tuple[int, int]]:
    """Pairs of places, as many as the shorter side has: those with the most words in common first."""
    if len(old) * len(new) <= 1 or len(old) * len(new) > _MOST_ALIKE:
        return list(zip(range(len(old)), range(len(new)), strict=False))
    bags = [_bag(row) for row in old], [_bag(row) for row in new]
    likeness = sorted((-_likeness(bags[0][a], bags[1][b]), b, a) for a in range(len(old)) for b in range(len(new)))
    pairs: dict[int, int] = {}
    for _, b, a in likeness:
        if a not in pairs and b not in pairs.values():
            pairs[a] = b
    return list(pairs.items())


def _key(row: Row, with_split: bool) -> tuple[str, ...]:
    return (*(_shown(row, field) for field in TEXTS), _split(row) if with_split else "")


def _grouped(rows: Sequence[Row], places: Iterable[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place in places:
        if group := str(rows[place].get("group") or ""):
            found.setdefault(group, []).append(place)
    return found


def _bag(row: Row) -> Counter[str]:
    return Counter(words("\n".join(text[:_LETTERS] for text in shown(row).values())))


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    """Shared words through all words (Dice), 1 for equal ones."""
    whole = one.total() + other.total()
    return 2 * (one & other).total() / whole if whole else 1.0
