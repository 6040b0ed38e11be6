"""Jobs: the queue, the state machine, and what a run leaves behind while it works.

    proposed -> queued <-> held
    queued -> starting -> running -> stopping -> paused | done | failed | cancelled | lost

Three parties write. A person asks (queue, hold, request), a supervisor claims and declares the dead, and the
worker reports. Worker and supervisor name the attempt they speak for, and a stale attempt is refused: a
process that was given up on cannot come back and overwrite what happened since.

A lane's queue goes on when a job fails, unless it was told to stop then; it also stops when somebody stops it. What
waits in a stopped queue keeps its state and its place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from studio.errors import Conflict, InputError, NotFound, RunError
from studio.store import tables as t
from studio.store.database import now
from studio.store.notices import NoticeVerbs, add_notice
from studio.tasks import Lane, Task

__all__ = ["LEGAL", "Intent", "Job", "JobEvent", "JobVerbs", "Metric", "Note", "Place", "Queue", "State"]

State = Literal[
    "proposed",
    "queued",
    "held",
    "starting",
    "running",
    "stopping",
    "paused",
    "done",
    "failed",
    "cancelled",
    "lost",
]
Intent = Literal["", "pause", "cancel"]
Place = Literal["up", "down", "first", "last"]

ACTIVE: tuple[State, ...] = ("starting", "running", "stopping")  # a worker is, or ought to be, there
WAITING: tuple[State, ...] = ("proposed", "queued", "held")
_ENDED: tuple[State, ...] = ("paused", "done", "failed", "cancelled", "lost")

LEGAL: dict[State, frozenset[State]] = {
    "proposed": frozenset({"queued", "cancelled"}),
    "queued": frozenset({"held", "starting", "cancelled"}),
    "held": frozenset({"queued", "cancelled"}),
    "starting": frozenset({"running", "stopping", "failed", "cancelled", "lost"}),
    "running": frozenset({"stopping", "paused", "done", "failed", "cancelled", "lost"}),
    "stopping": frozenset({"paused", "done", "failed", "cancelled", "lost"}),
    "paused": frozenset({"queued", "cancelled"}),
    "failed": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "done": frozenset(),
}

_LONGEST_NOTE = 4000  # letters
_THEN = "then"  # the kind of the events that say what follows a job
# What every open page asks at every tick: built once, since that costs as much as to ask.
_CHANGES_OF_JOBS, _CHANGES_OF_QUEUES = (
    sa.select(sa.func.coalesce(sa.func.sum(table.c.change), 0)).scalar_subquery() for table in (t.jobs, t.queues)
)
_CHANGE_TOKEN = sa.select(_CHANGES_OF_JOBS + _CHANGES_OF_QUEUES)
_STATE_TOKEN = (
    sa.select(t.job_events.c.id).where(t.job_events.c.kind == "state").order_by(t.job_events.c.id.desc()).limit(1)
)
_CLAIM_KEY = 0x1ADDE2  # PostgreSQL advisory lock: claims go one at a time, so that a lane never gets two runs


@dataclass(frozen=True)
class Job:
    """One job, as its row says. Its run folder is `runs/ID`."""

    id: int
    kind: str
    task: dict[str, Any]
    title: str
    lane: Lane
    state: State
    position: float
    attempt: int
    intent: Intent
    intent_at: float | None
    client_key: str | None
    host: str
    pid: int | None
    step: int
    total: int
    message: str
    error: str
    result: dict[str, Any] | None
    author: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    heartbeat_at: float | None
    change: int
    seconds: float = 0.0  # of the current attempt, by its worker's clock
    origin: dict[str, Any] | None = None  # see studio/jobs/repeating.py

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_over(self) -> bool:
        """Nothing happens to it any more unless somebody resumes it."""
        return self.state in _ENDED

    @property
    def took(self) -> float | None:
        """Seconds of the current or last attempt; None before the first. Of older rows by the machine's clock."""
        if self.started_at is None:
            return None
        until = self.ended_at or self.heartbeat_at or self.started_at
        return self.seconds or max(0.0, until - self.started_at)

    @property
    def progress(self) -> float | None:
        """Share of the steps done; None while the number of steps is unknown."""
        return min(1.0, self.step / self.total) if self.total else None


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job: a state it entered, a sample answer, a checkpoint, a note."""

    id: int
    job_id: int
    attempt: int
    kind: str
    payload: dict[str, Any]
    created_at: float


@dataclass(frozen=True)
class Note:
    """What a person wrote beside a job."""

    text: str
    author: str
    created_at: float


@dataclass(frozen=True)
class Queue:
    """How a lane's queue stands: whether it stops when a job fails, and why it is stopped ('' while it moves)."""

    lane: Lane
    stops_on_failure: bool = False
    stopped: str = ""


