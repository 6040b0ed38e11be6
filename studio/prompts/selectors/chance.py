"""Random examples, the same ones for every question: what the other selectors have to beat."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from studio.prompts.selectors.base import Candidates, Order, Selector
from studio.store import Example

__all__ = ["Chance"]


class Chance(Selector):
    """A seed draws a lot for each example, so that one more in the bank, or one less, changes one example at most.

    Ids and the bank's order play no part: two workspaces with the same examples draw the same ones.
    """

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"
    summary: ClassVar[str] = "Examples drawn by the seed, the same ones for every question."
    citation: ClassVar[str] = "Brown et al. 2020, arXiv 2005.14165"

    def _prefer(self, among: Candidates, n: int) -> list[int]:
        return sorted(among.free, key=lambda place: _lot(among.shelf[place], among.seed))[:n]

    @property
    def _order(self) -> Order:
        return "by seed"


def _lot(example: Example, seed: int) -> str:
    return hashlib.sha256(f"{seed} {example.group_hash}".encode()).hexdigest()
