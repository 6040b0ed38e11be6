"""The card before the start: what a run will do and take, what stands in its way, and what its licences allow."""

from __future__ import annotations

import html
from typing import Literal

from components.frame import Tone, chip, notice
from components.picking import rows_to_read
from studio.models.licences import Gate
from studio.recipes.preflight import Block, Confidence, Preflight

__all__ = ["preflight_card"]

_TONES: dict[Confidence, Tone] = {"exact": "good", "measured": "good", "unknown": "caution"}
_GATES: dict[str, tuple[Tone, str]] = {
    "yes": ("good", "Allowed"),
    "no": ("bad", "Not allowed"),
    "unknown": ("caution", "Not known"),
}


def preflight_card(found: Preflight) -> str:
    """The whole as HTML: the sentence, what is in the way, the figures and how sure they are, and the licence."""
    ways = "".join(_block(block, "bad") for block in found.blocks)
    sentence = "" if found.blocks else notice(found.sentence)
    cautions = "".join(_block(block, "caution") for block in found.cautions)
    return f'<div class="before">{ways}{sentence}{cautions}{_figures(found)}{_licence(found.licence)}</div>'


def _block(block: Block, tone: Literal["caution", "bad"]) -> str:
    return notice(block.words, tone)


def _figures(found: Preflight) -> str:
    if not found.figures:
        return ""
    rows = [
        (
            f"<b>{html.escape(figure.name)}</b>",
            html.escape(figure.words),
            chip(figure.confidence.capitalize(), _TONES.get(figure.confidence, ""), figure.why),
            html.escape(figure.why),
        )
        for figure in found.figures
    ]
    head = ("Figure", "This run", "How sure", "Where it comes from")
    return rows_to_read("What this run will take", head, rows, widths=("130px", "", "100px", "38%"))


def _licence(gate: Gate) -> str:
    tone, words = _GATES[gate.verdict]
    conditions = "".join(f"<li>{html.escape(text)}</li>" for text in gate.conditions)
    listed = f"<ul>{conditions}</ul>" if conditions else ""
    return f'<div class="gate"><p><b>Licence</b> {chip(words, tone)} {html.escape(gate.sentence)}</p>{listed}</div>'
