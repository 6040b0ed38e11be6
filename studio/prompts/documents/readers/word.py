"""Word documents (docx): paragraphs under their headings, and tables row by row, in the order of the page.

Inserted text of tracked changes is read, deleted text is not. Headers, footers, footnotes and comments are left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import InputError
from studio.prompts.documents.passages import Block, Outline
from studio.prompts.documents.source import Source, clean, readable
from studio.uploads import in_words

if TYPE_CHECKING:
    from docx.document import Document

__all__ = ["read"]

_CURE = "Open it in Word or LibreOffice, save it anew as docx and add that."
_MOST_UNPACKED = 512 << 20  # bytes: python-docx takes all parts into memory, pictures too
_MOST_XML = 64 << 20  # and its tree of a part of this size takes ten times as much

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_PARAGRAPH, _TABLE, _ROW, _CELL = f"{_W}p", f"{_W}tbl", f"{_W}tr", f"{_W}tc"
_WRAPPERS = {f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag")}
_UNREAD = {
    *(f"{_W}{name}" for name in ("pPr", "rPr", "del", "moveFrom", "instrText")),
    # The same text box again, for old programs.
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}


def read(source: Source) -> Iterator[Block]:
    """One block a heading, a paragraph or a row of a table."""
    import docx  # a page that shows no document starts without it

    _check_size(source)
    with readable(source, _CURE):
        blocks = _blocks(docx.Document(str(source.path)))
    return iter(blocks)


def _check_size(source: Source) -> None:
    """A zip of a few kilobytes can unpack to gigabytes. It never unpacks to more than it says: zipfile sees to that."""
    with source.path.open("rb") as file:
        if file.read(4) == b"\xd0\xcf\x11\xe0":
            raise InputError(
                f"{source.name} is locked with a password, or an old .doc. Save it as .docx without a password."
            )
    with readable(source, _CURE), zipfile.ZipFile(source.path) as file:
        sizes = {info.filename: info.file_size for info in file.infolist()}
    whole, text = sum(sizes.values()), sum(size for name, size in sizes.items() if name.endswith((".xml", ".rels")))
    for size, most in ((whole, _MOST_UNPACKED), (text, _MOST_XML)):
        if size > most:
            raise InputError(
                f"{source.name} unpacks to {in_words(size)}; at most {in_words(most)} are taken in. "
                "Save it without pictures or in parts, and add those."
            )


def _blocks(document: Document) -> list[Block]:
    levels, outline = _heading_levels(document), Outline()
    blocks: list[Block] = []

    def add(text: str, *, is_heading: bool = False, tail: str = "\n\n") -> None:
        number = len(blocks) + 1
        blocks.append(Block(text, outline.path, "paragraph", number, number, is_heading, tail))

    for element in _inner(document.element.body, {_PARAGRAPH, _TABLE}):
        if element.tag == _TABLE:
            rows = [row for row in map(_row, _inner(element, {_ROW})) if row]
            for place, row in enumerate(rows, start=1):
                add(row, tail="\n" if place < len(rows) else "\n\n")
        elif text := _text(element):
            level = levels.get(_style(element))
            if level is not None:
                outline.enter(level, text)
            add(text, is_heading=level is not None)
    return blocks


def _heading_levels(document: Document) -> Mapping[str, int]:
    """Style id -> level of the headings it makes; the title is above all. A style may get it from what it builds on."""
    levels: dict[str, int] = {}
    for style in document.styles:
        ancestor: Any = style
        for _ in range(10):  # styles of a damaged file can build on each other in a ring
            name = (getattr(ancestor, "name", None) or "").casefold()
            if match := re.fullmatch(r"heading ([1-9])|title", name):
                levels[style.style_id] = int(match[1] or 0)
                break
            ancestor = getattr(ancestor, "base_style", None)
    return levels


def _style(paragraph: Any) -> str:
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return "" if style is None else style.get(f"{_W}val", "")


def _row(row: Any) -> str:
    return " | ".join(filter(None, (" ".join(_words(cell)) for cell in _inner(row, {_CELL}))))


def _words(cell: Any) -> Iterator[str]:
    for element in _inner(cell, {_PARAGRAPH, _TABLE}):
        texts = [_text(element)] if element.tag == _PARAGRAPH else [_row(row) for row in _inner(element, {_ROW})]
        yield from filter(None, texts)


def _inner(element: Any, tags: set[str]) -> Iterator[Any]:
    """The nearest elements of those tags, looked for in content controls and tracked insertions too."""
    for child in element:
        if child.tag in tags:
            yield child
        elif child.tag in _WRAPPERS:
            yield from _inner(child, tags)


def _text(paragraph: Any) -> str:
    return clean("".join(_strings(paragraph))).strip()


def _strings(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag in (f"{_W}t", f"{_M}t"):
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _UNREAD:
            if child.tag == _PARAGRAPH:  # in a text box
                yield "\n"
            yield from _strings(child)
