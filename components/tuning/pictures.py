"""Curves of runs, drawn on the server as SVG: no script, no download, and the colours of the page in both modes."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from studio.jobs.figures import Point

__all__ = ["Line", "Mark", "line_chart", "sparkline"]

_WIDTH, _HEIGHT = 680, 272
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 74, 24, 40
_SPARK_WIDTH, _SPARK_HEIGHT = 96, 24
_TICKS = 4
_LOW, _HIGH = 0.02, 0.98  # of the values the axis shows: one wild step must not flatten the rest


@dataclass(frozen=True)
class Line:
    """One curve. `look` names its colour in the stylesheet; `faint` is for what lies behind, and has no label."""

    name: str
    points: Sequence[Point]
    look: str
    style: Literal["plain", "faint", "dots"] = "plain"


@dataclass(frozen=True)
class Mark:
    """A step that means something, as an upright line with words."""

    step: int
    words: str


def line_chart(lines: Sequence[Line], marks: Sequence[Mark] = (), *, y_title: str, spoken: str) -> str:
    """Curves over steps, each labelled at its end. `spoken` is the picture in words."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return ""
    first = min(line.points[0][0] for line in drawn)
    last = max(max(line.points[-1][0] for line in drawn), first + 1)
    low, high = _range(drawn)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - inside) / (high - low)

    parts = [_grid(low, high, first, last), f'<text class="axis" x="0" y="10">{html.escape(y_title)}</text>']
    parts += [_mark(mark, x(mark.step), place) for place, mark in enumerate(marks) if first <= mark.step <= last]
    parts += [_line(line, [(x(step), y(value)) for step, value in line.points]) for line in drawn]
    parts += _labels([(line, y(line.points[-1][1])) for line in drawn if line.style != "faint"])
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(spoken, quote=True)}">{"".join(parts)}</svg>'
    )


def sparkline(points: Sequence[Point], spoken: str) -> str:
    """A curve as small as a word; '–' where there is none."""
    if len(points) < 2:
        return "–"
    low, high = _span([value for _, value in points])
    first, last = points[0][0], points[-1][0]

    def at(point: Point) -> str:
        across = 2 + (_SPARK_WIDTH - 4) * (point[0] - first) / max(1, last - first)
        down = 2 + (_SPARK_HEIGHT - 4) * (high - min(max(point[1], low), high)) / (high - low)
        return f"{across:.1f},{down:.1f}"

    said = html.escape(spoken, quote=True)
    return (
        f'<svg class="spark" viewBox="0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}" role="img" aria-label="{said}">'
        f'<title>{said}</title><polyline points="{" ".join(at(point) for point in points)}"/></svg>'
    )


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """What the axis shows: all of the lines that are read, and as much of the faint ones."""
    clear = [value for line in lines if line.style != "faint" for _, value in line.points]
    low, high = _span(clear or [value for line in lines for _, value in line.points])
    room = 0.06 * (high - low)
    return low - room, high + room


def _span(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    many = len(ordered) >= 50
    low = ordered[int(_LOW * len(ordered))] if many else ordered[0]
    high = ordered[min(len(ordered) - 1, int(_HIGH * len(ordered)))] if many else ordered[-1]
    if high - low < 1e-9:
        return low - 0.5, high + 0.5
    return low, high


def _grid(low: float, high: float, first: int, last: int) -> str:
    parts = []
    step = _nice((high - low) / _TICKS)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - i * step) / (high - low)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{i * step:.{places}f}</text>'
        )
    gap = max(1, round(_nice((last - first) / 5)))
    for at in range(math.ceil(first / gap) * gap, last + 1, gap):
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at - first) / (last - first)
        parts.append(
            f'<text class="tick" x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{at:,}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">Step</text>')
    return "".join(parts)


def _nice(value: float) -> float:
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * size >= value * 0.999)


def _line(line: Line, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    drawn = f'<polyline class="{line.style}" points="{path}"/>'
    if line.style == "dots" or len(points) == 1:
        drawn += "".join(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5"><title>{html.escape(line.name)}, step {step:,}: '
            f"{value:.3f}</title></circle>"
            for (across, down), (step, value) in zip(points, line.points, strict=True)
        )
    return f'<g class="line" data-look="{html.escape(line.look, quote=True)}">{drawn}</g>'


def _mark(mark: Mark, across: float, place: int) -> str:
    """Each one's words stand on a line of their own: two marks may be close."""
    is_late = across > _WIDTH - _RIGHT - 130
    anchor, beside = ("end", across - 5) if is_late else ("start", across + 5)
    down = _TOP + 10 + 14 * place
    return (
        f'<g class="mark"><line x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick" x="{beside:.1f}" y="{down}" text-anchor="{anchor}">{html.escape(mark.words)}</text></g>'
    )


def _labels(ends: Sequence[tuple[Line, float]]) -> list[str]:
    """The names beside the ends of the lines, moved apart where they would write over each other."""
    parts, floor = [], 0.0
    for line, down in sorted(ends, key=lambda end: end[1]):
        at = max(down + 4, floor)
        floor = at + 13
        parts.append(
            f'<text class="end" data-look="{html.escape(line.look, quote=True)}" x="{_WIDTH - _RIGHT + 8}" '
            f'y="{at:.1f}">{html.escape(line.name)}</text>'
        )
    return parts
