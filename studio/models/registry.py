"""From a reference to files: which folder holds the weights, and which adapter goes on top."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import ModelError, NotFound
from studio.models.catalogue import catalogue
from studio.models.embedded import EMBEDDED, conversion, convert, converted
from studio.models.files import digest, read_config, weight_files
from studio.settings import Settings
from studio.specs import ModelRef

if TYPE_CHECKING:
    from studio.store import Store

__all__ = ["Weights", "resolve"]


@dataclass(frozen=True)
class Weights:
    """Where a model's files lie. `digest` is of the base, so that an adapter can be held against it."""

    ref: ModelRef
    base: Path
    adapter: Path | None
    digest: str
    window: int
    licence: str

    @property
    def key(self) -> str:
        """Changes whenever the files do: what a process that holds them in memory goes by."""
        parts = [str(self.base), self.digest]
        if self.adapter is not None:
            marks = [str(file.stat().st_mtime_ns) for file in weight_files(self.adapter)]
            parts += [str(self.adapter), *marks]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def resolve(ref: ModelRef, *, settings: Settings, store: Store, workspace: Path, wait: bool = True) -> Weights:
    """Where the model's files lie. The embedded model is converted on first use: with `wait` this call takes the
    half minute that needs, without it raises a sentence saying how far it is."""
    match ref.kind:
        case "embedded":
            return _embedded(ref, settings, wait)
        case "dir":
            return _folder(ref, workspace)
        case "run":
            return _run(ref, settings=settings, store=store, workspace=workspace, wait=wait)
        case "hf":
            raise NotFound(
                f"{ref} is not on this machine, and the studio downloads nothing by itself. Copy the model's folder "
                f"into {workspace / 'models'} and choose dir:FOLDER."
            )
        case _:
            raise ModelError(f"{ref} has no weights on this machine. Choose an embedded:, dir: or run: model for this.")


def _embedded(ref: ModelRef, settings: Settings, wait: bool) -> Weights:
    if ref != EMBEDDED:
        raise NotFound(f"There is no embedded model '{ref.name}'. The studio comes with {EMBEDDED}.")
    base = converted(settings.cache)
    if base is None and not wait:
        state = conversion(settings.cache)
        done = f" ({state.fraction:.0%} done)" if state else ""
        raise ModelError(f"{ref} is being prepared for its first use{done}. Try again in half a minute.")
    base = base or convert(settings.cache, lambda fraction, message: None)
    licences = {entry.ref: entry.licence for entry in catalogue()}
    return Weights(ref, base, None, digest(base), _window(base), licences.get(ref, ""))


def _folder(ref: ModelRef, workspace: Path) -> Weights:
    models = workspace / "models"
    folder = (models / ref.name).resolve()
    if folder.parent != models.resolve():
        raise NotFound(f"{ref} does not name a folder directly inside {models}. Write dir:FOLDER.")
    if not folder.is_dir():
        there = ", ".join(sorted(p.name for p in models.glob("*/"))) or "none yet"
        raise NotFound(f"{ref} is not on this machine: there is no folder {folder}. Folders there: {there}.")
    return _whole(ref, folder, licence="")


def _whole(ref: ModelRef, folder: Path, licence: str) -> Weights:
    return Weights(ref, folder, None, digest(folder), _window(folder), licence)


def _run(ref: ModelRef, *, settings: Settings, store: Store, workspace: Path, wait: bool) -> Weights:
    _refuse_unfinished(ref, store)
    row = store.model(ref)
    folder = workspace / row.path
    if not folder.is_dir():
        raise NotFound(f"The files of {ref} are not in {folder}. Put them back, or run the recipe again.")
    if not (folder / "adapter_config.json").is_file():
        return _whole(ref, folder, row.licence)
    # A run on a run continues from a copy of its adapter, so this adapter goes on the original base.
    base = resolve(ModelRef(row.base), settings=settings, store=store, workspace=workspace, wait=wait)
    if row.base_digest and row.base_digest != base.digest:
        raise ModelError(
            f"{ref} is an adapter for other weights than {row.base} has now ({row.base_digest[:12]} then, "
            f"{base.digest[:12]} now). Put the old weights of {row.base} back, or run the recipe again to tune these."
        )
    window = base.window - _virtual_tokens(folder)
    return Weights(ref, base.base, folder, base.digest, window, row.licence or base.licence)


def _virtual_tokens(adapter: Path) -> int:
    """How much of the window an adapter takes that is read before every text."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return int(config.get("num_virtual_tokens") or 0)


def _refuse_unfinished(ref: ModelRef, store: Store) -> None:
    try:
        job = store.job(int(ref.name))
    except NotFound:
        return  # a model brought from another workspace has no job here
    if job.state != "done":
        raise ModelError(f"{ref} is not a model yet: the run is {job.state}. Wait until it is done, or resume it.")


def _window(folder: Path) -> int:
    return int(read_config(folder).get("max_position_embeddings", 2048))
