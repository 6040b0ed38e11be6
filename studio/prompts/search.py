"""Search: which instruction, how many examples, which ones, in which order? Tried by chance, judged once.

No model writes prompts here: one of 135 million parameters cannot be its own prompt engineer. A seed draws combinations
of instructions that people wrote (and small rewordings of them), sets of examples, and orders; each answers the same
development rows. The best of many is partly the luckiest, so its score there flatters it (the winner's curse). That is why
a part of the rows is held out: the search never sees them, and only the winner and the prompt that it started from answer
them, once, paired (Miller 2024, arXiv 2411.00640). A random search needs no more than this and is hard to beat on a small
budget (Bergstra and Bengio 2012).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator

from studio.backends import Backend
from studio.errors import Conflict, InputError, NotFound, RunError
from studio.evaluation import Interval, mean_interval, paired_difference
from studio.fields import complaints
from studio.instructions import group_hash
from studio.prompts.cache import Remembering
from studio.prompts.fragility import REWORDINGS
from studio.prompts.measure import Stopped
from studio.prompts.selectors import Query, selector
from studio.prompts.templates import Template, find_template, save_template
from studio.prompts.trials import (
    Desk,
    Item,
    Plan,
    Progress,
    Tried,
    Way,
    check_model,
    check_set,
    drawn,
    example_pool,
    interval_of,
    metric_for,
    open_items,
    pairs,
    technique_for,
    workspace_of,
)
from studio.prompts.verdict import FEWEST_ITEMS, signed
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Example, Store
from studio.tasks import Lane, Run, Task

__all__ = [
    "Candidate",
    "Search",
    "SearchPlan",
    "SearchReport",
    "SearchVerdict",
    "Trial",
    "candidates",
    "halves",
    "save_winner",
    "search_of",
    "search_plan",
    "search_verdict",
]

_GUIDELINES = re.compile(r"\{\{-?\s*guidelines\s*-?\}\}")
_DRAWS = 200  # for each trial, before a space counts as used up


class Search(Task):
    """Try prompts drawn by chance on development rows; then the best one against the start on rows held out."""

    kind: ClassVar[str] = "search"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="Answers every time.")
    template: str = Field(title="Start", description="The template that the search begins from and has to beat.")
    evaluation: SnapshotRef = Field(title="Open set", description="Development rows; never the frozen set.")
    held_out: SnapshotRef | None = Field(
        None, title="Held-out set", description="For the one final test. Empty: half of the open set, chosen by hash."
    )
    metric: str = Field("", title="Metric", description="Empty for the set's rules, or exact match with the response.")
    instructions: tuple[str, ...] = Field(
        (), max_length=50, title="Instructions", description="Other system parts to try, written as in a template."
    )
    rewords: bool = Field(True, title="Reword", description="Try small rewordings of each instruction too.")
    guidelines: str = Field("", title="Guidelines", description="How answers should be, for prompts that say it.")
    examples: str = Field("", title="Examples", description="A bank, or a snapshot like data:brackenfold@1.")
    shots: tuple[int, ...] = Field(
        (), max_length=16, title="Numbers of examples", description="Empty for the number that the start shows."
    )
    sets: int = Field(
        8, ge=1, le=1000, title="Example sets", description="How many different draws of examples there are."
    )
    trials: int = Field(16, ge=1, le=500, title="Trials", description="How many prompts are tried beside the start.")
    rows: int = Field(0, ge=0, title="Rows", description="Development rows for each trial; 0 for all.")
    max_tokens: int = Field(
        110, ge=1, le=4096, title="Max tokens", description="Longest answer, without its reasoning."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same search.")

    @field_validator("held_out", mode="before")
    @classmethod
    def _nothing_chosen(cls, value: Any) -> Any:
        return None if value == "" else value  # what a list or a flag says when nothing is chosen

    @field_validator("shots")
    @classmethod
    def _can_be_shown(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 <= k <= 32 for k in shots):
            raise ValueError("a prompt shows 0 to 32 examples")
        return tuple(dict.fromkeys(shots))

    @property
    def title(self) -> str:
        return f"Search for a better {self.template} for {self.model} on {self.evaluation}"

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.max_tokens, seed=self.seed)

    def check(self, store: Store) -> None:
        check_model(store, self.model)
        for ref in filter(None, (self.evaluation, self.held_out)):
            check_set(store, ref)
            metric_for(self.metric, ref)
        if self.held_out == self.evaluation:
            raise InputError(
                f"{self.held_out} cannot choose the prompt and judge it too. Choose another held-out set, or leave it out."
            )
        chosen = find_template(store, self.template)
        most = max((chosen.shots, *self.shots))
        if most and not self.examples:
            raise InputError(f"This search shows up to {most} examples. Choose a bank or a snapshot to take them from.")
        for text in self.instructions:
            _with_system(chosen, text)
        alone = not self.instructions and not (self.rewords and self.instruction_of(chosen))
        if alone and not most:
            raise InputError(
                f"There is nothing to search: '{chosen.title}' has no instruction and shows no example. "
                "Write instructions to try, or say how many examples."
            )

    def instruction_of(self, chosen: Template) -> str:
        """The start's system part, with the guidelines written out so that rewordings reach them."""
        return _GUIDELINES.sub(lambda _: self.guidelines.strip(), chosen.system).strip()

    def do(self, run: Run) -> dict[str, Any]:
        try:
            return asyncio.run(self._do(run))
        except Stopped:
            return {}

    async def _do(self, run: Run) -> dict[str, Any]:
        root = workspace_of(run)
        development, held = halves(run.store, root, self)
        tried = candidates(run.store, root, self)
        progress = Progress(run, len(tried) * len(development) + 2 * len(held))
        backend = Remembering(run.backend(self.model), run.store)
        try:
            found: list[list[Tried]] = []
            for number, candidate in enumerate(tried):
                run.say(f"Trial {number} of {len(tried) - 1}: {candidate.words}." if number else "The start, first.")
                found.append(await self._tried(run, backend, candidate, development, self.evaluation, progress))
            best = _best(found)
            run.say(f"The best on {len(development)} development rows, once on {len(held)} held out.")
            asked = dict.fromkeys((0, best))
            where = self.held_out or self.evaluation
            final = {n: await self._tried(run, backend, tried[n], held, where, progress) for n in asked}
            run.log(progress.total, progress.total)
        finally:
            await backend.close()
        return _result(tried, found, best, final[0], final[best])

    async def _tried(
        self,
        run: Run,
        backend: Backend,
        candidate: Candidate,
        items: Sequence[Item],
        ref: SnapshotRef,
        progress: Progress,
    ) -> list[Tried]:
        way = Way(candidate.template, self.guidelines, tuple(e.fields for e in candidate.examples))
        sampling = way.template.with_room(self.sampling)
        desk = Desk(run, backend, technique_for(way.template), sampling, metric_for(self.metric, ref), progress)
        return await desk.tried([way.messages(item.row) for item in items], items)


