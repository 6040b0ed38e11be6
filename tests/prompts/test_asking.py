"""Asking: the prompt that is sent, the answer that is recorded, and its way into a dataset."""

from __future__ import annotations

import pytest

from studio.errors import InputError, NotFound
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.prompts import Question, record_answer, to_dataset
from studio.specs import Completion, ModelRef
from studio.store import Store

ECHO = ModelRef("echo:")
ANSWER = Completion(text="Reply: Dry it flat.", finish="stop", prompt_tokens=5, output_tokens=4, seconds=0.1)


@pytest.fixture
def snapshot(sqlite_store: Store, tmp_path) -> str:
    dataset = sqlite_store.create_dataset("shop", author="ann")
    rows = [insertable({"instruction": f"Q{i}", "response": f"A{i}", "category": "open_qa"}) for i in range(30)]
    sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    return str(freeze(sqlite_store, tmp_path, dataset, author="ann").ref)


def test_few_shot_shows_training_rows_as_earlier_turns(sqlite_store, tmp_path, snapshot):
    messages = Question("few-shot", "How do I dry it?", examples=snapshot).messages(sqlite_store, tmp_path)
    assert [m.role for m in messages] == ["user", "assistant"] * 4 + ["user"]
    assert messages[-1].content == "How do I dry it?"


def test_few_shot_without_a_snapshot_says_what_is_missing(sqlite_store, tmp_path):
    with pytest.raises(InputError, match="shows 4 examples. Choose a snapshot"):
        Question("few-shot", "How?").messages(sqlite_store, tmp_path)


def test_an_empty_instruction_is_refused(sqlite_store, tmp_path):
    with pytest.raises(InputError, match="instruction is empty"):
        Question("plain", "  ").messages(sqlite_store, tmp_path)


def test_an_answer_is_kept_and_sent_to_the_dataset_with_its_origin(sqlite_store, tmp_path, snapshot):
    question = Question("chain-of-thought", "How do I dry it?", context="A wet tent.")
    messages = question.messages(sqlite_store, tmp_path)
    key = record_answer(sqlite_store, ECHO, question, messages, ANSWER, ticket="t1", author="ann")
    assert sqlite_store.kept_completions() == []
    dataset = sqlite_store.dataset("shop")
    to_dataset(sqlite_store, sqlite_store.completion("t1"), dataset, "Reply: Dry it in the shade.", author="bo")
    record = list(sqlite_store.all_records(dataset.id))[-1]
    assert (record.instruction, record.context) == ("How do I dry it?", "A wet tent.")
    assert record.response == "Dry it in the shade."
    assert (record.source, record.author) == (f"answer {key} of echo:", "bo")
    assert [a.id for a in sqlite_store.kept_completions()] == [key]


def test_keeping_twice_changes_nothing_and_an_unknown_answer_is_named(sqlite_store, tmp_path):
    question = Question("plain", "Why?")
    messages = question.messages(sqlite_store, tmp_path)
    record_answer(sqlite_store, ECHO, question, messages, ANSWER, ticket="t1", author="a")
    first = sqlite_store.keep_completion("t1")
    assert sqlite_store.keep_completion("t1") == first
    with pytest.raises(NotFound, match="no answer here that could be kept"):
        sqlite_store.keep_completion("t2")
