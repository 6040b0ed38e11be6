"""Where alignment (L3) stands: which of its four steps is done, what the next one needs, and what it will cost.

A *line* runs through the steps: a batch of judgements, a reward model trained on them, a PPO run against that. Name one
of its runs or its batch, and the rest follows: what a run was made from, and the newest that was made from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError, NotFound
from studio.preferences import FEWEST_JUDGEMENTS, SimulateJudgements
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import ModelRef, SnapshotRef
from studio.store import Batch, Job, Snapshot, Store, read_rows
from studio.words import duration

__all__ = [
    "Cost",
    "Fitting",
    "Line",
    "PpoPlan",
    "RewardPlan",
    "Step",
    "StepState",
    "alignment_runs",
    "concerns",
    "fitting",
    "follow",
    "judged_splits",
    "outlook",
    "plan_ppo",
    "plan_reward",
    "remarks",
]

StepState = Literal["locked", "ready", "going", "stopped", "done"]

_LISTED = 50
_PPO_RANK = 16  # of the adapter that PPO gives a model without one
_POOR, _TOO_GOOD = 0.6, 0.9  # of accuracy: people agree with each other on about 0.63 to 0.8 of pairs
# Seconds on two cores with the embedded model: to load it, and of one judgement in one pass, one answer of practice.
_LOADING = (20.0, 60.0)
_USUAL = {Reward.kind: (1.0, 4.0), Ppo.kind: (0.8, 2.5)}
# What is done where nothing is chosen yet: a hundred judgements in three passes, and the answers of the defaults.
_WORK = {Reward.kind: 300, Ppo.kind: 480}


# -- the line and its steps ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """`words` say the state as a person would: "needs 20 judgements", "ready", "running 40 %", "done"."""

    number: int
    name: str
    state: StepState
    words: str


@dataclass(frozen=True)
class Line:
    """What belongs together: each part is None until there is one. `simulating` is the rule at work on the batch."""

    batch: Batch | None = None
    simulating: Job | None = None
    reward: Job | None = None
    ppo: Job | None = None

    @property
    def missing(self) -> int:
        """How many judgements a reward model still needs."""
        return max(0, FEWEST_JUDGEMENTS - (self.batch.judgements if self.batch else 0))

    @property
    def newer(self) -> int:
        """How many judgements came after the reward model was trained."""
        learned = ((self.reward.result if self.reward else None) or {}).get("judgements")
        return max(0, self.batch.judgements - learned) if self.batch and learned is not None else 0

    @property
    def steps(self) -> tuple[Step, ...]:
        return (self._labels(), self._reward(), self._ppo(), self._result())

    @property
    def current(self) -> Step:
        """The first step that is not done; when all are, the last one."""
        return next((step for step in self.steps if step.state != "done"), self.steps[-1])

    def _labels(self) -> Step:
        count = self.batch.judgements if self.batch else 0
        if self.simulating:
            return Step(1, "Labels", "going", _word(self.simulating))
        if self.missing and not self.reward:
            more = "more " if count else ""
            return Step(1, "Labels", "ready", f"needs {self.missing} {more}judgement{'' if self.missing == 1 else 's'}")
        return Step(1, "Labels", "done", f"{count} judgements" if self.batch else "done")

    def _reward(self) -> Step:
        if self.reward:
            return Step(2, "Reward model", _state(self.reward), _word(self.reward))
        if self.missing:
            return Step(2, "Reward model", "locked", f"needs {FEWEST_JUDGEMENTS} judgements")
        return Step(2, "Reward model", "ready", "ready")

    def _ppo(self) -> Step:
        if self.ppo:
            return Step(3, "Practice (PPO)", _state(self.ppo), _word(self.ppo))
        is_there = self.reward is not None and self.reward.state == "done"
        return (
            Step(3, "Practice (PPO)", "ready", "ready")
            if is_there
            else Step(3, "Practice (PPO)", "locked", "needs a reward model")
        )

    def _result(self) -> Step:
        is_there = self.ppo is not None and self.ppo.state == "done"
        name = "Before and after"
        return Step(4, name, "done", "done") if is_there else Step(4, name, "locked", "needs an aligned model")


def alignment_runs(store: Store) -> list[Job]:
    """Reward and PPO runs, newest first."""
    return store.jobs(limit=_LISTED, kinds={Reward.kind, Ppo.kind})


def follow(store: Store, batch: str = "", run: str = "") -> Line:
    """The line of a run (its number), or else of a batch, or else the newest there is.

    Raises NotFound or InputError for a run that is not there or is of another kind.
    """
    batches = store.batches()
    reward, ppo = _of_run(store, run) if run else _newest(store, batches, batch)
    name = _batch_of(reward) if reward else batch
    found = next((b for b in batches if b.name == name), None)
    if found is None and reward is None and batches:
        found = batches[0]
    return Line(found, _simulating(store, found), reward, ppo)


def _of_run(store: Store, run: str) -> tuple[Job | None, Job | None]:
    if not run.isdecimal():
        raise InputError(f"'{run}' is no run. A link to one ends like ?tab=alignment&run=17.")
    job = store.job(int(run))
    if job.kind == Reward.kind:
        return job, _against(store, job)
    if job.kind == Ppo.kind:
        return _reward_of(store, job), job
    raise InputError(f"Run {run} is of the kind '{job.kind}', and here are reward models and PPO. Jobs shows all runs.")


def _newest(store: Store, batches: Sequence[Batch], batch: str) -> tuple[Job | None, Job | None]:
    runs = alignment_runs(store)
    if batch:
        reward = next((r for r in runs if r.kind == Reward.kind and _batch_of(r) == batch), None)
        return reward, _against(store, reward) if reward else None
    # Who sampled a new batch has begun anew; what was trained before is in the list of runs.
    if not runs or (batches and batches[0].created_at > runs[0].created_at):
        return None, None
    return _of_run(store, str(runs[0].id))


def _against(store: Store, reward: Job) -> Job | None:
    """The newest PPO run against a reward model."""
    ref = ModelRef.of_run(reward.id)
    return next((j for j in store.jobs(limit=_LISTED, kinds={Ppo.kind}) if j.task["reward"] == ref), None)


def _reward_of(store: Store, ppo: Job) -> Job | None:
    try:
        return store.job(int(ModelRef(ppo.task["reward"]).name))
    except (NotFound, ValueError):
        return None


def _batch_of(reward: Job) -> str:
    return SnapshotRef(reward.task["data"]).name


def _simulating(store: Store, batch: Batch | None) -> Job | None:
    going = store.jobs(
        kinds={SimulateJudgements.kind}, states=("proposed", "queued", "held", "starting", "running", "stopping")
    )
    return next((j for j in going if batch and j.task["batch"] == batch.name), None)


def _state(job: Job) -> StepState:
    if job.state == "done":
        return "done"
    return "stopped" if job.is_over else "going"


def _word(job: Job) -> str:
    share = f" {job.progress:.0%}".replace("%", " %") if job.progress is not None else ""
    match job.state:
        case "proposed" | "queued":
            return "waiting"
        case "running":
            return f"running{share}"
        case "paused":
            return f"paused at{share}" if share else "paused"
        case _:
            return job.state


@dataclass(frozen=True)
class Fitting:
    """What the forms of a line begin with; '' where there is nothing that fits.

    `ranked` is the model whose answers were ranked, `policy` the one that the reward model started from.
    """

    ranked: str
    reward: str
    policy: str
    prompts: str


def fitting(store: Store, line: Line) -> Fitting:
    """The line's own reward model, else the newest one; the newest prompts, else the newest dataset."""
    scorers = store.models(scores=True)
    own = ModelRef.of_run(line.reward.id) if line.reward else ""
    scorer = next((m for m in scorers if m.ref == own), next(iter(scorers), None))
    prompts = store.snapshots("prompts") or store.snapshots("data")
    newest = max(prompts, key=lambda s: s.id, default=None)
    return Fitting(
        ranked=next(iter(line.batch.models), "") if line.batch else "",
        reward=str(scorer.ref) if scorer else "",
        policy=scorer.base if scorer else "",
        prompts=str(newest.ref) if newest else "",
    )


