"""Answers given in the playground, with everything that made them; people keep the ones that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Answer", "CompletionVerbs"]


@dataclass(frozen=True)
class Answer:
    """One answer and how it came about; `kept_at` is empty until somebody keeps it.

    The `ticket` names it from before it is there, so that a page can keep an answer that was stopped half-way.
    """

    id: int
    ticket: str
    model: str
    template: str
    variables: dict[str, str]
    messages: list[dict[str, str]]
    sampling: dict[str, Any]
    text: str
    finish: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    kept_at: float | None
    author: str
    created_at: float


class CompletionVerbs(Database):
    def add_completion(
        self,
        model: ModelRef,
        completion: Completion,
        *,
        ticket: str,
        template: str,
        variables: dict[str, str],
        messages: list[Message],
        sampling: Sampling,
        author: str,
    ) -> int:
        """Append one answer; returns its id."""
        row = {
            "ticket": ticket,
            "model": str(model),
            "template": template,
            "variables": variables,
            "messages": [m.model_dump() for m in messages],
            "sampling": sampling.model_dump(mode="json"),
            "text": completion.text.replace("\x00", ""),  # PostgreSQL keeps no NUL
            "finish": completion.finish,
            "prompt_tokens": completion.prompt_tokens,
            "output_tokens": completion.output_tokens,
            "seconds": completion.seconds,
            "author": author,
            "created_at": now(),
        }
        with self._write() as c:
            return int(c.execute(t.completions.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]

    def completion(self, ticket: str) -> Answer:
        with self._read() as c:
            row = c.execute(sa.select(t.completions).where(t.completions.c.ticket == ticket)).mappings().first()
        if row is None:
            raise NotFound("There is no answer here that could be kept. Ask first, or ask again.")
        return Answer(**row)

    def keep_completion(self, ticket: str) -> Answer:
        """Mark an answer as kept; keeping it twice changes nothing."""
        answer = self.completion(ticket)
        with self._write() as c:
            c.execute(
                t.completions.update()
                .where(t.completions.c.id == answer.id, t.completions.c.kept_at.is_(None))
                .values(kept_at=now())
            )
        return self.completion(ticket)

    def kept_completions(self, limit: int = 50) -> list[Answer]:
        """Kept answers, newest first."""
        table = t.completions
        query = sa.select(table).where(table.c.kept_at.is_not(None)).order_by(table.c.kept_at.desc(), table.c.id.desc())
        with self._read() as c:
            return [Answer(**r) for r in c.execute(query.limit(limit)).mappings()]
