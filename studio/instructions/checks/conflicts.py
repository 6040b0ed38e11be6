"""Conflicting answers: one question, answers that cannot both be right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from studio.instructions.checks.base import REJECT, REMOVE, DatasetCheck, Finding, Flag, Remedy, live, prompt_of
from studio.instructions.checks.normal import digest, digests, flat, groups
from studio.store import Record

__all__ = ["Conflicts", "is_other_answer"]

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"[.,](?=\d{3}(?!\d))")
_YES = frozenset("yes ja oui sí si sim true wahr vrai verdadero vero".split())
_NO = frozenset("no nein non não nao false falsch faux falso".split())
_OTHERS = 20
_LETTERS = 20_000  # of an answer; what two differ in shows long before


class Conflicts(DatasetCheck):
    name: ClassVar[str] = "conflicts"
    title: ClassVar[str] = "Conflicting answers"
    explains: ClassVar[str] = (
        "The same question with answers that differ clearly: other numbers, yes against no, or few words in common. "
        "The model learns none of them well. Kinds of tasks with many right answers are left out."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = (REJECT, REMOVE)

    shared: float = Field(
        0.3,
        ge=0.0,
        le=1.0,
        title="Words in common",
        description="Answers that share a smaller part of their words differ.",
    )
    left_out: tuple[str, ...] = Field(
        ("brainstorming", "creative_writing"),
        title="Categories left out",
        description="Where several answers to one question are all right.",
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        asked = [(record.id, digest([prompt_of(record)])) for record in self._judged(records)]
        ids = np.array([row[0] for row in asked], np.int64)
        group = groups(digests(row[1] for row in asked))
        twice = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, bool)
        among = dict(zip(ids[twice].tolist(), group[twice].tolist(), strict=True))
        answers: dict[int, list[tuple[int, str, str]]] = {}
        for record in self._judged(records):
            if record.id in among:
                field = "response" if record.turns is None else f"turns.{len(record.turns) - 1}"
                answers.setdefault(among[record.id], []).append((record.id, field, record.response[:_LETTERS]))
        for one_question in answers.values():
            yield from self._between(one_question)

    def _judged(self, records: Iterable[Record]) -> Iterator[Record]:
        return (record for record in live(records) if record.category not in self.left_out)

    def _between(self, answers: list[tuple[int, str, str]]) -> Iterator[Flag]:
        kinds: list[tuple[str, list[int]]] = []  # the first of each answer, and who gives it
        for record_id, _, text in answers:
            same = next((ids for first, ids in kinds if not is_other_answer(first, text, self.shared)), None)
            if same is not None:
                same.append(record_id)
            elif len(kinds) < _OTHERS:
                kinds.append((text, [record_id]))
        if len(kinds) < 2:
            return
        of = {record_id: number for number, (_, ids) in enumerate(kinds) for record_id in ids}
        everyone = [record_id for record_id, _, _ in answers]
        for record_id, field, _ in answers:
            against = kinds[1 if of.get(record_id) == 0 else 0][1][0]
            note = f"Record {against} answers the same question otherwise."
            details = {"cluster": everyone[0], "of": len(everyone), "answers": len(kinds), "others": everyone[:_OTHERS]}
            yield self._flag(record_id, Finding(field, note, details={**details, "against": against}))


def is_other_answer(one: str, other: str, shared: float) -> bool:
    """Whether two answers to one question differ clearly."""
    one, other = flat(one), flat(other)
    if one == other:
        return False
    numbers, others = _numbers(one), _numbers(other)
    if numbers and others and not (numbers <= others or others <= numbers):
        return True
    words, rest = _WORD.findall(one), _WORD.findall(other)
    if not words or not rest:
        return False
    if any(words[0] in yes and rest[0] in no for yes, no in ((_YES, _NO), (_NO, _YES))):
        return True
    a, b = set(words), set(rest)
    return len(a & b) / len(a | b) < shared


def _numbers(text: str) -> set[str]:
    return {_THOUSANDS.sub("", number) for number in _NUMBER.findall(text)}
