"""A dataset to grow, and models that write what a function says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio.backends import Backend, Conversation
from studio.errors import ModelError
from studio.instructions import group_hash
from studio.instructions.growing import Growing
from studio.instructions.records import insertable
from studio.specs import Completion, ModelRef, Sampling
from studio.store import Record, Store
from tests.prompts.desk import Answering, DeskRun

ECHO = ModelRef("echo:")
NAME = "gear"


def last(messages: Conversation) -> str:
    return messages[-1].content


def planted(store: Store, rows: Sequence[dict[str, Any]], name: str = NAME) -> None:
    """A dataset with these records, in the training split unless a row says otherwise."""
    dataset = store.create_dataset(name, author="ann")
    made = [
        {**insertable({"context": "", "category": "open_qa"} | row), "split": row.get("split", "train")} for row in rows
    ]
    store.add_records(dataset.id, made, author="ann", source="hand")


def records(store: Store, name: str = NAME) -> list[Record]:
    return list(store.all_records(store.dataset(name).id))


def drafts(store: Store, name: str = NAME) -> list[Record]:
    return [record for record in records(store, name) if record.provenance]


def grow(
    store: Store, root: Path, task: Growing, answer: Callable[[Conversation], str] | Backend
) -> tuple[DeskRun, dict[str, Any]]:
    """Check and run a task to its end."""
    task.check(store)
    run = run_of(store, root, task, answer)
    result = task.do(run)
    run.finish(result)
    return run, result


def run_of(store: Store, root: Path, task: Growing, answer: Callable[[Conversation], str] | Backend) -> DeskRun:
    backend = answer if isinstance(answer, Backend) else Answering(ECHO, answer)
    return DeskRun(store, root, task, {str(task.model): backend})


class Choosy(Answering):
    """Cannot be asked what contains a word, and cuts the answers to what contains another."""

    def __init__(self, answer: Callable[[Conversation], str], *, refuses: str = "\0", cuts: str = "\0") -> None:
        super().__init__(ECHO, answer)
        self._refuses, self._cuts = refuses, cuts

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        if any(self._refuses in last(messages) for messages in batch):
            raise ModelError("The prompt is too long.")
        answers = await super().complete(batch, sampling, on_done)
        return [
            answer.model_copy(update={"finish": "length"}) if self._cuts in last(messages) else answer
            for answer, messages in zip(answers, batch, strict=True)
        ]


def held_out(store: Store, root: Path, instruction: str, context: str = "") -> str:
    """Puts a question into an evaluation set; gives its group."""
    store.freeze(root, "eval", "exam", [{"instruction": instruction, "context": context, "rules": []}], author="ann")
    return group_hash(instruction, context)
