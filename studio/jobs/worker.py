"""One attempt of one job, in its own process: `python -m studio.jobs.worker ID --attempt N --workspace P`.

The supervisor starts it; everything else it needs comes from `LADDER_*` variables and the run's manifest. It
holds `runs/ID/lock` for as long as it lives, and the last thing it does is to write how the attempt ended.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from studio.errors import RunError, StudioError
from studio.jobs.checkpoints import sync_tree
from studio.jobs.manifest import Manifest
from studio.jobs.run import StopWatch, WorkerRun, patiently
from studio.offline import forbid_outbound_calls
from studio.processes import Lock
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Job, Store, model_row
from studio.tasks import Recipe, Task

_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class _Outcome:
    state: Literal["paused", "done", "failed", "cancelled"]
    result: dict[str, Any] | None = None
    error: str = ""
    model: dict[str, Any] | None = field(default=None, repr=False)


def main() -> NoReturn:
    # The log is for people, and neither of these is about their run: peft asks transformers by an old name, and looks
    # for the base of an adapter on the hub, where ours is not.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    warnings.filterwarnings("ignore", message="Could not find a config file in")
    parser = argparse.ArgumentParser(prog="studio.jobs.worker")
    parser.add_argument("id", type=int)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    told = parser.parse_args()
    code = _work(told.id, told.attempt, told.workspace.resolve())
    sys.stdout.flush()
    sys.stderr.flush()
    # The outcome is written. A thread that a library left behind must not keep this process, its lock and its
    # memory alive.
    os._exit(code)


def _work(job_id: int, attempt: int, workspace: Path) -> int:
    _volunteer_for_the_oom_killer()
    lock = Lock.take(workspace / "runs" / str(job_id) / "lock", wait=_LOCK_SECONDS)
    if lock is None:
        print(f"Run {job_id} has a living worker already; this one ends.")
        return 3
    # A forked helper (a data loader, say) must not keep the lock of a worker that has died.
    os.register_at_fork(after_in_child=lock.release)
    settings = Settings(workspace=workspace)
    if settings.offline:
        forbid_outbound_calls()
    # Whoever started us brought the schema up to date; a worker must not, least of all one of an older version.
    store = Store(settings.database_url) if settings.database_url else Store.in_folder(workspace)
    try:
        job = patiently(lambda: store.start_job(job_id, attempt, os.getpid()))
    except RunError as error:
        print(error)
        return 3
    print(f"--- run {job_id}, attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}: {job.title}", flush=True)
    stop = StopWatch(store, job_id, attempt)
    stop.wanted = job.intent
    _stop_on_sigterm(stop)
    stop.start()
    outcome = _outcome(job, store, settings, workspace, stop)
    stop.close()
    if stop.is_stale:
        return 3
    return _conclude(job, store, outcome, stop.seconds)


def _outcome(job: Job, store: Store, settings: Settings, workspace: Path, stop: StopWatch) -> _Outcome:
    """Do the work and say how it ended; nothing that a task raises gets past here."""
    if stop.wanted:
        return _stopped(stop)
    folder = workspace / "runs" / str(job.id)
    run: WorkerRun | None = None
    try:
        manifest = Manifest.read(folder)
        task = manifest.build()
        run = WorkerRun(job, manifest, store, settings, workspace, stop)
        run.checkpoints.discard_unfinished()
        _pin_models(run, task)
        task.check(store)
        run.tell_differences()
        result = json.loads(json.dumps(task.do(run), allow_nan=False))
        if run.stop_was_seen:
            return _stopped(stop)
        return _Outcome("done", result, model=_new_model(job, task, run, result))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        traceback.print_exc()
        if run is not None:
            run.checkpoints.discard_unfinished()
        return _Outcome("failed", error=_sentence(error, job, folder, run))


def _stopped(stop: StopWatch) -> _Outcome:
    with contextlib.suppress(StudioError):
        stop.look()
    return _Outcome("paused" if stop.wanted == "pause" else "cancelled")


def _pin_models(run: WorkerRun, task: Task) -> None:
    """Write down which weights this run stands on, before it touches them."""
    if isinstance(task, Recipe) and task.base.kind not in ("echo", "endpoint"):
        run.say(f"Finding {task.base}")
        run.weights(task.base)


def _new_model(job: Job, task: Task, run: WorkerRun, result: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(task, Recipe):
        return None
    folder = run.output / "model"
    if not folder.is_dir() or not any(folder.iterdir()):
        raise RunError(f"Run {job.id} ended without leaving a model in {folder}. The log has the details.")
    sync_tree(folder)
    facts = ("licence", "snapshot", "new_parameters", "train_seconds", "answers", "scores")
    return model_row(
        ModelRef.of_run(job.id),
        job.title,
        author=job.author,
        base=task.base,
        method=result.get("method", task.kind),
        path=f"runs/{job.id}/model",
        base_digest=run.manifest.models.get(task.base, ""),
        **{name: result[name] for name in facts if name in result},
    )


def _conclude(job: Job, store: Store, outcome: _Outcome, seconds: float) -> int:
    try:
        patiently(
            lambda: store.finish_job(
                job.id,
                job.attempt,
                outcome.state,
                result=outcome.result,
                error=outcome.error,
                model=outcome.model,
                seconds=seconds,
            )
        )
    except StudioError as error:
        print(f"The outcome ({outcome.state}) could not be written: {error}")
        return 4
    print(f"--- run {job.id} ended: {outcome.state} {outcome.error}".rstrip())
    return 0 if outcome.state in ("done", "paused", "cancelled") else 1


def _sentence(error: BaseException, job: Job, folder: Path, run: WorkerRun | None) -> str:
    """What to tell people about an exception."""
    if _disk_is_full(error):
        free = shutil.disk_usage(folder).free
        saved = run.checkpoints.newest() if run is not None else None
        after = f"it goes on from {saved.name}" if saved else "nothing was saved yet, so it starts over"
        return (
            f"The disk that holds {folder} is full ({free:,} bytes free). "
            f"Free some space, then resume run {job.id}: {after}."
        )
    if isinstance(error, StudioError):
        return str(error)
    if _memory_ran_out(error):
        return _out_of_memory(job, run)
    first_line = next(iter(str(error).splitlines()), "")
    what = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return f"{job.title} stopped unexpectedly ({what}). The log of run {job.id} has the details."


def _memory_ran_out(error: BaseException) -> bool:
    # torch raises an error of its own for a GPU, and a plain RuntimeError for the machine's memory.
    return any(
        isinstance(link, MemoryError)
        or type(link).__name__ == "OutOfMemoryError"
        or (isinstance(link, RuntimeError) and "allocate memory" in str(link))
        for link in _chain(error)
    )


def _out_of_memory(job: Job, run: WorkerRun | None) -> str:
    """What to lower, with the values that this run had."""
    task: dict[str, Any] = job.task
    batch, longest = task.get("batch_size"), task.get("max_length")
    smaller = []
    if isinstance(batch, int) and batch > 1:
        smaller.append(f"a batch of {batch // 2} instead of {batch}")
    if isinstance(longest, int) and longest > 32:
        smaller.append(f"a longest record of {longest // 2:,} tokens instead of {longest:,}")
    if task.get("saves_memory") in (False, "no", "auto") and not (run is not None and run.saves_memory):
        smaller.append("Save memory turned on")
    if "base" in task:
        smaller.append(f"a smaller base than {task['base']}")
    cure = f"Run it with changes: {', or '.join(smaller)}. Or free" if smaller else "Free"
    saved = run.checkpoints.newest() if run is not None else None
    after = f"it goes on from {saved.name}" if saved else "it starts from the beginning"
    at = f" at step {step + 1:,}" if (step := run.step if run is not None else 0) else ""
    return f"Run {job.id} ran out of memory{at}. {cure} memory and resume it: {after}."


def _disk_is_full(error: BaseException) -> bool:
    # safetensors and torch raise errors of their own around the system's.
    return any(
        getattr(link, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(link)
        for link in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _stop_on_sigterm(stop: StopWatch) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.terminate())


def _volunteer_for_the_oom_killer() -> None:
    """When memory runs out, this process should go and not the page. Linux only."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


if __name__ == "__main__":
    main()
