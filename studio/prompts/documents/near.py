"""Near duplicates: passages that say nearly the same, in one document or in two (Broder 1997).

Alike means a Jaccard similarity of at least 0.8 between sets of three-word runs. MinHash with locality-sensitive hashing
proposes pairs, and each pair is checked exactly; a pair at the bound itself is missed once in 5,000 times.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

from studio.prompts.documents.passages import Piece
from studio.prompts.documents.words import terms
from studio.store import NewPassage, Store

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

__all__ = ["ALIKE", "marked", "similarity"]

_Runs: TypeAlias = set[str]

ALIKE = 0.8
_RUN = 3  # words
_BANDS, _ROWS = 16, 4  # finds a pair of similarity s with probability 1 - (1 - s**4)**16


def marked(store: Store, pieces: Sequence[Piece]) -> tuple[NewPassage, ...]:
    """The passages to store, those that say nearly what an earlier one says pointing to it."""
    neighbours = _neighbours(store)
    with neighbours.lock:
        neighbours.catch_up()
        return tuple(neighbours.compare(pieces))


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' three-word runs."""
    return _jaccard(_runs(one), _runs(other))


class _Neighbours:
    """Signatures of all passages of a store. Passages never change, so each is signed once."""

    def __init__(self, store: Store) -> None:
        self.lock = threading.Lock()
        self._store = store
        self._hashes = _hashes()
        self._last = 0
        self._signed: dict[str, MinHash] = {}  # what was compared since, and is stored by now or was refused

    def catch_up(self) -> None:
        while new := self._store.passages_after(self._last):
            for passage in new:
                signature = self._signed.get(passage.text) or _signature(_runs(passage.text))
                self._hashes.insert(passage.id, signature)
            self._last = new[-1].id
        self._signed = {}

    def compare(self, pieces: Sequence[Piece]) -> Iterator[NewPassage]:
        here = _hashes()
        earlier: list[tuple[_Runs, NewPassage]] = []
        for position, piece in enumerate(pieces):
            runs = _runs(piece.text)
            signature = self._signed[piece.text] = _signature(runs)
            near_id, twin = self._stored(signature, runs), None
            if near_id is None:
                alike = (n for n in sorted(here.query(signature)) if _jaccard(runs, earlier[n][0]) >= ALIKE)
                if (first := next(alike, None)) is not None:
                    # What it points to may itself point to something: all of a group point to the earliest.
                    near_id, twin = earlier[first][1].near_id, earlier[first][1].twin
                    twin = first if near_id is None and twin is None else twin
            made = NewPassage(piece.place, piece.text, near_id, twin)
            here.insert(position, signature)
            earlier.append((runs, made))
            yield made

    def _stored(self, signature: MinHash, runs: _Runs) -> int | None:
        proposed = self._hashes.query(signature)
        for passage in self._store.live_passages_of(proposed) if proposed else ():
            if _jaccard(runs, _runs(passage.text)) >= ALIKE:
                return passage.near_id or passage.id
        return None


@lru_cache(maxsize=2)
def _neighbours(store: Store) -> _Neighbours:
    return _Neighbours(store)


def _hashes() -> MinHashLSH:
    from datasketch import MinHashLSH  # only an import of documents needs it

    return MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))


def _signature(runs: _Runs) -> MinHash:
    signature = _blank().copy()
    signature.update_batch(run.encode() for run in runs)
    return signature


@cache
def _blank() -> MinHash:
    from datasketch import MinHash  # only an import of documents needs it

    return MinHash(num_perm=_BANDS * _ROWS)


def _runs(text: str) -> _Runs:
    words = terms(text)
    return {" ".join(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1))}


def _jaccard(one: _Runs, other: _Runs) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
