"""How many different words there are, from one pass and in bounded memory.

Exact up to 100,000 different words. Beyond, the words whose hash falls into a half (then a quarter, and so on) of all
hashes stand for the others: adaptive sampling (Wegman; Flajolet 1990). A word that is kept was counted from its first
time on, so the share of words seen once can be estimated as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

__all__ = ["Vocabulary", "VocabularyCounter"]

_CAPACITY = 100_000
_BATCH = 100_000  # words that wait, so that each different one of them is looked up once


@dataclass(frozen=True)
class Vocabulary:
    """`words` of which `distinct` differ, and the share of the different words that stand in the data only once.

    `error` is the relative error that `distinct` keeps within 95 times in 100; 0 when it was counted exactly.
    """

    words: int
    distinct: int
    once: float | None  # not defined without words
    error: float = 0.0


class VocabularyCounter:
    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: list[str] = []
        self._counts: dict[str, int] = {}
        self._level = 0  # a word in 2 ** level is kept
        self._words = 0

    def add(self, words: list[str]) -> None:
        self._waiting += words
        if len(self._waiting) >= _BATCH:
            self._settle()

    def vocabulary(self) -> Vocabulary:
        self._settle()
        kept = len(self._counts)
        once = sum(n == 1 for n in self._counts.values())
        # Flajolet (1990): a standard error of 1.2 through the root of the capacity.
        error = 1.96 * 1.2 / self._capacity**0.5 if self._level else 0.0
        return Vocabulary(self._words, kept << self._level, once / kept if kept else None, error)

    def _settle(self) -> None:
        counts = self._counts
        for word, n in Counter(self._waiting).items():
            if word in counts:
                counts[word] += n
            elif self._is_kept(word):
                counts[word] = n
                while len(counts) > self._capacity:
                    self._level += 1
                    self._counts = counts = {w: m for w, m in counts.items() if self._is_kept(w)}
        self._words += len(self._waiting)
        self._waiting = []

    def _is_kept(self, word: str) -> bool:
        if not self._level:
            return True
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> (64 - self._level) == 0
