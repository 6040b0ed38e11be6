"""chrF: F-score over character n-grams (Popović 2015, aclanthology W15-3049)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from studio.evaluation.metrics.base import Metric, Need

__all__ = ["Chrf"]


class Chrf(Metric):
    """chrF2 with n-grams up to 6, by sacrebleu, as a share of 1 where papers say of 100."""

    title: ClassVar[str] = "chrF"
    summary: ClassVar[str] = "How much of the reference's letters, in runs of up to six, the answer has."
    needs: ClassVar[Need] = "reference"
    is_share: ClassVar[bool] = False
    passes: ClassVar[float] = 0.5

    metric: Literal["chrf"] = "chrf"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        if reference is None or not reference.strip():
            return None
        return float(_scorer().sentence_score(output, [reference]).score) / 100


@functools.cache
def _scorer() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # brings lxml and more along: half a second that pages spare

    return CHRF()
