"""F1 over words, as SQuAD measures it (Rajpurkar et al. 2016, arXiv 1606.05250)."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from studio.evaluation.metrics.base import Metric, Need

__all__ = ["WordF1"]

_ARTICLES = {"a", "an", "the"}


class WordF1(Metric):
    """Harmonic mean of the share of the answer's words that are in the reference and the other way round.

    Words are lower case, without punctuation, and without the articles a, an and the.
    """

    title: ClassVar[str] = "F1 over words"
    summary: ClassVar[str] = "How many words answer and reference share, as in SQuAD."
    needs: ClassVar[Need] = "reference"
    is_share: ClassVar[bool] = False
    passes: ClassVar[float] = 0.5

    metric: Literal["f1"] = "f1"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        if reference is None:
            return None
        said, wanted = _words(output), _words(reference)
        if not said or not wanted:
            return float(said == wanted)  # SQuAD 2.0: nothing against nothing is right
        shared = sum((Counter(said) & Counter(wanted)).values())
        return 2 * shared / (len(said) + len(wanted))


def _words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    return [word for word in kept.split() if word not in _ARTICLES]
