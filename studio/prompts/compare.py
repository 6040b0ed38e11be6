"""The comparison of the rungs: the best prompt for the base (L1), the tuned model (L2) and the aligned one (L3), on one
frozen set.

The prompt is chosen on a development set; the frozen set then sees each rung once. A reward model may score every
rung's answers, and where it learned from simulated judgements, so does the rule that gave them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.errors import InputError, NotFound, RunError
from studio.evaluation import EvaluationItem, Interval, paired_difference, real_difference, real_mean, wilson
from studio.models.lineage import lineage
from studio.preferences import rule_annotator
from studio.prompts.examples import choose_examples
from studio.prompts.measure import Contender, Stopped, measure, score_by_model, score_by_rule
from studio.prompts.templates import extract, template
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Evaluation, ScoredItem, Store
from studio.tasks import Lane, Run, Task

__all__ = ["AnswerPair", "Compare", "Comparison", "RungRow", "comparison", "examples_of"]


class Compare(Task):
    """Choose the best prompt for the base on the development set, then measure every rung on the frozen set."""

    kind: ClassVar[str] = "compare"
    lane: ClassVar[Lane] = "light"

    base: ModelRef = Field(title="Base model", description="Before tuning; it gets the best prompt (L1).")
    tuned: ModelRef = Field(title="Tuned model", description="After tuning (L2); it gets the plain question.")
    evaluation: SnapshotRef = Field(title="Evaluation set", description="Frozen; each rung answers it once.")
    development: SnapshotRef = Field(title="Development set", description="Where the best prompt is chosen.")
    examples: SnapshotRef = Field(title="Examples", description="Snapshot that few-shot prompts take examples from.")
    guidelines: str = Field("", title="Guidelines", description="How answers should be; the base's prompts say it.")
    templates: tuple[str, ...] = Field(
        ("plain", "zero-shot", "few-shot", "chain-of-thought"),
        title="Prompts to try",
        min_length=1,
        description="Each is tried on the development set; the best goes on. One alone is taken as it is.",
    )
    max_tokens: int = Field(110, ge=8, le=1024, title="Max tokens", description="Longest answer, in tokens.")
    seed: int = Field(0, ge=0, title="Seed", description="Decides which examples few-shot prompts show.")
    aligned: ModelRef | None = Field(
        None, title="Aligned model", description="After alignment (L3); it gets the plain question."
    )
    reward: ModelRef | None = Field(None, title="Reward model", description="Scores every rung's answers.")

    @field_validator("aligned", "reward", mode="before")
    @classmethod
    def _nothing_chosen(cls, value: Any) -> Any:
        return None if value == "" else value  # what a list or a flag says when nothing is chosen

    @property
    def title(self) -> str:
        and_aligned = f" and {self.aligned}" if self.aligned else ""
        return f"Compare {self.base} with {self.tuned}{and_aligned} on {self.evaluation}"

    @property
    def rungs(self) -> dict[str, ModelRef]:
        """Who answers the frozen set, lowest rung first."""
        found = {"L1": self.base, "L2": self.tuned}
        return found | {"L3": self.aligned} if self.aligned else found

    @property
    def tried(self) -> tuple[str, ...]:
        """The prompts that the development set is asked with; a single one needs no choosing."""
        return self.templates if len(self.templates) > 1 else ()

    def check(self, store: Store) -> None:
        self._check_models(store)
        for ref, kind in ((self.evaluation, "eval"), (self.development, "eval"), (self.examples, "data")):
            if ref.kind != kind:
                raise InputError(f"{ref} is not a snapshot of kind '{kind}'. Choose one like {kind}:brackenfold@1.")
            if store.snapshot(ref).rows < 2 and kind == "eval":
                raise InputError(f"{ref} has a single item, so nothing can be compared on it. Choose a larger set.")
        if self.evaluation == self.development:
            raise InputError(
                f"{self.evaluation} cannot choose the prompt and judge it too. Choose another development set."
            )
        shots = max(template(name).shots for name in self.templates)
        if (rows := store.snapshot(self.examples).rows) < shots:
            raise InputError(f"A prompt shows {shots} examples, but {self.examples} has {rows} rows. Add more.")

    def _check_models(self, store: Store) -> None:
        if self.base == self.tuned:
            raise InputError(f"Base and tuned model are both {self.base}. Choose two different models.")
        if self.aligned in (self.base, self.tuned):
            other = "Base" if self.aligned == self.base else "Tuned"
            raise InputError(f"{other} and aligned model are both {self.aligned}. Choose another aligned model.")
        for model in self.rungs.values():
            if model.kind == "run" and not store.model(model).answers:
                raise InputError(f"{model} scores answers and gives none. Choose a model that answers.")
        if self.reward and not (self.reward.kind == "run" and store.model(self.reward).scores):
            raise InputError(
                f"{self.reward} is not a reward model. Train one under Alignment and choose its run, or leave it out."
            )

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        sampling = Sampling(max_tokens=self.max_tokens)
        rows = run.snapshot(self.examples)
        for name in self.templates:
            choose_examples(rows, template(name).shots, self.seed)  # raises now rather than after the first prompts
        development, frozen = run.store.snapshot(self.development), run.store.snapshot(self.evaluation)
        looks = len(self.rungs) * (2 if self.reward else 1)  # each rung answers, and may be scored
        total, done = len(self.tried) * development.rows + looks * frozen.rows, 0

        def contender(model: ModelRef, name: str, rung: str) -> Contender:
            return Contender(model, template(name), rung, self.guidelines, self.examples, rows, self.seed)

        try:
            tried: list[Evaluation] = []
            for name in self.tried:
                run.say(f"Trying the prompt '{template(name).title}' on {development.rows} development items.")
                tried.append(
                    await measure(run, self.development, contender(self.base, name, ""), sampling, done, total)
                )
                done += development.rows
            best = max(tried, key=lambda e: e.score, default=None)
            name = best.template.partition("#")[0] if best else self.templates[0]
            measured: dict[str, Evaluation] = {}
            for rung, model in self.rungs.items():
                way = name if rung == "L1" else "plain"
                who = f"the base with '{template(way).title}'" if rung == "L1" else f"{model} with the plain question"
                run.say(f"{rung}: {who} on {frozen.rows} frozen items.")
                asked = contender(model, way, rung)
                measured[rung] = await measure(run, self.evaluation, asked, sampling, done, total)
                done += frozen.rows
            rule = await self._score(run, list(measured.values()), done, total)
            run.log(total, total)
        except Stopped:
            return {}
        return {
            "development": {e.template.partition("#")[0]: e.id for e in tried},
            "template": name,
            "selection_seconds": sum(e.seconds for e in tried),
            "rungs": {rung: e.id for rung, e in measured.items()},
            "reward": self.reward or "",
            "rule": rule,
        }

    async def _score(self, run: Run, measured: Sequence[Evaluation], done: int, total: int) -> str:
        """Have the reward model score all answers; the name of the rule that scored them too, or ''."""
        if self.reward is None:
            return ""
        run.say(f"{self.reward} scores the answers of {len(measured)} rungs.")
        for e in measured:
            await score_by_model(run, e, self.reward, done, total)
            done += e.items
        if not _is_simulated(run.store, self.reward):
            return ""
        rule = rule_annotator(run.store).name
        for e in measured:
            score_by_rule(run, e, rule)
        return rule


@dataclass(frozen=True)
class RungRow:
    """One line of the comparison. All differences are paired: `difference` with the lowest rung, every `step` with the
    row above. `reward` and `rule` lie anywhere; `kl` is in nats per answer, from the model it began as.
    """

    rung: str
    model: str
    prompt: str
    items: int
    score: Interval
    all_rules: Interval
    difference: Interval | None
    build_seconds: float
    new_parameters: int
    prompt_tokens: float
    output_tokens: float
    seconds_per_call: float
    step: Interval | None = None
    reward: Interval | None = None
    reward_step: Interval | None = None
    rule: Interval | None = None
    rule_step: Interval | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What a finished Compare job found. `reward` names the model that scored; `rule` is the rule of simulated
    judgements in words; `simulated` says that a rung or the reward model learned from such judgements.
    """

    job_id: int
    snapshot: str
    rows: tuple[RungRow, ...]
    tried: tuple[Evaluation, ...]
    reward: str = ""
    rule: str = ""
    simulated: bool = False


