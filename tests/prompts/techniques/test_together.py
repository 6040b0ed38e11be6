"""Many rows at once: the same answers as one by one, in fewer batches, and no row that takes others down with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import pytest

from studio.backends import Backend, Conversation, LocalBackend
from studio.engine.client import EngineClient
from studio.errors import EngineLost, InputError, ModelError, StudioError
from studio.models import Weights
from studio.prompts.techniques import Ask, Found, Row, Technique, Trace, draw_seed, row_sampling, technique, together
from studio.specs import Completion, Message, ModelRef, Sampling, user
from tests.prompts.techniques.scripted import Speaking

VOTES = technique("self-consistency", {"votes": 3})
TWO_CALLS = technique("zero-shot-chain-of-thought")


class Counting(Technique):
    """Asks as often as the question says, one call after another, and refuses 0."""

    name: ClassVar[str] = "counting"
    title: ClassVar[str] = "Counting"
    summary: ClassVar[str] = "For tests."

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        wanted = int(messages[-1].content)
        if wanted == 0:
            raise InputError("0 is refused.")
        steps = [(list(messages), await ask(messages, sampling)) for _ in range(wanted)]
        return Trace.of(str(wanted), Found(str(wanted), True, 0, 1), steps)

    def extract(self, text: str) -> Found:
        return Found.of(text, 0, len(text), strict=True)


class Chains(Technique):
    """Thinks for a while, then asks two chains of two calls side by side."""

    name: ClassVar[str] = "chains"
    title: ClassVar[str] = "Chains"
    summary: ClassVar[str] = "For tests."

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        for _ in range(20):
            await asyncio.sleep(0)

        async def chain() -> list[Completion]:
            return [await ask(messages, sampling), await ask(messages, sampling)]

        async def deeper() -> list[Completion]:
            return (await asyncio.gather(_alone(chain())))[0]

        said = [completion for part in await asyncio.gather(chain(), deeper()) for completion in part]
        return Trace.of(said[0].text, self.extract(said[0].text), [(list(messages), c) for c in said])

    def extract(self, text: str) -> Found:
        return Found.of(text, 0, len(text), strict=True)


async def _alone(work: Awaitable[list[Completion]]) -> list[Completion]:
    return (await asyncio.gather(work))[0]


def _rows(made: Technique, questions: Sequence[str], sampling: Sampling | None = None) -> list[Row]:
    return [Row(made, [user(text)], sampling or Sampling(), number) for number, text in enumerate(questions)]


def _run(backend: Backend, rows: Sequence[Row], **more: Callable[[int], None]) -> list[Trace | StudioError]:
    return asyncio.run(together(backend, rows, **more))


def _outputs(found: Sequence[Trace | StudioError]) -> list[str]:
    return [result.output if isinstance(result, Trace) else str(result) for result in found]


def _repeating(messages: Sequence[Message], sampling: Sampling) -> str:
    return f"{messages[-1].content} {sampling.seed}"


# -- batches -------------------------------------------------------------------------------------------------


def test_rows_that_wait_together_share_a_batch_in_their_order() -> None:
    backend = Speaking(_repeating)
    found = _run(backend, _rows(TWO_CALLS, ["a", "b", "c"]))
    assert [len(batch) for batch, _ in backend.batches] == [3, 3]
    assert [messages[0].content[0] for messages in backend.batches[0][0]] == ["a", "b", "c"]
    assert [output[0] for output in _outputs(found)] == ["a", "b", "c"]


def test_rows_that_need_more_calls_go_on_when_others_are_done() -> None:
    backend = Speaking(_repeating)
    found = _run(backend, _rows(Counting(), ["3", "1", "2"]))
    assert [[turns[-1].content for turns in batch] for batch, _ in backend.batches] == [
        ["3", "1", "2"],
        ["3", "2"],
        ["3"],
    ]
    assert _outputs(found) == ["3", "1", "2"]


def test_other_sampling_is_another_batch() -> None:
    backend = Speaking(_repeating)
    rows = [Row(technique("direct"), [user("q")], Sampling(max_tokens=n), n) for n in (5, 9, 5)]
    _run(backend, rows)
    assert [(len(batch), sampling.max_tokens) for batch, sampling in backend.batches] == [(2, 5), (1, 9)]


def test_all_votes_of_a_row_are_asked_in_one_round() -> None:
    backend = Speaking(_repeating)
    _run(backend, [*_rows(VOTES, ["a", "b"]), *_rows(technique("direct"), ["c"])])
    assert sorted(len(batch) for batch, _ in backend.batches) == [1] * 7


def test_sampled_calls_never_share_a_batch() -> None:
    """They would draw by their place in it; even rows of one number and seed are asked apart, and alike."""
    backend = Speaking(_repeating)
    sampling = Sampling(temperature=1.0, seed=4)
    one, other = _run(backend, [Row(technique("direct"), [user("a")], sampling, 0)] * 2)
    assert [len(batch) for batch, _ in backend.batches] == [1, 1]
    assert one == other


def test_a_row_that_is_busy_with_something_else_is_waited_for() -> None:
    backend = Speaking(_repeating)
    _run(backend, [*_rows(technique("direct"), ["a"]), *_rows(Chains(), ["b"])])
    assert [sorted(turns[-1].content for turns in batch) for batch, _ in backend.batches] == [
        ["a", "b", "b"],
        ["b", "b"],
    ]


def test_nobody_is_asked_for_no_rows() -> None:
    backend = Speaking(_repeating)
    assert _run(backend, []) == []
    assert backend.batches == []


# -- seeds ---------------------------------------------------------------------------------------------------


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    rows = _rows(VOTES, ["a", "a", "b", "c"], Sampling(seed=4))
    together_, alone = _run(Speaking(_repeating), rows), _run(Speaking(_repeating), rows[1:2])
    assert together_[1] == alone[0]


def test_every_row_repeat_and_vote_draws_its_own_numbers() -> None:
    backend = Speaking(_repeating)
    rows = [Row(VOTES, [user("a")], Sampling(seed=4), n, repeat) for n in range(5) for repeat in range(3)]
    _run(backend, rows)
    assert len({sampling.seed for _, sampling in backend.batches}) == 5 * 3 * 3


def test_another_seed_draws_other_numbers() -> None:
    one, other = (_run(Speaking(_repeating), _rows(VOTES, ["a"], Sampling(seed=s))) for s in (4, 5))
    assert _outputs(one) != _outputs(other)


def test_a_row_can_be_asked_again_alone() -> None:
    """What a page shows of a row is what `answer` gives under the row's own sampling."""
    [_, found] = _run(Speaking(_repeating), _rows(VOTES, ["a", "b"], Sampling(seed=4)))
    backend = Speaking(_repeating)

    async def ask(messages: Sequence[Message], sampling: Sampling) -> Completion:
        return (await backend.complete([messages], sampling))[0]

    assert asyncio.run(VOTES.answer(ask, [user("b")], row_sampling(Sampling(seed=4), 1))) == found


