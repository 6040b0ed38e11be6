"""Evaluate: columns (a prompt, a model and a sampling each) answer all rows of a set in a job; figures, tests, rows; and
what a good column says, made into a tuning set for the bare question.

What is being put together is a draft in the database, so it survives a reload; evaluations are jobs and survive anything.
The page keeps ids, the columns as JSON (checked whenever they are used) and a token of what was painted.
"""

from __future__ import annotations

import html
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import gradio as gr
from gradio.events import api

from components.frame import (
    Refresh,
    TabWidgets,
    empty_state,
    fresh_choices,
    hand_over,
    handler,
    hidden_download,
    live_dropdown,
    markup,
    notice,
    untouched,
    user_of,
)
from components.playground.editor import prompt_choices
from components.playground.evaluate_results import (
    ROWS_A_PAGE,
    View,
    acting,
    asked_for,
    figures_html,
    going_html,
    past,
    rows_html,
    tuning_set_html,
    whole,
)
from components.playground.evaluate_setup import (
    METRICS_SCRIPT,
    NO_PLAN,
    Choices,
    Columns,
    board_html,
    checked,
    column_of,
    metric_board,
    metrics_on,
    picked_of,
    plan_html,
    restored,
    told_apart,
    typed_metrics,
)
from studio.errors import InputError, StudioError
from studio.example import EXAMPLE, load_example
from studio.jobs import perform
from studio.models import EMBEDDED
from studio.prompts import templates
from studio.prompts.distil import Distil
from studio.prompts.grid import (
    Earlier,
    Grid,
    GridColumn,
    grid_lines,
    grid_page,
    grid_report,
    grid_task,
    grids,
    plan_grid,
)
from studio.prompts.grid.columns import is_snapshot
from studio.prompts.selectors import selector, selectors
from studio.prompts.techniques import techniques
from studio.specs import SnapshotRef
from studio.store import Job, Store
from studio.workspace import Workspace

__all__ = ["EvaluateWidgets", "build"]

log = logging.getLogger(__name__)

_DRAFT = "evaluate"
_LISTED = 50
_TAKEN = "taken"  # what was painted, once the columns of another page are among those to be read
_REPAINTS = 20  # of the results while an evaluation goes on: figures are counted anew each time


@dataclass(frozen=True, kw_only=True)
class EvaluateWidgets(TabWidgets):
    """`grid` holds the number of the evaluation that is shown. `take` puts columns (as JSON) to those that are there."""

    grid: gr.Textbox
    take: Refresh


