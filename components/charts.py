"""Pictures drawn on the server, as SVG: no script, no download, and the colours of the page in both modes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from studio.evaluation import Interval

__all__ = ["RungPoint", "compact", "ladder_chart"]

Scale = Callable[[float], float]
Box = tuple[float, float, float, float]

_WIDTH, _HEIGHT = 640, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 14, 44
_SMALLEST, _LARGEST = 5.0, 15.0
_SHIFTS = (0.0, -18.0, 18.0, -36.0, 36.0, -54.0, 54.0)


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
    # The largest mark first, so that it hides no other.
    for point, place in sorted(zip(points, places, strict=True), key=lambda drawn: -drawn[0].new_parameters):
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


@dataclass(frozen=True)
class _Place:
    """Where a label could go: to the left of its mark or not, how far up or down, and what speaks against it."""

    to_left: bool
    shift: float
    box: Box
    cost: float


def _label_places(points: Sequence[RungPoint], spots: Sequence[tuple[float, float]]) -> Sequence[_Place]:
    """The places that cover least and then move least: rungs alike in cost and score would write over each other."""
    marks = [(x - _LARGEST, y - _LARGEST, x + _LARGEST, y + _LARGEST) for x, y in spots]
    choices = []
    for i, (point, spot) in enumerate(zip(points, spots, strict=True)):
        others = [mark for j, mark in enumerate(marks) if j != i]
        choices.append([_place(point, spot, others, *way) for way in product((False, True), _SHIFTS)])

    def cost(places: Sequence[_Place]) -> float:
        covered = sum(_overlap(one.box, other.box) for one, other in combinations(places, 2))
        return 10 * covered + sum(place.cost for place in places)

    return min(product(*choices), key=cost)


def _place(point: RungPoint, spot: tuple[float, float], marks: Sequence[Box], to_left: bool, shift: float) -> _Place:
    box = _label_box(point, spot, to_left, shift)
    outside = _overlap(box, box) - _overlap(box, (0.0, 0.0, _WIDTH, _HEIGHT - _BOTTOM))
    hidden = outside + sum(_overlap(box, mark) for mark in marks)
    return _Place(to_left, shift, box, 10 * hidden + abs(shift) + 4 * to_left)


def _label_box(point: RungPoint, spot: tuple[float, float], to_left: bool, shift: float) -> Box:
    """Left, top, right, bottom of the two lines of a label, as wide as they may get."""
    x, y = spot
    width = max(8.2 * len(f"{point.rung} {point.name}"), 6.2 * len(_note(point))) + _LARGEST + 9
    return (x - width if to_left else x, y + shift - 17, x if to_left else x + width, y + shift + 17)


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _note(point: RungPoint) -> str:
    added = f"{compact(point.new_parameters)} new parameters" if point.new_parameters else "no new parameters"
    return f"{point.score.value:.2f} · {point.tokens:.0f} tokens · {added}"


def _mark(point: RungPoint, x: Scale, y: Scale, most: int, place: _Place) -> str:
    at, height = x(point.tokens), y(point.score.value)
    low, high = y(point.score.low), y(point.score.high)
    share = math.sqrt(point.new_parameters / most) if most else 0.0
    radius = _SMALLEST + (_LARGEST - _SMALLEST) * share
    middle = height + place.shift
    anchor, edge = ("end", at - radius - 9) if place.to_left else ("start", at + radius + 9)
    bar = (
        f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<line class="bar" x1="{at - 5:.1f}" x2="{at + 5:.1f}" y1="{low:.1f}" y2="{low:.1f}"/>'
        f'<line class="bar" x1="{at - 5:.1f}" x2="{at + 5:.1f}" y1="{high:.1f}" y2="{high:.1f}"/>'
    )
    return (
        f'<g class="rung" data-rung="{html.escape(point.rung, quote=True)}">'
        f'<circle class="{"filled" if point.new_parameters else "ring"}" cx="{at:.1f}" cy="{height:.1f}" r="{radius:.1f}"/>{bar}'
        f'<text class="name" x="{edge:.1f}" y="{middle - 3:.1f}" text-anchor="{anchor}">'
        f"{html.escape(point.rung)} {html.escape(point.name)}</text>"
        f'<text class="note" x="{edge:.1f}" y="{middle + 13:.1f}" text-anchor="{anchor}">'
        f"{html.escape(_note(point))}</text></g>"
    )
