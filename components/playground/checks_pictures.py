"""Small pictures of figures on the Checks page, as SVG: a dot with its interval as a bar, and many dots on one line.

They are as wide as their place and always as high, in the colours of the page. The figures stand beside them as text, so
screen readers are told to pass over them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from studio.evaluation import Interval
from studio.prompts.verdict import FEWEST_ITEMS, signed

__all__ = ["ends_of", "reach_of", "scale", "scale_around", "strip", "whisker"]

_EDGE = 2.0  # per cent that stay free at both sides, so that no dot is cut


def whisker(
    interval: Interval, low: float, high: float, *, origin: float | None = None, is_up_good: bool = True
) -> str:
    """A dot with its interval as a bar, on a line from `low` to `high`.

    `origin` is marked with a stroke, and an interval that leaves it out gets the colour of good or bad; one of too few
    rows to decide gets none.
    """
    side = ""
    if origin is not None and not interval.low <= origin <= interval.high and interval.n >= FEWEST_ITEMS:
        side = "good" if (interval.low > origin) == is_up_good else "bad"
    left, right, dot = (_x(v, low, high) for v in (interval.low, interval.high, interval.value))
    ends = "".join(f'<line class="bar" x1="{x}" x2="{x}" y1="5" y2="13"/>' for x in (left, right))
    return _picture(
        f'{_axis(low, high, origin)}<line class="bar" x1="{left}" x2="{right}" y1="9" y2="9"/>{ends}'
        f'<circle cx="{dot}" cy="9" r="4"/>',
        side,
    )


def strip(values: Iterable[float], low: float, high: float) -> str:
    """Many values as dots on one line, around 0."""
    dots = "".join(f'<circle cx="{_x(v, low, high)}" cy="9" r="3.5"/>' for v in values)
    return _picture(f"{_axis(low, high, 0.0)}{dots}", "many")


def scale(left: str, middle: str, right: str) -> str:
    """What stands under the ends and the middle of a line."""
    return f'<span class="scale">{"".join(f"<i>{html.escape(word)}</i>" for word in (left, middle, right))}</span>'


def scale_around(reach: float, middle: str = "0") -> str:
    return scale(signed(-reach), middle, signed(reach))


def reach_of(gaps: Sequence[Interval]) -> float:
    """How far to both sides of 0 a picture of these differences must go."""
    furthest = max((abs(end) for gap in gaps for end in (gap.low, gap.high)), default=0.1)
    return max(0.1, math.ceil(20 * furthest - 1e-9) / 20)


def ends_of(scores: Sequence[Interval]) -> tuple[float, float]:
    """From where to where a picture of these scores must go, in tenths."""
    low = math.floor(10 * min(score.low for score in scores) + 1e-9) / 10
    high = math.ceil(10 * max(score.high for score in scores) - 1e-9) / 10
    return (low, high) if high > low else (low - 0.1, high + 0.1)


def _picture(parts: str, side: str) -> str:
    return f'<svg class="whisker" data-side="{side}" aria-hidden="true" focusable="false">{parts}</svg>'


def _axis(low: float, high: float, origin: float | None) -> str:
    line = '<line class="axis" x1="0" x2="100%" y1="9" y2="9"/>'
    if origin is None:
        return line
    x = _x(origin, low, high)
    return f'{line}<line class="origin" x1="{x}" x2="{x}" y1="0" y2="18"/>'


def _x(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.5
    return f"{_EDGE + (100 - 2 * _EDGE) * min(1.0, max(0.0, share)):.2f}%"