def build(workspace: Workspace) -> EvaluateWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_setup(page)
    _wire_results(page)
    _serve(page)
    return EvaluateWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"grid": page.grid},
        grid=page.grid,
        take=Refresh(page.take, [page.painted], [page.painted, page.setup, page.add, page.guidelines]),
    )


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.earlier = Earlier(workspace.store)
        self.grid, self.columns, self.view, self.painted = (
            gr.Textbox("", label=label, visible="hidden")
            for label in ("Evaluation shown", "Columns", "How it is looked at", "Evaluation painted")
        )
        self.empty = empty_state(
            "There is no set to evaluate on yet. Freeze a snapshot under Dataset, or take the example's.",
            "Try it with the example",
            visible=False,
        )
        with gr.Accordion(
            "New evaluation", open=True, elem_classes=["more", "evaluate-setup"], visible=False
        ) as self.setup:
            self._lay_out_columns()
            self._lay_out_measuring()
        self.going = acting("How far it is", elem_id="evaluation-going")
        with gr.Column(visible=False, elem_classes=["evaluation"]) as self.results:
            self.past = live_dropdown([], label="Past evaluations", elem_id="past-evaluations")
            self.figures = acting("Figures", elem_id="evaluation-figures")
            self._lay_out_tuning()
            self.rows = acting("Rows", elem_id="evaluation-rows")
        self.file = hidden_download()

    def _lay_out_columns(self) -> None:
        with gr.Column(elem_classes=["card", "evaluate-columns"], min_width=320):
            self.board = acting("Columns of the evaluation", elem_id="evaluation-columns")
            self.prompt = live_dropdown([], label="Column prompt", min_width=200, elem_id="column-prompt")
            self.model = live_dropdown([], label="Column model", min_width=200, elem_id="column-model")
            self.temperature = gr.Number(0.0, label="Column temperature", min_width=100)
            self.max_tokens = gr.Number(160, label="Longest answer", precision=0, min_width=100)
            with gr.Accordion("More for this column", open=False, elem_classes=["more"]):
                own = [(t.title, name) for name, t in techniques().items()]
                self.technique = gr.Dropdown(
                    [("The prompt's own", ""), *own], value="", label="Column technique", min_width=200
                )
                self.examples = live_dropdown([], label="Column examples", min_width=200)
                self.shots = gr.Textbox("", label="Examples shown", placeholder="As the prompt says", min_width=120)
                kinds = [(kind.title, name) for name, kind in selectors().items() if not kind.is_wrapper]
                self.selector = gr.Dropdown(kinds, value="fixed", label="Column selector", min_width=160)
                self.guidelines = gr.Textbox("", label="Column guidelines", lines=2, max_lines=8, min_width=320)
                self.other = gr.Textbox(
                    "",
                    label="Other settings",
                    info="One a line: a name for the column, passages of your documents, a setting, a variable.",
                    placeholder="name: Five votes\nvotes: 5\npassages: 2",
                    lines=2,
                    max_lines=8,
                    min_width=320,
                )
            self.add = gr.Button("Add a column", min_width=0, elem_id="add-column", elem_classes=["own-width"])

    def _lay_out_measuring(self) -> None:
        with gr.Column(elem_classes=["card", "evaluate-measuring"], min_width=320):
            self.set = live_dropdown([], label="Evaluate on", min_width=240, elem_id="evaluate-on")
            self.limit = gr.Number(0, label="Rows at most", info="0 takes all.", precision=0, min_width=100)
            self.repeats = gr.Number(
                1, label="Answers per row", info="Differ by their seed.", precision=0, min_width=100
            )
            self.metrics = gr.HTML(
                None,
                label="Metrics",
                html_template="",  # its parts are made by the script: what people wrote is never HTML
                js_on_load=METRICS_SCRIPT,
                apply_default_css=False,
                padding=False,
                elem_id="evaluation-metrics",
            )
            self.plan_said = markup(NO_PLAN, label="What it will take", elem_classes=["evaluate-plan"])
            self.start_button = gr.Button("Start evaluation", variant="primary", elem_id="start-evaluation")

    def _lay_out_tuning(self) -> None:
        with gr.Column(visible=False, elem_classes=["card", "tuning-set"], elem_id="tuning-set") as self.tuning:
            self.about = markup(label="The column to make a tuning set of")
            self.questions = live_dropdown([], label="Take the questions of", min_width=240)
            self.dataset = gr.Textbox("", label="Dataset for the records", max_lines=1, min_width=200)
            self.make = gr.Button("Start making it", variant="primary", elem_id="make-tuning-set")

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def pickers(self) -> list[Any]:
        """What describes one column, in the order of `_column`."""
        first = [self.prompt, self.model, self.temperature, self.max_tokens, self.technique]
        return [*first, self.examples, self.shots, self.selector, self.guidelines, self.other]

    @property
    def defining(self) -> list[Any]:
        """What an evaluation is made of."""
        return [self.columns, self.set, self.limit, self.repeats, self.metrics]

    @property
    def listed(self) -> list[Any]:
        """Outputs of `_lists`."""
        return [*self.defining, self.board, self.prompt, self.model, self.examples, self.guidelines, self.questions]

    @property
    def framed(self) -> list[Any]:
        """Outputs of `_frame`."""
        return [self.empty.box, self.empty.action, self.setup, self.results, self.going]

    @property
    def shown(self) -> list[Any]:
        """Outputs of `_show`."""
        return [self.grid, self.view, self.past, self.figures, self.rows, self.tuning]

    @property
    def look_inputs(self) -> list[Any]:
        lists = [self.prompt, self.model, self.examples, self.questions]
        return [self.grid, self.view, self.painted, *self.defining, *lists]

    @property
    def look_outputs(self) -> list[Any]:
        return [self.painted, *self.listed, *self.framed, *self.shown]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(self, request: gr.Request, grid: str, view: str, painted: str, *values: Any) -> list[Any]:
        """The page as the database has it now; what somebody chose or typed stays. Runs outside the queue: never raises."""
        try:
            offered, _, seen = painted.partition(" ")
            jobs = grids(self.store, _LISTED)
            token, lists = self._lists(offered, values, user_of(request))
            frame, job = self._frame(grid, view, jobs, is_first=not painted)
            now, shown = self._show(job, grid, view, jobs, seen)
            return [f"{token} {now}", *lists, *frame, *shown]
        except StudioError as error:
            log.warning("The evaluations could not be brought up to date: %s", error)
            return untouched(self.look_outputs)

    def _lists(self, offered: str, values: Sequence[Any], user: str) -> tuple[str, list[Any]]:
        """The choices, as far as they moved; the first time what somebody was putting together comes back."""
        columns, chosen, limit, repeats, metrics, prompt, model, examples, questions = values
        offers = _Offers.of(self.workspace)
        if offers.token == offered:
            return offered, untouched(self.listed)
        draft = {} if offered not in ("", _TAKEN) else self.store.draft(user, _DRAFT)
        if draft:
            columns, limit, repeats = restored(draft)
        settings = draft.get("metrics", {}) if draft else typed_metrics(metrics)
        wanted = draft.get("set") or chosen or offers.usual_set
        return offers.token, [
            columns if draft else gr.skip(),
            fresh_choices(offers.sets, chosen, wanted),
            limit if draft else gr.skip(),
            repeats if draft else gr.skip(),
            metric_board(settings, wanted, offers.models),
            board_html(Columns.read(columns)),
            fresh_choices(offers.prompts, prompt, "zero-shot"),
            fresh_choices(offers.models, model, str(EMBEDDED)),
            fresh_choices(offers.sources, examples, offers.sources[-1][1] if len(offers.sources) > 1 else ""),
            self._told() if not offered else gr.skip(),
            fresh_choices(offers.questions, questions, offers.questions[0][1] if offers.questions else ""),
        ]

    def _told(self) -> str:
        """How answers should be, as the first dataset says that says it."""
        return next((d.guidelines for d in self.store.datasets() if d.guidelines), "")

    def _frame(self, grid: str, view: str, jobs: Sequence[Job], *, is_first: bool) -> tuple[list[Any], Job | None]:
        """Which parts are there, and what goes on; and the evaluation that is shown."""
        trouble, job = "", next(iter(jobs), None)
        try:
            job = grid_task(self.store, whole(grid))[0] if grid else job
        except StudioError as error:
            trouble = notice(str(error), "bad")
        has_sets = bool(_sets(self.store))
        made = self._made(view)
        going = going_html(self.workspace, job) if job is not None and not trouble else ""
        names = {dataset.name for dataset in self.store.datasets()}
        return [
            gr.Column(visible=not has_sets and not jobs),
            gr.Button(visible=not names or EXAMPLE in names),
            gr.Accordion(visible=has_sets, open=not jobs) if is_first else gr.Accordion(visible=has_sets),
            gr.Column(visible=job is not None),
            trouble + going + (tuning_set_html(self.workspace, made) if made is not None else ""),
        ], job

    def _made(self, view: str) -> Job | None:
        """The tuning set that this page started, or one that is being made."""
        wanted = View.read(view, 0).made
        newest = self.store.jobs(limit=10, kinds={Distil.kind})
        return next((j for j in newest if j.id == wanted or not j.is_over), None)

    def _show(self, job: Job | None, grid: str, text: str, jobs: Sequence[Job], seen: str) -> tuple[str, list[Any]]:
        """An evaluation's results, or nothing if that is what was painted."""
        choices = [(past(one), str(one.id)) for one in jobs]
        if job is None:
            return "none", [gr.skip(), gr.skip(), gr.Dropdown(choices=choices), "", "", gr.Column(visible=False)]
        now = f"{job.id}:{_how_far(job)}:{hash(tuple((one.id, one.state) for one in jobs))}"
        picked = gr.Dropdown(choices=choices, value=str(job.id))
        if now == seen:
            return now, [gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()]
        view = View.read(text, job.id)
        is_other = not seen.startswith(f"{job.id}:")
        return now, [
            # Left alone once it names this one: since it was read, somebody may have opened another.
            gr.skip() if grid == str(job.id) else str(job.id),
            view.written() if is_other else gr.skip(),
            picked,
            figures_html(self.workspace, job, view),
            rows_html(self.workspace, job, view),
            gr.Column(visible=False) if is_other else gr.skip(),
        ]

    # -- columns -------------------------------------------------------------------------------------------------

    def add_column(self, columns: str, *picked: Any) -> list[Any]:
        """Append what the pickers say, or put it where the column stands that is being changed."""
        state = Columns.read(columns)
        column = column_of(self.store, picked)
        changed = state.saved(column)
        return [changed.written(), board_html(changed), _add_button(changed)]

    def take(self, request: gr.Request, given: str, painted: str) -> list[Any]:
        """Put columns from another page to those that somebody has in mind; the page then reads them anew."""
        user = user_of(request)
        draft = self.store.draft(user, _DRAFT)
        state = Columns.read(restored(draft)[0]).joined(Columns.read(given).columns)
        self.store.save_draft(user, _DRAFT, {**draft, "columns": state.plain()})
        return [_TAKEN, gr.Accordion(open=True), _add_button(state), gr.skip() if painted else self._told()]

    def act_on_columns(self, event: gr.EventData, columns: str) -> list[Any]:
        """Change, duplicate or remove one."""
        do, key = asked_for(event)
        changed = Columns.read(columns).after(do, whole(key))
        fields = untouched(self.pickers)
        if do == "change":
            fields = picked_of(changed.columns[whole(key)])
        return [changed.written(), board_html(changed), _add_button(changed), *fields]

    # -- the evaluation ------------------------------------------------------------------------------------------

    def fit_metrics(self, chosen: str, metrics: Any) -> dict[str, Any]:
        """The metrics that another set can be measured by; what was typed stays."""
        return metric_board(typed_metrics(metrics), chosen or "", _models(self.workspace))

    def plan(self, request: gr.Request, *defined: Any) -> str:
        """What a start would take. Keeps the draft. Runs outside the queue, so it says what is wrong instead of raising."""
        try:
            if defined[1]:  # a page that comes back has its set last, and what it holds until then is half a draft
                self._keep_draft(user_of(request), defined)
            if not Columns.read(defined[0]).columns:
                return NO_PLAN
            task = self._defined(defined)
            return plan_html(self.workspace, task, self.earlier)
        except StudioError as error:
            return notice(str(error), "caution")

    def start(self, request: gr.Request, *defined: Any) -> list[Any]:
        """Queue it; the page then shows it."""
        job = self._queue(self._defined(defined), user_of(request))
        return [str(job.id), gr.Accordion(open=False)]

    def _queue(self, task: Grid, author: str) -> Job:
        plan_grid(self.store, self.workspace.path, task)  # also refuses a split without rows, which the job would find
        return self.workspace.queue(task.pinned(self.store), author=author)

    def _defined(self, defined: Sequence[Any]) -> Grid:
        """The evaluation that the page describes; raises InputError with a sentence for what is missing or wrong."""
        columns, chosen, limit, repeats, metrics = defined
        found = Columns.read(columns).columns
        if not found:
            raise InputError("There is no column yet. Choose a prompt and a model, and press Add a column.")
        if not chosen:
            raise InputError("There is no set to evaluate on. Choose one, or freeze a snapshot under Dataset.")
        rows, _, split = str(chosen).partition("#")
        return checked(
            Grid,
            {
                "columns": told_apart(found),
                "rows": SnapshotRef(rows),
                "split": split or "all",
                "limit": int(limit or 0),
                "repeats": int(repeats or 1),
                "metrics": metrics_on(typed_metrics(metrics), SnapshotRef(rows)),
            },
        )

    def _keep_draft(self, user: str, defined: Sequence[Any]) -> None:
        columns, chosen, limit, repeats, metrics = defined
        body = {
            "columns": Columns.read(columns).plain(),
            "set": chosen or "",
            "limit": limit or 0,
            "repeats": repeats or 1,
            "metrics": typed_metrics(metrics),
        }
        self.store.save_draft(user, _DRAFT, body)

    def load_example(self) -> None:
        load_example(self.store, self.workspace.path)

    # -- results -------------------------------------------------------------------------------------------------

    def act(self, event: gr.EventData, grid: str, text: str) -> list[Any]:
        """Another metric, baseline, filter, page or row; or the form that makes a tuning set."""
        job, task = grid_task(self.store, whole(grid))
        do, key = asked_for(event)
        view = View.read(text, job.id).after(do, key)
        if view.tuning >= len(task.columns):
            raise InputError(f"There is no column {view.tuning + 1}; this evaluation has {len(task.columns)}.")
        moves_figures, moves_rows = do in ("metric", "baseline"), do in ("metric", "only", "turn", "row")
        is_opening = do == "tuning" and view.tuning >= 0
        return [
            view.written(),
            figures_html(self.workspace, job, view) if moves_figures else gr.skip(),
            rows_html(self.workspace, job, view) if moves_rows else gr.skip(),
            gr.Column(visible=view.tuning >= 0) if do == "tuning" else gr.skip(),
            _tuning_html(task.columns[view.tuning], view.tuning) if is_opening else gr.skip(),
            _dataset_name(self.store, task) if is_opening else gr.skip(),
        ]

    def export(self, event: gr.EventData, grid: str) -> str:
        """Every answer as a file, CSV or JSONL."""
        job_id, (_, form) = whole(grid), asked_for(event)
        if form not in ("csv", "jsonl"):
            raise InputError(f"An evaluation cannot be written as '{form}'. Choose CSV or JSONL.")
        path = Path(tempfile.mkdtemp()) / f"evaluation-{job_id}.{form}"
        # newline="": CSV has its own line ends, and what stands inside a quoted answer must stay.
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(grid_lines(self.store, self.workspace.path, job_id, form))  # type: ignore[arg-type]
        return str(path)

    def act_on_job(self, event: gr.EventData, request: gr.Request) -> None:
        """Pause, resume or cancel an evaluation or a tuning set."""
        do, key = asked_for(event)
        job = self.store.job(whole(key))
        if job.kind not in (Grid.kind, Distil.kind):
            raise InputError(f"Job {job.id} is no evaluation ({job.kind}). Open it under Jobs.")
        perform(self.store, self.workspace.path, job.id, do, by=user_of(request))

    def make_set(self, request: gr.Request, grid: str, text: str, questions: str, dataset: str) -> list[Any]:
        """Queue the job that makes records of what a column says."""
        job, task = grid_task(self.store, whole(grid))
        view = View.read(text, job.id)
        if not 0 <= view.tuning < len(task.columns):
            raise InputError("No column is chosen. Press Make a tuning set at the one you want.")
        distil = _distil(view.tuning, task.columns[view.tuning], questions, dataset)
        made = self.workspace.queue(distil, author=user_of(request))
        return [replace(view, tuning=-1, made=made.id).written(), gr.Column(visible=False)]


