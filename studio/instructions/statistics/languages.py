"""Which languages a dataset is in, judged by a sample."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from studio.instructions.statistics.words import words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["LETTERS", "language"]

LETTERS = 1000  # more of a text says nothing more about its language
_FEWEST_WORDS = 8
_SURE = 0.8
_NO_LANGUAGE = "zxx"  # numbers, names and code


def language(text: str) -> str:
    """ISO 639-1 code, or '' when the text is too short or too mixed to tell (Lui and Baldwin 2012)."""
    text = text[:LETTERS]
    if len(words(text)) < _FEWEST_WORDS:
        return ""
    code, confidence = _identifier().classify(text)
    return code if confidence >= _SURE and code != _NO_LANGUAGE else ""


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes a moment to unpack

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
