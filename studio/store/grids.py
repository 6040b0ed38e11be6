"""Cells of batch evaluations, and the cache of answers."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["GridVerbs"]


class GridVerbs(Database):
    pass
