"""Excel workbooks (.xlsx, .xlsm): one sheet, a header row, then a row each. Values, never formulas.

A workbook is XML in a zip (ECMA-376), and is read here in a stream: openpyxl took 0.1 ms a row even when told to read
only, and reads a sheet twice that does not state its size; calamine makes room for every cell up to the last one, of
which a small file can claim 17 billion.

Texts are written as texts whatever they begin with, so that no cell is ever a formula. What XML cannot hold is written
as Excel writes it, `_x0007_`, and a text that looks like that gets its underscore escaped.
"""

from __future__ import annotations

import datetime
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from studio.errors import InputError
from studio.instructions.formats.archive import is_workbook, is_zip, open_zip
from studio.instructions.formats.base import (
    LARGEST_ROW,
    Format,
    Layout,
    Row,
    Source,
    as_text,
    check_columns,
    damaged,
    rejected,
)

__all__ = ["Excel", "TooMuchForExcel"]

_OLD_OR_LOCKED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# The texts that sheets share are held whole while rows are read.
_LARGEST_UNPACKED = 512 << 20
_LARGEST_PART = 16 << 20  # of those that say what is where
_CHUNK = 1 << 16
_LARGEST_CELL = 32_767  # in UTF-16, where an emoji counts twice
_MOST_ROWS = 1_048_575  # below the header
_MOST_COLUMNS = 16_384
_HEADER_ROWS = 50
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
# The underscore also where none follows: what follows may be escaped itself, and begin with one.
_TO_ESCAPE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4})")
_DATE_IDS = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
_NO_DATE_SIGNS = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|General')
_UNREADABLE = (expat.ExpatError, KeyError, ValueError, IndexError, OSError, zipfile.BadZipFile, zlib.error, EOFError)

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELS}">'
    '<sheets><sheet name="records" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}
_SHEET = "xl/worksheets/sheet1.xml"


class TooMuchForExcel(InputError):
    """A sheet cannot hold this; `column` names the cell, or is '' for the whole."""

    def __init__(self, column: str, what: str) -> None:
        super().__init__(what)
        self.column = column


class Excel(Format):
    name = "excel"
    title = "Excel"
    suffixes = (".xlsx", ".xlsm")
    rank = 20

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        if source.sample.startswith(_OLD_OR_LOCKED):
            raise InputError(
                f"{source.name} is an Excel file of before 2007, or locked with a password. Save it as .xlsx without one."
            )
        if not is_zip(source) or not is_workbook(source):
            return None
        with _opened(source) as book:
            sheet = wanted.sheet or next((name for name in book.sheets if any(_header(book, name))), "")
            if wanted.sheet and sheet not in book.sheets:
                raise InputError(f"{source.name} has no sheet '{sheet}'. It has: {', '.join(book.sheets)}.")
            header = _header(book, sheet) if sheet else []
        if not any(header):
            raise InputError(f"{source.name} is empty. Choose a file with a header row and rows.")
        check_columns(source.name, header)
        return Layout(format="excel", sheet=sheet)

    def sheets(self, source: Source) -> tuple[str, ...]:
        with _opened(source) as book:
            return tuple(book.sheets)

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        with _opened(source) as book:
            yield from _rows(book.rows(layout.sheet), _header(book, layout.sheet))

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, xml in _PARTS.items():
                archive.writestr(name, _HEAD + xml)
            with archive.open(_SHEET, "w", force_zip64=True) as file:
                file.write(f"{_HEAD}<worksheet xmlns={quoteattr(_MAIN)}><sheetData>".encode())
                file.write(_written(1, {column: column for column in columns}, columns))
                for number, row in enumerate(rows, 2):
                    if number > _MOST_ROWS + 1:
                        raise TooMuchForExcel("", f"An Excel sheet holds {_MOST_ROWS:,} records.")
                    file.write(_written(number, row, columns))
                file.write(b"</sheetData></worksheet>")


# -- rows ----------------------------------------------------------------------------------------------------


def _header(book: _Book, sheet: str) -> list[str]:
    """The first row with two texts, looked for near the top: exports like to write a title and a date above their
    table. Where no row has two, the first with one."""
    first: list[str] = []
    for at, cells in book.rows(sheet):
        header = [cell.strip() for cell in cells]
        if sum(map(bool, header)) > 1:
            return header
        first = first if any(first) else header
        if at > _HEADER_ROWS:
            break
    return first


def _rows(sheet: Iterator[tuple[int, list[str]]], header: list[str]) -> Iterator[tuple[int, Row]]:
    """Rows numbered as in the sheet, from 1 below the header, so that a number leads to its row there."""
    top = number = 0
    while True:
        try:
            found = next(sheet, None)
        except _UNREADABLE as error:
            reason = f"From here on the sheet is damaged ({error}). Open the file, and save it again."
            yield number + 1, rejected(number + 1, "", reason)
            return
        if found is None:
            return
        at, cells = found
        if not top:
            top = at if [cell.strip() for cell in cells] == header else 0
        elif any(cell.strip() for cell in cells):
            number = at - top
            yield number, _row(number, header, cells + [""] * (len(header) - len(cells)))


