"""ShareGPT: `conversations` of turns with `from` (human, gpt, system) and `value`, or with a role and a content."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.formats.base import as_text
from studio.instructions.shapes.base import Exportable, Shape, extras_in, objects_in, said_in_a_record, turns_of
from studio.instructions.shapes.openai_chat import EXTRAS, conversation_fields

__all__ = ["ShareGpt"]

_COLUMNS = ("conversations", "conversation")
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


class ShareGpt(Shape):
    name = "sharegpt"
    title = "ShareGPT"
    explains = "`conversations` with who it is from (human, gpt, system) and a value each."
    rank = 20
    places: ClassVar[Mapping[str, str]] = dict.fromkeys(("instruction", "response", "turns"), "conversations")
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "conversations": ("from", "value"),
        "category": (),
        "context": (),
        "licence": (),
        "source": (),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        firsts = [turns[0] for row in rows if (turns := objects_in(row.get(_column(row))))]
        return any("from" in turn or "role" in turn for turn in firsts)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        column = _column(row)
        turns = turns_of(row.get(column), column)
        system = as_text(row.get("system"))
        if system and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": system}, *turns]
        return conversation_fields(row, turns, column)

    def write(self, record: Exportable) -> dict[str, Any]:
        said = [{"from": _SPEAKERS[turn["role"]], "value": turn["content"]} for turn in said_in_a_record(record)]
        return {"conversations": said, **extras_in(record, *EXTRAS)}


def _column(row: Mapping[str, Any]) -> str:
    return next((column for column in _COLUMNS if column in row), _COLUMNS[0])
