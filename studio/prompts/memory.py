"""What models said of texts: token counts and vectors, kept while the studio runs.

A page counts and compares at every key that is pressed, but a key changes one text; the others are known already.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from studio.backends import Backend, LocalBackend

__all__ = ["Memory", "Vector"]

T = TypeVar("T")
Vector = npt.NDArray[np.float32]  # [size], of length 1

_VECTORS_PER_CALL = 64  # so that what was made before somebody stopped is kept


class Memory:
    """Answers by model and text; the texts that were asked for longest ago are forgotten first."""

    def __init__(self, counts: int = 20_000, vectors: int = 8_000) -> None:
        self._counts: _Known[int] = _Known(counts)
        self._vectors: _Known[Vector] = _Known(vectors)

    async def tokens(self, backend: Backend, texts: Sequence[str]) -> list[int]:
        """The number of tokens in each text; only texts not seen before are counted, all in one call."""
        return await self._counts.of(backend, texts, backend.count_tokens)

    async def vectors(
        self, backend: Backend, texts: Sequence[str], on_done: Callable[[int, int], None] | None = None
    ) -> list[Vector]:
        """One vector per text; `on_done` hears how many of how many are there. Raises Unsupported by name."""

        async def embed(new: Sequence[str]) -> list[Vector]:
            return [np.asarray(vector, dtype=np.float32) for vector in await backend.embed(new)]

        found: list[Vector] = []
        for start in range(0, len(texts), _VECTORS_PER_CALL):
            found += await self._vectors.of(backend, texts[start : start + _VECTORS_PER_CALL], embed)
            if on_done is not None:
                on_done(len(found), len(texts))
        return found


class _Known(Generic[T]):
    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[tuple[str, bytes], T] = OrderedDict()

    async def of(
        self, backend: Backend, texts: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[Sequence[T]]]
    ) -> list[T]:
        model = _identity(backend)
        keys = [(model, hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()) for text in texts]
        found = {key: self._answers[key] for key in keys if key in self._answers}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            found |= dict(zip(new, await ask(list(new.values())), strict=True))
        for key in found:
            self._answers[key] = found[key]
            self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return [found[key] for key in keys]


def _identity(backend: Backend) -> str:
    # A folder may get other weights, or another tokenizer, under the same name.
    digest = backend.weights.digest if isinstance(backend, LocalBackend) else ""
    return f"{backend.ref}@{digest}"
