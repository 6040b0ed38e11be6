"""Models on other servers: every promise and every failure, held against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.backends import RemoteBackend, side_by_side, try_endpoint, wire
from studio.backends.refusals import quoted
from studio.errors import InputError, ModelError, Unsupported
from studio.models.endpoints import Opened, endpoint_ref
from studio.specs import Sampling, system, user
from studio.store import Endpoint, Price, ServedModel
from tests.backends.servers import parrot, playing, refusal, words

pytestmark = pytest.mark.anyio

KEY = "sk-not-for-anybodys-eyes"
QUESTION = [system("Be brief."), user("Say three words.")]


def opened_at(url, *, key="", models=("llama",), server="", timeout=5.0):
    served = tuple(ServedModel(name, server) for name in models)
    return Opened(Endpoint(1, "office", url, bool(key), "", served, Price(), timeout, "ann", 0.0), key)


def backend_at(url, model="llama", **how):
    return RemoteBackend(endpoint_ref("office", model), opened_at(url, **how), first_pause=0.0)


async def streamed(backend, sampling=None, messages=QUESTION):
    """All chunks, and the sentence behind them if there is one."""
    chunks = []
    try:
        async for chunk in backend.stream(messages, sampling or Sampling()):
            chunks.append(chunk)
    except ModelError as error:
        return chunks, str(error)
    return chunks, ""


async def sentence(server, **how):
    """What a person reads when an answer could not be given."""
    chunks, said = await streamed(backend_at(server.url, **how))
    assert said, chunks
    return said


# -- what is asked -------------------------------------------------------------------------------------------


async def test_an_answer_arrives_piece_by_piece_with_its_counts():
    with playing(words("Three", " small", " words")) as server:
        chunks, said = await streamed(backend_at(server.url))
    assert said == ""
    assert [chunk.text for chunk in chunks] == ["Three", " small", " words", ""]
    assert (chunks[-1].finish, chunks[-1].prompt_tokens, chunks[-1].output_tokens) == ("stop", 7, 3)


async def test_a_server_gets_the_question_the_key_and_nothing_else(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "of-another-server")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: of-another-server\nAuthorization: Bearer of-another-server")
    with playing(words("ok")) as server:
        await streamed(backend_at(server.url, key=KEY), Sampling(max_tokens=9, temperature=0.5, seed=3, stop=("END",)))
    [asked] = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["user-agent"].startswith("ladder-studio/")
    assert set(asked.headers) <= wire._NEEDED_HEADERS | {"authorization", "user-agent"}
    assert asked.body == {
        "model": "llama",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say three words."}],
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 3,
        "max_tokens": 9,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_without_a_key_no_key_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-server")
    with playing(words("ok")) as server:
        await streamed(backend_at(server.url))
    assert "authorization" not in server.asked[0].headers


async def test_a_proxy_does_not_see_what_stays_on_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with playing(words("ok")) as server:
        chunks, said = await streamed(backend_at(server.url))
    assert (chunks[0].text, said) == ("ok", "")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"top_k": 40}, "Top-k 40: .* Set Top-k to 0"),
        ({"min_p": 0.1}, "Min-p 0.1: .* Set Min-p to 0.0"),
        ({"repetition_penalty": 1.2}, "Repetition penalty 1.2"),
        ({"top_k": 5, "min_p": 0.2}, "Top-k 5, Min-p 0.2"),
    ],
    ids=["top-k", "min-p", "repetition penalty", "two"],
)
async def test_a_setting_that_would_be_dropped_is_refused_before_anything_is_sent(setting, named):
    with playing(words("ok")) as server:
        backend = backend_at(server.url)
        with pytest.raises(Unsupported, match=f"endpoint:office/llama cannot take {named}"):
            await backend.complete([QUESTION], Sampling(**setting))
    assert server.asked == []


async def test_vllm_gets_every_setting_the_neutral_ones_too():
    with playing(words("ok")) as server:
        backend = backend_at(server.url, server="vllm")
        await streamed(backend, Sampling(top_k=40, min_p=0.1, repetition_penalty=1.2))
        await streamed(backend, Sampling())
    sent = [{k: asked.body[k] for k in ("top_k", "min_p", "repetition_penalty")} for asked in server.asked]
    assert sent[0] == {"top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2}
    assert sent[1] == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


async def test_a_json_schema_is_sent_as_the_form_of_the_answer():
    with playing(words("{}")) as server:
        await streamed(backend_at(server.url), Sampling(json_schema='{"type": "object"}'))
    form = server.asked[0].body["response_format"]
    assert form == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
    }


async def test_a_server_that_names_the_limit_otherwise_is_asked_in_its_words_from_then_on():
    def choosy(call):
        if "max_tokens" in call.body:
            refusal(400, "Unsupported parameter: use 'max_completion_tokens' instead.")(call)
        elif "stream_options" in call.body:
            refusal(422, "extra field stream_options")(call)
        else:
            words("ok")(call)

    with playing(choosy) as server:
        backend = backend_at(server.url)
        answers = await backend.complete([QUESTION], Sampling(max_tokens=5))
        answers += await backend.complete([QUESTION], Sampling(max_tokens=5))
    assert [answer.text for answer in answers] == ["ok", "ok"]
    assert len(server.asked) == 4
    assert server.asked[-1].body["max_completion_tokens"] == 5


# -- what can go wrong ---------------------------------------------------------------------------------------


def redirect(call):
    call.say(302, "", "text/plain", location="https://user:pw@elsewhere.example/v1/chat/completions")


def cut_short(call):
    call.begin()
    call.text("Half an ans")


def lone_piece(data):
    def part(call):
        call.begin()
        call.event(data)
        call.piece("")

    return part


def said_as(raw):
    def part(call):
        call.begin()
        call.piece(raw)
        call.piece("")

    return part


FAILURES = {
    "401": (refusal(401, f"Wrong key {KEY}"), r"office does not accept the key \(401: Wrong key \[key\]\). Remove it"),
    "403": (refusal(403, "not yours"), r"office does not let this key use llama \(403: not yours\)"),
    "404": (refusal(404, "no such model"), r"office knows no model 'llama', .* \(404: no such model\). Test it"),
    "400": (refusal(400, "too long"), r"office refused the question \(400: too long\). Change"),
    "422": (
        lambda call: call.say(422, {"detail": [{"msg": "field required"}]}),
        r"refused the question \(422: .*field required",
    ),
    "429": (refusal(429, "slow down"), r"no more questions for now \(429: slow down\), in 4 tries. Ask again later"),
    "500": (refusal(500, "out of memory"), r"office failed \(500: out of memory\), in 4 tries. Try again later"),
    "503 as a page": (
        lambda call: call.say(503, "<html><body>nginx", "text/html"),
        r"office failed \(503: a web page\), in 4 tries",
    ),
    "markup": (refusal(400, "<img src=x>"), r"\(400: ‹img src=x›\)"),
    "a redirect": (redirect, r"office sends questions on to elsewhere.example \(302\). That is not followed"),
    "a web page": (
        lambda call: call.say(200, "<html>hi", "text/html"),
        r"office answered with a web page, .* ends with /v1",
    ),
    "one piece": (
        lambda call: call.say(200, {"choices": [{"message": {"content": "hi"}}]}),
        r"office answered with one piece, although a stream was asked for",
    ),
    "no events": (said_as("hello\n\n"), r"office answered with nothing that can be read"),
    "broken JSON": (lone_piece('{"choices": [{"del'), r"office sent a piece that cannot be read \(.*\). Ask again"),
    "broken letters": (said_as(b"data: \xff\xfe\n\n"), r"office sent a piece that cannot be read"),
    "a list": (lone_piece([1, 2]), r"office answered with \[1, 2\], not as an OpenAI-compatible server does"),
    "a number for text": (lone_piece({"choices": [{"delta": {"content": 5}}]}), r"not as an OpenAI-compatible server"),
    "an error event": (
        lone_piece({"error": {"message": "worker died"}}),
        r"office broke off with an error: worker died",
    ),
    "filtered": (
        lone_piece({"choices": [{"delta": {}, "finish_reason": "content_filter"}]}),
        r"its content filter stopped it",
    ),
    "the end at once": (lone_piece({"choices": []}), r"office stopped half-way through its answer"),
}


@pytest.mark.parametrize(("part", "words_of_it"), FAILURES.values(), ids=FAILURES)
async def test_what_goes_wrong_is_a_sentence_with_its_cure_and_without_the_key(part, words_of_it, caplog):
    caplog.set_level(logging.DEBUG)
    with playing(part) as server:
        backend = backend_at(server.url, key=KEY)
        with pytest.raises(ModelError, match=words_of_it) as refused:
            await anext(backend.stream(QUESTION, Sampling()))
    logged = "".join(traceback.format_exception(refused.value))
    assert KEY not in f"{logged} {backend!r} {vars(refused.value)} {caplog.text}"


@pytest.mark.parametrize("when", ["before the head", "after the head", "between comments"])
async def test_a_server_that_hangs_is_left_after_the_time_it_was_given(when):
    def hang(call):
        if when != "before the head":
            call.begin()
        while when == "between comments" and not call.script.over.wait(0.05):
            call.piece(": still here\n\n")
        call.hang()

    with playing(hang) as server:
        said = await sentence(server, timeout=0.3)
    assert said.startswith(f"office at {server.url[7:-3]} sent nothing for 0.3 seconds")
    assert len(server.asked) == 1  # it may still be at work on it


async def test_nobody_at_the_address_is_said_with_the_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        _, said = await streamed(backend_at(f"http://{host}/v1"))
    assert said.startswith(f"office cannot be reached at {host} (")
    assert said.endswith("in 4 tries. Start that server, or check its address in Models.")


@pytest.mark.parametrize("code", [429, 500, 502, 503])
async def test_a_busy_server_is_asked_again(code):
    with playing(refusal(code), refusal(code), words("At", " last")) as server:
        [answer] = await backend_at(server.url).complete([QUESTION], Sampling())
    assert (answer.text, len(server.asked)) == ("At last", 3)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422, 302, 501])
async def test_a_refusal_that_will_not_change_is_not_asked_again(code):
    with playing(refusal(code), words("no")) as server:
        await sentence(server)
    assert len(server.asked) == 1


async def test_a_connection_that_ends_before_the_answer_begins_is_tried_again():
    def nothing(call):
        call.wfile.close()

    with playing(nothing, words("Here")) as server:
        chunks, said = await streamed(backend_at(server.url))
    assert (chunks[0].text, said, len(server.asked)) == ("Here", "", 2)


async def test_a_pause_that_is_too_long_is_said_and_not_waited_for():
    with playing(refusal(429, "quota", retry_after="3600")) as server:
        said = await sentence(server)
    assert "It asks to wait 3600 seconds. Ask again later" in said
    assert len(server.asked) == 1


async def test_the_pause_that_a_server_asks_for_is_kept(monkeypatch):
    paused = []

    async def note(seconds):
        paused.append(seconds)

    monkeypatch.setattr("studio.backends.remote.asyncio.sleep", note)
    with playing(refusal(429, retry_after="7"), refusal(503), words("ok")) as server:
        backend = RemoteBackend(endpoint_ref("office", "llama"), opened_at(server.url), first_pause=0.5)
        await backend.complete([QUESTION], Sampling())
    assert 7 <= paused[0] <= 8.75
    assert 1 <= paused[1] <= 1.25


async def test_an_answer_that_stops_half_way_keeps_what_came_and_says_so():
    with playing(cut_short) as server:
        chunks, said = await streamed(backend_at(server.url))
        [whole] = await backend_at(server.url).complete([QUESTION], Sampling())
        [page] = [found async for found in side_by_side([backend_at(server.url).stream(QUESTION, Sampling())])][-1]
    assert [(chunk.text, chunk.finish) for chunk in chunks] == [("Half an ans", None), ("", "cancelled")]
    assert said == "office stopped half-way through its answer. Ask again."
    assert (whole.text, whole.finish) == ("Half an ans", "cancelled")
    assert (page.text, page.finish, page.error) == ("Half an ans", "cancelled", said)
    assert len(server.asked) == 3  # an answer that has begun is not asked for twice


async def test_a_server_that_hangs_half_way_keeps_what_came():
    def part(call):
        cut_short(call)
        call.hang()

    with playing(part) as server:
        chunks, said = await streamed(backend_at(server.url, timeout=0.3))
    assert (chunks[0].text, chunks[-1].finish) == ("Half an ans", "cancelled")
    assert "sent nothing for 0.3 seconds" in said


@pytest.mark.parametrize("piece", ["word ", "w" * 500, ""], ids=["words", "long pieces", "nothing in them"])
async def test_an_answer_without_an_end_is_cut(piece):
    def endless(call):
        call.begin()
        while True:
            call.text(piece)

    with playing(endless) as server:
        chunks, said = await streamed(backend_at(server.url), Sampling(max_tokens=4))
        assert server.hung_up.wait(10)
    assert sum(len(chunk.text) for chunk in chunks) <= 4 * 64 + 1000
    assert len(chunks) <= 4 * 32 + 1001
    assert said.startswith("office goes on and on after the 4 tokens that it was asked for")


async def test_an_answer_of_any_size_without_a_line_end_is_cut(monkeypatch):
    monkeypatch.setattr(wire, "_LARGEST_ANSWER", 2**20)

    def flood(call):
        call.begin()
        while True:
            call.piece(b"x" * 2**16)

    with playing(flood) as server:
        said = await sentence(server)
    assert said.startswith("office sent more than 1 MB and was cut off")


@pytest.mark.parametrize("leave", ["close", "cancel"])
async def test_leaving_closes_the_connection(leave):
    def long(call):
        call.begin()
        while not call.script.over.wait(0.01):
            call.text("word ")

    with playing(long) as server:
        stream = backend_at(server.url).stream(QUESTION, Sampling(max_tokens=4096))
        await anext(stream)
        if leave == "close":
            await stream.aclose()
        else:
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stream.aclose()
        assert await asyncio.to_thread(server.hung_up.wait, 10)


# -- batches -------------------------------------------------------------------------------------------------


async def test_a_batch_keeps_its_order_asks_few_at_once_and_tells_how_far_it_is():
    def patient(call):
        call.script.wait_for_company(5)
        parrot(call)

    heard = []
    with playing(patient) as server:
        batch = [[user(f"number {row}")] for row in range(10)]
        answers = await backend_at(server.url).complete(batch, Sampling(), heard.append)
    assert [answer.text for answer in answers] == [f"number {row}" for row in range(10)]
    assert heard == list(range(1, 11))
    assert 2 <= server.most_at_once <= 4


async def test_one_question_that_is_refused_ends_the_batch_with_its_sentence():
    def choosy(call):
        (refusal(400, "not this one") if "7" in call.body["messages"][-1]["content"] else parrot)(call)

    with playing(choosy) as server:
        with pytest.raises(ModelError, match="refused the question .400: not this one"):
            await backend_at(server.url).complete([[user(f"number {row}")] for row in range(40)], Sampling())
    assert len(server.asked) < 40


async def test_every_row_has_a_seed_of_its_own_that_comes_back():
    with playing(words("ok")) as server:
        backend = backend_at(server.url)
        for seed in (1, 1, 2):
            await backend.complete([QUESTION] * 3, Sampling(temperature=1.0, seed=seed))
    seeds = [sorted(a.body["seed"] for a in server.asked[start : start + 3]) for start in (0, 3, 6)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0] + seeds[2])) == 6
    assert all(0 <= seed < 2**31 for seed in seeds[0])


# -- probabilities, vectors, and what cannot be --------------------------------------------------------------


def telling(*tokens):
    """A server that says these tokens with their probabilities: (token, log-probability)."""

    def part(call):
        call.begin()
        for token, logprob in tokens:
            others = [{"token": "other", "logprob": -3.0, "bytes": None}, {"token": token, "logprob": logprob}]
            entry = {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": others}
            call.text(token, logprobs={"content": [entry]})
        call.end()

    return part


async def test_probabilities_of_its_own_answer_are_told():
    with playing(telling(("Par", -0.1), ("is", -0.2), (".", -0.3))) as server:
        backend = backend_at(server.url)
        found = await backend.logprobs(QUESTION, "Paris.", top=2)
        part = await backend.logprobs(QUESTION, "Paris")
    assert [(token.token, token.logprob) for token in found] == [("Par", -0.1), ("is", -0.2), (".", -0.3)]
    assert found[0].alternatives == (("other", -3.0), ("Par", -0.1))
    assert [token.token for token in part] == ["Par", "is"]
    assert (server.asked[0].body["temperature"], server.asked[0].body["top_logprobs"]) == (0.0, 2)


@pytest.mark.parametrize("answer", ["London.", "Pari", "Paris. Yes"])
async def test_probabilities_of_another_answer_are_refused(answer):
    with playing(telling(("Par", -0.1), ("is", -0.2), (".", -0.3))) as server:
        with pytest.raises(Unsupported, match="endpoint:office/llama tells how likely its own answers are"):
            await backend_at(server.url).logprobs(QUESTION, answer)


async def test_an_empty_answer_has_no_probability():
    with pytest.raises(InputError, match="The answer is empty"):
        await backend_at("http://127.0.0.1:9/v1").logprobs(QUESTION, "")


async def test_the_likeliest_next_tokens_come_best_first():
    with playing(telling(("Paris", -0.5))) as server:
        found = await backend_at(server.url).next_tokens(QUESTION, 5)
    assert [(token.token, token.logprob) for token in found] == [("Paris", -0.5), ("other", -3.0)]
    assert server.asked[0].body["max_tokens"] == 1


async def test_a_server_that_drops_probabilities_is_told_by_name():
    with playing(words("Paris")) as server:
        with pytest.raises(Unsupported, match="endpoint:office/llama cannot show the likeliest next tokens"):
            await backend_at(server.url).next_tokens(QUESTION, 5)


def vectors(call):
    found = [{"index": i, "embedding": [3.0, 4.0 + len(text)]} for i, text in enumerate(call.body["input"])]
    call.say(200, {"data": found[::-1]})


async def test_texts_become_vectors_of_length_one_in_their_order():
    with playing(vectors) as server:
        found = await backend_at(server.url).embed(["", "ab", *["x"] * 100])
    assert found[0] == [0.6, 0.8]
    assert found[1] == pytest.approx([3 / math.hypot(3, 6), 6 / math.hypot(3, 6)])
    assert len(found) == 102
    assert [len(asked.body["input"]) for asked in server.asked] == [64, 38]


@pytest.mark.parametrize(
    ("part", "kind", "said"),
    [
        (refusal(404), Unsupported, "endpoint:office/llama cannot turn texts into vectors"),
        (refusal(400, "no embeddings here"), ModelError, "400: no embeddings here"),
        (lambda call: call.say(200, {"data": []}), ModelError, "office sent 0 vectors for 1 texts"),
        (lambda call: call.say(200, '{"data": [', "application/json"), ModelError, "not as an OpenAI-compatible"),
        (lambda call: call.say(200, b'{"data": ['), ModelError, "a piece that cannot be read"),
    ],
    ids=["no such path", "refused", "too few", "text", "broken"],
)
async def test_a_server_without_vectors_says_so(part, kind, said):
    with playing(part) as server:
        with pytest.raises(kind, match=said):
            await backend_at(server.url).embed(["a"])


@pytest.mark.parametrize(
    ("ability", "arguments", "said"),
    [
        ("render", (QUESTION,), "show the rendered prompt"),
        ("tokens", (QUESTION,), "show the prompt's tokens"),
        ("count_tokens", (["a"],), "count tokens"),
        ("marks", (QUESTION,), "mark learned tokens"),
        ("score", ([QUESTION],), "score answers"),
    ],
)
async def test_what_a_server_cannot_do_is_refused_by_name(ability, arguments, said):
    with pytest.raises(Unsupported, match=f"endpoint:office/llama cannot {said}. Choose another model"):
        await getattr(backend_at("http://127.0.0.1:9/v1"), ability)(*arguments)


# -- trying an endpoint --------------------------------------------------------------------------------------

LISTING = {"data": [{"id": "llama", "owned_by": "vllm", "max_model_len": 8192}, {"id": "not a name"}, {"id": "qwen"}]}


def listing(call):
    call.say(200, LISTING) if call.command == "GET" else parrot(call)


async def test_a_trial_lists_the_models_and_asks_one():
    with playing(listing) as server:
        trial = await try_endpoint(opened_at(server.url, models=(), key=KEY))
    assert trial.models == (ServedModel("llama", "vllm", 8192), ServedModel("qwen"))
    assert (trial.model, trial.text) == ("llama", "Say hello.")
    assert trial.first_seconds > 0
    assert [asked.path for asked in server.asked] == ["/v1/models", "/v1/chat/completions"]


async def test_models_that_people_named_are_kept_and_completed():
    with playing(listing) as server:
        trial = await try_endpoint(opened_at(server.url, models=("mine", "llama")))
    assert trial.models == (ServedModel("mine"), ServedModel("llama", "vllm", 8192))


async def test_a_server_without_a_list_is_asked_all_the_same():
    def unlisted(call):
        (refusal(404) if call.command == "GET" else parrot)(call)

    with playing(unlisted) as server:
        assert (await try_endpoint(opened_at(server.url))).model == "llama"
        with pytest.raises(ModelError, match="404"):
            await try_endpoint(opened_at(server.url, models=()))


async def test_a_model_that_does_not_answer_leaves_the_list_of_the_others():
    def picky(call):
        call.say(200, LISTING) if call.command == "GET" else refusal(400, "not a chat model")(call)

    with playing(picky) as server:
        trial = await try_endpoint(opened_at(server.url, models=()))
    assert [model.name for model in trial.models] == ["llama", "qwen"]
    assert "400: not a chat model" in trial.trouble


# -- small promises ------------------------------------------------------------------------------------------


@given(st.text(), st.text(min_size=8, alphabet=st.characters(min_codepoint=33, max_codepoint=59)))
def test_a_servers_text_is_one_line_without_key_and_markup(text, key):
    line = quoted(f"{text}{key}{text}<b>{key}\n", opened_at("http://127.0.0.1/v1", key=key))
    assert key not in line
    assert not set("<>\n\r\x00") & set(line)
    assert len(line) <= 301


def test_neither_an_opened_endpoint_nor_its_backend_shows_the_key():
    opened = opened_at("http://127.0.0.1/v1", key=KEY)
    backend = RemoteBackend(endpoint_ref("office", "llama"), opened)
    assert KEY not in f"{opened!r} {backend!r} {vars(backend)!r} {json.dumps(str(backend.digest))}"


def test_a_model_behind_another_address_is_another_model():
    there, elsewhere = backend_at("http://127.0.0.1:1/v1"), backend_at("http://127.0.0.1:2/v1")
    assert there.digest != elsewhere.digest
    assert there.digest != backend_at("http://127.0.0.1:1/v1", "qwen").digest
