"""Reading rows from outside into records: what a file seems to be, how it is to be read, and what comes of each row.

A file is read twice: once for the preview that people confirm, once for the import. Bad rows are listed with row,
column and reason and never hold up the good ones; a file that cannot be read at all changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from studio.errors import InputError
from studio.instructions.datasets import dataset_named
from studio.instructions.formats import Layout, Rejected, Row, formats, opened
from studio.instructions.formats.base import LARGEST_CELL, as_text, cells_of, rejected
from studio.instructions.formats.hub import hub_rows
from studio.instructions.records import FIELDS, checked_fields, insertable, storable
from studio.instructions.shapes import OMITTED, RowError, recognised, shape_named
from studio.instructions.shapes.base import read_turns, turns_of
from studio.settings import Settings
from studio.store import Dataset, Store

__all__ = [
    "MAPPED",
    "OMITTED",
    "SERVER_FOLDER",
    "ImportReport",
    "Layout",
    "Preview",
    "Reading",
    "Rejected",
    "check_reading",
    "fields_of",
    "guessed_mapping",
    "import_file",
    "import_into",
    "mended_fields",
    "preview",
    "preview_hub",
    "read_fields",
    "read_hub_fields",
    "server_file",
    "server_files",
]

# What a column can be mapped to. `turns` is a whole conversation and stands for instruction and response.
MAPPED = (*FIELDS, "turns", "licence", "source")

# The folder of a workspace where an administrator puts files that are too large for a browser.
SERVER_FOLDER = "imports"

_LOOKED_AT = 200
_BAD_LOOKED_AT = 1000
_SHOWN = 1000
# Bad rows that a report lists; a file of nothing else is counted and not kept in memory.
_LISTED = 1000

_TOO_LONG = f"The record is longer than {LARGEST_CELL >> 20} million characters. Shorten it."

# Names that other tools give to dolly's four fields.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt", "question", "query", "request", "user", "input_text"),
    "context": ("context", "input", "document", "passage", "background"),
    "response": ("response", "output", "answer", "completion", "reply", "target", "assistant"),
    "category": ("category", "type", "label", "topic", "kind"),
}

Fields = dict[str, Any]


class Reading(Layout):
    """How a file is read: its layout, and the shape or the mapping (field -> column) that makes records of rows.

    It survives JSON, so that a job can be told it. With both empty, the shape is recognised.
    """

    shape: str = ""
    mapping: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """What a file seems to be: its columns, the first rows, and how we would read it.

    `mapping` is our guess (field -> column); with a `shape` none is needed. `omitted` counts the values of the rows
    looked at that a record has no place for, and `unused` are columns that the shape does not know.
    """

    format: str
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    mapping: dict[str, str]
    shape: str = ""
    sheet: str = ""
    sheets: tuple[str, ...] = ()
    member: str = ""
    members: tuple[str, ...] = ()
    is_guarded: bool | None = None
    omitted: int = 0
    unused: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout(
            format=self.format,
            encoding=self.encoding,
            delimiter=self.delimiter,
            sheet=self.sheet,
            member=self.member,
            is_guarded=self.is_guarded,
        )

    @property
    def reading(self) -> Reading:
        """As it would be read without another word from anybody."""
        mapping = {} if self.shape else {field: column for field, column in self.mapping.items() if column}
        return Reading(**self.layout.model_dump(), shape=self.shape, mapping=mapping)

    def mapped(self, mapping: Mapping[str, str]) -> Reading:
        """As it is read with this mapping."""
        return Reading(**self.layout.model_dump(), mapping=dict(mapping))


@dataclass(frozen=True)
class ImportReport:
    """What came of an import. `rejected` lists the first bad rows; `unlisted` counts those after them.

    `omitted` counts values that a record has no place for, such as second right answers. `edit` is the stroke by which
    all of it is undone.
    """

    added: int
    rejected: tuple[Rejected, ...]
    unlisted: int = 0
    omitted: int = 0
    edit: int = field(default=0, compare=False)

    @property
    def left_out(self) -> int:
        return len(self.rejected) + self.unlisted


# -- looking -------------------------------------------------------------------------------------------------


def preview(path: Path, rows: int = 5, wanted: Layout | None = None) -> Preview:
    """Look at a file without importing it; what `wanted` says is not guessed. Raises InputError for no table."""
    found = opened(path, _layout(wanted))
    sheets = found.format.sheets(found.source)
    looked = _look(found.source.name, found.format.rows(found.source, found.layout))
    return _previewed(looked, found.layout, rows, sheets=sheets, members=found.members)


def preview_hub(ref: str, split: str, settings: Settings, rows: int = 5) -> Preview:
    """Look at a data set of the hub. Raises InputError when it cannot be reached."""
    return _previewed(_look(ref, hub_rows(ref, split, settings)), Layout(), rows)


@dataclass(frozen=True)
class _Looked:
    rows: list[Fields]
    columns: tuple[str, ...]


def _look(name: str, rows: Iterator[tuple[int, Row]]) -> _Looked:
    """The first rows that can be read. Raises InputError when none can."""
    found: list[Fields] = []
    columns: dict[str, None] = {}
    bad: list[Rejected] = []
    letters = 0
    for _, row in rows:
        if isinstance(row, Rejected):
            bad.append(row)
        else:
            cells = cells_of(row)
            columns.update(dict.fromkeys(cells))
            letters += sum(map(len, cells.values()))
            found.append(row)
        if len(found) == _LOOKED_AT or len(bad) == _BAD_LOOKED_AT or letters > LARGEST_CELL:
            break
    if not found and bad:
        raise InputError(f"{name} has no rows that can be read. Row {bad[0].row}: {bad[0].reason}")
    if not found:
        raise InputError(f"{name} has no rows. Choose a CSV with a header line and rows, or a JSONL file.")
    return _Looked(found, tuple(columns))


def _previewed(
    looked: _Looked, layout: Layout, rows: int, *, sheets: tuple[str, ...] = (), members: tuple[str, ...] = ()
) -> Preview:
    top = {column for row in looked.rows for column in row}
    shape = recognised(top, looked.rows)
    omitted = 0
    if shape is not None:
        reading = Reading(shape=shape.name)
        taken = (fields for _, fields in fields_of(enumerate(looked.rows, 1), reading))
        omitted = sum(fields.get(OMITTED, 0) for fields in taken if not isinstance(fields, Rejected))
    return Preview(
        format=layout.format,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        columns=looked.columns,
        rows=tuple({c: _short(text) for c, text in cells_of(row).items()} for row in looked.rows[:rows]),
        mapping=guessed_mapping(looked.columns),
        shape=shape.name if shape else "",
        sheet=layout.sheet,
        sheets=sheets,
        member=layout.member,
        members=members,
        is_guarded=layout.is_guarded,
        omitted=omitted,
        unused=tuple(sorted(top - set(shape.columns) - {"license"})) if shape else (),
    )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def guessed_mapping(columns: tuple[str, ...]) -> dict[str, str]:
    """Field -> the column that is likely to be it by its name, or ''."""
    by_name = {c.strip().casefold(): c for c in columns}
    return {field: next((by_name[s] for s in names if s in by_name), "") for field, names in _SYNONYMS.items()}


# -- files on the server ------------------------------------------------------------------------------------------------


def server_files(root: Path) -> list[str]:
    """Names of the tables in the workspace's folder for imports, folders in it included."""
    folder = root / SERVER_FOLDER
    known = {suffix for form in formats().values() for suffix in form.suffixes} | {".zip"}
    found = (path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found if _is_within(path, folder))


