"""Checkpoints are there in full or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import RunError
from studio.jobs.checkpoints import Checkpoints


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


def save(checkpoints: Checkpoints, step: int) -> Path:
    part = checkpoints.begin(step)
    (part / "weights").mkdir()
    (part / "weights" / "a.bin").write_bytes(b"a" * step)
    return checkpoints.publish(part)


def test_the_newest_one_counts(checkpoints):
    save(checkpoints, 9)
    save(checkpoints, 10)
    assert checkpoints.newest().name == "step-10"


def test_there_is_none_before_the_first(checkpoints):
    assert checkpoints.newest() is None
    assert checkpoints.resume_from(None) == (None, "")


def test_one_that_was_never_finished_does_not_count(checkpoints):
    save(checkpoints, 1)
    (checkpoints.begin(2) / "a.bin").write_bytes(b"half")
    assert checkpoints.newest().name == "step-1"
    checkpoints.discard_unfinished()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-1"]


def test_only_the_newest_is_kept_once_it_is_complete(checkpoints):
    save(checkpoints, 1)
    checkpoints.keep_only(save(checkpoints, 2))
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-2"]


DAMAGE = {
    "a changed file": lambda folder: (folder / "weights" / "a.bin").write_bytes(b"b" * 2),
    "a cut file": lambda folder: (folder / "weights" / "a.bin").write_bytes(b""),
    "a missing file": lambda folder: (folder / "weights" / "a.bin").unlink(),
    "no seal": lambda folder: (folder / "checkpoint.json").unlink(),
}


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_one_is_skipped_and_named(checkpoints, harm):
    save(checkpoints, 1)
    harm(save(checkpoints, 2))
    folder, sentence = checkpoints.resume_from("step-2")
    assert folder.name == "step-1"
    assert sentence.startswith("Checkpoint step-2 cannot be used (")
    assert sentence.endswith("going on from step-1 instead.")


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE.keys())
def test_without_another_one_the_run_does_not_quietly_start_over(checkpoints, harm):
    harm(save(checkpoints, 2))
    with pytest.raises(RunError, match=r"Checkpoint step-2 in .* cannot be used"):
        checkpoints.resume_from("step-2")


def test_one_published_just_before_a_crash_is_used(checkpoints):
    """The folder was renamed, but the process died before the row that names it was written."""
    save(checkpoints, 3)
    assert checkpoints.resume_from("step-2")[0].name == "step-3"


def test_only_a_folder_that_was_given_out_can_be_published(checkpoints, tmp_path):
    with pytest.raises(RunError, match="not a folder that checkpoint"):
        checkpoints.publish(tmp_path / "elsewhere")
