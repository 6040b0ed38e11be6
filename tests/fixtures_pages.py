"""Pages to test the frame with: small tabs of our own in a real server, so that no other tab has a say."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from components.app import Tab, build_app
from components.forms import form
from components.frame import Refresh, TabWidgets, handler, markup, page_header, table, user_of
from studio.errors import RunError
from studio.example import load_example
from studio.processes import wait_until
from studio.serving import Identify, owner_only
from studio.serving.server import listen, url_of
from studio.settings import Settings
from studio.specs import Sampling
from studio.workspace import Workspace

STRANGE = "a detail that nobody should read"


def open_workspace(folder: Path) -> Workspace:
    return Workspace.open(folder / "acme", settings=Settings(runtime=folder / "r"))


@pytest.fixture
def workspace(tmp_path: Path, migrated_sqlite: Path) -> Workspace:
    (tmp_path / "acme").mkdir()
    shutil.copy(migrated_sqlite, tmp_path / "acme")
    return open_workspace(tmp_path)


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's folder with the example project in it: a copy is made faster than the project is taken in."""
    workspace = open_workspace(tmp_path_factory.mktemp("example"))
    load_example(workspace.store, workspace.path)
    workspace.store.close()
    return workspace.path


@pytest.fixture
def project(tmp_path: Path, example_folder: Path) -> Workspace:
    """A workspace with the example project in it."""
    shutil.copytree(example_folder, tmp_path / "acme")
    return open_workspace(tmp_path)


def _asking(_workspace: Workspace) -> TabWidgets:
    with page_header("playground", "Ask a model, and see how the wording changes the answer."):
        ask = gr.Button("Ask", variant="primary")
    answer = gr.Textbox(label="Answer")
    said = gr.Textbox(label="Said")

    def whoami(_said: str, request: gr.Request) -> str:
        return user_of(request)

    def refuse() -> None:
        raise RunError("Run 17 cannot start. Cancel run 16 first.")

    def fail() -> None:
        raise ValueError(STRANGE)

    ask.click(handler(whoami), said, answer, api_name="whoami")
    gr.Button("Refuse").click(handler(refuse), api_name="refuse")
    gr.Button("Fail").click(handler(fail), api_name="fail")
    gr.Button("Secret").click(handler(whoami), said, answer, api_name="secret", api_visibility="private")
    gr.Button("Manage").click(handler(whoami, role="admin"), said, answer, api_name="manage")
    return TabWidgets()


def _tuning(workspace: Workspace) -> TabWidgets:
    with page_header("tuning", "Teach a model to answer the way your records do."):
        start = gr.Button("Start tuning", variant="primary")
    knobs = form(Sampling, first=("temperature", "max_tokens"))
    result = gr.Textbox(label="Result")
    start.click(handler(lambda *v: f"{knobs.read(v).temperature:g}"), knobs.inputs, result, validator=knobs.validator())
    table(["Run", "State"], label="Runs", rows=[["run:16", "done"]])
    run = gr.Textbox(label="Run", visible="hidden")
    seen = gr.Textbox(label="Rows read", elem_id="rows-read")
    markup("<p>Below</p>")

    def read(which: str) -> str:
        return f"run {which} at {workspace.store.change_token()}"

    return TabWidgets(refresh=Refresh(read, [run], [seen]), links={"run": run})


TABS = (Tab("playground", "Playground", _asking), Tab("tuning", "Tuning", _tuning), Tab("jobs", "Jobs", _asking))


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app on a port of its own; gives its address."""
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert wait_until(lambda: server.started, 20)
    yield url_of(bound)
    server.should_exit = True
    thread.join(10)


def app_of(workspace: Workspace, identify: Identify = owner_only) -> FastAPI:
    return build_app(workspace, identify, TABS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Workspace]]:
    """A running studio with the tabs above, and its workspace."""
    workspace = open_workspace(tmp_path_factory.mktemp("served"))
    with serving(app_of(workspace)) as url:
        yield url, workspace


def call(url: str, name: str, *inputs: Any, **extra: Any) -> tuple[str, Any]:
    """Call a handler the raw way, as an attacker would: ('complete' | 'error', what came back)."""
    with httpx.Client(base_url=url, timeout=20) as http:
        asked = http.post(f"/gradio_api/call/{name}", json={"data": list(inputs), **extra})
        if asked.status_code != 200:
            return "refused", asked.status_code
        lines = http.get(f"/gradio_api/call/{name}/{asked.json()['event_id']}").text.splitlines()
    event, data = lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")
    return event, json.loads(data)
