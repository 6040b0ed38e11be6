"""Items to rank, put into stores by tests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from studio.instructions import group_hash, split_of
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import Annotator, DeskItem, Judged, NewItem, Prompt, Ranking, Store

ECHO = ModelRef("echo:")
BATCH = "gear"


def new_item(number: int, *answers: str, source: str = "prompts:gear@1") -> NewItem:
    """A prompt that differs from the others by its number, with these answers or three that say which they are."""
    text = f"How heavy is tent {number}?"
    group = group_hash(text, "")
    prompt = Prompt.of([user(text)], group=group, split=split_of(group), category="open_qa", source=source)
    said = answers or tuple(f"answer {k} to {number}" for k in range(3))
    return NewItem(prompt, tuple(Completion(text=t, finish="stop", prompt_tokens=5, output_tokens=3) for t in said))


def put_items(store: Store, count: int = 3, batch: str = BATCH, *, overlap: int = 1, first: int = 0) -> None:
    put(store, [new_item(first + n) for n in range(count)], batch, overlap=overlap)


def put(store: Store, items: Sequence[NewItem], batch: str = BATCH, *, overlap: int = 1, model: ModelRef = ECHO) -> int:
    return store.add_items(batch, items, model=model, sampling=Sampling(), author="ann", target_overlap=overlap)


def in_order(item: DeskItem) -> list[list[int]]:
    """The ranking of somebody who finds the answers good in the order they were sampled."""
    return [[key] for key, _ in sorted(item.answers)]


def judge(
    store: Store, item: DeskItem, by: Annotator, groups: Sequence[Sequence[int]] | None = None, client: str = ""
) -> Judged:
    given = in_order(item) if groups is None else groups
    return store.judge(Ranking(item.assignment_id, client or str(uuid.uuid4()), given), by)
