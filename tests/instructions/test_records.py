"""Instruction records: what a record teaches, which split it is born into, and how a dataset is frozen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import Conflict, InputError
from studio.instructions import (
    FIELDS,
    add_record,
    conversation,
    edit_record,
    freeze,
    group_hash,
    question,
    split_of,
)
from studio.instructions.editing import review
from studio.instructions.records import checked_fields, frozen_row
from studio.specs import assistant, user
from studio.store import Dataset, Record, RecordFilter, Store, read_rows

FIELDS_OF_ONE = {"instruction": "Wash it?", "context": "", "response": "At 30.", "category": "closed_qa"}


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    return sqlite_store.create_dataset("gear", author="ann", licence="CC-BY-4.0")


def _add(store: Store, dataset: Dataset, **fields: str) -> None:
    add_record(store, dataset, FIELDS_OF_ONE | fields, author="ann", source="playground")


# -- what a record teaches -----------------------------------------------------------------------------------


def test_a_record_teaches_one_question_and_one_answer() -> None:
    row = FIELDS_OF_ONE | {"context": "It is wool."}
    assert conversation(row) == [user("Wash it?\n\nIt is wool."), assistant("At 30.")]


def test_without_context_the_instruction_is_the_whole_question() -> None:
    assert question("Wash it?") == question("Wash it?", "") == "Wash it?"


@pytest.mark.parametrize("field", ["instruction", "response"])
@pytest.mark.parametrize("value", ["", "   \n\t", "\x00"])
def test_a_record_that_would_teach_nothing_is_refused(field: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"The {field} is empty\. Write one"):
        checked_fields(FIELDS_OF_ONE | {field: value})


def test_fields_are_trimmed_and_cleared_of_what_no_database_keeps(sqlite_store: Store, dataset: Dataset) -> None:
    _add(sqlite_store, dataset, instruction="  Wa\x00sh it?\n", response="At \ud800 30.")
    (record,) = sqlite_store.records(dataset.id)
    assert (record.instruction, record.response, record.source) == ("Wash it?", "At ? 30.", "playground")


# -- splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("WASH  it?", "wool"), id="case and spaces"),
        pytest.param((" Wash it?\n", "wool\n"), id="white space around"),
        pytest.param(("Ｗash it?", "wool"), id="Unicode form"),
    ],
)
def test_equal_prompts_share_a_group(other: tuple[str, str]) -> None:
    assert group_hash(*other) == group_hash("Wash it?", "wool")


def test_different_prompts_do_not() -> None:
    assert group_hash("Wash it?", "wool") != group_hash("Wash it?", "down")


def test_splits_are_eight_one_one_and_never_change() -> None:
    splits = Counter(split_of(group_hash(f"Question {n}", "")) for n in range(5000))
    assert splits["train"] == pytest.approx(4000, abs=150)
    assert splits["validation"] == pytest.approx(500, abs=100)
    assert splits["test"] == pytest.approx(500, abs=100)
    # Written down: a change here would move records of existing datasets between training and test.
    assert [split_of(group_hash(f"Question {n}", "")) for n in (2, 3, 23, 37)] == [
        "train",
        "test",
        "validation",
        "validation",
    ]


@given(st.text(), st.text())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_every_prompt_has_a_split(instruction: str, context: str) -> None:
    assert split_of(group_hash(instruction, context)) in ("train", "validation", "test")


# -- editing and freezing ------------------------------------------------------------------------------------


def test_an_edited_record_stays_in_the_split_it_was_born_into(sqlite_store: Store, dataset: Dataset) -> None:
    for n in range(30):
        _add(sqlite_store, dataset, instruction=f"Question {n}")
    held_out = next(r for r in sqlite_store.all_records(dataset.id) if r.split == "test")
    for n in range(20):
        fields = FIELDS_OF_ONE | {"instruction": f"Reworded {n}"}
        held_out = edit_record(sqlite_store, held_out.id, held_out.revision, fields, author="ben")
        assert held_out.split == "test"


def test_an_edit_that_empties_the_answer_is_refused(sqlite_store: Store, dataset: Dataset) -> None:
    _add(sqlite_store, dataset)
    (record,) = sqlite_store.records(dataset.id)
    with pytest.raises(InputError, match="The response is empty"):
        edit_record(sqlite_store, record.id, 1, FIELDS_OF_ONE | {"response": " "}, author="ben")
    assert sqlite_store.record(record.id) == record


def test_an_edit_conflict_passes_through(sqlite_store: Store, dataset: Dataset) -> None:
    _add(sqlite_store, dataset)
    (record,) = sqlite_store.records(dataset.id)
    with pytest.raises(Conflict):
        edit_record(sqlite_store, record.id, 7, FIELDS_OF_ONE | {"response": "new"}, author="ben")


def test_a_frozen_dataset_holds_the_fields_the_split_and_the_licence(store: Store, tmp_path: Path) -> None:
    dataset = store.create_dataset("gear", author="ann", licence="CC-BY-4.0")
    _add(store, dataset)
    frozen = freeze(store, tmp_path, dataset, author="ben")
    (row,) = read_rows(tmp_path, frozen)
    assert (frozen.ref, frozen.licence, frozen.author) == ("data:gear@1", "CC-BY-4.0", "ben")
    assert {f: row[f] for f in FIELDS} == FIELDS_OF_ONE
    assert row["split"] == split_of(row["group"])
    assert row["group"] == group_hash("Wash it?", "")


def test_a_part_can_be_frozen(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    for n in range(60):
        _add(sqlite_store, dataset, instruction=f"Question {n}", category="a" if n % 3 else "b")
    frozen = freeze(sqlite_store, tmp_path, dataset, author="ann", where=RecordFilter(category="b"))
    assert frozen.rows == 20
    assert {row["category"] for row in read_rows(tmp_path, frozen)} == {"b"}


def test_freezing_after_an_edit_makes_a_new_version(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    _add(sqlite_store, dataset)
    first = freeze(sqlite_store, tmp_path, dataset, author="ann")
    assert freeze(sqlite_store, tmp_path, dataset, author="ann") == first
    (record,) = sqlite_store.records(dataset.id)
    edit_record(sqlite_store, record.id, 1, FIELDS_OF_ONE | {"response": "At 40."}, author="ann")
    assert freeze(sqlite_store, tmp_path, dataset, author="ann").ref == "data:gear@2"
    assert read_rows(tmp_path, first)[0]["response"] == "At 30."


def test_an_empty_part_is_refused(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    _add(sqlite_store, dataset)
    with pytest.raises(InputError, match="0 rows"):
        freeze(sqlite_store, tmp_path, dataset, author="ann", where=RecordFilter(text="no such words"))


# -- conversations ---------------------------------------------------------------------------------------------

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Is the tent dry?"},
    {"role": "assistant", "content": "Not yet."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture
def talk(sqlite_store: Store) -> Record:
    dataset = sqlite_store.create_dataset("talks", author="ann")
    add_record(sqlite_store, dataset, {"turns": TALK, "category": "open_qa"}, author="ann", source="test")
    (record,) = sqlite_store.records(dataset.id)
    return record


def test_a_conversation_is_stored_whole_and_listed_by_its_first_question_and_last_answer(talk: Record) -> None:
    assert (talk.instruction, talk.context, talk.response, talk.turns) == ("Is the tent dry?", "", "Yes.", TALK)
    assert talk.letters == sum(len(turn["content"]) for turn in TALK)


def test_every_turn_of_a_conversation_is_taught(talk: Record) -> None:
    taught = conversation(frozen_row(talk))
    assert [(m.role, m.content) for m in taught] == [(t["role"], t["content"]) for t in TALK]


def test_a_frozen_conversation_can_be_asked_like_a_record(talk: Record) -> None:
    row = frozen_row(talk)
    assert (row["instruction"], row["response"]) == ("And now?", "Yes.")
    assert row["context"] == "System: Be kind.\n\nUser: Is the tent dry?\n\nAssistant: Not yet."
    assert row["group"] == group_hash("Is the tent dry?", "")  # the split is that of its root


def test_editing_its_ends_keeps_what_lies_between(sqlite_store: Store, talk: Record) -> None:
    fields = {"instruction": "Is it dry?", "context": "", "response": "It is.", "category": ""}
    saved = edit_record(sqlite_store, talk.id, 1, fields, author="ben")
    said = [turn["content"] for turn in saved.turns or []]
    assert said == ["Be kind.", "Is it dry?", "Not yet.", "And now?", "It is."]
    with pytest.raises(InputError, match="has no context of its own"):
        edit_record(sqlite_store, talk.id, 2, fields | {"context": "In the rain."}, author="ben")


def test_a_rejected_record_is_left_out_of_a_snapshot(sqlite_store: Store, talk: Record, tmp_path: Path) -> None:
    dataset = sqlite_store.dataset("talks")
    add_record(sqlite_store, dataset, {"instruction": "Why?", "response": "So."}, author="ann", source="test")
    review(sqlite_store, dataset, [talk], "rejected", author="ben")
    snapshot = freeze(sqlite_store, tmp_path, dataset, author="ann")
    assert [row["instruction"] for row in read_rows(tmp_path, snapshot)] == ["Why?"]
