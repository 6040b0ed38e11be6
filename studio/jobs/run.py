"""The `Run` that a task gets inside the worker process."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from studio.backends import Backend, open_backend
from studio.engine.client import EngineClient
from studio.errors import RunError, StorageError, StudioError
from studio.jobs.checkpoints import SEAL, Checkpoints, damage
from studio.jobs.manifest import Manifest, adapter_digest
from studio.models import Weights, resolve
from studio.models.files import tokenizer_digest
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Job, Store, read_rows
from studio.tasks import Run

__all__ = ["StopWatch", "WorkerRun", "patiently"]

_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 2.0

R = TypeVar("R")


def patiently(write: Callable[[], R], seconds: float = _PATIENCE_SECONDS) -> R:
    """Repeat a write while the database refuses: hours of work must not end because a backup holds it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return write()
        except StorageError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)


class StopWatch(threading.Thread):
    """Tells the database every two seconds that the worker lives, and the worker what people want of it.

    It looks by itself, so that asking between two training steps costs a read of an attribute.
    """

    def __init__(self, store: Store, job_id: int, attempt: int) -> None:
        super().__init__(name="stop-watch", daemon=True)
        self._store, self._job_id, self._attempt = store, job_id, attempt
        self._closing = threading.Event()
        self._began = time.monotonic()
        self.wanted: Literal["", "pause", "cancel"] = ""
        self.is_stale = False

    def run(self) -> None:
        beat_at = 0.0
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self.look()
                if time.monotonic() - beat_at >= _BEAT_SECONDS:
                    self._store.beat(self._job_id, self._attempt, self.seconds)
                    beat_at = time.monotonic()
            except StorageError as error:
                print(f"The heartbeat was refused: {error}", flush=True)
            except StudioError as error:  # another attempt, or the supervisor, has the last word
                print(error, flush=True)
                self.is_stale, self.wanted = True, "cancel"
                return

    @property
    def seconds(self) -> float:
        """How long the attempt has worked, by a clock that nobody sets."""
        return time.monotonic() - self._began

    def look(self) -> None:
        """Ask the database now."""
        self.wanted = self._store.job_intent(self._job_id, self._attempt) or self.wanted

    def terminate(self) -> None:
        """Somebody sent SIGTERM: unless people asked for something else, that is a pause."""
        self.wanted = self.wanted or "pause"

    def close(self) -> None:
        self._closing.set()
        if self.is_alive():
            self.join(timeout=5.0)


class WorkerRun(Run):
    """A job's window on the world, backed by the store and the run's folder."""

    def __init__(
        self, job: Job, manifest: Manifest, store: Store, settings: Settings, workspace: Path, stop: StopWatch
    ) -> None:
        self.id = job.id
        self.attempt = job.attempt
        self.output = workspace / "runs" / str(job.id)
        self.settings = settings
        self.store = store
        self.checkpoints = Checkpoints(self.output)
        self.manifest = manifest
        self.stop_was_seen = False
        self.step = 0
        self._workspace = workspace
        self._stop = stop
        self._engine = EngineClient(settings, workspace)

    def backend(self, ref: ModelRef) -> Backend:
        return open_backend(
            ref, settings=self.settings, store=self.store, workspace=self._workspace, engine=self._engine
        )

    def weights(self, ref: ModelRef) -> Weights:
        weights = resolve(ref, settings=self.settings, store=self.store, workspace=self._workspace)
        manifest = self.manifest.with_model(ref, weights.digest).with_tokenizer(ref, tokenizer_digest(weights.base))
        if weights.adapter is not None:
            manifest = manifest.with_adapter(ref, adapter_digest(weights.adapter))
        if manifest != self.manifest:
            manifest.write(self.output)
            self.manifest = manifest
        return weights

    def release_engine(self) -> None:
        asyncio.run(self._engine.unload())

    def snapshot(self, ref: str) -> list[dict[str, Any]]:
        snapshot = self.store.snapshot(ref)
        began = self.manifest.snapshots.get(ref, snapshot.digest)
        if began != snapshot.digest:
            purged = ": records were purged from it since" if snapshot.purged_at else ""
            raise RunError(
                f"{ref} is not what run {self.id} began with{purged} ({began[:12]} then, {snapshot.digest[:12]} now). "
                "Run it again to learn from what is left."
            )
        return read_rows(self._workspace, snapshot)

    def tell_differences(self) -> None:
        """Say where a repetition does not stand on what the first run did."""
        if self.attempt == 1:
            for sentence in self.manifest.differs():
                self._event("note", {"text": sentence})

    def log(self, step: int, total: int | None = None, **metrics: float) -> None:
        self.step = step
        patiently(lambda: self.store.log_metrics(self.id, self.attempt, step, total, metrics))

    def say(self, sentence: str) -> None:
        if not self._stop.wanted:  # then the line says how long stopping may take
            patiently(lambda: self.store.say(self.id, self.attempt, sentence))

    def note(self, sentence: str) -> None:
        print(sentence, flush=True)  # to the log, which pages show when the run is over
        self._event("note", {"text": sentence})
        self.say(sentence)

    def sample(self, step: int, prompt: str, **answers: str) -> None:
        self._event("sample", {"step": step, "prompt": prompt, "answers": answers})

    def stop_requested(self) -> Literal["", "pause", "cancel"]:
        wanted = self._stop.wanted
        self.stop_was_seen = self.stop_was_seen or bool(wanted)
        return wanted

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints.begin(step)

    def publish(self, folder: Path) -> None:
        final = self.checkpoints.publish(folder)
        self._event("checkpoint", {"name": final.name})
        self.checkpoints.keep_only(final)

    def last_checkpoint(self) -> Path | None:
        if self.attempt == 1:
            return self._inherited()
        saved = self.store.job_events(self.id, kinds=["checkpoint"])
        folder, sentence = self.checkpoints.resume_from(saved[-1].payload["name"] if saved else None)
        if sentence:
            self.note(sentence)
        return folder or self._inherited()

    def _inherited(self) -> Path | None:
        """A copy of the checkpoint of another run that this one goes on from."""
        origin = self.manifest.origin
        if origin is None or not origin.checkpoint:
            return None
        theirs = self._workspace / "runs" / str(origin.run) / "checkpoints" / origin.checkpoint
        if wrong := damage(theirs):
            raise RunError(
                f"Checkpoint {origin.checkpoint} of {origin.name} cannot be gone on from: {wrong}. "
                "Put it back from a backup, or run it again from the beginning."
            )
        part = self.checkpoint(int(origin.checkpoint.removeprefix("step-")))
        shutil.copytree(theirs, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SEAL))
        self.publish(part)
        self._event("note", {"text": f"Goes on from {origin.checkpoint} of {origin.name}."})
        return self.checkpoints.newest()

    def _event(self, kind: str, payload: dict[str, Any]) -> None:
        patiently(lambda: self.store.add_event(self.id, self.attempt, kind, payload))
