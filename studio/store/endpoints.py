"""Servers that answer for us."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["EndpointVerbs"]


class EndpointVerbs(Database):
    pass
