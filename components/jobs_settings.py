"""Beside the list of jobs: the training queue, and where the end of a run is told."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.frame import actions, ask_twice, handler, markup, notice, user_of
from studio.jobs import set_webhook
from studio.store import Queue
from studio.tasks import Lane
from studio.workspace import Workspace

__all__ = ["QueueBar", "queue_bar", "webhook_fold"]

_LANE: Lane = "train"


@dataclass(frozen=True)
class QueueBar:
    """What a page paints of the training queue: `outputs` takes what `values` gives."""

    state: gr.HTML
    stops: gr.Checkbox
    stop: gr.Button
    start: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.state, self.stops, self.stop, self.start]

    def values(self, queue: Queue, waiting: int) -> list[Any]:
        stopped = bool(queue.stopped)
        return [
            _queue_html(queue, waiting),
            gr.Checkbox(value=queue.stops_on_failure),
            gr.Button(visible=not stopped, interactive=not stopped),
            gr.Button(visible=stopped, interactive=stopped),
        ]


def queue_bar(workspace: Workspace) -> QueueBar:
    """The training queue: how it stands, what it does when a run fails, and a way to stop it."""
    state = markup(label="The training queue")
    with actions():
        stops = gr.Checkbox(False, label="Stop the queue when a run fails", container=False, elem_id="queue-stops")
        stop = gr.Button("Stop the queue", size="sm", min_width=0, scale=0, elem_id="queue-stop")
        start = gr.Button("Start the queue", size="sm", min_width=0, scale=0, visible=False, elem_id="queue-start")
    bar = QueueBar(state, stops, stop, start)

    def painted() -> list[Any]:
        return bar.values(workspace.store.queue_of(_LANE), waiting_in_queue(workspace))

    def set_queue(on: bool) -> list[Any]:
        workspace.store.set_queue(_LANE, stops_on_failure=bool(on))
        return painted()

    def stop_queue(request: gr.Request) -> list[Any]:
        workspace.store.stop_queue(_LANE, by=user_of(request))
        return painted()

    def start_queue() -> list[Any]:
        workspace.store.start_queue(_LANE)
        return painted()

    quiet: dict[str, Any] = {"outputs": bar.outputs, "show_progress": "hidden", "api_visibility": "private"}
    stops.input(handler(set_queue), stops, trigger_mode="always_last", **quiet)
    stop.click(handler(stop_queue), None, **quiet)
    start.click(handler(start_queue), None, **quiet)
    return bar


def waiting_in_queue(workspace: Workspace) -> int:
    """How many training runs wait, held ones included."""
    return len(workspace.store.waiting_jobs(_LANE))


def _queue_html(queue: Queue, waiting: int) -> str:
    many = (
        f"{waiting} training run{'s' * (waiting != 1)} wait{'s' * (waiting == 1)}."
        if waiting
        else "No training run waits."
    )
    if queue.stopped:
        return notice(f"The queue is stopped: {queue.stopped} {many}", "caution")
    after = "It stops when a run fails." if queue.stops_on_failure else "It goes on when a run fails."
    return f'<p class="quiet">{html.escape(many)} {after}</p>'


def webhook_fold(workspace: Workspace) -> None:
    """Where the end of a training run is told. Whoever opens the fold sees the host; only an owner changes it."""
    with gr.Accordion("Tell another program when a run ends", open=False) as fold:
        state = markup(label="Where ends of runs are told")
        url = gr.Textbox(
            "",
            label="Address (webhook)",
            info="It gets a POST with run, kind, state, title, seconds and error. It may be in your own network.",
            type="password",
            placeholder="https://chat.example.org/hooks/…",
            elem_id="webhook-url",
        )
        with actions():
            save = gr.Button("Save the address", size="sm", min_width=0, scale=0, elem_id="webhook-save")
            off = gr.Button("Tell nobody", size="sm", min_width=0, scale=0, elem_id="webhook-off")
            sure = gr.Button("Yes, forget the address", size="sm", min_width=0, scale=0, variant="stop", visible=False)

    def webhook_state() -> str:
        hook = workspace.store.webhook()
        told = f"The end of every training run is told to {hook.host}." if hook else "Nobody is told."
        return f'<p class="quiet">{html.escape(told)}</p>'

    def save_webhook(address: str, request: gr.Request) -> list[Any]:
        set_webhook(workspace.store, workspace.path, workspace.settings, address, by=user_of(request))
        return [webhook_state(), "", gr.Button(visible=False)]

    def forget_webhook(request: gr.Request) -> list[Any]:
        return save_webhook("", request)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    fold.expand(handler(webhook_state), None, state, **quiet)
    save.click(handler(save_webhook, role="admin"), url, [state, url, sure], **quiet)
    ask_twice(off, sure)
    sure.click(handler(forget_webhook, role="admin"), None, [state, url, sure], **quiet)
