"""Pairs: answers that somebody put beside each other, as an item to rank.

Sampled items come from one model (studio/store/preferences.py). These may each come from another model, template or
seed, so every answer brings its own origin along.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from studio.errors import Conflict, InputError
from studio.store import tables as t
from studio.store.completions import Answer
from studio.store.database import Database, conflict_is, now
from studio.store.preferences import Prompt

__all__ = ["PairVerbs"]

_MOST_ANSWERS = 4


class PairVerbs(Database):
    @conflict_is("Somebody sent the same question at the same moment. Nothing was changed; send it again.")
    def add_pair(
        self, batch: str, prompt: Prompt, answers: Sequence[tuple[Answer, str]], *, author: str, reason: str
    ) -> int:
        """Append an item of two to four answers, each with the text that is going to be ranked; returns its id.

        Each answer is copied with its whole origin, so that what is ranked never changes. Raises Conflict when the
        batch has an item for this prompt already.
        """
        if not re.fullmatch(r"[\w.-]+", batch):
            raise InputError(f"'{batch}' cannot name a batch: use letters, digits, '.', '-' and '_' only.")
        if not 2 <= len(answers) <= _MOST_ANSWERS:
            raise InputError(f"An item has 2 to {_MOST_ANSWERS} answers, not {len(answers)}. Choose others.")
        with self._write() as c:
            if _holds(c, batch, prompt):
                raise Conflict(
                    f"Batch '{batch}' has an item for this question already. Send it to another batch, "
                    f"'{batch}-2' for example."
                )
            if c.execute(sa.select(t.prompts.c.id).where(t.prompts.c.id == prompt.id)).first() is None:
                c.execute(t.prompts.insert().values(**vars(prompt), created_at=now()))
            rows = [_copy(answer, text, prompt) for answer, text in answers]
            statement = t.completions.insert().returning(t.completions.c.id, sort_by_parameter_order=True)
            item = {
                "batch": batch,
                "prompt_id": prompt.id,
                "completion_ids": list(c.execute(statement, rows).scalars()),
                "reason": reason,
                "target_overlap": 1,
                "author": author,
                "created_at": now(),
            }
            return int(c.execute(t.items.insert().values(item)).inserted_primary_key[0])  # type: ignore[index]


def _holds(c: sa.Connection, batch: str, prompt: Prompt) -> bool:
    query = sa.select(t.items.c.id).where(t.items.c.batch == batch, t.items.c.prompt_id == prompt.id)
    return c.execute(query).first() is not None


def _copy(answer: Answer, text: str, prompt: Prompt) -> dict[str, object]:
    row = asdict(answer) | {"text": text, "prompt_id": prompt.id, "ticket": uuid.uuid4().hex, "kept_at": None}
    del row["id"]
    return row
