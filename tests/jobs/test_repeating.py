"""Runs done again: the same model from the same manifest, here or elsewhere, and what is refused when it cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from studio.errors import Conflict, InputError, RunError
from studio.jobs import Manifest, again, manifest_of, read_manifest, repeat, run_here
from studio.jobs.checkpoints import Checkpoints
from studio.models.files import digest, tokenizer_digest
from studio.store import Job, Store
from tests.jobs.conftest import Shop
from tests.jobs.tasks_for_tests import Count, MakeModel
from tests.jobs.tiny import put_records, put_tiny, tune


def run(shop: Shop, job: Job | int) -> Job:
    job_id = job if isinstance(job, int) else job.id
    ended = run_here(shop.store, shop.path, shop.settings, job_id)
    assert ended.state == "done", f"{ended.error}\n{shop.log(job_id)}"
    return ended


def adapter(shop: Shop, job: Job) -> bytes:
    return (shop.folder(job.id) / "model" / "adapter_model.safetensors").read_bytes()


def change_weights(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 0.5}, file, metadata={"format": "pt"})


@pytest.fixture
def elsewhere(shop: Shop, tmp_path: Path, migrated_sqlite: Path) -> Iterator[Shop]:
    """Another machine's workspace, empty."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(migrated_sqlite, folder / "studio.db")
    other = Shop(folder, Store(f"sqlite:///{folder / 'studio.db'}"))
    yield other
    other.close()
    other.store.close()