# -- wiring ----------------------------------------------------------------------------------------------------

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _looking(page: _Page) -> dict[str, Any]:
    return {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs, **_QUIET}


def _wire_setup(page: _Page) -> None:
    page.add.click(
        handler(page.add_column), [page.columns, *page.pickers], [page.columns, page.board, page.add],
        api_name="add_column", **_QUIET,
    )  # fmt: skip
    page.board.act(
        handler(page.act_on_columns), page.columns, [page.columns, page.board, page.add, *page.pickers],
        api_name="act_on_columns", **_QUIET,
    )  # fmt: skip
    page.set.change(
        handler(page.fit_metrics), [page.set, page.metrics], page.metrics,
        trigger_mode="multiple", api_name="fit_metrics", **_QUIET,
    )  # fmt: skip
    gr.on(
        [widget.change for widget in page.defining],
        handler(page.plan),
        page.defining,
        page.plan_said,
        queue=False,
        trigger_mode="always_last",
        api_name="plan",
        **_QUIET,
    )
    page.start_button.click(
        handler(page.start), page.defining, [page.grid, page.setup], api_name="start", **_QUIET
    ).success(**_looking(page))
    page.empty.action.click(
        handler(page.load_example), None, None, api_name="load_example_sets", api_visibility="private"
    ).then(**_looking(page))


