"""The tuning page: three fields start one run, and the page only reads rows."""

from __future__ import annotations

import gradio as gr
import pytest

from components import tuning
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.jobs import Figures
from studio.store import Store
from studio.workspace import Workspace
from tests.fixtures_components import call

KEY = "key-of-this-click"
THREE = ("embedded:smollm2-135m-instruct", "data:brackenfold@1", "quick")
ADVANCED = (None, 16, 32, 5e-4, 8, 1024, 0)


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        tuning.build(project)
    return demo


def start(page: gr.Blocks, *three: str, key: str = KEY) -> list:
    return call(page, "tune_lora", key, *(three or THREE), *ADVANCED)


def texts(answer: list) -> str:
    return " ".join(str(value) for value in answer if isinstance(value, str))


def test_three_fields_queue_a_run(page, project):
    answer = start(page)
    (job,) = project.store.jobs()
    assert (job.kind, job.state, job.author) == ("lora", "queued", "owner")
    assert job.task["effort"] == "quick"
    assert f"run:{job.id}" in texts(answer)


def test_a_double_click_starts_one_run_and_the_next_click_another(page, project):
    next_key = start(page)[0]
    start(page)
    assert len(project.store.jobs()) == 1
    start(page, key=next_key)
    assert len(project.store.jobs()) == 2


def test_every_page_that_opens_gets_a_key_of_its_own(project):
    with gr.Blocks():
        widgets = tuning.build(project)
    refresh = widgets.refresh
    place = [getattr(block, "label", "") for block in refresh.outputs].index("Key of the next start")
    keys = {refresh.fn("", "", "", *THREE, *ADVANCED)[place] for _ in range(3)}
    assert len(keys) == 3
    assert refresh.fn("", "mine", "", *THREE, *ADVANCED)[place] == "mine"


def test_lists_are_left_alone_until_there_is_something_new_to_choose(project):
    with gr.Blocks():
        refresh = tuning.build(project).refresh
    place = [getattr(block, "label", "") for block in refresh.outputs].index("Choices offered")
    first = refresh.fn("", "", "", *THREE, *ADVANCED)
    again = refresh.fn("", "", first[place], *THREE, *ADVANCED)
    assert first[0] != gr.skip()
    assert again[:3] == [gr.skip()] * 3
    project.store.create_dataset("tools", author="ann")
    row = insertable({"instruction": "May I?", "response": "You may."})
    project.store.add_records(project.store.dataset("tools").id, [row], author="ann", source="test")
    freeze(project.store, project.path, project.store.dataset("tools"), author="ann")
    assert refresh.fn("", "", first[place], *THREE, *ADVANCED)[:3] != [gr.skip()] * 3


@pytest.mark.parametrize(
    ("three", "sentence"),
    [
        (("embedded:smollm2-135m-instruct", "data:nobody@1", "quick"), "no snapshot 'data:nobody@1'"),
        (("echo:", "data:brackenfold@1", "quick"), "has no weights here"),
        (("embedded:smollm2-135m-instruct", "data:brackenfold@1", "forever"), "must be"),
    ],
    ids=["snapshot", "model", "effort"],
)
def test_what_cannot_work_is_a_sentence_and_starts_nothing(page, project, three, sentence):
    with pytest.raises(gr.Error, match=sentence):
        start(page, *three)
    assert project.store.jobs() == []


def test_a_stranger_starts_nothing(page, project):
    with pytest.raises(gr.Error, match="not signed in"):
        call(page, "tune_lora", KEY, *THREE, *ADVANCED, user=None)
    assert project.store.jobs() == []


def test_the_preflight_says_rows_and_steps(project):
    said = tuning._plan(project, {"base": THREE[0], "data": THREE[1], "effort": "balanced"})
    assert "213 records twice, in 54 steps" in said
    assert "27 records check it" in said


def test_a_run_that_is_not_there_is_named_and_offers_no_button(project):
    shown = tuning._run(project, Figures(project.store), "99")
    assert "99" in shown[1]
    assert [button.visible for button in shown[3:7]] == [False] * 4


def test_a_running_job_shows_its_loss_time_left_and_samples(project):
    store: Store = project.store
    with gr.Blocks() as demo:
        tuning.build(project)
    start(demo)
    job = store.claim_job("train", "here")
    store.start_job(job.id, job.attempt, 1)
    store.log_metrics(job.id, job.attempt, 0, 27, {"validation_loss": 3.7})
    for step in (1, 2):
        store.log_metrics(job.id, job.attempt, step, 27, {"loss": 4.0 - step, "seconds_left": 125.0})
    store.add_event(
        job.id,
        job.attempt,
        "sample",
        {"step": 2, "prompt": "Is <b>it</b> dry?", "answers": {"base": "a", "tuned": "b"}},
    )
    _, title, bar, pause, cancel, resume, try_it, curve, figures, samples = tuning._run(
        project, Figures(store), str(job.id)
    )
    assert "running" in title
    assert "step 2 of 27" in bar
    assert "2 min left" in bar
    assert [b.visible for b in (pause, cancel, resume, try_it)] == [True, True, False, False]
    assert sorted(curve["measured on"].unique()) == ["training", "validation"]
    assert "2.000" in figures
    assert "Is &lt;b&gt;it&lt;/b&gt; dry?" in samples


def test_cancelling_a_queued_run_ends_it(page, project):
    start(page)
    job = project.store.jobs()[0]
    call(page, "cancel_run", str(job.id))
    assert project.store.job(job.id).state == "cancelled"
