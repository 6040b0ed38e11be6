"""Prompt templates that people wrote, in versions that never change; and drafts."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["TemplateVerbs"]


class TemplateVerbs(Database):
    pass
