"""Tuning: three fields to a run, the run while it goes on, and the runs before it.

The page only reads rows: training happens in a process of its own and goes on when this page is closed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import gradio as gr

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
    markup,
    notice,
    page_header,
    table,
    user_of,
)
from components.running import (
    RUN_ACTIONS,
    act_on,
    after_key,
    curve_of,
    legal_buttons,
    measured,
    newest_samples,
    run_bar,
    run_buttons,
    run_title,
    samples,
    small_plot,
)
from studio.errors import StudioError
from studio.jobs import Figures
from studio.jobs.figures import Curves
from studio.models import EMBEDDED
from studio.recipes.lora import Lora
from studio.recipes.preflight import preflight
from studio.store import Job
from studio.workspace import Workspace

__all__ = ["TuningWidgets", "build"]

_THREE = ("data", "base", "effort")
_HUE = "#0d9488"  # of L2
_MEASURED = {
    "Loss": ("loss", "{:.3f}"),
    "Validation loss": ("validation_loss", "{:.3f}"),
    "Learning rate": ("learning_rate", "{:.1e}"),
    "Learned tokens a second": ("learned_tokens_per_second", "{:.0f}"),
    "Memory": ("memory_gb", "{:.1f} GB"),
}


@dataclass(frozen=True, kw_only=True)
class TuningWidgets(TabWidgets):
    """`try_it` opens the shown run (`run`, a number) in the playground, beside its base."""

    run: gr.Textbox
    try_it: gr.Button


def build(workspace: Workspace) -> TuningWidgets:
    """Lay out the page and wire it."""
    with page_header("tuning", "Teach a model to answer the way your records do."):
        start = gr.Button("Start tuning", variant="primary", min_width=140, scale=0, elem_id="start-tuning")
    page = _Page(workspace)
    start.click(
        handler(page.begin),
        [page.key, *page.knobs.inputs],
        [page.key, page.shown, *page.run_outputs],
        validator=after_key(page.knobs.validator()),
        api_name="tune_lora",
    )
    _wire_run(page)
    for widget in page.knobs.inputs:
        widget.change(  # type: ignore[attr-defined]
            handler(page.plan_of),
            page.knobs.inputs,
            page.plan,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )
    return TuningWidgets(
        refresh=Refresh(
            page.again,
            [page.shown, page.key, page.offered, *page.knobs.inputs],
            [page.data, page.base, page.plan, page.offered, page.shown, page.key, *page.run_outputs],
        ),
        links={"run": page.shown},
        run=page.shown,
        try_it=page.try_it,
    )


class _Page:
    """The widgets below the header, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.figures = Figures(workspace.store)
        with gr.Row(elem_classes=["off-screen"]):
            self.key = gr.Textbox("", label="Key of the next start")  # a fresh one for every page that opens
            self.shown = gr.Textbox("", label="Run on screen")
            self.offered = gr.Textbox("", label="Choices offered")
        with card("New run"):
            self._lay_out_fields()
        with card(visible=False) as self.on_screen:
            self._lay_out_run()
        with card("Runs"):
            rows = _runs(workspace)
            self.none_yet = markup(_none_yet(rows))
            self.runs = table(
                ["Run", "State", "Base", "Data", "How", "Loss before", "Loss after", "Took", "Started"],
                label="Runs",
                widths=["70px", "100px", "21%", "17%", "11%", "100px", "100px", "90px", "130px"],
                rows=rows,
                max_height=320,
                elem_id="runs",
                visible=bool(rows),
            )

    def _lay_out_fields(self) -> None:
        data, base, effort = (Lora.model_fields[name] for name in _THREE)
        with gr.Row(elem_classes=["form-row", "three"]):
            self.data = live_dropdown(
                _snapshots(self.workspace), label=data.title, info=data.description, elem_id="tune-data"
            )
            self.base = live_dropdown(
                _bases(self.workspace),
                value=str(EMBEDDED),
                label=base.title,
                info=base.description,
                elem_id="tune-base",
            )
            self.effort = gr.Radio(
                [("Quick", "quick"), ("Balanced", "balanced"), ("Thorough", "thorough")],
                value=effort.default,
                label=effort.title,
                info=effort.description,
                elem_id="tune-effort",
            )
        three = {"data": self.data, "base": self.base, "effort": self.effort}
        self.knobs = form(Lora, given=three, first=_THREE, more="Advanced", columns=4)
        self.plan = markup(_plan(self.workspace, {}), elem_id="preflight")

    def _lay_out_run(self) -> None:
        self.title, self.bar = markup(), markup()
        with gr.Row(elem_classes=["form-row"]):
            self.actions = run_buttons()
            self.try_it = gr.Button("Try it beside its base", min_width=180, scale=0, elem_id="try-run")
        with gr.Row():
            with gr.Column(scale=3, min_width=380):
                self.curve = small_plot("Loss (nats per learned token)", _HUE)
            with gr.Column(scale=2, min_width=260):
                self.facts = markup()
        self.samples = markup()

    @property
    def run_outputs(self) -> list[Any]:
        """The run on screen and the runs below it: what `show` returns."""
        run = [self.on_screen, self.title, self.bar, *self.actions.values(), self.try_it]
        return [*run, self.curve, self.facts, self.samples, self.none_yet, self.runs]

    def show(self, run: str) -> list[Any]:
        rows = _runs(self.workspace)
        below = [_none_yet(rows), gr.Dataframe(value=rows, visible=bool(rows))]
        return [*_run(self.workspace, self.figures, run), *below]

    def again(self, run: str, client_key: str, offered: str, *values: Any) -> list[Any]:
        """The page as the database has it now. The lists stay as they are while their choices do: a step of a run must
        not close one that somebody has open."""
        run = run or _running(self.workspace)
        snapshots, bases = _snapshots(self.workspace), _bases(self.workspace)
        now = str(hash((*snapshots, *bases)))
        lists = [gr.skip()] * 3
        if now != offered:
            given = self.knobs.named(values)
            taught = given["data"] if given["data"] in snapshots else next(iter(snapshots), None)
            learner = given["base"] if given["base"] in {ref for _, ref in bases} else str(EMBEDDED)
            lists = [
                gr.Dropdown(choices=snapshots, value=taught),
                gr.Dropdown(choices=bases, value=learner),
                _plan(self.workspace, {**given, "data": taught, "base": learner}),
            ]
        return [*lists, now, run, client_key or secrets.token_hex(8), *self.show(run)]

    def plan_of(self, *values: Any) -> str:
        return _plan(self.workspace, self.knobs.named(values))

    # -- what a person does ------------------------------------------------------------------------------------

    def begin(self, request: gr.Request, client_key: str, *values: Any) -> list[Any]:
        task = self.knobs.read(values)
        preflight(self.store, self.workspace.path, task)
        job = self.workspace.queue(task, author=user_of(request), client_key=client_key or None)
        return [secrets.token_hex(8), str(job.id), *self.show(str(job.id))]

    def act(self, action: str, request: gr.Request, run: str) -> list[Any]:
        act_on(self.workspace, run, action, by=user_of(request))
        return self.show(run)

    def pick(self, event: gr.SelectData) -> str:
        return str(event.row_value[0]).removeprefix("run:")


