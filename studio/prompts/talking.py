"""Answers on their way in chats: begun in the background, watched from any page, kept as turns.

A question that was sent is asked, and what was said of an answer is kept, whatever becomes of the page that asked.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from studio.backends import Partial, side_by_side
from studio.errors import Conflict, InputError, StudioError
from studio.models.endpoints import whereabouts
from studio.prompts.chat import Fit, ask, edit, fit, question_of, record
from studio.specs import Chunk, Completion, Message, ModelRef, Sampling, assistant, system, user
from studio.store import Chat, Turn

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["Answering", "Talks", "Terms", "Wanted"]

log = logging.getLogger(__name__)

_PACE = 0.05  # a page gains nothing from more than 20 updates a second


@dataclass(frozen=True)
class Wanted:
    """What is to be answered: something new after answer `turn`, question `turn` in other words, or `turn` once more.

    `left_out` is how many of the oldest questions may be left out, as somebody allowed.
    """

    do: str  # say, edit or again
    turn: int | None
    text: str = ""
    chat: int | None = None
    left_out: int = 0


@dataclass(frozen=True)
class Terms:
    """How the next answer is to be given."""

    ref: ModelRef
    system: str
    sampling: Sampling


class Answering:
    """An answer on its way, which its owner may watch from any page. What was said of it ends as a turn."""

    def __init__(
        self, question: Turn, ref: ModelRef, left: str, stream: AsyncIterator[Chunk], keep: Callable[[Completion], Turn]
    ) -> None:
        self.question, self.ref = question, ref
        self.left = left  # the sentence that says where the text goes, if it leaves this machine
        self.partial = Partial()
        self.answer: Turn | None = None
        self.trouble = ""
        self._keep = keep
        self.task = asyncio.create_task(self._grow(stream))

    async def _grow(self, stream: AsyncIterator[Chunk]) -> None:
        try:
            async for [self.partial] in side_by_side([stream]):
                pass
        finally:  # stopped, broken off or whole
            self.trouble = self.partial.error
            if self.partial.text or self.partial.finish:
                self._record()

    def _record(self) -> None:
        try:
            self.answer = self._keep(self.partial.completion)
        except StudioError as error:  # its chat was deleted meanwhile, or the disk refuses
            self.trouble = str(error)
            log.warning("An answer in chat %s could not be recorded: %s", self.question.chat_id, error)

    async def watched(self) -> AsyncIterator[Partial]:
        """It as it grows. Whoever looks away does not stop it."""
        seen = None
        while not self.task.done():
            if self.partial is not seen:
                seen = self.partial
                yield seen
            await asyncio.wait({self.task}, timeout=_PACE)

    async def stop(self) -> None:
        """End it within a token; what was said until then is kept."""
        self.task.cancel()
        await asyncio.wait({self.task})

    def check(self) -> None:
        """Raise what nobody expected, for the log."""
        if self.task.done() and not self.task.cancelled():
            self.task.result()


class Talks:
    """The chats of a workspace that are being answered: one answer at a time in each."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._store = workspace, workspace.store
        self._answers: dict[int, Answering] = {}  # by chat
        self._beginning: set[asyncio.Task[Any]] = set()  # the event loop alone would forget them

    def own_chat(self, chat: int, by: str) -> Chat:
        """The chat, if it is this person's: what people try out is not for their colleagues. Raises InputError."""
        found = self._store.chat(chat)
        if found.author != by:
            raise InputError(f"Chat {found.id} is somebody else's. Open one of your own, or start a new chat.")
        return found

    def own_turn(self, turn: int, by: str) -> Turn:
        """The turn, if its chat is this person's. Raises InputError."""
        found = self._store.turn(turn)
        self.own_chat(found.chat_id, by)
        return found

    def leaves(self, model: str) -> str:
        """The sentence that says where text for a model goes; empty where it stays on this machine."""
        try:
            found = whereabouts(ModelRef(model), self._store)
        except StudioError:  # an endpoint that was removed since: where it was is not known any more
            return ""
        return found.sentence if found.leaves else ""

    def begin(self, wanted: Wanted, terms: Terms, by: str) -> asyncio.Task[tuple[Answering | None, Fit]]:
        """Ask. The task goes on when nobody waits for it, however long a model takes to load, and gives the answer on its
        way, or None where the conversation does not fit and nobody allowed to cut it. Raises StudioError."""
        task = asyncio.create_task(self._begin(wanted, terms, by))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        return task

    def going(self, chat: int) -> Answering | None:
        """The answer that grows in a chat, if there is one."""
        going = self._answers.get(chat)
        return going if going is not None and not going.task.done() else None

    def _over(self, going: Answering) -> None:
        if self._answers.get(going.question.chat_id) is going:
            del self._answers[going.question.chat_id]

    async def _begin(self, wanted: Wanted, terms: Terms, by: str) -> tuple[Answering | None, Fit]:
        chat = self._chat_of(wanted, by)
        # The store says the same, but only after an empty chat was started.
        if wanted.do != "again" and not wanted.text.strip():
            raise InputError("The question is empty. Write what the model should answer.")
        if terms.ref.kind in ("embedded", "run", "dir"):
            self._workspace.weights(terms.ref, wait=False)  # while it converts, a sentence says how far it is
        backend = self._workspace.backend(terms.ref)
        if chat is not None and (chat.system, chat.model) != (terms.system, str(terms.ref)):
            self._store.change_chat(chat.id, system=terms.system, model=terms.ref)
        found = await fit(backend, self._conversation(wanted, terms), terms.sampling)
        if found.left_out > wanted.left_out:
            return None, found
        if chat is not None and self.going(chat.id) is not None:
            raise Conflict("An answer is on its way in this chat. Wait for it, or press Stop.")
        stream = backend.stream(found.messages, terms.sampling)  # a model that cannot is refused before it is written
        question = self._put(wanted, chat, terms, by)
        keep = partial(
            record,
            self._store,
            question.id,
            terms.ref,
            ticket=secrets.token_hex(8),
            messages=found.messages,
            sampling=terms.sampling,
            author=by,
        )
        left = self.leaves(str(terms.ref))
        going = self._answers[question.chat_id] = Answering(question, terms.ref, left, stream, keep)
        going.task.add_done_callback(lambda _: self._over(going))
        return going, found

    def _chat_of(self, wanted: Wanted, by: str) -> Chat | None:
        if wanted.turn is None:
            return self.own_chat(wanted.chat, by) if wanted.chat else None
        turn = self.own_turn(wanted.turn, by)
        if wanted.do == "say" and turn.is_question:
            raise InputError("The last question has no answer yet. Press “Have it answered”, or edit it.")
        return self._store.chat(turn.chat_id)

    def _conversation(self, wanted: Wanted, terms: Terms) -> list[Message]:
        """What would be sent, before anything is written."""
        if wanted.turn is None:
            return [*([system(terms.system)] if terms.system.strip() else []), user(wanted.text)]
        before = question_of(self._store, wanted.turn).messages
        if wanted.do == "again":
            return before
        said = before[:-1] if wanted.do == "edit" else [*before, assistant(self._store.turn(wanted.turn).content)]
        return [*said, user(wanted.text)]

    def _put(self, wanted: Wanted, chat: Chat | None, terms: Terms, by: str) -> Turn:
        """The question as a turn."""
        if wanted.do == "edit" and wanted.turn is not None:
            return edit(self._store, wanted.turn, wanted.text, author=by)
        if wanted.do == "again" and wanted.turn is not None:
            return question_of(self._store, wanted.turn).turns[-1]
        chat = chat or self._store.start_chat(terms.ref, author=by, system=terms.system)
        return ask(self._store, chat.id, wanted.text, after=wanted.turn, author=by)
