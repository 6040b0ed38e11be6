"""Which examples go into a few-shot prompt."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from studio.errors import InputError

__all__ = ["choose_examples"]


def choose_examples(rows: Sequence[Mapping[str, Any]], k: int, seed: int = 0) -> list[Mapping[str, Any]]:
    """`k` rows of the training split, from as many categories as there are, the same ones for every question.

    Only training rows: an example from validation or test would teach the answer it is measured on.
    """
    if k == 0:
        return []
    pool = [r for r in rows if r.get("split", "train") == "train"]
    if len(pool) < k:
        raise InputError(f"The prompt asks for {k} examples, but the snapshot has {len(pool)} training rows. Add more.")
    shuffled = random.Random(seed).sample(pool, len(pool))
    by_category: dict[str, list[Mapping[str, Any]]] = {}
    for row in shuffled:
        by_category.setdefault(str(row.get("category", "")), []).append(row)
    chosen: list[Mapping[str, Any]] = []
    while len(chosen) < k:
        for rows_left in by_category.values():
            if rows_left and len(chosen) < k:
                chosen.append(rows_left.pop())
    return chosen
