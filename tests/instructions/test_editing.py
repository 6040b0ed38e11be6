"""Find and replace, review, removal: shown before it is done, done at one stroke, undone at one stroke."""

from __future__ import annotations

import pytest

from studio.errors import InputError
from studio.instructions import page_of
from studio.instructions.editing import (
    Replacement,
    Stroke,
    change_category,
    do_stroke,
    duplicate,
    preview_replacement,
    remove,
    replace_text,
    review,
    review_in_passing,
)
from studio.instructions.records import insertable
from studio.store import Dataset, Order, RecordFilter, Store

ROWS = (
    {
        "instruction": "Is the Otter jacket warm?",
        "response": "The Otter is warm. Otters like it.",
        "category": "open_qa",
    },
    {
        "instruction": "And the otter tent?",
        "context": "OTTER 2, 3 kg",
        "response": "It is light.",
        "category": "closed_qa",
    },
    {"instruction": "Where are you?", "response": "By the harbour, 3 doors down.", "category": "open_qa"},
    {"instruction": "Hm?", "response": "otter", "category": "open_qa"},
)


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    made = sqlite_store.create_dataset("gear", author="ann")
    sqlite_store.add_records(made.id, map(insertable, ROWS), author="ann", source="test")
    return made


def responses(store: Store, dataset: Dataset) -> list[str]:
    return [record.response for record in store.all_records(dataset.id)]


def test_a_preview_counts_and_shows_and_changes_nothing(sqlite_store: Store, dataset: Dataset) -> None:
    before = list(sqlite_store.all_records(dataset.id))
    seen = preview_replacement(sqlite_store, dataset, Replacement("otter", "Heron", whole_words=True))
    assert (seen.places, seen.records, seen.emptied) == (5, 3, 0)
    assert (seen.examples[0].field, seen.examples[0].after) == ("instruction", "Is the Heron jacket warm?")
    assert list(sqlite_store.all_records(dataset.id)) == before


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        pytest.param(
            Replacement("Otter", "Heron", ignores_case=False), "The Heron is warm. Herons like it.", id="case"
        ),
        pytest.param(Replacement("otter", "heron", whole_words=True), "The heron is warm. Otters like it.", id="words"),
        pytest.param(
            Replacement(r"(\w+) is warm", r"\1 is dry", is_pattern=True),
            "The Otter is dry. Otters like it.",
            id="pattern",
        ),
        pytest.param(
            Replacement("warm.", r"a\1b", is_pattern=False), r"The Otter is a\1b Otters like it.", id="no pattern"
        ),
        pytest.param(Replacement("is warm", "", fields=("response",)), "The Otter . Otters like it.", id="taken out"),
    ],
)
def test_what_is_replaced_is_what_was_meant(
    sqlite_store: Store, dataset: Dataset, replacement: Replacement, expected: str
) -> None:
    replace_text(sqlite_store, dataset, replacement, author="ann")
    assert responses(sqlite_store, dataset)[0] == expected


def test_a_replacement_is_undone_at_one_stroke(sqlite_store: Store, dataset: Dataset) -> None:
    before = responses(sqlite_store, dataset)
    edit = replace_text(sqlite_store, dataset, Replacement("3", "three"), author="ann")
    assert (edit.records, edit.title) == (2, "Replaced '3' with 'three'")
    sqlite_store.undo(dataset.id, author="ann")
    assert responses(sqlite_store, dataset) == before


def test_only_the_filtered_records_are_meant(sqlite_store: Store, dataset: Dataset) -> None:
    where = RecordFilter(category="closed_qa")
    assert replace_text(sqlite_store, dataset, Replacement("otter", "heron"), where, author="ann").records == 1


def test_a_record_that_would_lose_its_answer_stays_and_is_counted(sqlite_store: Store, dataset: Dataset) -> None:
    gone = Replacement("otter", "", fields=("response",))
    assert preview_replacement(sqlite_store, dataset, gone).emptied == 1
    replace_text(sqlite_store, dataset, gone, author="ann")
    assert responses(sqlite_store, dataset)[3] == "otter"


