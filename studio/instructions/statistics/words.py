"""Words as statistics count them, in languages with and without spaces, and those that say nothing about a topic."""

from __future__ import annotations

import re
from collections.abc import Iterable

from studio.stop_words import stop_words

__all__ = ["topic_stop_words", "topic_words", "words"]

# Scripts without spaces between words: each sign counts as one, else a sentence would.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# Accents and vowel signs are no letters to `re`, and would cut words apart.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_ASCII = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
_RUN = re.compile(rf"[\w{_MARKS}{_UNSPACED}]+(?:['’][\w{_MARKS}]+)*")
_PART = re.compile(rf"[{_UNSPACED}]|[^{_UNSPACED}]+")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")

# What instructions are made of, whatever they are about.
_ASKING = frozenset(
    """answer brief briefly classify describe explain extract find following give given identify list make name need
    passage please provide reference summarise summarize summary tell text using use used want write based also could
    first five four get got like may might one three two would
    i'd i'll i'm i've it's don't can't
    antwort antworte beschreibe erkläre finde folgenden folgende gib liste nenne schreibe text zusammenfassung
    décris donne donnez explique expliquez liste résume écris écrivez describe dime escribe explica lista resume
    descrivi elenca scrivi spiega riassumi""".split()
)


def words(text: str) -> list[str]:
    """The words of a text in lower case; numbers are words too."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    found: list[str] = []
    for run in _RUN.findall(text.lower().replace("_", " ")):
        if _UNSPACED_RUN.search(run):
            found += _PART.findall(run)
        else:
            found.append(run)
    return found


def topic_words(text: str) -> list[str]:
    """Words that could name a topic: three letters or more, or pairs of signs where words have no spaces; no numbers."""
    if text.isascii():
        return [word for word in _ASCII.findall(text.lower()) if len(word) > 2 and not word[0].isdigit()]
    found: list[str] = []
    for run in _RUN.findall(text.lower().replace("_", " ")):
        for signs in _UNSPACED_RUN.findall(run):
            found += [signs[i : i + 2] for i in range(len(signs) - 1)]
        found += [part for part in _UNSPACED_RUN.split(run) if len(part) > 2 and not part[0].isdigit()]
    return found


def topic_stop_words(codes: Iterable[str]) -> frozenset[str]:
    """Words that name no topic in these languages (ISO 639-1); where there is no list, frequency has to do."""
    return _ASKING.union(*map(stop_words, codes))
