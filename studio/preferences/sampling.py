"""Sampling: several answers to each of many prompts, stored as items that people (or a rule) rank.

What a stopped run has stored stays, and a run that starts again goes on where it was: each call asks a fixed piece of
the shuffled prompts with a seed of its own, and prompts that the batch has already are left out.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.backends import Backend
from studio.errors import InputError
from studio.instructions import group_hash, question, split_of
from studio.specs import Completion, Message, ModelRef, Sampling, SnapshotRef, user
from studio.store import NewItem, Prompt, Store
from studio.tasks import Lane, Run, Task

__all__ = ["SampleAnswers", "prompts_of"]

_ROWS = 64  # answers asked for in one call: as many as the engine decodes together
_MOST_PROMPTS = 5000


class SampleAnswers(Task):
    """Ask a model several times and keep the different answers as items to rank."""

    kind: ClassVar[str] = "sample"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="The model whose answers are ranked: the one to align.")
    prompts: SnapshotRef = Field(title="Prompts", description="The snapshot that the questions come from.")
    batch: str = Field(title="Batch", description="Name of the set of items; the judgements' snapshot gets it too.")
    count: int = Field(
        120, ge=1, le=_MOST_PROMPTS, title="Prompts to ask", description="How many of them, in shuffled order."
    )
    answers: int = Field(4, ge=2, le=4, title="Answers per prompt", description="Equal ones count once.")
    temperature: float = Field(
        0.7, gt=0, le=5, title="Temperature", description="Higher gives answers that differ more."
    )
    max_tokens: int = Field(110, ge=8, le=1024, title="Max tokens", description="Longest answer, in tokens.")
    seed: int = Field(0, ge=0, title="Seed", description="Decides which prompts are asked, and the answers.")

    @field_validator("batch")
    @classmethod
    def _can_be_part_of_a_reference(cls, name: str) -> str:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError("needs a name of letters, digits, '.', '-' and '_' only")
        return name

    @property
    def title(self) -> str:
        return f"Sample {self.answers} answers to {self.count} prompts from {self.model}"

    def check(self, store: Store) -> None:
        if self.prompts.kind not in ("prompts", "data"):
            raise InputError(f"{self.prompts} holds no questions. Choose a snapshot like prompts:brackenfold@1.")
        store.snapshot(self.prompts)
        if self.model.kind == "run" and not store.model(self.model).answers:
            raise InputError(f"{self.model} scores answers and gives none. Choose a model that answers.")

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        asked = self._chosen(prompts_of(run.snapshot(self.prompts), source=self.prompts))
        known = run.store.batch_prompts(self.batch)
        author = run.store.job(run.id).author
        per_call = _ROWS // self.answers
        before = sum(prompt.id in known for prompt in asked)
        added = alike = 0
        backend = run.backend(self.model)
        try:
            for call, start in enumerate(range(0, len(asked), per_call)):
                if run.stop_requested():
                    break
                piece = asked[start : start + per_call]
                if not known.issuperset(prompt.id for prompt in piece):
                    run.say(f"{start} of {len(asked)} prompts done, {added} of them are new items.")
                    sampling = self._sampling(call)
                    items = await _ask(backend, piece, self.answers, sampling)
                    fresh = [item for item in items if item.prompt.id not in known]
                    varied = [item for item in fresh if len(item.answers) > 1]
                    added += run.store.add_items(self.batch, varied, model=self.model, sampling=sampling, author=author)
                    alike += len(fresh) - len(varied)
                run.log(start + len(piece), len(asked))
        finally:
            await backend.close()
        return {"batch": self.batch, "prompts": len(asked), "items": added, "known": before, "alike": alike}

    def _chosen(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        shuffled = list(prompts)
        random.Random(self.seed).shuffle(shuffled)
        return shuffled[: self.count]

    def _sampling(self, call: int) -> Sampling:
        seed = self.seed * _MOST_PROMPTS + call  # no two calls of any two seeds share one
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=seed)


def prompts_of(rows: Iterable[Mapping[str, Any]], source: str) -> list[Prompt]:
    """The different questions of a snapshot, in its order.

    A row's own group says which split a prompt is in, so that what was held out from tuning stays held out here.
    """
    found: dict[str, Prompt] = {}
    for row in rows:
        instruction, context = row["instruction"], row.get("context") or ""
        group = row.get("group") or group_hash(instruction, context)
        prompt = Prompt.of(
            [user(question(instruction, context))],
            group=group,
            split=split_of(group),
            category=row.get("category") or "",
            source=source,
        )
        found.setdefault(prompt.id, prompt)
    return list(found.values())


async def _ask(backend: Backend, prompts: Sequence[Prompt], answers: int, sampling: Sampling) -> list[NewItem]:
    """Each prompt with its different answers, of which there may be one or none."""
    questions = [[Message(**turn) for turn in p.messages] for p in prompts]
    said = await backend.complete([asked for asked in questions for _ in range(answers)], sampling)
    return [NewItem(p, _different(said[n * answers : (n + 1) * answers])) for n, p in enumerate(prompts)]


def _different(said: Iterable[Completion]) -> tuple[Completion, ...]:
    by_text: dict[str, Completion] = {}
    for answer in said:
        by_text.setdefault(answer.text.replace("\x00", "").strip(), answer)
    by_text.pop("", None)
    return tuple(by_text.values())
