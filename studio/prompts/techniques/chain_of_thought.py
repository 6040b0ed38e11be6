"""Chain of thought: examples show their reasoning before "The answer is", and the model writes its own.

Wei et al. report gains from about 100 billion parameters on; below, fluent chains that are wrong were the rule.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.prompts.techniques.base import (
    Found,
    Knobs,
    Technique,
    before,
    with_room,
    with_stop,
)
from studio.prompts.techniques.reading import Reads, after_marker
from studio.specs import Sampling

__all__ = ["ChainOfThought", "Reasoning"]

_NEXT_QUESTION = "\nQ:"  # where a model in the paper's format goes on to ask itself something else


class Reasoning(Knobs):
    """How written steps end in an answer."""

    marker: str = Field(
        "The answer is", min_length=1, title="Marker", description="The answer stands behind these words."
    )
    reads: Reads = Field("text", title="Read as", description="What the answer is: words, or the number among them.")
    room: int = Field(
        128,
        ge=0,
        le=2048,
        title="Room for steps",
        description="Added to the answer's own max tokens.",
        json_schema_extra={"unit": "tokens"},
    )


class ChainOfThought(Technique):
    """One call, in which the steps come before the answer."""

    name: ClassVar[str] = "chain-of-thought"
    title: ClassVar[str] = "Chain of thought"
    summary: ClassVar[str] = "The model writes its steps, then the answer. Small models gain nothing and may do worse."
    citation: ClassVar[str] = "Wei et al. 2022, arXiv 2201.11903"
    knobs: ClassVar[type[Knobs]] = Reasoning

    settings: Reasoning

    @property
    def instruction(self) -> str:
        return f'Think step by step. Then write the answer on a line that begins with "{self.settings.marker}".'

    def sampling(self, asked: Sampling) -> Sampling:
        return with_stop(with_room(asked, self.settings.room), _NEXT_QUESTION)

    def extract(self, text: str) -> Found:
        return after_marker(before(text, _NEXT_QUESTION), self.settings.marker, self.settings.reads)
