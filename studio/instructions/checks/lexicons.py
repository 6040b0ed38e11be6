"""Word lists in assets/lexicons: words apart by white space, lines with # are notes, and a last sign marks a word."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["lexicon"]

_FOLDER = Path(__file__).resolve().parents[3] / "assets" / "lexicons"
_MARKS = "~^"


@cache
def lexicon(name: str, mark: str | None = None) -> frozenset[str]:
    """The words of a list without case: all of them, those with a mark, or with '' those without any."""
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if not line.startswith("#") for word in line.split()]
    if mark is not None:
        words = [word for word in words if (word[-1] == mark if mark else word[-1] not in _MARKS)]
    return frozenset(word.rstrip(_MARKS).casefold() for word in words)
