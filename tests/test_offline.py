"""Offline: a process that must not reach other machines cannot, and still reaches this one."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALLS = {
    "connect": "socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "name": "socket.getaddrinfo('models.example', 443)",
    "datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "http": "__import__('httpx').get('http://192.0.2.1/', timeout=2)",
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    start = "import socket; from studio.offline import forbid_outbound_calls; forbid_outbound_calls()\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_other_machines_cannot_be_reached(call):
    ended = run(call)
    assert ended.returncode != 0
    assert "was refused, because the studio is offline" in ended.stderr


def test_this_machine_can_be_reached():
    ended = run(
        "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); "
        "socket.getaddrinfo('localhost', 80); u = socket.socket(socket.AF_UNIX); print('reached')"
    )
    assert ended.stdout.strip() == "reached", ended.stderr
