"""Ways of prompting tried on the rows of an open set: what the checks of a prompt (does it help, is it fragile, search)
have in common.

An open set may be asked as often as one likes. A frozen set may not: a prompt that was chosen on it is flattered by it,
and it is there to judge. Every answer is remembered (`cache.py`), so a check that was stopped goes on where it was, and two
checks that ask the same ask once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.backends import Backend, Conversation
from studio.errors import EngineLost, InputError, ModelError, RunError, StudioError, Unsupported
from studio.evaluation import Interval
from studio.evaluation.metrics import Metric, metric_from
from studio.instructions import group_hash
from studio.prompts.bank import held_out, leaks, pool_of
from studio.prompts.compare import Compare
from studio.prompts.measure import Stopped
from studio.prompts.memory import Memory
from studio.prompts.selectors import Query, choose_with, selector
from studio.prompts.techniques import Row, Technique, Trace, technique, technique_of, together
from studio.prompts.templates import Template, render
from studio.specs import Message, ModelRef, Sampling, SnapshotRef
from studio.store import Example, Store, read_rows
from studio.tasks import Run

__all__ = [
    "Desk",
    "Item",
    "Plan",
    "Progress",
    "Tried",
    "Way",
    "check_model",
    "check_set",
    "drawn",
    "example_pool",
    "interval_of",
    "is_about_the_row",
    "metric_for",
    "open_items",
    "pairs",
    "shown_by",
    "technique_for",
    "workspace_of",
]

_BATCH = 32
_CHARACTERS_PER_TOKEN = 4  # of English in the usual vocabularies
_OPEN = "-development"

Reword = Callable[[str], str]


# -- what is asked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One row of an open set. `reference` is the answer it should get, or None where rules say what is good."""

    row: Mapping[str, Any]
    group: str
    reference: str | None

    @property
    def query(self) -> Query:
        return Query(str(self.row["instruction"]), str(self.row.get("context") or ""))


def check_set(store: Store, ref: SnapshotRef) -> None:
    """Raise InputError unless the snapshot is an open set: of evaluation items, or of records that are not for training."""
    if ref.kind not in ("eval", "data"):
        raise InputError(
            f"{ref} has nothing to hold answers against. Choose a set like eval:brackenfold-development@1."
        )
    store.snapshot(ref)
    if ref.kind == "eval" and (reason := _frozen(store, ref)):
        others = [s.ref for s in store.snapshots("eval") if not _frozen(store, s.ref)]
        cure = f"Choose an open set such as {others[0]}." if others else "Freeze an open set of other questions first."
        raise InputError(f"{ref} is a frozen set: {reason}. What is tried on it is chosen for it. {cure}")


def _frozen(store: Store, ref: SnapshotRef) -> str:
    """Why this set only judges, or ''."""
    if any(s.name == f"{ref.name}{_OPEN}" for s in store.snapshots("eval")):
        return f"it judges, and {ref.name}{_OPEN} is there to try things on"
    judged = (j for j in store.jobs(limit=500, kinds={Compare.kind}) if str(j.task.get("evaluation")) == ref)
    job = next(judged, None)
    return f"comparison {job.id} judges with it" if job is not None else ""


def check_model(store: Store, model: ModelRef) -> None:
    """Raise InputError for a model that only scores."""
    if model.kind == "run" and not store.model(model).answers:
        raise InputError(f"{model} scores answers and gives none. Choose a model that answers.")


def open_items(store: Store, root: Path, ref: SnapshotRef, most: int = 0, seed: int = 0) -> list[Item]:
    """The rows of an open set, one for each group; a seeded draw of them where `most` is not 0.

    Of records only the validation split: training rows may be examples, and test rows judge.
    """
    rows = read_rows(root, store.snapshot(ref))
    if ref.kind == "data":
        rows = [row for row in rows if row.get("split") == "validation"]
    found: dict[str, Item] = {}
    for row in rows:
        group = str(row.get("group") or group_hash(str(row["instruction"]), str(row.get("context") or "")))
        found.setdefault(group, Item(row, group, str(row["response"]) if ref.kind == "data" else None))
    items = list(found.values())
    if len(items) < 2:
        raise InputError(f"{ref} has {len(items)} rows to try prompts on. Choose a set with 2 or more, better 50.")
    return drawn(items, most, seed)


def drawn(items: list[Item], most: int, seed: int) -> list[Item]:
    """A seeded draw of `most` items in their order; all of them where `most` is 0."""
    if not 0 < most < len(items):
        return items
    chosen = set(random.Random(seed).sample(range(len(items)), most))
    return [item for place, item in enumerate(items) if place in chosen]


