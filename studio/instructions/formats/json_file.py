"""JSON: a list of objects, an object that holds such a list, or objects one after another. Read in a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from studio.errors import InputError
from studio.instructions.formats.base import LARGEST_ROW, Cut, Format, Layout, Row, Source, rejected
from studio.instructions.formats.json_lines import is_rows_key, object_row, rejected_json
from studio.instructions.formats.texts import encoding_of, opening_of

__all__ = ["Json"]

_CHUNK = 1 << 18
_AHEAD = 4096
_SPACE = re.compile(r"\s*")
# Whole strings and brackets; a quote alone opens a string that does not end. Possessive, so that a string of millions
# of characters leaves nothing to come back to.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|["{}\[\]]', re.S)
_SCALAR = re.compile(r"[^\s,\]}]*")
_LIST_OF_OBJECTS = re.compile(r"\[\s*(\{[^}]*)")


class Json(Format):
    name = "json"
    title = "JSON"
    suffixes = (".json",)
    rank = 60

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        encoding = encoding_of(source, wanted.encoding)
        is_json = opening_of(source, encoding)[0] in "{["
        return Layout(format="json", encoding=encoding) if is_json else None

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        with source.text(layout.encoding) as file:
            yield from _Rows(file, layout.encoding).all()

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            between = "[\n"
            for row in rows:
                file.write(between + json.dumps(row, ensure_ascii=False))
                between = ",\n"
            file.write("\n]\n" if between == ",\n" else "[]\n")


class _Broken(Exception):
    """A value that ends but is no JSON."""

    def __init__(self, error: Exception, text: str) -> None:
        super().__init__(str(error))
        self.error, self.text = error, text


class _Window:
    """The part of the text that is looked at, moved along as values are taken from it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next sign that is no white space; '' at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        self._at += 1

    def opens_rows(self) -> bool:
        """Whether a list of rows comes next."""
        while len(self._text) - self._at < _AHEAD and self._more():
            pass
        found = _LIST_OF_OBJECTS.match(self._text, self._at)
        return found is not None and is_rows_key(found[1])

    def value(self) -> tuple[Any, str]:
        """The next value and its text. Raises _Broken for one that is whole but wrong, and Cut for half a one."""
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                found = self._end()
                if found is not None:
                    text, self._at = self._text[self._at : found], found
                    raise _Broken(_relative(error, found - len(text)), text) from error
                if len(self._text) - self._at > LARGEST_ROW:
                    raise Cut("The row is too long to be read, and with it what follows. Shorten it.") from error
                if not self._more():
                    raise Cut("The file ends in the middle of this row. Get it whole, and import it again.") from error
            else:
                # A number at the end of what was read may go on.
                if end < len(self._text) or self._text[end - 1] in '}]"' or not self._more():
                    text, self._at = self._text[self._at : end], end
                    return value, text

    def rest(self) -> str:
        return self._text[self._at :]

    def _more(self) -> bool:
        # Twice as much each time, so that a long value is not scanned over and over.
        kept = self._text[self._at :]
        chunk = self._file.read(max(_CHUNK, len(kept)))
        self._text, self._at = kept + chunk.replace("\x00", ""), 0
        return bool(chunk)

    def _end(self) -> int | None:
        """Where the value that begins here ends, judged by its brackets; None when that is not in sight."""
        if self._text[self._at] not in '{["':
            scalar = _SCALAR.match(self._text, self._at)
            end = max(scalar.end() if scalar else 0, self._at + 1)
            return end if end < len(self._text) else None
        depth = 0
        for token in _TOKEN.finditer(self._text, self._at):
            sign = token[0]
            if sign == '"':
                return None
            depth += (sign in ("{", "[")) - (sign in ("}", "]"))
            if depth <= 0:
                return token.end()
        return None


class _Rows:
    """The rows in a window, numbered."""

    def __init__(self, file: TextIO, encoding: str) -> None:
        self._window, self._encoding = _Window(file), encoding
        self._number = 0

    def all(self) -> Iterator[tuple[int, Row]]:
        try:
            if self._window.peek() == "[":
                self._window.skip()
                yield from self._items("]")
            else:
                yield from self._opening_object()
        except Cut as error:
            self._number += 1
            yield self._number, rejected(self._number, "", str(error), self._window.rest())

    def _items(self, close: str) -> Iterator[tuple[int, Row]]:
        while (sign := self._window.peek()) != close:
            if not sign:
                raise Cut("The file ends before its list does, so rows may be missing. Get it whole.")
            if sign == ",":
                self._window.skip()
            else:
                yield self._next()

    def _next(self) -> tuple[int, Row]:
        try:
            value, text = self._window.value()
        except _Broken as broken:
            self._number += 1
            return self._number, rejected_json(self._number, broken.error, broken.text, "row")
        self._number += 1
        return self._number, object_row(self._number, value, text, self._encoding, "row")

    def _opening_object(self) -> Iterator[tuple[int, Row]]:
        """Walk into the first object up to a list of rows; without one it is itself a row, and so may others be."""
        window = self._window
        row: dict[str, Any] = {}
        window.skip()
        while (sign := window.peek()) != "}":
            if sign == ",":
                window.skip()
                continue
            try:
                key, _ = window.value()
                if window.peek() != ":" or not isinstance(key, str):
                    raise InputError("The file is not JSON: a name and ':' are expected in its first object.")
                window.skip()
                if window.peek() == "[" and window.opens_rows():
                    window.skip()
                    yield from self._items("]")  # what stands beside the list says something about it, not a row
                    return
                row[key], _ = window.value()
            except _Broken as broken:
                raise InputError(f"The file is not JSON in its first object ({broken}).") from broken
        window.skip()
        self._number += 1
        yield self._number, object_row(self._number, row, json.dumps(row), self._encoding, "row")
        yield from self._items("")


def _relative(error: Exception, start: int) -> Exception:
    """The error with its position counted from where the value begins."""
    if isinstance(error, json.JSONDecodeError):
        return json.JSONDecodeError(error.msg, error.doc[start:], max(0, error.pos - start))
    return error
