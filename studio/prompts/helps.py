"""Does it help here? A prompt or a technique against the plain prompt: same model, same sampling, same rows.

What a paper measured on a large model says little about a small one, so the question is asked where the answer is needed:
on the rows of an open evaluation set, paired row by row (Miller 2024, arXiv 2411.00640), with what it costs beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.backends import Backend
from studio.errors import InputError, NotFound, RunError
from studio.evaluation import Interval, mean_interval, paired_difference
from studio.prompts.cache import Remembering
from studio.prompts.measure import Stopped
from studio.prompts.selectors import selector
from studio.prompts.techniques import Technique
from studio.prompts.templates import find_template
from studio.prompts.trials import (
    Desk,
    Item,
    Plan,
    Progress,
    Tried,
    Way,
    check_model,
    check_set,
    example_pool,
    interval_of,
    metric_for,
    open_items,
    shown_by,
    technique_for,
    workspace_of,
)
from studio.prompts.verdict import FEWEST_ITEMS, signed
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Job, Store
from studio.tasks import Lane, Run, Task

__all__ = ["Help", "HelpVerdict", "Helps", "Side", "help_of", "help_plan", "help_verdict", "newest_help"]

_PLAIN = "plain"
_LOOKED_AT = 200  # finished checks among which the newest of a prompt is looked for


class Helps(Task):
    """Ask every row of an open set twice, plainly and in the way to be tried, and hold the scores against each other."""

    kind: ClassVar[str] = "helps"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="Answers both ways.")
    template: str = Field(_PLAIN, title="Prompt to try", description="A template, such as few-shot or support-reply@3.")
    technique: str = Field("", title="Technique", description="Empty for the one the template was written for.")
    settings: dict[str, Any] = Field(
        {}, title="Settings of the technique", description="By name, such as votes; empty for those it comes with."
    )
    plain: str = Field(_PLAIN, title="Plain prompt", description="The template to hold it against.")
    evaluation: SnapshotRef = Field(title="Open set", description="Where it is tried, never the frozen set.")
    metric: str = Field("", title="Metric", description="Empty for the set's rules, or exact match with the response.")
    guidelines: str = Field("", title="Guidelines", description="How answers should be, for prompts that say it.")
    examples: str = Field("", title="Examples", description="A bank, or a snapshot like data:brackenfold@1.")
    selector: str = Field("random", title="Selector", description="How a prompt's examples are chosen.")
    rows: int = Field(0, ge=0, title="Rows", description="How many to ask; 0 for all. Below 50 nothing can be told.")
    max_tokens: int = Field(
        110, ge=1, le=4096, title="Max tokens", description="Longest answer, without its reasoning."
    )
    temperature: float = Field(
        0.0, ge=0, le=5, title="Temperature", description="Of both ways; 0 always takes the likeliest token."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Decides rows, examples and what is drawn.")

    @property
    def title(self) -> str:
        return f"Does {self.technique or self.template} help {self.model} on {self.evaluation}"

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=self.seed)

    def check(self, store: Store) -> None:
        check_set(store, self.evaluation)
        check_model(store, self.model)
        metric_for(self.metric, self.evaluation)
        selector(self.selector)
        tried, plain = find_template(store, self.template), find_template(store, self.plain)
        for chosen in (tried, plain):
            if chosen.shots and not self.examples:
                raise InputError(f"'{chosen.title}' shows {chosen.shots} examples. Choose a bank or a snapshot.")
        one, other = technique_for(tried, self.technique, self.settings), technique_for(plain)
        if tried == plain and (one.name, one.settings) == (other.name, other.settings):
            raise InputError(
                f"'{tried.title}' asked the {one.title.lower()} way is the plain prompt itself. "
                "Choose another template or technique."
            )

    def do(self, run: Run) -> dict[str, Any]:
        try:
            return asyncio.run(self._do(run))
        except Stopped:
            return {}

    async def _do(self, run: Run) -> dict[str, Any]:
        root = workspace_of(run)
        items = open_items(run.store, root, self.evaluation, self.rows, self.seed)
        progress = Progress(run, 2 * len(items))
        backend = Remembering(run.backend(self.model), run.store)
        sides: list[list[Tried]] = []
        try:
            for way, technique in self.sides(run.store):
                run.say(f"Asking {len(items)} rows with '{way.template.title}' ({technique.title}).")
                desk = Desk(
                    run,
                    backend,
                    technique,
                    way.template.with_room(self.sampling),
                    metric_for(self.metric, self.evaluation),
                    progress,
                )
                sides.append(await desk.tried(await self._conversations(run.store, root, way, items, backend), items))
        finally:
            await backend.close()
        return self._result(*sides)

    def sides(self, store: Store) -> list[tuple[Way, Technique]]:
        """The plain prompt, and what is held against it."""
        plain, tried = find_template(store, self.plain), find_template(store, self.template)
        return [
            (Way(plain, self.guidelines), technique_for(plain)),
            (Way(tried, self.guidelines), technique_for(tried, self.technique, self.settings)),
        ]

    async def _conversations(
        self, store: Store, root: Path, way: Way, items: Sequence[Item], backend: Backend
    ) -> list[Any]:
        shots = way.template.shots
        pool = example_pool(store, root, self.examples, shots) if shots else []
        shown = await shown_by(self.selector, pool, items, shots, self.seed, backend)
        return [way.messages(item.row, examples) for item, examples in zip(items, shown, strict=True)]

    def _result(self, plain: Sequence[Tried], tried: Sequence[Tried]) -> dict[str, Any]:
        metric = metric_for(self.metric, self.evaluation)
        both = [place for place, pair in enumerate(zip(plain, tried, strict=True)) if _is_scored(*pair)]
        if len(both) < 2:
            raise RunError(
                f"Only {len(both)} of {len(plain)} rows have a score both ways. Choose another metric or more rows."
            )
        before, after = ([side[place] for place in both] for side in (plain, tried))
        return {
            "metric": metric.key,
            "higher_is_better": metric.higher_is_better,
            "left_out": len(plain) - len(both),
            "refusal": next((t.refusal for t in (*plain, *tried) if t.refusal), ""),
            "difference": asdict(paired_difference(_scores(before), _scores(after))),
            "plain": _side(before),
            "tried": _side(after),
        }


@dataclass(frozen=True)
class Side:
    """One way of asking: its score, how often its rule found an answer, and what a row costs (all means over the rows).

    `parsed`, `strict` (the format was kept) and `cut` (some call ran out of tokens) are shares.
    """

    score: Interval
    parsed: float
    strict: float
    cut: float
    calls: float
    prompt_tokens: float
    output_tokens: float
    seconds: float

    @property
    def tokens(self) -> float:
        """Read and written, for one row."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True)
