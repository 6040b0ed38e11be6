"""Worked examples to show in prompts."""

from __future__ import annotations

from studio.store.database import Database

__all__ = ["BankVerbs"]


class BankVerbs(Database):
    pass
