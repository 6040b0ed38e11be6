"""How fragile is this prompt? The same prompt in another order, in other words, with an example less: one number.

The number is the width: the best mean score minus the worst among the ways of writing the same prompt, which are the
orders of its examples (Lu et al. 2022, arXiv 2104.08786: from chance to near state of the art by order alone) and small
rewordings of its instruction. Shuffled labels (Min et al. 2022, arXiv 2202.12837), dropped examples and calibration (Zhao
et al. 2021, arXiv 2102.09690) change what the prompt says; they have lines of their own and are no part of it.

Of many ways one is always best by luck alone: thirty equal ones lie 0.2 apart on 50 rows. So the width has luck taken
out. The variance among the means is what the ways do plus what few rows do, which the scatter within the rows tells (two-
way analysis of variance); the means are drawn together by that share, as constrained empirical Bayes estimates are (Louis
1984). The interval is a bootstrap over rows. On simulated scores with known widths it held the truth in more than 9 of 10
cases. `chance` is how far apart the means may lie by luck in 95 of 100 cases, found by dealing each row's scores out anew
among the ways.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from studio.backends import Backend, Conversation
from studio.errors import InputError, ModelError, NotFound, RunError
from studio.evaluation import Interval, mean_interval, paired_difference
from studio.evaluation.metrics import Metric
from studio.prompts.cache import Remembering
from studio.prompts.measure import Stopped
from studio.prompts.selectors import Query, selector
from studio.prompts.techniques import Technique, calibrated, emptied, label_logprobs, prior, probabilities
from studio.prompts.templates import find_template
from studio.prompts.trials import (
    Desk,
    Item,
    Plan,
    Progress,
    Way,
    check_model,
    check_set,
    example_pool,
    interval_of,
    is_about_the_row,
    metric_for,
    open_items,
    technique_for,
    workspace_of,
)
from studio.prompts.verdict import FEWEST_ITEMS, signed
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Store
from studio.tasks import Lane, Run, Task

__all__ = [
    "REWORDINGS",
    "Change",
    "Fragility",
    "FragilityPlan",
    "FragilityReport",
    "Kind",
    "Line",
    "Width",
    "Written",
    "fragility_of",
    "fragility_plan",
    "fragility_words",
    "orders",
    "relabelled",
    "width",
    "written",
]

Kind = Literal["as written", "order", "wording", "labels", "drop"]
Change = Literal["order", "wording", "labels", "drop"]
_CHANGES: tuple[Change, ...] = ("order", "wording", "labels", "drop")
_SAME: tuple[Kind, ...] = ("as written", "order", "wording")  # ways to write the same prompt

_ORDERS = 24  # all there are of four examples
_SHUFFLES = 5
_RESAMPLES = 1999
_SEED = 20_221_028  # fixed, so that the same scores always give the same numbers

_EQUAL = 1e-15  # means that differ in their last bit are alike

Matrix = npt.NDArray[np.float64]  # [ways, rows]


# -- how else the prompt can be written -----------------------------------------------------------------------------


def _please(text: str) -> str:
    is_word = len(text) > 1 and text[0].isupper() and text[1].islower() and not text.startswith("I ")
    return f"Please {text[0].lower()}{text[1:]}" if is_word else f"Please: {text}"


def _other_ending(text: str) -> str:
    """Without its full stop, or with one."""
    return text.rstrip(".") if text.endswith(".") else f"{text}."


# Written by hand, applied by code: no model has a hand in them, and none says anything new.
REWORDINGS: Mapping[str, Callable[[str], str]] = {
    "please": _please,
    "thank you": lambda text: f"{text} Thank you.",
    "small letters": str.lower,
    "full stop": _other_ending,
    "space at the end": lambda text: f"{text} ",
    "empty line at the end": lambda text: f"{text}\n\n",
    "a heading": lambda text: f"Task: {text}",
    "an introduction": lambda text: f"Here is what to do. {text}",
    "a reminder": lambda text: f"{text}\n\nRead this carefully.",
}


@dataclass(frozen=True)
class Written:
    """One way to write the prompt, and what was changed."""

    kind: Kind
    name: str
    way: Way


def orders(k: int, most: int = _ORDERS, seed: int = 0) -> list[tuple[int, ...]]:
    """Places 0 to k - 1 in different orders, as written first: all of them, or a seeded draw of `most`."""
    as_written = tuple(range(k))
    if k <= 8 and math.factorial(k) <= most:
        return list(itertools.permutations(as_written))
    drawn, chance = {as_written: None}, random.Random(seed)
    while len(drawn) < most:
        drawn[tuple(chance.sample(as_written, k))] = None
    return list(drawn)


def relabelled(
    examples: Sequence[Mapping[str, str]], times: int = _SHUFFLES, seed: int = 0
) -> list[tuple[Mapping[str, str], ...]]:
    """The same questions with the same answers dealt out among them anew, at most `times` ways that all differ.

    Empty where all answers are alike.
    """
    answers = [(example["response"], example.get("reasoning", "")) for example in examples]
    seen, chance = [answers], random.Random(seed)
    for _ in range(20 * times):  # with few answers there may be fewer ways
        dealt = chance.sample(answers, len(answers))
        if dealt not in seen and len(seen) <= times:
            seen.append(dealt)
    return [
        tuple({**e, "response": said, "reasoning": why} for e, (said, why) in zip(examples, dealt, strict=True))
        for dealt in seen[1:]
    ]


def written(way: Way, changes: Sequence[Change], row: Mapping[str, Any], seed: int = 0) -> list[Written]:
    """Every way to write the prompt, as it is first. What leaves the prompt for `row` as it was is left out."""
    found = [Written("as written", "as written", way), *_changed(way, changes, seed)]
    told: dict[tuple[Kind, str], Written] = {}
    base = str(way.messages(row))
    for one in found:
        prompt = str(one.way.messages(row))
        if one.kind == "as written" or prompt != base:
            told.setdefault(("order" if one.kind == "as written" else one.kind, prompt), one)
    return list(told.values())


def _changed(way: Way, changes: Sequence[Change], seed: int) -> Iterator[Written]:
    shown = way.examples
    if "order" in changes:
        for order in orders(len(shown), seed=seed):
            name = " ".join(str(place + 1) for place in order)
            yield Written("order", name, replace(way, examples=tuple(shown[place] for place in order)))
    if "wording" in changes:
        for name, reword in REWORDINGS.items():
            yield Written("wording", name, replace(way, reword=reword))
    if "labels" in changes:
        for number, dealt in enumerate(relabelled(shown, seed=seed), 1):
            yield Written("labels", f"shuffle {number}", replace(way, examples=dealt))
    if "drop" in changes:
        for place, example in enumerate(shown):
            left = (*shown[:place], *shown[place + 1 :])
            yield Written("drop", f"without {_short(example['instruction'])}", replace(way, examples=left))


# -- the number -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Width:
    """How far apart the ways of writing are, luck taken out, with its interval over rows; `worst` and `best` are the means
    as they were seen. `chance` is how far apart luck alone may put them.
    """

    interval: Interval
    worst: float
    best: float
    chance: float

    @property
    def is_beyond_chance(self) -> bool:
        return self.best - self.worst > self.chance


def width(scores: Sequence[Sequence[float]] | Matrix) -> Width:
    """The width of scores [ways, rows], all of the same rows. Raises InputError below 2 ways or rows."""
    table: Matrix = np.asarray(scores, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise InputError("A width takes 2 ways to write a prompt and 2 rows to ask. Show examples, or ask more rows.")
    rows = table.shape[1]
    draws = np.random.default_rng(_SEED)
    # A resample is a weight for every row, so that its means [ways, resamples] come out of one product.
    weights = draws.multinomial(rows, np.full(rows, 1 / rows), size=_RESAMPLES) / rows
    low, high = np.quantile(_without_luck(table, weights, 2.0), [0.025, 0.975]).tolist()
    value = float(_without_luck(table, np.full((1, rows), 1 / rows), 1.0)[0])
    # No scatter at all is no certainty: the rule of three bounds what one unseen row could do.
    slack = 3 / rows if high - low < _EQUAL else 0.0
    dealt = [np.ptp(draws.permuted(table, axis=0).mean(1)) for _ in range(_RESAMPLES)]
    means = table.mean(1)
    return Width(
        Interval(value, max(0.0, min(low, value) - slack), min(1.0, max(high, value) + slack), rows),
        float(means.min()),
        float(means.max()),
        float(np.quantile(dealt, 0.95)),
    )


def _without_luck(table: Matrix, weights: Matrix, times: float) -> Matrix:
    """The widths under each row of `weights` [resamples, rows]. Resampled means hold the luck of few rows twice: once
    from the rows there are, and once from drawing among them."""
    ways, rows = table.shape
    means = table @ weights.T  # [ways, resamples]
    centred = table - table.mean(0)  # without what makes a row hard for all ways
    scatter = ((centred**2) @ weights.T - (centred @ weights.T) ** 2).sum(0) / (ways - 1) / (rows - 1)
    spread = means.var(0, ddof=1)
    kept = np.divide(times * scatter, spread, out=np.ones_like(spread), where=spread > _EQUAL)
    found: Matrix = np.ptp(means, axis=0) * np.sqrt(np.clip(1 - kept, 0, 1))
    return found


# -- the job --------------------------------------------------------------------------------------------------------


class Fragility(Task):
    """Ask the rows of an open set with the prompt written in many ways, and say how far the score moves."""

    kind: ClassVar[str] = "fragility"
    lane: ClassVar[Lane] = "light"

    model: ModelRef = Field(title="Model", description="Answers every time.")
    template: str = Field(title="Prompt", description="The template, such as few-shot or support-reply@3.")
    technique: str = Field("", title="Technique", description="Empty for the one the template was written for.")
    settings: dict[str, Any] = Field(
        {}, title="Settings of the technique", description="By name, such as votes; empty for those it comes with."
    )
    evaluation: SnapshotRef = Field(title="Open set", description="Where it is tried, never the frozen set.")
    metric: str = Field("", title="Metric", description="Empty for the set's rules, or exact match with the response.")
    labels: tuple[str, ...] = Field(
        (),
        title="Labels",
        description="The answers to choose from. The likeliest is read off without writing, which is fast.",
    )
    guidelines: str = Field("", title="Guidelines", description="How answers should be, for prompts that say it.")
    examples: str = Field("", title="Examples", description="A bank, or a snapshot like data:brackenfold@1.")
    selector: Literal["random", "fixed"] = Field(
        "random", title="Selector", description="Every row gets the same examples, so that their order is one thing."
    )
    changes: tuple[Change, ...] = Field(_CHANGES, min_length=1, title="Changes", description="What is changed.")
    rows: int = Field(50, ge=0, title="Rows", description="How many to ask; 0 for all.")
    max_tokens: int = Field(
        110, ge=1, le=4096, title="Max tokens", description="Longest answer, without its reasoning."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Decides rows, examples and what is drawn.")

    @field_validator("labels")
    @classmethod
    def _can_be_told_apart(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        plain = tuple(" ".join(label.split()) for label in labels)
        if plain and (len({label.casefold() for label in plain}) < max(2, len(plain)) or "" in plain):
            raise ValueError("need two or more labels that differ by more than capitals, none of them empty")
        return plain

    @property
    def title(self) -> str:
        return f"How fragile is {self.template} for {self.model} on {self.evaluation}"

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.max_tokens, seed=self.seed)

    def check(self, store: Store) -> None:
        check_set(store, self.evaluation)
        check_model(store, self.model)
        metric_for(self.metric, self.evaluation)
        chosen = find_template(store, self.template)
        if chosen.shots and not self.examples:
            raise InputError(f"'{chosen.title}' shows {chosen.shots} examples. Choose a bank or a snapshot.")
        if not chosen.shots and "wording" not in self.changes:
            raise InputError(f"'{chosen.title}' shows no examples, so only its wording can change. Add that change.")
        asked = self.asking(store)
        if self.labels and asked.name not in ("direct", "label"):
            raise InputError(
                f"Labels are read off without writing, and {asked.title.lower()} writes first. "
                "Leave the labels out, or choose a prompt that answers directly."
            )

    def way(self, store: Store, root: Path) -> Way:
        """The prompt as it is written, with the examples that every row gets."""
        chosen = find_template(store, self.template)
        shown: tuple[Mapping[str, str], ...] = ()
        if chosen.shots:
            pool = example_pool(store, root, self.examples, chosen.shots)
            picked = selector(self.selector).choose(pool, Query(""), chosen.shots, self.seed)
            shown = tuple(example.fields for example in picked.examples)
        return Way(chosen, self.guidelines, shown)

    def do(self, run: Run) -> dict[str, Any]:
        try:
            return asyncio.run(self._do(run))
        except Stopped:
            return {}

    async def _do(self, run: Run) -> dict[str, Any]:
        root = workspace_of(run)
        items = open_items(run.store, root, self.evaluation, self.rows, self.seed)
        ways = written(self.way(run.store, root), self.changes, items[0].row, self.seed)
        backend = Remembering(run.backend(self.model), run.store)
        try:
            scores = await (self._read_off if self.labels else self._ask)(run, backend, ways, items)
        finally:
            await backend.close()
        every = [*scores.plain, *scores.calibrated]
        kept = [place for place in range(len(items)) if all(row[place] is not None for row in every)]
        if len(kept) < 2:
            raise RunError(
                f"Only {len(kept)} of {len(items)} rows have a score in every way. Choose another metric or more rows."
            )
        tables = [
            np.array([[row[place] for place in kept] for row in part], dtype=float)
            for part in (scores.plain, scores.calibrated)
        ]
        return _result(ways, *tables) | {"left_out": len(items) - len(kept)}

    def asking(self, store: Store) -> Technique:
        """The technique that answers are written with, or that puts the question whose labels are read off."""
        settings = self.settings
        if self.technique == "label" and self.labels:
            settings = {"labels": self.labels, **settings}
        return technique_for(find_template(store, self.template), self.technique, settings)

    async def _ask(self, run: Run, backend: Backend, ways: Sequence[Written], items: Sequence[Item]) -> _Scores:
        """Scores of written answers; none are calibrated."""
        desk = Desk(
            run,
            backend,
            self.asking(run.store),
            find_template(run.store, self.template).with_room(self.sampling),
            metric_for(self.metric, self.evaluation),
            Progress(run, len(ways) * len(items)),
        )
        scores = _Scores()
        for number, one in enumerate(ways, 1):
            run.say(_saying(number, len(ways), one))
            tried = await desk.tried([one.way.messages(item.row) for item in items], items)
            scores.plain.append([t.score for t in tried])
        return scores

    async def _read_off(self, run: Run, backend: Backend, ways: Sequence[Written], items: Sequence[Item]) -> _Scores:
        """Scores of the likeliest labels; over the orders, of the likeliest after calibration too."""
        metric, asking = metric_for(self.metric, self.evaluation), self.asking(run.store)
        desk = _LabelDesk(run, backend, self.labels, metric, Progress(run, len(ways) * len(items)))
        scores = _Scores()
        for number, one in enumerate(ways, 1):
            run.say(_saying(number, len(ways), one))
            asked = [asking.prepare(one.way.messages(item.row)) for item in items]
            shares = [await desk.shares(messages, counts=True) for messages in asked]
            scores.plain.append([desk.score(found, item) for found, item in zip(shares, items, strict=True)])
            if one.kind in ("as written", "order") and (empties := _empties(asked, items)):
                told = [await desk.shares(messages) for messages in empties]
                bias = prior([found for found in told if found is not None])
                even = [None if found is None else calibrated(found, bias) for found in shares]
                scores.calibrated.append([desk.score(found, item) for found, item in zip(even, items, strict=True)])
        return scores


@dataclass(frozen=True)
class _Scores:
    """By way and row; `calibrated` only over the orders, and only where all rows share what an empty input looks like."""

    plain: list[list[float | None]] = field(default_factory=list)
    calibrated: list[list[float | None]] = field(default_factory=list)


@dataclass(frozen=True)
class _LabelDesk:
    """Where labels are read off and judged."""

    run: Run
    backend: Backend
    labels: tuple[str, ...]
    metric: Metric
    progress: Progress

    async def shares(self, messages: Conversation, *, counts: bool = False) -> list[float] | None:
        """The share of each label (they add up to 1), or None for a prompt that is too long. Raises Stopped."""
        if self.run.stop_requested():
            raise Stopped(f"Stopped after {self.progress.done} of {self.progress.total} answers.")
        try:
            return probabilities(await label_logprobs(self.backend, messages, self.labels))
        except ModelError as error:
            if not is_about_the_row(error):
                raise
            return None
        finally:
            if counts:
                self.progress.add(1)

    def score(self, shares: Sequence[float] | None, item: Item) -> float | None:
        if shares is None:
            return None
        return self.metric.score(self.labels[shares.index(max(shares))], item.reference, item.row)


def _empties(asked: Sequence[Conversation], items: Sequence[Item]) -> list[list[Any]]:
    """The prompt about inputs without content; none where each row has an instruction of its own beside its context."""
    found = []
    for messages, item in zip(asked, items, strict=True):
        query = item.query.context.strip() or item.query.instruction.strip()
        try:
            found.append(emptied(messages, query))
        except InputError:  # the template shows it in another form, so it cannot be taken out
            return []
    return found[0] if all(empty == found[0] for empty in found) else []


# -- what came of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One way to write the prompt: its mean score, and its paired difference to the prompt as written (None for that)."""

    kind: Kind
    name: str
    score: Interval
    difference: Interval | None


