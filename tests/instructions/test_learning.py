"""One record looked at closely: what a model learns from it, what checks found, and its versions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.backends import Backend, EchoBackend, LocalBackend, Mark, Marked
from studio.errors import Conflict, InputError, ModelError
from studio.instructions.checking import mend, run_check
from studio.instructions.checks import check_from
from studio.instructions.learning import (
    Lesson,
    comment,
    finds_of,
    lesson,
    origin,
    restore,
    versions_of,
    without_use,
)
from studio.instructions.records import conversation, edit_record, frozen_row, insertable
from studio.specs import ModelRef
from studio.store import Dataset, Record, RecordChange, Store
from studio.training.conversation import MASKED, encode_example

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it dry? 👋"},
    {"role": "assistant", "content": "Not yet."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Now it is. 👋🏽"},
]


@pytest.fixture
def dataset(sqlite_store: Store) -> Dataset:
    made = sqlite_store.create_dataset("gear", author="ann")
    rows: list[dict[str, Any]] = [
        {"instruction": "How do I wash it?", "response": "Write to shop@brackenfold.example, please."},
        {"turns": TURNS},
    ]
    sqlite_store.add_records(made.id, map(insertable, rows), author="ann", source="helpdesk.csv")
    return made


@pytest.fixture
def record(sqlite_store: Store, dataset: Dataset) -> Record:
    return sqlite_store.records(dataset.id)[0]


@pytest.fixture
def talk(sqlite_store: Store, dataset: Dataset) -> Record:
    return sqlite_store.records(dataset.id)[1]


# -- what a model learns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["a question and its answer", "a conversation"])
def test_what_is_shown_is_what_training_learns(
    sqlite_store: Store, dataset: Dataset, engine: Any, tiny_weights: Any, tokenizer: Any, which: int
) -> None:
    record = sqlite_store.records(dataset.id)[which]
    found = asyncio.run(lesson(record, LocalBackend(tiny_weights, engine), 1024))
    trained = encode_example(tokenizer, conversation(frozen_row(record)))
    assert [mark.is_learned for mark in found.marks] == [label != MASKED for label in trained.labels]
    assert (found.tokens, found.learned) == (len(trained.ids), trained.learned)
    assert "".join(mark.text for mark in found.marks) == tokenizer.decode(trained.ids)
    learned = "".join(mark.text for mark in found.marks if mark.is_learned)
    answers = [turn.content for turn in conversation(frozen_row(record)) if turn.role == "assistant"]
    assert learned == "".join(f"{answer}<|im_end|>" for answer in answers)


class _Counting(Backend):
    """A model of this machine with a window of 100 tokens, for which a record has 120, 30 of them learned."""

    def __init__(self) -> None:
        super().__init__(ModelRef("dir:tiny"))

    async def marks(self, messages: Any, most: int = 0) -> Marked:
        return Marked((Mark("Hello", False), Mark(" you", True)), 120, 30, 100)


@pytest.mark.parametrize(
    ("longest", "bound", "words"),
    [(80, 80, "40 more than a run takes of one record (80)"), (512, 100, "20 more than dir:tiny reads at once (100)")],
    ids=["the longest record that was asked for", "the model's window"],
)
def test_a_record_that_is_too_long_is_left_out_whole_and_says_so(
    record: Record, longest: int, bound: int, words: str
) -> None:
    found = asyncio.run(lesson(record, _Counting(), longest))
    assert (found.fits, found.longest) == (False, bound)
    assert words in found.sentence
    assert "none of its 30 answer tokens is learned" in found.sentence


def test_a_record_that_fits_says_how_much_of_it_is_learned() -> None:
    found = Lesson(ModelRef("dir:tiny"), (), 212, 64, 512, False)
    assert found.sentence == "212 tokens, 64 of them learned. It fits in 512."


@pytest.mark.parametrize("ref", ["echo:", "endpoint:office/parrot"])
def test_a_model_without_a_tokenizer_here_says_so(record: Record, ref: str) -> None:
    with pytest.raises(ModelError, match=f"{ref} has no tokenizer on this machine.*Choose a model"):
        asyncio.run(lesson(record, EchoBackend(ModelRef(ref)), 512))


def test_a_text_that_no_model_learns_whole_is_not_sent_to_one(record: Record) -> None:
    with pytest.raises(InputError, match="9,000,000 characters.*leaves it out whole"):
        asyncio.run(lesson(replace(record, letters=9_000_000), _Counting(), 512))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"split": "train"}, ""),
        ({"split": "train", "state": "rejected"}, "it is rejected"),
        ({"split": "test"}, "kept to measure"),
        ({"split": "validation"}, "only checks runs"),
        ({"split": "excluded"}, "excluded from all splits"),
    ],
)
def test_it_is_said_when_no_run_learns_from_a_record(record: Record, fields: dict[str, str], words: str) -> None:
    said = without_use(replace(record, **fields))
    assert words in said
    assert bool(said) == bool(words)


# -- what checks found --------------------------------------------------------------------------------------------


def test_what_was_mended_is_no_longer_found(
    sqlite_store: Store, dataset: Dataset, record: Record, tmp_path: Path
) -> None:
    run_check(sqlite_store, dataset, check_from("personal"), tmp_path)
    (find,) = finds_of(sqlite_store, record)
    assert (find.title, find.is_old) == ("Personal data", False)
    assert [remedy.name for remedy in find.remedies] == ["mask", "reject", "remove"]
    mend(sqlite_store, dataset, "personal", "mask", author="ann", record_ids=[record.id])
    assert finds_of(sqlite_store, sqlite_store.record(record.id)) == []


def test_a_copy_that_changed_is_said_to_wait_for_another_run(
    sqlite_store: Store, dataset: Dataset, record: Record, tmp_path: Path
) -> None:
    again = {"instruction": record.instruction, "response": record.response}
    sqlite_store.add_records(dataset.id, [insertable(again)], author="ann", source="test")
    run_check(sqlite_store, dataset, check_from("duplicates"), tmp_path)
    copy = sqlite_store.records(dataset.id)[-1]
    (find,) = finds_of(sqlite_store, copy)
    assert find.others == (record.id,)
    edited = sqlite_store.edit_record(copy.id, 1, {"response": "Write to us."}, author="ann")
    (find,) = finds_of(sqlite_store, edited)
    assert find.is_old


# -- comments and history -----------------------------------------------------------------------------------------


def test_an_empty_comment_is_refused(sqlite_store: Store, record: Record) -> None:
    with pytest.raises(InputError, match="The comment is empty"):
        comment(sqlite_store, record.id, "  \n", author="ann")
    assert comment(sqlite_store, record.id, " Is this so? ", author="ann").text == "Is this so?"


def test_every_version_says_who_made_it_and_at_which_stroke(sqlite_store: Store, record: Record) -> None:
    fields = {"instruction": record.instruction, "response": "By hand."}
    edit_record(sqlite_store, record.id, 1, fields, author="ben")
    sqlite_store.undo(record.dataset_id, author="ben")
    newest, changed, first = versions_of(sqlite_store, sqlite_store.record(record.id))
    assert [v.number for v in (newest, changed, first)] == [3, 2, 1]
    assert (changed.author, changed.title) == ("ben", f"Changed record {record.id}")
    assert (newest.is_current, newest.same_as) == (True, 1)
    assert (first.author, first.fields["response"]) == ("ann", record.response)


def test_a_restored_version_comes_back_whole_and_can_be_undone(sqlite_store: Store, talk: Record) -> None:
    change = {"turns": TURNS[1:3], "instruction": "Is it dry?", "response": "Not yet.", "state": "rejected"}
    sqlite_store.change_records(talk.dataset_id, "Cut", [RecordChange(talk.id, change)], author="ben")
    edit = restore(sqlite_store, talk.id, 1, seen=2, author="cho")
    back = sqlite_store.record(talk.id)
    assert (back.turns, back.state, back.response, back.revision) == (talk.turns, talk.state, talk.response, 3)
    assert edit.title == f"Restored version 1 of record {talk.id}"
    sqlite_store.undo(talk.dataset_id, author="cho")
    assert sqlite_store.record(talk.id).state == "rejected"


def test_a_version_is_not_restored_over_what_somebody_wrote_meanwhile(sqlite_store: Store, record: Record) -> None:
    fields = {"instruction": record.instruction, "response": "By hand."}
    edit_record(sqlite_store, record.id, 1, fields, author="ben")
    edit_record(sqlite_store, record.id, 2, {**fields, "response": "Newer."}, author="cho")
    with pytest.raises(Conflict, match=r"changed by cho meanwhile \(revision 3, you saw 2\)"):
        restore(sqlite_store, record.id, 1, seen=2, author="ann")
    with pytest.raises(InputError, match="has no version 9"):
        restore(sqlite_store, record.id, 9, seen=3, author="ann")
    assert sqlite_store.record(record.id).response == "Newer."


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"source": "helpdesk.csv"}, "Came in with helpdesk.csv."),
        ({"source": "helpdesk.csv", "provenance": {"row": 14}}, "Row 14 of helpdesk.csv."),
        ({"source": "written here"}, "Written here."),
        ({"source": "copy of record 3"}, "A copy of record 3."),
        ({"source": "answer 7 of run:2"}, "An answer of run:2, kept in the Playground."),
        (
            {"provenance": {"model": "run:2", "job": 12, "way": "self-instruct", "seeds": [3, 9]}},
            "Drafted by run:2 in run 12, after tasks of this dataset. It was shown records 3, 9.",
        ),
        (
            {"provenance": {"model": "run:2", "job": 12, "way": "from-documents", "passages": [5]}},
            "Drafted by run:2 in run 12, from your documents. It read passage 5 of a document that was removed since.",
        ),
    ],
)
def test_a_record_says_where_it_came_from(
    sqlite_store: Store, record: Record, told: dict[str, Any], words: str
) -> None:
    assert origin(sqlite_store, replace(record, **{"provenance": None, **told})) == words
