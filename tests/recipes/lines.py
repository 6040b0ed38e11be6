"""Batches, reward models and PPO runs put into stores by tests, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.preferences import freeze_judgements, freeze_prompts, rule_annotator
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Store
from studio.store.models import model_row
from studio.tasks import Recipe, Task
from tests.preferences.items import judge, new_item, put

TUNED = "run:900"  # a tuned model that nobody trained
EMBEDDED = "embedded:smollm2-135m-instruct"
DIGEST = "digest-of-the-base"


def add_tuned(store: Store, ref: str = TUNED, digest: str = DIGEST) -> None:
    row = model_row(
        ref, "tuned", author="ann", base=EMBEDDED, method="lora", base_digest=digest, new_parameters=4_900_000
    )
    store.add_model(row)


def add_batch(store: Store, name: str = "gear", items: int = 60, people: int = 0, rule: int = 0) -> None:
    """Items with three answers of the tuned model; so many judged by a person, and by the stated rule."""
    put(store, [new_item(n) for n in range(items)], name, model=ModelRef(TUNED))
    for count, who in ((people, store.annotator("ann")), (rule, rule_annotator(store))):
        for item in store.lease_items(name, who, count, seconds=60) if count else ():
            judge(store, item, who)


def add_prompts(store: Store, root: Path) -> SnapshotRef:
    rows = [{"instruction": f"How heavy is tent {n}?"} for n in range(40)]
    return freeze_prompts(store, root, "gear", rows, author="ann").ref


def report(accuracy: float = 0.79, longer: float = 0.56, **more: Any) -> dict[str, Any]:
    def around(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 48}

    return {
        "pairs": 48,
        "prompts": 16,
        "accuracy": around(accuracy),
        "longer_wins": around(longer),
        "length_matched": {"value": 0.75, "n": 12},
        "margin_mean": 1.1,
        "ece": 0.07,
        "brier": 0.17,
        **more,
    }


def reward_run(store: Store, root: Path, state: str = "done", *, batch: str = "gear", **result: Any) -> Job:
    """A reward model of the batch: queued, or on its way, or ended, as `state` says."""
    data = freeze_judgements(store, root, batch, author="ann").ref
    found = {"report": report(), "judgements": store.snapshot(data).rows, "simulated": 0, "epoch": 2, **result}
    return run_of(store, Reward(data=data, base=ModelRef(TUNED)), state, scores=True, answers=False, **found)


def ppo_run(store: Store, reward: Job, prompts: SnapshotRef, state: str = "done", **result: Any) -> Job:
    found = {
        "reward": f"run:{reward.id}",
        "iterations": 30,
        "episodes": 480,
        "before": {"iteration": 0, "score": -0.12, "kl": 0.0},
        "best": {"iteration": 20, "score": 0.94, "kl": 5.3},
        "halted": "",
        "skipped": 0,
        **result,
    }
    task = Ppo(base=ModelRef(TUNED), reward=ModelRef.of_run(reward.id), prompts=prompts)
    return run_of(store, task, state, **found)


def run_of(store: Store, task: Recipe, state: str, **result: Any) -> Job:
    """A run that is two fifths through, or over."""
    job = store.queue_job(task, author="ann")
    if state == "queued":
        return job
    begin(store, job)
    store.log_metrics(job.id, 1, 40, 100, {})
    if state == "running":
        return store.job(job.id)
    if state != "done":
        return store.finish_job(job.id, 1, state, error="It broke." if state == "failed" else "")  # type: ignore[arg-type]
    made = {
        "method": task.kind,
        "base": str(task.base),
        "base_digest": DIGEST,
        "new_parameters": 4_900_000,
        "train_seconds": 240.0,
        **result,
    }
    names = ("method", "base", "base_digest", "new_parameters", "train_seconds", "answers", "scores")
    row = model_row(
        f"run:{job.id}",
        task.title,
        author="ann",
        snapshot=str(task.model_dump().get("data", "")),
        **{name: made[name] for name in names if name in made},
    )
    return store.finish_job(job.id, 1, "done", result=made, model=row)


def begin(store: Store, job: Job) -> None:
    """As a supervisor of another machine would: one lane of one machine has one run at a time."""
    store.claim_job(job.lane, f"host-{job.id}", only=job.id)
    store.start_job(job.id, 1, 1)


def start(store: Store, task: Task) -> Job:
    job = store.queue_job(task, author="ann")
    begin(store, job)
    return store.job(job.id)
