"""Self-consistency: several sampled chains of thought, and the answer that most of them reach.

It helps only where the right answer is the commonest one; with a voter right less than half of the time it can do harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from studio.prompts.techniques.base import Ask, Knobs, Trace, draw_seed
from studio.prompts.techniques.chain_of_thought import ChainOfThought, Reasoning
from studio.prompts.techniques.reading import majority
from studio.specs import Message, Sampling

__all__ = ["SelfConsistency"]


class Votes(Reasoning):
    """How many chains are drawn, and how freely."""

    votes: int = Field(5, ge=2, le=64, title="Votes", description="Chains drawn for each question; the paper drew 40.")
    temperature: float = Field(
        0.7, gt=0, le=2, title="Temperature of the votes", description="Higher draws more different chains."
    )


class SelfConsistency(ChainOfThought):
    """As many calls as votes. Chains in which no answer is found have none; of equally many votes the first wins."""

    name: ClassVar[str] = "self-consistency"
    title: ClassVar[str] = "Self-consistency"
    summary: ClassVar[str] = "Several sampled chains of thought; the answer that most of them reach wins."
    citation: ClassVar[str] = "Wang et al. 2022, arXiv 2203.11171"
    knobs: ClassVar[type[Knobs]] = Votes

    settings: Votes

    @property
    def calls(self) -> int:
        return self.settings.votes

    def sampling(self, asked: Sampling) -> Sampling:
        return super().sampling(asked).model_copy(update={"temperature": self.settings.temperature})

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        asked, drawn = self.prepare(messages), self.sampling(sampling)
        seeds = [draw_seed(drawn.seed, vote) for vote in range(self.settings.votes)]
        answers = await asyncio.gather(*(ask(asked, drawn.model_copy(update={"seed": seed})) for seed in seeds))
        steps = [(asked, completion) for completion in answers]
        found = [self.extract(completion.text) for completion in answers]
        voting = [place for place, answer in enumerate(found) if answer.parsed]
        if not voting:
            return Trace.of(answers[0].text, found[0], steps, f"No answer was found in {len(answers)} chains.")
        first, count = majority([found[place].text for place in voting])
        winner = voting[first]
        note = f"{count} of {len(answers)} chains say {found[winner].text}."
        return Trace.of(answers[winner].text, found[winner], steps, note)
