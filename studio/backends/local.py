"""Models on this machine, answered by our engine process. No weights and no tokenizer live here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from studio.backends.base import MOST_MARKS, Backend, Conversation, Mark, Marked
from studio.engine.client import EngineClient
from studio.models import Weights
from studio.specs import Chunk, Completion, Rendered, Sampling, TokenLogprob

__all__ = ["LocalBackend"]

T = TypeVar("T")

# Long lists go in pieces, so that somebody waiting for an answer gets a turn in between.
_TEXTS_PER_CALL = 64


class LocalBackend(Backend):
    """One model of this machine, asked through the engine."""

    def __init__(self, weights: Weights, engine: EngineClient, *, owns_engine: bool = False) -> None:
        super().__init__(weights.ref)
        self.weights = weights
        self._engine = engine
        self._owns_engine = owns_engine

    async def stream(self, messages: Conversation, sampling: Sampling) -> AsyncIterator[Chunk]:
        lines = self._engine.lines("stream", self._asking(messages=_turns(messages), sampling=_fields(sampling)))
        try:
            async for line in lines:
                yield Chunk(**line)
        finally:
            await lines.aclose()

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        answers: list[Completion] = []
        if not batch:
            return answers
        question = self._asking(batch=[_turns(messages) for messages in batch], sampling=_fields(sampling))
        async for line in self._engine.lines("complete", question):
            if "answers" in line:
                answers = [Completion(**answer) for answer in line["answers"]]
            elif on_done is not None:
                on_done(line["done"])
        return answers

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        question = self._asking(messages=_turns(messages), continuation=continuation, top=top)
        return [TokenLogprob(**token) for token in await self._engine.call("logprobs", question)]

    async def next_tokens(self, messages: Conversation, k: int) -> list[TokenLogprob]:
        question = self._asking(messages=_turns(messages), k=k)
        return [TokenLogprob(**token) for token in await self._engine.call("next_tokens", question)]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for piece in _pieces(texts):
            vectors += await self._engine.call("embed", self._asking(texts=piece))
        return vectors

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        if self.weights.adapter is None:
            raise self._refusal("score answers")
        scores: list[float] = []
        for piece in _pieces([_turns(messages) for messages in conversations]):
            scores += await self._engine.call("score", self._asking(conversations=piece))
        return scores

    async def render(self, messages: Conversation) -> Rendered:
        return Rendered(**await self._engine.call("render", self._asking(messages=_turns(messages))))

    async def marks(self, messages: Conversation, most: int = MOST_MARKS) -> Marked:
        told = await self._engine.call("marks", self._asking(messages=_turns(messages), most=most))
        marks = tuple(Mark(text, learned, special) for text, learned, special in told["marks"])
        return Marked(marks, told["tokens"], told["learned"], self.weights.window)

    async def tokens(self, messages: Conversation) -> list[tuple[str, int]]:
        found = await self._engine.call("tokens", self._asking(messages=_turns(messages)))
        return [(spelled, number) for spelled, number in found]

    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        counts: list[int] = []
        for piece in _pieces(parts):
            counts += await self._engine.call("count", self._asking(texts=piece))
        return counts

    async def close(self) -> None:
        if self._owns_engine:
            await self._engine.close()

    def _asking(self, **question: Any) -> dict[str, Any]:
        adapter = self.weights.adapter
        weights = {
            "ref": self.weights.ref,
            "base": str(self.weights.base),
            "adapter": str(adapter) if adapter is not None else None,
            "digest": self.weights.digest,
            "window": self.weights.window,
        }
        return {"weights": weights, **question}


def _turns(messages: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in messages]


def _fields(sampling: Sampling) -> dict[str, Any]:
    return sampling.model_dump(mode="json")


def _pieces(texts: Sequence[T]) -> list[list[T]]:
    return [list(texts[start : start + _TEXTS_PER_CALL]) for start in range(0, len(texts), _TEXTS_PER_CALL)]
