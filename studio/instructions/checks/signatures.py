"""Which records say nearly the same, among a million: MinHash with locality-sensitive hashing (Broder 1997).

Alike means the Jaccard similarity of the sets of three-word runs. A record's 64 smallest hashes estimate it; records
that agree on four of them in a row are proposed (16 such bands), and each proposed pair is counted exactly. A pair of
similarity s is proposed with probability 1 - (1 - s**4)**16: 0.9998 at 0.8, so one in 5,000 pairs at that bound is missed.

All of it works on arrays, a chunk of records at a time. Signatures and runs are kept on disk by record and revision, so
that the next look only reads what was edited.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from studio.instructions.checks.base import texts
from studio.instructions.checks.normal import Digests, digests, whole
from studio.store import Record

__all__ = ["Pairs", "Signed", "alike", "signed"]

_Hashes = npt.NDArray[np.uint32]
_Places = npt.NDArray[np.int64]

_RUN = 3  # words
_BANDS, _ROWS = 16, 4
_HASHES = _BANDS * _ROWS
_SLACK = 0.2  # four standard deviations of an estimate from 64 hashes
_ALL_PAIRS = 32  # of a larger bucket, each is compared to its next neighbours only
_NEIGHBOURS = 16
_CHUNK_RECORDS, _CHUNK_LETTERS = 4096, 4_000_000
_PAIRS_AT_ONCE, _RUNS_AT_ONCE = 1 << 16, 1 << 22
_MOST_WORDS = 2_000_000  # codes remembered at a time

# A script without spaces is compared letter by letter; else a sentence would be one word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

_FORMAT = 1  # of the folder; another one is not read
_COLUMNS: dict[str, tuple[Any, int]] = {  # file -> type, and how many of it a record has (0: any number)
    "ids": (np.int64, 1),
    "revisions": (np.int64, 1),
    "digests": (np.uint64, 2),
    "hashes": (np.uint32, _HASHES),
    "own": (np.int64, 1),
    "sizes": (np.int64, 1),
    "runs": (np.uint32, 0),
}


@dataclass(frozen=True)
class Signed:
    """Records as sets of runs, row by row in the order they came.

    The runs of row i are `runs[starts[i] : starts[i] + sizes[i]]`: first the `own[i]` of question and answer, then what
    the context adds to them.
    """

    ids: _Places
    revisions: _Places
    digests: Digests
    hashes: _Hashes
    own: _Places
    sizes: _Places
    runs: _Hashes

    @property
    def starts(self) -> _Places:
        return np.cumsum(self.sizes) - self.sizes


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that are alike, each once, and how much."""

    one: _Places
    other: _Places
    similarity: npt.NDArray[np.float64]


# -- signing --------------------------------------------------------------------------------------------------------


def signed(records: Iterable[Record], memory: Path) -> Signed:
    """All records signed, in one pass. What the folder holds of the same id and revision is taken from there."""
    memory.mkdir(parents=True, exist_ok=True)
    shelf = memory / "signatures"
    before = _Shelf(_opened(shelf))
    made = Path(tempfile.mkdtemp(dir=memory, prefix="signing-"))
    try:
        with ExitStack() as files:
            out = {name: files.enter_context((made / name).open("wb")) for name in _COLUMNS}
            codes = _Codes()
            for chunk in _chunks(records):
                for name, column in _columns(chunk, before, codes).items():
                    out[name].write(np.ascontiguousarray(column).data)
        (made / "format.json").write_text(json.dumps({"format": _FORMAT}))
        result = _opened(made)
        shutil.rmtree(shelf, ignore_errors=True)
        made.rename(shelf)  # what is mapped stays readable
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return result


