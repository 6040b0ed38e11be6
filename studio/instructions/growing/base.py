"""What every way of growing a dataset shares: drafts in portions, honest counts, and a run that can be stopped.

A model writes, people approve: whatever a model drafted comes in as a draft, with the model, the prompt, the sampling and
the records or passages that it was shown. Held-out data stay held out: only training records are shown or varied, and
no draft repeats a question of an evaluation set.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from studio.errors import EngineLost, InputError, ModelError, RunError, Unsupported
from studio.instructions.records import group_hash, insertable, is_unfilled, question, split_of
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import Dataset, Record, Store
from studio.tasks import Lane, Run, Task

if TYPE_CHECKING:
    from studio.backends import Backend

__all__ = [
    "LEFT_OUT",
    "MOST_EXAMPLES",
    "PER_STEP",
    "Desk",
    "Draft",
    "Grower",
    "Growing",
    "Portion",
    "may_be_shown",
    "together",
]

MOST_EXAMPLES = 20_000  # records of a dataset that a run draws from; more would fill the memory and not be asked for
PER_STEP = 8  # requests between two looks at whether somebody wants to stop; the engine decodes them together
_TOLD = {"temperature", "max_tokens", "seed"}
_CALLS = 1_000_000  # of one seed, so that no two calls of any two seeds draw alike
_FEW = 0.2  # of what the model wrote: with less in use, the result says what helps

# Why something that a model wrote became no draft, in the words of the result.
LEFT_OUT: Mapping[str, str] = {
    "failed": "could not be asked",
    "unread": "nothing of the right form",
    "cut": "cut at the token limit",
    "unseen": "about a picture, a file or a link that nobody sees",
    "alike": "too much like a question that is there",
    "evaluation": "in an evaluation set",
    "known": "in the dataset already",
    "surplus": "more than were asked for",
    "refusal": "a refusal",
    "echo": "the question over again",
    "poor": "a quality score below the bound",
    "ungrounded": "words that the passage does not have",
    "made_up": "a number that is not in the passage",
    "bare": "no word that could be looked up in the passage",
    "off_topic": "a question that is not about the passage",
    "lost": "a name or a number that was lost or made up",
    "far": "no word in common with the original",
    "length": "far shorter or longer than the original",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A record to be, and what the model was shown for it. A draft that varies a record, or asks about a passage, is in
    its `group` with all others that do, and so in one split; without one, it is its own group."""

    instruction: str
    response: str
    category: str
    calls: tuple[Sampling, ...]  # how the model drew, once for each text of the draft that it wrote
    context: str = ""
    licence: str = ""
    group: str = ""
    split: str = ""
    seeds: tuple[int, ...] = ()
    passages: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        return group_hash(self.instruction, self.context)


