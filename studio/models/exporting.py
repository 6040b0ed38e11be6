"""Models that leave the studio: a folder that plain peft and transformers load by the lines in its README.md.

An adapter's base is named by its reference, never by a path of this machine; or it lies beside the adapter and is
named relative to it; or the adapter is merged into it and is no more. Imports nothing heavy before it merges.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import InputError, ModelError, StorageError, Unsupported
from studio.models.card import BESIDE, ELSEWHERE, Facts, model_card
from studio.models.catalogue import licence
from studio.models.files import seal, weight_files
from studio.models.lineage import Step, licences_of, lineage, obligations
from studio.models.registry import Weights, resolve
from studio.models.shelf import count_parameters
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import read_rows

if TYPE_CHECKING:
    from studio.store import Store

__all__ = [
    "Exported",
    "Form",
    "Kind",
    "Precision",
    "adapter_kind",
    "export_model",
    "export_weights",
    "export_zip",
    "merge_refusal",
]

Kind = Literal["made", "with-base", "merged"]
Precision = Literal["float32", "bfloat16"]
LARGEST_ZIP = 200_000_000  # bytes that are copied, put together and handed over in a second or two

_MERGES = frozenset({"LORA", "ADALORA", "IA3"})
_SPOKEN = {
    "PREFIX_TUNING": "prefix tuning",
    "PROMPT_TUNING": "prompt tuning",
    "P_TUNING": "p-tuning",
    "ADAPTION_PROMPT": "LLaMA-Adapter",
}
_BYTES = {"float32": 4, "bfloat16": 2}
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Not part of what people use: written anew, or weights, or code that nothing of ours would run.
_WRITTEN = frozenset({"README.md", "SHA256SUMS", _ADAPTER_CONFIG})
_SUFFIXES_LEFT = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".py", ".pkl"})


@dataclass(frozen=True)
class Form:
    """How a model leaves. "made": an adapter as an adapter, whole weights as they are. "with-base": an adapter with its
    base beside it. "merged": whole weights, in `precision`; whole ones stay as they are.

    `links` uses hard links where it can, for a folder that is read once and thrown away.
    """

    kind: Kind = "made"
    precision: Precision = "float32"
    links: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written. `holds` says in a sentence what it is; `base` names the base that a reader needs besides, or ''."""

    folder: Path
    holds: str
    base: str
    size: int  # in bytes


def export_model(
    ref: ModelRef, folder: Path, form: Form | None = None, *, settings: Settings, store: Store, workspace: Path
) -> Exported:
    """Write a finished model into a folder that is not there yet; all of it or nothing.

    Raises what `resolve` raises (a run that is not done, a base that changed), InputError for a folder that is in use,
    Unsupported for what the method cannot, StorageError when the disk refuses. Merging loads torch, so the page process
    leaves that to a task.
    """
    weights = resolve(ref, settings=settings, store=store, workspace=workspace)
    return export_weights(weights, folder, form or Form(), store=store, workspace=workspace)


def export_weights(weights: Weights, folder: Path, form: Form, *, store: Store, workspace: Path) -> Exported:
    """The same for files that were found already."""
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not empty. Choose a folder that does not exist yet.")
    return _written(_planned(weights, form, store, workspace), folder)


def _written(export: _Export, folder: Path) -> Exported:
    _refuse_if_no_room(export.weights, folder, export.need)
    part = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        export.write(part)
        for whole in (part / BESIDE, part):
            if whole.is_dir() and not export.form.links:
                seal(whole)
        part.replace(folder)
    except Exception as error:
        if isinstance(error, OSError) or _is_of_the_disk(error):
            raise StorageError(
                f"{folder} could not be written ({getattr(error, 'strerror', None) or error}). "
                "Free some space or check the permissions, and try again."
            ) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Exported(folder, export.holds, export.facts.base if export.base == ELSEWHERE else "", size)


