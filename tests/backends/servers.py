"""A real HTTP server on loopback that plays one part: a server that answers well, or one that fails in its own way."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Part = Callable[["Call"], None]


@dataclass(frozen=True)
class Asked:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Server:
    """Plays its parts in turn, the last one for ever."""

    parts: list[Part]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)  # the client left before the end
    over: threading.Event = field(default_factory=threading.Event)  # the test is over
    _at_once: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)

    def serve(self, call: Call) -> None:
        with self._lock:
            part = self.parts[min(len(self.asked), len(self.parts) - 1)]
            self.asked.append(
                Asked(call.command, call.path, {k.lower(): v for k, v in call.headers.items()}, call.body)
            )
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._lock.notify_all()
        try:
            part(call)
        except (BrokenPipeError, ConnectionResetError):
            self.hung_up.set()
        finally:
            with self._lock:
                self._at_once -= 1

    def wait_for_company(self, number: int) -> None:
        """Give as many questions the chance to be here at once; too many would come within this time."""
        with self._lock:
            self._lock.wait_for(lambda: self._at_once >= number, timeout=0.3)


class Call(BaseHTTPRequestHandler):
    """One question, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    script: Server
    body: dict[str, Any]

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.close_connection = True
        self.script.serve(self)

    def do_GET(self) -> None:
        self.body = {}
        self.close_connection = True
        self.script.serve(self)

    def end_headers(self) -> None:
        self.send_header("connection", "close")  # each question on a line of its own: none finds one that is closing
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, content: Any, kind: str = "application/json", **headers: str) -> None:
        """A whole answer."""
        raw = (
            content if isinstance(content, bytes) else (content if kind != "application/json" else json.dumps(content))
        )
        raw = raw.encode() if isinstance(raw, str) else raw
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def begin(self, kind: str = "text/event-stream") -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def piece(self, raw: bytes | str) -> None:
        raw = raw.encode() if isinstance(raw, str) else raw
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()

    def event(self, data: Any) -> None:
        self.piece(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")

    def text(self, text: str, finish: str | None = None, **more: Any) -> None:
        self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}]})

    def end(self, finish: str = "stop", prompt_tokens: int = 7, output_tokens: int = 3) -> None:
        """The end of a stream as OpenAI's server writes it."""
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens}
        self.event({"choices": [], "usage": usage})
        self.event("[DONE]")
        self.piece("")

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self.script.over.wait(30)


@contextlib.contextmanager
def playing(*parts: Part) -> Iterator[Server]:
    """A server that plays these parts, on a port of its own."""
    script = Server(list(parts))
    handler = type("Bound", (Call,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def words(*said: str, finish: str = "stop") -> Part:
    """A server that says these pieces and ends as it should."""

    def part(call: Call) -> None:
        call.begin()
        for word in said:
            call.text(word)
        call.end(finish)

    return part


def refusal(status: int, message: str = "no", **headers: str) -> Part:
    """An error in OpenAI's shape."""
    return lambda call: call.say(status, {"error": {"message": message}}, **headers)


def parrot(call: Call) -> None:
    """Says the last question back, a word a token; at a temperature in an order that the seed chooses."""
    messages = call.body["messages"]
    said = [f" {word}" if place else word for place, word in enumerate(messages[-1]["content"].split())]
    if call.body["temperature"] > 0:
        shuffled = [word.strip() for word in said]
        random.Random(call.body["seed"]).shuffle(shuffled)
        said = [f" {word}" if place else word for place, word in enumerate(shuffled)]
    kept = said[: call.body["max_tokens"]]
    text = "".join(kept)
    places = [place for stop in call.body.get("stop", []) if (place := text.find(stop)) >= 0]
    finish = "stop" if places or len(kept) == len(said) else "length"
    call.begin()
    call.text("", role="assistant")
    call.text(text[: min(places, default=len(text))])
    call.end(finish, sum(len(turn["content"].split()) for turn in messages), len(kept))
