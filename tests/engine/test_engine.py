"""The engine process: it answers in turn, stops at once, survives nothing silently, and leaves when it is not needed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import aclosing, asynccontextmanager

import pytest

from studio.backends import LocalBackend
from studio.engine.client import EngineClient
from studio.errors import EngineLost, ModelError, StorageError
from studio.models import Weights, resolve
from studio.processes import alive, wait_until
from studio.specs import ModelRef, Sampling, user
from tests.fixtures_models import leave

pytestmark = pytest.mark.anyio

QUESTION = [user("Count to ten.")]
LONG = Sampling(max_tokens=1500)  # some seconds: the tiny model never ends an answer by itself


@pytest.fixture
def backend(engine, tiny_weights):
    return LocalBackend(tiny_weights, engine)


@asynccontextmanager
async def own_engine(settings, workspace, **changes):
    """An engine that this test may end: its own workspace, and so its own process."""
    workspace.mkdir(exist_ok=True)
    client = EngineClient(settings.model_copy(update=changes), workspace)
    try:
        yield client
    finally:
        await client.close()


def with_adapter(weights: Weights, adapter) -> Weights:
    return Weights(ModelRef("run:1"), weights.base, adapter, weights.digest, weights.window, weights.licence)


async def gone(client, seconds=10.0):
    return await asyncio.to_thread(wait_until, lambda: client.state() == "off", seconds)


async def test_an_abandoned_answer_stops_within_one_token(backend, engine):
    async with aclosing(backend.stream(QUESTION, LONG)) as answer:
        heard = [await anext(answer) for _ in range(3)]
    assert len(heard) == 3
    await backend.count_tokens(["the engine answers others"])
    await backend.next_tokens(QUESTION, 1)  # waits its turn: the abandoned work has ended now
    tokens = (await engine.status())["tokens"]
    await asyncio.to_thread(time.sleep, 0.3)
    assert (await engine.status())["tokens"] == tokens
    assert tokens < LONG.max_tokens


async def test_an_abandoned_batch_stops_too(backend, engine):
    before = (await engine.status())["tokens"]
    job = asyncio.create_task(backend.complete([QUESTION] * 64, LONG))
    while (await engine.status())["tokens"] < before + 64:
        await asyncio.sleep(0.02)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await backend.next_tokens(QUESTION, 1)
    assert (await engine.status())["tokens"] < before + 64 * LONG.max_tokens / 2


async def told(backend, name, order, sampling=LONG):
    """The whole answer and why it ended; every piece leaves its name in `order`."""
    text, finish = "", None
    async for chunk in backend.stream(QUESTION, sampling):
        order.append(name)
        text += chunk.text
        finish = chunk.finish or finish
    return text, finish


async def test_answers_take_turns_and_are_what_they_would_be_alone(engine, tiny_weights, tiny_lora, backend):
    tuned = LocalBackend(with_adapter(tiny_weights, tiny_lora), engine)
    alone = [await told(one, "", []) for one in (backend, tuned)]
    loads = (await engine.status())["loads"]
    order: list[str] = []
    together = await asyncio.gather(told(backend, "plain", order), told(tuned, "tuned", order))
    assert together == alone
    assert [finish for _, finish in together] == ["length", "length"]
    assert alone[0] != alone[1]
    last = {name: len(order) - 1 - order[::-1].index(name) for name in ("plain", "tuned")}
    assert order.index("tuned") < last["plain"]
    assert order.index("plain") < last["tuned"]
    assert (await engine.status())["loads"] == loads


async def test_the_first_adapter_may_be_put_on_while_the_base_answers(
    model_settings, tmp_path, tiny_weights, tiny_lora, backend
):
    alone = await told(backend, "", [])
    async with own_engine(model_settings, tmp_path / "own") as client:
        plain = LocalBackend(tiny_weights, client)
        tuned = LocalBackend(with_adapter(tiny_weights, tiny_lora), client)
        order: list[str] = []
        first = asyncio.create_task(told(plain, "plain", order))
        while not order:
            await asyncio.sleep(0.01)
        await told(tuned, "tuned", order, Sampling(max_tokens=20))
        assert not first.done()
        assert await first == alone


async def test_an_answer_is_finished_before_a_batch_begins(backend):
    order: list[str] = []
    answer = asyncio.create_task(told(backend, "answer", order))
    while not order:
        await asyncio.sleep(0.01)

    async def batch():
        await backend.complete([QUESTION] * 2, Sampling(max_tokens=5))
        order.append("batch")

    await asyncio.gather(answer, batch())
    assert order.index("batch") > len(order) - 3  # its last pieces may reach us after the batch's only line


async def test_whoever_came_first_is_answered_first(backend):
    order: list[str] = []
    brief = Sampling(max_tokens=60)
    first = asyncio.create_task(told(backend, "first", order, brief))
    while not order:
        await asyncio.sleep(0.01)
    rest = [asyncio.create_task(told(backend, "second", order, brief))]
    await asyncio.sleep(0.1)
    rest.append(asyncio.create_task(told(backend, "third", order, brief)))
    await asyncio.gather(first, *rest)
    assert list(dict.fromkeys(order)) == ["first", "second", "third"]


async def test_counting_and_rendering_do_not_wait_for_an_answer(backend):
    async with aclosing(backend.stream(QUESTION, LONG)) as answer:
        await anext(answer)
        assert await backend.count_tokens(["while it talks"])
        assert (await backend.render(QUESTION)).tokens
        assert await anext(answer)


async def test_adapters_answer_differently_and_share_one_loaded_base(engine, tiny_weights, tiny_lora, backend):
    tuned = LocalBackend(with_adapter(tiny_weights, tiny_lora), engine)
    sampling = Sampling(max_tokens=12)
    [plain] = await backend.complete([QUESTION], sampling)
    before = await engine.status()
    [changed] = await tuned.complete([QUESTION], sampling)
    [plain_again] = await backend.complete([QUESTION], sampling)
    [changed_again] = await tuned.complete([QUESTION], sampling)
    assert plain.text == plain_again.text != changed.text == changed_again.text
    status = await engine.status()
    assert status["loads"] == before["loads"]
    others = [adapter for adapter in before["adapters"] if adapter != str(tiny_lora)]  # of tests before this one
    assert sorted(status["adapters"]) == sorted([*others, str(tiny_lora)])


async def test_an_adapter_that_was_trained_again_is_read_again(engine, tiny_weights, tiny_folder, tmp_path, backend):
    from tests.tiny_models import save_lora

    sampling = Sampling(max_tokens=12)
    tuned = LocalBackend(with_adapter(tiny_weights, save_lora(tiny_folder, tmp_path / "lora", seed=1)), engine)
    [before] = await tuned.complete([QUESTION], sampling)
    save_lora(tiny_folder, tmp_path / "lora", seed=2)
    [after] = await tuned.complete([QUESTION], sampling)
    assert before.text != after.text


async def test_an_adapter_that_is_not_lora_answers_too(engine, tiny_weights, tiny_ia3, backend):
    sampling = Sampling(max_tokens=12)
    [base] = await backend.complete([QUESTION], sampling)
    [tuned] = await LocalBackend(with_adapter(tiny_weights, tiny_ia3), engine).complete([QUESTION], sampling)
    assert tuned.text != base.text
    assert await backend.complete([QUESTION], Sampling(max_tokens=1))


async def test_an_adapter_of_another_base_is_a_sentence_and_leaves_no_trace(
    engine, tiny_weights, tiny_lora, tmp_path, backend
):
    from safetensors.torch import load_file, save_file

    [before] = await backend.complete([QUESTION], Sampling(max_tokens=12))
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_lora, foreign)
    file = foreign / "adapter_model.safetensors"
    save_file({name: tensor.repeat(2, 2) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match="adapter of run:1 does not fit tiny"):
        await LocalBackend(with_adapter(tiny_weights, foreign), engine).complete([QUESTION], Sampling())
    [after] = await backend.complete([QUESTION], Sampling(max_tokens=12))
    assert before.text == after.text


async def test_weights_that_cannot_be_read_are_a_sentence(engine, model_settings, model_workspace, tiny_folder):
    broken = model_workspace / "models" / "broken"
    shutil.copytree(tiny_folder, broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    weights = resolve(ModelRef("dir:broken"), settings=model_settings, store=None, workspace=model_workspace)
    with pytest.raises(ModelError, match=r"weights of dir:broken in .*broken cannot be loaded"):
        await LocalBackend(weights, engine).complete([QUESTION], Sampling())


async def test_unloading_frees_the_weights_until_the_next_answer(backend, engine):
    await backend.next_tokens(QUESTION, 1)
    await engine.unload()
    assert (await engine.status())["base"] is None
    await backend.next_tokens(QUESTION, 1)
    assert (await engine.status())["base"] == str(backend.weights.base)


async def test_two_clients_that_start_at_once_share_one_engine(model_settings, tmp_path):
    async with own_engine(model_settings, tmp_path / "a") as one, own_engine(model_settings, tmp_path / "a") as two:
        assert one.state() == "off"
        await asyncio.gather(one.ensure(), two.ensure())
        first, second = await one.status(), await two.status()
        assert first["pid"] == second["pid"]
        assert one.state() == two.state() == "ready"
        await one.close()
        await asyncio.to_thread(time.sleep, 2.5)
        assert two.state() == "ready"
        assert (await two.status())["pid"] == first["pid"]
    assert await gone(one), "the engine stays although its last client left"


@pytest.fixture(scope="module")
def fragile(model_settings, tmp_path_factory):
    """An engine for the tests that end it; it leaves by itself after three idle seconds."""
    settings = model_settings.model_copy(update={"engine_idle_minutes": 3 / 60})
    client = EngineClient(settings, tmp_path_factory.mktemp("fragile"))
    yield client
    leave(client)


async def test_an_engine_killed_while_answering_is_a_sentence_and_the_next_question_is_answered(fragile, tiny_weights):
    backend = LocalBackend(tiny_weights, fragile)
    answer = backend.stream(QUESTION, LONG)
    await anext(answer)
    os.kill((await fragile.status())["pid"], signal.SIGKILL)
    with pytest.raises(EngineLost, match=r"stopped while answering \(killed by signal 9.*ask again"):
        _ = [chunk async for chunk in answer]
    [answer] = await backend.complete([QUESTION], Sampling(max_tokens=3))
    assert answer.output_tokens == 3


async def test_an_engine_killed_between_questions_is_not_even_noticed(fragile, tiny_weights):
    backend = LocalBackend(tiny_weights, fragile)
    await fragile.ensure()
    os.kill((await fragile.status())["pid"], signal.SIGKILL)
    assert await gone(fragile)
    assert await backend.count_tokens(["hello"])


async def test_an_unused_engine_leaves(fragile):
    await fragile.ensure()
    assert fragile.state() in ("ready", "busy")
    assert await gone(fragile)
    assert not alive(fragile.folder / "engine.lock")


async def test_a_runtime_folder_that_others_can_enter_is_refused(model_settings, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    runtime.chmod(0o755)
    async with own_engine(model_settings, tmp_path / "d", runtime=runtime) as client:
        with pytest.raises(StorageError, match="not private to this user"):
            await client.ensure()


async def test_socket_and_folder_are_private(backend, engine):
    await engine.ensure()
    assert engine.folder.stat().st_mode & 0o777 == 0o700
    assert len(str(engine.folder / "engine.sock")) < 107
