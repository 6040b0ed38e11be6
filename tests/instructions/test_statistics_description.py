"""Descriptions: kept beside the dataset, as of a moment, and every bar of one opens the records that it counts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from studio.backends import EchoBackend
from studio.errors import InputError, NotFound
from studio.example import EXAMPLE, load_example
from studio.instructions.describing import (
    AT_ONCE,
    Describe,
    Description,
    Watch,
    describe,
    described_at,
    description_of,
    figures_of,
    is_worth_a_wait,
    records_of,
)
from studio.instructions.records import insertable
from studio.instructions.statistics import MOST_IDS
from studio.specs import ModelRef
from studio.store import Dataset, Store
from tests.prompts.desk import DeskRun

ECHO = ModelRef("echo:")


@pytest.fixture
def example(sqlite_store: Store, tmp_path: Path) -> Dataset:
    load_example(sqlite_store, tmp_path)
    return sqlite_store.dataset(EXAMPLE)


@pytest.fixture
def mixed(sqlite_store: Store) -> Dataset:
    """Records of many kinds: with and without category, licence, context and turns, good and bad."""
    made = sqlite_store.create_dataset("mixed", author="ann")
    draw = random.Random(3)
    asked = "How do I wash the tent?", "Write why wool stays warm.", "Wie wasche ich die Jacke, ohne dass sie leidet?"
    rows = []
    for n in range(90):
        response = draw.choice(["TODO", "By hand. " * draw.randint(1, 40), "Warm water, no soap, and patience."])
        fields: dict[str, Any] = {"instruction": f"{draw.choice(asked)} ({n})", "response": response}
        if n % 4 == 0:
            fields["context"] = "Wool " * draw.randint(1, 30)
        if n % 9 == 0:
            roles = ("user", "assistant", "user", "assistant")
            fields["turns"] = [{"role": role, "content": f"{role} {n}"} for role in roles]
        row = insertable({**fields, "category": draw.choice(["", "open_qa", "poetry"])})
        rows.append({**row, "licence": draw.choice(["", "MIT"]), "source": draw.choice(["a.csv", "b c.csv"])})
    sqlite_store.add_records(made.id, rows, author="ann", source="")
    return made


def described(store: Store, root: Path, dataset: Dataset, **more: Any) -> Description:
    found = describe(store, root, dataset, **more)
    assert found is not None
    return found


def letters(texts: Any) -> list[int]:
    return [len(text) for text in texts]


@pytest.mark.parametrize("which", ["example", "mixed"])
def test_every_bar_opens_as_many_records_as_it_says(
    which: str, request: pytest.FixtureRequest, sqlite_store: Store, tmp_path: Path
) -> None:
    dataset = request.getfixturevalue(which)
    found = described(sqlite_store, tmp_path, dataset, count=letters, model="letters:", window=300)
    parts = figures_of(found)
    assert {"categories", "splits", "states", "sources", "authors", "licences", "languages", "telling"} < set(parts)
    assert {"lengths", "lengths.response", "tokens", "topics", "quality"} < set(parts)
    opened = 0
    for part, figures in parts.items():
        assert len({figure.label for figure in figures}) == len(figures), part
        for figure in figures:
            if figure.n:
                where = records_of(found, part, figure.label)
                assert sqlite_store.count_records(dataset.id, where) == figure.n <= MOST_IDS, (part, figure.label)
                opened += 1
            else:
                with pytest.raises(InputError, match="no records under"):
                    records_of(found, part, figure.label)
    assert opened > 40


def test_a_description_is_read_back_as_it_was_kept(sqlite_store: Store, example: Dataset, tmp_path: Path) -> None:
    assert (description_of(tmp_path, example.id), described_at(tmp_path, example.id)) == (None, 0)
    found = described(sqlite_store, tmp_path, example, count=letters, model="letters:")
    assert description_of(tmp_path, example.id) == found
    assert described_at(tmp_path, example.id) > 0
    assert found.change == sqlite_store.dataset(EXAMPLE).change
    assert found.summary.records == 264


def test_one_that_another_studio_wrote_otherwise_counts_as_none(
    sqlite_store: Store, example: Dataset, tmp_path: Path
) -> None:
    described(sqlite_store, tmp_path, example)
    (file,) = (tmp_path / "statistics").iterdir()
    file.write_text('{"records": 264}', encoding="utf-8")
    assert description_of(tmp_path, example.id) is None


def test_it_holds_no_text_of_a_record(sqlite_store: Store, mixed: Dataset, tmp_path: Path) -> None:
    described(sqlite_store, tmp_path, mixed)
    (file,) = (tmp_path / "statistics").iterdir()
    kept = file.read_text(encoding="utf-8")
    assert not any(record.instruction in kept for record in sqlite_store.all_records(mixed.id))


def test_the_weakest_records_come_first_and_say_why(sqlite_store: Store, mixed: Dataset, tmp_path: Path) -> None:
    weakest = described(sqlite_store, tmp_path, mixed).weakest
    points = [weak.points for weak in weakest]
    assert len(weakest) == 20
    assert points == sorted(points)
    assert all(weak.reasons for weak in weakest)


def test_typical_records_are_of_their_topic(sqlite_store: Store, example: Dataset, tmp_path: Path) -> None:
    found = described(sqlite_store, tmp_path, example).topics
    assert found is not None
    for topic in found.topics:
        assert 0 < len(topic.typical) <= 3
        assert topic.where is not None
        assert set(topic.typical) <= set(topic.where["ids"])  # type: ignore[arg-type]


def test_too_few_records_have_no_topics_and_that_is_said(sqlite_store: Store, tmp_path: Path) -> None:
    tiny = sqlite_store.create_dataset("tiny", author="ann")
    sqlite_store.add_records(
        tiny.id, [insertable({"instruction": "Hi?", "response": "Yes."})], author="ann", source="t"
    )
    found = described(sqlite_store, tmp_path, tiny)
    assert found.topics is None
    assert "at least 8 records, and there are 1" in found.why_no_topics


def test_a_job_counts_the_tokens_of_a_model_and_a_later_count_without_one_keeps_them(
    sqlite_store: Store, mixed: Dataset, tmp_path: Path
) -> None:
    run = DeskRun(sqlite_store, tmp_path, task := Describe(dataset="mixed", model=ECHO), {ECHO: EchoBackend()})
    told = task.do(run)
    found = description_of(tmp_path, mixed.id)
    assert found is not None
    assert found.tokens is not None
    assert told == {"dataset": "mixed", "records": 90, "tokens": found.tokens.lengths.total}
    assert (found.tokens.model, found.tokens.window, found.tokens.beyond) == (str(ECHO), None, None)
    assert {total for _, total in run.steps} == {3 * 90}

    first = sqlite_store.records(mixed.id)[0]
    sqlite_store.edit_record(first.id, 1, {"response": "Write to us."}, author="ann")
    again = described(sqlite_store, tmp_path, mixed)
    assert again.tokens == found.tokens
    assert again.change > again.tokens.change == found.change


def test_a_job_that_is_stopped_leaves_the_description_of_before(
    sqlite_store: Store, mixed: Dataset, tmp_path: Path
) -> None:
    before = described(sqlite_store, tmp_path, mixed)
    run = DeskRun(sqlite_store, tmp_path, task := Describe(dataset="mixed"), {})
    run.stop = lambda: "cancel"
    assert task.do(run) == {}
    assert description_of(tmp_path, mixed.id) == before


def test_whoever_watches_hears_how_far_it_is(sqlite_store: Store, example: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    steps: list[tuple[int, int]] = []
    described(sqlite_store, tmp_path, example, watch=Watch(lambda *step: steps.append(step), said.append))
    assert said == ["Counting words and letters.", "Scoring the answers.", "Finding topics."]
    assert steps == [(0, 792), (264, 792), (528, 792)]


def test_what_changes_all_the_time_is_not_described_all_the_time(
    sqlite_store: Store, example: Dataset, tmp_path: Path
) -> None:
    assert is_worth_a_wait(AT_ONCE, None)
    assert not is_worth_a_wait(AT_ONCE + 1, None)
    assert not is_worth_a_wait(0, None)
    found = described(sqlite_store, tmp_path, example)
    slow = Description(**{**vars(found), "seconds": 60.0})
    assert not is_worth_a_wait(264, slow)
    assert is_worth_a_wait(264, Description(**{**vars(slow), "at": found.at - 601}))


def test_what_is_not_there_is_named(sqlite_store: Store, example: Dataset, tmp_path: Path) -> None:
    found = described(sqlite_store, tmp_path, example)
    for part, label in (("categories", "poetry"), ("colours", "red"), ("record", "x")):
        with pytest.raises(InputError, match=f"no records under '{label}'"):
            records_of(found, part, label)
    assert records_of(found, "record", "17").ids == (17,)
    with pytest.raises(NotFound, match="no dataset 'gone'"):
        Describe(dataset="gone").check(sqlite_store)
