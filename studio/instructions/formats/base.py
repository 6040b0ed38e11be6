"""What every container of rows does: tell whether a file is one, give its rows one by one, and write rows.

A file is never held whole: rows are read as they are asked for, and what is longer than a row may be is left out.
"""

from __future__ import annotations

import codecs
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from pydantic import BaseModel, ConfigDict

from studio.errors import InputError

__all__ = [
    "LARGEST_CELL",
    "LARGEST_LISTED",
    "LARGEST_ROW",
    "MOST_COLUMNS",
    "Cut",
    "File",
    "Format",
    "Layout",
    "Rejected",
    "Row",
    "Source",
    "as_text",
    "cells_of",
    "check_columns",
    "damaged",
    "rejected",
]

SAMPLE_BYTES = 1 << 18
_PIECE_BYTES = 1 << 13
LARGEST_CELL = 16 << 20  # characters
LARGEST_ROW = 2 * LARGEST_CELL
MOST_COLUMNS = 1000
# What a list of bad rows holds of each, so that a file of nothing else cannot fill the memory.
LARGEST_LISTED = 20_000
_DEEPEST = 4


@dataclass(frozen=True)
class Rejected:
    """A row that was left out: its number in the file (the first data row is 1), the column, and why.

    `cells` is what could be read of it, for mending it in place; text that fits no column stands under "".
    `is_cut` says that some of that text was too long to be listed.
    """

    row: int
    column: str
    reason: str
    cells: Mapping[str, str] = field(default_factory=dict, compare=False)
    is_cut: bool = field(default=False, compare=False)


Row = dict[str, Any] | Rejected


class Layout(BaseModel):
    """How a file is laid out. What is left empty is guessed from the file; as JSON it is what a job has to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = ""
    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    member: str = ""
    # Whether an apostrophe before a sign that spreadsheets calculate with is there for them, and no part of the text.
    is_guarded: bool | None = None


class Cut(InputError):
    """The file ends, or is damaged, before its last row."""


class Source(ABC):
    """Bytes with a name: a file, or a member of an archive."""

    name: str
    suffix: str
    guessed_encoding: str = ""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The bytes from the beginning; reading them may raise Cut."""

    @abstractmethod
    def local(self) -> AbstractContextManager[Path]:
        """A context with the path of a file on this disk, for libraries that jump about in it."""

    @cached_property
    def sample(self) -> bytes:
        """The first bytes; fewer where the file is damaged before."""
        found = b""
        with self.open() as file, suppress(Cut):
            while len(found) < SAMPLE_BYTES and (more := file.read(_PIECE_BYTES)):
                found += more
        return found

    @property
    def is_sampled_whole(self) -> bool:
        return len(self.sample) < SAMPLE_BYTES

    @contextmanager
    def text(self, encoding: str) -> Iterator[io.TextIOWrapper]:
        """The text, its line ends untouched; bytes that are none become halves of characters (see `damaged`)."""
        with self.open() as file:
            yield io.TextIOWrapper(file, encoding, errors=_as_halves(), newline="")


class File(Source):
    """A file on this disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.suffix = path, path.name, path.suffix.lower()

    def open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(f"{self.name} cannot be read ({error.strerror}). Upload it again.") from error

    @contextmanager
    def local(self) -> Iterator[Path]:
        yield self.path


class Format(ABC):
    """One kind of container. A new one is a file in this folder with a class; no list has to be kept."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    # Formats are asked in this order: those that know themselves by their first bytes come first.
    rank: ClassVar[int]

    @abstractmethod
    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        """How the file is laid out, with what is `wanted` kept; None when it is of another format.

        Raises InputError for a file of this format that cannot be read.
        """

    @abstractmethod
    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        """Row number (from 1) and the row, or why it cannot be read."""

    @abstractmethod
    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        """Write the rows. `columns` are all there may be, each with the keys of the objects in its lists, if any."""

    def sheets(self, source: Source) -> tuple[str, ...]:
        """The tables in the file, where it can hold several."""
        return ()


# -- rows as text --------------------------------------------------------------------------------------------


def as_text(value: Any) -> str:
    """A cell as text; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return json.dumps(value, ensure_ascii=False, default=str)


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Every cell as text under its column; what is in an object stands under a dotted path, as `data.question`."""
    return dict(_leaves(row, "", _DEEPEST))


def _leaves(row: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for key, value in row.items():
        if isinstance(value, dict) and value and depth:
            yield from _leaves(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}", as_text(value)


def rejected(number: int, column: str, reason: str, cells: Mapping[str, str] | str = "") -> Rejected:
    """A Rejected that lists no more text than can be shown, and none that could not be stored."""
    given = {"": cells} if isinstance(cells, str) and cells else dict(cells or {})
    listed: dict[str, str] = {}
    left = LARGEST_LISTED
    for name, text in given.items():
        listed[readable(name)] = readable(text[: max(0, left)])
        left -= len(text)
    return Rejected(number, readable(column), reason, listed, is_cut=left < 0)


def readable(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def damaged(row: Mapping[str, Any]) -> str | None:
    """The first column with half a character in it (a lone surrogate), which no database keeps."""
    for column, value in row.items():
        try:
            column.encode()
            as_text(value).encode()
        except UnicodeEncodeError:
            return column
    return None


def check_columns(name: str, columns: list[str]) -> None:
    """Raises InputError for two columns of one name: a mapping could not say which of them is meant."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(
            f"{name} has {len(columns):,} columns; {MOST_COLUMNS:,} can be read. Check that it is a table, and split it."
        )
    seen: set[str] = set()
    for column in filter(None, columns):
        if column in seen:
            raise InputError(f"{name} has two columns named '{column}'. Rename one in the header line.")
        seen.add(column)


def _as_halves() -> str:
    """The name of an error handler that keeps every byte that is no text as a lone surrogate.

    Python's own `surrogateescape` gives up on bytes below 128, at which UTF-16 and Shift-JIS can break too, and takes
    the rest of the buffer with it.
    """
    codecs.register_error("ladder-halves", _halves)
    return "ladder-halves"


def _halves(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end
