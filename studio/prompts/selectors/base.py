"""What every way to choose examples keeps: off ones never, locked ones always, and never the question itself.

A prompt that shows the question with its answer measures copying. So an example whose question is the very one that is
asked is left out, locked or not, and named; that matters as soon as a bank and a test share their rows.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from studio.backends import Backend
from studio.errors import InputError, NotFound
from studio.instructions import group_hash, question
from studio.prompts.memory import Memory
from studio.prompts.selectors.nearness import Vectors
from studio.store import Example

__all__ = [
    "Candidates",
    "Order",
    "Pick",
    "Query",
    "Selection",
    "Selector",
    "choose_with",
    "selector",
    "selectors",
    "vectors_of",
]

Order = Literal["as in the bank", "by seed", "nearest last", "nearest first"]


@dataclass(frozen=True)
class Query:
    """What is asked."""

    instruction: str
    context: str = ""

    @property
    def text(self) -> str:
        return question(self.instruction, self.context)

    @property
    def group(self) -> str:
        return group_hash(self.instruction, self.context)


@dataclass(frozen=True)
class Pick:
    """A chosen example. `rank` 0 is the last to be cut; `similarity` to the question is None where none was measured."""

    example: Example
    rank: int
    similarity: float | None = None


@dataclass(frozen=True)
class Selection:
    """The examples of one prompt in the order it shows them, and what was left out of it.

    `own` are examples that ask the question itself, `dropped` those that a length budget had no room for.
    """

    picks: tuple[Pick, ...]
    order: Order
    wanted: int
    own: tuple[Example, ...] = ()
    dropped: tuple[Pick, ...] = ()

    @property
    def examples(self) -> list[Example]:
        return [pick.example for pick in self.picks]

    @property
    def missing(self) -> int:
        """How many examples were wanted and not to be had."""
        return max(0, self.wanted - len(self.picks) - len(self.dropped))


@dataclass(frozen=True)
class Candidates:
    """What is chosen from. `shelf` is the bank in its order, off ones too; `locked` and `free` are places in it."""

    shelf: tuple[Example, ...]
    locked: tuple[int, ...]
    free: tuple[int, ...]
    query: Query
    seed: int
    vectors: Vectors | None


class Selector(BaseModel, ABC):
    """One way to choose examples, with its knobs. The same inputs always give the same examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str] = ""
    compares: ClassVar[bool] = False  # the examples with the question, so that similarities are known
    is_wrapper: ClassVar[bool] = False  # works on what another selector chose

    def choose(
        self,
        pool: Sequence[Example],
        query: Query,
        k: int,
        seed: int = 0,
        *,
        vectors: Vectors | None = None,
        sizes: Mapping[int, int] | None = None,
    ) -> Selection:
        """`k` examples, locked ones included; fewer where no more are on, more where more are locked.

        `vectors` are needed to compare by a model, `sizes` (tokens by example id) to keep a length. Raises InputError
        when examples are wanted and none is on.
        """
        if k < 0:
            raise InputError(f"A prompt cannot show {k} examples. Choose 0 or more.")
        among, own = _candidates(pool, query, seed, vectors)
        if k and not (among.locked or among.free or own):
            raise InputError(_none_on(pool))
        similarity = self._similarity(among)
        free = self._prefer(among, max(0, k - len(among.locked)))
        locked = sorted(among.locked, key=lambda place: -(similarity[place] or 0.0))
        ranked = [*locked, *free]
        picks = [Pick(among.shelf[place], rank, similarity[place]) for rank, place in enumerate(ranked)]
        return Selection(tuple(self._arranged(picks)), self._order, k, own)

    @abstractmethod
    def _prefer(self, among: Candidates, n: int) -> list[int]:
        """At most `n` of the free places, best first."""

    def _similarity(self, among: Candidates) -> Sequence[float | None]:
        """Of every example on the shelf to the question."""
        return [None] * len(among.shelf)

    def _arranged(self, picks: Sequence[Pick]) -> list[Pick]:
        """In the order of the prompt."""
        return list(picks)

    @property
    @abstractmethod
    def _order(self) -> Order:
        """What that order is called."""

    @property
    def needs_vectors(self) -> bool:
        """Whether a model has to read the examples and the question first."""
        return False

    def to_measure(
        self, pool: Sequence[Example], query: Query, k: int, seed: int = 0, *, vectors: Vectors | None = None
    ) -> list[Example]:
        """The examples whose `sizes` have to be known for this choice."""
        return []

    @model_serializer(mode="wrap")
    def _named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


