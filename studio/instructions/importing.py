"""Reading tables from outside: CSV, TSV and JSONL with guessed encoding and delimiter, and a mapping of columns.

A file is read twice: once for the preview that people confirm, once for the import. Bad rows are listed with row,
column and reason and never hold up the good ones; a file that cannot be read at all changes nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import charset_normalizer

from studio.errors import InputError
from studio.instructions.datasets import new_dataset
from studio.instructions.records import FIELDS, insertable
from studio.store import Dataset, Store

__all__ = ["ImportReport", "Preview", "Rejected", "import_file", "import_into", "preview"]

_SAMPLE_BYTES = 1 << 18
_LARGEST_CELL = 16 << 20
# Half a character, from bytes in another encoding or an escape like \\ud800 in JSON. No database keeps it.
_DAMAGED = re.compile("[\ud800-\udfff]")

# Names that other tools give to dolly's four fields.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt", "question", "query", "request", "user", "input_text"),
    "context": ("context", "input", "document", "passage", "background"),
    "response": ("response", "output", "answer", "completion", "reply", "target", "assistant"),
    "category": ("category", "type", "label", "topic", "kind"),
}


@dataclass(frozen=True)
class Preview:
    """What a file seems to be: its columns, the first rows, and the mapping we would guess (field -> column)."""

    format: Literal["csv", "jsonl"]
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    mapping: dict[str, str]


@dataclass(frozen=True)
class Rejected:
    """A row that was left out: its number in the file (the first data row is 1), the column, and why."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    added: int
    rejected: tuple[Rejected, ...]


def preview(path: Path, rows: int = 5) -> Preview:
    """Look at a file without importing it. Raises InputError when it holds no table."""
    kind, encoding, delimiter = _sniff(path)
    found: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for _, row in _rows(path, kind, encoding, delimiter):
        if isinstance(row, Rejected):
            continue
        columns.update(dict.fromkeys(row))
        if len(found) < rows:
            found.append(row)
        if len(found) == rows and kind == "csv":
            break
        if kind == "jsonl" and len(found) == rows and len(columns) > 1:
            break
    if not found:
        raise InputError(f"{path.name} has no rows. Choose a CSV with a header line and rows, or a JSONL file.")
    return Preview(kind, encoding, delimiter, tuple(columns), tuple(found), _guess(tuple(columns)))


def import_file(store: Store, dataset: Dataset, path: Path, mapping: Mapping[str, str], *, author: str) -> ImportReport:
    """Add a file's rows to a dataset; `mapping` is field -> column ('' leaves a field empty).

    Raises InputError when a mapped column is not there, two fields share a column, or no row can be used.
    """
    rejected: list[Rejected] = []
    rows = _usable(path, mapping, rejected)
    added = store.add_records(dataset.id, rows, author=author, source=path.name)
    return ImportReport(added, tuple(rejected))


def import_into(
    store: Store, name: str, path: Path, mapping: Mapping[str, str], *, author: str, licence: str = ""
) -> ImportReport:
    """Add a file's rows to the dataset of that name; one that is not there yet is made, under `licence`."""
    known = {dataset.name: dataset for dataset in store.datasets()}
    if name not in known:
        _usable(path, mapping, [])  # raises for a file without a usable row, which shall leave no empty dataset behind
        known[name] = new_dataset(store, name, author=author, licence=licence)
    return import_file(store, known[name], path, mapping, author=author)


def _usable(path: Path, mapping: Mapping[str, str], rejected: list[Rejected]) -> Iterator[dict[str, Any]]:
    """The rows that can be stored, read as they are asked for; what cannot be used is added to `rejected`."""
    seen = preview(path)
    _check_mapping(path, mapping, seen.columns)

    def usable() -> Iterator[dict[str, Any]]:
        for number, row in _rows(path, seen.format, seen.encoding, seen.delimiter):
            if isinstance(row, Rejected):
                rejected.append(row)
                continue
            try:
                yield insertable({f: row.get(mapping.get(f) or "", "") for f in FIELDS})
            except InputError as error:
                empty = "instruction" if "instruction" in str(error) else "response"
                rejected.append(Rejected(number, mapping[empty], str(error)))

    rows = usable()
    first = next(rows, None)
    if first is None:
        reason = f" Row {rejected[0].row}: {rejected[0].reason}" if rejected else ""
        raise InputError(f"{path.name} has no usable rows, so nothing was imported.{reason}")
    return chain([first], rows)


def _check_mapping(path: Path, mapping: Mapping[str, str], columns: tuple[str, ...]) -> None:
    for field in ("instruction", "response"):
        if not mapping.get(field):
            raise InputError(
                f"No column of {path.name} is mapped to '{field}'. Its columns are: {', '.join(columns)}. Choose one."
            )
    for field, column in mapping.items():
        if column and column not in columns:
            raise InputError(
                f"{path.name} has no column '{column}' for '{field}'. Its columns are: {', '.join(columns)}."
            )
    used = [c for c in mapping.values() if c]
    twice = next((c for c in used if used.count(c) > 1), None)
    if twice:
        raise InputError(f"Column '{twice}' is mapped to two fields. Choose another column for one of them.")


