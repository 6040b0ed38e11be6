"""Datasets and records: found again as they were written, edited without losing what was there before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from studio.errors import Conflict, NotFound
from studio.store import Dataset, Order, RecordChange, RecordFilter, Store, datasets
from tests.store.rows import record_row


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.create_dataset("gear", author="ann", guidelines="Be brief.", licence="CC-BY-4.0")


def _add(store: Store, dataset: Dataset, *rows: dict[str, Any]) -> None:
    store.add_records(dataset.id, rows, author="ann", source="test")


def test_a_dataset_is_found_by_name_as_it_was_made(store: Store, dataset: Dataset) -> None:
    assert store.dataset("gear") == dataset
    assert store.datasets() == [dataset]


def test_a_name_is_given_once(store: Store, dataset: Dataset) -> None:
    with pytest.raises(Conflict, match="exists already"):
        store.create_dataset("gear", author="ben")
    assert store.datasets() == [dataset]


def test_a_missing_dataset_is_told_with_the_known_ones(store: Store, dataset: Dataset) -> None:
    with pytest.raises(NotFound, match=r"There is no dataset 'geer'\. Known datasets: gear\."):
        store.dataset("geer")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Zelt 🏕️ für zwei", id="emoji"),
        pytest.param("line\r\nbreaks\u2028of every\x85kind", id="line breaks"),
        pytest.param("שלום עולם", id="right to left"),
        pytest.param("a'; DROP TABLE records; --", id="quotes"),
        pytest.param("long " * 40_000, id="200 kB"),
    ],
)
def test_text_comes_back_character_for_character(store: Store, dataset: Dataset, text: str) -> None:
    _add(store, dataset, record_row() | {"response": text})
    assert store.records(dataset.id)[0].response == text


def test_records_are_paged_in_the_order_they_came(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, *map(record_row, range(10)))
    page = store.records(dataset.id, offset=4, limit=3)
    assert [r.instruction for r in page] == [f"How heavy is tent {n}?" for n in (4, 5, 6)]
    assert store.count_records(dataset.id) == 10


def test_all_records_reads_past_its_own_batches(store: Store, dataset: Dataset) -> None:
    other = store.create_dataset("other", author="ann")
    _add(store, other, record_row())
    rows = [record_row() | {"instruction": f"{n}"} for n in range(2300)]
    _add(store, dataset, *rows)
    assert [r.instruction for r in store.all_records(dataset.id)] == [f"{n}" for n in range(2300)]


def test_adding_is_all_or_nothing(store: Store, dataset: Dataset) -> None:
    def breaks_off() -> Iterator[dict[str, Any]]:
        yield from map(record_row, range(1500))
        raise OSError("the file went away")

    with pytest.raises(OSError, match="went away"):
        store.add_records(dataset.id, breaks_off(), author="ann", source="test")
    assert store.count_records(dataset.id) == 0


@pytest.mark.parametrize(
    ("where", "found"),
    [
        pytest.param(RecordFilter(), ["wash", "dry", "rent"], id="no filter"),
        pytest.param(RecordFilter(text="WASH"), ["wash"], id="any case"),
        pytest.param(RecordFilter(text="ärmel"), ["dry"], id="any case beyond ASCII"),
        pytest.param(RecordFilter(text="100%"), ["rent"], id="a percent sign is a percent sign"),
        pytest.param(RecordFilter(text="w_sh"), [], id="an underscore is an underscore"),
        pytest.param(RecordFilter(category="closed_qa"), ["dry", "rent"], id="category"),
        pytest.param(RecordFilter(category="closed_qa", text="100"), ["rent"], id="both"),
        pytest.param(RecordFilter(split="nowhere"), [], id="split"),
    ],
)
def test_records_are_filtered(store: Store, dataset: Dataset, where: RecordFilter, found: list[str]) -> None:
    _add(
        store,
        dataset,
        record_row(instruction="wash"),
        record_row(instruction="dry", context="Die ÄRMEL sind nass.", category="closed_qa"),
        record_row(instruction="rent", response="It is 100% of 1000 euros.", category="closed_qa"),
    )
    assert [r.instruction for r in store.records(dataset.id, where)] == found
    assert store.count_records(dataset.id, where) == len(found)


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
@pytest.mark.parametrize("where", [None, RecordFilter(text="tent"), RecordFilter(category="b")])
def test_what_is_looked_for_from_the_end_is_the_same(
    store: Store, dataset: Dataset, order: Order, where: RecordFilter | None
) -> None:
    _add(store, dataset, *(record_row(n, category="ab"[n % 2], response="yes " * (n % 5 + 1)) for n in range(23)))
    total = store.count_records(dataset.id, where)
    for offset, limit in ((0, 4), (5, 4), (6, 4), (12, 4), (18, 4), (20, 4), (22, 4), (total - 1, 4), (total, 4)):
        page = store.records(dataset.id, where, order=order, offset=offset, limit=limit)
        assert store.records(dataset.id, where, order=order, offset=offset, limit=limit, of=total) == page


@pytest.mark.parametrize("few", [pytest.param(5, id="few"), pytest.param(20_000, id="many")])
@pytest.mark.parametrize("jumps", [pytest.param(6, id="many values"), pytest.param(300, id="few values")])
def test_any_mixture_of_filters_finds_what_reading_would_find_in_every_order(
    store: Store, dataset: Dataset, few: int, jumps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_FEW", few)
    monkeypatch.setattr(datasets, "_MOST_JUMPS", jumps)
    rows = [
        {
            **record_row(n, category=("", "a", "b")[n % 3], response="yes " * (n % 4 + 1)),
            "split": ("train", "test", "excluded")[n % 7 % 3],
            "state": ("draft", "approved")[n % 5 % 2],
            "source": ("one", "two")[n % 2],
        }
        for n in range(42)
    ]
    other = store.create_dataset("other", author="ann")
    _add(store, other, *rows[:3])
    for author in ("ann", "ben"):
        store.add_records(dataset.id, rows, author=author, source="test")
    store.edit_record(store.records(dataset.id, limit=1)[0].id, 1, {"category": "c", "split": "x"}, author="cem")
    gone = [RecordChange(record.id, {}, is_removed=True) for record in store.records(dataset.id, offset=70)]
    store.change_records(dataset.id, "Removed", gone, author="ben")
    everything = store.records(dataset.id, limit=100)
    orders: dict[Order, Any] = {
        "oldest": lambda r: r.id, "newest": lambda r: (-r.updated_at, -r.id),
        "shortest": lambda r: (r.letters, r.id), "longest": lambda r: (-r.letters, -r.id),
    }  # fmt: skip
    asked = itertools.product(("", None, "a", "c"), ("", "test", "x"), ("", "approved"), ("", "ben"), ("", "two"))
    for number, (category, split, state, author, source) in enumerate(asked):
        where = RecordFilter(category=category, split=split, state=state, author=author, source=source)
        kept = [
            r
            for r in everything
            if (category == "" or r.category == (category or ""))
            and (not split or r.split == split)
            and (not state or r.state == state)
            and (not author or r.author == author)
            and (not source or r.source == source)
        ]
        order = list(orders)[number % 4]
        expected = sorted(kept, key=orders[order])
        assert store.records(dataset.id, where, order=order, limit=100) == expected
        assert store.records(dataset.id, where, order=order, offset=2, limit=3, of=len(kept)) == expected[2:5]
        assert store.record_ids(dataset.id, where, order) == [record.id for record in expected]
        assert store.count_records(dataset.id, where) == len(kept)
        assert store.count_records(dataset.id, where, most=3) == min(3, len(kept))
        if kept:
            last = store.beside(expected[-1], where, order, -1)
            assert last == ((expected[-2], len(kept) - 2) if len(kept) > 1 else None)
            assert store.beside(expected[0], where, order, 1) == ((expected[1], 1) if len(kept) > 1 else None)
            assert store.beside(expected[-1], where, order, 1) is None


@pytest.mark.parametrize("where", [None, RecordFilter(text="tent"), RecordFilter(category="open_qa")])
def test_counting_can_stop_early(store: Store, dataset: Dataset, where: RecordFilter | None) -> None:
    _add(store, dataset, *map(record_row, range(10)))
    assert [store.count_records(dataset.id, where, most=most) for most in (None, 3, 10, 11)] == [10, 3, 10, 10]


def test_categories_are_counted_largest_first(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, record_row(1, category="b"), record_row(2, category="a"), record_row(3, category="a"))
    assert list(store.categories(dataset.id).items()) == [("a", 2), ("b", 1)]


# -- editing -------------------------------------------------------------------------------------------------


def test_an_edit_keeps_every_earlier_version(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, record_row(response="first"))
    (born,) = store.records(dataset.id)
    second = store.edit_record(born.id, 1, {"response": "second"}, author="ben")
    third = store.edit_record(born.id, 2, {"response": "third"}, author="cem")
    assert (second.response, second.revision, second.author) == ("second", 2, "ben")
    assert (third.response, third.revision, third.created_at) == ("third", 3, born.created_at)
    told = [(h["revision"], h["fields"]["response"], h["author"]) for h in store.record_history(born.id)]
    assert told == [(2, "second", "ben"), (1, "first", "ann")]


def test_an_edit_of_an_old_version_tells_who_was_faster_and_overwrites_nothing(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, record_row())
    (record,) = store.records(dataset.id)
    store.edit_record(record.id, 1, {"response": "ben's"}, author="ben")
    with pytest.raises(Conflict, match=r"changed by ben while you were editing .*Your text is still in the form"):
        store.edit_record(record.id, 1, {"response": "ann's"}, author="ann")
    assert store.record(record.id).response == "ben's"
    assert len(store.record_history(record.id)) == 1


def test_of_simultaneous_edits_one_is_kept_and_the_others_are_told(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, record_row())
    (record,) = store.records(dataset.id)

    def edit(who: str) -> str:
        try:
            return store.edit_record(record.id, 1, {"response": who}, author=who).response
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(edit, ["ann", "ben", "cem", "dia"]))
    assert told.count("conflict") == 3
    assert store.record(record.id).response in told
    assert store.record(record.id).revision == 2


def test_saving_without_a_change_makes_no_version(store: Store, dataset: Dataset) -> None:
    _add(store, dataset, record_row(response="same"))
    (record,) = store.records(dataset.id)
    assert store.edit_record(record.id, 1, {"response": "same"}, author="ben") == record
    assert store.record_history(record.id) == []


def test_a_missing_record_is_a_sentence(store: Store) -> None:
    with pytest.raises(NotFound, match="There is no record 7"):
        store.edit_record(7, 1, {}, author="ann")
