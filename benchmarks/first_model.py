"""A first tuning run as a person makes it, in a browser: fields touched, and seconds from the open studio to a model.

The embedded model on the example's records, quick. The path is the one of tests/journeys/test_tuner.py.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from benchmarks.report import row
from studio.models import convert
from studio.processes import holder
from studio.settings import Settings
from studio.store import Store
from tests.browser import find_browser
from tests.fixtures_journeys import start_studio, stop_studio
from tests.journeys.test_tuner import first_model

RUNS = 3


def main() -> None:
    convert(Settings().cache, lambda share, message: None)
    seconds, fields = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for _ in range(RUNS):
            folder = Path(tempfile.mkdtemp(prefix="lb-"))
            studio = start_studio(folder / "workspace", folder / "run")
            try:
                page = browser.new_page(viewport={"width": 1440, "height": 1000}, locale="en-GB")
                page.set_default_timeout(60_000)
                page.goto(studio.url)
                page.wait_for_function("window.ladderReady === true", polling=50)
                began = time.monotonic()
                fields.append(first_model(page, seconds=600))
                seconds.append(time.monotonic() - began)
                print(f"{fields[-1]} fields, {seconds[-1]:.1f} s", flush=True)
                page.close()
            finally:
                stop_studio(studio)
                _end(studio.workspace)
        browser.close()
    print(row("fields touched", [float(n) for n in fields], ""))
    print(row("from the open studio to a finished model", seconds, "s"))


def _end(folder: Path) -> None:
    """Workers outlive a studio, and the verdict that follows the run would slow the next one."""
    store = Store.in_folder(folder)
    for job in store.jobs():
        found = holder(folder / "runs" / str(job.id) / "lock") if job.is_active else None
        if found is not None:
            psutil.Process(found.pid).kill()
    store.close()


if __name__ == "__main__":
    main()
