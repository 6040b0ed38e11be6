"""Too long for the window: what the model would not see to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from studio.errors import InputError
from studio.instructions.checks.base import Finding, Flag, RecordCheck, texts
from studio.store import Record

__all__ = ["Count", "TooLong"]

Count = Callable[[list[str]], list[int]]  # tokens of each text

_AT_ONCE = 256  # texts a call


class TooLong(RecordCheck):
    name: ClassVar[str] = "too_long"
    title: ClassVar[str] = "Too long for the model"
    explains: ClassVar[str] = (
        "Records with more tokens than fit the window of a tuning run, which leaves them out. "
        "Tokens are counted with the model's own tokenizer; only records that could be too long are counted."
    )

    window: int = Field(2048, ge=16, title="Window", description="Tokens that a run reads of one record.")
    per_turn: int = Field(
        8, ge=0, title="Tokens around a turn", description="What the chat template adds to each turn."
    )
    model: str = Field("", title="Model", description="Whose tokenizer counts.")

    _count: Count | None = PrivateAttr(None)

    @classmethod
    def counting(cls, count: Count, **settings: Any) -> TooLong:
        """The check with the function that counts a model's tokens."""
        check = cls(**settings)
        check._count = count
        return check

    def find(self, record: Record) -> Iterator[Finding]:
        return (found for _, found in self._long([record]))

    def look_at(self, records: Sequence[Record]) -> Iterator[Flag]:
        for record, found in self._long(records):
            yield self._flag(record.id, found)

    def _long(self, records: Iterable[Record]) -> Iterator[tuple[Record, Finding]]:
        waiting: list[tuple[Record, list[str]]] = []
        held = 0
        for record in records:
            parts = [text for _, text in texts(record) if text]
            # No token is shorter than a byte, so that a text of few bytes fits for certain.
            if sum(len(part.encode("utf-8", "replace")) for part in parts) + self._around(record) <= self.window:
                continue
            waiting.append((record, parts))
            held += len(parts)
            if held >= _AT_ONCE:
                yield from self._counted(waiting)
                waiting, held = [], 0
        yield from self._counted(waiting)

    def _still_true(self, record: Record, flags: list[Flag]) -> list[Flag]:
        if self._count is not None:
            return super()._still_true(record, flags)
        # A remedy needs no tokenizer: what was counted holds as long as the record is as long as it was then.
        return [flag for flag in flags if flag.details.get("letters") == _letters(record)]

    def _around(self, record: Record) -> int:
        return self.per_turn * (2 if record.turns is None else len(record.turns))

    def _counted(self, waiting: list[tuple[Record, list[str]]]) -> Iterator[tuple[Record, Finding]]:
        if not waiting:
            return
        if self._count is None:
            raise InputError(
                f"'{self.title}' counts with a model's tokenizer. Choose a model, or leave this check out."
            )
        counts = iter(self._count([part for _, parts in waiting for part in parts]))
        for record, parts in waiting:
            tokens = sum(next(counts) for _ in parts) + self._around(record)
            if tokens > self.window:
                size = {"tokens": tokens, "window": self.window}
                note = f"{tokens:,} tokens, {tokens - self.window:,} more than fit the window."
                yield record, Finding("", note, details={**size, "letters": _letters(record)})


def _letters(record: Record) -> int:
    return sum(len(text) for _, text in texts(record))