class Help:
    """What a finished check found. `difference` is tried minus plain, paired; `left_out` counts rows without a score both
    ways, and `refusal` says why one of them could not be asked."""

    job_id: int
    metric: str
    higher_is_better: bool
    difference: Interval
    plain: Side
    tried: Side
    left_out: int
    refusal: str


Outcome = Literal["helps", "hurts", "even", "few"]


@dataclass(frozen=True)
class HelpVerdict:
    """The answer in one sentence, and one each about the cost and about how the answers could be read."""

    outcome: Outcome
    sentence: str
    cost: str
    reading: str


def help_of(store: Store, job_id: int) -> Help:
    """What a job found. Raises NotFound when it has no result (yet)."""
    job = store.job(job_id)
    found: Mapping[str, Any] = job.result or {}
    if job.kind != Helps.kind or "difference" not in found:
        raise NotFound(f"Job {job_id} has not told whether a prompt helps ({job.state}). Wait until it is done.")
    plain, tried = (Side(**{**found[side], "score": interval_of(found[side]["score"])}) for side in ("plain", "tried"))
    return Help(
        job_id,
        found["metric"],
        found["higher_is_better"],
        interval_of(found["difference"]),
        plain,
        tried,
        found["left_out"],
        found["refusal"],
    )


def newest_help(store: Store, template: str) -> Job | None:
    """The last finished check of a prompt asked the way it was written; None when there was none yet."""
    done = store.jobs(limit=_LOOKED_AT, states=["done"], kinds=[Helps.kind])
    asked = (job for job in done if (job.task["template"], job.task.get("technique", "")) == (template, ""))
    return next(asked, None)


