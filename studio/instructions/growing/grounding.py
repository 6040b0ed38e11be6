"""Whether an answer says only what its passage says, judged by words. It finds what was made up, not what was twisted."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from studio.instructions.statistics import language
from studio.instructions.statistics.words import topic_stop_words, words

__all__ = ["Grounding", "content_words", "grounding", "overlap"]

# Forms of one word share its start: all but the last three letters, and four at least. So 'weighs' is found in 'weight',
# and 'company' in 'compare': the measure errs towards finding.
_ENDING, _START = 3, 4


@dataclass(frozen=True)
class Grounding:
    """The share of an answer's content words that the passage has, None for an answer without any; `made_up` are numbers
    that it does not have, in digits."""

    share: float | None
    missing: tuple[str, ...]
    made_up: tuple[str, ...]


def content_words(text: str, stop: frozenset[str] | None = None) -> list[str]:
    """The words that carry meaning: numbers, signs of scripts without spaces, and words of three letters or more that
    are no stop words of the text's language (of English where it cannot be told)."""
    if stop is None:
        stop = topic_stop_words({language(text) or "en"})
    return [word for word in words(text) if _carries(word) and word not in stop]


def grounding(answer: str, passage: str) -> Grounding:
    stop = topic_stop_words({language(passage) or "en"})
    said = dict.fromkeys(content_words(answer, stop))
    there = _forms(words(passage))
    missing = tuple(word for word in said if not _is_in(word, there))
    made_up = tuple(word for word in missing if _is_number(word))
    return Grounding(1 - len(missing) / len(said) if said else None, missing, made_up)


def overlap(one: str, other: str, *, but: Collection[str] = ()) -> float | None:
    """The share of the first text's content words, `but` for some, that the other has in some form; None without any."""
    said = {word for word in content_words(one) if word not in but}
    there = _forms(words(other))
    return sum(_is_in(word, there) for word in said) / len(said) if said else None


def _carries(word: str) -> bool:
    return len(word) > 2 or _is_number(word) or not word.isascii()


def _is_number(word: str) -> bool:
    return any(sign.isdigit() for sign in word)


def _starts(word: str) -> set[str]:
    if _is_number(word):
        return {word}
    return {word[:length] for length in range(max(_START, len(word) - _ENDING), len(word))} | {word}


def _forms(found: Iterable[str]) -> set[str]:
    return {start for word in set(found) for start in _starts(word)}


def _is_in(word: str, there: set[str]) -> bool:
    return not there.isdisjoint(_starts(word))
