"""The desk: people by name, their items under a lease, and the guidelines that stood beside them."""

from __future__ import annotations

import hashlib
import time
import uuid

import pytest
import sqlalchemy as sa

import studio.preferences as desk
from studio.errors import Conflict, NotFound
from studio.preferences import LEASE_SECONDS, Progress, Ranking
from studio.store import DeskItem, Store
from studio.store import tables as t
from tests.preferences.items import BATCH, in_order, new_item, put, put_items


def _give(item: DeskItem) -> Ranking:
    return Ranking(item.assignment_id, str(uuid.uuid4()), in_order(item))


def test_a_session_at_the_desk(store: Store) -> None:
    put_items(store, 3)
    one, two = desk.next_items(store, BATCH, "ann")
    judged = desk.judge(store, _give(one), "ann")
    assert (judged.is_new, judged.batch) == (True, BATCH)
    desk.skip(store, BATCH, two.assignment_id, "ann")
    assert desk.last_judged(store, BATCH, "ann") == two
    assert desk.next_items(store, BATCH, "ann")[0] == two
    assert desk.progress(store, BATCH, "ann") == Progress(mine=1, judged=1, items=3, left=2)
    assert desk.progress(store, BATCH, "ben") == Progress(mine=0, judged=1, items=3, left=2)
    with pytest.raises(Conflict, match="nothing to undo"):
        desk.last_judged(store, BATCH, "ben")


def test_people_are_annotators_of_kind_human(store: Store) -> None:
    put_items(store, 1)
    desk.judge(store, _give(desk.next_items(store, BATCH, "ann")[0]), "ann")
    assert [(j.annotator, j.annotator_kind) for j in store.judgements(BATCH)] == [("ann", "human")]


@pytest.mark.parametrize("source", ["prompts:gear@3", "data:gear@1"])
def test_an_assignment_remembers_the_guidelines_and_its_lease(store: Store, source: str) -> None:
    store.create_dataset("gear", author="ann", guidelines="Be brief.")
    put(store, [new_item(1, source=source)], "another-name")
    assert desk.guidelines_of(store, "another-name") == "Be brief."
    desk.next_items(store, "another-name", "ann")
    with store._read() as c:
        row = c.execute(sa.select(t.assignments)).mappings().one()
    assert row["guideline"] == hashlib.sha256(b"Be brief.").hexdigest()[:12]
    assert LEASE_SECONDS - 60 < row["lease_until"] - time.time() <= LEASE_SECONDS


@pytest.mark.parametrize("source", ["", "prompts:nobody@1"])
def test_prompts_of_no_dataset_have_no_guidelines(store: Store, source: str) -> None:
    put(store, [new_item(1, source=source)])
    assert desk.guidelines_of(store, BATCH) == ""
    desk.next_items(store, BATCH, "ann")
    with store._read() as c:
        assert c.execute(sa.select(t.assignments.c.guideline)).scalar_one() == ""


def test_an_unknown_batch_is_told_with_the_known_ones(store: Store) -> None:
    put_items(store, 1)
    for ask in (desk.next_items, desk.progress, desk.last_judged):
        with pytest.raises(NotFound, match=r"no batch 'geer'\. Known batches: gear\."):
            ask(store, "geer", "ann")
