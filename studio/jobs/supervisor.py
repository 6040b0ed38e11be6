"""The supervisor: claims queued jobs, starts their workers, hurries those that should stop, buries the dead.

It is a thread of the app, but owns nothing that a successor would miss: what happens is in the database, who
lives is in the lock files, so a new supervisor takes over the workers of an app that is gone. Several at once
(app and command line) do no harm: claiming is one transaction, and declaring a death names the attempt.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from studio.errors import Conflict, RunError, StudioError
from studio.jobs.checkpoints import Checkpoints
from studio.jobs.manifest import Manifest
from studio.jobs.telling import Teller
from studio.processes import Holder, Lock, alive, holder, signal_holder, spawn, sweep
from studio.settings import Settings
from studio.store import Job, Store
from studio.tasks import Lane, Task

__all__ = [
    "Deadlines",
    "Supervisor",
    "app_holder",
    "claim_workspace",
    "queue",
    "resume",
    "run_folder",
    "run_here",
]

logger = logging.getLogger(__name__)

_Attempt = tuple[int, int]  # run, attempt

_POLL_SECONDS = 0.25
_PAUSES_BEFORE_THE_END = (1.0, 3.0)  # between tries to tell of a run, for a command that people wait for
_NICE = 10


@dataclass(frozen=True)
class Deadlines:
    """How long each stage of ending a run may take, in seconds; the run's message says which applies."""

    soft: float = 20.0  # from the request to SIGTERM: the task saves a checkpoint and returns
    term: float = 5.0  # from SIGTERM to SIGKILL
    start: float = 60.0  # from the claim to the worker's lock


@dataclass(frozen=True)
class _Child:
    attempt: int
    process: subprocess.Popen[bytes]


