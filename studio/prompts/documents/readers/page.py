"""HTML: the text that people would see. Nothing is run or fetched, and scripts, styles and hidden parts are dropped.

nh3 repairs the page as a browser would and drops all but the tags that say where text begins and ends; what is left is
well-formed, so the standard library's parser can be trusted with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from studio.errors import InputError
from studio.prompts.documents.passages import Block, Outline
from studio.prompts.documents.source import Source, clean

__all__ = ["read"]

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset"),
    *("figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
}
_CELLS = {"td", "th"}
_DROPPED = {
    *("script", "style", "template", "noscript", "iframe", "object", "svg", "math", "head", "title", "select"),
    *("textarea", "audio", "video", "canvas"),
}
# Tags that are often left open, and close by themselves.
_SINGLE = {
    *(
        "br",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "p",
        "li",
        "dd",
        "dt",
        "td",
        "th",
        "tr",
        "option",
        "a",
        "b",
        "i",
        "font",
    )
}
_DEEPEST = 5000


def read(source: Source) -> Iterator[Block]:
    """One block a heading, a paragraph, an item of a list or a row of a table."""
    import nh3  # a page that shows no document starts without it

    text = source.text()
    # Its time grows with the square of the depth: 5,000 tags inside each other 0.05 s, 200,000 over a minute.
    if _depth(text) > _DEEPEST:
        raise InputError(
            f"{source.name} has over {_DEEPEST} tags inside each other. Save the page as text and add that."
        )
    safe = nh3.clean(
        text,
        tags={*_HEADINGS, *_BLOCKS, *_CELLS, "br"},
        clean_content_tags=_DROPPED,
        attributes={},
        link_rel=None,
        strip_comments=True,
    )
    parser = _Parser()
    parser.feed(safe)
    parser.close()
    parser.end()
    return iter(parser.blocks)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._outline = Outline()
        self._text: list[str] = []
        self._level = 0
        self._pre = 0
        self._number = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS or tag in _HEADINGS:
            self.end()
        if tag in _CELLS and "".join(self._text).strip():
            self._text.append(" | ")
        self._level = _HEADINGS.get(tag, self._level)
        self._pre += tag == "pre"
        if tag == "br":
            self._text.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS or tag in _HEADINGS:
            self.end()
        if tag in _HEADINGS:
            self._level = 0
        self._pre = max(0, self._pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        self._text.append(data if self._pre else re.sub(r"\s+", " ", data))

    def end(self) -> None:
        """What was read since the last block is one."""
        text = clean(re.sub(r" *\n *", "\n", "".join(self._text)) if not self._pre else "".join(self._text)).strip()
        self._text = []
        if not text:
            return
        self._number += 1
        if self._level:
            self._outline.enter(self._level, text)
        self.blocks.append(
            Block(text, self._outline.path, "paragraph", self._number, self._number, is_heading=self._level > 0)
        )


def _depth(text: str) -> int:
    """How deep blocks nest at most: opening tags less closing ones."""
    depth = deepest = 0
    for match in re.finditer(r"<(/?)([a-zA-Z][\w-]*)", text):
        if match[2].lower() not in _SINGLE:
            depth = max(0, depth - 1) if match[1] else depth + 1
            deepest = max(deepest, depth)
    return deepest
