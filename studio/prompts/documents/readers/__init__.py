"""Readers, one file a format: each turns a file into the blocks of its text and raises InputError when it cannot.

A further format is a file beside these, a row below, and its name in the table's comment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from studio.prompts.documents.passages import Block
from studio.prompts.documents.readers import markdown, page, pdf, plain, table, word
from studio.prompts.documents.source import Source

__all__ = ["ENDINGS", "FORMATS", "Reader"]

Reader = Callable[[Source], Iterator[Block]]

FORMATS: Mapping[str, Reader] = {
    "txt": plain.read,
    "md": markdown.read,
    "html": page.read,
    "pdf": pdf.read,
    "docx": word.read,
    "csv": table.read,
}

ENDINGS: Mapping[str, str] = {f".{name}": name for name in FORMATS} | {
    ".text": "txt",
    ".markdown": "md",
    ".htm": "html",
    ".tsv": "csv",
}
