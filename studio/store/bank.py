"""Worked examples to show in prompts, in banks that people name; a bank is there as long as it holds examples.

Positions are doubles, so that a move writes one row: the example goes half-way between its new neighbours. Switching,
locking and moving leave `updated_at` alone, which is the time of the words and tells two editors apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from studio.errors import Conflict, InputError, NotFound
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["EXAMPLE_FIELDS", "Bank", "BankVerbs", "Example"]

_BANK_KEY = 0x1ADDEB  # PostgreSQL advisory lock: additions and moves go one at a time, so that no place is given twice

EXAMPLE_FIELDS = ("instruction", "context", "reasoning", "response", "category")

Side = Literal["before", "after"]


@dataclass(frozen=True)
class Example:
    """A question and the answer it should get; `reasoning` is for prompts that think first.

    A locked example is in every prompt, one that is off in none, and off wins. `source` names the snapshot it came
    from, or is '' when it was written by hand.
    """

    id: int
    bank: str
    instruction: str
    context: str
    reasoning: str
    response: str
    category: str
    group_hash: str
    source: str
    position: float
    is_on: bool
    is_locked: bool
    author: str
    created_at: float
    updated_at: float

    @property
    def fields(self) -> dict[str, str]:
        """The words alone, as forms and templates take them."""
        return {name: getattr(self, name) for name in EXAMPLE_FIELDS}


@dataclass(frozen=True)
class Bank:
    """How many examples a bank holds; `locked` counts those that are on as well."""

    name: str
    examples: int
    on: int
    locked: int


class BankVerbs(Database):
    def banks(self) -> list[Bank]:
        """By name."""
        table = t.bank_examples
        on = sa.func.sum(sa.case((table.c.is_on, 1), else_=0))
        locked = sa.func.sum(sa.case((sa.and_(table.c.is_on, table.c.is_locked), 1), else_=0))
        query = sa.select(table.c.bank, sa.func.count(), on, locked).group_by(table.c.bank).order_by(table.c.bank)
        with self._read() as c:
            return [Bank(name, int(n), int(on), int(locked)) for name, n, on, locked in c.execute(query)]

    def bank_examples(self, bank: str) -> list[Example]:
        """In the bank's order; a bank that nobody filled has none."""
        with self._read() as c:
            return _in_order(c, bank)

    def bank_example(self, example_id: int) -> Example:
        with self._read() as c:
            return _example(c, example_id)

    def add_examples(self, bank: str, rows: Sequence[Mapping[str, str]], *, author: str, source: str = "") -> list[int]:
        """Append rows (an example's fields and its `group_hash`); the ids of those whose group was not in the bank.

        All of them or none, in their order.
        """
        table = t.bank_examples
        with self._write() as c:
            self._take_turns(c, _BANK_KEY)
            present = set(c.execute(sa.select(table.c.group_hash).where(table.c.bank == bank)).scalars())
            fresh: dict[str, Mapping[str, str]] = {}
            for row in rows:
                if row["group_hash"] not in present:
                    fresh.setdefault(row["group_hash"], row)
            if not fresh:
                return []
            last = c.execute(sa.select(sa.func.max(table.c.position)).where(table.c.bank == bank)).scalar_one() or 0.0
            at = now()
            made = [
                {
                    **_words(row),
                    "bank": bank,
                    "group_hash": row["group_hash"],
                    "source": source,
                    "position": last + place,
                    "author": author,
                    "created_at": at,
                    "updated_at": at,
                }
                for place, row in enumerate(fresh.values(), 1)
            ]
            statement = table.insert().returning(table.c.id, sort_by_parameter_order=True)
            return list(c.execute(statement, made).scalars())

    def edit_example(self, example_id: int, seen: float, row: Mapping[str, str], *, author: str) -> Example:
        """Save new words (and their `group_hash`); `seen` is the `updated_at` of the words that were edited.

        Raises Conflict when somebody else saved meanwhile, or when the question is in the bank already.
        """
        table = t.bank_examples
        with self._write() as c:
            self._take_turns(c, _BANK_KEY)
            before = _example(c, example_id)
            if before.updated_at != seen:
                raise Conflict(
                    f"{before.author} changed this example while you were editing. Your text is still in the form: "
                    "copy what you need, open the example again and save."
                )
            twin = c.execute(
                sa.select(table.c.id).where(
                    table.c.bank == before.bank, table.c.group_hash == row["group_hash"], table.c.id != example_id
                )
            ).scalar()
            if twin is not None:
                raise Conflict(
                    f"Bank '{before.bank}' has an example with this question already (example {twin}). "
                    "Edit that one, or ask something else here."
                )
            changed = {k: v for k, v in _words(row).items() if getattr(before, k) != v}
            if changed:
                # Two clocks may show the same moment; the words still changed.
                at = max(now(), math.nextafter(before.updated_at, math.inf))
                new = {**changed, "group_hash": row["group_hash"], "author": author, "updated_at": at}
                c.execute(table.update().where(table.c.id == example_id).values(new))
            return _example(c, example_id)

    def remove_examples(self, ids: Collection[int]) -> int:
        """Returns how many were there; removing what is gone changes nothing."""
        with self._write() as c:
            return c.execute(t.bank_examples.delete().where(t.bank_examples.c.id.in_(ids))).rowcount

    def switch_examples(self, ids: Collection[int], is_on: bool) -> None:
        """Let examples into prompts or keep them out; raises NotFound, and changes none, when one is gone."""
        self._mark_examples(ids, is_on=is_on)

    def lock_examples(self, ids: Collection[int], is_locked: bool) -> None:
        """Put examples into every prompt, or leave that to the selector; raises NotFound as `switch_examples` does."""
        self._mark_examples(ids, is_locked=is_locked)

    def _mark_examples(self, ids: Collection[int], **values: bool) -> None:
        table = t.bank_examples
        with self._write() as c:
            there = set(c.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())
            if gone := set(ids) - there:
                raise _gone(min(gone))
            c.execute(table.update().where(table.c.id.in_(ids)).values(**values))

    def move_example(self, example_id: int, side: Side, other_id: int) -> Example:
        """Put an example right before or right after another one of its bank."""
        with self._write() as c:
            self._take_turns(c, _BANK_KEY)
            moved, other = _example(c, example_id), _example(c, other_id)
            if moved.bank != other.bank:
                raise InputError(
                    f"Example {example_id} is in bank '{moved.bank}' and example {other_id} in '{other.bank}'. "
                    "An example moves within its bank only."
                )
            return moved if moved.id == other.id else _moved(c, moved, side, other)

    def shift_example(self, example_id: int, step: Literal[-1, 1]) -> Example:
        """One place up (-1) or down; at its end of the bank an example stays."""
        side: Side = "before" if step == -1 else "after"
        with self._write() as c:
            self._take_turns(c, _BANK_KEY)
            moved = _example(c, example_id)
            beside = _neighbour(c, moved, side)
            return _moved(c, moved, side, beside[0]) if beside else moved

    def rename_bank(self, name: str, new_name: str) -> None:
        table = t.bank_examples
        with self._write() as c:
            self._take_turns(c, _BANK_KEY)
            known = set(c.execute(sa.select(table.c.bank).distinct()).scalars())
            if name not in known:
                raise NotFound(f"There is no bank '{name}'. Known banks: {', '.join(sorted(known)) or 'none yet'}.")
            if new_name in known and new_name != name:
                raise Conflict(f"A bank '{new_name}' exists already. Choose another name.")
            c.execute(table.update().where(table.c.bank == name).values(bank=new_name))

    def remove_bank(self, name: str) -> int:
        """Remove a bank with all its examples; returns how many there were."""
        with self._write() as c:
            return c.execute(t.bank_examples.delete().where(t.bank_examples.c.bank == name)).rowcount


