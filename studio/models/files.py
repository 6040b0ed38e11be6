"""Folders of weights: what they hold, whether they are whole, and the digest that names their exact bytes."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import ModelError

__all__ = ["digest", "read_config", "seal", "sealed", "sha256", "tokenizer_digest", "weight_files", "write_atomically"]

_SUMS = "SHA256SUMS"
_SEEN = ".seen.json"
_DIGEST = ".digest.json"
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder, sorted; refuses a folder that has none."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    others = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(pattern))
    found = f"It holds {', '.join(others)}, which" if others else "Other formats"
    raise ModelError(
        f"{folder} has no safetensors weights. {found} the studio does not open, because such files can run code "
        "or need another engine. Convert them to safetensors first."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json."""
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} has no config.json, so it is not a model in transformers' format. Copy the whole model folder."
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is not readable JSON ({error}). Copy the model folder again.") from error


def digest(folder: Path) -> str:
    """SHA-256 of the weights; of the list of sums when there are several files. Kept beside them until they change."""
    files = weight_files(folder)
    marks = _marks(files)
    known = _read_json(folder / _DIGEST)
    if known.get("marks") == marks:
        return str(known["digest"])
    sums = [sha256(file) for file in files]
    whole = sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
    with suppress(OSError):  # a read-only folder is hashed each time
        write_atomically(folder / _DIGEST, json.dumps({"marks": marks, "digest": whole}))
    return whole


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over what decides how text becomes tokens: the tokenizer's files and the chat template."""
    files = sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()})
    return _hashed(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=32)
def _hashed(files: tuple[tuple[Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for file, _, _ in files:
        whole.update(file.name.encode() + b"\n" + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def seal(folder: Path) -> None:
    """Write SHA256SUMS over every file of a finished folder, readable by `sha256sum -c`, and flush all to disk."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != _SUMS)
    write_atomically(folder / _SUMS, "".join(f"{sha256(file)}  {file.name}\n" for file in files))
    for file in files:
        _flush(file)
    _flush(folder)


def sealed(folder: Path) -> bool:
    """Whether a folder is whole. Files that look untouched since the last look are not read again."""
    try:
        lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    sums = {folder / name: total for total, name in (line.split("  ", 1) for line in lines)}
    if not sums or not all(file.is_file() for file in sums):
        return False
    marks = _marks(list(sums))
    if _read_json(folder / _SEEN).get("marks") == marks:
        return True
    if any(sha256(file) != total for file, total in sums.items()):
        return False
    with suppress(OSError):
        write_atomically(folder / _SEEN, json.dumps({"marks": marks}))
    return True


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old text or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    _flush(temporary)
    temporary.replace(path)


def _marks(files: list[Path]) -> dict[str, list[int]]:
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