# -- what a step needs and costs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """`seconds` are judged by the newest finished run of that kind here; None before there is one."""

    seconds: float | None
    usual: tuple[float, float]
    new_parameters: int | None

    @property
    def sentence(self) -> str:
        low, high = self.usual
        how_long = (
            f"About {duration(self.seconds)} here, judged by the last run"
            if self.seconds is not None
            else f"Usually {duration(low)} to {duration(high)} on two cores; the first run here measures it"
        )
        if self.new_parameters is None:
            return f"{how_long}."
        return f"{how_long}; {self.new_parameters / 1e6:.1f} million new parameters."


@dataclass(frozen=True)
class RewardPlan:
    """Judgements per split are exact; `steps` too, unless some are ties or too long."""

    learned: int
    checked: int
    held_out: int
    passes: int
    steps: int
    cost: Cost

    @property
    def sentence(self) -> str:
        passes = {1: "once", 2: "twice"}.get(self.passes, f"{self.passes} times")
        report = (
            f"{self.held_out} that it never sees are for the report card"
            if self.held_out
            else "none is held out, so there will be no report card"
        )
        return (
            f"It goes through {self.learned} judgements {passes}, in {self.steps} steps; {self.checked} decide which "
            f"pass is kept, and {report}. {self.cost.sentence}"
        )


