"""What a reader gets: the name that people know a file by, where its bytes lie, and how bytes become clean text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.uploads import in_words

__all__ = ["MOST_TEXT", "Source", "clean", "readable"]

MOST_TEXT = 50 << 20  # bytes, or characters, that one document may hold: some 30,000 pages

_SAMPLE = 1 << 16
_MARKS = (  # longer marks first: UTF-32's begins like UTF-16's
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_KINDS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP or Office file"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x1f\x8b", "a compressed file"),
    (b"\x7fELF", "a program"),
)
# What files that are neither UTF-8 nor western are written in. Among all that there are, statistics over a few lines
# take Polish for Icelandic.
_OTHERS = [
    *("cp1250", "cp1251", "cp1253", "cp1255", "cp1256", "cp1257", "cp874", "koi8_r", "iso8859_2"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "cp949"),
]
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
# Signs that nobody sees: controls, halves of characters, direction marks, soft hyphens, and the tag characters in
# which text for a model can be hidden from people.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("\r\n|[\r\x0c\x85\u2028\u2029]")


@dataclass(frozen=True)
class Source:
    """A file to read, under the name that its uploader gave it."""

    path: Path
    name: str

    def text(self) -> str:
        """The file's text, whatever its encoding. Raises InputError for a binary file and for too much text."""
        size = self.path.stat().st_size
        if size > MOST_TEXT:
            raise InputError(
                f"{self.name} has {in_words(size)} of text; a document may have {in_words(MOST_TEXT)}. "
                "Split it into parts and add those."
            )
        data = self.path.read_bytes()
        kind = next((words for mark, words in _KINDS if data.startswith(mark)), "")
        if kind:
            raise InputError(
                f"{self.name} is {kind}, whatever its name says. Give it the right ending, or save as text."
            )
        text = _decoded(data)
        hidden = len(_CONTROLS.findall(text))
        if hidden > 16 and hidden * 20 > len(text):
            raise InputError(f"{self.name} is a binary file, not text. Open it where it was made and save it as text.")
        return clean(text)


def clean(text: str) -> str:
    """Text without signs that nobody sees, and with '\\n' between lines."""
    return _UNSEEN.sub("", _BREAKS.sub("\n", text))


@contextmanager
def readable(source: Source, cure: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into one sentence that ends with the cure."""
    try:
        yield
    except StudioError:
        raise
    # A torn file makes a parser raise nearly anything: its own errors, KeyError, AttributeError, RecursionError.
    except Exception as error:
        raise InputError(f"{source.name} cannot be read: the file is damaged or cut off. {cure}") from error


def _decoded(data: bytes) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "") or _wide(data[:_SAMPLE])
    if encoding:
        return data.decode(encoding, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.start > len(data) - 4 and error.start:  # cut inside its last character
            return data[: error.start].decode()
    with suppress(UnicodeDecodeError):
        if _is_western(text := data.decode("cp1252")):
            return text
    return data.decode(_guessed(data), errors="replace")


def _wide(sample: bytes) -> str:
    """UTF-16 that does not say so: every other byte of Latin text is 0."""
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[offset::2].count(0), sample[1 - offset :: 2].count(0)
        if len(sample) > 8 and zeros * 4 > len(sample) and others * 20 < len(sample):
            return encoding
    return ""


def _is_western(text: str) -> bool:
    """Whether text decoded as cp1252 looks like it: statistics over a few short lines do worse than this rule."""
    foreign = sum(not c.isascii() for c in text)
    # Polish and Slovak letters of cp1250 show up as ³ and the like inside words.
    return foreign * 3 < len(text) and not re.search(r"[^\W\d_][£¥¹³¿¼¾][^\W\d_]", text)


def _guessed(data: bytes) -> str:
    import charset_normalizer  # its tables are for files that are not UTF-8, which are few

    # Where the text stops being ASCII says most about its encoding.
    start = next((match.start() for match in re.finditer(rb"[\x80-\xff]", data)), 0)
    sample = data[max(0, start - _SAMPLE // 2) : start + _SAMPLE // 2]
    best = charset_normalizer.from_bytes(sample, cp_isolation=_OTHERS).best()
    return best.encoding if best else "cp1252"
