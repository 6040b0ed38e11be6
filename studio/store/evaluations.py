"""Evaluations: one model, one way of prompting, one frozen set, every answer kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Evaluation", "EvaluationVerbs", "ScoredItem"]


@dataclass(frozen=True)
class ScoredItem:
    """One answer and what the item's rules said of it; `kept` follows the order of the item's rules."""

    position: int
    score: float
    kept: list[bool]
    output: str
    finish: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Evaluation:
    """Summary of one measured model; `low` and `high` are the 95 % interval of `score` over `items`."""

    id: int
    job_id: int
    snapshot: str
    model: str
    template: str
    examples: str
    sampling: dict[str, Any]
    rung: str
    items: int
    score: float
    low: float
    high: float
    prompt_tokens: float
    output_tokens: float
    seconds: float
    author: str
    created_at: float


class EvaluationVerbs(Database):
    def add_evaluation(self, row: dict[str, Any], items: Sequence[ScoredItem]) -> Evaluation:
        """Write the summary and all its items, or nothing."""
        with self._write() as c:
            key = c.execute(t.evaluations.insert().values(**row, created_at=now())).inserted_primary_key[0]  # type: ignore[index]
            c.execute(t.evaluation_items.insert(), [_values(key, i) for i in items])
        return self.evaluation(key)

    def evaluations(self, snapshot: str | None = None) -> list[Evaluation]:
        """Newest first."""
        query = sa.select(t.evaluations).order_by(t.evaluations.c.id.desc())
        if snapshot:
            query = query.where(t.evaluations.c.snapshot == snapshot)
        with self._read() as c:
            return [Evaluation(**r) for r in c.execute(query).mappings()]

    def evaluation(self, evaluation_id: int) -> Evaluation:
        with self._read() as c:
            row = c.execute(sa.select(t.evaluations).where(t.evaluations.c.id == evaluation_id)).mappings().first()
        if row is None:
            raise NotFound(f"There is no evaluation {evaluation_id}. Start one under Compare.")
        return Evaluation(**row)

    def evaluation_items(self, evaluation_id: int) -> list[ScoredItem]:
        """Every answer of an evaluation, in the order of the snapshot."""
        table = t.evaluation_items
        columns = [table.c[name] for name in ScoredItem.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.evaluation_id == evaluation_id).order_by(table.c.position)
        with self._read() as c:
            return [ScoredItem(**r) for r in c.execute(query).mappings()]

    def add_scores(self, evaluation_id: int, scorer: str, scores: Sequence[float]) -> None:
        """Keep what a scorer says of an evaluation's answers; what it said first stays."""
        row = {"evaluation_id": evaluation_id, "scorer": scorer, "scores": list(scores), "created_at": now()}
        with suppress(sa.exc.IntegrityError), self._write() as c:
            c.execute(t.evaluation_scores.insert().values(row))

    def scores(self, evaluation_id: int) -> dict[str, list[float]]:
        """By scorer, one score for each item in the order of the snapshot."""
        query = sa.select(t.evaluation_scores).where(t.evaluation_scores.c.evaluation_id == evaluation_id)
        with self._read() as c:
            return {r["scorer"]: r["scores"] for r in c.execute(query).mappings()}


def _values(evaluation_id: Any, item: ScoredItem) -> dict[str, Any]:
    # PostgreSQL keeps no NUL, and a model may emit one.
    return {"evaluation_id": evaluation_id, **asdict(item), "output": item.output.replace("\x00", "")}
