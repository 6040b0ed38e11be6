"""What a third rung stands on: backends that score, and models with the runs that made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from studio.backends import Conversation, EchoBackend
from studio.specs import ModelRef
from studio.store import Store, model_row
from studio.tasks import Run, Task


class Scoring(EchoBackend):
    """Scores what a function says of question and answer."""

    def __init__(self, ref: ModelRef, score: Callable[[str, str], float]) -> None:
        super().__init__(ref)
        self.calls: list[list[Conversation]] = []
        self.is_closed = False
        self._score = score

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        self.calls.append(list(conversations))
        return [self._score(asked.content, answered.content) for asked, answered in conversations]

    async def close(self) -> None:
        self.is_closed = True


class Trained(Task):
    """Stands for a recipe that ended: its job is there for the sake of its result."""

    kind: ClassVar[str] = "trained"

    @property
    def title(self) -> str:
        return "Train a model"

    def do(self, run: Run) -> dict[str, Any]:
        return {}


def trained(store: Store, result: dict[str, Any], **row: Any) -> ModelRef:
    """A model with the run that made it; `row` fills its row, `result` is what the run reported."""
    job = store.queue_job(Trained(), author="ann")
    claimed = store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    store.start_job(job.id, claimed.attempt, pid=1)
    ref = ModelRef.of_run(job.id)
    model = model_row(ref, f"Model {job.id}", author="ann", **row)
    store.finish_job(job.id, claimed.attempt, "done", result=result, model=model)
    return ref
