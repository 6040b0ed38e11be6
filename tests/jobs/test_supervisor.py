"""Jobs from queue to end, with real processes: what survives, what is declared, what stops when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studio.errors import Conflict
from studio.jobs import Deadlines, Supervisor, app_holder, claim_workspace, queue, resume, run_here
from studio.jobs.checkpoints import Checkpoints
from studio.processes import Lock, alive, holder, spawn, wait_until
from studio.settings import Settings
from tests.jobs.conftest import EXTRA_TASKS
from tests.jobs.tasks_for_tests import Count, LightCount, MakeModel, Trouble

QUICK = Deadlines(soft=0.5, term=0.5)

APP = """
import sys, time
from pathlib import Path
from studio.jobs import Supervisor
from studio.settings import Settings
from studio.store import Store
path = Path(sys.argv[1])
Supervisor(Store.in_folder(path), path, Settings(workspace=path)).start()
time.sleep(120)
"""


# -- from queue to end --------------------------------------------------------------------------------------


def test_a_queue_is_worked_off_in_order_and_the_other_lane_does_not_wait(shop, gate):
    gated = shop.queue(Count(steps=1, gate=str(gate)))
    second = shop.queue(Count(steps=1))
    light = shop.queue(LightCount(steps=2))
    shop.supervise()

    assert shop.ended(light).state == "done"  # while the train lane is busy
    assert shop.store.job(second).state == "queued"
    gate.touch()
    first_job, second_job = shop.ended(gated), shop.ended(second)
    assert (first_job.state, second_job.state) == ("done", "done")
    assert second_job.started_at >= first_job.ended_at


def test_a_run_leaves_its_result_metrics_manifest_and_log(shop):
    job_id = shop.queue(Count(steps=3))
    job = run_here(shop.store, shop.path, shop.settings, job_id)

    assert (job.state, job.result, job.progress, job.error) == (
        "done",
        {"counted": 3, "began_at": 0},
        1.0,
        "",
    )
    assert shop.steps(job_id) == [1, 2, 3]
    manifest = json.loads((shop.folder(job_id) / "manifest.json").read_text())
    assert (manifest["kind"], manifest["task"]["steps"], manifest["run"]) == ("count", 3, job_id)
    assert {"python", "torch"} <= set(manifest["versions"])
    assert f"run {job_id}, attempt 1" in shop.log(job_id)


def test_a_folder_of_another_database_is_moved_aside(shop):
    job_id = shop.queue(Count(steps=1))
    (shop.folder(job_id) / "model").mkdir(parents=True)
    (shop.folder(job_id) / "manifest.json").write_text('{"kind": "older"}')
    assert run_here(shop.store, shop.path, shop.settings, job_id).state == "done"
    assert not (shop.folder(job_id) / "model").exists()
    (aside,) = shop.path.glob(f"runs/{job_id}.before-*")
    assert (aside / "manifest.json").read_text() == '{"kind": "older"}'


def test_a_run_works_on_postgresql(tmp_path, postgresql_store, monkeypatch):
    monkeypatch.setenv("LADDER_EXTRA_TASKS", EXTRA_TASKS)
    settings = Settings(workspace=tmp_path)
    job = queue(postgresql_store, Count(steps=2), author="ann")
    assert run_here(postgresql_store, tmp_path, settings, job.id).state == "done"
    assert [metric.step for metric in postgresql_store.metrics(job.id)] == [1, 2]


def test_the_worker_gives_way_to_the_page(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    shop.supervise()
    worker = psutil.Process(shop.counting(job_id).pid)
    assert worker.nice() > psutil.Process().nice()
    assert os.getpgid(worker.pid) == worker.pid
    gate.touch()
    shop.ended(job_id)
    assert wait_until(lambda: not psutil.pid_exists(worker.pid), 10)


def test_a_recipe_becomes_a_model(shop):
    job_id = shop.queue(MakeModel(base="echo:"))
    job = run_here(shop.store, shop.path, shop.settings, job_id)
    model = shop.store.model(f"run:{job_id}")
    assert job.state == "done"
    assert (model.base, model.method, model.new_parameters, model.licence) == ("echo:", "lora", 12, "Apache-2.0")
    assert model.path == f"runs/{job_id}/model"
    assert json.loads((shop.folder(job_id) / "manifest.json").read_text())["seed"] == 7


def test_a_recipe_that_leaves_no_model_has_failed(shop):
    job = run_here(shop.store, shop.path, shop.settings, shop.queue(MakeModel(base="echo:", leaves_it_out=True)))
    assert job.state == "failed"
    assert "without leaving a model" in job.error
    assert shop.store.models() == []


# -- trouble ------------------------------------------------------------------------------------------------


def test_trouble_is_told_in_sentences(shop):
    kinds = ("sentence", "bug", "exit", "full-disk", "noise")
    jobs = {how: shop.queue(Trouble(how=how)) for how in kinds}
    shop.supervise()
    ended = {how: shop.ended(job_id) for how, job_id in jobs.items()}

    assert ended["sentence"].error == "The model has no chat template. Choose another base."
    assert ended["bug"].error == (
        "Trouble (bug) stopped unexpectedly (TypeError: object of type 'NoneType' has no len()). "
        f"The log of run {jobs['bug']} has the details."
    )
    assert "Traceback" in shop.log(jobs["bug"])

    assert ended["exit"].state == "lost"
    assert "exit code 7" in ended["exit"].error
    assert "Resume it" in ended["exit"].error

    full = ended["full-disk"]
    assert full.state == "failed"
    assert str(shop.folder(full.id)) in full.error
    assert "bytes free" in full.error
    assert full.error.endswith(f"Free some space, then resume run {full.id}: it goes on from step-4.")
    assert [path.name for path in (shop.folder(full.id) / "checkpoints").iterdir()] == ["step-4"]

    assert ended["noise"].state == "done"  # 1 MiB on stderr, and nobody reading
    assert shop.log(jobs["noise"]).count("x" * 1024) >= 1024


def test_a_task_that_is_not_installed_any_more_is_named(shop, monkeypatch):
    job_id = shop.queue(Count())
    monkeypatch.delenv("LADDER_EXTRA_TASKS")
    job = run_here(shop.store, shop.path, shop.settings, job_id)
    assert job.state == "failed"
    assert job.error.startswith("There is no task 'count'.")


# -- what survives ------------------------------------------------------------------------------------------


def test_a_run_survives_a_killed_app_and_the_next_app_adopts_it(shop, gate, tmp_path):
    job_id = shop.queue(Count(steps=6, gate=str(gate)))
    app = spawn([sys.executable, "-c", APP, str(shop.path)], tmp_path / "app.txt")
    worker = shop.counting(job_id).pid
    os.killpg(app.pid, signal.SIGKILL)
    app.wait()
    assert alive(shop.lock(job_id))

    shop.supervise()
    gate.touch()
    job = shop.ended(job_id)
    assert (job.state, job.attempt, shop.steps(job_id)) == ("done", 1, [1, 2, 3, 4, 5, 6])
    assert holder(shop.lock(job_id)).pid == worker


def test_a_run_goes_on_while_nobody_supervises(shop, gate):
    job_id = shop.queue(Count(steps=2, gate=str(gate)))
    supervisor = shop.supervise()
    shop.counting(job_id)
    supervisor.close()
    gate.touch()
    assert shop.ended(job_id).state == "done"


def test_a_killed_worker_is_lost_and_resumes_from_its_last_checkpoint(shop, gate):
    job_id = shop.queue(Count(steps=8, gate=str(gate)))
    shop.supervise()
    worker = shop.counting(job_id).pid
    _save(shop, job_id, 5)
    os.kill(worker, signal.SIGKILL)
    lost = shop.ended(job_id)
    assert lost.state == "lost"
    assert lost.error == (
        f"The process of run {job_id} ended without a word (killed by signal 9, often because memory ran out). "
        "Resume it: it goes on from step-5. Its log may say more."
    )

    gate.touch()
    resume(shop.store, shop.path, job_id, by="ann")
    done = shop.ended(job_id)
    assert (done.state, done.attempt, done.result) == ("done", 2, {"counted": 8, "began_at": 5})


def test_an_adopted_worker_that_dies_is_lost_too(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    supervisor = shop.supervise()
    worker = shop.counting(job_id).pid
    supervisor.close()
    os.kill(worker, signal.SIGKILL)
    shop.supervise()
    job = shop.ended(job_id)
    assert job.state == "lost"
    assert "starts from the beginning" in job.error


def test_a_reused_process_number_does_not_look_like_a_living_worker(shop):
    """The row and the lock file name a process that lives, but it is somebody else's."""
    innocent = subprocess.Popen(["sleep", "60"])
    job_id = _claimed(shop)
    shop.store.start_job(job_id, 1, pid=innocent.pid)
    Lock.take(shop.lock(job_id)).release()
    told = json.loads(shop.lock(job_id).read_text())
    shop.lock(job_id).write_text(json.dumps({**told, "pid": innocent.pid}))
    shop.store.request_job(job_id, "cancel")

    shop.supervise(QUICK)
    assert shop.ended(job_id).state == "cancelled"
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_claimed_job_whose_worker_never_came_is_lost(shop):
    job_id = _claimed(shop)
    shop.supervise(Deadlines(start=0.2))
    job = shop.ended(job_id)
    assert job.state == "lost"
    assert "did not start" in job.error


