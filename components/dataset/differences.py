"""What differs between two sets of records, for reading: fifty at a time, with the words that changed marked."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from components.dataset.words import category_words, clamped, count
from components.picking import rows_to_read
from studio.instructions.comparing import Change, Difference, shown
from studio.prompts import Piece, changed_fields

__all__ = ["KINDS", "PAGE", "difference_html", "kind_shown", "kinds_with_counts", "pages_of", "rows_html"]

PAGE = 50
KINDS = ("changed", "added", "removed", "moved")

_AROUND = 120  # letters of unchanged text that stay beside a change
_SHOWN = 6000  # letters of one field
_NAMES = {"turns": "Conversation"}
_TAGS = {"same": "span", "added": "ins", "removed": "del"}


def pages_of(found: Difference, kind: str) -> int:
    return max(1, -(-len(_of(found, kind)) // PAGE))


def kind_shown(found: Difference, kind: str) -> str:
    """The chosen kind, unless there are none of it and some of another."""
    counts = {name: len(_of(found, name)) for name in KINDS}
    return kind if counts.get(kind) else next((name for name in KINDS if counts[name]), KINDS[0])


def kinds_with_counts(found: Difference, kind: str) -> gr.Radio:
    """The kinds of difference and how many there are of each, with that one chosen."""
    counts = {name: len(_of(found, name)) for name in KINDS}
    choices = [(f"{name.capitalize()} ({n:,})", name) for name, n in counts.items()]
    return gr.Radio(choices=choices, value=kind, visible=any(counts.values()))


def difference_html(found: Difference, kind: str, page: int = 1) -> str:
    """One page of one kind, the first page being 1."""
    some: Sequence[Any] = _of(found, kind)[(page - 1) * PAGE : page * PAGE]
    if not some:
        return ""
    if kind == "changed":
        return "".join(map(_change, some))
    if kind == "moved":
        rows = [(_number(c.after), clamped(c.after.get("instruction", "")), *map(html.escape, c.move)) for c in some]
        return _framed(rows_to_read("Moved records", ("No.", "Instruction", "From", "To"), rows, widths=_MOVED))
    return rows_html(f"{kind.capitalize()} records", some)


def rows_html(label: str, rows: Sequence[Mapping[str, Any]], first: int = 0) -> str:
    """Rows of a snapshot as a table, with their numbers, or counted from `first`."""
    cells = [
        (
            f"{first + n:,}" if first else _number(row),
            clamped(row.get("instruction", "")),
            clamped(row.get("response", "")),
            html.escape(category_words(row.get("category") or "")),
            html.escape(row.get("split") or ""),
        )
        for n, row in enumerate(rows)
    ]
    head = ("Row" if first else "No.", "Instruction", "Response", "Category", "Split")
    return _framed(rows_to_read(label, head, cells, widths=("56px", "", "", "132px", "88px")))


_MOVED = ("56px", "", "110px", "110px")


def _of(found: Difference, kind: str) -> Sequence[Any]:
    return {"changed": found.changed, "added": found.added, "removed": found.removed, "moved": found.moved}[kind]


def _change(change: Change) -> str:
    fields = changed_fields(shown(change.before), shown(change.after))
    named = _number(change.after) or _number(change.before)
    title = f"Record {named}" if named else html.escape(_cut(change.after.get("instruction", "")))
    parts = "".join(
        f'<dt>{html.escape(_NAMES.get(name, name.capitalize()))}</dt><dd class="diff">{_marked(pieces)}</dd>'
        for name, pieces in fields.items()
    )
    return f'<section class="snapshot-change"><h3>{title}</h3><dl>{parts}</dl></section>'


def _marked(pieces: Sequence[Piece]) -> str:
    """The pieces with tags; of long unchanged text only what stands beside a change."""
    words, left = [], _SHOWN
    for place, piece in enumerate(pieces):
        text = _near(piece.text, place > 0, place < len(pieces) - 1) if piece.kind == "same" else piece.text
        if len(text) > left:
            text = f"{text[:left]}…"
        left -= len(text)
        words.append(f"<{_TAGS[piece.kind]}>{html.escape(text)}</{_TAGS[piece.kind]}>")
        if left <= 0:
            words.append(f'<span class="quiet"> {count(len(pieces) - place - 1, "more piece")}</span>')
            break
    return "".join(words)


def _near(text: str, has_before: bool, has_after: bool) -> str:
    if len(text) <= 2 * _AROUND:
        return text
    start = text[:_AROUND] if has_before else ""
    end = text[-_AROUND:] if has_after else ""
    return f"{start} … {end}"


def _number(row: Mapping[str, Any]) -> str:
    return str(row.get("record") or "")


def _cut(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:90].rstrip()}…"


def _framed(table: str) -> str:
    return f'<div class="framed">{table}</div>'
