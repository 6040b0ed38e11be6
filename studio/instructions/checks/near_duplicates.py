"""Near duplicates: records that say nearly the same, in clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from studio.instructions.checks.base import DatasetCheck, Finding, Flag, live
from studio.instructions.checks.duplicates import rank
from studio.instructions.checks.normal import groups
from studio.instructions.checks.signatures import Pairs, alike, signed
from studio.store import Record

__all__ = ["NearDuplicates", "chosen"]

_OTHERS = 20  # ids that a flag lists


class NearDuplicates(DatasetCheck):
    name: ClassVar[str] = "near_duplicates"
    title: ClassVar[str] = "Near duplicates"
    explains: ClassVar[str] = (
        "Records that share nearly all their runs of three words, in question and answer as well as in all of the text. "
        "One of each cluster stays and is not flagged; exact copies are a check of their own."
    )

    threshold: float = Field(
        0.8,
        ge=0.5,
        le=1.0,
        title="How alike records are",
        description="Share of three-word runs that two records have in common.",
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        from scipy.sparse import coo_array  # a tenth of a second that pages spare
        from scipy.sparse.csgraph import connected_components

        ranks: list[int] = []

        def noted() -> Iterator[Record]:
            for record in live(records):
                ranks.append(rank(record))
                yield record

        these = signed(noted(), memory)
        ranked = np.array(ranks, np.int64)
        pairs = alike(these, chosen(groups(these.digests), ranked, these.ids), self.threshold)
        if not len(pairs.one):
            return
        nodes = np.unique(np.concatenate([pairs.one, pairs.other]))
        one, other = np.searchsorted(nodes, pairs.one), np.searchsorted(nodes, pairs.other)
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(nodes), len(nodes)))
        _, cluster = connected_components(graph, directed=False)
        nearest = _nearest(one, other, pairs, len(nodes))
        order = np.lexsort((these.ids[nodes], ranked[nodes], cluster))
        for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
            ids = these.ids[nodes[members]].tolist()
            for place, copy in zip(members[1:].tolist(), ids[1:], strict=True):
                beside, similarity = nearest[place]
                twin = int(these.ids[nodes[beside]])
                details = {"cluster": ids[0], "of": len(ids), "others": ids[:_OTHERS], "nearest": twin}
                note = f"{100 * similarity:.0f} % the same as record {twin}."
                yield self._flag(copy, Finding("", note, details={**details, "similarity": round(similarity, 3)}))


def chosen(
    group: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """One row of each group of exact copies: the one that the check for those keeps."""
    order = np.lexsort((ids, ranks, group))
    _, first = np.unique(group[order], return_index=True)
    return np.sort(order[first])


def _nearest(
    one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], pairs: Pairs, nodes: int
) -> dict[int, tuple[int, float]]:
    """Each node's closest neighbour, and how close it is."""
    mine, its = np.concatenate([one, other]), np.concatenate([other, one])
    similarity = np.concatenate([pairs.similarity, pairs.similarity])
    order = np.lexsort((its, -similarity, mine))
    _, first = np.unique(mine[order], return_index=True)
    best = order[first]
    return dict(zip(range(nodes), zip(its[best].tolist(), similarity[best].tolist(), strict=True), strict=True))
