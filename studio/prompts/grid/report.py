"""What a grid says: columns with their figures, pairs of columns held against each other, and pages of rows.

Means come with intervals over rows, the independent units: repeats of one row are averaged first. Two columns are
compared on the rows that both answered (Miller 2024, arXiv 2411.00640), and below 50 of them nothing is decided.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.errors import InputError, NotFound
from studio.evaluation import Interval, McNemar, mcnemar, mean_interval, paired_difference, wilson
from studio.evaluation.metrics import Metric, ModelJudge
from studio.prompts.grid.columns import GridColumn, GridRow
from studio.prompts.grid.task import Grid
from studio.prompts.verdict import FEWEST_ITEMS, signed
from studio.store import CellFilter, ColumnCounts, GridCell, Job, RowScores, Store, read_rows

__all__ = [
    "ColumnFigures",
    "GridPage",
    "GridReport",
    "PageRow",
    "PairedColumns",
    "failures",
    "grid_page",
    "grid_report",
    "grid_task",
    "grids",
]

_LEVEL = 0.05

Outcome = Literal["better", "worse", "even", "few"]


@dataclass(frozen=True)
class ColumnFigures:
    """One column so far. Shares are of its answered cells; None stands for what is not defined (yet).

    `score` is the mean of the report's metric; `position_bias` is how much more often the judge preferred this column's
    answers for standing first, from -1 to 1; `unread` counts comparisons with a verdict that could not be read.
    """

    place: int
    column: GridColumn
    counts: ColumnCounts
    score: Interval | None = None
    position_bias: Interval | None = None
    unread: int = 0

    @property
    def title(self) -> str:
        return self.column.title

    @property
    def answered(self) -> int:
        return self.counts.cells - self.counts.refused

    @property
    def parse_rate(self) -> float | None:
        """Answers in which the technique's rule found something."""
        return self._share(self.counts.parsed)

    @property
    def strict_rate(self) -> float | None:
        """Answers that kept to the technique's format."""
        return self._share(self.counts.strict)

    @property
    def truncation_rate(self) -> float | None:
        """Answers that ran into the limit of tokens."""
        return self._share(self.counts.truncated)

    @property
    def seconds_per_call(self) -> float | None:
        """Of calls that were made for this grid; cached ones say nothing of now."""
        return self.counts.seconds / self.counts.calls if self.counts.calls else None

    def _share(self, count: int) -> float | None:
        return count / self.answered if self.answered else None


@dataclass(frozen=True)
class PairedColumns:
    """A column against the baseline on the rows that both have a score for. `test` is there for scores of 0 and 1."""

    place: int
    baseline: int
    rows: int
    difference: Interval | None
    test: McNemar | None
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class GridReport:
    """A grid as far as it is. `metric` is the one that scores and pairs are about; None where it measures nothing."""

    job: Job
    task: Grid
    metric: Metric | None
    columns: tuple[ColumnFigures, ...]
    pairs: tuple[PairedColumns, ...]


@dataclass(frozen=True)
class PageRow:
    """One row and its cells: by column, the repeats in order; a column that is not that far yet has none."""

    row: GridRow
    cells: tuple[tuple[GridCell, ...], ...]


@dataclass(frozen=True)
class GridPage:
    """Some of the rows that a filter leaves, and how many it leaves in all."""

    rows: tuple[PageRow, ...]
    total: int


def grids(store: Store, limit: int = 30) -> list[Job]:
    """Batch evaluations, newest first."""
    return store.jobs(limit=limit, kinds={Grid.kind})


def grid_task(store: Store, job_id: int) -> tuple[Job, Grid]:
    """The job and what it was told. Raises NotFound for another kind of job."""
    job = store.job(job_id)
    if job.kind != Grid.kind:
        raise NotFound(f"Job {job_id} is no batch evaluation ({job.kind}). Choose one from the list.")
    return job, Grid.model_validate(job.task)


def grid_report(store: Store, job_id: int, metric: str = "", baseline: int = 0) -> GridReport:
    """The figures by one metric (its key; the first one unless it is given), pairs against the `baseline` column.

    Raises NotFound for an unknown grid, and InputError for a metric or column that it has not.
    """
    job, task = grid_task(store, job_id)
    chosen = _metric(task, metric)
    if not 0 <= baseline < len(task.columns):
        raise InputError(
            f"There is no column {baseline + 1}; this grid has {len(task.columns)}. Choose another baseline."
        )
    counts = {c.column: c for c in store.column_counts(job_id)}
    scores = _scores(store, job_id, chosen.key) if chosen is not None else {}
    biases = _Biases.of(store, job_id, chosen)
    columns = [
        ColumnFigures(
            place,
            column,
            counts.get(place) or _no_cells(place),
            _mean(scores.get(place), chosen, task.repeats),
            biases.of_column(place),
            biases.unread(place),
        )
        for place, column in enumerate(task.columns)
    ]
    others = (place for place in range(len(columns)) if place != baseline)
    # The judge's scores are comparisons already, all with the same side: two of them are not held against each other.
    is_paired = chosen is not None and not (isinstance(chosen, ModelJudge) and baseline not in scores)
    pairs = [_pair(chosen, task, scores, baseline, place) for place in others] if is_paired and chosen else []
    return GridReport(job, task, chosen, tuple(columns), tuple(pairs))


def failures(task: Grid, metric: str = "", columns: Sequence[int] = ()) -> CellFilter:
    """The filter for rows in which an answer does not pass by the metric."""
    chosen = _metric(task, metric)
    if chosen is None:
        raise InputError("This grid measures nothing, so it knows no failures. Start one with a metric.")
    return CellFilter("failures", chosen.key, chosen.passes, tuple(columns))


