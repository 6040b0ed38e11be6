"""Text in files: which encoding it is in, and its lines without ever holding one that is too long."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import charset_normalizer

from studio.errors import InputError
from studio.instructions.formats.base import LARGEST_ROW, Source

__all__ = ["LineTooLong", "Lines", "encoding_of", "opening_of"]

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# Statistics over more than this take seconds and judge no better.
_JUDGED_BYTES = 1 << 16
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")


def encoding_of(source: Source, wanted: str = "") -> str:
    """The encoding that was asked for, or the likely one. Raises InputError for a file that is no text."""
    if wanted:
        return _known(wanted)
    if not source.guessed_encoding:  # which takes a while, and several formats ask
        source.guessed_encoding = _likely(source)
    return source.guessed_encoding


def _likely(source: Source) -> str:
    sample = source.sample
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\x00" in sample:
        wide = next((e for e in ("utf-16-le", "utf-16-be") if _is_wide(sample, e)), "")
        if wide:
            return wide
        raise InputError(f"{source.name} is a binary file, not a table. Save it as CSV (UTF-8) or JSONL.")
    with suppress(UnicodeDecodeError):
        # The sample may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=source.is_sampled_whole)
        return "utf-8"
    if not source.is_sampled_whole:
        sample = sample[: sample.rfind(b"\n") + 1] or sample[:-4]
    with suppress(UnicodeDecodeError):
        if _is_western(sample.decode("cp1252")):
            return "cp1252"
    best = charset_normalizer.from_bytes(sample[:_JUDGED_BYTES]).best()
    return best.encoding if best else "cp1252"


def opening_of(source: Source, encoding: str) -> str:
    """The text that the file opens with, without a byte order mark and white space in front of it."""
    text = source.sample.decode(encoding, errors="replace").lstrip("\ufeff").lstrip()
    if not text:
        raise InputError(f"{source.name} is empty. Choose a file with a header line and rows.")
    return text


def _known(encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        b"a".decode(encoding, "replace")
    except (LookupError, UnicodeError) as error:  # the first also for codecs that make no text of bytes
        raise InputError(
            f"'{encoding}' is no encoding of text. Common ones are utf-8, cp1252 (Western Windows), utf-16 and shift_jis."
        ) from error
    return codec.name


def _is_wide(sample: bytes, encoding: str) -> bool:
    """Whether bytes without a byte order mark are UTF-16: read so, they have the signs of a table and nothing odd."""
    text = sample[: len(sample) // 2 * 2].decode(encoding, "replace")
    is_table = re.search(r"[\r\n]", text) and re.search(r"[,;\t|]", text)
    return bool(is_table or text[:1] in ("{", "[")) and not _CONTROL.search(text) and "\ufffd" not in text[:-2]


def _is_western(text: str) -> bool:
    """Whether text decoded as cp1252 looks like it. Measured: statistics over a few short rows are worse than this;
    charset-normalizer took French for Romanian and "für" for Chinese."""
    foreign = sum(not c.isascii() for c in text)
    # Polish and Slovak letters of cp1250 show up as ³ and the like inside words.
    return foreign * 5 < len(text) and not re.search(r"[^\W\d_][£¥¹³¿¼¾][^\W\d_]", text)


class LineTooLong(Exception):
    """A line that no row can be; it has been skipped."""


class Lines(Iterator[str]):
    """The lines of a file without NUL. One that is too long raises LineTooLong, and the next call goes on after it."""

    def __init__(self, file: TextIO) -> None:
        self._readline = file.readline
        self.number = 0

    def __next__(self) -> str:
        line = self._readline(LARGEST_ROW)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LARGEST_ROW and line[-1] not in "\r\n":
            while line and line[-1] not in "\r\n":
                line = self._readline(LARGEST_ROW)
            raise LineTooLong
        return line.replace("\x00", "") if "\x00" in line else line
