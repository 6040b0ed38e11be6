"""The same question in other words: a model rewords instructions, and the answer stays as people wrote it.

A variation is in the group and the split of its original, or one answer would be in two splits. Only training records are
varied: validation and test stay as they are.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.growing.alike import rouge_l
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
from studio.instructions.growing.grounding import overlap
from studio.instructions.growing.reading import line
from studio.instructions.statistics import language
from studio.instructions.statistics.reservoir import Reservoir
from studio.instructions.statistics.words import words
from studio.specs import Completion, Message, Sampling, user
from studio.store import Record

__all__ = ["Paraphrase"]

_MOST_WORDS = 120
_SHORTER, _LONGER = 0.4, 2.5  # times the original: beyond, something was left out or made up
_NUMBER = re.compile(r"\d+")
_INSIDE = re.compile(r"(?<=[\w,;] )[^\W\d_]\w+")  # a word inside a sentence


class Paraphrase(Growing):
    """Have a model say instructions in other words, and keep their answers."""

    kind: ClassVar[str] = "paraphrase"
    template: ClassVar[str] = "paraphrase@1"

    category: str = Field("", title="Category", description="Records of this kind only; empty for all.")
    variants: int = Field(1, ge=1, le=5, title="Variants", description="Tries per record.")
    too_alike: float = Field(
        0.9,
        gt=0,
        le=1,
        title="Too like the original",
        description="ROUGE-L with the original from which a variant is dropped.",
    )

    @property
    def title(self) -> str:
        return f"Reword {self.count} records of {self.dataset} with {self.model}"

    def grower(self, desk: Desk) -> Grower:
        return _Grower(self, desk)


class _Grower(Grower):
    def __init__(self, told: Paraphrase, desk: Desk) -> None:
        self._told, self._desk = told, desk
        found = Reservoir[Record](MOST_EXAMPLES, told.seed)
        for record in desk.run.store.all_records(desk.dataset.id):
            if self._is_varied(record):
                found.take(record)
        records = found.kept
        if not records:
            of = f" of category '{told.category}'" if told.category else ""
            raise InputError(
                f"'{desk.dataset.name}' has no record{of} to reword: a training record of one question and one answer "
                f"that a person wrote or approved, with at most {_MOST_WORDS} words in the instruction."
            )
        random.Random(told.seed).shuffle(records)
        # Every record is reworded once before any is a second time.
        self._records = records * told.variants
        self.steps = -(-len(self._records) // PER_STEP)

    def _is_varied(self, record: Record) -> bool:
        is_meant = self._told.category in ("", record.category)
        return is_meant and may_be_shown(record) and not record.turns and len(words(record.instruction)) <= _MOST_WORDS

    async def step(self, number: int) -> Portion:
        records = self._records[number * PER_STEP : (number + 1) * PER_STEP]
        sampling = self._told.sampling(number)
        answers = await together(self._desk.backend, [_asking(record) for record in records], sampling)
        left_out: Counter[str] = Counter()
        return Portion(tuple(self._drafts(records, answers, sampling, left_out)), left_out)

    def _drafts(
        self,
        records: Sequence[Record],
        answers: Sequence[Completion | None],
        sampling: Sampling,
        left_out: Counter[str],
    ) -> Iterator[Draft]:
        for record, answer in zip(records, answers, strict=True):
            text = line(answer.text) if answer else ""
            if fault := "failed" if answer is None else self._fault(record.instruction, text, answer.finish):
                left_out[fault] += 1
            else:
                yield Draft(
                    text,
                    record.response,
                    record.category,
                    calls=(sampling,),
                    context=record.context,
                    licence=record.licence,
                    group=record.group_hash,
                    split=record.split,
                    seeds=(record.id,),
                )

    def _fault(self, original: str, text: str, finish: str) -> str:
        if not words(text):
            return "unread"
        if finish == "length":
            return "cut"
        ratio = len(words(text)) / max(1, len(words(original)))
        if not _SHORTER <= ratio <= _LONGER:
            return "length"
        if rouge_l(original, text) >= self._told.too_alike:
            return "alike"
        kept = _kept(original)
        if kept - set(words(text)) or set(_NUMBER.findall(text)) - set(_NUMBER.findall(original)):
            return "lost"
        # A text of nothing but names and numbers has them all by now.
        return "far" if overlap(original, text, but=kept) == 0 else ""


def _kept(original: str) -> set[str]:
    """What a variant must have: numbers, and words in capitals inside a sentence. German writes every noun so, and a noun
    may be another in other words."""
    names = [] if language(original) == "de" else [word for word in _INSIDE.findall(original) if word[0].isupper()]
    return {word for name in (*_NUMBER.findall(original), *names) for word in words(name)}


def _asking(record: Record) -> list[Message]:
    return [
        user(
            f"Say this in other words:\n\n{record.instruction}\n\n"
            "Keep its meaning, its language, and every name and number. Do not answer it. Write the new wording only."
        )
    ]