@dataclass(frozen=True)
class FragilityReport:
    """What a finished job found. `width` is None where the prompt could be written in one way only.

    `labels` is shuffled minus as written. `calibration` is calibrated minus not, over the orders, and `calibrated` the
    width over the orders after it, `ordered` before; None without labels, or where each row has its own instruction.
    """

    job_id: int
    lines: tuple[Line, ...]
    width: Width | None
    labels: Interval | None
    calibration: Interval | None
    ordered: Width | None
    calibrated: Width | None
    left_out: int

    def of(self, kind: Kind) -> tuple[Line, ...]:
        """The lines of one kind, best first."""
        return tuple(sorted((line for line in self.lines if line.kind == kind), key=lambda line: -line.score.value))


def fragility_of(store: Store, job_id: int) -> FragilityReport:
    """What a job found. Raises NotFound when it has no result (yet)."""
    job = store.job(job_id)
    found: Mapping[str, Any] = job.result or {}
    if job.kind != Fragility.kind or "lines" not in found:
        raise NotFound(f"Job {job_id} has no fragility report ({job.state}). Wait until it is done, or start one.")
    lines = tuple(
        Line(line["kind"], line["name"], interval_of(line["score"]), _interval(line["difference"]))
        for line in found["lines"]
    )
    return FragilityReport(
        job_id,
        lines,
        _width(found["width"]),
        _interval(found["labels"]),
        _interval(found["calibration"]),
        _width(found["ordered"]),
        _width(found["calibrated"]),
        found["left_out"],
    )


