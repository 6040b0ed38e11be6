"""Answers, with everything that made them: given in the playground, where people keep the ones that matter, or
sampled to be ranked."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import NotFound
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Answer", "CompletionVerbs", "completion_values", "insert_sampled"]


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
    prompt_id: str | None = None  # of an answer that was sampled to be ranked


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
            **completion_values(model, completion, sampling),
            "ticket": ticket,
            "template": template,
            "variables": variables,
            "messages": [m.model_dump() for m in messages],
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

    def has_completion(self, ticket: str) -> bool:
        """Whether the answer of that ticket is recorded: one that still grows is not."""
        with self._read() as c:
            return c.execute(sa.select(t.completions.c.id).where(t.completions.c.ticket == ticket)).first() is not None

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


def insert_sampled(
    c: sa.Connection,
    model: ModelRef,
    answers: Sequence[tuple[str, list[dict[str, str]], Completion]],
    *,
    sampling: Sampling,
    author: str,
) -> list[int]:
    """Append answers to prompts (prompt id, its messages, the answer) within a transaction; their ids, in order."""
    at = now()
    rows = [
        {
            **completion_values(model, completion, sampling),
            "ticket": uuid.uuid4().hex,
            "template": "",
            "variables": {},
            "messages": messages,
            "prompt_id": prompt_id,
            "author": author,
            "created_at": at,
        }
        for prompt_id, messages, completion in answers
    ]
    statement = t.completions.insert().returning(t.completions.c.id, sort_by_parameter_order=True)
    return list(c.execute(statement, rows).scalars())


def completion_values(model: ModelRef, completion: Completion, sampling: Sampling) -> dict[str, Any]:
    """The columns that every row of an answer has, whoever writes it."""
    return {
        "model": str(model),
        "sampling": sampling.model_dump(mode="json"),
        "text": completion.text.replace("\x00", ""),  # PostgreSQL keeps no NUL
        "finish": completion.finish,
        "prompt_tokens": completion.prompt_tokens,
        "output_tokens": completion.output_tokens,
        "seconds": completion.seconds,
    }
