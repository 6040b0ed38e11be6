"""Cells of batch evaluations, and the cache of answers.

A grid is the rows of a set by columns (a template, a model and a sampling) by repeats. Its cells are written batch by
batch, so that a job that was stopped knows what it has; everything that a page shows is counted here, in SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from studio.specs import Completion
from studio.store import tables as t
from studio.store.assignments import count_if, pieces
from studio.store.database import Database, now

__all__ = ["CellFilter", "ColumnCounts", "GridCell", "GridVerbs", "RowScores"]

Sifted = Literal["all", "failures", "differences", "unparsed", "truncated", "refused"]

REFUSED = "refused"  # the finish of a cell whose question the model refused; its output says why
_ANSWER = ("text", "finish", "prompt_tokens", "output_tokens", "seconds")
_EQUAL = 1e-9
_ROWS_AT_ONCE = 200


@dataclass(frozen=True)
class GridCell:
    """One answer. `answer` is what the technique's rule took from the output, '' when it found nothing.

    `scores` holds one value for each metric's key, None where it is not defined. `seconds` of a cached answer are those
    of when it was first given. `examples` names the examples that the row was shown, in order.
    """

    column: int
    row: int
    repeat: int
    output: str
    answer: str
    is_strict: bool
    finish: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    calls: int
    is_cached: bool
    scores: Mapping[str, float | None] = field(default_factory=dict)
    examples: Sequence[Any] = ()

    @classmethod
    def refused(cls, column: int, row: int, repeat: int, reason: str, examples: Sequence[Any] = ()) -> Self:
        """A question that the model could not be asked, and why."""
        return cls(column, row, repeat, reason, "", False, REFUSED, 0, 0, 0.0, 0, False, {}, examples)

    @property
    def is_refused(self) -> bool:
        """The model could not be asked this; `output` is the sentence that says why."""
        return self.finish == REFUSED


@dataclass(frozen=True)
class ColumnCounts:
    """What one column's cells add up to. Tokens and `distinct` are means; `fresh` cells were not cached."""

    column: int
    cells: int
    rows: int
    refused: int
    parsed: int
    strict: int
    truncated: int
    cached: int
    prompt_tokens: float | None  # a cell; None while no cell was answered
    output_tokens: float | None
    calls: int  # of fresh cells
    seconds: float  # of fresh cells
    distinct: float | None  # different outputs of a row over its repeats


@dataclass(frozen=True)
class RowScores:
    """A metric's scores of one column: by row number, the mean over the repeats where it is defined."""

    column: int
    scores: dict[int, float]


@dataclass(frozen=True)
class CellFilter:
    """Which rows to show. Failures score below `below` by `metric`; differences are rows whose columns' scores by the
    metric differ or, without a metric, whose first answers do. `columns` leaves the others out of the question.
    """

    only: Sifted = "all"
    metric: str = ""
    below: float = 1.0
    columns: tuple[int, ...] = ()


