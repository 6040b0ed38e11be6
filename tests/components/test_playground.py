"""The playground: answers stream beside each other, each finished one is a row, and what is typed is safe."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args

from components import playground
from studio.workspace import Workspace
from tests.fixtures_components import call

SAMPLING = (0.0, 1.0, 0, 0.0, 1.0, 160, "", 0, "")  # in the order of the class's fields


class Slow:
    """A backend that takes its time for every word."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def stream(self, messages: Any, sampling: Any) -> Any:
        async for chunk in self._backend.stream(messages, sampling):
            await asyncio.sleep(0.02)
            yield chunk


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        playground.build(project)
    return demo


def ask(page: gr.Blocks, instruction: str, *, models=("echo:", ""), template="plain", examples="") -> list[list[Any]]:
    """Everything the page shows while the answers come."""
    fn = next(f.fn for f in page.fns.values() if f.api_name == "ask")
    given = [*models, template, instruction, "", "Be brief.", examples, *SAMPLING]
    inputs, *_ = special_args(fn, inputs=given, request=gr.Request(username="owner"))

    async def collect() -> list[list[Any]]:
        return [update async for update in fn(*inputs)]

    return asyncio.run(collect())


def test_an_answer_streams_and_ends_as_a_row_with_its_origin(page, project):
    updates = ask(page, "Say hello")
    _, _, head, text, answer_id, keep, *_ = updates[-1]
    assert "Say hello" in text
    assert "tokens" in head
    assert keep.interactive
    row = project.store.completion(answer_id)
    assert (row.model, row.template, row.author, row.kept_at) == ("echo:", "plain", "owner", None)
    assert row.messages[-1]["content"] == "Say hello"


def test_an_answer_that_was_stopped_can_be_kept(page, project):
    fn = next(f.fn for f in page.fns.values() if f.api_name == "ask")
    given = ["echo:", "", "plain", "one two three four five six seven eight", "", "", "", *SAMPLING]
    inputs, *_ = special_args(fn, inputs=given, request=gr.Request(username="owner"))

    async def stop_half_way() -> list[Any]:
        answers = fn(*inputs)
        update = await anext(answers)
        while not update[3]:
            update = await anext(answers)
        await answers.aclose()
        return update

    slow = project.backend
    project.backend = lambda ref: Slow(slow(ref))
    update = asyncio.run(stop_half_way())
    said, ticket = update[3], update[4]
    assert "eight" not in said
    stopped, keep, *_ = call(page, "stop", said, "")
    assert (stopped.interactive, keep.interactive) == (False, True)
    call(page, "keep_answer_1", ticket)
    (kept,) = project.store.kept_completions()
    assert (kept.text, kept.finish) == (said, "cancelled")


def test_two_models_answer_beside_each_other(page):
    last = ask(page, "Say hello", models=("echo:", "echo:loud"))[-1]
    first, second = last[3], last[9]
    assert "Say hello" in first
    assert "Say hello" in second
    assert last[4] != last[10]


def test_few_shot_shows_the_snapshots_examples(page, project):
    last = ask(page, "Say hello", template="few-shot", examples="data:brackenfold@1")[-1]
    messages = project.store.completion(last[4]).messages
    assert [m["role"] for m in messages] == ["system"] + ["user", "assistant"] * 4 + ["user"]


def test_an_empty_question_is_a_sentence_and_no_row(page, project):
    with pytest.raises(gr.Error, match="instruction is empty"):
        ask(page, "  ")
    assert project.store.kept_completions() == []


def test_keeping_and_sending_name_what_was_asked(page, project):
    answer_id = ask(page, "How wide is it?")[-1][4]
    call(page, "keep_answer_1", answer_id)
    call(page, "answer_to_dataset_1", answer_id, "Two metres. Next step: measure it.", "brackenfold")
    assert [a.ticket for a in project.store.kept_completions()] == [answer_id]
    record = list(project.store.all_records(project.store.dataset("brackenfold").id))[-1]
    assert (record.instruction, record.response) == ("How wide is it?", "Two metres. Next step: measure it.")


@pytest.mark.parametrize("answer_id", ["", "999", "1; drop"])
def test_an_answer_that_is_not_there_cannot_be_kept(page, answer_id):
    with pytest.raises(gr.Error, match="no answer here that could be kept"):
        call(page, "keep_answer_1", answer_id)


def test_markup_in_a_model_name_or_error_is_shown_as_text():
    from studio.backends import Partial

    head = playground._head("echo:", Partial(error="<img src=x onerror=alert(1)>"))
    assert "<img" not in head


def test_a_prompt_that_does_not_fit_says_so():
    assert "does not fit" in playground._budget((8100, 160, 8192))
    assert "does not fit" not in playground._budget((100, 160, 8192))
