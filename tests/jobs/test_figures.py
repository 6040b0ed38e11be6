"""Figures: every metric is read once, and a resumed run's curve does not run backwards."""

from __future__ import annotations

import pytest

from studio.jobs import Figures
from studio.store import Store
from tests.jobs.tasks_for_tests import Count


@pytest.fixture
def run(sqlite_store: Store) -> int:
    job = sqlite_store.queue_job(Count(steps=9), author="ann")
    sqlite_store.claim_job("train", "here")
    sqlite_store.start_job(job.id, 1, pid=1)
    return job.id


def test_each_row_is_read_once(sqlite_store, run, monkeypatch):
    figures, asked = Figures(sqlite_store), []
    metrics = sqlite_store.metrics
    monkeypatch.setattr(sqlite_store, "metrics", lambda job_id, **k: asked.append(k["since"]) or metrics(job_id, **k))
    for step in (1, 2):
        sqlite_store.log_metrics(run, 1, step, 9, {"loss": 5.0 - step})
        figures.of(run)
    assert figures.of(run).over_steps["loss"] == {1: 4.0, 2: 3.0}
    assert asked == sorted(asked)
    assert asked.count(0) == 1


def test_a_resumed_runs_steps_stand_as_its_last_attempt_took_them(sqlite_store, run):
    for step in (1, 2, 3):
        sqlite_store.log_metrics(run, 1, step, 9, {"loss": 1.0})
    sqlite_store.finish_job(run, 1, "lost")
    sqlite_store.resume_job(run)
    sqlite_store.claim_job("train", "here")
    sqlite_store.start_job(run, 2, pid=2)
    for step in (2, 3, 4):
        sqlite_store.log_metrics(run, 2, step, 9, {"loss": 0.5})
    assert Figures(sqlite_store).of(run).curve("loss", 100) == [(1, 1.0), (2, 0.5), (3, 0.5), (4, 0.5)]


def test_a_long_curve_is_thinned_and_keeps_its_end(sqlite_store, run):
    for step in range(1, 1002):
        sqlite_store.log_metrics(run, 1, step, 1001, {"loss": float(step)})
    curve = Figures(sqlite_store).of(run).curve("loss", 100)
    assert 100 <= len(curve) <= 102
    assert (curve[0], curve[-1]) == ((1, 1.0), (1001, 1001.0))


def test_what_is_no_number_leaves_no_point(sqlite_store, run):
    sqlite_store.log_metrics(run, 1, 1, 9, {"loss": float("nan"), "memory_gb": 2.0})
    found = Figures(sqlite_store).of(run)
    assert found.latest == {"memory_gb": 2.0}
    assert found.curve("loss", 10) == []