class GridVerbs(Database):
    # -- cells -----------------------------------------------------------------------------------------------------

    def add_cells(self, job_id: int, cells: Sequence[GridCell]) -> None:
        """Append cells; one that is there already stays as it is."""
        if cells:
            rows = [_values(job_id, cell) for cell in cells]
            with self._write() as c:
                c.execute(self._insert_new(t.grid_cells), rows)

    def cell_places(self, job_id: int) -> set[tuple[int, int, int]]:
        """(column, row, repeat) of every cell that is there."""
        g = t.grid_cells
        query = sa.select(g.c.column, g.c.row, g.c.repeat).where(g.c.job_id == job_id)
        with self._read() as c:
            return {(column, row, repeat) for column, row, repeat in c.execute(query)}

    def merge_scores(self, job_id: int, scores: Mapping[tuple[int, int, int], Mapping[str, float | None]]) -> None:
        """Add to the scores of cells, by (column, row, repeat); what has a score by that key already is overwritten."""
        g = t.grid_cells
        places = sorted(scores)
        with self._write() as c:
            for piece in pieces(places):
                wanted = sa.tuple_(g.c.column, g.c.row, g.c.repeat).in_(piece)
                query = sa.select(g.c.id, g.c.column, g.c.row, g.c.repeat, g.c.scores).where(
                    g.c.job_id == job_id, wanted
                )
                merged = [
                    {"cell": key, "merged": {**before, **scores[column, row, repeat]}}
                    for key, column, row, repeat, before in c.execute(query)
                ]
                if merged:
                    update = g.update().where(g.c.id == sa.bindparam("cell")).values(scores=sa.bindparam("merged"))
                    c.execute(update, merged)

    def cell_rows(
        self, job_id: int, where: CellFilter = CellFilter(), *, offset: int = 0, limit: int = 50
    ) -> list[int]:
        """Row numbers that the filter leaves, in order."""
        query = _sifted(job_id, where).order_by(t.grid_cells.c.row).offset(offset).limit(limit)
        with self._read() as c:
            return list(c.execute(query).scalars())

    def count_cell_rows(self, job_id: int, where: CellFilter = CellFilter()) -> int:
        with self._read() as c:
            return int(
                c.execute(sa.select(sa.func.count()).select_from(_sifted(job_id, where).subquery())).scalar_one()
            )

    def cells(self, job_id: int, rows: Collection[int]) -> list[GridCell]:
        """All cells of these rows, by row, column and repeat."""
        g = t.grid_cells
        columns = [g.c[name] for name in GridCell.__dataclass_fields__]
        found: list[GridCell] = []
        with self._read() as c:
            for piece in pieces(sorted(rows)):
                query = sa.select(*columns).where(g.c.job_id == job_id, g.c.row.in_(piece))
                found += [GridCell(**r) for r in c.execute(query.order_by(g.c.row, g.c.column, g.c.repeat)).mappings()]
        return found

    def all_cells(self, job_id: int) -> Iterator[GridCell]:
        """Every cell by row, column and repeat, read in batches."""
        offset = 0
        while rows := self.cell_rows(job_id, offset=offset, limit=_ROWS_AT_ONCE):
            yield from self.cells(job_id, rows)
            offset += len(rows)

    # -- what they add up to -------------------------------------------------------------------------------------

    def column_counts(self, job_id: int) -> list[ColumnCounts]:
        """By column, those that have cells."""
        g = t.grid_cells
        answered = g.c.finish != REFUSED
        fresh = sa.and_(answered, sa.not_(g.c.is_cached))
        query = (
            sa.select(
                g.c.column,
                sa.func.count().label("cells"),
                sa.func.count(sa.distinct(g.c.row)).label("rows"),
                count_if(sa.not_(answered)).label("refused"),
                count_if(sa.and_(answered, g.c.answer != "")).label("parsed"),
                count_if(sa.and_(answered, g.c.is_strict)).label("strict"),
                count_if(g.c.finish == "length").label("truncated"),
                count_if(sa.and_(answered, g.c.is_cached)).label("cached"),
                sa.func.avg(sa.case((answered, g.c.prompt_tokens))).label("prompt_tokens"),
                sa.func.avg(sa.case((answered, g.c.output_tokens))).label("output_tokens"),
                sa.func.sum(sa.case((fresh, g.c.calls), else_=0)).label("calls"),
                sa.func.sum(sa.case((fresh, g.c.seconds), else_=0.0)).label("seconds"),
            )
            .where(g.c.job_id == job_id)
            .group_by(g.c.column)
            .order_by(g.c.column)
        )
        with self._read() as c:
            distinct = {column: float(mean) for column, mean in c.execute(_distinct(job_id))}
            return [_counts(row, distinct.get(row["column"])) for row in c.execute(query).mappings()]

    def row_scores(self, job_id: int, metric: str) -> list[RowScores]:
        """By column: each row's mean score over its repeats, rows without a defined score left out."""
        found: dict[int, dict[int, float]] = {}
        with self._read() as c:
            for column, row, score in c.execute(_row_means(job_id, metric)):
                found.setdefault(column, {})[row] = float(score)
        return [RowScores(column, scores) for column, scores in sorted(found.items())]

    # -- the cache -------------------------------------------------------------------------------------------------

    def cached_answers(self, keys: Collection[str]) -> dict[str, Completion]:
        """The answers that are there, by key."""
        table = t.cached_answers
        columns = [table.c[name] for name in _ANSWER]
        found: dict[str, Completion] = {}
        with self._read() as c:
            for piece in pieces(sorted(keys)):
                for row in c.execute(sa.select(table.c.key, *columns).where(table.c.key.in_(piece))).mappings():
                    found[row["key"]] = Completion(**{name: row[name] for name in _ANSWER})
        return found

    def cache_answers(self, answers: Mapping[str, Completion]) -> None:
        """Remember whole answers; the first under a key stays. One that was cut off by a person is no answer."""
        rows = [
            {
                "key": key,
                **answer.model_dump(include=set(_ANSWER)),
                "text": answer.text.replace("\x00", ""),
                "created_at": now(),
            }
            for key, answer in sorted(answers.items())  # two writers that go in one order never wait for each other
            if answer.finish != "cancelled"
        ]
        if rows:
            with self._write() as c:
                c.execute(self._insert_new(t.cached_answers), rows)

    def _insert_new(self, table: sa.Table) -> Any:
        insert = sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
        return insert.on_conflict_do_nothing()


