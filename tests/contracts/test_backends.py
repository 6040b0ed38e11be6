"""What every backend promises, held against each: echo, and the engine with a tiny random model."""

from __future__ import annotations

import math

import pytest

from studio.backends import EchoBackend, LocalBackend, RemoteBackend, open_backend
from studio.errors import ModelError, Unsupported
from studio.models.endpoints import Opened
from studio.specs import ModelRef, Sampling, assistant, system, user
from studio.store import Endpoint, Price, ServedModel
from tests.backends.servers import parrot, playing

pytestmark = pytest.mark.anyio

QUESTION = [system("Be brief."), user("one two three four five six seven eight nine ten")]


@pytest.fixture(params=["echo", "local"])
def backend(request):
    if request.param == "echo":
        return EchoBackend()
    engine, weights = request.getfixturevalue("engine"), request.getfixturevalue("tiny_weights")
    return LocalBackend(weights, engine)


@pytest.fixture(params=["echo", "local", "remote"])
def answering(request):
    """Every backend: what they promise of answers. A remote one cannot render or count, and says so."""
    if request.param == "echo":
        yield EchoBackend()
        return
    if request.param == "local":
        yield request.getfixturevalue("local")
        return
    with playing(parrot) as server:
        models = (ServedModel("parrot", "vllm"),)
        office = Endpoint(1, "office", server.url, False, "", models, Price(), 30.0, "ann", 0.0)
        yield RemoteBackend(ModelRef("endpoint:office/parrot"), Opened(office))


@pytest.fixture
def local(engine, tiny_weights):
    return LocalBackend(tiny_weights, engine)


async def streamed(backend, messages, sampling):
    return [chunk async for chunk in backend.stream(messages, sampling)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=8),
        Sampling(max_tokens=40),
        Sampling(max_tokens=12, temperature=1.0, seed=3),
        Sampling(max_tokens=12, temperature=1.0, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2),
    ],
    ids=["short", "long", "sampled", "all knobs"],
)
async def test_a_streamed_answer_is_the_completed_one(answering, sampling):
    chunks = await streamed(answering, QUESTION, sampling)
    [answer] = await answering.complete([QUESTION], sampling)
    assert "".join(chunk.text for chunk in chunks) == answer.text
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    last = chunks[-1]
    assert (last.finish, last.prompt_tokens, last.output_tokens) == (
        answer.finish,
        answer.prompt_tokens,
        answer.output_tokens,
    )


async def test_an_answer_ends_at_the_token_limit_and_says_so(answering):
    [answer] = await answering.complete([QUESTION], Sampling(max_tokens=4))
    assert (answer.finish, answer.output_tokens) == ("length", 4)


async def test_a_stop_string_ends_the_answer_before_itself(answering):
    [free] = await answering.complete([QUESTION], Sampling(max_tokens=30))
    stop = free.text[6:9]
    sampling = Sampling(max_tokens=30, stop=("never said", stop))
    [stopped] = await answering.complete([QUESTION], sampling)
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish == "stop"
    assert "".join(chunk.text for chunk in await streamed(answering, QUESTION, sampling)) == stopped.text


async def test_answers_come_in_the_order_asked_and_as_each_would_alone(answering):
    batch = [[user("word " * count + str(count))] for count in (9, 1, 30, 4)]
    sampling = Sampling(max_tokens=1)  # longer ones may part in bfloat16; test_decode.py holds them equal in float32
    together = await answering.complete(batch, sampling)
    alone = [(await answering.complete([messages], sampling))[0] for messages in batch]
    assert [answer.prompt_tokens for answer in together] == [answer.prompt_tokens for answer in alone]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


