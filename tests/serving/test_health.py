"""The health check, the icon, and the key that signs sessions."""

from __future__ import annotations

import stat

import pytest
from starlette.testclient import TestClient

from studio import __version__
from studio.errors import StorageError
from studio.serving import create_app
from studio.serving.secret import session_secret
from studio.workspace import Workspace


@pytest.fixture
def http(workspace: Workspace) -> TestClient:
    return TestClient(create_app(workspace), base_url="http://127.0.0.1")


def test_the_health_check_tells_version_database_and_engine(http: TestClient):
    answer = http.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__, "database": "ok", "engine": "off"}


def test_a_database_that_does_not_answer_is_said_without_its_address(http: TestClient, workspace: Workspace):
    workspace.store.close()
    (workspace.path / "studio.db").write_bytes(b"not a database, by now" * 100)
    answer = http.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["database"] == "failing"
    assert str(workspace.path) not in answer.text


def test_the_icon_is_our_own(http: TestClient):
    answer = http.get("/favicon.ico")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "Ladder Studio" in answer.text


def test_the_key_is_made_once_and_is_private(tmp_path):
    key = session_secret(tmp_path)
    assert session_secret(tmp_path) == key
    assert len(key) >= 32
    assert stat.S_IMODE((tmp_path / "session.key").stat().st_mode) == 0o600


def test_two_workspaces_have_two_keys(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert session_secret(tmp_path / "a") != session_secret(tmp_path / "b")


def test_a_key_that_others_could_read_is_closed(tmp_path):
    session_secret(tmp_path)
    (tmp_path / "session.key").chmod(0o644)
    session_secret(tmp_path)
    assert stat.S_IMODE((tmp_path / "session.key").stat().st_mode) == 0o600


def test_a_key_that_was_cut_short_is_not_used(tmp_path):
    (tmp_path / "session.key").write_text("short")
    with pytest.raises(StorageError, match="Delete it"):
        session_secret(tmp_path)
