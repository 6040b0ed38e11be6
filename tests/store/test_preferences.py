"""Preferences: nobody's judgement is lost, counted twice or turned round, however many people judge at once."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import studio.store.assignments as assignments
from studio.errors import Conflict, InputError, NotFound
from studio.processes import wait_until
from studio.specs import ModelRef
from studio.store import Annotator, DeskItem, NotYours, Progress, Ranking, Store
from studio.store import tables as t
from tests.preferences.items import BATCH, in_order, judge, new_item, put, put_items

HOUR = 3600.0
OVER = -1.0  # a lease that ran out before it began

# Examples of one test share a store; each of them makes a batch of its own.
sharing_a_store = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture
def ann(store: Store) -> Annotator:
    return store.annotator("ann")


@pytest.fixture
def ben(store: Store) -> Annotator:
    return store.annotator("ben")


def _lease(store: Store, who: Annotator, count: int = 2, seconds: float = HOUR, batch: str = BATCH) -> list[DeskItem]:
    return store.lease_items(batch, who, count, seconds=seconds)


def _rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    with store._read() as c:
        return [dict(row) for row in c.execute(sa.select(table).order_by(table.c.id)).mappings()]


def _undo(store: Store, who: Annotator, batch: str = BATCH) -> DeskItem:
    return store.take_back(batch, who, seconds=HOUR)


# -- items ---------------------------------------------------------------------------------------------------


def test_an_item_comes_back_with_its_prompt_and_its_answers(store: Store, ann: Annotator) -> None:
    put(store, [new_item(1, "Two kilos.", "You carry 2.1 kg. 🙂")])
    (item,) = _lease(store, ann)
    assert item.prompt == [{"role": "user", "content": "How heavy is tent 1?"}]
    assert sorted(text for _, text in item.answers) == ["Two kilos.", "You carry 2.1 kg. 🙂"]


def test_a_sampled_answer_is_kept_with_all_that_made_it(store: Store) -> None:
    put(store, [new_item(1)])
    rows = _rows(store, t.completions)
    assert {row["model"] for row in rows} == {"echo:"}
    assert {row["prompt_id"] for row in rows} == {new_item(1).prompt.id}
    assert len({row["ticket"] for row in rows}) == 3
    assert store.completion(rows[0]["ticket"]).messages == new_item(1).prompt.messages
    assert store.kept_completions() == []


def test_a_prompt_is_in_a_batch_once(store: Store) -> None:
    assert put(store, [new_item(1), new_item(2)]) == 2
    assert put(store, [new_item(2), new_item(3), new_item(3)]) == 1
    assert put(store, [new_item(1)], "another") == 1
    assert [(b.name, b.items) for b in store.batches()] == [("another", 1), ("gear", 3)]
    assert store.batch_prompts("gear") == {new_item(n).prompt.id for n in (1, 2, 3)}


def test_a_prompt_keeps_the_split_it_was_born_into(store: Store) -> None:
    first = new_item(1)
    put(store, [first])
    moved = replace(first, prompt=replace(first.prompt, split="excluded", source="prompts:other@1"))
    put(store, [moved], "another")
    (row,) = _rows(store, t.prompts)
    assert (row["split"], row["source"]) == (first.prompt.split, "prompts:gear@1")


def test_samplings_of_one_batch_at_once_add_every_prompt_once(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: put(store, [new_item(n) for n in range(8)]), range(4)))
    assert sum(added) == 8
    assert (len(_rows(store, t.items)), len(_rows(store, t.completions))) == (8, 24)


@pytest.mark.parametrize(
    ("items", "batch", "sentence"),
    [
        pytest.param([new_item(1), new_item(2, "alone")], BATCH, "2 to 4 answers, not 1", id="one answer"),
        pytest.param([new_item(1, *"abcde")], BATCH, "2 to 4 answers, not 5", id="five answers"),
        pytest.param([new_item(1)], "two words", "'two words' cannot name a batch", id="a name that no ref can hold"),
    ],
)
def test_items_that_cannot_be_ranked_are_refused_with_all_that_came_along(
    store: Store, items: list[Any], batch: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        put(store, items, batch)
    assert [_rows(store, table) for table in (t.items, t.prompts, t.completions)] == [[], [], []]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<script>alert(1)</script><img src=x onerror=alert(1)>", id="html"),
        pytest.param("**bold** ${1+1} {{x}} \\ \" '", id="markup"),
        pytest.param("Zelt 🏕️ שלום\r\nline\u2028break", id="signs"),
    ],
)
def test_an_answer_travels_unchanged(store: Store, ann: Annotator, text: str) -> None:
    put(store, [new_item(1, text, "other")])
    assert text in [said for _, said in _lease(store, ann)[0].answers]


def test_a_nul_in_an_answer_is_left_out(store: Store, ann: Annotator) -> None:
    put(store, [new_item(1, "two\x00 kilos", "other")])
    assert "two kilos" in [said for _, said in _lease(store, ann)[0].answers]


# -- display order -------------------------------------------------------------------------------------------


def test_answers_are_shuffled_per_assignment_by_a_seed_that_is_kept(store: Store, ann: Annotator) -> None:
    put_items(store, 24)
    _lease(store, ann, 24)
    ids = {item["id"]: item["completion_ids"] for item in _rows(store, t.items)}
    places = []
    for row in _rows(store, t.assignments):
        order = list(ids[row["item_id"]])
        random.Random(row["order_seed"]).shuffle(order)
        assert row["display_order"] == order
        places.append(order.index(min(order)))
    assert set(places) == {0, 1, 2}  # the first one sampled stood everywhere


@st.composite
def _views(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """How three or four answers stand on screen (which one at each place), and a ranking of them, ties included."""
    answers = list(range(draw(st.integers(2, 4))))
    ranks = draw(st.lists(st.integers(0, 3), min_size=len(answers), max_size=len(answers)))
    ranking = [[a for a in answers if ranks[a] == rank] for rank in sorted(set(ranks))]
    return draw(st.permutations(answers)), ranking


@given(_views())
@sharing_a_store
def test_what_is_stored_is_the_same_under_every_display_order(
    sqlite_store: Store, view: tuple[list[int], list[list[int]]]
) -> None:
    order, ranking = view
    batch, ann = f"b{uuid.uuid4().hex}", sqlite_store.annotator("ann")
    put(sqlite_store, [new_item(1, *(f"answer {a}" for a in sorted(order)))], batch)
    (item,) = _lease(sqlite_store, ann, batch=batch)
    ids = sorted(key for key, _ in item.answers)
    with sqlite_store._write() as c:
        shown = t.assignments.update().where(t.assignments.c.id == item.assignment_id)
        c.execute(shown.values(display_order=[ids[a] for a in order]))
    (item,) = _lease(sqlite_store, ann, batch=batch)
    place_of = {text: place for place, (_, text) in enumerate(item.answers)}
    # Somebody clicks at places on the screen.
    clicked = [[place_of[f"answer {a}"] for a in group] for group in ranking]
    judged = judge(sqlite_store, item, ann, [[item.answers[place][0] for place in group] for group in clicked])
    assert judged.judgement.groups == [[ids[a] for a in group] for group in ranking]
    (found,) = sqlite_store.judgements(batch)
    texts = {answer.id: answer.text for answer in found.answers}
    assert [[texts[key] for key in group] for group in found.groups] == [[f"answer {a}" for a in g] for g in ranking]


# -- leases --------------------------------------------------------------------------------------------------


def test_two_people_never_have_the_same_item(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 3)
    hers, his = _lease(store, ann, 2), _lease(store, ben, 2)
    assert [len(hers), len(his)] == [2, 1]
    assert not {i.item_id for i in hers} & {i.item_id for i in his}
    assert _lease(store, store.annotator("cleo")) == []


def test_as_many_people_as_wanted_get_an_item(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1, overlap=2)
    cleo = store.annotator("cleo")
    assert [len(_lease(store, who)) for who in (ann, ben, cleo)] == [1, 1, 0]
    judge(store, _lease(store, ann)[0], ann)
    assert _lease(store, cleo) == []


def test_a_reload_shows_the_same_items_in_the_same_order(store: Store, ann: Annotator) -> None:
    put_items(store, 6)
    first = _lease(store, ann, 3)
    assert _lease(store, ann, 3) == first
    assert _lease(store, ann, 2) == first[:2]
    assert _lease(store, ann, 4)[:3] == first


def test_nobody_gets_again_what_he_judged_or_skipped(store: Store, ann: Annotator) -> None:
    put_items(store, 3, overlap=5)
    judged, skipped, open_ = _lease(store, ann, 3)
    judge(store, judged, ann)
    store.skip_item(BATCH, skipped.assignment_id, ann)
    assert _lease(store, ann, 3) == [open_]


def test_an_item_whose_lease_ran_out_goes_to_the_next_one(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    (hers,) = _lease(store, ann, seconds=OVER)
    (his,) = _lease(store, ben)
    assert his.item_id == hers.item_id
    assert _lease(store, ann) == []
    assert [row["state"] for row in _rows(store, t.assignments)] == ["expired", "open"]


def test_an_item_that_nobody_took_meanwhile_is_still_his(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    before = _lease(store, ann, seconds=OVER)
    assert _lease(store, ann) == before
    assert _lease(store, ben) == []


def test_an_item_that_came_free_again_comes_back_as_it_was(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    before = _lease(store, ann, seconds=OVER)
    _lease(store, ben, seconds=OVER)
    assert _lease(store, ann) == before
    assert _lease(store, ben) == []


def test_asking_again_prolongs_the_lease(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    _lease(store, ann, seconds=OVER)
    _lease(store, ann, seconds=HOUR)
    (row,) = _rows(store, t.assignments)
    assert row["lease_until"] > time.time() + HOUR / 2


def test_a_late_judgement_is_kept_as_surplus(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    (hers,) = _lease(store, ann, seconds=OVER)
    (his,) = _lease(store, ben)
    assert not judge(store, his, ben).is_surplus
    late = judge(store, hers, ann)
    assert (late.is_new, late.is_surplus) == (True, True)
    assert [j.annotator for j in store.judgements(BATCH)] == ["ben", "ann"]
    assert judge(store, hers, ann).is_surplus  # judged again, it still came second


def test_a_late_judgement_of_an_item_that_waits_with_another_counts_first(
    store: Store, ann: Annotator, ben: Annotator
) -> None:
    put_items(store, 1)
    (hers,) = _lease(store, ann, seconds=OVER)
    (his,) = _lease(store, ben)
    assert not judge(store, hers, ann).is_surplus
    assert _lease(store, ben) == [his]  # he is at it, so it stays on his desk
    assert judge(store, his, ben).is_surplus


def test_an_item_is_taken_from_who_left_once_it_has_its_judgements(
    store: Store, ann: Annotator, ben: Annotator
) -> None:
    put_items(store, 1)
    (hers,) = _lease(store, ann, seconds=OVER)
    _lease(store, ben, seconds=OVER)
    judge(store, hers, ann)
    assert _lease(store, ben) == []


@pytest.mark.parametrize("overlap", [1, 3])
def test_twenty_people_at_once_give_each_item_exactly_its_judgements(store: Store, overlap: int) -> None:
    put_items(store, 10, overlap=overlap)
    people = [store.annotator(f"person {n}") for n in range(20)]

    def work(who: Annotator) -> int:
        done = 0
        while items := _lease(store, who, 2):
            judge(store, items[0], who)
            done += 1
        return done

    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(work, people))
    found = store.judgements(BATCH)
    assert Counter(j.item for j in found) == dict.fromkeys(range(1, 11), overlap)
    assert len({(j.item, j.annotator) for j in found}) == sum(done) == 10 * overlap
    assert [row["judged"] for row in _rows(store, t.items)] == [overlap] * 10
    assert {row["state"] for row in _rows(store, t.assignments)} == {"judged"}


def test_an_annotator_is_one_row_however_many_pages_he_opens(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: store.annotator("ann"), range(8)))
    assert len(found) == len(_rows(store, t.annotators)) == 1
    assert store.annotator("ann", "rule", "a rule").id != store.annotator("ann").id


# -- judging -------------------------------------------------------------------------------------------------


def test_a_judgement_comes_back_as_it_was_given(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    a, b, c = sorted(key for key, _ in item.answers)
    judged = store.judge(Ranking(item.assignment_id, "one", [[c], [b, a]], wall_ms=9000, active_ms=7000), ann)
    assert store.judgement_history(item.assignment_id) == [judged.judgement]
    said = judged.judgement
    assert (said.groups, said.tie_kind, said.revision, said.supersedes_id) == ([[c], [a, b]], "", 1, None)
    assert (said.wall_ms, said.active_ms, said.client_uuid) == (9000, 7000, "one")


@pytest.mark.parametrize(("given_ms", "kept_ms"), [(-5, 0), (2**40, 2**31 - 1)])
def test_a_clock_that_went_wrong_costs_no_judgement(store: Store, ann: Annotator, given_ms: int, kept_ms: int) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    ranking = Ranking(item.assignment_id, "one", in_order(item), wall_ms=given_ms, active_ms=given_ms)
    assert store.judge(ranking, ann).judgement.wall_ms == kept_ms


def test_a_judgement_sent_five_times_is_one_row(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    answers = [judge(store, item, ann, client="one") for _ in range(5)]
    assert [a.is_new for a in answers] == [True, False, False, False, False]
    assert {a.judgement.id for a in answers} == {1}
    assert len(_rows(store, t.judgements)) == 1


def test_a_judgement_sent_five_times_at_once_is_one_row(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: judge(store, item, ann, client="one"), range(5)))
    assert sorted(a.is_new for a in answers) == [False, False, False, False, True]
    assert len({a.judgement.id for a in answers}) == len(_rows(store, t.judgements)) == 1
    assert [row["judged"] for row in _rows(store, t.items)] == [1]


def test_a_client_id_stands_for_the_first_judgement_whatever_comes_under_it(store: Store, ann: Annotator) -> None:
    put_items(store, 2)
    one, two = _lease(store, ann)
    first = judge(store, one, ann, client="one").judgement
    for groups in (in_order(one)[::-1], [[404]], []):
        assert judge(store, one, ann, groups, client="one").judgement == first
    assert judge(store, two, ann, client="one").judgement == first
    assert store.judge(Ranking(404, "one", []), ann).judgement == first
    assert len(_rows(store, t.judgements)) == 1
    assert _lease(store, ann) == [two]


def test_one_client_id_on_two_items_at_once_is_one_row(store: Store, ann: Annotator) -> None:
    put_items(store, 8)
    items = _lease(store, ann, 8)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda item: judge(store, item, ann, client="one"), items))
    assert len({a.judgement.id for a in answers}) == len(_rows(store, t.judgements)) == 1
    assert sum(row["judged"] for row in _rows(store, t.items)) == 1


def test_an_item_judged_in_two_tabs_at_once_gets_two_revisions(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: judge(store, item, ann), range(5)))
    assert all(a.is_new for a in answers)
    found = store.judgement_history(item.assignment_id)
    assert [j.revision for j in found] == [1, 2, 3, 4, 5]
    assert [j.supersedes_id for j in found] == [None, *(j.id for j in found[:-1])]
    assert [row["judged"] for row in _rows(store, t.items)] == [1]


def test_a_desk_that_takes_an_item_away_does_not_undo_a_judgement_on_its_way(postgresql_store: Store) -> None:
    """SQLite has one writer at a time; here the judgement is written, and not yet committed, when the desk looks."""
    store = postgresql_store
    ann, ben = store.annotator("ann"), store.annotator("ben")
    put_items(store, 1)
    (his,) = _lease(store, ben, seconds=OVER)
    (hers,) = _lease(store, ann, seconds=OVER)
    judge(store, his, ben)

    def is_waiting() -> bool:
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ^@ 'UPDATE'"
        with store._read() as c:
            return bool(c.exec_driver_sql(blocked).scalar_one())

    with ThreadPoolExecutor(1) as pool:
        with store._write() as c:
            assignments._judge(c, Ranking(hers.assignment_id, "one", in_order(hers)), ann)
            reload = pool.submit(_lease, store, ann)
            assert wait_until(is_waiting, 20)
        reload.result()
    assert {row["state"] for row in _rows(store, t.assignments)} == {"judged"}


def test_a_client_id_of_somebody_else_is_refused(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 2)
    judge(store, _lease(store, ann, 1)[0], ann, client="one")
    with pytest.raises(NotYours, match="client id one is somebody else's"):
        judge(store, _lease(store, ben, 1)[0], ben, client="one")
    assert len(_rows(store, t.judgements)) == 1


def _refused(verb: Callable[[], Any], error: type[Exception], sentence: str, store: Store) -> None:
    before = [_rows(store, table) for table in (t.judgements, t.assignments, t.items)]
    with pytest.raises(error, match=sentence):
        verb()
    assert [_rows(store, table) for table in (t.judgements, t.assignments, t.items)] == before


def test_nobody_judges_or_skips_for_somebody_else(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    _refused(lambda: judge(store, item, ben), NotYours, "Assignment 1 is somebody else's", store)
    _refused(lambda: store.skip_item(BATCH, 1, ben), NotYours, "Assignment 1 is somebody else's", store)


def test_what_is_not_there_is_named(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    put_items(store, 1, "boots")
    sentence = r"no batch 'geer'\. Known batches: boots, gear\."
    verbs: list[Callable[[], Any]] = [
        lambda: _lease(store, ann, batch="geer"),
        lambda: _undo(store, ann, batch="geer"),
        lambda: store.labeling_progress("geer", ann),
        lambda: store.judgements("geer"),
        lambda: store.batch_source("geer"),
    ]
    for verb in verbs:
        _refused(verb, NotFound, sentence, store)
    _refused(lambda: _lease(store, ann, batch="g\x00r"), NotFound, "There is no batch", store)
    _refused(lambda: store.judge(Ranking(9, "one", []), ann), NotFound, "There is no assignment 9", store)
    _refused(lambda: store.skip_item(BATCH, 9, ann), NotFound, "There is no assignment 9", store)
    (item,) = _lease(store, ann)
    _refused(lambda: store.skip_item("boots", item.assignment_id, ann), NotFound, "is not in the batch 'boots'", store)


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4))
@sharing_a_store
def test_a_ranking_is_kept_if_and_only_if_it_is_a_partition(sqlite_store: Store, groups: list[list[int]]) -> None:
    batch, ann = f"b{uuid.uuid4().hex}", sqlite_store.annotator("ann")
    put(sqlite_store, [new_item(1)], batch)
    (item,) = _lease(sqlite_store, ann, batch=batch)
    ids = [*sorted(key for key, _ in item.answers), 10**6]  # the last one is no answer of the item
    given_ids = [[ids[place] for place in group] for group in groups]
    if all(groups) and sorted(place for group in groups for place in group) == [0, 1, 2]:
        assert judge(sqlite_store, item, ann, given_ids).judgement.groups == [sorted(group) for group in given_ids]
    else:
        sentence = "has the answers .* exactly one group, and leave no group empty. Nothing was stored"
        _refused(lambda: judge(sqlite_store, item, ann, given_ids), InputError, sentence, sqlite_store)


@pytest.mark.parametrize(
    ("groups", "tie_kind", "sentence"),
    [
        pytest.param([[1, 2, 3]], "", "", id="one group"),
        pytest.param([[1, 2, 3]], "equal", "", id="equal"),
        pytest.param([[3, 1, 2]], "both_bad", "", id="all bad"),
        pytest.param([[1], [2, 3]], "equal", "'equal' is said of answers that all share one group", id="equal, ranked"),
        pytest.param([[1], [2], [3]], "both_bad", "this ranking has 3", id="all bad, ranked"),
        pytest.param([[1, 2, 3]], "so-so", "'so-so' is no kind of tie", id="another word"),
    ],
)
def test_a_kind_of_tie_is_said_of_answers_that_all_tie(
    store: Store, ann: Annotator, groups: list[list[int]], tie_kind: Any, sentence: str
) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    given_ranking = Ranking(item.assignment_id, "one", groups, tie_kind)
    if sentence:
        _refused(lambda: store.judge(given_ranking, ann), InputError, sentence, store)
    else:
        assert store.judge(given_ranking, ann).judgement.tie_kind == tie_kind


# -- undo ----------------------------------------------------------------------------------------------------


def test_undo_brings_the_last_judged_item_back_and_a_new_ranking_supersedes(store: Store, ann: Annotator) -> None:
    put_items(store, 3)
    one, two = _lease(store, ann)
    judge(store, one, ann)
    before = judge(store, two, ann).judgement
    assert _undo(store, ann) == two
    after = judge(store, two, ann, in_order(two)[::-1]).judgement
    assert (after.revision, after.supersedes_id) == (2, before.id)
    assert store.judgement_history(two.assignment_id) == [before, after]
    assert [j.judgement for j in store.judgements(BATCH)] == [1, after.id]
    assert [j.groups for j in store.judgements(BATCH)][1] == after.groups
    assert [row["judged"] for row in _rows(store, t.items)] == [1, 1, 0]


def test_a_judgement_stands_until_it_is_given_anew(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    first = judge(store, item, ann).judgement
    assert [_undo(store, ann), _undo(store, ann)] == [item, item]
    store.skip_item(BATCH, item.assignment_id, ann)  # "leave it as it is" leaves it judged
    assert [j.judgement for j in store.judgements(BATCH)] == [first.id]
    assert store.labeling_progress(BATCH, ann).mine == 1


def test_undo_brings_a_skipped_item_back_to_the_desk(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 2)
    one, two = _lease(store, ann)
    judge(store, one, ann)
    store.skip_item(BATCH, two.assignment_id, ann)
    assert _lease(store, ben) == []  # until the lease is over, undo finds it where it was
    assert _undo(store, ann) == two
    assert _lease(store, ann) == [two]
    assert judge(store, two, ann).is_new
    assert _undo(store, ann) == two


def test_a_skipped_item_goes_to_others_when_its_lease_is_over(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann, seconds=OVER)
    store.skip_item(BATCH, item.assignment_id, ann)
    assert _undo(store, ann) == item
    store.skip_item(BATCH, item.assignment_id, ann)
    with store._write() as c:
        c.execute(t.assignments.update().values(lease_until=1.0))
    assert [i.item_id for i in _lease(store, ben)] == [item.item_id]
    _refused(lambda: _undo(store, ann), Conflict, "went to somebody else meanwhile", store)


def test_skipping_twice_is_skipping_once(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    store.skip_item(BATCH, item.assignment_id, ann)
    before = _rows(store, t.assignments)
    store.skip_item(BATCH, item.assignment_id, ann)
    assert _rows(store, t.assignments) == before


def test_a_skipped_item_that_is_judged_after_all_is_judged(store: Store, ann: Annotator) -> None:
    put_items(store, 1)
    (item,) = _lease(store, ann)
    store.skip_item(BATCH, item.assignment_id, ann)
    assert judge(store, item, ann).is_new
    assert store.labeling_progress(BATCH, ann) == Progress(mine=1, judged=1, items=1, left=0)


def test_undo_goes_by_batch_and_person(store: Store, ann: Annotator, ben: Annotator) -> None:
    put_items(store, 2)
    put_items(store, 1, "boots")
    (item,) = _lease(store, ann, batch="boots")
    judge(store, item, ann)
    for who, batch in ((ann, BATCH), (ben, "boots")):
        sentence = f"nothing in '{batch}' yet, so there is nothing to undo"
        _refused(lambda who=who, batch=batch: _undo(store, who, batch), Conflict, sentence, store)  # type: ignore[misc]


def test_a_clock_with_coarse_ticks_does_not_confuse_undo(
    store: Store, ann: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "now", lambda: 1000.0)
    put_items(store, 2)
    one, two = _lease(store, ann)
    judge(store, one, ann)
    judge(store, two, ann)
    assert _undo(store, ann) == two


# -- progress, batches, what is read --------------------------------------------------------------------------


def test_progress_counts_what_is_done_and_what_is_left_for_this_person(
    store: Store, ann: Annotator, ben: Annotator
) -> None:
    put_items(store, 5, overlap=2)
    put_items(store, 4, "boots", first=10)
    one, two, three = _lease(store, ann, 3)
    judge(store, one, ann)
    store.skip_item(BATCH, two.assignment_id, ann)
    for item in _lease(store, ben, 3):
        judge(store, item, ben)
    assert store.labeling_progress(BATCH, ann) == Progress(mine=1, judged=1, items=5, left=3)
    assert store.labeling_progress(BATCH, ben) == Progress(mine=3, judged=1, items=5, left=2)
    judge(store, three, ann)
    cleo = store.annotator("cleo")
    assert store.labeling_progress(BATCH, cleo) == Progress(mine=0, judged=2, items=5, left=3)
    assert store.labeling_progress("boots", ann) == Progress(mine=0, judged=0, items=4, left=4)


def test_machines_rank_every_item_and_take_none_from_people(store: Store, ann: Annotator) -> None:
    put_items(store, 2)
    rule = store.annotator("rule", "rule", "The first is the best.")
    judge(store, _lease(store, ann, 1)[0], ann)
    assert len(_lease(store, rule)) == 2
    for item in _lease(store, rule):
        assert not judge(store, item, rule).is_surplus
    assert store.labeling_progress(BATCH, rule) == Progress(mine=2, judged=1, items=2, left=0)
    assert store.labeling_progress(BATCH, ann) == Progress(mine=1, judged=1, items=2, left=1)
    assert len(_lease(store, ann)) == 1


def test_batches_say_who_judged_how_much_of_whose_answers(
    store: Store, ann: Annotator, ben: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.batches() == []
    put_items(store, 3, overlap=2)
    put(store, [new_item(9)], model=ModelRef("run:7"))
    put_items(store, 1, "boots")
    rule, judge_ = store.annotator("rule", "rule"), store.annotator("judge", "ai")
    for who, count in ((ann, 2), (ben, 1), (rule, 3), (judge_, 1)):
        for item in _lease(store, who, count):
            judge(store, item, who)
    judge(store, _undo(store, ann), ann)
    boots, gear = store.batches()
    assert (gear.name, gear.items, gear.judged, gear.judgements) == (BATCH, 4, 3, 7)
    assert (gear.human, gear.simulated, gear.ai, gear.models) == (3, 3, 1, ("echo:", "run:7"))
    assert (boots.items, boots.judged, boots.judgements, boots.human, boots.models) == (1, 0, 0, 0, ("echo:",))
    assert boots.created_at > gear.created_at


def test_current_judgements_carry_all_that_they_are_about(store: Store, ann: Annotator) -> None:
    put(store, [new_item(1, "heavy", "light")])
    (item,) = _lease(store, ann)
    judge(store, item, ann)
    (found,) = store.judgements(BATCH)
    prompt = new_item(1).prompt
    assert (found.prompt, found.split, found.group, found.source) == (
        prompt.messages,
        prompt.split,
        prompt.group_hash,
        prompt.source,
    )
    assert [(a.text, a.model) for a in found.answers] == [("heavy", "echo:"), ("light", "echo:")]
    assert (found.annotator, found.annotator_kind, found.note) == ("ann", "human", "")
    assert store.batch_source(BATCH) == "prompts:gear@1"


def test_judgements_of_many_items_come_back_by_item(store: Store, ann: Annotator) -> None:
    put_items(store, 170)  # more answers than one query asks for
    for item in reversed(_lease(store, ann, 170)):
        judge(store, item, ann)
    found = store.judgements(BATCH)
    assert [j.item for j in found] == sorted(j.item for j in found)
    assert all(a.text.endswith(j.prompt[0]["content"].split()[-1][:-1]) for j in found for a in j.answers)


def test_every_order_of_judging_and_undoing_counts_each_item_once(store: Store, ann: Annotator) -> None:
    put_items(store, 3)
    for order in permutations(_lease(store, ann, 3)):
        for item in order:
            judge(store, item, ann)
            judge(store, _undo(store, ann), ann)
    assert [row["judged"] for row in _rows(store, t.items)] == [1, 1, 1]
    assert len(store.judgements(BATCH)) == 3
    assert len(_rows(store, t.judgements)) == 6 * 3 * 2


# -- a large desk --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_desk_is_quick_in_a_batch_of_5000_items_that_50_people_nearly_finished(sqlite_store: Store) -> None:
    store = sqlite_store
    put_items(store, 5000, overlap=50)
    people = [store.annotator(f"person {n}") for n in range(50)]
    _nearly_finish(store, [who.id for who in people])
    who, seconds = people[0], {}

    def timed(name: str, verb: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = verb()
        seconds[name] = time.perf_counter() - started
        return found

    item, _ = timed("next", lambda: _lease(store, who))
    timed("judge", lambda: judge(store, item, who))
    timed("undo", lambda: _undo(store, who))
    assert timed("progress", lambda: store.labeling_progress(BATCH, who)).mine == 4801
    # A person waits 0.3 s gladly; measured 0.01 to 0.03 s on two cores, and half a minute before there were indexes.
    assert {name: spent for name, spent in seconds.items() if spent > 0.3} == {}


def _nearly_finish(store: Store, people: list[int]) -> None:
    """All but 200 items judged by everybody, written past the verbs: 240,000 of them would take an hour."""
    common = {"display_order": [], "order_seed": 1, "guideline": "", "lease_until": 1.0, "state": "judged"}
    with store._write() as c:
        done = list(c.execute(sa.select(t.items.c.id).order_by(t.items.c.id).limit(4800)).scalars())
        for key in done:
            rows = [
                {**common, "item_id": key, "annotator_id": who, "first_seen": float(key), "ended_at": float(key)}
                for who in people
            ]
            c.execute(t.assignments.insert(), rows)
        c.execute(t.items.update().where(t.items.c.id <= done[-1]).values(judged=len(people)))
