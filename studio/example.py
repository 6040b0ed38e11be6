"""The example project: a made-up outdoor-gear company, there at the first start of an empty workspace."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from studio.evaluation import EvaluationItem
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.preferences import freeze_prompts
from studio.prompts.documents import import_documents
from studio.specs import SnapshotRef
from studio.store import Store

__all__ = ["DEVELOPMENT", "EVALUATION", "EXAMPLE", "PROMPTS", "SNAPSHOT", "load_example"]

_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "data"

EXAMPLE = "brackenfold"
SNAPSHOT = SnapshotRef(f"data:{EXAMPLE}@1")
PROMPTS = SnapshotRef(f"prompts:{EXAMPLE}@1")
DEVELOPMENT = SnapshotRef(f"eval:{EXAMPLE}-development@1")
EVALUATION = SnapshotRef(f"eval:{EXAMPLE}@1")

_AUTHOR, _LICENCE = "Ladder Studio", "Apache-2.0"


def load_example(store: Store, root: Path) -> bool:
    """Put the example into a workspace that holds no other dataset; True if there was something to put.

    A start that was interrupted is made whole by the next one: the snapshot of the records comes last. A workspace
    that got the example before it had prompts or documents gets them now; documents that people removed stay removed.
    """
    known = {d.name for d in store.datasets()}
    frozen = {s.ref for s in store.snapshots()}
    if EXAMPLE in known and SNAPSHOT in frozen:
        if PROMPTS not in frozen:
            _freeze_prompts(store, root)
        return _add_documents(store, root) or PROMPTS not in frozen
    if known - {EXAMPLE}:
        return False
    for name, part in ((DEVELOPMENT.name, "development"), (EVALUATION.name, "evaluation")):
        items = (EvaluationItem.model_validate(row) for row in _rows(f"{EXAMPLE}.{part}.jsonl"))
        rows = (i.model_dump(mode="json") for i in items)
        store.freeze(root, "eval", name, rows, author=_AUTHOR, licence=_LICENCE)
    _freeze_prompts(store, root)
    _add_documents(store, root)
    if EXAMPLE not in known:
        store.create_dataset(
            EXAMPLE,
            author=_AUTHOR,
            description="Questions to a made-up outdoor-gear shop and answers in its house style.",
            guidelines=(_FOLDER / f"{EXAMPLE}.guidelines.txt").read_text(encoding="utf-8").strip(),
            licence=_LICENCE,
        )
    dataset = store.dataset(EXAMPLE)
    if store.count_records(dataset.id) == 0:
        records = (insertable(row) for row in _rows(f"{EXAMPLE}.records.jsonl"))
        store.add_records(dataset.id, records, author=_AUTHOR, source="example")
    freeze(store, root, dataset, author=_AUTHOR)
    return True


def _freeze_prompts(store: Store, root: Path) -> None:
    freeze_prompts(store, root, PROMPTS.name, _rows(f"{EXAMPLE}.prompts.jsonl"), author=_AUTHOR, licence=_LICENCE)


def _add_documents(store: Store, root: Path) -> bool:
    """Take in the company's documents that this workspace never had; True if there were any."""
    files = sorted((_FOLDER / f"{EXAMPLE}.documents").iterdir())
    new = [f for f in files if not store.documents_of_digest(hashlib.sha256(f.read_bytes()).hexdigest())]
    import_documents(store, root, new, author=_AUTHOR)
    return bool(new)


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines()]
