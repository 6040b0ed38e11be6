"""Examples that are near to the question and unlike each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from studio.prompts.selectors.base import Candidates
from studio.prompts.selectors.comparing import Comparing

__all__ = ["Mmr"]


class Mmr(Comparing):
    """Maximal marginal relevance: one after the other, the example with the most of

        relevance x similarity to the question - (1 - relevance) x similarity to the nearest one chosen so far.

    Locked examples count as chosen from the start.
    """

    name: ClassVar[str] = "mmr"
    title: ClassVar[str] = "Nearest and varied (MMR)"
    summary: ClassVar[str] = "Similar to the question, but unlike each other, so that none repeats another."
    citation: ClassVar[str] = "Carbonell and Goldstein 1998; for examples Ye et al. 2022, arXiv 2211.13892"

    relevance: float = Field(
        0.7,
        ge=0,
        le=1,
        title="Relevance (lambda)",
        description="1 looks at the question alone, as kNN does; 0 only at how unlike the examples are.",
    )

    def _prefer(self, among: Candidates, n: int) -> list[int]:
        if not among.free or n == 0:
            return []
        space = self._nearness(among)
        near, repeats = space.to_query(), np.full(len(among.shelf), -np.inf)
        for place in among.locked:
            repeats = np.maximum(repeats, space.to_example(place))
        left, chosen = list(among.free), list[int]()
        while left and len(chosen) < n:
            penalty = np.where(np.isneginf(repeats), 0.0, repeats)  # nothing is chosen yet, so nothing repeats
            gain = np.round(self.relevance * near - (1 - self.relevance) * penalty, 9)
            best = max(left, key=lambda place: (gain[place], -place))
            left.remove(best)
            chosen.append(best)
            repeats = np.maximum(repeats, space.to_example(best))
        return chosen
