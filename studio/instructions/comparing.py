"""What changed between two snapshots: records added, removed and changed, and those that moved to another split.

A record is found again by its id. Where one side has no ids, or knows it by another (a snapshot that was restored gives
its records new ones), it is found by its text, and else by its question: the most alike of the same group. Every record
of either side is in exactly one place, so that the counts add up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from studio.instructions.statistics.words import words

__all__ = ["TEXTS", "Change", "Difference", "compare", "shown"]

Row: TypeAlias = Mapping[str, Any]

# What a change is shown by. Whatever else differs (a split, a group) changes no record.
TEXTS = ("instruction", "context", "response", "turns", "category", "licence")

_MOST_ALIKE = 2500  # pairs of one group that are compared word by word; beyond, they are taken in their order
_LETTERS = 4000  # of each text that decide which of a group are alike


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
            for partner, place in self._most_alike(old.get(group, []), places):
                self._pair(partner, place)

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

    def _most_alike(self, old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
        if len(old) * len(new) <= 1 or len(old) * len(new) > _MOST_ALIKE:
            return list(zip(old, new, strict=False))
        bags = {("old", p): _bag(self._before[p]) for p in old} | {("new", p): _bag(self._after[p]) for p in new}
        likeness = sorted((-_likeness(bags["old", a], bags["new", b]), b, a) for a in old for b in new)
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
