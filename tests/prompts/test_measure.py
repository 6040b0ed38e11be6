"""Measuring: every item asked once, every answer kept with its verdict, nothing measured twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from studio.backends import EchoBackend
from studio.errors import InputError, ModelError
from studio.prompts import Compare, template
from studio.prompts.measure import Contender, Stopped, measure
from studio.specs import ModelRef, Sampling
from studio.store import Evaluation, Store
from tests.prompts.desk import Answering, DeskRun, stopping_after

ECHO = ModelRef("echo:")
ITEMS: list[dict[str, Any]] = [
    {"instruction": "Name the tent", "rules": [{"rule": "contains_all", "values": ["tent"]}]},
    {
        "instruction": "A much longer question about a pack, so that it is asked in another place of the batch",
        "rules": [{"rule": "contains_all", "values": ["pack"]}, {"rule": "contains_all", "values": ["stove"]}],
    },
    {"instruction": "Say", "context": "a word", "rules": [{"rule": "number", "value": 4}]},
]
RECORDS = [
    {"instruction": f"q{n}", "context": "", "response": f"a{n}", "category": f"c{n}", "split": "train"}
    for n in range(5)
]
TASK = Compare.model_validate(
    {
        "base": "echo:",
        "tuned": "echo:tuned",
        "evaluation": "eval:gear@1",
        "development": "eval:gear-development@1",
        "examples": "data:gear@1",
    }
)


@pytest.fixture
def run(sqlite_store: Store, tmp_path: Path) -> DeskRun:
    sqlite_store.freeze(tmp_path, "eval", "gear", ITEMS, author="ann")
    sqlite_store.freeze(tmp_path, "data", "gear", RECORDS, author="ann")
    return DeskRun(sqlite_store, tmp_path, TASK, {"echo:": EchoBackend()})


def _measure(run: DeskRun, contender: Contender, sampling: Sampling | None = None) -> Evaluation:
    return asyncio.run(measure(run, "eval:gear@1", contender, sampling or Sampling(max_tokens=20)))


def _contender(name: str, **more: Any) -> Contender:
    return Contender(ECHO, template(name), guidelines="Be brief.", examples_ref="data:gear@1", examples=RECORDS, **more)


def test_each_answer_is_kept_at_its_items_place_with_the_verdict_of_its_rules(run: DeskRun) -> None:
    made = _measure(run, _contender("plain"))
    found = [(i.position, i.output, i.kept, i.score) for i in run.store.evaluation_items(made.id)]
    assert found == [
        (0, "Name the tent", [True], 1.0),
        (1, ITEMS[1]["instruction"], [True, False], 0.5),
        (2, "Say\n\na word", [False], 0.0),
    ]
    assert (made.items, made.score) == (3, pytest.approx(0.5))
    assert made.low <= made.score <= made.high


def test_what_a_call_costs_is_the_mean_over_the_items(run: DeskRun) -> None:
    made = _measure(run, _contender("plain"))
    items = run.store.evaluation_items(made.id)
    assert made.output_tokens == pytest.approx(sum(i.output_tokens for i in items) / 3)
    assert made.prompt_tokens == pytest.approx(sum(i.prompt_tokens for i in items) / 3)
    assert made.seconds > 0


def test_a_second_measurement_of_the_same_asks_nobody(run: DeskRun) -> None:
    asked = Answering(ECHO, lambda messages: "tent")
    run._models["echo:"] = asked
    first = _measure(run, _contender("plain"))
    assert _measure(run, _contender("plain")) == first
    assert len(asked.asked) == len(ITEMS)
    assert asked.is_closed


@pytest.mark.parametrize(
    ("name", "changes", "sampling"),
    [
        pytest.param("zero-shot", {}, None, id="another template"),
        pytest.param("plain", {"rung": "L1"}, None, id="another rung"),
        pytest.param("plain", {}, Sampling(max_tokens=3), id="another length"),
    ],
)
def test_anything_that_shapes_the_answer_is_measured_anew(
    run: DeskRun, name: str, changes: dict[str, Any], sampling: Sampling | None
) -> None:
    first = _measure(run, _contender("plain"))
    assert _measure(run, _contender(name, **changes), sampling).id != first.id


@pytest.mark.parametrize(
    ("name", "changes", "is_same"),
    [
        pytest.param("few-shot", {"seed": 1}, False, id="few-shot: other examples"),
        pytest.param("few-shot", {"guidelines": "Be kind."}, False, id="few-shot: other guidelines"),
        pytest.param("few-shot", {"examples_ref": "data:gear@2"}, False, id="few-shot: another snapshot"),
        pytest.param("zero-shot", {"examples_ref": "data:gear@2"}, True, id="zero-shot shows no examples"),
        pytest.param("plain", {"guidelines": "Be kind."}, True, id="plain says no guidelines"),
    ],
)
def test_a_prompt_is_named_by_all_that_it_says_and_nothing_else(
    name: str, changes: dict[str, Any], is_same: bool
) -> None:
    fields = {"guidelines": "Be brief.", "examples_ref": "data:gear@1"}
    first = Contender(ECHO, template(name), **fields)
    other = Contender(ECHO, template(name), **(fields | changes))
    assert (first.prompt_name == other.prompt_name) is is_same
    assert first.prompt_name.startswith(f"{name}#")


def test_few_shot_prompts_show_the_same_examples_to_every_question(run: DeskRun) -> None:
    asked = Answering(ECHO, lambda messages: "tent")
    run._models["echo:"] = asked
    made = _measure(run, _contender("few-shot"))
    assert len({str(messages[:-1]) for messages in asked.asked}) == 1
    assert [m.role for m in asked.asked[0]] == ["system", *["user", "assistant"] * 4, "user"]
    assert made.examples == "data:gear@1"


def test_reasoning_gets_room_of_its_own_and_only_the_reply_is_judged(run: DeskRun) -> None:
    asked = Answering(ECHO, lambda messages: "A tent, a pack, 4.\nReply: nothing")
    run._models["echo:"] = asked
    made = _measure(run, _contender("chain-of-thought"), Sampling(max_tokens=20))
    assert asked.sampling[0].max_tokens == 20 + template("chain-of-thought").extra_tokens
    assert made.score == 0.0
    assert run.store.evaluation_items(made.id)[0].output.startswith("A tent")


def test_progress_reaches_the_end(run: DeskRun) -> None:
    _measure(run, _contender("plain"))
    assert run.steps[-1] == (3, 3)


def test_a_stop_leaves_no_half_measurement_and_lets_go_of_the_model(run: DeskRun) -> None:
    asked = Answering(ECHO, lambda messages: "tent")
    run._models["echo:"] = asked
    with stopping_after(run, 0), pytest.raises(Stopped, match="Stopped after 0 of 3"):
        _measure(run, _contender("plain"))
    assert run.store.evaluations() == []
    assert asked.is_closed


def test_a_model_that_fails_half_way_leaves_nothing_and_is_let_go(run: DeskRun) -> None:
    def fail(messages: Any) -> str:
        raise ModelError("out of memory")

    failing = Answering(ECHO, fail)
    run._models["echo:"] = failing
    with pytest.raises(ModelError, match="out of memory"):
        _measure(run, _contender("plain"))
    assert run.store.evaluations() == []
    assert failing.is_closed


def test_too_few_examples_are_told_before_anybody_is_asked(run: DeskRun) -> None:
    asked = Answering(ECHO, lambda messages: "tent")
    run._models["echo:"] = asked
    contender = Contender(ECHO, template("few-shot"), examples=RECORDS[:2])
    with pytest.raises(InputError, match="asks for 4 examples"):
        _measure(run, contender)
    assert asked.asked == []
