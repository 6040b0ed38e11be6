"""The LoRA recipe, on the tiny model: from a snapshot to an adapter that answers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.errors import InputError, NotFound, RunError
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.models import Weights
from studio.recipes.lora import Lora
from studio.recipes.preflight import preflight
from studio.specs import ModelRef, Sampling, SnapshotRef
from studio.store import Store
from studio.training.decode import generate
from studio.training.sizes import ANSWERS_SHARE, Machine
from tests.memory_run import MemoryRun

TINY = ModelRef("dir:tiny")


@pytest.fixture
def data(sqlite_store: Store, model_workspace: Path) -> SnapshotRef:
    dataset = sqlite_store.create_dataset("words", author="ann")
    rows = [insertable({"instruction": f"Count to {i}", "response": "one two three four"}) for i in range(40)]
    sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    return freeze(sqlite_store, model_workspace, dataset, author="ann").ref


@pytest.fixture
def run(tmp_path, sqlite_store, model_settings, model_workspace) -> MemoryRun:
    return MemoryRun(tmp_path, settings=model_settings, store=sqlite_store, workspace=model_workspace)


def task(data: SnapshotRef, **knobs) -> Lora:
    return Lora(base=TINY, data=data, **{"epochs": 2, "rank": 4, "learning_rate": 1e-2, **knobs})


def test_a_run_leaves_an_adapter_and_its_figures(run, data):
    result = task(data).do(run)
    assert (run.output / "model" / "adapter_model.safetensors").is_file()
    assert result["validation_loss"] < result["validation_loss_before"]
    assert result["new_parameters"] > 0
    assert (result["base"], result["snapshot"], result["method"]) == ("dir:tiny", str(data), "lora")
    assert (run.samples[0][0], set(run.samples[0][2])) == (0, {"base"})  # asked before anything is learned
    assert {"base", "tuned"} == set(run.samples[-1][2])


@pytest.mark.parametrize(("seconds", "most"), [(0.01, 20), (0.4, 4)])
def test_answers_on_the_way_take_a_small_part_of_the_time(run, data, monkeypatch, seconds, most):
    """By a clock of this test's own, on which each of 20 epochs takes four seconds."""
    now = [0.0]

    def answered(model: Any, prompts: Any, sampling: Sampling, stops: Any) -> Any:
        now[0] += seconds
        return generate(model, prompts, sampling.model_copy(update={"max_tokens": 2}), stops)

    def logged(step: int, total: int | None = None, **metrics: float) -> None:
        now[0] += 0.8 if "loss" in metrics else 0.0
        MemoryRun.log(run, step, total, **metrics)

    monkeypatch.setattr("studio.training.tuning.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("studio.training.tuning.generate", answered)
    monkeypatch.setattr(run, "log", logged)
    result = task(data, epochs=20, patience=0).do(run)
    looks = [step for step, metrics in run.logged if step and "validation_loss" in metrics]
    given = list(dict.fromkeys(step for step, _, answers in run.samples if "tuned" in answers))
    assert len(looks) == 20
    assert given[-1] == result["best_step"]
    assert len(given) in (most, most + 1)  # what is kept may be that of the last look
    assert (len(given) - 1) * seconds * ANSWERS_SHARE <= now[0]


def test_a_run_on_a_run_goes_on_from_its_adapter(run, data, monkeypatch, tiny_weights):
    task(data).do(run)
    tuned = Weights(ModelRef("run:1"), tiny_weights.base, run.output / "model", tiny_weights.digest, 2048, "")
    second = MemoryRun(run.output / "second", settings=run.settings, store=run.store, workspace=run.workspace)
    second.output.mkdir()
    monkeypatch.setattr(second, "weights", lambda ref: tuned)
    result = task(data).do(second)
    # It begins where the first run ended, not where the base is.
    assert result["validation_loss_before"] == pytest.approx(run.values("validation_loss")[-1], abs=0.02)


def test_the_engine_gives_its_memory_up_only_when_the_run_needs_it(run, data, monkeypatch):
    task(data, epochs=1).do(run)
    assert run.releases == 0
    monkeypatch.setattr("studio.training.loading.free_memory", lambda: 2 * 2**30)
    second = MemoryRun(run.output / "second", settings=run.settings, store=run.store, workspace=run.workspace)
    second.output.mkdir()
    task(data, epochs=1).do(second)
    assert second.releases == 1


@pytest.mark.parametrize(("told", "saves"), [("auto", True), ("no", False), ("yes", True)])
def test_memory_is_saved_when_it_is_short_and_nobody_said_otherwise(run, data, monkeypatch, told, saves):
    short = Machine(False, 16 << 30, 1 << 20, 2, 4)
    monkeypatch.setattr("studio.training.memory.machine", lambda: short)
    monkeypatch.setattr("studio.training.memory._held", lambda: 0)
    assert task(data, epochs=1, saves_memory=told).do(run)["saved_memory"] is saves
    said = [sentence for sentence in run.said if sentence.startswith("Memory is short")]
    assert len(said) == (told == "auto")
    assert run.releases == (told == "auto")  # the engine goes first


def test_memory_is_kept_for_speed_while_there_is_enough(run, data):
    assert task(data, epochs=1).do(run)["saved_memory"] is False


def test_a_manifest_from_when_saving_memory_was_a_switch_still_loads(data):
    old = {"base": "dir:tiny", "data": str(data)}
    assert [Lora.model_validate({**old, "saves_memory": was}).saves_memory for was in (True, False)] == ["yes", "no"]
    assert Lora.model_validate(old).saves_memory == "auto"
    assert Lora.model_validate(old).use == "company"


def test_a_stopped_run_leaves_a_checkpoint_and_no_model(run, data):
    run.stop_after = 3
    assert task(data).do(run) == {}
    assert (run.last_checkpoint() / "model" / "adapter_model.safetensors").is_file()
    assert not (run.output / "model").exists()


def test_records_that_are_too_long_are_left_out_and_none_left_is_refused(run, data):
    with pytest.raises(RunError, match="Nothing would be learned.*longer than 16 tokens"):
        task(data, max_length=16).do(run)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"data": "data:nobody@1"}, "There is no snapshot 'data:nobody@1'"),
        ({"data": "eval:words@1"}, "is not an instruction dataset"),
        ({"base": "echo:"}, "has no weights here"),
        ({"base": "run:99"}, "There is no model 'run:99'"),
    ],
    ids=["unknown-snapshot", "wrong-kind", "no-weights", "unknown-run"],
)
def test_what_cannot_work_is_refused_before_it_is_queued(sqlite_store, data, fields, sentence):
    wrong = Lora.model_validate({"base": "dir:tiny", "data": str(data), **fields})
    with pytest.raises((InputError, NotFound), match=sentence):
        wrong.check(sqlite_store)