def export_zip(
    ref: ModelRef, folder: Path, largest: int = LARGEST_ZIP, *, settings: Settings, store: Store, workspace: Path
) -> Path:
    """What `export_model` writes of a model as it was made, as one file to carry away; written anew over an older one.

    Raises what `export_model` raises, and InputError for a model of more than `largest` bytes.
    """
    weights = resolve(ref, settings=settings, store=store, workspace=workspace)
    export = _planned(weights, Form(), store, workspace)
    if export.need > largest:
        raise InputError(
            f"{ref} has {export.need / 1e6:,.0f} MB of weights; a download takes {largest / 1e6:,.0f} MB at most. "
            f"On the machine of the studio, `ladder models export {ref} FOLDER` writes all of it."
        )
    name = str(ref).replace(":", "-")
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as place:
            whole = _written(export, Path(place) / name).folder
            part = Path(place) / f"{name}.zip"
            # Not deflated: weights are as good as noise.
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(whole.rglob("*")):
                    archive.write(file, file.relative_to(whole.parent))
            return part.replace(folder / part.name)
    except OSError as error:
        raise StorageError(
            f"{folder} could not be written ({error.strerror}). Free some space, and try again."
        ) from error


def adapter_kind(weights: Weights) -> str:
    """PEFT's name of the adapter's method; '' for whole weights."""
    if weights.adapter is None:
        return ""
    return str(_adapter_config(weights.adapter).get("peft_type", ""))


def merge_refusal(weights: Weights) -> str:
    """Why a model has no merged form, with the way out; '' where it has one."""
    kind = adapter_kind(weights)
    if not kind or kind in _MERGES:
        return ""
    spoken = _SPOKEN.get(kind, kind)
    return (
        f"{weights.ref} was made with {spoken}, which has no merged form: what it learned works beside the weights and "
        "cannot be written into them. Export it with its base instead (--with-base)."
    )


def _planned(weights: Weights, form: Form, store: Store, workspace: Path) -> _Export:
    steps = lineage(store, str(weights.ref)) if weights.ref.kind == "run" else []
    if steps and not steps[0].model.answers:
        raise Unsupported(
            f"{weights.ref} scores answers and gives none, and no plain library loads its scoring head. "
            "Export a model that answers."
        )
    if form.kind == "merged" and (refusal := merge_refusal(weights)):
        raise Unsupported(refusal)
    return _Export(weights, form, _facts(weights, steps, workspace))


