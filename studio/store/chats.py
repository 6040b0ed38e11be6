"""Chats: trees of turns."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["ChatVerbs"]


class ChatVerbs(Database):
    pass
