"""What the worker leans on: patience with the database, and a manifest that holds a run to what it began with."""

from __future__ import annotations

import pytest

from studio.errors import RunError, StorageError
from studio.jobs.manifest import Manifest
from studio.jobs.run import StopWatch, WorkerRun, patiently
from studio.settings import Settings
from tests.jobs.tasks_for_tests import Count, MakeModel


def test_a_database_that_is_locked_for_a_while_loses_nothing():
    answers = [StorageError("locked"), StorageError("locked"), "written"]

    def write() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(write) == "written"


def test_patience_ends():
    def write() -> None:
        raise StorageError("The database is locked by another program.")

    with pytest.raises(StorageError, match="locked"):
        patiently(write, seconds=0.1)


def test_being_stale_is_not_waited_out():
    tries = []

    def write() -> None:
        tries.append(1)
        raise RunError("stale")

    with pytest.raises(RunError):
        patiently(write)
    assert len(tries) == 1


def test_a_manifest_names_what_the_run_stands_on(shop):
    job = shop.store.job(shop.queue(MakeModel(base="embedded:smollm2-135m-instruct")))
    manifest = Manifest.of(job, shop.store)
    manifest.write(shop.folder(job.id))
    read = Manifest.read(shop.folder(job.id))
    assert read == manifest
    assert (read.models, read.seed) == ({"embedded:smollm2-135m-instruct": ""}, 7)
    assert read.build() == MakeModel(base="embedded:smollm2-135m-instruct")


def test_a_base_that_changed_since_the_first_attempt_is_refused(shop):
    job = shop.store.job(shop.queue(MakeModel(base="dir:base")))
    pinned = Manifest.of(job, shop.store).with_model("dir:base", "a" * 64)
    assert pinned.with_model("dir:base", "a" * 64) == pinned
    with pytest.raises(RunError, match=r"weights of dir:base changed since run 1 began \(aaaaaaaaaaaa then"):
        pinned.with_model("dir:base", "b" * 64)


def test_a_manifest_that_is_gone_or_broken_is_named(tmp_path):
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        Manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest\.json cannot be read"):
        Manifest.read(tmp_path)


def test_a_run_can_have_the_engine_free_its_memory(sqlite_store, tmp_path, monkeypatch):
    job = sqlite_store.queue_job(Count(), author="ann")
    manifest = Manifest(run=job.id, kind=job.kind, task=job.task, author=job.author, created_at=job.created_at)
    run = WorkerRun(
        job, manifest, sqlite_store, Settings(runtime=tmp_path / "r"), tmp_path, StopWatch(sqlite_store, 1, 1)
    )
    asked = []

    async def unload(self) -> None:
        asked.append(self.folder)

    monkeypatch.setattr("studio.engine.client.EngineClient.unload", unload)
    run.release_engine()
    assert len(asked) == 1