def _opened(folder: Path) -> Signed:
    """The signatures in a folder; none where there are none, or others than these."""
    try:
        if json.loads((folder / "format.json").read_text()) == {"format": _FORMAT}:
            columns = {name: _mapped(folder / name, *kind) for name, kind in _COLUMNS.items()}
            rows = {len(column) for name, column in columns.items() if name != "runs"}
            if len(rows) == 1 and int(columns["sizes"].sum()) == len(columns["runs"]):
                return Signed(**columns)
    except (OSError, ValueError):  # never written, or half of it was deleted
        pass
    return Signed(**{name: _shaped(np.zeros(0, kind), width) for name, (kind, width) in _COLUMNS.items()})


def _mapped(path: Path, kind: Any, width: int) -> npt.NDArray[Any]:
    empty = path.stat().st_size == 0  # which cannot be mapped
    return _shaped(np.zeros(0, kind) if empty else np.memmap(path, kind, "r"), width)


def _shaped(column: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    return column.reshape(-1, width) if width > 1 else column


class _Shelf:
    """What was signed before, found by id and revision."""

    def __init__(self, kept: Signed) -> None:
        self.kept = kept
        self._order = np.argsort(kept.ids, kind="stable")
        self._ids = kept.ids[self._order]
        self._starts = kept.starts

    def rows(self, ids: _Places, revisions: _Places) -> _Places:
        """Where each record is, -1 for those that are new or were edited."""
        if not len(self._ids):
            return np.full(len(ids), -1, np.int64)
        at = self._order[np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)]
        return np.where((self.kept.ids[at] == ids) & (self.kept.revisions[at] == revisions), at, -1)

    def runs(self, rows: _Places) -> _Hashes:
        return self.kept.runs[_spread(self._starts[rows], self.kept.sizes[rows])]


class _Codes(dict[str, int]):
    """A number for each word, the same in every process."""

    def __missing__(self, word: str) -> int:
        if len(self) > _MOST_WORDS:
            self.clear()
        code = self[word] = zlib.crc32(word.encode("utf-8", "replace"))
        return code


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    letters = 0
    for record in records:
        chunk.append(record)
        letters += sum(len(text) for _, text in texts(record))
        if len(chunk) == _CHUNK_RECORDS or letters > _CHUNK_LETTERS:
            yield chunk
            chunk, letters = [], 0
    if chunk:
        yield chunk


def _columns(chunk: list[Record], before: _Shelf, codes: _Codes) -> dict[str, npt.NDArray[Any]]:
    ids = np.array([record.id for record in chunk], np.int64)
    revisions = np.array([record.revision for record in chunk], np.int64)
    rows = before.rows(ids, revisions)
    known, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
    fresh = _fresh([chunk[n] for n in new], codes)
    order = np.argsort(np.concatenate([new, known]), kind="stable")  # back into the order they came in
    made: dict[str, npt.NDArray[Any]] = {"ids": ids, "revisions": revisions}
    for name in ("digests", "hashes", "own", "sizes"):
        made[name] = np.concatenate([fresh[name], getattr(before.kept, name)[rows[known]]])
    runs = np.concatenate([fresh["runs"], before.runs(rows[known])])
    starts = np.cumsum(made["sizes"]) - made["sizes"]
    made["runs"] = runs[_spread(starts[order], made["sizes"][order])]
    return made | {name: made[name][order] for name in ("digests", "hashes", "own", "sizes")}


def _fresh(records: list[Record], codes: _Codes) -> dict[str, npt.NDArray[Any]]:
    """Digest, runs and smallest hashes of records that were never seen."""
    runs, parts = _runs(records, codes)
    row = parts >> 1
    sizes = np.bincount(row, minlength=len(records))
    own = np.bincount(row[parts & 1 == 0], minlength=len(records))
    values = digests(map(whole, records))
    return {"digests": values, "hashes": _smallest(runs, sizes), "own": own, "sizes": sizes, "runs": runs}


