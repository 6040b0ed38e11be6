"""Chats: branches never lose a turn, and every answer knows what made it. Pairs: each answer brings its origin along."""

from __future__ import annotations

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import Chat, Prompt, Store, Turn

ECHO, OTHER = ModelRef("echo:"), ModelRef("run:7")
ANSWER = Completion(text="Dry it. 🏕️", finish="stop", prompt_tokens=5, output_tokens=3, seconds=0.5)
SAMPLING = Sampling(temperature=0.7, seed=3, stop=("\n\n",))


@pytest.fixture
def chat(store: Store) -> Chat:
    return store.start_chat(ECHO, author="ann", system="Be brief.")


def _ask(store: Store, chat: Chat, text: str = "How?", after: Turn | None = None) -> Turn:
    return store.add_question(chat.id, after.id if after else None, text, author="ann")


def _answer(store: Store, question: Turn, ticket: str, text: str = "So.", model: ModelRef = ECHO) -> Turn:
    return store.add_answer(
        question.id,
        model,
        ANSWER.model_copy(update={"text": text}),
        ticket=ticket,
        variables={"instruction": question.content, "context": ""},
        messages=[user(question.content)],
        sampling=SAMPLING,
        author="bo",
    )


def test_an_answer_knows_its_model_its_sampling_and_how_it_ended(store: Store, chat: Chat) -> None:
    question = _ask(store, chat)
    turn = _answer(store, question, "t1", "Dry it. 🏕️", OTHER)
    assert (turn.parent_id, turn.role, turn.content, turn.model) == (question.id, "assistant", "Dry it. 🏕️", "run:7")
    assert Sampling.model_validate(turn.sampling) == SAMPLING
    assert (turn.finish, turn.prompt_tokens, turn.output_tokens, turn.seconds) == ("stop", 5, 3, 0.5)
    assert store.turns(chat.id) == [question, turn]
    kept = store.completion("t1")
    assert (kept.id, kept.messages, kept.author) == (
        turn.completion_id,
        [{"role": "user", "content": "How?"}],
        "bo",
    )


def test_a_question_knows_nothing_of_models(store: Store, chat: Chat) -> None:
    turn = _ask(store, chat)
    assert (turn.model, turn.ticket, turn.sampling, turn.finish, turn.completion_id) == ("", "", None, "", None)


def test_an_answer_stopped_half_way_is_a_turn(store: Store, chat: Chat) -> None:
    half = Completion(text="Dry", finish="cancelled", prompt_tokens=0, output_tokens=0)
    question = _ask(store, chat)
    turn = store.add_answer(
        question.id, ECHO, half, ticket="t", variables={}, messages=[], sampling=Sampling(), author="ann"
    )
    assert (turn.content, turn.finish) == ("Dry", "cancelled")


def test_what_was_kept_shows_on_its_turn(store: Store, chat: Chat) -> None:
    turn = _answer(store, _ask(store, chat), "t1")
    assert turn.kept_at is None
    kept = store.keep_completion("t1")
    assert store.turn(turn.id).kept_at == kept.kept_at is not None


def test_the_same_ticket_twice_is_one_turn(store: Store, chat: Chat) -> None:
    question = _ask(store, chat)
    assert _answer(store, question, "t1", "So.") == _answer(store, question, "t1", "Other.")
    assert len(store.turns(chat.id)) == 2


def test_siblings_of_questions_and_answers_stand_beside_each_other(store: Store, chat: Chat) -> None:
    first = _ask(store, chat, "One")
    second = _ask(store, chat, "Two")
    answers = [_answer(store, first, "a"), _answer(store, first, "b")]
    assert (first.parent_id, second.parent_id) == (None, None)
    assert {a.parent_id for a in answers} == {first.id}
    assert [t.id for t in store.turns(chat.id)] == [first.id, second.id, *(a.id for a in answers)]


@pytest.mark.parametrize("text", ["", "  \n", "\x00"], ids=["nothing", "blanks", "a NUL"])
def test_an_empty_question_is_refused_and_changes_nothing(store: Store, chat: Chat, text: str) -> None:
    with pytest.raises(InputError, match="The question is empty"):
        _ask(store, chat, text)
    assert store.turns(chat.id) == []
    assert store.chat(chat.id) == chat


def test_text_that_no_database_keeps_is_mended(store: Store, chat: Chat) -> None:
    question = _ask(store, chat, "a\x00b \ud800 c")
    assert question.content == "ab ? c"
    assert _answer(store, question, "t", "x\x00y\udfff").content == "xy?"
    assert store.change_chat(chat.id, title="t\x00\ud800").title == "t?"


def test_a_question_follows_an_answer_of_its_own_chat(store: Store, chat: Chat) -> None:
    question = _ask(store, chat)
    answer = _answer(store, question, "t1")
    with pytest.raises(InputError, match=f"Turn {question.id} waits for its own answer"):
        _ask(store, chat, after=question)
    with pytest.raises(InputError, match=f"Turn {answer.id} is an answer itself"):
        _answer(store, answer, "t2")
    other = store.start_chat(ECHO, author="bo")
    with pytest.raises(InputError, match=f"is in chat {chat.id}, not in chat {other.id}"):
        _ask(store, other, after=answer)
    assert len(store.turns(chat.id)) == 2
    with pytest.raises(NotFound):
        store.completion("t2")


