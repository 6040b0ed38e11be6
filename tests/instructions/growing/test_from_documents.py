"""Drafts from documents: asked and answered from a passage, and nothing that the passage does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.backends import Conversation
from studio.errors import InputError
from studio.fields import describe
from studio.instructions import group_hash, split_of
from studio.instructions.growing import LEFT_OUT, FromDocuments
from studio.store import NewDocument, NewPassage, Passage, Store
from tests.instructions.growing.garden import Choosy, drafts, grow, held_out, last, planted
from tests.prompts.desk import Answering

THINGS = ("jacket", "tent", "stove", "rope", "boot", "map", "lamp", "flask", "axe", "sledge")
FIELDS: dict[str, Any] = {"model": "echo:", "dataset": "gear"}
QUESTION = "How heavy is it?"


def _text(thing: str, grams: int) -> str:
    return (
        f"The {thing} of the Otter series weighs {grams} grams and comes from a workshop in the north. "
        f"Every {thing} is checked by hand, and whoever returns one within two years gets another."
    )


def _add(store: Store, root: Path, name: str, texts: list[str], twins: dict[int, int] | None = None) -> list[Passage]:
    file = root / f"{name}.part"
    file.write_text("\n".join(texts), encoding="utf-8")
    passages = tuple(NewPassage(f"line {n}", text, twin=(twins or {}).get(n)) for n, text in enumerate(texts))
    (root / "documents").mkdir(exist_ok=True)
    new = NewDocument(name, "txt", name.encode().hex(), sum(map(len, texts)), "en", passages)
    return store.passages(store.add_document(root, file, new, author="ann").id)


@pytest.fixture
def passages(sqlite_store: Store, tmp_path: Path) -> list[Passage]:
    planted(sqlite_store, [])
    return _add(sqlite_store, tmp_path, "gear", [_text(thing, 100 + n) for n, thing in enumerate(THINGS)])


def _task(**more: Any) -> FromDocuments:
    return FromDocuments.model_validate(FIELDS | more)


def _asks(
    question: str = "Question: How heavy is the Otter {thing}? Answer: See above.",
    answer: str = "The {thing} weighs {grams} grams.",
) -> Any:
    def write(messages: Conversation) -> str:
        said = last(messages)
        n, thing = next((n, thing) for n, thing in enumerate(THINGS) if f"The {thing} of" in said)
        return (answer if "Answer in one" in said else question).format(thing=thing, grams=100 + n)

    return write


def test_a_passage_becomes_a_question_its_text_and_an_answer(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage]
) -> None:
    run, result = grow(sqlite_store, tmp_path, _task(), _asks())
    assert (result["added"], result["left_out"], result["note"]) == (10, {}, "")
    by_passage = {record.provenance["passages"][0]: record for record in drafts(sqlite_store) if record.provenance}
    assert set(by_passage) == {passage.id for passage in passages}
    record = by_passage[passages[3].id]
    assert (record.instruction, record.response) == ("How heavy is the Otter rope?", "The rope weighs 103 grams.")
    assert (record.context, record.category, record.state) == (passages[3].text, "closed_qa", "draft")
    assert record.provenance is not None
    assert (record.provenance["template"], record.provenance["seeds"]) == ("from-documents@1", [])
    assert run.steps == [(1, 2), (2, 2)]


def test_all_drafts_of_a_passage_are_in_one_split(sqlite_store: Store, tmp_path: Path, passages: list[Passage]) -> None:
    asked = iter(range(100))

    def write(messages: Conversation) -> str:
        if "Answer in one" in last(messages):
            return _asks()(messages)
        return f"What does number {next(asked)} of the series say?"

    grow(sqlite_store, tmp_path, _task(questions=3), write)
    assert len(drafts(sqlite_store)) == 30
    for record in drafts(sqlite_store):
        assert record.group_hash == group_hash("", record.context)
        assert record.split == split_of(record.group_hash)


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("The text is about gear.", "The {thing} weighs {grams} grams.", "unread"),
        ("Which cyclists love helmets?", "The {thing} weighs {grams} grams.", "off_topic"),
        ("How heavy is the {thing}?", "The {thing} weighs 999 grams.", "made_up"),
        ("How heavy is the {thing}?", "Paddlers praise this famous {thing} everywhere.", "ungrounded"),
        ("How heavy is the {thing}?", "No.", "bare"),
        ("How heavy is the {thing}?", "I am unable to read the {thing}.", "refusal"),
        ("How heavy is the {thing}?", "How heavy is the {thing}?", "echo"),
    ],
)
def test_what_the_passage_does_not_bear_out_is_left_out(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage], question: str, answer: str, why: str
) -> None:
    _, result = grow(sqlite_store, tmp_path, _task(), _asks(question, answer))
    assert (result["added"], result["left_out"]) == (0, {why: 10})
    assert drafts(sqlite_store) == []
    assert why in LEFT_OUT


def test_how_much_must_be_grounded_can_be_set(sqlite_store: Store, tmp_path: Path, passages: list[Passage]) -> None:
    half = "The {thing} weighs {grams} grams, says somebody reliable."
    assert grow(sqlite_store, tmp_path, _task(), _asks(answer=half))[1]["added"] == 0
    assert grow(sqlite_store, tmp_path, _task(grounded=0.4), _asks(answer=half))[1]["added"] == 10


def test_a_question_of_an_evaluation_set_stays_out(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage]
) -> None:
    held_out(sqlite_store, tmp_path, "How heavy is the Otter tent?", passages[1].text)
    _, result = grow(sqlite_store, tmp_path, _task(), _asks())
    assert (result["added"], result["left_out"]) == (9, {"evaluation": 1})


def test_asking_again_adds_nothing_that_is_there(sqlite_store: Store, tmp_path: Path, passages: list[Passage]) -> None:
    grow(sqlite_store, tmp_path, _task(), _asks())
    _, result = grow(sqlite_store, tmp_path, _task(seed=1), _asks())
    assert (result["added"], result["left_out"]) == (0, {"known": 10})


def test_cut_answers_and_passages_that_are_too_long_are_counted(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage]
) -> None:
    _, result = grow(sqlite_store, tmp_path, _task(), Choosy(_asks(), refuses="The tent of", cuts="The rope of"))
    assert (result["added"], result["left_out"]) == (8, {"failed": 1, "cut": 1})


def test_headings_and_passages_that_say_nearly_the_same_are_asked_about_once(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage]
) -> None:
    texts = [_text("kettle", 7), _text("kettle", 8), "Chapter two"]
    _add(sqlite_store, tmp_path, "twins", texts, {1: 0})
    backend = Answering(_task().model, lambda messages: "")
    grow(sqlite_store, tmp_path, _task(documents=("twins",)), backend)
    assert [messages[0].content.count("kettle") > 0 for messages in backend.asked] == [True]


def test_documents_can_be_chosen_and_must_be_there(
    sqlite_store: Store, tmp_path: Path, passages: list[Passage]
) -> None:
    with pytest.raises(InputError, match=r"no document 'none'\. Documents in use: gear"):
        _task(documents=("none",)).check(sqlite_store)
    sqlite_store.remove_document(passages[0].document_id)
    with pytest.raises(InputError, match="no passage of 20 words or more"):
        _task().check(sqlite_store)


def test_every_field_has_a_title_and_a_description() -> None:
    assert all(field.title and field.help for field in describe(FromDocuments))
    assert _task().title == "Draft 50 records for gear from documents with echo:"
