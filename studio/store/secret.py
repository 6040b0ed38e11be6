"""The workspace's secret: made once, kept in its folder, readable by its owner only; and what it locks.

It signs session cookies, and keys of other people's servers lie in the database locked with it: a copy of the
database without this file gives no key away. A backup that should bring the keys back needs both.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from studio.errors import StorageError

__all__ = ["Vault", "workspace_secret"]

_NONCE_BYTES = 12  # what GCM asks for; drawn anew for every text


def workspace_secret(workspace: Path) -> str:
    """The workspace's secret, the same across restarts; raises StorageError when its file cannot be used."""
    path = workspace / "session.key"
    try:
        made = None if path.exists() else _make(path)
        key = made or path.read_text(encoding="ascii").strip()
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(
            f"The key file {path} cannot be used ({error.strerror}). Make it readable, or delete it."
        ) from error
    if len(key) < 32:
        raise StorageError(
            f"The key file {path} is cut short. Delete it: a new one is made at the next start; "
            "people sign in again, and endpoints need their keys again."
        )
    return key


class Vault:
    """Locks short texts with the workspace's secret (AES-256-GCM under a key derived with HKDF, RFC 5869)."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def lock(self, text: str, bound_to: str) -> str:
        """The text as it may lie in the database. It opens only together with the same `bound_to`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, text.encode(), bound_to.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode("ascii")

    def unlock(self, locked: str, bound_to: str) -> str:
        """The text again; raises StorageError when the secret or `bound_to` is another one than at locking."""
        try:
            raw = base64.urlsafe_b64decode(locked)
            return self._cipher().decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            # `from None`: what was locked must not come near a log.
            raise StorageError(
                f"It was locked with another secret than the one in {self._workspace / 'session.key'}, "
                "or changed in the database since."
            ) from None

    def _cipher(self) -> AESGCM:
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ladder studio: keys of endpoints, 1")
        return AESGCM(derive.derive(workspace_secret(self._workspace).encode("ascii")))


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
