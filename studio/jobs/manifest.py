"""The manifest: what a run was told and what it stands on, written before it starts and read by its worker.

`runs/ID/manifest.json` is enough to say what was done, and to do it again.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import RunError
from studio.jobs.registry import task_from
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Store
from studio.tasks import Task

__all__ = ["Manifest"]

_PACKAGES = (
    "ladder-studio",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "trl",
    "accelerate",
    "datasets",
)


class Manifest(BaseModel):
    """One run's facts. `models` and `snapshots` hold references and digests."""

    model_config = ConfigDict(frozen=True)

    run: int
    kind: str
    task: dict[str, Any]
    author: str
    created_at: float
    seed: int | None = None
    models: dict[str, str] = Field({}, description="SHA-256 of the base's weights; filled in by the worker.")
    snapshots: dict[str, str] = {}
    versions: dict[str, str] = {}

    @classmethod
    def of(cls, job: Job, store: Store) -> Manifest:
        """The facts known before the start. The worker adds the weights' hashes: reading takes a while."""
        task = task_from(job.kind, job.task)
        named = set(_references(task))
        return cls(
            run=job.id,
            kind=job.kind,
            task=job.task,
            author=job.author,
            created_at=job.created_at,
            seed=getattr(task, "seed", None),
            models={ref: "" for ref in sorted(named) if isinstance(ref, ModelRef)},
            snapshots={ref: store.snapshot(ref).digest for ref in sorted(named) if isinstance(ref, SnapshotRef)},
            versions=_versions(),
        )

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        path = folder / "manifest.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing. Put it back, or start the run anew.") from error
        except ValidationError as error:
            raise RunError(f"{path} cannot be read ({error.errors()[0]['msg']}). Start the run anew.") from error

    def write(self, folder: Path) -> None:
        """All of it or nothing: a reader never sees half a manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".manifest.{os.getpid()}.part"
        with part.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / "manifest.json")

    def with_model(self, ref: str, digest: str) -> Manifest:
        """The same with a model's digest; raises RunError when an earlier attempt stood on other weights."""
        before = self.models.get(ref, "")
        if before not in ("", digest):
            raise RunError(
                f"The weights of {ref} changed since run {self.run} began "
                f"({before[:12]} then, {digest[:12]} now). "
                "Put the old weights back to resume it, or start a new run."
            )
        return self.model_copy(update={"models": {**self.models, ref: digest}})

    def build(self) -> Task:
        return task_from(self.kind, self.task)


def _references(value: Any) -> Iterator[ModelRef | SnapshotRef]:
    if isinstance(value, ModelRef | SnapshotRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
