"""A run at the desk: a real store, real snapshots and made-up models, without a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import NotFound
from studio.specs import Completion, ModelRef, Sampling
from studio.store import Store
from studio.tasks import Task
from tests.memory_run import MemoryRun


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


class DeskRun(MemoryRun):
    """A run with a real job behind it; `models` holds the backends by ref."""

    def __init__(self, store: Store, root: Path, task: Task, models: dict[str, Backend]) -> None:
        job = store.queue_job(task, author="ann")
        claimed = store.claim_job(task.lane, "desk", only=job.id)
        assert claimed is not None
        store.start_job(job.id, claimed.attempt, pid=1)
        super().__init__(root / "runs" / str(job.id), store=store, workspace=root, backend=self._at_the_desk)
        self.id, self.attempt = job.id, claimed.attempt
        self.stop: Callable[[], Literal["", "pause", "cancel"]] = lambda: ""
        self._models = models

    def _at_the_desk(self, ref: ModelRef) -> Backend:
        if ref not in self._models:
            raise NotFound(f"{ref} is not on this desk.")
        return self._models[ref]

    def finish(self, result: dict[str, Any]) -> None:
        self.store.finish_job(self.id, self.attempt, "done", result=result)

    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        return self.stop()


@contextmanager
def stopping_after(run: DeskRun, questions: int) -> Iterator[None]:
    """Somebody presses Stop once that many times asked."""
    asked = iter([""] * questions)
    run.stop = lambda: next(asked, "cancel")  # type: ignore[assignment,return-value]
    yield
    run.stop = lambda: ""
