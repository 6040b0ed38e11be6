"""The run on screen: how it goes, the curves, the answers it gives on the way, and what may be done with it."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from components.frame import card, chip, duration, facts, hidden_download, markup, notice
from components.running import (
    act_on,
    legal_buttons,
    measured,
    run_bar,
    run_buttons,
    run_title,
    samples,
)
from components.tuning.pictures import Line, Mark, line_chart
from studio.errors import InputError, StudioError
from studio.jobs import Figures, manifest_of
from studio.jobs.actions import note_job
from studio.jobs.figures import Curves, Looks
from studio.models.exporting import export_zip
from studio.recipes.tuning_state import gain, how_it_ended, how_memory_was_saved, is_tuning
from studio.specs import ModelRef
from studio.store import Job, Note
from studio.workspace import Workspace

__all__ = ["OnScreen"]

NEWEST = "newest"
_POINTS = 400  # per curve; more only slows the page
_DRAWN = 32  # pictures that are kept
_MEASURED = {
    "Loss": ("loss", "{:.3f}"),
    "Loss on validation records": ("validation_loss", "{:.3f}"),
    "Learning rate": ("learning_rate", "{:.1e}"),
    "Learned tokens a second": ("learned_tokens_per_second", "{:.0f}"),
    "Memory": ("memory_gb", "{:.1f} GB"),
}
_SAMPLES = "Answers to records it does not learn from"


class OnScreen:
    """The card. `show(run, smoothing, look, offered)` returns the values of `outputs`."""

    def __init__(self, workspace: Workspace, figures: Figures) -> None:
        self.workspace, self.store, self.figures = workspace, workspace.store, figures
        self._drawn: dict[tuple[int, int, int, float], str] = {}
        with card(visible=False, elem_id="tuning-run") as self.box:
            self.title, self.bar = markup(), markup()
            with gr.Row(elem_classes=["form-row"]):
                self.actions = run_buttons()
                self.try_it = gr.Button("Try it beside its base", min_width=180, scale=0, elem_id="try-run")
                self.again = gr.Button("Run again", min_width=110, scale=0, elem_id="run-again")
                self.change = gr.Button("Run with changes", min_width=150, scale=0, elem_id="run-with-changes")
                self.manifest = gr.Button("Download manifest", min_width=160, scale=0, elem_id="run-manifest")
                self.model = gr.Button("Download model", min_width=150, scale=0, elem_id="run-model")
            with gr.Row(elem_classes=["run-found"]):
                with gr.Column(scale=3, min_width=380):
                    self.curve = markup(label="Curves of the run")
                    self.smoothing = gr.Slider(
                        0,
                        0.98,
                        value=0.6,
                        step=0.02,
                        label="Smoothing",
                        info="Of the training loss; 0 shows every step as it was.",
                        elem_id="tune-smoothing",
                    )
                with gr.Column(scale=2, min_width=260):
                    self.facts = markup(label="Figures of the run")
            self.look = gr.Dropdown(
                [("Newest look", NEWEST)],
                value=NEWEST,
                label="Answers given at",
                visible=False,
                interactive=True,
                elem_id="tune-look",
            )
            # Steps are chosen from rows, so what comes back is looked up and not held against the first choices.
            self.look.preprocess = lambda payload: payload  # type: ignore[method-assign]
            self.samples = markup(label="Answers on the way")
            self.notes = markup(label="Notes on the run")
            with gr.Row(elem_classes=["note-row"]):
                self.note = gr.Textbox(
                    "", label="Note", placeholder="What you want to remember of this run", lines=1, scale=1
                )
                self.add_note = gr.Button("Add note", size="sm", min_width=0, scale=0, elem_id="tune-add-note")
        with gr.Row(elem_classes=["off-screen"]):
            self.offered = gr.Textbox("", label="Looks offered", visible="hidden")
            self.file = hidden_download()

    @property
    def buttons(self) -> list[gr.Button]:
        return [*self.actions.values(), self.try_it, self.again, self.change, self.manifest, self.model]

    @property
    def inputs(self) -> list[Any]:
        """What `show` wants to know besides the run."""
        return [self.smoothing, self.look, self.offered]

    @property
    def outputs(self) -> list[Any]:
        words = [self.curve, self.facts, self.look, self.offered, self.samples, self.notes]
        return [self.box, self.title, self.bar, *self.buttons, *words]

    def show(self, run: str, smoothing: float, look: str | None, offered: str) -> list[Any]:
        """The run as its rows say it is now; for one that is not there a sentence and no button. Does not raise."""
        if not run_number(run):
            return [gr.Column(visible=False), *[gr.skip()] * (len(self.outputs) - 1)]
        try:
            job = self._job(run)
            curves, looks = self.figures.of(job.id), self.figures.looks(job.id)
        except StudioError as error:
            off = [gr.Button(visible=False)] * len(self.buttons)
            said = notice(str(error), "bad")
            return [gr.Column(visible=True), said, "", *off, "", "", gr.Dropdown(visible=False), "", "", ""]
        return [
            gr.Column(visible=True),
            run_title(job, chip(f"answers as run:{job.id}", "L2")),
            run_bar(job, curves.latest, _done(job)),
            *legal_buttons(self.workspace, job),
            gr.Button(visible=job.state == "done"),
            gr.Button(visible=not job.is_waiting),
            gr.Button(visible=True),
            gr.Button(visible=True),
            gr.Button(visible=job.state == "done"),
            self._curves(job, curves, smoothing),
            _facts(job, curves),
            *self._answers(job, curves, looks, look, offered),
            _notes(self.store.notes(job.id)),
        ]

    def redraw(self, run: str, smoothing: float) -> str:
        """The curves alone, when only the smoothing moved."""
        if not run_number(run):
            return ""
        job = self._job(run)
        return self._curves(job, self.figures.of(job.id), smoothing)

    def answers_at(self, run: str, look: str | None) -> str:
        """The answers alone, when only the look is another."""
        number = run_number(run)
        return _samples(self.figures.looks(number), look, self._job(run)) if number else ""

    def act(self, run: str, action: str, by: str) -> Job:
        return act_on(self.workspace, run, action, by=by)

    def manifest_file(self, run: str) -> str:
        """The run's manifest as a file to save: the one it works by, or what it will be before it has started."""
        job = self.job(run)
        text = manifest_of(self.store, self.workspace.path, job.id).model_dump_json(indent=2) + "\n"
        path = Path(tempfile.mkdtemp()) / f"run-{job.id}.manifest.json"  # pages may not take files out of the workspace
        path.write_text(text, encoding="utf-8")
        return str(path)

    def model_file(self, run: str) -> str:
        """The model that a run made, as a zip to save: what plain peft and transformers load, with the lines for it."""
        w, job = self.workspace, self.job(run)
        ref, place = ModelRef.of_run(job.id), Path(get_upload_folder())
        place.mkdir(parents=True, exist_ok=True)
        return str(export_zip(ref, place, settings=w.settings, store=w.store, workspace=w.path))

    def write_note(self, run: str, text: str, by: str) -> str:
        """Keep a note beside the run; gives all of them."""
        job = self.job(run)
        note_job(self.store, job.id, text, by=by)
        return _notes(self.store.notes(job.id))

    def job(self, run: str) -> Job:
        """The run that is shown; raises InputError when none is."""
        if not run_number(run):
            raise InputError("No run is chosen. Choose one in the table of runs.")
        return self._job(run)

    def _job(self, run: str) -> Job:
        job = self.store.job(run_number(run))
        if not is_tuning(job):
            raise InputError(f"Run {job.id} is no tuning run: {job.title}. The Jobs page shows it.")
        return job

    def _curves(self, job: Job, curves: Curves, smoothing: float) -> str:
        """Drawn once for all pages that look at the run in the same state."""
        key = job.id, job.change, curves.seen, smoothing
        if key not in self._drawn:
            self._drawn[key] = run_curves(job, curves, smoothing)
            while len(self._drawn) > _DRAWN:
                self._drawn.pop(next(iter(self._drawn)), None)
        return self._drawn.get(key) or run_curves(job, curves, smoothing)

    def _answers(self, job: Job, curves: Curves, looks: Looks, look: str | None, offered: str) -> list[Any]:
        """The list of looks, left alone while nothing is new, what is in it, and the answers."""
        now = f"{job.id}:{','.join(map(str, looks))}"
        if now == offered:
            return [gr.skip(), gr.skip(), _samples(looks, look, job)]
        same_run = offered.partition(":")[0] == str(job.id)
        kept = look if same_run and look and look.isdecimal() and int(look) in looks else NEWEST
        losses = curves.over_steps.get("validation_loss", {})
        steps = [(_look_words(step, losses.get(step)), str(step)) for step in reversed(looks)]
        choices = [("Newest look", NEWEST), *steps]
        listed = gr.Dropdown(choices=choices, value=kept, visible=len(looks) > 1)
        return [listed, now, _samples(looks, kept, job)]


