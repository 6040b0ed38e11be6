"""What a prompt takes of the model's window, part by part, and which examples have to go when it takes too much.

The parts add up to exactly what the model gets: contents are counted by themselves, and what the chat template writes
around them is the rest. So a token that spans two parts is counted once, with the template's marks. Where the prompt is
composed in another way (examples as turns, or inside the question) is left to the template that composes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from studio.backends import Backend
from studio.errors import InputError
from studio.prompts.memory import Memory
from studio.prompts.selectors import Pick
from studio.specs import Message, ModelRef, Rendered
from studio.store import Example

__all__ = ["PARTS", "Budget", "Compose", "ExampleCost", "Part", "budget"]

Part = Literal["system", "examples", "documents", "query", "marks", "reserve"]
PARTS: tuple[Part, ...] = ("system", "examples", "documents", "query", "marks", "reserve")

_TOO_LONG: dict[Part, tuple[str, str]] = {
    "system": ("The system part takes", "Shorten it"),
    "examples": ("The examples take", "Show fewer"),
    "documents": ("The documents take", "Show fewer or shorter passages"),
    "query": ("The question takes", "Shorten it"),
    "marks": ("The model's own marks take", "Choose a model with a larger window"),
    "reserve": ("The reserve for the answer takes", "Allow a shorter answer"),
}


class Compose(Protocol):
    """Renders the prompt with some of its examples, in the order of the prompt, and with its documents or none."""

    def __call__(self, examples: Sequence[Example], documents: Sequence[str], /) -> Sequence[Message]: ...


@dataclass(frozen=True)
class ExampleCost:
    """How long one example is in this prompt, in tokens, without the marks around it."""

    example: Example
    tokens: int
    is_cut: bool


@dataclass(frozen=True)
class Budget:
    """A prompt against the window, in tokens. `marks` are the chat template's own, its default system line included.

    `cut` are the ids of the examples to leave out, first to go first; `tokens_after` is the prompt's length without
    them. `too_long` names the part to shorten when even that is not enough, else ''.
    """

    model: ModelRef
    rendered: Rendered
    system: int
    examples: int
    documents: int
    query: int
    marks: int
    reserve: int
    costs: tuple[ExampleCost, ...]
    cut: tuple[int, ...]
    tokens_after: int
    too_long: Part | Literal[""]

    @property
    def parts(self) -> dict[Part, int]:
        """In the order of a bar; all but the reserve add up to `tokens`."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def tokens(self) -> int:
        """The prompt as it is, nothing cut."""
        return self.rendered.tokens

    @property
    def window(self) -> int:
        return self.rendered.window

    @property
    def free(self) -> int:
        """What is left beside prompt and answer; below 0 when they do not fit."""
        return self.window - self.tokens - self.reserve

    @property
    def fits(self) -> bool:
        return self.free >= 0

    @property
    def advice(self) -> str:
        """What to do about a prompt that does not fit; '' for one that does."""
        if self.fits:
            return ""
        needed = f"Prompt and answer need {self.tokens + self.reserve:,} tokens; {self.model} has {self.window:,}."
        if not self.too_long:
            count = len(self.cut)
            which = "1 example" if count == 1 else f"{count} examples"
            return f"{needed} Leave out {which}, and it fits."
        rest = f"Even without examples they need {self.tokens_after + self.reserve:,}. " if self.cut else ""
        takes, cure = _TOO_LONG[self.too_long]
        return f"{needed} {rest}{takes} most ({self.parts[self.too_long]:,}). {cure}."


