"""Real tuning in real worker processes, small enough for a test: the tiny model and a handful of records."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from studio.recipes.lora import Lora
from studio.store import Snapshot, Store

__all__ = ["put_records", "put_tiny", "tune"]


def put_tiny(workspace: Path, tiny_folder: Path, name: str = "tiny") -> Path:
    """`dir:NAME` in the workspace, to be changed at will."""
    return shutil.copytree(tiny_folder, workspace / "models" / name)


def put_records(store: Store, workspace: Path, records: int = 24, name: str = "gear") -> Snapshot:
    rows = [
        {
            "id": n,
            "instruction": f"What is number {n}?",
            "context": "",
            "response": f"It is the number {n} of the day.",
            "category": "open_qa",
            "split": "validation" if n % 8 == 7 else "train",
        }
        for n in range(records)
    ]
    return store.freeze(workspace, "data", name, rows, author="ann", licence="MIT")


def tune(**knobs: Any) -> Lora:
    """A run of a few steps, in a second or two once torch is there."""
    return Lora(**{"base": "dir:tiny", "data": "data:gear@1", "epochs": 1, "batch_size": 4, "rank": 2, **knobs})
