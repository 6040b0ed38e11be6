"""Many rows at once: each row is one question answered by one technique, and calls that wait at the same time share a batch.

All rows go forward in rounds: once every row that is not done waits for an answer, what they wait for is sent. Which calls
meet in a batch is therefore decided by the rows alone, never by how long anything takes, and the answers are the same in
every run. Sampled calls are sent one by one, several at a time: in a batch they would draw by their place in it, and with
it by what other rows ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from studio.backends import Backend
from studio.errors import EngineLost, StudioError
from studio.prompts.techniques.base import Ask, Technique, Trace, draw_seed
from studio.specs import Completion, Message, Sampling

__all__ = ["Row", "row_sampling", "together"]


@dataclass(frozen=True)
class Row:
    """One question. `number` and `repeat` choose its random numbers: keep them when rows are asked in portions, or anew."""

    technique: Technique
    messages: Sequence[Message]
    sampling: Sampling
    number: int
    repeat: int = 0


def row_sampling(sampling: Sampling, number: int, repeat: int = 0) -> Sampling:
    """The sampling that a row is asked with: its own seed, which depends on seed, row and repeat and on nothing else."""
    return sampling.model_copy(update={"seed": draw_seed(sampling.seed, number, repeat)})


async def together(
    backend: Backend, rows: Sequence[Row], *, at_once: int = 8, on_done: Callable[[int], None] | None = None
) -> list[Trace | StudioError]:
    """How each row was answered, in their order, or the error that it met; the other rows go on then.

    At most `at_once` calls of the backend are open at a time; `on_done` hears how many rows are finished. Cancelling this
    cancels every row and every open call. The backend stays open.
    """
    desk = _Desk(backend, at_once)
    tasks = [asyncio.create_task(_answered(row, desk.seat(place, row))) for place, row in enumerate(rows)]
    for task in tasks:
        task.add_done_callback(lambda _: desk.news.set())
    try:
        told = 0
        while told < len(tasks):
            await desk.news.wait()
            desk.news.clear()
            live = [place for place, task in enumerate(tasks) if not _is_over(task)]
            if on_done is not None and len(tasks) - len(live) > told:
                on_done(len(tasks) - len(live))
            told = len(tasks) - len(live)
            if live and desk.all_wait(live):
                await desk.serve()
        return [task.result() for task in tasks]
    finally:
        await _closed(tasks)


@dataclass(frozen=True)
class _Call:
    row: int
    messages: Sequence[Message]
    sampling: Sampling
    reply: asyncio.Future[Completion]


class _Desk:
    """Where the rows' calls wait until they are sent."""

    def __init__(self, backend: Backend, at_once: int) -> None:
        self.news = asyncio.Event()
        self._backend = backend
        self._open = asyncio.Semaphore(at_once)
        self._calls: list[_Call] = []

    def seat(self, place: int, row: Row) -> Ask:
        """The `Ask` of one row."""

        async def ask(messages: Sequence[Message], sampling: Sampling) -> Completion:
            if sampling.temperature == 0:  # draws nothing, so that all rows may have one seed and share a batch
                sampling = sampling.model_copy(update={"seed": row.sampling.seed})
            call = _Call(place, list(messages), sampling, asyncio.get_running_loop().create_future())
            self._calls.append(call)
            self.news.set()
            return await call.reply

        return ask

    def all_wait(self, rows: Sequence[int]) -> bool:
        return {call.row for call in self._calls if not call.reply.done()}.issuperset(rows)

    async def serve(self) -> None:
        """Send all that waits: greedy calls of equal sampling as one batch, in the order of the rows."""
        await self._settled()
        waiting = sorted((call for call in self._calls if not call.reply.done()), key=lambda call: call.row)
        self._calls = []
        batches: dict[object, list[_Call]] = {}
        for place, call in enumerate(waiting):
            batches.setdefault(call.sampling if call.sampling.temperature == 0 else place, []).append(call)
        await _all_of([self._send(batch) for batch in batches.values()])

    async def _settled(self) -> None:
        """A row may be about to ask more at the same time, such as for all its votes: wait until no further call comes."""
        known = -1
        while known != len(self._calls):
            known = len(self._calls)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _send(self, batch: Sequence[_Call]) -> None:
        try:
            async with self._open:
                answers = await self._backend.complete([call.messages for call in batch], batch[0].sampling)
        except StudioError as error:
            if len(batch) == 1 or isinstance(error, EngineLost):
                _fail(batch, error)
            else:  # one row may be at fault (a prompt too long, say): it alone is to fail
                await _all_of([self._send([call]) for call in batch])
            return
        for call, answer in zip(batch, answers, strict=True):
            if not call.reply.done():
                call.reply.set_result(answer)


async def _answered(row: Row, ask: Ask) -> Trace | StudioError:
    try:
        return await row.technique.answer(ask, row.messages, row_sampling(row.sampling, row.number, row.repeat))
    except StudioError as error:
        return error


def _fail(batch: Sequence[_Call], error: StudioError) -> None:
    for call in batch:
        if not call.reply.done():
            call.reply.set_exception(error)


def _is_over(task: asyncio.Task[Any]) -> bool:
    """Whether the row is done; a mistake in a technique's code is raised here rather than kept as its row's fate."""
    if task.done():
        task.result()
    return task.done()


async def _all_of(sendings: Sequence[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(sending) for sending in sendings]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _closed(tasks)


async def _closed(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