def help_verdict(found: Help) -> HelpVerdict:
    """The answer in words. Nothing is decided below 50 rows, where the interval itself is not to be trusted."""
    gap = found.difference
    size = f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}]"
    rises, falls = (gap.low > 0, gap.high < 0) if found.higher_is_better else (gap.high < 0, gap.low > 0)
    if gap.n < FEWEST_ITEMS:
        outcome: Outcome = "few"
        sentence = f"Too few rows to tell: {gap.n}, and it takes {FEWEST_ITEMS}. The difference measured is {size}."
    elif rises:
        outcome, sentence = "helps", f"It helps here by {size}, {gap.n} rows."
    elif falls:
        outcome, sentence = "hurts", f"It hurts here by {size}, {gap.n} rows."
    else:
        outcome, sentence = "even", f"It makes no difference that {gap.n} rows could show: {size}."
    if found.left_out:
        rows = "1 row was" if found.left_out == 1 else f"{found.left_out} rows were"
        sentence += f" {rows} left out, having no score both ways."
    return HelpVerdict(outcome, sentence, _cost(found), _reading(found))


def help_plan(task: Helps, store: Store, root: Path) -> Plan:
    """What the check takes at most; raises what `check` raises, and InputError for rows or examples that are missing.

    Examples are counted as if they were chosen at random: those nearest to each question may be longer or shorter.
    """
    task.check(store)
    items = open_items(store, root, task.evaluation, task.rows, task.seed)
    whole = Plan(0, 0, 0)
    for way, technique in task.sides(store):
        shown: list[Mapping[str, str]] = []
        if way.template.shots:
            pool = example_pool(store, root, task.examples, way.template.shots)
            picked = selector("random").choose(pool, items[0].query, way.template.shots, task.seed)
            shown = [example.fields for example in picked.examples]
        conversations = [way.messages(item.row, shown) for item in items]
        whole += Plan.of(conversations, technique, way.template.with_room(task.sampling))
    return whole


def _is_scored(*both: Tried) -> bool:
    return all(tried.score is not None for tried in both)


def _scores(tried: Sequence[Tried]) -> list[float]:
    return [t.score for t in tried if t.score is not None]


def _side(tried: Sequence[Tried]) -> dict[str, Any]:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(tried)

    return asdict(
        Side(
            score=mean_interval(_scores(tried)),
            parsed=mean([t.is_parsed for t in tried]),
            strict=mean([t.is_strict for t in tried]),
            cut=mean([t.was_cut for t in tried]),
            calls=mean([t.calls for t in tried]),
            prompt_tokens=mean([t.prompt_tokens for t in tried]),
            output_tokens=mean([t.output_tokens for t in tried]),
            seconds=mean([t.seconds for t in tried]),
        )
    )


def _cost(found: Help) -> str:
    plain, tried = found.plain, found.tried
    calls = (
        "one call each" if plain.calls == tried.calls == 1 else f"{tried.calls:.3g} calls instead of {plain.calls:.3g}"
    )
    times = f" ({tried.tokens / plain.tokens:.1f} times as many)" if plain.tokens else ""
    return f"A row takes {tried.tokens:.0f} tokens instead of {plain.tokens:.0f}{times}, {calls}."


def _reading(found: Help) -> str:
    plain, tried = found.plain, found.tried
    return (
        f"An answer was found in {tried.parsed:.0%} of the rows (plain {plain.parsed:.0%}), the format was kept in "
        f"{tried.strict:.0%} ({plain.strict:.0%}), and {tried.cut:.0%} ran out of tokens ({plain.cut:.0%})."
    )
