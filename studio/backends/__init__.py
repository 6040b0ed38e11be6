"""One file per way to reach a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from studio.backends.base import Backend, Conversation, Mark, Marked
from studio.backends.echo import EchoBackend
from studio.backends.local import LocalBackend
from studio.backends.remote import RemoteBackend, Trial, try_endpoint
from studio.backends.streams import Partial, side_by_side
from studio.engine.client import EngineClient
from studio.models import resolve
from studio.models.endpoints import open_endpoint, split_endpoint
from studio.settings import Settings
from studio.specs import ModelRef

if TYPE_CHECKING:
    from studio.store import Store

__all__ = [
    "Backend",
    "Conversation",
    "EchoBackend",
    "LocalBackend",
    "Mark",
    "Marked",
    "Partial",
    "RemoteBackend",
    "Trial",
    "open_backend",
    "side_by_side",
    "try_endpoint",
]


def open_backend(
    ref: ModelRef, *, settings: Settings, store: Store, workspace: Path, engine: EngineClient | None = None
) -> Backend:
    """The backend for a model; without an `engine` to share it gets a client of its own."""
    if ref.kind == "echo":
        return EchoBackend(ref)
    if ref.kind == "endpoint":
        opened = open_endpoint(split_endpoint(ref)[0], store=store, workspace=workspace, settings=settings)
        return RemoteBackend(ref, opened)
    weights = resolve(ref, settings=settings, store=store, workspace=workspace)
    if engine is not None:
        return LocalBackend(weights, engine)
    return LocalBackend(weights, EngineClient(settings, workspace), owns_engine=True)
