"""What a person may do with a job, and what there is to read about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from studio.errors import Conflict, InputError
from studio.jobs.checkpoints import Checkpoints
from studio.jobs.repeating import again
from studio.jobs.supervisor import resume, run_folder
from studio.store import Job, Note, Place, Store

__all__ = [
    "Action",
    "again",
    "ahead_of",
    "hold_job",
    "legal_actions",
    "log_tail",
    "move_job",
    "note_job",
    "perform",
    "release_job",
]

Action = Literal["pause", "cancel", "resume", "hold", "release", "first", "up", "down"]
_MOVES: frozenset[Action] = frozenset({"first", "up", "down"})

_LOG_BYTES = 128 << 10
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


def legal_actions(job: Job, workspace: Path) -> frozenset[Action]:
    """What makes sense in the job's state, so that a page offers nothing that would be refused."""
    match job.state:
        case "queued":
            return _MOVES | {"cancel", "hold"}
        case "held" | "proposed":
            return _MOVES | {"cancel", "release"}
        case "starting" | "running" | "stopping":
            return {"": frozenset[Action]({"pause", "cancel"}), "pause": frozenset[Action]({"cancel"})}.get(
                job.intent, frozenset()
            )
        case "paused":
            return frozenset({"resume", "cancel"})
        case "failed" | "lost":
            return frozenset({"resume"})
        case "cancelled" if Checkpoints(run_folder(workspace, job.id)).any_saved():
            return frozenset({"resume"})
        case _:
            return frozenset()


def perform(store: Store, workspace: Path, job_id: int, action: str, *, by: str) -> Job:
    """Do what was asked; raises Conflict with a sentence when the job has moved on meanwhile."""
    verbs: dict[str, Callable[[], Job]] = {
        "pause": lambda: store.request_job(job_id, "pause", by=by),
        "cancel": lambda: store.request_job(job_id, "cancel", by=by),
        "resume": lambda: resume(store, workspace, job_id, by=by),
        "hold": lambda: hold_job(store, job_id, by=by),
        "release": lambda: release_job(store, job_id, by=by),
        "first": lambda: move_job(store, job_id, "first", by=by),
        "up": lambda: move_job(store, job_id, "up", by=by),
        "down": lambda: move_job(store, job_id, "down", by=by),
    }
    if action not in verbs:
        raise InputError(f"A job cannot '{action}'. What it can: {', '.join(get_args(Action))}.")
    if action == "pause" and store.job(job_id).state == "queued":
        raise Conflict(f"Run {job_id} has not started, so there is nothing to pause. Hold it instead.")
    return verbs[action]()


def hold_job(store: Store, job_id: int, *, by: str) -> Job:
    """Keep a queued job from starting until it is released."""
    return store.hold_job(job_id, by=by)


def release_job(store: Store, job_id: int, *, by: str) -> Job:
    """Let a held job, or one that waited for approval, take its place in the queue."""
    return store.release_job(job_id, by=by)


def move_job(store: Store, job_id: int, to: Place, *, by: str) -> Job:
    """Move a waiting job in its queue: "up", "down", "first" or "last"."""
    if to not in get_args(Place):
        raise InputError(f"A job cannot be moved '{to}'. It can be moved {', '.join(get_args(Place))}.")
    return store.move_job(job_id, to, by=by)


def note_job(store: Store, job_id: int, text: str, *, by: str) -> Note:
    """Write a note beside a job; `store.notes(job_id)` reads them."""
    return store.note_job(job_id, text, by=by)


def ahead_of(store: Store, job: Job) -> int:
    """How many jobs start before this one, the one at work included."""
    if not job.is_waiting:
        return 0
    busy = [j for j in store.jobs(limit=20, states=("starting", "running", "stopping")) if j.lane == job.lane]
    first = [
        j for j in store.waiting_jobs(job.lane) if j.state == "queued" and (j.position, j.id) < (job.position, job.id)
    ]
    return len(busy) + len(first)


def log_tail(workspace: Path, job_id: int, lines: int = 200) -> str:
    """The end of a run's log as plain text; '' while there is none.

    Of a progress bar that redraws its line only the last state is kept, and terminal colours are dropped.
    """
    path = run_folder(workspace, job_id) / "log.txt"
    try:
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - _LOG_BYTES)
            file.seek(start)
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(_last_states(text, whole=start == 0)[-lines:])


def _last_states(text: str, whole: bool) -> list[str]:
    rows = text.rstrip("\n").split("\n")
    shown = [_ESCAPES.sub("", row.rstrip("\r").rpartition("\r")[2]) for row in rows]
    return shown if whole else shown[1:]  # the first one may be half a line