def _runs(records: list[Record], codes: _Codes) -> tuple[_Hashes, _Places]:
    """The distinct runs of all records, in order of rows; beside each its row twice, plus 1 where only the context has it."""
    words: list[int] = []
    lengths: list[int] = []
    parts: list[int] = []
    for row, record in enumerate(records):
        for name, text in texts(record):
            before = len(words)
            words.extend(map(codes.__getitem__, _WORD.findall(text.casefold())))
            lengths.append(len(words) - before)
            parts.append(2 * row + (name == "context"))
    hashes, part = _hashed(np.array(words, np.uint64), np.array(lengths, np.int64), np.array(parts, np.int64))
    # Sorted by row, then run, own before context: the first of each run in a row is kept.
    rows = part.astype(np.uint64) >> np.uint64(1)
    keys = rows << np.uint64(33) | hashes << np.uint64(1) | (part & 1).astype(np.uint64)
    keys.sort()
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] >> np.uint64(1) != keys[:-1] >> np.uint64(1)
    keys = keys[first]
    part = (keys >> np.uint64(33) << np.uint64(1) | keys & np.uint64(1)).astype(np.int64)
    order = np.argsort(part, kind="stable")
    return (keys[order] >> np.uint64(1)).astype(np.uint32), part[order]


_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def _hashed(words: npt.NDArray[np.uint64], lengths: _Places, parts: _Places) -> tuple[npt.NDArray[np.uint64], _Places]:
    """Every run of three words within a text as 32 bits; a shorter text is one run."""
    text = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(len(words)) - (np.cumsum(lengths) - lengths)[text]
    left = lengths[text] - offset
    mixed = words * _MIX[0]
    for step in range(1, _RUN):
        follows = np.zeros_like(words)
        follows[:-step] = words[step:]
        mixed += np.where(left > step, follows, np.uint64(0)) * _MIX[step]
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    starts = (left >= _RUN) | (offset == 0)
    return mixed[starts] >> np.uint64(32), parts[text[starts]]


def _smallest(runs: _Hashes, sizes: _Places) -> _Hashes:
    """The smallest value of each row under 64 bijections of 32 bits, h -> a * h + b with a odd."""
    result = np.full((len(sizes), _HASHES), 0xFFFFFFFF, np.uint32)
    has_runs = np.flatnonzero(sizes)
    if not len(has_runs):
        return result
    starts = (np.cumsum(sizes) - sizes)[has_runs]
    factors, shifts = _bijections()
    # One column at a time: the runs of a chunk stay in the cache.
    columns = np.empty((_HASHES, len(has_runs)), np.uint32)
    moved = np.empty_like(runs)
    for n in range(_HASHES):
        np.multiply(runs, factors[n], out=moved)
        moved += shifts[n]
        np.minimum.reduceat(moved, starts, out=columns[n])
    result[has_runs] = columns.T
    return result


