"""A backend without a model: it repeats the last question. For tests, demos, and pages before any weights are there.

Words are its tokens, so every count can be checked by eye; with a temperature it repeats a seeded shuffle.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from studio.backends.base import MOST_MARKS, Backend, Conversation, Mark, Marked
from studio.errors import ModelError
from studio.specs import Chunk, Completion, Message, ModelRef, Rendered, Sampling

__all__ = ["EchoBackend"]

_WINDOW = 4096


class EchoBackend(Backend):
    """Says back what it was asked."""

    def __init__(self, ref: ModelRef | None = None) -> None:
        super().__init__(ref or ModelRef("echo:"))

    async def stream(self, messages: Conversation, sampling: Sampling) -> AsyncIterator[Chunk]:
        self._refuse_schema(sampling)
        answer = _answer(messages, sampling, row=0)
        pieces = _words(answer.text)
        for piece in pieces:
            yield Chunk(text=piece)
        yield Chunk(
            text="", finish=answer.finish, prompt_tokens=answer.prompt_tokens, output_tokens=answer.output_tokens
        )

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self._refuse_schema(sampling)
        answers = []
        for row, messages in enumerate(batch):
            answers.append(_answer(messages, sampling, row))
            if on_done is not None:
                on_done(row + 1)
        return answers

    async def render(self, messages: Conversation) -> Rendered:
        text = _render(messages)
        return Rendered(text=text, tokens=len(_words(text)), window=_WINDOW)

    async def marks(self, messages: Conversation, most: int = MOST_MARKS) -> Marked:
        marks = [
            Mark(word, turn.role == "assistant")
            for turn in messages
            for word in _words(f"{turn.role}: {turn.content}\n")
        ]
        return Marked(tuple(marks[:most]), len(marks), sum(mark.is_learned for mark in marks), _WINDOW)

    async def tokens(self, messages: Conversation) -> list[tuple[str, int]]:
        numbers: dict[str, int] = {}
        return [(word, numbers.setdefault(word, len(numbers))) for word in _words(_render(messages))]

    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        return [len(_words(part)) for part in parts]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [_vector(text) for text in texts]

    def _refuse_schema(self, sampling: Sampling) -> None:
        if sampling.json_schema:
            raise self._refusal("keep to a JSON schema")


def _words(text: str) -> list[str]:
    """Every word with the space before it, so that joining them gives the text back."""
    return re.findall(r"\s*\S+|\s+$", text)


def _render(messages: Conversation) -> str:
    return "".join(f"{turn.role}: {turn.content}\n" for turn in messages) + "assistant:"


def _answer(messages: Conversation, sampling: Sampling, row: int) -> Completion:
    prompt_tokens = len(_words(_render(messages)))
    if prompt_tokens > _WINDOW - 1:
        raise ModelError(
            f"The prompt has {prompt_tokens} tokens; echo: reads at most {_WINDOW - 1}. Shorten it or drop examples."
        )
    words = _words(_last_question(messages))
    if sampling.temperature > 0:
        order = [word.strip() for word in words]
        random.Random(f"{sampling.seed} {row}").shuffle(order)
        words = _words(" ".join(order))
    finish: Literal["stop", "length"] = "length" if len(words) > sampling.max_tokens else "stop"
    said = words[: sampling.max_tokens]
    text = "".join(said)
    places = [place for stop in sampling.stop if stop and (place := text.find(stop)) >= 0]
    if places:
        text, finish = text[: min(places)], "stop"
    return Completion(text=text, finish=finish, prompt_tokens=prompt_tokens, output_tokens=len(said))


def _last_question(messages: Sequence[Message]) -> str:
    return next((turn.content for turn in reversed(messages) if turn.role == "user"), "")


def _vector(text: str, size: int = 16) -> list[float]:
    """Hashed words, counted and scaled to length 1: equal texts get equal vectors."""
    counts = [0.0] * size
    for word in text.lower().split():
        counts[hashlib.sha256(word.encode()).digest()[0] % size] += 1.0
    length = sum(count * count for count in counts) ** 0.5
    return [count / length for count in counts] if length else counts
