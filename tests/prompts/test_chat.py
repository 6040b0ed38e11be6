"""Chat: branches are walked, long conversations are told and never cut in silence, and answers go on from here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.backends import Backend, Conversation, EchoBackend
from studio.errors import Conflict, InputError, ModelError
from studio.instructions import group_hash, split_of
from studio.prompts import Question, record_answer
from studio.prompts.chat import Step, ask, correct, edit, fit, question_of, read, record, transcript
from studio.prompts.onward import send_to_labeling
from studio.specs import Completion, Message, ModelRef, Rendered, Sampling, assistant, system, user
from studio.store import Chat, Store, Turn

ECHO, OTHER = ModelRef("echo:"), ModelRef("run:7")


@dataclass
class Talk:
    """A chat with somebody who answers."""

    store: Store
    chat: Chat
    tickets: list[str] = field(default_factory=list)

    def ask(self, text: str, after: Turn | None = None) -> Turn:
        return ask(self.store, self.chat.id, text, after=after.id if after else None, author="ann")

    def answer(self, question: Turn, text: str, model: ModelRef = ECHO, finish: str = "stop") -> Turn:
        self.tickets.append(f"t{len(self.tickets)}")
        messages = question_of(self.store, question.id).messages
        completion = Completion(text=text, finish=finish, prompt_tokens=3, output_tokens=2)  # type: ignore[arg-type]
        return record(
            self.store,
            question.id,
            model,
            completion,
            ticket=self.tickets[-1],
            messages=messages,
            sampling=Sampling(seed=len(self.tickets)),
            author="ann",
        )

    def path(self, at: Turn | None = None) -> list[str]:
        return [turn.content for turn in read(self.store, self.chat.id, at.id if at else None).turns]

    def step(self, turn: Turn) -> Step:
        return next(s for s in read(self.store, self.chat.id, turn.id).steps if s.turn.id == turn.id)


@pytest.fixture
def talk(sqlite_store: Store) -> Talk:
    return Talk(sqlite_store, sqlite_store.start_chat(ECHO, author="ann", system="Be brief."))


# -- the tree ------------------------------------------------------------------------------------------------------


def test_a_chat_is_read_along_the_path_to_its_newest_leaf(talk: Talk) -> None:
    first = talk.ask("One?")
    old = talk.answer(first, "one")
    talk.ask("Two?", old)
    new = talk.answer(first, "uno")
    assert talk.path() == ["One?", "uno"]
    assert talk.path(old) == ["One?", "one", "Two?"]
    assert talk.path(new) == ["One?", "uno"]


def test_an_edited_question_stands_beside_the_first_with_its_own_future(talk: Talk) -> None:
    first = talk.ask("One?")
    follow = talk.ask("Two?", talk.answer(first, "one"))
    edited = edit(talk.store, first.id, "Uno?", author="bo")
    assert talk.path() == ["Uno?"]
    assert talk.path(first) == ["One?", "one", "Two?"]
    assert (talk.step(edited).place, talk.step(edited).before, talk.step(edited).after) == (2, first.id, edited.id)
    assert (talk.step(first).place, talk.step(first).before, talk.step(first).after) == (1, first.id, edited.id)
    assert talk.step(follow).siblings == (follow.id,)


def test_an_edit_that_changes_nothing_adds_nothing(talk: Talk) -> None:
    first = talk.ask("One?")
    assert edit(talk.store, first.id, "One?", author="bo") == first
    assert len(talk.store.turns(talk.chat.id)) == 1


def test_an_answer_is_not_edited_in_the_tree(talk: Talk) -> None:
    answer = talk.answer(talk.ask("One?"), "one")
    with pytest.raises(InputError, match="Correct it into a dataset, or ask again"):
        edit(talk.store, answer.id, "uno", author="ann")


def test_asking_again_makes_siblings_that_know_their_models(talk: Talk) -> None:
    first = talk.ask("One?")
    answers = [talk.answer(first, "one"), talk.answer(first, "uno", OTHER), talk.answer(first, "eins")]
    middle = talk.step(answers[1])
    assert (middle.place, middle.before, middle.after) == (2, answers[0].id, answers[2].id)
    assert [talk.store.turn(key).model for key in middle.siblings] == ["echo:", "run:7", "echo:"]


def test_what_is_asked_again_is_the_conversation_up_to_the_question(talk: Talk) -> None:
    first = talk.ask("One?")
    answer = talk.answer(first, "one")
    second = talk.ask("Two?", answer)
    later = talk.answer(second, "two")
    expected = [system("Be brief."), user("One?"), assistant("one"), user("Two?")]
    assert question_of(talk.store, later.id).messages == expected
    assert question_of(talk.store, second.id).messages == expected
    assert question_of(talk.store, answer.id).messages == expected[:2]


def test_a_chat_without_a_system_line_sends_none(talk: Talk) -> None:
    talk.store.change_chat(talk.chat.id, system="  ")
    assert question_of(talk.store, talk.ask("One?").id).messages == [user("One?")]


def test_a_question_whose_answer_failed_waits(talk: Talk) -> None:
    assert not read(talk.store, talk.chat.id).waits
    first = talk.ask("One?")
    assert read(talk.store, talk.chat.id).waits
    talk.answer(first, "one")
    assert not read(talk.store, talk.chat.id).waits


def test_a_turn_of_another_chat_is_no_place_in_this_one(talk: Talk) -> None:
    other = Talk(talk.store, talk.store.start_chat(ECHO, author="bo"))
    turn = other.ask("Elsewhere?")
    with pytest.raises(InputError, match=f"Turn {turn.id} is not in chat {talk.chat.id}"):
        read(talk.store, talk.chat.id, turn.id)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("How do I  dry it?\nIt is wet.", "How do I dry it?"),
        ("\n\n  How?", "How?"),
        ("word " * 30, "word word word word word word word word word word word word…"),
        ("x" * 90, "x" * 59 + "…"),
    ],
    ids=["first line", "blank lines before", "at a word", "one long word"],
)
def test_the_title_is_the_beginning_of_the_first_question(talk: Talk, text: str, title: str) -> None:
    talk.answer(talk.ask(text), "so")
    assert talk.store.chat(talk.chat.id).title == title
    assert len(title) <= 60


# -- against the window --------------------------------------------------------------------------------------------


class Narrow(EchoBackend):
    """Counts words and reads few of them."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    async def render(self, messages: Conversation) -> Rendered:
        return Rendered(text="", tokens=_words(messages), window=self.window)


