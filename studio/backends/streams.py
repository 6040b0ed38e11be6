"""Several answers at once, as one stream: what a page with columns needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from studio.errors import ModelError, StudioError
from studio.specs import Chunk, Completion, FinishReason

__all__ = ["Partial", "side_by_side"]

log = logging.getLogger(__name__)

_LEAST_SECONDS_BETWEEN = 0.05  # a page gains nothing from more than 20 updates a second


@dataclass(frozen=True)
class Partial:
    """How far one answer is. `error` is a sentence when this one could not be given."""

    text: str = ""
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.finish is not None or bool(self.error)

    @property
    def completion(self) -> Completion:
        """The finished answer."""
        return Completion(
            text=self.text,
            finish=self.finish or "cancelled",
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            seconds=self.seconds,
        )


async def side_by_side(streams: Sequence[AsyncIterator[Chunk]]) -> AsyncIterator[list[Partial]]:
    """All answers as they grow; one that fails leaves the others running. Closing this closes every stream."""
    found = [Partial() for _ in streams]
    news: asyncio.Queue[tuple[int, Chunk | StudioError | None]] = asyncio.Queue()
    started = time.monotonic()

    async def pump(place: int, stream: AsyncIterator[Chunk]) -> None:
        try:
            async for chunk in stream:
                news.put_nowait((place, chunk))
            news.put_nowait((place, None))
        except StudioError as error:
            news.put_nowait((place, error))
        except Exception:  # the boundary: nobody else waits for this task, and its column would never end
            log.exception("A stream of answers failed")
            news.put_nowait((place, ModelError("The answer failed. The log of the studio has the details.")))

    tasks = [asyncio.create_task(pump(i, s)) for i, s in enumerate(streams)]
    live = len(tasks)
    try:
        while live:
            got = [await news.get()]
            while not news.empty():
                got.append(news.get_nowait())
            for place, item in got:
                if item is None or isinstance(item, StudioError):
                    live -= 1
                found[place] = _grown(found[place], item, time.monotonic() - started)
            yield list(found)
            if live:
                await asyncio.sleep(_LEAST_SECONDS_BETWEEN)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _grown(partial: Partial, item: Chunk | StudioError | None, seconds: float) -> Partial:
    if item is None:
        return replace(partial, finish=partial.finish or "stop")
    if isinstance(item, StudioError):
        return replace(partial, error=str(item))
    first = partial.first_token_seconds
    return Partial(
        text=item.text if item.replaces else partial.text + item.text,
        finish=item.finish,
        prompt_tokens=item.prompt_tokens or partial.prompt_tokens,
        output_tokens=item.output_tokens or partial.output_tokens,
        first_token_seconds=seconds if first is None and item.text else first,
        seconds=seconds,
    )