# -- what is tried --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """One prompt: a template with its own system part, and the examples it shows, in order."""

    template: Template
    examples: tuple[Example, ...]
    words: str
    guidelines: str = field(default="", repr=False)


def candidates(store: Store, root: Path, task: Search) -> list[Candidate]:
    """The start, and up to `trials` different prompts drawn from the space; fewer where the space is smaller."""
    start = find_template(store, task.template)
    sizes = task.shots or (start.shots,)
    most = max((start.shots, *sizes))
    pool = example_pool(store, root, task.examples, most) if most else []
    texts = list(_instructions(start, task))
    first = Candidate(start, tuple(_set(pool, start.shots, task.seed)), "the start", task.guidelines)
    found, chance = {_told(first): first}, random.Random(task.seed)
    for _ in range(_DRAWS * task.trials):
        if len(found) > task.trials:
            break
        drawn = _drawn(
            start, pool, chance.choice(texts), chance.choice(sizes), chance.randrange(task.sets), chance, task
        )
        found.setdefault(_told(drawn), drawn)
    if len(found) == 1:
        raise InputError("There is one prompt only in this search. Add instructions, examples or numbers of examples.")
    return list(found.values())


def _drawn(
    start: Template,
    pool: Sequence[Example],
    instruction: tuple[str, str],
    k: int,
    number: int,
    chance: random.Random,
    task: Search,
) -> Candidate:
    name, text = instruction
    shown = _set(pool, k, task.seed + number)
    chance.shuffle(shown)
    template = _with_system(start, text).model_copy(update={"shots": len(shown)})
    examples = f"{len(shown)} examples, set {number + 1}" if shown else "no examples"
    return Candidate(template, tuple(shown), f"{name}; {examples}", task.guidelines)


def _told(candidate: Candidate) -> tuple[Any, ...]:
    """What tells two prompts apart: the start's guidelines are a variable, a drawn one has them written out."""
    system = _GUIDELINES.sub(lambda _: candidate.guidelines.strip(), candidate.template.system).strip()
    return system, tuple(example.id for example in candidate.examples)


def _set(pool: Sequence[Example], k: int, seed: int) -> list[Example]:
    return list(selector("random").choose(pool, Query(""), k, seed).examples) if k else []


def _instructions(start: Template, task: Search) -> Iterator[tuple[str, str]]:
    """Name and text of every instruction to try; those that fit into no template are left out."""
    own = task.instruction_of(start)
    given = [("as it is", own), *((f"instruction {n}", text) for n, text in enumerate(task.instructions, 1))]
    for name, text in given:
        yield name, text
        for change, reword in REWORDINGS.items() if task.rewords and text.strip() else ():
            try:
                reworded = reword(text)
                _with_system(start, reworded)
            except InputError:
                continue  # small letters may spoil a variable's name
            yield f"{name}, {change}", reworded


