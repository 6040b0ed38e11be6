"""Words that say nothing about what a text is about, in the languages that there is a list for."""

from __future__ import annotations

from functools import cache

__all__ = ["stop_words"]


@cache
def stop_words(code: str) -> frozenset[str]:
    """Those of a language (ISO 639-1); none where there is no list, and frequency has to do."""
    from bm25s import stopwords as known  # a moment that pages spare

    lists = {
        "da": known.STOPWORDS_DANISH,
        "de": known.STOPWORDS_GERMAN,
        "en": known.STOPWORDS_EN_PLUS,
        "es": known.STOPWORDS_SPANISH,
        "fr": known.STOPWORDS_FRENCH,
        "it": known.STOPWORDS_ITALIAN,
        "nl": known.STOPWORDS_DUTCH,
        "no": known.STOPWORDS_NORWEGIAN,
        "pt": known.STOPWORDS_PORTUGUESE,
        "ru": known.STOPWORDS_RUSSIAN,
        "sv": known.STOPWORDS_SWEDISH,
        "tr": known.STOPWORDS_TURKISH,
    }
    return frozenset(lists.get(code, ()))
