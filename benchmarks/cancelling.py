"""Cancelling: 50 tuning runs of a tiny model in real worker processes, each cancelled at a step drawn at random.

Acknowledged: from the request to its intent in the database. Gone: from the request until the worker and everything in
its process group has ended. Loads: the checkpoint is whole by its own list of digests, and every tensor in it opens.
The bars: 1 s, 10 s, and every one.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import row
from studio.jobs import Supervisor, run_folder
from studio.jobs.actions import perform
from studio.jobs.checkpoints import Checkpoints, damage
from studio.processes import wait_until
from studio.settings import Settings
from studio.store import Store

CANCELS = 50
SEED = 0
LAST_STEP = 60


@dataclass(frozen=True)
class Cancelled:
    """Seconds from the request until it was stored, and until nothing of the run was left."""

    step: int
    acknowledged: float
    gone: float


def main() -> None:
    from tests.jobs.tiny import put_records, put_tiny, tune
    from tests.tiny_models import tiny_llama, tiny_tokenizer

    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    put_tiny(folder, folder / "base")
    store = Store.in_folder(folder)
    put_records(store, folder)
    settings = Settings(workspace=folder, runtime=folder / "runtime", threads=1)
    supervisor = Supervisor(store, folder, settings)
    supervisor.start()
    rng = random.Random(SEED)
    done, whole = [], 0
    for _ in range(CANCELS):
        job = store.queue_job(tune(epochs=50), author="benchmark")
        done.append(cancel_at(store, folder, job.id, step=rng.randint(1, LAST_STEP)))
        whole += loads(folder, job.id)
    supervisor.close()
    print(row("from the request to its intent in the database", [1000 * c.acknowledged for c in done], "ms"))
    print(row("until nothing of the run is left", [c.gone for c in done], "s"))
    print(
        f"{'checkpoints that load':44} {whole} of {CANCELS}; steps {min(c.step for c in done)} to {LAST_STEP} or later"
    )
    late = [c for c in done if c.acknowledged >= 1.0 or c.gone >= 10.0]
    print(f"{'over 1 s to be acknowledged, or 10 s to be gone':44} {len(late)} of {CANCELS}")


def cancel_at(store: Store, workspace: Path, job_id: int, step: int, seconds: float = 60.0) -> Cancelled:
    """Wait for the step, cancel the way the page does, and watch what is left of the run."""
    if not wait_until(lambda: store.job(job_id).step >= step or store.job(job_id).is_over, seconds):
        raise SystemExit(f"Run {job_id} did not get to step {step}: {store.job(job_id)}")
    job = store.job(job_id)
    if job.pid is None:
        raise SystemExit(f"Run {job_id} ended at step {job.step}, before it could be cancelled: {job.error}")
    group = _group(job.pid)
    asked = time.monotonic()
    perform(store, workspace, job_id, "cancel", by="benchmark")
    acknowledged = time.monotonic() - asked
    wait_until(lambda: store.job(job_id).is_over and not any(p.is_running() for p in group | _group(job.pid)), 60)
    return Cancelled(job.step, acknowledged, time.monotonic() - asked)


def loads(workspace: Path, job_id: int) -> bool:
    """Whether a run that goes on could begin from what was saved."""
    from safetensors.torch import load_file

    newest = Checkpoints(run_folder(workspace, job_id)).newest()
    if newest is None or damage(newest):
        return False
    return all(load_file(file) for file in newest.rglob("*.safetensors"))


def _group(pid: int | None) -> set[psutil.Process]:
    """The worker and what it started."""
    try:
        worker = psutil.Process(pid)
        return {worker, *worker.children(recursive=True)}
    except psutil.Error:
        return set()


if __name__ == "__main__":
    main()
