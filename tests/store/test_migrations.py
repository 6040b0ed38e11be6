"""Every revision after the first, on a database that holds rows of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from studio.store import RecordFilter, Store
from studio.store.database import Database, _alembic_config
from studio.store.tables import completions
from tests.preferences.items import BATCH, judge, put_items


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.db'}"
        return
    server = sa.make_url(request.getfixturevalue("postgresql_url")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as c:
        c.execute(sa.text("CREATE DATABASE old_revision"))
    yield server.set(database="old_revision").render_as_string(hide_password=False)
    with engine.connect() as c:
        c.execute(sa.text("DROP DATABASE old_revision WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def at_revision(empty_url: str) -> Iterator[Callable[..., Store]]:
    """A store at the newest revision that was made at an older one and had these rows then."""
    opened: list[Store] = []

    def make(revision: str, rows: dict[str, list[dict[str, Any]]]) -> Store:
        old = Database(empty_url)
        with old._engine.execution_options(writing=True).begin() as connection:
            config = _alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            tables = sa.MetaData()
            tables.reflect(connection)
            for name, values in rows.items():
                connection.execute(tables.tables[name].insert(), values)
        old.close()
        opened.append(Store.open(empty_url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


ANSWER: dict[str, Any] = {
    "model": "echo:",
    "template": "plain",
    "variables": {"instruction": "Can I?"},
    "messages": [],
    "sampling": {},
    "text": "You can.",
    "prompt_tokens": 2,
    "output_tokens": 3,
    "seconds": 0.5,
    "author": "ann",
    "created_at": 1.0,
}


def test_0002_gives_the_answers_of_before_a_ticket_each(at_revision):
    store = at_revision("0001", {"completions": [{**ANSWER, "kept_at": 2.0}, {**ANSWER, "kept_at": None}]})
    (kept,) = store.kept_completions()
    assert (kept.ticket, kept.text, kept.finish) == ("answer-1", "You can.", "")
    assert store.completion("answer-2").kept_at is None
    assert store.keep_completion("answer-2").kept_at is not None


def test_0003_leaves_the_answers_of_before_alone_and_takes_items_to_rank(at_revision):
    before = {**ANSWER, "ticket": "one", "finish": "stop", "kept_at": 2.0}
    store = at_revision("0002", {"completions": [before]})
    (kept,) = store.kept_completions()
    assert (kept.text, kept.variables, kept.prompt_id) == ("You can.", {"instruction": "Can I?"}, None)
    put_items(store, 2)
    ann = store.annotator("ann")
    for item in store.lease_items(BATCH, ann, 2, seconds=60):
        assert judge(store, item, ann).is_new
    assert [b.human for b in store.batches()] == [2]
    assert store.kept_completions() == [kept]


def test_0003_names_every_answer_once(at_revision):
    """The table of answers is made anew on SQLite, and what kept a ticket unique must come along."""
    before = {**ANSWER, "ticket": "one", "finish": "stop", "kept_at": None}
    store = at_revision("0002", {"completions": [before]})
    with pytest.raises(sa.exc.IntegrityError), store._write() as c:
        c.execute(completions.insert().values(before))


def test_0006_finds_the_records_of_before_and_can_change_them(at_revision):
    dataset = {
        "name": "gear",
        "description": "",
        "guidelines": "",
        "licence": "MIT",
        "author": "ann",
        "created_at": 1.0,
    }
    record = {
        "dataset_id": 1, "instruction": "Is the tent dry?", "context": "", "response": "Yes.", "category": "open_qa",
        "group_hash": "0" * 64, "split": "train", "source": "", "author": "ann", "revision": 1,
        "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    before = {"dataset_id": 1, "id": 1, **record}
    store = at_revision("0005", {"datasets": [{"id": 1, **dataset}], "records": [before]})
    (found,) = store.records(1, RecordFilter(text="tent"))
    assert (found.letters, found.state, found.turns, found.response) == (20, "draft", None, "Yes.")
    store.edit_record(found.id, 1, {"instruction": "Is the jacket dry?"}, author="ben")
    assert store.count_records(1, RecordFilter(text="tent")) == 0
    store.undo(1, author="ben")
    assert store.count_records(1, RecordFilter(text="tent")) == 1


def test_0007_finds_the_records_of_before_and_those_that_come_after(at_revision):
    dataset = {
        "id": 1, "name": "gear", "description": "", "guidelines": "", "licence": "", "author": "ann",
        "created_at": 1.0, "change": 0,
    }  # fmt: skip
    record = {
        "dataset_id": 1, "instruction": "Is the tent dry?", "context": "", "response": "Yes.", "category": "open_qa",
        "group_hash": "0" * 64, "split": "train", "source": "", "author": "ann", "revision": 1,
        "created_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    store = at_revision("0006", {"datasets": [dataset], "records": [record]})
    new = {name: record[name] for name in ("context", "response", "category", "group_hash", "split")}
    store.add_records(1, [{**new, "instruction": "Is the tent warm?"}], author="ann", source="test")
    assert [r.instruction for r in store.records(1, RecordFilter(text="tent"))] == [
        "Is the tent dry?",
        "Is the tent warm?",
    ]


def test_0008_measures_the_runs_of_before_by_their_times(at_revision):
    job = {
        "id": 1, "kind": "count", "task": {}, "title": "Count", "lane": "train", "state": "done", "position": 1.0,
        "attempt": 1, "intent": "", "host": "here", "step": 0, "total": 0, "message": "", "error": "", "author": "ann",
        "created_at": 1.0, "started_at": 10.0, "ended_at": 14.5, "change": 1,
    }  # fmt: skip
    waiting = {**job, "id": 2, "state": "queued", "position": 2.0, "started_at": None, "ended_at": None}
    store = at_revision("0007", {"jobs": [job, waiting]})
    assert (store.job(1).took, store.job(2).took, store.job(1).origin) == (4.5, None, None)
    assert store.queue_of("train").stops_on_failure is False
    assert [one.id for one in store.waiting_jobs("train")] == [2]
