"""Domain documents and the passages they were cut into."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["DocumentVerbs"]


class DocumentVerbs(Database):
    pass
