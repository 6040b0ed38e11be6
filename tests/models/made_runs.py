"""Finished runs put into a workspace by tests: learned parameters far from where they began, and nobody waited for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from studio.models import Weights
from studio.specs import ModelRef
from studio.store import Store
from studio.store.models import model_row
from studio.training.methods import Learner, learner
from tests.training.test_methods import STEPS, task

__all__ = ["add_row", "put_run"]


def put_run(
    store: Store,
    workspace: Path,
    weights: Weights,
    name: str,
    number: int = 1,
    *,
    by: float = 0.3,
    snapshot: str = "",
) -> Learner:
    """`run:NUMBER`, made from those weights with a method or a variant of one, `by` how far they moved."""
    torch.manual_seed(number)
    pupil = learner(weights, task(name).method(), steps=STEPS)
    with torch.no_grad():
        for parameter in pupil.parameters().values():
            parameter.add_(torch.randn_like(parameter) * by)
    pupil.model.eval()
    pupil.save(workspace / "runs" / str(number) / "model")
    facts = {"base_digest": weights.digest, "new_parameters": pupil.size, "snapshot": snapshot}
    add_row(store, number, base=str(weights.ref), method=name, **facts)
    return pupil


def add_row(store: Store, number: int, **facts: Any) -> None:
    ref = ModelRef.of_run(number)
    path = f"runs/{number}/model"
    store.add_model(model_row(ref, f"Tune tiny, number {number}", author="ann", path=path, **facts))
