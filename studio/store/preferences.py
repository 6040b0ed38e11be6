"""Preferences: prompts with sampled answers as items to rank, and the batches that people work through.

Who has which item, and what was said of it, is in studio/store/assignments.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa

from studio.errors import InputError
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import tables as t
from studio.store.assignments import (
    AnnotatorKind,
    AssignmentVerbs,
    RankedAnswer,
    TieKind,
    answers_by_id,
    count_if,
    pieces,
    require_batch,
)
from studio.store.completions import insert_sampled
from studio.store.database import now

__all__ = ["Batch", "NewItem", "PreferenceVerbs", "Prompt", "RankedItem"]

_MOST_ANSWERS = 4
_ADD_KEY = 0x1ADDE4  # PostgreSQL advisory lock: two samplings of one batch never add the same prompt


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for an answer; `source` is the snapshot it came from."""

    id: str
    messages: list[dict[str, str]]
    group_hash: str
    split: str
    category: str
    source: str

    @classmethod
    def of(cls, messages: Sequence[Message], *, group: str, split: str, category: str = "", source: str = "") -> Self:
        turns = [m.model_dump() for m in messages]
        canonical = json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return cls(hashlib.sha256(canonical.encode()).hexdigest(), turns, group, split, category, source)


@dataclass(frozen=True)
class NewItem:
    """A prompt and the two to four answers that are going to be ranked."""

    prompt: Prompt
    answers: tuple[Completion, ...]


@dataclass(frozen=True)
class Batch:
    """A named set of items and what was said of them; `judgements` counts the newest of each assignment."""

    name: str
    items: int
    judged: int  # items with a judgement of anybody
    judgements: int
    human: int
    simulated: int
    ai: int
    models: tuple[str, ...]
    created_at: float


@dataclass(frozen=True)
class RankedItem:
    """One current judgement with all that it is about, answers in the order of the item."""

    judgement: int
    item: int
    batch: str
    prompt: list[dict[str, str]]
    answers: tuple[RankedAnswer, ...]
    groups: list[list[int]]
    tie_kind: TieKind
    split: str
    group: str
    source: str
    annotator: str
    annotator_kind: AnnotatorKind
    note: str


class PreferenceVerbs(AssignmentVerbs):
    def add_items(
        self,
        batch: str,
        items: Iterable[NewItem],
        *,
        model: ModelRef,
        sampling: Sampling,
        author: str,
        reason: str = "random",
        target_overlap: int = 1,
    ) -> int:
        """Append items with their prompts and answers; returns how many. All of them or none.

        A prompt that the batch has already adds nothing.
        """
        if not re.fullmatch(r"[\w.-]+", batch):
            raise InputError(f"'{batch}' cannot name a batch: use letters, digits, '.', '-' and '_' only.")
        common = {"batch": batch, "reason": reason, "target_overlap": target_overlap, "author": author}
        with self._write() as c:
            self._take_turns(c, _ADD_KEY)
            fresh = _fresh(c, batch, items)
            if not fresh:
                return 0
            _add_prompts(c, [item.prompt for item in fresh])
            answers = [(i.prompt.id, i.prompt.messages, answer) for i in fresh for answer in i.answers]
            ids = iter(insert_sampled(c, model, answers, sampling=sampling, author=author))
            rows = [
                {
                    **common,
                    "prompt_id": item.prompt.id,
                    "completion_ids": [next(ids) for _ in item.answers],
                    "created_at": now(),
                }
                for item in fresh
            ]
            c.execute(t.items.insert(), rows)
            return len(rows)

    def batch_prompts(self, batch: str) -> set[str]:
        """The ids of the prompts that a batch has items for; none for a batch that is not there yet."""
        with self._read() as c:
            return _batch_prompts(c, batch)

    def batch_source(self, batch: str) -> str:
        """The snapshot that the batch's first prompt came from. Raises NotFound for an unknown batch."""
        query = (
            sa.select(t.prompts.c.source)
            .join(t.items, t.items.c.prompt_id == t.prompts.c.id)
            .where(t.items.c.batch == batch)
            .order_by(t.items.c.id)
            .limit(1)
        )
        with self._read() as c:
            require_batch(c, batch)
            return str(c.execute(query).scalar_one())

    def batches(self) -> list[Batch]:
        """Every batch with its counts, newest first."""
        items = t.items
        size = sa.func.count().label("items"), sa.func.min(items.c.created_at).label("created_at")
        sizes = sa.select(items.c.batch, *size).group_by(items.c.batch).subquery()
        counts = _judged_in_batches().subquery()
        query = (
            sa.select(sizes, *(sa.func.coalesce(counts.c[name], 0).label(name) for name in _COUNTS))
            .outerjoin(counts, counts.c.batch == sizes.c.batch)
            .order_by(sizes.c.created_at.desc(), sizes.c.batch)
        )
        models: dict[str, list[str]] = {}
        with self._read() as c:
            for batch, model in c.execute(self._models_of_batches()):
                models.setdefault(batch, []).append(model)
            rows = [dict(row) for row in c.execute(query).mappings()]
        return [Batch(name=row["batch"], models=tuple(models[row.pop("batch")]), **row) for row in rows]

    def judgements(self, batch: str) -> list[RankedItem]:
        """The current judgements of a batch, by item and then in the order they were first given."""
        with self._read() as c:
            require_batch(c, batch)
            rows = c.execute(_current_judgements(batch)).mappings().all()
            answers = answers_by_id(c, {key for row in rows for key in row["completion_ids"]})
        return [_ranked_item(row, answers) for row in rows]

    def _models_of_batches(self) -> sa.Select[Any]:
        # The ids are a JSON list, and each database unfolds one in its own words.
        unfold = sa.func.json_each if self.is_sqlite else sa.func.json_array_elements_text
        answer = unfold(t.items.c.completion_ids).table_valued("value")
        return (
            sa.select(t.items.c.batch, t.completions.c.model)
            .distinct()
            .join_from(t.items, answer, sa.true())
            .join(t.completions, t.completions.c.id == sa.cast(answer.c.value, sa.Integer))
            .order_by(t.items.c.batch, t.completions.c.model)
        )


