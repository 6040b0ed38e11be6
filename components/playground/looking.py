"""What the model gets: the token bar by parts, the rendered prompt, its tokens, and the likeliest next ones."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from components.frame import notice
from studio.prompts import Budget, Composed
from studio.specs import TokenLogprob

__all__ = ["bar", "likeliest", "shown_parts", "tokens"]

_WORDS = {
    "system": "system",
    "examples": "examples",
    "documents": "documents",
    "query": "question",
    "marks": "the model's own marks",
    "reserve": "room for the answer",
}


def bar(found: Budget | None, trouble: str = "") -> str:
    """The prompt by its parts against the model's window; or why there is none."""
    if trouble:
        return notice(trouble, "bad")
    if found is None:
        return '<div class="budget"><span class="quiet">Tokens are counted as you type.</span></div>'
    parts = [(name, count) for name, count in found.parts.items() if count]
    widths = "".join(
        f'<i data-part="{name}" style="width:{100 * min(1.0, count / found.window):.3f}%" '
        f'title="{_WORDS[name]}: {count:,} tokens"></i>'
        for name, count in parts
    )
    legend = "".join(f'<span data-part="{name}"><i></i>{_WORDS[name]} {count:,}</span>' for name, count in parts)
    words = f"{found.tokens:,} tokens of prompt + {found.reserve:,} for the answer, of {found.window:,}"
    trouble_line = notice(found.advice, "bad") if found.advice else ""
    return (
        f'<div class="budget"><div class="bar" aria-hidden="true">{widths}</div>'
        f'<span class="{"quiet" if found.fits else "bad"}">{words}</span>'
        f'<div class="legend">{legend}</div>{trouble_line}{_cut(found)}</div>'
    )


def _cut(found: Budget) -> str:
    gone = [cost for cost in found.costs if cost.is_cut]
    if not gone:
        return ""
    rows = "".join(
        f"<li>{html.escape(_line(c.example.instruction))} <small>{c.tokens:,} tokens</small></li>" for c in gone
    )
    return f'<p class="quiet">These examples would have to go, first to go first:</p><ol class="cut">{rows}</ol>'


def shown_parts(composed: Composed) -> str:
    """Which examples and passages this question got."""
    examples = "".join(
        f"<li>{html.escape(_line(pick.example.instruction))}"
        + (f" <small>similarity {pick.similarity:.2f}</small>" if pick.similarity is not None else "")
        + (" <small>locked</small>" if pick.example.is_locked else "")
        + "</li>"
        for pick in composed.selection.picks
    )
    passages = "".join(f"<li>{html.escape(hit.label)} <small>{hit.score:.1f}</small></li>" for hit in composed.hits)
    found = ""
    if examples:
        found += (
            f'<p class="quiet">Examples in this prompt, {html.escape(composed.selection.order)}:</p><ol>{examples}</ol>'
        )
    if composed.selection.own:
        found += notice("An example asks this very question; it was left out.", "caution")
    if composed.selection.missing:
        found += notice(f"{composed.selection.missing} examples fewer than wanted: the source has no more.", "caution")
    if passages:
        found += f'<p class="quiet">Passages in this prompt:</p><ol>{passages}</ol>'
    if composed.question.passages and not composed.hits:
        found += notice("No passage of your documents shares a word with this question.", "caution")
    return f'<div class="shown">{found}</div>' if found else ""


def tokens(found: Sequence[tuple[str, int]]) -> str:
    """The prompt token by token, each with its number in the vocabulary."""
    if not found:
        return '<p class="quiet">Write a question to see its tokens.</p>'
    spans = "".join(f'<span title="{number}">{_spelled(text)}</span>' for text, number in found)
    return f'<p class="quiet">{len(found):,} tokens</p><div class="tokens">{spans}</div>'


def likeliest(found: Sequence[TokenLogprob]) -> str:
    """The likeliest first tokens of the answer, as bars."""
    rows = "".join(
        f"<tr><td><code>{_spelled(t.token)}</code></td>"
        f'<td class="share"><i style="width:{100 * math.exp(t.logprob):.2f}%"></i></td>'
        f"<td>{math.exp(t.logprob):.1%}</td></tr>"
        for t in found
    )
    return f'<table class="likeliest" aria-label="Likeliest next tokens"><tbody>{rows}</tbody></table>'


def _spelled(token: str) -> str:
    shown = html.escape(token).replace(" ", "<u>·</u>").replace("\n", "<u>⏎</u>")
    return shown + ("<br>" if token.endswith("\n") else "") or "<u>∅</u>"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"
