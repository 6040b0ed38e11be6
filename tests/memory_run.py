"""A `Run` without a worker: what a task logs stays in lists, its checkpoints in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from studio.backends import Backend, open_backend
from studio.models import Weights, resolve
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Store, read_rows
from studio.tasks import Run


class MemoryRun(Run):
    """`stop_after` asks the task to stop once it has logged that many steps."""

    def __init__(
        self,
        output: Path,
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        workspace: Path | None = None,
        stop_after: int | None = None,
        backend: Callable[[ModelRef], Backend] | None = None,
    ) -> None:
        self.id, self.attempt, self.output = 1, 1, output
        self.settings = settings or Settings()
        self.store = store  # type: ignore[assignment]
        self.workspace = workspace or output
        self.stop_after = stop_after
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.steps: list[tuple[int, int | None]] = []
        self.said: list[str] = []
        self.samples: list[tuple[int, str, dict[str, str]]] = []
        self.releases = 0
        self._backend = backend
        self._last: Path | None = None

    def backend(self, ref: ModelRef) -> Backend:
        if self._backend is not None:
            return self._backend(ref)
        return open_backend(ref, settings=self.settings, store=self.store, workspace=self.workspace)

    def weights(self, ref: ModelRef) -> Weights:
        return resolve(ref, settings=self.settings, store=self.store, workspace=self.workspace)

    def release_engine(self) -> None:
        self.releases += 1

    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        return read_rows(self.workspace, self.store.snapshot(ref))

    def log(self, step: int, total: int | None = None, **metrics: float) -> None:
        self.logged.append((step, metrics))
        self.steps.append((step, total))

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def sample(self, step: int, prompt: str, **answers: str) -> None:
        self.samples.append((step, prompt, answers))

    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        done = max((step for step, _ in self.logged), default=0)
        return "pause" if self.stop_after is not None and done >= self.stop_after else ""

    def checkpoint(self, step: int) -> Path:
        folder = self.output / "checkpoints" / f"step-{step}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path) -> None:
        final = folder.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)  # stopped again before it took a step
        self._last = folder.rename(final)

    def last_checkpoint(self) -> Path | None:
        return self._last

    def values(self, name: str) -> list[float]:
        """Everything logged under a name, in order."""
        return [metrics[name] for _, metrics in self.logged if name in metrics]