_COUNTS = ("judged", "judgements", "human", "simulated", "ai")


def _judged_in_batches() -> sa.Select[Any]:
    """Batch -> items that anybody judged, judgements, and those of each kind of annotator."""
    items, a, people = t.items, t.assignments, t.annotators
    kinds = {"human": "human", "simulated": "rule", "ai": "ai"}
    return (
        sa.select(
            items.c.batch,
            sa.func.count(sa.distinct(items.c.id)).label("judged"),
            sa.func.count().label("judgements"),
            *(count_if(people.c.kind == kind).label(name) for name, kind in kinds.items()),
        )
        .join_from(items, a, a.c.item_id == items.c.id)
        .join(people, people.c.id == a.c.annotator_id)
        .where(a.c.state == "judged")
        .group_by(items.c.batch)
    )


def _current_judgements(batch: str) -> sa.Select[Any]:
    j, a, items, prompts, people = t.judgements, t.assignments, t.items, t.prompts, t.annotators
    newest, first = sa.func.max(j.c.id).label("newest"), sa.func.min(j.c.id).label("first")
    each = (
        sa.select(newest, first)
        .join(a, a.c.id == j.c.assignment_id)
        .join(items, items.c.id == a.c.item_id)
        .where(items.c.batch == batch)
        .group_by(j.c.assignment_id)
        .subquery()
    )
    about_judgement = j.c.id.label("judgement"), j.c.groups, j.c.tie_kind
    about_item = items.c.id.label("item"), items.c.batch, items.c.completion_ids
    about_prompt = prompts.c.messages, prompts.c.split, prompts.c.group_hash, prompts.c.source
    about_annotator = people.c.name.label("annotator"), people.c.kind.label("annotator_kind"), people.c.note
    return (
        sa.select(*about_judgement, *about_item, *about_prompt, *about_annotator)
        .join_from(each, j, j.c.id == each.c.newest)
        .join(a, a.c.id == j.c.assignment_id)
        .join(items, items.c.id == a.c.item_id)
        .join(prompts, prompts.c.id == items.c.prompt_id)
        .join(people, people.c.id == a.c.annotator_id)
        .order_by(items.c.id, each.c.first)
    )


def _ranked_item(row: sa.RowMapping, answers: dict[int, RankedAnswer]) -> RankedItem:
    same = (
        "judgement",
        "item",
        "batch",
        "groups",
        "tie_kind",
        "split",
        "source",
        "annotator",
        "annotator_kind",
        "note",
    )
    return RankedItem(
        prompt=row["messages"],
        group=row["group_hash"],
        answers=tuple(answers[key] for key in row["completion_ids"]),
        **{name: row[name] for name in same},
    )


def _batch_prompts(c: sa.Connection, batch: str) -> set[str]:
    return set(c.execute(sa.select(t.items.c.prompt_id).where(t.items.c.batch == batch)).scalars())


def _fresh(c: sa.Connection, batch: str, items: Iterable[NewItem]) -> list[NewItem]:
    """Those whose prompt the batch does not have yet, each prompt once."""
    known = _batch_prompts(c, batch)
    fresh = {item.prompt.id: item for item in items if item.prompt.id not in known}
    for item in fresh.values():
        if not 2 <= len(item.answers) <= _MOST_ANSWERS:
            raise InputError(f"An item has 2 to {_MOST_ANSWERS} answers, not {len(item.answers)}. Sample again.")
    return list(fresh.values())


def _add_prompts(c: sa.Connection, prompts: Sequence[Prompt]) -> None:
    """Those that are not here yet; a prompt keeps the split, category and source that it came with first."""
    known: set[str] = set()
    for piece in pieces([p.id for p in prompts]):
        known |= set(c.execute(sa.select(t.prompts.c.id).where(t.prompts.c.id.in_(piece))).scalars())
    rows = [{**vars(p), "created_at": now()} for p in prompts if p.id not in known]
    if rows:
        c.execute(t.prompts.insert(), rows)