def _example(c: sa.Connection, example_id: int) -> Example:
    row = c.execute(sa.select(t.bank_examples).where(t.bank_examples.c.id == example_id)).mappings().first()
    if row is None:
        raise _gone(example_id)
    return Example(**row)


def _gone(example_id: int) -> NotFound:
    return NotFound(f"There is no example {example_id}. Reload the page: it may have been removed.")


def _in_order(c: sa.Connection, bank: str) -> list[Example]:
    table = t.bank_examples
    query = sa.select(table).where(table.c.bank == bank).order_by(table.c.position, table.c.id)
    return [Example(**r) for r in c.execute(query).mappings()]


def _moved(c: sa.Connection, moved: Example, side: Side, other: Example) -> Example:
    position = _place(c, side, other)
    if math.isnan(position):
        _renumber(c, moved.bank)
        position = _place(c, side, _example(c, other.id))
    c.execute(t.bank_examples.update().where(t.bank_examples.c.id == moved.id).values(position=position))
    return _example(c, moved.id)


def _place(c: sa.Connection, side: Side, other: Example) -> float:
    """Half-way between `other` and its neighbour on that side; not a number when no double lies between them."""
    beyond = _neighbour(c, other, side)
    if not beyond:
        return other.position + (-1.0 if side == "before" else 1.0)
    low, high = sorted((other.position, beyond[0].position))
    middle = (low + high) / 2
    return middle if low < middle < high else math.nan


def _neighbour(c: sa.Connection, example: Example, side: Side) -> list[Example]:
    """The example right before or after; empty at the ends of the bank."""
    table = t.bank_examples
    here, there = sa.tuple_(table.c.position, table.c.id), sa.tuple_(sa.literal(example.position), example.id)
    query = sa.select(table).where(table.c.bank == example.bank)
    if side == "before":
        query = query.where(here < there).order_by(table.c.position.desc(), table.c.id.desc())
    else:
        query = query.where(here > there).order_by(table.c.position, table.c.id)
    return [Example(**r) for r in c.execute(query.limit(1)).mappings()]


def _renumber(c: sa.Connection, bank: str) -> None:
    """Whole numbers again; about fifty moves into one gap use up a double's digits."""
    table = t.bank_examples
    places = [{"key": e.id, "place": float(place)} for place, e in enumerate(_in_order(c, bank), 1)]
    c.execute(table.update().where(table.c.id == sa.bindparam("key")).values(position=sa.bindparam("place")), places)


def _words(row: Mapping[str, str]) -> dict[str, str]:
    """The fields without what no database keeps: NUL, and half a character (a lone surrogate)."""
    return {
        name: str(row.get(name) or "").replace("\x00", "").encode("utf-8", "replace").decode()
        for name in EXAMPLE_FIELDS
    }
