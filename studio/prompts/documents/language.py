"""Which language a text is in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from studio.prompts.documents.words import count_words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["language"]

_FEWEST_WORDS = 15
_SURE = 0.8
_NO_LANGUAGE = "zxx"  # numbers, names and code
_SAMPLE = 10_000  # characters; more says nothing more


def language(text: str) -> str:
    """ISO 639-1 code, or '' when the text is too short or too mixed to tell (Lui and Baldwin 2012)."""
    if count_words(text[:_SAMPLE]) < _FEWEST_WORDS:
        return ""
    code, confidence = _identifier().classify(text[:_SAMPLE])
    return code if confidence >= _SURE and code != _NO_LANGUAGE else ""


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes a moment to unpack

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
