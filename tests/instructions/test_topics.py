"""Topics: what a dataset is about, the same every time, with names that tell the topics apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import studio.instructions.statistics.topics as module
from studio.errors import InputError
from studio.instructions.statistics import NO_TOPIC, find_topics

THINGS = {
    "tents": "tent pole peg groundsheet guyline pitch canopy flysheet seam",
    "bread": "bread dough yeast flour oven crust knead rye loaf",
    "taxes": "tax refund income deduction receipt office return audit payer",
    "music": "violin chord melody tempo orchestra singer rhythm choir score",
}


def _rows(n: int, seed: int = 1) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for number in range(1, n + 1):
        said = draw.sample(THINGS[list(THINGS)[number % 4]].split(), 4)
        rows.append(
            {"record": number, "instruction": f"Explain the {' and the '.join(said)}.", "context": "", "response": "?"}
        )
    return rows


def _reading(rows: list[dict[str, Any]]) -> Callable[[], list[dict[str, Any]]]:
    return lambda: rows


def test_questions_about_one_thing_are_in_one_topic() -> None:
    found = find_topics(_reading(_rows(400)), k=4)
    assert [topic.n for topic in found.topics] == [100] * 4
    for topic in found.topics:
        ids = found.ids_of(topic.number)
        assert len({number % 4 for number in ids}) == 1
        about = list(THINGS.values())[ids[0] % 4].split()
        assert set(topic.name.split(", ")) <= set(about)
        assert topic.where == {"ids": tuple(ids)}
    assert (found.n, found.fitted, found.unnamed) == (400, 400, 0)


def test_the_same_records_and_seed_give_the_same_topics_and_map() -> None:
    first, again = (find_topics(_reading(_rows(600)), seed=3) for _ in range(2))
    assert first.topics == again.topics
    assert first.points == again.points
    assert (first.labels == again.labels).all()


@pytest.mark.parametrize("n", [8, 30, 300, 1500])
def test_names_are_distinct_and_shares_add_up(n: int) -> None:
    found = find_topics(_reading(_rows(n)))
    names = [topic.name for topic in found.topics]
    assert len(set(names)) == len(names)
    assert sum(topic.n for topic in found.topics) + found.unnamed == n
    assert [topic.n for topic in found.topics] == sorted((topic.n for topic in found.topics), reverse=True)
    assert len(found.labels) == len(found.ids) == n


@pytest.mark.parametrize(("n", "k"), [(8, 4), (400, 4), (2500, 10), (15_000, 16), (1_000_000, 16)])
def test_there_are_more_topics_in_larger_datasets_from_4_to_16(n: int, k: int) -> None:
    assert module._suited(n) == k


def test_records_beyond_the_sample_go_to_the_nearest_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 200)
    monkeypatch.setattr(module, "_BATCH", 70)
    found = find_topics(_reading(_rows(1000)), k=4)
    assert (found.n, found.fitted) == (1000, 200)
    assert list(found.ids) == list(range(1, 1001))
    assert all(len({number % 4 for number in found.ids_of(topic.number)}) == 1 for topic in found.topics)


def test_the_map_has_at_most_two_thousand_points_of_both_coordinates() -> None:
    found = find_topics(_reading(_rows(2600)))
    assert len(found.points) == 2000
    assert len({point.record for point in found.points}) == 2000
    assert len({(point.x, point.y) for point in found.points}) > 100
    by_id = dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True))
    assert all(by_id[point.record] == point.topic for point in found.points)


def test_topics_lie_apart_on_the_map() -> None:
    found = find_topics(_reading(_rows(400)), k=3)
    middles = []
    for topic in found.topics:
        own = [point for point in found.points if point.topic == topic.number]
        middles.append((sum(p.x for p in own) / len(own), sum(p.y for p in own) / len(own)))
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) > 0.1 for a in middles for b in middles if a != b)


def test_a_question_without_a_known_word_is_in_no_topic() -> None:
    rows = [*_rows(40), {"record": 99, "instruction": "17 + 4?", "context": "", "response": "21"}]
    found = find_topics(_reading(rows))
    assert found.unnamed == 1
    assert found.ids_of(NO_TOPIC) == [99]
    assert all(point.record != 99 for point in found.points)


def test_the_same_question_over_and_over_is_one_topic() -> None:
    found = find_topics(
        _reading([{"record": n, "instruction": "Wash the jacket?", "response": "No."} for n in range(1, 21)])
    )
    assert [(topic.name, topic.n) for topic in found.topics] == [("jacket, wash", 20)]


def test_questions_of_a_conversation_tell_its_topic() -> None:
    rows = _rows(60)
    turns = [
        {"role": role, "content": text}
        for role, text in (("user", "Hi"), ("assistant", "Yes?"), ("user", rows[0]["instruction"]))
    ]
    found = find_topics(_reading([*rows, {"record": 61, "instruction": "Hi", "response": "Yes?", "turns": turns}]), k=4)
    label = dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True))
    assert label[61] == label[1]


def test_rows_without_ids_have_topics_that_lead_nowhere() -> None:
    rows = [{key: value for key, value in row.items() if key != "record"} for row in _rows(40)]
    assert all(topic.where is None for topic in find_topics(_reading(rows)).topics)


def test_questions_in_scripts_without_spaces_have_topics_too() -> None:
    asked = ["テントの洗濯方法は何ですか", "パンの焼き方を教えて"]
    found = find_topics(
        _reading([{"record": n, "instruction": asked[n % 2], "response": "。"} for n in range(1, 21)]), k=2
    )
    assert [topic.n for topic in found.topics] == [10, 10]


@pytest.mark.parametrize(
    ("rows", "k", "said"),
    [
        (_rows(7), None, "at least 8 records, and there are 7"),
        (_rows(40), 1, "1 topics cannot be found. Choose from 2 to 100"),
        ([{"instruction": "1 + 1", "response": "2"}] * 20, None, "have no words that could name a topic"),
    ],
    ids=["few", "one", "no words"],
)
def test_what_cannot_be_sorted_is_refused(rows: list[dict[str, Any]], k: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find_topics(_reading(rows), k=k)
