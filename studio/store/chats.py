"""Chats: trees of turns. Editing a question or asking again adds a sibling; what was said is never changed.

The path that people read ends at one leaf of the tree; studio/prompts/chat.py walks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from studio.errors import InputError, NotFound
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import tables as t
from studio.store.completions import completion_values
from studio.store.database import Database, conflict_is, now

__all__ = ["Chat", "ChatVerbs", "Turn"]

_LARGEST = 2**31 - 1  # what PostgreSQL's INTEGER holds
_GONE = conflict_is("This chat was deleted meanwhile. Open another one, or start a new one.")
_OF_ANSWERS = ("ticket", "model", "sampling", "finish", "prompt_tokens", "output_tokens", "seconds", "kept_at")


@dataclass(frozen=True)
class Chat:
    """A conversation with its branches; `model` answers next unless somebody chooses another."""

    id: int
    title: str
    model: str
    system: str
    author: str
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Turn:
    """One thing that was said, after `parent_id`. What stands below `created_at` is of answers only."""

    id: int
    chat_id: int
    parent_id: int | None
    role: Literal["user", "assistant"]
    content: str
    completion_id: int | None
    author: str
    created_at: float
    ticket: str = ""
    model: str = ""
    sampling: dict[str, Any] | None = None
    finish: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    kept_at: float | None = None

    @property
    def is_question(self) -> bool:
        return self.role == "user"


class ChatVerbs(Database):
    def start_chat(self, model: ModelRef, *, author: str, system: str = "", title: str = "") -> Chat:
        at = now()
        row = {
            "title": _storable(title),
            "model": str(model),
            "system": _storable(system),
            "author": author,
            "created_at": at,
            "updated_at": at,
        }
        with self._write() as c:
            key = c.execute(t.chats.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
        return Chat(id=key, **row)  # type: ignore[arg-type]

    def chats(self, author: str = "", limit: int = 50) -> list[Chat]:
        """Chats of everybody or of one author, the one talked in last first."""
        query = sa.select(t.chats).order_by(t.chats.c.updated_at.desc(), t.chats.c.id.desc()).limit(limit)
        if author:
            query = query.where(t.chats.c.author == author)
        with self._read() as c:
            return [Chat(**row) for row in c.execute(query).mappings()]

    def chat(self, chat_id: int) -> Chat:
        with self._read() as c:
            return _chat(c, chat_id)

    def change_chat(
        self, chat_id: int, *, title: str | None = None, system: str | None = None, model: ModelRef | None = None
    ) -> Chat:
        """Set what is given. Answers that are there keep the system line and the model they were given with."""
        given = {"title": title, "system": system, "model": model}
        changed = {name: _storable(str(value)) for name, value in given.items() if value is not None}
        with self._write() as c:
            _chat(c, chat_id)
            if changed:
                c.execute(t.chats.update().where(t.chats.c.id == chat_id).values(changed))
            return _chat(c, chat_id)

    def delete_chat(self, chat_id: int) -> None:
        """Remove a chat and all its turns. Its answers stay among the completions: kept ones remain listed."""
        with self._write() as c:
            _chat(c, chat_id)
            c.execute(t.turns.delete().where(t.turns.c.chat_id == chat_id))
            c.execute(t.chats.delete().where(t.chats.c.id == chat_id))

    def turns(self, chat_id: int) -> list[Turn]:
        """Every turn of every branch, in the order they were said; a parent always stands before its children."""
        with self._read() as c:
            _chat(c, chat_id)
            query = _turns().where(t.turns.c.chat_id == chat_id).order_by(t.turns.c.id)
            return [_turn(row) for row in c.execute(query).mappings()]

    def turn(self, turn_id: int) -> Turn:
        with self._read() as c:
            return _one_turn(c, turn_id)

    @_GONE
    def add_question(self, chat_id: int, after: int | None, content: str, *, author: str, title: str = "") -> Turn:
        """Say something after an answer (or at the start, where `after` is None); returns the new turn.

        A chat without a title gets this one. Raises InputError where it would not follow an answer of this chat.
        """
        content = _storable(content)
        if not content.strip():
            raise InputError("The question is empty. Write what the model should answer.")
        with self._write() as c:
            chat = _chat(c, chat_id)
            if after is not None:
                parent = _one_turn(c, after)
                if parent.chat_id != chat_id:
                    raise InputError(
                        f"Turn {after} is in chat {parent.chat_id}, not in chat {chat_id}. Reload the page."
                    )
                if parent.is_question:
                    raise InputError(f"Turn {after} waits for its own answer. Have it answered first, or edit it.")
            if not chat.title and title:
                c.execute(t.chats.update().where(t.chats.c.id == chat_id).values(title=_storable(title)))
            return _add_turn(c, chat_id, after, "user", content, author=author)

    @_GONE
    def add_answer(
        self,
        after: int,
        model: ModelRef,
        completion: Completion,
        *,
        ticket: str,
        variables: dict[str, str],
        messages: list[Message],
        sampling: Sampling,
        author: str,
    ) -> Turn:
        """Append an answer to a question, whole or stopped half-way, with the completion behind it; both or none.

        The same ticket again gives the first turn back, so that a page may say it twice.
        """
        with self._write() as c:
            query = _turns().where(t.completions.c.ticket == ticket)
            known = c.execute(query).mappings().first()
            if known is not None:
                return _turn(known)
            question = _one_turn(c, after)
            if not question.is_question:
                raise InputError(f"Turn {after} is an answer itself. Answer the question before it.")
            row = {
                **completion_values(model, completion, sampling),
                "ticket": ticket,
                "template": "",
                "variables": {name: _storable(value) for name, value in variables.items()},
                "messages": [m.model_dump() for m in messages],
                "author": author,
                "created_at": now(),
            }
            row["text"] = _storable(row["text"])
            key = c.execute(t.completions.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
            return _add_turn(c, question.chat_id, after, "assistant", row["text"], author=author, completion_id=key)


def _add_turn(
    c: sa.Connection,
    chat_id: int,
    after: int | None,
    role: str,
    content: str,
    *,
    author: str,
    completion_id: int | None = None,
) -> Turn:
    at = now()
    row = {
        "chat_id": chat_id,
        "parent_id": after,
        "role": role,
        "content": content,
        "completion_id": completion_id,
        "author": author,
        "created_at": at,
    }
    key = c.execute(t.turns.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
    c.execute(t.chats.update().where(t.chats.c.id == chat_id).values(updated_at=at))
    return _one_turn(c, key)


def _turns() -> sa.Select[Any]:
    """Turns, each answer with what made it."""
    facts = [t.completions.c[name] for name in _OF_ANSWERS]
    return sa.select(t.turns, *facts).outerjoin(t.completions, t.completions.c.id == t.turns.c.completion_id)


def _turn(row: sa.RowMapping) -> Turn:
    return Turn(**{name: value for name, value in row.items() if value is not None or name not in _OF_ANSWERS})


def _one_turn(c: sa.Connection, turn_id: int) -> Turn:
    row = None
    if 0 < turn_id <= _LARGEST:
        row = c.execute(_turns().where(t.turns.c.id == turn_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no turn {turn_id}. Reload the page: its chat may have been deleted.")
    return _turn(row)


def _chat(c: sa.Connection, chat_id: int) -> Chat:
    row = None
    if 0 < chat_id <= _LARGEST:
        row = c.execute(sa.select(t.chats).where(t.chats.c.id == chat_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no chat {chat_id}. It may have been deleted: open another one, or start a new one.")
    return Chat(**row)


def _storable(text: str) -> str:
    """Without what no database keeps: NUL, and half a character (a lone surrogate)."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