def _wire_results(page: _Page) -> None:
    page.past.input(handler(lambda one: one), page.past, page.grid, queue=False, **_QUIET).success(**_looking(page))
    page.going.act(handler(page.act_on_job), None, None, api_name="act_on_job", **_QUIET).then(**_looking(page))
    outputs = [page.view, page.figures, page.rows, page.tuning, page.about, page.dataset]
    for board, name in ((page.figures, "act_on_figures"), (page.rows, "act_on_rows")):
        board.act(
            handler(page.act), [page.grid, page.view], outputs, trigger_mode="always_last", api_name=name, **_QUIET
        )
    saved = page.figures.save(handler(page.export), page.grid, page.file, api_name="export_evaluation", **_QUIET)
    hand_over(saved, page.file)
    page.make.click(
        handler(page.make_set),
        [page.grid, page.view, page.questions, page.dataset],
        [page.view, page.tuning],
        api_name="make_set",
        **_QUIET,
    ).success(**_looking(page))


# -- for scripts -----------------------------------------------------------------------------------------------


def _serve(page: _Page) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store, root = page.store, page.workspace.path

    def start_evaluation(
        request: gr.Request,
        columns: list[dict[str, Any]],
        rows: str,
        metrics: list[dict[str, Any]],
        limit: int = 0,
        repeats: int = 1,
        split: str = "all",
    ) -> int:
        """Queue an evaluation; gives its number. A column is {"template", "model", "sampling", ...}, a metric
        {"metric": "regex", and its settings}."""
        fields = {"columns": columns, "rows": rows, "metrics": metrics, "limit": limit, "repeats": repeats}
        return page._queue(checked(Grid, {**fields, "split": split}), user_of(request)).id

    def evaluation_figures(evaluation: int, metric: str = "", baseline: int = 0) -> dict[str, Any]:
        """An evaluation as far as it is, by one metric: its columns, and each pair with the baseline column (from 0)."""
        report = grid_report(store, evaluation, metric, baseline)
        return {
            "state": report.job.state,
            "metric": report.metric.key if report.metric is not None else None,
            "columns": [
                {
                    "name": c.title,
                    "score": asdict(c.score) if c.score is not None else None,
                    "parse_rate": c.parse_rate,
                    "truncation_rate": c.truncation_rate,
                    **asdict(c.counts),
                }
                for c in report.columns
            ],
            "pairs": [asdict(pair) for pair in report.pairs],
        }

    def evaluation_rows(evaluation: int, only: str = "all", metric: str = "", first: int = 0) -> dict[str, Any]:
        """A page of the rows that a filter leaves, with every column's answers."""
        _, task = grid_task(store, evaluation)
        where = View(metric=metric, only=only).filter(task)
        found = grid_page(store, root, evaluation, where, offset=max(0, first), limit=ROWS_A_PAGE)
        rows = [
            {
                "row": r.row.number + 1,
                "instruction": r.row.instruction,
                "reference": r.row.reference,
                "cells": [[asdict(cell) for cell in cells] for cells in r.cells],
            }
            for r in found.rows
        ]
        return {"total": found.total, "rows": rows}

    def make_tuning_set(request: gr.Request, evaluation: int, column: int, questions: str, dataset: str) -> int:
        """Queue the job that makes records of what a column (from 1) says to a snapshot's questions; gives its number."""
        _, task = grid_task(store, evaluation)
        if not 1 <= column <= len(task.columns):
            raise InputError(f"There is no column {column}; this evaluation has {len(task.columns)}.")
        made = _distil(column - 1, task.columns[column - 1], questions, dataset)
        return page.workspace.queue(made, author=user_of(request)).id

    for fn in (start_evaluation, evaluation_figures, evaluation_rows, make_tuning_set):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


