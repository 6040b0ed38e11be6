"""Answers that somebody kept in the playground, with everything that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["CompletionVerbs", "KeptCompletion"]


@dataclass(frozen=True)
class KeptCompletion:
    id: int
    model: str
    template: str
    variables: dict[str, str]
    messages: list[dict[str, str]]
    sampling: dict[str, Any]
    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    author: str
    created_at: float


class CompletionVerbs(Database):
    def keep_completion(
        self,
        model: ModelRef,
        completion: Completion,
        *,
        template: str,
        variables: dict[str, str],
        messages: list[Message],
        sampling: Sampling,
        author: str,
    ) -> int:
        """Append one kept answer; returns its id."""
        row = {
            "model": str(model),
            "template": template,
            "variables": variables,
            "messages": [m.model_dump() for m in messages],
            "sampling": sampling.model_dump(mode="json"),
            "text": completion.text,
            "prompt_tokens": completion.prompt_tokens,
            "output_tokens": completion.output_tokens,
            "seconds": completion.seconds,
            "author": author,
            "created_at": now(),
        }
        with self._write() as c:
            return int(c.execute(t.completions.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]

    def completions(self, limit: int = 50) -> list[KeptCompletion]:
        """Kept answers, newest first."""
        query = sa.select(t.completions).order_by(t.completions.c.id.desc()).limit(limit)
        with self._read() as c:
            return [KeptCompletion(**r) for r in c.execute(query).mappings()]
