"""What the pre-flight says after a dry run, beside what the run then takes: seconds and peak memory, five configurations.

Both in worker processes, one after the other, on the embedded model. The bars: time within 35 %, memory within 20 %; what
the rule of thumb said before the dry run is shown beside it. `python -m benchmarks.preflight 1 3` measures those alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import row
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.jobs import run_here
from studio.models import EMBEDDED, convert
from studio.recipes.dry_run import DryRun
from studio.recipes.preflight import Preflight, preflight
from studio.recipes.tuning import tuning_methods
from studio.specs import SnapshotRef
from studio.store import Job
from studio.tasks import Task
from studio.workspace import Workspace

RECORDS = Path(__file__).resolve().parents[1] / "assets" / "data" / "brackenfold.records.jsonl"
ROWS = 200
CONFIGURATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lora", {}),
    ("lora", {"batch_size": 4, "saves_memory": True}),
    ("full", {"batch_size": 4}),
    ("prefix", {}),
    ("selective", {"batch_size": 16}),
)


@dataclass(frozen=True)
class Outcome:
    """Said and found, in seconds and bytes."""

    rough: Preflight
    said: Preflight
    seconds: float
    peak: int

    def ratio(self, found: Preflight, name: str) -> float:
        figure = found.figure(name)
        assert figure is not None
        assert figure.value is not None
        return figure.value / (self.seconds if name == "Time" else self.peak)


def main(only: tuple[int, ...] = ()) -> None:
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        workspace = Workspace.open(Path(folder) / "workspace")
        convert(workspace.settings.cache, lambda share, message: None)
        data = frozen(workspace)
        for number, (kind, knobs) in enumerate(CONFIGURATIONS, 1):
            if only and number not in only:
                continue
            outcomes.append(_measured(workspace, data, kind, knobs))
            print(_line(kind, knobs, outcomes[-1]), flush=True)
        workspace.store.close()
    for name in ("Time", "Memory"):
        print(row(f"{name.lower()}, said after the dry run / taken", [o.ratio(o.said, name) for o in outcomes], ""))
        print(row(f"{name.lower()}, rule of thumb / taken", [o.ratio(o.rough, name) for o in outcomes], ""))


def frozen(workspace: Workspace, count: int = ROWS, name: str = "gear") -> SnapshotRef:
    """A snapshot of the example's first records."""
    dataset = workspace.store.create_dataset(name, author="owner", licence="Apache-2.0")
    rows = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()[:count]]
    workspace.store.add_records(dataset.id, [insertable(r) for r in rows], author="owner", source="benchmark")
    return freeze(workspace.store, workspace.path, dataset, author="owner").ref


def _measured(workspace: Workspace, data: SnapshotRef, kind: str, knobs: dict[str, Any]) -> Outcome:
    told = {"base": str(EMBEDDED), "data": str(data), "effort": "quick", "patience": 0, **knobs}
    task = tuning_methods()[kind].model_validate(told)

    def look() -> Preflight:
        return preflight(workspace.store, workspace.path, task, workspace.settings)

    rough = look()
    _seen_through(workspace, DryRun.of(task))
    said = look()
    job, peak = _seen_through(workspace, task)
    assert job.result is not None
    return Outcome(rough, said, float(job.result["train_seconds"]), peak)


def _seen_through(workspace: Workspace, task: Task) -> tuple[Job, int]:
    """Run it in a worker; its end, and the most memory the worker held."""
    job = workspace.queue(task, author="owner")
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            peak[0] = max(peak[0], _high_water(workspace.store.job(job.id).pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        over = run_here(workspace.store, workspace.path, workspace.settings, job.id)
    finally:
        ended.set()
        watcher.join()
    if over.state != "done":
        raise SystemExit(f"{task.title} is {over.state}: {over.error}")
    return over, peak[0]


def _high_water(pid: int | None) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


def _line(kind: str, knobs: dict[str, Any], outcome: Outcome) -> str:
    def of(name: str, unit: float, taken: float) -> str:
        rough, said = (found.figure(name).value / unit for found in (outcome.rough, outcome.said))  # type: ignore
        return f"{said:.2f} said ({rough:.2f} by rule of thumb), {taken / unit:.2f} taken"

    return (
        f"{kind} {knobs or ''}: {outcome.said.steps} steps; s: {of('Time', 1, outcome.seconds)}; "
        f"GB: {of('Memory', 1e9, outcome.peak)}"
    )


if __name__ == "__main__":
    main(tuple(int(number) for number in sys.argv[1:]))
