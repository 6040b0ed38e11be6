"""What an evaluation will take, judged by earlier ones: answers that are known, tokens, seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.prompts.grid.columns import GridColumn, GridRow, is_snapshot, technique_for
from studio.prompts.grid.report import grid_task, grids
from studio.prompts.grid.task import Grid, GridPlan
from studio.prompts.templates import find_template, render
from studio.prompts.trials import Plan
from studio.specs import ModelRef
from studio.store import ColumnCounts, Job, Store

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["Earlier", "Estimate"]

_EARLIER_JOBS = 50
_SAMPLED = 40  # rows that are rendered to estimate the length of a prompt


@dataclass(frozen=True)
class Estimate:
    """What a plan comes to: answers that are known already, tokens and seconds of those that are not.

    `is_limit` says that some lengths of answers are limits rather than means; `untimed` names models whose pace nobody
    knows, and then there are no seconds.
    """

    known: int
    prompt_tokens: float
    output_tokens: float
    is_limit: bool
    seconds: float
    untimed: tuple[str, ...]


class Earlier:
    """What earlier evaluations tell of the same columns and models. A job's figures are read once for each change of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[int, tuple[int, list[ColumnCounts]]] = {}
        self._places: dict[int, tuple[int, set[tuple[int, int, int]]]] = {}

    def estimate(self, workspace: Workspace, task: Grid, plan: GridPlan) -> Estimate:
        """`task` with its templates pinned, as those of earlier evaluations are."""
        rows = task.chosen_rows(workspace.snapshot(task.rows))
        jobs = [(job, grid_task(self._store, job.id)[1]) for job in grids(self._store, _EARLIER_JOBS)]
        known, read, written, seconds = 0, 0.0, 0.0, 0.0
        is_limit, untimed = False, []
        for column, planned in zip(task.columns, plan.columns, strict=True):
            there = self._known(column, task, rows, jobs)
            left = planned.answers - there
            known += there
            prompt, output, was_measured = self._lengths(workspace, column, rows, jobs)
            read, written = read + left * prompt, written + left * output
            is_limit |= left > 0 and not was_measured
            calls = planned.calls * left / planned.answers if planned.answers else 0.0
            pace = self._pace(column.model, jobs)
            if calls and pace is None:
                untimed.append(str(column.model))
            seconds += calls * (pace or 0.0)
        for judge in task.judges:
            pace = self._pace(judge.model, jobs)
            untimed += [str(judge.model)] if pace is None else []
            seconds += plan.verdicts / len(task.judges) * (pace or 0.0)
        return Estimate(known, read, written, is_limit, seconds, tuple(dict.fromkeys(untimed)))

    def _known(self, column: GridColumn, task: Grid, rows: Sequence[GridRow], jobs: Sequence[tuple[Job, Grid]]) -> int:
        """Answers that the same column gave to the same rows, so that nobody is asked for them again."""
        template = find_template(self._store, column.template)
        is_greedy = technique_for(template, column).sampling(column.sampling).temperature == 0
        if column.model.kind == "endpoint" and not is_greedy:
            return 0  # a server may ignore seeds, so what it sampled is not remembered
        there: set[tuple[int, int]] = set()
        for job, one in jobs:
            same = {n for n, other in enumerate(one.columns) if one.rows == task.rows and _alike(other, column)}
            if same:
                there |= {(row, 0 if is_greedy else repeat) for n, row, repeat in self._cells(job) if n in same}
        repeats = 1 if is_greedy else task.repeats
        found = sum((row.number, repeat) in there for row in rows for repeat in range(repeats))
        return found * (task.repeats if is_greedy else 1)

    def _lengths(
        self, workspace: Workspace, column: GridColumn, rows: Sequence[GridRow], jobs: Sequence[tuple[Job, Grid]]
    ) -> tuple[float, float, bool]:
        """Tokens of a prompt and of an answer: as measured before, else estimated from the texts and the limit."""
        for job, one in jobs:
            for n, other in enumerate(one.columns):
                counts = next((c for c in self._figures(job) if c.column == n), None) if _alike(other, column) else None
                if counts is not None and counts.prompt_tokens is not None and counts.output_tokens is not None:
                    return counts.prompt_tokens, counts.output_tokens, True
        template = find_template(self._store, column.template)
        sampled = rows[:: math.ceil(len(rows) / _SAMPLED)]
        shown = _some_examples(workspace, column, column.shots(template))
        asked = [render(template, column.filled_in(template, row, self._store), shown) for row in sampled]
        found = Plan.of(asked, technique_for(template, column), template.with_room(column.sampling))
        return found.prompt_tokens / len(asked), found.output_tokens / len(asked), False

    def _pace(self, model: ModelRef, jobs: Sequence[tuple[Job, Grid]]) -> float | None:
        """Seconds for each call, of the newest finished evaluation that asked this model; by the time that all of it
        took, since many are asked at once."""
        for job, one in jobs:
            if job.state != "done" or job.attempt > 1 or not job.took:
                continue
            calls = sum(counts.calls for counts in self._figures(job))
            own = [c.calls for c in self._figures(job) if one.columns[c.column].model == model]
            if calls and any(own):
                return job.took / calls
        return None

    def _figures(self, job: Job) -> list[ColumnCounts]:
        if self._counts.get(job.id, (-1, []))[0] != job.change:
            self._counts[job.id] = job.change, self._store.column_counts(job.id)
        return self._counts[job.id][1]

    def _cells(self, job: Job) -> set[tuple[int, int, int]]:
        if self._places.get(job.id, (-1, set()))[0] != job.change:
            self._places[job.id] = job.change, self._store.cell_places(job.id)
        return self._places[job.id][1]


def _alike(one: GridColumn, other: GridColumn) -> bool:
    return one.model_copy(update={"label": ""}) == other.model_copy(update={"label": ""})


def _some_examples(workspace: Workspace, column: GridColumn, k: int) -> Sequence[Mapping[str, Any]]:
    """As many examples as a prompt shows, for their length alone: which they are is decided row by row."""
    if not k:
        return []
    if not is_snapshot(column.bank):
        return [example.fields for example in workspace.store.bank_examples(column.bank) if example.is_on][:k]
    rows = workspace.snapshot(column.bank)
    return [row for row in rows if row.get("split", "train") == "train"][:k]