def fragility_words(found: FragilityReport) -> list[str]:
    """The report in sentences, the number first. Nothing is decided below 50 rows."""
    said = [_of_width(found)]
    if found.labels is not None:
        if found.labels.excludes_zero:
            what = "so it reads them, not only their form"
        else:
            what = "so what the answers say does not show; their form, range and style may be all that it takes in"
        said.append(f"With the answers of its examples shuffled the score changes by {_sized(found.labels)}, {what}.")
    if drops := found.of("drop"):
        most = max(drops, key=lambda line: abs(line.difference.value if line.difference else 0.0))
        if most.difference is not None:
            said.append(f"The example that counts most: {most.name} the score changes by {_sized(most.difference)}.")
    if found.calibration is not None and found.ordered is not None and found.calibrated is not None:
        said.append(
            f"Calibrated, the score over the orders changes by {_sized(found.calibration)}, and its width from "
            f"{found.ordered.interval.value:.2f} to {found.calibrated.interval.value:.2f}."
        )
    if found.left_out:
        rows = "1 row was" if found.left_out == 1 else f"{found.left_out} rows were"
        said.append(f"{rows} left out, having no score in every way.")
    return said


def _of_width(found: FragilityReport) -> str:
    if found.width is None:
        return "There is one way only to write this prompt, so it has no width."
    interval = found.width.interval
    size = f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    ways = sum(line.kind in _SAME for line in found.lines)
    ends = f"{ways} ways to write it score between {found.width.worst:.2f} and {found.width.best:.2f}"
    if interval.n < FEWEST_ITEMS:
        return f"Too few rows to tell: {interval.n}, and it takes {FEWEST_ITEMS}. {ends}; luck taken out, the width is {size}."
    if not found.width.is_beyond_chance:
        return f"It holds on {interval.n} rows: {ends}, and luck alone may put them {found.width.chance:.2f} apart."
    return f"It is fragile: {ends} on {interval.n} rows. Luck taken out, that is a width of {size}."