def comparison(store: Store, job_id: int) -> Comparison:
    """The table of a finished Compare job. Raises NotFound when it has no result (yet)."""
    job = store.job(job_id)
    result: dict[str, Any] = job.result or {}
    if job.kind != "compare" or not result.get("rungs"):
        raise NotFound(f"Job {job_id} holds no comparison ({job.state}). Wait until it is done, or start one.")
    measured = [_measured(store, key, result) for _, key in sorted(result["rungs"].items())]
    rows = [
        _row(store, m, measured[place - 1] if place else None, measured[0], result) for place, m in enumerate(measured)
    ]
    reward, rule = result.get("reward", ""), result.get("rule", "")
    return Comparison(
        job_id,
        str(job.task["evaluation"]),
        tuple(rows),
        tuple(store.evaluation(key) for key in result.get("development", {}).values()),
        reward=reward,
        rule=store.annotator(rule, kind="rule").note if rule else "",
        simulated=any(_is_simulated(store, ref) for ref in (*(row.model for row in rows), reward) if ref),
    )


@dataclass(frozen=True)
class _Measured:
    """One rung's answers in the order of the set, and what was said of each."""

    evaluation: Evaluation
    scores: list[float]
    kept_all: int
    reward: list[float] | None
    rule: list[float] | None


