"""Measuring one model with one way of prompting on one frozen set; every answer is kept with its verdict, and with the
score of a reward model or of a stated rule when one is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.errors import RunError
from studio.evaluation import EvaluationItem, judge, mean_interval
from studio.instructions import question
from studio.preferences import points
from studio.prompts.examples import choose_examples
from studio.prompts.templates import Template, extract, render, template
from studio.specs import Completion, ModelRef, Sampling, assistant, user
from studio.store import Evaluation, ScoredItem
from studio.tasks import Run

__all__ = ["Contender", "Stopped", "measure", "score_by_model", "score_by_rule"]

_BATCH = 64
_SCORED_AT_ONCE = 64


class Stopped(RunError):
    """The run was asked to stop between two batches; everything finished so far is kept."""


@dataclass(frozen=True)
class Contender:
    """A model and its prompt. `examples` holds the rows few-shot templates choose from."""

    model: ModelRef
    template: Template
    rung: str = ""
    guidelines: str = ""
    examples_ref: str = ""
    examples: Sequence[Mapping[str, Any]] = ()
    seed: int = 0

    @property
    def prompt_name(self) -> str:
        """The template and a digest of all that shapes the prompt, so that an edited prompt is measured anew."""
        shown = self.examples_ref if self.template.shots else ""
        told = self.guidelines if "guidelines" in self.template.variables else ""
        return f"{self.template.name}#{self.template.digest(told, shown, self.seed)}"


def find(run: Run, snapshot: str, contender: Contender, sampling: Sampling) -> Evaluation | None:
    """The same measurement, if it was made before: a frozen set is touched once."""
    for e in run.store.evaluations(snapshot):
        # Read back first: a measurement of before may lack a setting that came later.
        same = (e.model, e.template, Sampling(**e.sampling)) == (contender.model, contender.prompt_name, sampling)
        if same and e.rung == contender.rung:
            return e
    return None


async def measure(
    run: Run, snapshot: str, contender: Contender, sampling: Sampling, done_before: int = 0, total: int = 0
) -> Evaluation:
    """Ask every item of the set once, judge the answers, and store them. Raises Stopped between batches."""
    sampling = contender.template.with_room(sampling)
    known = find(run, snapshot, contender, sampling)
    if known is not None:
        return known
    items = [EvaluationItem.model_validate(row) for row in run.snapshot(snapshot)]
    shown = choose_examples(contender.examples, contender.template.shots, contender.seed)
    prompts = [
        render(
            contender.template,
            {"instruction": i.instruction, "context": i.context, "guidelines": contender.guidelines},
            shown,
        )
        for i in items
    ]
    # Batches of like length waste the least padding.
    order = sorted(range(len(items)), key=lambda i: sum(len(m.content) for m in prompts[i]))
    answers: dict[int, Completion] = {}
    backend = run.backend(contender.model)
    started = time.monotonic()
    try:
        for start in range(0, len(order), _BATCH):
            if run.stop_requested():
                raise Stopped(f"Stopped after {len(answers)} of {len(items)} answers.")
            batch = order[start : start + _BATCH]
            found = await backend.complete([prompts[i] for i in batch], sampling)
            answers.update(zip(batch, found, strict=True))
            run.log(done_before + len(answers), total or len(items))
    finally:
        await backend.close()
    seconds = time.monotonic() - started
    scored = [_scored(contender.template, items[i], i, answers[i]) for i in range(len(items))]
    interval = mean_interval([s.score for s in scored])
    row = {
        "job_id": run.id,
        "snapshot": snapshot,
        "model": str(contender.model),
        "template": contender.prompt_name,
        "examples": contender.examples_ref if contender.template.shots else "",
        "sampling": sampling.model_dump(mode="json"),
        "rung": contender.rung,
        "items": len(items),
        "score": interval.value,
        "low": interval.low,
        "high": interval.high,
        "prompt_tokens": sum(s.prompt_tokens for s in scored) / len(scored),
        "output_tokens": sum(s.output_tokens for s in scored) / len(scored),
        "seconds": seconds,
        "author": "",
    }
    return run.store.add_evaluation(row, scored)


async def score_by_model(run: Run, measured: Evaluation, reward: ModelRef, done_before: int, total: int) -> None:
    """Have a reward model score the answers, once and for all. Raises Stopped between calls."""
    if reward in run.store.scores(measured.id):
        return
    asked = [[user(said), assistant(answer)] for said, answer in _answered(run, measured)]
    scores: list[float] = []
    backend = run.backend(reward)
    try:
        for start in range(0, len(asked), _SCORED_AT_ONCE):
            if run.stop_requested():
                raise Stopped(f"Stopped after {len(scores)} of {len(asked)} scores.")
            scores += await backend.score(asked[start : start + _SCORED_AT_ONCE])
            run.log(done_before + len(scores), total)
    finally:
        await backend.close()
    run.store.add_scores(measured.id, reward, scores)


def score_by_rule(run: Run, measured: Evaluation, rule: str) -> None:
    """Keep the stated rule's own points for the answers under its name."""
    if rule in run.store.scores(measured.id):
        return
    run.store.add_scores(measured.id, rule, [points(said, answer) for said, answer in _answered(run, measured)])


def _answered(run: Run, measured: Evaluation) -> list[tuple[str, str]]:
    """Question and answer of every item. All rungs are scored on the plain question, however they were prompted."""
    way = template(measured.template.partition("#")[0])
    rows = run.snapshot(measured.snapshot)
    items = [EvaluationItem.model_validate(row) for row in rows]
    return [
        (question(items[found.position].instruction, items[found.position].context), extract(way, found.output).text)
        for found in run.store.evaluation_items(measured.id)
    ]


def _scored(way: Template, item: EvaluationItem, position: int, answer: Completion) -> ScoredItem:
    kept = judge(item.rules, extract(way, answer.text).text)
    return ScoredItem(
        position=position,
        score=sum(kept) / len(kept),
        kept=kept,
        output=answer.text,
        finish=answer.finish,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
    )