def test_seeds_fit_every_server_and_depend_on_the_whole_path() -> None:
    seeds = {draw_seed(seed, *path) for seed in (0, 1) for path in ((0,), (1,), (0, 0), (0, 1), (1, 0))}
    assert len(seeds) == 10
    assert all(0 <= seed < 2**31 for seed in seeds)


# -- what goes wrong -----------------------------------------------------------------------------------------


def test_a_row_that_is_refused_leaves_the_others_alone() -> None:
    found = _run(Speaking(_repeating), _rows(Counting(), ["2", "0", "1"]))
    assert _outputs(found) == ["2", "0 is refused.", "1"]
    assert isinstance(found[1], InputError)


def _refusing_long(messages: Sequence[Message], sampling: Sampling) -> str:
    if len(messages[0].content) > 5:
        raise ModelError(f"{messages[0].content} is too long.")
    return messages[0].content


def test_a_prompt_that_the_model_refuses_costs_the_batch_only_itself() -> None:
    found = _run(Speaking(_refusing_long), _rows(technique("direct"), ["a", "too long", "b", "much longer"]))
    assert _outputs(found) == ["a", "too long is too long.", "b", "much longer is too long."]


def test_a_lost_engine_is_not_asked_again_for_every_row() -> None:
    asked = []

    def lose(messages: Sequence[Message], sampling: Sampling) -> str:
        asked.append(messages)
        raise EngineLost("The engine died.")

    assert _outputs(_run(Speaking(lose), _rows(technique("direct"), ["a", "b", "c"]))) == ["The engine died."] * 3
    assert len(asked) == 1


