"""Searching records: the same words find the same records in both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import StorageError
from studio.store import Dataset, Order, RecordFilter, Store, datasets
from studio.store.words import terms
from tests.store.rows import record_row

TEXTS = {
    "wash": "How do I wash a down jacket?",
    "tent": "Mein Igluzelt ist naß, der ÄRMEL auch.",
    "mail": "Write to shop@brackenfold.example or call +44 20 7946.",
    "code": "price_list = {'tent': 99}  # don't touch",
    "thai": "เต็นท์นี้กันน้ำได้ไหม",
    "japanese": "このテントは防水ですか",
    "arabic": "هل الخيمة مقاومة للماء",
}


@pytest.fixture
def dataset(store: Store) -> Dataset:
    made = store.create_dataset("gear", author="ann")
    rows = [record_row(instruction=text, response=f"Answer {name}.", category=name) for name, text in TEXTS.items()]
    store.add_records(made.id, rows, author="ann", source="test")
    other = store.create_dataset("other", author="ann")
    store.add_records(other.id, [record_row(instruction="wash in another dataset")], author="ann", source="test")
    return made


def found(store: Store, dataset: Dataset, text: str) -> list[str]:
    where = RecordFilter(text=text)
    names = [record.category for record in store.records(dataset.id, where)]
    assert store.count_records(dataset.id, where) == len(names)
    return names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("jacket", ["wash"], id="a word"),
        pytest.param("JACKET wash", ["wash"], id="all words, in any case and order"),
        pytest.param("jacket tent", [], id="all of them have to be there"),
        pytest.param("jack", ["wash"], id="the last word may only be begun"),
        pytest.param("jack wash", [], id="but no other"),
        pytest.param("acket", [], id="a word is found from its start"),
        pytest.param('"down jacket"', ["wash"], id="side by side"),
        pytest.param('"jacket down"', [], id="in that order"),
        pytest.param('"a down', ["wash"], id="a quote that is still open"),
        pytest.param("ärmel", ["tent"], id="case beyond ASCII"),
        pytest.param("armel", [], id="accents count"),
        pytest.param("brackenfold", ["mail"], id="inside an address"),
        pytest.param("防水", ["japanese"], id="scripts without spaces"),
        pytest.param("กันน้ำ", ["thai"], id="Thai"),
        pytest.param("الخيمة", ["arabic"], id="right to left"),
        pytest.param("防水 answer", ["japanese"], id="both kinds at once"),
        pytest.param("%", [], id="a sign alone"),
        pytest.param('"', [], id="a lonely quote"),
        pytest.param("wash OR tent", [], id="no operators"),
        pytest.param("wash*", ["wash"], id="no wildcards"),
        pytest.param("instruction:wash", [], id="no column names"),
    ],
)
def test_words_find_what_a_person_means(store: Store, dataset: Dataset, text: str, names: list[str]) -> None:
    assert found(store, dataset, text) == names


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_whatever_is_typed_is_a_question_and_no_error(sqlite_store: Store, text: str) -> None:
    if not sqlite_store.datasets():
        made = sqlite_store.create_dataset("any", author="ann")
        sqlite_store.add_records(made.id, [record_row()], author="ann", source="test")
    assert sqlite_store.count_records(1, RecordFilter(text=text.replace("\x00", ""))) in (0, 1)


@pytest.mark.parametrize("text", ["a'b", "\\", "x:*", "!x", "a & b", "(x", "<->", "a\\'b"])
def test_signs_that_mean_something_to_a_database_are_only_signs(store: Store, dataset: Dataset, text: str) -> None:
    assert found(store, dataset, text) in ([], ["code"], ["wash"], ["wash", "mail"], ["wash", "tent"])


def test_the_index_follows_edits_and_removal(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id, RecordFilter(text="jacket"))[0]
    store.edit_record(record.id, 1, {"instruction": "How do I dry a parka?"}, author="ann")
    assert found(store, dataset, "jacket") == []
    assert found(store, dataset, "parka") == ["wash"]
    store.undo(dataset.id, author="ann")
    assert found(store, dataset, "jacket") == ["wash"]
    store.purge_records(dataset.id, [record.id], "asked to", [], author="ann")
    assert found(store, dataset, "jacket") == []


def test_every_turn_of_a_conversation_is_searched(store: Store, dataset: Dataset) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "Where is the lighthouse?"},
        {"role": "assistant", "content": "By the harbour.\nNext to the shop."},
    ]
    row = {**record_row(instruction="Hello", response="By the harbour.", category="talk"), "turns": turns}
    store.add_records(dataset.id, [row], author="ann", source="test")
    assert found(store, dataset, "lighthouse") == ["talk"]
    assert found(store, dataset, '"next to"') == ["talk"]
    assert found(store, dataset, "role") == []
    assert store.records(dataset.id, RecordFilter(category="talk"))[0].turns == turns


# -- records that come in large parts ----------------------------------------------------------------------------


def take(store: Store, dataset: Dataset, edit: int, *rows: dict[str, Any], last_row: int = 0) -> None:
    store.take_rows(dataset.id, edit, rows, [], last_row=last_row, author="ann", source="file.csv")


def assert_index_is_whole(store: Store) -> None:
    """SQLite's own comparison of the index with the records; PostgreSQL keeps its indexes itself."""
    if store.is_sqlite:
        with store._write() as c:
            c.exec_driver_sql("INSERT INTO records_words(records_words, rank) VALUES ('integrity-check', 1)")


