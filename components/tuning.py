"""Tuning: three fields to a run, the run while it goes on, and the runs before it.

The page only reads rows: training happens in a process of its own and goes on when this page is closed.
"""

from __future__ import annotations

import html
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gradio as gr
import pandas as pd

from components.forms import form
from components.frame import (
    Refresh,
    TabWidgets,
    card,
    chip,
    duration,
    facts,
    handler,
    live_dropdown,
    notice,
    page_header,
    progress,
    table,
    user_of,
)
from studio.errors import InputError, StudioError
from studio.jobs import resume
from studio.models import EMBEDDED
from studio.recipes.lora import Lora
from studio.recipes.preflight import preflight
from studio.store import Job, Metric
from studio.workspace import Workspace

__all__ = ["TuningWidgets", "build"]

_POINTS = 400  # per curve; more only slows the page
_THREE = ("data", "base", "effort")


@dataclass(frozen=True, kw_only=True)
class TuningWidgets(TabWidgets):
    """`try_it` opens the shown run (`run`, a number) in the playground, beside its base."""

    run: gr.Textbox
    try_it: gr.Button


def build(workspace: Workspace) -> TuningWidgets:
    with page_header("tuning", "Teach a model to answer the way your records do."):
        start = gr.Button("Start tuning", variant="primary", min_width=140, scale=0, elem_id="start-tuning")
    key = gr.Textbox("", visible="hidden", label="Key of the next start")  # a fresh one for every page that opens
    shown = gr.Textbox("", visible="hidden", label="Run on screen")
    with card("New run"):
        with gr.Row(elem_classes=["form-row", "three"]):
            data = live_dropdown(
                _snapshots(workspace), label="What to teach", info="A frozen instruction dataset.", elem_id="tune-data"
            )
            base = live_dropdown(
                _bases(workspace),
                value=str(EMBEDDED),
                label="Which model",
                info="The model that learns. It stays as it is.",
                elem_id="tune-base",
            )
            effort = gr.Radio(
                [("Quick", "quick"), ("Balanced", "balanced"), ("Thorough", "thorough")],
                value="balanced",
                label="How thorough",
                info="Goes through the records 1, 2 or 4 times.",
                elem_id="tune-effort",
            )
        knobs = form(
            Lora, given={"data": data, "base": base, "effort": effort}, first=_THREE, more="Advanced", columns=4
        )
        plan = gr.HTML(_plan(workspace, {}), js_on_load=None, elem_id="preflight")
    with card(visible=False) as on_screen:
        title = gr.HTML(js_on_load=None)
        bar = gr.HTML(js_on_load=None)
        with gr.Row(elem_classes=["form-row"]):
            pause = gr.Button("Pause", min_width=90, scale=0)
            cancel = gr.Button("Cancel", min_width=90, scale=0, elem_id="cancel-run")
            go_on = gr.Button("Resume", min_width=90, scale=0)
            try_it = gr.Button("Try it beside its base", min_width=180, scale=0, elem_id="try-run")
        with gr.Row():
            with gr.Column(scale=3, min_width=380):
                curve = gr.LinePlot(
                    x="step",
                    y="loss",
                    color="measured on",
                    x_title="Step",
                    y_title="Loss (nats per learned token)",
                    color_map={"training": "#94a3b8", "validation": "#0d9488"},
                    height=280,
                    label="Loss",
                    show_label=False,
                    buttons=[],
                )
            with gr.Column(scale=2, min_width=260):
                figures = gr.HTML(js_on_load=None)
        samples = gr.HTML(js_on_load=None)
    with card("Runs"):
        none_yet = gr.HTML(_none_yet(workspace), js_on_load=None)
        runs = table(
            ["Run", "State", "Base", "Data", "How", "Loss before", "Loss after", "Took", "Started"],
            label="Runs",
            widths=["70px", "100px", "21%", "17%", "11%", "100px", "100px", "90px", "130px"],
            rows=_runs(workspace),
            max_height=320,
            elem_id="runs",
            visible=bool(_runs(workspace)),
        )

    def list_runs() -> list[Any]:
        rows = _runs(workspace)
        return [_none_yet(workspace), gr.Dataframe(value=rows, visible=bool(rows))]

    run_widgets = [on_screen, title, bar, pause, cancel, go_on, try_it, curve, figures, samples]

    def begin(request: gr.Request, client_key: str, *values: Any) -> list[Any]:
        task = knobs.read(values)
        preflight(workspace.store, workspace.path, task)
        job = workspace.queue(task, author=user_of(request), client_key=client_key or None)
        return [secrets.token_hex(8), str(job.id), *_run(workspace, str(job.id)), *list_runs()]

    def show(run: str) -> list[Any]:
        return [*_run(workspace, run), *list_runs()]

    def ask_for(intent: Any, run: str, user: str) -> list[Any]:
        workspace.store.request_job(_number(run), intent, by=user)
        return show(run)

    def pause_run(request: gr.Request, run: str) -> list[Any]:
        return ask_for("pause", run, user_of(request))

    def cancel_run(request: gr.Request, run: str) -> list[Any]:
        return ask_for("cancel", run, user_of(request))

    def resume_run(request: gr.Request, run: str) -> list[Any]:
        resume(workspace.store, workspace.path, _number(run), by=user_of(request))
        return show(run)

    def pick(event: gr.SelectData) -> list[Any]:
        run = str(event.row_value[0]).removeprefix("run:")
        return [run, *_run(workspace, run)]

    start.click(
        handler(begin),
        [key, *knobs.inputs],
        [key, shown, *run_widgets, none_yet, runs],
        validator=_after_key(knobs.validator()),
        api_name="tune_lora",
    )
    for button, fn, name in (
        (pause, pause_run, "pause_run"),
        (cancel, cancel_run, "cancel_run"),
        (go_on, resume_run, "resume_run"),
    ):
        button.click(handler(fn), shown, [*run_widgets, none_yet, runs], show_progress="hidden", api_name=name)
    runs.select(handler(pick), None, [shown, *run_widgets], show_progress="hidden", api_visibility="private")
    shown.change(handler(show), shown, [*run_widgets, none_yet, runs], show_progress="hidden", api_visibility="private")
    for widget in knobs.inputs:
        widget.change(  # type: ignore[attr-defined]
            handler(lambda *values: _plan(workspace, knobs.named(values))),
            knobs.inputs,
            plan,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )

    def reread(run: str, client_key: str, *values: Any) -> list[Any]:
        run = run or _running(workspace)
        given = knobs.named(values)
        snapshots, bases = _snapshots(workspace), _bases(workspace)
        taught = given["data"] if given["data"] in snapshots else next(iter(snapshots), None)
        learner = given["base"] if given["base"] in {ref for _, ref in bases} else str(EMBEDDED)
        given |= {"data": taught, "base": learner}
        return [
            gr.Dropdown(choices=snapshots, value=taught),
            gr.Dropdown(choices=bases, value=learner),
            _plan(workspace, given),
            run,
            client_key or secrets.token_hex(8),
            *_run(workspace, run),
            *list_runs(),
        ]

    return TuningWidgets(
        refresh=Refresh(
            reread, [shown, key, *knobs.inputs], [data, base, plan, shown, key, *run_widgets, none_yet, runs]
        ),
        links={"run": shown},
        run=shown,
        try_it=try_it,
    )


