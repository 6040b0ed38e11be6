"""Simulated judgements: a rule that can be checked by hand, and marks that say it was one."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import studio.preferences.simulated as simulated
from studio.errors import NotFound
from studio.jobs import task_from
from studio.preferences import RULE, SimulateJudgements, points, ranking, rule_annotator
from studio.store import Store
from tests.preferences.items import BATCH, judge, new_item, put, put_items
from tests.prompts.desk import DeskRun, stopping_after

QUESTION = "Does the Heron 2 weigh 2.1 kg, and is delivery 4.90 euros?"


@pytest.mark.parametrize(
    ("answer", "made_up"),
    [
        pytest.param("No figure here.", 0, id="none"),
        pytest.param("It weighs 2.1 kg, and delivery is 4.90.", 0, id="given ones"),
        pytest.param("It weighs 2.8 kg.", 1, id="another"),
        pytest.param("It is 3 kg, yes 3.", 2, id="each time it is said"),
        pytest.param("4.9 is not 4.90.", 1, id="as it is written"),
        pytest.param("On 10, 20 and 1,500 days", 3, id="three"),
        pytest.param("Order BF-48213, the 2nd.", 1, id="inside words"),
    ],
)
def test_every_figure_that_the_question_does_not_give_costs_a_point(answer: str, made_up: int) -> None:
    assert points(QUESTION, answer) == -made_up


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("You can wash it.", 1.0, id="speaks to the reader"),
        pytest.param("It can be washed.", 0.0, id="does not"),
        pytest.param("Wash your jacket in 30 days.", 0.0, id="and makes a figure up"),
        pytest.param("you " * 45, 1.0, id="long enough"),
        pytest.param("you " * 50, 0.5, id="five words too long"),
        pytest.param("you " * 55, 0.0, id="ten words too long"),
        pytest.param("", 0.0, id="nothing"),
    ],
)
def test_speaking_to_the_reader_is_worth_as_much_as_ten_words_past_45(answer: str, expected: float) -> None:
    assert points(QUESTION, answer) == expected


def test_equal_points_tie() -> None:
    answers = [(7, "You can wash it."), (3, "You can."), (9, "It can be washed."), (5, "It dries in 30 days.")]
    assert ranking(QUESTION, answers) == [[3, 7], [9], [5]]


@given(st.lists(st.text("ab 12.", max_size=12), min_size=2, max_size=4))
def test_the_ranking_does_not_depend_on_the_order_of_the_answers(texts: list[str]) -> None:
    answers = list(enumerate(texts))
    assert {str(ranking(QUESTION, order)) for order in permutations(answers)} == {str(ranking(QUESTION, answers))}
    assert sorted(key for group in ranking(QUESTION, answers) for key in group) == list(range(len(texts)))


# -- the task ------------------------------------------------------------------------------------------------


def _run(store: Store, root: Path) -> DeskRun:
    return DeskRun(store, root, SimulateJudgements(batch=BATCH), {})


def _simulate(store: Store, root: Path) -> dict[str, object]:
    run = _run(store, root)
    result = SimulateJudgements(batch=BATCH).do(run)
    run.finish(result)
    return result


def test_every_item_is_ranked_by_the_rule_and_marked_as_such(store: Store, tmp_path: Path) -> None:
    put(store, [new_item(1, "It is 9 kg.", "You lift it.", "You carry it easily."), new_item(2, "Yes.", "No.")])
    result = _simulate(store, tmp_path)
    assert (result["items"], result["judged"], result["rule"]) == (2, 2, RULE)
    first, second = store.judgements(BATCH)
    texts = {a.id: a.text for a in first.answers}
    assert [{texts[key] for key in group} for group in first.groups] == [
        {"You lift it.", "You carry it easily."},
        {"It is 9 kg."},
    ]
    assert (len(second.groups), second.tie_kind) == (1, "equal")
    assert {(j.annotator_kind, j.note) for j in (first, second)} == {("rule", RULE)}
    (batch,) = store.batches()
    assert (batch.judged, batch.human, batch.simulated) == (2, 0, 2)


def test_a_second_run_ranks_only_what_is_new(sqlite_store: Store, tmp_path: Path) -> None:
    put_items(sqlite_store, 40)
    assert _simulate(sqlite_store, tmp_path)["judged"] == 40
    assert _simulate(sqlite_store, tmp_path)["judged"] == 0
    put_items(sqlite_store, 2, first=40)
    assert _simulate(sqlite_store, tmp_path)["judged"] == 2
    assert sqlite_store.batches()[0].simulated == 42


def test_people_and_the_rule_do_not_get_in_each_others_way(sqlite_store: Store, tmp_path: Path) -> None:
    put_items(sqlite_store, 3)
    ann = sqlite_store.annotator("ann")
    first, second = sqlite_store.lease_items(BATCH, ann, 2, seconds=60)
    judge(sqlite_store, first, ann)
    assert _simulate(sqlite_store, tmp_path)["judged"] == 3
    assert second in sqlite_store.lease_items(BATCH, ann, 2, seconds=60)
    assert sqlite_store.labeling_progress(BATCH, ann).left == 2


def test_a_stopped_run_goes_on_where_it_was(sqlite_store: Store, tmp_path: Path) -> None:
    put_items(sqlite_store, 40)
    run = _run(sqlite_store, tmp_path)
    with stopping_after(run, 1):
        assert SimulateJudgements(batch=BATCH).do(run)["judged"] == 32
    assert SimulateJudgements(batch=BATCH).do(run)["judged"] == 8
    assert run.steps[-1] == (40, 40)


def test_another_rule_is_another_annotator(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_items(sqlite_store, 2)
    before = rule_annotator(sqlite_store)
    _simulate(sqlite_store, tmp_path)
    monkeypatch.setattr(simulated, "RULE", "The longest wins.")
    assert _simulate(sqlite_store, tmp_path)["judged"] == 2
    assert rule_annotator(sqlite_store) != before
    assert {j.note for j in sqlite_store.judgements(BATCH)} == {RULE, "The longest wins."}


def test_the_rule_in_words_names_what_points_takes_off() -> None:
    assert "one point off for every figure" in RULE
    assert f"a tenth of a point off for every word past {simulated._ENOUGH_WORDS}" in RULE
    assert simulated._WORD_COST == 0.1


def test_a_batch_that_is_not_there_is_refused_before_anything_is_queued(sqlite_store: Store) -> None:
    put_items(sqlite_store, 1)
    with pytest.raises(NotFound, match=f"nobody.*{BATCH}"):
        SimulateJudgements(batch="nobody").check(sqlite_store)


def test_the_task_is_found_by_its_kind() -> None:
    assert task_from("simulate", {"batch": BATCH}) == SimulateJudgements(batch=BATCH)
