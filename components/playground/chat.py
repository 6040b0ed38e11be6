"""Chat: several turns with any model, as a tree. A question is edited and an answer asked for again beside the first one.

The conversation itself is assets/chat.js; while an answer grows, only its own words travel. An answer is a task of the
server that pages watch: it goes on when its page closes, and ends as a row, whole or stopped half-way.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import api

from components.forms import form
from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    ask_twice,
    card,
    fresh_choices,
    handler,
    live_dropdown,
    markup,
    notice,
    progress,
    user_of,
)
from components.picking import pick_list, picked, rows_to_pick
from components.theme import ASSETS
from studio.errors import InputError, NotFound, StudioError
from studio.fields import fill_in
from studio.models import EMBEDDED
from studio.models.endpoints import whereabouts
from studio.prompts.chat import Fit, Step, Thread, correct, question_of, read
from studio.prompts.onward import BATCH, send_to_labeling
from studio.prompts.talking import Answering, Talks, Terms, Wanted
from studio.specs import ModelRef, Sampling
from studio.store import Chat, Turn
from studio.workspace import Workspace

__all__ = ["ChatWidgets", "build"]

log = logging.getLogger(__name__)

_DRAFT = "chat"  # where its owner is: the open chat, and the last turn of the path
_WORDS = "chat-message"  # what is written and not sent
_CHATS_SHOWN = 200
_VIEWS_KNOWN = 2000  # pages in browsers; Gradio does not tell when one closes
_PATIENCE = 0.5  # seconds before a page says that a model is not ready yet
_MOST_RANKED = 4  # answers to one question, on the labeling desk
_ENDED = {"stop": "finished", "length": "cut at the token limit", "cancelled": "stopped"}
_EMPTY = {
    "sentence": "Ask something. Every question can be edited and every answer asked for again; nothing is lost.",
    "questions": [
        "My jacket soaks through after an hour of rain. What can I do?",
        "Write a friendly reply to a customer whose order is late.",
        "Explain in two sentences what a token is.",
    ],
}


@dataclass(frozen=True, kw_only=True)
class ChatWidgets(TabWidgets):
    """`chat` holds the number of the open chat, '' while nothing is said yet."""

    chat: gr.Textbox


def build(workspace: Workspace) -> ChatWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_talking(page)
    _wire_chats(page)
    _serve(page)
    return ChatWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"chat": page.asked_for},
        chat=page.opened,
    )


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.talks = Talks(workspace)
        self.views: dict[str | None, object] = {}  # by page in a browser: another one when another chat opens there
        with gr.Row(elem_classes=["off-screen"]):
            self.opened, self.place, self.held, self.painted, self.asked_for = (
                gr.Textbox("", label=label, visible="hidden")
                for label in ("Open chat", "Last turn", "Held question", "Chat painted", "Chat asked for")
            )
            self.tail = gr.HTML(
                None, label="Growing answer", html_template="", js_on_load=_TELL_TALK, apply_default_css=False
            )
        with gr.Row(elem_classes=["chat-room"]):
            self._lay_out_chats()
            self._lay_out_terms()
            self._lay_out_talk()

    def _lay_out_chats(self) -> None:
        with gr.Column(scale=0, min_width=240, elem_classes=["chat-list"]):
            self.new = gr.Button("New chat", elem_id="new-chat")
            self.chats = pick_list("Chats", elem_id="chats")
            with actions():
                self.rename = gr.Button("Rename", size="sm", min_width=0, scale=0, visible=False)
                self.delete = gr.Button("Delete", size="sm", min_width=0, scale=0, visible=False)
                self.delete_now = gr.Button(
                    "Yes, delete this chat", variant="stop", size="sm", min_width=0, scale=0, visible=False
                )
            self.title = gr.Textbox(
                "", label="Title", info="Enter saves it.", max_lines=1, visible=False, elem_id="chat-title"
            )

    def _lay_out_terms(self) -> None:
        with card(scale=0, min_width=240, elem_classes=["chat-terms"]):
            self.model = live_dropdown(
                self._models(),
                value=str(EMBEDDED),
                label="Model for the next answer",
                elem_id="chat-model",
            )
            self.system = gr.Textbox(
                "",
                label="System line",
                placeholder="You answer customers of a shop, in two sentences.",
                lines=2,
                max_lines=8,
                elem_id="chat-system",
            )
            with gr.Accordion("Sampling", open=False, elem_classes=["more"]):
                self.sampling = form(Sampling)
            names = self._datasets()
            self.dataset = live_dropdown(
                names,
                value=next(iter(names), None),
                label="Dataset for corrected answers",
                elem_id="chat-dataset",
            )

    def _lay_out_talk(self) -> None:
        with gr.Column(scale=1, min_width=280, elem_classes=["chat-main"]):
            self.tree = gr.HTML(
                None,
                label="Conversation",
                html_template="",  # its parts are made by the script: what people and models say is never HTML
                js_on_load=(ASSETS / "chat.js").read_text(encoding="utf-8"),
                apply_default_css=False,
                padding=False,
                elem_id="talk",
            )
            self.said = markup("", label="What must be known", elem_classes=["chat-said"])
            with actions():
                self.anyway = gr.Button(_ANYWAY, min_width=0, scale=0, visible=False, elem_id="send-anyway")
                self.let_be = gr.Button("Do not send it", min_width=0, scale=0, visible=False)
            with gr.Row(elem_classes=["chat-box"]):
                self.message = gr.Textbox(
                    "",
                    label="Message",
                    show_label=False,
                    lines=1,  # with one line, Enter sends and Shift+Enter starts a new one
                    max_lines=10,
                    placeholder="Ask something",
                    scale=1,
                    elem_id="chat-message",
                )
                self.stop = gr.Button("Stop", min_width=72, scale=0, interactive=False, elem_id="chat-stop")
                self.send = gr.Button("Send", variant="primary", min_width=88, scale=0, elem_id="chat-send")
            self.where = markup(self.where_words(str(EMBEDDED)), elem_classes=["chat-where"])

    # -- what handlers read and write ------------------------------------------------------------------------------

    @property
    def terms(self) -> list[Any]:
        """How the next answer is given: inputs of `_read`."""
        return [self.model, self.system, *self.sampling.inputs]

    @property
    def talked(self) -> list[Any]:
        """What changes while people talk; the growing answer comes before the tree that has it."""
        asked = [self.held, self.said, self.anyway, self.let_be, self.message, self.stop, self.send]
        return [self.opened, self.place, self.tail, self.tree, *asked, *self.listed]

    @property
    def listed(self) -> list[Any]:
        return [self.chats, self.rename, self.delete, self.delete_now, self.title]

    @property
    def shown(self) -> list[Any]:
        """What changes when another chat opens."""
        return [*self.talked, self.model, self.system]

    @property
    def look_inputs(self) -> list[Any]:
        return [self.opened, self.place, self.painted, self.asked_for, self.model, self.dataset, self.message]

    @property
    def look_outputs(self) -> list[Any]:
        return [*self.shown, self.painted, self.asked_for, self.dataset]

    def _read(self, model: str | None, system_line: str | None, *sampling: Any) -> Terms:
        if not model:
            raise InputError("No model is chosen. Choose one under “Model for the next answer”.")
        return Terms(ModelRef(model), system_line or "", self.sampling.read(sampling))

    # -- whose it is -----------------------------------------------------------------------------------------------

    def _own(self, chat: Any, by: str) -> Chat:
        return self.talks.own_chat(_number(chat, "chat"), by)

    def _own_turn(self, turn: Any, by: str) -> Turn:
        return self.talks.own_turn(_number(turn, "turn"), by)

    def _is_own(self, opened: str, by: str) -> bool:
        """Whether the open chat is still there. An empty page is everybody's."""
        try:
            return not opened or bool(self._own(opened, by))
        except InputError:
            return False

    # -- what is shown ---------------------------------------------------------------------------------------------

    def look(
        self,
        request: gr.Request,
        opened: str,
        place: str,
        painted: str,
        asked_for: str,
        model: str | None,
        dataset: str | None,
        words: str,
    ) -> list[Any]:
        """The page as the database has it now; what somebody chose or wrote stays. Runs outside the queue: never raises."""
        try:
            by = user_of(request)
            if painted and not asked_for and self._is_own(opened, by):
                now, before = self._token(opened, place, by), json.loads(painted)
                moved = [n != b for n, b in zip(now, before, strict=True)]
                shown = self._moved(opened, place, by, moved) | (self._choices(model, dataset) if moved[2] else {})
            else:
                if painted:
                    self._turn_page(request)
                shown = {**self._choices(model, dataset), **self._first(by, asked_for, words), self.asked_for: ""}
                now = self._token(shown[self.opened], shown[self.place], by)
            return _row(self.look_outputs, {**shown, self.painted: json.dumps(now)})
        except StudioError as error:
            log.warning("The chats could not be brought up to date: %s", error)
            return _row(self.look_outputs, {})

    def _first(self, by: str, asked_for: str, words: str) -> dict[Any, Any]:
        """The chat that was asked for, or the one its owner was in, or the newest; and what was being written."""
        kept = self.store.draft(by, _DRAFT)
        told = self.store.draft(by, _WORDS).get("text", "")
        message = {self.message: told} if told and not words else {}
        try:
            if asked_for:
                return {**self._open(self._own(asked_for, by), None, by), **message}
            if "chat" in kept:
                chat = self._own(kept["chat"], by) if kept["chat"] else None
                return {**self._open(chat, kept.get("place"), by), **message}
        except InputError as error:  # a chat that is gone, or a link to somebody else's
            newest = next(iter(self.store.chats(by, 1)), None)
            said = {self.said: notice(str(error), "caution")} if asked_for else {}
            return {**self._open(newest, None, by), **message, **said}
        return {**self._open(next(iter(self.store.chats(by, 1)), None), None, by), **message}

    def _moved(self, opened: str, place: str, by: str, moved: Sequence[bool]) -> dict[Any, Any]:
        """Only what is not on the page yet: a list that is sent again would close under somebody's hand."""
        shown: dict[Any, Any] = {}
        if moved[0] and opened:
            shown = self._path(self._thread(int(opened), int(place) if place else None), follow=True)
        if moved[1]:
            shown[self.chats] = self._rows(by, opened)
        return shown

    def _token(self, opened: str, place: str, by: str) -> list[str]:
        thread = self._thread(int(opened), int(place) if place else None) if opened else None
        turns = self._turns(thread) if thread else []
        choices = [self._datasets(), self._models()]
        return [_digest([opened, turns]), _digest(self._rows(by, opened)), _digest(choices)]

    def _open(self, chat: Chat | None, at: Any, by: str) -> dict[Any, Any]:
        """A chat on the page, or an empty one that starts with its first question; then the terms stay as they are."""
        shown = {**self._nothing_held(), self.tail: "", self.said: "", **self._list(by, str(chat.id) if chat else "")}
        if chat is None:
            blank: dict[str, Any] = {"chat": None, "turns": [], "empty": _EMPTY, "at": secrets.token_hex(4)}
            return {**shown, self.opened: "", self.place: "", self.tree: _painted(blank), **self._buttons(None)}
        known = at if at in {turn.id for turn in self.store.turns(chat.id)} else None
        model = gr.Dropdown(choices=self._models(chat.model), value=chat.model)
        path = self._path(self._thread(chat.id, known), follow=True)
        return {**shown, **path, self.system: chat.system, self.model: model}

    def _thread(self, chat: int, at: int | None) -> Thread:
        """While an answer grows, the path ends at its question: that is where it grows."""
        going = self.talks.going(chat)
        return question_of(self.store, going.question.id) if going else read(self.store, chat, at)

    def _path(self, thread: Thread, *, done: int | None = None, follow: bool = False) -> dict[Any, Any]:
        """The conversation. `done` names the turn whose editor may close, `follow` says that nobody watches its answer.

        `at` is always new: else one that is sent again, since the page's own is wrong, would change nothing.
        """
        chat = thread.chat.id
        value = {
            "chat": chat,
            "turns": self._turns(thread),
            "empty": _EMPTY,
            "done": done,
            "follow": follow and self.talks.going(chat) is not None,
            "at": secrets.token_hex(4),
        }
        last = str(thread.steps[-1].turn.id) if thread.steps else ""
        return {self.opened: str(chat), self.place: last, self.tree: _painted(value), **self._buttons(chat)}

    def _turns(self, thread: Thread) -> list[dict[str, Any]]:
        waits = thread.waits and self.talks.going(thread.chat.id) is None
        left = {
            model: self.talks.leaves(model) for model in {step.turn.model for step in thread.steps if step.turn.model}
        }
        last = thread.steps[-1] if thread.steps else None
        return [_turn(step, waits=waits and step is last, left=left.get(step.turn.model, "")) for step in thread.steps]

    def _buttons(self, chat: int | None) -> dict[Any, Any]:
        is_going = chat is not None and self.talks.going(chat) is not None
        return {self.stop: gr.Button(interactive=is_going), self.send: gr.Button(interactive=not is_going)}

    def _nothing_held(self) -> dict[Any, Any]:
        return {self.held: "", self.anyway: gr.Button(visible=False), self.let_be: gr.Button(visible=False)}

    def _list(self, by: str, opened: str) -> dict[Any, Any]:
        return {
            self.chats: self._rows(by, opened),
            self.rename: gr.Button(visible=bool(opened)),
            self.delete: gr.Button(visible=bool(opened)),
            self.delete_now: gr.Button(visible=False),
            self.title: gr.Textbox(visible=False),
        }

    def _relisted(self, by: str, chat: int) -> dict[Any, Any]:
        """The list while people talk: what somebody does with the title meanwhile stays."""
        there = {self.rename: gr.Button(visible=True), self.delete: gr.Button(visible=True)}
        return {self.chats: self._rows(by, str(chat)), **there}

    def _rows(self, by: str, opened: str) -> str:
        chats = self.store.chats(by, _CHATS_SHOWN)
        if not chats:
            return '<p class="quiet">Your chats are listed here, the newest first.</p>'
        rows = [(chat.id, (_chat_cell(chat),)) for chat in chats]
        return f'<div class="framed">{rows_to_pick("Chats", (), rows, current=opened)}</div>'

    def _choices(self, model: str | None, dataset: str | None) -> dict[Any, Any]:
        """The lists as the database has them; a value among them is left alone."""
        return {
            self.dataset: fresh_choices(self._datasets(), dataset),
            self.model: gr.Dropdown(choices=self._models(model)),
        }

    def _models(self, *chosen: str | None) -> list[tuple[str, str]]:
        """What answers, and what is chosen already: if that is gone, asking says so."""
        found = [(offer.label, str(offer.ref)) for offer in self.workspace.offers()]
        known = {ref for _, ref in found}
        more = dict.fromkeys(ref for ref in (str(EMBEDDED), *chosen) if ref and ref not in known)
        return [*found, *((ref, ref) for ref in more)]

    def _datasets(self) -> list[str]:
        return [dataset.name for dataset in self.store.datasets()]

    def where_words(self, model: str | None) -> str:
        """Below the box: where a question goes, when that is another process than ours, and which keys send it."""
        mark, beside = "", ""
        try:
            found = whereabouts(ModelRef(model or str(EMBEDDED)), self.store)
            mark = notice(found.sentence, "caution") if found.leaves else ""
            beside = "" if found.leaves else html.escape(found.sentence)
        except StudioError as error:
            mark = notice(str(error), "caution")
        return f'{mark}<p class="quiet">{beside} {_KEYS}</p>'

    # -- asking ----------------------------------------------------------------------------------------------------

    async def send_message(
        self, request: gr.Request, opened: str, place: str, held: str, words: str, *terms: Any
    ) -> AsyncIterator[list[Any]]:
        """What is in the box, after the last answer of the path."""
        wanted = Wanted("say", _number_or_none(place), words or "", _number_or_none(opened))
        async for row in self._streamed(request, self._answered(user_of(request), wanted, terms)):
            yield row

    async def send_anyway(
        self, request: gr.Request, opened: str, place: str, held: str, words: str, *terms: Any
    ) -> AsyncIterator[list[Any]]:
        """What was held, without the oldest turns; what is in the box as it reads now."""
        wanted = _held(held)
        if wanted.do == "say":
            wanted = replace(wanted, text=words or "")
        async for row in self._streamed(request, self._answered(user_of(request), wanted, terms)):
            yield row

    async def ask_turn(
        self, event: gr.EventData, request: gr.Request, opened: str, place: str, held: str, words: str, *terms: Any
    ) -> AsyncIterator[list[Any]]:
        """A question in other words, or once more."""
        told = event._data or {}
        if told.get("do") not in ("edit", "again"):
            raise InputError(f"A turn cannot be asked to '{told.get('do')}'.")
        turn, chat = _number(told.get("turn"), "turn"), _number_or_none(opened)
        wanted = Wanted(told["do"], turn, str(told.get("text") or ""), chat)
        async for row in self._streamed(request, self._answered(user_of(request), wanted, terms)):
            yield row

    async def follow(self, request: gr.Request, opened: str, place: str) -> AsyncIterator[list[Any]]:
        """An answer that grows already, for a page that opened meanwhile."""
        by = user_of(request)
        chat = self._own(opened, by).id
        going = self.talks.going(chat)
        if going is None:  # it ended before anybody looked
            yield _row(self.talked, self._path(read(self.store, chat, _number_or_none(place))))
            return
        async for row in self._streamed(request, self._watched(going, by)):
            yield row

    async def _streamed(
        self, request: gr.Request, updates: AsyncGenerator[dict[Any, Any], None]
    ) -> AsyncIterator[list[Any]]:
        """What a stream shows, until its page shows another chat.

        Gradio's page changes the updates of a stream in place: one that says nothing may take back the one before it
        that is not shown yet. So a button is told the same until something else is said of it.
        """
        here, by = self.views.get(request.session_hash), user_of(request)
        told: dict[Any, Any] = {}
        async with aclosing(updates):
            async for shown in updates:
                if self.views.get(request.session_hash) is not here:
                    yield _row(self.talked, {})  # the last word is sent twice, so it must be none
                    return
                if self.opened in shown:
                    self._remember(by, _number_or_none(shown[self.opened]), _number_or_none(shown[self.place]))
                told |= {widget: value for widget, value in shown.items() if isinstance(value, gr.Button)}
                yield _row(self.talked, told | shown)

    def _turn_page(self, request: gr.Request) -> None:
        """From now on this page shows another chat: what still streams to it falls silent."""
        self.views.pop(request.session_hash, None)
        self.views[request.session_hash] = object()
        if len(self.views) > _VIEWS_KNOWN:
            del self.views[next(iter(self.views))]

    async def stop_answer(self, request: gr.Request, opened: str) -> None:
        """Outside the queue, so that it never waits behind what it stops; the page that watches shows what was said."""
        try:
            going = self.talks.going(self._own(opened, user_of(request)).id) if opened else None
            if going is not None:
                await going.stop()
        except StudioError as error:
            log.warning("An answer could not be stopped: %s", error)

    async def _answered(self, by: str, wanted: Wanted, terms: Sequence[Any]) -> AsyncGenerator[dict[Any, Any], None]:
        """Everything the page shows from the question on. What speaks against asking is said beside the box."""
        yield {self.send: gr.Button(interactive=False), self.said: "", **self._nothing_held()}
        chat = wanted.chat
        try:
            given = self._read(*terms)
            beginning = self.talks.begin(wanted, given, by)
            if not (await asyncio.wait({beginning}, timeout=_PATIENCE))[0]:
                yield {self.said: progress(None, f"{given.ref} is getting ready")}
                await asyncio.wait({beginning})
            going, found = beginning.result()
            if going is None:
                yield {**self._held_back(replace(wanted, left_out=found.left_out), found), **self._buttons(chat)}
                return
            chat = going.question.chat_id
            yield {**self._begun(going, wanted, by), self.said: _fit_said(found)}
            async for update in self._watched(going, by):
                yield update
        except StudioError as error:
            yield {**self._buttons(chat), self.said: notice(str(error), "bad")}
        except Exception:
            yield self._buttons(chat)
            raise

    def _begun(self, going: Answering, wanted: Wanted, by: str) -> dict[Any, Any]:
        chat = going.question.chat_id
        done = wanted.turn if wanted.do == "edit" else None
        sent = {self.message: ""} if wanted.do == "say" else {}
        path = self._path(self._thread(chat, None), done=done)
        return {**path, **self._relisted(by, chat), **sent, self.tail: _tail(going)}

    async def _watched(self, going: Answering, by: str) -> AsyncGenerator[dict[Any, Any], None]:
        """Its words as they come, then the conversation that has it."""
        async for _ in going.watched():
            yield {self.tail: _tail(going)}
        yield self._after(going, by)
        going.check()

    def _after(self, going: Answering, by: str) -> dict[Any, Any]:
        chat, last = going.question.chat_id, going.answer or going.question
        said = {self.said: notice(going.trouble, "bad")} if going.trouble else {}
        try:
            shown = self._path(self._thread(chat, last.id))
        except NotFound:  # deleted from another page
            return {**self._open(None, None, by), **said}
        return {**shown, **self._relisted(by, chat), self.tail: "", **said}

    def _held_back(self, wanted: Wanted, found: Fit) -> dict[Any, Any]:
        return {
            self.held: json.dumps(asdict(wanted)),
            self.said: notice(found.sentence, "caution"),
            self.anyway: gr.Button(visible=True),
            self.let_be: gr.Button(visible=True),
        }

    def let_it_be(self) -> list[Any]:
        return _row(self.talked, {**self._nothing_held(), self.said: ""})

    # -- one turn --------------------------------------------------------------------------------------------------

    def act(self, event: gr.EventData, request: gr.Request, place: str, dataset: str | None) -> list[Any]:
        """What the conversation tells: {do, turn, text}."""
        told, by = event._data or {}, user_of(request)
        turn = self._own_turn(told.get("turn"), by)
        at, done = _number_or_none(place), None
        match told.get("do"):
            case "show":
                at = turn.id
            case "keep":
                if turn.is_question:
                    raise InputError(f"Turn {turn.id} is a question. Keep one of its answers.")
                self.store.keep_completion(turn.ticket)
            case "correct":
                done = self._correct(turn, str(told.get("text") or ""), dataset, by)
            case "rank":
                self._rank(turn, by)
            case other:
                raise InputError(f"A turn cannot be told to '{other}'.")
        thread = self._thread(turn.chat_id, at)
        self._remember(by, turn.chat_id, thread.steps[-1].turn.id)
        return _row(self.talked, self._path(thread, done=done))

    def _correct(self, turn: Turn, text: str, dataset: str | None, by: str) -> int:
        if not dataset:
            raise InputError("There is no dataset to add this to. Make one under Dataset first.")
        correct(self.store, turn.id, self.store.dataset(dataset), text, author=by)
        gr.Success(f"Added to {dataset}.", duration=3)
        return turn.id

    def _rank(self, turn: Turn, by: str) -> None:
        """This answer beside those to the same question that say something else."""
        if turn.is_question:
            raise InputError(f"Turn {turn.id} is a question. Send one of its answers to labeling.")
        beside = [t for t in self.store.turns(turn.chat_id) if t.parent_id == turn.parent_id and t.id != turn.id]
        if not beside:
            raise InputError("Ranking takes two answers to the same question. Press “Ask again” first.")
        newest = {t.content.strip(): t for t in beside if t.content.strip() not in ("", turn.content.strip())}
        others = sorted(newest.values(), key=lambda t: t.id)[1 - _MOST_RANKED :] or beside[-1:]
        ranked = [turn, *others]
        send_to_labeling(self.store, [t.ticket for t in ranked], author=by)
        gr.Success(f"{len(ranked)} answers wait under Labeling, in the batch “{BATCH}”.", duration=3)

    # -- chats -----------------------------------------------------------------------------------------------------

    def open_chat(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        by = user_of(request)
        chat = self._own(picked(event), by)
        self._turn_page(request)
        shown = self._open(chat, None, by)
        self._remember(by, chat.id, _number_or_none(shown[self.place]))
        return _row(self.shown, shown)

    def new_chat(self, request: gr.Request) -> list[Any]:
        by = user_of(request)
        self._turn_page(request)
        self._remember(by, None, None)
        return _row(self.shown, self._open(None, None, by))

    def rename_chat(self, request: gr.Request, opened: str, title: str) -> list[Any]:
        by, title = user_of(request), " ".join((title or "").split())
        chat = self._own(opened, by)
        if not title:
            raise InputError("The title is empty. Write one, for example 'Wet jackets'.")
        self.store.change_chat(chat.id, title=title)
        return _row(self.listed, self._list(by, opened))

    def ask_title(self, request: gr.Request, opened: str) -> Any:
        return gr.Textbox(value=self._own(opened, user_of(request)).title, visible=True)

    async def delete_chat(self, request: gr.Request, opened: str) -> list[Any]:
        """Then an empty one is open."""
        by = user_of(request)
        chat = self._own(opened, by)
        if (going := self.talks.going(chat.id)) is not None:
            await going.stop()
        self._turn_page(request)
        self.store.delete_chat(chat.id)
        self._remember(by, None, None)
        return _row(self.shown, self._open(None, None, by))

    def keep_terms(self, request: gr.Request, opened: str, model: str | None, system_line: str) -> None:
        """The model and the system line belong to the open chat: they are there again when it is opened again."""
        try:
            if opened:
                chat = self._own(opened, user_of(request))
                self.store.change_chat(chat.id, system=system_line or "", model=ModelRef(model) if model else None)
        except StudioError as error:  # a chat that was deleted elsewhere; the next question says so
            log.warning("The terms of a chat could not be kept: %s", error)

    def keep_words(self, request: gr.Request, words: str) -> None:
        """What is written and not sent yet outlives a reload."""
        try:
            self.store.save_draft(user_of(request), _WORDS, {"text": words or ""})
        except StudioError as error:  # too long for a draft: no reason to stop somebody who writes
            log.warning("A message could not be kept as a draft: %s", error)

    def _remember(self, by: str, chat: int | None, place: int | None) -> None:
        self.store.save_draft(by, _DRAFT, {"chat": chat, "place": place})


# -- wiring ----------------------------------------------------------------------------------------------------------

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_STREAMING: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": 32, **_QUIET}


def _wire_talking(page: _Page) -> None:
    inputs = [page.opened, page.place, page.held, page.message, *page.terms]
    gr.on(
        [page.send.click, page.message.submit],
        handler(page.send_message),
        inputs,
        page.talked,
        api_name="send_message",
        **_STREAMING,
    )
    page.anyway.click(handler(page.send_anyway), inputs, page.talked, api_name="send_anyway", **_STREAMING)
    page.tree.ask(handler(page.ask_turn), inputs, page.talked, api_name="ask_turn", **_STREAMING)
    page.tree.follow(
        handler(page.follow),
        [page.opened, page.place],
        page.talked,
        trigger_mode="multiple",
        api_name="follow_answer",
        **_STREAMING,
    )
    page.let_be.click(handler(page.let_it_be), None, page.talked, api_name="let_it_be", **_QUIET)
    page.stop.click(handler(page.stop_answer), page.opened, None, queue=False, api_name="stop_answer", **_QUIET)
    page.tree.act(
        handler(page.act),
        [page.place, page.dataset],
        page.talked,
        trigger_mode="multiple",  # each press counts
        api_name="act_on_turn",
        **_QUIET,
    )
    page.chats.pick(
        handler(page.open_chat),
        None,
        page.shown,
        trigger_mode="always_last",
        api_name="open_chat",
        **_QUIET,
    )
    page.new.click(handler(page.new_chat), None, page.shown, api_name="new_chat", **_QUIET).success(
        None, None, None, js=_FOCUS % "chat-message", api_visibility="private"
    )
    page.delete_now.click(handler(page.delete_chat), page.opened, page.shown, api_name="delete_chat", **_QUIET)


def _wire_chats(page: _Page) -> None:
    page.rename.click(handler(page.ask_title), page.opened, page.title, api_name="ask_title", **_QUIET).success(
        None, None, None, js=_FOCUS % "chat-title", api_visibility="private"
    )
    page.title.submit(
        handler(page.rename_chat), [page.opened, page.title], page.listed, api_name="rename_chat", **_QUIET
    )
    ask_twice(page.delete, page.delete_now)
    # Outside the queue: these come right before somebody presses Enter or Send, and when the queue has just run empty,
    # Gradio's page closes the line on which the answer to that would come.
    aside: dict[str, Any] = {"queue": False, **_QUIET}
    gr.on(
        [page.model.input, page.system.blur],
        handler(page.keep_terms),
        [page.opened, page.model, page.system],
        None,
        api_name="keep_terms",
        **aside,
    )
    page.model.change(handler(page.where_words), page.model, page.where, api_name="where_text_goes", **aside)
    page.message.change(
        handler(page.keep_words), page.message, None, trigger_mode="always_last", api_name="keep_words", **aside
    )


# -- for scripts -----------------------------------------------------------------------------------------------------


def _serve(page: _Page) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store = page.store

    def list_chats(request: gr.Request) -> list[dict[str, Any]]:
        """Your chats, the one talked in last first."""
        return [asdict(chat) for chat in store.chats(user_of(request), _CHATS_SHOWN)]

    def read_chat(request: gr.Request, chat: int, turn: int = 0) -> list[dict[str, Any]]:
        """The turns along the path through `turn`, or through the newest one."""
        thread = read(store, page._own(chat, user_of(request)).id, turn or None)
        return [{**asdict(step.turn), "siblings": list(step.siblings)} for step in thread.steps]

    async def say_in_chat(
        request: gr.Request,
        text: str,
        chat: int = 0,
        after: int = 0,
        model: str = "",
        system_line: str = "",
        sampling: dict[str, Any] | None = None,
        left_out: int = 0,
    ) -> dict[str, Any]:
        """Ask after an answer (or in a new chat) and wait for what is said. Where the conversation is too long for the
        model, nothing is asked and `held` says why: allow `left_out` of the oldest questions, or shorten it."""
        by = user_of(request)
        terms = Terms(ModelRef(model or str(EMBEDDED)), system_line, fill_in(Sampling, sampling or {}))
        wanted = Wanted("say", after or None, text, chat or None, left_out)
        going, found = await page.talks.begin(wanted, terms, by)
        if going is None:
            return {"held": found.sentence, "left_out": found.left_out}
        await asyncio.wait({going.task})
        if going.answer is None:
            raise InputError(going.trouble or "The answer was stopped before its first word.")
        return {"chat": going.question.chat_id, "question": going.question.id, "answer": asdict(going.answer)}

    for fn in (list_chats, read_chat, say_in_chat):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


# -- words and small parts ---------------------------------------------------------------------------------------------

_KEYS = '<span class="keys">Enter sends, Shift+Enter starts a new line.</span>'
_ANYWAY = "Send without the first ones"
# Unless somebody has gone on to another field meanwhile.
_FOCUS = (
    "() => setTimeout(() => { if (document.activeElement?.matches('input, textarea')) return; "
    "const box = document.querySelector('#%s :is(textarea, input)'); box?.focus(); box?.select(); }, 50)"
)

# The words of a growing answer go to the conversation (assets/chat.js), which shows them where the answer will stand.
_TELL_TALK = """
const tell = () => document.querySelector('#talk .talk')?.dispatchEvent(
  new CustomEvent('grown', { bubbles: true, detail: props.value ?? '' }));
watch('value', tell);
"""


def _turn(step: Step, *, waits: bool, left: str) -> dict[str, Any]:
    """A turn as assets/chat.js paints it."""
    turn = step.turn
    return {
        "id": turn.id,
        "isQuestion": turn.is_question,
        "who": "You" if turn.is_question else turn.model,
        "text": turn.content,
        "facts": "" if turn.is_question else _facts(turn),
        "left": left,
        "place": step.place,
        "of": len(step.siblings),
        "before": step.before,
        "after": step.after,
        "kept": turn.kept_at is not None,
        "waits": waits,
    }


def _facts(turn: Turn) -> str:
    ended = _ENDED.get(turn.finish, turn.finish)
    return f"{turn.prompt_tokens:,} + {turn.output_tokens:,} tokens · {turn.seconds:.1f} s · {ended}"


def _painted(value: Mapping[str, Any]) -> str:
    """JSON as text. Gradio's page changes the objects of a stream in place, also those that it shows already."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")  # no tag, wherever it ends up


def _tail(going: Answering) -> str:
    """What travels while an answer grows: who gives it, and on the next line its words, escaped as in JSON.

    The longer text begins with the shorter one, so Gradio sends only what was added.
    """
    text = going.partial.text
    note = "answering" if text else "reading the question"
    told = {"chat": going.question.chat_id, "who": str(going.ref), "left": going.left, "note": note}
    return f"{_painted(told)}\n{json.dumps(text)[1:-1]}".replace("<", "\\u003c")


def _fit_said(found: Fit) -> str:
    """What to know about what was sent."""
    if found.left_out:
        what = "question and its answer" if found.left_out == 1 else f"{found.left_out} questions and their answers"
        return notice(f"Sent without the first {what}.")
    return notice(found.sentence) if found.sentence else ""


def _chat_cell(chat: Chat) -> str:
    title = html.escape(chat.title or "Chat without a title")
    return f'<b class="clamp">{title}</b><span class="quiet">{html.escape(chat.model)}</span>'


def _held(text: str) -> Wanted:
    try:
        told = json.loads(text or "{}")
        return Wanted(str(told["do"]), told["turn"], str(told["text"]), told["chat"], int(told["left_out"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError("Nothing waits to be sent. Write a message, and press Send.") from None


def _number(text: Any, what: str) -> int:
    if not str(text).strip().isdecimal():
        raise InputError(f"'{text}' is not the number of a {what}. Reload the page.")
    return int(text)


def _number_or_none(text: Any) -> int | None:
    return int(text) if str(text or "").strip().isdecimal() else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _row(outputs: Sequence[Any], shown: Mapping[Any, Any]) -> list[Any]:
    """Values in the order of a listener's outputs; what is not shown anew stays as it is."""
    return [shown.get(widget, gr.skip()) for widget in outputs]
