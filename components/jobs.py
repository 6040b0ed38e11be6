"""The Jobs page: everything that takes longer than a moment, how far it is, and what may be done about it.

The list is HTML with one button per row rather than a grid: fifty rows at most, and the state reads as a chip.
"""

from __future__ import annotations

import html
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import api

from components.frame import (
    Refresh,
    TabWidgets,
    chip,
    duration,
    empty_state,
    facts,
    handler,
    markup,
    notice,
    page_header,
    progress,
    user_of,
)
from components.jobs_settings import queue_bar, waiting_in_queue, webhook_fold
from components.picking import pick_list, picked, rows_to_pick
from studio.errors import InputError, NotFound, StudioError
from studio.jobs.actions import Action, again, ahead_of, legal_actions, log_tail, note_job, perform
from studio.store import Job, JobEvent, Note
from studio.workspace import Workspace

__all__ = ["JobsWidgets", "build"]

_LISTED = 50
_LOG_LINES = 200
_EVENTS_SHOWN = 40

_ACTIONS: dict[Action, str] = {
    "pause": "Pause",
    "resume": "Resume",
    "hold": "Hold",
    "release": "Release",
    "first": "Run first",
    "up": "Move up",
    "down": "Move down",
    "cancel": "Cancel",
}
_PUBLIC = ("pause", "cancel", "resume")
_TONES: dict[str, Any] = {
    "running": "good",
    "done": "good",
    "stopping": "caution",
    "paused": "caution",
    "held": "caution",
    "lost": "bad",
    "failed": "bad",
}
_WORDS = {
    "proposed": "Waits for approval.",
    "held": "Held: it does not start until it is released.",
    "starting": "Its process is starting.",
    "running": "At work. You can close this page; it goes on.",
    "stopping": "Was asked to stop and is saving.",
    "paused": "Saved and stopped. Resume goes on from there.",
    "done": "Finished.",
    "failed": "Could not go on.",
    "cancelled": "Was cancelled.",
    "lost": "Its process ended without a word.",
}


@dataclass(frozen=True, kw_only=True)
class JobsWidgets(TabWidgets):
    """`shown` holds the number of the open job."""

    shown: gr.Textbox


def build(workspace: Workspace) -> JobsWidgets:
    """The page, wired."""
    page_header("jobs", "What runs, what waits, and what ended. Jobs go on when you close the page.")
    with gr.Row(elem_classes=["off-screen"]):
        shown, listed, opened, said = (
            gr.Textbox("", label=label, visible="hidden")
            for label in ("Job shown", "List painted", "Job painted", "Answer")
        )
        key = gr.Textbox("", label="Key of the next run")
    empty = empty_state("No job has run yet. Tuning and comparing start them.", "Tune a model", visible=False)
    with gr.Row(elem_classes=["jobs-columns"], equal_height=False, visible=False) as columns:
        with gr.Column(scale=3, min_width=520):
            queue = queue_bar(workspace)
            rows = pick_list("Jobs, newest first", elem_id="job-list")
            webhook_fold(workspace)
        with gr.Column(scale=2, min_width=420, elem_classes=["card", "job-detail"]):
            head = markup(label="The job that is open")
            with gr.Row(elem_classes=["actions"]):
                buttons = {
                    name: gr.Button(
                        words,
                        visible=False,
                        min_width=0,
                        scale=0,
                        variant="stop" if name == "cancel" else "secondary",
                        elem_id=f"job-{name}",
                    )
                    for name, words in _ACTIONS.items()
                }
                rerun = gr.Button("Run again", visible=False, min_width=0, scale=0, elem_id="job-again")
            with gr.Row(elem_classes=["note-row"]):
                note = gr.Textbox("", label="Note", placeholder="What you want to remember of it", scale=1)
                add_note = gr.Button("Add note", size="sm", min_width=0, scale=0, elem_id="job-note")
            body = markup(label="Facts, log and events")

    detail_outputs = [head, *buttons.values(), rerun, key, body]
    look_outputs = [shown, listed, opened, empty.box, columns, rows, *queue.outputs, *detail_outputs]

    def look(job_id: str, was_listed: str, was_opened: str) -> list[Any]:
        """The list and the open job, as far as they moved. Runs outside the queue too, so it never raises."""
        try:
            jobs = workspace.store.jobs(limit=_LISTED)
            job = _open_job(workspace, job_id, jobs)
            number = str(job.id) if job else ""
            line, waiting = workspace.store.queue_of("train"), waiting_in_queue(workspace)
            now_listed = f"{sum(j.change for j in jobs)}:{len(jobs)}:{number}:{line}:{waiting}"
            log = log_tail(workspace.path, job.id, _LOG_LINES) if job else ""
            now_opened = f"{number}:{job.change}:{line.stopped}:{hash(log)}" if job else ""
            table = [_list_html(jobs, number), *queue.values(line, waiting)]
            if now_listed == was_listed:
                table = [gr.skip()] * len(table)
            detail = [gr.skip()] * len(detail_outputs) if now_opened == was_opened else _detail(workspace, job, log)
            return [
                number,
                now_listed,
                now_opened,
                gr.Column(visible=not jobs),
                gr.Row(visible=bool(jobs)),
                *table,
                *detail,
            ]
        except StudioError as error:
            skipped = [gr.skip()] * (len(look_outputs) - 1 - len(detail_outputs))
            wrong = [notice(str(error), "bad"), *[gr.Button(visible=False)] * (len(buttons) + 1), "", ""]
            return ["", *skipped, *wrong]

    look_now: dict[str, Any] = {
        "fn": handler(look),
        "inputs": [shown, listed, opened],
        "outputs": look_outputs,
        "show_progress": "hidden",
        "api_visibility": "private",
    }

    def pick(event: gr.EventData) -> str:
        return str(_number(picked(event)))

    def act(action: Action) -> Callable[..., str]:
        def do(job_id: str, request: gr.Request) -> str:
            job = perform(workspace.store, workspace.path, _number(job_id), action, by=user_of(request))
            return f"Run {job.id} is {job.state}."

        do.__name__ = f"{action}_job"
        return do

    rows.pick(handler(pick), None, shown, show_progress="hidden", api_visibility="private").success(**look_now)
    empty.action.click(None, None, None, js="() => document.getElementById('tab-tuning-button')?.click()")
    for name, button in buttons.items():
        button.click(
            handler(act(name)),
            shown,
            said,
            api_name=f"{name}_job",
            api_visibility="public" if name in _PUBLIC else "private",
            show_progress="hidden",
        ).then(**look_now)

    def run_job_again(job_id: str, client_key: str, request: gr.Request) -> str:
        by = user_of(request)
        return str(again(workspace.store, workspace.path, _number(job_id), by=by, client_key=client_key or None).id)

    def add_job_note(job_id: str, text: str, request: gr.Request) -> str:
        note_job(workspace.store, _number(job_id), text, by=user_of(request))
        return ""

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    rerun.click(handler(run_job_again), [shown, key], shown, **quiet).success(**look_now)
    add_note.click(handler(add_job_note), [shown, note], note, api_name="note_job", **quiet).success(**look_now)
    note.submit(handler(add_job_note), [shown, note], note, api_name="submit_job_note", **quiet).success(**look_now)

    def jobs_list(limit: int = _LISTED) -> list[dict[str, Any]]:
        """The newest jobs, newest first."""
        return [_plain(job) for job in workspace.store.jobs(limit=max(1, min(limit, 500)))]

    api(handler(jobs_list), api_name="jobs_list")

    return JobsWidgets(refresh=Refresh(look, [shown, listed, opened], look_outputs), links={"job": shown}, shown=shown)


