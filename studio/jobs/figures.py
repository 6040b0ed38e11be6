"""The figures of runs as pages show them: what is newest, and curves over steps.

Metrics are only ever appended, so each row is read once however many pages look, and a page that looks every two
seconds at a run of ten thousand steps costs next to nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from studio.store import Store

__all__ = ["Curves", "Figures"]

_HELD = 32  # runs; one that was let go is read again
_ROWS = 10_000


@dataclass
class Curves:
    """`latest` holds the newest value of every name, `over_steps` every value by step.

    A resumed run takes some steps again: the last attempt's value stands.
    """

    latest: dict[str, float] = field(default_factory=dict)
    over_steps: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    seen: int = 0

    def curve(self, name: str, points: int) -> list[tuple[int, float]]:
        """(step, value) in order of steps, evenly thinned to about so many, the last one kept."""
        whole = sorted(self.over_steps.get(name, {}).items())
        thinned = whole[:: max(1, len(whole) // points)]
        return thinned if not whole or thinned[-1] == whole[-1] else [*thinned, whole[-1]]


class Figures:
    """One for all pages of an app."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[int, Curves] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job_id: int) -> Curves:
        """Everything a run logged until now."""
        with self._lock:
            curves = self._held.setdefault(job_id, Curves())
            self._held.move_to_end(job_id)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
            while rows := self._store.metrics(job_id, since=curves.seen, limit=_ROWS):
                for row in rows:
                    for name, value in row.values.items():
                        if value is not None:
                            curves.latest[name] = value
                            curves.over_steps[name][row.step] = value
                curves.seen = rows[-1].id
            return curves
