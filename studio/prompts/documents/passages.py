"""Passages: a document's text cut into pieces of about 120 to 180 words that know where they stand.

Cut along headings first, then paragraphs (and rows of a table), then sentences, lines, and words where nothing else
helps. Cutting loses no word and makes none up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from studio.prompts.documents.words import count_words, word_spans

__all__ = ["Block", "Outline", "Piece", "cut"]

_MOST = 180  # words in a passage
_GOAL = 120  # from here on a new paragraph begins a new passage
_SECTION = 60  # and from here on a new heading does
_TAIL = 40  # fewer at the end go to the passage before

_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？]+\s*|\n[ \t]*\n\s*")
_LINE_END = re.compile(r"\n\s*")
_RUN = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph or a row, and its place: the path of headings above it, and the number of its page, row,
    line or paragraph. `tail` parts it from the next block."""

    text: str
    headings: tuple[str, ...] = ()
    unit: Literal["", "page", "row", "line", "paragraph"] = ""
    first: int = 0
    last: int = 0
    is_heading: bool = False
    tail: str = "\n\n"


@dataclass(frozen=True)
class Piece:
    """A passage to be, with its place in words: 'Care > Otter jacket', 'pages 3–4', 'row 17'."""

    place: str
    text: str


class Outline:
    """The headings that a place stands under, kept while a document is read."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._open)

    def enter(self, level: int, title: str) -> None:
        """A heading begins; those of its level and below are over."""
        self._open = [*takewhile(lambda heading: heading[0] < level, self._open), (level, _short(title, 80))]


@dataclass(frozen=True)
class _Part:
    """What is never cut again: a sentence, or less; with the space behind it."""

    text: str
    words: int
    block: Block
    begins: Literal["section", "paragraph", ""]


def cut(blocks: Iterable[Block]) -> list[Piece]:
    """The passages of a text, in its order."""
    packs = list(_packs(_parts(blocks)))
    if len(packs) > 1 and _words(packs[-1]) < _TAIL and packs[-1][0].begins != "section":
        packs[-2:] = [packs[-2] + packs[-1]]
    return [Piece(_place(pack[0].block, pack[-1].block), "".join(part.text for part in pack).strip()) for pack in packs]


def _packs(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    pack: list[_Part] = []
    words = 0
    for part in parts:
        is_full = words + part.words > _MOST
        is_time = (part.begins == "section" and words >= _SECTION) or (part.begins and words >= _GOAL)
        if pack and (is_full or is_time):
            yield pack
            pack, words = [], 0
        pack.append(part)
        words += part.words
    if pack:
        yield pack


def _parts(blocks: Iterable[Block]) -> Iterator[_Part]:
    """Sentences; a heading is one with the sentence below it, so that it never ends a passage."""
    waiting: list[Block] = []
    for block in blocks:
        if not block.text.strip():
            continue
        if block.is_heading:
            waiting.append(block)
            continue
        yield from _cut_block(block, waiting)
        waiting = []
    if waiting:
        yield from _cut_block(waiting[-1], waiting[:-1])


def _cut_block(block: Block, headings: list[Block]) -> Iterator[_Part]:
    above = "".join(heading.text + heading.tail for heading in headings)
    begins: Literal["section", "paragraph", ""] = "section" if headings or block.is_heading else "paragraph"
    line = block.first
    for sentence in _split(block.text + block.tail, _SENTENCE_END):
        place = block
        if block.unit == "line":
            place = replace(block, first=line, last=line + sentence.strip().count("\n"))
            line += sentence.count("\n")
        for text in _short_enough(above + sentence):
            yield _Part(text, count_words(text), place, begins)
            begins = ""
        above = ""


def _short_enough(text: str) -> Iterator[str]:
    if count_words(text) <= _MOST:
        yield text
        return
    for line in _split(text, _LINE_END):
        yield from [line] if count_words(line) <= _MOST else _by_words(line)


def _by_words(text: str) -> Iterator[str]:
    """Pieces of at most `_MOST` words, cut inside a run without spaces only when the run itself is longer."""
    start = count = 0
    for run in _RUN.finditer(text):
        words = count_words(run.group())
        if count and count + words > _MOST:
            yield text[start : run.start()]
            start, count = run.start(), 0
        if words > _MOST:
            for begin, _ in list(word_spans(run.group()))[_MOST::_MOST]:
                yield text[start : run.start() + begin]
                start = run.start() + begin
            words = count_words(text[start : run.end()])
        count += words
    yield text[start:]


def _split(text: str, end: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in end.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _words(pack: list[_Part]) -> int:
    return sum(part.words for part in pack)


def _place(first: Block, last: Block) -> str:
    if first.unit not in ("page", "row") and (first.headings or last.headings):
        return _path(first.headings, last.headings)
    if not first.unit:
        return ""
    low, high = first.first, max(first.last, last.first, last.last)
    return f"{first.unit} {low}" if low == high else f"{first.unit}s {low}–{high}"


def _path(first: tuple[str, ...], last: tuple[str, ...]) -> str:
    shared = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    ends = [" > ".join(path[len(shared) :]) for path in (first, last)]
    tail = " – ".join(ends) if all(ends) else "" if shared else "".join(ends)
    return _short(" > ".join([*shared, tail] if tail else shared), 200)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
