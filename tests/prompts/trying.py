"""A desk where prompts are tried: open and frozen sets, examples, and models that are right when a function says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio.backends import Backend, Conversation
from studio.specs import ModelRef, TokenLogprob
from studio.store import Store
from studio.tasks import Task
from tests.prompts.desk import Answering, DeskRun

ECHO = ModelRef("echo:")
OPEN, FROZEN, RECORDS = "eval:gear-development@1", "eval:gear@1", "data:gear@1"

Right = Callable[[Conversation, int], bool]


def number_of(messages: Conversation) -> int:
    """The number in a question: every item is called 'item 7'."""
    asked = next(turn.content for turn in reversed(messages) if "item " in turn.content)
    return int(asked.split("item ")[1].split()[0])


class Scripted(Answering):
    """Answers 'yes' where the function says so, by the conversation and the item's number, and 'no' elsewhere."""

    def __init__(self, right: Right) -> None:
        super().__init__(ECHO, lambda messages: "yes" if right(messages, number_of(messages)) else "no")


class Labelling(Answering):
    """Tells how likely labels are: what a function says of a conversation, in nats by label."""

    def __init__(self, likely: Callable[[Conversation], dict[str, float]]) -> None:
        super().__init__(ECHO, lambda messages: "")
        self.told: list[tuple[Conversation, str]] = []
        self._likely = likely

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        self.told.append((messages, continuation))
        return [TokenLogprob(token=continuation, logprob=self._likely(messages)[continuation])]


def items(n: int) -> list[dict[str, Any]]:
    """Questions that are answered well by 'yes'."""
    return [
        {"instruction": f"Is this item {i} ?", "rules": [{"rule": "contains_all", "values": ["yes"]}]} for i in range(n)
    ]


def records(n: int, split: str = "train", first: int = 1000) -> list[dict[str, Any]]:
    """Records about other items, answered 'a0', 'a1' and so on."""
    return [
        {
            "instruction": f"Is this item {first + i} ?",
            "context": "",
            "response": f"a{i}",
            "category": "",
            "split": split,
        }
        for i in range(n)
    ]


def furnish(store: Store, root: Path, rows: int = 60, frozen: int = 4) -> None:
    """The sets that the tests ask on."""
    store.freeze(root, "eval", "gear-development", items(rows), author="ann")
    store.freeze(root, "eval", "gear", items(rows + frozen)[rows:], author="ann")
    store.freeze(root, "data", "gear", records(8), author="ann")


def run_of(store: Store, root: Path, task: Task, model: Backend) -> DeskRun:
    return DeskRun(store, root, task, {"echo:": model})


def words_of(messages: Sequence[Any]) -> str:
    return "\n".join(turn.content for turn in messages)
