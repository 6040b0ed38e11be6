"""What every shape of rows does: tell whether rows have it, make a record's fields of a row, and a row of a record."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from studio.errors import InputError
from studio.instructions.conversations import checked_turns, fields_of_turns
from studio.instructions.formats.base import as_text

__all__ = [
    "OMITTED",
    "Exportable",
    "RowError",
    "Shape",
    "extras_in",
    "extras_of",
    "objects_in",
    "read_turns",
    "said_in_a_record",
    "turns_of",
    "without_context",
]

# Beside a record's fields: how many values of the row are in none of them.
OMITTED = "omitted"

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_OF_TOOLS = ("tool_calls", "function_call")


class Exportable(Protocol):
    """What a shape asks of a record."""

    @property
    def id(self) -> int: ...
    @property
    def instruction(self) -> str: ...
    @property
    def context(self) -> str: ...
    @property
    def response(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def turns(self) -> list[dict[str, str]] | None: ...
    @property
    def licence(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def split(self) -> str: ...


class RowError(InputError):
    """A row that has the shape but cannot become a record; `column` is where it fails."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


class Shape(ABC):
    """One schema of rows. A new one is a file in this folder with a class; no list has to be kept.

    What a schema has no place for is carried under keys of ours, which other tools leave alone: `category`,
    `licence`, `source`, the `context` that a question ends with, and the `turns` of a conversation.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    explains: ClassVar[str]
    # Asked in this order; where a file has two shapes, that which tells more (a conversation) comes first.
    rank: ClassVar[int]
    # Which column each field is read from, to say where a row fails.
    places: ClassVar[Mapping[str, str]]
    # Every column that is written; those of lists with the keys of the objects in them.
    columns: ClassVar[Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def recognises(self, columns: Collection[str], rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these columns, with these first rows, have the shape."""

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Instruction, context, response, category, and `turns`, `licence`, `source` and OMITTED where there are any.

        Raises RowError.
        """

    @abstractmethod
    def write(self, record: Exportable) -> dict[str, Any]:
        """The row of a record. What is empty and has no place in the schema is left out."""


# -- reading -------------------------------------------------------------------------------------------------


def objects_in(value: Any) -> list[dict[str, Any]] | None:
    """The objects of a list, which in a table is JSON text; None for anything else."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    return None


def turns_of(value: Any, column: str) -> list[dict[str, str]]:
    """The turns in a column, whichever names a tool has for who says what. Raises RowError for what is no text."""
    said = objects_in(value)
    if said is None:
        reason = (
            "The conversation is empty." if not value else "The cell is no list of turns with a role and a content."
        )
        raise RowError(column, reason)
    return [_turn(number, turn, column) for number, turn in enumerate(said, 1)]


def read_turns(turns: list[dict[str, str]], column: str) -> dict[str, Any]:
    """The fields of a conversation. Raises RowError for one that teaches nothing."""
    try:
        return fields_of_turns(checked_turns(turns))
    except InputError as error:
        raise RowError(column, str(error)) from error


def extras_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that most schemas have no place for."""
    found = {"category": as_text(row.get("category"))}
    for field, names in (("licence", ("licence", "license")), ("source", ("source",))):
        text = next((text for name in names if (text := as_text(row.get(name)))), "")
        if text:
            found[field] = text
    return found


def without_context(question: str, row: Mapping[str, Any]) -> dict[str, str]:
    """Instruction and context of a question that ends with the context, as `question` in records puts them together."""
    context = as_text(row.get("context"))
    if context and question.endswith(f"\n\n{context}"):
        return {"instruction": question[: -len(context) - 2], "context": context}
    return {"instruction": question, "context": ""}


def _turn(number: int, turn: dict[str, Any], column: str) -> dict[str, str]:
    said, by = turn.get("content"), turn.get("role")
    if len(turn) == 2 and isinstance(said, str) and isinstance(by, str) and by in _ROLES:
        return {"role": _ROLES[by], "content": said}  # as nearly all are, and none of what follows can apply
    named = as_text(turn.get("role") or turn.get("from"))
    role = _ROLES.get(named.strip().casefold())
    if role is None:
        raise RowError(column, f"Turn {number} is by '{named}', which a record cannot hold. Leave the row out.")
    used = next((key for key in _OF_TOOLS if turn.get(key)), "")
    if used:
        raise RowError(column, f"Turn {number} calls a tool ({used}), which a record cannot hold. Leave the row out.")
    if turn.get("weight") in (0, "0"):
        raise RowError(column, f"Turn {number} is marked as not to be learned, which a record cannot hold.")
    # OpenAI's way to show examples in front: the system says what somebody in an example says.
    example = str(turn.get("name") or "")
    if role == "system" and example in ("example_user", "example_assistant"):
        role = example.removeprefix("example_")
    content = next((turn[key] for key in ("content", "value", "text") if turn.get(key) is not None), None)
    return {"role": role, "content": _content(number, content, column)}


def _content(number: int, content: Any, column: str) -> str:
    if not isinstance(content, list):
        return as_text(content)
    if any(not isinstance(part, dict) or part.get("type") not in ("text", "input_text") for part in content):
        raise RowError(column, f"Turn {number} holds more than text, which a record cannot. Leave the row out.")
    return "".join(as_text(part.get("text")) for part in content)


# -- writing -------------------------------------------------------------------------------------------------


def said_in_a_record(record: Exportable) -> list[dict[str, str]]:
    """Everything that is said: the turns, or the question with its context and the answer."""
    if record.turns:
        return [{"role": turn["role"], "content": turn["content"]} for turn in record.turns]
    question = f"{record.instruction}\n\n{record.context}" if record.context else record.instruction
    return [{"role": "user", "content": question}, {"role": "assistant", "content": record.response}]


def extras_in(record: Exportable, *names: str) -> dict[str, Any]:
    """Those fields of the record that are not empty."""
    return {name: value for name in names if (value := getattr(record, name))}