# -- what there is to choose from ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Offers:
    """Everything that the lists offer. The token changes when any of it does."""

    prompts: Choices
    models: Choices
    sources: Choices
    sets: Choices
    questions: Choices

    @classmethod
    def of(cls, workspace: Workspace) -> Self:
        store = workspace.store
        banks = [(f"Bank {b.name} ({b.on} on)", b.name) for b in store.banks()]
        snapshots = [(str(s.ref), str(s.ref)) for s in store.snapshots("data")]
        asked = [s for kind in ("prompts", "data") for s in store.snapshots(kind)]
        return cls(
            prompt_choices(store, templates()),
            _models(workspace),
            [("None", ""), *banks, *snapshots],
            _sets(store),
            [(f"{s.ref} · {s.rows:,} questions", str(s.ref)) for s in asked],
        )

    @property
    def token(self) -> str:
        return str(hash(tuple(tuple(part) for part in (*vars(self).values(),))))

    @property
    def usual_set(self) -> str:
        """One to try prompts on, rather than one that judges."""
        refs = [ref for _, ref in self.sets]
        return next((ref for ref in refs if ref.partition("@")[0].endswith("-development")), next(iter(refs), ""))


def _models(workspace: Workspace) -> Choices:
    return [(offer.label, str(offer.ref)) for offer in workspace.offers()]


