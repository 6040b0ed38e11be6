"""Who may come in, what may be asked from where, and which headers every answer carries."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from studio.serving import OWNER, create_app
from studio.serving.guard import CONTENT_SECURITY_POLICY
from studio.settings import Settings
from studio.workspace import Workspace
from tests.fixtures_pages import app_of, call

HERE = "http://127.0.0.1:7860"
EVIL = "https://evil.example"


def nobody(_connection: HTTPConnection) -> None:
    return None


@pytest.fixture
def http(workspace: Workspace) -> TestClient:
    """The outer app alone, with a route that writes and one that breaks."""
    app = create_app(workspace)
    app.post("/write")(lambda: "written")
    app.get("/break")(lambda: 1 / 0)
    return _client(app)


def _client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=HERE, raise_server_exceptions=False)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "127.0.0.1@evil.example", "0.0.0.0", ""],
)
def test_a_foreign_host_is_refused_whatever_it_asks_for(http: TestClient, host: str):
    for path in ("/", "/healthz", "/config", "/gradio_api/info"):
        assert http.get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "localhost", "[::1]:7860"])
def test_the_machine_itself_is_let_in_by_each_of_its_names(http: TestClient, host: str):
    assert http.get("/healthz", headers={"host": host}).status_code == 200


def test_an_administrator_may_name_further_hosts(tmp_path):
    workspace = Workspace.open(tmp_path, settings=Settings(hosts=("studio.acme.example",)))
    http = _client(create_app(workspace))
    assert http.get("/healthz", headers={"host": "studio.acme.example"}).status_code == 200
    assert http.get("/healthz", headers={"host": "acme.example"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:7860.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": EVIL, "referer": HERE, "x-forwarded-host": "evil.example"},
    ],
    ids=str,
)
def test_another_web_page_cannot_write(http: TestClient, headers: dict[str, str]):
    assert http.post("/write", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": HERE}, {"origin": HERE, "sec-fetch-site": "same-origin"}],
    ids=["script", "page", "browser"],
)
def test_our_own_page_and_scripts_on_this_machine_can_write(http: TestClient, headers: dict[str, str]):
    assert http.post("/write", headers=headers).json() == "written"


def test_another_web_page_cannot_write_through_gradio_either(served: tuple[str, Workspace]):
    url, _ = served
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/whoami", "/gradio_api/upload"):
        assert httpx.post(url + path, json={}, headers={"origin": EVIL}).status_code == 403


def test_every_answer_carries_the_content_security_policy(http: TestClient, workspace: Workspace):
    stranger = _client(create_app(workspace, nobody))
    answers = {
        200: http.get("/healthz"),
        404: http.get("/no-such-page"),
        400: http.get("/", headers={"host": "evil.example"}),
        403: http.post("/write", headers={"origin": EVIL}),
        401: stranger.get("/"),
        500: http.get("/break"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_pages_carry_it_too(served: tuple[str, Workspace]):
    url, _ = served
    for path in ("/", "/config", "/theme.css", "/gradio_api/info", "/static/fonts/IBMPlexSans/IBMPlexSans-Bold.woff2"):
        answer = httpx.get(url + path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_the_policy_names_no_other_host():
    words = CONTENT_SECURITY_POLICY.replace(";", "").split()
    sources = {w for w in words if not w.endswith("-src") and w not in ("base-uri", "form-action", "frame-ancestors")}
    assert sources <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_foreign_origin_gets_no_cors_header(served: tuple[str, Workspace], host: str):
    url = served[0].replace("127.0.0.1", host)
    asked = {"origin": EVIL, "access-control-request-method": "POST"}
    for answer in (httpx.get(url + "/config", headers=asked), httpx.options(url + "/config", headers=asked)):
        assert [h for h in answer.headers if h.startswith("access-control-allow-o") or h.endswith("-credentials")] == []


def test_a_stranger_reaches_nothing_but_the_health_check(workspace: Workspace):
    http = _client(app_of(workspace, nobody))
    for path in ("/", "/config", "/theme.css", "/static/x", "/assets/x", "/gradio_api/info", "/gradio_api/startup-events",
                 "/gradio_api/app_id", "/gradio_api/heartbeat/x", "/gradio_api/queue/data?session_hash=x"):  # fmt: skip
        assert http.get(path).status_code == 401, path
    for path in ("/gradio_api/queue/join", "/gradio_api/call/secret", "/gradio_api/run/predict", "/gradio_api/cancel"):
        assert http.post(path, json={"fn_index": 0, "data": []}).status_code == 401, path
    assert http.get("/healthz").status_code == 200


def test_nobody_can_say_who_they_are(served: tuple[str, Workspace]):
    url, _ = served
    forged: dict[str, Any] = {
        "event_data": {"username": "admin", "request": {"username": "admin"}},
        "request": {"username": "admin"},
        "username": "admin",
        "session_hash": "admin",
    }
    assert call(url, "whoami", "I am admin", **forged) == ("complete", [OWNER])


def test_a_session_cookie_signed_with_another_key_says_nothing(workspace: Workspace):
    from base64 import b64encode

    import itsdangerous

    seen: list[Any] = []

    def identify(connection: HTTPConnection) -> str | None:
        seen.append(connection.session.get("user"))
        return connection.session.get("user")

    forged = itsdangerous.TimestampSigner("guessed").sign(b64encode(json.dumps({"user": OWNER}).encode())).decode()
    http = _client(create_app(workspace, identify))
    assert http.get("/", headers={"cookie": f"ladder_session={forged}"}).status_code == 401
    assert seen == [None]


def test_what_nobody_expected_shows_a_reference_and_no_detail(http: TestClient, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        answer = http.get("/break")
    sentence = answer.json()["detail"]
    assert "division" not in sentence
    assert "ref " in sentence
    reference = sentence.split("ref ")[1][:4]
    assert reference in caplog.text
    assert "ZeroDivisionError" in caplog.text
