"""The dry run: 20 steps of the run itself, of which nothing is kept but what they took."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.jobs.registry import task_from
from studio.models import resolve
from studio.recipes.dry_run import DryRun, Measured, measured
from studio.recipes.lengths import known
from studio.recipes.preflight import preflight
from studio.recipes.tuning import Tuning, tuning_methods
from studio.specs import ModelRef, SnapshotRef
from studio.store import Store
from studio.training.sizes import ANSWERS_SHARE, machine
from tests.memory_run import MemoryRun
from tests.training.toys import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ModelRef("dir:tiny")
WORDS = "one two three four five six seven eight nine ten".split()


@pytest.fixture
def root(tmp_path: Path, tiny_folder: Path) -> Path:
    (tmp_path / "models").mkdir()
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    return tmp_path


@pytest.fixture
def data(sqlite_store: Store, root: Path) -> SnapshotRef:
    dataset = sqlite_store.create_dataset("words", author="ann")
    rows = [{"instruction": f"Count to {i}", "response": " ".join(WORDS[: 1 + i % 10])} for i in range(60)]
    sqlite_store.add_records(dataset.id, [insertable(row) for row in rows], author="ann", source="test")
    return freeze(sqlite_store, root, dataset, author="ann").ref


@pytest.fixture
def run(root, sqlite_store, model_settings) -> MemoryRun:
    return MemoryRun(root / "runs" / "1", settings=model_settings, store=sqlite_store, workspace=root)


def task(taught: SnapshotRef, kind: str = "lora", **knobs: object) -> Tuning:
    return tuning_methods()[kind].model_validate({"base": "dir:tiny", "data": str(taught), **knobs})


def finished(store: Store, one: Tuning, result: dict[str, object]) -> None:
    """As a worker leaves it."""
    job = store.queue_job(DryRun.of(one), author="ann")
    store.claim_job("train", "here", only=job.id)
    store.start_job(job.id, 1, 1)
    store.finish_job(job.id, 1, "done", result=result)


def test_it_holds_a_run_and_survives_being_stored(data):
    one = task(data, rank=3, batch_size=4, effort="quick")
    stored = task_from("dry_run", DryRun.of(one).model_dump(mode="json"))
    assert stored.tuning == one
    assert stored.lane == "train"  # it needs the machine for itself, as the run will
    assert "Measure 20 steps" in stored.title


def test_a_method_or_knob_that_is_not_there_is_named(data, sqlite_store):
    with pytest.raises(InputError, match="There is no method 'magic'"):
        DryRun(method="magic", data=data, base=TINY).check(sqlite_store)
    with pytest.raises(InputError, match="rank: Input should be less than or equal to 256"):
        DryRun(method="lora", data=data, base=TINY, knobs={"rank": 1000}).check(sqlite_store)


def test_it_takes_the_steps_with_the_longest_records_and_keeps_nothing(run, data, sqlite_store, root, model_settings):
    one = task(data, batch_size=2, effort="quick")
    found = DryRun.of(one).do(run)
    assert found["steps"] == 20
    weights = resolve(TINY, settings=model_settings, store=sqlite_store, workspace=root)
    lengths = known(root, sqlite_store.snapshot(data), weights)
    assert found["longest"] == max(tokens for tokens, _ in lengths.train)
    for figure in (
        "tokens_per_second",
        "peak_bytes",
        "look_seconds",
        "sampling_seconds",
        "save_seconds",
        "start_seconds",
    ):
        assert found[figure] > 0, figure
    assert found["tokens_per_second"] > found["learned_tokens_per_second"] > 0
    assert list(run.output.iterdir()) == []  # no model, no checkpoint, no samples
    assert run.samples == []
    assert run.steps[-1] == (20, 20)


def test_a_run_of_few_steps_is_measured_in_as_many(run, data):
    one = task(data, batch_size=32, effort="quick")
    assert DryRun.of(one).do(run)["steps"] == 2


def test_it_stops_when_asked_and_leaves_nothing(run, data):
    run.stop_after = 3
    assert DryRun.of(task(data)).do(run) == {}
    assert list(run.output.iterdir()) == []


def test_preflights_of_the_same_configuration_go_by_it_and_say_so(run, data, sqlite_store, root, model_settings):
    one = task(data, batch_size=4, effort="balanced")
    finished(sqlite_store, one, DryRun.of(one).do(run))
    found = preflight(sqlite_store, root, one, model_settings)
    assert (found.figure("Time").confidence, found.figure("Memory").confidence) == ("measured", "measured")
    assert "From a dry run of 20 steps here" in found.figure("Time").why
    assert "as measured here" in found.sentence
    assert found.figure("Learned tokens").confidence == "exact"  # it counted, too
    # How often the records are gone through changes the time, not what a step takes; another batch is another step.
    thorough = preflight(sqlite_store, root, task(data, batch_size=4, effort="thorough"), model_settings)
    assert thorough.figure("Time").confidence == "measured"
    assert thorough.seconds > found.seconds
    other = preflight(sqlite_store, root, task(data, batch_size=8), model_settings)
    assert other.figure("Time").confidence == "rough"


def test_what_a_model_is_for_does_not_spoil_what_was_measured(run, data, sqlite_store, root, model_settings):
    one = task(data)
    finished(sqlite_store, one, DryRun.of(one).do(run))
    for use in ("research", "customers"):
        found = preflight(sqlite_store, root, task(data, use=use), model_settings)
        assert found.figure("Time").confidence == "measured", use


def test_a_dry_run_goes_for_runs_that_save_memory_as_it_did(run, data, sqlite_store, root, model_settings):
    one = task(data)
    told = DryRun.of(one).do(run)
    assert told["recomputes"] is False
    # What was measured is more than is free now, so this run would save memory: its time is not the measured one.
    finished(sqlite_store, one, {**told, "peak_bytes": 10**15, "is_gpu": machine().is_gpu})
    found = preflight(sqlite_store, root, one, model_settings)
    assert found.figure("Time").confidence == "rough"
    assert any("saves memory by itself" in caution.words for caution in found.cautions)
    finished(sqlite_store, one, {**{k: v for k, v in told.items() if k != "recomputes"}, "peak_bytes": 1000})
    assert preflight(sqlite_store, root, one, model_settings).figure("Time").confidence == "measured"


def test_the_time_is_the_sum_of_what_was_measured(data, sqlite_store, root, model_settings, run):
    one = task(data, batch_size=4, effort="quick")
    told = DryRun.of(one).do(run)
    made_up = {
        "tokens_per_second": 10.0,
        "look_seconds": 100.0,
        "sampling_seconds": 1000.0,
        "save_seconds": 3.0,
        "start_seconds": 2.0,
    }
    finished(sqlite_store, one, {**told, **made_up})
    weights = resolve(TINY, settings=model_settings, store=sqlite_store, workspace=root)
    lengths = known(root, sqlite_store.snapshot(data), weights)
    found = preflight(sqlite_store, root, one, model_settings)
    steps = found.steps
    looks = min(4, steps // 5)
    training = sum(tokens for tokens, _ in lengths.train) / 10
    # Answers take a fiftieth of the time on the way, and once more at the end what they take.
    assert found.seconds == pytest.approx(5 + (training + looks * 100) * (1 + 1 / ANSWERS_SHARE) + 100 + 1000)


def test_another_machine_or_other_weights_go_by_nothing(data, sqlite_store, root, model_settings, run, monkeypatch):
    one = task(data)
    weights = resolve(TINY, settings=model_settings, store=sqlite_store, workspace=root)
    snapshot = sqlite_store.snapshot(data)
    finished(sqlite_store, one, DryRun.of(one).do(run))
    assert isinstance(measured(sqlite_store, one, snapshot, weights), Measured)
    monkeypatch.setattr("studio.recipes.dry_run.platform.node", lambda: "elsewhere")
    assert measured(sqlite_store, one, snapshot, weights) is None