def run_number(run: str) -> int:
    """The number of a run as the page knows it; 0 for what is none. It may come from an address that somebody typed."""
    return int(run) if run.isdecimal() and len(run) < 10 else 0


def run_curves(job: Job, curves: Curves, smoothing: float) -> str:
    """Training and validation loss over the steps, with the best one and the one at which it stopped early."""
    raw = curves.curve("loss", _POINTS)
    lines = [Line("", raw, "training", "faint")] if smoothing else []
    lines.append(Line("training", curves.curve("loss", _POINTS, smoothing), "training"))
    lines.append(Line("validation", curves.curve("validation_loss", _POINTS), "validation", "dots"))
    return line_chart(lines, _marks(job, curves), y_title="Loss (nats per learned token)", spoken=_spoken(job, curves))


def _marks(job: Job, curves: Curves) -> list[Mark]:
    result = job.result or {}
    best = result.get("best_step")
    if best is None and (lowest := curves.lowest("validation_loss")):
        best = lowest[0]
    marks = [Mark(int(best), f"best: step {best}")] if best else []
    if result.get("stopped_early"):
        stopped = max(curves.over_steps.get("loss", {}), default=0)
        marks.append(Mark(stopped, f"stopped early: step {stopped}"))
    return marks


def _spoken(job: Job, curves: Curves) -> str:
    said = [f"Loss of run {job.id}"]
    if "loss" in curves.latest:
        said.append(f"training {curves.latest['loss']:.2f} at step {max(curves.over_steps['loss'])}")
    if lowest := curves.lowest("validation_loss"):
        said.append(f"on validation records lowest at step {lowest[0]} with {lowest[1]:.2f}")
    return ", ".join(said)