def _words(messages: Sequence[Message]) -> int:
    return sum(len(turn.content.split()) for turn in messages)


def _talked(pairs: int, words: int = 10, has_system: bool = True) -> list[Message]:
    said = [turn for n in range(pairs) for turn in (user(f"q{n} " * words), assistant(f"a{n} " * words))]
    return [*([system("s " * words)] if has_system else []), *said, user("last " * words)]


def test_a_conversation_that_fits_goes_whole_and_says_nothing() -> None:
    messages = _talked(3)
    found = asyncio.run(fit(Narrow(100), messages, Sampling(max_tokens=20)))
    assert (list(found.messages), found.left_out, found.sentence) == (messages, 0, "")
    assert (found.tokens, found.room, found.window) == (80, 20, 100)


def test_the_oldest_pairs_are_named_where_it_does_not_fit() -> None:
    found = asyncio.run(fit(Narrow(70), _talked(3), Sampling(max_tokens=15)))
    assert (found.left_out, found.tokens) == (2, 40)
    assert [m.role for m in found.messages] == ["system", "user", "assistant", "user"]
    assert found.messages[1].content.startswith("q2")
    assert found.sentence.startswith("The first 2 questions and their answers do not fit: without them")
    one = asyncio.run(fit(Narrow(75), _talked(3), Sampling(max_tokens=15)))
    assert one.sentence.startswith("The first question and its answer do not fit")


