"""How long texts are: quantiles and bars from one pass, in memory that does not grow with the records."""

from __future__ import annotations

import heapq
import itertools
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from studio.evaluation import Interval

__all__ = ["MOST_IDS", "Figure", "LengthCounter", "Lengths", "Where"]

# What narrows the dataset to the records of a figure: `RecordFilter(**where)`.
Where: TypeAlias = Mapping[str, str | int | tuple[int, ...] | None]

MOST_IDS = 1000  # records that a filter names one by one

_EXACT = 10_000  # lengths from here on are kept to four digits: at most 9,000 counters for each further digit
_BARS = 20
_PERCENTS = (5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class Figure:
    """One bar: how many records, their share, and the filter that shows them (None where no filter can).

    A filter by ids shows the first 1,000 of them. `interval` is there where the share was estimated from a sample.
    """

    label: str
    n: int
    share: float
    where: Where | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Lengths:
    """Lengths of n texts. Quantiles (percent -> length) are of the nearest rank, exact below 10,000 and within a
    thousandth above. There are none for no text at all."""

    n: int
    total: int
    shortest: int = 0
    longest: int = 0
    quantiles: Mapping[int, int] = field(default_factory=dict)
    bars: tuple[Figure, ...] = ()
    width: int = 0  # of every bar but the last

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


class LengthCounter:
    """Lengths as they come. `is_filter` says that they are of all text of a record, which is what the filter knows;
    the bars of others name records by the ids that came with the lengths."""

    def __init__(self, *, is_filter: bool) -> None:
        self._is_filter = is_filter
        self._counts: dict[int, int] = {}
        self._keys: dict[int, array[int]] = {}  # of each length at most as many as a filter names
        self._total = self._longest = 0

    def add(self, length: int, key: int = 0) -> None:
        place = length if length < _EXACT else _to_four_digits(length)
        self._counts[place] = self._counts.get(place, 0) + 1
        self._total += length
        self._longest = max(self._longest, length)
        if key and not self._is_filter:
            keys = self._keys.setdefault(place, array("q"))
            if len(keys) < MOST_IDS:
                keys.append(key)

    def lengths(self) -> Lengths:
        n = sum(self._counts.values())
        if not n:
            return Lengths(0, 0)
        ordered = sorted(self._counts.items())
        quantiles = {percent: _nearest_rank(ordered, n, percent) for percent in _PERCENTS}
        width = _width(quantiles[95])
        bars = tuple(self._bars(ordered, n, quantiles[95], width))
        return Lengths(n, self._total, ordered[0][0], self._longest, quantiles, bars, width)

    def beyond(self, most: int) -> Figure:
        """The texts that are longer than that; whoever asks about more than 10,000 gets a thousandth less or more."""
        n = sum(self._counts.values())
        found = sum(count for length, count in self._counts.items() if length > most)
        return Figure(
            f"more than {most:,}", found, found / n if n else 0.0, self._named(most + 1, None) if found else None
        )

    def _bars(self, ordered: list[tuple[int, int]], n: int, most: int, width: int) -> Iterator[Figure]:
        """Bars of equal width up to where 95 % of the texts end, and one for all that are longer.

        Edges are multiples of the width (1, 2 or 5 with zeros), so none falls into a rounded length.
        """
        end = (most // width + 1) * width
        counts = dict.fromkeys(range(0, end + 1, width), 0)
        for length, found in ordered:
            counts[min(length // width * width, end)] += found
        for start, found in counts.items():
            if start < end:
                yield self._bar(
                    f"{start:,} to {start + width - 1:,}" if width > 1 else f"{start}", found, n, start, width
                )
            elif found:
                yield self._bar(f"{start:,} and more", found, n, start, 0)

    def _bar(self, label: str, found: int, n: int, start: int, width: int) -> Figure:
        end = start + width if width else None
        if not self._is_filter:
            return Figure(label, found, found / n, self._named(start, end) if found else None)
        where: dict[str, str | int | tuple[int, ...] | None] = {"shortest": start}
        if end:
            where["longest"] = end - 1
        return Figure(label, found, found / n, where)

    def _named(self, start: int, end: int | None) -> Where | None:
        """The first records from one length to another, None where they had no ids."""
        kept = (keys for length, keys in self._keys.items() if start <= length and (end is None or length < end))
        first = heapq.nsmallest(MOST_IDS, itertools.chain.from_iterable(kept))
        return {"ids": tuple(first)} if first else None


def _to_four_digits(length: int) -> int:
    unit: int = 10 ** (len(str(length)) - 4)
    return length // unit * unit


def _nearest_rank(ordered: list[tuple[int, int]], n: int, percent: int) -> int:
    rank = -(-percent * n // 100)
    reached = zip(itertools.accumulate(found for _, found in ordered), ordered, strict=True)
    return next(length for so_far, (length, _) in reached if so_far >= rank)


def _width(most: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that needs at most as many bars as fit."""
    unit = 1
    while True:
        for width in (unit, 2 * unit, 5 * unit):
            if most < width * _BARS:
                return width
        unit *= 10
