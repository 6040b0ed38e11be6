"""OpenAI's evals: what the model is told under `input`, and the answer that counts as right under `ideal`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.formats.base import as_text
from studio.instructions.shapes.base import (
    OMITTED,
    Exportable,
    Shape,
    extras_in,
    objects_in,
    said_in_a_record,
    turns_of,
)
from studio.instructions.shapes.openai_chat import EXTRAS, conversation_fields

__all__ = ["Evals"]


class Evals(Shape):
    name = "evals"
    title = "OpenAI evals"
    explains = "`input` as messages or a text, `ideal` as the answer. Of several ideals the first is taken."
    rank = 45
    places: ClassVar[Mapping[str, str]] = {"instruction": "input", "response": "ideal", "turns": "input"}
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "input": ("role", "content"),
        **dict.fromkeys(("ideal", "category", "context", "licence", "source"), ()),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return {"input", "ideal"} <= set(columns)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        told = row.get("input")
        asked = turns_of(told, "input") if objects_in(told) else [{"role": "user", "content": as_text(told)}]
        if not any(turn["role"] == "user" for turn in asked):
            # Many sets put the whole task into one system message.
            asked = [{**turn, "role": "user"} if turn is asked[-1] else turn for turn in asked]
        ideal, omitted = _first(row.get("ideal"))
        fields = conversation_fields(row, [*asked, {"role": "assistant", "content": ideal}], "ideal")
        return {**fields, OMITTED: omitted + fields.get(OMITTED, 0)} if omitted else fields

    def write(self, record: Exportable) -> dict[str, Any]:
        *told, answer = said_in_a_record(record)
        return {"input": told, "ideal": answer["content"], **extras_in(record, *EXTRAS)}


def _first(ideal: Any) -> tuple[str, int]:
    """The first of the right answers, and how many others there are."""
    if isinstance(ideal, list) and ideal:
        return as_text(ideal[0]), len(ideal) - 1
    return as_text(ideal), 0
