"""`ladder demo`: the whole ladder without a browser, on the embedded model and the example project.

The same tasks in the same queue as the pages use; the workspace it leaves opens in the studio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from studio.errors import RunError
from studio.evaluation import Interval
from studio.example import DEVELOPMENT, EVALUATION, EXAMPLE, PROMPTS, SNAPSHOT, load_example
from studio.jobs import run_here
from studio.models import EMBEDDED, convert
from studio.preferences import RULE, SampleAnswers, SimulateJudgements, freeze_judgements
from studio.prompts import Compare, Comparison, RungRow, comparison
from studio.recipes.lora import Lora
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import ModelRef
from studio.store import Job
from studio.tasks import Task
from studio.workspace import Workspace

__all__ = ["Progress", "demo", "table", "tell"]

_AUTHOR = "demo"
# Chosen for minutes: enough judgements for a reward model that sees the rule, and iterations until scores stop rising.
_PROMPTS, _ANSWERS = 112, 4
_REWARD: dict[str, Any] = {"epochs": 1, "learning_rate": 3e-4}
_PPO: dict[str, Any] = {"iterations": 7, "learning_rate": 3e-4, "max_prompt": 96}
_SHOWN = {"loss": "loss", "accuracy": "accuracy", "reward/score": "reward score", "kl/seq": "KL"}


def demo(workspace: Workspace, say: Callable[[str], None]) -> Comparison:
    """Convert, tune, rank, align, compare; returns the table. Raises RunError with the run's own sentence if one fails.

    Nobody sits here to rank answers, so a stated rule does: its judgements are marked as simulated.
    """
    store = workspace.store
    if load_example(store, workspace.path):
        say(f"Example project '{EXAMPLE}' loaded into {workspace.path}.")
    convert(workspace.settings.cache, lambda share, message: say(f"{share:4.0%}  {message}"))
    tuned = ModelRef.of_run(_run(workspace, Lora(base=EMBEDDED, data=SNAPSHOT), say).id)
    _run(workspace, SampleAnswers(model=tuned, prompts=PROMPTS, batch=EXAMPLE, count=_PROMPTS, answers=_ANSWERS), say)
    say(f"Judgements are simulated by a rule: {RULE}")
    _run(workspace, SimulateJudgements(batch=EXAMPLE), say)
    judged = freeze_judgements(store, workspace.path, EXAMPLE, author=_AUTHOR)
    reward = ModelRef.of_run(_run(workspace, Reward(base=tuned, data=judged.ref, **_REWARD), say).id)
    aligned = ModelRef.of_run(_run(workspace, Ppo(base=tuned, reward=reward, prompts=PROMPTS, **_PPO), say).id)
    task = Compare(
        base=EMBEDDED,
        tuned=tuned,
        aligned=aligned,
        reward=reward,
        evaluation=EVALUATION,
        development=DEVELOPMENT,
        examples=SNAPSHOT,
        guidelines=store.dataset(EXAMPLE).guidelines,
    )
    return comparison(store, _run(workspace, task, say).id)


def _run(workspace: Workspace, task: Task, say: Callable[[str], None]) -> Job:
    job = workspace.queue(task, author=_AUTHOR)
    say(f"Job {job.id}: {job.title}")
    ended = run_here(workspace.store, workspace.path, workspace.settings, job.id, tell=Progress(workspace, say))
    if ended.state != "done":
        raise RunError(f"Job {job.id} ended as {ended.state}. {ended.error}".strip())
    return ended


class Progress:
    """Tells a run's message and progress when they change, and its latest figures."""

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._store, self._say = workspace.store, say
        self._told = ("", -1)
        self._seen = 0
        self._figures: dict[str, float] = {}

    def __call__(self, job: Job) -> None:
        share = int(10 * job.step / job.total) if job.total else 0
        if (job.message, share) == self._told or job.state not in ("running", "stopping"):
            return
        self._told = (job.message, share)
        for metric in self._store.metrics(job.id, since=self._seen):
            self._seen = metric.id
            self._figures |= {name: v for name, v in metric.values.items() if name in _SHOWN and v is not None}
        figures = "".join(f"  {_SHOWN[name]} {value:.3f}" for name, value in self._figures.items())
        self._say(f"  {job.step:>4}/{job.total:<4} {job.message}{figures}")


def table(found: Comparison) -> str:
    """The comparison as fixed-width text; under it what each rung changed, where more than two were measured or scored."""
    rows, parts = found.rows, []
    head = ["rung", "model", "prompt", "n", "score [95 %]", "paired difference [95 %]", "all rules kept"]
    head += ["build s", "new parameters", "tokens/call", "s/call"]
    lines = [
        [
            row.rung,
            row.model,
            row.prompt,
            str(row.items),
            _interval(row.score, "{:.3f}"),
            _interval(row.difference),
            _interval(row.all_rules, "{:.0%}"),
            f"{row.build_seconds:.0f}",
            f"{row.new_parameters:,}",
            f"{row.prompt_tokens:.0f} + {row.output_tokens:.0f}",
            f"{row.seconds_per_call:.2f}",
        ]
        for row in rows
    ]
    parts.append(_aligned([head, *lines]))
    if len(rows) > 2 or found.reward:
        parts.append(_aligned([list(column) for column in zip(*_steps(rows), strict=True)]))
        parts.append("A step is the paired difference with the rung above it in the table.")
    if found.simulated:
        parts[-1] += f" The judgements were simulated by a rule. {found.rule}".rstrip()
    return "\n\n".join(parts)


def _steps(rows: Sequence[RungRow]) -> list[list[str]]:
    """Columns, each with its heading. A step is the paired difference with the rung above in the table."""
    columns = [
        ["rung", *(row.rung for row in rows)],
        ["score, step [95 %]", *(_interval(row.step) for row in rows)],
        ["reward score [95 %]", *(_interval(row.reward) for row in rows)],
        ["reward score, step [95 %]", *(_interval(row.reward_step) for row in rows)],
        ["points by the rule [95 %]", *(_interval(row.rule) for row in rows)],
        ["points by the rule, step [95 %]", *(_interval(row.rule_step) for row in rows)],
        ["KL, nats", *("-" if row.kl is None else f"{row.kl:.2f}" for row in rows)],
    ]
    return [column for column in columns if set(column[1:]) != {"-"}]


def _interval(found: Interval | None, form: str = "{:+.3f}") -> str:
    return f"{form} [{form}, {form}]".format(found.value, found.low, found.high) if found else "-"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def tell(sentence: str) -> None:
    """Progress goes to stderr, so that the table alone is on stdout."""
    print(sentence, file=sys.stderr, flush=True)