def server_file(root: Path, name: str) -> Path:
    """Where a file of that folder lies. Raises InputError for one that is not there, or lies elsewhere."""
    folder = root / SERVER_FOLDER
    path = folder / name
    if not name or "\x00" in name or not _is_within(path, folder):
        raise InputError(
            f"'{name[:80]}' lies outside of the folder '{SERVER_FOLDER}' of the workspace. Put the file there, or upload it."
        )
    if not path.is_file():
        raise InputError(
            f"The folder '{SERVER_FOLDER}' of the workspace has no file '{name[:80]}'. Put it there first."
        )
    return path


def _is_within(path: Path, folder: Path) -> bool:
    """Also where links lead."""
    return path.resolve().is_relative_to(folder.resolve())


# -- reading -------------------------------------------------------------------------------------------------


def read_fields(path: Path, reading: Reading) -> Iterator[tuple[int, Fields | Rejected]]:
    """Row number and checked fields of every row of a file, or why it is left out. Numbers rise, so that a job that
    was stopped can go on behind the last it stored. Raises InputError for a file or a mapping that cannot be."""
    found = opened(path, _layout(reading))
    looked = _look(found.source.name, found.format.rows(found.source, found.layout))
    reading = _complete(found.source.name, reading, looked)
    return fields_of(found.format.rows(found.source, found.layout), reading)


