"""What a run will do, in plain words, before anybody starts it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InputError
from studio.recipes.lora import Lora
from studio.store import Store, read_rows

__all__ = ["Preflight", "preflight"]


@dataclass(frozen=True)
class Preflight:
    """Rows and steps are exact; `seconds` is judged from the newest finished run here, None before there is one."""

    train_rows: int
    validation_rows: int
    test_rows: int
    passes: int
    steps: int
    seconds: float | None

    @property
    def sentence(self) -> str:
        checked = f"{self.validation_rows} records check it on the way" if self.validation_rows else "nothing checks it"
        passes = {1: "once", 2: "twice"}.get(self.passes, f"{self.passes} times")
        how_long = (
            f"About {max(1, round(self.seconds / 60))} min here, judged by the last run."
            if self.seconds is not None
            else "How long it takes is not known yet: the first run measures it, usually 2 to 10 min on two cores."
        )
        return (
            f"It goes through {self.train_rows} records {passes}, in {self.steps} steps; {checked}, "
            f"and {self.test_rows} stay unseen. {how_long}"
        )


def preflight(store: Store, root: Path, task: Lora) -> Preflight:
    """Look at a run before it starts. Raises StudioErrors for what `check` refuses and for data without training rows."""
    task.check(store)
    rows = read_rows(root, store.snapshot(task.data))
    split = [r["split"] for r in rows]
    train = split.count("train")
    if train == 0:
        raise InputError(f"{task.data} has {len(rows)} records and none of them is for training. Add more records.")
    steps = math.ceil(train / task.batch_size) * task.passes
    return Preflight(
        train, split.count("validation"), split.count("test"), task.passes, steps, _seconds(store, task, train)
    )


def _seconds(store: Store, task: Lora, train_rows: int) -> float | None:
    """Seconds per record and pass of the newest finished run, times this run's records and passes."""
    for job in store.jobs(limit=50, states={"done"}):
        if job.kind == Lora.kind and job.result and job.attempt == 1:
            before = Lora.model_validate(job.task)
            rows_before = job.total * before.batch_size
            return float(job.result["train_seconds"]) / rows_before * train_rows * task.passes
    return None
