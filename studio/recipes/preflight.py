"""What a run will do, in plain words, before anybody starts it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.errors import InputError
from studio.recipes.lora import Lora
from studio.store import Snapshot, Store, read_rows
from studio.words import duration

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
            f"About {duration(self.seconds)} here, judged by the last run."
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
    snapshot = store.snapshot(task.data)
    train, validation, test = _splits(root, snapshot)
    if train == 0:
        raise InputError(f"{task.data} has {snapshot.rows} records and none of them is for training. Add more records.")
    steps = math.ceil(train / task.batch_size) * task.passes
    return Preflight(train, validation, test, task.passes, steps, _seconds(store, task, train))


@lru_cache(maxsize=64)
def _splits(root: Path, snapshot: Snapshot) -> tuple[int, int, int]:
    """Training, validation and test rows. A snapshot never changes, and pages ask at every change of a field."""
    splits = [r["split"] for r in read_rows(root, snapshot)]
    return splits.count("train"), splits.count("validation"), splits.count("test")


def _seconds(store: Store, task: Lora, train_rows: int) -> float | None:
    """Seconds per record and pass of the newest finished run, times this run's records and passes."""
    for job in store.jobs(limit=10, states={"done"}, kinds={Lora.kind}):
        if job.result and job.attempt == 1:
            before = Lora.model_validate(job.task)
            rows_before = job.total * before.batch_size
            return float(job.result["train_seconds"]) / rows_before * train_rows * task.passes
    return None
