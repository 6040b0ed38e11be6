"""A real studio and a real browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from studio.models import convert
from studio.processes import wait_until
from studio.settings import Settings
from tests.browser import find_browser

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Studio:
    """A running studio and where its things are."""

    url: str
    workspace: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_studio(workspace: Path, runtime: Path, **environment: str) -> Studio:
    """`python launch.py`, as a person would, and wait until it answers."""
    port = free_port()
    env = {**os.environ, "LADDER_RUNTIME": str(runtime), **environment}
    log = (workspace.parent / f"{workspace.name}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "--port", str(port), "--workspace", str(workspace)],
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=workspace.parent,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            return True
        try:
            return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    if not wait_until(answers, 60) or process.poll() is not None:
        pytest.fail(f"The studio did not start:\n{Path(log.name).read_text()[-3000:]}")
    return Studio(url, workspace, process)


def stop_studio(studio: Studio) -> None:
    studio.process.terminate()
    try:
        studio.process.wait(15)
    except subprocess.TimeoutExpired:
        studio.process.kill()


@pytest.fixture(scope="module")
def short_runtime() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ladder-j-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, short_runtime: Path) -> Iterator[Studio]:
    """A studio at its first start: the example project, the embedded model ready."""
    convert(Settings().cache, lambda share, message: None)
    running = start_studio(tmp_path_factory.mktemp("journey") / "workspace", short_runtime)
    yield running
    stop_studio(running)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For one module only: as long as Playwright is there, an event loop runs in this thread and asyncio.run refuses.
    path = find_browser()
    if path is None:
        pytest.fail("No Chromium: run `python tests/browser.py`.")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A fresh page on the studio. Console errors and requests to another host fail the test."""
    context = browser.new_context(locale="en-GB", color_scheme="light", viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    foreign: list[str] = []
    errors: list[str] = []
    page.on(
        "request", lambda r: foreign.append(r.url) if not r.url.startswith((studio.url, "data:", "blob:")) else None
    )
    # Leaving or reloading a page aborts its open streams, and Gradio says so.
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" and not _is_leaving(m.text) else None)
    page.on("pageerror", lambda e: errors.append(str(e)) if not _is_leaving(str(e)) else None)
    page.set_default_timeout(20_000)
    page.goto(studio.url)
    page.wait_for_function("window.ladderReady === true", polling=50)
    yield page
    context.close()
    assert foreign == []
    assert errors == []


def choose(page: Page, field: Locator, option: str | re.Pattern[str], *, exact: bool = False) -> None:
    """Pick an option of a dropdown, from the field's own list: that of the field before may still be closing.

    The field goes to the middle of the window first: the list is laid beside it once, and stays there when a page that
    is still filling moves the field away.
    """
    field.evaluate("field => field.scrollIntoView({ block: 'center' })")
    field.click()
    expect(field).to_have_attribute("aria-expanded", "true")
    own = page.locator(f"#{field.get_attribute('aria-controls')}")
    own.get_by_role("option", name=option, exact=exact).first.click()


def _is_leaving(text: str) -> bool:
    return "AbortError" in text or "errored out" in text
