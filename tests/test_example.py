"""The example project: as large as promised, in its own style, and without a word in two sets."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import studio.example as example
from studio.evaluation import EvaluationItem, judge
from studio.instructions import CATEGORIES, FIELDS
from studio.store import Store, read_rows

DATA = Path(example.__file__).resolve().parents[1] / "assets" / "data"


def _rows(part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"brackenfold.{part}.jsonl").read_text("utf-8").splitlines()]


RECORDS, DEVELOPMENT, FROZEN = _rows("records"), _rows("development"), _rows("evaluation")
PROMPTS = _rows("prompts")
SETS = (RECORDS, DEVELOPMENT, FROZEN, PROMPTS)
EVERY_ROW = [row for rows in SETS for row in rows]
ITEMS = [EvaluationItem.model_validate(row) for row in DEVELOPMENT + FROZEN]
README = (DATA / "README.md").read_text("utf-8")


def _name(value: Any) -> str | None:
    return value["instruction"][:60] if isinstance(value, dict) else None


# -- sizes and schema ----------------------------------------------------------------------------------------


def test_the_sizes_are_as_the_readme_says() -> None:
    assert [len(rows) for rows in SETS] == [264, 64, 168, 160]
    told = [int(n) for n in re.findall(r"jsonl \| (\d+)", README)]
    assert told == [264, 64, 168, 160]


@pytest.mark.parametrize(
    ("rows", "each"),
    [(RECORDS, 33), (FROZEN, 21), (DEVELOPMENT, 8), (PROMPTS, 20)],
    ids=["l2", "frozen", "dev", "prompts"],
)
def test_every_category_has_its_share(rows: list[dict[str, Any]], each: int) -> None:
    assert Counter(row["category"] for row in rows) == dict.fromkeys(CATEGORIES, each)


def test_records_have_dollys_fields_and_nothing_else() -> None:
    assert all(set(row) == set(FIELDS) for row in RECORDS)
    assert all(isinstance(value, str) and value == value.strip() for row in RECORDS for value in row.values())


def test_prompts_have_three_fields_and_no_answer() -> None:
    assert all(set(row) == {"instruction", "context", "category"} for row in PROMPTS)
    assert all(isinstance(value, str) and value == value.strip() for row in PROMPTS for value in row.values())
    assert all(row["instruction"] for row in PROMPTS)


@pytest.mark.parametrize("category", ["closed_qa", "information_extraction", "summarization"])
def test_questions_about_a_text_come_with_the_text(category: str) -> None:
    assert all(row["context"] for row in EVERY_ROW if row["category"] == category)
    assert all(40 <= len(row["context"].split()) <= 90 for row in PROMPTS if row["category"] == category)


# -- style ---------------------------------------------------------------------------------------------------

STYLE = EvaluationItem.model_validate(
    {
        "instruction": "style",
        "rules": [
            {"rule": "min_words", "value": 20},
            {"rule": "max_words", "value": 65},
            {"rule": "speaks_to_reader"},
            {"rule": "ends_with_next_step"},
        ],
    }
).rules


@pytest.mark.parametrize("row", RECORDS, ids=_name)
def test_a_record_keeps_the_house_style(row: dict[str, Any]) -> None:
    kept = dict(zip((rule.words for rule in STYLE), judge(STYLE, row["response"]), strict=True))
    assert [words for words, is_kept in kept.items() if not is_kept] == []
    assert not re.search(r"!|Dear customer|\*\*|^#", row["response"], re.MULTILINE)


def test_every_item_asks_for_the_house_style_and_for_something_of_its_own() -> None:
    for item in ITEMS:
        names = [rule.rule for rule in item.rules]
        assert names[:3] == ["max_words", "speaks_to_reader", "ends_with_next_step"]
        assert 1 <= len(names[3:]) <= 3


def test_no_question_gives_its_own_answer_away() -> None:
    """Repeating the question must not pass: an item's own rules and the style together need an answer."""
    for item in ITEMS:
        assert not all(judge(item.rules, f"{item.instruction}\n\n{item.context}")), item.instruction


# -- nothing is in two sets ----------------------------------------------------------------------------------


def _words(row: dict[str, Any]) -> list[str]:
    text = unicodedata.normalize("NFKC", f"{row['instruction']} {row.get('context', '')}").casefold()
    return re.findall(r"\w+", text)