@pytest.mark.parametrize("number", [0, -1, 99, 2**40])
def test_what_is_not_there_is_named(store: Store, chat: Chat, number: int) -> None:
    with pytest.raises(NotFound, match=f"There is no chat {number}"):
        store.turns(number)
    with pytest.raises(NotFound, match=f"There is no turn {number}"):
        store.turn(number)
    with pytest.raises(NotFound, match=f"There is no turn {number}"):
        store.add_question(chat.id, number, "How?", author="ann")


def test_chats_are_listed_by_when_they_were_last_talked_in(store: Store, chat: Chat) -> None:
    other = store.start_chat(ECHO, author="bo")
    assert [c.id for c in store.chats()] == [other.id, chat.id]
    _ask(store, chat)
    assert [c.id for c in store.chats()] == [chat.id, other.id]
    assert [c.id for c in store.chats(author="bo")] == [other.id]
    assert [c.id for c in store.chats(limit=1)] == [chat.id]


def test_the_first_question_names_a_nameless_chat(store: Store, chat: Chat) -> None:
    store.add_question(chat.id, None, "How?", author="ann", title="How?")
    store.add_question(chat.id, None, "Why?", author="ann", title="Why?")
    assert store.chat(chat.id).title == "How?"


def test_a_chat_changes_only_in_what_is_given(store: Store, chat: Chat) -> None:
    answer = _answer(store, _ask(store, chat), "t1")
    assert store.change_chat(chat.id, title="Tents").title == "Tents"
    changed = store.change_chat(chat.id, model=OTHER, system="")
    assert (changed.title, changed.model, changed.system) == ("Tents", "run:7", "")
    assert store.change_chat(chat.id) == changed
    assert store.turn(answer.id).model == "echo:"


def test_a_deleted_chat_leaves_its_kept_answers_and_the_other_chats(store: Store, chat: Chat) -> None:
    answer = _answer(store, _ask(store, chat), "t1")
    _ask(store, chat, "And?", after=answer)
    store.keep_completion("t1")
    other = store.start_chat(ECHO, author="ann")
    asked = _ask(store, other)
    store.delete_chat(chat.id)
    with pytest.raises(NotFound):
        store.chat(chat.id)
    with pytest.raises(NotFound):
        store.turn(answer.id)
    assert [a.ticket for a in store.kept_completions()] == ["t1"]
    assert store.turns(other.id) == [asked]


# -- pairs ---------------------------------------------------------------------------------------------------------


def _prompt(text: str = "How?") -> Prompt:
    return Prompt.of([user(text)], group="0" * 64, split="train")


def test_each_answer_of_a_pair_keeps_its_own_origin(store: Store, chat: Chat) -> None:
    question = _ask(store, chat)
    for ticket, model in (("t1", ECHO), ("t2", OTHER)):
        _answer(store, question, ticket, f"by {model}", model)
    answers = [(store.completion(t), store.completion(t).text.upper()) for t in ("t1", "t2")]
    store.add_pair("playground", _prompt(), answers, author="ann", reason="playground")
    [item] = store.lease_items("playground", store.annotator("ann"), 5, seconds=60)
    assert {text for _, text in item.answers} == {"BY ECHO:", "BY RUN:7"}
    assert item.prompt == [{"role": "user", "content": "How?"}]
    [batch] = store.batches()
    assert (batch.name, batch.items, batch.models) == ("playground", 1, ("echo:", "run:7"))
    assert store.completion("t1").text == "by echo:", "the answer in the chat is as it was"


def test_a_question_is_in_a_batch_once_and_the_refusal_names_a_way_out(store: Store, chat: Chat) -> None:
    question = _ask(store, chat)
    answers = [(store.completion(_answer(store, question, t, t).ticket), t) for t in ("t1", "t2")]
    store.add_pair("playground", _prompt(), answers, author="ann", reason="playground")
    with pytest.raises(Conflict, match="'playground-2' for example"):
        store.add_pair("playground", _prompt(), answers, author="ann", reason="playground")
    store.add_pair("playground-2", _prompt(), answers, author="ann", reason="playground")
    assert {b.name: b.items for b in store.batches()} == {"playground": 1, "playground-2": 1}


@pytest.mark.parametrize(("batch", "count", "words"), [("a b", 2, "cannot name a batch"), ("b", 1, "2 to 4 answers")])
def test_a_pair_that_cannot_be_is_refused(store: Store, chat: Chat, batch: str, count: int, words: str) -> None:
    answer = store.completion(_answer(store, _ask(store, chat), "t1").ticket)
    with pytest.raises(InputError, match=words):
        store.add_pair(batch, _prompt(), [(answer, "x")] * count, author="ann", reason="playground")
    assert store.batches() == []
