"""Questions and answers from documents: a model asks what a passage answers, then answers from the passage alone.

Two requests instead of one, since a small model that is to write both at once mixes them up. The answer is looked up
word by word (see grounding): what the passage does not say is left out. All drafts from one passage share a split, or
its sentences would be learned in one and asked about in another.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.instructions.growing.base import PER_STEP, Desk, Draft, Grower, Growing, Portion, together
from studio.instructions.growing.grounding import grounding, overlap
from studio.instructions.growing.reading import answer_fault, first_question
from studio.instructions.records import group_hash
from studio.instructions.statistics.words import words
from studio.specs import Completion, Message, Sampling, user
from studio.store import Passage, Store

__all__ = ["FromDocuments", "chosen_passages"]

_FEWEST_WORDS = 20  # of a passage that is worth a question: fewer are a heading


class FromDocuments(Growing):
    """Have a model ask and answer questions about the documents' passages."""

    kind: ClassVar[str] = "from-documents"
    template: ClassVar[str] = "from-documents@1"

    documents: tuple[str, ...] = Field(
        (), title="Documents", description="Names of documents to draft from; empty for all that are in use."
    )
    questions: int = Field(1, ge=1, le=5, title="Questions per passage", description="Each is asked for anew.")
    grounded: float = Field(
        0.8,
        ge=0,
        le=1,
        title="Grounded",
        description="The share of an answer's content words that the passage must have; numbers must all be in it.",
    )

    @property
    def title(self) -> str:
        return f"Draft {self.count} records for {self.dataset} from documents with {self.model}"

    def check(self, store: Store) -> None:
        super().check(store)
        chosen_passages(store, self.documents)

    def grower(self, desk: Desk) -> Grower:
        return _Grower(self, desk)


def chosen_passages(store: Store, names: Sequence[str]) -> list[Passage]:
    """The passages to draft from: of those that say nearly the same, the first."""
    by_name = {document.name: document.id for document in store.documents()}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise InputError(f"There is no document '{missing[0]}'. Documents in use: {', '.join(by_name) or 'none yet'}.")
    wanted = {by_name[name] for name in names} or set(by_name.values())
    found: dict[int, Passage] = {}
    for passage in store.live_passages():
        if passage.document_id in wanted and len(words(passage.text)) >= _FEWEST_WORDS:
            found.setdefault(passage.near_id or passage.id, passage)
    if not found:
        raise InputError(
            f"There is no passage of {_FEWEST_WORDS} words or more to draft from. Add documents in the Playground first."
        )
    return list(found.values())


@dataclass(frozen=True)
class _Asked:
    passage: Passage
    question: str


class _Grower(Grower):
    def __init__(self, told: FromDocuments, desk: Desk) -> None:
        self._told, self._desk = told, desk
        passages = chosen_passages(desk.run.store, told.documents)
        random.Random(told.seed).shuffle(passages)
        # Every passage is asked about once before any is a second time.
        self._passages = passages * told.questions
        self.steps = -(-len(self._passages) // PER_STEP)

    async def step(self, number: int) -> Portion:
        passages = self._passages[number * PER_STEP : (number + 1) * PER_STEP]
        left_out: Counter[str] = Counter()
        prompts = [[user(_asking(passage.text))] for passage in passages]
        drawn = self._told.sampling(2 * number)
        written = await together(self._desk.backend, prompts, drawn)
        asked = list(self._questions(passages, written, left_out))
        # Answers are the likeliest: what is drawn strays from the passage.
        sampling = self._told.sampling(2 * number + 1, temperature=0)
        answers = await together(self._desk.backend, [_answering(a) for a in asked], sampling, is_follow_up=True)
        return Portion(tuple(self._drafts(asked, answers, (drawn, sampling), left_out)), left_out)

    def _questions(
        self, passages: Sequence[Passage], written: Sequence[Completion | None], left_out: Counter[str]
    ) -> Iterator[_Asked]:
        for passage, answer in zip(passages, written, strict=True):
            found = first_question(answer.text) if answer else ""
            if answer is None:
                left_out["failed"] += 1
            elif not found:
                left_out["unread"] += 1
            elif not overlap(found, passage.text):
                left_out["off_topic"] += 1
            else:
                yield _Asked(passage, found)

    def _drafts(
        self,
        asked: Sequence[_Asked],
        answers: Sequence[Completion | None],
        calls: tuple[Sampling, ...],
        left_out: Counter[str],
    ) -> Iterator[Draft]:
        for one, answer in zip(asked, answers, strict=True):
            if answer is None:
                left_out["failed"] += 1
            elif fault := self._fault(one, answer):
                left_out[fault] += 1
            else:
                yield Draft(
                    one.question,
                    answer.text.strip(),
                    "closed_qa",
                    calls=calls,
                    context=one.passage.text,
                    group=group_hash("", one.passage.text),
                    passages=(one.passage.id,),
                )

    def _fault(self, one: _Asked, answer: Completion) -> str:
        if fault := answer_fault(one.question, "closed_qa", answer, self._told.lowest_quality):
            return fault
        found = grounding(answer.text, one.passage.text)
        if found.share is None:
            return "bare"
        if found.made_up:
            return "made_up"
        return "" if found.share >= self._told.grounded else "ungrounded"


def _asking(passage: str) -> str:
    return (
        f"Text:\n{passage}\n\n"
        "Write one question that this text answers, in the language of the text. Write the question only."
    )


def _answering(asked: _Asked) -> list[Message]:
    return [
        user(
            f"Text:\n{asked.passage.text}\n\nQuestion: {asked.question}\n\n"
            "Answer in one or two sentences, in the words of the text and with nothing that is not in it."
        )
    ]
