"""The playground: answers stream beside each other, each finished one is a row, and what is typed is safe."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args

from components import playground
from components.frame import untouched
from components.playground import columns, looking, prompt
from components.playground.evaluate_setup import Columns
from studio.backends import Partial
from studio.models import EMBEDDED
from studio.specs import ModelRef, TokenLogprob
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


QUESTION = 9  # widgets of the question itself
EDITOR = ("", "", "", "", 0, "", 0)  # of no prompt
EDITOR_AND_MORE = ("Summary", "Variables", *("of",) * len(EDITOR), "State", "Save as", "Tags", "Earlier versions")


def given(
    instruction: str, *, template="plain", examples="", shots="", editor=EDITOR, sampling=SAMPLING, more=""
) -> list:
    """What the page holds, in the order in which handlers get it."""
    return [template, instruction, "", "Be brief.", more, examples, "fixed", shots, 0, *editor, *sampling]


def cells(*models: str, template: str = "", temperature: str = "") -> list[str]:
    """Four columns; the last of the given ones with a prompt and a temperature of its own."""
    found = []
    for place in range(4):
        model = models[place] if place < len(models) else ""
        own = place == len(models) - 1
        found += [model, template if own else "", temperature if own else ""]
    return found


async def asked(page: gr.Blocks, values: list[Any], api_name: str = "ask") -> list[list[Any]]:
    fn = next(f.fn for f in page.fns.values() if f.api_name == api_name)
    inputs, *_ = special_args(fn, inputs=values, request=gr.Request(username="owner"))
    return [update async for update in fn(*inputs)]


def ask(
    page: gr.Blocks,
    instruction: str,
    *,
    models=("echo:",),
    mark=False,
    repeats=1,
    api_name="ask",
    column=None,
    **more: Any,
) -> list[list[Any]]:
    """Everything the page shows while the answers come."""
    values = [repeats, mark, *cells(*models, **(column or {})), *given(instruction, **more)]
    return asyncio.run(asked(page, values, api_name))


def shown(update: list[Any], column: int) -> list[Any]:
    """Head, text, ticket, keep, send and marks of a column from 0."""
    return update[2 + 6 * column : 8 + 6 * column]


def test_an_answer_streams_and_ends_as_a_row_with_its_origin(page, project):
    head, text, ticket, keep, *_ = shown(ask(page, "Say hello")[-1], 0)
    assert "Say hello" in text
    assert "tokens" in head
    assert keep.interactive
    row = project.store.completion(ticket)
    assert (row.model, row.template, row.author, row.kept_at) == ("echo:", "plain", "owner", None)
    assert row.messages[-1]["content"] == "Say hello"


def test_an_answer_that_was_stopped_can_be_kept(page, project):
    fn = next(f.fn for f in page.fns.values() if f.api_name == "ask")
    values = [1, False, *cells("echo:"), *given("one two three four five six seven eight")]
    inputs, *_ = special_args(fn, inputs=values, request=gr.Request(username="owner"))

    async def stop_half_way() -> list[Any]:
        answers = fn(*inputs)
        update = await anext(answers)
        while not shown(update, 0)[1]:
            update = await anext(answers)
        await answers.aclose()
        return update

    slow = project.backend
    project.backend = lambda ref: Slow(slow(ref))
    _, said, ticket, *_ = shown(asyncio.run(stop_half_way()), 0)
    assert "eight" not in said
    stopped, again, keep, *_ = call(page, "stop", said, "", "", "")
    assert (stopped.interactive, again.interactive, keep.interactive) == (False, True, True)
    call(page, "keep_answer_1", ticket)
    (kept,) = project.store.kept_completions()
    assert (kept.text, kept.finish) == (said, "cancelled")


def test_columns_are_exact_pairs_of_model_prompt_and_temperature(page, project):
    own = {"template": "zero-shot", "temperature": "0.5"}
    last = ask(page, "Say it", models=("echo:", "echo:loud"), column=own)[-1]
    first, second = (project.store.completion(shown(last, n)[2]) for n in (0, 1))
    assert (first.model, first.template, first.sampling["temperature"]) == ("echo:", "plain", 0.0)
    assert (second.model, second.template, second.sampling["temperature"]) == ("echo:loud", "zero-shot", 0.5)
    assert shown(last, 2) == [gr.skip()] * 6  # the others stay as they are


def test_one_cell_is_asked_again_and_the_others_stay(page, project):
    last = ask(page, "Say it", models=("echo:", "echo:loud"), api_name="ask_2")[-1]
    assert shown(last, 0) == [gr.skip()] * 6
    assert project.store.completion(shown(last, 1)[2]).model == "echo:loud"


def test_answers_that_differ_are_marked_word_by_word(page):
    own = {"temperature": "1"}  # echo: shuffles the words
    last = ask(page, "alpha beta gamma delta", models=("echo:", "echo:"), mark=True, column=own)[-1]
    assert shown(last, 0)[5] == ""
    assert "<ins>" in shown(last, 1)[5]


def test_repeats_are_asked_with_other_seeds_and_the_different_answers_counted(page):
    sampled = (1.0, *SAMPLING[1:])
    marks = shown(ask(page, "one two three four five", repeats=4, sampling=sampled)[-1], 0)[5]
    assert "4 answers, 4 different" in marks
    greedy = shown(ask(page, "one two", repeats=3)[-1], 0)[5]
    assert "3 answers, 1 different" in greedy


def test_few_shot_shows_the_snapshots_examples_and_names_them(page, project):
    _, _, ticket, *_ = shown(ask(page, "Say hello", template="few-shot", examples="data:brackenfold@1")[-1], 0)
    row = project.store.completion(ticket)
    assert [m["role"] for m in row.messages] == ["system"] + ["user", "assistant"] * 4 + ["user"]
    assert len(row.variables["shown"].split(", ")) == 4


def test_an_edited_prompt_is_asked_without_being_saved_and_then_saved_as_a_version(page, project):
    edited = ("plain", "", "Shout: {{ instruction }}", "instruction, context, guidelines", 0, "", 0)
    _, text, ticket, *_ = shown(ask(page, "hello", editor=edited)[-1], 0)
    assert text == "Shout: hello"
    assert project.store.completion(ticket).variables["draft"]
    assert project.store.prompt_templates() == []
    call(page, "save_prompt", "plain", "shouting", "loud, test", "first try", *edited)
    (saved,) = project.store.prompt_templates()
    assert (saved.ref, saved.tags) == ("shouting@1", ["loud", "test"]) or tuple(saved.tags) == ("loud", "test")
    _, text, *_ = shown(ask(page, "hello", template="shouting@1")[-1], 0)
    assert text == "Shout: hello"


def test_what_was_being_written_comes_back_after_a_reload(page, project):
    call(page, "keep_draft", *given("A question that nobody sent", editor=("plain", *EDITOR[1:])))
    names = ["", "zero-shot", "", "", *cells_again()]
    updates = call(page, "again", *names)
    assert "A question that nobody sent" in updates
    assert "A question that nobody sent" not in call(page, "again", "yes", *names[1:])


def test_a_name_that_was_typed_stays_when_the_draft_is_back(page):
    name = EDITOR_AND_MORE.index("Save as")
    assert call(page, "opened", "few-shot", "few-shot", "my-zero-shot")[name] == "my-few-shot"
    assert call(page, "opened", "few-shot", "few-shot", "patient")[name] == gr.skip()
    assert call(page, "opened", "few-shot", "plain", "patient")[name] == "my-few-shot"  # another prompt was chosen


def test_half_a_page_is_no_draft(page):
    whole = given("A question that nobody sent", template="few-shot", editor=("few-shot", *EDITOR[1:]))
    call(page, "keep_draft", *whole)
    call(page, "keep_draft", "plain", *whole[1:])  # its texts are back, its lists not yet
    again = call(page, "again", "", "plain", "", "", *cells_again())
    assert "A question that nobody sent" in again
    assert changes(again[0])["value"] == "few-shot"


def cells_again() -> list[str]:
    return ["echo:", ""] * 4


async def previewed(page: gr.Blocks, values: list[Any]) -> Any:
    fn = next(f.fn for f in page.fns.values() if f.api_name == "preview")
    inputs, *_ = special_args(fn, inputs=["echo:", *values], request=gr.Request(username="owner"))
    return await fn(*inputs)


def test_the_prompt_is_shown_with_its_tokens_by_part(page):
    bar, _, prompt, _ = asyncio.run(previewed(page, given("Say hello", template="zero-shot")))
    assert "system" in bar
    assert "question" in bar
    assert prompt.endswith("assistant:")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"more": "no colon here"}, "Write it as 'name: value'"),
        ({"shots": "two"}, "Examples to show cannot be 'two'"),
        ({"template": "few-shot"}, "Choose a snapshot or a bank"),
        ({"editor": ("plain", "", "{{ instrction }}", "instruction", 0, "", 0)}, "did you mean|instruction"),
        ({"sampling": (*SAMPLING[:-1], "{")}, "is no JSON"),
    ],
    ids=["variables", "shots", "no examples", "unknown variable", "schema"],
)
def test_bad_input_is_a_sentence_and_no_row(page, project, more, sentence):
    with pytest.raises(gr.Error, match=sentence):
        ask(page, "Hello", **more)
    assert project.store.kept_completions() == []


@pytest.mark.parametrize("temperature", ["warm", "9"])
def test_a_temperature_that_is_none_is_refused(page, temperature):
    with pytest.raises(gr.Error, match=temperature):
        ask(page, "Hello", column={"temperature": temperature})


def test_an_empty_question_is_a_sentence_and_no_row(page, project):
    with pytest.raises(gr.Error, match="instruction is empty"):
        ask(page, "  ")
    assert project.store.kept_completions() == []


def test_keeping_and_sending_name_what_was_asked(page, project):
    ticket = shown(ask(page, "How wide is it?")[-1], 0)[2]
    call(page, "keep_answer_1", ticket)
    call(page, "answer_to_dataset_1", ticket, "Two metres. Next step: measure it.", "brackenfold")
    assert [a.ticket for a in project.store.kept_completions()] == [ticket]
    record = list(project.store.all_records(project.store.dataset("brackenfold").id))[-1]
    assert (record.instruction, record.response) == ("How wide is it?", "Two metres. Next step: measure it.")


def test_two_answers_become_a_pair_to_rank(page, project):
    last = ask(page, "alpha beta gamma delta", models=("echo:", "echo:"), column={"temperature": "1"})[-1]
    tickets = [shown(last, n)[2] for n in (0, 1)]
    call(page, "answers_to_labeling", *tickets, "", "")
    (batch,) = [b for b in project.store.batches() if b.name == "playground"]
    assert batch.items == 1
    with pytest.raises(gr.Error, match="takes two answers"):
        call(page, "answers_to_labeling", tickets[0], "", "", "")


def test_an_answer_leaves_as_code(page):
    ticket = shown(ask(page, "Say hello")[-1], 0)[2]
    fn = next(f.fn for f in page.fns.values() if f.api_name == "export_code")
    inputs, *_ = special_args(fn, inputs=[1, "openai-python", ticket, "", "", ""], request=gr.Request(username="owner"))
    code, _ = asyncio.run(fn(*inputs))
    assert "Say hello" in code.value
    compile(code.value, "snippet", "exec")


@pytest.mark.parametrize("answer_id", ["", "999", "1; drop"])
def test_an_answer_that_is_not_there_cannot_be_kept(page, answer_id):
    with pytest.raises(gr.Error, match="no answer here that could be kept"):
        call(page, "keep_answer_1", answer_id)


def test_markup_in_an_error_or_an_answer_is_shown_as_text():
    evil = "<img src=x onerror=alert(1)>"
    assert "<img" not in columns.head(ModelRef("echo:"), Partial(error=evil))
    assert "<img" not in "".join(columns.differences(["a", evil]))
    assert "<img" not in columns.probabilities([TokenLogprob(token=evil, logprob=-1.0, alternatives=((evil, -2.0),))])
    assert "<img" not in looking.tokens([(evil, 1)])


def test_a_look_that_finds_nothing_new_sends_nothing_and_a_later_one_leaves_choices_alone(project: Workspace):
    with gr.Blocks():
        refresh = prompt.build(project).refresh
    assert refresh is not None
    who, chosen = (
        gr.Request(username="owner"),
        ["plain", "data:brackenfold@1", "brackenfold", str(EMBEDDED), "", *[""] * 6],
    )
    first = refresh.fn(who, "", *chosen)
    token = first[len(chosen) + 2]
    assert all("value" not in list_ for list_ in map(changes, first[:4]))
    assert refresh.fn(who, token, *chosen) == untouched(refresh.outputs)
    project.store.create_dataset("another", author="owner")
    moved = refresh.fn(who, token, *chosen)
    assert "another" in changes(moved[2])["choices"]
    assert "value" not in changes(moved[2])
    gone = refresh.fn(who, token, "nobody@1", *chosen[1:])
    assert changes(gone[0])["value"] in [ref for _, ref in changes(gone[0])["choices"]]


def test_a_new_page_has_its_prompt_in_the_editor(page: gr.Blocks):
    found = {block.label: block.value for block in page.blocks.values() if isinstance(block, gr.Textbox | gr.Dropdown)}
    assert found["Prompt in the editor"] == found["Prompt"] == "zero-shot"
    assert "{{ instruction }}" in found["User part"]
    assert found["Save as"] == "my-zero-shot"


def changes(update: Any) -> dict[str, Any]:
    return update.constructor_args if isinstance(update, gr.Dropdown) else update


def test_whether_a_prompt_helps_is_asked_of_what_is_saved(page: gr.Blocks):
    (asking,) = (fn for fn in page.fns.values() if fn.api_name == "to_check")
    values = {block.label: block.value for block in asking.inputs}
    assert call(page, "to_check", *values.values()) == "zero-shot data:brackenfold@1"
    with pytest.raises(gr.Error, match="Save or revert them first"):
        call(page, "to_check", *(values | {"System part": "Be terse."}).values())


def test_ask_rests_while_answers_come_and_a_press_as_they_end_is_not_dropped(page: gr.Blocks):
    updates = ask(page, "Say hello")
    assert [update[1].interactive for update in (updates[0], updates[-1])] == [False, True]
    asks = [d for d in page.get_config_file()["dependencies"] if d["api_name"] in ("ask", "ask_1")]
    assert [d["trigger_mode"] for d in asks] == ["always_last", "always_last"]


def test_an_answer_that_still_grows_is_not_sent_to_labeling(page: gr.Blocks, project: Workspace):
    first = shown(ask(page, "Say hello")[-1], 0)[2]
    with pytest.raises(gr.Error, match="An answer is not finished"):
        call(page, "answers_to_labeling", first, "a ticket whose answer grows", "", "")
    assert project.store.batches() == []


@pytest.mark.parametrize(
    ("template", "temperature", "words"),
    [
        ("", "", "Another prompt or temperature here"),
        ("", "1.5", "Here: temperature 1.5"),
        ("zero-shot", "0", "Here: zero-shot, temperature 0"),
    ],
)
def test_a_column_says_what_it_has_of_its_own(template: str, temperature: str, words: str):
    assert columns.own_words(template, temperature) == words


def test_columns_go_to_an_evaluation_as_they_stand(page: gr.Blocks):
    two = cells("echo:", "echo:", template="zero-shot", temperature="0.5")
    sent = Columns.read(call(page, "to_evaluate", *two, *given("Say hello"))).columns
    assert [(c.template, str(c.model), c.sampling.temperature) for c in sent] == [
        ("plain", "echo:", 0.0),
        ("zero-shot", "echo:", 0.5),
    ]
    assert {c.guidelines for c in sent} == {"Be brief."}


@pytest.mark.parametrize("opened", [page.id for page in playground.PAGES])
def test_a_beat_reaches_the_open_page_alone(project: Workspace, opened: str):
    with gr.Blocks() as demo:
        widgets = playground.build(project)
    assert widgets.refresh is not None
    beats = widgets.refresh.fn(opened)
    sent = [box for box, beat in zip(widgets.refresh.outputs, beats, strict=True) if isinstance(beat, str)]
    assert [box.label for box in sent] == [f"Beat of {opened}"]
    waiting = [fn for fn in demo.fns.values() if (sent[0]._id, "change") in fn.targets]
    assert len(waiting) == 1  # and it answers
    assert widgets.refresh.fn(opened) != beats
