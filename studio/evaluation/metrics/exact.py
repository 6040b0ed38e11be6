"""Exact match: the answer is the reference, whatever its case, spaces and full stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from studio.evaluation.metrics.base import Metric, Need, flat

__all__ = ["ExactMatch"]


class ExactMatch(Metric):
    """1 when answer and reference agree after case, white space, and quotes and punctuation at the ends are evened.

    Signs and punctuation inside stay, unlike in SQuAD's rule, so that -5 is not 5 and 3.5 is not 35.
    """

    title: ClassVar[str] = "Exact match"
    summary: ClassVar[str] = "The answer is the reference, but for case, spaces and punctuation at the ends."
    needs: ClassVar[Need] = "reference"

    metric: Literal["exact"] = "exact"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        if reference is None:
            return None
        return float(flat(output) == flat(reference))
