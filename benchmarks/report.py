"""Rows of minimum, median and maximum: these machines are noisy, so one number alone says little."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["row"]


def row(name: str, values: Sequence[float], unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:44} {low:8.2f} {middle:8.2f} {high:8.2f} {unit}  (min, median, max; n={len(values)})"