class _Export:
    """One folder to be written."""

    def __init__(self, weights: Weights, form: Form, facts: Facts) -> None:
        self.weights, self.form, self.facts = weights, form, facts
        self._merges = form.kind == "merged" and weights.adapter is not None
        # A base that was made here can be had nowhere else.
        beside = form.kind == "with-base" or facts.base.startswith("run:")
        self.base = "" if weights.adapter is None or self._merges else BESIDE if beside else ELSEWHERE
        self._copy = _link if form.links else shutil.copyfile

    @property
    def need(self) -> int:
        """Bytes on the disk, nearly."""
        if self._merges:
            return count_parameters(self.weights.base) * _BYTES[self.form.precision]
        folders = [self.weights.adapter] if self.weights.adapter else [self.weights.base]
        folders += [self.weights.base] if self.base == BESIDE else []
        return 0 if self.form.links else sum(f.stat().st_size for one in folders for f in weight_files(one))

    @property
    def holds(self) -> str:
        """In a sentence."""
        if self._merges:
            rounded = "" if self.form.precision == "float32" else ", rounded once more than the adapter beside its base"
            return f"Whole weights, the adapter merged into its base ({self.form.precision}{rounded})."
        told = {"": "Whole weights.", BESIDE: "An adapter and its base.", ELSEWHERE: "An adapter, without its base."}
        return told[self.base]

    def write(self, folder: Path) -> None:
        weights = self.weights
        if self._merges:
            self._write_merged(folder)
        elif weights.adapter is None:
            self._whole(weights.base, folder)
        else:
            self._write_adapter(weights.adapter, folder)
            if self.base == BESIDE:
                (folder / BESIDE).mkdir()
                self._whole(weights.base, folder / BESIDE)
        (folder / "README.md").write_text(model_card(self.facts, self.holds, self.base), encoding="utf-8")

    def _write_merged(self, folder: Path) -> None:
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars of loading and writing tell nobody anything here
        # Not at the top: adapters and whole weights are files to be copied, and need no torch.
        from studio.models.merging import save_merged

        save_merged(self.weights, folder, self.form.precision)
        for file in _beside_the_weights(self.weights.base):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)

    def _whole(self, source: Path, folder: Path) -> None:
        for file in (*weight_files(source), *source.glob("*.safetensors.index.json"), *_beside_the_weights(source)):
            self._copy(file, folder / file.name)

    def _write_adapter(self, source: Path, folder: Path) -> None:
        config = _adapter_config(source)
        config["base_model_name_or_path"] = BESIDE if self.base == BESIDE else self.facts.base
        (folder / _ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if not (source / _ADAPTER_WEIGHTS).is_file():
            raise ModelError(f"{source} has no {_ADAPTER_WEIGHTS}. Put it back, or run the recipe again.")
        self._copy(source / _ADAPTER_WEIGHTS, folder / _ADAPTER_WEIGHTS)
        for file in _beside_the_weights(self.weights.base):
            if file.name != "generation_config.json" and not (file.name == "config.json" and _says_its_class(file)):
                shutil.copyfile(file, folder / file.name)


def _facts(weights: Weights, steps: list[Step], workspace: Path) -> Facts:
    if not steps:
        promised = [(str(weights.ref), licence(weights.licence))]
        return Facts(str(weights.ref), str(weights.ref), weights.digest, steps, promised)
    owed = obligations(steps, lambda snapshot: licences_of(read_rows(workspace, snapshot)))
    if weights.adapter is None:
        first = steps[0].model
        return Facts(first.ref, first.base, first.base_digest, steps, owed)
    # A LoRA run on a LoRA run is one adapter on what the first of them began with.
    base = next(
        (s.model.base for s in steps if not (workspace / _path_of(s.model.base, steps) / _ADAPTER_CONFIG).is_file()),
        steps[-1].model.base,
    )
    return Facts(str(weights.ref), base, weights.digest, steps, owed)


def _path_of(ref: str, steps: list[Step]) -> str:
    """Where the model of a run of a lineage lies; somewhere without an adapter for any other."""
    return next((step.model.path for step in steps if step.model.ref == ref), "models")


def _beside_the_weights(folder: Path) -> Iterator[Path]:
    """Config, tokenizer, chat template, licence: every file people need besides the weights."""
    for file in sorted(folder.iterdir()):
        is_left = file.name.startswith(".") or file.name in _WRITTEN or file.name.endswith(".index.json")
        if file.is_file() and not is_left and file.suffix.casefold() not in _SUFFIXES_LEFT:
            yield file


def _says_its_class(config: Path) -> bool:
    """Whether the tokenizer beside a config.json is found without it: an adapter with a config of its own would look like
    a whole model."""
    try:
        told = json.loads((config.parent / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(told.get("tokenizer_class"))


def _adapter_config(folder: Path) -> dict[str, Any]:
    path = folder / _ADAPTER_CONFIG
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}). Put it back, or run the recipe again.") from error


def _refuse_if_no_room(weights: Weights, folder: Path, need: int) -> None:
    there = next(parent for parent in folder.parents if parent.is_dir())
    free = shutil.disk_usage(there).free
    if need > free:
        raise StorageError(
            f"{weights.ref} takes {need / 1e9:.2f} GB on the disk of {there}, where {free / 1e9:.2f} GB are free. "
            "Free some space, or choose a folder on another disk."
        )


def _is_of_the_disk(error: Exception) -> bool:
    """safetensors raises an error of its own around the system's."""
    return type(error).__name__ == "SafetensorError"


def _link(source: Path, target: Path) -> Any:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