@dataclass(frozen=True)
class Portion:
    """What came of one step: drafts, and how much was left out for which reason."""

    drafts: tuple[Draft, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Desk:
    """What a way of growing works with."""

    run: Run
    backend: Backend
    dataset: Dataset
    evaluation: tuple[tuple[str, str], ...]  # (instruction, context) of every item of every evaluation set


class Grower(ABC):
    """One run of one way: a number of steps, each of which asks the model a few times."""

    steps: int

    @abstractmethod
    async def step(self, number: int) -> Portion:
        """Ask, and read what was written. The same number asks the same."""


class Growing(Task):
    """Draft records with a model, for people to approve."""

    lane: ClassVar[Lane] = "light"
    template: ClassVar[str]  # name and version of the prompt: a change of its words is a new version

    model: ModelRef = Field(title="Model", description="Who writes the drafts.")
    dataset: str = Field(title="Dataset", description="Where the drafts go.")
    count: int = Field(50, ge=1, le=10_000, title="Drafts", description="So many at the most.")
    temperature: float = Field(
        0.7, ge=0, le=5, title="Temperature", description="Higher gives drafts that differ more."
    )
    max_tokens: int = Field(200, ge=8, le=4096, title="Max tokens", description="Longest text at once, in tokens.")
    seed: int = Field(
        0, ge=0, le=1_000_000, title="Seed of the drafts", description="Decides what is shown and what is drawn."
    )
    lowest_quality: int = Field(
        40,
        ge=0,
        le=100,
        title="Lowest quality",
        description="Answers with fewer points are left out; 0 keeps them all.",
    )

    def check(self, store: Store) -> None:
        store.dataset(self.dataset)
        if self.model.kind == "run" and not store.model(self.model).answers:
            raise InputError(f"{self.model} scores answers and gives none. Choose a model that answers.")

    def source(self, job_id: int) -> str:
        """What the drafts of a run say of where they come from."""
        return f"job {job_id}: {self.kind} by {self.model}"

    @abstractmethod
    def grower(self, desk: Desk) -> Grower:
        """Read what drafts are made from. Raises InputError when there is nothing."""

    def sampling(self, call: int, *, temperature: float | None = None) -> Sampling:
        """How the model draws at one call of the run."""
        heat = self.temperature if temperature is None else temperature
        return Sampling(temperature=heat, max_tokens=self.max_tokens, seed=self.seed * _CALLS + call)

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        state = _State.read(run.last_checkpoint(), self.template)
        backend = run.backend(self.model)
        try:
            desk = Desk(run, backend, run.store.dataset(self.dataset), _evaluation(run))
            grower = self.grower(desk)
            known = {group_hash(r.instruction, r.context) for r in run.store.all_records(desk.dataset.id)}
            held_out = {group_hash(*item) for item in desk.evaluation}
            while state.step < grower.steps and state.added < self.count and not run.stop_requested():
                run.say(f"{state.added} of {self.count} drafts written, {state.left_out.total()} left out.")
                portion = _fresh(await grower.step(state.step), known, held_out, self.count - state.added)
                self._add(desk, portion.drafts)
                known |= {draft.key for draft in portion.drafts}
                state = state.after(portion)
                state.save(run)
                run.log(max(state.step, grower.steps * state.added // self.count), grower.steps)
        finally:
            await backend.close()
        return self._result(state)

    def _add(self, desk: Desk, drafts: Sequence[Draft]) -> None:
        """Append the drafts of a step, and show the first to whoever watches."""
        if not drafts:
            return
        run = desk.run
        rows = [self._row(run.id, draft) for draft in drafts]
        author = run.store.job(run.id).author
        run.store.add_records(desk.dataset.id, rows, author=author, source=self.source(run.id))
        first = drafts[0]
        run.sample(run.id, question(first.instruction, first.context), draft=first.response)

    def _row(self, job_id: int, draft: Draft) -> dict[str, Any]:
        row = insertable(
            {
                "instruction": draft.instruction,
                "context": draft.context,
                "response": draft.response,
                "category": draft.category,
                "state": "draft",
                "licence": draft.licence,
                "provenance": {
                    "way": self.kind,
                    "job": job_id,
                    "model": str(self.model),
                    "template": self.template,
                    "seeds": list(draft.seeds),
                    "passages": list(draft.passages),
                    "sampling": [call.model_dump(mode="json", include=_TOLD) for call in draft.calls],
                },
            }
        )
        if draft.group:
            row |= {"group_hash": draft.group, "split": draft.split or split_of(draft.group)}
        return row

    def _result(self, state: _State) -> dict[str, Any]:
        counts = {why: state.left_out[why] for why in LEFT_OUT if state.left_out[why]}
        return {"dataset": self.dataset, "added": state.added, "left_out": counts, "note": self._note(state)}

    def _note(self, state: _State) -> str:
        """What to do when little could be used; '' when enough was."""
        written = state.added + sum(n for why, n in state.left_out.items() if why != "surplus")
        if not written or state.added >= _FEW * written:
            return ""
        said = f"Of {written} texts that {self.model} wrote, {state.added} could be used. "
        if self.model.kind == "embedded":
            return said + "The embedded model has 135 million parameters, few for this work: choose a larger one."
        return said + "See what was left out and why, and try another model or other examples."


def may_be_shown(record: Record) -> bool:
    """Whether a model may learn from it what drafts are like: a training record that a person wrote or approved,
    and wrote to the end."""
    by_model = bool((record.provenance or {}).get("model"))
    is_seen = record.state == "approved" or (record.state == "draft" and not by_model)
    return is_seen and record.split == "train" and not is_unfilled(record)


async def together(
    backend: Backend, conversations: Sequence[Sequence[Message]], sampling: Sampling, *, is_follow_up: bool = False
) -> list[Completion | None]:
    """The answers in their order, None where a question could not be asked: one that is too long leaves the others.

    Raises what went wrong when none could be asked, unless they follow up on what could.
    """
    if not conversations:
        return []
    try:
        return list(await backend.complete(conversations, sampling))
    except (EngineLost, Unsupported):
        raise
    except ModelError:
        found = [await _alone(backend, messages, sampling) for messages in conversations]
        if not is_follow_up and all(answer is None for answer in found):
            raise
        return found


async def _alone(backend: Backend, messages: Sequence[Message], sampling: Sampling) -> Completion | None:
    try:
        return (await backend.complete([messages], sampling))[0]
    except (EngineLost, Unsupported):
        raise
    except ModelError:
        return None


@dataclass(frozen=True)
class _State:
    """How far a run is, in a checkpoint; `template` names the prompt that it asked with."""

    step: int
    added: int
    left_out: Counter[str]
    template: str

    def after(self, portion: Portion) -> _State:
        return _State(self.step + 1, self.added + len(portion.drafts), self.left_out + portion.left_out, self.template)

    @classmethod
    def read(cls, folder: Path | None, template: str) -> _State:
        if folder is None:
            return cls(0, 0, Counter(), template)
        found = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        if found["template"] != template:
            raise RunError(
                f"This run began with the prompt {found['template']}, which is {template} now. "
                "Start a new run; drafts that are there stay."
            )
        return cls(found["step"], found["added"], Counter(found["left_out"]), template)

    def save(self, run: Run) -> None:
        folder = run.checkpoint(self.step)
        (folder / "progress.json").write_text(json.dumps(vars(self)), encoding="utf-8")
        run.publish(folder)


def _fresh(portion: Portion, known: set[str], held_out: set[str], room: int) -> Portion:
    """The drafts that may come in: new, not held out, and no more than are wanted."""
    kept: list[Draft] = []
    left_out = Counter(portion.left_out)
    for draft in portion.drafts:
        keys = {draft.key, draft.group}
        if keys & held_out:
            left_out["evaluation"] += 1
        elif draft.key in known or any(draft.key == other.key for other in kept):
            left_out["known"] += 1
        elif len(kept) == room:
            left_out["surplus"] += 1
        else:
            kept.append(draft)
    return Portion(tuple(kept), left_out)


def _evaluation(run: Run) -> tuple[tuple[str, str], ...]:
    items = (row for snapshot in run.store.snapshots("eval") for row in run.snapshot(snapshot.ref))
    return tuple((str(item["instruction"]), str(item.get("context") or "")) for item in items)
