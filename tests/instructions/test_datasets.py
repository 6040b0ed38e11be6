"""Going through a dataset: pages, neighbours, what was typed and not saved, and snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.instructions import (
    PAGE_ROWS,
    datasets,
    import_into,
    name_for,
    neighbour,
    new_dataset,
    page_of,
    take_snapshot,
)
from studio.instructions.datasets import keep_filter, page_with, shares_of
from studio.instructions.records import insertable
from studio.store import CheckRun, Dataset, FlagRow, Order, RecordFilter, Store


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    """One record more than two pages hold."""
    dataset = new_dataset(sqlite_store, "support", author="ann")
    rows = (insertable({"instruction": f"Question {i}", "response": "Yes."}) for i in range(2 * PAGE_ROWS + 1))
    sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    return dataset


@pytest.mark.parametrize(
    ("asked", "first", "last"), [(1, 1, 50), (2, 51, 100), (3, 101, 101), (9, 101, 101), (-1, 1, 50)]
)
def test_a_page_that_is_not_there_is_the_nearest(
    sqlite_store: Store, dataset: Dataset, asked: int, first: int, last: int
) -> None:
    page = page_of(sqlite_store, dataset, None, asked)
    assert (page.first, page.last, page.total) == (first, last, 101)


def test_an_empty_dataset_has_one_empty_page(sqlite_store: Store) -> None:
    page = page_of(sqlite_store, new_dataset(sqlite_store, "new", author="ann"))
    assert (page.number, page.pages, page.first, page.last, page.records) == (1, 1, 0, 0, ())


@pytest.fixture
def counts_to_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a filter leaves, one page is counted."""
    monkeypatch.setattr(datasets, "COUNTED", PAGE_ROWS)


@pytest.mark.usefixtures("counts_to_a_page")
def test_what_a_filter_leaves_is_counted_until_it_is_many(sqlite_store: Store, dataset: Dataset) -> None:
    page = page_of(sqlite_store, dataset, RecordFilter("question"))
    assert (page.first, page.last, page.total, page.pages, page.is_last) == (1, 50, 50, 1, False)
    assert page.total_words == "more than 50"
    exact = page_of(sqlite_store, dataset, RecordFilter('"question 7"'))
    assert (exact.total, exact.pages, exact.is_last, exact.total_words) == (1, 1, True, "1")
    whole = page_of(sqlite_store, dataset)
    assert (whole.total, whole.pages, whole.is_capped, whole.total_words) == (101, 3, False, "101")


@pytest.mark.usefixtures("counts_to_a_page")
@pytest.mark.parametrize(("asked", "first", "last"), [(2, 51, 100), (3, 101, 101), (10**9, 101, 101)])
def test_a_page_behind_those_that_were_counted_is_found_and_all_are_counted_then(
    sqlite_store: Store, dataset: Dataset, asked: int, first: int, last: int
) -> None:
    page = page_of(sqlite_store, dataset, RecordFilter("question"), asked)
    assert (page.first, page.last, page.total, page.pages, page.is_capped) == (first, last, 101, 3, False)
    assert len(page.records) == last - first + 1
    assert page.is_last == (last == 101)


@pytest.mark.usefixtures("counts_to_a_page")
def test_as_many_as_are_counted_are_not_said_to_be_more(sqlite_store: Store, dataset: Dataset) -> None:
    ids = tuple(record.id for record in sqlite_store.records(dataset.id, limit=PAGE_ROWS))
    page = page_of(sqlite_store, dataset, RecordFilter(ids=ids))
    assert (page.total, page.is_capped, page.is_last) == (PAGE_ROWS, False, True)