@pytest.mark.parametrize(
    ("replacement", "sentence"),
    [
        (Replacement("", "x"), "nothing to look for"),
        (Replacement("nowhere", "x"), "was not found in these records, so nothing was changed"),
        (Replacement("(", "x", is_pattern=True), "is no pattern that can be read"),
        (Replacement("a", r"\2", is_pattern=True), "is no pattern that can be read"),
        (Replacement("x*", "y", is_pattern=True), "matches nothing at all as well"),
        (Replacement("a", "b", fields=("split",)), "'split' is no field"),
    ],
)
def test_what_cannot_be_replaced_is_a_sentence(
    sqlite_store: Store, dataset: Dataset, replacement: Replacement, sentence: str
) -> None:
    before = list(sqlite_store.all_records(dataset.id))
    with pytest.raises(InputError, match=sentence):
        replace_text(sqlite_store, dataset, replacement, author="ann")
    assert list(sqlite_store.all_records(dataset.id)) == before


def test_only_the_roles_that_are_meant_change_in_a_conversation(sqlite_store: Store, dataset: Dataset) -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
    ]
    sqlite_store.add_records(dataset.id, [insertable({"turns": turns})], author="ann", source="test")
    replace_text(sqlite_store, dataset, Replacement("one", "1", fields=("response",)), author="ann")
    talk = list(sqlite_store.all_records(dataset.id))[-1]
    assert [turn["content"] for turn in talk.turns or []] == ["one", "1", "one", "two"]


def test_records_are_reviewed_sorted_and_removed_at_one_stroke_each(sqlite_store: Store, dataset: Dataset) -> None:
    first, second, *_ = sqlite_store.records(dataset.id)
    assert review(sqlite_store, dataset, [first, second], "approved", author="ben").title == "Approved 2 records"
    assert sqlite_store.count_records(dataset.id, RecordFilter(state="approved")) == 2
    fresh = sqlite_store.record(first.id)
    change_category(sqlite_store, dataset, [fresh], " brainstorming ", author="ben")
    assert sqlite_store.record(first.id).category == "brainstorming"
    remove(sqlite_store, dataset, [sqlite_store.record(second.id)], author="ben")
    assert sqlite_store.count_records(dataset.id) == 3
    with pytest.raises(InputError, match="'good' is no state"):
        review(sqlite_store, dataset, [fresh], "good", author="ben")
    with pytest.raises(InputError, match="No record is meant"):
        remove(sqlite_store, dataset, [], author="ben")


def test_a_copy_shares_the_split_and_says_where_it_came_from(sqlite_store: Store, dataset: Dataset) -> None:
    record = sqlite_store.records(dataset.id)[0]
    duplicate(sqlite_store, dataset, record, author="ben")
    copy = list(sqlite_store.all_records(dataset.id))[-1]
    assert (copy.split, copy.source, copy.state) == (record.split, f"copy of record {record.id}", "draft")


def test_a_preview_reads_no_more_than_somebody_waits_for_and_says_so(sqlite_store: Store, dataset: Dataset) -> None:
    seen = preview_replacement(sqlite_store, dataset, Replacement("otter", "heron"), most=2)
    assert (seen.records, seen.looked, seen.meant, seen.is_whole) == (2, 2, 4, False)
    assert preview_replacement(sqlite_store, dataset, Replacement("otter", "heron")).is_whole


