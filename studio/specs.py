"""The currency of the studio: what tabs, commands, jobs and backends exchange.

A reference is one string (`run:17`, `data:support@3`), so that it fits in a URL, a table cell and a manifest.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator
from pydantic_core import CoreSchema, core_schema

from studio.errors import InputError

__all__ = [
    "Chunk",
    "Completion",
    "Message",
    "ModelRef",
    "Rendered",
    "Sampling",
    "SnapshotRef",
    "TokenLogprob",
    "assistant",
    "system",
    "user",
]


class _Ref(str):
    """A string that was checked once and carries its parts."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    example: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        if not cls.pattern.fullmatch(text):
            raise InputError(f"'{text}' is not a {cls.__name__}. Write it like {cls.example}.")
        return super().__new__(cls, text)

    @property
    def kind(self) -> str:
        return self.split(":", 1)[0]

    @property
    def name(self) -> str:
        return self.split(":", 1)[1].split("@", 1)[0]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(text: str) -> _Ref:
            try:
                return cls(text)
            except InputError as error:
                raise ValueError(str(error)) from error

        return core_schema.no_info_after_validator_function(check, core_schema.str_schema())


class ModelRef(_Ref):
    """Names a model: `embedded:NAME`, `hf:OWNER/NAME`, `dir:NAME`, `run:17`, `endpoint:NAME/model` or `echo:`."""

    __slots__ = ()
    pattern = re.compile(r"(embedded|hf|dir|endpoint):[\w.+/@:-]+|run:\d+|echo:[\w-]*")
    example = "embedded:smollm2-135m-instruct or run:17"

    @classmethod
    def of_run(cls, job_id: int) -> ModelRef:
        return cls(f"run:{job_id}")


class SnapshotRef(_Ref):
    """Names a frozen dataset: `data:NAME@3` (instructions), `prompts:NAME@1`, `prefs:NAME@2`, `eval:NAME@1`."""

    __slots__ = ()
    pattern = re.compile(r"(data|prompts|prefs|eval):[\w.-]+@\d+")
    example = "data:brackenfold@1"

    @property
    def version(self) -> int:
        return int(self.rsplit("@", 1)[1])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def system(content: str) -> Message:
    return Message(role="system", content=content)


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


class Sampling(_Frozen):
    """How the next token is chosen. Every field is explicit: nothing leaks in from a checkpoint's own defaults."""

    temperature: float = Field(0.0, ge=0, le=5, title="Temperature", description="0 always takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1, title="Top-p", description="Keep the likeliest tokens up to this share.")
    top_k: int = Field(0, ge=0, le=1000, title="Top-k", description="Keep this many likeliest tokens; 0 keeps all.")
    min_p: float = Field(0.0, ge=0, le=1, title="Min-p", description="Drop tokens below this share of the likeliest.")
    repetition_penalty: float = Field(
        1.0, ge=0.5, le=3, title="Repetition penalty", description="Above 1 discourages tokens already there."
    )
    max_tokens: int = Field(160, ge=1, le=4096, title="Max tokens", description="The answer stops here at the latest.")
    stop: tuple[str, ...] = Field((), title="Stop strings", description="The answer ends before any of these.")
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same answer, when sampling.")
    json_schema: str = Field(
        "", title="JSON schema", description="The answer is JSON that keeps to this. Empty for free text."
    )

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, text: str) -> str:
        if not text.strip():
            return ""
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"is no JSON: {error.msg}, line {error.lineno}") from error
        if not isinstance(found, dict):
            raise ValueError('is no JSON object; write it like {"type": "object", "properties": {…}}')
        return text.strip()


FinishReason = Literal["stop", "length", "cancelled"]


class Chunk(_Frozen):
    """A piece of a streamed answer; the last one carries the finish reason and the token counts.

    One that `replaces` stands for everything before it: an answer that took several calls ends so.
    """

    text: str
    replaces: bool = False
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0


class Completion(_Frozen):
    """A whole answer and what it took."""

    text: str
    finish: FinishReason
    prompt_tokens: int
    output_tokens: int
    seconds: float = 0.0


class TokenLogprob(_Frozen):
    """One token, its natural-log probability, and the likeliest alternatives at its place."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


class Rendered(_Frozen):
    """A conversation exactly as the model gets it, and its length against the model's window (both in tokens)."""

    text: str
    tokens: int
    window: int