@pytest.mark.slow
def test_the_same_manifest_makes_the_same_model_to_the_byte_and_another_seed_another(shop, elsewhere, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    first = run(shop, shop.queue(tune()))
    second = run(shop, again(shop.store, shop.path, first.id, by="ben"))
    assert adapter(shop, first) == adapter(shop, second)
    assert second.origin["run"] == first.id

    told = manifest_of(shop.store, shop.path, first.id)
    assert set(told.models) == {"dir:tiny"}
    assert all(len(digest) == 64 for digest in (*told.models.values(), *told.snapshots.values()))
    put_tiny(elsewhere.path, tiny_folder)
    put_records(elsewhere.store, elsewhere.path, records=12)  # theirs of this name is another one
    file = shop.path / shop.store.snapshot("data:gear@1").path
    where = (elsewhere.store, elsewhere.path, elsewhere.settings)
    job = repeat(*where, told, author="cleo", files=[file])
    assert job.task["data"] == "data:gear@2"
    assert elsewhere.store.snapshot("data:gear@2").licence == "MIT"
    assert adapter(elsewhere, run(elsewhere, job)) == adapter(shop, first)

    other = run(shop, again(shop.store, shop.path, first.id, {"seed": 1}, by="ben"))
    assert adapter(shop, other) != adapter(shop, first)
    assert other.origin["changes"] == {"seed": [0, 1]}


@pytest.mark.slow
def test_a_run_that_repeats_another_is_held_to_its_weights_and_one_with_changes_says_that_they_are_others(
    shop, tiny_folder
):
    folder = put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    first = run(shop, shop.queue(tune()))
    then = manifest_of(shop.store, shop.path, first.id).models["dir:tiny"]
    change_weights(folder)

    same = again(shop.store, shop.path, first.id, by="ben")
    refused = run_here(shop.store, shop.path, shop.settings, same.id)
    assert refused.state == "failed"
    assert refused.error.startswith(
        f"The weights of dir:tiny are not those that run {first.id} was made from ({then[:12]} then, "
    )
    changed = run(shop, again(shop.store, shop.path, first.id, {"rank": 3}, by="ben"))
    notes = [e.payload["text"] for e in shop.store.job_events(changed.id, kinds=["note"])]
    assert any(
        note.startswith(f"The weights of dir:tiny are not what run {first.id} stood on ({then[:12]} then, ")
        for note in notes
    )


def test_changes_are_checked_and_named(shop):
    job = shop.store.job(shop.queue(Count(steps=3)))
    new = again(shop.store, shop.path, job.id, {"steps": "4"}, by="ben")
    assert (new.task["steps"], new.author, new.origin["changes"]) == (4, "ben", {"steps": [3, 4]})
    with pytest.raises(InputError, match="count has no field 'stepz' to change. It has: steps, gate, ignores_stop"):
        again(shop.store, shop.path, job.id, {"stepz": 4}, by="ben")
    with pytest.raises(InputError, match="count: steps cannot be 'many'"):
        again(shop.store, shop.path, job.id, {"steps": "many"}, by="ben")


def test_a_double_press_runs_it_again_once(shop):
    job = shop.queue(Count())
    pressed = {again(shop.store, shop.path, job, by="ben", client_key="one press").id for _ in range(2)}
    assert len(pressed) == 1


def test_a_run_goes_on_from_anothers_checkpoint_and_leaves_it_where_it_is(shop):
    job = shop.store.job(shop.queue(Count(steps=8)))
    _interrupted(shop, job, step=5)
    new = again(shop.store, shop.path, job.id, by="ben", goes_on=True)
    done = run(shop, new)
    assert done.result == {"counted": 8, "began_at": 5}
    assert Checkpoints(shop.folder(job.id)).newest().name == "step-5"
    notes = [e.payload["text"] for e in shop.store.job_events(new.id, kinds=["note"])]
    assert notes == [f"Goes on from step-5 of run {job.id}."]


def test_a_run_that_goes_on_takes_no_other_steps(shop):
    job = shop.store.job(shop.queue(Count(steps=8)))
    _interrupted(shop, job, step=5)
    with pytest.raises(InputError, match=f"Run {job.id} can only go on with another learning_rate, .*another steps"):
        again(shop.store, shop.path, job.id, {"steps": 9}, by="ben", goes_on=True)


def test_a_run_at_work_is_paused_before_another_goes_on_from_it(shop):
    job = shop.store.claim_job("train", "here", only=shop.queue(Count()))
    with pytest.raises(Conflict, match=f"Run {job.id} is at work. Pause it first"):
        again(shop.store, shop.path, job.id, by="ben", goes_on=True)


def test_a_checkpoint_that_went_away_is_named(shop):
    job = shop.store.job(shop.queue(Count(steps=8)))
    _interrupted(shop, job, step=5)
    new = again(shop.store, shop.path, job.id, by="ben", goes_on=True)
    shutil.rmtree(shop.folder(job.id) / "checkpoints")
    failed = run_here(shop.store, shop.path, shop.settings, new.id)
    assert failed.error.startswith(f"Checkpoint step-5 of run {job.id} cannot be gone on from: it is missing.")


# -- a manifest on another machine ---------------------------------------------------------------------------


def test_data_that_is_not_there_is_asked_for_by_name_and_file(shop, elsewhere, tiny_folder):
    told = _told(shop, tiny_folder)
    where = (elsewhere.store, elsewhere.path, elsewhere.settings)
    digest = told.snapshots["data:gear@1"]
    with pytest.raises(InputError) as refused:
        repeat(*where, told, author="cleo")
    assert str(refused.value) == (
        f"The manifest needs data:gear@1 ({digest[:12]}), which is not in this workspace. On the machine it comes from "
        "it is the file snapshots/data-gear@1.jsonl of the workspace: copy it here and name it with --snapshot FILE."
    )
    put_records(elsewhere.store, elsewhere.path, records=12)
    with pytest.raises(InputError, match=r"The data:gear@1 here holds other rows \([0-9a-f]{12}\)\."):
        repeat(*where, told, author="cleo")
    other = elsewhere.path / elsewhere.store.snapshot("data:gear@1").path
    with pytest.raises(InputError, match=r"is none of the manifest's snapshots: data:gear@1 \([0-9a-f]{12}\)"):
        repeat(*where, told, author="cleo", files=[other])
    assert elsewhere.store.jobs() == []


def test_other_weights_are_refused_naming_both_digests(shop, elsewhere, tiny_folder):
    told = _told(shop, tiny_folder)
    pinned = told.with_model("dir:tiny", "a" * 64)
    change_weights(put_tiny(elsewhere.path, tiny_folder))
    put_records(elsewhere.store, elsewhere.path)
    with pytest.raises(
        InputError, match=r"run 1 of the manifest was made from \(aaaaaaaaaaaa there, [0-9a-f]{12} here"
    ):
        repeat(elsewhere.store, elsewhere.path, elsewhere.settings, pinned, author="cleo")


def test_another_chat_template_is_refused(shop, elsewhere, tiny_folder):
    """It decides what a model learns as much as the weights do."""
    here = put_tiny(shop.path, tiny_folder)
    pinned = _told(shop, tiny_folder).with_model("dir:tiny", digest(here))
    pinned = pinned.with_tokenizer("dir:tiny", tokenizer_digest(here))
    put_records(elsewhere.store, elsewhere.path)
    there = put_tiny(elsewhere.path, tiny_folder)
    assert repeat(elsewhere.store, elsewhere.path, elsewhere.settings, pinned, author="cleo")
    (there / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(InputError, match="The tokenizer and chat template of dir:tiny here are not those that run 1"):
        repeat(elsewhere.store, elsewhere.path, elsewhere.settings, pinned, author="cleo")


def test_a_chat_template_that_changed_since_the_first_attempt_is_refused(shop):
    job = shop.store.job(shop.queue(MakeModel(base="dir:base")))
    pinned = Manifest.of(job, shop.store).with_tokenizer("dir:base", "a" * 64)
    with pytest.raises(
        RunError, match=r"tokenizer and chat template of dir:base changed since run 1 began \(aaaaaaaaaaaa"
    ):
        pinned.with_tokenizer("dir:base", "b" * 64)


@pytest.mark.slow
def test_a_worker_writes_down_the_tokenizer_and_holds_a_repetition_to_it(shop, tiny_folder):
    folder = put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    first = run(shop, shop.queue(tune()))
    then = manifest_of(shop.store, shop.path, first.id).tokenizers["dir:tiny"]
    assert then == tokenizer_digest(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "\n{# another #}")
    same = again(shop.store, shop.path, first.id, by="ben")
    refused = run_here(shop.store, shop.path, shop.settings, same.id)
    assert refused.state == "failed"
    assert refused.error.startswith(
        f"The tokenizer and chat template of dir:tiny are not those that run {first.id} was made from ({then[:12]} then, "
    )


def test_other_versions_and_another_machine_are_told(shop, elsewhere, tiny_folder):
    told = _told(shop, tiny_folder)
    told = told.model_copy(
        update={"versions": {**told.versions, "torch": "1.0"}, "machine": {**told.machine, "threads": "96"}}
    )
    put_tiny(elsewhere.path, tiny_folder)
    put_records(elsewhere.store, elsewhere.path)
    said: list[str] = []
    repeat(elsewhere.store, elsewhere.path, elsewhere.settings, told, author="cleo", warn=said.append)
    assert any("and was 1.0 there: the model may differ" in sentence for sentence in said)
    assert any("The threads here" in sentence and "there: 96" in sentence for sentence in said)
    assert any("the weights are not compared" in sentence for sentence in said)  # it had not started yet


def test_a_manifest_is_a_file_of_its_own(shop, tmp_path):
    job = shop.store.job(shop.queue(MakeModel(base="echo:")))
    file = tmp_path / "manifest.json"
    file.write_text(manifest_of(shop.store, shop.path, job.id).model_dump_json())
    assert read_manifest(file).build() == MakeModel(base="echo:")
    file.write_text(json.dumps({"run": 1}))
    with pytest.raises(InputError, match="is not a run's manifest .*ladder jobs manifest RUN"):
        read_manifest(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.json")


def test_an_adapter_that_changed_since_the_first_attempt_is_refused(shop):
    job = shop.store.job(shop.queue(MakeModel(base="run:7")))
    pinned = Manifest.of(job, shop.store).with_adapter("run:7", "a" * 64)
    with pytest.raises(RunError, match=r"run:7 changed since run 1 began \(aaaaaaaaaaaa then"):
        pinned.with_adapter("run:7", "b" * 64)


def _told(shop: Shop, tiny_folder: Path) -> Manifest:
    put_records(shop.store, shop.path)
    return manifest_of(shop.store, shop.path, shop.queue(tune()))


def _interrupted(shop: Shop, job: Job, step: int) -> None:
    """A run that ended at a step it had saved."""
    claimed = shop.store.claim_job(job.lane, "elsewhere", only=job.id)
    shop.store.start_job(job.id, claimed.attempt, pid=1)
    checkpoints = Checkpoints(shop.folder(job.id))
    part = checkpoints.begin(step)
    (part / "count.json").write_text(json.dumps(step))
    checkpoints.publish(part)
    Manifest.of(job, shop.store).write(shop.folder(job.id))
    shop.store.finish_job(job.id, claimed.attempt, "failed", error="It broke.")
