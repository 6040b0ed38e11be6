"""What there is to choose from: the models of the catalogue and those that lie in the workspace, as they stand now."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.errors import InputError, ModelError
from studio.models.catalogue import CatalogueEntry, Licence, catalogue, licence
from studio.models.embedded import EMBEDDED, conversion, converted, find_gguf
from studio.models.files import read_config, weight_files
from studio.settings import Settings
from studio.specs import ModelRef

__all__ = ["ShelfModel", "count_parameters", "shelf"]

State = Literal["ready", "preparing", "unprepared", "missing", "unreadable"]


@dataclass(frozen=True)
class ShelfModel:
    """A model that did not come out of a run. `says` is a sentence about its state, or '' where it is ready."""

    ref: str
    title: str
    licence: Licence
    page: str  # where the people who made it describe it
    parameters: int | None
    window: int | None
    note: str
    state: State
    says: str = ""
    prepared: float | None = None  # share of the preparation that is done, while it goes on


def shelf(settings: Settings, workspace: Path) -> list[ShelfModel]:
    """The catalogue's models first, then the folders in the workspace's models folder."""
    folders = sorted(p for p in (workspace / "models").glob("*/") if not p.name.startswith("."))
    return [_listed(entry, settings) for entry in catalogue()] + [_found(folder) for folder in folders]


def count_parameters(folder: Path) -> int:
    """Numbers in the safetensors of a folder, read from their headers alone."""
    return sum(_numbers_in(file) for file in weight_files(folder))


def _numbers_in(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, 100 << 20)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a whole safetensors file. Copy the model folder again.") from error


def _listed(entry: CatalogueEntry, settings: Settings) -> ShelfModel:
    state, says, share = _state(entry.ref, settings)
    return ShelfModel(
        entry.ref,
        entry.title,
        licence(entry.licence),
        entry.licence_url,
        entry.parameters,
        entry.window,
        entry.note,
        state,
        says,
        share,
    )


def _state(ref: ModelRef, settings: Settings) -> tuple[State, str, float | None]:
    if ref != EMBEDDED:
        return "missing", "Not on this machine.", None
    try:
        find_gguf()
    except InputError as error:
        return "missing", str(error), None
    if converted(settings.cache) is not None:
        return "ready", "", None
    now = conversion(settings.cache)
    if now is not None:
        return "preparing", now.message, now.fraction
    return "unprepared", "Prepared at its first use, in about half a minute.", None


def _found(folder: Path) -> ShelfModel:
    nothing_known = licence("")
    try:
        ref = ModelRef(f"dir:{folder.name}")
        config, parameters = read_config(folder), count_parameters(folder)
    except (InputError, ModelError) as error:
        ref_text = f"dir:{folder.name}"
        return ShelfModel(ref_text, folder.name, nothing_known, "", None, None, "", "unreadable", str(error))
    kind = next(iter(config.get("architectures") or ()), "")
    window = config.get("max_position_embeddings")
    return ShelfModel(ref, folder.name, nothing_known, "", parameters, window, kind, "ready")
