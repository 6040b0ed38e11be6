"""How other processes reach the engine: started when first needed, asked over its socket, started again when it died.

No torch here: this is what the page process imports.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx

from studio import errors
from studio.errors import EngineLost, ModelError, StorageError, StudioError
from studio.processes import Lock, alive, spawn
from studio.settings import Settings

__all__ = ["EngineClient", "EngineState"]

EngineState = Literal["off", "loading", "ready", "busy"]

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
# OpenMP's threads wait for each other by spinning. When a run uses the same cores, the default of 300,000 turns wastes
# whole time slices: an answer fell from 45 to 3 tokens a second beside two busy processes, with this to 25.
_ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError)


class EngineClient:
    """One process's way to a workspace's engine. Holding it open is what keeps the engine alive."""

    def __init__(self, settings: Settings, workspace: Path) -> None:
        self._settings = settings
        self._name = hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:12]
        self._membership: Lock | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where the socket, the locks and the log of this workspace's engine are."""
        return self._settings.runtime / self._name

    def state(self) -> EngineState:
        """What the engine is doing now. Asks nobody and starts nothing: cheap enough for every page."""
        if not alive(self.folder / "engine.lock"):
            return "off"
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))["state"]
        except (FileNotFoundError, ValueError, KeyError):
            return "loading"
        return state if state in ("ready", "busy") else "loading"

    async def ensure(self) -> None:
        """Return when an engine answers, starting one when none does."""
        self._join()
        if self._child is not None and self._child.poll() is not None:
            self._child = None  # that one lived and died before; only a child started below can fail to start
        deadline = time.monotonic() + _START_SECONDS
        while not await self._answers():
            if time.monotonic() > deadline:
                raise EngineLost(
                    f"The engine did not answer within {_START_SECONDS:.0f} s. Its log is {self._log}. Ask again."
                )
            if not alive(self.folder / "engine.lock"):
                self._start()
            await asyncio.sleep(_POLL_SECONDS)

    async def status(self) -> dict[str, Any]:
        """Facts about the running engine: process number, dtype, what is loaded, tokens decoded so far."""
        return dict(await self.call("status", {}))

    async def unload(self) -> None:
        """Free the weights' memory; the next answer loads them again."""
        if self.state() != "off":
            await self.call("unload", {})

    async def shutdown(self) -> None:
        """End the engine now, for everybody; the next answer starts it again."""
        if self.state() != "off":
            await self.call("shutdown", {})

    async def call(self, verb: str, question: dict[str, Any]) -> Any:
        """One question, one answer."""
        async with self._asked(verb, question) as response:
            await response.aread()
            return response.json()

    async def lines(self, verb: str, question: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """One question, an answer line by line. Closing the generator stops the engine's work within one token."""
        async with self._asked(verb, question) as response:
            ended = False
            async for text in response.aiter_lines():
                line = json.loads(text)
                if "error" in line:
                    raise _error(line["error"])
                ended = bool(line.pop("last", False))
                yield line
            if not ended:
                raise httpx.RemoteProtocolError("the answer was cut off")

    async def close(self) -> None:
        """Leave. The engine ends by itself when its last client has left."""
        if self._membership is not None:
            self._membership.release()
            self._membership = None
        if self._child is not None:
            self._child.poll()

    @property
    def _log(self) -> Path:
        return self.folder / "engine.log"

    @asynccontextmanager
    async def _asked(self, verb: str, question: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        self._join()
        try:
            async with self._http() as http:
                request = http.build_request("POST", f"/{verb}", json=question)
                try:
                    response = await http.send(request, stream=True)
                except httpx.ConnectError:
                    await self.ensure()
                    response = await http.send(request, stream=True)
                try:
                    if response.is_error:
                        await response.aread()
                        raise _refusal(response)
                    yield response
                finally:
                    await response.aclose()
        except _BROKEN as error:
            raise EngineLost(await self._obituary()) from error

    def _http(self) -> httpx.AsyncClient:
        # One per question: a connection belongs to the event loop it was made in, and clients live in several.
        socket = httpx.AsyncHTTPTransport(uds=str(self.folder / "engine.sock"), verify=False)
        timeout = httpx.Timeout(None, connect=5.0)
        return httpx.AsyncClient(transport=socket, base_url="http://engine", timeout=timeout, trust_env=False)

    async def _answers(self) -> bool:
        try:
            async with self._http() as http:
                response = await http.post("/status", json={}, timeout=10.0)
            return response.is_success
        except httpx.TransportError:
            return False

    def _join(self) -> None:
        if self._membership is None:
            _private_folder(self._settings.runtime)
            _private_folder(self.folder)
            # An engine that is just leaving holds this lock until it is gone.
            self._membership = Lock.take(self.folder / "clients.lock", shared=True, wait=15.0)
        if self._membership is None:
            raise EngineLost(f"The engine in {self.folder} is ending but does not end. Kill its process and ask again.")

    def _start(self) -> None:
        """Start a process, unless ours is still on its way. It ends at once when another one was first."""
        code = self._child.poll() if self._child is not None else 0
        if code is None:
            return
        if code != 0 and self._child is not None:
            self._child = None
            raise EngineLost(
                f"The engine did not start ({_ending(code)}). {self._last_words()} Its log is {self._log}."
            )
        argv = [sys.executable, "-m", "studio.engine", "--folder", str(self.folder)]
        argv += ["--idle-minutes", str(self._settings.engine_idle_minutes)]
        if self._settings.threads is not None:
            argv += ["--threads", str(self._settings.threads)]
        self._log.unlink(missing_ok=True)
        self._child = spawn(argv, self._log, env={**_ENVIRONMENT, **os.environ, **_OFFLINE})

    async def _obituary(self) -> str:
        """Why the connection broke, as far as it can be known from here."""
        cause = "its process ended"
        if self._child is not None:
            for _ in range(40):  # its end reaches us a moment after the broken connection does
                if self._child.poll() is not None:
                    break
                await asyncio.sleep(_POLL_SECONDS)
            code = self._child.poll()
            if code is not None:
                cause = _ending(code)
                self._child = None
        return f"The engine stopped while answering ({cause}). It restarts by itself: ask again."

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"It said: {lines[-1]}." if lines else "It said nothing."


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed by signal 9, perhaps because the machine ran out of memory"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _refusal(response: httpx.Response) -> StudioError:
    try:
        return _error(response.json()["error"])
    except (ValueError, KeyError):
        return ModelError(f"The engine failed with status {response.status_code}. Its log says why.")


def _error(report: dict[str, str]) -> StudioError:
    kind = getattr(errors, report["kind"]) if report["kind"] in errors.__all__ else ModelError
    return kind(report["message"])


def _private_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, or refuse one that somebody else could have prepared."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be made ({error.strerror}). Set LADDER_RUNTIME to a private folder."
        ) from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise StorageError(
            f"{folder} is not private to this user, so a stranger could listen in. "
            f"Remove it, or set LADDER_RUNTIME to a folder of your own with mode 0700."
        )
