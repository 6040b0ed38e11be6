"""A workspace with a supervisor and real workers in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.jobs import Deadlines, Supervisor, run_folder
from studio.processes import signal_holder, wait_until
from studio.settings import Settings
from studio.store import Job, Store
from studio.tasks import Task

EXTRA_TASKS = "tests.jobs.tasks_for_tests"


class Shop:
    """A workspace, and what a test does in it."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self.store = path, store
        # One thread: what is measured here is order, and other tests want the cores.
        self.settings = Settings(workspace=path, cache=path / "cache", runtime=path / "runtime", threads=1)
        self.supervisors: list[Supervisor] = []

    def supervise(self, deadlines: Deadlines | None = None) -> Supervisor:
        supervisor = Supervisor(self.store, self.path, self.settings, deadlines)
        supervisor.start()
        self.supervisors.append(supervisor)
        return supervisor

    def queue(self, task: Task) -> int:
        return self.store.queue_job(task, author="ann").id

    def folder(self, job_id: int) -> Path:
        return run_folder(self.path, job_id)

    def lock(self, job_id: int) -> Path:
        return self.folder(job_id) / "lock"

    def log(self, job_id: int) -> str:
        return (self.folder(job_id) / "log.txt").read_text()

    def steps(self, job_id: int) -> list[int]:
        return [metric.step for metric in self.store.metrics(job_id)]

    def wait(self, job_id: int, condition: Callable[[Job], bool], seconds: float = 40) -> Job:
        """The job, as soon as the condition holds of it."""
        if not wait_until(lambda: condition(self.store.job(job_id)), seconds):
            log = self.folder(job_id) / "log.txt"
            pytest.fail(f"{self.store.job(job_id)}\n{log.read_text() if log.exists() else 'no log'}")
        return self.store.job(job_id)

    def ended(self, job_id: int) -> Job:
        return self.wait(job_id, lambda job: job.is_over)

    def counting(self, job_id: int) -> Job:
        """Wait until the worker is at its first step."""
        return self.wait(job_id, lambda job: job.step > 0)

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.close()
        for lock in self.path.glob("runs/*/lock"):
            signal_holder(lock, signal.SIGKILL)


@pytest.fixture
def shop(tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("LADDER_EXTRA_TASKS", EXTRA_TASKS)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    shop = Shop(tmp_path, sqlite_store)
    yield shop
    shop.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that lets gated tasks go on, once it is there."""
    return tmp_path / "gate"