def _guess(columns: tuple[str, ...]) -> dict[str, str]:
    by_name = {c.strip().casefold(): c for c in columns}
    return {field: next((by_name[s] for s in names if s in by_name), "") for field, names in _SYNONYMS.items()}


def _sniff(path: Path) -> tuple[Literal["csv", "jsonl"], str, str]:
    """Format, encoding and delimiter, judged by the file's first bytes."""
    try:
        with path.open("rb") as file:
            sample = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}). Upload it again.") from error
    encoding = _encoding(path.name, sample)
    text = sample.decode(encoding, errors="replace").lstrip("\ufeff").lstrip()
    if text.startswith("{"):
        return "jsonl", encoding, ""
    if text.startswith("["):
        raise InputError(f"{path.name} is a JSON list. Save it as JSON Lines: one object per line.")
    if not text:
        raise InputError(f"{path.name} is empty. Choose a file with a header line and rows.")
    header = text.splitlines()[0]
    delimiter = max(",;\t|", key=header.count)
    if header.count(delimiter) == 0:
        raise InputError(
            f"{path.name} has a single column ('{header[:40]}'). A table needs at least an instruction and a response."
        )
    return "csv", encoding, delimiter


def _encoding(name: str, sample: bytes) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if sample.startswith(mark):
            return encoding
    if b"\x00" in sample:
        raise InputError(f"{name} is a binary file, not a table. Save it as CSV (UTF-8) or JSONL.")
    if len(sample) == _SAMPLE_BYTES:
        sample = sample[: sample.rfind(b"\n") + 1] or sample[:-4]  # it may end inside a character
    for encoding, is_likely in (("utf-8", _any_text), ("cp1252", _western)):
        with suppress(UnicodeDecodeError):
            if is_likely(sample.decode(encoding)):
                return encoding
    best = charset_normalizer.from_bytes(sample).best()
    return best.encoding if best else "cp1252"


def _any_text(text: str) -> bool:
    return True


def _western(text: str) -> bool:
    """Whether text decoded as cp1252 looks like it. Measured: statistics over a few short rows are worse than this;
    charset-normalizer took French for Romanian and "für" for Chinese."""
    foreign = sum(not c.isascii() for c in text)
    # Polish and Slovak letters of cp1250 show up as ³ and the like inside words.
    return foreign * 5 < len(text) and not re.search(r"[^\W\d_][£¥¹³¿¼¾][^\W\d_]", text)


def _rows(path: Path, kind: str, encoding: str, delimiter: str) -> Iterator[tuple[int, dict[str, str] | Rejected]]:
    """Row number (from 1) and its cells as text, or why the row cannot be read."""
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        found = _json_rows(file) if kind == "jsonl" else _csv_rows(file, path.name, delimiter)
        for number, row in found:
            damaged = next((c for c in row if _DAMAGED.search(c + row[c])), None) if isinstance(row, dict) else None
            if damaged is None:
                yield number, row
            else:
                reason = f"The cell holds bytes that are not {encoding} text. Save the file as UTF-8."
                yield number, Rejected(number, _readable(damaged), reason)


def _readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _csv_rows(file: io.TextIOBase, name: str, delimiter: str) -> Iterator[tuple[int, dict[str, str] | Rejected]]:
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader((line.replace("\x00", "") for line in file), delimiter=delimiter, strict=True)
    try:
        header = [c.strip() for c in next((cells for cells in reader if any(c.strip() for c in cells)), [])]
    except csv.Error as error:
        raise InputError(f"The header line of {name} cannot be read ({error}). Check its quotes.") from error
    twice = next((c for c in header if c and header.count(c) > 1), None)
    if twice is not None:
        raise InputError(f"{name} has two columns named '{twice}'. Rename one in the header line.")
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Rejected(number, "", f"The row cannot be read ({error}). Check its quotes.")
            continue
        if not any(c.strip() for c in cells):
            number -= 1
        elif len(cells) > len(header):
            reason = f"The row has {len(cells)} cells, the header {len(header)}. Put quotes around text with a '{delimiter}'."
            yield number, Rejected(number, header[-1], reason)
        else:
            padded = cells + [""] * (len(header) - len(cells))
            # Spreadsheets write columns without a name when somebody once typed to the right of the table.
            yield number, {column: cell for column, cell in zip(header, padded, strict=True) if column}


def _json_rows(file: io.TextIOBase) -> Iterator[tuple[int, dict[str, str] | Rejected]]:
    number = 0
    for line in file:
        if not line.strip():
            continue
        number += 1
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            yield (
                number,
                Rejected(number, "", f"The line is not JSON ({error.msg} at character {error.pos})."),
            )
            continue
        except (ValueError, RecursionError):  # a number of thousands of digits, or lists thousands deep
            yield number, Rejected(number, "", "The line is JSON of a size that cannot be read. Shorten it.")
            continue
        if not isinstance(row, dict):
            yield number, Rejected(number, "", "The line is not a JSON object with named fields.")
            continue
        yield number, {str(k): _text(v) for k, v in row.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
