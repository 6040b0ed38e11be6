"""Exact duplicates: records whose texts are the same but for case, Unicode form and white space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from studio.instructions.checks.base import DatasetCheck, Finding, Flag, live
from studio.instructions.checks.normal import digests, groups, whole
from studio.store import Record

__all__ = ["Duplicates", "rank"]

_OTHERS = 20  # ids that a flag lists


def rank(record: Record) -> int:
    """Which of several copies stays: the smallest rank, then the oldest. Approved work first, then what trains."""
    return 2 * (record.state != "approved") + (record.split != "train")


class Duplicates(DatasetCheck):
    name: ClassVar[str] = "duplicates"
    title: ClassVar[str] = "Exact duplicates"
    explains: ClassVar[str] = (
        "Records whose instruction, context and response are the same but for capitals, white space and Unicode form. "
        "The first approved or oldest copy stays and is not flagged; the model would weigh the others as if they were news."
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        rows = [(record.id, rank(record), whole(record)) for record in live(records)]
        ids = np.array([row[0] for row in rows], np.int64)
        group = groups(digests(row[2] for row in rows))
        order = np.lexsort((ids, np.array([row[1] for row in rows], np.int64), group))
        ends = np.flatnonzero(np.diff(group[order], append=-1)) + 1
        start = 0
        for end in ends.tolist():
            if end - start > 1:
                yield from self._copies(ids[order[start:end]].tolist())
            start = end

    def _copies(self, ids: list[int]) -> Iterator[Flag]:
        first = ids[0]
        details = {"cluster": first, "of": len(ids), "others": ids[:_OTHERS]}
        for copy in ids[1:]:
            yield self._flag(copy, Finding("", f"The same text as record {first}.", details=details))