def read_hub_fields(
    ref: str, split: str, reading: Reading, settings: Settings
) -> Iterator[tuple[int, Fields | Rejected]]:
    """The same for a split of a data set on the hub."""
    looked = _look(ref, hub_rows(ref, split, settings))
    return fields_of(hub_rows(ref, split, settings), _complete(ref, reading, looked))


def fields_of(rows: Iterable[tuple[int, Row]], reading: Reading) -> Iterator[tuple[int, Fields | Rejected]]:
    """Checked fields of each row, ready for `insertable`: instruction, context, response, category and `turns`, and
    `licence`, `source` and OMITTED where the row has them."""
    read: Callable[[Mapping[str, Any]], Fields]
    if reading.shape:
        shape = shape_named(reading.shape)
        read, places = shape.read, shape.places
    else:
        read, places = _Mapped(reading.mapping).read, reading.mapping
    for number, row in rows:
        if isinstance(row, Rejected):
            yield number, row
            continue
        try:
            fields = read(row)
            clean = checked_fields(fields)
        except RowError as error:
            yield number, rejected(number, error.column, str(error), cells_of(row))
        except InputError as error:
            empty = "instruction" if "instruction" in str(error) else "response"
            yield number, rejected(number, places.get(empty, ""), str(error), cells_of(row))
        else:
            if len(clean["instruction"]) + len(clean["context"]) + len(clean["response"]) > LARGEST_CELL:
                yield number, rejected(number, places.get("response", ""), _TOO_LONG, cells_of(row))
                continue
            for name in ("licence", "source"):
                if fields.get(name):
                    clean[name] = storable(fields[name])
            if fields.get(OMITTED):
                clean[OMITTED] = fields[OMITTED]
            yield number, clean


def mended_fields(cells: Mapping[str, str], reading: Reading) -> Fields:
    """Checked fields of a row whose cells somebody mended. Raises InputError when it still cannot be a record."""
    _, fields = next(fields_of([(1, dict(cells))], reading))
    if isinstance(fields, Rejected):
        raise InputError(fields.reason)
    return fields


class _Mapped:
    """Reads rows by a mapping; a column is the name of a cell, or a dotted path into one."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._columns = [(field, mapping.get(field) or "") for field in FIELDS]
        self._more = [(field, column) for field in ("licence", "source") if (column := mapping.get(field))]
        self._turns = mapping.get("turns") or ""

    def read(self, row: Mapping[str, Any]) -> Fields:
        fields: Fields = {}
        for name, column in self._columns:
            value = row[column] if column in row else _inside(row, column)
            fields[name] = value if isinstance(value, str) else as_text(value)
        for name, column in self._more:
            fields[name] = as_text(row[column] if column in row else _inside(row, column))
        if self._turns:
            said = row[self._turns] if self._turns in row else _inside(row, self._turns)
            fields.update(read_turns(turns_of(said, self._turns), self._turns))
        return fields


def _inside(row: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path, `data.question` or `messages.0.content`; None where it leads nowhere."""
    if "." not in path:
        return None
    found: Any = row
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def _layout(wanted: Layout | None) -> Layout:
    known = wanted.model_dump() if wanted else {}
    return Layout(**{name: known[name] for name in Layout.model_fields if name in known})


def _complete(name: str, reading: Reading, looked: _Looked) -> Reading:
    """The reading with its shape recognised if it says nothing, and checked."""
    if reading.shape:
        shape_named(reading.shape)
        return reading
    if not reading.mapping:
        shape = recognised({column for row in looked.rows for column in row}, looked.rows)
        if shape is not None:
            return reading.model_copy(update={"shape": shape.name})
    _check_mapping(name, reading.mapping, looked.columns)
    return reading


def check_reading(name: str, reading: Reading, columns: tuple[str, ...]) -> None:
    """Raises InputError for a mapping that cannot be, with columns like these."""
    if not reading.shape:
        _check_mapping(name, reading.mapping, columns)


