"""Words that tell what records are about: those of many records, but not of all.

A word of n records weighs n times the surprise of meeting it, ln(N / n): what stands everywhere tells nothing, and what
stands once tells little of the whole (Church and Gale 1995 weigh words by this surprise).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studio.instructions.statistics.lengths import MOST_IDS, Figure
from studio.instructions.statistics.words import topic_stop_words, topic_words

__all__ = ["Telling", "telling"]

_WORDS = 24
_FEWEST = 2  # a word of one record is a coincidence


@dataclass(frozen=True)
class Telling:
    """Words of a sample of `n` records, the most telling one first; a bar counts records of the sample."""

    n: int = 0
    bars: tuple[Figure, ...] = ()


def telling(sample: Sequence[tuple[int, str]], languages: Iterable[str]) -> Telling:
    """Of (id, text). Words that say nothing in these languages (ISO 639-1) are left out."""
    stop = topic_stop_words(languages)
    keys: dict[str, array[int]] = {}
    for key, text in sample:
        for word in set(topic_words(text)):
            if word not in stop:
                keys.setdefault(word, array("q")).append(key)
    n = len(sample)
    weights = {word: len(found) * math.log(n / len(found)) for word, found in keys.items() if len(found) >= _FEWEST}
    strongest = sorted((word for word, weight in weights.items() if weight), key=lambda word: (-weights[word], word))
    return Telling(n, tuple(_bar(word, keys[word], n) for word in strongest[:_WORDS]))


def _bar(word: str, keys: array[int], n: int) -> Figure:
    where = {"ids": tuple(keys[:MOST_IDS])} if all(keys) else None
    return Figure(word, len(keys), len(keys) / n, where)
