"""Where the ends of training runs are told, and what is still to be told there.

A notice is written in the transaction that ends the run, so none is lost between the two; studio/jobs/telling.py sends
it afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["Notice", "NoticeVerbs", "Webhook", "add_notice"]


@dataclass(frozen=True)
class Webhook:
    """An address that is told when a training run ends; `locked` is the whole of it, as it lies in the database."""

    host: str
    author: str
    created_at: float
    locked: str


@dataclass(frozen=True)
class Notice:
    """What is to be told about one run, and how often that was tried."""

    id: int
    job_id: int
    payload: dict[str, Any]
    tries: int


class NoticeVerbs(Database):
    def webhook(self) -> Webhook | None:
        """Where ends of runs are told; None when nowhere."""
        with self._read() as c:
            return _webhook(c)

    def set_webhook(self, locked: str, host: str, *, author: str) -> None:
        """Tell them there from now on; with '' nowhere, and forget what waits to be told."""
        row = {"url": locked, "host": host, "author": author, "created_at": now()}
        with self._write() as c:
            # An address that was given up is not kept, since it may be a secret; who set it and when is.
            c.execute(t.webhooks.update().values(url=""))
            c.execute(t.webhooks.insert().values(row))
            if not locked:
                waits = t.notifications.c.ended_at.is_(None)
                c.execute(t.notifications.update().where(waits).values(ended_at=now()))

    def notices(self, host: str) -> list[Notice]:
        """What this host's runs still have to tell, oldest first."""
        n = t.notifications
        columns = n.c.id, n.c.job_id, n.c.payload, n.c.tries
        query = sa.select(*columns).join(t.jobs, t.jobs.c.id == n.c.job_id)
        query = query.where(n.c.ended_at.is_(None), t.jobs.c.host == host).order_by(n.c.id)
        with self._read() as c:
            return [Notice(**row) for row in c.execute(query).mappings()]

    def take_notice(self, notice: Notice) -> bool:
        """Begin a try; False when somebody else began it first."""
        n = t.notifications
        mine = n.c.id == notice.id, n.c.tries == notice.tries, n.c.ended_at.is_(None)
        with self._write() as c:
            return bool(c.execute(n.update().where(*mine).values(tries=n.c.tries + 1)).rowcount)

    def settle_notice(self, notice: Notice, sentence: str, *, is_over: bool) -> None:
        """Say beside the job what came of a try; `is_over` when there will be no other."""
        with self._write() as c:
            if is_over:
                one = t.notifications.c.id == notice.id
                c.execute(t.notifications.update().where(one).values(ended_at=now()))
            job = sa.select(t.jobs.c.attempt).where(t.jobs.c.id == notice.job_id)
            event = {"job_id": notice.job_id, "attempt": c.execute(job).scalar_one(), "kind": "told"}
            c.execute(t.job_events.insert().values({**event, "payload": {"text": sentence}, "created_at": now()}))
            moved = t.jobs.update().where(t.jobs.c.id == notice.job_id)
            c.execute(moved.values(change=t.jobs.c.change + 1))


def add_notice(c: sa.Connection, job_id: int, payload: dict[str, Any]) -> None:
    """Have an end told, when there is an address for it."""
    if _webhook(c) is not None:
        row = {"job_id": job_id, "payload": payload, "tries": 0, "created_at": now()}
        c.execute(t.notifications.insert().values(row))


def _webhook(c: sa.Connection) -> Webhook | None:
    row = c.execute(sa.select(t.webhooks).order_by(t.webhooks.c.id.desc()).limit(1)).first()
    return Webhook(row.host, row.author, row.created_at, row.url) if row and row.url else None