def _check_mapping(name: str, mapping: Mapping[str, str], columns: tuple[str, ...]) -> None:
    listed = ", ".join(columns)
    for wanted in mapping:
        if wanted not in MAPPED:
            raise InputError(f"A record has no field '{wanted}'. Columns can be mapped to: {', '.join(MAPPED)}.")
    for wanted in () if mapping.get("turns") else ("instruction", "response"):
        if not mapping.get(wanted):
            raise InputError(f"No column of {name} is mapped to '{wanted}'. Its columns are: {listed}. Choose one.")
    for wanted, column in mapping.items():
        if column and not _is_there(column, columns):
            raise InputError(f"{name} has no column '{column}' for '{wanted}'. Its columns are: {listed}.")
    used = [c for c in mapping.values() if c]
    twice = next((c for c in used if used.count(c) > 1), None)
    if twice:
        raise InputError(f"Column '{twice}' is mapped to two fields. Choose another column for one of them.")


def _is_there(column: str, columns: tuple[str, ...]) -> bool:
    """Whether it is a column, an object with columns in it, or leads into one that is a list."""
    return any(column == c or c.startswith(f"{column}.") or column.startswith(f"{c}.") for c in columns)


# -- importing -----------------------------------------------------------------------------------------------


def import_file(
    store: Store, dataset: Dataset, path: Path, how: Mapping[str, str] | Reading, *, author: str
) -> ImportReport:
    """Add a file's rows to a dataset; `how` is a reading, or a mapping of field -> column ('' leaves it empty). Rows that
    cannot be used wait to be mended.

    Raises InputError when a mapped column is not there, two fields share a column, or no row can be used.
    """
    tally = _Tally()
    rows = _usable(path, how, tally)
    edit = store.begin_edit(dataset.id, "add", f"Imported {path.name}", author=author)
    added = store.add_records(dataset.id, rows, author=author, source=path.name, edit=edit)
    if tally.rejected:
        told = how.mapping if isinstance(how, Reading) else how
        bad = [(row.row, row.column, row.reason, _by_field(row.cells, told)) for row in tally.rejected]
        last = max(row.row for row in tally.rejected)
        store.take_rows(dataset.id, edit, [], bad, last_row=last, author=author, source=path.name)
    return ImportReport(added, tuple(tally.rejected), tally.unlisted, tally.omitted, edit)


def _by_field(cells: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The cells of a row under the names of the fields that they were mapped to, so that whoever mends the row later
    need not be told again which column was which."""
    fields = {column: field for field, column in mapping.items() if column in cells}
    taken = set(fields.values())
    others = {column: f"{column} (not used)" if column in taken else column for column in cells if column not in fields}
    return {(fields | others)[column]: text for column, text in cells.items()}


def import_into(
    store: Store, name: str, path: Path, how: Mapping[str, str] | Reading, *, author: str, licence: str = ""
) -> ImportReport:
    """Add a file's rows to the dataset of that name; one that is not there yet is made, under `licence`."""
    if name not in {dataset.name for dataset in store.datasets()}:
        _usable(path, how, _Tally())  # raises for a file without a usable row, which shall leave no empty dataset
    dataset = dataset_named(store, name, author=author, licence=licence)
    return import_file(store, dataset, path, how, author=author)


class _Tally:
    """What was left out while rows were read."""

    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self.unlisted = 0
        self.omitted = 0

    def add(self, row: Rejected) -> None:
        if len(self.rejected) < _LISTED:
            self.rejected.append(row)
        else:
            self.unlisted += 1


def _usable(path: Path, how: Mapping[str, str] | Reading, tally: _Tally) -> Iterator[Fields]:
    """The rows that can be stored, read as they are asked for; what cannot be used is added to the tally."""
    reading = how if isinstance(how, Reading) else _by(how)

    def usable() -> Iterator[Fields]:
        for _, fields in read_fields(path, reading):
            if isinstance(fields, Rejected):
                tally.add(fields)
            else:
                tally.omitted += fields.pop(OMITTED, 0)
                yield insertable(fields)

    rows = usable()
    first = next(rows, None)
    if first is None:
        bad = tally.rejected[0] if tally.rejected else None
        reason = f" Row {bad.row}: {bad.reason}" if bad else ""
        raise InputError(f"{path.name} has no usable rows, so nothing was imported.{reason}")
    return chain([first], rows)


def _by(mapping: Mapping[str, str]) -> Reading:
    """A mapping that somebody gave, even one of nothing, is not to be replaced by what we recognise."""
    return Reading(mapping={field: mapping.get(field, "") for field in (*FIELDS, *mapping)})
