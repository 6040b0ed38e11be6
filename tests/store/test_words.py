"""Searching records: the same words find the same records in both databases."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.store import Dataset, RecordFilter, Store
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


def test_a_term_is_begun_only_at_the_end_of_what_is_typed() -> None:
    assert [(t.text, t.is_begun) for t in terms('wash "a b" co')] == [("wash", False), ("a b", False), ("co", True)]
    assert [(t.text, t.is_begun) for t in terms("wash ")] == [("wash", False)]