def grid_page(
    store: Store, root: Path, job_id: int, where: CellFilter | None = None, *, offset: int = 0, limit: int = 25
) -> GridPage:
    """A page of the rows that `where` leaves, in the order of the snapshot. `root` is the workspace's folder."""
    _, task = grid_task(store, job_id)
    where = where or CellFilter()
    numbers = store.cell_rows(job_id, where, offset=offset, limit=limit)
    rows = read_rows(root, store.snapshot(task.rows)) if numbers else []
    cells: dict[tuple[int, int], list[GridCell]] = {}
    for cell in store.cells(job_id, numbers):
        cells.setdefault((cell.row, cell.column), []).append(cell)
    found = [
        PageRow(
            GridRow.of(number, rows[number]),
            tuple(tuple(cells.get((number, place), ())) for place in range(len(task.columns))),
        )
        for number in numbers
    ]
    return GridPage(tuple(found), store.count_cell_rows(job_id, where))


# -- figures -------------------------------------------------------------------------------------------------


def _metric(task: Grid, key: str) -> Metric | None:
    if not key:
        return task.metrics[0] if task.metrics else None
    found = next((m for m in task.metrics if m.key == key), None)
    if found is None:
        known = ", ".join(m.key for m in task.metrics) or "none"
        raise InputError(f"This grid has no metric '{key}'. Its metrics: {known}.")
    return found


def _scores(store: Store, job_id: int, key: str) -> dict[int, dict[int, float]]:
    return {found.column: found.scores for found in store.row_scores(job_id, key)}


def _no_cells(place: int) -> ColumnCounts:
    return ColumnCounts(place, 0, 0, 0, 0, 0, 0, 0, None, None, 0, 0.0, None)


def _mean(scores: dict[int, float] | None, metric: Metric | None, repeats: int) -> Interval | None:
    """The mean over rows. A row's mean over repeats is no longer 0 or 1, so Wilson's interval is for single answers."""
    if not scores or metric is None:
        return None
    values = list(scores.values())
    if metric.is_share and repeats == 1:
        return wilson(round(sum(values)), len(values))
    if len(values) == 1:
        return Interval(values[0], *metric.bounds, 1)  # one row tells nothing of others
    return _mean_interval(tuple(values))


# A bootstrap over 1,000 rows takes a third of a second, and a page asks again whenever somebody looks.
@functools.lru_cache(maxsize=256)
def _mean_interval(values: tuple[float, ...]) -> Interval:
    return mean_interval(values)


@functools.lru_cache(maxsize=256)
def _paired_difference(before: tuple[float, ...], after: tuple[float, ...]) -> Interval:
    return paired_difference(before, after)


def _pair(metric: Metric, task: Grid, scores: dict[int, dict[int, float]], baseline: int, place: int) -> PairedColumns:
    before, after = scores.get(baseline, {}), scores.get(place, {})
    rows = sorted(before.keys() & after.keys())
    first, second = [before[row] for row in rows], [after[row] for row in rows]
    difference = _paired_difference(tuple(first), tuple(second)) if len(rows) > 1 else None
    is_binary = metric.is_share and task.repeats == 1
    test = mcnemar([s == 1.0 for s in first], [s == 1.0 for s in second]) if is_binary and rows else None
    outcome = _outcome(difference, test)
    names = task.columns[place].title, task.columns[baseline].title
    sentence = _sentence(outcome, difference, test, names, len(rows))
    return PairedColumns(place, baseline, len(rows), difference, test, outcome, sentence)


def _outcome(difference: Interval | None, test: McNemar | None) -> Outcome:
    if difference is None or difference.n < FEWEST_ITEMS:
        return "few"
    decided = test.p < _LEVEL if test is not None else difference.excludes_zero
    if not decided:
        return "even"
    return "better" if difference.value > 0 else "worse"


def _sentence(
    outcome: Outcome, difference: Interval | None, test: McNemar | None, names: tuple[str, str], rows: int
) -> str:
    if outcome == "few" or difference is None:
        return f"Too few rows to tell: {rows} in both columns, and it takes {FEWEST_ITEMS}."
    size = f"{signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}], {rows} rows"
    if test is not None:
        size += f"; only it is right on {test.only_after}, only the other on {test.only_before}, p = {test.p:.2g}"
    if outcome == "even":
        return f"No difference can be told between {names[0]} and {names[1]}: {size}."
    return f"{names[0]} is {outcome} than {names[1]}: {size}."


@dataclass(frozen=True)
class _Biases:
    """What a judge's two orders say, by column and row; empty for other metrics."""

    first: dict[int, dict[int, float]]
    second: dict[int, dict[int, float]]
    read: Sequence[RowScores]

    @classmethod
    def of(cls, store: Store, job_id: int, metric: Metric | None) -> _Biases:
        if not isinstance(metric, ModelJudge):
            return cls({}, {}, ())
        first, second = (_scores(store, job_id, f"{metric.key}.{order}") for order in ("first", "second"))
        return cls(first, second, store.row_scores(job_id, f"{metric.key}.read"))

    def of_column(self, place: int) -> Interval | None:
        first, second = self.first.get(place, {}), self.second.get(place, {})
        rows = sorted(first.keys() & second.keys())
        if len(rows) < 2:
            return None
        return _paired_difference(tuple(second[row] for row in rows), tuple(first[row] for row in rows))

    def unread(self, place: int) -> int:
        """Rows with a verdict, in either order and any repeat, that could not be read."""
        return sum(value < 2 for found in self.read if found.column == place for value in found.scores.values())
