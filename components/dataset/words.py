"""How this tab says things: categories, dates, sizes, and texts cut to a cell. All of it HTML-safe where it says so."""

from __future__ import annotations

import html
import time

from studio.instructions import CATEGORIES
from studio.store import Snapshot

__all__ = ["at", "category_words", "clamped", "count", "day", "heading", "size", "when"]

_CELL_LETTERS = 160


def clamped(text: str) -> str:
    """HTML: at most two lines of it (style.css), and no more letters than can be in them."""
    cut = text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS].rstrip()}…"
    return f'<span class="clamp">{html.escape(cut)}</span>'


def category_words(category: str) -> str:
    """open_qa -> Open QA. A category of somebody's own stays as it was written; escape it."""
    if category not in CATEGORIES:
        return category
    words = category.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}".replace(" qa", " QA")


def count(n: int, one: str = "record", more: str = "") -> str:
    """1 record, 2,000 records."""
    return f"{n:,} {one if n == 1 else more or f'{one}s'}"


def heading(words: str) -> str:
    """HTML."""
    return f'<h2 class="section-title">{html.escape(words)}</h2>'


def size(snapshot: Snapshot) -> str:
    return f"{count(snapshot.rows)}, {day(snapshot.created_at)}"


def day(at: float) -> str:
    return time.strftime("%d %b", time.localtime(at)).lstrip("0")


def at(moment: float) -> str:
    return f"{day(moment)} {time.strftime('%Y, %H:%M', time.localtime(moment))}"


def when(moment: float) -> str:
    """12:04 for today, the day as well for earlier ones."""
    is_today = time.strftime("%x", time.localtime(moment)) == time.strftime("%x")
    return time.strftime("%H:%M", time.localtime(moment)) if is_today else at(moment)
