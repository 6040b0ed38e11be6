"""A run on screen, the way every page shows one: title, progress, buttons, curves, figures and sample answers.

Pages differ in what a run measures and in what they say when it is done; they give those as words and names.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from components.frame import Tone, chip, duration, notice, progress
from studio.errors import InputError
from studio.jobs import legal_actions, perform
from studio.jobs.figures import Curves
from studio.store import Job, Store
from studio.workspace import Workspace

__all__ = [
    "RUN_ACTIONS",
    "act_on",
    "after_key",
    "curve_of",
    "legal_buttons",
    "measured",
    "newest_samples",
    "run_bar",
    "run_buttons",
    "run_title",
    "samples",
    "small_plot",
    "state_chip",
]

RUN_ACTIONS = ("pause", "cancel", "resume")

_POINTS = 400  # per curve; more only slows the page
_TONES: dict[str, Tone] = {
    "done": "good",
    "failed": "bad",
    "lost": "bad",
    "cancelled": "caution",
    "paused": "caution",
}
_TRAINING = "#94a3b8"


# -- what a person may do ------------------------------------------------------------------------------------


def run_buttons(name: str = "run") -> dict[str, gr.Button]:
    """Pause, cancel and resume; `name` ends their element ids."""
    return {a: gr.Button(a.capitalize(), min_width=90, scale=0, elem_id=f"{a}-{name}") for a in RUN_ACTIONS}


def legal_buttons(workspace: Workspace, job: Job | None) -> list[gr.Button]:
    """Those that make sense now; none for a run that is not there."""
    legal = legal_actions(job, workspace.path) if job else frozenset()
    return [gr.Button(visible=name in legal) for name in RUN_ACTIONS]


def act_on(workspace: Workspace, run: str, action: str, *, by: str) -> Job:
    """Pause, cancel or resume the run with this number."""
    if not run.isdecimal():
        raise InputError("No run is chosen. Choose one in the table of runs.")
    return perform(workspace.store, workspace.path, int(run), action, by=by)


def after_key(validator: Callable[..., list[dict[str, Any]]], before: int = 1) -> Callable[..., list[dict[str, Any]]]:
    """A form's validator, for a listener whose first inputs (the client key, ...) are not of the form."""

    def check(*values: Any) -> list[dict[str, Any]]:
        return [gr.validate(True, "")] * before + validator(*values[before:])

    return check


# -- how it goes ---------------------------------------------------------------------------------------------


def state_chip(job: Job) -> str:
    return chip(job.state, _TONES.get(job.state, ""))


def run_title(job: Job, made: str = "") -> str:
    """Number, title and state; `made` is a chip (HTML) for what a finished run is."""
    beside = f" {made}" if made and job.state == "done" else ""
    return (
        f'<div class="run-title"><h2>run:{job.id} <small>{html.escape(job.title)}</small></h2>'
        f"{state_chip(job)}{beside}</div>"
    )


def run_bar(job: Job, latest: Mapping[str, float], done: str, unit: str = "step") -> str:
    """The error, or `done` (a sentence), or how far it is and how long it will take."""
    if job.error:
        return notice(job.error, "bad" if job.state in ("failed", "lost") else "caution")
    if job.state == "done":
        return notice(done, "good")
    left = latest.get("seconds_left")
    eta = f" · {duration(left)} left" if left is not None and job.state == "running" and job.step else ""
    step = f"{unit} {job.step} of {job.total}" if job.total else ""
    words = " · ".join(part for part in (step, job.message or job.state) if part)
    return progress(job.progress, words + eta)


def measured(latest: Mapping[str, float], shapes: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Figures as words: shapes are {words: (name of the metric, format)}; what was not measured is left out."""
    return {words: shape.format(latest[name]) for words, (name, shape) in shapes.items() if name in latest}


# -- curves --------------------------------------------------------------------------------------------------


def small_plot(y_title: str, hue: str, *, x_title: str = "Step", height: int = 280, y: str = "loss") -> gr.LinePlot:
    """A curve over steps: training in grey, validation in the rung's hue. Give it `curve_of`."""
    return gr.LinePlot(
        x="step",
        y=y,
        color="measured on",
        x_title=x_title,
        y_title=y_title,
        color_map={"training": _TRAINING, "validation": hue},
        height=height,
        label=y_title,
        show_label=False,
        buttons=[],
    )


def curve_of(curves: Curves, training: str, validation: str = "", y: str = "loss") -> pd.DataFrame:
    """The points of one plot, from the metrics of these names."""
    names = {"training": training, "validation": validation}
    points = [(step, value, on) for on, name in names.items() for step, value in curves.curve(name, _POINTS)]
    return pd.DataFrame(points, columns=["step", y, "measured on"])


# -- answers -------------------------------------------------------------------------------------------------


def newest_samples(store: Store, job_id: int) -> list[dict[str, Any]]:
    """The sample answers of the last step that has any. A resumed run asks some again; then the last one counts."""
    rows: list[dict[str, Any]] = []
    since = 0
    while events := store.job_events(job_id, since=since, kinds=["sample"]):
        rows += [e.payload for e in events]
        since = events[-1].id
    step = max((r["step"] for r in rows), default=0)
    return list({r["prompt"]: r for r in rows if r["step"] == step}.values())


def samples(rows: Sequence[Mapping[str, Any]], title: str, before: tuple[str, str], now: tuple[str, str]) -> str:
    """Answers to the same few prompts beside each other; each side is (its name in the rows, words). At the beginning
    there may be one side only."""

    def side(row: Mapping[str, Any], name: str, words: str) -> str:
        answer = row["answers"].get(name)
        return "" if answer is None else f"<div><h4>{html.escape(words)}</h4><p>{html.escape(answer)}</p></div>"

    cells = "".join(
        f'<div class="sample"><p class="quiet">{html.escape(r["prompt"])}</p>'
        f"{side(r, *before)}{side(r, now[0], now[1] + ' ' + str(r['step']))}</div>"
        for r in rows
    )
    if not cells:
        return ""
    return f'<div class="samples"><h3>{html.escape(title)}</h3>{cells}</div>'
