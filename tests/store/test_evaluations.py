"""Evaluations: every measured answer is kept beside its verdict."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from studio.errors import NotFound
from studio.store import ScoredItem, Store
from studio.tasks import Run, Task


class Nothing(Task):
    kind: ClassVar[str] = "nothing"

    @property
    def title(self) -> str:
        return "Nothing"

    def do(self, run: Run) -> dict[str, Any]:
        return {}


@pytest.fixture
def summary(store: Store) -> dict[str, Any]:
    return {
        "job_id": store.queue_job(Nothing(), author="ann").id,
        "snapshot": "eval:gear@1",
        "model": "echo:",
        "template": "plain#12345678",
        "sampling": {"temperature": 0.0, "stop": []},
        "items": 2,
        "score": 0.75,
        "low": 0.2,
        "high": 1.0,
        "prompt_tokens": 9.5,
        "output_tokens": 3.0,
        "seconds": 0.1,
        "author": "ann",
    }


def _item(position: int, kept: list[bool]) -> ScoredItem:
    return ScoredItem(position, sum(kept) / len(kept), kept, f"Antwort {position} 🏕️", "stop", 9, 3)


def test_an_evaluation_and_its_answers_come_back_in_the_order_of_the_snapshot(
    store: Store, summary: dict[str, Any]
) -> None:
    made = store.add_evaluation(summary, [_item(1, [True, False]), _item(0, [True, True])])
    assert store.evaluation(made.id) == made
    assert (made.score, made.low, made.high, made.sampling["stop"]) == (0.75, 0.2, 1.0, [])
    assert store.evaluation_items(made.id) == [_item(0, [True, True]), _item(1, [True, False])]


def test_evaluations_are_listed_newest_first_and_by_snapshot(store: Store, summary: dict[str, Any]) -> None:
    for snapshot in ("eval:gear@1", "eval:gear@2", "eval:gear@1"):
        store.add_evaluation(summary | {"snapshot": snapshot}, [_item(0, [True])])
    assert [e.id for e in store.evaluations()] == [3, 2, 1]
    assert [e.id for e in store.evaluations("eval:gear@1")] == [3, 1]


def test_an_item_that_is_refused_takes_the_summary_with_it(store: Store, summary: dict[str, Any]) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        store.add_evaluation(summary, [_item(0, [True]), _item(0, [True])])
    assert store.evaluations() == []


def test_a_missing_evaluation_is_a_sentence(store: Store) -> None:
    with pytest.raises(NotFound, match="There is no evaluation 5"):
        store.evaluation(5)


# -- what scorers say ------------------------------------------------------------------------------------------


def test_every_scorer_keeps_its_own_scores_in_the_order_of_the_snapshot(store: Store, summary: dict[str, Any]) -> None:
    made = store.add_evaluation(summary, [_item(0, [True]), _item(1, [False])])
    store.add_scores(made.id, "run:9", [1.25, -0.5])
    store.add_scores(made.id, "rule-1234abcd", (0, -2))
    assert store.scores(made.id) == {"run:9": [1.25, -0.5], "rule-1234abcd": [0, -2]}


def test_what_a_scorer_said_first_stays(store: Store, summary: dict[str, Any]) -> None:
    made = store.add_evaluation(summary, [_item(0, [True]), _item(1, [False])])
    store.add_scores(made.id, "run:9", [1.25, -0.5])
    store.add_scores(made.id, "run:9", [9.0, 9.0])
    assert store.scores(made.id) == {"run:9": [1.25, -0.5]}


def test_scores_belong_to_one_evaluation(store: Store, summary: dict[str, Any]) -> None:
    one, other = (store.add_evaluation(summary, [_item(0, [True])]) for _ in range(2))
    store.add_scores(one.id, "run:9", [1.25])
    assert store.scores(other.id) == {}
