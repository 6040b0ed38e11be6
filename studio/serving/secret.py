"""The key that signs session cookies: made once, kept in the workspace, readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from studio.errors import StorageError

__all__ = ["session_secret"]


def session_secret(workspace: Path) -> str:
    """The workspace's key. Pages stay signed in across restarts because it stays the same."""
    path = workspace / "session.key"
    try:
        made = _make(path)
        key = made or path.read_text(encoding="ascii").strip()
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(
            f"The key file {path} cannot be used ({error.strerror}). Make it readable, or delete it."
        ) from error
    if len(key) < 32:
        raise StorageError(f"The key file {path} is cut short. Delete it: a new one is made at the next start.")
    return key


def _make(path: Path) -> str | None:
    """A fresh key, or None when there is one already."""
    key = secrets.token_urlsafe(48)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, this never replaces the key of a start that was faster
    except FileExistsError:
        return None
    finally:
        temporary.unlink(missing_ok=True)
    return key