async def test_progress_is_told_and_ends_at_the_number_of_questions(answering):
    heard = []
    await answering.complete([QUESTION] * 40, Sampling(max_tokens=1), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 40


async def test_an_empty_batch_has_no_answers(answering):
    assert await answering.complete([], Sampling()) == []


async def test_a_seed_brings_the_same_samples_back_and_another_seed_others(answering):
    def sampling(seed):
        return Sampling(max_tokens=12, temperature=1.5, seed=seed)

    first = [answer.text for answer in await answering.complete([QUESTION] * 3, sampling(1))]
    again = [answer.text for answer in await answering.complete([QUESTION] * 3, sampling(1))]
    other = [answer.text for answer in await answering.complete([QUESTION] * 3, sampling(2))]
    assert first == again
    assert len(set(first + other)) == 6


async def test_the_rendered_prompt_holds_every_turn_and_its_length(backend):
    rendered = await backend.render(QUESTION)
    [answer] = await backend.complete([QUESTION], Sampling(max_tokens=1))
    assert all(turn.content in rendered.text for turn in QUESTION)
    assert rendered.tokens == answer.prompt_tokens < rendered.window


async def test_marks_spell_the_conversation_and_learn_only_the_answers(backend):
    turns = [user("Hello"), assistant("Good day 👋🏽"), user("Bye"), assistant("Grüße!")]
    found = await backend.marks(turns)
    learned = "".join(mark.text for mark in found.marks if mark.is_learned)
    masked = "".join(mark.text for mark in found.marks if not mark.is_learned)
    assert "Good day 👋🏽" in learned
    assert "Grüße!" in learned
    assert "Hello" in masked
    assert "Bye" in masked
    assert not any(word in learned for word in ("Hello", "Bye", "user"))
    assert found.tokens == len(found.marks) <= found.window
    assert found.learned == sum(mark.is_learned for mark in found.marks)


async def test_of_a_long_conversation_all_tokens_are_counted_and_the_first_are_spelled(backend):
    turns = [user("one two three"), assistant("four five six seven " * 20)]
    whole, part = await backend.marks(turns), await backend.marks(turns, most=5)
    assert part.marks == whole.marks[:5]
    assert (part.tokens, part.learned) == (whole.tokens, whole.learned)


async def test_the_prompts_tokens_spell_what_the_model_gets(backend):
    found = await backend.tokens(QUESTION)
    rendered = await backend.render(QUESTION)
    assert "".join(spelled for spelled, _ in found) == rendered.text
    assert len(found) == rendered.tokens
    numbers = {spelled: number for spelled, number in found}
    assert all(numbers[spelled] == number for spelled, number in found)


async def test_a_character_of_several_tokens_is_spelled_whole(backend):
    question = [user("Ein Zelt für 🏕️?")]
    found = await backend.tokens(question)
    assert "".join(spelled for spelled, _ in found) == (await backend.render(question)).text


async def test_tokens_are_counted_per_text(backend):
    counts = await backend.count_tokens(["one", "", "one two three four five", "one"] * 40)
    assert len(counts) == 160
    assert counts[0] == counts[3] > counts[1] == 0
    assert counts[2] > counts[0]
    assert await backend.count_tokens([]) == []


async def test_equal_texts_get_equal_vectors_of_length_one(backend):
    first, other, again = await backend.embed(["a lazy dog", "the capital of France", "a lazy dog"])
    assert math.isclose(sum(value * value for value in first), 1.0, abs_tol=1e-3)
    assert math.dist(first, again) < 1e-2 < math.dist(first, other)


@pytest.mark.parametrize("ask", ["stream", "complete"])
async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(backend, ask):
    window = (await backend.render(QUESTION)).window
    long = [user("word " * (window + 5))]
    with pytest.raises(ModelError, match=rf"\d{{4}} tokens; .* at most {window - 1}\. Shorten"):
        await (streamed(backend, long, Sampling()) if ask == "stream" else backend.complete([long], Sampling()))


async def test_what_a_backend_cannot_do_is_refused_by_name(answering):
    with pytest.raises(Unsupported, match=rf"{answering.ref} cannot score answers"):
        await answering.score([QUESTION])


async def test_echo_says_back_the_question_and_knows_no_probabilities():
    echo = EchoBackend()
    [answer] = await echo.complete([QUESTION], Sampling())
    assert (answer.text, answer.finish) == (QUESTION[1].content, "stop")
    with pytest.raises(Unsupported, match="echo: cannot tell how likely an answer is"):
        await echo.logprobs(QUESTION, "ten")


async def test_probabilities_agree_with_each_other_and_with_the_answer(local):
    best = await local.next_tokens(QUESTION, 5)
    assert [token.logprob for token in best] == sorted((token.logprob for token in best), reverse=True)
    [answer] = await local.complete([QUESTION], Sampling(max_tokens=1))
    assert best[0].token == answer.text
    [first, *_] = await local.logprobs(QUESTION, answer.text, top=2)
    assert math.isclose(first.logprob, best[0].logprob, abs_tol=0.05)
    assert first.alternatives[0][0] == answer.text


async def test_an_empty_answer_has_no_probability(local):
    with pytest.raises(Exception, match="The answer is empty"):
        await local.logprobs(QUESTION, "")


async def test_the_embedded_model_knows_the_capital_of_france(embedded, engine):
    backend = LocalBackend(embedded.weights, engine)
    question = [user("What is the capital of France?")]
    chunks = await streamed(backend, question, Sampling(max_tokens=24))
    assert "Paris" in "".join(chunk.text for chunk in chunks)
    assert (await backend.render(question)).text.startswith("<|im_start|>system\nYou are a helpful AI")
    assert (await backend.render(question)).window == 8192


def test_a_reference_opens_the_backend_of_its_kind(model_settings, model_workspace, engine, sqlite_store):
    def opened(ref):
        place = {"settings": model_settings, "store": sqlite_store, "workspace": model_workspace}
        return open_backend(ModelRef(ref), engine=engine, **place)

    assert isinstance(opened("echo:"), EchoBackend)
    assert isinstance(opened("dir:tiny"), LocalBackend)
    sqlite_store.add_endpoint("office", "http://127.0.0.1:8000/v1", author="ann", timeout=60.0)
    assert isinstance(opened("endpoint:office/llama"), RemoteBackend)
