"""From process start to the first paint in a browser, to a usable page, and to the first streamed token.

The weights are converted beforehand; the workspace is new for every run, so the example project is loaded too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.report import row
from studio.models import convert
from studio.settings import Settings
from tests.browser import find_browser
from tests.fixtures_journeys import ROOT, free_port

RUNS = 5


def main() -> None:
    convert(Settings().cache, lambda share, message: None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        runs = [_once(browser) for _ in range(RUNS)]
        browser.close()
    for place, name in enumerate(("process start to server", "to first paint", "to a usable page", "to first token")):
        print(row(name, [run[place] for run in runs], "s"))
    print(row("of that, from Ask (engine start and load)", [run[4] for run in runs], "s"))
    print(row("second question, from Ask to first token", [run[5] for run in runs], "s"))


def _once(browser: Browser) -> tuple[float, ...]:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    port = free_port()
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "--port", str(port), "--workspace", str(folder / "workspace")],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LADDER_RUNTIME": str(folder / "run")},
    )
    try:
        page = browser.new_context().new_page()
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
                break
            except Exception:
                if process.poll() is not None or time.monotonic() - started > 60:
                    raise
                time.sleep(0.05)
        served = time.monotonic() - started
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0", polling=20)
        painted = time.monotonic() - started
        page.wait_for_function("window.ladderReady === true", polling=20)
        usable = time.monotonic() - started
        first = _first_token(page, "How do I dry a wet tent?")
        return served, painted, usable, usable + first, first, _first_token(page, "And a wet bag?")
    finally:
        page.context.close()
        process.terminate()
        process.wait(20)


def _first_token(page: object, question: str) -> float:
    page.get_by_label("Prompt", exact=True).click()  # type: ignore[attr-defined]
    page.get_by_role("option", name="Plain").first.click()  # type: ignore[attr-defined]
    page.get_by_label("Instruction", exact=True).fill(question)  # type: ignore[attr-defined]
    page.evaluate("document.querySelector('#answer-1 textarea').value = ''")  # type: ignore[attr-defined]
    asked = time.monotonic()
    page.get_by_role("button", name="Ask", exact=True).click()  # type: ignore[attr-defined]
    page.wait_for_function(  # type: ignore[attr-defined]
        "document.querySelector('#answer-1 textarea').value.length > 0", polling=10, timeout=120_000
    )
    seconds = time.monotonic() - asked
    page.wait_for_function(  # type: ignore[attr-defined]
        "/\\d \\+ \\d+ tokens/.test(document.querySelector('.answer-head').innerText)", timeout=120_000
    )
    return seconds


if __name__ == "__main__":
    main()
