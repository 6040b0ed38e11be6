"""The same examples for every question, in the order that people gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from studio.prompts.selectors.base import Candidates, Order, Pick, Selector

__all__ = ["Fixed"]


class Fixed(Selector):
    """The first of the bank; a locked one keeps its place in the bank's order."""

    name: ClassVar[str] = "fixed"
    title: ClassVar[str] = "Fixed"
    summary: ClassVar[str] = "The first examples of the bank, in its order, for every question."
    citation: ClassVar[str] = "Wei et al. 2022, arXiv 2201.11903"

    def _prefer(self, among: Candidates, n: int) -> list[int]:
        return list(among.free[:n])

    def _arranged(self, picks: Sequence[Pick]) -> list[Pick]:
        return sorted(picks, key=lambda pick: (pick.example.position, pick.example.id))

    @property
    def _order(self) -> Order:
        return "as in the bank"
