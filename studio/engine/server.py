"""The engine's endpoints, its queue, and when it goes.

All work with weights is done in one thread, in order of arrival. A batch lets others in between its chunks; answers
that people watch take turns every few tokens, so that all of them move. What needs only a tokenizer runs in a second
thread and waits for nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from studio.engine.answers import Emit, Speaker, chunks
from studio.engine.constraints import Grammars
from studio.engine.marks import marks, spelled
from studio.engine.shelf import Shelf, Tokenizers
from studio.errors import ModelError, StudioError
from studio.models import Weights
from studio.processes import Lock
from studio.specs import Message, ModelRef, Sampling
from studio.training.conversation import encode_example, encode_prompt, render, stop_ids
from studio.training.decode import Constraint
from studio.training.loading import best_device, best_dtype
from studio.training.reward import RewardHead

__all__ = ["Engine"]

T = TypeVar("T")

_WATCH_SECONDS = 1.0
_TURN_SECONDS = 0.25
_LAST_LINE: dict[str, Any] = {}


class Engine:
    """Everything one engine process has: the queue, the two threads, the shelf, and the watch over its clients."""

    def __init__(self, folder: Path, idle_seconds: float, threads: int | None, leave: Callable[[], None]) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._shelf = Shelf(best_device(), best_dtype())
        self._tokenizers = Tokenizers()
        self._grammars = Grammars()
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._leave = leave
        self._turn = asyncio.Lock()
        self._waiting: list[Weights | None] = []  # who wants a turn; None is work that takes long
        self._work = ThreadPoolExecutor(1, "work")
        self._desk = ThreadPoolExecutor(1, "desk")
        self._tokens = 0
        self._open = 0
        self._last_used = time.monotonic()
        self._parting: Lock | None = None

    def app(self) -> Starlette:
        verbs: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "logprobs": self._logprobs,
            "next_tokens": self._next_tokens,
            "embed": self._embed,
            "score": self._score,
            "render": self._render,
            "marks": self._marks,
            "tokens": self._tokens_of,
            "count": self._count,
            "status": self._status,
            "unload": self._unload,
            "shutdown": self._shutdown,
        }
        routes = [Route(f"/{name}", self._plain(verb), methods=["POST"]) for name, verb in verbs.items()]
        routes += [
            Route("/stream", self._lines(self._stream), methods=["POST"]),
            Route("/complete", self._lines(self._complete), methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    # -- answers, line by line --------------------------------------------------------------------------------

    async def _stream(self, question: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        weights, sampling = _weights(question), Sampling(**question["sampling"])
        [prompt] = await self._prompts(weights, [question["messages"]])

        answer: Iterator[dict[str, Any]] | None = None
        begun_with: Any = None
        ended = False

        def work(speaker: Speaker, emit: Emit) -> None:
            """Go on with the answer until it ends, or until its turn is over and another may have one."""
            nonlocal answer, begun_with, ended
            if answer is None:
                answer, begun_with = speaker.stream(prompt, sampling), speaker.model.config
            elif begun_with is not speaker.model.config:  # a base that was read again
                raise ModelError(f"{weights.ref} was put away before it had answered. Ask again.")
            until = time.monotonic() + _TURN_SECONDS
            for line in answer:
                if line["text"] or "last" in line:
                    emit(line)
                if speaker.cancelled() or (time.monotonic() > until and self._may_give_way(weights)):
                    return
            ended = True

        while not ended:
            async with self._turn_of(weights), aclosing(self._spoken(weights, work)) as lines:
                async for line in lines:
                    yield line

    async def _complete(self, question: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        weights, sampling = _weights(question), Sampling(**question["sampling"])
        prompts = await self._prompts(weights, question["batch"])
        answers: list[dict[str, Any]] = [{} for _ in prompts]
        done = 0
        for places in chunks([len(prompt) for prompt in prompts], sampling.max_tokens):

            def work(speaker: Speaker, emit: Emit, places: list[int] = places) -> None:
                emit({"rows": speaker.complete([prompts[place] for place in places], places, sampling)})

            async with self._turn_of(None), aclosing(self._spoken(weights, work)) as lines:
                async for line in lines:
                    for place, answer in zip(places, line["rows"], strict=True):
                        answers[place] = answer
            done += len(places)
            yield {"done": done}
        yield {"answers": answers, "last": True}

    async def _spoken(
        self, weights: Weights, work: Callable[[Speaker, Emit], None]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Run work with a loaded model in the work thread and yield what it emits; abandoned, it stops the work."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        cancelled = threading.Event()

        def run() -> None:
            try:
                with self._speaker(weights, cancelled) as speaker:
                    work(speaker, lambda line: _post(loop, lines, line))
            finally:
                _post(loop, lines, _LAST_LINE)

        self._tell("busy" if self._holds(weights) else "loading")
        job = loop.run_in_executor(self._work, run)
        try:
            while (line := await lines.get()) is not _LAST_LINE:
                yield line
            await job
        finally:
            cancelled.set()
            # Shielded: the next in line may only begin when this thread is free, and a vanished client's
            # cancellation would otherwise be raised again at this await.
            with anyio.CancelScope(shield=True):
                await asyncio.wait([job])
            self._tell("ready")

    # -- probabilities and vectors ------------------------------------------------------------------------------

    async def _logprobs(self, question: dict[str, Any]) -> Any:
        weights = _weights(question)
        [prompt] = await self._prompts(weights, [question["messages"]])
        return await self._asked(
            weights, lambda speaker: speaker.logprobs(prompt, question["continuation"], question["top"]), brief=True
        )

    async def _next_tokens(self, question: dict[str, Any]) -> Any:
        weights = _weights(question)
        [prompt] = await self._prompts(weights, [question["messages"]])
        return await self._asked(weights, lambda speaker: speaker.next_tokens(prompt, question["k"]), brief=True)

    async def _embed(self, question: dict[str, Any]) -> Any:
        return await self._asked(_weights(question), lambda speaker: speaker.embed(question["texts"]))

    async def _score(self, question: dict[str, Any]) -> Any:
        weights = _weights(question)
        if weights.adapter is None:
            raise ModelError(f"{weights.ref} has no reward head. Choose a run of the recipe `reward`.")
        head = RewardHead.load(weights.adapter).to(self._shelf.device)
        conversations = [_messages(turns) for turns in question["conversations"]]

        def encode() -> list[list[int]]:
            tokenizer = self._tokenizers.of(weights)
            return [encode_example(tokenizer, turns).ids for turns in conversations]

        rows = await self._at_desk(encode)
        return await self._asked(weights, lambda speaker: speaker.score(rows, head))

    async def _asked(self, weights: Weights, work: Callable[[Speaker], T], *, brief: bool = False) -> T:
        found: list[T] = []

        def keep(speaker: Speaker, emit: Emit) -> None:
            found.append(work(speaker))

        async with self._turn_of(weights if brief else None), aclosing(self._spoken(weights, keep)) as lines:
            async for _ in lines:
                pass
        return found[0]

    @asynccontextmanager
    async def _turn_of(self, brief: Weights | None) -> AsyncGenerator[None, None]:
        """Wait for a turn: first come, first served. `brief` are the weights of work that answers can give way to."""
        self._waiting.append(brief)
        try:
            await self._turn.acquire()
        finally:
            self._waiting.remove(brief)
        try:
            yield
        finally:
            self._turn.release()

    def _may_give_way(self, weights: Weights) -> bool:
        """Whether everybody who waits is soon done, with the base that is loaded; else an answer is finished first."""
        waiting = list(self._waiting)
        return bool(waiting) and all(w is not None and _base_of(w) == _base_of(weights) for w in waiting)

    # -- tokenizer only ------------------------------------------------------------------------------------------

    async def _render(self, question: dict[str, Any]) -> Any:
        weights, messages = _weights(question), _messages(question["messages"])

        def work() -> dict[str, Any]:
            tokenizer = self._tokenizers.of(weights)
            text = render(tokenizer, messages, add_generation_prompt=True)
            return {"text": text, "tokens": len(encode_prompt(tokenizer, messages)), "window": weights.window}

        return await self._at_desk(work)

    async def _marks(self, question: dict[str, Any]) -> Any:
        weights, messages, most = _weights(question), _messages(question["messages"]), int(question["most"])
        return await self._at_desk(lambda: marks(self._tokenizers.of(weights), messages, most))

    async def _tokens_of(self, question: dict[str, Any]) -> Any:
        weights, messages = _weights(question), _messages(question["messages"])

        def work() -> list[tuple[str, int]]:
            tokenizer = self._tokenizers.of(weights)
            ids = encode_prompt(tokenizer, messages)
            return list(zip(spelled(tokenizer, ids), ids, strict=True))

        return await self._at_desk(work)

    async def _count(self, question: dict[str, Any]) -> Any:
        weights, texts = _weights(question), question["texts"]

        def work() -> list[int]:
            encoded = self._tokenizers.of(weights)(texts, add_special_tokens=False)["input_ids"]
            return [len(ids) for ids in encoded]

        return await self._at_desk(work) if texts else []

    async def _prompts(self, weights: Weights, batch: list[list[dict[str, str]]]) -> list[list[int]]:
        """The prompts' tokens; one that is too long is refused here, before anybody waits for it."""

        def work() -> list[list[int]]:
            tokenizer = self._tokenizers.of(weights)
            return [encode_prompt(tokenizer, _messages(messages)) for messages in batch]

        prompts = await self._at_desk(work)
        for number, prompt in enumerate(prompts, 1):
            if len(prompt) > weights.window - 1:
                which = f"Prompt {number} of {len(prompts)}" if len(prompts) > 1 else "The prompt"
                raise ModelError(
                    f"{which} has {len(prompt)} tokens; {weights.ref} reads at most {weights.window - 1}. "
                    "Shorten it, or drop examples or documents."
                )
        return prompts

    async def _at_desk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._desk, work)

    # -- the process itself ----------------------------------------------------------------------------------------

    async def _status(self, _: dict[str, Any]) -> Any:
        return {"pid": os.getpid(), "tokens": self._tokens, "waiting": self._open, **self._shelf.holdings()}

    async def _unload(self, _: dict[str, Any]) -> Any:
        async with self._turn_of(None):
            await asyncio.get_running_loop().run_in_executor(self._work, self._shelf.clear)
        return {}

    async def _shutdown(self, _: dict[str, Any]) -> Any:
        self._leave()
        return {}

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[None, None]:
        self._tell("ready")
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()

    async def _watch(self) -> None:
        """Leave when nobody asked for long, or when no client process is left."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            idle = not self._open and time.monotonic() - self._last_used > self._idle_seconds
            # Kept once taken: a client that comes now waits until this process is gone, and starts another.
            self._parting = self._parting or Lock.take(self._folder / "clients.lock")
            if idle or self._parting is not None:
                self._leave()
                return

    @contextmanager
    def _speaker(self, weights: Weights, cancelled: threading.Event) -> Iterator[Speaker]:
        with self._shelf.model(weights) as model:
            self._tell("busy")
            tokenizer = self._tokenizers.of(weights)

            def constrain(schema: str) -> Constraint:
                return self._grammars.constraint(schema, weights.base, tokenizer, stop_ids(tokenizer))

            yield Speaker(model, tokenizer, weights.window, self._heard, cancelled.is_set, constrain)

    def _holds(self, weights: Weights) -> bool:
        return self._shelf.holdings()["base"] == str(weights.base)

    def _heard(self) -> None:
        self._tokens += 1

    def _tell(self, state: str) -> None:
        """What pages show. A file, so that looking costs a page nothing and never waits for us."""
        path = self._folder / "state.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"state": state}), encoding="utf-8")
        temporary.replace(path)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._last_used = time.monotonic()

    def _plain(self, verb: Callable[[dict[str, Any]], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that answers with one JSON value."""

        async def endpoint(request: Request) -> Response:
            question = await request.json()
            try:
                if verb == self._status:  # looking is not using
                    return JSONResponse(await verb(question))
                with self._in_use():
                    return JSONResponse(await verb(question))
            except Exception as error:  # the boundary: whatever happens, the caller gets a sentence
                return JSONResponse({"error": self._report(error)}, status_code=400)

        return endpoint

    def _lines(
        self, verb: Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that answers line by line and stops working when its caller hangs up."""

        async def endpoint(request: Request) -> Response:
            return _LineResponse(self._guarded(verb(await request.json())))

        return endpoint

    async def _guarded(self, lines: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[dict[str, Any], None]:
        with self._in_use():
            try:
                async with aclosing(lines):
                    async for line in lines:
                        yield line
            except Exception as error:  # the boundary, as above
                yield {"error": self._report(error)}

    def _report(self, error: Exception) -> dict[str, str]:
        if isinstance(error, StudioError):
            return {"kind": type(error).__name__, "message": str(error)}
        traceback.print_exception(error)
        reason = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in reason:
            self._shelf.clear()
            message = (
                "The engine ran out of memory. Cancel a running job, shorten the prompt or choose a smaller model."
            )
        else:
            message = f"The engine failed ({type(error).__name__}: {reason}). Its log is {self._folder / 'engine.log'}."
        return {"kind": "ModelError", "message": message}


class _LineResponse(Response):
    """JSON lines. Unlike Starlette's own streaming it closes its source before it returns, so that work ends at once."""

    def __init__(self, lines: AsyncGenerator[dict[str, Any], None]) -> None:
        super().__init__(media_type="application/x-ndjson")
        self._source = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source) as lines, anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for line in lines:
                await send({"type": "http.response.body", "body": json.dumps(line).encode() + b"\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _post(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[dict[str, Any]], line: dict[str, Any]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process is leaving and nobody reads on
        loop.call_soon_threadsafe(lines.put_nowait, line)


def _base_of(weights: Weights) -> tuple[Path, str]:
    return weights.base, weights.digest


def _weights(question: dict[str, Any]) -> Weights:
    fields = question["weights"]
    return Weights(
        ref=ModelRef(fields["ref"]),
        base=Path(fields["base"]),
        adapter=Path(fields["adapter"]) if fields["adapter"] else None,
        digest=fields["digest"],
        window=fields["window"],
        licence="",
    )


def _messages(turns: list[dict[str, str]]) -> list[Message]:
    return [Message.model_validate(turn) for turn in turns]