def _done(job: Job) -> str:
    before, after = gain(job)
    change = f" Validation loss {before:.2f} → {after:.2f}." if before is not None and after is not None else ""
    return f"Tuned in {duration((job.result or {}).get('train_seconds', 0))}.{change}"


def _facts(job: Job, curves: Curves) -> str:
    found = measured(curves.latest, _MEASURED)
    if ended := how_it_ended(job):
        found["Best step"] = ended
    elif lowest := curves.lowest("validation_loss"):
        found["Best step so far"] = f"{lowest[0]}, loss {lowest[1]:.3f} on validation records"
    if job.result and job.result.get("new_parameters"):
        found["New parameters"] = f"{job.result['new_parameters']:,}"
    if job.result and job.result.get("left_out"):
        found["Left out"] = f"{job.result['left_out']:,} records that are too long"
    if saved := how_memory_was_saved(job):
        found["Memory saved"] = saved
    if job.attempt > 1:
        found["Attempt"] = str(job.attempt)
    return facts(found) if found else ""


def _notes(notes: Sequence[Note]) -> str:
    """What people wrote, newest first."""
    lines = "".join(
        f'<li><p>{html.escape(note.text)}</p><p class="quiet">{html.escape(note.author)}, '
        f"{datetime.fromtimestamp(note.created_at):%d %b, %H:%M}</p></li>"
        for note in reversed(notes)
    )
    return f'<h3 class="knob-title">Notes</h3><ul class="run-notes">{lines}</ul>' if lines else ""


def _look_words(step: int, loss: float | None) -> str:
    if not step:
        return "Before the first step"
    return f"Step {step:,}" if loss is None else f"Step {step:,}, loss {loss:.2f} on validation records"


def _samples(looks: Looks, look: str | None, job: Job) -> str:
    """The answers at the chosen look. The newest of a finished run are those of the parameters that were kept."""
    if not looks:
        return ""
    kept = (job.result or {}).get("best_step")
    newest = kept if kept in looks else max(looks)
    step = int(look) if look and look.isdecimal() and int(look) in looks else newest
    return samples(looks[step], _SAMPLES, ("base", "Base"), ("tuned", "Tuned, step"))
