"""The example project: a made-up outdoor-gear company, there at the first start of an empty workspace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio.evaluation import EvaluationItem
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.specs import SnapshotRef
from studio.store import Store

__all__ = ["DEVELOPMENT", "EVALUATION", "EXAMPLE", "SNAPSHOT", "load_example"]

_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "data"

EXAMPLE = "brackenfold"
SNAPSHOT = SnapshotRef(f"data:{EXAMPLE}@1")
DEVELOPMENT = SnapshotRef(f"eval:{EXAMPLE}-development@1")
EVALUATION = SnapshotRef(f"eval:{EXAMPLE}@1")


def load_example(store: Store, root: Path) -> bool:
    """Put the example into a workspace that holds no other dataset; True if there was something to put.

    A start that was interrupted is made whole by the next one: the snapshot of the records comes last.
    """
    known = {d.name for d in store.datasets()}
    if known - {EXAMPLE} or (known and SNAPSHOT in {s.ref for s in store.snapshots("data")}):
        return False
    licence, author = "Apache-2.0", "Ladder Studio"
    for name, part in ((DEVELOPMENT.name, "development"), (EVALUATION.name, "evaluation")):
        items = (EvaluationItem.model_validate(row) for row in _rows(f"{EXAMPLE}.{part}.jsonl"))
        store.freeze(root, "eval", name, (i.model_dump(mode="json") for i in items), author=author, licence=licence)
    if EXAMPLE not in known:
        store.create_dataset(
            EXAMPLE,
            author=author,
            description="Questions to a made-up outdoor-gear shop and answers in its house style.",
            guidelines=(_FOLDER / f"{EXAMPLE}.guidelines.txt").read_text(encoding="utf-8").strip(),
            licence=licence,
        )
    dataset = store.dataset(EXAMPLE)
    if store.count_records(dataset.id) == 0:
        rows = (insertable(row) for row in _rows(f"{EXAMPLE}.records.jsonl"))
        store.add_records(dataset.id, rows, author=author, source="example")
    freeze(store, root, dataset, author=author)
    return True


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines()]
