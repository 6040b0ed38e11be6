"""Stanford Alpaca: instruction, input, output; earlier turns as LLaMA-Factory has them, in `history` and `system`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.formats.base import as_text
from studio.instructions.shapes.base import (
    Exportable,
    RowError,
    Shape,
    extras_in,
    extras_of,
    read_turns,
    turns_of,
)

__all__ = ["Alpaca"]


class Alpaca(Shape):
    name = "alpaca"
    title = "Alpaca"
    explains = "instruction, input, output. Earlier turns stand in `history` as pairs, and a system text in `system`."
    rank = 50
    places: ClassVar[Mapping[str, str]] = {
        "instruction": "instruction",
        "context": "input",
        "response": "output",
        "turns": "history",
    }
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("instruction", "input", "output", "system", "history", "category"), ()),
        "turns": ("role", "content"),
        "licence": (),
        "source": (),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return {"instruction", "output"} <= set(columns) and "response" not in columns

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if row.get("turns"):
            return {**read_turns(turns_of(row["turns"], "turns"), "turns"), **extras_of(row)}
        fields = {
            "instruction": as_text(row.get("instruction")),
            "context": as_text(row.get("input")),
            "response": as_text(row.get("output")),
        }
        system, earlier = as_text(row.get("system")), _pairs(row.get("history"))
        if not system and not earlier:
            return {**fields, **extras_of(row)}
        question = "\n\n".join(filter(None, (fields["instruction"], fields["context"])))
        turns = [{"role": "system", "content": system}] if system else []
        for asked, answered in [*earlier, (question, fields["response"])]:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return {**read_turns(turns, "history"), **extras_of(row)}

    def write(self, record: Exportable) -> dict[str, Any]:
        extras = extras_in(record, "category", "licence", "source")
        if not record.turns:
            return {
                "instruction": record.instruction,
                "input": record.context,
                "output": record.response,
                **extras,
            }
        system = [t["content"] for t in record.turns[:1] if t["role"] == "system"]
        said = record.turns[len(system) :]
        asked, answered = said[::2], said[1::2]
        takes_turns = all(t["role"] == "user" for t in asked) and all(t["role"] == "assistant" for t in answered)
        if not takes_turns:  # pairs cannot say it
            row = {"instruction": record.instruction, "input": "", "output": record.response}
            return {**row, "turns": record.turns, **extras}
        pairs = [[q["content"], a["content"]] for q, a in zip(asked, answered, strict=True)]
        row = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1]}
        more: dict[str, Any] = {"system": "".join(system), "history": pairs[:-1]}
        return {**row, **{name: value for name, value in more.items() if value}, **extras}


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Question and answer of each earlier turn; a list, or in a table its JSON text."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError("history", "The history is no list of pairs of a question and its answer.") from error
    if not value:
        return []
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise RowError("history", "The history is no list of pairs of a question and its answer.")
    return [(as_text(asked), as_text(answered)) for asked, answered in value]
