"""What pages that stand open cost the server: 20 of them at the Tuning tab beside a run that takes two steps a second.

Each does what a browser does there: one tick of the page's timer every three seconds, outside the queue, and whenever
that says that something moved, the refresh of the open tab. The figure is the server's CPU time, its own and that of
its threads, over the wall time, as a share of one core; before that, the same without any page. The bar is 10 %.

No browser: its own work would be measured with the server's on a machine of two cores.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.report import row
from studio.models import EMBEDDED
from studio.recipes.lora import Lora
from studio.store import Store, tables
from tests.fixtures_journeys import start_studio, stop_studio

PAGES, TICK_SECONDS, STEP_SECONDS = 20, 3.0, 0.5
SECONDS, RUNS = 30.0, 3
STEPS_BEFORE = 500  # a curve of some length


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    studio = start_studio(folder / "workspace", folder / "run")
    try:
        store = Store.in_folder(studio.workspace)
        server = psutil.Process(studio.process.pid)
        run = _Run(store)
        idle = [_share(server, lambda: time.sleep(SECONDS)) for _ in range(RUNS)]
        asked = [_Pages(studio.url, run.job_id) for _ in range(RUNS)]
        polled = []
        for pages in asked:
            pages.open()
            polled.append(_share(server, pages.look))
        run.close()
    finally:
        stop_studio(studio)
    print(row("no page open, a run at work", [100 * share for share in idle], "% of a core"))
    print(row(f"{PAGES} pages open at Tuning", [100 * share for share in polled], "% of a core"))
    ticks, refreshes = sum(p.ticks for p in asked), sum(p.refreshes for p in asked)
    print(f"{'':44} {ticks} ticks, {refreshes} refreshes, {sum(p.bytes for p in asked) / 1e6:.1f} MB in {RUNS} runs")


class _Run:
    """A training run as its worker would write it: the pages only read rows."""

    def __init__(self, store: Store) -> None:
        self._store, self._closing = store, threading.Event()
        task = Lora(base=EMBEDDED, data=store.snapshots("data")[0].ref)
        job = store.queue_job(task, author="benchmark", state="held")
        self.job_id = job.id
        with store._write() as c:  # of another host, so that the studio's own supervisor leaves it alone
            c.execute(tables.jobs.update().where(tables.jobs.c.id == job.id).values(host="benchmark"))
        store.release_job(job.id)
        claimed = store.claim_job("train", "benchmark", only=job.id)
        assert claimed is not None
        store.start_job(job.id, claimed.attempt, pid=1)
        for step in range(1, STEPS_BEFORE + 1):
            self._log(step)
        threading.Thread(target=self._work, daemon=True).start()

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        step = STEPS_BEFORE
        while not self._closing.wait(STEP_SECONDS):
            step += 1
            self._log(step)

    def _log(self, step: int) -> None:
        values = {"loss": 3.0 / step**0.2, "learning_rate": 1e-4, "memory_gb": 1.0, "seconds_left": 100.0}
        self._store.log_metrics(self.job_id, 1, step, 2000, values)


class _Pages:
    """What 20 browsers ask of the server, and no more."""

    def __init__(self, url: str, job_id: int) -> None:
        self._url, self._job = url, job_id
        self.ticks = self.refreshes = self.bytes = 0
        self._is_open = [False] * PAGES
        self._values: dict[int, dict[int, Any]] = {}
        self._config: dict[str, Any] = {}

    def open(self) -> None:
        """The page's layout and its first look, in which Gradio lays out a session for it: the price of opening a page,
        which is paid once."""
        self._config = httpx.get(f"{self._url}/config", timeout=30).json()
        asyncio.run(self._all(0.0))
        self.ticks = self.refreshes = self.bytes = 0

    def look(self) -> None:
        asyncio.run(self._all(SECONDS))

    async def _all(self, seconds: float) -> None:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=PAGES)) as client:
            await asyncio.gather(*(self._page(client, self._config, n, seconds) for n in range(PAGES)))

    async def _page(self, client: httpx.AsyncClient, config: dict[str, Any], number: int, seconds: float) -> None:
        """One page: its timer, and the refresh that a new beat of the open tab sets off; at least one of each."""
        await asyncio.sleep(TICK_SECONDS * number / PAGES)
        until = time.monotonic() + seconds
        components = {c["id"]: c for c in config["components"]}
        labels = {c["props"].get("label"): key for key, c in components.items()}
        timers = {key for key, c in components.items() if c["type"] == "timer"}
        beat_of_tuning = labels["Beat of tuning"]
        tick = _listener(config, timers, "tick")
        refresh = _listener(config, {beat_of_tuning}, "change")
        values = self._values.setdefault(number, {key: c["props"].get("value") for key, c in components.items()})
        values[labels["Open tab"]], values[labels["Run on screen"]] = "tuning", str(self._job)
        session = f"page{number}{id(self) % 10_000}"
        while (begun := time.monotonic()) < until or not self._is_open[number]:
            self._is_open[number] = True
            before = values[beat_of_tuning]
            await self._ask(client, tick, values, session)
            self.ticks += 1
            if values[beat_of_tuning] != before:
                await self._ask(client, refresh, values, session)
                self.refreshes += 1
            await asyncio.sleep(max(0.0, TICK_SECONDS - (time.monotonic() - begun)))

    async def _ask(
        self, client: httpx.AsyncClient, listener: dict[str, Any], values: dict[int, Any], session: str
    ) -> None:
        body = {
            "data": [values[key] for key in listener["inputs"]],
            "fn_index": listener["id"],
            "session_hash": session,
            "event_data": None,
        }
        answer = await client.post(f"{self._url}/gradio_api/run/predict", json=body)
        answer.raise_for_status()
        self.bytes += len(answer.content)
        for key, value in zip(listener["outputs"], answer.json()["data"], strict=True):
            if isinstance(value, dict) and value.get("__type__") == "update":
                value = value.get("value", values[key])
            if not isinstance(value, dict) or "path" not in value:
                values[key] = value


def _listener(config: dict[str, Any], targets: set[int], event: str) -> dict[str, Any]:
    """The listener of that event on one of these components; the first that has outputs."""
    found = [d for d in config["dependencies"] for key, name in d["targets"] if key in targets and name == event]
    with_outputs = [d for d in found if d["outputs"]]
    if not with_outputs:
        print(f"No listener for {event} was found on the page.", file=sys.stderr)
        raise SystemExit(2)
    return with_outputs[0]


def _share(server: psutil.Process, work: Any) -> float:
    """CPU seconds of the server and what it started, over wall seconds."""
    before, began = _cpu(server), time.monotonic()
    work()
    return (_cpu(server) - before) / (time.monotonic() - began)


def _cpu(server: psutil.Process) -> float:
    times = server.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
