"""Retrieval: the passages that answer a question best, numbered for a prompt, and which of them an answer cites.

BM25 (Robertson and Zaragoza 2009, in Lucene's form) over words, so that it works in every language, offline and at
once, and says why a passage was found. Stop words are kept: rare words outweigh them anyway, and a question may have
no others. A passage is found by its document's name and its place too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from studio.prompts.documents.words import count_words, terms
from studio.store import Passage, Store

if TYPE_CHECKING:
    from bm25s import BM25

__all__ = ["Citations", "Hit", "as_context", "cited", "retrieve"]

_CITATION = re.compile(r"\[(\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*)\](?!\()")
_WIDEST = 20  # in [1-20]; a wider span is no citation of each number in it


@dataclass(frozen=True)
class Hit:
    """A passage that was found, with its BM25 score; `also` names passages that say nearly the same."""

    passage_id: int
    document_id: int
    document: str
    place: str
    text: str
    score: float
    also: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How it is cited: document and place."""
        return _label(self.document, self.place)


@dataclass(frozen=True)
class Citations:
    """The hits that an answer cites, by their number from 1, and numbers in it that no hit has."""

    hits: dict[int, Hit]
    unknown: tuple[int, ...]


def retrieve(
    store: Store, query: str, k: int = 4, documents: Collection[int] | None = None, words: int | None = None
) -> list[Hit]:
    """The best passages for a question, best first; fewer than `k` when fewer share a word with it, or none.

    Looks in all documents in use or in those of the given ids. Of passages that say nearly the same, the best stands
    for all. `words` bounds the sum of their texts: the first that does not fit ends the list.
    """
    library = _shelf(store).library()
    found: list[Hit] = []
    left = words
    for hit in library.ranked(query, documents):
        if len(found) >= k:
            break
        if left is not None:
            left -= count_words(hit.text)
            if left < 0:
                break
        found.append(hit)
    return found


def as_context(hits: Sequence[Hit]) -> str:
    """The passages as a prompt shows them: '[1] returns.md, Exchanges: text', parted by empty lines."""
    return "\n\n".join(f"[{number}] {hit.label}: {hit.text}" for number, hit in enumerate(hits, start=1))


def cited(answer: str, hits: Sequence[Hit]) -> Citations:
    """What an answer cites as [1], [1, 3] or [1-3], in the order of the numbers."""
    numbers = sorted({number for match in _CITATION.finditer(answer) for number in _numbers(match[1])})
    known = {number: hits[number - 1] for number in numbers if 1 <= number <= len(hits)}
    return Citations(known, tuple(number for number in numbers if number not in known))


def _numbers(text: str) -> Iterator[int]:
    for part in re.split(r"\s*[,;]\s*", text):
        low, *_, high = [int(number) for number in re.split(r"\s*[–-]\s*", part)] * 2
        yield from range(low, high + 1) if low < high <= low + _WIDEST else {low, high}


class _Library:
    """The passages of one state of the store, ready to be asked."""

    def __init__(self, passages: Sequence[Passage], names: dict[int, str]) -> None:
        self._passages = passages
        self._names = names
        self._groups: dict[int, list[Passage]] = {}
        for passage in passages:
            self._groups.setdefault(_group(passage), []).append(passage)
        self._index = _index([terms(self._found_by(p)) for p in passages])

    def ranked(self, query: str, documents: Collection[int] | None) -> Iterator[Hit]:
        """All passages that share a word with the query; equal scores in the order of the documents."""
        asked = list(dict.fromkeys(terms(query)))
        if self._index is None or not asked:
            return
        scores = self._index.get_scores(asked)
        seen: set[int] = set()
        for place in (-scores).argsort(kind="stable"):
            passage = self._passages[int(place)]
            if scores[place] <= 0:
                return
            if _group(passage) in seen or (documents is not None and passage.document_id not in documents):
                continue
            seen.add(_group(passage))
            yield self._hit(passage, float(scores[place]))

    def _hit(self, passage: Passage, score: float) -> Hit:
        others = (p for p in self._groups[_group(passage)] if p.id != passage.id)
        return Hit(
            passage.id,
            passage.document_id,
            self._names[passage.document_id],
            passage.place,
            passage.text,
            score,
            tuple(_label(self._names[p.document_id], p.place) for p in others),
        )

    def _found_by(self, passage: Passage) -> str:
        return f"{Path(self._names[passage.document_id]).stem}\n{passage.place}\n{passage.text}"


class _Shelf:
    """The library of a store, built anew when its documents have changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._token = ""
        self._library = _Library((), {})

    def library(self) -> _Library:
        token = self._store.documents_token()
        with self._lock:
            if token != self._token:
                names = {d.id: d.name for d in self._store.documents()}
                # Between the two reads a document may come or go; the token then differs again the next time.
                passages = [p for p in self._store.live_passages() if p.document_id in names]
                self._library, self._token = _Library(passages, names), token
            return self._library


@lru_cache(maxsize=2)
def _shelf(store: Store) -> _Shelf:
    return _Shelf(store)


def _index(corpus: list[list[str]]) -> BM25 | None:
    """None when no passage has a word."""
    if not any(corpus):
        return None
    import bm25s  # only a question needs it

    index = bm25s.BM25(method="lucene")
    index.index(corpus, show_progress=False)
    return index


def _group(passage: Passage) -> int:
    return passage.near_id or passage.id


def _label(document: str, place: str) -> str:
    return f"{document}, {place}" if place else document