# -- the list --------------------------------------------------------------------------------------------------


def _number(job_id: str) -> int:
    if not str(job_id).strip().isdecimal():
        raise InputError(f"'{job_id}' is not the number of a job. The list shows them all.")
    return int(job_id)


def _open_job(workspace: Workspace, job_id: str, jobs: list[Job]) -> Job | None:
    if job_id:
        return workspace.store.job(_number(job_id))
    return next((j for j in jobs if j.is_active), jobs[0] if jobs else None)


def _plain(job: Job) -> dict[str, Any]:
    names = "id kind title state step total message error author result created_at started_at ended_at attempt".split()
    return {name: getattr(job, name) for name in names}


def _list_html(jobs: list[Job], open_id: str) -> str:
    heads = ("Run", "What", "State", "Progress", "Started", "Took")
    widths = ("56px", "", "92px", "128px", "104px", "84px")
    lines = [(job.id, _cells(job)) for job in jobs]
    older = f'<p class="quiet">The newest {_LISTED} jobs.</p>' if len(jobs) == _LISTED else ""
    return rows_to_pick("Jobs, newest first", heads, lines, current=open_id, widths=widths) + older


def _cells(job: Job) -> tuple[str, ...]:
    said = job.message if job.is_active else job.error
    below = f'<span class="below" title="{html.escape(said, quote=True)}">{html.escape(said)}</span>' if said else ""
    what = f'<span class="what">{html.escape(job.title)}</span>{below}'
    return (str(job.id), what, _state_chip(job), _progress_html(job), _clock(job.started_at), _took(job))


def _state_chip(job: Job) -> str:
    return chip(job.state.capitalize(), _TONES.get(job.state, ""), _WORDS.get(job.state, "Waits for its turn."))


def _progress_html(job: Job) -> str:
    if job.progress is None or job.state == "done":
        return "–" if job.state != "done" else "100 %"
    return f'<progress max="1" value="{job.progress:.4f}" aria-label="Progress"></progress> {100 * job.progress:.0f} %'


def _clock(at: float | None) -> str:
    if at is None:
        return "–"
    then, today = time.localtime(at), time.localtime()
    same_day = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same_day else "%-d %b %H:%M", then)


def _took(job: Job) -> str:
    return duration(job.took) if job.took else "–"


# -- the open job ----------------------------------------------------------------------------------------------


