"""Classification: one label of a closed set, written by the model or chosen by how likely the model finds each.

Choosing needs no generation. It is biased by the prompt, towards labels that are frequent, or last, among the examples or
common in text at large; Zhao et al. measure the bias on inputs without content and divide it out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from studio.backends import Backend
from studio.errors import InputError
from studio.prompts.techniques.base import (
    Ask,
    Found,
    Knobs,
    Technique,
    Trace,
    question_of,
)
from studio.specs import Message, Sampling, user

__all__ = [
    "CONTENT_FREE",
    "Label",
    "calibrated",
    "emptied",
    "label_logprobs",
    "prior",
    "probabilities",
]

CONTENT_FREE = ("N/A", "", "[MASK]")


class Labels(Knobs):
    """The closed set."""

    labels: tuple[str, ...] = Field((), title="Labels", description="The answers to choose from, one a line.")

    @field_validator("labels")
    @classmethod
    def _can_be_told_apart(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        labels = tuple(" ".join(label.split()) for label in labels)
        if labels and len(labels) < 2:
            raise ValueError(f"'{labels[0]}' is the only one; name at least two")
        if "" in labels or len({label.casefold() for label in labels}) < len(labels):
            raise ValueError("two are alike but for capitals, or one is empty")
        return labels


class Label(Technique):
    """One call. Strict: the text is a label, in any case of letters. Lenient: the label that is mentioned first."""

    name: ClassVar[str] = "label"
    aliases: ClassVar[tuple[str, ...]] = ("classification",)
    title: ClassVar[str] = "Classification"
    summary: ClassVar[str] = "The answer is one label of a closed set."
    citation: ClassVar[str] = "Zhao et al. 2021, arXiv 2102.09690"
    knobs: ClassVar[type[Knobs]] = Labels

    settings: Labels

    @property
    def instruction(self) -> str:
        return f"Answer with one of these labels and nothing else: {', '.join(self.settings.labels)}."

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        if not self.settings.labels:
            raise InputError("Classification has no labels. Name at least two under Labels.")
        return await super().answer(ask, messages, sampling)

    def extract(self, text: str) -> Found:
        said = " ".join(text.split()).casefold()
        for label in self.settings.labels:
            if label.casefold() == said:
                place = Found.of(text, 0, len(text), strict=True)
                return Found(label, True, place.start, place.end)
        mentions = [(match, label) for label in self.settings.labels if (match := _mention(text, label))]
        if not mentions:
            return Found.nothing()
        # At one place the longer label was meant: "very good" rather than "very".
        match, label = min(mentions, key=lambda mention: (mention[0].start(), -mention[0].end()))
        return Found(label, False, match.start(), match.end())


async def label_logprobs(backend: Backend, messages: Sequence[Message], labels: Sequence[str]) -> list[float]:
    """How likely each label is as the whole answer: the mean log-probability of its tokens (nats), so that labels of
    several tokens can be compared with short ones. Raises Unsupported where the backend cannot tell."""
    scores = []
    for label in labels:
        tokens = await backend.logprobs(messages, label)
        scores.append(sum(token.logprob for token in tokens) / len(tokens))
    return scores


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """The share of each label when there are no other answers: softmax of log-probabilities."""
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]
    return [weight / sum(weights) for weight in weights]


def prior(content_free: Sequence[Sequence[float]]) -> list[float]:
    """What the prompt alone makes of each label: the mean of its probabilities [inputs, labels] on inputs without content."""
    if not content_free:
        raise InputError("Calibration needs the probabilities of at least one input without content, such as N/A.")
    return [sum(column) / len(content_free) for column in zip(*content_free, strict=True)]


def calibrated(shares: Sequence[float], bias: Sequence[float]) -> list[float]:
    """Zhao's contextual calibration, softmax(W p) with W = diag(bias)^-1: an input as empty as those that the bias was
    measured on gets the same probability for every label. A label that is never likely without content keeps a bias of at
    least 1e-9, so that nothing is divided by 0."""
    return probabilities([share / max(found, 1e-9) for share, found in zip(shares, bias, strict=True)])


def emptied(messages: Sequence[Message], query: str) -> list[list[Message]]:
    """The same prompt about inputs without content: `query` is replaced where it stands last in the question."""
    question = question_of(messages).content
    if not query or query not in question:
        raise InputError(
            f"'{query[:60]}' does not stand in the question, so it cannot be taken out. Name the input itself."
        )
    head, _, tail = question.rpartition(query)
    return [[*messages[:-1], user(f"{head}{empty}{tail}")] for empty in CONTENT_FREE]


def _mention(text: str, label: str) -> re.Match[str] | None:
    words = r"\s+".join(re.escape(word) for word in label.split())
    return re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE)