def _after_key(validator: Any) -> Any:
    """The form's validator, for a listener whose first input is the client key."""

    def check(_key: str, *values: Any) -> list[dict[str, Any]]:
        return [gr.validate(True, ""), *validator(*values)]

    return check


def _plan(workspace: Workspace, values: dict[str, Any]) -> str:
    if not values.get("data") or not values.get("base"):
        if not workspace.store.snapshots("data"):
            return notice("There is no snapshot to learn from yet. Freeze a dataset under Dataset first.")
        return ""
    try:
        task = Lora.model_validate({k: v for k, v in values.items() if v not in (None, "")})
        return notice(preflight(workspace.store, workspace.path, task).sentence)
    except StudioError as error:
        return notice(str(error), "bad")
    except ValueError:
        return notice("One of the advanced settings cannot be used; see the message under it.", "caution")


def _run(workspace: Workspace, run: str) -> list[Any]:
    """Values for the widgets of the run on screen."""
    if not run.isdigit():
        return [gr.Column(visible=False), *[gr.skip()] * 9]
    try:
        job = workspace.store.job(int(run))
        metrics = workspace.store.metrics(job.id)
        answers = workspace.store.job_events(job.id, kinds=["sample"])
    except StudioError as error:
        off = [gr.Button(visible=False)] * 4
        return [gr.Column(visible=True), notice(str(error), "bad"), "", *off, _curve([]), "", ""]
    latest: dict[str, float] = {}
    for metric in metrics:
        latest |= {name: value for name, value in metric.values.items() if value is not None}
    shown_samples = [e.payload for e in answers]
    return [
        gr.Column(visible=True),
        _title(job),
        _bar(job, latest),
        gr.Button(visible=job.state == "running"),
        gr.Button(visible=job.state in ("queued", "held", "starting", "running", "paused")),
        gr.Button(visible=job.state in ("paused", "failed", "lost", "cancelled")),
        gr.Button(visible=job.state == "done"),
        _curve(metrics),
        _figures(job, latest),
        _samples(shown_samples),
    ]


