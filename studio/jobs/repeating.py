"""Runs done again: the same, with changes, from a checkpoint on, or from the manifest of another machine.

The new run's `origin` says which run it repeats and what that one stood on. A run that repeats another without a change
is held to the same weights: on one machine, the same manifest gives the same model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.errors import Conflict, InputError
from studio.jobs.checkpoints import Checkpoints
from studio.jobs.manifest import Manifest, Origin, adapter_digest, machine, versions
from studio.jobs.registry import task_from, task_kinds
from studio.jobs.supervisor import run_folder
from studio.models import resolve
from studio.models.files import tokenizer_digest
from studio.settings import Settings
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Snapshot, Store
from studio.tasks import Task

__all__ = ["again", "changed_knobs", "manifest_of", "read_manifest", "repeat"]

# What may differ in a run that goes on from another's checkpoint. The others decide which records a step holds, how
# many steps there are, or what the parameters in the checkpoint are.
_GOES_ON_WITH = ("learning_rate", "patience", "saves_memory", "use")


def again(
    store: Store,
    workspace: Path,
    job_id: int,
    changes: Mapping[str, Any] | None = None,
    *,
    by: str,
    goes_on: bool = False,
    client_key: str | None = None,
) -> Job:
    """Queue a new run that does what this one did, with other values for the fields in `changes`.

    Without a change it is refused once the base's weights, tokenizer or chat template are others. With `goes_on` it
    begins at the run's newest checkpoint; then only the learning rate, the patience, "save memory" and what it is for may differ.
    """
    job = store.job(job_id)
    task = _changed(job, changes or {})
    origin = Origin.of(manifest_of(store, workspace, job_id), changed_knobs(job, task))
    if goes_on:
        origin = origin.model_copy(update={"checkpoint": _checkpoint(workspace, job, origin), "is_held": True})
    task.check(store)
    return store.queue_job(task, author=by, client_key=client_key, origin=origin.model_dump(mode="json"))


def changed_knobs(job: Job, task: Task) -> dict[str, list[Any]]:
    """Field -> what it was in the job and what it is in the task, where the two differ."""
    before = task_kinds()[job.kind].model_validate(job.task).model_dump(mode="json")
    after = task.model_dump(mode="json")
    return {name: [before.get(name), value] for name, value in after.items() if before.get(name) != value}


def manifest_of(store: Store, workspace: Path, job_id: int) -> Manifest:
    """A run's manifest; of one that has not started, what is known already."""
    job = store.job(job_id)
    folder = run_folder(workspace, job_id)
    return Manifest.read(folder) if job.attempt and (folder / "manifest.json").exists() else Manifest.of(job, store)


def read_manifest(file: Path) -> Manifest:
    """The manifest in a file, wherever it comes from."""
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Give the file of a run's manifest.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{file} is not a run's manifest ({where + ': ' if where else ''}{first['msg']}). "
            "Write one with `ladder jobs manifest RUN`."
        ) from error


def repeat(
    store: Store,
    workspace: Path,
    settings: Settings,
    manifest: Manifest,
    *,
    author: str,
    files: Sequence[Path] = (),
    warn: Callable[[str], None] = lambda sentence: None,
) -> Job:
    """Queue what a manifest says, on this machine. `files` are snapshots' files to take in first.

    Raises InputError when the data or the weights are not the manifest's, naming both digests. Other versions and
    another machine are only warned of: then the new model may differ in its last digits.
    """
    if manifest.origin and manifest.origin.checkpoint:
        raise InputError(
            f"Run {manifest.run} went on from checkpoint {manifest.origin.checkpoint} of run {manifest.origin.run}, "
            "which a manifest does not hold. Repeat that run instead."
        )
    for file in files:
        _take_in(store, workspace, manifest, file, author=author)
    here = {ref: str(_snapshot_here(store, ref, digest).ref) for ref, digest in manifest.snapshots.items()}
    _refuse_other_weights(store, workspace, settings, manifest)
    for sentence in _differences(manifest, settings):
        warn(sentence)
    task = task_from(manifest.kind, _renamed(manifest.task, here))
    origin = Origin.of(manifest, {}, is_from_elsewhere=True)
    snapshots = {here[ref]: digest for ref, digest in manifest.snapshots.items()}
    task.check(store)
    told = origin.model_copy(update={"snapshots": snapshots}).model_dump(mode="json")
    return store.queue_job(task, author=author, origin=told)


