"""Tables (csv, tsv): each row says the names of its columns, so that a passage is understood without the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from studio.errors import InputError
from studio.prompts.documents.passages import Block
from studio.prompts.documents.source import Source

__all__ = ["read"]

_LARGEST_CELL = 16 << 20


def read(source: Source) -> Iterator[Block]:
    """One block a row ('Name: Heron 2; Weight: 2.1 kg'); the first row below the header is row 1."""
    rows = _rows(source)
    header = next(rows, [])
    number = 0
    for number, cells in enumerate(rows, start=1):
        yield Block(_named(header, cells), unit="row", first=number, last=number, tail="\n")
    if header and not number:
        raise InputError(f"{source.name} has a header line and no rows. Add rows, or save it as a text file.")


def _rows(source: Source) -> Iterator[list[str]]:
    """The rows that hold anything, the header first."""
    text = source.text()
    said = re.match(r"\s*sep=(.)\n", text)  # how Excel tells itself the delimiter
    text = text[said.end() :] if said else text
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = said[1] if said else max(",;\t|", key=first.count)
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [" ".join(cell.split()) for cell in row]
            if any(cells):
                yield cells
    except csv.Error as error:
        raise InputError(
            f"{source.name} cannot be read at line {reader.line_num} ({error}). Check that line's quotes."
        ) from error


def _named(header: Sequence[str], cells: Sequence[str]) -> str:
    names = [*header, *[""] * (len(cells) - len(header))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=False) if cell)