@dataclass(frozen=True)
class PpoPlan:
    prompts: int
    is_checked: bool
    iterations: int
    episodes: int
    cost: Cost

    @property
    def sentence(self) -> str:
        shown = (
            "validation prompts show how it goes"
            if self.is_checked
            else "no validation prompt shows how it goes, so the last iteration is kept, not the best"
        )
        return (
            f"It answers {self.episodes} prompts in {self.iterations} iterations, out of {self.prompts} it practises on, "
            f"and learns from the score of each answer; {shown}. {self.cost.sentence}"
        )


def plan_reward(store: Store, batch: Batch, task: Reward) -> RewardPlan:
    """Look at a reward model before its batch is frozen. Raises InputError when too little is labelled."""
    if batch.judgements < FEWEST_JUDGEMENTS:
        missing = FEWEST_JUDGEMENTS - batch.judgements
        raise InputError(
            f"'{batch.name}' has {batch.judgements} judgements; a reward model needs at least {FEWEST_JUDGEMENTS}. "
            f"Rank {missing} more under Labeling."
        )
    splits = judged_splits(store, batch)
    learned, passes = splits["train"], task.epochs
    steps = math.ceil(learned / task.batch_size) * passes
    work = learned * passes
    seconds = _seconds(store, Reward.kind, work, lambda job: job.total * Reward.model_validate(job.task).batch_size)
    cost = Cost(seconds, _usual(Reward.kind, work), _new_parameters(store, task.base, task.rank))
    return RewardPlan(learned, splits["validation"], splits["test"], passes, steps, cost)


def plan_ppo(store: Store, root: Path, task: Ppo) -> PpoPlan:
    """Look at a PPO run. Raises StudioErrors for what `check` refuses and for a set without prompts to practise on."""
    task.check(store)
    snapshot = store.snapshot(task.prompts)
    splits = _splits(root, snapshot)
    if not splits["train"]:
        raise InputError(
            f"{task.prompts} has {snapshot.rows} prompts and none of them is for training. Choose another set."
        )
    episodes = task.iterations * task.episodes
    seconds = _seconds(store, Ppo.kind, episodes, lambda job: (job.result or {}).get("episodes", 0))
    cost = Cost(seconds, _usual(Ppo.kind, episodes), _new_parameters(store, task.base, _PPO_RANK))
    return PpoPlan(splits["train"], splits["validation"] > 0, task.iterations, episodes, cost)


