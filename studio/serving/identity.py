"""Who is asking, and what they may do.

Identity is read from the connection alone: never from event data, a form field or a header of the page's own.
Until there are accounts, whoever can reach the page is the user "owner", who may do everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from starlette.requests import HTTPConnection

from studio.errors import StudioError

__all__ = ["OWNER", "Identify", "Role", "owner_only", "require"]

Role = Literal["member", "admin"]
Identify = Callable[[HTTPConnection], str | None]

OWNER = "owner"


def owner_only(connection: HTTPConnection) -> str | None:
    """Single-user mode: the listener is on loopback, so whoever gets here is the owner."""
    return OWNER


def require(user: str | None, role: Role) -> str:
    """The user's name, if that user holds the role."""
    if user != OWNER:
        raise StudioError(f"This needs the role '{role}', and you are not signed in. Reload the page to sign in again.")
    return user
