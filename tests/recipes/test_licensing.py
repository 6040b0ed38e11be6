"""The licence gate of a run: what all the data behind it allows, and what nobody knows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.models.licences import Gate
from studio.models.lineage import licences_of
from studio.recipes.licensing import licence_gate
from studio.specs import ModelRef
from studio.store import Snapshot, Store, model_row, read_rows


class Chain:
    """`run:900`, made from `data:older@1`, and a run on it that learns from `data:newer@1`."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root
        borrowed = [self.row(n, "CC-BY-NC-4.0" if n == 3 else "") for n in range(9)]
        self.older = store.freeze(root, "data", "older", borrowed, author="ann", licence="MIT")
        self.newer = store.freeze(root, "data", "newer", [self.row(n) for n in range(9)], author="ann", licence="MIT")
        self.put("run:900", str(self.older.ref))

    @staticmethod
    def row(n: int, licence: str = "") -> dict[str, str]:
        told = {"instruction": f"Ask {n}", "context": "", "response": "yes", "split": "train"}
        return {**told, "licence": licence} if licence else told

    def put(self, ref: str, snapshot: str) -> None:
        base = {"base": "embedded:smollm2-135m-instruct", "licence": "Apache-2.0"}
        self.store.add_model(
            model_row(ref, "earlier", author="ann", snapshot=snapshot, method="lora", path="r", **base)
        )

    def named(self, snapshot: Snapshot) -> dict[str, int]:
        return licences_of(read_rows(self.root, snapshot))

    def gate(self, base: str = "run:900", *, reads: bool = True) -> Gate:
        return licence_gate(self.store, ModelRef(base), self.newer, "customers", named=self.named if reads else None)


@pytest.fixture
def chain(sqlite_store: Store, tmp_path: Path) -> Chain:
    return Chain(sqlite_store, tmp_path)


def test_a_record_that_a_run_further_back_learned_from_still_says_no(chain):
    assert chain.gate().verdict == "no"
    assert "CC-BY-NC-4.0, the licence of 1 record of data:older@1, is not for business" in chain.gate().sentence
    assert "data:older@1" not in chain.gate(reads=False).sentence  # the database alone does not know of single records


def test_earlier_data_that_cannot_be_read_any_more_is_never_a_yes(chain):
    (chain.root / chain.older.path).unlink()
    found = chain.gate()
    assert found.verdict == "unknown"
    assert "single records of data:older@1, which cannot be read any more" in found.sentence


def test_earlier_data_that_is_not_in_this_workspace_is_never_a_yes(chain):
    chain.put("run:901", "data:elsewhere@4")
    found = chain.gate("run:901")
    assert found.verdict == "unknown"
    assert "no licence is named for data:elsewhere@4" in found.sentence
