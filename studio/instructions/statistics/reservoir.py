"""A sample in which everything is as likely as anything else, however much comes (Vitter 1985)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Reservoir"]

T = TypeVar("T")


class Reservoir(Generic[T]):
    """At most `size` of what is offered. The same offers and seed give the same sample."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._random = size, random.Random(seed)
        self._kept: list[tuple[int, T]] = []
        self.offered = 0

    def offer(self, make: Callable[[], T]) -> None:
        """`make` is called only for what is kept (for now)."""
        self.offered += 1
        if self.offered <= self._size:
            self._kept.append((self.offered, make()))
        elif (place := self._random.randrange(self.offered)) < self._size:
            self._kept[place] = (self.offered, make())

    def take(self, thing: T) -> None:
        self.offer(lambda: thing)

    @property
    def kept(self) -> list[T]:
        """The sample in the order of the offers."""
        return [thing for _, thing in sorted(self._kept, key=lambda item: item[0])]