def _bijections() -> tuple[_Hashes, _Hashes]:
    random = np.random.default_rng(20221019)  # any constant: signatures on disk have to stay comparable
    factors = random.integers(0, 1 << 31, _HASHES, np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, random.integers(0, 1 << 32, _HASHES, np.uint32)


# -- comparing ------------------------------------------------------------------------------------------------------


def alike(these: Signed, rows: _Places, threshold: float) -> Pairs:
    """The pairs among `rows` whose similarity reaches the threshold.

    Question and answer have to reach it by themselves too: two questions about one long text are no duplicates.
    """
    rows = rows[these.sizes[rows] > 0]
    proposed = _proposed(these.hashes, rows, threshold)
    one, other = (rows[side] for side in _unpacked(proposed))
    starts = these.starts
    similarity = np.minimum(
        _jaccard(these, starts, these.sizes, one, other), _jaccard(these, starts, these.own, one, other)
    )
    near = similarity >= threshold
    return Pairs(one[near], other[near], similarity[near])


def _proposed(hashes: _Hashes, rows: _Places, threshold: float) -> npt.NDArray[np.uint64]:
    """Pairs of places in `rows` that share a band and whose estimate is not far below, one in the upper 32 bits."""
    found = np.zeros(0, np.uint64)
    for band in range(_BANDS):
        columns = hashes[:, band * _ROWS : (band + 1) * _ROWS][rows].astype(np.uint64)
        key = (columns * np.uint64(0x9E3779B97F4A7C15)) ^ (columns >> np.uint64(7))
        mixed = key[:, 0]
        for row in range(1, _ROWS):
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + key[:, row]
        next_hash = hashes[:, (band + 1) * _ROWS % _HASHES][rows]
        for pairs in _within_buckets(mixed, next_hash):
            near = [_near(hashes, rows, part, threshold) for part in _split(pairs, _PAIRS_AT_ONCE)]
            found = _distinct(np.concatenate([found, *near]))
    return found


def _within_buckets(key: npt.NDArray[np.uint64], next_hash: _Hashes) -> Iterator[npt.NDArray[np.uint64]]:
    """Pairs of equal keys, in pieces of a bounded size."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(key) else np.zeros(0, np.int64)
    )
    sizes = np.diff(np.append(starts, len(key)))
    for size in np.unique(sizes[(sizes > 1) & (sizes <= _ALL_PAIRS)]):
        buckets = order[starts[sizes == size][:, None] + np.arange(size)]
        first, second = np.triu_indices(size, 1)
        for some in _split(buckets, max(1, (1 << 20) // len(first))):
            yield _packed(some[:, first].ravel(), some[:, second].ravel())
    large = sizes > _ALL_PAIRS
    if not large.any():
        return
    # In a large bucket those that agree in the next hash as well are put side by side.
    members = order[_spread(starts[large], sizes[large])]
    bucket = np.repeat(np.arange(int(large.sum())), sizes[large])
    beside = np.lexsort((next_hash[members], bucket))
    members, bucket = members[beside], bucket[beside]
    for step in range(1, _NEIGHBOURS + 1):
        same = bucket[step:] == bucket[:-step]
        yield _packed(members[:-step][same], members[step:][same])


def _distinct(pairs: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """In order, each once. numpy's own puts them into a hash table first, which takes several times as long."""
    pairs.sort()
    return pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs


def _packed(one: _Places, other: _Places) -> npt.NDArray[np.uint64]:
    low, high = np.minimum(one, other).astype(np.uint64), np.maximum(one, other).astype(np.uint64)
    return low << np.uint64(32) | high


def _unpacked(pairs: npt.NDArray[np.uint64]) -> tuple[_Places, _Places]:
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _near(hashes: _Hashes, rows: _Places, pairs: npt.NDArray[np.uint64], threshold: float) -> npt.NDArray[np.uint64]:
    one, other = _unpacked(pairs)
    agree = (hashes[rows[one]] == hashes[rows[other]]).sum(axis=1)
    return pairs[agree >= (threshold - _SLACK) * _HASHES]


def _jaccard(these: Signed, starts: _Places, sizes: _Places, one: _Places, other: _Places) -> npt.NDArray[np.float64]:
    """Exactly, of the first `sizes` runs of each row; 1 where neither has any."""
    shared = np.zeros(len(one), np.int64)
    total = sizes[one] + sizes[other]
    piece = np.cumsum(total) // _RUNS_AT_ONCE
    for number in np.unique(piece):
        here = np.flatnonzero(piece == number)
        keys = np.concatenate([_numbered(these.runs, starts[side[here]], sizes[side[here]]) for side in (one, other)])
        keys.sort()
        twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
        shared[here] = np.bincount(twice.astype(np.int64), minlength=len(here))
    union = total - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def _numbered(runs: _Hashes, starts: _Places, sizes: _Places) -> npt.NDArray[np.uint64]:
    return np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes) << np.uint64(32) | runs[_spread(starts, sizes)]


def _spread(starts: _Places, sizes: _Places) -> _Places:
    """The places start, start + 1, ... of each, one after the other."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))


def _split(values: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
