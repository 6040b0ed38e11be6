"""CSV, TSV and their kin: a header line, then a row each, cells apart by a sign that is guessed and can be told.

A spreadsheet takes a cell that begins with one of = + - @ for a formula and runs it. What we write is guarded against
that as OWASP advises ("CSV Injection"), with an apostrophe in front; so is text that already looks guarded, so that
taking one apostrophe off gives back exactly what was written. A file from elsewhere is taken for guarded unless its
first rows show a cell that should be and is not.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from studio.errors import InputError
from studio.instructions.formats.base import (
    LARGEST_CELL,
    Cut,
    Format,
    Layout,
    Row,
    Source,
    as_text,
    check_columns,
    damaged,
    rejected,
)
from studio.instructions.formats.texts import Lines, LineTooLong, encoding_of, opening_of

__all__ = ["Csv", "Tsv"]

_DELIMITERS = ",;\t|"
# Full-width signs are formulas too, in Japanese and Chinese spreadsheets.
_FORMULA = "=+\\-@\t\r＝＋－＠"
_UNGUARDED = re.compile(f"[{_FORMULA}]")
_TO_GUARD = re.compile(f"'*[{_FORMULA}]")
_GUARDED = re.compile(f"'+[{_FORMULA}]")
_JUDGED_ROWS = 200
_TOO_LONG = f"The row is longer than {LARGEST_CELL >> 20} million characters. Shorten it."


class Csv(Format):
    name = "csv"
    title = "CSV"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".tab", ".txt")
    rank = 90  # any text can be one
    _written_with = ","

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        encoding = encoding_of(source, wanted.encoding)
        text = opening_of(source, encoding)
        delimiter = wanted.delimiter or _delimiter(source.name, text)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise InputError(f"'{delimiter}' cannot stand between cells. Choose one sign, such as a comma or a tab.")
        is_guarded = _is_guarded(text, delimiter) if wanted.is_guarded is None else wanted.is_guarded
        return Layout(format="csv", encoding=encoding, delimiter=delimiter, is_guarded=is_guarded)

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(LARGEST_CELL)
        with source.text(layout.encoding) as file:
            yield from _Table(source.name, layout, Lines(file)).rows()

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        # With a byte order mark, without which Excel takes UTF-8 for the encoding of its country.
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, delimiter=self._written_with)
            writer.writerow(columns)
            writer.writerows([_guarded(as_text(row.get(column))) for column in columns] for row in rows)


class Tsv(Csv):
    """Written with tabs; read by Csv, to which a tab is one delimiter of several."""

    name = "tsv"
    title = "TSV"
    suffixes = (".tsv",)
    rank = 91
    _written_with = "\t"

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        return None


class _Table:
    """One pass over the lines of a table."""

    def __init__(self, name: str, layout: Layout, lines: Lines) -> None:
        self._name, self._layout, self._lines = name, layout, lines
        self._cells = csv.reader(lines, delimiter=layout.delimiter, strict=True)

    def rows(self) -> Iterator[tuple[int, Row]]:
        header = self._header()
        width, number = len(header), 0
        # Spreadsheets write columns without a name when somebody once typed to the right of the table.
        named = [(at, column) for at, column in enumerate(header) if column]
        is_plain = len(named) == width
        unguard = self._layout.is_guarded
        while True:
            number += 1
            begun = self._lines.number + 1
            try:
                cells = next(self._cells)
            except StopIteration:
                return
            except LineTooLong:
                yield number, rejected(number, "", _TOO_LONG)
                continue
            except csv.Error as error:
                yield number, rejected(number, "", self._unreadable(error, begun))
                continue
            except Cut as error:
                yield number, rejected(number, "", str(error))
                return
            if len(cells) != width:
                if not any(c.strip() for c in cells):
                    number -= 1
                    continue
                if len(cells) > width:
                    yield number, self._too_many(number, header, cells)
                    continue
                cells += [""] * (width - len(cells))
            text = "".join(cells)
            if not text or text.isspace():
                number -= 1
                continue
            if unguard and "'" in text:
                cells = [c[1:] if c[:1] == "'" and _GUARDED.match(c) else c for c in cells]
            row = dict(zip(header, cells, strict=True)) if is_plain else {column: cells[at] for at, column in named}
            if not text.isascii() and (column := damaged(row)) is not None:
                reason = f"The cell holds bytes that are not {self._layout.encoding} text. Save the file as UTF-8."
                yield number, rejected(number, column, reason, row)
                continue
            yield number, row

    def _header(self) -> list[str]:
        try:
            header = [c.strip() for c in next((cells for cells in self._cells if any(c.strip() for c in cells)), [])]
        except csv.Error as error:
            raise InputError(f"The header line of {self._name} cannot be read ({error}). Check its quotes.") from error
        except LineTooLong as error:
            raise InputError(f"{self._name} has no header line: its first line does not end. Is it a table?") from error
        check_columns(self._name, header)
        if (column := damaged(dict.fromkeys(header))) is not None:
            raise InputError(
                f"The header of {self._name} holds bytes that are not {self._layout.encoding} text "
                f"('{column.encode('utf-8', 'replace').decode()}'). Choose another encoding."
            )
        return header

    def _too_many(self, number: int, header: list[str], cells: list[str]) -> Row:
        between = self._layout.delimiter
        reason = f"The row has {len(cells)} cells, the header {len(header)}. Put quotes around text with a '{between}'."
        # As it was most likely meant: the last cell with its delimiters.
        meant = [*cells[: len(header) - 1], between.join(cells[len(header) - 1 :])]
        return rejected(number, header[-1], reason, dict(zip(header, meant, strict=True)))

    def _unreadable(self, error: csv.Error, begun: int) -> str:
        over = self._lines.number - begun
        if over < 1:
            return f"The row cannot be read ({error}). Check its quotes."
        return (
            f"The row begins in line {begun:,} and cannot be read up to line {self._lines.number:,} ({error}): "
            "those lines are left out with it. Check its quotes."
        )


def _delimiter(name: str, text: str) -> str:
    header = re.split(r"[\r\n]", re.sub(r'"[^"]*"', '""', text[:100_000]), maxsplit=1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    if header.count(delimiter) == 0:
        raise InputError(
            f"{name} has a single column ('{header[:40]}'). A table needs at least an instruction and a response."
        )
    return delimiter


def _is_guarded(text: str, delimiter: str) -> bool:
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return not any(_UNGUARDED.match(cell) for cells in islice(reader, _JUDGED_ROWS) for cell in cells)
    except csv.Error:
        return False


def _guarded(text: str) -> str:
    return f"'{text}" if _TO_GUARD.match(text) else text
