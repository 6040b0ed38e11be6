"""The figures of runs as pages show them: what is newest, curves over steps, and the answers given on the way.

Metrics and events are only ever appended, so each row is read once however many pages look, and a page that looks every
two seconds at a run of ten thousand steps costs next to nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.store import Job, Store

__all__ = ["Curves", "Figures", "Looks", "Point", "smoothed"]

Point = tuple[int, float]  # step, value
Looks = dict[int, list[dict[str, Any]]]  # step -> answers to the same few prompts, in the order they were asked

_HELD = 32  # runs; one that was let go is read again
_SMALL_HELD = 500  # curves of finished runs as small as a table shows them
_ROWS = 10_000


@dataclass
class Curves:
    """`latest` holds the newest value of every name, `over_steps` every value by step.

    A resumed run takes some steps again: the last attempt's value stands.
    """

    latest: dict[str, float] = field(default_factory=dict)
    over_steps: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    seen: int = 0

    def curve(self, name: str, points: int, smoothing: float = 0.0) -> list[Point]:
        """(step, value) in order of steps, evenly thinned to about so many, the last one kept. Smoothed before it is
        thinned, so that the number of points changes nothing about it."""
        whole = smoothed(sorted(self.over_steps.get(name, {}).items()), smoothing)
        thinned = whole[:: max(1, len(whole) // points)]
        return thinned if not whole or thinned[-1] == whole[-1] else [*thinned, whole[-1]]

    def lowest(self, name: str) -> Point | None:
        """The step with the lowest value, the first of equals; None where nothing was measured."""
        measured = self.over_steps.get(name, {})
        return min(measured.items(), key=lambda point: (point[1], point[0]), default=None)


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """Exponential moving average, `weight` of it the past (0: as it is).

    Divided by the weights so far, since the average begins at nothing: else every curve would start near 0 (the bias
    correction of Adam, Kingma and Ba 2014, arXiv 1412.6980).
    """
    if not weight:
        return list(points)
    found: list[Point] = []
    average, share = 0.0, 1.0
    for step, value in points:
        average = weight * average + (1 - weight) * value
        share *= weight
        found.append((step, average / (1 - share)))
    return found


class Figures:
    """One for all pages of an app."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[int, Curves] = OrderedDict()
        self._answers: OrderedDict[int, _Answers] = OrderedDict()
        self._small: OrderedDict[tuple[int, int, str], list[Point]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job_id: int) -> Curves:
        """Everything a run logged until now."""
        with self._lock:
            curves = self._held.setdefault(job_id, Curves())
            self._held.move_to_end(job_id)
            _trim(self._held, _HELD)
            self._read(job_id, curves)
            return curves

    def looks(self, job_id: int) -> Looks:
        """The answers of a run at each of its looks, oldest first. Of one that was answered again the last counts."""
        with self._lock:
            answers = self._answers.setdefault(job_id, _Answers())
            self._answers.move_to_end(job_id)
            _trim(self._answers, _HELD)
            while events := self._store.job_events(job_id, since=answers.seen, kinds=["sample"]):
                for event in events:
                    answers.at[int(event.payload["step"])][event.payload["prompt"]] = event.payload
                answers.seen = events[-1].id
            return {step: list(answers.at[step].values()) for step in sorted(answers.at)}

    def small(self, job: Job, name: str, points: int, smoothing: float = 0.0) -> list[Point]:
        """One curve of a run for a table of many: kept by itself once the run is over, so that a long table does not
        push the run on screen out of what is held."""
        if not job.attempt:
            return []
        key = job.id, job.attempt, name
        with self._lock:
            if key in self._small:
                self._small.move_to_end(key)
                return self._small[key]
        if job.is_active:
            return self.of(job.id).curve(name, points, smoothing)
        curves = Curves()
        self._read(job.id, curves)
        found = curves.curve(name, points, smoothing)
        if job.is_over:
            with self._lock:
                self._small[key] = found
                _trim(self._small, _SMALL_HELD)
        return found

    def _read(self, job_id: int, curves: Curves) -> None:
        """Bring them up to date."""
        while rows := self._store.metrics(job_id, since=curves.seen, limit=_ROWS):
            for row in rows:
                for name, value in row.values.items():
                    if value is not None:
                        curves.latest[name] = value
                        curves.over_steps[name][row.step] = value
            curves.seen = rows[-1].id


@dataclass
class _Answers:
    """Step -> prompt -> answers, and the last event that is among them."""

    at: dict[int, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    seen: int = 0


def _trim(held: OrderedDict[Any, Any], most: int) -> None:
    while len(held) > most:
        held.popitem(last=False)
