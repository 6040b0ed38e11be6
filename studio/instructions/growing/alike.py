"""Whether a question is too much like one that is there: ROUGE-L of at least 0.7, as self-instruct has it.

A million questions cannot be compared one by one with each draft. Only those are that share enough rare words to reach
the bound at all (prefix filtering; Chaudhuri et al. 2006), and their longest common subsequence is counted with the bits
of whole numbers (Hyyrö 2004). The result is the same as comparing with every one.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from studio.instructions.statistics.words import words

__all__ = ["Questions", "rouge_l"]

_MOST_WORDS = 200  # of a question that are compared


def rouge_l(one: str, other: str) -> float:
    """F-measure of the longest common subsequence of words; 0 where one of the texts has none."""
    a, b = words(one), words(other)
    return 2 * _shared(_masks(a), len(a), b) / (len(a) + len(b)) if a and b else 0.0


class Questions:
    """Questions that drafts are compared with; accepted drafts become some of them."""

    def __init__(self, questions: Iterable[str] = (), *, bound: float = 0.7) -> None:
        self._bound = bound
        self._numbers: dict[str, int] = {}  # of words
        self._texts: list[array[int]] = []  # each question as numbers of words
        self._postings: list[array[int]] = []  # word number -> questions that have it
        for question in questions:
            self.add(question)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, question: str) -> None:
        text = array("I")
        for word in words(question)[:_MOST_WORDS]:
            number = self._numbers.setdefault(word, len(self._numbers))
            if number == len(self._postings):
                self._postings.append(array("I"))
            text.append(number)
        for number in set(text):
            self._postings[number].append(len(self._texts))
        self._texts.append(text)

    def has_like(self, question: str) -> bool:
        """Whether one of them reaches the bound."""
        said = words(question)[:_MOST_WORDS]
        if not said:
            return False
        # Words that nobody else uses get numbers that nothing has.
        text = [self._numbers.get(word, -1 - place) for place, word in enumerate(said)]
        masks = _masks(text)
        return any(self._reaches(masks, len(text), self._texts[place]) for place in self._candidates(text))

    def _reaches(self, masks: Mapping[Any, int], length: int, other: array[int]) -> bool:
        needed = self._bound * (length + len(other)) / 2
        return min(length, len(other)) >= needed - 1e-9 and _shared(masks, length, other) >= needed - 1e-9

    def _candidates(self, text: list[int]) -> set[int]:
        """Questions that share one of the rarest words: who reaches the bound misses too few to have none of them.

        F = 2 L / (a + b) >= t with L <= b gives L >= t a / (2 - t): of any a - L + 1 words one is shared.
        """
        fewest = math.ceil(self._bound * len(text) / (2 - self._bound) - 1e-9)
        allowance = len(text) - fewest + 1
        counts = Counter(text)
        rarest = sorted(counts, key=lambda number: (len(self._postings[number]) if number >= 0 else 0, number))
        found: set[int] = set()
        for number in rarest:
            if allowance <= 0:
                break
            if number >= 0:
                found.update(self._postings[number])
            allowance -= counts[number]
        return found


def _masks(text: Iterable[Hashable]) -> dict[Any, int]:
    """Word -> the places where it stands, as bits."""
    masks: dict[Any, int] = {}
    for place, word in enumerate(text):
        masks[word] = masks.get(word, 0) | 1 << place
    return masks


def _shared(masks: Mapping[Any, int], length: int, other: Iterable[Hashable]) -> int:
    """Length of the longest common subsequence: the zeros among the first `length` bits of the row."""
    row = (1 << length) - 1
    whole = row
    for word in other:
        matches = row & masks.get(word, 0)
        row = ((row + matches) | (row - matches)) & whole
    return length - row.bit_count()
