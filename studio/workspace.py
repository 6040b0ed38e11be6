"""The workspace: a folder and a database, and the way to everything else. Passed around; nothing global."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from studio.backends import Backend, open_backend
from studio.engine.client import EngineClient
from studio.errors import StorageError, StudioError
from studio.jobs import queue
from studio.models import Weights, convert, resolve
from studio.models.endpoints import endpoint_ref
from studio.models.shelf import shelf
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Job, Store, read_rows
from studio.tasks import Task

__all__ = ["Offer", "Workspace"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """A model to choose from, with the licence its answers come under ('' when nobody said)."""

    ref: ModelRef
    title: str
    licence: str

    @property
    def label(self) -> str:
        return f"{self.ref} · {self.title}" if self.ref.kind == "run" else self.title


class Workspace:
    """Everything one team made, in one folder (and, if told so, one PostgreSQL database)."""

    def __init__(self, path: Path, settings: Settings, store: Store) -> None:
        self.path = path
        self.settings = settings
        self.store = store
        self.engine = EngineClient(settings, path)

    @classmethod
    def open(
        cls, path: Path | str | None = None, database_url: str | None = None, settings: Settings | None = None
    ) -> Self:
        """Open the folder, making it when it is not there; raises StorageError when that cannot be."""
        settings = settings or Settings()
        root = Path(path or settings.workspace).resolve()
        try:
            for folder in (root, root / "runs", root / "models", root / "snapshots"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The workspace {root} cannot be made ({error.strerror}). Choose another folder with --workspace."
            ) from error
        if not os.access(root, os.W_OK):
            raise StorageError(f"The workspace {root} cannot be written. Choose another folder with --workspace.")
        return cls(root, settings, Store.in_folder(root, database_url or settings.database_url))

    @property
    def name(self) -> str:
        return self.path.name

    def weights(self, ref: ModelRef, wait: bool = True) -> Weights:
        """Where a model's files lie; raises NotFound with the cure. Without `wait` a model that is still being
        prepared is a sentence saying how far it is."""
        return resolve(ref, settings=self.settings, store=self.store, workspace=self.path, wait=wait)

    def backend(self, ref: ModelRef) -> Backend:
        """Where answers of that model come from."""
        return open_backend(ref, settings=self.settings, store=self.store, workspace=self.path, engine=self.engine)

    def prepare(self) -> threading.Thread:
        """Convert the embedded model in the background; pages show how far it is (studio.models.conversion)."""

        def work() -> None:
            try:
                convert(self.settings.cache, lambda share, message: None)
            except StudioError as error:
                # The page says it again, with the cure, when somebody chooses the model.
                log.error("The embedded model is not ready: %s", error)

        thread = threading.Thread(target=work, name="prepare", daemon=True)
        thread.start()
        return thread

    def offers(self) -> list[Offer]:
        """Models that answer: those on the shelf that can be read, finished runs, newest first, and endpoints' models."""
        found = [
            Offer(ModelRef(m.ref), m.title, m.licence.id)
            for m in shelf(self.settings, self.path)
            if m.state not in ("missing", "unreadable")
        ]
        found += [
            Offer(m.ref, f"{m.snapshot.partition(':')[2]} ({m.method})" if m.snapshot else m.title, m.licence)
            for m in self.store.models(answers=True)
        ]
        return found + self._endpoint_offers()

    def _endpoint_offers(self) -> list[Offer]:
        """Models on servers that may be asked: offline, those on this machine only."""
        return [
            Offer(
                endpoint_ref(endpoint.name, model.name),
                f"{model.name} · {endpoint.name}{'' if endpoint.is_here else ' · leaves this machine'}",
                "",
            )
            for endpoint in self.store.endpoints()
            if endpoint.is_here or not self.settings.offline
            for model in endpoint.models
        ]

    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        """The rows of a frozen dataset, checked against its digest."""
        return read_rows(self.path, self.store.snapshot(ref))

    def queue(self, task: Task, *, author: str, client_key: str | None = None) -> Job:
        """Check a task and put it in line. The same client key gives the same job back."""
        return queue(self.store, task, author=author, client_key=client_key)

    async def close(self) -> None:
        """Let go of the engine and the database."""
        await self.engine.close()
        self.store.close()
