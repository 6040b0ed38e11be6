"""Telling another program when a training run ends: one POST of a few facts to an address that the owner set.

A thread beside the supervisor does it, never a page. Redirects are not followed, a try takes five seconds at most, and
what could not be told is tried again a few times; what came of it stands among the job's events. An address inside the
own network is allowed on purpose: chat servers are there. So only an owner may set it, and while the studio is offline
only an address on this machine is told anything.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from studio import __version__
from studio.errors import InputError, StudioError
from studio.offline import is_this_machine
from studio.settings import Settings
from studio.store import Notice, Store
from studio.store.secret import Vault

__all__ = ["Teller", "set_webhook"]

log = logging.getLogger(__name__)

_BOUND_TO = "webhook"
_TRY_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_PAUSES = (5.0, 30.0, 120.0)  # between the tries
_OFFLINE = "the studio is offline. Set LADDER_OFFLINE=0 to allow calls to other machines"


def set_webhook(store: Store, workspace: Path, settings: Settings, url: str, *, by: str) -> None:
    """Tell the ends of training runs at this address; '' tells them nowhere. Who may do so is for the caller to check."""
    url = url.strip()
    if not url:
        store.set_webhook("", "", author=by)
        return
    host = _host(url)
    if settings.offline and not is_this_machine(urlsplit(url).hostname):
        raise InputError(f"{host} cannot be told: {_OFFLINE}, or give an address on this machine.")
    store.set_webhook(Vault(workspace).lock(url, _BOUND_TO), host, author=by)


class Teller:
    """Tells what this host's runs have to tell."""

    def __init__(
        self, store: Store, workspace: Path, settings: Settings, host: str, pauses: Sequence[float] = _PAUSES
    ) -> None:
        self._store, self._workspace, self._settings, self._host = store, workspace, settings, host
        self._pauses = pauses
        self._due: dict[int, float] = {}  # notice -> when to try again, by the monotonic clock
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look for what is to be told, in a thread of its own."""
        self._thread = threading.Thread(target=self._look_for_ever, name="teller", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking. What was not told is told by the next one."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=_TRY_SECONDS + 1)

    def tick(self) -> int:
        """Try what is due; how many notices are left."""
        left = 0
        for notice in self._store.notices(self._host):
            if time.monotonic() < self._due.get(notice.id, 0.0) or not self._store.take_notice(notice):
                left += 1
            else:
                left += not self._try(notice)
        return left

    def finish(self) -> None:
        """Try until there is nothing left to tell: for a command that ends afterwards."""
        while self.tick() and not self._closing.wait(min((_LOOK_SECONDS, *self._pauses))):
            pass

    def _look_for_ever(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self.tick()
            except StudioError as error:
                log.warning("Ends of runs are not told yet: %s", error)
            except Exception:
                log.exception("The teller stumbled and goes on.")

    def _try(self, notice: Notice) -> bool:
        """Whether that was the last try, for better or worse."""
        webhook = self._store.webhook()
        if webhook is None:
            self._store.settle_notice(notice, "Not told: there is no address any more.", is_over=True)
            return True
        try:
            url = Vault(self._workspace).unlock(webhook.locked, _BOUND_TO)
        except StudioError as error:
            self._store.settle_notice(
                notice, f"Not told: the address cannot be read. {error} Set it anew.", is_over=True
            )
            return True
        if self._settings.offline and not is_this_machine(urlsplit(url).hostname):
            self._store.settle_notice(notice, f"{webhook.host} was not told: {_OFFLINE}.", is_over=True)
            return True
        wrong = _post(url, notice.payload)
        if not wrong:
            self._store.settle_notice(notice, f"Told {webhook.host} that it ended.", is_over=True)
            return True
        if notice.tries >= len(self._pauses):
            times = "once" if notice.tries == 0 else f"{notice.tries + 1} times"
            sentence = f"{webhook.host} could not be told, tried {times}: {wrong}. Check the address in Jobs."
            self._store.settle_notice(notice, sentence, is_over=True)
            return True
        pause = self._pauses[notice.tries]
        self._due[notice.id] = time.monotonic() + pause
        self._store.settle_notice(
            notice, f"{webhook.host} could not be told: {wrong}. Tried again in {pause:g} s.", is_over=False
        )
        return False


def _host(url: str) -> str:
    """Host and port of an address that may be told; raises InputError saying what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"That is not an address ({error}). Give one like https://chat.example.org/hook.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError("The address must begin with https:// or http:// and name a host.")
    if parts.username or parts.password:
        raise InputError("The address holds a name or password before the host. Use an address that needs none there.")
    return parts.netloc


def _post(url: str, payload: dict[str, Any]) -> str:
    """What went wrong, in a few words without the address; '' when it was taken."""

    async def post() -> str:
        async with (
            httpx.AsyncClient(
                follow_redirects=False,
                timeout=_TRY_SECONDS,
                # A proxy that the environment names would see what is meant for this machine.
                trust_env=not is_this_machine(urlsplit(url).hostname),
            ) as client,
            client.stream("POST", url, json=payload, headers={"user-agent": f"ladder-studio/{__version__}"}) as answer,
        ):
            if answer.is_redirect:
                return f"it answered {answer.status_code}, a redirect, which is not followed"
            return "" if answer.is_success else f"it answered {answer.status_code}"

    try:
        return asyncio.run(asyncio.wait_for(post(), _TRY_SECONDS))
    except TimeoutError:
        return f"no answer within {_TRY_SECONDS:g} s"
    except httpx.TimeoutException:
        return f"no answer within {_TRY_SECONDS:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"no connection ({type(error).__name__})"
