"""What can go wrong with a tuning run, each with the sentence that a person gets: real workers, the tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import NotFound
from studio.jobs import again, resume, run_here
from studio.jobs.checkpoints import SEAL, Checkpoints, damage
from studio.jobs.run import StopWatch
from studio.jobs.supervisor import Supervisor
from studio.models import resolve
from studio.processes import wait_until
from studio.recipes.lengths import encoded
from studio.specs import ModelRef
from studio.store import Job, model_row, read_rows
from studio.store import tables as t
from studio.training.sft import Schedule, plan
from tests.jobs.conftest import Shop
from tests.jobs.tasks_for_tests import Count, Hungry, LoraOnAFullDisk
from tests.jobs.tiny import put_records, put_tiny, tune


def here(shop: Shop, job_id: int) -> Job:
    return run_here(shop.store, shop.path, shop.settings, job_id)


def pause_after_a_step(shop: Shop, job_id: int) -> Job:
    shop.counting(job_id)
    shop.store.request_job(job_id, "pause")
    return shop.ended(job_id)


# -- the data ------------------------------------------------------------------------------------------------


def test_a_snapshot_that_was_deleted_since_is_named(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    snapshot = put_records(shop.store, shop.path)
    gone, unlisted = shop.queue(tune()), shop.queue(tune())
    file = shop.path / snapshot.path
    file.rename(file.with_suffix(".kept"))
    failed = here(shop, gone)
    assert (failed.state, failed.error) == (
        "failed",
        f"The file of data:gear@1 cannot be read ({file}: No such file or directory). "
        "Put it back from a backup, or freeze a new snapshot.",
    )
    with shop.store._write() as c:
        c.execute(t.snapshots.delete())
    failed = here(shop, unlisted)
    assert failed.error == "There is no snapshot 'data:gear@1'. Known snapshots: none yet."
    with pytest.raises(NotFound, match="There is no snapshot 'data:gear@1'"):
        again(shop.store, shop.path, gone, by="ann")


@pytest.mark.slow
def test_a_snapshot_whose_records_were_purged_while_the_run_was_paused_is_named(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    snapshot = put_records(shop.store, shop.path)
    shop.supervise()
    job_id = shop.queue(tune(epochs=50))
    assert pause_after_a_step(shop, job_id).state == "paused"
    fewer = put_records(shop.store, shop.path, records=16, name="fewer")
    purged = {"path": fewer.path, "digest": fewer.digest, "rows": fewer.rows, "purged_at": time.time()}
    with shop.store._write() as c:
        c.execute(t.snapshots.update().where(t.snapshots.c.ref == "data:gear@1").values(purged))
    resume(shop.store, shop.path, job_id, by="ann")
    assert shop.ended(job_id).error == (
        f"data:gear@1 is not what run {job_id} began with: records were purged from it since "
        f"({snapshot.digest[:12]} then, {fewer.digest[:12]} now). Run it again to learn from what is left."
    )


# -- the weights ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resume_on_other_weights_is_refused_naming_both_digests(shop, tiny_folder):
    folder = put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    shop.supervise()
    job_id = shop.queue(tune(epochs=50))
    pause_after_a_step(shop, job_id)
    then = json.loads((shop.folder(job_id) / "manifest.json").read_text())["models"]["dir:tiny"]
    _change_weights(folder)
    resume(shop.store, shop.path, job_id, by="ann")
    failed = shop.ended(job_id)
    assert failed.error.startswith(f"The weights of dir:tiny changed since run {job_id} began ({then[:12]} then, ")
    assert failed.error.endswith("now). Put the old files back to resume it, or start a new run.")


def test_an_adapter_made_for_another_base_is_refused(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    adapter = shop.path / "brought"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    row = model_row("run:900", "brought", author="ann", base="dir:tiny", base_digest="a" * 64, path="brought")
    shop.store.add_model(row)
    failed = here(shop, shop.queue(tune(base="run:900")))
    assert failed.error.startswith("run:900 is an adapter for other weights than dir:tiny has now (aaaaaaaaaaaa then, ")
    assert failed.error.endswith("Put the old weights of dir:tiny back, or run the recipe again to tune these.")


# -- the run -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_is_no_number_names_step_and_records_and_the_run_goes_on_with_a_lower_rate(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    shop.supervise()
    job_id = shop.queue(tune(epochs=50))
    saved = pause_after_a_step(shop, job_id)
    good = Checkpoints(shop.folder(job_id)).newest()
    kept = shutil.copytree(good, shop.path / "good")
    _ruin(good)
    resume(shop.store, shop.path, job_id, by="ann")
    failed = shop.ended(job_id)
    assert failed.state == "failed"
    rows = _rows_of_step(shop, job_id, saved.step)
    assert failed.error == (
        f"The loss became nan at step {saved.step + 1}, with rows {rows} of the snapshot. The last good checkpoint, "
        f"{good.name}, is kept. Lower the learning rate from 0.001, or look at these rows."
    )
    assert Checkpoints(shop.folder(job_id)).newest() == good

    shutil.rmtree(good)
    shutil.copytree(kept, good)
    new = again(shop.store, shop.path, job_id, {"learning_rate": 1e-5}, by="ann", goes_on=True)
    lower = pause_after_a_step(shop, new.id)
    assert (lower.state, lower.error) == ("paused", "")
    assert min(shop.steps(new.id)) == saved.step + 1
    assert shop.store.metrics(new.id)[0].values["learning_rate"] <= 1e-5


def test_memory_that_ran_out_says_what_to_lower_and_from_where_it_goes_on(shop):
    jobs = {how: shop.queue(Hungry(how=how)) for how in ("python", "torch", "gpu")}
    shop.supervise()
    for how, job_id in jobs.items():
        failed = shop.ended(job_id)
        assert (how, failed.error) == (
            how,
            f"Run {job_id} ran out of memory at step 3. Run it with changes: a batch of 4 instead of 8, or a longest "
            "record of 512 tokens instead of 1,024, or Save memory turned on, or a smaller base than echo:. "
            "Or free memory and resume it: it goes on from step-1.",
        )


@pytest.mark.slow
def test_a_killed_worker_is_lost_and_goes_on_where_it_was_saved(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    shop.supervise()
    job_id = shop.queue(tune(epochs=50))
    pause_after_a_step(shop, job_id)
    resume(shop.store, shop.path, job_id, by="ann")
    begun = shop.wait(job_id, lambda job: job.state == "running" and job.attempt == 2)
    os.kill(begun.pid, signal.SIGKILL)
    lost = shop.ended(job_id)
    saved = Checkpoints(shop.folder(job_id)).newest()
    assert lost.state == "lost"
    assert f"killed by signal 9, often because memory ran out). Resume it: it goes on from {saved.name}." in lost.error
    resume(shop.store, shop.path, job_id, by="ann")
    again_at_work = shop.wait(job_id, lambda job: job.attempt == 3 and job.step > int(saved.name[5:]))
    assert again_at_work.state == "running"


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before_whole(shop, monkeypatch):
    """In this process, where the disk can be made full between two files."""
    checkpoints = Checkpoints(shop.path)
    good = checkpoints.begin(4)
    (good / "count.json").write_text("4")
    checkpoints.publish(good)
    part = checkpoints.begin(8)
    (part / "count.json").write_text("8")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.jobs.checkpoints._sync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.publish(part)
    checkpoints.discard_unfinished()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-4"]
    assert damage(checkpoints.newest()) == ""


@pytest.mark.slow
def test_a_run_whose_disk_is_full_at_a_checkpoint_says_so_and_goes_on_from_the_one_before(shop, tiny_folder):
    put_tiny(shop.path, tiny_folder)
    put_records(shop.store, shop.path)
    shop.supervise()
    told = tune(epochs=50).model_dump(mode="json")
    job_id = shop.queue(LoraOnAFullDisk.model_validate(told))
    saved = pause_after_a_step(shop, job_id)
    good = Checkpoints(shop.folder(job_id)).newest()
    resume(shop.store, shop.path, job_id, by="ann")
    shop.wait(job_id, lambda job: job.state == "running" and job.attempt == 2 and job.step > saved.step)
    shop.store.request_job(job_id, "pause")  # which saves a checkpoint
    failed = shop.ended(job_id)
    assert failed.state == "failed"
    assert failed.error.startswith(f"The disk that holds {shop.folder(job_id)} is full (")
    assert failed.error.endswith(f"Free some space, then resume run {job_id}: it goes on from {good.name}.")
    assert [path.name for path in Checkpoints(shop.folder(job_id)).folder.iterdir()] == [good.name]
    assert damage(good) == ""


# -- the clock -----------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_ends_no_run_early_and_leaves_no_deadline_open(shop, gate, monkeypatch):
    """An hour back while a run is being cancelled: its deadlines, its heartbeat and its length go by another clock."""
    job_id = shop.queue(Count(gate=str(gate)))
    supervisor = Supervisor(shop.store, shop.path, shop.settings)
    supervisor.tick()
    wait_until(lambda: bool(supervisor.tick() or shop.store.job(job_id).step), 40)
    began = time.monotonic()
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() - 3600)
    shop.store.request_job(job_id, "cancel")
    assert wait_until(lambda: bool(supervisor.tick() or shop.store.job(job_id).is_over), 40)
    job = shop.store.job(job_id)
    assert job.state == "cancelled"
    assert 0 <= job.took <= time.monotonic() - began + 60
    monkeypatch.undo()


def test_a_clock_that_is_set_forward_kills_nothing(shop, gate, monkeypatch):
    job_id = shop.queue(Count(gate=str(gate)))
    supervisor = Supervisor(shop.store, shop.path, shop.settings)
    wait_until(lambda: bool(supervisor.tick() or shop.store.job(job_id).step), 40)
    worker = psutil.Process(shop.store.job(job_id).pid)
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 3600)
    for _ in range(5):
        supervisor.tick()
    assert worker.is_running()
    assert shop.store.job(job_id).state == "running"
    monkeypatch.undo()
    gate.touch()
    wait_until(lambda: bool(supervisor.tick() or shop.store.job(job_id).is_over), 40)


def test_the_length_of_a_run_is_never_negative(sqlite_store, monkeypatch):
    job = sqlite_store.queue_job(Count(), author="ann")
    job = sqlite_store.claim_job("train", "here")
    sqlite_store.start_job(job.id, job.attempt, pid=1)
    monkeypatch.setattr("studio.store.jobs.now", lambda: job.started_at - 3600)
    watch = StopWatch(sqlite_store, job.id, job.attempt)
    sqlite_store.beat(job.id, job.attempt, watch.seconds)
    ended = sqlite_store.finish_job(job.id, job.attempt, "done")
    assert ended.took >= 0


def _rows_of_step(shop: Shop, job_id: int, done: int) -> str:
    """What the step after so many learns from: rows of the snapshot's file, counted from 1."""
    task = shop.store.job(job_id).task
    rows = read_rows(shop.path, shop.store.snapshot(task["data"]))
    training = [number for number, row in enumerate(rows, 1) if row["split"] == "train"]
    weights = resolve(ModelRef("dir:tiny"), settings=shop.settings, store=shop.store, workspace=shop.path)
    lengths = encoded(shop.path, shop.store.snapshot(task["data"]), weights, lambda done, total: None)
    schedule = Schedule(epochs=task["epochs"], batch_size=task["batch_size"], learning_rate=1e-3)
    step = plan([tokens for tokens, _ in lengths.train], schedule)[done]
    return ", ".join(str(training[i]) for i in sorted(step))


def _change_weights(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 0.5}, file, metadata={"format": "pt"})


def _ruin(checkpoint: Path) -> None:
    """Parameters such as a learning rate that is far too high leaves behind."""
    file = checkpoint / "optimizer.safetensors"
    ruined = {k: torch.full_like(x, float("nan")) if k.endswith("/master") else x for k, x in load_file(file).items()}
    checkpoints = Checkpoints(checkpoint.parents[1])
    part = checkpoints.begin(int(checkpoint.name.removeprefix("step-")))
    shutil.copytree(checkpoint, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SEAL))
    save_file(ruined, part / file.name)
    checkpoints.publish(part)
