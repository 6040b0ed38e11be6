"""Starting: what is refused with one sentence, and what a start must not do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

import launch
from studio.errors import InputError
from studio.jobs import claim_workspace
from studio.processes import wait_until
from studio.serving.server import listen, url_of

ROOT = Path(__file__).resolve().parents[2]

# Runs launch.py with every outbound connection written down, and at the end says which modules were loaded.
_WATCHED_START = """
import atexit, json, runpy, socket, sys
outbound, report = [], sys.argv.pop(1)
def is_here(host): return str(host) in ("", "None", "localhost", "::1", "0.0.0.0", "::") or str(host).startswith("127.")
def watch(name, host_of):
    real = getattr(socket.socket, name)
    def watched(self, *args):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_here(host_of(args)): outbound.append(repr(args))
        return real(self, *args)
    setattr(socket.socket, name, watched)
watch("connect", lambda a: a[0][0]); watch("connect_ex", lambda a: a[0][0]); watch("sendto", lambda a: a[-1][0])
look_up = socket.getaddrinfo
def watched_look_up(host, *args, **named):
    if not is_here(host): outbound.append(f"look up {host}")
    return look_up(host, *args, **named)
socket.getaddrinfo = watched_look_up
@atexit.register
def tell():
    heavy = [m for m in ("torch", "transformers", "peft", "trl", "tensorflow") if m in sys.modules]
    json.dump({"outbound": outbound, "heavy": heavy}, open(report, "w"))
sys.argv[0] = "launch.py"
runpy.run_path("launch.py", run_name="__main__")
"""

# What anyone pays for Gradio: import it, build an app of one button, answer one page; prints its seconds of processor time.
_EMPTY_APP = """
import time, components, gradio as gr
from fastapi import FastAPI
from fastapi.testclient import TestClient
with gr.Blocks(analytics_enabled=False) as demo:
    gr.Button("Press").click(lambda: None)
client = TestClient(gr.mount_gradio_app(FastAPI(), demo, path="/", ssr_mode=False, enable_monitoring=False))
assert client.get("/").status_code == 200
print(time.process_time())
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.acme.example"])
def test_the_network_is_not_listened_to_before_there_are_accounts(host: str, tmp_path, capsys):
    assert launch.main(["--host", host, "--workspace", str(tmp_path / "w")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "needs accounts, which this version does not have yet" in said
    assert not (tmp_path / "w").exists()


def test_a_port_in_use_is_named(tmp_path, capsys):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert launch.main(["--port", str(port), "--workspace", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in said


def test_a_second_studio_on_a_workspace_is_refused_naming_the_first(tmp_path, capsys):
    with claim_workspace(tmp_path, "http://127.0.0.1:4711"):
        # Locks belong to an open file, so that even our own process cannot take it twice.
        assert launch.main(["--port", "0", "--workspace", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "http://127.0.0.1:4711" in said


@pytest.mark.parametrize(("flag", "value"), [("--port", "eighty"), ("--port", "70000"), ("--workspace", "/proc/no")])
def test_a_flag_that_cannot_be_used_ends_with_one_line(flag: str, value: str, capsys):
    assert launch.main([flag, value]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_a_free_port_is_found_and_told():
    with listen("127.0.0.1", 0) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_no_part_of_an_answer_waits_until_the_one_before_is_acknowledged():
    async def is_sent_at_once(bound: socket.socket) -> bool:
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ours = writer.get_extra_info("socket")
            asked.set_result(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(answer, sock=bound):
            _, writer = await asyncio.open_connection(*bound.getsockname())
            writer.close()
            return bool(await asyncio.wait_for(asked, 10))

    assert asyncio.run(is_sent_at_once(listen("127.0.0.1", 0)))


def test_only_loopback_is_listened_to():
    with pytest.raises(InputError, match="accounts"):
        listen("0.0.0.0", 0)


@pytest.fixture(scope="module")
def watched_start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A start as people do it, one page load, one stop; and what was seen meanwhile."""
    folder = tmp_path_factory.mktemp("start")
    report, port = folder / "report.json", _free_port()
    command = [sys.executable, "-c", _WATCHED_START, str(report)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GRADIO_", "HF_"))}
    environment["LADDER_RUNTIME"] = str(folder / "r")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workspace", str(folder / "w")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    began = time.monotonic()
    try:
        assert wait_until(lambda: _answers(port) or process.poll() is not None, 60)
        waited = time.monotonic() - began
        spent = sum(psutil.Process(process.pid).cpu_times()[:2])
        page = httpx.get(f"http://127.0.0.1:{port}/", timeout=20)
        time.sleep(1.0)  # long enough for a thread that would call home
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    seen: dict[str, object] = json.loads(report.read_text())
    return {**seen, "page": page.status_code, "waited": waited, "spent": spent, "output": output}


def test_nothing_outside_is_contacted(watched_start: dict[str, object]):
    assert watched_start["page"] == 200
    assert watched_start["outbound"] == []


def test_the_page_process_never_loads_torch(watched_start: dict[str, object]):
    assert watched_start["heavy"] == []


def test_a_start_costs_no_more_than_four_starts_of_an_empty_gradio_app(watched_start: dict[str, object]):
    # A ratio of processor times, one after the other: neither a slow machine nor a busy one may fail this.
    done = subprocess.run([sys.executable, "-c", _EMPTY_APP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert watched_start["spent"] < 4 * float(done.stdout)  # type: ignore[operator]


def test_the_start_says_where_to_look_and_nothing_else(watched_start: dict[str, object]):
    lines = str(watched_start["output"]).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Ladder Studio is at http://127.0.0.1:")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
