"""Several answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from studio.backends import EchoBackend, Partial, side_by_side
from studio.errors import ModelError
from studio.specs import Chunk, Sampling, user

pytestmark = pytest.mark.anyio


async def slowly(*words: str, fail: str = "", log: list[str] | None = None) -> AsyncIterator[Chunk]:
    try:
        for word in words:
            await asyncio.sleep(0.01)
            yield Chunk(text=word)
        if fail:
            raise ModelError(fail)
        yield Chunk(text="", finish="stop", prompt_tokens=3, output_tokens=len(words))
    finally:
        if log is not None:
            log.append("closed")


async def all_of(streams) -> list[list[Partial]]:
    return [partials async for partials in side_by_side(streams)]


async def test_answers_grow_beside_each_other():
    seen = await all_of([slowly("a", "b", "c"), slowly("x", "y")])
    assert [p.text for p in seen[-1]] == ["abc", "xy"]
    assert all(p.finish == "stop" for p in seen[-1])
    assert all(p.first_token_seconds is not None for p in seen[-1])
    assert any(p[0].text and p[1].text and not p[0].is_over for p in seen)


async def test_one_that_fails_leaves_the_other_running():
    *_, last = await all_of([slowly("a", fail="The engine stopped."), slowly("x", "y", "z")])
    assert last[0].error == "The engine stopped."
    assert last[0].text == "a"
    assert last[1].completion.text == "xyz"


async def test_a_fault_of_ours_ends_its_own_answer_with_a_sentence():
    async def broken() -> AsyncIterator[Chunk]:
        yield Chunk(text="a")
        raise ZeroDivisionError

    *_, last = await all_of([broken(), slowly("x", "y", "z")])
    assert last[0].error == "The answer failed. The log of the studio has the details."
    assert last[1].completion.text == "xyz"


async def test_closing_it_closes_every_stream():
    log: list[str] = []
    stream = side_by_side([slowly("a", "b", "c", "d", log=log), slowly(*"xyzuvw", log=log)])
    await anext(stream)
    await stream.aclose()
    assert log == ["closed", "closed"]


async def test_updates_are_gathered_so_that_a_page_can_follow():
    words = [str(i) for i in range(300)]

    async def at_once() -> AsyncIterator[Chunk]:
        for word in words:
            yield Chunk(text=word)

    seen = await all_of([at_once()])
    assert len(seen) < 10
    assert seen[-1][0].text == "".join(words)


async def test_it_takes_any_backend():
    *_, last = await all_of([EchoBackend().stream([user("hello there")], Sampling())])
    assert "hello there" in last[0].text
    assert last[0].output_tokens > 0