def test_one_vote_that_fails_fails_its_row_with_its_sentence() -> None:
    calls = iter(range(10))

    def fail_once(messages: Sequence[Message], sampling: Sampling) -> str:
        if next(calls) == 1:
            raise ModelError("No.")
        return "The answer is 3."

    found = _run(Speaking(fail_once), _rows(VOTES, ["a", "b"]))
    assert [isinstance(result, ModelError) for result in found] == [True, False]


def test_a_mistake_in_the_code_is_no_rows_fate() -> None:
    def wrong(messages: Sequence[Message], sampling: Sampling) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _run(Speaking(wrong), _rows(technique("direct"), ["a", "b"]))


def test_a_mistake_in_a_technique_is_no_rows_fate() -> None:
    with pytest.raises(ValueError, match="many"):
        _run(Speaking(_repeating), _rows(Counting(), ["1", "many"]))


class _Hanging(Speaking):
    """Never answers, and counts the calls that are open."""

    def __init__(self) -> None:
        super().__init__(_repeating)
        self.open = 0
        self.most = 0
        self.is_asked = asyncio.Event()

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        self.open += 1
        self.most = max(self.most, self.open)
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
        return []


def test_cancelling_closes_every_call_and_every_row() -> None:
    async def cancel() -> tuple[int, int, int]:
        backend, before = _Hanging(), asyncio.all_tasks()
        work = asyncio.create_task(together(backend, _rows(VOTES, ["a", "b"]), at_once=4))
        await backend.is_asked.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        most = backend.open
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return most, backend.open, len(asyncio.all_tasks() - before)

    assert asyncio.run(cancel()) == (4, 0, 0)


def test_progress_counts_finished_rows_and_reaches_the_end() -> None:
    heard: list[int] = []
    _run(Speaking(_repeating), _rows(Counting(), ["2", "0", "1"]), on_done=heard.append)
    assert heard == sorted(set(heard))
    assert (heard[0], heard[-1]) == (1, 3)


# -- timing --------------------------------------------------------------------------------------------------


class _Shuffled(Speaking):
    """Answers after a number of turns of the loop that differs from call to call."""

    def __init__(self, pauses: Sequence[int]) -> None:
        super().__init__(_repeating)
        self._pauses = iter(pauses * 20)

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        for _ in range(next(self._pauses)):
            await asyncio.sleep(0)
        return await super().complete(batch, sampling, on_done)


@pytest.mark.parametrize("pauses", [(0,), (9, 0, 4), (1, 2, 3, 5, 8)])
def test_answers_and_batches_do_not_depend_on_timing(pauses: tuple[int, ...]) -> None:
    rows = [
        Row(made, [user(text)], Sampling(seed=4), number)
        for number, (made, text) in enumerate([(VOTES, "a"), (Chains(), "b"), (Counting(), "3"), (TWO_CALLS, "c")])
    ]
    # A chain may also draw: its calls are sent apart and come back at different times.
    rows.append(Row(Chains(), [user("d")], Sampling(seed=4, temperature=1.0), 9))
    calm, hasty = Speaking(_repeating), _Shuffled(pauses)
    assert _run(calm, rows) == _run(hasty, rows)
    assert sorted(map(str, calm.batches)) == sorted(map(str, hasty.batches))


# -- a real model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling", [Sampling(max_tokens=6), Sampling(max_tokens=6, temperature=1.0, seed=3)], ids=["greedy", "seeded"]
)
def test_a_real_model_answers_the_same_twice(engine: EngineClient, tiny_weights: Weights, sampling: Sampling) -> None:
    backend = LocalBackend(tiny_weights, engine)
    votes = technique("self-consistency", {"votes": 2, "room": 0, "temperature": 1.0})
    rows = [
        Row(made, [user(f"one two {number}")], sampling, number)
        for number, made in enumerate([technique("direct"), votes, TWO_CALLS.with_settings({"room": 0}), votes])
    ]

    async def twice() -> list[list[list[str]]]:
        found = [await together(backend, rows), await together(backend, rows)]
        return [[[c.text for c in trace.completions] for trace in run if isinstance(trace, Trace)] for run in found]

    first, second = asyncio.run(twice())
    assert first == second
    assert [len(texts) for texts in first] == [1, 2, 2, 2]
    assert len({*first[1], *first[3]}) == 4  # every vote drew for itself


def test_the_model_is_named_where_it_cannot_answer() -> None:
    [found] = _run(Backend(ModelRef("echo:mute")), _rows(technique("direct"), ["a"]))
    assert "echo:mute cannot answer a batch" in str(found)
