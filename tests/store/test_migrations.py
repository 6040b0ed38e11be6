"""Every revision after the first, on a database that holds rows of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from studio.store import Store
from studio.store.database import Database, _alembic_config


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


def test_0002_gives_the_answers_of_before_a_ticket_each(at_revision):
    answer = {
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
    store = at_revision("0001", {"completions": [{**answer, "kept_at": 2.0}, {**answer, "kept_at": None}]})
    (kept,) = store.kept_completions()
    assert (kept.ticket, kept.text, kept.finish) == ("answer-1", "You can.", "")
    assert store.completion("answer-2").kept_at is None
    assert store.keep_completion("answer-2").kept_at is not None