class Supervisor:
    """Watches over the jobs of one workspace on this machine."""

    def __init__(self, store: Store, workspace: Path, settings: Settings, deadlines: Deadlines | None = None) -> None:
        self._store = store
        self._workspace = workspace.resolve()
        self._settings = settings
        self._deadlines = deadlines or Deadlines()
        self._host = _host_of(self._workspace)
        self._children: dict[int, _Child] = {}
        # By the monotonic clock, from when this supervisor saw it first: the machine's clock may be set meanwhile.
        self._waits_since: dict[_Attempt, float] = {}  # for the worker's lock
        self._asked_since: dict[_Attempt, float] = {}  # to end
        self._told_to_end: dict[_Attempt, float] = {}  # when SIGTERM was sent
        self._said: dict[_Attempt, str] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._teller = Teller(store, self._workspace, settings, self._host)

    def start(self) -> None:
        """Begin to watch, in a thread of its own, and to tell of what ended, in another."""
        self._teller.start()
        self._thread = threading.Thread(target=self._watch_for_ever, name="supervisor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Workers go on; the next supervisor takes them over."""
        self._closing.set()
        self._teller.close()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def tick(self, only: int | None = None, claim: bool = True) -> None:
        """One round: look after those that run, then start what may start (`only` that one, when given)."""
        active = self._store.active_jobs(self._host)
        for job in active:
            self._look_after(job)
        self._reap({_attempt(job) for job in active})
        if claim and self._store.jobs(limit=1, states=["queued"]):
            for lane in get_args(Lane):
                job_to_start = self._store.claim_job(lane, self._host, only=only)
                if job_to_start is not None:
                    self._start_worker(job_to_start)

    def _watch_for_ever(self) -> None:
        trouble = ""
        while not self._closing.is_set():
            try:
                self.tick()
                trouble = ""
            except StudioError as error:
                if str(error) != trouble:
                    logger.warning("The supervisor waits: %s", error)
                trouble = str(error)
            except Exception:
                # Whatever it is, the jobs of everybody hang on this thread.
                logger.exception("The supervisor stumbled and goes on.")
            self._closing.wait(_POLL_SECONDS)

    # -- starting ------------------------------------------------------------------------------------------

    def _start_worker(self, job: Job) -> None:
        folder = run_folder(self._workspace, job.id)
        try:
            if job.attempt == 1:
                _move_aside(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "manifest.json").exists():
                Manifest.of(job, self._store, self._settings).write(folder)
            argv = [sys.executable, "-m", "studio.jobs.worker", str(job.id), "--attempt", str(job.attempt)]
            argv += ["--workspace", str(self._workspace)]
            process = spawn(argv, folder / "log.txt", env=self._environment(), nice=_NICE)
        except OSError as error:
            self._finish(job, "failed", _cannot_prepare(job, folder, error))
        except StudioError as error:
            self._finish(job, "failed", str(error))
        else:
            self._children[job.id] = _Child(job.attempt, process)

    def _environment(self) -> dict[str, str]:
        """The worker gets the settings that we have; not as arguments, which the whole machine can read."""
        told = {**self._settings.model_dump(mode="json"), "workspace": str(self._workspace)}
        told["database_url"] = self._store.url.render_as_string(hide_password=False)
        env = dict(os.environ)
        for field, value in told.items():
            name = f"LADDER_{field.upper()}"
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value if isinstance(value, str) else json.dumps(value)
        env |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "TOKENIZERS_PARALLELISM": "false"}
        env |= {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}  # the log is for people
        if self._settings.offline:
            env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        # Waiting threads spin; beside a busy engine that wastes whole time slices (see studio/engine/client.py).
        env.setdefault("GOMP_SPINCOUNT", "20000")
        if self._settings.threads:
            env["OMP_NUM_THREADS"] = str(self._settings.threads)
        return env

    # -- looking after -------------------------------------------------------------------------------------

    def _look_after(self, job: Job) -> None:
        lock = run_folder(self._workspace, job.id) / "lock"
        if alive(lock):
            if job.intent == "cancel":
                self._hurry(job, lock)
            return
        child = self._children.get(job.id)
        if child is not None and child.attempt != job.attempt:
            child = None
        code = sweep(child.process) if child is not None else None
        waited = _since(self._waits_since, _attempt(job))
        if code is None and job.pid is None and waited < self._deadlines.start:
            return  # on its way to its lock
        if code is None and child is not None:
            child.process.kill()  # not reaped yet, so its number is still its own
            return
        # While we share the lock no worker can begin, so what is declared dead stays dead.
        grave = Lock.take(lock, shared=True)
        if grave is not None:
            with grave:
                self._bury(job, code)

    def _hurry(self, job: Job, lock: Path) -> None:
        """Soft stop, SIGTERM, SIGKILL: each after its deadline, and the row says which."""
        limits, attempt = self._deadlines, _attempt(job)
        waited = _since(self._asked_since, attempt)
        told = self._told_to_end.get(attempt)
        if told is None and waited < limits.soft:
            sentence = f"Stopping: saves a checkpoint within {limits.soft:g} s of the request, else it is ended"
        elif told is None:
            signal_holder(lock, signal.SIGTERM)
            self._told_to_end[attempt] = time.monotonic()
            sentence = f"Did not stop within {limits.soft:g} s: told to end, killed {limits.term:g} s later"
        elif time.monotonic() - told < limits.term:
            return
        else:
            signal_holder(lock, signal.SIGKILL)
            sentence = f"Did not end within {limits.soft:g} + {limits.term:g} s: killed"
        if self._said.get(attempt) != sentence:
            self._said[attempt] = sentence
            with contextlib.suppress(RunError):  # it ended in this very moment
                self._store.say(job.id, job.attempt, sentence)

    def _bury(self, job: Job, code: int | None) -> None:
        checkpoints = Checkpoints(run_folder(self._workspace, job.id))
        checkpoints.discard_unfinished()
        if job.intent == "cancel":
            self._finish(job, "cancelled")
            return
        saved = checkpoints.newest()
        start = f"goes on from {saved.name}" if saved else "starts from the beginning"
        end = "did not start" if job.pid is None else "ended without a word"
        how = f" ({_ending(code)})" if code is not None else ""
        self._finish(
            job,
            "lost",
            f"The process of run {job.id} {end}{how}. Resume it: it {start}. Its log may say more.",
        )

    def _finish(self, job: Job, state: Literal["failed", "cancelled", "lost"], error: str = "") -> None:
        with contextlib.suppress(RunError):  # its worker's own last word came first
            self._store.finish_job(job.id, job.attempt, state, error=error)

    def _reap(self, active: set[_Attempt]) -> None:
        """Let go of what has ended; a worker that ended by itself is reaped here."""
        for job_id, child in list(self._children.items()):
            if sweep(child.process) is not None and (job_id, child.attempt) not in active:
                del self._children[job_id]
        self._told_to_end = {key: at for key, at in self._told_to_end.items() if key in active}
        for kept in (self._waits_since, self._asked_since):
            for key in kept.keys() - active:
                del kept[key]
        self._said = {key: sentence for key, sentence in self._said.items() if key in active}


