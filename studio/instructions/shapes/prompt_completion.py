"""Prompt and completion: texts, or TRL's lists of messages.

Written as two shapes, since the columns of one file must be of one type for TRL and `datasets`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.formats.base import as_text
from studio.instructions.shapes.base import (
    Exportable,
    RowError,
    Shape,
    extras_in,
    extras_of,
    objects_in,
    said_in_a_record,
    turns_of,
    without_context,
)
from studio.instructions.shapes.openai_chat import EXTRAS, conversation_fields

__all__ = ["PromptCompletion", "PromptCompletionChat"]


class PromptCompletion(Shape):
    name = "prompt_completion"
    title = "Prompt and completion"
    explains = "`prompt` and `completion` as plain texts. Cannot hold conversations of several turns."
    rank = 40
    places: ClassVar[Mapping[str, str]] = {"instruction": "prompt", "response": "completion"}
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("prompt", "completion", "category", "context", "licence", "source"), ()
    )

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return {"prompt", "completion"} <= set(columns)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        asked = without_context(as_text(row.get("prompt")), row)
        return {**asked, "response": as_text(row.get("completion")), **extras_of(row)}

    def write(self, record: Exportable) -> dict[str, Any]:
        if record.turns:
            raise RowError(
                "turns",
                f"Record {record.id} is a conversation of several turns, which '{self.title}' cannot hold. "
                f"Choose '{PromptCompletionChat.title}', or leave such records out.",
            )
        prompt, completion = (turn["content"] for turn in said_in_a_record(record))
        return {"prompt": prompt, "completion": completion, **extras_in(record, *EXTRAS)}


class PromptCompletionChat(Shape):
    name = "prompt_completion_chat"
    title = "Prompt and completion, as messages"
    explains = "`prompt` and `completion` as lists of messages, the conversational form of TRL."
    rank = 30
    places: ClassVar[Mapping[str, str]] = {"instruction": "prompt", "response": "completion", "turns": "prompt"}
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "prompt": ("role", "content"),
        "completion": ("role", "content"),
        **dict.fromkeys(("category", "context", "licence", "source"), ()),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return any(all(_are_messages(row.get(column)) for column in ("prompt", "completion")) for row in rows)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        turns = [*turns_of(row.get("prompt"), "prompt"), *turns_of(row.get("completion"), "completion")]
        return conversation_fields(row, turns, "prompt")

    def write(self, record: Exportable) -> dict[str, Any]:
        *prompt, completion = said_in_a_record(record)
        return {"prompt": prompt, "completion": [completion], **extras_in(record, *EXTRAS)}


def _are_messages(value: Any) -> bool:
    """Rather than a text about JSON."""
    return any("role" in message or "from" in message for message in objects_in(value) or [])