def metric_for(name: str, ref: SnapshotRef) -> Metric:
    """The metric by its name; '' takes the rules of an evaluation set, and exact match with a record's response.

    Raises InputError for one that this set has nothing for, or that has to ask a model itself.
    """
    found = metric_from(name or ("rules" if ref.kind == "eval" else "exact"))
    if found.asks:
        raise InputError(f"{found.title} asks a model of its own. Choose a metric that is read off the answer.")
    has = "rules" if ref.kind == "eval" else "reference"
    if found.needs not in ("", has):
        what = "rules and no reference answers" if has == "rules" else "reference answers and no rules"
        raise InputError(f"{found.title} is not defined on {ref}, which has {what}. Choose another metric or set.")
    return found


# -- how it is asked ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """One way of prompting. `examples` are shown to every question, in this order.

    `reword` changes the instruction: the system part where there is one, else every question.
    """

    template: Template
    guidelines: str = ""
    examples: tuple[Mapping[str, str], ...] = ()
    reword: Reword | None = None

    def messages(self, row: Mapping[str, Any], examples: Sequence[Mapping[str, str]] | None = None) -> list[Message]:
        """The conversation that asks this row; `examples` stand in for the way's own."""
        own = {name: str(row[name]) for name in self.template.declares if row.get(name) is not None}
        values = own | {"instruction": str(row["instruction"]), "context": str(row.get("context") or "")}
        shown = self.examples if examples is None else examples
        return self._reworded(render(self.template, values | {"guidelines": self.guidelines}, shown))

    def _reworded(self, messages: list[Message]) -> list[Message]:
        if self.reword is None:
            return messages
        role = "system" if messages[0].role == "system" else "user"
        return [Message(role=m.role, content=self.reword(m.content)) if m.role == role else m for m in messages]


def technique_for(chosen: Template, name: str = "", settings: Mapping[str, Any] | None = None) -> Technique:
    """The technique by its name, or the template's own where none is named."""
    return technique(name, settings) if name else technique_of(chosen, settings)


def example_pool(store: Store, root: Path, source: str, k: int) -> list[Example]:
    """The examples of a bank that are on, or the training rows of a `data:` snapshot.

    None that is held out anywhere. Raises InputError where fewer than `k` are left.
    """
    if SnapshotRef.pattern.fullmatch(source):
        found = _rows_as_examples(store, root, SnapshotRef(source))
        leaked = {leak.example.id for leak in leaks(found, held_out(store, root))}
        found = [example for example in found if example.id not in leaked]
    else:
        found = [example for example in pool_of(store, root, source).examples if example.is_on]
    if len(found) < k:
        cure = "Fill the bank, switch examples on, or choose another one" if source else "Choose a bank or a snapshot"
        raise InputError(f"The prompt shows {k} examples, and '{source}' has {len(found)} to show. {cure}.")
    return found


def _rows_as_examples(store: Store, root: Path, ref: SnapshotRef) -> list[Example]:
    if ref.kind != "data":
        raise InputError(f"{ref} holds no answers to show. Choose a bank, or a snapshot like data:brackenfold@1.")
    made: dict[str, Example] = {}
    for place, row in enumerate(read_rows(root, store.snapshot(ref)), 1):
        instruction, context = str(row["instruction"]), str(row.get("context") or "")
        group = group_hash(instruction, context)
        if row.get("split", "train") == "train":
            made.setdefault(
                group,
                Example(
                    id=place,
                    bank=ref,
                    instruction=instruction,
                    context=context,
                    reasoning=str(row.get("reasoning") or ""),
                    response=str(row["response"]),
                    category=str(row.get("category") or ""),
                    group_hash=group,
                    source=ref,
                    position=float(place),
                    is_on=True,
                    is_locked=False,
                    author="",
                    created_at=0.0,
                    updated_at=0.0,
                ),
            )
    return list(made.values())


async def shown_by(
    name: str, pool: Sequence[Example], items: Sequence[Item], k: int, seed: int, backend: Backend
) -> list[list[Mapping[str, str]]]:
    """The examples that a selector gives each item, as templates take them."""
    if k == 0:
        return [[] for _ in items]
    chosen, memory = selector(name), Memory()
    return [
        [
            example.fields
            for example in (
                await choose_with(chosen, pool, item.query, k, seed, backend=backend, memory=memory)
            ).examples
        ]
        for item in items
    ]


