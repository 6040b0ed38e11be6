"""Figures as people say them; pages, commands and verdicts say them alike."""

from __future__ import annotations

__all__ = ["duration"]


def duration(seconds: float) -> str:
    """'8 s', '3 min', '1 h 20 min': as exact as anyone plans."""
    if round(seconds) < 60:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
