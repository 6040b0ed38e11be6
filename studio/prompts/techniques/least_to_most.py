"""Least-to-most: the question is taken apart into smaller ones, which are answered in order, each with the answers
before it in view. The last answer is the question's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from studio.prompts.techniques.base import (
    Ask,
    Found,
    Knobs,
    Step,
    Technique,
    Trace,
    adding,
    at_call,
    freely,
    question_of,
)
from studio.prompts.techniques.reading import Reads, by_default
from studio.specs import Message, Sampling, assistant, user

__all__ = ["LeastToMost", "smaller_questions"]

_DECOMPOSE = (
    "Do not answer yet. Which smaller questions have to be answered first? "
    "List them one per line, numbered, the simplest first."
)
_FINALLY = "With these answers, now answer the question asked first."
_HEADING = "Final answer:"
_ITEM = re.compile(r"^[^\S\n]*(?:\d{1,2}[.):]|[-*•])[^\S\n]+(\S.*?)[^\S\n]*$", re.MULTILINE)


class Decomposition(Knobs):
    """Into how many parts, and what the last answer is."""

    most: int = Field(4, ge=1, le=12, title="Smaller questions", description="At most this many are asked.")
    reads: Reads = Field("text", title="Read as", description="What the answer is: words, or the number among them.")


class LeastToMost(Technique):
    """One call to take the question apart, one per smaller question, one for the answer."""

    name: ClassVar[str] = "least-to-most"
    title: ClassVar[str] = "Least-to-most"
    summary: ClassVar[str] = "Smaller questions first, each answered with those before it in view, then the question."
    citation: ClassVar[str] = "Zhou et al. 2022, arXiv 2205.10625"
    knobs: ClassVar[type[Knobs]] = Decomposition

    settings: Decomposition

    @property
    def calls(self) -> int:
        return 2 + self.settings.most

    @property
    def cost(self) -> str:
        return f"2 to {self.calls} calls"

    def prepare(self, messages: Sequence[Message]) -> list[Message]:
        return adding(messages, _DECOMPOSE)

    def sampling(self, asked: Sampling) -> Sampling:
        return freely(asked)

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        question = question_of(messages).content
        apart = self.prepare(messages)
        listed = await ask(apart, self.sampling(sampling))
        smaller = smaller_questions(listed.text, question, self.settings.most)
        steps: list[Step] = [(apart, listed)]
        turns, told = list(messages[:-1]), ""
        for number, part in enumerate(smaller, start=1):
            turns.append(user(f"{question}\n\nBefore you answer that: {part}" if number == 1 else part))
            said = await ask(turns, freely(at_call(sampling, number)))
            steps.append((list(turns), said))
            turns.append(assistant(said.text))
            told += f"{number}. {part}\n{said.text.strip()}\n\n"
        turns.append(user(_FINALLY if smaller else question))
        final = await ask(turns, at_call(sampling, len(smaller) + 1))
        output = f"{told}{_HEADING}\n{final.text.strip()}"
        count = f"{len(smaller)} smaller question{'s' * (len(smaller) != 1)} came first."
        note = count if smaller else "No smaller questions were named, so it was asked directly."
        return Trace.of(output, self.extract(output), [*steps, (turns, final)], note)

    def extract(self, text: str) -> Found:
        """Below the last heading: all of it, or the last number."""
        heading = re.compile(rf"^{_HEADING}$", re.MULTILINE)
        places = [match.end() for match in heading.finditer(text)]
        if not places:
            return by_default(text, self.settings.reads)
        found = Found.of(text, places[-1], len(text), strict=True)
        if not found.parsed or self.settings.reads == "text":
            return found
        known = by_default(found.text, "number")
        return Found(known.text, True, found.start + known.start, found.start + known.end) if known.parsed else known


def smaller_questions(listed: str, question: str, most: int) -> list[str]:
    """The items of a numbered or bulleted list, once each, without the question itself."""
    found: dict[str, str] = {_flat(question): ""}
    for item in _ITEM.findall(listed):
        found.setdefault(_flat(item), item)
    return list(found.values())[1 : most + 1]


def _flat(text: str) -> str:
    return " ".join(text.split()).casefold()
