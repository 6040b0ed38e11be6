"""A run at the desk: a real store, real snapshots and made-up models, without a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import NotFound
from studio.settings import Settings
from studio.specs import Completion, ModelRef, Sampling
from studio.store import Store, read_rows
from studio.tasks import Run, Task


class Answering(EchoBackend):
    """Answers what a function says, so that a test decides which rules are kept."""

    def __init__(self, ref: ModelRef, answer: Callable[[Conversation], str]) -> None:
        super().__init__(ref)
        self.asked: list[Conversation] = []
        self.sampling: list[Sampling] = []
        self.is_closed = False
        self._answer = answer

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self.asked += batch
        self.sampling.append(sampling)
        answers = [self._answer(messages) for messages in batch]
        return [Completion(text=a, finish="stop", prompt_tokens=10, output_tokens=len(a.split())) for a in answers]

    async def close(self) -> None:
        self.is_closed = True


class DeskRun(Run):
    """Everything a task may touch; `models` holds the backends by ref."""

    def __init__(self, store: Store, root: Path, task: Task, models: dict[str, Backend]) -> None:
        self.store, self.settings = store, Settings()
        job = store.queue_job(task, author="ann")
        claimed = store.claim_job(task.lane, "desk", only=job.id)
        assert claimed is not None
        store.start_job(job.id, claimed.attempt, pid=1)
        self.id, self.attempt = job.id, claimed.attempt
        self.output = root / "runs" / str(job.id)
        self.said: list[str] = []
        self.steps: list[tuple[int, int | None]] = []
        self.stop: Callable[[], Literal["", "pause", "cancel"]] = lambda: ""
        self._root, self._models = root, models

    def finish(self, result: dict[str, Any]) -> None:
        self.store.finish_job(self.id, self.attempt, "done", result=result)

    def backend(self, ref: ModelRef) -> Backend:
        if ref not in self._models:
            raise NotFound(f"{ref} is not on this desk.")
        return self._models[ref]

    def weights(self, ref: ModelRef) -> Any:
        raise NotFound(f"{ref} has no files here.")

    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        return read_rows(self._root, self.store.snapshot(ref))

    def log(self, step: int, total: int | None = None, **metrics: float) -> None:
        self.steps.append((step, total))

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def sample(self, step: int, prompt: str, **answers: str) -> None:
        raise NotImplementedError

    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        return self.stop()

    def checkpoint(self, step: int) -> Path:
        raise NotImplementedError

    def publish(self, folder: Path) -> None:
        raise NotImplementedError

    def last_checkpoint(self) -> Path | None:
        return None


@contextmanager
def stopping_after(run: DeskRun, questions: int) -> Iterator[None]:
    """Somebody presses Stop once that many times asked."""
    asked = iter([""] * questions)
    run.stop = lambda: next(asked, "cancel")  # type: ignore[assignment,return-value]
    yield
    run.stop = lambda: ""