def selectors() -> dict[str, type[Selector]]:
    """Every selector by name, cheapest first; those that work on top of another come last."""
    return dict(_found())


def selector(made_of: str | Mapping[str, Any]) -> Selector:
    """A selector by name, or from what `model_dump` gave. Raises NotFound, or InputError naming the knob."""
    knobs = {"name": made_of} if isinstance(made_of, str) else dict(made_of)
    name = knobs.pop("name", "")
    if name not in _found():
        raise NotFound(f"There is no selector '{name}'. Known selectors: {', '.join(_found())}.")
    try:
        return _found()[name].model_validate(knobs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or name
        raise InputError(f"Selector {name}: {where} cannot be {first['input']!r}: {first['msg']}.") from error


async def vectors_of(
    backend: Backend,
    pool: Sequence[Example],
    query: Query,
    memory: Memory,
    on_done: Callable[[int, int], None] | None = None,
) -> Vectors:
    """What the model makes of the question and of every example; only texts it has not read yet are read.

    Raises Unsupported when it makes no vectors.
    """
    texts = [question(example.instruction, example.context) for example in pool]
    made = await memory.vectors(backend, texts, on_done)
    [asked] = await memory.vectors(backend, [query.text])
    return Vectors(asked, {example.id: vector for example, vector in zip(pool, made, strict=True)})


async def choose_with(
    chosen: Selector,
    pool: Sequence[Example],
    query: Query,
    k: int,
    seed: int = 0,
    *,
    backend: Backend,
    memory: Memory,
) -> Selection:
    """As `choose`, with the model asked for the vectors and token counts that the selector needs."""
    vectors = await vectors_of(backend, pool, query, memory) if chosen.needs_vectors else None
    measured = chosen.to_measure(pool, query, k, seed, vectors=vectors)
    counts = await memory.tokens(backend, [_spoken(example) for example in measured])
    sizes = {example.id: count for example, count in zip(measured, counts, strict=True)}
    return chosen.choose(pool, query, k, seed, vectors=vectors, sizes=sizes)


def _candidates(
    pool: Sequence[Example], query: Query, seed: int, vectors: Vectors | None
) -> tuple[Candidates, tuple[Example, ...]]:
    shelf = tuple(sorted(pool, key=lambda e: (e.position, e.id)))
    asked = query.group
    on = [(place, example) for place, example in enumerate(shelf) if example.is_on]
    fair = [(place, example) for place, example in on if example.group_hash != asked]
    locked = tuple(place for place, example in fair if example.is_locked)
    free = tuple(place for place, example in fair if not example.is_locked)
    own = tuple(example for _, example in on if example.group_hash == asked)
    return Candidates(shelf, locked, free, query, seed, vectors), own


def _none_on(pool: Sequence[Example]) -> str:
    if not pool:
        return "The bank is empty. Fill it from a snapshot, or write an example."
    return f"All {len(pool)} examples of bank '{pool[0].bank}' are off. Switch some on, or choose another bank."


def _spoken(example: Example) -> str:
    """All the words that a prompt may show of it."""
    said = f"{example.reasoning}\n{example.response}" if example.reasoning else example.response
    return f"{question(example.instruction, example.context)}\n{said}"


@functools.cache
def _found() -> dict[str, type[Selector]]:
    found: dict[str, type[Selector]] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__package__}.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Selector) and not inspect.isabstract(member):
                found[member.name] = member
    order = sorted(found.values(), key=lambda s: (s.is_wrapper, s.compares, s.name))
    return {s.name: s for s in order}
