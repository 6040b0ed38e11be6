"""What goes over the wire to an OpenAI-compatible server: the question we send, the pieces we read, the connection.

The pieces are read with our own lenient models: servers differ in everything but these fields. Of the openai client
we take its requests and its event stream; retries, timeouts and redirects are ours, so that each can be a sentence.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from studio import __version__
from studio.errors import ModelError, Unsupported
from studio.models.endpoints import Opened
from studio.specs import Message, ModelRef, Sampling
from studio.store import ServedModel

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

__all__ = ["Dialect", "Event", "Listing", "Token", "Vectors", "connect", "question"]

_CONNECT_SECONDS = 10.0
_LARGEST_ANSWER = 64 * 2**20  # bytes; nothing that a person or a task wants to read is longer

# Servers whose chat API takes the settings that OpenAI's has not. Ollama's takes none of them and says nothing.
_WITH_MORE_SETTINGS = ("vllm", "sglang")
_EVERYWHERE = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed", "json_schema"})
_MORE = frozenset({"top_k", "min_p", "repetition_penalty"})

# The client would add the version of Python, the system and the processor, and settings of the environment that
# belong to another server (OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS): a server gets what it needs and no more.
_NEEDED_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "transfer-encoding"}
)


class Token(BaseModel):
    """One token with its probability, and the likeliest at its place."""

    token: str
    logprob: float
    raw: list[int] | None = Field(None, alias="bytes")  # what it spells, also where that is a part of a letter
    top_logprobs: list[Token] | None = None

    @property
    def spelled(self) -> bytes:
        return bytes(self.raw) if self.raw is not None else self.token.encode()


class _Logprobs(BaseModel):
    content: list[Token] | None = None


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Event(BaseModel):
    """A piece of a streamed answer."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None

    @property
    def text(self) -> str:
        return (self.choices[0].delta.content or "") if self.choices and self.choices[0].delta else ""

    @property
    def finish(self) -> str:
        """'' until the answer is over."""
        return (self.choices[0].finish_reason or "") if self.choices else ""

    @property
    def tokens(self) -> list[Token]:
        """Where probabilities were asked for and the server has them."""
        found = self.choices[0].logprobs if self.choices else None
        return (found.content or []) if found else []


class _Listed(BaseModel):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class Listing(BaseModel):
    """What a server lists under /models."""

    data: list[_Listed]

    @property
    def models(self) -> list[ServedModel]:
        return [ServedModel(m.id, m.owned_by or "", m.max_model_len) for m in self.data]


class _Vector(BaseModel):
    index: int
    embedding: list[float] = Field(min_length=1)


class Vectors(BaseModel):
    """What a server answers under /embeddings."""

    data: list[_Vector]


@dataclass(frozen=True)
class Dialect:
    """The two things that servers name differently: found out by the first refusal, then kept."""

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    counts: bool = True  # whether it may be asked for token counts

    def after(self, refusal: str) -> Dialect:
        """What to try next, given why a question was refused; itself when that is no matter of naming."""
        if self.limit == "max_tokens" and "max_completion_tokens" in refusal:
            return Dialect("max_completion_tokens", self.counts)
        if self.counts and "stream_options" in refusal:
            return Dialect(self.limit, False)
        return self


def question(
    ref: ModelRef, served: ServedModel, messages: Sequence[Message], sampling: Sampling, seed: int, dialect: Dialect
) -> dict[str, Any]:
    """The body of a question; raises Unsupported, naming each, for settings that this server would drop."""
    has_more = served.server.lower() in _WITH_MORE_SETTINGS
    _refuse_dropped(ref, sampling, _EVERYWHERE | _MORE if has_more else _EVERYWHERE)
    body: dict[str, Any] = {
        "model": served.name,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
        dialect.limit: sampling.max_tokens,
        "stream": True,
    }
    if dialect.counts:
        body["stream_options"] = {"include_usage": True}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.json_schema:
        schema = {"name": "answer", "strict": True, "schema": json.loads(sampling.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if has_more:
        # Sent when neutral too: else the checkpoint's own generation_config.json would have its say.
        body |= {"top_k": sampling.top_k or -1, "min_p": sampling.min_p}
        body["repetition_penalty"] = sampling.repetition_penalty
    return body


def _refuse_dropped(ref: ModelRef, sampling: Sampling, taken: frozenset[str]) -> None:
    """A setting of ours that comes later is refused as well until somebody sends it."""
    fields = type(sampling).model_fields
    lost = [f for name, f in fields.items() if name not in taken and getattr(sampling, name) != f.default]
    if not lost:
        return
    named = ", ".join(f"{f.title} {getattr(sampling, name)}" for name, f in fields.items() if f in lost)
    neutral = ", ".join(f"{f.title} to {f.default}" for f in lost)
    raise Unsupported(
        f"{ref} cannot take {named}: its server's API has no such setting and would drop it. "
        f"Set {neutral}, or choose a model on this machine."
    )


@asynccontextmanager
async def connect(opened: Opened) -> AsyncIterator[AsyncOpenAI]:
    """A client for one conversation with a server.

    Not kept: connections belong to the event loop they were made in, and a task may use several loops.
    """
    # Takes half a second to import: not for a page that asks no server, nor while others wait for this event loop.
    await asyncio.to_thread(importlib.import_module, "openai")
    import httpx2
    from openai import AsyncOpenAI

    endpoint, key = opened.endpoint, opened.key

    async def only_what_is_needed(request: httpx2.Request) -> None:
        for name in list(request.headers):
            if name.lower() not in _NEEDED_HEADERS:
                del request.headers[name]
        request.headers["user-agent"] = f"ladder-studio/{__version__}"
        if key:
            request.headers["authorization"] = f"Bearer {key}"

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, inner: httpx2.AsyncByteStream) -> None:
            self._inner = inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen = 0
            async for piece in self._inner:
                seen += len(piece)
                if seen > _LARGEST_ANSWER:
                    raise ModelError(
                        f"{endpoint.name} sent more than {_LARGEST_ANSWER // 2**20} MB and was cut off. "
                        "Check what answers at its address."
                    )
                yield piece

        async def aclose(self) -> None:
            await self._inner.aclose()

    async def bound(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Bounded(response.stream)

    http = httpx2.AsyncClient(
        # Whoever asks sets the time to wait for a piece: one timeout of theirs restarts with every byte.
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
        follow_redirects=False,
        # A proxy that the environment names would see what was promised to stay on this machine.
        trust_env=not endpoint.is_here,
        event_hooks={"request": [only_what_is_needed], "response": [bound]},
    )
    # The blanks keep the client from filling in what the environment holds for another server.
    client = AsyncOpenAI(
        base_url=endpoint.url,
        api_key=key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        max_retries=0,
        http_client=http,
    )
    async with client:
        yield client
