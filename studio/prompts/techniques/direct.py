"""Direct: the prompt as it is. With examples as earlier turns it is few-shot prompting."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from studio.prompts.techniques.base import Found, Knobs, Technique

__all__ = ["Direct"]


class Place(Knobs):
    """Where in the text the answer begins."""

    marker: str = Field(
        "", title="Marker", description="The answer stands behind these words; empty for the whole text."
    )


class Direct(Technique):
    """One call, nothing added."""

    name: ClassVar[str] = "direct"
    aliases: ClassVar[tuple[str, ...]] = ("plain", "zero-shot", "few-shot")
    title: ClassVar[str] = "Direct"
    summary: ClassVar[str] = "The prompt as it is. Examples, where it has some, are earlier turns of the conversation."
    citation: ClassVar[str] = "Brown et al. 2020, arXiv 2005.14165"
    knobs: ClassVar[type[Knobs]] = Place

    settings: Place

    def extract(self, text: str) -> Found:
        """Behind the last marker; the whole text, leniently where the marker is missing."""
        marker = self.settings.marker
        place = text.rfind(marker) if marker else 0
        if place < 0:
            return Found.of(text, 0, len(text), strict=False)
        return Found.of(text, place + len(marker), len(text), strict=True)
