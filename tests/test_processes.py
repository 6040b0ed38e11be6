"""Processes: who lives is decided by a lock that the kernel lets go of, never by a process number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from studio.processes import Lock, alive, holder, signal_holder, spawn, stop_holder, sweep, wait_until

HOLD = """
import signal, sys, time
from pathlib import Path
from studio.processes import Lock
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = Lock.take(Path(sys.argv[1]), note="the test's")
print("held" if lock else "refused", flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def start(tmp_path: Path, lock_path: Path) -> Iterator:
    started: list[subprocess.Popen[bytes]] = []

    def hold(*flags: str) -> subprocess.Popen[bytes]:
        child = spawn([sys.executable, "-c", HOLD, str(lock_path), *flags], tmp_path / "log.txt", nice=5)
        started.append(child)
        assert wait_until(lambda: b"held" in (tmp_path / "log.txt").read_bytes(), 20)
        return child

    yield hold
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def test_a_lock_is_held_by_one_and_free_again_after_release(lock_path):
    first = Lock.take(lock_path)
    assert first is not None
    assert alive(lock_path)
    assert Lock.take(lock_path) is None

    first.release()
    assert not alive(lock_path)
    with Lock.take(lock_path) as second:
        assert second is not None


def test_a_lock_that_nobody_ever_took_is_free(lock_path):
    assert not alive(lock_path)
    assert holder(lock_path) is None


def test_shared_holders_keep_an_exclusive_one_out(lock_path):
    one, two = Lock.take(lock_path, shared=True), Lock.take(lock_path, shared=True)
    assert one is not None
    assert two is not None
    assert Lock.take(lock_path) is None

    one.release()
    two.release()
    assert Lock.take(lock_path) is not None


def test_the_lock_says_who_holds_it(start, lock_path):
    child = start()
    who = holder(lock_path)
    assert who is not None
    assert (who.pid, who.note) == (child.pid, "the test's")
    assert who.is_here()


def test_a_killed_holder_lets_go(start, lock_path):
    child = start()
    assert alive(lock_path)
    os.kill(child.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(lock_path), 10)


def test_a_child_does_not_inherit_the_lock(start, lock_path, tmp_path):
    mine = Lock.take(lock_path)
    assert mine is not None
    child = spawn(["sleep", "60"], tmp_path / "sleep.txt")
    mine.release()
    assert not alive(lock_path)
    child.kill()
    child.wait()


def test_a_spawned_process_has_its_own_session_a_low_priority_and_a_file_for_output(start, tmp_path):
    child = start()
    assert os.getsid(child.pid) == child.pid
    assert psutil.Process(child.pid).nice() == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert (tmp_path / "log.txt").read_text() == "held\n"


def test_output_nobody_reads_does_not_stop_a_process(tmp_path):
    child = spawn([sys.executable, "-c", "import sys; sys.stderr.write('x' * 2**21)"], tmp_path / "log.txt")
    assert wait_until(lambda: sweep(child) is not None, 20)
    assert child.returncode == 0
    assert (tmp_path / "log.txt").stat().st_size == 2**21


@pytest.mark.parametrize("flags", [(), ("stubborn",)], ids=["on SIGTERM", "on SIGKILL"])
def test_a_holder_is_stopped(start, lock_path, flags):
    child = start(*flags)
    assert stop_holder(lock_path, grace=0.5)
    assert wait_until(lambda: sweep(child) is not None, 10)


def test_a_reused_process_number_is_never_signalled(start, lock_path, tmp_path):
    """The lock's file names a process number that now belongs to somebody else's process."""
    innocent = spawn(["sleep", "60"], tmp_path / "sleep.txt")
    mine = Lock.take(lock_path)  # so that the lock counts as held
    assert mine is not None
    told = json.loads(lock_path.read_text())
    lock_path.write_text(json.dumps({**told, "pid": innocent.pid, "started": told["started"] - 3600}))

    assert not signal_holder(lock_path, signal.SIGKILL)
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_holder_on_another_machine_is_never_signalled(lock_path):
    mine = Lock.take(lock_path)
    assert mine is not None
    lock_path.write_text(json.dumps({**json.loads(lock_path.read_text()), "host": "elsewhere"}))
    assert not signal_holder(lock_path, signal.SIGTERM)


def test_nobody_is_signalled_through_a_free_lock(lock_path):
    mine = Lock.take(lock_path)
    assert mine is not None
    mine.release()
    assert not signal_holder(lock_path, signal.SIGTERM)  # the file still names this very process


def test_what_an_ended_child_left_in_its_group_is_ended_with_it(tmp_path):
    child = spawn(["sh", "-c", "sleep 60 & echo $!"], tmp_path / "log.txt")
    assert wait_until(lambda: (tmp_path / "log.txt").read_text().strip() != "", 10)
    orphan = int((tmp_path / "log.txt").read_text())
    assert wait_until(lambda: sweep(child) is not None, 10)
    assert wait_until(lambda: not _runs(orphan), 10)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
