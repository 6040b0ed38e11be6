"""When two texts count as the same: without case, Unicode form and white space."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from studio.instructions.checks.base import texts
from studio.store import Record

__all__ = ["Digests", "digest", "digests", "flat", "groups", "whole"]

Digests = npt.NDArray[np.uint64]  # 128 bits a text, as two columns


def flat(text: str) -> str:
    """Lower case, one Unicode form, single spaces: what a record's group is made of too."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def digest(parts: Iterable[str]) -> bytes:
    """16 bytes that are equal when all parts are the same."""
    return hashlib.blake2b("\0".join(map(flat, parts)).encode("utf-8", "replace"), digest_size=16).digest()


def whole(record: Record) -> bytes:
    """Of everything that a record teaches. Its category is no text: the same text in two categories is a duplicate."""
    return digest(text for _, text in texts(record))


def digests(values: Iterable[bytes]) -> Digests:
    return np.frombuffer(b"".join(values), dtype=np.uint64).reshape(-1, 2)


def groups(values: Digests) -> npt.NDArray[np.int64]:
    """For each row the number of its group; rows with the same digest share one, and groups are numbered from 0."""
    if not len(values):
        return np.zeros(0, np.int64)
    order = np.lexsort((values[:, 1], values[:, 0]))
    ordered = values[order]
    is_new = np.concatenate([[False], (ordered[1:] != ordered[:-1]).any(axis=1)])
    numbers = np.empty(len(values), np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers
