"""The runs there were: one row each with its curve, ticks that lay runs beside each other, and what waits its turn."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from components.frame import card, chip, duration, markup, notice, section
from components.picking import pick_list, pressed, rows_to_pick, rows_to_read
from components.running import state_chip
from components.tuning.on_screen import run_number
from components.tuning.pictures import Line, line_chart, sparkline
from components.tuning.verdict import verdict_chip
from studio.errors import InputError, StudioError
from studio.evaluation.recommendation import Outcome
from studio.jobs import Figures, legal_actions, perform
from studio.recipes.tuning_state import differences, gain, is_tuning, method_named
from studio.recipes.verdict_state import Verdicts
from studio.store import Job
from studio.workspace import Workspace

__all__ = ["Past"]

_MOST_COMPARED = 8
_SPARK_POINTS, _SPARK_SMOOTHING = 32, 0.8
_POINTS = 300
_MEASURES = {"Validation loss": "validation_loss", "Training loss": "loss"}
_ORDERS = {"up": "Up", "down": "Down", "first": "First", "release": "Release", "hold": "Hold", "cancel": "Cancel"}

# A click or Enter opens a row, its box (or X) lays it beside others. Ticks outlive the rows, which are drawn anew while a
# run goes on; they are told as the numbers of the runs.
_ON_LOAD = """
const ticked = new Set();
let focused = ''; // the row that the keys were in when the rows were drawn anew
const rows = () => [...element.querySelectorAll('tr[data-key]')];
const rowOf = (event) => event.target.closest?.('tr[data-key]');
const paint = () => {
  const here = rows();
  for (const tr of here) {
    const box = tr.querySelector('.tick input');
    if (box) box.checked = ticked.has(tr.dataset.key);
  }
  const head = element.querySelector('th.tick input');
  if (!head) return;
  const many = here.filter((tr) => ticked.has(tr.dataset.key)).length;
  head.checked = many > 0 && many === here.length;
  head.indeterminate = many > 0 && many < here.length;
  if (focused && document.activeElement === document.body) {
    here.find((tr) => tr.dataset.key === focused)?.focus({ preventScroll: true });
  }
};
const tick = (keys, isOn) => {
  for (const key of keys) ticked[isOn ? 'add' : 'delete'](key);
  paint();
  trigger('tick', { key: [...ticked].join(' ') });
};
element.addEventListener('click', (event) => {
  const tr = rowOf(event);
  if (event.target.closest('th.tick')) {
    if (event.target.tagName === 'INPUT') tick(rows().map((row) => row.dataset.key), event.target.checked);
  } else if (tr && event.target.closest('.tick')) {
    tick([tr.dataset.key], !ticked.has(tr.dataset.key));
  } else if (tr && getSelection().isCollapsed) trigger('pick', { key: tr.dataset.key });
});
element.addEventListener('focusin', (event) => { focused = rowOf(event)?.dataset.key ?? ''; });
element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = ''; });
element.addEventListener('keydown', (event) => {
  const tr = rowOf(event);
  if (!tr || event.target !== tr || event.ctrlKey || event.metaKey || event.altKey) return;
  const to = { ArrowDown: tr.nextElementSibling, ArrowUp: tr.previousElementSibling }[event.key];
  if (to) to.focus();
  else if (event.key === 'Enter' || event.key === ' ') trigger('pick', { key: tr.dataset.key });
  else if (event.key === 'x') tick([tr.dataset.key], !ticked.has(tr.dataset.key));
  else return;
  event.preventDefault();
});
new MutationObserver(paint).observe(element, { childList: true, subtree: true });
"""


class Past:
    """The card of runs. `show(...)` returns the values of `outputs`."""

    def __init__(self, workspace: Workspace, figures: Figures, verdicts: Verdicts) -> None:
        self.workspace, self.store, self.figures, self.verdicts = workspace, workspace.store, figures, verdicts
        with card(visible=False, elem_id="tuning-queue") as self.queue_box:
            section("Waiting", "in the order they will start")
            self.queue = pick_list("Runs that wait", elem_id="tuning-waiting")
        with card("Runs"):
            self.rows = gr.HTML(
                "", label="Runs", elem_id="tuning-runs", js_on_load=_ON_LOAD, apply_default_css=False, padding=False
            )
        with card("Compare runs", visible=False, elem_id="compare-runs") as self.compare_box:
            self.measure = gr.Radio(list(_MEASURES), value="Validation loss", label="Curves of", elem_id="compare-of")
            self.curves = markup(label="Curves over each other")
            self.table = markup(label="What was not the same")
        with gr.Row(elem_classes=["off-screen"]):
            self.ticked = gr.Textbox("", label="Runs ticked", visible="hidden")
            self.painted = gr.Textbox("", label="Runs painted", visible="hidden")

    @property
    def inputs(self) -> list[Any]:
        """What `show` wants to know besides the run on screen."""
        return [self.painted]

    @property
    def outputs(self) -> list[Any]:
        return [self.queue_box, self.queue, self.rows, self.painted]

    @property
    def compare_outputs(self) -> list[Any]:
        return [self.compare_box, self.curves, self.table]

    def show(self, jobs: Sequence[Job], run: str, painted: str) -> list[Any]:
        """The rows as they are now; they are left alone while nothing about them moved. The comparison is not among them,
        but follows `painted` by itself: a look that was under way when somebody ticked a run would hide it again."""
        waiting = self.store.waiting_jobs("train")
        outcomes = self.verdicts.outcomes()
        now = str(hash(tuple((*_as_listed(job), outcomes.get(str(job.id))) for job in jobs)))
        rows = [gr.skip(), gr.skip()] if now == painted else [self._list(jobs, run, outcomes), now]
        return [gr.Column(visible=bool(waiting)), self._queue(waiting), *rows]

    # -- the list -----------------------------------------------------------------------------------------------

    def _list(self, jobs: Sequence[Job], run: str, outcomes: Mapping[str, Outcome]) -> str:
        if not jobs:
            return '<p class="quiet">No runs yet. Start one above: the snapshot and the model are already chosen.</p>'
        head = (
            "Run",
            "State",
            "Method",
            "Base and data",
            "How",
            "Loss",
            "Before → after",
            "Verdict",
            "Took",
            "Started",
        )
        widths = ("70px", "96px", "112px", "", "92px", "104px", "118px", "116px", "84px", "112px")
        rows = [(job.id, self._cells(job, outcomes.get(str(job.id)))) for job in jobs]
        listed = rows_to_pick("Runs", head, rows, current=run, widths=widths, can_tick=True)
        hint = '<p class="quiet">Tick two or more runs to compare them.</p>' if len(jobs) > 1 else ""
        return f'<div class="framed">{listed}</div>{hint}'

    def _cells(self, job: Job, outcome: Outcome | None) -> tuple[str, ...]:
        before, after = gain(job)
        change = f"{before:.2f} → {after:.2f}" if before is not None and after is not None else "–"
        base, data = str(job.task["base"]), str(job.task["data"])
        title = html.escape(f"{base} on {data}", quote=True)
        return (
            f"run:{job.id}",
            state_chip(job),
            html.escape(method_named(job.kind).name),
            f'<span class="what" title="{title}">{html.escape(base)}</span>'
            f'<span class="below">{html.escape(data)}</span>',
            html.escape(str(job.task.get("effort", ""))),
            self._spark(job),
            change,
            verdict_chip(outcome),
            duration(job.took) if job.took and not job.is_active else "–",
            datetime.fromtimestamp(job.created_at).strftime("%d %b, %H:%M"),
        )

    def _spark(self, job: Job) -> str:
        points = self.figures.small(job, "loss", _SPARK_POINTS, _SPARK_SMOOTHING)
        if len(points) < 2:
            return "–"
        return sparkline(points, f"Training loss of run {job.id}: from {points[0][1]:.2f} to {points[-1][1]:.2f}")

    # -- runs beside each other ---------------------------------------------------------------------------------

    def compare(self, ticked: str, measure: str) -> list[Any]:
        """Curves over each other and the knobs that differ, for two runs or more."""
        jobs = self._ticked(ticked)
        if len(jobs) < 2:
            return [gr.Column(visible=False), "", ""]
        return [gr.Column(visible=True), self._overlaid(jobs, measure), _differences(jobs)]

    def _ticked(self, ticked: str) -> list[Job]:
        """The runs of these numbers, oldest first. The numbers come from the page: what is no tuning run is left out."""
        found = []
        for number in sorted(set(filter(None, map(run_number, ticked.split()))))[:_MOST_COMPARED]:
            try:
                job = self.store.job(number)
            except StudioError:
                continue
            if is_tuning(job):
                found.append(job)
        return found

    def _overlaid(self, jobs: Sequence[Job], measure: str) -> str:
        name = _MEASURES.get(measure, "validation_loss")
        smoothing = _SPARK_SMOOTHING if name == "loss" else 0.0
        lines = []
        for place, job in enumerate(jobs):
            points = self.figures.of(job.id).curve(name, _POINTS, smoothing)
            style: Any = "plain" if name == "loss" else "dots"
            lines.append(Line(f"run:{job.id}", points, f"run-{place}", style))
        spoken = f"{measure} of {', '.join(line.name for line in lines)}"
        drawn = line_chart(lines, y_title=f"{measure} (nats per learned token)", spoken=spoken)
        return drawn or '<p class="quiet">Nothing was measured yet. Choose runs that have taken a step.</p>'

    # -- the queue ----------------------------------------------------------------------------------------------

    def _queue(self, waiting: Sequence[Job]) -> str:
        """What waits, in order, and why nothing starts when the queue is stopped."""
        if not waiting:
            return ""
        stopped = self.store.queue_of("train").stopped
        why = notice(f"{stopped} Nothing starts until it goes on: Jobs has the switch.", "caution") if stopped else ""
        rows = [(job.id, self._queue_cells(place, len(waiting), job)) for place, job in enumerate(waiting, start=1)]
        head = ("Place", "Run", "State", "")
        return why + rows_to_pick("Runs that wait", head, rows, widths=("64px", "", "104px", "330px"))

    def _queue_cells(self, place: int, last: int, job: Job) -> tuple[str, ...]:
        idle = {"up", "first"} if place == 1 else set[str]()
        idle |= {"down"} if place == last else set()
        legal = legal_actions(job, self.workspace.path) - idle
        buttons = "".join(
            f'<button type="button" data-do="{name}" data-key="{job.id}" aria-label="{words} run {job.id}">{words}</button>'
            for name, words in _ORDERS.items()
            if name in legal
        )
        title = f'<span class="what">{html.escape(job.title)}</span>'
        return str(place), f"run:{job.id} {title}", _waits(job), f'<div class="orders">{buttons}</div>'

    def order(self, event: gr.EventData, by: str) -> Job:
        """Do what a button of the queue says."""
        action, key = pressed(event)
        if action not in _ORDERS or not key.isdecimal():
            raise InputError("That is no order for a run that waits. Reload the page.")
        return perform(self.store, self.workspace.path, int(key), action, by=by)


def _as_listed(job: Job) -> tuple[Any, ...]:
    """What must have moved before the row is drawn anew: of a run at work every twentieth part, not every step."""
    return job.id, job.state, job.attempt, round(20 * (job.progress or 0.0))


def _waits(job: Job) -> str:
    return chip(job.state.capitalize(), "caution" if job.state in ("held", "proposed") else "")


def _differences(jobs: Sequence[Job]) -> str:
    """A row for each knob that is not the same, and what came out."""
    rows = [(row.title, *row.values) for row in differences(jobs)]
    outcome: list[tuple[str, ...]] = [
        ("State", *(job.state for job in jobs)),
        ("Loss before", *(_number(gain(job)[0]) for job in jobs)),
        ("Loss after", *(_number(gain(job)[1]) for job in jobs)),
        ("Best step", *(str((job.result or {}).get("best_step", "–")) for job in jobs)),
        ("Took", *(_took(job) for job in jobs)),
    ]
    head = ("", *(f"run:{job.id}" for job in jobs))
    same = "" if rows else '<p class="quiet">They were told the same.</p>'
    told = rows_to_read("Knobs that differ", head, [_escaped(row) for row in rows]) if rows else same
    found = rows_to_read("What came out", head, [_escaped(row) for row in outcome])
    return (
        f'<h3 class="knob-title">Knobs that differ</h3><div class="framed">{told}</div>'
        f'<h3 class="knob-title">What came out</h3><div class="framed">{found}</div>'
    )


def _escaped(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(html.escape(cell) for cell in row)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _took(job: Job) -> str:
    seconds = (job.result or {}).get("train_seconds")
    return "–" if seconds is None else duration(float(seconds))
