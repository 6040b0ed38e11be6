"""Reproduce files: what was answered comes back byte for byte, and where it does not, the file says what has changed."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from studio.backends import EchoBackend
from studio.cli import main
from studio.engine.client import EngineClient
from studio.errors import InputError, NotFound
from studio.models import Weights
from studio.prompts import Question, record_answer, template
from studio.prompts.reproduce import Replay, read_reproduction, replay, reproduction
from studio.settings import Settings
from studio.specs import Completion, Message, ModelRef, Sampling, user
from studio.store import Answer, Store, model_row
from studio.workspace import Workspace

T = TypeVar("T")

ECHO, TINY = ModelRef("echo:"), ModelRef("dir:tiny")
QUESTION = [user("one two three four five six seven eight nine ten 🏕️")]
GREEDY = Sampling(max_tokens=24)


class Bench:
    """A workspace on the shared engine, and answers recorded in it."""

    def __init__(self, workspace: Workspace, run: Callable[[Awaitable[T]], T]) -> None:
        self.workspace, self.run = workspace, run

    def answer(self, ref: ModelRef = ECHO, sampling: Sampling = GREEDY, messages: list[Message] = QUESTION) -> Answer:
        backend = self.workspace.backend(ref)

        async def streamed() -> Completion:
            chunks = [chunk async for chunk in backend.stream(messages, sampling)]
            last = chunks[-1]
            text = "".join(chunk.text for chunk in chunks)
            return Completion(
                text=text,
                finish=last.finish or "stop",
                prompt_tokens=last.prompt_tokens,
                output_tokens=last.output_tokens,
            )

        question = Question("plain", messages[-1].content, sampling=sampling)
        ticket = f"{ref} {sampling.model_dump_json()}"
        record_answer(
            self.workspace.store,
            ref,
            question,
            messages,
            self.run(streamed()),
            ticket=ticket,
            author="ann",
        )
        return self.workspace.store.completion(ticket)

    def file(self, answer: Answer, **more: Any) -> Path:
        path = self.workspace.path / "answer.json"
        path.write_text(self.run(reproduction(self.workspace, answer, **more)).to_json(), encoding="utf-8")
        return path

    def replay(self, file: Path) -> Replay:
        return self.run(replay(self.workspace, file))


@pytest.fixture
def bench(sqlite_store: Store, tmp_path: Path) -> Bench:
    """Without an engine: echo answers."""
    return Bench(Workspace(tmp_path, Settings(runtime=tmp_path / "r"), sqlite_store), asyncio.run)


@pytest.fixture
def tiny_bench(
    sqlite_store: Store, engine: EngineClient, tiny_weights: Weights, model_settings: Settings, model_workspace: Path
) -> Iterator[Bench]:
    """With the real engine and a tiny random model."""
    workspace = Workspace(model_workspace, model_settings, sqlite_store)
    yield Bench(workspace, asyncio.run)
    asyncio.run(workspace.engine.close())


def _changed(file: Path, **fields: Any) -> Path:
    found = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(found | fields), encoding="utf-8")
    return file


# -- the real engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, Sampling(max_tokens=24, temperature=1.2, top_p=0.95, seed=11)],
    ids=["greedy", "seeded"],
)
def test_an_answer_of_the_engine_comes_back_byte_for_byte(tiny_bench: Bench, sampling: Sampling) -> None:
    answer = tiny_bench.answer(TINY, sampling)
    assert len(answer.text) > 10
    found = tiny_bench.replay(tiny_bench.file(answer))
    assert found.output.encode() == answer.text.encode()
    assert (found.is_equal, found.differs_at, found.differences) == (True, len(answer.text), ())
    assert found.sentence == f"The same, byte for byte: {len(answer.text):,} characters."


def test_the_file_says_by_what_and_where_it_was_answered(tiny_bench: Bench, tiny_weights: Weights) -> None:
    file = read_reproduction(tiny_bench.file(tiny_bench.answer(TINY)))
    status = tiny_bench.run(tiny_bench.workspace.engine.status())
    assert (file.model.ref, file.model.weights, file.model.adapter) == (TINY, tiny_weights.digest, "")
    assert (file.environment.dtype, file.environment.device) == (status["dtype"], status["device"])
    assert file.environment.threads == tiny_bench.workspace.settings.threads
    assert {"python", "torch", "transformers", "tokenizers"} <= set(file.environment.versions)
    assert file.rendered.startswith("<|im_start|>user\none two")
    assert file.rendered.endswith("<|im_start|>assistant\n")


def test_other_weights_under_the_same_name_are_told(tiny_bench: Bench, tmp_path: Path) -> None:
    file = tiny_bench.file(tiny_bench.answer(TINY, Sampling(max_tokens=4)))
    found = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(found | {"model": found["model"] | {"weights": "0" * 64}}), encoding="utf-8")
    [difference] = tiny_bench.replay(file).differences
    assert (difference.what, difference.then) == ("weights", "0" * 12)


def test_a_tuned_answer_comes_back_too_and_its_adapter_is_named_by_its_weights(
    tiny_bench: Bench, tiny_weights: Weights, tiny_lora: Path, model_workspace: Path
) -> None:
    path, base = str(tiny_lora.relative_to(model_workspace)), tiny_weights.digest
    row = model_row("run:9", "Tuned", author="ann", base=str(TINY), path=path, base_digest=base)
    tiny_bench.workspace.store.add_model(row)
    answer = tiny_bench.answer(ModelRef("run:9"))
    assert answer.text != tiny_bench.answer(TINY).text
    file = tiny_bench.file(answer)
    weights = (tiny_lora / "adapter_model.safetensors").read_bytes()
    assert read_reproduction(file).model.adapter == hashlib.sha256(weights).hexdigest()
    assert tiny_bench.replay(file).is_equal


# -- what is held against what -------------------------------------------------------------------------------------


def test_a_replay_is_asked_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bench.file(bench.answer())
    asked: list[int] = []

    class Counting(EchoBackend):
        async def complete(self, batch: Any, sampling: Sampling, on_done: Any = None) -> list[Completion]:
            asked.append(len(batch))
            return await super().complete(batch, sampling, on_done)

    monkeypatch.setattr(bench.workspace, "backend", lambda ref: Counting(ref))
    assert bench.replay(file).is_equal
    assert asked == [1]


def _output(text: str) -> dict[str, str]:
    return {"output": text, "output_sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_the_first_difference_is_shown_with_what_stands_there(bench: Bench) -> None:
    file = _changed(bench.file(bench.answer()), **_output("one two tree four"))
    found = bench.replay(file)
    assert (found.is_equal, found.differs_at) == (False, 9)
    assert (found.then, found.now) == ("ree four", "hree four five six seven")
    assert found.sentence.startswith("It differs from character 10 on: 'ree four' then, 'hree four")
    assert "in a batch with others" in found.sentence


@pytest.mark.parametrize("longer", [True, False], ids=["more now", "less now"])
def test_an_answer_that_is_only_longer_or_shorter_is_not_the_same(bench: Bench, longer: bool) -> None:
    answer = bench.answer()
    text = answer.text[:-5] if longer else answer.text + " more"
    found = bench.replay(_changed(bench.file(answer), **_output(text)))
    assert (found.is_equal, found.differs_at) == (False, min(len(text), len(answer.text)))
    assert (found.then, found.now) == (("", answer.text[-5:]) if longer else (" more", ""))


def test_an_answer_that_was_stopped_is_held_against_the_beginning(bench: Bench) -> None:
    answer = dataclasses.replace(bench.answer(), text="one two th", finish="cancelled")
    file = bench.file(answer)
    assert bench.replay(file).is_equal
    assert not bench.replay(_changed(file, **_output("one two tr"))).is_equal


def test_what_changed_around_a_difference_is_named(bench: Bench) -> None:
    file = _changed(bench.file(bench.answer()), **_output("two"))
    found = json.loads(file.read_text(encoding="utf-8"))
    environment = found["environment"] | {"versions": {"python": "2.7.18", "tensorflow": "1.0"}}
    said = bench.replay(_changed(file, environment=environment, rendered="another")).sentence
    assert "What is not as it was: " in said
    assert "python was 2.7.18, is 3." in said
    assert "tensorflow was 1.0, is not there" in said
    assert "ladder-studio was not there, is " in said
    assert "rendered prompt was " in said


# -- the file ------------------------------------------------------------------------------------------------------


def test_the_file_holds_all_that_made_the_answer(bench: Bench) -> None:
    shown = [{"instruction": "a", "response": "b"}]
    answer = bench.answer(sampling=Sampling(temperature=0.5, seed=3, stop=("\n\n",)))
    file = read_reproduction(bench.file(answer, examples=shown, passages=[{"place": "p. 3", "text": "Dry it."}]))
    assert file.messages == tuple(QUESTION)
    assert (file.template.name, file.template.digest) == ("plain", template("plain").digest())
    assert file.template.body["user"] == template("plain").user
    assert file.variables["instruction"] == QUESTION[0].content
    assert (list(file.examples), file.passages[0]["place"]) == (shown, "p. 3")
    assert file.sampling == Sampling(temperature=0.5, seed=3, stop=("\n\n",))
    assert (file.output, file.output_sha256) == (answer.text, hashlib.sha256(answer.text.encode()).hexdigest())
    assert (file.finish, file.prompt_tokens, file.output_tokens) == (answer.finish, answer.prompt_tokens, 11)
    assert not file.asks_a_server


def test_an_answer_without_a_template_or_with_one_of_another_studio_has_a_file_too(bench: Bench) -> None:
    answer = bench.answer()
    chat = bench.file(dataclasses.replace(answer, template=""))
    assert read_reproduction(chat).template.name == ""
    foreign = bench.file(dataclasses.replace(answer, template="theirs@3"))
    assert (read_reproduction(foreign).template.name, read_reproduction(foreign).template.body) == ("theirs@3", {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 2}, "is of version 2; this studio reads version 1"),
        ({"version": "1"}, "is of version '1'"),
        ({"format": "other"}, "is not a reproduce file"),
        ({"colour": "red"}, "a field 'colour' that this studio does not know"),
        ({"sampling": {"beams": 4}}, "a field 'sampling.beams' that this studio does not know"),
        ({"sampling": {"temperature": -1}}, r"sampling.temperature cannot be used \(Input should be greater than"),
        ({"messages": []}, "messages cannot be used"),
        ({"model": {"ref": "nowhere"}}, "model.ref cannot be used"),
        ({"output": "another"}, "is not what its checksum says"),
    ],
    ids=["newer", "not a number", "another format", "field", "setting", "bound", "no messages", "model", "changed"],
)
def test_a_file_that_is_not_understood_is_refused_in_words(bench: Bench, fields: dict[str, Any], words: str) -> None:
    file = _changed(bench.file(bench.answer()), **fields)
    with pytest.raises(InputError, match=words):
        bench.replay(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "is not a reproduce file"),
        (b"[" * 5_000_000, "is not JSON"),
        (b" " * (33 << 20), "larger than 32 MB"),
    ],
    ids=["empty", "bytes", "a list", "deep", "large"],
)
def test_what_is_no_such_file_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "any.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_reproduction(file)


def test_a_file_that_is_missing_or_names_a_missing_model_is_refused_in_words(bench: Bench) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_reproduction(bench.workspace.path / "none.json")
    file = _changed(bench.file(bench.answer()), model={"ref": "hf:acme/absent"})
    with pytest.raises(NotFound, match="hf:acme/absent is not on this machine"):
        bench.replay(file)


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_whether_it_is_the_same_and_exits_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LADDER_RUNTIME", str(bench.workspace.path / "r"))
    file, argv = bench.file(bench.answer()), ["--workspace", str(bench.workspace.path), "prompt", "replay"]
    main([*argv, str(file)])
    assert capsys.readouterr().out == "The same, byte for byte: 51 characters.\n"
    with pytest.raises(SystemExit, match="1"):
        main([*argv, "--json", str(_changed(file, **_output("one")))])
    assert json.loads(capsys.readouterr().out)["differs_at"] == 3
    with pytest.raises(SystemExit, match="2"):
        main([*argv, str(_changed(file, version=9))])
    assert "is of version 9" in capsys.readouterr().err