def test_a_licence_that_does_not_allow_the_use_is_refused_before_it_is_queued(sqlite_store, model_workspace):
    dataset = sqlite_store.create_dataset("borrowed", author="ann", licence="CC-BY-NC-4.0")
    rows = [insertable({"instruction": f"Count to {i}", "response": "one two three"}) for i in range(9)]
    sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    borrowed = freeze(sqlite_store, model_workspace, dataset, author="ann").ref
    with pytest.raises(InputError, match="CC-BY-NC-4.0, the licence of data:borrowed@1, is not for business"):
        task(borrowed).check(sqlite_store)
    with pytest.raises(InputError, match="and this is to be offered to customers"):
        task(borrowed, use="customers").check(sqlite_store)
    task(borrowed, use="research").check(sqlite_store)


def test_licences_that_only_files_name_are_held_against_the_use_before_the_first_step(
    run, sqlite_store, model_workspace
):
    dataset = sqlite_store.create_dataset("mixed", author="ann", licence="MIT")
    rows = [
        insertable({"instruction": f"Say {i}", "response": "yes", "licence": "CC-BY-NC-4.0" if i % 3 else ""})
        for i in range(12)
    ]
    sqlite_store.add_records(dataset.id, rows, author="ann", source="test")
    mixed = freeze(sqlite_store, model_workspace, dataset, author="ann").ref
    task(mixed).check(sqlite_store)
    with pytest.raises(InputError, match=r"the licence of \d+ records of data:mixed@1, is not for business"):
        task(mixed).do(run)
    assert run.logged == []


def test_the_preflight_counts_rows_and_steps_exactly(sqlite_store, model_workspace, data, run):
    found = preflight(sqlite_store, model_workspace, task(data, epochs=1, batch_size=4))
    assert found.train_rows + found.validation_rows + found.test_rows == 40
    assert found.seconds is None
    assert "the first run measures it" in found.sentence
    task(data, epochs=1, batch_size=4).do(run)
    assert max(step for step, _ in run.logged) == found.steps