def test_neighbours_lie_on_the_next_page_too_and_skip_what_is_filtered_out(
    sqlite_store: Store, dataset: Dataset
) -> None:
    everything = sqlite_store.records(dataset.id, limit=200)
    assert neighbour(sqlite_store, None, everything[49].id, 1) == (2, everything[50])
    assert neighbour(sqlite_store, None, everything[50].id, -1) == (1, everything[49])
    only_seventies = RecordFilter("7")
    _, record = neighbour(sqlite_store, only_seventies, everything[8].id, 1)
    assert record.instruction == "Question 70"
    with pytest.raises(NotFound, match="last record"):
        neighbour(sqlite_store, None, everything[-1].id, 1)


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
def test_going_from_record_to_record_passes_each_once_in_the_order_of_the_pages(
    sqlite_store: Store, dataset: Dataset, order: Order
) -> None:
    shown = [r.id for n in (1, 2, 3) for r in page_of(sqlite_store, dataset, None, n, order).records]
    walked, pages = [shown[0]], [1]
    for _ in range(len(shown) - 1):
        page, record = neighbour(sqlite_store, None, walked[-1], 1, order)
        walked.append(record.id)
        pages.append(page)
    assert walked == shown
    assert pages == [1] * 50 + [2] * 50 + [3]


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
def test_a_record_says_which_page_it_is_on(sqlite_store: Store, dataset: Dataset, order: Order) -> None:
    for number in (1, 2, 3):
        for record in page_of(sqlite_store, dataset, None, number, order).records:
            assert page_with(sqlite_store, record, None, order) == number


def test_what_records_can_be_told_apart_by_is_counted(sqlite_store: Store, dataset: Dataset) -> None:
    first = sqlite_store.records(dataset.id)[0]
    sqlite_store.edit_record(first.id, 1, {"response": "No."}, author="ben")
    run = CheckRun(dataset.id, "personal", "1", {}, 101, 0, 0.1, 0.0, 0.0)
    sqlite_store.put_flags(run, [FlagRow(first.id, "personal", "response", "an address")])
    sqlite_store.put_flags(CheckRun(**{**run.__dict__, "check": "names"}), [])
    shares = shares_of(sqlite_store, dataset)
    assert (shares.author, shares.source, shares.flag) == ({"ann": 100, "ben": 1}, {"test": 101}, {"personal": 1})
    assert sum(shares.split.values()) == 101


@pytest.mark.parametrize(
    ("name", "where", "sentence"),
    [
        ("mine", RecordFilter(), "no filter to save"),
        ("  ", RecordFilter("x"), "has no name"),
        ("x" * 61, RecordFilter("x"), "61 characters"),
    ],
)
def test_a_filter_that_nobody_could_use_is_not_saved(
    sqlite_store: Store, dataset: Dataset, name: str, where: RecordFilter, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        keep_filter(sqlite_store, dataset, name, where, author="ann")
    assert sqlite_store.saved_filters(dataset.id) == []


@pytest.mark.parametrize("name", ["", "my set", "a/b", "x@1", "ä b"])
def test_a_name_that_cannot_be_referred_to_is_refused_with_one_that_can(sqlite_store: Store, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a dataset"):
        new_dataset(sqlite_store, name, author="ann")


def test_a_file_suggests_a_name_that_is_allowed(sqlite_store: Store) -> None:
    assert name_for(Path("help desk (2024).csv")) == "help-desk-2024"
    assert name_for(Path("???.csv")) == "records"


def test_a_name_is_taken_once(sqlite_store: Store, dataset: Dataset) -> None:
    with pytest.raises(Conflict):
        new_dataset(sqlite_store, "support", author="ann")


def test_an_import_that_fails_leaves_no_empty_dataset(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,a\nWhy?,\n")
    with pytest.raises(InputError, match="no usable rows"):
        import_into(sqlite_store, "new", path, {"instruction": "q", "response": "a"}, author="ann")
    assert sqlite_store.datasets() == []
    path.write_text("q,a\nWhy?,So.\n")
    report = import_into(sqlite_store, "new", path, {"instruction": "q", "response": "a"}, author="ann", licence="MIT")
    assert (report.added, sqlite_store.dataset("new").licence) == (1, "MIT")


def test_a_snapshot_of_unchanged_records_is_not_a_new_one(
    sqlite_store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    first = take_snapshot(sqlite_store, tmp_path, dataset, author="ann")
    again = take_snapshot(sqlite_store, tmp_path, dataset, author="bo")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.snapshot == again.snapshot