def outlook(store: Store, kind: str) -> Cost:
    """What a step that cannot start yet will cost: as much as the last run of its kind, or what is usual."""
    return Cost(_seconds(store, kind, 1.0, lambda job: 1.0), _usual(kind, _WORK[kind]), None)


def judged_splits(store: Store, batch: Batch) -> Counter[str]:
    """Current judgements of a batch by split. Splits never change, so a count that stands still is looked up once."""
    return _judged_splits(store, batch.name, batch.judgements)


@lru_cache(maxsize=32)
def _judged_splits(store: Store, batch: str, _judgements: int) -> Counter[str]:
    return Counter(item.split for item in store.judgements(batch))


@lru_cache(maxsize=64)
def _splits(root: Path, snapshot: Snapshot) -> Counter[str]:
    return Counter(row["split"] for row in read_rows(root, snapshot))


def _seconds(store: Store, kind: str, work: float, work_of: Callable[[Job], float]) -> float | None:
    """Judged by the newest finished run that did at least a quarter of this work: smaller ones mostly load the model."""
    for job in store.jobs(limit=10, states={"done"}, kinds={kind}):
        taken, done = (job.result or {}).get("train_seconds"), work_of(job)
        if taken and job.attempt == 1 and 4 * done >= work:
            return float(taken) / done * work
    return None


def _usual(kind: str, work: float) -> tuple[float, float]:
    low, high = (loading + each * work for loading, each in zip(_LOADING, _USUAL[kind], strict=True))
    return low, high


def _new_parameters(store: Store, base: ModelRef, rank: int) -> int | None:
    """Of a tuned base a copy of its adapter learns on; how large a new adapter is, runs on the same base have told."""
    if base.kind == "run":
        return store.model(base).new_parameters or None
    for job in store.jobs(limit=_LISTED, states={"done"}):
        if job.task.get("base") == base and (job.result or {}).get("new_parameters"):
            assert job.result is not None
            return round(job.result["new_parameters"] * rank / job.task.get("rank", _PPO_RANK))
    return None


# -- what the results mean -----------------------------------------------------------------------------------


def concerns(result: Mapping[str, Any]) -> list[str]:
    """What makes a finished reward model's report card doubtful, in sentences; none when nothing does."""
    report = result.get("report")
    if report is None:
        return [
            "How good it is cannot be said: no held-out pair was judged. About one prompt in ten is held out; "
            "rank more items before you align a model with it."
        ]
    share, longer = report["accuracy"]["value"], report["longer_wins"]["value"]
    found = []
    if share < _POOR:
        found.append(
            f"It agrees with {_percent(share)} of held-out pairs, hardly more than guessing would (50 %). PPO would learn "
            "noise: rank more items, or items whose answers differ more."
        )
    if share > _TOO_GOOD:
        found.append(
            f"It agrees with {_percent(share)} of held-out pairs, more than people agree with each other. Check that the "
            "rule behind the labels is not trivial and that no prompt is in training and held out at once."
        )
    if share <= longer:
        found.append(
            f"Always choosing the longer answer agrees as often ({_percent(longer)}). PPO would learn to write more, "
            "not better."
        )
    return found


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What is to be known of a finished PPO run besides its figures, in sentences."""
    found = [result["halted"]] if result.get("halted") else []
    best = result.get("best")
    if best is not None and best["iteration"] == 0:
        advice = "" if found else " Give it more iterations, or a weaker pull towards the tuned model."
        found.append(
            f"No iteration did better on the validation prompts than the tuned model, so it answers as that does.{advice}"
        )
    if skipped := result.get("skipped"):
        found.append(
            f"{skipped} update{'s were' if skipped > 1 else ' was'} skipped, since the numbers were not sound."
        )
    if left_out := result.get("left_out"):
        found.append(f"{left_out} prompt{'s were' if left_out > 1 else ' was'} too long and left out.")
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
