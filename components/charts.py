"""Pictures drawn on the server, as SVG: no script, no download, and the colours of the page in both modes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio.evaluation import Interval

__all__ = ["RungPoint", "compact", "ladder_chart"]

Scale = Callable[[float], float]

_WIDTH, _HEIGHT = 640, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 14, 44
_SMALLEST, _LARGEST = 5.0, 15.0


@dataclass(frozen=True)
class RungPoint:
    """A rung as the chart shows it: how well, at what cost per call, and how much there is to look after."""

    rung: str
    name: str
    score: Interval
    tokens: float
    new_parameters: int


def ladder_chart(points: Sequence[RungPoint]) -> str:
    """Score with its interval against tokens per call; the area of a mark is its new parameters."""
    floor, ceiling = _score_range(points)
    widest = _nice_ceiling(max(p.tokens for p in points) * 1.15)
    most = max((p.new_parameters for p in points), default=0)

    def x(tokens: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * tokens / widest

    def y(score: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (ceiling - score) / (ceiling - floor)

    parts = [_grid(x, y, floor, ceiling, widest)]
    places = _label_places(points, [(x(p.tokens), y(p.score.value)) for p in points])
    for point, place in zip(points, places, strict=True):
        parts.append(_mark(point, x, y, most, place))
    spoken = "; ".join(f"{p.rung} {p.name}: score {p.score.value:.2f}, {p.tokens:.0f} tokens per call" for p in points)
    return (
        f'<svg class="ladder-chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(spoken, quote=True)}">{"".join(parts)}</svg>'
    )


def compact(count: float) -> str:
    """'0', '812', '4.9 M': as much of a large number as anyone compares."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def _score_range(points: Sequence[RungPoint]) -> tuple[float, float]:
    low = math.floor(10 * min(p.score.low for p in points) - 0.3) / 10
    high = math.ceil(10 * max(p.score.high for p in points) + 0.3) / 10
    while high - low < 0.35:
        low, high = low - 0.1, high + 0.1
    return max(0.0, round(low, 1)), min(1.0, round(high, 1))


def _nice_ceiling(value: float) -> float:
    size = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= value)


def _grid(x: Scale, y: Scale, floor: float, ceiling: float, widest: float) -> str:
    step = 0.1 if ceiling - floor <= 0.51 else 0.2
    lines = []
    for i in range(round((ceiling - floor) / step + 1e-9) + 1):
        score = floor + i * step
        if score > ceiling + 1e-9:
            break
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(score):.1f}" y2="{y(score):.1f}"/>'
        )
        lines.append(f'<text class="tick" x="{_LEFT - 8}" y="{y(score) + 4:.1f}" text-anchor="end">{score:.1f}</text>')
    bottom = y(floor)
    for i in range(5):
        tokens = widest * i / 4
        lines.append(
            f'<text class="tick" x="{x(tokens):.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{tokens:.0f}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(
        f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">Tokens per call (prompt and answer)</text>'
    )
    return "".join(lines)


def _label_places(points: Sequence[RungPoint], spots: Sequence[tuple[float, float]]) -> list[tuple[bool, float]]:
    """For each mark: whether its label goes to its left, and how far up or down, so that no two overlap."""
    spans = []
    for point, (x, _) in zip(points, spots, strict=True):
        width = max(8.2 * len(f"{point.rung} {point.name}"), 6.2 * len(_note(point))) + _LARGEST + 9
        to_left = x + width > _WIDTH
        spans.append((x - width, x) if to_left else (x, x + width))
    places = []
    for i, ((left, right), (x, y)) in enumerate(zip(spans, spots, strict=True)):
        others = [
            spots[j][1] + 0.01 * (j - i)  # of two marks at one height the later one counts as lower
            for j, (other_left, other_right) in enumerate(spans)
            if j != i and other_left < right and left < other_right and abs(spots[j][1] - y) < 44
        ]
        shift = 0.0 if not others else (-24.0 if y < min(others) else 24.0)
        places.append((right == x, shift))
    return places


def _note(point: RungPoint) -> str:
    added = f"{compact(point.new_parameters)} new parameters" if point.new_parameters else "no new parameters"
    return f"{point.score.value:.2f} · {point.tokens:.0f} tokens · {added}"


def _mark(point: RungPoint, x: Scale, y: Scale, most: int, place: tuple[bool, float]) -> str:
    at, height = x(point.tokens), y(point.score.value)
    low, high = y(point.score.low), y(point.score.high)
    share = math.sqrt(point.new_parameters / most) if most else 0.0
    radius = _SMALLEST + (_LARGEST - _SMALLEST) * share
    to_left, shift = place
    anchor, edge = ("end", at - radius - 9) if to_left else ("start", at + radius + 9)
    bar = (
        f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<line class="bar" x1="{at - 5:.1f}" x2="{at + 5:.1f}" y1="{low:.1f}" y2="{low:.1f}"/>'
        f'<line class="bar" x1="{at - 5:.1f}" x2="{at + 5:.1f}" y1="{high:.1f}" y2="{high:.1f}"/>'
    )
    return (
        f'<g class="rung" data-rung="{html.escape(point.rung, quote=True)}">'
        f'<circle class="{"filled" if point.new_parameters else "ring"}" cx="{at:.1f}" cy="{height:.1f}" r="{radius:.1f}"/>{bar}'
        f'<text class="name" x="{edge:.1f}" y="{height + shift - 3:.1f}" text-anchor="{anchor}">'
        f"{html.escape(point.rung)} {html.escape(point.name)}</text>"
        f'<text class="note" x="{edge:.1f}" y="{height + shift + 13:.1f}" text-anchor="{anchor}">'
        f"{html.escape(_note(point))}</text></g>"
    )
