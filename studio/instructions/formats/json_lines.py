"""JSON Lines: an object a line, so that one broken line costs no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.instructions.formats.base import (
    LARGEST_CELL,
    Cut,
    Format,
    Layout,
    Row,
    Source,
    damaged,
    rejected,
)
from studio.instructions.formats.texts import Lines, LineTooLong, encoding_of, opening_of

__all__ = ["JsonLines", "is_rows_key", "object_row", "rejected_json"]

_TOO_LONG = f"The line is longer than {LARGEST_CELL >> 20} million characters. Shorten it."
_STRING = r'"(?:[^"\\]|\\.)*+"'
# An object whose first list holds objects, as {"version": 1, "data": [{...
_HOLDER = re.compile(
    rf"\{{\s*(?:{_STRING}\s*:\s*(?:{_STRING}|[\w.+-]+)\s*,\s*)*+{_STRING}\s*:\s*\[\s*(\{{[^}}]*)", re.S
)


class JsonLines(Format):
    name = "jsonl"
    title = "JSON Lines"
    suffixes = (".jsonl", ".ndjson")
    rank = 50

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        encoding = encoding_of(source, wanted.encoding)
        text = opening_of(source, encoding)
        if text.startswith("{") and (source.suffix in self.suffixes or _has_an_object_a_line(text)):
            return Layout(format="jsonl", encoding=encoding)
        return None

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        number = 0
        with source.text(layout.encoding) as file:
            lines = Lines(file)
            while True:
                try:
                    line = next(lines, None)
                except LineTooLong:
                    number += 1
                    yield number, rejected(number, "", _TOO_LONG)
                    continue
                except Cut as error:
                    yield number + 1, rejected(number + 1, "", str(error))
                    return
                if line is None:
                    return
                if line.isspace() or not line:
                    continue
                number += 1
                yield number, _row(number, line, layout.encoding)

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _row(number: int, line: str, encoding: str) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return rejected_json(number, error, line, "line")
    return object_row(number, value, line, encoding, "line")


def rejected_json(number: int, error: Exception, text: str, unit: str) -> Row:
    """Why text is no JSON; `unit` is what a row is called in this format."""
    if isinstance(error, json.JSONDecodeError):
        return rejected(number, "", f"The {unit} is not JSON ({error.msg} at character {error.pos}).", text)
    # a number of thousands of digits, or lists thousands deep
    return rejected(number, "", f"The {unit} is JSON of a size that cannot be read. Shorten it.", text)


def object_row(number: int, value: Any, text: str, encoding: str, unit: str) -> Row:
    """The object that `text` was decoded to, or why it is no row."""
    if not isinstance(value, dict):
        return rejected(number, "", f"The {unit} is not a JSON object with named fields.", text)
    # Damage comes with bytes that are not ASCII or with an escape such as \\ud83d; most lines have neither.
    if (not text.isascii() or "\\u" in text) and (column := damaged(value)) is not None:
        reason = f"The cell holds bytes that are not {encoding} text. Save the file as UTF-8."
        return rejected(number, column, reason, text)
    return value


def is_rows_key(opening: str) -> bool:
    """Whether a list that opens with this object holds rows, rather than the turns of one conversation."""
    return not re.search(r'"(?:role|from)"\s*:', opening)


def _has_an_object_a_line(text: str) -> bool:
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    try:
        first = json.loads(lines[0])
    except (ValueError, RecursionError):
        if len(lines) > 1:
            return lines[1].lstrip().startswith("{")
        holder = _HOLDER.match(text)  # the line is broken, or longer than what we look at
        return not (holder and is_rows_key(holder[1]))
    # One line: a row, or a whole file that was written without line breaks.
    return len(lines) > 1 or not any(_are_rows(value) for value in first.values())


def _are_rows(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return is_list and not {"role", "from"} & set(value[0])
