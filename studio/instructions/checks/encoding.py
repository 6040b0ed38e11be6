"""Encoding damage: text that was read with the wrong alphabet, control characters, entities left over from HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from html.entities import html5
from typing import ClassVar

from studio.instructions.checks.base import (
    MOST,
    REJECT,
    REMOVE,
    Finding,
    Flag,
    Mended,
    RecordCheck,
    Remedy,
    rewritten,
    texts,
)
from studio.store import Record

__all__ = ["Encoding", "repaired"]


def _images() -> dict[str, int]:
    """Every character that a byte from 0x80 on becomes when it is read as Latin-1 or Windows-1252."""
    images = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        try:
            images[bytes([byte]).decode("cp1252")] = byte
        except UnicodeDecodeError:  # five places of that alphabet are empty
            continue
    return images


_BYTE = _images()
_TAIL = "[" + "".join(re.escape(c) for c, byte in _BYTE.items() if byte < 0xC0) + "]"
_SIGN = rf"(?:[\xc2-\xdf]{_TAIL}|[\xe0-\xef]{_TAIL}{{2}}|[\xf0-\xf4]{_TAIL}{{3}})"  # one character, as UTF-8 bytes
_RUN = re.compile(rf"{_SIGN}+")
# What damaged text of the languages we meet becomes: Latin, Greek, Cyrillic, Hebrew, Arabic, Thai, CJK, signs and emoji.
# "É »" with the space that French puts there would become a phonetic letter, and is left alone.
_PLAUSIBLE = re.compile(
    "[\xa0-\u017f\u0192\u02c6\u02dc\u0386-\u03ce\u0400-\u045f\u0490\u0491\u05d0-\u05ea\u0621-\u0652\u0e01-\u0e5b"
    "\u2010-\u2044\u20ac\u2100-\u22ff\u2500-\u27bf\u3001-\u30ff\u4e00-\u9fff\uac00-\ud7a3\ufe0f\ufeff\ufffd\uff01-\uff5e"
    "\U0001f000-\U0001faff]+"
)
_ALONE = "ÃÂâðï"  # what one damaged sign begins with where nothing else beside it is damaged
_QUOTES = "“”‘’„…–—«»"  # may stand after any letter

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_LOST = re.compile("\ufffd+")
_AMP = r"&(?:(?:amp|#0{0,4}38|#[xX]0{0,4}26);)*"
_ENTITY = re.compile(rf"{_AMP}(?:#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}}|[a-zA-Z][a-zA-Z0-9]{{1,31}});")
_IS_MARKUP = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>|```|\bHTML\b|\bentit(?:y|ies)\b")
_MOST_ROUNDS = 20  # damage within damage within damage; each round takes a layer off

_REPAIR = Remedy(
    "repair",
    "Repair",
    "Puts the characters back that were meant, where that is certain, and takes control characters out. "
    "What is lost (\ufffd) stays and has to be typed again.",
)


class Encoding(RecordCheck):
    name: ClassVar[str] = "encoding"
    title: ClassVar[str] = "Damaged characters"
    explains: ClassVar[str] = (
        "Text that was read with the wrong alphabet (Ã¼ for ü), lost characters (\ufffd), control characters, and entities "
        "such as &amp; left over from a web page. Texts that hold HTML or code keep their entities."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = (_REPAIR, REJECT, REMOVE)

    def find(self, record: Record) -> Iterator[Finding]:
        for field, text in texts(record):
            for _, found in zip(range(MOST), _damage(field, text), strict=False):
                yield found

    def _rewrite(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        damaged = {flag.field for flag in flags}
        return rewritten(record, {field: repaired(text) for field, text in texts(record) if field in damaged})


def repaired(text: str) -> str:
    """The text as it was meant, layer by layer, until nothing is left that can be put right."""
    for _ in range(_MOST_ROUNDS):
        before, text = text, _one_layer(text)
        if text == before:
            break
    return text


def _one_layer(text: str) -> str:
    pieces: list[str] = []
    end = 0
    for start, stop, meant, _ in _misread(text):
        pieces += [text[end:start], meant]
        end = stop
    if pieces:  # what it becomes may be misread itself, control characters and all
        return "".join([*pieces, text[end:]])
    text = _CONTROL.sub(_instead, text)
    return _ENTITY.sub(_unescaped, text) if "&" in text and not _IS_MARKUP.search(text) else text


def _damage(field: str, text: str) -> Iterator[Finding]:
    misread = _misread(text)
    for start, stop, meant, seen in misread:
        note = f"'{seen[:20]}' was '{meant[:20]}' before it was read with the wrong alphabet."
        yield Finding(field, note, start, stop, {"kind": "misread", "repaired": meant[:200]})
    for match in _LOST.finditer(text):
        yield Finding(field, "A character was lost here and has to be typed again.", *match.span(), {"kind": "lost"})
    said = 0  # a misread character may hold what looks like a control character: it is said once
    for match in _CONTROL.finditer(text):
        while said < len(misread) and misread[said][1] <= match.start():
            said += 1
        if said == len(misread) or match.start() < misread[said][0]:
            yield Finding(field, f"A control character (U+{ord(match[0]):04X}).", *match.span(), {"kind": "control"})
    if "&" in text and not _IS_MARKUP.search(text):
        for match in _ENTITY.finditer(text):
            if (meant := _unescaped(match)) != match[0]:
                note = f"'{match[0][:20]}' is '{meant}' in HTML."
                yield Finding(field, note, *match.span(), {"kind": "entity", "repaired": meant})


def _misread(text: str) -> list[tuple[int, int, str, str]]:
    """Start, end, what was meant and what is there, of runs that are UTF-8 read as Windows-1252 or Latin-1."""
    if text.isascii():
        return []
    certain: list[tuple[int, int, str, str]] = []
    doubtful: list[tuple[int, int, str, str]] = []
    for match in _RUN.finditer(text):
        seen = match[0]
        try:
            meant = bytes(_BYTE[c] for c in seen).decode("utf-8")
        except UnicodeDecodeError:  # no character has these bytes, so that nothing was misread
            continue
        if _PLAUSIBLE.fullmatch(_CONTROL.sub("", meant) if len(meant) > 1 else meant):
            is_sure = len(meant) > 1 or (seen[0] in _ALONE and seen[1] not in _QUOTES)
            (certain if is_sure else doubtful).append((*match.span(), meant, seen))
    return sorted(certain + doubtful) if certain else []


def _instead(match: re.Match[str]) -> str:
    """The sign of Windows-1252 for a control character from 0x80 on, where it has one; else nothing."""
    try:
        return bytes([ord(match[0])]).decode("cp1252") if "\x80" <= match[0] <= "\x9f" else ""
    except UnicodeDecodeError:
        return ""


def _unescaped(match: re.Match[str]) -> str:
    """What the entity stands for; the entity itself where there is none such, or it is no character for a text."""
    name = match[0][1:-1].rsplit(";", 1)[-1]
    meant = html.unescape(f"&{name};") if name[0] == "#" else html5.get(f"{name};", "")
    return match[0] if not meant or "\ufffd" in meant or _CONTROL.search(meant) else meant
