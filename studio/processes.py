"""Processes of the studio's own: start them, know whether they live, and end them.

Jobs and the engine both run outside the page process. Each holds a `Lock` on a file for life, and the kernel
lets go of it however the process ends; so "is it alive?" never rests on a process number, which may belong to
another program by now.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

__all__ = [
    "Holder",
    "Lock",
    "alive",
    "give_memory_back",
    "holder",
    "keep_freed_memory",
    "signal_holder",
    "spawn",
    "stop_holder",
    "sweep",
    "wait_until",
]

_POLL_SECONDS = 0.05
_CLOCK_SLACK_SECONDS = 2.0
# Of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MUCH = 2**30


@dataclass(frozen=True)
class Holder:
    """Who wrote itself into a lock file. Only worth believing while the lock is held."""

    pid: int
    started: float  # the process's start time: a reused process number has another one
    host: str
    note: str = ""

    @classmethod
    def me(cls, note: str = "") -> Holder:
        return cls(os.getpid(), psutil.Process().create_time(), socket.gethostname(), note)

    def is_here(self) -> bool:
        """True when that very process, not a later one with its number, runs on this machine."""
        if self.host != socket.gethostname():
            return False
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return False
        return abs(started - self.started) < _CLOCK_SLACK_SECONDS


class Lock:
    """A file lock held until `release` or the end of the process, whichever end it is. The file stays."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path, *, shared: bool = False, note: str = "", wait: float = 0.0) -> Lock | None:
        """The lock, or None when another process still holds it after `wait` seconds.

        Give at least a second of `wait` where someone else may be asking `alive` at the same moment: asking
        borrows the lock for an instant.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not wait_until(lambda: _try_lock(descriptor, shared), wait):
            os.close(descriptor)
            return None
        if not shared:
            _write_holder(descriptor, Holder.me(note))
        return cls(path, descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def alive(path: Path) -> bool:
    """Whether some process holds that lock file exclusively."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who last took that lock; None when nobody did, or has not finished writing it down."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def spawn(
    argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, nice: int = 0
) -> subprocess.Popen[bytes]:
    """Start a process that outlives us: own session and group, no terminal, output appended to a file.

    A file and never a pipe: nobody has to read it, so a chatty process cannot hang on a full one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_with_studio(os.environ if env is None else env),
            start_new_session=True,
            close_fds=True,
        )
    if nice:
        # From out here rather than in a preexec_fn, which may deadlock in a process that has threads.
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PGRP, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    return process


def _with_studio(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which `python -m studio…` finds this studio, wherever we were started from."""
    root = str(Path(__file__).resolve().parents[1])
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))}


def signal_holder(path: Path, number: signal.Signals) -> bool:
    """Signal the whole group of the process that holds the lock; False when nobody on this machine does."""
    if not alive(path):
        return False
    who = holder(path)
    if who is None or not who.is_here():
        return False
    try:
        os.killpg(who.pid, number)
    except ProcessLookupError:
        return False
    return True


def stop_holder(path: Path, grace: float = 5.0) -> bool:
    """SIGTERM, and after `grace` seconds SIGKILL, to the holder's group; True once the lock is free."""
    if signal_holder(path, signal.SIGTERM) and not wait_until(lambda: not alive(path), grace):
        signal_holder(path, signal.SIGKILL)
    return wait_until(lambda: not alive(path), grace)


def sweep(child: subprocess.Popen[bytes]) -> int | None:
    """The exit code of an ended child, after ending what it left behind in its group; None while it lives.

    The group is ended before the child is reaped: until then its number cannot belong to anybody else.
    """
    if child.returncode is not None:
        return child.returncode
    try:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
    except ChildProcessError:  # somebody reaped it already
        return child.poll()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until the condition holds or the seconds are over; always asks at least once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _try_lock(descriptor: int, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int, who: Holder) -> None:
    # On a full disk the lock still counts; only the messages about it are poorer.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(who)).encode(), 0)


def keep_freed_memory() -> None:
    """Let this process reuse the memory of large tensors instead of handing it back and forth; for one that computes.

    By default the C library maps every large block anew, and the kernel clears it page by page: choosing one token for
    32 rows of a 49k vocabulary takes 5 ms that way and 1.6 ms with this. Does nothing where there is no glibc.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_TRIM_THRESHOLD, _MUCH)
        libc.mallopt(_M_MMAP_THRESHOLD, _MUCH)
        libc.mallopt(_M_ARENA_MAX, 1)  # the arenas of other threads hold 64 MB at most


def give_memory_back() -> None:
    """Hand what is free to the system, after something large was put away."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
