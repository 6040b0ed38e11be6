"""The tuning page: three fields start one run, and the page only reads rows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from components import tuning
from components.tuning import on_screen
from components.tuning.on_screen import OnScreen
from studio.errors import ModelError
from studio.instructions import freeze
from studio.instructions.records import insertable
from studio.jobs import perform, run_folder
from studio.jobs.actions import note_job
from studio.jobs.checkpoints import Checkpoints
from studio.recipes.lengths import encoded
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Store
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.screen import Screen

BASE, DATA = "embedded:smollm2-135m-instruct", "data:brackenfold@1"


class TuningScreen(Screen):
    """The page as one person sees it, the tab just opened."""

    follows = True

    def __init__(self, workspace: Workspace) -> None:
        with gr.Blocks() as demo:
            self.widgets = tuning.build(workspace)
        super().__init__(demo)
        self.workspace = workspace
        self.beat()

    def beat(self) -> None:
        """The tab opens, or a job moved."""
        refresh = self.widgets.refresh
        assert refresh is not None
        self._take(list(refresh.outputs), refresh.fn(*(self.values[box._id] for box in refresh.inputs)))
        self.settle()

    def _update(self, block: Any, value: Any) -> None:
        """Records are counted by an engine, which nobody starts here."""
        super()._update(block, value)
        if getattr(block, "label", "") == "Records to count":
            self._changed = [key for key in self._changed if key != block._id]

    def put(self, label: str, value: Any) -> None:
        """Choose or type one value."""
        self.values[self._find(label)] = value
        self._changed.append(self._find(label))
        self.settle()

    def html(self, label: str) -> str:
        return str(self[label])

    def text(self) -> str:
        """All words on the page."""
        parts = [str(v) for key, v in self.values.items() if isinstance(self.demo.blocks[key], gr.HTML)]
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", " ".join(parts)))

    def button(self, words: str) -> gr.Button:
        return next(b for b in self.demo.blocks.values() if isinstance(b, gr.Button) and b.value == words)

    def start(self) -> Job:
        self.do("begin_tuning")
        return self.workspace.store.jobs()[0]


@pytest.fixture
def screen(project: Workspace) -> TuningScreen:
    return TuningScreen(project)


def at_work(store: Store) -> Job:
    """The next run in line, taken up by a worker."""
    job = store.claim_job("train", "here")
    assert job is not None
    return store.start_job(job.id, job.attempt, 1)


def finish(store: Store, job: Job, **result: Any) -> Job:
    told = {"train_seconds": 60.0, "validation_loss_before": 3.7, "validation_loss": 2.1, "best_step": 2, **result}
    return store.finish_job(job.id, job.attempt, "done", result=told)


# -- the start -------------------------------------------------------------------------------------------------


def test_the_form_does_not_wait_until_tokens_are_counted(project, model_workspace, monkeypatch):
    shutil.copytree(model_workspace / "models" / "tiny", project.path / "models" / "tiny")
    screen = TuningScreen(project)
    screen.put("Which model", "dir:tiny")
    assert screen["Records to count"].startswith(f"{DATA} dir:tiny ")
    screen.put("How thorough", "quick")  # nothing was counted meanwhile
    assert "records once" in screen.html("Before the start")
    assert "Guessed from letters" in screen.html("Before the start")

    def failed(*_: Any) -> None:
        raise ModelError("Tokens could not be counted (no engine), so they are guessed from letters.")

    warned: list[str] = []
    monkeypatch.setattr(gr, "Warning", warned.append)
    monkeypatch.setattr(tuning, "count_now", failed)
    before = screen["Records to count"]
    screen.do("count_tokens")
    assert "no engine" in warned[0]
    screen.put("How thorough", "quick")
    assert screen["Records to count"] != before  # tried again at the next change

    def counted(store: Store, root: Path, data: SnapshotRef, base: ModelRef, *_: Any) -> None:
        encoded(root, store.snapshot(data), project.weights(base), lambda done, total: None)

    monkeypatch.setattr(tuning, "count_now", counted)  # as the engine would
    screen.do("count_tokens")
    assert "with the model&#x27;s own tokenizer" in screen.html("Before the start")
    assert "records once" in screen.html("Before the start")
    assert screen["Records to count"] == ""


def test_three_fields_are_enough_and_they_are_filled_in_already(screen, project):
    assert (screen["What to teach"], screen["Which model"], screen["How thorough"]) == (DATA, BASE, "balanced")
    job = screen.start()
    assert (job.kind, job.state, job.author) == ("lora", "queued", "owner")
    assert (job.task["data"], job.task["base"], job.task["effort"]) == (DATA, BASE, "balanced")
    assert f"run:{job.id}" in screen.text()


def test_a_double_click_starts_one_run_and_the_next_click_another(screen, project):
    key = screen["Key of the next start"]
    screen.do("begin_tuning")
    screen.values[screen._find("Key of the next start")] = key
    screen.do("begin_tuning")
    assert len(project.store.jobs()) == 1
    screen.do("begin_tuning")
    assert len(project.store.jobs()) == 2


def test_every_page_that_opens_gets_a_key_of_its_own_and_keeps_it(project):
    first, second = TuningScreen(project), TuningScreen(project)
    key = first["Key of the next start"]
    assert key != second["Key of the next start"]
    first.beat()
    assert first["Key of the next start"] == key


def test_another_method_brings_its_own_knobs_and_says_what_empty_fields_stand_for(screen, project):
    assert "Empty: 1e-3 for LoRA" in placeholders(screen)
    screen.do("choose_method", "prefix")
    assert "Empty: 1e-2 for Prefix tuning" in placeholders(screen)
    shown = [column for column in knob_groups(screen) if screen.shows(column)]
    assert [label for column in shown for label in labels_in(column)] == ["Invisible words"]
    assert screen.start().kind == "prefix"


def test_methods_with_the_same_knobs_share_their_widgets(screen, project):
    screen.put("LoRA rank", 8)
    screen.do("choose_method", "qlora")
    assert "Knobs of LoRA and QLoRA" in screen.text()
    assert screen["LoRA rank"] == 8


def test_the_list_of_methods_explains_each_one_with_its_cost(screen):
    listed = screen.html("Methods")
    for words in ("LoRA", "QLoRA", "Full fine-tuning", "about 3 % new numbers, fast"):
        assert words in listed
    assert listed.count("<tr data-key=") >= 10


def test_new_parameters_are_counted_for_the_chosen_model_and_what_cannot_work_says_why(project, model_workspace):
    shutil.copytree(model_workspace / "models" / "tiny", project.path / "models" / "tiny")
    screen = TuningScreen(project)
    screen.put("Which model", "dir:tiny")
    listed = screen.html("Methods")
    assert "Works" in listed
    assert "QLoRA needs" in listed
    assert re.search(r'title="[\d,]+"', listed)
    assert "New parameters" in screen.html("Before the start")


def test_lists_are_left_alone_until_there_is_something_new_to_choose(screen, project):
    refresh = screen.widgets.refresh
    values = [screen.values[box._id] for box in refresh.inputs]
    assert refresh.fn(*values)[:3] == [gr.skip()] * 3
    project.store.create_dataset("tools", author="ann")
    row = insertable({"instruction": "May I?", "response": "You may."})
    project.store.add_records(project.store.dataset("tools").id, [row], author="ann", source="test")
    freeze(project.store, project.path, project.store.dataset("tools"), author="ann")
    assert refresh.fn(*values)[:3] != [gr.skip()] * 3


@pytest.mark.parametrize(
    ("label", "value", "sentence"),
    [
        ("What to teach", "data:nobody@1", "There is no snapshot"),
        ("Which model", "echo:", "has no weights here"),
        ("How thorough", "forever", "must be"),
        ("LoRA rank", 0, "must be 1 or more"),
    ],
)
def test_what_cannot_work_is_a_sentence_and_starts_nothing(screen, project, label, value, sentence):
    screen.put(label, value)
    assert sentence in screen.html("Before the start")
    with pytest.raises(gr.Error, match=sentence):
        screen.do("begin_tuning")
    assert project.store.jobs() == []


def test_what_is_wrong_with_the_three_fields_is_said_under_them(screen):
    (fn,) = [fn for fn in screen.demo.fns.values() if fn.api_name == "begin_tuning"]
    screen.values[screen._find("How thorough")] = "forever"
    said = fn.validator(*(screen.values[box._id] for box in fn.inputs))
    assert next(v["message"] for v in said if not v["is_valid"]).startswith("Must be")
    assert len(said) == len(fn.inputs)


def test_a_stranger_starts_nothing(screen, project):
    with pytest.raises(gr.Error, match="not signed in"):
        screen.do("begin_tuning", user=None)
    assert project.store.jobs() == []


# -- before the start --------------------------------------------------------------------------------------------


def test_the_card_says_rows_and_steps_with_how_sure_they_are(screen):
    said = screen.html("Before the start")
    assert "213 records twice, in 54 steps" in said
    assert "27 records check it" in said
    assert "Exact" in said


def test_the_licence_line_answers_for_the_intended_use(screen):
    before = screen.html("Before the start")
    assert "Licence" in before
    screen.put("What it is for", "customers")
    assert "offered to customers" in screen.html("Before the start")


def test_a_licence_that_does_not_allow_the_use_stops_the_start(project):
    dataset = project.store.create_dataset("borrowed", author="ann", licence="CC-BY-NC-4.0")
    rows = [insertable({"instruction": f"May I {n}?", "response": f"You may {n}."}) for n in range(20)]
    project.store.add_records(dataset.id, rows, author="ann", source="test")
    taken = freeze(project.store, project.path, dataset, author="ann")
    screen = TuningScreen(project)
    screen.put("What to teach", str(taken.ref))
    assert "Not allowed" in screen.html("Before the start")
    with pytest.raises(gr.Error, match="not for business"):
        screen.do("begin_tuning")
    screen.put("What it is for", "research")
    assert screen.start().task["use"] == "research"
    screen.do("run_again")  # what a run was for stays with it
    assert [job.task["use"] for job in project.store.jobs()] == ["research", "research"]
    screen.put("What it is for", "customers")
    screen.do("run_with_changes")
    assert screen["What it is for"] == "research"
    with pytest.raises(gr.Error, match="not for business"):
        call(screen.demo, "start_tuning", "lora", str(taken.ref), BASE, "quick", None, "customers")
    assert call(screen.demo, "plan_tuning", "lora", str(taken.ref), BASE, "quick", None)["can_start"] is False


def test_measuring_first_queues_a_dry_run_of_what_the_form_says(screen, project):
    screen.put("LoRA rank", 8)
    screen.do("measure_first")
    (job,) = project.store.jobs()
    assert (job.kind, job.task["method"], job.task["knobs"]) == ("dry_run", "lora", {"rank": 8})
    assert "measures" in screen.html("Measuring")


def test_a_finished_run_tells_what_the_presets_mean_in_minutes(project, model_workspace):
    shutil.copytree(model_workspace / "models" / "tiny", project.path / "models" / "tiny")
    screen = TuningScreen(project)
    screen.put("Which model", "dir:tiny")
    assert "On this machine" not in screen.text()
    screen.start()
    job = at_work(project.store)
    digest = project.weights(ModelRef("dir:tiny")).digest
    project.store.log_metrics(job.id, job.attempt, 54, 54, {"loss": 2.0})
    finish(project.store, job, base_digest=digest, train_seconds=240.0)
    screen.beat()
    assert "Quick about 2 min · Balanced about 4 min · Thorough about 8 min" in screen.text()


# -- the run on screen -------------------------------------------------------------------------------------------


def test_a_run_that_is_not_there_is_named_and_offers_no_button(screen):
    screen.put("Run on screen", "99")
    assert "99" in screen.text()
    assert not any(screen.shows(screen.button(w)) for w in ("Pause", "Cancel", "Resume", "Run again"))


@pytest.mark.parametrize("number", ["99999999999999999999", "²", "-1", "9" * 5000])
def test_a_number_that_no_run_can_have_breaks_no_page(screen, number):
    screen.put("Run on screen", number)
    screen.beat()
    screen.put("Runs ticked", f"{number} 1")
    assert not screen.shows(next(b for b in screen.demo.blocks.values() if b.elem_id == "tuning-run"))


def running(screen: TuningScreen, steps: int = 2) -> Job:
    screen.start()
    store = screen.workspace.store
    job = at_work(store)
    store.log_metrics(job.id, job.attempt, 0, 27, {"validation_loss": 3.7})
    for step in range(1, steps + 1):
        store.log_metrics(job.id, job.attempt, step, 27, {"loss": 4.0 - step, "seconds_left": 125.0})
    return job


def sampled(store: Store, job: Job, step: int, tuned: str) -> None:
    answers = {"base": "a", "tuned": tuned}
    store.add_event(job.id, job.attempt, "sample", {"step": step, "prompt": "Is <b>it</b> dry?", "answers": answers})


def test_a_running_job_shows_its_loss_time_left_and_samples(screen, project):
    job = running(screen)
    project.store.log_metrics(job.id, job.attempt, 2, 27, {"validation_loss": 2.5})
    sampled(project.store, job, 2, "b")
    screen.beat()
    said = screen.text()
    for words in ("running", "step 2 of 27", "2 min left", "2.000"):
        assert words in said
    shown = {w: screen.shows(screen.button(w)) for w in ("Pause", "Cancel", "Resume", "Try it beside its base")}
    assert shown == {"Pause": True, "Cancel": True, "Resume": False, "Try it beside its base": False}
    curves = screen.html("Curves of the run")
    assert 'data-look="training"' in curves
    assert 'data-look="validation"' in curves
    assert "best: step 2" in curves
    assert "Is &lt;b&gt;it&lt;/b&gt; dry?" in screen.html("Answers on the way")


def test_the_answers_of_every_look_can_be_read_again(screen, project):
    job = running(screen, steps=9)
    for step in (3, 6):
        sampled(project.store, job, step, f"after {step}")
    screen.beat()
    assert "after 6" in screen.html("Answers on the way")
    screen.put("Answers given at", "3")
    assert "after 3" in screen.html("Answers on the way")
    sampled(project.store, job, 9, "after 9")
    screen.beat()
    assert "after 3" in screen.html("Answers on the way")  # somebody reads it


def test_smoothing_redraws_the_training_curve_alone(screen, project):
    running(screen, steps=9)
    screen.beat()
    assert "faint" in screen.html("Curves of the run")
    screen.put("Smoothing", 0)
    assert "faint" not in screen.html("Curves of the run")


def test_a_run_that_stopped_early_says_where_and_which_step_was_kept(screen, project):
    job = running(screen, steps=9)
    finish(project.store, job, stopped_early=True, best_step=3)
    screen.beat()
    assert "stopped early: step 9" in screen.html("Curves of the run")
    assert "Kept: step 3" in screen.text()
    assert "Validation loss 3.70 → 2.10" in screen.text()


def test_a_page_that_comes_back_shows_the_last_run(screen, project):
    job = running(screen)
    finish(project.store, job)
    assert f"run:{job.id}" in TuningScreen(project).text()


def test_cancelling_a_queued_run_ends_it(screen, project):
    job = screen.start()
    screen.do("cancel_run")
    assert project.store.job(job.id).state == "cancelled"


def test_run_again_queues_the_same_once_more(screen, project):
    screen.put("LoRA rank", 4)
    first = screen.start()
    finish(project.store, at_work(project.store))
    screen.beat()
    screen.do("run_again")
    second = project.store.jobs()[0]
    assert second.id != first.id
    assert (second.kind, second.task) == (first.kind, first.task)


def test_run_with_changes_fills_the_form_with_what_the_run_was_told(screen, project):
    screen.do("choose_method", "prefix")
    screen.put("How thorough", "quick")
    screen.put("Epochs", "3")
    screen.start()
    screen.do("choose_method", "lora")
    screen.put("How thorough", "thorough")
    screen.put("Epochs", "")
    screen.do("run_with_changes")
    assert (screen["Method"], screen["How thorough"], screen["Epochs"]) == ("prefix", "quick", "3")
    again = screen.start()
    assert again.task["epochs"] == 3
    assert again.origin is not None
    assert again.origin["changes"] == {}
    assert screen["Run to repeat"] == ""


def test_a_run_with_changes_remembers_what_was_changed(screen, project):
    first = screen.start()
    screen.do("run_with_changes")
    screen.put("LoRA rank", 4)
    again = screen.start()
    assert again.origin is not None
    assert (again.origin["run"], again.origin["changes"]) == (first.id, {"rank": [16, 4]})


def test_a_form_that_was_filled_from_a_run_can_start_something_new(screen, project):
    screen.start()
    screen.do("run_with_changes")
    screen.do("forget_repeat")
    assert screen.start().origin is None


def test_going_on_from_a_checkpoint_is_offered_where_there_is_one(screen, project):
    def offered() -> bool:
        screen.do("run_with_changes")
        return bool(screen.visible[screen._find("Go on from its last checkpoint")])

    job = running(screen)
    project.store.finish_job(job.id, job.attempt, "failed", error="The loss became nan at step 3.")
    screen.beat()
    assert not offered()
    checkpoints = Checkpoints(run_folder(project.path, job.id))
    checkpoints.publish(checkpoints.begin(2))
    assert offered()
    screen.put("Go on from its last checkpoint", True)
    screen.put("Learning rate", "1e-4")
    again = screen.start()
    assert again.origin is not None
    assert again.origin["checkpoint"]
    assert again.task["learning_rate"] == 1e-4


def test_notes_stay_beside_the_run(screen, project):
    job = screen.start()
    screen.put("Note", "The one with <b>clean</b> data")
    screen.do("add_note")
    assert "The one with &lt;b&gt;clean&lt;/b&gt; data" in screen.html("Notes on the run")
    assert screen["Note"] == ""
    assert [note.author for note in project.store.notes(job.id)] == ["owner"]
    with pytest.raises(gr.Error, match="note on run"):
        screen.do("add_note")


def test_the_manifest_can_be_saved_before_and_after_the_start(screen, project):
    job = screen.start()
    path = Path(str(screen.do("run_manifest")))
    told = json.loads(path.read_text(encoding="utf-8"))
    assert (told["run"], told["kind"], told["snapshots"].keys()) == (job.id, "lora", {DATA})
    assert path.name == f"run-{job.id}.manifest.json"


def test_a_model_can_be_carried_away_when_its_run_is_done(screen, project):
    job = running(screen)
    screen.beat()
    assert not screen.visible[screen.button("Download model")._id]
    with pytest.raises(gr.Error, match=f"run:{job.id} is not a model yet"):
        screen.do("run_model")
    finish(project.store, job)
    screen.beat()
    assert screen.visible[screen.button("Download model")._id]


def test_a_run_of_another_kind_is_not_shown_as_tuning(screen, project):
    screen.do("measure_first")
    job = project.store.jobs()[0]
    screen.put("Run on screen", str(job.id))
    assert "is no tuning run" in screen.text()
    with pytest.raises(gr.Error, match="is no tuning run"):
        screen.do("run_again")


# -- past runs ---------------------------------------------------------------------------------------------------


def two_runs(screen: TuningScreen) -> tuple[Job, Job]:
    jobs = []
    for rank, loss in ((4, 2.4), (16, 2.1)):
        screen.put("LoRA rank", rank)
        job = running(screen, steps=6)
        jobs.append(finish(screen.workspace.store, job, validation_loss=loss))
    screen.beat()
    return jobs[0], jobs[1]


def test_past_runs_are_rows_with_their_curve_and_what_came_out(screen):
    first, second = two_runs(screen)
    rows = screen.html("Runs")
    assert rows.count('class="spark"') == 2
    assert "3.70 → 2.40" in rows
    assert rows.index(f"run:{second.id}") < rows.index(f"run:{first.id}")


def test_rows_are_left_alone_while_nothing_about_them_moved(screen, project):
    two_runs(screen)
    refresh = screen.widgets.refresh
    values = [screen.values[box._id] for box in refresh.inputs]
    place = next(i for i, box in enumerate(refresh.outputs) if getattr(box, "label", "") == "Runs")
    assert refresh.fn(*values)[place] == gr.skip()


def _looked(screen: TuningScreen) -> dict[str, Any]:
    """What the page is sent when it looks again: label -> value of what is not left alone."""
    refresh = screen.widgets.refresh
    told = refresh.fn(*(screen.values[box._id] for box in refresh.inputs))
    named = zip(refresh.outputs, told, strict=True)
    return {getattr(box, "label", None) or str(box): value for box, value in named if value != gr.skip()}


def test_a_look_sends_what_the_page_does_not_have_and_nothing_else(screen, project):
    job = running(screen)
    screen.beat()
    assert _looked(screen) == {}
    project.store.log_metrics(job.id, job.attempt, 3, 27, {"loss": 0.5})
    sent = _looked(screen)
    assert {"Curves of the run", "Figures of the run"} <= set(sent)
    assert not {"Runs that wait", "Method", "Answers on the way", "Notes on the run"} & set(sent)
    assert not [value for value in sent.values() if isinstance(value, gr.Button | gr.Column | gr.Dropdown)]


def test_what_somebody_did_is_looked_at_anew(screen, project):
    job = running(screen)
    screen.do("cancel_run")  # the page was drawn by the press
    assert screen["Parts on screen"] == ""
    assert "stopping" in screen.text()
    project.store.finish_job(job.id, job.attempt, "cancelled")
    screen.beat()
    assert "cancelled" in screen.text()


def test_a_dry_run_that_is_over_leaves_no_word_behind(screen, project):
    screen.do("measure_first")
    assert "measures" in screen.html("Measuring")
    job = project.store.jobs()[0]
    perform(project.store, project.path, job.id, "cancel", by="ann")
    screen.beat()
    assert screen.html("Measuring") == ""


def test_pages_that_look_at_the_same_moment_are_drawn_once(project, monkeypatch):
    drawn = []
    draw = OnScreen.show
    monkeypatch.setattr(OnScreen, "show", lambda *given: drawn.append(given[1]) or draw(*given))
    ours = TuningScreen(project)
    job = ours.start()
    ours.beat()
    before = len(drawn)
    assert _looked(ours) == _looked(ours) == {}
    assert len(drawn) == before
    note_job(project.store, job.id, "the one with more epochs", by="ann")
    assert "more epochs" in _looked(ours)["Notes on the run"]
    assert "more epochs" in _looked(ours)["Notes on the run"]
    assert len(drawn) == before + 1


def test_two_ticked_runs_are_compared_by_their_curves_and_the_knobs_that_differ(screen):
    first, second = two_runs(screen)
    screen.do("tick_runs", f"{first.id}")
    assert screen.html("What was not the same") == ""
    screen.do("tick_runs", f"{first.id} {second.id}")
    told = screen.html("What was not the same")
    assert "LoRA rank" in told
    assert "LoRA alpha" not in told
    assert f"run:{second.id}" in screen.html("Curves over each other")


def test_ticks_on_what_is_not_there_are_ignored(screen):
    first, _ = two_runs(screen)
    screen.do("tick_runs", f"{first.id} 999 nonsense")
    assert screen.html("What was not the same") == ""


def test_waiting_runs_can_be_held_released_and_put_first(screen, project):
    first, second = screen.start(), screen.start()
    screen.beat()
    queue = screen.html("Runs that wait")
    assert queue.index(f"run:{first.id}") < queue.index(f"run:{second.id}")
    order(screen, "first", second)
    assert [job.id for job in project.store.waiting_jobs("train")] == [second.id, first.id]
    order(screen, "down", second)
    assert [job.id for job in project.store.waiting_jobs("train")] == [first.id, second.id]
    order(screen, "hold", second)
    assert project.store.job(second.id).state == "held"
    order(screen, "release", second)
    order(screen, "cancel", first)
    assert [job.id for job in project.store.waiting_jobs("train")] == [second.id]
    with pytest.raises(gr.Error, match="no order"):
        order(screen, "delete", second)


def test_a_stopped_queue_says_why_nothing_starts(screen, project):
    screen.start()
    project.store.stop_queue("train", by="ann")
    screen.beat()
    assert "ann stopped the queue" in screen.html("Runs that wait")


def order(screen: TuningScreen, action: str, job: Job) -> None:
    (fn,) = [fn for fn in screen.demo.fns.values() if fn.api_name == "order_queue"]
    event = gr.EventData(None, {"do": action, "key": str(job.id)})
    inputs = [screen.values[box._id] for box in fn.inputs]
    screen._take(fn.outputs, fn.fn(gr.Request(username="owner"), event, gr.Request(username="owner"), *inputs))
    screen.settle()


def test_the_end_of_a_run_is_told_once_it_is_over(screen, project):
    job = running(screen)
    screen.beat()
    (told,) = screen["Tell when a run ends"]["runs"]
    assert (told["run"], told["isOver"]) == (job.id, False)
    finish(project.store, job)
    told = call(screen.demo, "ends")["runs"][0]
    assert told["isOver"]
    assert (told["state"], told["words"]) == ("done", f"{job.title}.")


# -- scripts -----------------------------------------------------------------------------------------------------


def test_a_script_starts_a_run_with_a_method_and_knobs(screen, project):
    made = call(screen.demo, "start_tuning", "lora", DATA, BASE, "quick", {"rank": 8, "learning_rate": 5e-4})
    job = project.store.job(made["run"])
    assert (job.kind, job.task["rank"], job.task["learning_rate"]) == ("lora", 8, 5e-4)


@pytest.mark.parametrize(
    ("method", "knobs", "sentence"),
    [("lola", {}, "no method 'lola'"), ("lora", {"rang": 8}, "no knob 'rang'"), ("lora", {"rank": 0}, "1 or more")],
)
def test_a_script_is_told_what_is_wrong(screen, project, method, knobs, sentence):
    with pytest.raises(gr.Error, match=sentence):
        call(screen.demo, "start_tuning", method, DATA, BASE, "quick", knobs)
    assert project.store.jobs() == []


def test_a_script_can_ask_before_it_starts(screen):
    plan = call(screen.demo, "plan_tuning", "lora", DATA, BASE, "quick", None)
    assert "213 records once" in plan["sentence"]
    assert plan["can_start"] is True
    assert json.dumps(plan)
    methods = call(screen.demo, "tuning_methods", BASE)
    assert methods[0]["kind"] == "lora"


# -- parts -------------------------------------------------------------------------------------------------------


def placeholders(screen: TuningScreen) -> str:
    return " ".join(
        str(screen.props.get(key, {}).get("placeholder") or getattr(block, "placeholder", ""))
        for key, block in screen.demo.blocks.items()
    )


def knob_groups(screen: TuningScreen) -> list[gr.Column]:
    blocks = screen.demo.blocks.values()
    return [b for b in blocks if isinstance(b, gr.Column) and "own-knobs" in (b.elem_classes or [])]


def labels_in(column: gr.Column) -> list[str]:
    found: list[str] = []
    for child in column.children:
        found += labels_in(child) if hasattr(child, "children") else [getattr(child, "label", "")]  # type: ignore[arg-type]
    return [label for label in found if label]


def test_the_newest_answers_of_a_finished_run_are_those_of_what_was_kept():
    def given(step: int) -> list[dict[str, Any]]:
        return [{"step": step, "prompt": "Hm?", "answers": {"base": "No.", "tuned": f"At {step}."}}]

    looks = {10: given(10), 20: given(20)}
    running, finished = SimpleNamespace(result=None), SimpleNamespace(result={"best_step": 10})
    assert "At 20." in on_screen._samples(looks, None, running)  # type: ignore[arg-type]
    assert "At 10." in on_screen._samples(looks, "newest", finished)  # type: ignore[arg-type]
    assert "At 20." in on_screen._samples(looks, "20", finished)  # type: ignore[arg-type]


def test_a_look_that_was_under_way_does_not_hide_what_is_compared(screen):
    """It was asked before the ticks, so it must not answer for them."""
    refresh = screen.widgets.refresh
    assert refresh is not None
    (show,) = [fn for fn in screen.demo.fns.values() if fn.api_name == "show_run"]
    (compare,) = [fn for fn in screen.demo.fns.values() if fn.api_name == "compare_runs"]
    shown = {box._id for box in (*refresh.outputs, *show.outputs)}
    assert not shown & {box._id for box in compare.outputs}
    assert (screen._find("Runs painted"), "change") in compare.targets  # and follows the list by itself
