"""The same answer everywhere: what the check asks, what it says when all is well, and what it finds when it is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio import cli
from studio.errors import InputError, NotFound
from studio.models import resolve
from studio.models.exporting import export_weights
from studio.recipes import round_trip
from studio.recipes.round_trip import RoundTrip
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Store
from tests.memory_run import MemoryRun
from tests.models.made_runs import add_row, put_run
from tests.tiny_models import CHATML


def rows(test: int = 2, validation: int = 2) -> list[dict[str, str]]:
    splits = ["train"] * 3 + ["validation"] * validation + ["test"] * test
    return [
        {"instruction": f"Count to {n} ({split})", "context": "", "response": "one two", "split": split}
        for n, split in enumerate(splits)
    ]


class Desk:
    """A workspace with `dir:tiny` and `run:1` in it, and a run that checks."""

    def __init__(self, path: Path, store: Store, settings: Settings) -> None:
        self.path, self.store, self.settings = path, store, settings
        (path / "runs" / "9").mkdir(parents=True)
        self.run = MemoryRun(path / "runs" / "9", settings=settings, store=store, workspace=path)

    def put(self, name: str, snapshot: str = "") -> None:
        where = {"settings": self.settings, "store": self.store, "workspace": self.path}
        put_run(self.store, self.path, resolve(ModelRef("dir:tiny"), **where), name, snapshot=snapshot)

    def check(self, **knobs) -> dict:
        task = RoundTrip(**{"model": "run:1", "prompts": 4, "new_tokens": 8, **knobs})
        task.check(self.store)
        return json.loads(json.dumps(task.do(self.run), allow_nan=False))


@pytest.fixture
def desk(tmp_path, sqlite_store, model_settings, tiny_folder, monkeypatch) -> Desk:
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    return Desk(tmp_path, sqlite_store, model_settings)


@pytest.fixture
def spoiled(monkeypatch):
    """Change every exported folder before it is read."""

    def spoil(change) -> None:
        def export(weights, folder, form, **where):
            done = export_weights(weights, folder, form, **where)
            change(folder)
            return done

        monkeypatch.setattr(round_trip, "export_weights", export)

    return spoil


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "lora",
            "All 4 answers are the same, token for token, in the studio, in plain transformers + peft and from merged weights "
            "(float32).",
        ),
        (
            "p_tuning",
            "All 4 answers are the same, token for token, in the studio and in plain transformers + peft (float32).",
        ),
        (
            "llama_adapter",
            "All 4 answers are the same, token for token, in the studio and in plain transformers + peft (float32).",
        ),
        (
            "selective",
            "All 4 answers are the same, token for token, in the studio and in plain transformers (float32).",
        ),
    ],
)
def test_equal_answers_are_one_sentence(desk, name, sentence):
    desk.put(name)
    found = desk.check()
    assert (found["same"], found["sentence"]) == (True, sentence)
    assert all(side["same"] == side["answers"] == 4 and side["largest_gap"] < 1e-3 for side in found["sides"])
    assert ("has no merged form" in found["not_merged"]) == (name in ("p_tuning", "llama_adapter"))
    assert not (desk.run.output / "export").exists()
    assert desk.run.steps[-1] == (4 * (1 + len(found["sides"])),) * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_spoiled_template_is_found_and_named(desk, spoiled, dtype):
    desk.put("lora")
    spoiled(lambda folder: (folder / "chat_template.jinja").write_text(CHATML.replace("'role'] }}\n", "'role'] }}:")))
    found = desk.check(dtype=dtype)
    assert (found["same"], found["same_prompts"]) == (False, False)
    assert found["sentence"].startswith("Prompt 1 is another one in plain transformers + peft: its token ")
    assert "Rounding" not in found["sentence"]
    assert "The chat template or the tokenizer of the export is not the studio's." in found["sentence"]
    assert [side["first"]["what"] for side in found["sides"]] == ["prompt", "prompt"]


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no users here') }}"])
def test_a_template_that_is_gone_or_refuses_is_a_sentence(desk, spoiled, template):
    desk.put("full")

    def change(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(template) if template else file.unlink()

    spoiled(change)
    found = desk.check()
    assert not found["same"]
    assert found["sentence"].startswith(
        "The chat template of the export cannot write prompt 1 for plain transformers: "
    )
    assert ("no users here" in found["sentence"]) == bool(template)


def test_other_weights_are_found_with_the_tokens_and_their_probabilities(desk, spoiled):
    desk.put("lora")

    def change(folder: Path) -> None:
        if (file := folder / "adapter_model.safetensors").is_file():
            weights = {name: tensor + 0.2 for name, tensor in load_file(file).items()}
            file.unlink()  # it may be a link to the run's own
            save_file(weights, file, metadata={"format": "pt"})

    spoiled(change)
    found = desk.check()
    plain, merged = found["sides"]
    first = plain["first"]
    assert merged["same"] == 4 > plain["same"]
    assert (first["what"], first["ours"]["id"] != first["theirs"]["id"]) == ("answer", True)
    assert first["theirs"]["logprob"] > first["ours_there"]
    assert f"goes apart at token {first['position']}: the studio says {first['ours']['text']!r}" in found["sentence"]
    assert "All 4 answers are the same, token for token, in the studio and from merged weights" in found["sentence"]


def test_other_precisions_tell_the_gap(desk):
    desk.put("lora")
    found = desk.check(dtype="bfloat16")
    assert "Largest gap between log-probabilities of the same token: " in found["sentence"]
    assert all(side["largest_gap"] > 0 for side in found["sides"])
    assert ("whether the model is the same, float32 tells." in found["sentence"]) == (not found["same"])


def test_prompts_come_from_test_then_validation_then_the_studios_own(desk, monkeypatch):
    frozen = desk.store.freeze(desk.path, "data", "words", rows(), author="ann")
    desk.put("lora", str(frozen.ref))
    asked, where = round_trip._conversations(desk.run, ModelRef("run:1"))
    said = [one[-1].content for one in asked]
    assert ["test" in one for one in said[:4]] == [True, True, False, False]
    assert ["validation" in one for one in said[:4]] == [False, False, True, True]
    assert len(said) == 24
    assert not [one for one in said if "train)" in one]
    assert where == f"test and validation records of {frozen.ref}, then general questions of the studio's own"


def test_a_snapshot_that_is_gone_is_said_and_general_questions_are_asked(desk):
    frozen = desk.store.freeze(desk.path, "data", "words", rows(), author="ann")
    desk.put("lora", str(frozen.ref))
    (desk.path / frozen.path).unlink()
    found = desk.check(prompts=2)
    assert found["same"]
    assert found["prompts_from"] == "general questions of the studio's own"
    assert any("cannot be read" in said and "General questions are asked instead." in said for said in desk.run.said)


def test_a_model_that_came_as_it_is_can_be_checked(desk):
    found = desk.check(model="dir:tiny", prompts=2)
    assert found["sentence"].startswith(
        "All 2 answers are the same, token for token, in the studio and in plain transformers"
    )


@pytest.mark.parametrize("after", [2, 5, 10])
def test_it_stops_between_two_answers_and_leaves_nothing(desk, after):
    desk.put("lora")
    desk.run.stop_after = after
    assert desk.check() == {}
    assert len(desk.run.steps) == after
    assert list(desk.run.output.iterdir()) == []


def test_what_cannot_be_checked_is_refused(desk):
    with pytest.raises(InputError, match="echo: has no weights here"):
        desk.check(model="echo:")
    with pytest.raises(NotFound, match="There is no model 'run:7'"):
        desk.check(model="run:7")
    add_row(desk.store, 2, base="dir:tiny", method="reward", answers=False, scores=True)
    with pytest.raises(InputError, match="run:2 scores answers and gives none"):
        desk.check(model="run:2")
    with pytest.raises(InputError, match="reads 2048 tokens, and no prompt leaves room for 512 more"):
        RoundTrip(model="dir:tiny", new_tokens=512)._fitting(desk.run.weights(ModelRef("dir:tiny")), [])


@pytest.mark.slow
def test_the_command_has_a_worker_check_a_model_and_says_what_it_found(
    tmp_path, tiny_folder, tiny_weights, capsys, monkeypatch
):
    workspace = tmp_path / "workspace"
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("LADDER_THREADS", "1")
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)
    shutil.copytree(tiny_folder, workspace / "models" / "tiny")
    store = Store.in_folder(workspace)
    put_run(store, workspace, tiny_weights, "lora", 700)  # jobs begin at 1
    cli.main(
        ["--workspace", str(workspace), "models", "check", "run:700", "--prompts", "20", "--new-tokens", "16", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert found["sentence"] == (
        "All 20 answers are the same, token for token, in the studio, in plain transformers + peft and from merged weights "
        "(float32)."
    )
    [job] = store.jobs()
    assert (job.kind, job.lane, job.state, job.result) == ("round_trip", "light", "done", found)
    assert (job.step, job.total) == (60, 60)
    store.close()
