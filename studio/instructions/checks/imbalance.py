"""Imbalance: a category or a source that outweighs everything else, or hardly shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from studio.instructions.checks.base import DatasetCheck, Finding, Flag, Remedy, live
from studio.store import Record

__all__ = ["Imbalance"]

_LISTED = 50  # values in the details


class Imbalance(DatasetCheck):
    name: ClassVar[str] = "imbalance"
    title: ClassVar[str] = "Imbalance"
    explains: ClassVar[str] = (
        "Categories and sources that make up most of the dataset, and categories with hardly any records. "
        "The model gets good at what it sees often; whether that is what you want is for you to say."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = ()

    largest: float = Field(0.6, gt=0, le=1, title="Largest share", description="More than this share is flagged.")
    smallest: float = Field(
        0.01, ge=0, lt=1, title="Smallest share", description="A category below this share is flagged."
    )
    fewest: int = Field(100, ge=1, title="Smallest dataset judged", description="In records.")

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        categories: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        for record in live(records):
            categories[record.category] += 1
            sources[record.source] += 1
        if categories.total() < self.fewest:
            return
        yield from self._outweighing("category", categories)
        yield from self._outweighing("source", sources)
        of = categories.total()
        for value, n in sorted(categories.items()):
            if value and n < self.smallest * of:
                note = f"Category '{value}' has {_counted(n)} of {of:,}: too few to learn much from."
                yield self._flag(0, Finding("category", note, details=_details("category", value, categories)))

    def _outweighing(self, kind: str, counts: Counter[str]) -> Iterator[Flag]:
        of = counts.total()
        value, n = max(counts.items(), key=lambda item: (item[1], item[0]))
        if len(counts) > 1 and n > self.largest * of:
            named = f"{kind.capitalize()} '{value}'" if value else f"No {kind}"
            note = f"{named}: {_counted(n)} of {of:,}, {100 * n / of:.0f} %."
            yield self._flag(
                0, Finding("category" if kind == "category" else "", note, details=_details(kind, value, counts))
            )


def _counted(n: int) -> str:
    return "1 record" if n == 1 else f"{n:,} records"


def _details(kind: str, value: str, counts: Counter[str]) -> dict[str, object]:
    return {"of": kind, "value": value, "counts": dict(counts.most_common(_LISTED)), "records": counts.total()}
