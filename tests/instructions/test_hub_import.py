"""A data set of the hub: fetched whole, then taken in like a file. The hub's own library reads a folder here as it reads
the hub, so nothing is asked of a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.instructions.hub_import import ImportFromHub
from studio.settings import Settings
from studio.store import Store
from tests.prompts.desk import DeskRun

TASK = ImportFromHub(dataset="help", ref="hf:acme/help")


@pytest.fixture
def run(sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeskRun:
    """A run beside a folder that looks like acme/help on the hub."""
    folder = tmp_path / "acme" / "help"
    folder.mkdir(parents=True)
    rows = [{"instruction": f"Question {n}?", "response": "Yes." if n else ""} for n in range(3)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    run = DeskRun(sqlite_store, tmp_path, TASK, {})
    run.output.mkdir(parents=True)
    run.settings = Settings(offline=False)
    return run


def test_a_data_set_of_the_hub_is_imported_and_its_bad_rows_wait(run: DeskRun) -> None:
    told = TASK.do(run)
    assert (told["added"], told["left_out"]) == (2, 1)
    dataset = run.store.dataset("help")
    records = list(run.store.all_records(dataset.id))
    assert [record.instruction for record in records] == ["Question 1?", "Question 2?"]
    assert {record.source for record in records} == {"acme-help-train.jsonl"}
    assert run.store.left_out(dataset.id)[1] == 1
    assert not list(run.output.glob("*.jsonl"))


def test_offline_nothing_is_fetched_and_no_dataset_is_left_behind(run: DeskRun) -> None:
    run.settings = Settings(offline=True)
    with pytest.raises(InputError, match="hf:acme/help is on huggingface.co, and the studio is offline"):
        TASK.do(run)
    assert run.store.datasets() == []


def test_what_names_no_data_set_is_refused_before_it_is_queued(sqlite_store: Store) -> None:
    with pytest.raises(InputError, match="names no data set of the hub"):
        ImportFromHub(dataset="help", ref="acme/help").check(sqlite_store)
