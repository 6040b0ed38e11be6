"""Models that were made or registered here, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound
from studio.specs import ModelRef
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Model", "ModelVerbs", "model_row"]


@dataclass(frozen=True)
class Model:
    """One model made or registered here; `base` is the ref it was made from ('' for a base model itself)."""

    id: int
    ref: ModelRef
    title: str
    base: str
    method: str
    answers: bool
    scores: bool
    licence: str
    snapshot: str
    path: str
    base_digest: str
    new_parameters: int
    train_seconds: float
    author: str
    created_at: float


def model_row(
    ref: str,
    title: str,
    *,
    author: str,
    base: str = "",
    method: str = "",
    answers: bool = True,
    scores: bool = False,
    licence: str = "",
    snapshot: str = "",
    path: str = "",
    base_digest: str = "",
    new_parameters: int = 0,
    train_seconds: float = 0.0,
) -> dict[str, Any]:
    """The values of one new row, for verbs that write it beside other rows."""
    return {**locals(), "created_at": now()}


class ModelVerbs(Database):
    def add_model(self, row: dict[str, Any]) -> Model:
        with self._write() as c:
            c.execute(t.models.insert().values(row))
        return self.model(row["ref"])

    def models(self, *, answers: bool | None = None, scores: bool | None = None) -> list[Model]:
        """Newest first; only those that answer, or that score, when asked."""
        query = sa.select(t.models).order_by(t.models.c.id.desc())
        if answers is not None:
            query = query.where(t.models.c.answers == answers)
        if scores is not None:
            query = query.where(t.models.c.scores == scores)
        with self._read() as c:
            return [_model(r) for r in c.execute(query).mappings()]

    def model(self, ref: str) -> Model:
        with self._read() as c:
            row = c.execute(sa.select(t.models).where(t.models.c.ref == ref)).mappings().first()
        if row is None:
            known = ", ".join(m.ref for m in self.models()) or "none yet"
            raise NotFound(f"There is no model '{ref}' in this workspace. Models made here: {known}.")
        return _model(row)


def _model(row: Any) -> Model:
    return Model(**{**row, "ref": ModelRef(row["ref"])})