async def budget(
    backend: Backend,
    compose: Compose,
    picks: Sequence[Pick] = (),
    documents: Sequence[str] = (),
    *,
    room: int,
    memory: Memory,
) -> Budget:
    """Count a prompt whose answer gets `room` tokens. Raises what the backend and `compose` raise.

    Two calls of the backend, one for the new texts and one for the whole; a few more when something has to go.
    """
    if room < 1:
        raise InputError(f"An answer of {room} tokens says nothing. Leave it 1 or more.")
    counted = await _contents(backend, compose, picks, documents, memory)
    whole = compose([pick.example for pick in picks], documents)
    rendered = await backend.render(whole)
    parts = _settled(
        {
            "system": counted.system,
            "examples": counted.whole - counted.without_examples,
            "documents": counted.without_examples - counted.bare,
            "query": counted.bare - counted.system,
            "marks": rendered.tokens - counted.whole,
        }
    )
    cut, after = await _cut(backend, compose, picks, documents, rendered, rendered.window - room)
    left_over: dict[Part, int] = {**parts, "reserve": room}
    if cut:
        left_over |= {"examples": 0, "marks": max(0, after - counted.without_examples)}
    longest = max(PARTS, key=lambda part: left_over[part])
    return Budget(
        model=backend.ref,
        rendered=rendered,
        system=parts["system"],
        examples=parts["examples"],
        documents=parts["documents"],
        query=parts["query"],
        marks=parts["marks"],
        reserve=room,
        costs=tuple(
            ExampleCost(pick.example, max(0, alone - counted.bare), pick.example.id in cut)
            for pick, alone in zip(picks, counted.alone, strict=True)
        ),
        cut=cut,
        tokens_after=after,
        too_long=longest if after > rendered.window - room else "",
    )


@dataclass(frozen=True)
class _Contents:
    """Tokens of what people wrote: the whole prompt's, with parts left out, and with one example only, for each."""

    whole: int
    without_examples: int
    bare: int  # neither examples nor documents
    system: int
    alone: list[int]


async def _contents(
    backend: Backend, compose: Compose, picks: Sequence[Pick], documents: Sequence[str], memory: Memory
) -> _Contents:
    examples = [pick.example for pick in picks]
    bare = compose([], [])
    prompts = [
        compose(examples, documents),
        compose([], documents),
        bare,
        [turn for turn in bare if turn.role == "system"],
        *(compose([example], []) for example in examples),
    ]
    texts = list(dict.fromkeys(turn.content for prompt in prompts for turn in prompt))
    known = dict(zip(texts, await memory.tokens(backend, texts), strict=True))
    whole, without_examples, alone_bare, system, *alone = (
        sum(known[turn.content] for turn in prompt) for prompt in prompts
    )
    return _Contents(whole, without_examples, alone_bare, system, alone)


def _settled(parts: dict[Part, int]) -> dict[Part, int]:
    """The same sum without negative parts.

    Two texts that meet may share a token, and some templates trim or leave out a turn; what is too much is taken from
    the longest part.
    """
    settled = dict(parts)
    for part in parts:
        while settled[part] < 0:
            longest = max(settled, key=lambda other: settled[other])
            taken = min(-settled[part], settled[longest])
            settled[longest] -= taken
            settled[part] += taken
    return settled


async def _cut(
    backend: Backend,
    compose: Compose,
    picks: Sequence[Pick],
    documents: Sequence[str],
    rendered: Rendered,
    most: int,
) -> tuple[tuple[int, ...], int]:
    """The fewest examples to leave out, farthest first and locked ones last, and the tokens of the rest.

    All of them where even that is not enough. A prompt that fits loses none.
    """
    order = [pick.example.id for pick in sorted(picks, key=lambda p: (p.example.is_locked, -p.rank))]

    async def without(count: int) -> int:
        gone = set(order[:count])
        kept = [pick.example for pick in picks if pick.example.id not in gone]
        return (await backend.render(compose(kept, documents))).tokens

    if rendered.tokens <= most or not order:
        return (), rendered.tokens
    low, high, after = 1, len(order), await without(len(order))
    if after > most:
        return tuple(order), after
    while low < high:
        middle = (low + high) // 2
        tokens = await without(middle)
        if tokens <= most:
            high, after = middle, tokens
        else:
            low = middle + 1
    return tuple(order[:high]), after
