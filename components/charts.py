"""Pictures drawn on the server, as SVG or HTML: no script, no download, and the colours of the page in both modes.

What can be picked carries a `data-key`; the page that shows it listens for that. Words are escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from studio.evaluation import Interval

__all__ = ["Bar", "Dot", "RungPoint", "bar_list", "compact", "histogram", "ladder_chart", "percent", "scatter"]

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


# -- bars and dots that can be picked ------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """What is counted, how often, and its share; `key` is what a pick sends, '' where nothing can be shown.

    `beside` is a share to compare with, and `note` stands on hover.
    """

    words: str
    n: int
    share: float
    key: str = ""
    beside: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A thing on a map, and the number of the group that it is in."""

    x: float
    y: float
    group: int


def percent(share: float) -> str:
    """'12 %', and '<1 %' for what is there but little."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


def bar_list(label: str, bars: Sequence[Bar]) -> str:
    """Bars below each other with their numbers, as HTML; the widest share fills the line. A mark is the share beside."""
    widest = max((max(bar.share, bar.beside or 0.0) for bar in bars), default=0.0) or 1.0
    lines = "".join(f"<li>{_line(bar, widest)}</li>" for bar in bars)
    return f'<ul class="bars" data-roving aria-label="{html.escape(label, quote=True)}">{lines}</ul>'


def _line(bar: Bar, widest: float) -> str:
    other = f'<b style="--at:{bar.beside / widest:.4f}"></b>' if bar.beside is not None else ""
    words = html.escape(bar.words)
    inner = (
        f'<span class="what" title="{html.escape(bar.note or bar.words, quote=True)}">{words}</span>'
        f'<span class="bar-track" aria-hidden="true"><i style="--share:{bar.share / widest:.4f}"></i>{other}</span>'
        f'<span class="n">{bar.n:,}</span><span class="share">{percent(bar.share)}</span>'
    )
    if not bar.key:
        return f'<div class="bar-line">{inner}</div>'
    return f'<button type="button" class="bar-line" data-key="{html.escape(bar.key, quote=True)}">{inner}</button>'


def histogram(label: str, bars: Sequence[Bar], unit: str, *, mark: tuple[float, str] | None = None) -> str:
    """Bars beside each other, as HTML. `mark` is a line at a share of the width, with its words.

    One stop of the tab key for all of them; arrows go from bar to bar, and the open one is said above.
    """
    highest = max((bar.n for bar in bars), default=0) or 1
    first = next((i for i, bar in enumerate(bars) if bar.key), -1)
    drawn = "".join(_column(bar, highest, unit, is_first=i == first) for i, bar in enumerate(bars))
    line = ""
    if mark is not None:
        at, words = mark
        side = " to-left" if at > 0.6 else ""
        line = f'<span class="mark{side}" style="--at:{at:.4f}"><span>{html.escape(words)}</span></span>'
    ends = f"<span>{html.escape(bars[0].words)}</span><span>{html.escape(bars[-1].words)}</span>" if bars else ""
    return (
        f'<div class="histogram" data-roving role="group" aria-label="{html.escape(label, quote=True)}">{drawn}{line}</div>'
        f'<div class="histogram-ends" aria-hidden="true">{ends}</div>'
    )


def _column(bar: Bar, highest: int, unit: str, *, is_first: bool) -> str:
    height = f'<i style="--share:{bar.n / highest:.4f}"></i>'
    if not bar.key:
        return f"<span>{height if bar.n else ''}</span>"
    said = html.escape(f"{bar.words} {unit}: {bar.n:,} ({percent(bar.share)})".replace("  ", " "), quote=True)
    return (
        f'<button type="button" data-key="{html.escape(bar.key, quote=True)}" data-says="{said}" aria-label="{said}" '
        f'tabindex="{0 if is_first else -1}">{height}</button>'
    )


_MAP_WIDTH, _MAP_HEIGHT, _MAP_MARGIN = 880, 380, 28
_DOTS = 700  # more only hide each other
_TURN = 137.508  # degrees of the colour circle between two groups, so that neighbours differ whatever their number


def scatter(label: str, dots: Sequence[Dot], groups: Sequence[Bar]) -> str:
    """A map of dots with the names of their groups on it, as SVG; a group is picked by its name or any of its dots."""
    shown = dots[:: max(1, -(-len(dots) // _DOTS))]
    x, y = _fitted([d.x for d in dots], _MAP_WIDTH), _fitted([d.y for d in dots], _MAP_HEIGHT)
    clouds, taken = [], list[Box]()
    names = []
    for number, group in enumerate(groups):
        mine = [(x(dot.x), y(dot.y)) for dot in shown if dot.group == number]
        if not mine:
            continue
        key = f' data-key="{html.escape(group.key, quote=True)}"' if group.key else ""
        marks = "".join(f'<circle cx="{at:.0f}" cy="{down:.0f}" r="4"/>' for at, down in mine)
        clouds.append(f'<g class="cloud" style="--hue:{number * _TURN % 360:.0f}"{key}>{marks}</g>')
        names.append(_name_on_map(group, number, mine, taken, key))
    return (
        f'<svg class="topic-map" viewBox="0 0 {_MAP_WIDTH} {_MAP_HEIGHT}" role="group" '
        f'aria-label="{html.escape(label, quote=True)}"><g aria-hidden="true">{"".join(clouds)}</g>{"".join(names)}</svg>'
    )


def _fitted(values: Sequence[float], width: int) -> Scale:
    """From a coordinate to its place. The outermost hundredth sits at the edge, or it would press all others together."""
    ordered = sorted(values)
    low, high = (ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]) if ordered else (0.0, 0.0)
    room = width - 2 * _MAP_MARGIN
    if high <= low:
        return lambda value: width / 2
    return lambda value: _MAP_MARGIN + room * min(max((value - low) / (high - low), 0.0), 1.0)


def _name_on_map(group: Bar, number: int, mine: Sequence[tuple[float, float]], taken: list[Box], key: str) -> str:
    """The name at the middle of its dots, or as near to it as no other name is."""
    half = 3.7 * len(group.words) + 4
    middle = sorted(at for at, _ in mine)[len(mine) // 2]
    across = min(max(middle, half + 2), max(_MAP_WIDTH - half - 2, half + 2))
    down = sorted(down for _, down in mine)[len(mine) // 2]

    def box(shift: float) -> Box:
        return (across - half, down + shift - 14, across + half, down + shift + 6)

    def cost(shift: float) -> float:
        outside = max(0.0, 16 - (down + shift)) + max(0.0, down + shift - _MAP_HEIGHT + 8)
        return 100 * outside + sum(_overlap(box(shift), other) for other in taken) + abs(shift) / 10

    best = min((20.0 * step * side for step in range(12) for side in (1, -1)), key=cost)
    taken.append(box(best))
    said = html.escape(f"{group.words}: {group.n:,} records ({percent(group.share)})", quote=True)
    pick = f' role="button" tabindex="0" aria-label="{said}"' if key else ""
    return (
        f'<g class="name" style="--hue:{number * _TURN % 360:.0f}"{key}{pick}><title>{said}</title>'
        f'<text x="{across:.0f}" y="{down + best:.0f}" text-anchor="middle">{html.escape(group.words)}</text></g>'
    )


# -- parts of the ladder chart -------------------------------------------------------------------------------


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
