"""The manifest: what a run was told and what it stands on, written before it starts and read by its worker.

`runs/ID/manifest.json` is enough to say what was done, and to do it again.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import RunError
from studio.jobs.registry import task_from
from studio.models.files import sha256, weight_files
from studio.settings import Settings
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Store
from studio.tasks import Task

__all__ = ["Manifest", "Origin", "adapter_digest", "machine", "versions"]

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

_Ground = Literal["models", "adapters", "tokenizers"]
_GROUNDS: Mapping[_Ground, str] = {
    "models": "weights",
    "adapters": "adapter's files",
    "tokenizers": "tokenizer and chat template",
}


class Origin(BaseModel):
    """The run that another repeats, and what that one stood on.

    `changes` holds field -> [then, now]. When `is_held`, other weights or tokenizers are refused; else they are only told of.
    """

    model_config = ConfigDict(frozen=True)

    run: int
    is_from_elsewhere: bool = False
    is_held: bool = True
    changes: dict[str, list[Any]] = {}
    checkpoint: str = Field("", description="Of that run; the repetition goes on from there.")
    models: dict[str, str] = {}
    adapters: dict[str, str] = {}
    tokenizers: dict[str, str] = {}
    snapshots: dict[str, str] = {}

    @classmethod
    def of(cls, manifest: Manifest, changes: Mapping[str, list[Any]], *, is_from_elsewhere: bool = False) -> Origin:
        return cls(
            run=manifest.run,
            is_from_elsewhere=is_from_elsewhere,
            is_held=not changes,
            changes=dict(changes),
            models=manifest.models,
            adapters=manifest.adapters,
            tokenizers=manifest.tokenizers,
            snapshots=manifest.snapshots,
        )

    @property
    def name(self) -> str:
        """As people call it."""
        return f"run {self.run} of the manifest" if self.is_from_elsewhere else f"run {self.run}"


class Manifest(BaseModel):
    """One run's facts. `models`, `adapters`, `tokenizers` and `snapshots` hold references and digests."""

    model_config = ConfigDict(frozen=True)

    run: int
    kind: str
    task: dict[str, Any]
    author: str
    created_at: float
    seed: int | None = None
    models: dict[str, str] = Field({}, description="SHA-256 of the base's weights; filled in by the worker.")
    adapters: dict[str, str] = Field({}, description="SHA-256 of what a base of ours puts on the weights.")
    tokenizers: dict[str, str] = Field({}, description="SHA-256 of the base's tokenizer and chat template.")
    snapshots: dict[str, str] = {}
    licences: dict[str, str] = Field({}, description="Of the snapshots.")
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    origin: Origin | None = None

    @classmethod
    def of(cls, job: Job, store: Store, settings: Settings | None = None) -> Manifest:
        """The facts known before the start. The worker adds the weights' hashes: reading takes a while."""
        task = task_from(job.kind, job.task)
        named = set(_references(task))
        frozen = [store.snapshot(ref) for ref in sorted(named) if isinstance(ref, SnapshotRef)]
        return cls(
            run=job.id,
            kind=job.kind,
            task=job.task,
            author=job.author,
            created_at=job.created_at,
            seed=getattr(task, "seed", None),
            models={ref: "" for ref in sorted(named) if isinstance(ref, ModelRef)},
            snapshots={str(snapshot.ref): snapshot.digest for snapshot in frozen},
            licences={str(snapshot.ref): snapshot.licence for snapshot in frozen},
            versions=versions(),
            machine=machine(settings or Settings()),
            origin=Origin.model_validate(job.origin) if job.origin else None,
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
        return self._standing_on("models", ref, digest)

    def with_adapter(self, ref: str, digest: str) -> Manifest:
        """The same with the digest of what a run put on its base; refuses another one like `with_model`."""
        return self._standing_on("adapters", ref, digest)

    def with_tokenizer(self, ref: str, digest: str) -> Manifest:
        """The same with the digest of a model's tokenizer and chat template; refuses others like `with_model`."""
        return self._standing_on("tokenizers", ref, digest)

    def _standing_on(self, what: _Ground, ref: str, digest: str) -> Manifest:
        seen: dict[str, str] = getattr(self, what)
        before, words = seen.get(ref, ""), f"{_GROUNDS[what]} of {ref}"
        if before not in ("", digest):
            raise RunError(
                f"The {words} changed since run {self.run} began ({before[:12]} then, {digest[:12]} now). "
                "Put the old files back to resume it, or start a new run."
            )
        origin = self.origin
        then = getattr(origin, what).get(ref, "") if origin is not None and origin.is_held else ""
        if origin is not None and then not in ("", digest):  # a repetition without changes stands on the same
            raise RunError(
                f"The {words} are not those that {origin.name} was made from ({then[:12]} then, {digest[:12]} now). "
                "Put the old files back, or start a new run."
            )
        return self.model_copy(update={what: {**seen, ref: digest}})

    def differs(self) -> list[str]:
        """What this run stands on that the run it repeats did not, in sentences."""
        if self.origin is None:
            return []
        found = []
        for what, words in (*_GROUNDS.items(), ("snapshots", "")):
            then, now = getattr(self.origin, what), getattr(self, what)
            for ref, digest in now.items():
                if then.get(ref) and digest and then[ref] != digest:
                    named = f"{ref} is" if not words else f"The {words} of {ref} are"
                    found.append(
                        f"{named} not what {self.origin.name} stood on ({then[ref][:12]} then, {digest[:12]} now)."
                    )
        return found

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


def versions() -> dict[str, str]:
    """What is installed here of that which a run's figures depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(settings: Settings) -> dict[str, str]:
    """What else the last digits of a model may depend on."""
    cores = str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else str(os.cpu_count())
    return {"processor": platform.machine(), "system": platform.system(), "threads": str(settings.threads or cores)}


def adapter_digest(folder: Path) -> str:
    """SHA-256 over an adapter's files. Computed each time: they are small, and no file is left beside them."""
    return hashlib.sha256("\n".join(sha256(file) for file in weight_files(folder)).encode()).hexdigest()
