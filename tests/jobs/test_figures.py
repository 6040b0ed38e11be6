"""Figures: every metric is read once, and a resumed run's curve does not run backwards."""

from __future__ import annotations

import pytest

from studio.jobs import Figures
from studio.jobs.figures import smoothed
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


def test_smoothing_starts_at_the_first_value_and_leaves_a_level_curve_level():
    level = [(step, 2.0) for step in range(1, 6)]
    assert [value for _, value in smoothed(level, 0.9)] == pytest.approx([2.0] * 5)
    jump = smoothed([(1, 4.0), (2, 0.0)], 0.5)
    assert jump == [(1, 4.0), (2, pytest.approx(4.0 / 3))]
    assert smoothed(jump, 0.0) == jump


def test_smoothing_is_done_before_thinning(sqlite_store, run):
    for step in range(1, 401):
        sqlite_store.log_metrics(run, 1, step, 400, {"loss": float(step % 2)})
    found = Figures(sqlite_store).of(run)
    whole = dict(found.curve("loss", 400, 0.9))
    assert all(value == whole[step] for step, value in found.curve("loss", 20, 0.9))


def test_the_lowest_step_is_the_first_of_equals(sqlite_store, run):
    for step, value in ((2, 3.0), (4, 2.5), (6, 2.5), (8, 2.9)):
        sqlite_store.log_metrics(run, 1, step, 9, {"validation_loss": value})
    found = Figures(sqlite_store).of(run)
    assert found.lowest("validation_loss") == (4, 2.5)
    assert found.lowest("loss") is None


def test_the_answers_of_each_look_are_kept_apart_and_the_last_word_counts(sqlite_store, run):
    figures = Figures(sqlite_store)
    for step, prompt, tuned in ((2, "a", "one"), (2, "b", "two"), (4, "a", "three"), (2, "a", "again")):
        sqlite_store.add_event(run, 1, "sample", {"step": step, "prompt": prompt, "answers": {"tuned": tuned}})
        figures.looks(run)
    said = {step: [row["answers"]["tuned"] for row in rows] for step, rows in figures.looks(run).items()}
    assert said == {2: ["again", "two"], 4: ["three"]}


def test_the_small_curve_of_a_run_that_is_over_is_read_once(sqlite_store, run, monkeypatch):
    for step in range(1, 101):
        sqlite_store.log_metrics(run, 1, step, 100, {"loss": 1.0 / step})
    figures = Figures(sqlite_store)
    going = figures.small(sqlite_store.job(run), "loss", 10)
    over = sqlite_store.finish_job(run, 1, "done", result={})
    assert figures.small(over, "loss", 10) == going
    monkeypatch.setattr(sqlite_store, "metrics", None)
    assert figures.small(over, "loss", 10) == going
