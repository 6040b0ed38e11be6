"""Which examples a few-shot prompt shows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from studio.errors import InputError
from studio.prompts import choose_examples

ROWS = [
    {"instruction": f"{category} {n}", "category": category, "split": split}
    for category in ("open_qa", "closed_qa", "summarization")
    for n, split in enumerate(["train"] * 5 + ["validation", "test"])
]


def test_only_training_rows_are_shown() -> None:
    assert {row["split"] for row in choose_examples(ROWS, 15)} == {"train"}


def test_no_row_is_shown_twice() -> None:
    chosen = choose_examples(ROWS, 15)
    assert len({row["instruction"] for row in chosen}) == 15


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6, 8])
def test_categories_take_turns(k: int) -> None:
    counts = Counter(row["category"] for row in choose_examples(ROWS, k))
    assert len(counts) == min(k, 3)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_small_category_leaves_its_turn_to_the_others() -> None:
    rows = [{"category": "rare"}, *({"category": "common", "n": n} for n in range(5))]
    assert Counter(row["category"] for row in choose_examples(rows, 5)) == {"rare": 1, "common": 4}


def test_a_seed_decides_and_always_alike() -> None:
    assert choose_examples(ROWS, 4, seed=3) == choose_examples(ROWS, 4, seed=3)
    assert len({str(choose_examples(ROWS, 4, seed)) for seed in range(10)}) > 5


def test_the_given_rows_are_left_as_they_were() -> None:
    rows = random.Random(0).sample(ROWS, len(ROWS))
    before = list(rows)
    choose_examples(rows, 6)
    assert rows == before


def test_no_examples_need_no_rows() -> None:
    assert choose_examples([], 0) == []


def test_too_few_training_rows_are_told() -> None:
    with pytest.raises(InputError, match=r"asks for 16 examples, but the snapshot has 15 training rows\. Add more"):
        choose_examples(ROWS, 16)
