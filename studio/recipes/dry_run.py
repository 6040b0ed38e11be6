"""Twenty steps of a run that is thrown away: what the run itself will take, measured where it will happen.

The steps are the run's own code on the run's own records, the longest ones among them, so that memory at its peak, the
time of a token, of a look at the validation records and of the sample answers are those of the run. Pre-flights of the
same configuration go by what was found.
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from studio.backends import Backend
from studio.errors import InputError
from studio.instructions import conversation
from studio.models import Weights
from studio.recipes.lengths import Count, Lengths, encoded
from studio.recipes.tuning import Tuning, tuning_methods
from studio.specs import ModelRef, SnapshotRef
from studio.store import Snapshot, Store
from studio.tasks import Lane, Run, Task
from studio.training.sizes import Machine

__all__ = ["DryRun", "Measured", "measured"]

_STEPS = 20
_WARM_UP = 2  # steps that are not timed: libraries choose their kernels in them
_LOOKED_AT = 50  # dry runs back
# What says how often and how fast something is learned, and not what a step takes.
_IDLE_KNOBS = frozenset({"base", "data", "effort", "epochs", "learning_rate", "patience", "seed", "alpha", "use"})


@dataclass(frozen=True)
class Measured:
    """What a dry run found. Seconds are of one look, one round of answers, one save, and the start; `recomputes` says
    that it saved memory, as it was told or because there was little."""

    steps: int
    tokens_per_second: float
    learned_tokens_per_second: float
    peak_bytes: int
    is_gpu: bool
    look_seconds: float
    sampling_seconds: float
    save_seconds: float
    start_seconds: float
    longest: int
    recomputes: bool = False

    def keeping(self, place: Machine) -> int | None:
        """The peak in bytes of a run that keeps its activations there; None where that was not what was measured."""
        return self.peak_bytes if not self.recomputes and self.is_gpu == place.is_gpu else None


class DryRun(Task):
    """Measure a tuning run before it starts: 20 of its steps, of which nothing is kept."""

    kind: ClassVar[str] = "dry_run"
    lane: ClassVar[Lane] = "train"

    method: str = Field(title="Method", description="Which way of tuning, by its short name, such as lora.")
    data: SnapshotRef = Field(title="Data", description="A frozen instruction dataset.")
    base: ModelRef = Field(title="Model", description="The model that would learn.")
    knobs: dict[str, Any] = Field(default={}, title="Knobs", description="Everything else that the run would be told.")

    @classmethod
    def of(cls, task: Tuning) -> DryRun:
        """The dry run of a tuning task."""
        fields = task.model_dump(mode="json", exclude={"data", "base"}, exclude_defaults=True)
        return cls(method=task.kind, data=task.data, base=task.base, knobs=fields)

    @property
    def tuning(self) -> Tuning:
        """The run that it is about. Raises InputError for a method or a knob that there is not."""
        methods = tuning_methods()
        if self.method not in methods:
            raise InputError(f"There is no method '{self.method}'. Methods: {', '.join(methods)}.")
        try:
            return methods[self.method].model_validate({**self.knobs, "data": self.data, "base": self.base})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{'.'.join(map(str, first['loc'])) or self.method}: {first['msg']}.") from error

    @property
    def title(self) -> str:
        return f"Measure {_STEPS} steps: {self.base} on {self.data} ({self.method})"

    def check(self, store: Store) -> None:
        self.tuning.check(store)

    def do(self, run: Run) -> dict[str, Any]:
        task, weights = self.tuning, run.weights(self.base)
        snapshot = run.store.snapshot(self.data)
        root = run.output.parents[1]
        run.say("Counting tokens.")
        lengths = encoded(root, snapshot, weights, lambda done, total: None)
        folder = run.output / "rehearsal"
        try:
            found = _rehearse(task, weights, run.snapshot(self.data), lengths, run, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if found is None:
            return {}
        return {"configuration": _configuration(task, snapshot, weights), **asdict(found)}


def measured(store: Store, task: Tuning, snapshot: Snapshot, weights: Weights) -> Measured | None:
    """What the newest dry run of that configuration on this machine found; None where there is none."""
    wanted = _configuration(task, snapshot, weights)
    for job in store.jobs(limit=_LOOKED_AT, states={"done"}, kinds={DryRun.kind}):
        if job.result and job.result.get("configuration") == wanted:
            return Measured(**{name: job.result[name] for name in Measured.__dataclass_fields__ if name in job.result})
    return None


def _configuration(task: Tuning, snapshot: Snapshot, weights: Weights) -> str:
    """The same for two runs whose steps take the same time and memory."""
    knobs = task.model_dump(mode="json", exclude=set(_IDLE_KNOBS))
    parts = [platform.node(), weights.key, snapshot.digest, task.kind, json.dumps(knobs, sort_keys=True)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


# -- the steps ------------------------------------------------------------------------------------------------------


def _rehearse(
    task: Tuning, weights: Weights, rows: Sequence[Mapping[str, Any]], lengths: Lengths, run: Run, folder: Path
) -> Measured | None:
    """None when somebody stopped it."""
    from studio.training import sft, tuning

    if lengths.refused:
        raise InputError(f"Row {lengths.refused.row} of {task.data} cannot be learned: {lengths.refused.why}")
    longest = min(task.max_length, weights.window)
    training = [row for row in rows if row["split"] == "train"]
    chosen, size, steps = _chosen(lengths.train, task, longest)
    # Several passes, and the rehearsal ends after the first: so there is one look, at its end.
    schedule = sft.Schedule(
        epochs=max(4, task.passes),
        batch_size=size,
        learning_rate=task.rate,
        seed=task.seed,
    )
    stage = _Rehearsal(run, folder, steps)
    run.say(f"Measuring {steps} steps of the run.")
    trained = tuning.train(
        weights,
        [conversation(training[place]) for place in chosen],
        [conversation(row) for row in rows if row["split"] == "validation"],
        task.method(),
        tuning.Knobs(schedule, longest, task.saves_memory),
        stage,
    )
    if stage.was_stopped or not stage.seconds:
        return None
    order = sft.plan([lengths.train[place][0] for place in chosen], schedule)[: len(stage.seconds)]
    batches = [[lengths.train[chosen[i]] for i in rows_of_step] for rows_of_step in order]
    return replace(stage.figures(batches), recomputes=trained.recomputes)


def _chosen(counts: Sequence[Count], task: Tuning, longest: int) -> tuple[list[int], int, int]:
    """Which training records are gone through, how many at a step, and in how many steps. One batch of the longest ones,
    the others by lot; where there are few they come again."""
    fits = [place for place, (tokens, _) in enumerate(counts) if tokens <= longest]
    if not fits:
        raise InputError(
            f"Nothing would be learned: all {len(counts)} training records of {task.data} are longer than {longest} "
            "tokens, or there is none. Raise the longest record, or choose another snapshot."
        )
    steps = min(_STEPS, task.steps(len(fits)))
    ordered = sorted(fits, key=lambda place: -counts[place][0])
    first, rest = ordered[: task.batch_size], ordered[task.batch_size :] or ordered
    lot = random.Random(task.seed).sample(rest, len(rest))
    size = min(len(fits), task.batch_size)
    return [*first, *islice(cycle(lot), (steps - 1) * size)], size, steps


class _Rehearsal(Run):
    """A run that keeps nothing but the time: what it is told to write goes into a folder that is thrown away."""

    def __init__(self, run: Run, folder: Path, steps: int) -> None:
        self.id, self.attempt, self.settings, self.store = run.id, run.attempt, run.settings, run.store
        self.output = folder
        folder.mkdir(parents=True)
        self._run, self._steps = run, steps
        self._began = self._last = time.monotonic()
        self._first_step: float | None = None
        self._done = 0
        self._looks: list[float] = []
        self._sampling: list[float] = []
        self._saving: list[float] = []
        self._saves_since = 0.0
        self._is_new_round = True
        self.seconds: list[float] = []  # of each step
        self.was_stopped = False

    def figures(self, batches: Sequence[Sequence[Count]]) -> Measured:
        """Per token over the steps after the warm-up; what cannot be known is 0."""
        from studio.training import memory

        skipped = _WARM_UP if len(self.seconds) > 2 * _WARM_UP else 0
        timed, told = self.seconds[skipped:], batches[skipped : len(self.seconds)]
        spent = max(1e-9, sum(timed))
        peak, is_gpu = memory.peak()
        return Measured(
            steps=len(self.seconds),
            tokens_per_second=sum(tokens for batch in told for tokens, _ in batch) / spent,
            learned_tokens_per_second=sum(learned for batch in told for _, learned in batch) / spent,
            peak_bytes=peak,
            is_gpu=is_gpu,
            look_seconds=_mean(self._looks[-1:]),  # the first is of the base, without what learns
            sampling_seconds=_mean(self._sampling),
            save_seconds=_mean(self._saving),
            start_seconds=max(0.0, (self._first_step or self._began) - self._began),
            longest=max(tokens for batch in batches for tokens, _ in batch),
        )

    def log(self, step: int, total: int | None = None, **metrics: float) -> None:
        now = time.monotonic()
        if "loss" in metrics:
            self.seconds.append(now - self._last)
            self._done = step
            told = {name: metrics[name] for name in ("memory_gb", "learned_tokens_per_second") if name in metrics}
            self._run.log(step, self._steps, **told)
        elif "validation_loss" in metrics:
            self._looks.append(now - self._last)
            self._is_new_round = True
            if step == 0:
                self._first_step = now - self._looks[-1]
        self._last = time.monotonic()

    def say(self, sentence: str) -> None:
        self._last = time.monotonic()

    def sample(self, step: int, prompt: str, **answers: str) -> None:
        """The first of a round comes when all its answers are there."""
        now = time.monotonic()
        if self._is_new_round:
            self._sampling.append(now - self._last)
            self._is_new_round = False
        self._last = time.monotonic()

    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        if wanted := self._run.stop_requested():
            self.was_stopped = True
            return wanted
        self._last = time.monotonic()
        if self._first_step is None:
            self._first_step = self._last
        return "pause" if self._done >= self._steps else ""

    def checkpoint(self, step: int) -> Path:
        self._saves_since = time.monotonic()
        folder = self.output / "checkpoints" / f"step-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path) -> None:
        self._saving.append(time.monotonic() - self._saves_since)
        shutil.rmtree(folder, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        return None

    def backend(self, ref: ModelRef) -> Backend:
        return self._run.backend(ref)

    def weights(self, ref: ModelRef) -> Weights:
        return self._run.weights(ref)

    def release_engine(self) -> None:
        self._run.release_engine()

    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        return self._run.snapshot(ref)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