@dataclass(frozen=True)
class Metric:
    """The measured values of one step; None stands for a value that was not a finite number."""

    id: int
    job_id: int
    attempt: int
    step: int
    values: dict[str, float | None]
    created_at: float


class JobVerbs(NoticeVerbs):
    # -- a person asks -------------------------------------------------------------------------------------

    def queue_job(
        self,
        task: Task,
        *,
        author: str,
        client_key: str | None = None,
        state: Literal["queued", "held", "proposed"] = "queued",
        origin: dict[str, Any] | None = None,
    ) -> Job:
        """Put a task in line. The same client key gives the same job back: a double click starts one run."""
        try:
            with self._write() as c:
                return _with_key(c, client_key) or _insert(c, _told_to(task), author, client_key, state, origin)
        except sa.exc.IntegrityError:
            # The twin click won between our look and our insert (PostgreSQL only; SQLite has one writer).
            with self._read() as c:
                twin = _with_key(c, client_key)
            if twin is None:
                raise
            return twin

    def follow_job(self, job_id: int, task: Task, *, author: str) -> None:
        """Put a task in line as soon as this job is done, in the same transaction; never, when it does not get there.
        Said twice it is still done once."""
        with self._write() as c:
            job = _fetch(c, job_id)
            if job.state == "done":
                raise Conflict(f"Run {job.id} is done, so nothing can wait for it. Start '{task.title}' itself.")
            wish = {**_told_to(task), "by": author}
            if wish not in _wishes(c, job_id):
                _record(c, job.id, job.attempt, _THEN, wish)

    def followers(self, job_id: int) -> list[str]:
        """The kinds of the tasks that are put in line once this job is done."""
        return [event.payload["kind"] for event in self.job_events(job_id, kinds=[_THEN])]

    def hold_job(self, job_id: int, *, by: str = "") -> Job:
        """Keep a queued job from starting until it is released."""
        with self._write() as c:
            return _move(c, _fetch(c, job_id), "held", by=by, verb="held")

    def release_job(self, job_id: int, *, by: str = "") -> Job:
        """Let a held job, or one that waited for approval, take its place in the queue."""
        with self._write() as c:
            job = _fetch(c, job_id)
            if job.state not in ("held", "proposed"):
                raise Conflict(f"Run {job.id} is {job.state}. Only a held or proposed run can be released.")
            return _move(c, job, "queued", by=by, verb="released")

    def move_job(self, job_id: int, to: Place, *, by: str = "") -> Job:
        """Move a waiting job within its lane's queue: one place up or down, or to either end."""
        with self._write() as c:
            self._take_turns(c, _CLAIM_KEY)
            job = _fetch(c, job_id)
            if not job.is_waiting:
                raise Conflict(f"Run {job.id} is {job.state}. Only a waiting run can be moved in the queue.")
            line = _in_line(c, job.lane)
            here = [one.id for one in line].index(job.id)
            there = {"up": max(0, here - 1), "down": min(here + 1, len(line) - 1), "first": 0, "last": len(line) - 1}[
                to
            ]
            if there == here:
                return job
            places = [one.position for one in line]
            if len(set(places)) < len(places):
                places = [places[0] + n for n in range(len(places))]
            line.insert(there, line.pop(here))
            for one, place in zip(line, places, strict=True):
                if one.position != place:
                    _change(c, one, position=place)
            _record(c, job.id, job.attempt, "moved", {"to": to, "by": by})
            return _fetch(c, job.id)

    def note_job(self, job_id: int, text: str, *, by: str) -> Note:
        """Write a note beside a job, whatever its state."""
        text = text.strip()
        if not text:
            raise InputError(f"The note on run {job_id} is empty. Write something first.")
        if len(text) > _LONGEST_NOTE:
            raise InputError(f"The note has {len(text):,} letters; {_LONGEST_NOTE:,} is the most. Shorten it.")
        with self._write() as c:
            job = _fetch(c, job_id)
            at = _record(c, job.id, job.attempt, "note", {"text": text, "by": by})
            _change(c, job)
        return Note(text, by, at)

    def set_queue(self, lane: Lane, *, stops_on_failure: bool) -> Queue:
        """Whether a lane's queue stops when a job of it fails; else it goes on with the next."""
        with self._write() as c:
            self._take_turns(c, _CLAIM_KEY)
            return _set_queue(c, lane, stops_on_failure=stops_on_failure)

    def stop_queue(self, lane: Lane, *, by: str) -> Queue:
        """Start nothing more of a lane until `start_queue`. What runs goes on."""
        with self._write() as c:
            self._take_turns(c, _CLAIM_KEY)
            return _set_queue(c, lane, stopped=f"{by} stopped the queue.")

    def start_queue(self, lane: Lane) -> Queue:
        """Let a stopped queue move again."""
        with self._write() as c:
            self._take_turns(c, _CLAIM_KEY)
            return _set_queue(c, lane, stopped="")

    def request_job(self, job_id: int, intent: Literal["pause", "cancel"], *, by: str = "") -> Job:
        """Record that somebody wants the job to pause or to be cancelled; what waits obeys at once.

        A running job becomes `stopping`: its worker saves a checkpoint and ends, or a supervisor ends it.
        """
        with self._write() as c:
            job = _fetch(c, job_id)
            if job.state in ("queued", "held", "proposed", "paused") and intent == "cancel":
                return _move(c, job, "cancelled", by=by, ended_at=now(), message="", intent="")
            if job.state == "queued":
                return _move(c, job, "held", by=by)
            if not job.is_active:
                raise Conflict(_nothing_to_stop(job, intent))
            if job.intent == intent:
                return job
            if job.intent == "cancel":
                raise Conflict(f"Run {job.id} is being cancelled. Resume it once it has ended.")
            asked: dict[str, Any] = {"intent": intent, "intent_at": now(), "message": _STOPPING[intent]}
            if job.state == "stopping":
                return _change(c, job, **asked)
            return _move(c, job, "stopping", by=by, **asked)

    def resume_job(self, job_id: int, *, by: str = "") -> Job:
        """Queue a job that ended before it was done: the same run, a new attempt, its last checkpoint."""
        with self._write() as c:
            job = _fetch(c, job_id)
            if job.state not in ("paused", "failed", "lost", "cancelled"):
                cure = "Run it again to get a new one." if job.state == "done" else "Nothing to do."
                raise Conflict(f"Run {job.id} is {job.state}, so it cannot be resumed. {cure}")
            blank: dict[str, Any] = {
                "intent": "",
                "intent_at": None,
                "error": "",
                "message": "",
                "ended_at": None,
            }
            return _move(c, job, "queued", by=by, position=_end_of_queue(c), pid=None, **blank)

    # -- a supervisor claims and declares the dead ---------------------------------------------------------

    def claim_job(self, lane: Lane, host: str, *, only: int | None = None) -> Job | None:
        """Take the next queued job of a lane for this host; None when there is none, the lane is busy here, or its
        queue is stopped.

        A run that started before belongs to the host that has its checkpoints. Whoever gets the job back, and
        nobody else, starts its worker.
        """
        jobs = t.jobs
        with self._write() as c:
            self._take_turns(c, _CLAIM_KEY)
            if _queue(c, lane).stopped:
                return None
            busy = sa.select(jobs.c.id).where(jobs.c.lane == lane, jobs.c.host == host, jobs.c.state.in_(ACTIVE))
            if c.execute(busy.limit(1)).first() is not None:
                return None
            ready = (
                sa.select(jobs)
                .where(jobs.c.lane == lane, jobs.c.state == "queued", jobs.c.host.in_(("", host)))
                .order_by(jobs.c.position, jobs.c.id)
                .limit(1)
                .with_for_update()
            )
            if only is not None:
                ready = ready.where(jobs.c.id == only)
            row = c.execute(ready).mappings().first()
            if row is None:
                return None
            job = Job(**row)
            fresh: dict[str, Any] = {
                "attempt": job.attempt + 1,
                "started_at": now(),
                "ended_at": None,
                "heartbeat_at": None,
                "seconds": 0.0,
            }
            return _move(c, job, "starting", host=host, pid=None, message="Starting", **fresh)

    def active_jobs(self, host: str) -> list[Job]:
        """The jobs of this host that have, or ought to have, a worker."""
        return self._select(t.jobs.c.host == host, t.jobs.c.state.in_(ACTIVE))

    # -- the worker reports --------------------------------------------------------------------------------

    def start_job(self, job_id: int, attempt: int, pid: int) -> Job:
        """The worker's first word. A job asked to stop meanwhile stays `stopping`, for its worker to end."""
        with self._write() as c:
            job = _speak_for(c, job_id, attempt)
            seen: dict[str, Any] = {"pid": pid, "heartbeat_at": now()}
            if job.state == "stopping":
                return _change(c, job, **seen)
            if job.state != "starting":
                raise RunError(f"Attempt {attempt} of run {job.id} has already started ({job.state}).")
            return _move(c, job, "running", message="Running", **seen)

    def job_intent(self, job_id: int, attempt: int) -> Intent:
        """What a person asked of this attempt; a read, cheap enough for twice a second."""
        columns = t.jobs.c.attempt, t.jobs.c.state, t.jobs.c.intent
        with self._read() as c:
            row = c.execute(sa.select(*columns).where(t.jobs.c.id == job_id)).first()
        if row is None or row.attempt != attempt or row.state not in ACTIVE:
            raise RunError(f"Attempt {attempt} of run {job_id} is stale. This process ends without writing.")
        return row.intent

    def beat(self, job_id: int, attempt: int, seconds: float = 0.0) -> None:
        """Say that the attempt is still at it, and for how long. Not a change: a heartbeat makes no page redraw."""
        with self._write() as c:
            job = _speak_for(c, job_id, attempt)
            told = {"heartbeat_at": now(), "seconds": max(seconds, job.seconds)}
            c.execute(t.jobs.update().where(t.jobs.c.id == job.id).values(told))

    def log_metrics(self, job_id: int, attempt: int, step: int, total: int | None, values: dict[str, float]) -> None:
        """Append the values of one step and move the progress bar."""
        finite = {name: float(v) if math.isfinite(v) else None for name, v in values.items()}
        with self._write() as c:
            job = _speak_for(c, job_id, attempt)
            if finite:
                row = {
                    "job_id": job.id,
                    "attempt": attempt,
                    "step": step,
                    "values": finite,
                    "created_at": now(),
                }
                c.execute(t.metrics.insert().values(row))
            _change(c, job, step=step, total=job.total if total is None else total, heartbeat_at=now())

    def say(self, job_id: int, attempt: int, sentence: str) -> None:
        """Put a sentence beside the progress bar."""
        with self._write() as c:
            _change(c, _speak_for(c, job_id, attempt), message=sentence)

    def add_event(self, job_id: int, attempt: int, kind: str, payload: dict[str, Any]) -> None:
        with self._write() as c:
            job = _speak_for(c, job_id, attempt)
            _record(c, job.id, attempt, kind, payload)
            _change(c, job)

    def finish_job(
        self,
        job_id: int,
        attempt: int,
        state: Literal["paused", "done", "failed", "cancelled", "lost"],
        *,
        result: dict[str, Any] | None = None,
        error: str = "",
        model: dict[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Job:
        """The last word on an attempt, and in the same transaction the row of the model that it made, what is to be
        told about it, what was to follow it, and the halt of a queue that was to stop at a failure."""
        with self._write() as c:
            job = _speak_for(c, job_id, attempt)
            if state == "paused" and job.intent == "cancel":
                state = "cancelled"  # somebody changed their mind while the worker was saving
            if model is not None:
                c.execute(t.models.insert().values(**model))
            final: dict[str, Any] = {
                "result": result,
                "error": error,
                "message": "",
                "ended_at": now(),
                "pid": None,
                "seconds": max(seconds, job.seconds),
            }
            if state == "done" and job.total:
                final["step"] = job.total
            ended = _move(c, job, state, **final)
            if state in ("failed", "lost") and _queue(c, job.lane).stops_on_failure:
                how = "failed" if state == "failed" else "was lost"
                _set_queue(c, job.lane, stopped=f"Run {job.id} {how}, and this queue stops when that happens.")
            for wish in _wishes(c, job.id) if state == "done" else ():
                told = {name: wish[name] for name in ("kind", "task", "title", "lane")}
                _insert(c, told, wish["by"], None, "queued", None)
            if job.lane == "train" and state != "paused":
                add_notice(c, job.id, _told(ended))
            return ended

    # -- everybody reads -----------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job:
        found = self._select(t.jobs.c.id == job_id)
        if not found:
            raise NotFound(f"There is no run {job_id}. The Jobs page and `ladder jobs list` show them all.")
        return found[0]

    def jobs(self, limit: int = 50, states: Collection[State] = (), kinds: Collection[str] = ()) -> list[Job]:
        """Newest first; only those in the given states and of the given kinds, when any are given."""
        wanted = [t.jobs.c.state.in_(states)] if states else []
        wanted += [t.jobs.c.kind.in_(kinds)] if kinds else []
        return self._select(*wanted, limit=limit)

    def waiting_jobs(self, lane: Lane) -> list[Job]:
        """A lane's queue in the order it will start, held and proposed ones in their place."""
        found = self._select(t.jobs.c.lane == lane, t.jobs.c.state.in_(WAITING))
        return sorted(found, key=lambda job: (job.position, job.id))

    def queue_of(self, lane: Lane) -> Queue:
        """How the queue of a lane stands."""
        with self._read() as c:
            return _queue(c, lane)

    def notes(self, job_id: int) -> list[Note]:
        """What people wrote beside a job, oldest first."""
        events = self.job_events(job_id, kinds=["note"])
        return [Note(e.payload["text"], e.payload["by"], e.created_at) for e in events if e.payload.get("by")]

    def change_token(self) -> int:
        """A number that moves whenever any job or queue does: what pages poll before they read anything else."""
        with self._read() as c:
            return int(c.execute(_CHANGE_TOKEN).scalar_one())

    def state_token(self) -> int:
        """A number that moves when any job changes its state, and not while one only makes progress."""
        with self._read() as c:
            return c.execute(_STATE_TOKEN).scalar() or 0

    def metrics(self, job_id: int, since: int = 0, limit: int = 10_000) -> list[Metric]:
        """A job's metrics with ids above `since`, oldest first."""
        query = _after(t.metrics, job_id, since, limit)
        with self._read() as c:
            return [Metric(**row) for row in c.execute(query).mappings()]

    def job_events(self, job_id: int, since: int = 0, kinds: Iterable[str] = (), limit: int = 1000) -> list[JobEvent]:
        """A job's events with ids above `since`, oldest first."""
        query = _after(t.job_events, job_id, since, limit)
        if kinds:
            query = query.where(t.job_events.c.kind.in_(list(kinds)))
        with self._read() as c:
            return [JobEvent(**row) for row in c.execute(query).mappings()]

    def _select(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[Job]:
        query = sa.select(t.jobs).where(*conditions).order_by(t.jobs.c.id.desc()).limit(limit)
        with self._read() as c:
            return [Job(**row) for row in c.execute(query).mappings()]


_STOPPING: dict[str, str] = {
    "pause": "Pausing: a checkpoint is saved after the step at hand",
    "cancel": "Stopping: a checkpoint is saved after the step at hand",
}


def _nothing_to_stop(job: Job, intent: str) -> str:
    state = "waiting for approval" if job.state == "proposed" else job.state
    return f"Run {job.id} is {state}, so there is nothing to {intent}."


def _fetch(c: sa.Connection, job_id: int) -> Job:
    """The row, locked until the transaction ends (PostgreSQL; on SQLite the whole file is)."""
    row = c.execute(sa.select(t.jobs).where(t.jobs.c.id == job_id).with_for_update()).mappings().first()
    if row is None:
        raise NotFound(f"There is no run {job_id}. The Jobs page and `ladder jobs list` show them all.")
    return Job(**row)


def _speak_for(c: sa.Connection, job_id: int, attempt: int) -> Job:
    """The row for a writer of that attempt; raises RunError when the attempt is over or was overtaken."""
    job = _fetch(c, job_id)
    if job.attempt != attempt or not job.is_active:
        raise RunError(
            f"Attempt {attempt} of run {job_id} is stale: the run is {job.state} at attempt {job.attempt}. "
            "Nothing was changed."
        )
    return job


def _with_key(c: sa.Connection, client_key: str | None) -> Job | None:
    if client_key is None:
        return None
    row = c.execute(sa.select(t.jobs).where(t.jobs.c.client_key == client_key)).mappings().first()
    return Job(**row) if row else None


def _end_of_queue(c: sa.Connection) -> float:
    return float(c.execute(sa.select(sa.func.coalesce(sa.func.max(t.jobs.c.position), 0.0))).scalar_one()) + 1.0


def _in_line(c: sa.Connection, lane: Lane) -> list[Job]:
    """What waits in a lane, in the order it will start."""
    query = sa.select(t.jobs).where(t.jobs.c.lane == lane, t.jobs.c.state.in_(WAITING))
    return [Job(**row) for row in c.execute(query.order_by(t.jobs.c.position, t.jobs.c.id)).mappings()]


def _queue(c: sa.Connection, lane: Lane) -> Queue:
    row = c.execute(sa.select(t.queues).where(t.queues.c.lane == lane)).first()
    return Queue(lane, row.stops_on_failure, row.stopped) if row else Queue(lane)


def _set_queue(c: sa.Connection, lane: Lane, **values: Any) -> Queue:
    """A lane has a row once somebody touched its queue; whoever may make one takes turns with the others."""
    if c.execute(sa.select(t.queues.c.lane).where(t.queues.c.lane == lane)).first() is None:
        c.execute(t.queues.insert().values(lane=lane, stops_on_failure=False, stopped="", change=0))
    c.execute(t.queues.update().where(t.queues.c.lane == lane).values(change=t.queues.c.change + 1, **values))
    return _queue(c, lane)


def _told(job: Job) -> dict[str, Any]:
    """What the world outside learns of a run that ended."""
    told = {"run": job.id, "kind": job.kind, "state": job.state, "title": job.title}
    return {**told, "seconds": round(job.seconds, 1), "error": job.error}


def _told_to(task: Task) -> dict[str, Any]:
    """What a task's row says of it."""
    return {"kind": task.kind, "task": task.model_dump(mode="json"), "title": task.title, "lane": task.lane}


def _wishes(c: sa.Connection, job_id: int) -> list[dict[str, Any]]:
    """What is to follow a job: tasks as their rows would say them, each with who wants it."""
    events = t.job_events
    query = sa.select(events.c.payload).where(events.c.job_id == job_id, events.c.kind == _THEN)
    return list(c.execute(query.order_by(events.c.id)).scalars())


def _insert(
    c: sa.Connection,
    told: dict[str, Any],
    author: str,
    client_key: str | None,
    state: State,
    origin: dict[str, Any] | None,
) -> Job:
    row = {
        **told,
        "state": state,
        "position": _end_of_queue(c),
        "client_key": client_key,
        "host": "",
        "author": author,
        "created_at": now(),
        "origin": origin,
        "change": 1,
    }
    key = c.execute(t.jobs.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
    _record(c, key, 0, "state", {"to": state, "by": author})
    if origin:
        _record(c, key, 0, "origin", {"run": origin["run"], "changes": origin.get("changes", {})})
    return _fetch(c, key)


def _move(c: sa.Connection, job: Job, state: State, *, by: str = "", verb: str = "", **values: Any) -> Job:
    """Change the state, if that is legal, and remember that it happened."""
    if state not in LEGAL[job.state]:
        raise Conflict(f"Run {job.id} is {job.state}, so it cannot be {verb or state}.")
    moved = _change(c, job, state=state, **values)
    payload = {"from": job.state, "to": state, "by": by, "error": values.get("error", "")}
    _record(c, job.id, moved.attempt, "state", {name: value for name, value in payload.items() if value})
    return moved


def _change(c: sa.Connection, job: Job, **values: Any) -> Job:
    c.execute(t.jobs.update().where(t.jobs.c.id == job.id).values(change=t.jobs.c.change + 1, **values))
    return _fetch(c, job.id)


def _record(c: sa.Connection, job_id: int, attempt: int, kind: str, payload: dict[str, Any]) -> float:
    at = now()
    row = {"job_id": job_id, "attempt": attempt, "kind": kind, "payload": payload, "created_at": at}
    c.execute(t.job_events.insert().values(row))
    return at


def _after(table: sa.Table, job_id: int, since: int, limit: int) -> sa.Select[Any]:
    return sa.select(table).where(table.c.job_id == job_id, table.c.id > since).order_by(table.c.id).limit(limit)
