"""Rankings as pairs: what a reward model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["ranking_pairs"]

T = TypeVar("T")


def ranking_pairs(groups: Sequence[Sequence[T]]) -> list[tuple[T, T]]:
    """Every (winner, loser) of a ranking given best group first; what shares a group is a tie and makes no pair."""
    return [
        (winner, loser)
        for place, better in enumerate(groups)
        for worse in groups[place + 1 :]
        for winner in better
        for loser in worse
    ]
