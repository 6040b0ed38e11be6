"""One view of what is counted: records of a dataset and rows of a snapshot have the same texts under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from studio.store import Record

__all__ = ["Reading", "Row", "read"]

Row: TypeAlias = Record | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one record says. `key` is its id, 0 when a row has none; a field that a row lacks is ''."""

    key: int
    instruction: str
    context: str
    response: str
    category: str
    turns: tuple[tuple[str, str], ...]  # (role, content) of a conversation of several turns
    split: str
    state: str
    licence: str
    source: str
    author: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the record once: that of the turns, where there are turns."""
        if self.turns:
            return tuple(content for _, content in self.turns)
        return (self.instruction, self.context, self.response)

    @property
    def letters(self) -> int:
        """Characters of all its text, as the store counts them for its filter."""
        return sum(map(len, self.texts))


def read(row: Row) -> Reading:
    """A record, or a row of a snapshot (which calls the id `record`)."""
    if isinstance(row, Mapping):
        return _reading(row, row.get("record"))
    return _reading(vars(row), row.id)


def _reading(row: Mapping[str, Any], key: int | None) -> Reading:
    turns = row.get("turns")
    return Reading(
        key or 0,
        row.get("instruction") or "",
        row.get("context") or "",
        row.get("response") or "",
        row.get("category") or "",
        tuple((turn["role"], turn["content"]) for turn in turns) if turns else (),
        row.get("split") or "",
        row.get("state") or "",
        row.get("licence") or "",
        row.get("source") or "",
        row.get("author") or "",
    )