def _shingles(row: dict[str, Any], size: int = 4) -> set[tuple[str, ...]]:
    words = _words(row)
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def _pairs_across() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for one, other in combinations(SETS, 2):
        yield from ((a, b) for a in one for b in other)


def test_no_prompt_is_in_two_sets_or_twice_in_one() -> None:
    prompts = Counter(" ".join(_words(row)) for row in EVERY_ROW)
    assert [prompt for prompt, n in prompts.items() if n > 1] == []


def test_no_prompt_is_half_of_one_in_another_set() -> None:
    shingles = {id(row): _shingles(row) for row in EVERY_ROW}
    alike = []
    for a, b in _pairs_across():
        one, other = shingles[id(a)], shingles[id(b)]
        shared = len(one & other)
        if shared and shared / (len(one) + len(other) - shared) >= 0.5:
            alike.append((a["instruction"], b["instruction"]))
    assert alike == []


def test_no_context_is_in_two_sets() -> None:
    contexts = [
        {" ".join(_words({"instruction": row["context"]})) for row in rows if row.get("context")} for rows in SETS
    ]
    assert [one & other for one, other in combinations(contexts, 2) if one & other] == []


# -- licence and first start ---------------------------------------------------------------------------------


def test_the_licence_is_named_where_the_data_lies() -> None:
    assert "Apache-2.0" in README
    assert all(path.name in README for path in DATA.glob("*.jsonl"))


def test_an_empty_workspace_gets_the_example_with_its_licences_once(store: Store, tmp_path: Path) -> None:
    assert example.load_example(store, tmp_path)
    assert not example.load_example(store, tmp_path)
    (dataset,) = store.datasets()
    assert (dataset.name, dataset.licence) == ("brackenfold", "Apache-2.0")
    assert "Next step:" in dataset.guidelines
    assert store.count_records(dataset.id) == 264
    found = {s.ref: (s.rows, s.licence) for s in store.snapshots()}
    assert found == {
        example.SNAPSHOT: (264, "Apache-2.0"),
        example.PROMPTS: (160, "Apache-2.0"),
        example.DEVELOPMENT: (64, "Apache-2.0"),
        example.EVALUATION: (168, "Apache-2.0"),
    }


def test_a_workspace_with_a_dataset_is_left_alone(store: Store, tmp_path: Path) -> None:
    store.create_dataset("mine", author="ann")
    assert not example.load_example(store, tmp_path)
    assert [d.name for d in store.datasets()] == ["mine"]
    assert store.snapshots() == []


def test_the_frozen_example_reads_back_as_it_was_written(store: Store, tmp_path: Path) -> None:
    example.load_example(store, tmp_path)
    frozen = read_rows(tmp_path, store.snapshot(example.EVALUATION))
    assert [EvaluationItem.model_validate(row) for row in frozen] == ITEMS[len(DEVELOPMENT) :]
    records = read_rows(tmp_path, store.snapshot(example.SNAPSHOT))
    assert [{f: row[f] for f in FIELDS} for row in records] == RECORDS
    assert {"train", "validation", "test"} == {row["split"] for row in records}
    prompts = read_rows(tmp_path, store.snapshot(example.PROMPTS))
    assert [{f: row[f] for f in PROMPTS[0]} for row in prompts] == PROMPTS
    assert {"train", "validation", "test"} == {row["split"] for row in prompts}


def test_an_interrupted_start_is_made_whole_by_the_next(tmp_path, sqlite_store):
    sqlite_store.create_dataset(example.EXAMPLE, author="ann")
    assert example.load_example(sqlite_store, tmp_path)
    assert sqlite_store.snapshot(example.SNAPSHOT).rows == 264
    assert not example.load_example(sqlite_store, tmp_path)


def test_an_example_from_before_there_were_prompts_gets_them_at_the_next_start(store: Store, tmp_path: Path) -> None:
    example.load_example(store, tmp_path)
    with store._write() as c:
        c.exec_driver_sql("DELETE FROM snapshots WHERE kind = 'prompts'")
    store.create_dataset("mine", author="ann")
    before = {s.ref: s for s in store.snapshots()}
    assert example.load_example(store, tmp_path)
    after = {s.ref: s for s in store.snapshots()}
    assert after.pop(example.PROMPTS).rows == 160
    assert (after, store.count_records(store.dataset(example.EXAMPLE).id)) == (before, 264)
    assert not example.load_example(store, tmp_path)