def _changed(job: Job, changes: Mapping[str, Any]) -> Task:
    known = task_kinds()
    if job.kind in known and (strange := sorted(set(changes) - set(known[job.kind].model_fields))):
        raise InputError(
            f"{job.kind} has no field '{strange[0]}' to change. It has: {', '.join(known[job.kind].model_fields)}."
        )
    return task_from(job.kind, {**job.task, **changes})


def _checkpoint(workspace: Path, job: Job, origin: Origin) -> str:
    """The checkpoint to go on from; '' when nothing was saved, and the run begins anew."""
    if other := [name for name in origin.changes if name not in _GOES_ON_WITH]:
        raise InputError(
            f"Run {job.id} can only go on with another {', '.join(_GOES_ON_WITH)}: another {other[0]} makes other "
            "steps. Change that in a run that begins anew."
        )
    if job.is_active:
        raise Conflict(f"Run {job.id} is at work. Pause it first, so that its last step is saved.")
    newest = Checkpoints(run_folder(workspace, job.id)).newest()
    return newest.name if newest else ""


def _take_in(store: Store, workspace: Path, manifest: Manifest, file: Path, *, author: str) -> None:
    """Freeze the rows of a snapshot's file here, unless they are here already."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Give the file of a snapshot.") from error
    digest = hashlib.sha256(data).hexdigest()
    ref = next((ref for ref, wanted in manifest.snapshots.items() if wanted == digest), None)
    if ref is None:
        wanted = ", ".join(f"{ref} ({d[:12]})" for ref, d in manifest.snapshots.items()) or "none"
        raise InputError(f"{file} ({digest[:12]}) is none of the manifest's snapshots: {wanted}. Copy the file again.")
    if _with_digest(store, digest):
        return
    kind, name = SnapshotRef(ref).kind, SnapshotRef(ref).name
    licence = manifest.licences.get(ref, "")
    store.freeze(workspace, kind, name, _rows(data), author=author, licence=licence)


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in data.decode().splitlines())


def _snapshot_here(store: Store, ref: str, digest: str) -> Snapshot:
    """The snapshot of those very rows, whatever its name here."""
    found = _with_digest(store, digest)
    if not found:
        snapshot = SnapshotRef(ref)
        other = next((s for s in store.snapshots() if s.ref == ref), None)
        but = f" The {ref} here holds other rows ({other.digest[:12]})." if other else ""
        raise InputError(
            f"The manifest needs {ref} ({digest[:12]}), which is not in this workspace.{but} On the machine it comes "
            f"from it is the file snapshots/{snapshot.kind}-{snapshot.name}@{snapshot.version}.jsonl of the workspace: "
            "copy it here and name it with --snapshot FILE."
        )
    return next((s for s in found if s.ref == ref), found[0])


def _with_digest(store: Store, digest: str) -> list[Snapshot]:
    return [s for s in store.snapshots() if s.digest == digest]


def _refuse_other_weights(store: Store, workspace: Path, settings: Settings, manifest: Manifest) -> None:
    for ref, digest in manifest.models.items():
        if not digest:
            continue  # run on an earlier word of it: nothing was read yet that could be compared
        weights = resolve(ModelRef(ref), settings=settings, store=store, workspace=workspace)
        if weights.digest != digest:
            raise InputError(_others(f"weights of {ref}", manifest.run, digest, weights.digest))
        wanted = manifest.adapters.get(ref, "")
        if wanted and weights.adapter is not None and (now := adapter_digest(weights.adapter)) != wanted:
            raise InputError(_others(f"adapter's files of {ref}", manifest.run, wanted, now))
        wanted = manifest.tokenizers.get(ref, "")
        if wanted and (now := tokenizer_digest(weights.base)) != wanted:
            raise InputError(_others(f"tokenizer and chat template of {ref}", manifest.run, wanted, now))


def _others(what: str, run: int, there: str, here: str) -> str:
    return (
        f"The {what} here are not those that run {run} of the manifest was made from "
        f"({there[:12]} there, {here[:12]} here). Copy those files here, or start a new run with yours."
    )


def _differences(manifest: Manifest, settings: Settings) -> Iterator[str]:
    unknown = sorted(ref for ref, digest in manifest.models.items() if not digest)
    if unknown:
        yield f"The manifest was written before run {manifest.run} read {unknown[0]}: the weights are not compared."
    now, here = versions(), machine(settings)
    for name, version in manifest.versions.items():
        if now.get(name) != version:
            yield f"{name} is {now.get(name, 'not installed')} here and was {version} there: the model may differ."
    for name, value in manifest.machine.items():
        if here.get(name) != value:
            yield f"The {name} here: {here.get(name, 'unknown')}; there: {value}. Sums may round another way."


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The task with its snapshots under the names that they have here."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return value
