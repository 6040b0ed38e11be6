"""How near two texts are: by the words they share, or by the vectors that a model makes of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from studio.errors import InputError
from studio.prompts.memory import Vector
from studio.store import Example

__all__ = ["Nearness", "Vectors", "by_vectors", "by_words"]

Floats = npt.NDArray[np.float64]

# One sign of a script that puts no spaces between words; a word; or a sign that says something (C++, an emoji).
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_PUNCTUATION = r"""\s_.,;:!?¿¡…"“”„'’‘()。，、？！-"""
_TOKEN = rf"[{_CJK}]|[^\W_{_CJK}]+|[^\w{_PUNCTUATION}]"
_ANY_WORD = "x"


@dataclass(frozen=True)
class Vectors:
    """What a model made of the question, [size], and of each example by its id, [size]; each of length 1."""

    query: Vector
    examples: Mapping[int, Vector]


@dataclass(frozen=True)
class Nearness:
    """Rows of length 1, one per example, and one for the question; the product of two is their cosine."""

    rows: Any  # [examples, size], sparse for words
    query: Any  # [1, size]

    def to_query(self) -> Floats:
        """Cosine of every example with the question, [examples]."""
        return self._to(self.query)

    def to_example(self, place: int) -> Floats:
        """Cosine of every example with one of them, [examples]."""
        return self._to(self.rows[place : place + 1])

    def _to(self, row: Any) -> Floats:
        product = self.rows @ row.T
        dense = product if isinstance(product, np.ndarray) else product.toarray()
        # Sums of the same words in another order differ in their last bits; that shall decide nothing.
        return np.round(np.asarray(dense, dtype=np.float64).ravel(), 9)


def by_words(texts: Sequence[str], query: str) -> Nearness:
    """TF-IDF: shared words count the more, the fewer examples have them (Spärck Jones 1972)."""
    vectorizer, rows = _fitted(tuple(texts))
    return Nearness(rows, vectorizer.transform([query]))


def by_vectors(examples: Sequence[Example], vectors: Vectors | None) -> Nearness:
    """Raises InputError when there are no vectors, or none for one of the examples."""
    missing = next((e for e in examples if vectors is None or e.id not in vectors.examples), None)
    if vectors is None or missing is not None:
        which = f"example {missing.id}" if missing is not None else "the question"
        raise InputError(f"There is no vector of {which}. Choose a model that makes vectors, or compare by words.")
    return Nearness(np.stack([vectors.examples[e.id] for e in examples]), vectors.query[np.newaxis])


# A key that is pressed changes the question, not the bank: the examples are read once.
@functools.lru_cache(maxsize=8)
def _fitted(texts: tuple[str, ...]) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second to load; a page starts without it

    vectorizer = TfidfVectorizer(token_pattern=_TOKEN, sublinear_tf=True)
    # One text more, since a bank of nothing but punctuation has no words to tell apart, which is refused.
    return vectorizer, vectorizer.fit_transform([*texts, _ANY_WORD])[:-1]
