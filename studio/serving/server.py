"""Listening and serving: the address, the log file and the loop."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from studio.errors import InputError, StorageError

__all__ = ["keep_log", "listen", "serve", "url_of"]

_LOG_BYTES = 5_000_000
_LOGGED = ("studio", "components", "uvicorn")


def listen(host: str, port: int) -> socket.socket:
    """The bound socket; port 0 takes a free one. Refuses addresses that others on the network could reach."""
    if not _is_loopback(host):
        raise InputError(
            f"--host {host} needs accounts, which this version does not have yet: anyone on the network could use "
            "the studio. Leave it at 127.0.0.1 and reach it through an SSH tunnel."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends small answers at once only on sockets that say they are TCP: a second part of an answer
    # otherwise waits for the browser to acknowledge the first, 40 ms on Linux.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise InputError(
            f"Port {port} on {host} cannot be used ({error.strerror}). "
            "Stop the program that uses it, or choose another port with --port."
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """The address to type into a browser."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Answer until Ctrl+C or SIGTERM."""
    # An open page polls and streams, so a polite wait for it to finish would never end.
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=2
    )
    # uvicorn raises the signal that ended it once more when it has closed everything. By then it has been answered,
    # and SIGTERM's default would end the process before the caller has put its own things away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])


def keep_log(path: Path) -> None:
    """Write what happens into the workspace, where a reference on a page ('ref 7f3a') can be looked up."""
    try:
        file = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8")
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(f"The log {path} cannot be written ({error.strerror}). Make its folder writable.") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in _LOGGED:
        logger = logging.getLogger(name)
        logger.addHandler(file)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