def _wire_run(page: _Page) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for name, button in page.actions.items():
        button.click(handler(partial(page.act, name)), page.shown, page.run_outputs, api_name=f"{name}_run", **quiet)
    page.runs.select(handler(page.pick), None, page.shown, **quiet)
    page.shown.change(handler(page.show), page.shown, page.run_outputs, **quiet)


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


def _run(workspace: Workspace, figures: Figures, run: str) -> list[Any]:
    """Values for the widgets of the run on screen."""
    if not run.isdigit():
        return [gr.Column(visible=False), *[gr.skip()] * (len(RUN_ACTIONS) + 6)]
    try:
        job = workspace.store.job(int(run))
        curves = figures.of(job.id)
        answers = newest_samples(workspace.store, job.id)
    except StudioError as error:
        off = [*legal_buttons(workspace, None), gr.Button(visible=False)]
        return [gr.Column(visible=True), notice(str(error), "bad"), "", *off, _curve(Curves()), "", ""]
    return [
        gr.Column(visible=True),
        run_title(job, chip(f"answers as run:{job.id}", "L2")),
        run_bar(job, curves.latest, _done(job)),
        *legal_buttons(workspace, job),
        gr.Button(visible=job.state == "done"),
        _curve(curves),
        _facts(job, curves.latest),
        _samples(answers),
    ]


def _done(job: Job) -> str:
    before, after = latest_validation(job)
    gain = f" Validation loss {before:.2f} → {after:.2f}." if before is not None and after is not None else ""
    return f"Tuned in {duration((job.result or {}).get('train_seconds', 0))}.{gain}"


def latest_validation(job: Job) -> tuple[float | None, float | None]:
    """Validation loss before and after a finished run; None where there were no validation records."""
    result = job.result or {}
    return result.get("validation_loss_before"), result.get("validation_loss")


def _curve(curves: Curves) -> Any:
    return curve_of(curves, "loss", "validation_loss")


def _facts(job: Job, latest: dict[str, float]) -> str:
    found = measured(latest, _MEASURED)
    if job.result and job.result.get("new_parameters"):
        found["New parameters"] = f"{job.result['new_parameters']:,}"
    if job.attempt > 1:
        found["Attempt"] = str(job.attempt)
    return facts(found) if found else ""


def _samples(rows: list[dict[str, Any]]) -> str:
    title = "Answers to records it does not learn from"
    return samples(rows, title, ("base", "Base"), ("tuned", "Tuned, step"))


def _runs(workspace: Workspace) -> list[list[Any]]:
    return [_run_row(job) for job in workspace.store.jobs(limit=50, kinds={Lora.kind})]


def _none_yet(rows: list[list[Any]]) -> str:
    if rows:
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
    """The run to show when nobody chose one: the one at work, or else the next in line, or none."""
    active = workspace.store.jobs(states=("starting", "running", "stopping", "queued"), kinds={Lora.kind})
    return str(active[-1].id) if active else ""


def _snapshots(workspace: Workspace) -> list[str]:
    return [str(s.ref) for s in workspace.store.snapshots("data")]


def _bases(workspace: Workspace) -> list[tuple[str, str]]:
    return [(o.label, str(o.ref)) for o in workspace.offers()]
