"""What a person sees of a job and may do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components import jobs
from studio.errors import Conflict, InputError
from studio.jobs.actions import ahead_of, legal_actions, log_tail, perform
from studio.jobs.checkpoints import Checkpoints
from studio.settings import Settings
from studio.store import Job, Store, model_row
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.jobs.conftest import EXTRA_TASKS
from tests.jobs.tasks_for_tests import Count


class Hall:
    """A workspace whose jobs a test moves by hand."""

    def __init__(self, root: Path, store: Store) -> None:
        self.workspace = Workspace(root, Settings(workspace=root, cache=root, runtime=root / "r"), store)
        self.store, self.root = store, root
        with gr.Blocks() as self.demo:
            self.widgets = jobs.build(self.workspace)

    def queued(self) -> Job:
        return self.store.queue_job(Count(steps=10), author="ann")

    def running(self) -> Job:
        job = self.queued()
        claimed = self.store.claim_job(job.lane, "here", only=job.id)
        assert claimed is not None
        return self.store.start_job(job.id, claimed.attempt, pid=1)

    def ended(self, state: Any, **facts: Any) -> Job:
        job = self.running()
        return self.store.finish_job(job.id, job.attempt, state, **facts)

    def look(self, job: str = "") -> dict[str, Any]:
        """What the page shows, by label; buttons by their words, as 'can be pressed'."""
        refresh = self.widgets.refresh
        assert refresh is not None
        values = refresh.fn(job, "", "")
        seen: dict[str, Any] = {}
        for widget, value in zip(refresh.outputs, values, strict=True):
            if isinstance(widget, gr.Button) and value == gr.skip():
                seen[str(widget.value)] = False
            elif isinstance(widget, gr.Button):
                seen[str(widget.value)] = bool(value.visible and value.interactive)
            else:
                seen[str(getattr(widget, "label", ""))] = value
        return seen


@pytest.fixture
def hall(tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.setenv("LADDER_EXTRA_TASKS", EXTRA_TASKS)
    hall = Hall(tmp_path, sqlite_store)
    yield hall
    asyncio.run(hall.workspace.engine.close())


def buttons(seen: dict[str, Any]) -> set[str]:
    return {words for words in ("Pause", "Resume", "Hold", "Release", "Run first", "Cancel") if seen[words]}


# -- what may be done ------------------------------------------------------------------------------------------


def test_only_what_is_legal_can_be_pressed(hall: Hall) -> None:
    job = hall.running()
    assert buttons(hall.look(str(job.id))) == {"Pause", "Cancel"}
    hall.store.request_job(job.id, "pause")
    assert buttons(hall.look(str(job.id))) == {"Cancel"}
    hall.store.finish_job(job.id, job.attempt, "paused")
    assert buttons(hall.look(str(job.id))) == {"Resume", "Cancel"}
    perform(hall.store, hall.root, job.id, "resume", by="ann")
    assert buttons(hall.look(str(job.id))) == {"Hold", "Run first", "Cancel"}
    perform(hall.store, hall.root, job.id, "hold", by="ann")
    assert buttons(hall.look(str(job.id))) == {"Release", "Run first", "Cancel"}


def test_a_finished_job_offers_nothing(hall: Hall) -> None:
    assert buttons(hall.look(str(hall.ended("done").id))) == set()


def test_a_cancelled_job_can_be_resumed_only_from_something(hall: Hall) -> None:
    job = hall.ended("cancelled")
    assert legal_actions(job, hall.root) == frozenset()
    checkpoints = Checkpoints(hall.root / "runs" / str(job.id))
    part = checkpoints.begin(5)
    (part / "state").write_text("5")
    checkpoints.publish(part)
    assert legal_actions(job, hall.root) == {"resume"}


@pytest.mark.parametrize(("name", "state"), [("pause_job", "stopping"), ("cancel_job", "stopping")])
def test_a_running_job_is_asked_to_stop(hall: Hall, name: str, state: str) -> None:
    job = hall.running()
    assert call(hall.demo, name, str(job.id)) == f"Run {job.id} is {state}."


def test_a_paused_job_is_resumed(hall: Hall) -> None:
    job = hall.ended("paused")
    call(hall.demo, "resume_job", str(job.id))
    assert hall.store.job(job.id).state == "queued"


def test_a_job_that_moved_on_meanwhile_is_refused_in_words(hall: Hall) -> None:
    with pytest.raises(gr.Error, match="is done, so there is nothing to cancel"):
        call(hall.demo, "cancel_job", str(hall.ended("done").id))


def test_a_job_that_has_not_started_is_held_rather_than_paused(hall: Hall) -> None:
    with pytest.raises(Conflict, match="Hold it instead"):
        perform(hall.store, hall.root, hall.queued().id, "pause", by="ann")


def test_an_unknown_action_is_refused(hall: Hall) -> None:
    with pytest.raises(InputError, match="cannot 'explode'"):
        perform(hall.store, hall.root, hall.queued().id, "explode", by="ann")


@pytest.mark.parametrize("name", ["cancel_job", "pause_job", "resume_job"])
def test_a_stranger_may_do_nothing(hall: Hall, name: str) -> None:
    job = hall.running()
    with pytest.raises(gr.Error, match="not signed in"):
        call(hall.demo, name, str(job.id), user=None)
    assert hall.store.job(job.id).state == "running"


# -- the queue, notes, and once more ---------------------------------------------------------------------------


def test_a_waiting_job_moves_up_and_down_its_queue(hall: Hall) -> None:
    first, second = hall.queued(), hall.queued()
    assert {"Move up", "Move down"} <= {name for name, on in hall.look(str(second.id)).items() if on is True}
    call(hall.demo, "up_job", str(second.id))
    assert [job.id for job in hall.store.waiting_jobs("train")] == [second.id, first.id]
    call(hall.demo, "down_job", str(second.id))
    assert [job.id for job in hall.store.waiting_jobs("train")] == [first.id, second.id]
    assert "Moved down by owner" in hall.look(str(second.id))["Facts, log and events"]


def test_a_stopped_queue_says_why_and_is_started_again(hall: Hall) -> None:
    call(hall.demo, "set_queue", True)
    hall.ended("failed", error="It broke.")
    waiting = hall.queued()
    seen = hall.look(str(waiting.id))
    assert "Waits, because its queue is stopped: Run 1 failed" in seen["The job that is open"]
    assert "The queue is stopped: Run 1 failed" in seen["The training queue"]
    assert "1 training run waits" in seen["The training queue"]
    assert (seen["Start the queue"], seen["Stop the queue"]) == (True, False)
    call(hall.demo, "start_queue")
    seen = hall.look(str(waiting.id))
    assert "It stops when a run fails" in seen["The training queue"]
    assert "it is next" in seen["The job that is open"]


def test_a_person_can_stop_the_queue_and_the_page_says_who(hall: Hall) -> None:
    call(hall.demo, "stop_queue")
    assert "owner stopped the queue" in hall.look(str(hall.queued().id))["The training queue"]


def test_a_note_is_shown_as_text_with_its_author(hall: Hall) -> None:
    job = hall.ended("done")
    assert call(hall.demo, "note_job", str(job.id), "Too <b>long</b>", user="owner") == ""
    body = hall.look(str(job.id))["Facts, log and events"]
    assert "Too &lt;b&gt;long&lt;/b&gt;" in body
    assert body.count("Too &lt;b") == 1
    with pytest.raises(gr.Error, match="is empty"):
        call(hall.demo, "note_job", str(job.id), " ")


def test_a_job_is_run_again_once_however_often_the_button_is_pressed(hall: Hall) -> None:
    job = hall.ended("done")
    seen = hall.look(str(job.id))
    assert seen["Run again"]
    key = seen["Key of the next run"]
    twice = {call(hall.demo, "run_job_again", str(job.id), key) for _ in range(2)}
    (new,) = twice
    again = hall.store.job(int(new))
    assert (again.state, again.task, again.author) == ("queued", job.task, "owner")
    seen = hall.look(new)
    assert f"Repeats run {job.id}" in seen["Facts, log and events"]
    assert not seen["Run again"]
    assert hall.look(str(job.id))["Key of the next run"] != key


# -- telling another program -----------------------------------------------------------------------------------


def test_only_the_owner_sets_where_ends_are_told_and_the_address_is_not_shown_again(hall: Hall) -> None:
    url = "http://127.0.0.1:9/hooks/s3cret"
    with pytest.raises(gr.Error, match="not signed in"):
        call(hall.demo, "save_webhook", url, user="ann")
    assert hall.store.webhook() is None
    said, box, _ = call(hall.demo, "save_webhook", url)
    assert ("127.0.0.1:9" in said, "s3cret" in said, box) == (True, False, "")
    hook = hall.store.webhook()
    assert hook is not None
    assert "s3cret" not in hook.locked
    with pytest.raises(gr.Error, match="not signed in"):
        call(hall.demo, "forget_webhook", user="ann")
    assert "Nobody is told" in call(hall.demo, "forget_webhook")[0]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://chat.example.org", "must begin with https:// or http://"),
        ("https://", "name a host"),
        ("https://ann:pw@chat.example.org/x", "name or password before the host"),
        ("https://chat.example.org/x", "chat.example.org cannot be told: the studio is offline"),
    ],
)
def test_an_address_that_cannot_be_told_is_refused(hall: Hall, url: str, sentence: str) -> None:
    with pytest.raises(gr.Error, match=sentence):
        call(hall.demo, "save_webhook", url)
    assert hall.store.webhook() is None


# -- what is seen ----------------------------------------------------------------------------------------------


def test_a_waiting_job_says_how_many_are_before_it(hall: Hall) -> None:
    hall.running()
    first, second = hall.queued(), hall.queued()
    assert (ahead_of(hall.store, first), ahead_of(hall.store, second)) == (1, 2)
    assert "2 before it" in hall.look(str(second.id))["The job that is open"]


def test_an_empty_workspace_shows_a_sentence_instead_of_an_empty_list(hall: Hall) -> None:
    refresh = hall.widgets.refresh
    assert refresh is not None
    before = refresh.fn("", "", "")
    hall.queued()
    after = refresh.fn("", "", "")
    boxes = [i for i, w in enumerate(refresh.outputs) if isinstance(w, gr.Column | gr.Row)]
    assert [before[i].visible for i in boxes] == [True, False]
    assert [after[i].visible for i in boxes] == [False, True]


def test_the_page_opens_at_the_job_that_runs(hall: Hall) -> None:
    running = hall.running()
    hall.queued()
    seen = hall.look()
    assert seen["Job shown"] == str(running.id)
    assert f'data-key="{running.id}" tabindex="0" aria-selected="true"' in seen["Jobs, newest first"]


def test_an_error_stays_on_the_page_as_text(hall: Hall) -> None:
    job = hall.ended("failed", error="The file <x> is gone. Put it back, then resume.")
    seen = hall.look(str(job.id))
    assert "The file &lt;x&gt; is gone. Put it back" in seen["The job that is open"]


def test_a_finished_run_names_the_model_it_made(hall: Hall) -> None:
    job = hall.running()
    row = model_row(f"run:{job.id}", "Tuned", author="ann")
    hall.store.finish_job(job.id, job.attempt, "done", model=row)
    assert f"?tab=playground&amp;model=run:{job.id}" in hall.look(str(job.id))["The job that is open"]


def test_a_link_to_a_job_that_is_not_there_says_so(hall: Hall) -> None:
    hall.queued()
    assert "There is no run 99" in hall.look("99")["The job that is open"]


def test_nothing_is_sent_again_that_did_not_move(hall: Hall) -> None:
    job = hall.running()
    refresh = hall.widgets.refresh
    assert refresh is not None
    _, listed, opened, *_ = refresh.fn(str(job.id), "", "")
    again = refresh.fn(str(job.id), listed, opened)
    assert again[5:] == [gr.skip()] * len(again[5:])


def test_the_log_is_its_last_lines_without_colours_and_redrawn_bars(hall: Hall) -> None:
    job = hall.running()
    folder = hall.root / "runs" / str(job.id)
    folder.mkdir(parents=True)
    lines = [f"line {i}" for i in range(300)]
    text = "\n".join([*lines, " 10 %\r 50 %\r100 %", "\x1b[31mred <b>\x1b[0m"]) + "\n"
    (folder / "log.txt").write_text(text)
    tail = log_tail(hall.root, job.id).split("\n")
    assert len(tail) == 200
    assert tail[-2:] == ["100 %", "red <b>"]
    assert "red &lt;b&gt;" in hall.look(str(job.id))["Facts, log and events"]


def test_a_long_log_is_read_from_its_end_only(hall: Hall) -> None:
    job = hall.running()
    folder = hall.root / "runs" / str(job.id)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("x" * 300_000 + "\nlast\n")
    assert log_tail(hall.root, job.id) == "last"


def test_a_program_can_list_the_jobs(hall: Hall) -> None:
    hall.queued()
    hall.ended("done")
    listed = call(hall.demo, "jobs_list", 10)
    assert [(j["id"], j["state"]) for j in listed] == [(2, "done"), (1, "queued")]


def test_jobs_list_gives_something_back_to_a_client(hall: Hall) -> None:
    found = next(fn for fn in hall.demo.fns.values() if fn.api_name == "jobs_list")
    assert len(found.outputs) == 1