def _values(job_id: int, cell: GridCell) -> dict[str, Any]:
    # PostgreSQL keeps no NUL, and a model may emit one.
    clean = {name: getattr(cell, name).replace("\x00", "") for name in ("output", "answer")}
    return {"job_id": job_id, **asdict(cell), **clean, "scores": dict(cell.scores), "examples": list(cell.examples)}


def _score(metric: str) -> sa.ColumnElement[Any]:
    return t.grid_cells.c.scores[metric].as_float()


def _row_means(job_id: int, metric: str) -> sa.Select[Any]:
    """Column, row -> mean score over the repeats where it is defined."""
    g, score = t.grid_cells, _score(metric)
    return (
        sa.select(g.c.column, g.c.row, sa.func.avg(score).label("score"))
        .where(g.c.job_id == job_id, score.is_not(None))
        .group_by(g.c.column, g.c.row)
    )


def _distinct(job_id: int) -> sa.Select[Any]:
    """Column -> mean number of different outputs of a row."""
    g = t.grid_cells
    each = (
        sa.select(g.c.column, sa.func.count(sa.distinct(g.c.output)).label("outputs"))
        .where(g.c.job_id == job_id, g.c.finish != REFUSED)
        .group_by(g.c.column, g.c.row)
        .subquery()
    )
    return sa.select(each.c.column, sa.func.avg(each.c.outputs)).group_by(each.c.column)


def _sifted(job_id: int, where: CellFilter) -> sa.Select[Any]:
    """The rows that the filter leaves."""
    g = t.grid_cells
    among = [g.c.job_id == job_id]
    if where.columns:
        among.append(g.c.column.in_(where.columns))
    rows = sa.select(g.c.row).where(*among).group_by(g.c.row)
    answered = g.c.finish != REFUSED
    match where.only:
        case "failures":
            return rows.where(_score(where.metric) < where.below - _EQUAL)
        case "differences" if where.metric:
            means = _row_means(job_id, where.metric).where(*among[1:]).subquery()
            spread = sa.func.max(means.c.score) - sa.func.min(means.c.score)
            return rows.where(g.c.row.in_(sa.select(means.c.row).group_by(means.c.row).having(spread > _EQUAL)))
        case "differences":
            return rows.where(answered, g.c.repeat == 0).having(sa.func.count(sa.distinct(g.c.answer)) > 1)
        case "unparsed":
            return rows.where(answered, g.c.answer == "")
        case "truncated":
            return rows.where(g.c.finish == "length")
        case "refused":
            return rows.where(sa.not_(answered))
        case _:
            return rows


def _counts(row: sa.RowMapping, distinct: float | None) -> ColumnCounts:
    fields = {name: int(row[name]) for name in ("cells", "rows", "refused", "parsed", "strict", "truncated", "cached")}
    means = {name: None if row[name] is None else float(row[name]) for name in ("prompt_tokens", "output_tokens")}
    return ColumnCounts(
        column=row["column"],
        calls=int(row["calls"]),
        seconds=float(row["seconds"]),
        distinct=distinct,
        prompt_tokens=means["prompt_tokens"],
        output_tokens=means["output_tokens"],
        **fields,
    )
