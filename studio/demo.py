"""`ladder demo`: the whole ladder without a browser, on the embedded model and the example project.

The same tasks in the same queue as the pages use; the workspace it leaves opens in the studio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from studio.errors import RunError
from studio.example import DEVELOPMENT, EVALUATION, EXAMPLE, SNAPSHOT, load_example
from studio.jobs import run_here
from studio.models import EMBEDDED, convert
from studio.prompts import Compare, Comparison, comparison
from studio.recipes.lora import Lora
from studio.specs import ModelRef
from studio.store import Job
from studio.tasks import Task
from studio.workspace import Workspace

__all__ = ["Progress", "demo", "table", "tell"]


def demo(workspace: Workspace, say: Callable[[str], None]) -> Comparison:
    """Convert, tune, compare; returns the table. Raises RunError with the run's own sentence if one fails."""
    if load_example(workspace.store, workspace.path):
        say(f"Example project '{EXAMPLE}' loaded into {workspace.path}.")
    convert(workspace.settings.cache, lambda share, message: say(f"{share:4.0%}  {message}"))
    run = _run(workspace, Lora(base=EMBEDDED, data=SNAPSHOT), say)
    task = Compare(
        base=EMBEDDED,
        tuned=ModelRef.of_run(run.id),
        evaluation=EVALUATION,
        development=DEVELOPMENT,
        examples=SNAPSHOT,
        guidelines=workspace.store.dataset(EXAMPLE).guidelines,
    )
    return comparison(workspace.store, _run(workspace, task, say).id)


def _run(workspace: Workspace, task: Task, say: Callable[[str], None]) -> Job:
    job = workspace.queue(task, author="demo")
    say(f"Job {job.id}: {job.title}")
    ended = run_here(workspace.store, workspace.path, workspace.settings, job.id, tell=Progress(workspace, say))
    if ended.state != "done":
        raise RunError(f"Job {job.id} ended as {ended.state}. {ended.error}".strip())
    return ended


class Progress:
    """Tells a run's message and progress when they change, and its latest loss."""

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._store, self._say = workspace.store, say
        self._told = ("", -1)
        self._seen = 0
        self._loss = ""

    def __call__(self, job: Job) -> None:
        share = int(10 * job.step / job.total) if job.total else 0
        if (job.message, share) == self._told or job.state not in ("running", "stopping"):
            return
        self._told = (job.message, share)
        for metric in self._store.metrics(job.id, since=self._seen):
            self._seen = metric.id
            if "loss" in metric.values:
                self._loss = f"  loss {metric.values['loss']:.3f}"
        self._say(f"  {job.step:>4}/{job.total:<4} {job.message}{self._loss}")


def table(found: Comparison) -> str:
    """The comparison as fixed-width text."""
    head = ["rung", "model", "prompt", "n", "score [95 %]", "paired difference [95 %]", "all rules kept"]
    head += ["build s", "new parameters", "tokens/call", "s/call"]
    lines = [head]
    for row in found.rows:
        gap = row.difference
        lines.append(
            [
                row.rung,
                row.model,
                row.prompt,
                str(row.items),
                f"{row.score.value:.3f} [{row.score.low:.3f}, {row.score.high:.3f}]",
                f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else "-",
                f"{row.all_rules.value:.0%} [{row.all_rules.low:.0%}, {row.all_rules.high:.0%}]",
                f"{row.build_seconds:.0f}",
                f"{row.new_parameters:,}",
                f"{row.prompt_tokens:.0f} + {row.output_tokens:.0f}",
                f"{row.seconds_per_call:.2f}",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(text)


def tell(sentence: str) -> None:
    """Progress goes to stderr, so that the table alone is on stdout."""
    print(sentence, file=sys.stderr, flush=True)
