"""ROUGE-L: the longest common subsequence of words (Lin 2004, aclanthology W04-1013)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from studio.evaluation.metrics.base import Metric, Need

__all__ = ["RougeL"]


class RougeL(Metric):
    """F-measure of ROUGE-L without stemming, by rouge-score. Words of any script count, not of a to z alone."""

    title: ClassVar[str] = "ROUGE-L"
    summary: ClassVar[str] = "How much of the reference's words the answer has in the same order."
    needs: ClassVar[Need] = "reference"
    is_share: ClassVar[bool] = False
    passes: ClassVar[float] = 0.5

    metric: Literal["rouge_l"] = "rouge_l"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        if reference is None or not _Words().tokenize(reference):
            return None
        return float(_scorer().score(reference, output)["rougeL"].fmeasure)


class _Words:
    """Letters and digits in lower case: for ASCII the same words as rouge-score's own."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # brings nltk along: a second that pages spare

    return RougeScorer(["rougeL"], tokenizer=_Words())
