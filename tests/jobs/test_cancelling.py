"""Cancelling real tuning at any step: soon acknowledged, soon gone, and a checkpoint that loads."""

from __future__ import annotations

import random

import pytest

from benchmarks.cancelling import cancel_at, loads
from tests.jobs.tiny import put_records, put_tiny, tune


@pytest.mark.slow
def test_runs_cancelled_at_random_steps_end_soon_and_leave_a_checkpoint_that_loads(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    shop.supervise()
    rng = random.Random(0)
    for _ in range(3):
        job_id = shop.queue(tune(epochs=50))
        cancelled = cancel_at(shop.store, shop.path, job_id, step=rng.randint(1, 12), seconds=120)
        assert cancelled.acknowledged < 1.0
        assert cancelled.gone < 10.0
        assert shop.store.job(job_id).state == "cancelled"
        assert loads(shop.path, job_id)