# -- what it takes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a check asks for at most; answers that are known already are not asked again.

    `prompt_tokens` is an estimate from the length of the texts; `output_tokens` is a limit.
    """

    calls: int
    prompt_tokens: int
    output_tokens: int

    @property
    def sentence(self) -> str:
        return (
            f"At most {self.calls:,} calls: about {_rounded(self.prompt_tokens):,} tokens to read "
            f"and no more than {self.output_tokens:,} to write."
        )

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
        )

    @classmethod
    def of(cls, conversations: Sequence[Conversation], way: Technique, sampling: Sampling) -> Plan:
        """Of these questions, answered by a technique."""
        calls = len(conversations) * way.calls
        read = sum(len(turn.content) for turns in conversations for turn in way.prepare(turns)) * way.calls
        return cls(calls, math.ceil(read / _CHARACTERS_PER_TOKEN), calls * way.sampling(sampling).max_tokens)

    @classmethod
    def of_labels(cls, conversations: Sequence[Conversation], labels: Sequence[str]) -> Plan:
        """Of reading how likely each label is: nothing is written."""
        read = sum(len(turn.content) for turns in conversations for turn in turns) * len(labels)
        return cls(len(conversations) * len(labels), math.ceil(read / _CHARACTERS_PER_TOKEN), 0)


def _rounded(count: int) -> int:
    """To two digits: an estimate that looks exact promises too much."""
    return int(float(f"{count:.1e}")) if count > 99 else count


# -- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What came of one row. `score` is None where it is not defined, or where the model refused the question."""

    score: float | None
    answer: str = ""
    is_parsed: bool = False
    is_strict: bool = False
    was_cut: bool = False
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    refusal: str = ""


@dataclass
class Progress:
    """How many rows of all are done."""

    run: Run
    total: int
    done: int = 0

    def add(self, rows: int) -> None:
        self.done += rows
        self.run.log(self.done, self.total)


@dataclass(frozen=True)
class Desk:
    """Where rows are asked and judged: one model, one technique, one sampling, one metric."""

    run: Run
    backend: Backend
    technique: Technique
    sampling: Sampling
    metric: Metric
    progress: Progress = field(repr=False)

    async def tried(self, conversations: Sequence[Conversation], items: Sequence[Item]) -> list[Tried]:
        """Ask every item in its conversation. Raises Stopped between batches.

        A row that the model refuses is left out; a batch without any answer is no matter of rows, and raises RunError. A
        row's random numbers depend on its place, so all ways of asking it draw alike.
        """
        found: list[Tried] = []
        for start in range(0, len(items), _BATCH):
            self._go_on(len(found), len(items))
            rows = [
                Row(self.technique, conversations[place], self.sampling, number=place)
                for place in range(start, min(start + _BATCH, len(items)))
            ]
            answers = await together(self.backend, rows)
            judged = [self._judged(items[row.number], answer) for row, answer in zip(rows, answers, strict=True)]
            if all(tried.refusal for tried in judged):
                raise RunError(f"None of {len(judged)} rows was answered. The first one: {judged[0].refusal}")
            found += judged
            self.progress.add(len(rows))
        return found

    def _go_on(self, done: int, of: int) -> None:
        if self.run.stop_requested():
            raise Stopped(f"Stopped after {done} of {of} answers.")

    def _judged(self, item: Item, answer: Trace | StudioError) -> Tried:
        if isinstance(answer, StudioError):
            if not is_about_the_row(answer):
                raise answer
            return Tried(None, refusal=str(answer))
        return Tried(
            score=self.metric.score(answer.answer.text, item.reference, item.row),
            answer=answer.answer.text,
            is_parsed=answer.answer.parsed,
            is_strict=answer.answer.strict,
            was_cut=answer.was_cut,
            calls=len(answer.completions),
            prompt_tokens=sum(c.prompt_tokens for c in answer.completions),
            output_tokens=sum(c.output_tokens for c in answer.completions),
            seconds=sum(c.seconds for c in answer.completions),
        )


def is_about_the_row(error: StudioError) -> bool:
    """Whether other rows may do better: a prompt that is too long, say, and not a setting that is wrong."""
    return isinstance(error, ModelError) and not isinstance(error, Unsupported | EngineLost)


def workspace_of(run: Run) -> Path:
    """The folder that all runs lie in."""
    return run.output.parents[1]


def interval_of(fields: Mapping[str, Any]) -> Interval:
    """An interval as a job's result holds it."""
    return Interval(float(fields["value"]), float(fields["low"]), float(fields["high"]), int(fields["n"]))


def pairs(before: Sequence[Tried], after: Sequence[Tried]) -> Iterator[tuple[float, float]]:
    """The scores of the rows where both are defined."""
    for b, a in zip(before, after, strict=True):
        if b.score is not None and a.score is not None:
            yield b.score, a.score