def _sets(store: Store) -> Choices:
    """Evaluation sets; then rows of datasets that nobody trains on, which come with reference answers."""
    rules = [(f"{s.ref} · {s.rows:,} rows with rules", str(s.ref)) for s in store.snapshots("eval")]
    held = [
        (f"{s.ref} · {split} rows with references", f"{s.ref}#{split}")
        for s in store.snapshots("data")
        for split in ("validation", "test")
    ]
    return rules + held


# -- tuning sets -----------------------------------------------------------------------------------------------


def _distil(place: int, column: GridColumn, questions: str, dataset: str) -> Distil:
    """The job that makes records of what a column says.

    Raises InputError for a column with something that this job does not ask with: left out in silence, the records would
    be another prompt's.
    """
    if not questions:
        raise InputError("There are no questions to ask. Choose a snapshot, or freeze one under Dataset.")
    drawn = column.sampling.model_dump(exclude={"temperature", "max_tokens", "seed"}, exclude_defaults=True)
    seeds = {column.seed, column.sampling.seed}
    wanting = {
        "a technique of its own": bool(column.technique),
        "settings of its technique": bool(column.knobs),
        "values for variables": bool(column.variables),
        "passages of the documents": bool(column.passages),
        f"the sampling settings {', '.join(drawn)}": bool(drawn),
        "a seed for its examples and another one for its answers": len(seeds) > 1,
        "a selector with settings of its own": column.selector != selector(column.selector.name),
        "a selector over a snapshot": is_snapshot(column.bank) and column.selector.name != "fixed",
    }
    odd = next((words for words, is_so in wanting.items() if is_so), None)
    if odd is not None:
        raise InputError(
            f"Column {place + 1} has {odd}, and a tuning set is made with the prompt as it is saved. "
            "Save a version of the prompt that has it, and evaluate that one."
        )
    from_snapshot = is_snapshot(column.bank)
    return checked(
        Distil,
        {
            "model": column.model,
            "template": column.template,
            "prompts": SnapshotRef(questions),
            "dataset": (dataset or "").strip(),
            "guidelines": column.guidelines,
            "examples": column.bank if from_snapshot else None,
            "bank": "" if from_snapshot else column.bank,
            "selector": column.selector.name,
            "shots": column.k,
            "temperature": column.sampling.temperature,
            "max_tokens": column.sampling.max_tokens,
            "seed": column.sampling.seed,
        },
    )


def _tuning_html(column: GridColumn, place: int) -> str:
    return (
        f'<h2 class="section-title">Make a tuning set of column {place + 1} <small>{html.escape(column.title)}</small></h2>'
        '<p class="quiet">The column answers other questions. Each good answer becomes a record for the bare question, so '
        "that a model tuned on them needs the prompt no longer. Questions of evaluation sets are left out.</p>"
    )


def _dataset_name(store: Store, task: Grid) -> str:
    """A name that no dataset has."""
    taken = {dataset.name for dataset in store.datasets()}
    name = f"{task.rows.name.removesuffix('-development')}-distilled"
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _add_button(state: Columns) -> gr.Button:
    return gr.Button("Add a column" if state.edited is None else f"Save column {state.edited + 1}")


def _how_far(job: Job) -> str:
    """What the results of a job are painted for: some of its steps while it goes on, then its end."""
    if job.is_over or not job.total:
        return f"{job.state}{job.change}"
    return f"{job.state}{job.step * _REPAINTS // job.total}"
