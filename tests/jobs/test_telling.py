"""Telling another program that a run ended: against a real server, which behaves in the ways that servers do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from studio.errors import InputError
from studio.jobs import run_here, set_webhook
from studio.jobs.telling import Teller
from studio.settings import Settings
from studio.store import Job
from tests.jobs.conftest import Shop
from tests.jobs.tasks_for_tests import Count, LightCount

HERE = "here"


class Chat:
    """A server that remembers what it was told, and answers with what is in `answers`, then with 200."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[int] = []
        self.waits = 0.0
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                chat.told.append((self.path, json.loads(body)))
                time.sleep(chat.waits)
                code = chat.answers.pop(0) if chat.answers else 200
                self.send_response(code)
                if code == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                chat.told.append((self.path, {}))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/hook/s3cret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def chat() -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.server.shutdown()
    chat.server.server_close()


def ended(shop: Shop, state: str = "done", **facts: Any) -> Job:
    """A training run of this host that ended."""
    job = shop.store.claim_job("train", HERE, only=shop.queue(Count()))
    shop.store.start_job(job.id, job.attempt, pid=1)
    return shop.store.finish_job(job.id, job.attempt, state, **facts)


def teller(shop: Shop, *pauses: float, settings: Settings | None = None) -> Teller:
    return Teller(shop.store, shop.path, settings or shop.settings, HERE, pauses)


def words(shop: Shop, job: Job) -> list[str]:
    return [event.payload["text"] for event in shop.store.job_events(job.id, kinds=["told"])]


def test_the_end_of_a_run_is_told_with_its_facts_and_stands_among_its_events(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    job = ended(shop, "failed", error="It broke.", seconds=12.34)
    assert teller(shop).tick() == 0
    assert chat.told == [
        (
            "/hook/s3cret",
            {
                "run": job.id,
                "kind": "count",
                "state": "failed",
                "title": "Count to 5",
                "seconds": 12.3,
                "error": "It broke.",
            },
        )
    ]
    assert words(shop, job) == [f"Told {chat.host} that it ended."]
    assert teller(shop).tick() == 0
    assert len(chat.told) == 1


def test_a_command_without_an_app_tells_before_it_ends(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    run_here(shop.store, shop.path, shop.settings, shop.queue(LightCount(steps=1)))
    trained = run_here(shop.store, shop.path, shop.settings, shop.queue(Count(steps=1)))
    assert [told["run"] for _, told in chat.told] == [trained.id]


def test_an_app_tells_in_a_thread_of_its_own(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    shop.supervise()
    job_id = shop.queue(Count(steps=1))
    shop.ended(job_id)
    shop.wait(job_id, lambda job: bool(words(shop, job)))
    assert [told["run"] for _, told in chat.told] == [job_id]


def test_a_redirect_is_not_followed(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    chat.answers = [302]
    job = ended(shop)
    assert teller(shop).tick() == 0
    assert [path for path, _ in chat.told] == ["/hook/s3cret"]
    assert words(shop, job) == [
        f"{chat.host} could not be told, tried once: it answered 302, a redirect, which is not followed. "
        "Check the address in Jobs."
    ]


def test_what_could_not_be_told_is_tried_again_and_then_given_up(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    chat.answers = [500, 200]
    job = ended(shop)
    teller(shop, 0.01, 0.01).finish()
    assert words(shop, job) == [
        f"{chat.host} could not be told: it answered 500. Tried again in 0.01 s.",
        f"Told {chat.host} that it ended.",
    ]
    chat.answers = [500, 503, 500]
    job = ended(shop)
    teller(shop, 0.01, 0.01).finish()
    assert words(shop, job)[-1].startswith(f"{chat.host} could not be told, tried 3 times: it answered 500.")


def test_a_server_that_does_not_answer_is_left_after_a_while(shop, chat, monkeypatch):
    monkeypatch.setattr("studio.jobs.telling._TRY_SECONDS", 0.2)
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    chat.waits = 1.0
    job = ended(shop)
    began = time.monotonic()
    teller(shop).tick()
    assert time.monotonic() - began < 0.9
    assert "no answer within 0.2 s" in words(shop, job)[0]


def test_a_pause_between_tries_is_kept(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    chat.answers = [500]
    ended(shop)
    patient = teller(shop, 60.0)
    assert (patient.tick(), patient.tick(), len(chat.told)) == (1, 1, 1)


def test_offline_no_other_machine_is_told(shop, chat):
    online = shop.settings.model_copy(update={"offline": False})
    with pytest.raises(InputError, match=r"chat\.example\.org cannot be told: the studio is offline"):
        set_webhook(shop.store, shop.path, shop.settings, "https://chat.example.org/x", by="owner")
    set_webhook(shop.store, shop.path, online, "https://chat.example.org/x", by="owner")
    job = ended(shop)
    assert teller(shop).tick() == 0
    assert words(shop, job) == [
        "chat.example.org was not told: the studio is offline. Set LADDER_OFFLINE=0 to allow calls to other machines."
    ]


def test_the_address_lies_locked_in_the_database(shop, chat):
    set_webhook(shop.store, shop.path, shop.settings, chat.url, by="owner")
    hook = shop.store.webhook()
    assert (hook.host, hook.author) == (chat.host, "owner")
    assert "s3cret" not in hook.locked
    assert b"s3cret" not in b"".join(file.read_bytes() for file in shop.path.glob("studio.db*"))
