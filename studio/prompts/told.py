"""What a finished check "does it help here?" was told, row by row; and how long calls of a model have taken.

A job's result holds figures alone. The texts behind them are remembered answers, so they are asked for again in the same
words, and where one is no longer known, nobody is asked: that row is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.backends import Backend
from studio.errors import StudioError
from studio.evaluation.metrics import Metric
from studio.prompts.cache import Remembering
from studio.prompts.fragility import Fragility
from studio.prompts.helps import Helps
from studio.prompts.search import Search
from studio.prompts.techniques import Row, Technique, Trace, together
from studio.prompts.trials import Item, Way, example_pool, metric_for, open_items, shown_by
from studio.specs import ModelRef
from studio.store import Job, Store

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["AskedTwice", "Told", "asked_twice", "seconds_a_call"]

_RECENT = 200  # jobs that are looked through for a pace
_FEWEST_ROWS = 50  # of a job with fewer, most of the time is its start


@dataclass(frozen=True)
class Told:
    """What a row got one way: the whole text, and what it scored."""

    text: str
    score: float
    was_cut: bool


@dataclass(frozen=True)
class AskedTwice:
    """One row with both answers. `gain` is above 0 where the tried way did better, whatever the metric counts."""

    instruction: str
    context: str
    plain: Told
    tried: Told
    gain: float


def asked_twice(workspace: Workspace, job: Job) -> list[AskedTwice]:
    """The rows whose two answers are still known, in the set's order. Raises a StudioError where what the check was made
    of (model, set, examples) is not there any more. Not for an event loop: it waits."""
    task = Helps.model_validate(job.task)
    return asyncio.run(_asked_twice(workspace, task))


async def _asked_twice(workspace: Workspace, task: Helps) -> list[AskedTwice]:
    items = open_items(workspace.store, workspace.path, task.evaluation, task.rows, task.seed)
    memory = Remembering(workspace.backend(task.model), workspace.store)
    model, memory.inner = memory.inner, Backend(task.model)  # which refuses everything that is not remembered
    try:
        plain, tried = [
            await _told(workspace.store, workspace.path, task, way, technique, items, memory)
            for way, technique in task.sides(workspace.store)
        ]
    finally:
        await model.close()
    sign = 1 if metric_for(task.metric, task.evaluation).higher_is_better else -1
    return [
        AskedTwice(
            str(item.row["instruction"]),
            str(item.row.get("context") or ""),
            one,
            other,
            sign * (other.score - one.score),
        )
        for item, one, other in zip(items, plain, tried, strict=True)
        if one is not None and other is not None
    ]


async def _told(
    store: Store, root: Path, task: Helps, way: Way, technique: Technique, items: Sequence[Item], memory: Backend
) -> list[Told | None]:
    shots = way.template.shots
    pool = example_pool(store, root, task.examples, shots) if shots else []
    shown = await shown_by(task.selector, pool, items, shots, task.seed, memory)
    sampling = way.template.with_room(task.sampling)
    rows = [
        Row(technique, way.messages(item.row, examples), sampling, number)
        for number, (item, examples) in enumerate(zip(items, shown, strict=True))
    ]
    metric = metric_for(task.metric, task.evaluation)
    traces = await together(memory, rows)
    return [_judged(trace, metric, item) for trace, item in zip(traces, items, strict=True)]


def _judged(trace: Trace | StudioError, metric: Metric, item: Item) -> Told | None:
    if not isinstance(trace, Trace):
        return None
    score = metric.score(trace.answer.text, item.reference, item.row)
    return Told(trace.output, score, trace.was_cut) if score is not None else None


def seconds_a_call(store: Store, model: ModelRef) -> tuple[float, str] | None:
    """How long one call of this model took in the slowest of its recent measurements, and which that was.

    The slowest, since answers that were known already took no time. None where the model was never measured.
    """
    known = [
        (e.seconds / e.items, f"evaluation {e.id}")
        for e in store.evaluations()[:_RECENT]
        if e.model == model and e.items
    ]
    kinds = {Helps.kind, Fragility.kind, Search.kind}
    for job in store.jobs(limit=_RECENT, kinds=kinds):
        if (
            job.task.get("model") == model
            and job.total >= _FEWEST_ROWS
            and job.attempt == 1
            and not job.task.get("labels")
        ):
            known.append((_spent(job) / (job.total * _calls_a_row(job)), f"check {job.id}"))
    return max(known, default=None)


def _spent(job: Job) -> float:
    return job.took or 0.0 if job.ended_at else 0.0


def _calls_a_row(job: Job) -> float:
    """On average; of searches and fragility reports it is not written down, and their prompts mostly take one."""
    found = job.result or {}
    calls = [float(found.get(side, {}).get("calls", 1.0)) for side in ("plain", "tried")]
    return max(1.0, sum(calls) / 2)
