"""The header, the way into a handler, and the small parts that every page is made of."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import gradio as gr
import pytest
from gradio.helpers import special_args
from gradio.route_utils import Request

from components import frame
from components.app import TABS, build_pages
from components.theme import ASSETS
from studio.errors import RunError, StudioError
from studio.models import Conversion
from studio.specs import ModelRef
from studio.store import Job
from studio.tasks import Task
from studio.workspace import Workspace
from tests.fixtures_pages import STRANGE, call, open_workspace

OWNER = Request(username="owner")


# -- the way into a handler ----------------------------------------------------------------------------------


def plain(x: int) -> int:
    return 10 // x


async def later(x: int) -> int:
    return 10 // x


def many(x: int) -> Iterator[int]:
    yield 10 // x


async def stream(x: int) -> AsyncIterator[int]:
    yield 10 // x


def asked(handler: Callable[..., Any], *inputs: Any, request: Any = OWNER) -> Any:
    """Call a handler the way Gradio does, whatever kind it is."""

    async def run() -> Any:
        got = handler(request, *inputs)
        if hasattr(got, "__aiter__"):
            return [value async for value in got][-1]
        if hasattr(got, "__next__"):
            return list(got)[-1]
        return await got if hasattr(got, "__await__") else got

    return anyio.run(run)


@pytest.mark.parametrize("fn", [plain, later, many, stream], ids=lambda f: f.__name__)
class TestEveryKindOfHandler:
    def test_it_answers(self, fn: Callable[..., Any]):
        assert asked(frame.handler(fn), 5) == 2

    def test_a_strange_failure_shows_a_reference_and_no_detail(
        self, fn: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as shown:
            asked(frame.handler(fn), 0)
        sentence = str(shown.value.message)
        assert "division" not in sentence
        reference = sentence.split("(ref ")[1][:4]
        assert f"ref {reference}" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert shown.value.print_exception is False

    def test_whoever_is_not_the_owner_is_refused_before_it_runs(self, fn: Callable[..., Any]):
        for request in (Request(username=None), Request(username="mallory"), None):
            with pytest.raises(gr.Error, match="not signed in"):
                asked(frame.handler(fn), 0, request=request)


def test_a_sentence_of_the_studio_is_shown_as_it_is(caplog: pytest.LogCaptureFixture):
    def refuse() -> None:
        raise RunError("Run 17 cannot start. Cancel run 16 first.")

    with pytest.raises(gr.Error) as shown:
        asked(frame.handler(refuse))
    assert shown.value.message == "Run 17 cannot start. Cancel run 16 first."
    assert caplog.text == ""


def test_what_was_meant_for_gradio_passes():
    def say() -> None:
        raise gr.Error("Already a toast")

    with pytest.raises(gr.Error, match="Already a toast"):
        asked(frame.handler(say))


def test_closing_a_stream_is_not_a_failure(caplog: pytest.LogCaptureFixture):
    ended = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    running = frame.handler(endless)(OWNER)
    next(running)
    running.close()
    assert ended == [True]
    assert caplog.text == ""


def test_gradio_still_finds_what_a_handler_asks_for():
    def pick(row: int, evt: gr.SelectData, request: gr.Request, *rest: int) -> Any:
        return row, evt.index, request.username, rest

    event = gr.EventData(None, {"index": 3, "value": "x"})
    inputs, *_ = special_args(frame.handler(pick), [7, 8, 9], OWNER, event)
    assert asked(frame.handler(pick), *inputs[1:], request=inputs[0]) == (7, 3, "owner", (8, 9))


def test_a_handler_may_be_a_method_or_a_partial():
    assert asked(frame.handler(functools.partial(plain, 2))) == 5
    assert asked(frame.handler("a-b".split), "-") == ["a", "b"]


def test_the_page_gets_the_same_over_the_wire(served: tuple[str, Workspace]):
    url, _ = served
    assert call(url, "whoami", "me") == ("complete", ["owner"])
    assert call(url, "refuse")[0] == "error"
    event, said = call(url, "fail")
    assert event == "error"
    assert STRANGE not in str(said)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    """Every real tab, as a person gets them."""
    return build_pages(open_workspace(tmp_path_factory.mktemp("pages")))


def test_every_listener_of_every_tab_goes_through_the_check(pages: gr.Blocks):
    listeners = [fn.fn for fn in pages.fns.values() if fn.fn is not None]
    unchecked = [f"{fn.__module__}.{fn.__qualname__}" for fn in listeners if "_request" not in fn.__annotations__]
    assert unchecked == []


def test_every_listener_outside_the_queue_is_private(pages: gr.Blocks):
    # A public one would be offered to clients, and could tell them nothing when it fails.
    public = [fn.api_name for fn in pages.fns.values() if fn.queue is False and fn.api_visibility == "public"]
    assert public == []


# -- the header ----------------------------------------------------------------------------------------------


class Nap(Task):
    kind = "nap"

    @property
    def title(self) -> str:
        return "Nap <b>well</b>"

    def do(self, run: Any) -> dict[str, Any]:
        return {}


@pytest.fixture
def job(workspace: Workspace) -> Job:
    workspace.store.queue_job(Nap(), author="owner")
    claimed = workspace.store.claim_job("light", "here")
    assert claimed is not None
    workspace.store.start_job(claimed.id, claimed.attempt, 1)
    workspace.store.log_metrics(claimed.id, claimed.attempt, 62, 100, {"loss": 1.0})
    return workspace.store.job(claimed.id)


@pytest.fixture
def pulse(workspace: Workspace) -> frame.Pulse:
    with gr.Blocks():
        return frame.header(workspace, ["playground", "tuning"], every_step=["tuning"])


def test_nothing_is_sent_when_nothing_moved(workspace: Workspace, pulse: frame.Pulse):
    seen = frame.first_beat(workspace, pulse, "playground")[0]
    assert frame._beat(workspace, pulse, seen, "playground") == gr.skip()


def test_a_moved_job_beats_for_the_open_tab_only(workspace: Workspace, pulse: frame.Pulse, job: Job):
    seen, _status, _timer, playground, tuning = frame.first_beat(workspace, pulse, "tuning")
    assert playground == gr.skip()
    assert tuning == seen.partition("|")[0]


def test_a_step_beats_where_steps_are_shown_and_a_new_state_everywhere(
    workspace: Workspace, pulse: frame.Pulse, job: Job
):
    before = {tab: frame.first_beat(workspace, pulse, tab)[3:] for tab in pulse.beats}
    workspace.store.log_metrics(job.id, job.attempt, 63, 100, {"loss": 0.9})
    stepped = {tab: frame.first_beat(workspace, pulse, tab)[3:] for tab in pulse.beats}
    assert stepped["playground"] == before["playground"]
    assert stepped["tuning"] != before["tuning"]
    workspace.store.finish_job(job.id, job.attempt, "done")
    assert frame.first_beat(workspace, pulse, "playground")[3:] != before["playground"]


def test_steps_wait_for_the_next_look_and_a_new_state_does_not(
    workspace: Workspace, pulse: frame.Pulse, job: Job, monkeypatch: pytest.MonkeyPatch
):
    clock = [100.0]
    monkeypatch.setattr(frame.time, "monotonic", lambda: clock[0])
    seen = frame.first_beat(workspace, pulse, "tuning")[0]
    workspace.store.log_metrics(job.id, job.attempt, 63, 100, {"loss": 0.9})
    assert frame._beat(workspace, pulse, seen, "tuning") == gr.skip()
    clock[0] += frame._LOOK_SECONDS
    assert frame._beat(workspace, pulse, seen, "tuning")[0] != seen
    clock[0] -= frame._LOOK_SECONDS
    workspace.store.finish_job(job.id, job.attempt, "done")
    assert frame._beat(workspace, pulse, seen, "tuning")[0] != seen


def test_the_header_tells_the_running_job_and_escapes_its_name(workspace: Workspace, pulse: frame.Pulse, job: Job):
    status = frame.first_beat(workspace, pulse, "tuning")[1]
    assert "62 %" in status
    assert "Nap &lt;b&gt;well&lt;/b&gt;" in status
    assert f'data-title="62 % · run {job.id}"' in status
    assert 'data-open-tab="jobs"' in status


def test_without_a_job_the_header_tells_of_the_engine_only(workspace: Workspace, pulse: frame.Pulse):
    status = frame.first_beat(workspace, pulse, "tuning")[1]
    assert "job-chip" not in status
    assert 'data-title=""' in status
    assert "Model asleep" in status


def test_the_pulse_slows_down_when_nothing_runs(workspace: Workspace, pulse: frame.Pulse):
    idle = frame.first_beat(workspace, pulse, "tuning")[2].value
    workspace.engine = SimpleNamespace(state=lambda: "busy")  # type: ignore[assignment]
    assert frame.first_beat(workspace, pulse, "tuning")[2].value < idle


def test_a_database_that_is_away_leaves_the_header_as_it_was(workspace: Workspace, pulse: frame.Pulse):
    def away() -> int:
        raise StudioError("away")

    workspace.store.change_token = away  # type: ignore[method-assign]
    assert frame.first_beat(workspace, pulse, "tuning") == [gr.skip()] * 5


def test_the_time_left_is_told_only_when_it_is_known(job: Job):
    job = dataclasses.replace(job, seconds=62.0)
    assert "38 s left" in frame._status(job, "off")
    assert "left" not in frame._status(dataclasses.replace(job, attempt=2), "off")
    assert "left" not in frame._status(dataclasses.replace(job, step=0), "off")


def test_one_timer_ticks_on_a_page(pages: gr.Blocks):
    timers = [block for block in pages.blocks.values() if isinstance(block, gr.Timer)]
    assert len([timer for timer in timers if timer.active]) == 1


def test_no_page_keeps_state_on_the_server(pages: gr.Blocks):
    # Each gr.State holds a connection open, and a browser has six of them per host.
    assert [block for block in pages.blocks.values() if isinstance(block, gr.State)] == []


def test_no_event_has_two_listeners_that_wait_for_their_turn(pages: gr.Blocks):
    # Gradio's page runs all listeners of the event again when one that waited (always_last, which `change` has by itself)
    # gets its turn. Two such keep each other waiting and running, forever: a core of somebody's machine.
    waiting: dict[tuple[int, str], list[str]] = {}
    for listener in pages.get_config_file()["dependencies"]:
        if listener["backend_fn"] and listener["trigger_mode"] == "always_last":
            for target in listener["targets"]:
                waiting.setdefault(tuple(target), []).append(listener["api_name"])
    assert len(waiting) > 50
    assert [names for names in waiting.values() if len(names) > 1] == []


def test_a_browser_is_not_told_to_track_progress_that_nobody_sees(pages: gr.Blocks):
    # It would go over all of it at each event, also at each key of somebody who writes.
    hidden = [d for d in pages.get_config_file()["dependencies"] if d["show_progress"] == "hidden"]
    assert len(hidden) > 50
    assert [d["api_name"] for d in hidden if d["show_progress_on"] != []] == []


# -- pieces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", [tab.id for tab in TABS])
def test_every_tab_has_help_in_plain_words(tab: str):
    text = (ASSETS / "help" / f"{tab}.md").read_text(encoding="utf-8")
    assert text.startswith("## ")
    assert 60 < len(text.split()) < 400
    assert "!" not in text


def test_what_people_wrote_is_escaped_everywhere():
    evil = '<img src=x onerror="alert(1)">'
    made = [
        frame.chip(evil, title=evil),
        frame.rung_chip(evil),
        frame.notice(evil, "bad"),
        frame.facts({evil: evil}),
        frame.progress(0.5, evil),
    ]
    with gr.Blocks() as demo:
        frame.page_header("playground", evil, evil)
        frame.section(evil, evil)
        frame.empty_state(evil, "Do it")
    made += [str(b.value) for b in demo.blocks.values() if isinstance(b, gr.HTML)]
    assert all("<img" not in html for html in made)
    assert sum("&lt;img" in html for html in made) == len(made)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (8.4, "8 s"), (59.6, "1 min"), (180, "3 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min")],
)
def test_durations_are_as_exact_as_anyone_plans(seconds: float, words: str):
    assert frame.duration(seconds) == words


def test_a_rung_has_its_hue_and_its_word():
    assert 'data-tone="L2"' in frame.rung_chip("L2")
    assert "tuned" in frame.rung_chip("L2")


def test_model_names_are_chips_without_a_hue():
    assert 'data-tone=""' in frame.chip(ModelRef("run:17"))


def test_the_header_says_how_far_the_embedded_model_is(workspace, pulse, monkeypatch):
    monkeypatch.setattr(frame, "conversion", lambda cache: Conversion(0.4, "Reading the weights"))
    beat = frame.first_beat(workspace, pulse, "tuning")
    assert "Model being prepared, 40 %" in beat[1]
    monkeypatch.setattr(frame, "conversion", lambda cache: Conversion(0.6, "Writing the weights"))
    assert "60 %" in frame._beat(workspace, pulse, beat[0], "tuning")[1]
