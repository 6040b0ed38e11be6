"""The labeling page around the desk: which batch is on it, and how answers to rank are sampled."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from components import labeling
from components.theme import ASSETS
from studio.specs import Completion, ModelRef, Sampling, user
from studio.store import Batch, NewItem, Prompt, Ranking
from studio.workspace import Workspace
from tests.fixtures_components import call

KEY = "key-of-this-click"
EMBEDDED = "embedded:smollm2-135m-instruct"
PROMPTS = "prompts:brackenfold@1"
FORM = (EMBEDDED, PROMPTS, "spring", 120, 4, 1.0, 110, 0)


@pytest.fixture
def widgets(project: Workspace) -> labeling.LabelingWidgets:
    with gr.Blocks():
        return labeling.build(project)


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        labeling.build(project)
    return demo


def put_items(workspace: Workspace, batch: str, count: int, source: str = PROMPTS) -> None:
    items = [
        NewItem(
            Prompt.of([user(f"Question {n} of {batch}?")], group=str(n), split="train", source=source),
            tuple(Completion(text=t, finish="stop", prompt_tokens=1, output_tokens=1) for t in ("yes", "no")),
        )
        for n in range(count)
    ]
    workspace.store.add_items(batch, items, model=ModelRef("echo:"), sampling=Sampling(), author="ann")


def look(widgets: labeling.LabelingWidgets, shown: str = "", key: str = "", offered: str = "") -> dict[str, Any]:
    """What the page shows, by label (or by class, for what has none)."""
    refresh = widgets.refresh
    assert refresh is not None
    answer = refresh.fn(shown, key, offered, *FORM)
    names = [getattr(block, "label", None) or type(block).__name__ for block in refresh.outputs]
    assert len(answer) == len(names)
    return {name: value for name, value in zip(names, answer, strict=True) if name != "Column"} | {
        "columns": [value.visible for name, value in zip(names, answer, strict=True) if name == "Column"]
    }


def value_of(update: Any) -> Any:
    return update["value"] if isinstance(update, dict) else update.value


# -- what is on the desk -------------------------------------------------------------------------------------


def test_without_a_batch_there_is_one_sentence_and_one_button(widgets):
    shown = look(widgets)
    assert shown["columns"] == [True, False]
    assert shown["Batch on the desk"] == ""
    assert "No batches yet" in shown["Batches"]


def test_the_desk_opens_at_the_newest_batch_with_the_guidelines_of_its_prompts(widgets, project):
    put_items(project, "spring", 3)
    shown = look(widgets)
    assert shown["columns"] == [False, True]
    assert shown["Batch on the desk"] == "spring"
    assert shown["Desk"]["batch"] == "spring"
    assert shown["Desk"]["items"] == 3
    assert "Next step:" in shown["Desk"]["guidelines"]


def test_a_link_opens_its_batch(widgets, project):
    for name in ("spring", "summer"):
        put_items(project, name, 2)
    assert widgets.links["batch"] is widgets.batch
    assert look(widgets, shown="spring")["Desk"]["batch"] == "spring"
    assert look(widgets, shown="nobody")["Desk"] == {"batch": "nobody", "items": 0, "guidelines": ""}


def test_lists_are_left_alone_until_there_is_something_new_to_choose(widgets, project):
    put_items(project, "spring", 1)
    first = look(widgets)
    again = look(widgets, offered=first["Choices offered"])
    assert first["Batch"] != gr.skip()
    assert [again[name] for name in ("Batch", "Model", "Prompts")] == [gr.skip()] * 3
    put_items(project, "summer", 1)
    assert look(widgets, offered=first["Choices offered"])["Batch"] != gr.skip()


def test_simulated_judgements_carry_their_chip_and_human_ones_do_not(widgets, project):
    put_items(project, "spring", 1)
    store = project.store
    for kind in ("human", "rule"):
        someone = store.annotator(f"a-{kind}", kind)
        (item,) = store.lease_items("spring", someone, 1, seconds=60)
        assert "simulated" not in look(widgets)["Batches"]
        groups = [[key] for key, _ in item.answers]
        store.judge(Ranking(item.assignment_id, f"client-{kind}", groups), someone)
    shown = look(widgets)
    assert "1 of 2 judgements come from a rule" in shown["Batches"]
    assert "simulated" in shown["About the batch"]


def test_names_are_escaped():
    odd = Batch("<b>x", items=1, judged=0, judgements=0, human=0, simulated=0, ai=0, models=("<i>m",), created_at=0)
    said = labeling._batches_html([odd], "")
    assert "<b>x" not in said
    assert "<i>m" not in said


def test_progress_is_told_to_scripts(page, project):
    put_items(project, "spring", 3)
    assert call(page, "labeling_progress", "spring") == {"mine": 0, "judged": 0, "items": 3, "left": 3}
    with pytest.raises(gr.Error, match="no batch 'autumn'"):
        call(page, "labeling_progress", "autumn")


# -- sampling ------------------------------------------------------------------------------------------------


def test_start_sampling_queues_one_job_for_a_double_click_and_another_for_the_next(page, project):
    next_key = call(page, "sample_answers", KEY, *FORM)
    call(page, "sample_answers", KEY, *FORM)
    (job,) = project.store.jobs()
    assert (job.kind, job.state, job.author) == ("sample", "queued", "owner")
    assert (job.task["model"], job.task["batch"], job.task["answers"]) == (EMBEDDED, "spring", 4)
    call(page, "sample_answers", next_key, *FORM)
    assert len(project.store.jobs()) == 2


def test_the_empty_states_button_samples_the_examples_prompts(page, project):
    call(page, "sample_example", KEY)
    (job,) = project.store.jobs()
    assert (job.task["model"], job.task["prompts"], job.task["batch"]) == (EMBEDDED, PROMPTS, "brackenfold")


def test_the_newest_tuned_model_is_proposed():
    models = [("SmolLM2", EMBEDDED), ("run:7 · x", "run:7"), ("run:3 · x", "run:3")]
    assert labeling._newest_tuned(models) == "run:7"
    assert labeling._newest_tuned(models[:1]) == EMBEDDED


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({1: "prompts:nobody@1"}, "no snapshot 'prompts:nobody@1'"),
        ({1: "eval:brackenfold@1"}, "holds no questions"),
        ({2: "two words"}, "letters, digits"),
        ({3: 0}, "must be 1 or more"),
        ({4: 9}, "must be 4 or less"),
    ],
    ids=["snapshot", "kind", "name", "count", "answers"],
)
def test_what_cannot_work_is_a_sentence_and_starts_nothing(page, project, change, sentence):
    with pytest.raises(gr.Error, match=sentence):
        call(page, "sample_answers", KEY, *(change.get(place, value) for place, value in enumerate(FORM)))
    assert project.store.jobs() == []


def test_a_stranger_does_nothing(page, project):
    for name, *args in (("sample_answers", KEY, *FORM), ("sample_example", KEY), ("add_prompts", "mine", "Why?")):
        with pytest.raises(gr.Error, match="not signed in"):
            call(page, name, *args, user=None)
    assert project.store.jobs() == []
    assert [str(s.ref) for s in project.store.snapshots("prompts")] == [PROMPTS]


def test_the_preflight_counts_prompts_and_answers(project):
    given = dict(zip(("model", "prompts", "batch", "count", "answers"), FORM, strict=False))
    assert "answers 120 prompts 4 times each: 480 answers" in labeling._plan(project, given)
    assert "answers 160 prompts" in labeling._plan(project, {**given, "count": 1000})
    assert "no snapshot" in labeling._plan(project, {**given, "prompts": "prompts:nobody@1"})


def test_a_sampling_is_shown_while_it_goes_on_and_can_be_cancelled(page, widgets, project):
    call(page, "sample_answers", KEY, *FORM)
    shown = look(widgets)
    assert shown["columns"] == [False, False]  # neither the empty state nor a desk without items
    assert "Sample 4 answers" in shown["How far sampling is"]
    call(page, "cancel_sampling")
    (job,) = project.store.jobs()
    assert job.state == "cancelled"
    assert look(widgets)["columns"] == [True, False]


def test_a_sampling_that_failed_or_made_nothing_says_why(page, widgets, project):
    store = project.store
    call(page, "sample_answers", KEY, *FORM)
    job = store.claim_job("light", "here")
    store.start_job(job.id, job.attempt, 1)
    store.finish_job(job.id, job.attempt, "failed", error="The model does not answer. Start it again.")
    assert "The model does not answer" in value_of(look(widgets)["What sampling said"])
    call(page, "sample_answers", "another", *FORM)
    job = store.claim_job("light", "here")
    store.start_job(job.id, job.attempt, 1)
    store.finish_job(job.id, job.attempt, "done", result={"prompts": 9, "items": 0, "known": 2, "alike": 7})
    said = value_of(look(widgets)["What sampling said"])
    assert "of 9 prompts, 2 were in the batch already and 7 got only equal answers" in said


def test_prompts_typed_one_a_line_become_a_snapshot_to_sample_from(page, project):
    choices, *_ = call(page, "add_prompts", "support", "Why is it wet?\n\n  How long is it?  \n")
    assert value_of(choices) == "prompts:support@1"
    rows = project.snapshot("prompts:support@1")
    assert [row["instruction"] for row in rows] == ["Why is it wet?", "How long is it?"]
    with pytest.raises(gr.Error, match="0 rows"):
        call(page, "add_prompts", "empty", " \n ")


# -- the script ----------------------------------------------------------------------------------------------


def test_the_script_puts_no_text_of_others_into_markup():
    script = (ASSETS / "labeling.js").read_text(encoding="utf-8")
    assert script.count("innerHTML") == 1  # the desk's own parts
    for way in ("insertAdjacentHTML", "outerHTML", "document.write", "eval("):
        assert way not in script