def test_a_second_worker_of_the_same_run_ends_without_a_word(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    supervisor = shop.supervise()
    before = shop.counting(job_id)
    argv = [sys.executable, "-m", "studio.jobs.worker", str(job_id), "--attempt", "1"]
    second = spawn([*argv, "--workspace", str(shop.path)], shop.path / "second.txt", env=supervisor._environment())
    gate.touch()
    assert shop.ended(job_id).state == "done"
    assert second.wait(timeout=30) == 3
    assert shop.store.job(job_id).pid is None
    assert shop.store.job(job_id).attempt == before.attempt


# -- stopping -----------------------------------------------------------------------------------------------


def test_a_pause_saves_and_a_resume_goes_on(shop, gate):
    job_id = shop.queue(Count(steps=4, gate=str(gate)))
    shop.supervise()
    shop.counting(job_id)
    assert shop.store.request_job(job_id, "pause").state == "stopping"
    paused = shop.ended(job_id)
    assert (paused.state, paused.error) == ("paused", "")

    # What the new attempt does comes from the manifest, and from nowhere else.
    manifest = json.loads((shop.folder(job_id) / "manifest.json").read_text())
    manifest["task"]["steps"] = 3
    (shop.folder(job_id) / "manifest.json").write_text(json.dumps(manifest))
    gate.touch()
    resume(shop.store, shop.path, job_id, by="ann")
    done = shop.ended(job_id)
    assert (done.state, done.result) == ("done", {"counted": 3, "began_at": 1})
    assert shop.steps(job_id) == [1, 2, 3]


def test_a_soft_cancel_leaves_a_checkpoint_that_can_be_loaded(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    shop.supervise()
    worker = shop.counting(job_id).pid
    shop.store.request_job(job_id, "cancel")
    assert shop.ended(job_id).state == "cancelled"
    saved = Checkpoints(shop.folder(job_id)).newest()
    assert json.loads((saved / "count.json").read_text()) == 1
    assert wait_until(lambda: not psutil.pid_exists(worker), 10)


def test_a_task_that_ignores_a_cancel_is_ended_within_the_deadlines(shop, gate):
    job_id = shop.queue(Count(gate=str(gate), ignores_stop=True))
    shop.supervise(QUICK)
    worker = shop.counting(job_id).pid
    asked = time.monotonic()
    shop.store.request_job(job_id, "cancel")
    stages: list[str] = []

    def watch(job) -> bool:
        stages.extend([job.message] if job.message not in stages else [])
        return job.is_over

    job = shop.wait(job_id, watch)
    assert job.state == "cancelled"
    assert time.monotonic() - asked < QUICK.soft + QUICK.term + 5
    assert any("told to end, killed 0.5 s later" in stage for stage in stages)
    assert wait_until(lambda: not psutil.pid_exists(worker), 10)

    with pytest.raises(Conflict, match="cancelled before it saved anything"):
        resume(shop.store, shop.path, job_id, by="ann")


def test_a_machine_that_shuts_down_pauses_its_runs(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    shop.supervise()
    os.kill(shop.counting(job_id).pid, signal.SIGTERM)
    assert shop.ended(job_id).state == "paused"


def test_a_resume_says_by_name_which_checkpoint_is_missing(shop, gate):
    job_id = shop.queue(Count(gate=str(gate)))
    shop.supervise()
    shop.counting(job_id)
    shop.store.request_job(job_id, "pause")
    shop.ended(job_id)
    (shop.folder(job_id) / "checkpoints" / "step-1" / "count.json").write_text("99")

    resume(shop.store, shop.path, job_id, by="ann")
    job = shop.ended(job_id)
    assert job.state == "failed"
    assert job.error.startswith("Checkpoint step-1 in ")
    assert "its file count.json is damaged" in job.error


# -- one app per workspace, or none -------------------------------------------------------------------------


def test_a_second_app_is_refused_and_told_of_the_first(tmp_path):
    first = claim_workspace(tmp_path, "http://127.0.0.1:7860")
    with pytest.raises(Conflict, match=rf"process {os.getpid()} on .*, at http://127.0.0.1:7860"):
        claim_workspace(tmp_path, "http://127.0.0.1:7861")
    assert app_holder(tmp_path).note == "http://127.0.0.1:7860"
    first.release()
    assert app_holder(tmp_path) is None
    claim_workspace(tmp_path, "http://127.0.0.1:7861").release()


def test_the_command_line_leaves_the_work_to_an_open_app(shop):
    app = claim_workspace(shop.path, "http://127.0.0.1:7860")
    supervisor = shop.supervise()
    told = []
    job = run_here(shop.store, shop.path, shop.settings, shop.queue(Count(steps=2)), tell=told.append)
    assert job.state == "done"
    assert told[0].state == "queued"
    assert told[-1] == job
    supervisor.close()
    app.release()


def _claimed(shop) -> int:
    """A job that a supervisor of this workspace claimed, and then died."""
    Supervisor(shop.store, shop.path, shop.settings)  # gives the workspace its host name
    job = shop.store.claim_job("train", (shop.path / "host").read_text(), only=shop.queue(Count()))
    return job.id


def _save(shop, job_id: int, step: int) -> Path:
    """A checkpoint as the task would have written it."""
    checkpoints = Checkpoints(shop.folder(job_id))
    part = checkpoints.begin(step)
    (part / "count.json").write_text(json.dumps(step))
    return checkpoints.publish(part)
