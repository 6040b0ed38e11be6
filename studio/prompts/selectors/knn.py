"""The examples nearest to the question."""

from __future__ import annotations

from typing import ClassVar

from studio.prompts.selectors.base import Candidates
from studio.prompts.selectors.comparing import Comparing

__all__ = ["Knn"]


class Knn(Comparing):
    """The k nearest neighbours; of two that are equally near, the one that comes first in the bank."""

    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "Nearest (kNN)"
    summary: ClassVar[str] = "The examples most similar to the question, others for each question."
    citation: ClassVar[str] = "Liu et al. 2021 (KATE), arXiv 2101.06804"

    def _prefer(self, among: Candidates, n: int) -> list[int]:
        near = self._similarity(among)
        return sorted(among.free, key=lambda place: (-near[place], place))[:n]