def _title(job: Job) -> str:
    tone = {"done": "good", "failed": "bad", "lost": "bad", "cancelled": "caution", "paused": "caution"}.get(
        job.state, ""
    )
    answers = f" {chip(f'answers as run:{job.id}', 'L2')}" if job.state == "done" else ""
    return (
        f'<div class="run-title"><h2>run:{job.id} <small>{html.escape(job.title)}</small></h2>'
        f"{chip(job.state, tone)}{answers}</div>"  # type: ignore[arg-type]
    )


def _bar(job: Job, latest: dict[str, float]) -> str:
    if job.error:
        return notice(job.error, "bad" if job.state in ("failed", "lost") else "caution")
    if job.state == "done":
        before, after = latest_validation(job)
        gain = f" Validation loss {before:.2f} → {after:.2f}." if before is not None and after is not None else ""
        return notice(f"Tuned in {duration((job.result or {}).get('train_seconds', 0))}.{gain}", "good")
    left = latest.get("seconds_left")
    eta = f" · {duration(left)} left" if left is not None and job.state == "running" and job.step else ""
    step = f"step {job.step} of {job.total}" if job.total else ""
    words = " · ".join(part for part in (step, job.message or job.state) if part)
    return progress(job.progress, words + eta)


def latest_validation(job: Job) -> tuple[float | None, float | None]:
    """Validation loss before and after a finished run; None where there were no validation records."""
    result = job.result or {}
    return result.get("validation_loss_before"), result.get("validation_loss")


def _curve(metrics: list[Metric]) -> pd.DataFrame:
    points = [(m.step, m.values["loss"], "training") for m in metrics if m.values.get("loss") is not None]
    thin = points[:: max(1, len(points) // _POINTS)]
    thin += [
        (m.step, m.values["validation_loss"], "validation")
        for m in metrics
        if m.values.get("validation_loss") is not None
    ]
    return pd.DataFrame(thin, columns=["step", "loss", "measured on"])


def _figures(job: Job, latest: dict[str, float]) -> str:
    rows = {
        "Loss": ("loss", "{:.3f}"),
        "Validation loss": ("validation_loss", "{:.3f}"),
        "Learning rate": ("learning_rate", "{:.1e}"),
        "Learned tokens a second": ("learned_tokens_per_second", "{:.0f}"),
        "Memory": ("memory_gb", "{:.1f} GB"),
    }
    found = {name: form.format(latest[key]) for name, (key, form) in rows.items() if key in latest}
    if job.result and job.result.get("new_parameters"):
        found["New parameters"] = f"{job.result['new_parameters']:,}"
    if job.attempt > 1:
        found["Attempt"] = str(job.attempt)
    return facts(found) if found else ""


def _samples(rows: list[dict[str, Any]]) -> str:
    """The newest answers to the same few prompts, base beside tuned."""
    if not rows:
        return ""
    step = max(r["step"] for r in rows)
    newest = [r for r in rows if r["step"] == step]
    cells = "".join(
        f'<div class="sample"><p class="quiet">{html.escape(r["prompt"])}</p>'
        f"<div><h4>Base</h4><p>{html.escape(r['answers']['base'])}</p></div>"
        f"<div><h4>Tuned, step {step}</h4><p>{html.escape(r['answers']['tuned'])}</p></div></div>"
        for r in newest
    )
    return f'<div class="samples"><h3>Answers to records it does not learn from</h3>{cells}</div>'


def _runs(workspace: Workspace) -> list[list[Any]]:
    jobs = [j for j in workspace.store.jobs(limit=200) if j.kind == Lora.kind]
    return [_run_row(j) for j in jobs[:50]]


def _none_yet(workspace: Workspace) -> str:
    if _runs(workspace):
        return ""
    return '<p class="quiet">No runs yet. Start one above: the example snapshot and the model are already chosen.</p>'


def _run_row(job: Job) -> list[Any]:
    before, after = latest_validation(job)
    taken = job.ended_at - job.started_at if job.ended_at and job.started_at else None
    return [
        f"run:{job.id}",
        job.state,
        job.task["base"],
        job.task["data"],
        job.task["effort"],
        f"{before:.2f}" if before is not None else "–",
        f"{after:.2f}" if after is not None else "–",
        duration(taken) if taken is not None else "–",
        datetime.fromtimestamp(job.created_at).strftime("%d %b, %H:%M"),
    ]


def _running(workspace: Workspace) -> str:
    """The run to show when nobody chose one: the one that runs, else nothing."""
    active = workspace.store.jobs(limit=20, states=("starting", "running", "stopping", "queued"))
    return next((str(j.id) for j in reversed(active) if j.kind == Lora.kind), "")


def _number(run: str) -> int:
    if not run.isdigit():
        raise InputError("No run is chosen. Choose one in the table of runs.")
    return int(run)


def _snapshots(workspace: Workspace) -> list[str]:
    return [str(s.ref) for s in workspace.store.snapshots("data")]


def _bases(workspace: Workspace) -> list[tuple[str, str]]:
    return [(o.label, str(o.ref)) for o in workspace.offers()]