def run_folder(workspace: Path, job_id: int) -> Path:
    """Where a run's manifest, log, checkpoints and model are."""
    return workspace / "runs" / str(job_id)


def queue(store: Store, task: Task, *, author: str, client_key: str | None = None) -> Job:
    """Check a task and put it in line. The same client key gives the same job back."""
    task.check(store)
    return store.queue_job(task, author=author, client_key=client_key)


def resume(store: Store, workspace: Path, job_id: int, *, by: str) -> Job:
    """Queue a run again that ended before it was done; it goes on from its last checkpoint."""
    job = store.job(job_id)
    if job.state == "cancelled" and Checkpoints(run_folder(workspace, job_id)).newest() is None:
        raise Conflict(f"Run {job_id} was cancelled before it saved anything. Run it again to get a new one.")
    return store.resume_job(job_id, by=by)


def claim_workspace(path: Path, address: str) -> Lock:
    """Be the one app of a workspace for as long as the lock is held; raises Conflict naming the other app."""
    lock = Lock.take(path / "app.lock", note=address, wait=1.0)
    if lock is not None:
        return lock
    other = app_holder(path)
    who = f"process {other.pid} on {other.host}, at {other.note}" if other else "another process"
    raise Conflict(
        f"The workspace {path} is already open in a studio ({who}). "
        "Use that one, stop it first, or choose another folder with --workspace."
    )


def app_holder(path: Path) -> Holder | None:
    """Which app has the workspace open now; its `note` is its address."""
    lock = path / "app.lock"
    return holder(lock) if alive(lock) else None


def run_here(
    store: Store,
    workspace: Path,
    settings: Settings,
    job_id: int,
    *,
    tell: Callable[[Job], None] | None = None,
    deadlines: Deadlines | None = None,
) -> Job:
    """See a queued job through to its end, for the command line.

    While an app has the workspace open its supervisor starts the job and we only wait. Otherwise we supervise
    this one job here; should we be interrupted, its worker goes on, and whoever comes next takes over. Raises Conflict
    when its queue is stopped; the job waits in it then.
    """
    supervisor = Supervisor(store, workspace, settings, deadlines)
    pause = threading.Event()
    while True:
        job = store.job(job_id)
        if tell is not None:
            tell(job)
        if job.is_over or job.state in ("held", "proposed"):
            if job.is_over and app_holder(workspace) is None:
                Teller(store, workspace, settings, _host_of(workspace), _PAUSES_BEFORE_THE_END).finish()
            return job
        if job.state == "queued" and (why := store.queue_of(job.lane).stopped):
            raise Conflict(
                f"Run {job.id} waits, because its queue is stopped: {why} "
                f"Let it move again with `ladder jobs queue {job.lane} --go-on`."
            )
        supervisor.tick(only=job_id, claim=app_holder(workspace) is None)
        pause.wait(_POLL_SECONDS)


def _host_of(workspace: Path) -> str:
    """The name under which this workspace's rows are ours.

    Kept in a file, since a container has a new host name after every restart; and partly random, since two
    workspaces of one machine may share a database.
    """
    path = workspace / "host"
    if not path.exists():
        part = workspace / f".host.{secrets.token_hex(4)}.part"
        part.write_text(f"{socket.gethostname()}/{secrets.token_hex(4)}", encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # unlike a rename, this lets the first one win
        part.unlink()
    return path.read_text(encoding="utf-8").strip()


def _since(first: dict[_Attempt, float], attempt: _Attempt) -> float:
    """Seconds since the attempt was first asked about."""
    return time.monotonic() - first.setdefault(attempt, time.monotonic())


def _attempt(job: Job) -> _Attempt:
    return job.id, job.attempt


def _move_aside(folder: Path) -> None:
    """Keep a new run out of a folder of the same number, left by a database that is not this one."""
    if not folder.exists():
        return
    if alive(folder / "lock"):
        raise RunError(f"{folder} is in use by a run of another database. Give each database its own workspace.")
    folder.rename(folder.with_name(f"{folder.name}.before-{time.time_ns()}"))


def _cannot_prepare(job: Job, folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(folder.parent).free
        return f"The disk that holds {folder} is full ({free:,} bytes free). Free some space, then resume run {job.id}."
    return f"Run {job.id} could not be started in {folder} ({error.strerror}). Mend that, then resume it."


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed by signal 9, often because memory ran out"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
