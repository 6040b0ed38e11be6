"""Export: whatever the texts hold, the snippet says exactly them, holds no secret, and names what it cannot say."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studio.errors import InputError, Unsupported
from studio.prompts.export import FORMATS, export
from studio.specs import Message, ModelRef, Sampling, assistant, system, user

REF = ModelRef("run:7")
NASTY = "It's \"quoted\" `whoami` $HOME $(id) \\ \\n {json} {{x}} 'a' '''b''' \"\"\"c\"\"\" !! %s\r\n\tEOF\n#!\u2028\x85 🏕️ é\n\n"
FULL = Sampling(
    temperature=0.7, top_p=0.9, top_k=40, min_p=0.1, repetition_penalty=1.2, max_tokens=33, stop=("\n'", "Q:"), seed=5
)
SCHEMA = '{"type": "object", "properties": {"it\'s": {"const": true}}}'

texts = st.text(max_size=60) | st.text("'\"\\\n\r$`!{}#\x00 \u2028a", max_size=30)
conversations = st.builds(
    lambda head, pairs, last: [
        *([system(head)] if head else []),
        *(turn for asked, said in pairs for turn in (user(asked), assistant(said))),
        user(last),
    ],
    texts,
    st.lists(st.tuples(texts, texts), max_size=2),
    texts,
)


def _sent(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content.encode("utf-8", "replace").decode()} for m in messages]


def _run(source: str, **modules: ModuleType) -> str:
    """Run a snippet with stand-ins for the libraries it imports; returns what it prints."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "snippet.py", "exec"), {"__name__": "__main__"})
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return printed.getvalue()


def _with_openai(source: str) -> tuple[dict[str, Any], str]:
    calls: list[dict[str, Any]] = []

    class OpenAI:
        def __init__(self, **given: Any) -> None:
            assert given == {}, "address and key come from the environment"
            self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))

        def _create(self, **request: Any) -> Any:
            calls.append(request)
            return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="said"))])

    openai = ModuleType("openai")
    openai.OpenAI = OpenAI  # type: ignore[attr-defined]
    printed = _run(source, openai=openai)
    [request] = calls
    return request, printed