def test_the_comparison_sees_a_record_whose_words_are_missing(sqlite_store: Store) -> None:
    made = sqlite_store.create_dataset("gear", author="ann")
    sqlite_store.add_records(made.id, [record_row(instruction="wash")], author="ann", source="test")
    with sqlite_store._write() as c:
        c.exec_driver_sql("UPDATE records SET id = 7")
    with pytest.raises(StorageError, match="malformed"), sqlite_store._write() as c:
        c.exec_driver_sql("INSERT INTO records_words(records_words, rank) VALUES ('integrity-check', 1)")


def test_rows_of_a_file_are_found_as_soon_as_they_are_in(store: Store, dataset: Dataset) -> None:
    edit = store.begin_edit(dataset.id, "add", "Imported file.csv", author="ann")
    take(store, dataset, edit, record_row(instruction="Where is the anchor?", category="one"))
    assert found(store, dataset, "anchor") == ["one"]
    take(store, dataset, edit, record_row(instruction="An anchor again", category="two"))
    assert found(store, dataset, "anchor") == ["one", "two"]
    assert_index_is_whole(store)
    for _ in range(2):
        store.undo(dataset.id, author="ann")
        assert found(store, dataset, "anchor") == []
        store.redo(dataset.id, author="ann")
        assert found(store, dataset, "anchor") == ["one", "two"]
    record = store.records(dataset.id, RecordFilter(text="anchor"))[0]
    store.edit_record(record.id, 1, {"instruction": "Where is the buoy?"}, author="ben")
    assert found(store, dataset, "anchor") == ["two"]
    assert found(store, dataset, "buoy") == ["one"]
    assert_index_is_whole(store)


def test_what_a_row_carries_beside_its_text_is_kept(store: Store, dataset: Dataset) -> None:
    turns = [
        {"role": "user", "content": "Gr\u00fc\u00df dich"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "The lighthouse?"},
        {"role": "assistant", "content": "Open."},
    ]
    row = record_row(instruction="Gr\u00fc\u00df dich", response="Open.", category="talk")
    more = {"turns": turns, "provenance": {"model": "echo:", "seeds": [1, 2]}, "licence": "MIT", "state": "approved"}
    edit = store.begin_edit(dataset.id, "add", "Imported file.csv", author="ann")
    take(store, dataset, edit, {**row, **more, "source": "elsewhere"})
    (kept,) = store.records(dataset.id, RecordFilter(text="lighthouse"))
    assert {name: getattr(kept, name) for name in more} == more
    assert (kept.source, kept.letters, kept.revision) == ("elsewhere", sum(len(turn["content"]) for turn in turns), 1)
    (plain,) = store.records(dataset.id, RecordFilter(category="wash"))
    assert (plain.turns, plain.provenance, plain.source) == (None, None, "test")


def test_a_part_that_fails_leaves_no_row_and_no_word(store: Store, dataset: Dataset) -> None:
    edit = store.begin_edit(dataset.id, "add", "Imported file.csv", author="ann")
    take(store, dataset, edit, record_row(instruction="first anchor", category="one"))
    broken = record_row(instruction="second anchor") | {"category": None}
    with pytest.raises(sa.exc.IntegrityError):
        take(store, dataset, edit, record_row(instruction="third anchor"), broken)
    assert found(store, dataset, "anchor") == ["one"]
    take(store, dataset, edit, record_row(instruction="second anchor", category="two"))
    assert found(store, dataset, "anchor") == ["one", "two"]
    assert_index_is_whole(store)