def _with_system(start: Template, text: str) -> Template:
    """The template with another system part. Raises InputError where it cannot be rendered."""
    try:
        return Template.model_validate(start.model_dump() | {"system": text})
    except ValidationError as error:
        said = "; ".join(complaints(Template, error).values())
        raise InputError(f"The instruction “{text[:40]}” cannot be tried: {said}.") from error


def halves(store: Store, root: Path, task: Search) -> tuple[list[Item], list[Item]]:
    """Development rows and held-out rows, which share no question.

    One set is halved by a hash of each question, so that a row stays on its side in every version of the set. Raises
    InputError where two sets share a question, or a side has fewer than 2 rows.
    """
    development = open_items(store, root, task.evaluation)
    if task.held_out is None:
        held = [item for item in development if _is_held(item.group)]
        development = [item for item in development if not _is_held(item.group)]
    else:
        held = open_items(store, root, task.held_out)
        shared = {item.group for item in development} & {item.group for item in held}
        if shared:
            twin = next(item for item in held if item.group in shared)
            raise InputError(
                f"{len(shared)} of the {len(held)} questions of {task.held_out} are in {task.evaluation} too, such as "
                f"“{str(twin.row['instruction'])[:60]}”. What judges must be new to the search: choose another set."
            )
    development = drawn(development, task.rows, task.seed)
    if min(len(development), len(held)) < 2:
        raise InputError(
            f"{len(development)} rows are left to search on and {len(held)} to judge by; each takes 2, better 50. "
            "Choose a larger set."
        )
    return development, held


def _is_held(group: str) -> bool:
    # Hashed once more: the first digits of a group decide its split, so among validation rows they are all alike.
    return hashlib.sha256(f"held out {group}".encode()).digest()[0] < 128


# -- what it takes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SearchPlan:
    """How many prompts are tried (the start included) on how many rows, and what that takes."""

    prompts: int
    development: int
    held_out: int
    plan: Plan


def search_plan(task: Search, store: Store, root: Path) -> SearchPlan:
    """What the search takes at most; raises what `check` raises, and InputError for rows or examples that are missing."""
    task.check(store)
    development, held = halves(store, root, task)
    tried = candidates(store, root, task)
    plans = [_plan(task, candidate, development) for candidate in tried]
    finals = [_plan(task, candidate, held) for candidate in tried]
    longest = max(finals, key=lambda plan: plan.prompt_tokens)  # nobody knows yet which prompt wins
    whole = sum([*plans, finals[0]], start=longest)
    return SearchPlan(len(tried), len(development), len(held), whole)


def _plan(task: Search, candidate: Candidate, items: Sequence[Item]) -> Plan:
    way = Way(candidate.template, task.guidelines, tuple(e.fields for e in candidate.examples))
    sampling = way.template.with_room(task.sampling)
    return Plan.of([way.messages(item.row) for item in items], technique_for(way.template), sampling)


# -- what came of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One prompt on the development rows; tokens are means of a row, read and written."""

    words: str
    score: Interval
    tokens: float


@dataclass(frozen=True)
class SearchReport:
    """What a finished search found. `best` is the winner's place among the trials, 0 for the start itself.

    `start` and `winner` are scores on the rows held out, `difference` winner minus start, paired; None where the start won.
    `template` and `examples` are the winner's.
    """

    job_id: int
    trials: tuple[Trial, ...]
    best: int
    start: Interval
    winner: Interval
    difference: Interval | None
    template: Template
    examples: tuple[Mapping[str, str], ...]

    @property
    def flattery(self) -> float:
        """How much better the winner looked where it was chosen than where it was judged."""
        return self.trials[self.best].score.value - self.winner.value


Outcome = Literal["better", "worse", "even", "few", "start"]


@dataclass(frozen=True)
class SearchVerdict:
    """The answer in one sentence, and one about what the development rows promised."""

    outcome: Outcome
    sentence: str
    honesty: str


def search_of(store: Store, job_id: int) -> SearchReport:
    """What a job found. Raises NotFound when it has no result (yet)."""
    job = store.job(job_id)
    found: Mapping[str, Any] = job.result or {}
    if job.kind != Search.kind or "best" not in found:
        raise NotFound(f"Job {job_id} has not found a prompt ({job.state}). Wait until it is done, or start a search.")
    difference = found["difference"]
    return SearchReport(
        job_id,
        tuple(Trial(t["words"], interval_of(t["score"]), t["tokens"]) for t in found["trials"]),
        found["best"],
        interval_of(found["start"]),
        interval_of(found["winner"]),
        interval_of(difference) if difference is not None else None,
        Template.model_validate(found["template"]),
        tuple(found["examples"]),
    )