@pytest.mark.parametrize(
    ("stroke", "title", "seen"),
    [
        (Stroke(verb="approve"), "Approved 2 records", ["approved", "draft", "approved", "draft"]),
        (Stroke(verb="reject"), "Rejected 2 records", ["rejected", "draft", "rejected", "draft"]),
        (Stroke(verb="remove"), "Removed 2 records", ["draft"] * 2),
        (Stroke(verb="duplicate"), "Duplicated 2 records", ["draft"] * 6),
        (Stroke(verb="category", category=" tents "), "Category tents: 2 records", ["draft"] * 4),
    ],
    ids=lambda value: value.verb if isinstance(value, Stroke) else "",
)
def test_a_stroke_reaches_those_that_are_meant_and_is_undone_at_once(
    sqlite_store: Store, dataset: Dataset, stroke: Stroke, title: str, seen: list[str]
) -> None:
    before = [(r.id, r.state, r.category, r.response) for r in sqlite_store.all_records(dataset.id)]
    ids = sqlite_store.record_ids(dataset.id)
    edit = do_stroke(sqlite_store, dataset, stroke, RecordFilter(ids=(ids[0], ids[2])), author="ben")
    assert edit.title == title
    assert [record.state for record in sqlite_store.all_records(dataset.id)] == seen
    assert sqlite_store.undo(dataset.id, author="ben").id == edit.id
    assert [(r.id, r.state, r.category, r.response) for r in sqlite_store.all_records(dataset.id)] == before


def test_a_decision_does_not_collide_with_what_somebody_writes_meanwhile(sqlite_store: Store, dataset: Dataset) -> None:
    first = sqlite_store.records(dataset.id)[0]
    sqlite_store.edit_record(first.id, first.revision, {"response": "New."}, author="ann")
    do_stroke(sqlite_store, dataset, Stroke(verb="approve"), RecordFilter(ids=(first.id,)), author="ben")
    there = sqlite_store.record(first.id)
    assert (there.response, there.state) == ("New.", "approved")


def test_what_is_so_already_is_not_changed(sqlite_store: Store, dataset: Dataset) -> None:
    edit = do_stroke(sqlite_store, dataset, Stroke(verb="draft"), RecordFilter(), author="ben")
    assert edit.records == 0
    assert sqlite_store.next_undo(dataset.id, "ben") is None


def test_a_stroke_at_nothing_is_refused(sqlite_store: Store, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="No record is meant"):
        do_stroke(sqlite_store, dataset, Stroke(verb="approve"), RecordFilter("zebra"), author="ben")
    with pytest.raises(InputError, match="nothing to look for"):
        do_stroke(sqlite_store, dataset, Stroke(verb="replace"), RecordFilter(), author="ben")


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
@pytest.mark.parametrize("where", [None, RecordFilter(state="draft")], ids=["all", "drafts"])
@pytest.mark.parametrize("is_shown", [True, False], ids=["on a page", "anywhere"])
def test_a_review_pass_meets_every_record_once(
    sqlite_store: Store, dataset: Dataset, order: Order, where: RecordFilter | None, is_shown: bool
) -> None:
    more = ({"instruction": f"Question {n}", "response": "y" * n} for n in range(1, 60))
    sqlite_store.add_records(dataset.id, map(insertable, more), author="ann", source="test")
    expected = sqlite_store.record_ids(dataset.id, where, order)
    record, met, number = sqlite_store.record(expected[0]), [expected[0]], 1
    shown: tuple[int, list[int]] = (1, expected[:50] if is_shown else [])
    while following := review_in_passing(sqlite_store, record, "approved", where, order, author="ben", shown=shown):
        number, record = following
        page = [r.id for r in page_of(sqlite_store, dataset, where, number, order).records]
        assert record.id in page
        shown = (number, page if is_shown else [])
        met.append(record.id)
    assert met == expected
    assert sqlite_store.count_records(dataset.id, RecordFilter(state="approved")) == len(expected)


def test_what_is_decided_already_is_no_stroke(sqlite_store: Store, dataset: Dataset) -> None:
    first = sqlite_store.records(dataset.id)[0]
    review(sqlite_store, dataset, [first], "approved", author="ben")
    before = sqlite_store.edits(dataset.id)
    review_in_passing(sqlite_store, sqlite_store.record(first.id), "approved", None, "oldest", author="ben")
    assert sqlite_store.edits(dataset.id) == before
