"""Models made of rules, so that a test decides what a model can and cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from studio.backends import Conversation, EchoBackend
from studio.prompts.techniques import Ask, Technique, Trace
from studio.specs import Completion, Message, ModelRef, Sampling

Speak = Callable[[Sequence[Message], Sampling], str]


def completion(text: str) -> Completion:
    return Completion(text=text, finish="stop", prompt_tokens=10, output_tokens=len(text.split()))


class Speaking(EchoBackend):
    """Answers what a function says, stops at stop strings as every backend does, and remembers each batch."""

    def __init__(self, speak: Speak) -> None:
        super().__init__(ModelRef("echo:scripted"))
        self.batches: list[tuple[list[Conversation], Sampling]] = []
        self._speak = speak

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self.batches.append((list(batch), sampling))
        return [completion(_stopped(self._speak(messages, sampling), sampling.stop)) for messages in batch]


def asking(speak: Speak) -> Ask:
    """An `Ask` of one conversation at a time."""
    backend = Speaking(speak)

    async def ask(messages: Sequence[Message], sampling: Sampling) -> Completion:
        return (await backend.complete([messages], sampling))[0]

    return ask


def saying(outputs: Iterable[str]) -> Ask:
    """An `Ask` that gives these outputs in turn, whatever it is asked."""
    left = iter(outputs)
    return asking(lambda messages, sampling: next(left))


def answer(technique: Technique, ask: Ask, messages: Sequence[Message], sampling: Sampling | None = None) -> Trace:
    return asyncio.run(technique.answer(ask, messages, sampling or Sampling()))


def _stopped(text: str, stops: Sequence[str]) -> str:
    return text[: min([place for stop in stops if (place := text.find(stop)) >= 0], default=len(text))]
