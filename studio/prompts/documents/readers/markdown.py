"""Markdown: left as it is written, which people and models read well; only its headings are looked for.

Scripts, styles and comments in it are dropped. Headings in fenced code are code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from studio.prompts.documents.passages import Block, Outline
from studio.prompts.documents.source import Source

__all__ = ["read"]

_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_DECORATION = re.compile(r"[*_`]+|\s+#+\s*$|!?\[([^\]]*)\]\([^)]*\)")


def read(source: Source) -> Iterator[Block]:
    """One block a heading, a paragraph or a fenced piece of code."""
    # The hidden leaves its line breaks, so that the lines that are cited stay where they are.
    text = _HIDDEN.sub(lambda match: "\n" * match.group().count("\n"), source.text())
    outline = Outline()
    lines: list[str] = []
    fence = ""
    number = 0
    for number, line in enumerate(text.split("\n"), start=1):
        mark = _FENCE.match(line)
        heading = None if fence else _HEADING.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
            lines.append(line)
        elif heading:
            yield from _blocks(lines, number - 1, outline)
            outline.enter(len(heading[1]), _title(heading[2]))
            yield Block(line.strip(), outline.path, "line", number, number, is_heading=True)
            lines = []
        elif _is_underline(line, lines):
            title = " ".join(lines)
            outline.enter(1 if "=" in line else 2, _title(title))
            text = "\n".join([*lines, line])
            yield Block(text, outline.path, "line", number - len(lines), number, is_heading=True)
            lines = []
        elif line.strip() or mark:
            fence = mark[1] if mark else ""
            lines.append(line)
        else:
            yield from _blocks(lines, number - 1, outline)
            lines = []
    yield from _blocks(lines, number, outline)


def _is_underline(line: str, above: list[str]) -> bool:
    # Under a table, a list or front matter the same signs mean something else.
    return len(above) == 1 and bool(_UNDERLINE.fullmatch(line)) and not re.match(r"\s*([|>\-*+]|\d+[.)]|:)", above[0])


def _title(text: str) -> str:
    return _DECORATION.sub(lambda match: match[1] or "", text).strip()


def _blocks(lines: list[str], last: int, outline: Outline) -> Iterator[Block]:
    while lines and not lines[-1].strip():
        lines, last = lines[:-1], last - 1
    if lines:
        text = "\n".join(line.rstrip() for line in lines)
        yield Block(text, outline.path, "line", last - len(lines) + 1, last)