def _detail(workspace: Workspace, job: Job | None, log: str) -> list[Any]:
    if job is None:
        return ["", *[gr.Button(visible=False)] * (len(_ACTIONS) + 1), "", ""]
    legal = legal_actions(job, workspace.path)
    shown = [gr.Button(visible=name in legal, interactive=name in legal) for name in _ACTIONS]
    can_repeat = job.is_over and job.state != "paused"
    shown.append(gr.Button(visible=can_repeat, interactive=can_repeat))
    # Fresh whenever the job is painted: a double press sends the same key twice, and that is one run.
    return [_head_html(workspace, job), *shown, secrets.token_hex(8), _body_html(workspace, job, log)]


def _head_html(workspace: Workspace, job: Job) -> str:
    parts = [
        f'<p class="over">Run {job.id} {_state_chip(job)}</p><h2>{html.escape(job.title)}</h2>',
        f"<p>{html.escape(_state_words(workspace, job))}</p>",
    ]
    if job.is_active or (job.progress is not None and job.state in ("paused", "failed", "lost")):
        parts.append(progress(job.progress, _how_far(job)))
    if job.is_active and job.message:
        parts.append(f'<p class="quiet">{html.escape(job.message)}</p>')
    if job.error:
        parts.append(notice(job.error, "bad"))
    parts.append(_result_html(workspace, job))
    return "".join(parts)


def _state_words(workspace: Workspace, job: Job) -> str:
    if job.state == "queued" and (why := workspace.store.queue_of(job.lane).stopped):
        return f"Waits, because its queue is stopped: {why}"
    if job.state == "queued":
        before = ahead_of(workspace.store, job)
        return f"Waits for its turn: {before} before it." if before else "Waits for its turn: it is next."
    return _WORDS[job.state]


def _how_far(job: Job) -> str:
    return f"{100 * job.progress:.0f} % · step {job.step:,} of {job.total:,}" if job.progress is not None else job.state


def _result_html(workspace: Workspace, job: Job) -> str:
    """Where to see what came of it."""
    if job.state != "done":
        return ""
    if job.kind == "compare":
        return f'<p class="result"><a href="?tab=compare&amp;job={job.id}">Open the comparison</a></p>'
    try:
        model = workspace.store.model(f"run:{job.id}")
    except NotFound:
        return ""
    return (
        f'<p class="result">Answers as <b>{html.escape(model.ref)}</b>: <a href="?tab=playground&amp;model={model.ref}">'
        f'ask it in the Playground</a> or <a href="?tab=compare">compare it with the best prompt</a></p>'
    )


def _body_html(workspace: Workspace, job: Job, log: str) -> str:
    about = {
        "Asked for by": f"{job.author}, {_clock(job.created_at)}",
        "Started": _clock(job.started_at),
        "Ended": _clock(job.ended_at),
        "Took": _took(job),
    }
    if job.attempt > 1:
        about["Attempt"] = str(job.attempt)
    tail = f'<pre tabindex="0" role="log" aria-label="Log of run {job.id}"><code>{html.escape(log)}</code></pre>'
    log_html = tail if log else '<p class="quiet">Nothing was written yet.</p>'
    return (
        f"{facts(about)}{_notes_html(workspace.store.notes(job.id))}<h3>Log <small>last {_LOG_LINES} lines</small></h3>{log_html}"
        f"<h3>What happened</h3>{_events_html(workspace.store.job_events(job.id))}"
    )


def _notes_html(notes: list[Note]) -> str:
    lines = [
        f"<li><time>{_clock(note.created_at)}</time> <span>{html.escape(note.text)} "
        f'<span class="quiet">{html.escape(note.author)}</span></span></li>'
        for note in reversed(notes)
    ]
    return f'<h3>Notes</h3><ol class="events">{"".join(lines)}</ol>' if lines else ""


def _events_html(events: list[JobEvent]) -> str:
    told = [(event, _event_words(event)) for event in events]
    lines = [
        f"<li><time>{time.strftime('%H:%M:%S', time.localtime(event.created_at))}</time> {html.escape(words)}</li>"
        for event, words in reversed(told)
        if words
    ]
    return f'<ol class="events">{"".join(lines[:_EVENTS_SHOWN])}</ol>'


def _event_words(event: JobEvent) -> str:
    payload = event.payload
    match event.kind:
        case "state":
            who = f" by {payload['by']}" if payload.get("by") else ""
            again = f", attempt {event.attempt}" if payload["to"] == "starting" and event.attempt > 1 else ""
            return f"{payload['to'].capitalize()}{who}{again}"
        case "checkpoint":
            return f"Saved {payload.get('name', 'a checkpoint')}"
        case "note":
            return "" if payload.get("by") else str(payload.get("text", ""))  # what people wrote stands above
        case "told":
            return str(payload.get("text", ""))
        case "moved":
            who = f" by {payload['by']}" if payload.get("by") else ""
            return f"Moved {payload['to']}{who}"
        case "origin":
            knobs = ", ".join(f"{name} {now}" for name, (_, now) in payload.get("changes", {}).items())
            return f"Repeats run {payload['run']}{f' with {knobs}' if knobs else ''}"
        case "sample":
            return f"Sample answers at step {payload.get('step', '?')}"
        case "then":
            return f"Next when done: {payload.get('title', '')}"
        case _:
            return event.kind.capitalize()