@given(st.integers(0, 8), st.integers(1, 120), st.integers(1, 40), st.booleans())
def test_no_more_is_left_out_than_must_be(pairs: int, window: int, room: int, has_system: bool) -> None:
    messages = _talked(pairs, 4, has_system)
    head = 1 if has_system else 0
    enough = [n for n in range(pairs + 1) if _words([*messages[:head], *messages[head + 2 * n :]]) + room <= window]
    asked = fit(Narrow(window), messages, Sampling(max_tokens=room))
    if not enough:
        with pytest.raises(ModelError, match="are kept for the answer, but echo: reads"):
            asyncio.run(asked)
        return
    found = asyncio.run(asked)
    assert found.left_out == enough[0]
    assert found.tokens == _words(found.messages)
    assert list(found.messages[head:]) == messages[head + 2 * found.left_out :]


@pytest.mark.parametrize(
    ("window", "has_system", "words"),
    [
        (25, True, "The system line and the last question have 20 tokens .* lower max tokens to 5 or less"),
        (15, True, "Shorten one of them\\.$"),
        (12, False, "The last question has 10 tokens .* Shorten it, or lower max tokens to 2 or less"),
    ],
    ids=["room is short", "too long at all", "without a system line"],
)
def test_a_question_too_long_by_itself_says_what_to_cut(window: int, has_system: bool, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        asyncio.run(fit(Narrow(window), _talked(3, 10, has_system), Sampling(max_tokens=10)))


def test_where_nothing_can_be_counted_everything_goes_and_that_is_said() -> None:
    found = asyncio.run(fit(Backend(ModelRef("endpoint:shop/gpt")), _talked(2), Sampling()))
    assert (list(found.messages), found.window) == (_talked(2), 0)
    assert "not known" in found.sentence


# -- into a dataset ------------------------------------------------------------------------------------------------


def test_a_follow_up_becomes_a_record_whose_context_is_the_talk_before_it(talk: Talk) -> None:
    dataset = talk.store.create_dataset("shop", author="ann")
    first = talk.ask("How do I dry it?")
    second = talk.ask("And the poles?", talk.answer(first, "In the shade.\n"))
    answer = talk.answer(second, "Wipe them.", OTHER)
    correct(talk.store, answer.id, dataset, "Wipe them dry.", author="bo")
    [made] = talk.store.records(dataset.id)
    assert (made.instruction, made.response, made.category) == ("And the poles?", "Wipe them dry.", "closed_qa")
    assert made.context == "User: How do I dry it?\n\nAssistant: In the shade."
    assert made.source == f"corrected answer {answer.completion_id} of run:7 in chat {talk.chat.id}"
    assert (made.author, [a.ticket for a in talk.store.kept_completions()]) == ("bo", [answer.ticket])


def test_all_records_of_a_chat_share_the_split_of_its_first_question(talk: Talk) -> None:
    dataset = talk.store.create_dataset("shop", author="ann")
    before: Turn | None = None
    for text in ("How do I dry it?", "And the poles?", "And the pegs?"):
        before = talk.answer(talk.ask(text, before), f"Like so: {text}")
        correct(talk.store, before.id, dataset, before.content, author="ann")
    root = group_hash("How do I dry it?", "")
    assert {(r.group_hash, r.split) for r in talk.store.records(dataset.id)} == {(root, split_of(root))}


def test_a_single_answer_goes_on_as_it_is(talk: Talk) -> None:
    dataset = talk.store.create_dataset("shop", author="ann")
    answer = talk.answer(talk.ask("How?"), " So. ", finish="cancelled")
    correct(talk.store, answer.id, dataset, " So. ", author="ann")
    [made] = talk.store.records(dataset.id)
    assert (made.context, made.response, made.category) == ("", "So.", "open_qa")
    assert made.source == f"answer {answer.completion_id} of echo: in chat {talk.chat.id}"


def test_what_teaches_nothing_stays_out(talk: Talk) -> None:
    dataset = talk.store.create_dataset("shop", author="ann")
    question = talk.ask("How?")
    answer = talk.answer(question, "So.")
    with pytest.raises(InputError, match="is a question. Choose one of its answers"):
        correct(talk.store, question.id, dataset, "So.", author="ann")
    with pytest.raises(InputError, match="The response is empty"):
        correct(talk.store, answer.id, dataset, "  ", author="ann")
    assert talk.store.count_records(dataset.id) == 0
    assert talk.store.kept_completions() == []


def test_a_transcript_of_nothing_is_nothing() -> None:
    assert transcript([]) == ""


# -- to labeling ---------------------------------------------------------------------------------------------------


def _items(store: Store, batch: str = "playground"):
    return store.lease_items(batch, store.annotator("ann"), 10, seconds=60)


def test_two_answers_of_a_chat_are_ranked_with_the_whole_conversation(talk: Talk) -> None:
    second = talk.ask("And the poles?", talk.answer(talk.ask("How?"), "So."))
    pair = [talk.answer(second, "Wipe them."), talk.answer(second, "Boil them.", OTHER)]
    send_to_labeling(talk.store, [turn.ticket for turn in pair], author="ann")
    [item] = _items(talk.store)
    expected = [system("Be brief."), user("How?"), assistant("So."), user("And the poles?")]
    assert item.prompt == [message.model_dump() for message in expected]
    assert {text for _, text in item.answers} == {"Wipe them.", "Boil them."}
    assert talk.store.batches()[0].models == ("echo:", "run:7")
    assert talk.store.batch_source("playground") == ""


def test_a_system_line_that_only_one_answer_had_is_left_out(talk: Talk) -> None:
    question = talk.ask("How?")
    one = talk.answer(question, "So.")
    talk.store.change_chat(talk.chat.id, system="Be long.")
    send_to_labeling(talk.store, [one.ticket, talk.answer(question, "Thus.").ticket], author="ann")
    assert _items(talk.store)[0].prompt == [user("How?").model_dump()]


def _column(store: Store, ticket: str, text: str, name: str = "plain", instruction: str = "How?", context: str = ""):
    question = Question(name, instruction, context, sampling=Sampling(seed=4))
    completion = Completion(text=text, finish="stop", prompt_tokens=3, output_tokens=2)
    messages = [user(f"{name} {instruction}")]
    record_answer(store, ECHO, question, messages, completion, ticket=ticket, author="ann")


def test_two_columns_are_ranked_on_the_plain_question_by_the_answers_themselves(sqlite_store: Store) -> None:
    _column(sqlite_store, "a", "First I think. Reply: Dry it flat.", "chain-of-thought", "How?", "A tent.")
    _column(sqlite_store, "b", "Hang it.", "plain", "How?", "A tent.")
    send_to_labeling(sqlite_store, ["a", "b"], author="ann", batch="tents")
    [item] = _items(sqlite_store, "tents")
    assert item.prompt == [user("How?\n\nA tent.").model_dump()]
    assert {text for _, text in item.answers} == {"Dry it flat.", "Hang it."}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (("So.\n", "plain", "How?"), "the same, so neither is better"),
        (("Reasons. Reply: So.", "chain-of-thought", "How?"), "the same, so neither is better"),
        (("  ", "plain", "How?"), "One of the answers is empty"),
        (("Thus.", "plain", "Why?"), "to different questions"),
    ],
    ids=["alike", "alike once read", "empty", "another question"],
)
def test_a_pair_that_says_nothing_is_refused(sqlite_store: Store, second: tuple[str, str, str], words: str) -> None:
    _column(sqlite_store, "a", "So.")
    _column(sqlite_store, "b", *second)
    with pytest.raises(InputError, match=words):
        send_to_labeling(sqlite_store, ["a", "b"], author="ann")
    assert sqlite_store.batches() == []


def test_one_answer_is_no_pair_and_a_question_is_ranked_once_a_batch(sqlite_store: Store) -> None:
    _column(sqlite_store, "a", "So.")
    _column(sqlite_store, "b", "Thus.")
    with pytest.raises(InputError, match="neither is better"):
        send_to_labeling(sqlite_store, ["a", "a"], author="ann")
    send_to_labeling(sqlite_store, ["a", "b"], author="ann")
    with pytest.raises(Conflict, match="another batch"):
        send_to_labeling(sqlite_store, ["b", "a"], author="ann")
