"""Zero-shot chain of thought: one call for the reasoning, one that takes the answer out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from studio.prompts.techniques.base import (
    Ask,
    Found,
    Knobs,
    Technique,
    Trace,
    at_call,
    freely,
    with_room,
)
from studio.prompts.techniques.reading import Reads, by_default, numbers
from studio.specs import Message, Sampling, assistant, user

__all__ = ["ZeroShotChainOfThought"]

_STEPS = "Let's think step by step."
_TRIGGERS: dict[Reads, str] = {
    "text": "Therefore, the answer is",
    "number": "Therefore, the answer (arabic numerals) is",
}


class Steps(Knobs):
    """What kind of answer the second call asks for, and how long the first may be."""

    reads: Reads = Field("text", title="Read as", description="What the answer is: words, or the number among them.")
    room: int = Field(
        128,
        ge=0,
        le=2048,
        title="Room for steps",
        description="Added to the first call's max tokens.",
        json_schema_extra={"unit": "tokens"},
    )


class ZeroShotChainOfThought(Technique):
    """Two calls, no examples needed."""

    name: ClassVar[str] = "zero-shot-chain-of-thought"
    aliases: ClassVar[tuple[str, ...]] = ("zero-shot-cot",)
    title: ClassVar[str] = "Zero-shot chain of thought"
    summary: ClassVar[str] = "“Let's think step by step”, then a second call for the answer. Small models gain little."
    citation: ClassVar[str] = "Kojima et al. 2022, arXiv 2205.11916"
    knobs: ClassVar[type[Knobs]] = Steps

    settings: Steps

    @property
    def calls(self) -> int:
        return 2

    @property
    def trigger(self) -> str:
        """What the second call asks."""
        return _TRIGGERS[self.settings.reads]

    @property
    def instruction(self) -> str:
        return _STEPS

    def sampling(self, asked: Sampling) -> Sampling:
        return freely(with_room(asked, self.settings.room))

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        first = self.prepare(messages)
        steps = await ask(first, self.sampling(sampling))
        second = [*first, assistant(steps.text), user(self.trigger)]
        said = await ask(second, at_call(sampling, 1))
        output = f"{steps.text.strip()}\n\n{self.trigger} {said.text.strip()}"
        return Trace.of(output, self.extract(output), [(first, steps), (second, said)])

    def extract(self, text: str) -> Found:
        """Behind the trigger: all of it, or the first number."""
        place = text.find(self.trigger)
        if place < 0:
            return by_default(text, self.settings.reads)
        start = place + len(self.trigger)
        if self.settings.reads == "text":
            return Found.of(text, start, len(text), strict=True)
        known = numbers(text, start)
        return known[0].found(strict=True) if known else by_default(text, "number")
