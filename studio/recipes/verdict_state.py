"""Verdicts as pages read them: the newest of each run, its figures in rows, and the texts behind them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from studio.errors import StorageError
from studio.evaluation import Interval
from studio.evaluation.recommendation import OUTCOMES, Outcome
from studio.prompts.verdict import signed
from studio.recipes.round_trip import RoundTrip
from studio.recipes.verdict import TEXTS, Verdict
from studio.store import Job, Store

__all__ = [
    "Answered",
    "Figure",
    "Sift",
    "Verdicts",
    "figures",
    "forgotten",
    "is_judged",
    "outcome_of",
    "read_texts",
    "sift",
]

_READ = 500  # jobs back

Sift = Literal["better", "worse", "same"]


class Verdicts:
    """The jobs about each run. One for all pages of an app: rows are read again when a job changes its state, and only
    that of a job at work more often."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._token = -1
        self._found: dict[tuple[str, str], list[Job]] = {}
        self._outcomes: dict[str, Outcome] = {}

    def newest(self, run: int) -> Job | None:
        """The last verdict on a run that was asked for and not given up."""
        return self._wanted(Verdict.kind, run)

    def judged(self, run: int) -> Job | None:
        """The last finished verdict on a run: it stays to be read while another is on its way."""
        return next((job for job in self.jobs(Verdict.kind, run) if is_judged(job)), None)

    def round_trip(self, run: int) -> Job | None:
        """The last check whether a run's model answers the same everywhere."""
        return self._wanted(RoundTrip.kind, run)

    def outcomes(self) -> Mapping[str, Outcome]:
        """Run ("17") -> what its last finished verdict says."""
        self._refresh()
        return self._outcomes

    def jobs(self, kind: str, run: int) -> Sequence[Job]:
        """All of a kind about a run, newest first. Of one at work the progress may be old."""
        self._refresh()
        return self._found.get((kind, f"run:{run}"), ())

    def _wanted(self, kind: str, run: int) -> Job | None:
        job = next((job for job in self.jobs(kind, run) if job.state != "cancelled"), None)
        return self._store.job(job.id) if job is not None and job.is_active else job

    def _refresh(self) -> None:
        token = self._store.state_token()
        with self._lock:
            if token == self._token:
                return
            found: dict[tuple[str, str], list[Job]] = {}
            outcomes: dict[str, Outcome] = {}
            for job in self._store.jobs(limit=_READ, kinds={Verdict.kind, RoundTrip.kind}):
                about = str(job.task.get("model", ""))
                found.setdefault((job.kind, about), []).append(job)
                outcome = outcome_of(job)
                if outcome is not None:
                    outcomes.setdefault(about.removeprefix("run:"), outcome)
            self._token, self._found, self._outcomes = token, found, outcomes


def is_judged(job: Job) -> bool:
    """Whether a verdict has something to show."""
    return outcome_of(job) is not None


def outcome_of(job: Job) -> Outcome | None:
    """What a finished verdict says; None of any other job."""
    outcome = (job.result or {}).get("outcome") if job.kind == Verdict.kind else None
    return outcome if outcome in OUTCOMES else None


# -- figures -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One row in words: before, after, the paired difference with its 95 % interval, and on how many items it stands.
    `decides` marks what the recommendation rests on."""

    name: str
    before: str
    after: str
    difference: str
    interval: str
    n: int
    lower_is_better: bool = False
    decides: bool = False


def figures(result: Mapping[str, Any]) -> list[Figure]:
    """Perplexity and loss, the metrics, and the general questions."""
    rows: list[Figure] = []
    if loss := result.get("loss"):
        rows += _of_loss(loss)
    for metric, told in result.get("metrics", {}).items():
        if told["difference"] is None:
            continue
        gap, decides = Interval(**told["difference"]), metric == result.get("measure")
        both = f"{told['before']:.2f}", f"{told['after']:.2f}"
        rows.append(Figure(told["title"], *both, *_told(gap), gap.n, decides=decides))
    if general := result.get("general"):
        n, gap = general["n"], Interval(**general["difference"])
        both = f"{round(general['before'] * n)} of {n}", f"{round(general['after'] * n)} of {n}"
        counted = Interval(gap.value * n, gap.low * n, gap.high * n, n)
        rows.append(Figure("General questions right", *both, *_told(counted, digits=0), n))
    return rows


def _of_loss(loss: Mapping[str, Any]) -> list[Figure]:
    """A difference in nats is a ratio of perplexities."""
    gap, both = Interval(**loss["difference"]), loss["perplexity"]
    ratio, low, high = (math.exp(value) for value in (gap.value, gap.low, gap.high))
    perplexity = _number(both["before"]), _number(both["after"]), f"× {ratio:.2f}", f"[× {low:.2f}, × {high:.2f}]"
    nats = f"{loss['before']:.2f}", f"{loss['after']:.2f}", *_told(gap)
    return [
        Figure("Perplexity per learned token", *perplexity, gap.n, lower_is_better=True),
        Figure("Loss per learned token, in nats", *nats, gap.n, lower_is_better=True),
    ]


def _told(gap: Interval, digits: int = 2) -> tuple[str, str]:
    return signed(gap.value, digits), f"[{signed(gap.low, digits)}, {signed(gap.high, digits)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


# -- texts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """One question with both answers. `standing` is of the tuned one: better, worse, same, or '' where it has no score
    (`refusal` says why). `wanted` is the record's own answer, or the rules."""

    part: Literal["answers", "general"]
    number: int
    category: str
    question: str
    wanted: str
    before: str
    after: str
    before_cut: bool
    after_cut: bool
    before_score: float | None
    after_score: float | None
    standing: str
    refusal: str
    before_loss: float | None = None
    after_loss: float | None = None

    @property
    def gap(self) -> float:
        """How much higher the tuned answer scores."""
        return (self.after_score or 0.0) - (self.before_score or 0.0)


def read_texts(folder: Path) -> list[Answered]:
    """What both models said, from a verdict's run folder."""
    path = folder / TEXTS
    try:
        return [Answered(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"The answers of this verdict cannot be read ({path}: {error}). Judge the run again."
        ) from error


def sift(texts: Sequence[Answered], by: str) -> list[Answered]:
    """The held-out questions that the tuned model answers better, worse or the same; the widest gap comes first."""
    chosen = [one for one in texts if one.part == "answers" and one.standing == by]
    return sorted(chosen, key=lambda one: -abs(one.gap)) if by in get_args(Sift) else []


def forgotten(texts: Sequence[Answered]) -> tuple[list[Answered], list[Answered]]:
    """General questions that only the base answers right, and those that only the tuned model does."""
    general = [one for one in texts if one.part == "general"]
    return [one for one in general if one.standing == "worse"], [one for one in general if one.standing == "better"]
