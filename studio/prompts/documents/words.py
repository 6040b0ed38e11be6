"""Words: how long a text is, and which terms a search compares, in languages with and without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["count_words", "label_words", "terms", "word_spans"]

_IDEOGRAPHS = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese and Japanese: about two signs a word
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer: about five signs a word
# A run of 40 signs that is still no word (a URL, base64) counts for what it costs in a prompt.
_WORD = re.compile(rf"[{_IDEOGRAPHS}]{{1,2}}|[{_UNSPACED}]{{1,5}}|[^\s{_IDEOGRAPHS}{_UNSPACED}]{{1,40}}")

_INDIC = "\u0900-\u0963\u0966-\u0dff"  # their vowel signs are no letters to `re`, and would cut words apart
_RUN = re.compile(rf"[\w{_INDIC}{_UNSPACED}]+")
_SCRIPTS = re.compile(rf"[{_IDEOGRAPHS}]+|[{_UNSPACED}]+|[^{_IDEOGRAPHS}{_UNSPACED}]+")
_IS_IDEOGRAPH, _IS_UNSPACED = re.compile(f"[{_IDEOGRAPHS}]"), re.compile(f"[{_UNSPACED}]")
_ACCENTS = re.compile("[\u0300-\u036f]")


def count_words(text: str) -> int:
    """How many words a reader would count, roughly where a language has no spaces."""
    return len(_WORD.findall(text))


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word that `count_words` counts."""
    return (match.span() for match in _WORD.finditer(text))


def terms(text: str) -> list[str]:
    """What a search compares: words without case, accents and plural s; signs and pairs of signs without spaces."""
    found: list[str] = []
    for run in _runs(_folded(text)):
        if run.isascii():  # nearly all of them, and a library is some millions
            found.append(_singular(run))
        else:
            found += (term for part in _SCRIPTS.findall(run) for term in _searched(part))
    return found


def label_words(text: str) -> list[str]:
    """Words that could name a topic: of three letters or more, or pairs of Chinese and Japanese signs; no numbers."""
    runs = _runs(unicodedata.normalize("NFKC", text).lower())
    return [word for run in runs for part in _SCRIPTS.findall(run) for word in _named(part)]


def _runs(text: str) -> list[str]:
    return _RUN.findall(text.replace("_", " "))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart))


def _searched(part: str) -> Iterator[str]:
    if _IS_IDEOGRAPH.match(part):
        yield from part
        yield from _pairs(part)
    elif _IS_UNSPACED.match(part):
        yield from (part[i : i + 3] for i in range(max(1, len(part) - 2)))
    else:
        yield _singular(part)


def _named(part: str) -> Iterator[str]:
    if _IS_IDEOGRAPH.match(part):
        yield from _pairs(part)
    elif len(part) >= 3 and not part.isdecimal():
        yield part


def _pairs(run: str) -> Iterator[str]:
    return (run[i : i + 2] for i in range(len(run) - 1))


def _singular(word: str) -> str:
    """Harman's S-stemmer (1991): only plurals, and alike in question and text, so that it harms no other language."""
    if len(word) < 4 or word.endswith(("us", "ss", "aes", "ees", "oes", "aies", "eies")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") else word
