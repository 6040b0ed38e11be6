"""The comparison of the rungs: the best prompt for the base (L1) against the tuned model (L2), on one frozen set.

The prompt is chosen on a development set; the frozen set then sees each rung once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from studio.errors import InputError, NotFound, RunError
from studio.evaluation import EvaluationItem, Interval, paired_difference, wilson
from studio.prompts.examples import choose_examples
from studio.prompts.measure import Contender, Stopped, measure
from studio.prompts.templates import extract, template
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Evaluation, ScoredItem, Store
from studio.tasks import Lane, Run, Task

__all__ = ["AnswerPair", "Compare", "Comparison", "RungRow", "comparison", "examples_of"]


class Compare(Task):
    """Choose the best prompt for the base on the development set, then measure every rung on the frozen set."""

    kind: ClassVar[str] = "compare"
    lane: ClassVar[Lane] = "light"

    base: ModelRef = Field(title="Base model", description="The model before tuning; it gets the best prompt (L1).")
    tuned: ModelRef = Field(title="Tuned model", description="The model after tuning (L2); it gets the plain question.")
    evaluation: SnapshotRef = Field(title="Evaluation set", description="Frozen; each rung answers it once.")
    development: SnapshotRef = Field(title="Development set", description="Where the best prompt is chosen.")
    examples: SnapshotRef = Field(title="Examples", description="Snapshot that few-shot prompts take examples from.")
    guidelines: str = Field("", title="Guidelines", description="How answers should be; the base's prompts say it.")
    templates: tuple[str, ...] = Field(
        ("plain", "zero-shot", "few-shot", "chain-of-thought"),
        title="Prompts to try",
        min_length=1,
        description="Each is tried on the development set; the best goes on.",
    )
    max_tokens: int = Field(110, ge=8, le=1024, title="Max tokens", description="Longest answer, in tokens.")
    seed: int = Field(0, ge=0, title="Seed", description="Decides which examples few-shot prompts show.")

    @property
    def title(self) -> str:
        return f"Compare {self.base} with {self.tuned} on {self.evaluation}"

    def check(self, store: Store) -> None:
        if self.base == self.tuned:
            raise InputError(f"Base and tuned model are both {self.base}. Choose two different models.")
        for ref, kind in ((self.evaluation, "eval"), (self.development, "eval"), (self.examples, "data")):
            if ref.kind != kind:
                raise InputError(f"{ref} is not a snapshot of kind '{kind}'. Choose one like {kind}:brackenfold@1.")
            if store.snapshot(ref).rows < 2 and kind == "eval":
                raise InputError(f"{ref} has a single item, so nothing can be compared on it. Choose a larger set.")
        for model in (self.base, self.tuned):
            if model.kind == "run":
                store.model(model)
        if self.evaluation == self.development:
            raise InputError(
                f"{self.evaluation} cannot choose the prompt and judge it too. Choose another development set."
            )
        shots = max(template(name).shots for name in self.templates)
        if (rows := store.snapshot(self.examples).rows) < shots:
            raise InputError(f"A prompt shows {shots} examples, but {self.examples} has {rows} rows. Add more.")

    def do(self, run: Run) -> dict[str, Any]:
        return asyncio.run(self._do(run))

    async def _do(self, run: Run) -> dict[str, Any]:
        sampling = Sampling(max_tokens=self.max_tokens)
        rows = run.snapshot(self.examples)
        for name in self.templates:
            choose_examples(rows, template(name).shots, self.seed)  # raises now rather than after the first prompts
        development, frozen = run.store.snapshot(self.development), run.store.snapshot(self.evaluation)
        total, done = len(self.templates) * development.rows + 2 * frozen.rows, 0

        def contender(model: ModelRef, name: str, rung: str) -> Contender:
            return Contender(model, template(name), rung, self.guidelines, self.examples, rows, self.seed)

        try:
            tried: list[Evaluation] = []
            for name in self.templates:
                run.say(f"Trying the prompt '{template(name).title}' on {development.rows} development items.")
                tried.append(
                    await measure(run, self.development, contender(self.base, name, ""), sampling, done, total)
                )
                done += development.rows
            best = max(tried, key=lambda e: e.score)
            name = best.template.partition("#")[0]
            run.say(f"L1: the base with '{template(name).title}' on {frozen.rows} frozen items.")
            l1 = await measure(run, self.evaluation, contender(self.base, name, "L1"), sampling, done, total)
            done += frozen.rows
            run.say(f"L2: {self.tuned} with the plain question on {frozen.rows} frozen items.")
            l2 = await measure(run, self.evaluation, contender(self.tuned, "plain", "L2"), sampling, done, total)
            run.log(total, total)
        except Stopped:
            return {}
        return {
            "development": {e.template.partition("#")[0]: e.id for e in tried},
            "template": name,
            "selection_seconds": sum(e.seconds for e in tried),
            "rungs": {"L1": l1.id, "L2": l2.id},
        }


@dataclass(frozen=True)
class RungRow:
    """One line of the comparison. `difference` is paired with the row above the first: the lowest rung."""

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


@dataclass(frozen=True)
class Comparison:
    """What a finished Compare job found; `examples` pairs the rungs' answers item by item, widest gap first."""

    job_id: int
    snapshot: str
    rows: tuple[RungRow, ...]
    tried: tuple[Evaluation, ...]


def comparison(store: Store, job_id: int) -> Comparison:
    """The table of a finished Compare job. Raises NotFound when it has no result (yet)."""
    job = store.job(job_id)
    rungs = (job.result or {}).get("rungs")
    if job.kind != "compare" or not rungs:
        raise NotFound(f"Job {job_id} holds no comparison ({job.state}). Wait until it is done, or start one.")
    result: dict[str, Any] = job.result or {}
    lowest: list[float] | None = None
    rows = []
    for rung, evaluation_id in sorted(rungs.items()):
        e = store.evaluation(evaluation_id)
        items = store.evaluation_items(evaluation_id)
        scores = [i.score for i in items]
        built, added = _cost(store, e, result)
        rows.append(
            RungRow(
                rung=rung,
                model=e.model,
                prompt=e.template.partition("#")[0],
                items=e.items,
                score=Interval(e.score, e.low, e.high, e.items),
                all_rules=wilson(sum(all(i.kept) for i in items), len(items)),
                difference=paired_difference(lowest, scores) if lowest is not None else None,
                build_seconds=built,
                new_parameters=added,
                prompt_tokens=e.prompt_tokens,
                output_tokens=e.output_tokens,
                seconds_per_call=e.seconds / e.items,
            )
        )
        lowest = lowest if lowest is not None else scores
    tried = tuple(store.evaluation(i) for i in result.get("development", {}).values())
    return Comparison(job_id, str(job.task["evaluation"]), tuple(rows), tried)


def _cost(store: Store, e: Evaluation, result: dict[str, Any]) -> tuple[float, int]:
    """Seconds to build the rung and parameters it adds: the search for a prompt (L1), the training of a run."""
    seconds = float(result.get("selection_seconds", 0.0)) if e.rung == "L1" else 0.0
    if not e.model.startswith("run:"):
        return seconds, 0
    model = store.model(e.model)
    return seconds + model.train_seconds, model.new_parameters


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
