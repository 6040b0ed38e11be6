"""Where tuning stands: methods on a model, how runs differ, and what must not start."""

from __future__ import annotations

import pytest

from studio.errors import InputError, RunError
from studio.models import Weights
from studio.recipes.tuning import tuning_methods
from studio.recipes.tuning_state import (
    by_effort,
    differences,
    how_it_ended,
    how_memory_was_saved,
    knob_words,
    methods_on,
    ready,
    stated_defaults,
    tuning_task,
)
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Job, Store
from tests.fixtures_models import TINY

DATA = "data:any@1"


def queued(store: Store, method: str = "lora", effort: str = "balanced", **knobs: object) -> Job:
    return store.queue_job(tuning_task(method, DATA, "dir:tiny", effort, knobs), author="ann")


def ended(store: Store, result: dict[str, object], steps: int = 54) -> Job:
    job = queued(store, patience=3)
    store.claim_job("train", "here")
    store.start_job(job.id, 1, pid=1)
    store.log_metrics(job.id, 1, steps, 54, {"loss": 1.0})
    return store.finish_job(job.id, 1, "done", result=result)


def test_an_empty_field_says_what_it_stands_for():
    assert stated_defaults("lora", "balanced") == {"learning_rate": "1e-3 for LoRA", "epochs": "2 for balanced"}
    assert stated_defaults("full", "thorough")["learning_rate"] == "5e-5 for Full fine-tuning"


def test_presets_are_timed_by_their_passes():
    task = tuning_task("lora", DATA, "dir:tiny", "quick", {"epochs": 3})
    assert by_effort(task, 300.0) == {"quick": 100.0, "balanced": 200.0, "thorough": 400.0}
    assert by_effort(task, None) == {}


def test_only_the_knobs_in_which_runs_differ_are_told(sqlite_store):
    plain, other = queued(sqlite_store), queued(sqlite_store, rank=4, learning_rate=5e-4)
    told = {row.title: row.values for row in differences([plain, other])}
    assert told == {"LoRA rank": ("16", "4"), "Learning rate": ("1e-3 for LoRA", "5e-4")}
    assert differences([plain, queued(sqlite_store)]) == []


def test_a_knob_that_a_method_has_not_is_a_dash(sqlite_store):
    lora, ia3 = queued(sqlite_store), queued(sqlite_store, "ia3")
    told = {row.title: row.values for row in differences([lora, ia3])}
    assert told["Method"] == ("LoRA", "IA3")
    assert told["LoRA rank"] == ("16", "–")
    assert knob_words(lora, "saves_memory") == "auto"


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"best_step": 54}, "Kept: step 54, the best of 54 steps."),
        (
            {"best_step": 18, "stopped_early": True},
            "Kept: step 18. It stopped early after 3 looks without a better loss.",
        ),
        ({"best_step": 0}, "Kept: the model as it was, since no step did better."),
        ({}, ""),
    ],
    ids=["whole", "early", "nothing-better", "unknown"],
)
def test_the_end_says_which_step_was_kept(sqlite_store, result, sentence):
    assert how_it_ended(ended(sqlite_store, result)) == sentence


def test_a_run_that_saved_memory_says_who_decided_it(sqlite_store):
    assert how_memory_was_saved(ended(sqlite_store, {"saved_memory": True})) == (
        "Yes, since little was free when it started"
    )
    assert how_memory_was_saved(ended(sqlite_store, {"saved_memory": False})) == ""
    assert how_memory_was_saved(ended(sqlite_store, {})) == ""


def test_methods_are_counted_on_a_model_and_refused_with_a_reason(tiny_folder):
    weights = Weights(TINY, tiny_folder, None, "digest", 512, "")
    lines = {line.kind: line for line in methods_on(weights)}
    assert lines["lora"].new_parameters
    assert lines["full"].new_parameters > lines["selective"].new_parameters > 0
    assert "QLoRA needs" in lines["qlora"].refusal
    assert all(line.explains and line.cost for line in lines.values())
    assert {line.new_parameters for line in methods_on(None)} == {None}


def test_the_folder_of_methods_is_looked_through_once():
    assert tuning_methods() is tuning_methods()
    assert next(iter(tuning_methods())) == "lora"


def test_an_unknown_knob_or_method_is_named_with_those_there_are():
    with pytest.raises(InputError, match="LoRA has no knob 'rang'.*rank"):
        tuning_task("lora", DATA, "dir:tiny", "quick", {"rang": 4})
    with pytest.raises(InputError, match="no method 'lola'.*lora"):
        tuning_task("lola", DATA, "dir:tiny", "quick", {})


def test_what_stands_in_the_way_stops_the_start(sqlite_store, tmp_path):
    task = tuning_task("lora", "data:nobody@1", str(ModelRef("dir:tiny")), "quick", {})
    settings = Settings(runtime=tmp_path / "r")
    with pytest.raises(RunError, match="no snapshot 'data:nobody@1'"):
        ready(sqlite_store, tmp_path, task, settings)
    with pytest.raises(InputError, match="What it is for: must be 'company', 'customers' or 'research', not 'fun'"):
        tuning_task("lora", DATA, "dir:tiny", "quick", {"use": "fun"})
