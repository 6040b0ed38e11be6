"""New tasks from a few: a model sees tasks of one kind and writes more, then answers them.

After self-instruct (Wang et al. 2022, arXiv 2212.10560): a new task is dropped when its ROUGE-L with any task that is
there reaches 0.7, and a text model is asked for no pictures. Unlike there, every example was written or approved by a
person, and the tasks of one prompt are of one category, so that the draft has one too.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.growing.alike import Questions
from studio.instructions.growing.base import (
    MOST_EXAMPLES,
    PER_STEP,
    Desk,
    Draft,
    Grower,
    Growing,
    Portion,
    may_be_shown,
    together,
)
from studio.instructions.growing.reading import answer_fault, items
from studio.instructions.statistics.reservoir import Reservoir
from studio.instructions.statistics.words import words
from studio.specs import Message, Sampling, assistant, user
from studio.store import Record

__all__ = ["SelfInstruct"]

_FEWEST_WORDS, _MOST_WORDS = 3, 150  # of a task, as in the paper
_LONGEST_EXAMPLE = 600  # characters of a task or an answer that is shown
_ANSWERED = 2  # examples shown with their answers before a new task is answered
_UNSEEN = re.compile(
    r"\b(?:images?|pictures?|photos?|graphs?|diagrams?|videos?|audio|screenshots?|attached|attachment|bild|foto|vidéo)\b"
    r"|https?://",
    re.IGNORECASE,
)


class SelfInstruct(Growing):
    """Show a model some tasks of the dataset and have it write and answer new ones."""

    kind: ClassVar[str] = "self-instruct"
    template: ClassVar[str] = "self-instruct@1"

    category: str = Field("", title="Category", description="Examples and drafts of this kind only; empty for all.")
    shown: int = Field(5, ge=2, le=20, title="Examples shown", description="Tasks that the model sees at once.")
    wanted: int = Field(5, ge=1, le=20, title="Tasks asked for", description="New ones that it is to write at once.")
    alike: float = Field(
        0.7, gt=0, le=1, title="Too alike", description="ROUGE-L with a known task from which a new one is dropped."
    )
    requests: int = Field(
        200, ge=1, le=10_000, title="Most requests", description="Give up after asking for tasks so often."
    )

    @property
    def title(self) -> str:
        return f"Draft {self.count} records for {self.dataset} with {self.model} (self-instruct)"

    def grower(self, desk: Desk) -> Grower:
        return _Grower(self, desk)


@dataclass(frozen=True)
class _Task:
    """A new task and the examples that it was written after."""

    text: str
    category: str
    seeds: tuple[Record, ...]


class _Grower(Grower):
    def __init__(self, told: SelfInstruct, desk: Desk) -> None:
        self._told, self._desk = told, desk
        self.steps = -(-told.requests // PER_STEP)
        found = Reservoir[Record](MOST_EXAMPLES, told.seed)
        self._known = Questions((instruction for instruction, _ in desk.evaluation), bound=told.alike)
        for record in desk.run.store.all_records(desk.dataset.id):
            self._known.add(record.instruction)
            if _is_seed(record) and told.category in ("", record.category):
                found.take(record)
        self._seeds: dict[str, list[Record]] = {}
        for record in found.kept:
            self._seeds.setdefault(record.category, []).append(record)
        self._pool_small_kinds()

    def _pool_small_kinds(self) -> None:
        """Kinds with a single example show nothing in common: they are shown together."""
        single = [kind for kind, records in self._seeds.items() if len(records) < 2]
        rest = [record for kind in single for record in self._seeds.pop(kind)]
        if len(rest) > 1 or (rest and not self._seeds):
            self._seeds[rest[0].category] = rest
        if sum(map(len, self._seeds.values())) < 2:
            of = f" of category '{self._told.category}'" if self._told.category else ""
            raise InputError(
                f"'{self._desk.dataset.name}' has fewer than 2 examples{of} to start from. Those are training records "
                "without context that a person wrote or approved. Add or approve some first."
            )

    async def step(self, number: int) -> Portion:
        draw = random.Random(f"{self._told.seed} {number}")
        shown = [self._examples(draw) for _ in range(min(PER_STEP, self._told.requests - number * PER_STEP))]
        left_out: Counter[str] = Counter()
        written = await self._written(shown, self._writing(number))
        return Portion(
            tuple(await self._answered(list(self._new(shown, written, left_out)), number, left_out)), left_out
        )

    def _writing(self, number: int) -> Sampling:
        return self._told.sampling(2 * number)

    def _examples(self, draw: random.Random) -> tuple[str, tuple[Record, ...]]:
        kinds = list(self._seeds)
        kind = draw.choices(kinds, [len(self._seeds[kind]) for kind in kinds])[0]
        records = self._seeds[kind]
        return kind, tuple(draw.sample(records, min(self._told.shown, len(records))))

    async def _written(
        self, shown: Iterable[tuple[str, Sequence[Record]]], sampling: Sampling
    ) -> list[list[str] | None]:
        prompts = [[user(_prompt([record.instruction for record in seeds], self._told.wanted))] for _, seeds in shown]
        found: list[list[str] | None] = []
        for answer in await together(self._desk.backend, prompts, sampling):
            if answer is None:
                found.append(None)
            else:
                # The last entry of a list that ran into the limit is half a task.
                entries = items(answer.text)
                found.append([*entries[:-1], ""] if entries and answer.finish == "length" else entries)
        return found

    def _new(
        self,
        shown: Sequence[tuple[str, tuple[Record, ...]]],
        written: Sequence[list[str] | None],
        left_out: Counter[str],
    ) -> Iterator[_Task]:
        for (kind, seeds), entries in zip(shown, written, strict=True):
            if not entries:
                left_out["failed" if entries is None else "unread"] += 1
                continue
            for text in entries:
                if fault := self._fault(text):
                    left_out[fault] += 1
                else:
                    self._known.add(text)
                    yield _Task(text, kind, seeds)

    def _fault(self, text: str) -> str:
        if not text:
            return "cut"
        if not _FEWEST_WORDS <= len(words(text)) <= _MOST_WORDS or not (text[0].isalnum() or text[0] in "¿¡"):
            return "unread"
        if _UNSEEN.search(text):
            return "unseen"
        return "alike" if self._known.has_like(text) else ""

    async def _answered(self, tasks: Sequence[_Task], number: int, left_out: Counter[str]) -> list[Draft]:
        """The tasks that got an answer to look at: the likeliest one, in the manner of the examples."""
        sampling = self._told.sampling(2 * number + 1, temperature=0)
        answers = await together(self._desk.backend, [_question(task) for task in tasks], sampling, is_follow_up=True)
        drafts: list[Draft] = []
        for task, answer in zip(tasks, answers, strict=True):
            if answer is None:
                left_out["failed"] += 1
            elif fault := answer_fault(task.text, task.category, answer, self._told.lowest_quality):
                left_out[fault] += 1
            else:
                licences = {record.licence for record in task.seeds}
                drafts.append(
                    Draft(
                        task.text,
                        answer.text.strip(),
                        task.category,
                        calls=(self._writing(number), sampling),
                        licence=licences.pop() if len(licences) == 1 else "",
                        seeds=tuple(record.id for record in task.seeds),
                    )
                )
        return drafts


def _is_seed(record: Record) -> bool:
    return (
        may_be_shown(record) and not record.turns and not record.context and len(record.instruction) <= _LONGEST_EXAMPLE
    )


def _question(task: _Task) -> list[Message]:
    """A few examples with their answers, then the task."""
    short = [record for record in task.seeds if len(record.response) <= _LONGEST_EXAMPLE][:_ANSWERED]
    turns = [turn for record in short for turn in (user(record.instruction), assistant(record.response))]
    return [*turns, user(task.text)]


def _prompt(examples: Sequence[str], wanted: int) -> str:
    listed = "\n".join(f"{n}. {' '.join(text.split())}" for n, text in enumerate(examples, 1))
    return (
        f"These are tasks that people gave to an assistant:\n\n{listed}\n\n"
        f"Write {wanted} new tasks of the same kind, in the same language. Each is about something else and can be done "
        "without any further text. Write one task a line and number them from 1. Do not solve them."
    )
