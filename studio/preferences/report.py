"""The report card of a reward model: how often it agrees with judgements it never saw, and what it may go by instead.

Pairs of one ranking are dependent, so intervals are resampled by prompt and not by pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from studio.evaluation import grouped_mean

__all__ = ["HeldOut", "report_card"]

_BINS = 10
_ALIKE = 0.1  # answers whose lengths differ by less than this share count as equally long


class HeldOut(Protocol):
    """A held-out pair: its prompt's group, both scores, both lengths in tokens."""

    @property
    def group(self) -> str: ...
    @property
    def chosen(self) -> float: ...
    @property
    def rejected(self) -> float: ...
    @property
    def chosen_tokens(self) -> int: ...
    @property
    def rejected_tokens(self) -> int: ...


def report_card(pairs: Sequence[HeldOut]) -> dict[str, Any] | None:
    """What the Alignment page shows of a reward model; None where no held-out pair was judged.

    `accuracy` and `longer_wins` are shares of pairs with a 95 % interval over prompts, a tie counting half. `ece` is
    over ten bins of the predicted probability (Guo et al. 2017, arXiv 1706.04599), `brier` the mean squared error of it.
    """
    if not pairs:
        return None
    groups = [p.group for p in pairs]
    right = [_wins(p.chosen, p.rejected) for p in pairs]
    longer = [_wins(p.chosen_tokens, p.rejected_tokens) for p in pairs]
    alike = [r for r, p in zip(right, pairs, strict=True) if _same_length(p)]
    chances = [1 / (1 + math.exp(-max(-500.0, min(500.0, p.chosen - p.rejected)))) for p in pairs]
    return {
        "pairs": len(pairs),
        "prompts": len(set(groups)),
        "accuracy": asdict(grouped_mean(right, groups)),
        "longer_wins": asdict(grouped_mean(longer, groups)),
        "length_matched": {"value": sum(alike) / len(alike), "n": len(alike)} if alike else None,
        "margin_mean": sum(p.chosen - p.rejected for p in pairs) / len(pairs),
        "ece": _calibration_error(chances),
        "brier": sum((1 - c) ** 2 for c in chances) / len(chances),
    }


def _wins(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _same_length(pair: HeldOut) -> bool:
    return abs(pair.chosen_tokens - pair.rejected_tokens) <= _ALIKE * max(pair.chosen_tokens, pair.rejected_tokens)


def _calibration_error(chances: Sequence[float]) -> float:
    """How far, on average, "90 % sure" is from being right 9 times in 10.

    A pair is seen from its favourite's side: how sure the model is of it, and whether people chose it too.
    """
    seen = [(max(c, 1 - c), float(c > 0.5) if c != 0.5 else 0.5) for c in chances]
    total = 0.0
    for i in range(_BINS):
        low, high = 0.5 + i * 0.5 / _BINS, 0.5 + (i + 1) * 0.5 / _BINS
        inside = [(sure, right) for sure, right in seen if low <= sure < high or (i == _BINS - 1 and sure == high)]
        total += abs(sum(sure for sure, _ in inside) - sum(right for _, right in inside))
    return total / len(seen)
