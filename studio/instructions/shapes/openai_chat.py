"""OpenAI's chat format: a list of messages, each with a role and a content."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.shapes.base import (
    OMITTED,
    Exportable,
    RowError,
    Shape,
    extras_in,
    extras_of,
    objects_in,
    read_turns,
    said_in_a_record,
    turns_of,
    without_context,
)

__all__ = ["OpenAIChat"]


class OpenAIChat(Shape):
    name = "openai_chat"
    title = "OpenAI chat"
    explains = "`messages` with a role and a content each. Rows that call tools or hold pictures are listed, not taken."
    rank = 10
    places: ClassVar[Mapping[str, str]] = dict.fromkeys(("instruction", "response", "turns"), "messages")
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "messages": ("role", "content"),
        "category": (),
        "context": (),
        "licence": (),
        "source": (),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return "messages" in columns and any("role" in turn for turn in _first_turns(rows, "messages"))

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        offered = next((key for key in ("tools", "functions") if row.get(key) not in (None, "", [], "[]")), "")
        if offered:
            raise RowError(offered, "The conversation offers tools, which a record cannot hold. Leave the row out.")
        return conversation_fields(row, turns_of(row.get("messages"), "messages"), "messages")

    def write(self, record: Exportable) -> dict[str, Any]:
        return {"messages": said_in_a_record(record), **extras_in(record, *EXTRAS)}


EXTRAS = ("category", "context", "licence", "source")


def conversation_fields(row: Mapping[str, Any], turns: list[dict[str, str]], column: str) -> dict[str, Any]:
    """The fields of a row's conversation, the context taken out of the question again."""
    fields = read_turns(turns, column)
    if fields["turns"] is None:
        fields.update(without_context(fields["instruction"], row))
    if row.get("context") and not fields["context"]:
        fields[OMITTED] = 1  # the context of another tool, which no turn ends with
    return {**fields, **extras_of(row)}


def _first_turns(rows: Sequence[Mapping[str, Any]], column: str) -> list[dict[str, Any]]:
    return [turns[0] for row in rows if (turns := objects_in(row.get(column)))]
