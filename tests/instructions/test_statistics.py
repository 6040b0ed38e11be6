"""Statistics: counts add up, estimates say so, and every bar leads to its records."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from studio.instructions import CATEGORIES, add_record
from studio.instructions.statistics import DOLLY, Summary, coverage, language, read, summary
from studio.instructions.statistics.lengths import LengthCounter
from studio.instructions.statistics.reservoir import Reservoir
from studio.instructions.statistics.vocabulary import VocabularyCounter
from studio.instructions.statistics.words import topic_words, words
from studio.store import RecordFilter, Store

quick = settings(deadline=None, derandomize=True, max_examples=60)

GERMAN = "Wie oft soll ich die Jacke waschen, damit sie lange dicht bleibt und warm hält?"
ENGLISH = "How often should I wash the jacket so that it stays warm and keeps the rain out?"


def _row(number: int = 1, **more: Any) -> dict[str, Any]:
    row = {"record": number, "instruction": f"Wash tent {number}?", "context": "", "response": "By hand."}
    return {**row, "category": "open_qa", "split": "train", **more}


# -- counting ------------------------------------------------------------------------------------------------------


def test_a_dataset_is_counted_in_one_pass() -> None:
    rows = [
        _row(n, category="closed_qa" if n % 3 == 0 else "open_qa", context="Wool." if n % 3 == 0 else "")
        for n in range(1, 10)
    ]
    found = summary(iter(rows))
    assert (found.records, found.conversations) == (9, 0)
    assert found.characters == sum(len(r["instruction"] + r["context"] + r["response"]) for r in rows)
    assert found.words == 9 * (3 + 2) + 3
    assert [(bar.label, bar.n) for bar in found.categories.bars] == [("open_qa", 6), ("closed_qa", 3)]
    assert found.splits.n("train") == 9
    assert found.vocabulary.distinct == len({"wash", "tent", "by", "hand", "wool", *map(str, range(1, 10))})
    assert found.lengths["context"].n == 3, "records without context do not count as short ones"


def test_no_records_have_no_shares_and_no_mean() -> None:
    found = summary([])
    assert (found.records, found.characters, found.vocabulary.once, found.coverage.distance) == (0, 0, None, None)
    assert found.lengths[""].mean is None
    assert found.categories.bars == found.languages.bars == ()


def test_a_conversation_counts_every_turn_once() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Wash it?"},
        {"role": "assistant", "content": "No."},
    ]
    found = summary([_row(instruction="Hi", response="No.", turns=turns)])
    assert found.characters == sum(len(turn["content"]) for turn in turns)
    assert (found.conversations, found.words) == (1, 7)


def test_a_record_of_the_store_counts_as_many_letters_as_its_filter_does(sqlite_store: Store) -> None:
    dataset = sqlite_store.create_dataset("gear", author="ann")
    turns = [
        {"role": role, "content": text}
        for role, text in zip(["user", "assistant"] * 2, "Hé,Ja!,So?,No".split(","), strict=True)
    ]
    for fields in (_row(context="Wool 🧶."), {"turns": turns, "category": "open_qa"}):
        add_record(sqlite_store, dataset, fields, author="ann", source="hand")
    for record in sqlite_store.all_records(dataset.id):
        assert read(record).letters == record.letters
        assert read(record).key == record.id
    found = summary(sqlite_store.all_records(dataset.id))
    assert (found.conversations, found.sources.n("hand"), found.authors.n("ann"), found.states.n("draft")) == (
        1,
        2,
        2,
        2,
    )


def test_tokens_are_asked_for_in_batches_and_are_none_when_nobody_counts() -> None:
    asked: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        asked.append(len(texts))
        return [len(text.split()) for text in texts]

    found = summary((_row(n) for n in range(600)), count=count)
    assert asked == [256, 256, 88]
    assert found.tokens is not None
    assert (found.tokens.n, found.tokens.total, found.tokens.mean) == (600, 600 * 5, 5)
    assert summary([_row()]).tokens is None


def test_a_summary_survives_json() -> None:
    adapter = TypeAdapter(Summary)
    found = summary([_row(n, response=ENGLISH, category="") for n in range(1, 30)])
    assert adapter.validate_json(adapter.dump_json(found)) == found


def test_beyond_fifty_values_the_rest_is_counted_together() -> None:
    found = summary(_row(n, source=f"file-{n % 80}.csv") for n in range(800))
    assert len(found.sources.bars) == 50
    assert sum(bar.n for bar in found.sources.bars) + found.sources.others == 800


# -- bars and their filters ----------------------------------------------------------------------------------------


def test_every_bar_with_a_filter_finds_as_many_records_as_it_says(sqlite_store: Store) -> None:
    dataset = sqlite_store.create_dataset("gear", author="ann")
    draw = random.Random(4)
    for n in range(120):
        kind = draw.choice(["", *CATEGORIES[:3]])
        fields = _row(n, category=kind, response="x" * draw.randint(1, 400))
        add_record(sqlite_store, dataset, fields, author=draw.choice(["ann", "bo"]), source="hand")
    found = summary(sqlite_store.all_records(dataset.id))
    shares = (found.categories, found.splits, found.states, found.sources, found.authors)
    bars = [bar for share in shares for bar in share.bars] + list(found.lengths[""].bars) + list(found.languages.bars)
    assert len(bars) > 20
    for bar in bars:
        assert bar.where is not None
        assert sqlite_store.count_records(dataset.id, RecordFilter(**bar.where)) == bar.n, bar  # type: ignore[arg-type]


def test_what_the_filter_does_not_know_is_shown_by_ids() -> None:
    rows = [_row(n, licence="MIT" if n % 2 else "", response="x" * n) for n in range(1, 41)]
    found = summary(rows, count=lambda texts: [len(text) for text in texts], window=50)
    assert {bar.label: bar.where for bar in found.licences.bars} == {
        "MIT": {"ids": tuple(range(1, 41, 2))},
        "": {"ids": tuple(range(2, 41, 2))},
    }
    assert found.tokens is not None
    for bar in (*found.lengths["response"].bars, *found.tokens.bars):
        assert (len(bar.where["ids"]) if bar.where else 0) == bar.n  # type: ignore[arg-type]
    longest = [row["record"] for row in rows if len(row["instruction"] + row["response"]) + 2 > 50]
    assert found.beyond is not None
    assert (found.beyond.n, found.beyond.where) == (len(longest), {"ids": tuple(longest)})


def test_a_bar_names_its_first_thousand_records() -> None:
    found = summary(_row(5000 - n, response="Same.") for n in range(2500))
    (bar,) = (bar for bar in found.lengths["response"].bars if bar.n)
    assert bar.n == 2500
    assert bar.where is not None
    assert len(bar.where["ids"]) == 1000  # type: ignore[arg-type]


def test_rows_without_ids_have_bars_without_a_filter() -> None:
    found = summary([_row(licence="MIT", record=None)])
    assert found.licences.bars[0].where is None
    assert all(bar.where is None for bar in found.lengths["response"].bars)


def test_telling_words_are_in_many_records_but_not_in_all() -> None:
    rows = [
        _row(n, instruction=f"Wash the {'tent' if n % 3 else 'stove'}?", response=f"Gently, w{n}.")
        for n in range(1, 31)
    ]
    found = summary(rows).telling
    assert found.n == 30
    assert [(bar.label, bar.n) for bar in found.bars] == [("stove", 10), ("tent", 20)]
    assert found.bars[0].where == {"ids": tuple(range(3, 31, 3))}
    assert summary([]).telling.bars == ()


# -- lengths -------------------------------------------------------------------------------------------------------


def _counted(lengths: Sequence[int]) -> LengthCounter:
    counter = LengthCounter(is_filter=True)
    for length in lengths:
        counter.add(length)
    return counter


@quick
@given(st.lists(st.integers(0, 3_000_000) | st.integers(0, 300), min_size=1, max_size=200))
def test_bars_hold_every_length_once_and_exactly(lengths: list[int]) -> None:
    found = _counted(lengths).lengths()
    assert sum(bar.n for bar in found.bars) == found.n == len(lengths)
    assert len(found.bars) <= 22
    for bar in found.bars:
        assert bar.where is not None
        low, high = bar.where["shortest"], bar.where.get("longest")
        assert isinstance(low, int)
        assert bar.n == sum(low <= n and (not isinstance(high, int) or n <= high) for n in lengths)


@quick
@given(st.lists(st.integers(0, 3_000_000) | st.integers(0, 300), min_size=1, max_size=200))
def test_quantiles_are_of_the_nearest_rank(lengths: list[int]) -> None:
    found = _counted(lengths).lengths()
    ordered = sorted(lengths)
    for percent, quantile in found.quantiles.items():
        exact = ordered[-(-percent * len(lengths) // 100) - 1]
        assert quantile == exact if exact < 10_000 else 0 <= exact - quantile < exact / 1000
    assert (found.longest, found.total) == (max(lengths), sum(lengths))


def test_counting_lengths_takes_no_memory_that_grows_with_the_records() -> None:
    counter = _counted([int(1.00002**n) for n in range(700_000)])  # from 1 to 1.2 million, all different ones there are
    assert len(counter._counts) < 10_000 + 3 * 9_000


# -- words and languages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't wash it, at 30°C!", ["don't", "wash", "it", "at", "30", "c"]),
        ("Wäsche_nie heiß", ["wäsche", "nie", "heiß"]),
        ("洗濯 tent", ["洗", "濯", "tent"]),
        ("हिन्दी", ["हिन्दी"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("🙂 …", []),
    ],
)
def test_words_are_what_a_reader_would_count(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_topic_words_leave_out_numbers_and_short_words() -> None:
    assert topic_words("The 2 tents at 30000 m") == ["the", "tents"]
    assert topic_words("洗濯機 für Zelte") == ["洗濯", "濯機", "für", "zelte"]


@quick
@given(st.lists(st.sampled_from([f"w{n}" for n in range(60)]), max_size=300))
def test_a_small_vocabulary_is_counted_exactly(said: list[str]) -> None:
    counter = VocabularyCounter()
    counter.add(said)
    found, counts = counter.vocabulary(), Counter(said)
    assert (found.words, found.distinct, found.error) == (len(said), len(counts), 0)
    assert found.once == (sum(n == 1 for n in counts.values()) / len(counts) if counts else None)


def test_a_large_vocabulary_is_estimated_within_its_stated_error() -> None:
    counter = VocabularyCounter(capacity=2000)
    draw = random.Random(7)
    said = [f"word{int(draw.expovariate(1 / 20_000))}" for _ in range(150_000)]
    for start in range(0, len(said), 100):
        counter.add(said[start : start + 100])
    found, counts = counter.vocabulary(), Counter(said)
    assert found.error == pytest.approx(1.96 * 1.2 / 2000**0.5)
    assert found.distinct == pytest.approx(len(counts), rel=found.error)
    assert found.once == pytest.approx(sum(n == 1 for n in counts.values()) / len(counts), abs=0.05)
    assert len(counter._counts) <= 2000


def test_a_reservoir_takes_early_and_late_alike() -> None:
    taken: Counter[int] = Counter()
    for seed in range(400):
        reservoir = Reservoir[int](10, seed)
        for n in range(100):
            reservoir.take(n)
        assert reservoir.kept == sorted(set(reservoir.kept))
        assert len(reservoir.kept) == 10
        taken.update(reservoir.kept)
    # 40 expected of each; beyond 6 standard deviations, something else than chance decides.
    assert all(4 < taken[n] < 76 for n in range(100))


def test_languages_are_those_of_a_stated_sample() -> None:
    rows = [_row(n, response=GERMAN if n % 4 == 0 else ENGLISH, instruction="?") for n in range(1, 101)]
    found = summary(rows, seed=5).languages
    assert (found.n, found.seed) == (100, 5)
    assert {bar.label: bar.n for bar in found.bars} == {"en": 75, "de": 25}
    german = found.bars[1]
    assert german.where == {"ids": tuple(range(4, 101, 4))}
    assert german.interval is not None
    assert german.interval.low < 0.25 < german.interval.high


def test_a_large_dataset_is_sampled_alike_by_the_same_seed() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        return (_row(n, instruction="Ja?", response="Nein.") for n in range(1, 5001))

    first, again, other = (summary(rows(), seed=seed).languages for seed in (1, 1, 2))
    assert first.n == 2000
    assert first == again != other


def test_short_texts_are_in_no_language() -> None:
    assert language("Ja.") == ""
    assert language("12 34 56 78 90 12 34 56 78") == ""
    assert (language(GERMAN), language(ENGLISH)) == ("de", "en")


# -- coverage ------------------------------------------------------------------------------------------------------


def test_dollys_counts_are_of_its_eight_categories_and_its_fifteen_thousand_rows() -> None:
    assert set(DOLLY) == set(CATEGORIES)
    assert sum(DOLLY.values()) == 15_011


def test_a_dataset_with_dollys_shares_covers_it() -> None:
    found = coverage(DOLLY)
    assert found.distance == pytest.approx(0)
    assert (found.missing, found.elsewhere) == ((), 0)


def test_what_is_missing_and_what_is_elsewhere_is_said() -> None:
    found = coverage({"open_qa": 6, "poetry": 3, "": 1})
    assert found.elsewhere == 4
    assert found.missing == CATEGORIES[1:]
    assert found.distance == pytest.approx(1 - DOLLY["open_qa"] / 15_011)


@quick
@given(st.dictionaries(st.sampled_from([*CATEGORIES, "", "poetry"]), st.integers(1, 1000), min_size=1))
def test_the_distance_is_a_share(counts: dict[str, int]) -> None:
    found = coverage(counts)
    assert found.distance is not None
    assert -1e-9 <= found.distance <= 1 + 1e-9
    assert sum(c.n for c in found.categories) + found.elsewhere == sum(counts.values())
    for one, two in itertools.pairwise(found.categories):
        assert one.where != two.where