def _with_transformers(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the snippet has rendered and what it generates with."""
    rendered: dict[str, Any] = {}
    generated: dict[str, Any] = {}

    class Tensors(dict[str, Any]):
        pass

    class Tokenizer:
        def apply_chat_template(self, messages: Any, **given: Any) -> Tensors:
            rendered.update(messages=messages, **given)
            return Tensors(input_ids=SimpleNamespace(shape=(1, 2)))

        def decode(self, ids: Any, skip_special_tokens: bool) -> str:
            return "said"

    class Output:
        def __getitem__(self, place: Any) -> str:
            return "ids"

    class Model:
        def eval(self) -> Model:
            return self

        def generate(self, **given: Any) -> Output:
            generated.update(given)
            return Output()

    def load(value: Any) -> Any:
        def from_pretrained(place: str, **given: Any) -> Any:
            rendered["place"] = place
            return value

        return SimpleNamespace(from_pretrained=from_pretrained)

    torch, transformers = ModuleType("torch"), ModuleType("transformers")
    torch.manual_seed = lambda seed: rendered.update(seed=seed)  # type: ignore[attr-defined]
    torch.inference_mode = contextlib.nullcontext  # type: ignore[attr-defined]
    transformers.AutoTokenizer = load(Tokenizer())  # type: ignore[attr-defined]
    transformers.AutoModelForCausalLM = load(Model())  # type: ignore[attr-defined]
    assert _run(source, torch=torch, transformers=transformers) == "said\n"
    return rendered, generated


def _body(curl: str) -> dict[str, Any]:
    words = shlex.split(curl)
    return json.loads(words[words.index("--data-binary") + 1])


# -- exactly the texts ---------------------------------------------------------------------------------------------


@given(conversations)
@example([user(NASTY)])
@example([system(NASTY), user("half \ud800"), assistant(""), user("\n")])
def test_every_format_sends_exactly_the_messages(messages: list[Message]) -> None:
    expected = _sent(messages)
    sampling = Sampling(stop=(messages[-1].content or "x",))
    request, printed = _with_openai(export("openai-python", REF, messages, sampling).text)
    assert (request["messages"], printed) == (expected, "said\n")
    assert _body(export("curl", REF, messages, sampling).text) == request
    assert json.loads(export("openai-json", REF, messages, sampling).text) == request
    rendered, generated = _with_transformers(export("transformers-python", REF, messages, sampling, "models/x").text)
    assert rendered["messages"] == expected
    assert generated["stop_strings"] == request["stop"]


def test_a_real_shell_hands_curl_exactly_the_body() -> None:
    found = export("curl", ModelRef("endpoint:shop/gpt-4"), [user(NASTY)], FULL).text
    script = 'curl() { printf "%s\\0" "$@"; }\n' + found
    environment = {"OPENAI_BASE_URL": "http://x/v1", "OPENAI_API_KEY": "k y", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(["bash", "-c", script], capture_output=True, env=environment, check=True)
    words = said.stdout.decode().split("\0")
    assert said.stderr == b""
    assert words[:2] == ["-sS", "http://x/v1/chat/completions"]
    assert "Authorization: Bearer k y" in words
    assert json.loads(words[words.index("--data-binary") + 1]) == json.loads(
        export("openai-json", ModelRef("endpoint:shop/gpt-4"), [user(NASTY)], FULL).text
    )


# -- settings ------------------------------------------------------------------------------------------------------


def test_the_chat_format_says_what_it_can_and_names_the_rest() -> None:
    found = export("openai-python", ModelRef("endpoint:shop/org/gpt@5"), [user("How?")], FULL)
    request, _ = _with_openai(found.text)
    del request["messages"]
    assert request == {
        "model": "org/gpt@5",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 33,
        "seed": 5,
        "stop": ["\n'", "Q:"],
    }
    assert found.left_out == ("top_k 40", "min_p 0.1", "repetition_penalty 1.2")
    for format in ("openai-python", "curl"):
        comment = next(
            line for line in export(format, REF, [user("?")], FULL).text.splitlines() if line[:6] == "# Left"
        )
        assert comment.endswith("top_k 40, min_p 0.1, repetition_penalty 1.2.")


def test_transformers_gets_every_setting_and_greedy_gets_no_temperature() -> None:
    rendered, generated = _with_transformers(export("transformers-python", REF, [user("?")], FULL, "models/it's").text)
    del generated["input_ids"]
    tokenizer = generated.pop("tokenizer")
    assert tokenizer is not None
    assert (rendered["place"], rendered["seed"], rendered["add_generation_prompt"]) == ("models/it's", 5, True)
    assert generated == {
        "max_new_tokens": 33,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "stop_strings": ["\n'", "Q:"],
    }
    _, greedy = _with_transformers(export("transformers-python", REF, [user("?")], Sampling(), "x").text)
    del greedy["input_ids"]
    assert greedy == {"max_new_tokens": 160, "do_sample": False, "repetition_penalty": 1.0}


def test_a_schema_goes_where_the_format_has_a_place_for_it() -> None:
    sampling = Sampling(json_schema=SCHEMA)
    request, _ = _with_openai(export("openai-python", REF, [user("?")], sampling).text)
    assert request["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert _body(export("curl", REF, [user("?")], sampling).text) == request
    assert export("openai-json", REF, [user("?")], sampling).left_out == ()
    assert export("transformers-python", REF, [user("?")], sampling, "x").left_out == ("json_schema",)


def test_settings_at_rest_are_not_spoken_of() -> None:
    assert all(export(format, REF, [user("?")], Sampling(), "x").left_out == () for format in FORMATS)
    assert "Left out" not in export("curl", REF, [user("?")], Sampling()).text


def test_a_text_of_several_lines_reads_as_lines() -> None:
    text = export("openai-python", REF, [user("One.\nTwo.\n\nThree.")], Sampling()).text
    assert "            'One.\\n'\n            'Two.\\n'\n            '\\n'\n            'Three.'\n" in text


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["endpoint:shop/gpt", "echo:"])
def test_a_model_without_weights_is_not_exported_to_transformers(ref: str) -> None:
    with pytest.raises(Unsupported, match="no weights that transformers could load"):
        export("transformers-python", ModelRef(ref), [user("?")], Sampling())


def test_transformers_must_be_told_where_the_weights_lie() -> None:
    with pytest.raises(InputError, match="Where the weights of run:7 lie is not said"):
        export("transformers-python", REF, [user("?")], Sampling())
    assert (
        "'Qwen/Qwen3-0.6B'"
        in export("transformers-python", ModelRef("hf:Qwen/Qwen3-0.6B"), [user("?")], Sampling()).text
    )


def test_a_prompt_that_no_command_line_takes_names_the_way_around() -> None:
    with pytest.raises(InputError, match="too long for one command line .* Export it as OpenAI JSON"):
        export("curl", REF, [user("'" * 60_000)], Sampling())
    assert len(export("openai-json", REF, [user("'" * 60_000)], Sampling()).text) > 60_000


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(InputError, match="'perl' is not a format"):
        export("perl", REF, [user("?")], Sampling())  # type: ignore[arg-type]