@dataclass(frozen=True)
class FragilityPlan:
    """How many ways of each kind there are, and what they take."""

    ways: Mapping[Kind, int]
    rows: int
    plan: Plan


def fragility_plan(task: Fragility, store: Store, root: Path) -> FragilityPlan:
    """What the report takes at most; raises what `check` raises, and InputError for rows or examples that are missing."""
    task.check(store)
    items = open_items(store, root, task.evaluation, task.rows, task.seed)
    ways = written(task.way(store, root), task.changes, items[0].row, task.seed)
    asked, sampling = task.asking(store), find_template(store, task.template).with_room(task.sampling)
    plan = Plan(0, 0, 0)
    for one in ways:
        conversations = [one.way.messages(item.row) for item in items]
        if task.labels:
            is_calibrated = one.kind in ("as written", "order")
            prepared = [asked.prepare(messages) for messages in conversations]
            empties = _empties(prepared, items) if is_calibrated else []
            plan += Plan.of_labels([*prepared, *empties], task.labels)
        else:
            plan += Plan.of(conversations, asked, sampling)
    kinds = [one.kind for one in ways]
    return FragilityPlan({kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}, len(items), plan)


def _result(ways: Sequence[Written], scores: Matrix, corrected: Matrix) -> dict[str, Any]:
    kinds = np.array([one.kind for one in ways])
    same, ordered = scores[np.isin(kinds, _SAME)], scores[np.isin(kinds, ("as written", "order"))]
    shuffled = scores[kinds == "labels"]
    lines = [
        {
            "kind": one.kind,
            "name": one.name,
            "score": asdict(mean_interval(row.tolist())),
            "difference": asdict(paired_difference(scores[0].tolist(), row.tolist())) if place else None,
        }
        for place, (one, row) in enumerate(zip(ways, scores, strict=True))
    ]
    return {
        "lines": lines,
        "width": asdict(width(same)) if len(same) > 1 else None,
        "labels": _gap(scores[:1], shuffled) if len(shuffled) else None,
        "ordered": asdict(width(ordered)) if len(ordered) > 1 else None,
        "calibrated": asdict(width(corrected)) if len(corrected) > 1 else None,
        "calibration": _gap(ordered, corrected) if len(corrected) else None,
    }


def _gap(before: Matrix, after: Matrix) -> dict[str, Any]:
    """The paired difference of two groups of ways, each row with its mean over the group."""
    return asdict(paired_difference(before.mean(0).tolist(), after.mean(0).tolist()))


def _interval(fields: Mapping[str, Any] | None) -> Interval | None:
    return interval_of(fields) if fields is not None else None


def _width(fields: Mapping[str, Any] | None) -> Width | None:
    return Width(**{**fields, "interval": interval_of(fields["interval"])}) if fields is not None else None


def _saying(number: int, of: int, one: Written) -> str:
    return f"Way {number} of {of}: {one.name if one.kind in ('as written', 'drop') else f'{one.kind}, {one.name}'}."


def _sized(gap: Interval) -> str:
    return f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}]"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:40]}…”" if len(line) > 41 else f"“{line}”"
