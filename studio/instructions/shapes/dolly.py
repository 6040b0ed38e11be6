"""databricks-dolly-15k: instruction, context, response, category. The studio's own schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from studio.instructions.formats.base import as_text
from studio.instructions.shapes.base import Exportable, Shape, extras_in, extras_of, read_turns, turns_of

__all__ = ["Dolly"]


class Dolly(Shape):
    name = "dolly"
    title = "Dolly"
    explains = "instruction, context, response, category: the studio's own columns. Conversations stand under `turns`."
    rank = 60
    places: ClassVar[Mapping[str, str]] = {
        "instruction": "instruction",
        "context": "context",
        "response": "response",
        "turns": "turns",
    }
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("instruction", "context", "response", "category"), ()),
        "turns": ("role", "content"),
        "licence": (),
        "source": (),
    }

    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        return {"instruction", "response"} <= set(columns)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if row.get("turns"):
            return {**read_turns(turns_of(row["turns"], "turns"), "turns"), **extras_of(row)}
        fields = {name: as_text(row.get(name)) for name in ("instruction", "context", "response")}
        return {**fields, **extras_of(row)}

    def write(self, record: Exportable) -> dict[str, Any]:
        fields = {n: getattr(record, n) for n in ("instruction", "context", "response", "category")}
        return {**fields, **extras_in(record, "turns", "licence", "source")}