def search_verdict(found: SearchReport) -> SearchVerdict:
    """The search in words: judged on the rows held out, never on those that chose."""
    seen, gap = found.trials[found.best].score, found.difference
    honesty = (
        f"Where it was chosen, on {seen.n} rows, it scored {seen.value:.2f}; held out it scores {found.winner.value:.2f}. "
        f"The best of {len(found.trials)} is partly the luckiest: only the second figure counts."
    )
    if gap is None:
        tried = len(found.trials) - 1
        return SearchVerdict("start", f"None of {tried} other prompts did better than the start. Keep it.", honesty)
    size = f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}]"
    ends = f"{found.start.value:.2f} to {found.winner.value:.2f}"
    if gap.n < FEWEST_ITEMS:
        sentence = (
            f"Too few rows to tell: {gap.n} held out, and it takes {FEWEST_ITEMS}. The difference measured is {size}."
        )
        return SearchVerdict("few", sentence, honesty)
    if gap.low > 0:
        return SearchVerdict(
            "better", f"The search found a better prompt: {size} on {gap.n} rows held out ({ends}).", honesty
        )
    if gap.high < 0:
        return SearchVerdict(
            "worse", f"The winner is worse than the start: {size} on {gap.n} rows held out ({ends}).", honesty
        )
    return SearchVerdict(
        "even", f"The search found nothing better that {gap.n} rows held out could show: {size} ({ends}).", honesty
    )


def save_winner(store: Store, job_id: int, name: str, *, author: str) -> str:
    """Keep the winner as the newest version of the template `name`; returns its ref, like support-reply@1.

    Its examples become the bank of that name, in their order, to be shown by the selector `fixed`. Raises InputError for
    a name that cannot be used, and Conflict where a bank of that name has something else in it.
    """
    found = search_of(store, job_id)
    fields = found.template.model_dump() | {"name": name, "title": f"{found.template.title} ({name})"[:120]}
    try:
        kept = Template.model_validate(fields)
    except ValidationError as error:
        said = "; ".join(complaints(Template, error).values())
        raise InputError(f"'{name}' cannot be saved: {said}.") from error
    rows = [
        {**example, "group_hash": group_hash(example["instruction"], example.get("context", ""))}
        for example in found.examples
    ]
    there = [example.group_hash for example in store.bank_examples(name)]
    if there and there != [row["group_hash"] for row in rows]:
        raise Conflict(f"The bank '{name}' has other examples in it already. Choose another name.")
    note = f"Found by search {job_id}: {found.winner.value:.2f} on {found.winner.n} rows held out."
    version = save_template(store, kept, note=note, author=author)
    if rows and not there:
        store.add_examples(name, rows, author=author, source=f"search {job_id}")
    return f"{name}@{version}"


def _best(found: Sequence[Sequence[Tried]]) -> int:
    """The place of the highest mean over the rows that all prompts have a score for; of equals the cheapest, then the
    first. Raises RunError where that is fewer than 2 rows."""
    common = _common(found)
    if len(common) < 2:
        raise RunError(f"Only {len(common)} rows have a score with every prompt. Choose another metric or more rows.")
    means = [sum(_score(one[place]) for place in common) for one in found]
    return max(range(len(found)), key=lambda n: (round(means[n], 9), -_tokens(found[n]), -n))


def _common(found: Sequence[Sequence[Tried]]) -> list[int]:
    return [place for place in range(len(found[0])) if all(one[place].score is not None for one in found)]


def _score(tried: Tried) -> float:
    return tried.score if tried.score is not None else 0.0


def _tokens(tried: Sequence[Tried]) -> float:
    return sum(t.prompt_tokens + t.output_tokens for t in tried) / len(tried)


def _result(
    tried: Sequence[Candidate],
    found: Sequence[Sequence[Tried]],
    best: int,
    start: Sequence[Tried],
    winner: Sequence[Tried],
) -> dict[str, Any]:
    common = _common(found)
    scored = list(pairs(start, winner))
    if len(scored) < 2:
        raise RunError(f"Only {len(scored)} held-out rows have a score. Choose another metric or more rows.")
    before, after = [b for b, _ in scored], [a for _, a in scored]
    trials = [
        {
            "words": candidate.words,
            "score": asdict(mean_interval([_score(one[place]) for place in common])),
            "tokens": _tokens(one),
        }
        for candidate, one in zip(tried, found, strict=True)
    ]
    return {
        "trials": trials,
        "best": best,
        "start": asdict(mean_interval(before)),
        "winner": asdict(mean_interval(after)),
        "difference": asdict(paired_difference(before, after)) if best else None,
        "template": tried[best].template.model_dump(mode="json"),
        "examples": [example.fields for example in tried[best].examples],
    }