def _row(number: int, header: list[str], cells: list[str]) -> Row:
    row = {column: cell for column, cell in zip(header, cells, strict=False) if column}
    if any(cell.strip() for cell in cells[len(header) :]):
        reason = f"The row has text to the right of the header's last column ('{header[-1]}'). Give that column a name."
        return rejected(number, header[-1], reason, row)
    if (column := damaged(row)) is not None:
        return rejected(number, column, "The cell holds half a character. Write the text again.", row)
    return row


def _written(number: int, row: Mapping[str, Any], columns: Iterable[str]) -> bytes:
    cells = []
    for at, column in enumerate(columns):
        text = _TO_ESCAPE.sub(lambda found: f"_x{ord(found[0]):04X}_", as_text(row.get(column)))
        length = len(text.encode("utf-16-le")) // 2
        if length > _LARGEST_CELL:
            raise TooMuchForExcel(column, f"An Excel cell holds {_LARGEST_CELL:,} characters; this one has {length:,}.")
        if text:
            kept = '<is><t xml:space="preserve">'
            cells.append(f'<c r="{_letters(at)}{number}" t="inlineStr">{kept}{escape(text)}</t></is></c>')
    return f'<row r="{number}">{"".join(cells)}</row>'.encode()


def _letters(at: int) -> str:
    """The name of a column, counted from 0: A to Z, AA and on."""
    return (_letters(at // 26 - 1) if at >= 26 else "") + chr(65 + at % 26)


# -- the workbook --------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Source) -> Iterator[_Book]:
    with source.local() as path, open_zip(path, source.name, _LARGEST_UNPACKED) as archive:
        try:
            book = _Book(archive)
        except _UNREADABLE as error:
            raise InputError(
                f"{source.name} is an Excel file that cannot be read ({error}). Open and save it again, or save it as CSV."
            ) from error
        yield book


class _Book:
    """Where things are in a workbook: its sheets, the texts they share, and which styles are dates."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.sheets: dict[str, str] = {}
        self._epoch = datetime.datetime(1899, 12, 30)
        parts = self._parts()
        for _, name, attributes in self._elements("xl/workbook.xml"):
            if name == "workbookPr" and attributes.get("date1904") in ("1", "true"):
                self._epoch = datetime.datetime(1904, 1, 1)
            elif name == "sheet":
                key = next((value for at, value in attributes.items() if at.endswith(" id")), "")
                kind, part = parts.get(key, ("", ""))
                if kind == "worksheet":  # not a chart on a sheet of its own
                    self.sheets[attributes["name"]] = part
        by_kind = dict(parts.values())
        self._dates = self._date_styles(by_kind["styles"]) if "styles" in by_kind else frozenset[str]()
        self._texts = _Texts(self._shared(by_kind.get("sharedStrings", "")))

    def rows(self, sheet: str) -> Iterator[tuple[int, list[str]]]:
        """The number of each row, and its cells as text."""
        with self._archive.open(self.sheets[sheet]) as file:
            yield from _streamed(file, _Sheet(self._texts, self._dates, self._epoch))

    def _parts(self) -> dict[str, tuple[str, str]]:
        """What kind each part is of and where, by the key that the workbook uses for it."""
        found = {}
        for _, name, attributes in self._elements("xl/_rels/workbook.xml.rels"):
            if name == "Relationship" and attributes.get("TargetMode") != "External":
                part = posixpath.normpath(posixpath.join("/xl", attributes["Target"])).lstrip("/")
                found[attributes["Id"]] = (attributes["Type"].rpartition("/")[2], part)
        return found

    def _date_styles(self, part: str) -> frozenset[str]:
        """Numbers of the cell styles that show a number as a date."""
        ids, styles = {str(known) for known in _DATE_IDS}, list[str]()
        for inside, name, attributes in self._elements(part):
            if name == "numFmt" and re.search(
                "[dmyhs]", _NO_DATE_SIGNS.sub("", attributes.get("formatCode", "").lower())
            ):
                ids.add(attributes.get("numFmtId", ""))
            elif name == "xf" and inside == "cellXfs":
                styles.append(attributes.get("numFmtId", "0"))
        return frozenset(str(at) for at, style in enumerate(styles) if style in ids)

    def _elements(self, part: str) -> list[tuple[str, str, dict[str, str]]]:
        """The name of the element around, the name and the attributes of every element of a small part."""
        found: list[tuple[str, str, dict[str, str]]] = []
        inside = [""]

        def start(name: str, attributes: dict[str, str]) -> None:
            local = name.rpartition(" ")[2]
            found.append((inside[-1], local, attributes))
            inside.append(local)

        with self._archive.open(part) as file:
            xml = file.read(_LARGEST_PART + 1)
        if len(xml) > _LARGEST_PART:
            raise ValueError(f"{part} is too large")
        parser = _parser(start, lambda name: inside.pop())
        parser.Parse(xml, True)
        return found

    def _shared(self, part: str) -> Iterator[str]:
        if part:
            with self._archive.open(part) as file:
                yield from _streamed(file, _Shared())


class _Texts:
    """The texts that sheets share, read as far as somebody asks: a look at the first rows needs few of them."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._left = texts
        self._known: list[str] = []

    def __getitem__(self, at: int) -> str:
        while len(self._known) <= at:
            text = next(self._left, None)
            if text is None:
                raise IndexError(f"text {at} is missing")
            self._known.append(text)
        return self._known[at]


class _Taker:
    """Takes in XML as it is parsed; what is whole is put into `found`."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._parts: list[str] = []
        self._letters = 0
        self._is_taken = False
        self._is_sound = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def text(self, text: str) -> None:
        if self._is_taken and not self._is_sound:  # how a Japanese word sounds is no part of it
            self._letters += len(text)
            if self._letters > LARGEST_ROW:
                raise ValueError("a text is too long")
            self._parts.append(text)

    def _taken(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        return text


class _Shared(_Taker):
    """The texts in the part that sheets share."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "t":
            self._is_taken = True
        elif local == "rPh":
            self._is_sound = True
        elif local == "si":
            self._letters = 0

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        if local == "t":
            self._is_taken = False
        elif local == "rPh":
            self._is_sound = False
        elif local == "si":
            self.found.append(_unescaped(self._taken()))


class _Sheet(_Taker):
    """The rows of a sheet, as their number and their cells."""

    def __init__(self, texts: _Texts, dates: frozenset[str], epoch: datetime.datetime) -> None:
        super().__init__()
        self._texts, self._dates, self._epoch = texts, dates, epoch
        self._row = 0
        self._cells: list[str] = []
        self._at = 0
        self._kind = self._style = ""
        self._columns: dict[str, int] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "v" or local == "t":
            self._is_taken = True
        elif local == "c":
            place = attributes.get("r")
            self._at = self._column(place.rstrip("0123456789")) if place else len(self._cells)
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
        elif local == "row":
            self._row = int(attributes.get("r", self._row + 1))
            self._cells, self._letters = [], 0
        elif local == "rPh":
            self._is_sound = True

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        if local == "v" or local == "t":
            self._is_taken = False
        elif local == "c":
            text = self._value(self._taken())
            self._cells += [""] * (self._at - len(self._cells))
            self._cells[self._at : self._at + 1] = [text]
        elif local == "row":
            self.found.append((self._row, self._cells))
        elif local == "rPh":
            self._is_sound = False

    def _column(self, letters: str) -> int:
        at = self._columns.get(letters)
        if at is None:
            at = 0
            for letter in letters.upper():
                at = at * 26 + ord(letter) - 64
            if not 0 < at <= _MOST_COLUMNS:
                raise ValueError(f"there is no column {letters[:20]}")
            at -= 1
            self._columns[letters] = at
        return at

    def _value(self, text: str) -> str:
        if self._kind == "s":
            return self._texts[int(text)] if text else ""
        if self._kind in ("inlineStr", "str"):
            return _unescaped(text)
        if self._kind == "b":
            return "TRUE" if text == "1" else "FALSE"
        if self._kind != "n" or not text:
            return text
        number = float(text)
        if self._style in self._dates:
            return self._date(number)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)

    def _date(self, days: float) -> str:
        try:
            at = self._epoch + datetime.timedelta(seconds=round(days * 86_400))
        except OverflowError:
            return repr(days)
        if 0 <= days < 1:
            return str(at.time())
        return str(at.date() if at.time() == datetime.time() else at)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _streamed(file: Any, taker: _Taker) -> Iterator[Any]:
    parser = _parser(taker.start, taker.end)
    parser.CharacterDataHandler = taker.text
    is_last = False
    while not is_last:
        try:
            chunk = file.read(_CHUNK)
            is_last = not chunk
            parser.Parse(chunk, is_last)
        except _UNREADABLE:
            yield from taker.found  # what is whole before the damage
            raise
        yield from taker.found
        taker.found.clear()


def _parser(start: Callable[[str, dict[str, str]], None], end: Callable[[str], Any]) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: Any) -> None:
    """A workbook has none; entities in one can blow up a file of a few bytes."""
    raise ValueError("it declares a document type")
