"""What stands between the network and the pages, as plain ASGI: streams and disconnects pass untouched.

Gradio leaves several of its routes open below its own sign-in, so nothing gets through here unless it is listed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from studio.serving.identity import Identify

__all__ = ["CONTENT_SECURITY_POLICY", "Guard", "SafeHeaders"]

log = logging.getLogger(__name__)

_OPEN_PATHS = frozenset({"/healthz", "/favicon.ico"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

# 'unsafe-eval': Gradio compiles the templates of gr.HTML and the specs of gr.LinePlot in the browser. What counts
# is that no directive names a foreign host: an answer with a remote image or script in it cannot call out.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class SafeHeaders:
    """Puts the safe headers on every response, and turns what nobody caught into a reference."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(message)
            await send(message)

        try:
            await self.app(scope, receive, send_safely)
        except Exception:
            reference = secrets.token_hex(2)
            log.exception("ref %s: %s %s", reference, scope["method"], scope["path"])
            if started:  # too late for another answer: the connection has to break
                raise
            text = f"Something failed (ref {reference}). The log of the studio has the details."
            await JSONResponse({"detail": text}, 500)(scope, receive, send_safely)


class Guard:
    """Lets known users in, and writes in only from our own pages."""

    def __init__(self, app: ASGIApp, identify: Identify) -> None:
        self.app = app
        self.identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if is_foreign(connection):
            await _refuse(
                scope, receive, send, 403, "This request came from another web page. Use the studio's own page."
            )
        elif connection.url.path not in _OPEN_PATHS and self.identify(connection) is None:
            await _refuse(scope, receive, send, 401, "You are not signed in. Reload the page to sign in again.")
        else:
            await self.app(scope, receive, send)


def is_foreign(connection: HTTPConnection) -> bool:
    """A write (or a socket) asked for by a page of another origin: the cross-site forgery that cookies alone allow."""
    if connection.scope.get("method") in _READING:
        return False
    if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers[name] = value


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose(code=1008, reason=sentence)(scope, receive, send)
    else:
        await JSONResponse({"detail": sentence}, status)(scope, receive, send)
