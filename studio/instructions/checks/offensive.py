"""Insults and slurs, by a word list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from studio.instructions.checks.base import MOST, Finding, RecordCheck, texts
from studio.instructions.checks.lexicons import lexicon
from studio.store import Record

__all__ = ["Offensive"]

_WORD = re.compile(r"\w+")


class Offensive(RecordCheck):
    name: ClassVar[str] = "offensive"
    title: ClassVar[str] = "Insults and slurs"
    explains: ClassVar[str] = (
        "Words from a small list of insults, slurs and swear words in English, German, French, Spanish and Italian. "
        "It is a word list: it misses what is said politely or spelled otherwise, and finds words that are only quoted."
    )

    def find(self, record: Record) -> Iterator[Finding]:
        words = lexicon("offensive")
        for field, text in texts(record):
            if words.isdisjoint(_WORD.findall(text.casefold())):
                continue
            matches = (match for match in _WORD.finditer(text) if match[0].casefold() in words)
            for _, match in zip(range(MOST), matches, strict=False):
                yield Finding(field, f"'{match[0]}' is in the list of offensive words.", *match.span())
