"""What launching costs: a tuning run in a worker of the studio beside the bare loop, in CPU seconds, in turn.

The bare loop is a process of its own that loads the same model and takes the same steps on the same records, with the
same looks at the validation records; nobody watches it, so it has no database, no figures and no sample answers. The
launched run is what a person starts with three fields on the example: supervisor, worker, figures, checkpoints, and the
sample answers before the first step, now and then, and at its end. Both are measured with everything a process costs,
imports and loading included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.preflight import frozen
from benchmarks.report import row
from studio.instructions import conversation
from studio.jobs import run_here
from studio.models import EMBEDDED, convert, resolve
from studio.recipes.lora import Lora
from studio.specs import SnapshotRef
from studio.store import read_rows
from studio.workspace import Workspace

ROWS, RUNS = 264, 3  # the whole example
FEW_ROWS, FEW_RUNS = 24, 5


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        workspace = Workspace.open(Path(folder) / "workspace")
        convert(workspace.settings.cache, lambda share, message: None)
        few = _in_turn(workspace, frozen(workspace, FEW_ROWS), FEW_RUNS)
        beyond = [launched - bare for bare, launched in few]
        print(row(f"launched beyond bare, {FEW_ROWS} records", beyond, "CPU s"))
        whole = _in_turn(workspace, frozen(workspace, ROWS, "whole"), RUNS)
        workspace.store.close()
    bare, launched = ([pair[side] for pair in whole] for side in (0, 1))
    print(row("bare loop", bare, "CPU s"))
    print(row("launched run", launched, "CPU s"))
    print(row("launched / bare", [b / a for a, b in whole], ""))
    # Their difference is a few seconds of some hundreds, and the machine's own ups and downs are larger than that: what
    # was seen on short runs, where they weigh less, over the whole bare run is the steadier figure.
    print(row("1 + beyond / bare", [1 + one / median(bare) for one in beyond], ""))


def _in_turn(workspace: Workspace, data: SnapshotRef, runs: int) -> list[tuple[float, float]]:
    """CPU seconds of the bare loop and of the launched run."""
    task = Lora(base=EMBEDDED, data=data, patience=0)
    found = []
    for number in range(runs):
        found.append((_bare(workspace, data), _launched(workspace, task)))
        print(f"{number + 1}: {found[-1][0]:.1f}, {found[-1][1]:.1f} CPU s", flush=True)
    return found


def _launched(workspace: Workspace, task: Lora) -> float:
    before = _spent()
    job = workspace.queue(task, author="owner")
    over = run_here(workspace.store, workspace.path, workspace.settings, job.id)
    if over.state != "done":
        raise SystemExit(f"{over.title} is {over.state}: {over.error}")
    # The worker may outlive the run by a moment, and nobody waits for it: what it spent counts once it is waited for.
    while psutil.Process().children():
        time.sleep(0.1)
        subprocess.run(["true"], check=True)  # which also waits for what was left before
    return _spent() - before


def _spent() -> float:
    """CPU seconds of this process and of those it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


def _bare(workspace: Workspace, data: SnapshotRef) -> float:
    before = _spent()
    command = [sys.executable, "-m", "benchmarks.launching", str(workspace.path), str(data)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(made.stderr[-3000:])
    return _spent() - before


def bare_loop(path: Path, data: SnapshotRef) -> None:
    """The steps of the launched run by the same schedule, straight from the rows of its snapshot."""
    import torch

    from studio.store import Store
    from studio.training import sft
    from studio.training.attention import choose_attention
    from studio.training.conversation import encode_example
    from studio.training.loading import load_tokenizer
    from studio.training.methods import learner
    from tests.memory_run import MemoryRun

    store = Store.in_folder(path)
    snapshot = store.snapshot(data)
    task = Lora(base=EMBEDDED, data=data, patience=0)
    schedule = sft.Schedule(task.passes, task.batch_size, task.rate, patience=0, seed=task.seed)
    talks = {
        split: [conversation(r) for r in read_rows(path, snapshot) if r["split"] == split]
        for split in ("train", "validation")
    }
    with tempfile.TemporaryDirectory() as folder:
        run = MemoryRun(Path(folder), store=store, workspace=path)
        weights = resolve(EMBEDDED, settings=run.settings, store=store, workspace=path)
        tokenizer = load_tokenizer(weights)
        train, held_out = ([encode_example(tokenizer, talk) for talk in talks[s]] for s in ("train", "validation"))
        torch.manual_seed(schedule.seed)
        pupil = learner(weights, task.method(), steps=len(sft.plan([len(e.ids) for e in train], schedule)))
        choose_attention(pupil.model, schedule.batch_size, max(len(e.ids) for e in train))
        sft.tune(pupil, train, held_out, schedule, run, pad=tokenizer.pad_token_id or 0)
        pupil.save(run.output / "model")


if __name__ == "__main__":
    bare_loop(Path(sys.argv[1]), SnapshotRef(sys.argv[2])) if len(sys.argv) > 1 else main()
