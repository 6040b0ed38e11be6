"""What every technique is: a way to ask, a rule that reads the answer, what it costs, and the paper it comes from.

A technique asks through an `Ask`, which answers one conversation. It never sees a backend, so the page, a batch over a
whole set and a test ask alike; and an `Ask` gives equal answers to equal questions (conversation and sampling), so a
technique that wants several different answers asks with several seeds.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from studio.errors import InputError
from studio.fields import fill_in
from studio.specs import Completion, Message, Sampling, user

__all__ = [
    "Ask",
    "Found",
    "Knobs",
    "Step",
    "Technique",
    "Trace",
    "adding",
    "at_call",
    "before",
    "draw_seed",
    "freely",
    "question_of",
    "with_room",
    "with_stop",
]

Ask = Callable[[Sequence[Message], Sampling], Awaitable[Completion]]
Step = tuple[list[Message], Completion]

_MOST_TOKENS = 4096  # what Sampling allows


@dataclass(frozen=True)
class Found:
    """The answer, and the places `start` to `end` in the output (in characters) where it stands.

    `strict` says that the format was kept, `parsed` that a rule found an answer at all; `text` may be written in a plainer
    form than in the output (`$29.00` as 29, a label as its set spells it).
    """

    text: str
    strict: bool
    start: int
    end: int
    parsed: bool = True

    @classmethod
    def nothing(cls) -> Found:
        """No rule found an answer."""
        return cls("", False, 0, 0, parsed=False)

    @classmethod
    def of(cls, output: str, start: int, end: int, *, strict: bool) -> Found:
        """What stands between two places of the output, without the white space at its ends; nothing if that is all."""
        text = output[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        return cls(text, strict, start, start + len(text)) if text else cls.nothing()


@dataclass(frozen=True)
class Trace:
    """How a question was answered: `output` is all text a person should see, `steps` every call with what was sent.

    `note` says in words how the answer came about, where that is not plain from the output; '' else.
    """

    output: str
    answer: Found
    completions: tuple[Completion, ...]
    steps: tuple[Step, ...]
    note: str = ""

    @classmethod
    def of(cls, output: str, answer: Found, steps: Sequence[Step], note: str = "") -> Trace:
        return cls(output, answer, tuple(completion for _, completion in steps), tuple(steps), note)

    @property
    def was_cut(self) -> bool:
        """Some call ran into its limit of tokens, so the answer may have been lost."""
        return any(completion.finish == "length" for completion in self.completions)


class Knobs(BaseModel):
    """What a person may set about a technique. Each field says it all: title, description, bounds, default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Technique(ABC):
    """One way to get an answer out of a model. A new one is one file here with one subclass."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()  # template kinds that are answered the same way
    title: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str] = ""
    knobs: ClassVar[type[Knobs]] = Knobs

    settings: Knobs

    def __init__(self, settings: Knobs | None = None, *, is_told: bool = False) -> None:
        """`is_told`: the template gives the technique's instruction in its own words, so that none is added."""
        self.settings = settings if settings is not None else self.knobs()
        self.is_told = is_told

    def with_settings(self, values: Mapping[str, Any]) -> Self:
        """The same technique set otherwise. Raises InputError naming every setting that cannot be used."""
        return type(self)(fill_in(self.knobs, self.settings.model_dump() | dict(values)), is_told=self.is_told)

    @property
    def calls(self) -> int:
        """The most calls one question takes: what to multiply the price of a plain answer with."""
        return 1

    @property
    def cost(self) -> str:
        """`calls` in words."""
        return "1 call" if self.calls == 1 else f"{self.calls} calls"

    @property
    def instruction(self) -> str:
        """What is added to a question whose template says nothing of this technique; '' for nothing."""
        return ""

    def prepare(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation of the first call."""
        return list(messages) if self.is_told or not self.instruction else adding(messages, self.instruction)

    def sampling(self, asked: Sampling) -> Sampling:
        """The sampling of the (first) call."""
        return asked

    @abstractmethod
    def extract(self, text: str) -> Found:
        """The answer in an output: by the strict rule of the format, else by the lenient one."""

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        """Ask, as often as it takes, and read the answer. Errors of `ask` are passed on."""
        asked = self.prepare(messages)
        completion = await ask(asked, self.sampling(sampling))
        return Trace.of(completion.text, self.extract(completion.text), [(asked, completion)])


def question_of(messages: Sequence[Message]) -> Message:
    """The last turn, which must be a question; raises InputError where it is not."""
    if not messages or messages[-1].role != "user":
        raise InputError("The conversation does not end with a question. Add a user turn at its end.")
    return messages[-1]


def adding(messages: Sequence[Message], text: str) -> list[Message]:
    """The conversation with a paragraph more in its question."""
    return [*messages[:-1], user(f"{question_of(messages).content}\n\n{text}")]


def before(text: str, mark: str) -> str:
    """The text up to a mark, for backends that do not stop at it."""
    return text.partition(mark)[0]


def with_stop(sampling: Sampling, *stops: str) -> Sampling:
    """The sampling with further stop strings."""
    return sampling.model_copy(update={"stop": tuple(dict.fromkeys((*sampling.stop, *stops)))})


def with_room(sampling: Sampling, tokens: int) -> Sampling:
    """The sampling with tokens on top, for written steps."""
    return sampling.model_copy(update={"max_tokens": min(_MOST_TOKENS, sampling.max_tokens + tokens)})


def freely(sampling: Sampling) -> Sampling:
    """The sampling without its JSON schema: steps on the way to an answer are free text."""
    return sampling.model_copy(update={"json_schema": ""})


def at_call(sampling: Sampling, call: int) -> Sampling:
    """The sampling of a technique's call number `call`, from 0; call 0 has the seed that was asked for.

    Greedy decoding draws nothing, so its seed stays: equal samplings can share a batch.
    """
    if call == 0 or sampling.temperature == 0:
        return sampling
    return sampling.model_copy(update={"seed": draw_seed(sampling.seed, call)})


def draw_seed(seed: int, *path: int) -> int:
    """A seed below 2**31 (every server takes that) for one branch under `seed`; other paths give unrelated ones."""
    digest = hashlib.sha256(json.dumps([seed, *path]).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**31