def _measured(store: Store, evaluation_id: int, result: dict[str, Any]) -> _Measured:
    items, said = store.evaluation_items(evaluation_id), store.scores(evaluation_id)
    return _Measured(
        store.evaluation(evaluation_id),
        [i.score for i in items],
        sum(all(i.kept) for i in items),
        said.get(result.get("reward", "")),
        said.get(result.get("rule", "")),
    )


def _row(store: Store, m: _Measured, above: _Measured | None, lowest: _Measured, result: dict[str, Any]) -> RungRow:
    e = m.evaluation
    built, added = _cost(store, e, result)
    difference = step = None
    if above is not None:
        difference = paired_difference(lowest.scores, m.scores)
        step = difference if above is lowest else paired_difference(above.scores, m.scores)
    return RungRow(
        rung=e.rung,
        model=e.model,
        prompt=e.template.partition("#")[0],
        items=e.items,
        score=Interval(e.score, e.low, e.high, e.items),
        all_rules=wilson(m.kept_all, len(m.scores)),
        difference=difference,
        build_seconds=built,
        new_parameters=added,
        prompt_tokens=e.prompt_tokens,
        output_tokens=e.output_tokens,
        seconds_per_call=e.seconds / e.items,
        step=step,
        reward=real_mean(m.reward) if m.reward else None,
        reward_step=real_difference(above.reward, m.reward) if above and above.reward and m.reward else None,
        rule=real_mean(m.rule) if m.rule else None,
        rule_step=real_difference(above.rule, m.rule) if above and above.rule and m.rule else None,
        kl=_divergence(store, e.model),
    )


def _cost(store: Store, e: Evaluation, result: dict[str, Any]) -> tuple[float, int]:
    """Seconds to build the rung, with all that led to it, and parameters that its own training added."""
    searched = float(result.get("selection_seconds", 0.0)) if e.rung == "L1" else 0.0
    if not e.model.startswith("run:"):
        return searched, 0
    return searched + _training_seconds(store, e.model), store.model(e.model).new_parameters


def _training_seconds(store: Store, ref: str) -> float:
    """The training of a model, of those it began as, and of the reward models that taught them; each run once."""
    counted: dict[str, float] = {}
    waiting = [ref]
    while waiting:
        with suppress(NotFound):  # a reward model that is not in this workspace
            for step in lineage(store, waiting.pop()):
                if step.model.ref in counted:
                    break  # and so is all behind it
                counted[step.model.ref] = step.model.train_seconds
                if taught_by := _report(store, step.model.ref).get("reward"):
                    waiting.append(taught_by)
    return sum(counted.values())


def _report(store: Store, ref: str) -> dict[str, Any]:
    """What the run that made a model said at its end; empty where no run here made it."""
    model = ModelRef(ref)
    if model.kind == "run":
        with suppress(NotFound):
            return store.job(int(model.name)).result or {}
    return {}


def _is_simulated(store: Store, ref: str) -> bool:
    """Whether a model, or the reward model that taught it, learned from judgements that a rule gave."""
    return bool(_report(store, ref).get("simulated"))


def _divergence(store: Store, ref: str) -> float | None:
    found = _report(store, ref)
    return (found.get("best") or {}).get("kl") if found.get("method") == "ppo" else None


@dataclass(frozen=True)
class AnswerPair:
    """One frozen item and what two rungs answered."""

    item: EvaluationItem
    before: ScoredItem
    after: ScoredItem
    before_text: str
    after_text: str

    @property
    def gap(self) -> float:
        return self.after.score - self.before.score


def examples_of(store: Store, rows: list[dict[str, Any]], before_id: int, after_id: int) -> list[AnswerPair]:
    """Both answers to every item, the largest gain first. `rows` is the evaluation snapshot."""
    first, second = store.evaluation(before_id), store.evaluation(after_id)
    if first.snapshot != second.snapshot:
        raise RunError(f"{first.snapshot} and {second.snapshot} cannot be paired. Measure both on one snapshot.")
    ways = [template(e.template.partition("#")[0]) for e in (first, second)]
    pairs = [
        AnswerPair(
            EvaluationItem.model_validate(rows[b.position]),
            b,
            a,
            extract(ways[0], b.output).text,
            extract(ways[1], a.output).text,
        )
        for b, a in zip(store.evaluation_items(before_id), store.evaluation_items(after_id), strict=True)
    ]
    return sorted(pairs, key=lambda p: -p.gap)