def test_imports_at_the_same_time_are_all_found(store: Store) -> None:
    datasets = [store.create_dataset(name, author="ann") for name in ("north", "south", "east")]

    def bring(dataset: Dataset) -> None:
        edit = store.begin_edit(dataset.id, "add", "Imported file.csv", author="ann")
        for part in range(4):
            rows = [record_row(instruction=f"{dataset.name} {n}", category=str(n)) for n in range(30)]
            take(store, dataset, edit, *rows, last_row=30 * (part + 1))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bring, datasets))
    for dataset in datasets:
        assert found(store, dataset, "17 ") == ["17"] * 4
        assert store.count_records(dataset.id, RecordFilter(text=f"{dataset.name} ")) == 120
        assert store.edits(dataset.id)[0].records == 120
    assert_index_is_whole(store)


WORDS = st.lists(st.sampled_from(["anchor", "buoy", "cleat", "drogue"]), min_size=1, max_size=3).map(" ".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.lists(WORDS, min_size=1, max_size=3)),
        st.tuples(st.just("add"), st.lists(WORDS, min_size=1, max_size=2)),
        st.tuples(st.just("edit"), st.tuples(st.integers(0, 20), WORDS)),
        st.tuples(st.sampled_from(["undo", "redo", "purge"]), st.integers(0, 20)),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_search_finds_what_reading_would_find_whatever_was_done(sqlite_store: Store, steps: list[Any]) -> None:
    made = sqlite_store.create_dataset(f"d{len(sqlite_store.datasets())}", author="ann")
    for what, how in steps:
        there = sqlite_store.records(made.id)
        if what == "take":
            edit = sqlite_store.begin_edit(made.id, "add", "Imported", author="ann")
            take(sqlite_store, made, edit, *(record_row(instruction=text) for text in how))
        elif what == "add":
            rows = [record_row(instruction=text) for text in how]
            sqlite_store.add_records(made.id, rows, author="ann", source="test")
        elif what == "edit" and there:
            record = there[how[0] % len(there)]
            sqlite_store.edit_record(record.id, record.revision, {"instruction": how[1]}, author="ann")
        elif what == "undo" and sqlite_store.next_undo(made.id, "ann"):
            sqlite_store.undo(made.id, author="ann")
        elif what == "redo" and sqlite_store.next_redo(made.id, "ann"):
            sqlite_store.redo(made.id, author="ann")
        elif what == "purge" and there:
            # The newest: the next record may be given its number.
            sqlite_store.purge_records(made.id, [there[-1].id], "asked to", [], author="ben")
            break  # what was purged cannot be undone past
    for word in ("anchor", "buoy", "cleat", "drogue"):
        read = [record.id for record in sqlite_store.all_records(made.id) if word in record.instruction]
        assert sqlite_store.record_ids(made.id, RecordFilter(text=word)) == read
    assert_index_is_whole(sqlite_store)


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(RecordFilter(text="tent"), id="in nearly all"),
        pytest.param(RecordFilter(text="anchor"), id="in some"),
        pytest.param(RecordFilter(text="tent", category="odd"), id="with a filter"),
        pytest.param(RecordFilter(text="防"), id="not in the index"),
    ],
)
def test_a_frequent_word_is_found_in_every_order_without_sorting_all_its_finds(
    sqlite_store: Store, where: RecordFilter, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = (sqlite_store.create_dataset(name, author="ann") for name in ("gear", "other"))
    for part in range(3):
        rows = [
            record_row(
                instruction=f"Is tent {n} dry?" if n % 7 else "An anchor 防",
                response="yes " * (n * 13 % 20 + 1),
                category="odd" if n % 2 else "even",
            )
            for n in range(20 * part, 20 * part + 20)
        ]
        for dataset in (made, other):
            sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    pages = [(0, 5), (3, 5), (20, 5), (0, 60), (58, 5)]

    def all_that_can_be_asked() -> list[Any]:
        shown = [sqlite_store.records(made.id, where, order=order, offset=o, limit=n) for o, n in pages]
        return [*shown, *(sqlite_store.count_records(made.id, where, most=most) for most in (None, 3, 10))]

    before = all_that_can_be_asked()
    for front in (30, 100):
        for name, value in (("_FREQUENT", 5), ("_FRONT", front), ("_ASKED_AT_ONCE", 4)):
            monkeypatch.setattr(datasets, name, value)
        assert all_that_can_be_asked() == before


def test_a_term_is_begun_only_at_the_end_of_what_is_typed() -> None:
    assert [(t.text, t.is_begun) for t in terms('wash "a b" co')] == [("wash", False), ("a b", False), ("co", True)]
    assert [(t.text, t.is_begun) for t in terms("wash ")] == [("wash", False)]
