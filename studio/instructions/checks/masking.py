"""Checks that find spans in a text and can put a mask in their place: [EMAIL], or [EMAIL 2] where there are several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from studio.instructions.checks.base import (
    MOST,
    REJECT,
    REMOVE,
    Finding,
    Flag,
    Mended,
    RecordCheck,
    Remedy,
    rewritten,
    texts,
)
from studio.store import Record

__all__ = ["MASK", "MaskingCheck", "Span", "apart"]

MASK = Remedy(
    "mask",
    "Mask",
    "Puts a word in brackets, such as [EMAIL], in its place. In one record the same value gets the same number.",
)
_MASK = re.compile(r"\[([A-Z]+)(?: (\d{1,6}))?\]")
_MOST_ROUNDS = 5  # what stood between two masked things may look like something itself


@dataclass(frozen=True)
class Span:
    """What was found at text[start:end]; of two with the same kind and key one thing is meant."""

    start: int
    end: int
    kind: str
    note: str
    key: str


class MaskingCheck(RecordCheck):
    """A check that says where something stands; finding and masking follow from that."""

    remedies: ClassVar[tuple[Remedy, ...]] = (MASK, REJECT, REMOVE)

    def spans(self, text: str) -> list[Span]:
        """What there is in a text, in order and apart from each other."""
        raise NotImplementedError

    def find(self, record: Record) -> Iterator[Finding]:
        for field, text in texts(record):
            for span in self.spans(text)[:MOST]:
                yield Finding(field, span.note, span.start, span.end, {"kind": span.kind})

    def _rewrite(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        asked: dict[str, set[tuple[int | None, int | None]]] = {}
        for flag in flags:
            asked.setdefault(flag.field, set()).add((flag.start, flag.end))
        new = dict(texts(record))
        found = {field: self.spans(new[field]) for field in asked}
        # Beyond what is listed one by one, all of a field is meant.
        chosen = {
            field: [span for span in spans if len(asked[field]) >= MOST or (span.start, span.end) in asked[field]]
            for field, spans in found.items()
        }
        cleared = [field for field in asked if len(chosen[field]) == len(found[field])]
        for _ in range(_MOST_ROUNDS):
            if not any(chosen.values()):
                break
            new |= _masked(new, chosen)
            chosen = {field: self.spans(new[field]) for field in cleared}
        return rewritten(record, new)


def _masked(before: Mapping[str, str], chosen: Mapping[str, Sequence[Span]]) -> dict[str, str]:
    """The fields in `chosen` with masks for their spans; numbers go on from the masks that are there."""
    highest: Counter[str] = Counter()
    for text in before.values():
        for kind, number in _MASK.findall(text):
            highest[kind] = max(highest[kind], int(number or 1))
    numbers = _numbers([span for spans in chosen.values() for span in spans], highest)
    new: dict[str, str] = {}
    for field, spans in chosen.items():
        pieces: list[str] = []
        end = 0
        for span in spans:
            number = "" if highest[span.kind] == 1 else f" {numbers[span.kind, span.key]}"
            pieces += [before[field][end : span.start], f"[{span.kind}{number}]"]
            end = span.end
        new[field] = "".join([*pieces, before[field][end:]])
    return new


def _numbers(spans: Sequence[Span], highest: Counter[str]) -> dict[tuple[str, str], int]:
    """A number for each kind and key, counted on in `highest`. 'Maria' after 'Maria Lopez' is the same person."""
    numbers: dict[tuple[str, str], int] = {}
    for span in spans:
        words = [(span.kind, word) for word in span.key.split()]
        known = {numbers.get(word, 0) for word in words}
        if (span.kind, span.key) in numbers:
            continue
        if len(known) == 1 and known != {0}:
            number = known.pop()
        else:
            number = highest[span.kind] = highest[span.kind] + 1
        numbers[span.kind, span.key] = number
        for word in words:
            numbers.setdefault(word, number)
    return numbers


def apart(spans: Sequence[Span]) -> list[Span]:
    """In order; of those that overlap, the one that stands first in the list stays."""
    kept: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda item: (item[1].start, item[0])):
        if kept and span.start < kept[-1][1].end:
            if place > kept[-1][0]:
                continue
            kept.pop()
        kept.append((place, span))
    return [span for _, span in kept]
