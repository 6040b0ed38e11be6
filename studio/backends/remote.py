"""Models on other servers (vLLM, Ollama, hosted ones), asked over their OpenAI-compatible API.

Whole answers are streamed too: only then does a server that hangs differ from one that has much to say. A server may
ignore a seed or a JSON schema, and nothing in the protocol tells; what it takes is sent, all else is refused by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from studio.backends.base import Backend, Conversation
from studio.backends.refusals import hanging, in_words, no_api, quoted, retry_after, said_by
from studio.backends.wire import Dialect, Event, Listing, Token, Vectors, connect, question
from studio.errors import InputError, ModelError, StudioError, Unsupported
from studio.models.endpoints import Opened, endpoint_ref, split_endpoint
from studio.specs import Chunk, Completion, FinishReason, ModelRef, Sampling, TokenLogprob, user
from studio.store import ServedModel

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

__all__ = ["RemoteBackend", "Trial", "list_models", "try_endpoint"]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_AT_ONCE = 4  # questions of one batch; hosted servers count requests, and a small one has no more slots
_TRIES = 4
_FIRST_PAUSE = 0.5  # seconds; twice as long each time
_LONGEST_PAUSE = 30.0  # a server that asks for more patience than this is said so at once
_TEXTS_PER_CALL = 64
_MOST_ALTERNATIVES = 20  # what OpenAI's API allows

# An answer beyond these belongs to a server that does not heed max_tokens. Generous, as no token has 64 letters on
# average and no server sends 32 events for one.
_LETTERS_PER_TOKEN = 64
_EVENTS_PER_TOKEN = 32
_SLACK = 1000


class RemoteBackend(Backend):
    """One model of a server. It cannot render, count or score: those need the model's own tokenizer and template."""

    def __init__(self, ref: ModelRef, opened: Opened, *, first_pause: float = _FIRST_PAUSE) -> None:
        super().__init__(ref)
        self.served = opened.endpoint.served(split_endpoint(ref)[1])
        self._opened = opened
        self._line = _Line(opened, self.served.name, first_pause)
        self._dialect = Dialect()

    @property
    def digest(self) -> str:
        """Tells servers and models apart, for keys of caches: what the weights are, a server does not say."""
        return hashlib.sha256(f"{self._opened.endpoint.url}\n{self.served.name}".encode()).hexdigest()

    async def stream(self, messages: Conversation, sampling: Sampling) -> AsyncIterator[Chunk]:
        """As of every backend; an answer that breaks off ends with a chunk that says so, then with the reason."""
        async with connect(self._opened) as client:
            async with aclosing(self._chunks(client, messages, sampling, _row_seed(sampling.seed, 0))) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """As of every backend; an answer that breaks off is kept as far as it came, with finish "cancelled"."""
        gate, done = asyncio.Semaphore(_AT_ONCE), 0

        async def answer(client: AsyncOpenAI, row: int, messages: Conversation) -> Completion:
            nonlocal done
            async with gate:
                completion = await self._whole(client, messages, sampling, _row_seed(sampling.seed, row))
            done += 1
            if on_done is not None:
                on_done(done)
            return completion

        try:
            async with connect(self._opened) as client, asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(client, row, messages)) for row, messages in enumerate(batch)]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        """Of what the server itself answers at temperature 0; any other continuation raises Unsupported."""
        if not continuation:
            raise InputError("The answer is empty: there is no token to tell about.")
        wanted = continuation.encode()
        room = Sampling(max_tokens=min(4096, len(wanted) + 8))
        spelled, found = b"", []
        for token in await self._tokens(messages, room, top, "tell how likely an answer is"):
            if spelled == wanted:
                break
            spelled += token.spelled
            found.append(_probability(token, top))
        if spelled != wanted:
            raise Unsupported(
                f"{self.ref} tells how likely its own answers are, and at temperature 0 it answers otherwise here. "
                "Choose a model on this machine for any other answer."
            )
        return found

    async def next_tokens(self, messages: Conversation, k: int) -> list[TokenLogprob]:
        # At temperature 1, so that no server tells of a distribution that has one token left.
        asked = Sampling(max_tokens=1, temperature=1.0)
        tokens = await self._tokens(messages, asked, k, "show the likeliest next tokens")
        likeliest = sorted(tokens[0].top_logprobs or tokens[:1], key=lambda token: -token.logprob)
        return [TokenLogprob(token=token.token, logprob=token.logprob) for token in likeliest[:k]]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        async with connect(self._opened) as client:
            for start in range(0, len(texts), _TEXTS_PER_CALL):
                vectors += await self._embed(client, list(texts[start : start + _TEXTS_PER_CALL]))
        return vectors

    # -- one answer ------------------------------------------------------------------------------------------

    async def _chunks(
        self, client: AsyncOpenAI, messages: Conversation, sampling: Sampling, seed: int
    ) -> AsyncGenerator[Chunk, None]:
        """The pieces of an answer. One that breaks off ends with finish "cancelled" and then the ModelError."""
        finish, prompt_tokens, output_tokens, began = "", 0, 0, False
        try:
            async with aclosing(self._events(client, messages, sampling, seed)) as events:
                async for event in events:
                    finish = event.finish or finish
                    if event.usage is not None:  # some servers count as they go: the last counts are the whole
                        prompt_tokens = event.usage.prompt_tokens or prompt_tokens
                        output_tokens = event.usage.completion_tokens or output_tokens
                    if event.text:
                        began = True
                        yield Chunk(text=event.text)
            how = self._finish(finish)
        except ModelError:
            if began:
                yield Chunk(text="", finish="cancelled", prompt_tokens=prompt_tokens, output_tokens=output_tokens)
            raise
        yield Chunk(text="", finish=how, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    def _finish(self, reason: str) -> FinishReason:
        name = self._opened.endpoint.name
        if not reason:
            raise ModelError(f"{name} stopped half-way through its answer. Ask again.")
        if reason == "content_filter":
            raise ModelError(f"{name} withholds this answer: its content filter stopped it. Change the prompt.")
        return "length" if reason == "length" else "stop"

    async def _whole(self, client: AsyncOpenAI, messages: Conversation, sampling: Sampling, seed: int) -> Completion:
        started = time.monotonic()
        texts: list[str] = []
        last = Chunk(text="")
        try:
            async with aclosing(self._chunks(client, messages, sampling, seed)) as chunks:
                async for last in chunks:
                    texts.append(last.text)
        except ModelError:
            if last.finish != "cancelled":
                raise
        return Completion(
            text="".join(texts),
            finish=last.finish or "cancelled",
            prompt_tokens=last.prompt_tokens,
            output_tokens=last.output_tokens,
            seconds=time.monotonic() - started,
        )

    async def _events(
        self, client: AsyncOpenAI, messages: Conversation, sampling: Sampling, seed: int, **more: Any
    ) -> AsyncGenerator[Event, None]:
        """Ask, and read piece by piece. Leaving closes the connection, which stops the server."""

        def body() -> dict[str, Any]:
            return question(self.ref, self.served, messages, sampling, seed, self._dialect) | more

        letters, count = 0, 0
        stream, event = await self._begin(client, body)
        try:
            while event is not None:
                count, letters = count + 1, letters + len(event.text)
                self._refuse_endless(letters, count, sampling.max_tokens)
                yield event
                event = await self._line.next_of(stream)
        finally:
            await stream.close()

    async def _begin(
        self, client: AsyncOpenAI, body: Callable[[], dict[str, Any]]
    ) -> tuple[AsyncStream[object], Event | None]:
        """The opened stream and its first piece, in the dialect that the server takes."""
        while True:
            dialect = self._dialect
            try:
                return await self._line.patiently(lambda: self._line.open(client, body()))
            except _Refused as refused:
                self._dialect = dialect.after(str(refused))
                if self._dialect == dialect:
                    raise

    def _refuse_endless(self, letters: int, events: int, limit: int) -> None:
        if letters > limit * _LETTERS_PER_TOKEN + _SLACK or events > limit * _EVENTS_PER_TOKEN + _SLACK:
            raise ModelError(
                f"{self._opened.endpoint.name} goes on and on after the {limit} tokens that it was asked for. "
                "It was cut off: a server must heed max_tokens."
            )

    # -- probabilities and vectors ---------------------------------------------------------------------------

    async def _tokens(self, messages: Conversation, sampling: Sampling, top: int, ability: str) -> list[Token]:
        if top > _MOST_ALTERNATIVES:
            raise Unsupported(
                f"{self.ref} shows {_MOST_ALTERNATIVES} alternatives at most, not {top}. Ask for fewer, "
                "or choose a model on this machine."
            )
        asked = {"logprobs": True, "top_logprobs": top}
        async with connect(self._opened) as client:
            events = self._events(client, messages, sampling, sampling.seed, **asked)
            tokens = [token async for event in events for token in event.tokens]
        if not tokens:  # proxies drop them silently
            raise self._refusal(ability)
        return tokens

    async def _embed(self, client: AsyncOpenAI, texts: list[str]) -> list[list[float]]:
        body = {"model": self.served.name, "input": texts, "encoding_format": "float"}
        try:
            answer = await self._line.patiently(lambda: client.post("/embeddings", cast_to=object, body=body))
        except _Refused as refused:
            if refused.status in (404, 405):
                raise self._refusal("turn texts into vectors") from None
            raise
        found = sorted(self._line.read(Vectors, answer).data, key=lambda vector: vector.index)
        if [vector.index for vector in found] != list(range(len(texts))):
            raise ModelError(
                f"{self._opened.endpoint.name} sent {len(found)} vectors for {len(texts)} texts. Ask again."
            )
        return [_of_length_one(vector.embedding) for vector in found]


# -- the line to a server ------------------------------------------------------------------------------------


class _Refused(ModelError):
    """The server said no, with this status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class _Line:
    """Calls to a server that end in time, are tried again when that may help, and fail with a sentence."""

    def __init__(self, opened: Opened, model: str, first_pause: float = _FIRST_PAUSE) -> None:
        self._opened = opened
        self._model = model
        self._first_pause = first_pause

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and again after a pause while the server is busy or not there. No answer has begun by then."""
        import openai

        for tries in range(1, _TRIES + 1):
            try:
                return await self._in_time(call)
            except openai.APIError as error:
                pause = self._pause(error, tries)
                if pause is None:
                    raise self._failed(error, tries) from None
            await asyncio.sleep(pause)
        raise AssertionError("the last try either returns or raises")

    async def open(self, client: AsyncOpenAI, body: dict[str, Any]) -> tuple[AsyncStream[object], Event | None]:
        """Send a question and wait for the first piece of its answer."""
        from openai import AsyncStream

        stream = await client.post(
            "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object]
        )
        try:
            self._check_kind(stream.response.headers.get("content-type", ""))
            first = await self._read_next(stream)
            if first is None:
                raise ModelError(no_api(self._opened, "nothing that can be read"))
        except BaseException:
            await stream.close()
            raise
        return stream, first

    async def next_of(self, stream: AsyncStream[object]) -> Event | None:
        """The next piece, None at the end. Later pieces are not tried again: the answer has begun."""
        import openai

        try:
            return await self._in_time(lambda: self._read_next(stream))
        except openai.APIConnectionError:
            return None  # it broke off, or it ended: the finish reason tells which
        except openai.APIError as error:
            raise self._failed(error, 1) from None

    def read(self, kind: type[M], answer: object) -> M:
        try:
            return kind.model_validate(answer)
        except ValidationError:
            what = said_by(answer, self._opened) or "nothing"
            raise ModelError(no_api(self._opened, what)) from None

    async def _in_time(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._opened.endpoint.timeout):
                return await call()
        except TimeoutError:
            raise ModelError(hanging(self._opened)) from None
        except ValueError as error:  # no JSON, or no UTF-8
            raise ModelError(
                f"{self._opened.endpoint.name} sent a piece that cannot be read ({quoted(str(error), self._opened)}). "
                "Ask again; if it stays like this, tell whoever runs it."
            ) from None

    async def _read_next(self, stream: AsyncStream[object]) -> Event | None:
        try:
            return self.read(Event, await anext(stream))
        except StopAsyncIteration:
            return None

    def _check_kind(self, content_type: str) -> None:
        if "html" in content_type:
            raise ModelError(no_api(self._opened, "a web page"))
        if "json" in content_type:
            raise ModelError(no_api(self._opened, "one piece, although a stream was asked for"))

    def _pause(self, error: Any, tries: int) -> float | None:
        wanted = retry_after(error)
        if wanted is None or tries == _TRIES or wanted > _LONGEST_PAUSE:
            return None
        # Spread, so that the questions of a batch do not all come back at the same moment.
        return max(wanted, self._first_pause * 2 ** (tries - 1)) * random.uniform(1.0, 1.25)

    def _failed(self, error: Any, tries: int) -> ModelError:
        sentence = in_words(error, self._opened, self._model, tries)
        return _Refused(str(sentence), error.status_code) if hasattr(error, "status_code") else sentence


# -- trying an endpoint --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """What a server said when it was tried: what it has (as far as it lists it), and how fast one model answered."""

    models: tuple[ServedModel, ...]
    model: str
    text: str = ""
    first_seconds: float = 0.0  # to the first piece of the answer
    trouble: str = ""  # why there is no answer, in words


async def list_models(opened: Opened, *, first_pause: float = _FIRST_PAUSE) -> list[ServedModel]:
    """What the server lists under /models, leaving out names that a reference cannot hold."""
    line = _Line(opened, "", first_pause)
    async with connect(opened) as client:
        answer = await line.patiently(lambda: client.get("/models", cast_to=object))
    return [model for model in line.read(Listing, answer).models if _can_be_named(opened, model)]


async def try_endpoint(opened: Opened, *, first_pause: float = _FIRST_PAUSE) -> Trial:
    """List the models and ask the first one a tiny question; raises ModelError when there is none to ask.

    Models that people named are kept as they are, completed with what the server lists of them.
    """
    models = await _offered(opened, first_pause)
    if not models:
        raise ModelError(f"{opened.endpoint.name} lists no models. Write their names into Models offered.")
    ref = endpoint_ref(opened.endpoint.name, models[0].name)
    started = time.monotonic()
    first, text = 0.0, ""
    try:
        async for chunk in RemoteBackend(ref, opened, first_pause=first_pause).stream(
            [user("Say hello.")], Sampling(max_tokens=16)
        ):
            first = first or time.monotonic() - started
            text += chunk.text
    except ModelError as error:
        return Trial(models, models[0].name, trouble=str(error))
    return Trial(models, models[0].name, text, first)


async def _offered(opened: Opened, first_pause: float) -> tuple[ServedModel, ...]:
    named = opened.endpoint.models
    try:
        listed = await list_models(opened, first_pause=first_pause)
    except ModelError:
        if not named:
            raise
        return named  # not every server has a list; whether it answers is what counts
    known = {model.name: model for model in listed}
    return tuple(known.get(model.name, model) for model in named) or tuple(listed)


def _can_be_named(opened: Opened, model: ServedModel) -> bool:
    try:
        endpoint_ref(opened.endpoint.name, model.name)
    except StudioError:
        return False
    return True


# -- small conversions ---------------------------------------------------------------------------------------


def _row_seed(seed: int, row: int) -> int:
    """Row 0 has the seed itself, so that a streamed answer is the completed one; others share none of theirs.

    31 bits, which every server takes.
    """
    if row == 0:
        return seed % 2**31
    return int.from_bytes(hashlib.sha256(f"{seed} {row}".encode()).digest()[:4]) >> 1


def _probability(token: Token, top: int) -> TokenLogprob:
    others = tuple((other.token, other.logprob) for other in (token.top_logprobs or [])[:top])
    return TokenLogprob(token=token.token, logprob=token.logprob, alternatives=others)


def _of_length_one(vector: list[float]) -> list[float]:
    length = sum(value * value for value in vector) ** 0.5
    return [value / length for value in vector] if length else vector
