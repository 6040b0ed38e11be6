"""The job: which columns answer which rows, how often, and what is measured; and what that takes, before it starts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from studio.errors import InputError, StudioError
from studio.evaluation.metrics import LabelAccuracy, Metric, ModelJudge, metric_from
from studio.prompts.grid.columns import GridColumn, GridRow, check_column, check_model, pinned, technique_for
from studio.prompts.grid.work import Work
from studio.prompts.measure import Stopped
from studio.prompts.templates import find_template
from studio.specs import SnapshotRef
from studio.store import Store, read_rows
from studio.tasks import Lane, Run, Task

__all__ = ["MOST_CELLS", "ColumnPlan", "Grid", "GridPlan", "plan_grid"]

MOST_CELLS = 20_000
_MOST_COLUMNS = 12

Split = Literal["all", "train", "validation", "test"]


def _named_metric(value: Any) -> Any:
    try:
        return metric_from(value)
    except InputError as error:
        raise ValueError(str(error)) from error


AnyMetric = Annotated[SerializeAsAny[Metric], BeforeValidator(_named_metric)]


class Grid(Task):
    """Answer every row with every column and measure the answers."""

    kind: ClassVar[str] = "grid"
    lane: ClassVar[Lane] = "light"

    columns: tuple[GridColumn, ...] = Field(
        min_length=1,
        max_length=_MOST_COLUMNS,
        title="Columns",
        description="Each a prompt, a model and a sampling; exact pairs, side by side.",
    )
    rows: SnapshotRef = Field(title="Rows", description="A frozen set: data:, eval: or prompts:.")
    split: Split = Field("all", title="Split", description="Of a data: snapshot; test rows were never trained on.")
    limit: int = Field(0, ge=0, title="At most so many rows", description="Drawn by the seed; 0 takes all.")
    repeats: int = Field(1, ge=1, le=20, title="Repeats", description="Answers per row; they differ by their seed.")
    metrics: tuple[AnyMetric, ...] = Field(
        (), title="Metrics", description="What is measured of each answer; some need references, or rules."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Draws the rows when there is a limit.")
    trusts_seeds: bool = Field(
        False,
        title="Servers keep to seeds",
        description="Then what a server sampled is remembered too, and not asked for again.",
    )

    @field_validator("metrics")
    @classmethod
    def _differ(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        keys = [metric.key for metric in metrics]
        for metric in metrics:
            if keys.count(metric.key) > 1:
                raise ValueError(f"'{metric.words}' is there twice. Remove one.")
        return metrics

    @property
    def title(self) -> str:
        count = f"{len(self.columns)} {'column' if len(self.columns) == 1 else 'columns'}"
        return f"Evaluate {count} on {self.rows}"

    @property
    def needs(self) -> frozenset[str]:
        """What a row must have for some metric to be defined."""
        return frozenset(metric.needs for metric in self.metrics if metric.needs)

    @property
    def judges(self) -> tuple[ModelJudge, ...]:
        return tuple(metric for metric in self.metrics if isinstance(metric, ModelJudge))

    def pinned(self, store: Store) -> Grid:
        """The same with the newest version of each template named by its number, so that it stays what it is."""
        columns = [c.model_copy(update={"template": pinned(store, c.template)}) for c in self.columns]
        return self.model_copy(update={"columns": tuple(columns)})

    def check(self, store: Store) -> None:
        self._check_rows(store)
        for place, column in enumerate(self.columns, 1):
            try:
                check_column(store, column)
            except StudioError as error:
                raise InputError(f"Column {place} ({column.title}): {error}") from error
        for judge in self.judges:
            check_model(store, judge.model)
            if judge.against == "first" and len(self.columns) < 2:
                raise InputError(
                    "The judge has nothing to compare: there is one column. Add another, or choose reference."
                )

    def _check_rows(self, store: Store) -> None:
        if self.rows.kind not in ("data", "eval", "prompts"):
            raise InputError(
                f"{self.rows} holds no questions. Choose a snapshot like data:brackenfold@1 or eval:tents@1."
            )
        snapshot = store.snapshot(self.rows)
        if self.split != "all" and self.rows.kind != "data":
            raise InputError(f"{self.rows} has no splits; only data: snapshots have. Choose all of it.")
        has = {"data": "reference", "eval": "rules"}.get(self.rows.kind, "")
        wanting = next((m for m in self.metrics if m.needs not in ("", has)), None)
        judge = next((j for j in self.judges if j.against == "reference" and has != "reference"), None)
        if wanting is not None or judge is not None:
            need = "reference answers" if judge is not None or wanting.needs == "reference" else "rules"  # type: ignore[union-attr]
            named = (wanting or judge).title  # type: ignore[union-attr]
            raise InputError(f"{named} needs {need}, and {self.rows} has none. Choose another set, or leave it out.")
        if self.split == "all":
            self.check_size(min(snapshot.rows, self.limit or snapshot.rows))

    def check_size(self, rows: int) -> None:
        """Raises InputError where so many rows are too many, or none."""
        cells = rows * len(self.columns) * self.repeats
        if cells > MOST_CELLS:
            raise InputError(
                f"{rows:,} rows by {len(self.columns)} columns by {self.repeats} repeats are {cells:,} answers; at most "
                f"{MOST_CELLS:,} are asked for in one go. Take fewer rows, columns or repeats."
            )
        if not rows:
            raise InputError(f"{self.rows} has no row in the split '{self.split}'. Choose another split.")

    def chosen_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[GridRow]:
        """The rows that are asked, by their number in the snapshot."""
        wanted = (self.split,) if self.split != "all" else None
        numbers = [n for n, row in enumerate(rows) if wanted is None or row.get("split", "train") in wanted]
        if self.limit and self.limit < len(numbers):
            numbers = sorted(random.Random(self.seed).sample(numbers, self.limit))
        return [GridRow.of(number, rows[number]) for number in numbers]

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        rows = self.chosen_rows(run.snapshot(self.rows))
        self.check_size(len(rows))
        work = Work(self, run, rows)
        try:
            for place in range(len(self.columns)):
                await work.answer(place)
            for judge in self.judges:
                await work.judge(judge)
        except Stopped:
            return {}
        counts = run.store.column_counts(run.id)
        return {"rows": len(rows), "cells": sum(c.cells for c in counts), "refused": sum(c.refused for c in counts)}


# -- what it will take ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnPlan:
    """How often one column asks its model: answers, and labels that are scored. `leaves` says that a server is asked."""

    title: str
    answers: int
    calls: int
    labels: int
    leaves: bool


@dataclass(frozen=True)
class GridPlan:
    """What a grid asks at most; what is known already is not asked again."""

    rows: int
    cells: int
    columns: tuple[ColumnPlan, ...]
    verdicts: int

    @property
    def calls(self) -> int:
        return sum(c.calls + c.labels for c in self.columns) + self.verdicts


def plan_grid(store: Store, root: Path, task: Grid) -> GridPlan:
    """How much a grid asks for, before it starts. Raises InputError where it cannot work."""
    task.check(store)
    rows = task.chosen_rows(read_rows(root, store.snapshot(task.rows)))
    task.check_size(len(rows))
    labels = [len(m.labels_of([r.reference for r in rows])) for m in task.metrics if isinstance(m, LabelAccuracy)]
    columns = []
    for column in task.columns:
        way = technique_for(find_template(store, column.template), column)
        drawn = way.sampling(column.sampling).temperature > 0
        answers = len(rows) * task.repeats
        asked = answers if drawn else len(rows)  # greedy repeats are one call
        columns.append(
            ColumnPlan(
                column.title, answers, asked * way.calls, len(rows) * sum(labels), column.model.kind == "endpoint"
            )
        )
    pairs = sum(len(task.columns) - (judge.against == "first") for judge in task.judges)
    return GridPlan(
        len(rows), len(rows) * task.repeats * len(columns), tuple(columns), 2 * pairs * len(rows) * task.repeats
    )
