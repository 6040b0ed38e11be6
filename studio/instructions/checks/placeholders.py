"""Empty or placeholder text: what somebody meant to fill in later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from studio.instructions.checks.base import (
    MOST,
    NOTHING,
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

__all__ = ["Placeholders"]

_WHOLE = frozenset("todo to-do tbd tba tbc fixme n/a n.a null nil undefined xxx xxxx asdf qwerty placeholder".split())
_SIGNS = frozenset("... … . - -- --- ? ??? _ [] {} () NaN nan NA".split())
_LONGEST_WHOLE = 40  # characters, white space around not counted

_INSIDE = (
    (re.compile(r"\blorem ipsum\b", re.IGNORECASE), "Lorem ipsum, the printers' filler text."),
    (
        re.compile(
            r"[\[<](?:please )?(?:insert|enter|add|fill in|type|your|todo|tbd|tba|placeholder|replace|hier einfügen|"
            r"insérer|insertar|inserire)\b[^\[\]<>\n]{0,60}[\]>]",
            re.IGNORECASE,
        ),
        "A gap that was left to be filled in.",
    ),
    (re.compile(r"\b(?:TODO|FIXME|TBD|XXX):"), "A note to finish this later."),
    (re.compile(r"\{\{ ?[\w.|\- ]{1,60} ?\}\}|\{%[^%\n]{1,80}%\}"), "A template's braces were never filled in."),
    (
        re.compile(r"(?<![\w{$\\])\$?\{[a-z]{2,20}(?:_[a-z]{1,20}){0,4}\}(?!\})"),
        "A template's braces were never filled in.",
    ),
)
_HINTS = ("orem", "OREM", "[", "<", ":", "{")  # no pattern above fits a text without any of them

_CLEAR = Remedy("clear", "Empty the context", "A context such as 'n/a' becomes no context at all. Other texts stay.")


class Placeholders(RecordCheck):
    name: ClassVar[str] = "placeholders"
    title: ClassVar[str] = "Empty or placeholder text"
    explains: ClassVar[str] = (
        "Texts such as TODO, n/a, lorem ipsum, '[insert name]' or braces of a template that was never filled in. "
        "A model that learns from them writes them. Program code between ``` marks is not judged."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = (REJECT, REMOVE, _CLEAR)

    def find(self, record: Record) -> Iterator[Finding]:
        for field, text in texts(record):
            if (whole := _as_whole(field, text)) is not None:
                yield whole
            else:
                yield from _inside(field, text)

    def _rewrite(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        is_context = any(flag.field == "context" and flag.details.get("whole") for flag in flags)
        return rewritten(record, {"context": ""}) if is_context else NOTHING


def _as_whole(field: str, text: str) -> Finding | None:
    bare = text.strip()
    if not bare:
        return None if field == "context" else Finding(field, "Nothing is written here.")
    if len(bare) > _LONGEST_WHOLE:
        return None
    if bare in _SIGNS or bare.casefold().strip("[]<>()\"'`*.: ") in _WHOLE:
        return Finding(field, f"'{bare}' stands where a text should be.", 0, len(text), {"whole": True})
    return None


def _inside(field: str, text: str) -> Iterator[Finding]:
    if "```" in text or not any(hint in text for hint in _HINTS):
        return
    left = MOST
    for pattern, note in _INSIDE:
        for match in pattern.finditer(text):
            if not left:
                return
            left -= 1
            yield Finding(field, note, *match.span())
