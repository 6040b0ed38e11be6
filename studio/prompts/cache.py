"""A backend that remembers: the same question to the same weights with the same sampling is asked once, ever.

The key is the conversation, what the weights are, and the sampling with its seed, from which repeats differ. Greedy
decoding draws nothing, so its seed counts for nothing there and repeats are one call. A server may ignore seeds, and
nothing tells; so what it sampled is remembered only where a person says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from studio.backends import Backend, Conversation, LocalBackend, RemoteBackend
from studio.errors import ModelError
from studio.specs import Chunk, Completion, Message, Rendered, Sampling, TokenLogprob
from studio.store import Store

__all__ = ["Remembering", "WasKnown", "weights_key"]

_FROM_SERVER = 4  # questions between two writes: what a server was paid for is not lost when the next one fails


class WasKnown(Completion):
    """An answer that nobody was asked for now; its seconds are those of the first time."""


def weights_key(backend: Backend) -> str:
    """What answers: files and adapter of a local model, address and name of a server's."""
    if isinstance(backend, LocalBackend):
        return backend.weights.key
    return backend.digest if isinstance(backend, RemoteBackend) else str(backend.ref)


class Remembering(Backend):
    """Asks `inner` for what the store does not know, and tells the store at once."""

    def __init__(self, inner: Backend, store: Store, *, trusts_seeds: bool = False) -> None:
        super().__init__(inner.ref)
        self.inner = inner
        self._store = store
        self._weights = weights_key(inner)
        self._is_remote = isinstance(inner, RemoteBackend)
        self._trusts_seeds = trusts_seeds or not self._is_remote

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """As of every backend; sampled questions go one by one, as in a batch each would draw by its place in it.

        Raises ModelError where an answer broke off; the whole ones of the batch are remembered all the same.
        """
        if sampling.temperature > 0 and not self._trusts_seeds:
            return [self._whole(a) for m in batch for a in await self.inner.complete([m], sampling)]
        keys = [self._key(messages, sampling) for messages in batch]
        known = self._store.cached_answers(set(keys))
        fresh = {key: messages for key, messages in zip(keys, batch, strict=True) if key not in known}
        for piece in _pieces(list(fresh), self._at_once(sampling, len(batch))):
            answers = await self.inner.complete([fresh[key] for key in piece], sampling)
            made = dict(zip(piece, answers, strict=True))
            self._store.cache_answers(made)
            known |= {key: self._whole(answer) for key, answer in made.items()}
            if on_done is not None:
                on_done(sum(key in known for key in keys))
        return [known[key] if fresh.pop(key, None) is not None else _known(known[key]) for key in keys]

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        if top:
            return await self.inner.logprobs(messages, continuation, top)
        key = self._key(messages, Sampling(), continuation=continuation)
        known = self._store.cached_answers([key])
        if key in known:
            return [TokenLogprob(token=token, logprob=logprob) for token, logprob in json.loads(known[key].text)]
        found = await self.inner.logprobs(messages, continuation)
        text = json.dumps([(token.token, token.logprob) for token in found])
        counts = {"prompt_tokens": 0, "output_tokens": len(found)}
        self._store.cache_answers({key: Completion(text=text, finish="stop", **counts)})
        return found

    def stream(self, messages: Conversation, sampling: Sampling) -> AsyncIterator[Chunk]:
        return self.inner.stream(messages, sampling)

    async def next_tokens(self, messages: Conversation, k: int) -> list[TokenLogprob]:
        return await self.inner.next_tokens(messages, k)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self.inner.embed(texts)

    async def render(self, messages: Conversation) -> Rendered:
        return await self.inner.render(messages)

    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        return await self.inner.count_tokens(parts)

    async def close(self) -> None:
        await self.inner.close()

    def _at_once(self, sampling: Sampling, wanted: int) -> int:
        if sampling.temperature > 0:
            return 1
        return _FROM_SERVER if self._is_remote else max(1, wanted)

    def _key(self, messages: Conversation, sampling: Sampling, **more: Any) -> str:
        drawn = sampling if sampling.temperature > 0 else sampling.model_copy(update={"seed": 0})
        said = [self._weights, _turns(messages), drawn.model_dump(mode="json"), more]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _whole(self, answer: Completion) -> Completion:
        if answer.finish == "cancelled":
            raise ModelError(f"{self.ref} broke off half-way through its answer. Ask again.")
        return answer


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in messages]


def _known(answer: Completion) -> WasKnown:
    return WasKnown(**answer.model_dump())


def _pieces(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
