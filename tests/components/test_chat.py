"""The Chat page: answers stream in place, branches stand beside each other, and nothing that was said is lost."""

from __future__ import annotations

import asyncio
import html
import inspect
import json
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args
from gradio.utils import diff

from components.playground import chat
from components.theme import ASSETS
from studio.errors import ModelError
from studio.models.endpoints import NewEndpoint, add_endpoint
from studio.prompts.chat import ask, read, record
from studio.specs import Completion, ModelRef, Sampling
from studio.store import Turn
from studio.workspace import Workspace
from tests.screen import Screen

ECHO = ModelRef("echo:")
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Slow:
    """A backend that takes its time for every word."""

    def __init__(self, backend: Any, seconds: float = 0.03) -> None:
        self._backend, self._seconds = backend, seconds

    async def stream(self, messages: Any, sampling: Any) -> Any:
        async for chunk in self._backend.stream(messages, sampling):
            await asyncio.sleep(self._seconds)
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class Room(Screen):
    """The Chat page of a workspace, as its owner sees it. What happens, happens in one event loop."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = chat.build(workspace)
        super().__init__(demo)
        self.frames: list[dict[str, Any]] = []  # what every update of the last stream brought, by label
        self.choose(model_for_the_next_answer="echo:")

    def choose(self, **values: Any) -> None:
        """Set widgets by label: `choose(json_schema="{}")`."""
        for name, value in values.items():
            [key] = [
                key
                for key, block in self.demo.blocks.items()
                if str(getattr(block, "label", None)).lower() == name.replace("_", " ")
            ]
            self.values[key] = value

    def look(self) -> None:
        """What opening the page does."""
        refresh = self.widgets.refresh
        assert refresh is not None
        values = [self.values[block._id] for block in refresh.inputs]
        answer = refresh.fn(gr.Request(username="owner"), *values)
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)

    def _started(self, name: str, told: dict[str, Any] | None) -> tuple[Any, Any]:
        [listener] = [fn for fn in self.demo.fns.values() if fn.api_name == name]
        given = [self.values[block._id] for block in listener.inputs]
        if told is not None:
            given.insert(0, gr.EventData(None, told))
        inputs, *_ = special_args(listener.fn, inputs=given, request=gr.Request(username="owner"))
        return listener, listener.fn(*inputs)

    def _shown(self, listener: Any, update: Any) -> None:
        outputs = listener.outputs
        for block, value in zip(outputs, update if len(outputs) > 1 else [update], strict=True):
            self._update(block, value)

    async def _stream(self, name: str, told: dict[str, Any] | None = None) -> AsyncIterator[None]:
        listener, updates = self._started(name, told)
        try:
            async for update in updates:
                self._shown(listener, update)
                self.frames.append({"words": self.growing, "tree": self.tree, "raw": update})
                yield
        finally:
            await updates.aclose()

    async def stream(self, name: str, **told: Any) -> None:
        self.frames = []
        async for _ in self._stream(name, told or None):
            pass

    async def begin(self, name: str, until: Callable[[], bool], **told: Any) -> AsyncIterator[None]:
        """The stream, so far that `until` holds; the caller goes on with it or closes it."""
        self.frames = []
        stream = self._stream(name, told or None)
        while not until():
            await anext(stream)
        return stream

    async def press(self, name: str, key: str | None = None, **told: Any) -> None:
        """A listener that answers at once; `key` is the row that was picked."""
        listener, answer = self._started(name, {"key": key} if key else told or None)
        update = await answer if inspect.isawaitable(answer) else answer
        if listener.outputs:
            self._shown(listener, update)

    # What a person does.

    def say(self, text: str) -> None:
        self.choose(message=text)
        asyncio.run(self.stream("send_message"))

    def edit(self, turn: int, text: str) -> None:
        asyncio.run(self.stream("ask_turn", do="edit", turn=turn, text=text))

    def again(self, turn: int) -> None:
        asyncio.run(self.stream("ask_turn", do="again", turn=turn))

    def act(self, do: str, turn: int, **more: Any) -> None:
        asyncio.run(self.press("act_on_turn", do=do, turn=turn, **more))

    # What a person sees.

    @property
    def tree(self) -> dict[str, Any]:
        return json.loads(self["Conversation"] or "{}")

    @property
    def growing(self) -> str:
        """The words of an answer that comes in."""
        head, _, words = (self["Growing answer"] or "").partition("\n")
        assert not head or json.loads(head)["chat"]
        return json.loads(f'"{words}"')

    @property
    def turns(self) -> list[dict[str, Any]]:
        return self.tree["turns"]

    @property
    def path(self) -> list[str]:
        return [turn["text"] for turn in self.turns]

    @property
    def said(self) -> str:
        return html.unescape(self["What must be known"])

    def can(self, label: str) -> bool:
        """Whether the button with these words can be pressed."""
        [key] = [key for key, block in self.demo.blocks.items() if getattr(block, "value", None) == label]
        if not self.visible[key]:
            return False
        return bool(self.props.get(key, {}).get("interactive", getattr(self.demo.blocks[key], "interactive", True)))


@pytest.fixture
def room(project: Workspace) -> Room:
    room = Room(project)
    room.look()
    room.choose(model_for_the_next_answer="echo:")
    return room


def shuffled(room: Room, seed: int) -> None:
    """From now on echo: says the words in another order."""
    room.choose(temperature=1.0, seed=seed)


def slowly(room: Room) -> None:
    quick = room.workspace.backend
    room.workspace.backend = lambda ref: Slow(quick(ref))  # type: ignore[method-assign, assignment]


def said_by_ann(room: Room) -> Turn:
    """An answer in a chat of somebody else."""
    chat = room.store.start_chat(ECHO, author="ann")
    question = ask(room.store, chat.id, "What do I earn?", after=None, author="ann")
    return record(
        room.store,
        question.id,
        ECHO,
        Completion(text="Nothing.", finish="stop", prompt_tokens=1, output_tokens=1),
        ticket="anns",
        messages=[],
        sampling=Sampling(),
        author="ann",
    )


# -- asking ------------------------------------------------------------------------------------------------------


def test_an_answer_grows_in_place_and_ends_as_a_turn_with_its_facts(room):
    slowly(room)
    room.say("one two three")
    growing = [frame["words"] for frame in room.frames]
    words = [text for text in growing if text]
    assert words
    assert all("one two three".startswith(text) for text in words)
    assert room["Growing answer"] == ""
    question, answer = room.turns
    assert (question["who"], question["text"], question["isQuestion"]) == ("You", "one two three", True)
    assert (answer["who"], answer["text"]) == ("echo:", "one two three")
    assert answer["facts"].startswith("5 + 3 tokens · ")
    assert answer["facts"].endswith("s · finished")
    assert room["Message"] == ""
    row = room.store.turn(answer["id"])
    assert (row.model, row.finish, row.author) == ("echo:", "stop", "owner")


def test_the_words_of_a_growing_answer_are_all_that_travels(room):
    slowly(room)
    room.say(" ".join(f"word{n}" for n in range(60)))
    frames = [frame["raw"] for frame in room.frames]
    growing = [n for n, frame in enumerate(room.frames) if frame["words"]]
    sizes = []
    for before, after in pairwise(growing):
        if after == before + 1:
            sizes.append(len(json.dumps([diff(b, a) for b, a in zip(frames[before], frames[after], strict=True)])))
    assert len(sizes) > 10
    assert max(sizes) < 300


def test_a_chat_goes_on_and_its_first_question_is_its_title(room):
    room.say("Is the tent dry?")
    room.say("And the jacket?")
    assert room.path == ["Is the tent dry?", "Is the tent dry?", "And the jacket?", "And the jacket?"]
    (chat_row,) = room.store.chats("owner")
    assert chat_row.title == "Is the tent dry?"
    assert "Is the tent dry?" in room["Chats"]
    assert "echo:" in room["Chats"]
    last = room.store.turn(room.turns[-1]["id"])
    sent = room.store.completion(last.ticket).messages
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]


def test_the_system_line_and_the_sampling_are_those_on_the_page(room):
    room.choose(system_line="Be brief.", max_tokens=2)
    room.say("one two three")
    answer = room.turns[-1]
    assert answer["text"] == "one two"
    assert answer["facts"].endswith("cut at the token limit")
    row = room.store.completion(room.store.turn(answer["id"]).ticket)
    assert row.messages[0] == {"role": "system", "content": "Be brief."}
    assert row.sampling["max_tokens"] == 2


def test_another_model_gives_the_next_answer(room):
    room.say("one")
    room.choose(model_for_the_next_answer="echo:loud")
    room.say("two")
    assert [turn["who"] for turn in room.turns] == ["You", "echo:", "You", "echo:loud"]
    assert room.store.chat(room.tree["chat"]).model == "echo:loud"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"message": "  "}, "The question is empty"),
        ({"model_for_the_next_answer": ""}, "No model is chosen"),
        ({"model_for_the_next_answer": "run:99"}, "run:99"),
        ({"max_tokens": 0}, "Max tokens"),
        ({"json_schema": '{"type": "object"}'}, "cannot keep to a JSON schema"),
    ],
    ids=["empty", "no model", "gone model", "sampling", "what a model cannot"],
)
def test_what_cannot_be_asked_is_said_beside_the_box(room, values, sentence):
    room.choose(**{"message": "Hello?", **values})
    asyncio.run(room.stream("send_message"))
    assert sentence in room.said
    assert room.can("Send")
    assert not room.can("Stop")


def test_a_refused_question_starts_no_chat_and_stays_in_the_box(room):
    room.choose(message="Hello?", model_for_the_next_answer="run:99")
    asyncio.run(room.stream("send_message"))
    assert room["Message"] == "Hello?"
    assert room.store.chats() == []


def test_a_model_that_takes_long_to_load_says_so_and_is_asked_even_if_nobody_waits(room):
    class Sleepy(Slow):
        async def render(self, messages: Any) -> Any:
            await asyncio.sleep(0.7)
            return await self._backend.render(messages)

    quick = room.workspace.backend
    room.workspace.backend = lambda ref: Sleepy(quick(ref))
    room.choose(message="one two")

    async def leave_early() -> None:
        stream = await room.begin("send_message", lambda: "getting ready" in room.said)
        await stream.aclose()
        while not room.store.chats() or len(room.store.turns(room.store.chats()[0].id)) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(leave_early())
    assert room.store.turns(room.store.chats()[0].id)[-1].content == "one two"


# -- stopping ----------------------------------------------------------------------------------------------------


def test_stop_keeps_what_was_said(room):
    slowly(room)
    room.choose(message="one two three four five six seven eight")

    async def stop_half_way() -> None:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        assert room.can("Stop")
        assert not room.can("Send")
        await room.press("stop_answer")
        async for _ in stream:
            pass

    asyncio.run(stop_half_way())
    answer = room.turns[-1]
    assert answer["text"].startswith("one")
    assert "eight" not in answer["text"]
    assert answer["facts"].endswith("stopped")
    assert room.store.turn(answer["id"]).finish == "cancelled"
    assert room.can("Send")
    assert not room.can("Stop")


def test_an_answer_stopped_before_its_first_word_leaves_a_question_that_waits(room):
    slowly(room)
    room.choose(message="one two three")

    async def stop_at_once() -> None:
        stream = await room.begin("send_message", lambda: bool(room.tree.get("turns")))
        await room.press("stop_answer")
        async for _ in stream:
            pass

    asyncio.run(stop_at_once())
    (question,) = room.turns
    assert question["waits"]
    room.say("Something else?")
    assert "has no answer yet" in room.said
    room.again(question["id"])
    assert room.path == ["one two three", "one two three"]


def test_a_page_that_closes_half_way_does_not_lose_the_answer(room):
    slowly(room)
    room.choose(message="one two three four")

    async def close_half_way() -> None:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        await stream.aclose()
        while len(room.store.turns(room.tree["chat"])) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(close_half_way())
    answer = room.store.turns(room.tree["chat"])[-1]
    assert (answer.content, answer.finish) == ("one two three four", "stop")


def test_a_server_that_ends_half_way_keeps_what_was_said(room):
    slowly(room)
    room.choose(message="one two three four five six")

    async def end_half_way() -> None:
        await room.begin("send_message", lambda: bool(room.growing))

    asyncio.run(end_half_way())  # cancels whatever is left, as a server that shuts down
    answer = room.store.turns(room.tree["chat"])[-1]
    assert (answer.is_question, answer.finish) == (False, "cancelled")


def test_a_page_that_opens_half_way_sees_the_rest_grow(room):
    slowly(room)
    room.choose(message="one two three four five six")

    async def reload_half_way() -> Room:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        await stream.aclose()
        # The new page is another client of the same server, so it shares what is on its way.
        for label in ("Open chat", "Last turn", "Chat painted"):
            room.values[room._find(label)] = ""
        room.look()
        assert room.tree["follow"]
        assert room.can("Stop")
        await room.stream("follow_answer")
        return room

    asyncio.run(reload_half_way())
    assert any(frame["words"] for frame in room.frames)
    assert room.path == ["one two three four five six"] * 2


def test_a_page_that_went_to_another_chat_stays_there_while_the_answer_goes_on(room):
    room.say("Elsewhere?")
    elsewhere = room.tree["chat"]
    asyncio.run(room.press("new_chat"))
    slowly(room)
    room.choose(message="one two three four")

    async def go_elsewhere() -> None:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        answering = room.tree["chat"]
        await room.press("open_chat", str(elsewhere))
        async for _ in stream:
            pass
        assert room.path == ["Elsewhere?", "Elsewhere?"]
        assert room.growing == ""
        assert (room.can("Send"), room.can("Stop")) == (True, False)
        await room.press("open_chat", str(answering))
        assert room.can("Stop")
        await room.stream("follow_answer")

    asyncio.run(go_elsewhere())
    assert room.path == ["one two three four"] * 2


def test_two_answers_do_not_grow_in_one_chat(room):
    slowly(room)
    room.say("first")
    room.choose(message="one two three four five six")

    async def ask_twice() -> None:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        asked = room.turns[-1]["id"]
        await room.stream("ask_turn", do="again", turn=asked)
        assert "An answer is on its way" in room.said
        assert room.can("Stop")
        async for _ in stream:
            pass

    asyncio.run(ask_twice())
    assert len(room.store.turns(room.tree["chat"])) == 4


def test_an_error_half_way_keeps_the_words_and_says_why(room):
    class Breaks(Slow):
        async def stream(self, messages: Any, sampling: Any) -> Any:
            async for chunk in super().stream(messages, sampling):
                yield chunk
                raise ModelError("The server closed the line.")

    quick = room.workspace.backend
    room.workspace.backend = lambda ref: Breaks(quick(ref))
    room.say("one two three")
    assert "The server closed the line." in room.said
    assert room.path == ["one two three", "one"]
    assert room.can("Send")


# -- branches ----------------------------------------------------------------------------------------------------


def test_an_edited_question_is_a_branch_of_its_own(room):
    room.say("One?")
    room.say("Two?")
    first = room.turns[0]["id"]
    room.edit(first, "Uno?")
    assert room.path == ["Uno?", "Uno?"]
    edited = room.turns[0]
    assert (edited["place"], edited["of"], edited["before"]) == (2, 2, first)
    assert first in [frame["tree"].get("done") for frame in room.frames]  # its editor may close
    room.act("show", first)
    assert room.path == ["One?", "One?", "Two?", "Two?"]
    room.say("Three?")
    assert room.path[-2:] == ["Three?", "Three?"]
    assert len(room.path) == 6


def test_asking_again_stands_beside_the_first_answer(room):
    room.say("alpha beta gamma delta")
    first = room.turns[1]["id"]
    shuffled(room, 3)
    room.choose(model_for_the_next_answer="echo:loud")
    room.again(first)
    second = room.turns[1]
    assert (second["place"], second["of"], second["who"]) == (2, 2, "echo:loud")
    assert second["text"] != "alpha beta gamma delta"
    room.act("show", second["before"])
    assert room.turns[1]["id"] == first


def test_an_answer_cannot_be_edited_nor_a_turn_be_told_nonsense(room):
    room.say("One?")
    room.edit(room.turns[1]["id"], "Uno?")
    assert "is an answer" in room.said
    with pytest.raises(gr.Error, match="cannot be told to 'explode'"):
        room.act("explode", room.turns[1]["id"])
    with pytest.raises(gr.Error, match="not the number of a turn"):
        room.act("keep", "1; drop")  # type: ignore[arg-type]
    assert len(room.store.turns(room.tree["chat"])) == 2


# -- too long ----------------------------------------------------------------------------------------------------


def long_chat(room: Room) -> None:
    room.choose(max_tokens=1500)
    room.say("word " * 1000)
    room.say("more " * 500)


def test_a_conversation_that_is_too_long_asks_first(room):
    long_chat(room)
    before = room.path
    room.choose(message="Short?")
    asyncio.run(room.stream("send_message"))
    assert "do not fit" in room.said
    assert room.path == before
    assert room["Message"] == "Short?"
    assert room.can("Send without the first ones")
    asyncio.run(room.stream("send_anyway"))
    assert room.path == [*before, "Short?", "Short?"]
    assert "Sent without the first question and its answer" in room.said
    assert not room.can("Send without the first ones")
    sent = room.store.completion(room.store.turn(room.turns[-1]["id"]).ticket).messages
    assert [turn["content"][:4] for turn in sent] == ["more", "more", "Shor"]


def test_what_is_held_can_be_let_be(room):
    long_chat(room)
    before = room.path
    room.choose(message="Short?")
    asyncio.run(room.stream("send_message"))
    asyncio.run(room.press("let_it_be"))
    assert room.said == ""
    assert not room.can("Send without the first ones")
    with pytest.raises(gr.Error, match="Nothing waits to be sent"):
        asyncio.run(room.stream("send_anyway"))
    assert room.path == before


def test_an_edit_that_is_too_long_asks_first_as_well(room):
    long_chat(room)
    last = room.turns[2]["id"]
    room.edit(last, "other " * 1200)
    assert "do not fit" in room.said
    assert room.store.turns(room.tree["chat"])[-1].id == room.turns[-1]["id"]
    asyncio.run(room.stream("send_anyway"))
    assert [text[:5] for text in room.path] == ["word ", "word ", "other", "other"]


def test_more_is_not_left_out_than_was_allowed(room):
    long_chat(room)
    room.choose(message="Short?")
    asyncio.run(room.stream("send_message"))
    room.choose(message="longer " * 2000)
    asyncio.run(room.stream("send_anyway"))
    assert "2 questions and their answers do not fit" in room.said
    assert len(room.path) == 4


# -- what answers become -----------------------------------------------------------------------------------------


def test_a_corrected_answer_is_a_record_with_the_conversation_as_its_context(room):
    room.say("How wide is it?")
    room.say("And how long?")
    answer = room.turns[-1]
    room.choose(dataset_for_corrected_answers="brackenfold")
    room.act("correct", answer["id"], text="Two metres.")
    record_row = list(room.store.all_records(room.store.dataset("brackenfold").id))[-1]
    assert (record_row.instruction, record_row.response) == ("And how long?", "Two metres.")
    assert record_row.context.startswith("User: How wide is it?")
    assert room.tree["done"] == answer["id"]
    assert room.turns[-1]["kept"]


@pytest.mark.parametrize(
    ("dataset", "text", "sentence"),
    [("", "Good.", "no dataset to add this to"), ("nobody", "Good.", "nobody"), ("brackenfold", " ", "empty")],
    ids=["none", "gone", "no words"],
)
def test_a_correction_that_cannot_be_added_keeps_its_editor(room, dataset, text, sentence):
    room.say("How wide is it?")
    before = room.tree
    room.choose(dataset_for_corrected_answers=dataset)
    with pytest.raises(gr.Error, match=sentence):
        room.act("correct", room.turns[-1]["id"], text=text)
    assert room.tree == before
    assert room.store.kept_completions() == []


def test_a_kept_answer_is_listed_among_the_kept(room):
    room.say("Keep me?")
    room.act("keep", room.turns[-1]["id"])
    assert [answer.text for answer in room.store.kept_completions()] == ["Keep me?"]
    assert room.turns[-1]["kept"]


def test_answers_to_one_question_become_a_pair_to_rank(room):
    room.say("alpha beta gamma delta")
    answer = room.turns[-1]["id"]
    with pytest.raises(gr.Error, match="Ranking takes two answers to the same question"):
        room.act("rank", answer)
    room.again(answer)
    with pytest.raises(gr.Error, match="Two of the answers are the same"):
        room.act("rank", answer)
    shuffled(room, 3)
    room.again(answer)
    room.act("rank", room.turns[-1]["id"])
    (batch,) = [batch for batch in room.store.batches() if batch.name == "playground"]
    assert batch.items == 1


# -- whose it is -------------------------------------------------------------------------------------------------


def test_a_chat_of_somebody_else_is_neither_listed_nor_read_nor_changed(room):
    turn = said_by_ann(room)
    room.look()
    assert "What do I earn?" not in room["Chats"]
    refused = "somebody else's"
    with pytest.raises(gr.Error, match=refused):
        asyncio.run(room.press("open_chat", str(turn.chat_id)))
    for do in ("show", "keep", "correct", "rank"):
        with pytest.raises(gr.Error, match=refused):
            room.act(do, turn.id, text="Mine")
    room.again(turn.id)
    assert refused in room.said
    room.choose(open_chat=str(turn.chat_id), last_turn=str(turn.id), message="Hello?")
    asyncio.run(room.stream("send_message"))
    assert refused in room.said
    room.choose(system_line="Mine.")
    asyncio.run(room.press("keep_terms"))
    assert room.store.chat(turn.chat_id).system == ""
    for name in ("delete_chat", "rename_chat", "ask_title"):
        with pytest.raises(gr.Error, match=refused):
            asyncio.run(room.press(name))
    room.look()
    assert "What do I earn?" not in json.dumps(room.tree)
    assert len(room.store.turns(turn.chat_id)) == 2
    assert room.store.kept_completions() == []


def test_a_link_to_a_chat_of_somebody_else_says_so_and_opens_none(room):
    turn = said_by_ann(room)
    room.choose(chat_asked_for=str(turn.chat_id))
    room.look()
    assert "somebody else's" in room.said
    assert room.tree["turns"] == []


# -- coming back -------------------------------------------------------------------------------------------------


def test_a_reload_shows_the_path_that_was_open_and_the_words_not_sent(room):
    room.say("One?")
    room.edit(room.turns[0]["id"], "Uno?")
    first = room.turns[0]["before"]
    room.act("show", first)
    room.choose(message="Half a thought")
    asyncio.run(room.press("keep_words"))
    fresh = Room(room.workspace)
    fresh.look()
    assert fresh.path == ["One?", "One?"]
    assert fresh["Message"] == "Half a thought"
    assert fresh["Model for the next answer"] == "echo:"


def test_without_a_place_to_come_back_to_the_newest_chat_opens(room):
    room.say("Old?")
    asyncio.run(room.press("new_chat"))
    room.say("New?")
    room.store.drop_draft("owner", "chat")
    fresh = Room(room.workspace)
    fresh.look()
    assert fresh.path == ["New?", "New?"]


def test_a_link_opens_the_chat_it_names(room):
    room.say("Old?")
    old = room.tree["chat"]
    asyncio.run(room.press("new_chat"))
    room.say("New?")
    fresh = Room(room.workspace)
    fresh.choose(chat_asked_for=str(old))
    fresh.look()
    assert fresh.path == ["Old?", "Old?"]
    assert fresh["Chat asked for"] == ""


def test_the_beat_of_a_job_changes_nothing_that_somebody_is_at(room):
    room.say("One?")
    room.look()
    before = room.tree
    room.choose(message="Half a thought", system_line="Half a line", title="Half a title")
    room.look()
    assert room.tree == before
    assert (room["Message"], room["System line"], room["Title"]) == ("Half a thought", "Half a line", "Half a title")


def test_a_new_dataset_can_be_chosen_and_the_chosen_one_stays(room):
    room.look()
    room.store.create_dataset("another", author="owner")
    room.choose(dataset_for_corrected_answers="brackenfold")
    room.look()
    key = room._find("Dataset for corrected answers")
    assert room.props[key]["choices"] == ["another", "brackenfold"]
    assert room["Dataset for corrected answers"] == "brackenfold"


def test_what_another_page_said_in_this_chat_comes_in(room):
    room.say("One?")
    room.look()
    question = ask(room.store, room.tree["chat"], "Two?", after=room.turns[-1]["id"], author="owner")
    room.look()
    assert [turn["id"] for turn in room.turns][-1] == question.id


# -- the list ----------------------------------------------------------------------------------------------------


def test_chats_are_listed_newest_first_and_open_with_their_own_terms(room):
    room.choose(system_line="Be brief.")
    room.say("Old?")
    old = room.tree["chat"]
    asyncio.run(room.press("new_chat"))
    assert room.tree["turns"] == []
    assert room.tree["empty"]["questions"]
    room.choose(system_line="Be long.", model_for_the_next_answer="echo:loud")
    room.say("New?")
    assert room["Chats"].index("New?") < room["Chats"].index("Old?")
    asyncio.run(room.press("open_chat", str(old)))
    assert room.path == ["Old?", "Old?"]
    assert (room["System line"], room["Model for the next answer"]) == ("Be brief.", "echo:")


def test_a_chat_is_renamed(room):
    room.say("Old?")
    asyncio.run(room.press("ask_title"))
    assert room["Title"] == "Old?"
    room.choose(title="  Wet   tents ")
    asyncio.run(room.press("rename_chat"))
    assert room.store.chats("owner")[0].title == "Wet tents"
    assert "Wet tents" in room["Chats"]
    room.choose(title=" ")
    with pytest.raises(gr.Error, match="The title is empty"):
        asyncio.run(room.press("rename_chat"))


def test_a_deleted_chat_is_gone_even_while_it_answers(room):
    slowly(room)
    room.choose(message="one two three four five six")

    async def delete_half_way() -> None:
        stream = await room.begin("send_message", lambda: bool(room.growing))
        await room.press("delete_chat")
        await stream.aclose()

    asyncio.run(delete_half_way())
    assert room.store.chats() == []
    assert room.tree["turns"] == []
    assert not room.can("Delete")


def test_the_system_line_and_the_model_are_kept_with_the_chat_before_the_next_question(room):
    room.say("One?")
    room.choose(system_line="Be brief.", model_for_the_next_answer="echo:loud")
    asyncio.run(room.press("keep_terms"))
    kept = room.store.chat(room.tree["chat"])
    assert (kept.system, kept.model) == ("Be brief.", "echo:loud")


# -- what others wrote, and where it goes ------------------------------------------------------------------------


def test_markup_stays_text(room):
    room.say(EVIL)
    assert room.path == [EVIL, EVIL]  # as text in JSON; the script knows textContent only
    assert "<img" not in room["Chats"]
    assert "&lt;script" in room["Chats"]


def test_the_script_puts_no_text_of_others_into_markup():
    script = (ASSETS / "chat.js").read_text(encoding="utf-8")
    assert script.count("innerHTML") == 1  # the parts of the conversation itself
    for way in ("insertAdjacentHTML", "outerHTML", "document.write", "eval("):
        assert way not in script


def test_a_model_elsewhere_says_that_text_leaves_this_machine(room):
    new = NewEndpoint(name="office", url="https://models.example/v1", models=("llama",))
    settings = room.workspace.settings.model_copy(update={"offline": False})
    add_endpoint(room.store, room.workspace.path, settings, new, author="owner")
    room.choose(model_for_the_next_answer="endpoint:office/llama")
    asyncio.run(room.press("where_text_goes"))
    where = next(fn for fn in room.demo.fns.values() if fn.api_name == "where_text_goes").outputs[0]
    assert "leaves this machine: models.example reads it" in room.words(where)
    started = room.store.start_chat(ModelRef("endpoint:office/llama"), author="owner")
    question = ask(room.store, started.id, "One?", after=None, author="owner")
    whole = Completion(text="one", finish="stop", prompt_tokens=1, output_tokens=1)
    terms = {"ticket": "t", "messages": [], "sampling": Sampling(), "author": "owner"}
    record(room.store, question.id, ModelRef("endpoint:office/llama"), whole, **terms)
    asyncio.run(room.press("open_chat", str(started.id)))
    assert "models.example" in room.turns[-1]["left"]


def test_the_page_is_light(room):
    """Every block is copied for each visitor."""
    made_by_gradio = ("form", "api")
    assert len([b for b in room.demo.blocks.values() if b.get_block_name() not in made_by_gradio]) <= 45


# -- for scripts -------------------------------------------------------------------------------------------------


def test_a_script_talks_with_plain_values(room):
    async def talk() -> dict[str, Any]:
        first = await scripted("One?")
        return await scripted("Two?", chat=first["chat"], after=first["answer"]["id"])

    async def scripted(text: str, **more: Any) -> dict[str, Any]:
        [fn] = [f.fn for f in room.demo.fns.values() if f.api_name == "say_in_chat"]
        values = {
            "text": text,
            "chat": 0,
            "after": 0,
            "model": "echo:",
            "system_line": "",
            "sampling": {},
            "left_out": 0,
        }
        inputs, *_ = special_args(fn, inputs=list({**values, **more}.values()), request=gr.Request(username="owner"))
        return await fn(*inputs)

    second = asyncio.run(talk())
    assert second["answer"]["content"] == "Two?"
    assert [turn.content for turn in read(room.store, second["chat"]).turns] == ["One?", "One?", "Two?", "Two?"]
