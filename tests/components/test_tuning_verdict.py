"""The verdict on the tuning page: what to do with the model on top, and both models' words under it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import gradio as gr
import pytest

from components.tuning import verdict
from studio.jobs import run_folder
from studio.recipes.lora import Lora
from studio.recipes.verdict import TEXTS
from studio.recipes.verdict_state import Answered
from studio.store import Job, model_row
from studio.workspace import Workspace
from tests.components.test_tuning import BASE, DATA, TuningScreen, at_work, call, finish

KINDS = ("better", "worse", "same")


@pytest.fixture
def screen(project: Workspace) -> TuningScreen:
    return TuningScreen(project)


def tuned(screen: TuningScreen) -> Job:
    """A run that is done, on screen, nothing queued behind it."""
    screen.put("Judge it when it is done", False)
    screen.start()
    store = screen.workspace.store
    job = at_work(store)
    row = model_row(f"run:{job.id}", job.title, author="ann", base=BASE, method="lora", snapshot=DATA)
    found = {"train_seconds": 60.0, "validation_loss_before": 3.7, "validation_loss": 2.1, "best_step": 2}
    store.finish_job(job.id, job.attempt, "done", result=found, model=row)
    screen.beat()
    return store.job(job.id)


def line(part: str, number: int, standing: str, **more: Any) -> dict[str, Any]:
    told = {
        "part": part,
        "number": number,
        "category": "open_qa",
        "question": f"Question {number}?",
        "wanted": "The <b>wanted</b> one.",
        "before": f"<i>base</i> {number}",
        "after": f"tuned {number}",
        "before_cut": False,
        "after_cut": True,
        "before_score": 0.2,
        "after_score": {"better": 0.6, "worse": 0.1, "same": 0.2}[standing],
        "standing": standing,
        "refusal": "",
        **more,
    }
    return asdict(Answered(**told))


def interval(value: float, n: int) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n}


def result(**more: Any) -> dict[str, Any]:
    return {
        "outcome": "use",
        "sentence": "Use it: better on 18 of 24 test records, worse on 2.",
        "reason": "F1 over words: +0.31.",
        "measure": "f1",
        "margin": 0.05,
        "on": "test records",
        "snapshot": DATA,
        "test_records": 24,
        "left_out": 1,
        "loss": {
            "before": 3.6,
            "after": 2.1,
            "perplexity": {"before": 36.6, "after": 8.2},
            "difference": interval(-1.5, 24),
            "better": 24,
            "worse": 0,
            "tokens": 900,
        },
        "metrics": {"f1": {"title": "F1 over words", "before": 0.2, "after": 0.5, "difference": interval(0.3, 24)}},
        "general": {"n": 60, "before": 0.75, "after": 0.7, "difference": interval(-0.05, 60)},
        **more,
    }


def asked_for(screen: TuningScreen) -> Job:
    """The verdict that was queued, taken up by a worker."""
    store = screen.workspace.store
    job = store.claim_job("light", "here")
    assert job is not None
    return store.start_job(job.id, job.attempt, 1)


def judged(screen: TuningScreen, **more: Any) -> Job:
    """A verdict that is done, on screen."""
    screen.do("judge_run")
    job = asked_for(screen)
    lines = [line("answers", n, "better") for n in range(1, 19)]
    lines += [line("answers", n, "worse") for n in range(19, 21)] + [line("answers", n, "same") for n in range(21, 25)]
    lines += [line("general", n, "worse") for n in range(1, 4)]
    folder = run_folder(screen.workspace.path, job.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TEXTS).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = screen.workspace.store.finish_job(job.id, 1, "done", result=result(**more))
    screen.beat()
    return done


def shows_card(screen: TuningScreen) -> bool:
    return screen.shows(next(b for b in screen.demo.blocks.values() if b.elem_id == "tuning-verdict"))


# -- after the run ---------------------------------------------------------------------------------------------


def test_a_run_is_judged_when_it_is_done_without_a_field_touched(screen, project):
    job = screen.start()
    assert "A verdict follows when the run is done." in screen.text()
    finish(project.store, at_work(project.store))
    follower = project.store.jobs()[0]
    assert (follower.kind, follower.task["model"], follower.author) == ("verdict", f"run:{job.id}", "owner")


def test_a_double_click_brings_one_verdict(screen, project):
    key = screen["Key of the next start"]
    screen.do("begin_tuning")
    screen.values[screen._find("Key of the next start")] = key
    screen.do("begin_tuning")
    finish(project.store, at_work(project.store))
    assert [job.kind for job in project.store.jobs()] == ["verdict", "lora"]


def test_who_does_not_want_it_gets_none(screen, project):
    tuned(screen)
    assert [job.kind for job in project.store.jobs()] == ["lora"]


def test_running_again_is_judged_as_the_box_says(screen, project):
    job = tuned(screen)
    screen.put("Judge it when it is done", True)
    screen.do("run_again")
    again = project.store.jobs()[0]
    assert again.id != job.id
    assert project.store.followers(again.id) == ["verdict"]


def test_scripts_may_ask_for_it(screen, project):
    made = call(screen.demo, "start_tuning", "lora", DATA, BASE, "quick", {}, "company", True)
    assert project.store.followers(made["run"]) == ["verdict"]
    made = call(screen.demo, "start_tuning", "lora", DATA, BASE, "quick", {"rank": 4})
    assert project.store.followers(made["run"]) == []


# -- on its way ------------------------------------------------------------------------------------------------


def test_a_run_without_a_verdict_offers_one_and_a_double_click_starts_one(screen, project):
    tuned(screen)
    assert screen.shows(screen.button("Judge this run"))
    screen.do("judge_run")
    screen.do("judge_run")
    assert [job.kind for job in project.store.jobs()] == ["verdict", "lora"]
    assert not screen.shows(screen.button("Judge this run"))


def test_how_far_it_is_and_how_long_it_takes_is_told(screen, project):
    tuned(screen)
    screen.do("judge_run")
    job = asked_for(screen)
    project.store.log_metrics(job.id, 1, 60, 216, {"seconds_left": 130.0})
    project.store.say(job.id, 1, "run:1 answers 24 held-out questions.")
    screen.beat()
    said = screen.html("How far the verdict is")
    for words in ("answer 60 of 216", "run:1 answers 24 held-out questions.", "2 min left"):
        assert words in said


def test_a_verdict_that_failed_says_why_and_can_be_asked_for_again(screen, project):
    tuned(screen)
    screen.do("judge_run")
    job = asked_for(screen)
    project.store.finish_job(job.id, 1, "failed", error="The disk is full. Free some space.")
    screen.beat()
    assert "The disk is full. Free some space." in screen.html("How far the verdict is")
    assert screen.shows(screen.button("Judge this run"))
    screen.do("judge_run")
    assert project.store.jobs()[0].id != job.id


def test_a_run_that_is_not_done_and_waits_for_no_verdict_shows_no_card(screen):
    screen.put("Judge it when it is done", False)
    screen.start()
    assert not shows_card(screen)


# -- what it says ----------------------------------------------------------------------------------------------


def test_the_recommendation_is_on_top_and_its_figures_under_it(screen):
    tuned(screen)
    judged(screen)
    assert "Use it: better on 18 of 24 test records, worse on 2." in screen.html("Recommendation")
    table = screen.html("Figures of the verdict")
    for words in (
        "36.6",
        "8.2",
        "× 0.22",
        "−1.50",
        "[−1.55, −1.45]",
        "lower is better",
        "45 of 60",
        "42 of 60",
        "decides",
    ):
        assert words in table
    assert "24 records, none of them learned from" in table
    assert not screen.shows(screen.button("Judge this run"))


def test_what_training_records_ask_as_well_is_told_to_stay_out(screen):
    tuned(screen)
    judged(screen, asked_in_training=2)
    assert "2 more ask what a training record asks as well, and stay out." in screen.html("Figures of the verdict")


def test_the_list_of_runs_reads_the_verdicts_once(screen, project, monkeypatch):
    tuned(screen)
    reads: list[int] = []
    token = type(project.store).state_token
    monkeypatch.setattr(type(project.store), "state_token", lambda store: reads.append(1) or token(store))

    def drawn() -> int:
        reads.clear()
        screen.values[screen._find("Runs painted")] = ""
        screen.beat()
        return len(reads)

    few = drawn()
    for _ in range(5):
        project.store.queue_job(Lora(base=BASE, data=DATA), author="ann")
    assert drawn() == few


def test_texts_can_be_sifted_and_come_ten_at_a_time(screen):
    tuned(screen)
    judged(screen)
    choices = screen.props[screen._find("Which answers")]["choices"]
    assert choices == [("Better (18)", "better"), ("Worse (2)", "worse"), ("The same (4)", "same")]
    assert screen.html("Answers before and after").count('<article class="pair"') == 10
    more = screen.button("Show 10 more")
    assert screen.shows(more)
    screen.do("more_of_verdict")
    assert screen.html("Answers before and after").count('<article class="pair"') == 18
    assert not screen.shows(more)
    screen.values[screen._find("Which answers")] = "worse"
    screen.do("sift_verdict")
    assert "tuned 19" in screen.html("Answers before and after")
    assert "tuned 1<" not in screen.html("Answers before and after")


def test_what_models_and_people_wrote_stays_text(screen):
    tuned(screen)
    judged(screen, sentence="Use <script>it</script>", reason="<b>so</b>")
    shown = screen.html("Answers before and after") + screen.html("What it forgot") + screen.html("Recommendation")
    for words in ("&lt;i&gt;base&lt;/i&gt;", "&lt;b&gt;wanted&lt;/b&gt;", "&lt;script&gt;"):
        assert words in shown
    assert "<script>" not in shown
    assert "<i>base" not in shown


def test_what_it_forgot_is_counted_and_shown(screen):
    tuned(screen)
    judged(screen)
    lost = screen.html("What it forgot")
    assert "the base answers 45 right. The tuned model forgot 3 of these and learned 0 others." in lost
    assert "Forgotten (3)" in lost
    assert "Learned" not in lost


def test_the_texts_stay_as_they_are_while_somebody_reads_them(screen):
    tuned(screen)
    judged(screen)
    screen.do("more_of_verdict")
    screen.beat()
    assert screen.html("Answers before and after").count('<article class="pair"') == 18


def test_texts_that_are_gone_are_a_sentence_on_the_page(screen, project):
    tuned(screen)
    job = judged(screen)
    (run_folder(project.path, job.id) / TEXTS).unlink()
    verdict._read.cache_clear()
    fresh = TuningScreen(project)
    assert "Judge the run again" in fresh.html("Recommendation")
    assert fresh.shows(fresh.button("Judge this run"))
    fresh.do("judge_run")
    assert project.store.jobs()[0].id == job.id + 1
    assert f"Job {job.id + 1}" in fresh.html("How far the verdict is")
    assert not fresh.shows(fresh.button("Judge this run"))


def test_a_kind_of_answer_that_there_is_not_is_refused(screen):
    tuned(screen)
    judged(screen)
    screen.values[screen._find("Which answers")] = "<b>"
    with pytest.raises(gr.Error, match="is no kind of answer"):
        screen.do("sift_verdict")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("use", "Use it"), ("not_yet", "Not yet"), ("do_not", "Do not use it"), ("cannot_tell", "Cannot tell")],
)
def test_the_list_of_runs_says_what_the_verdict_was(screen, outcome, words):
    tuned(screen)
    assert words not in screen.html("Runs")
    judged(screen, outcome=outcome)
    assert words in screen.html("Runs")


# -- same answer everywhere ------------------------------------------------------------------------------------


def test_the_check_of_the_same_answers_is_started_and_told(screen, project):
    tuned(screen)
    assert "Not checked" in screen.html("Same answer everywhere")
    screen.do("check_same")
    screen.do("check_same")
    job = asked_for(screen)
    assert (job.kind, job.task["model"]) == ("round_trip", "run:1")
    assert [j.kind for j in project.store.jobs()].count("round_trip") == 1
    assert not screen.shows(screen.button("Check it"))
    project.store.finish_job(job.id, 1, "done", result={"sentence": "All 20 answers are the same."})
    screen.beat()
    assert "All 20 answers are the same." in screen.html("Same answer everywhere")


def test_a_verdict_that_was_cancelled_can_be_asked_for_again(screen, project):
    tuned(screen)
    screen.do("judge_run")
    first = project.store.jobs()[0]
    project.store.request_job(first.id, "cancel")
    screen.beat()
    assert screen.shows(screen.button("Judge this run"))
    screen.do("judge_run")
    assert project.store.jobs()[0].id != first.id
