"""Labeling: the desk where answers are ranked by keyboard, and where the answers to rank come from.

The desk itself is assets/labeling.js over studio/serving/labeling.py: it fetches items and saves judgements on its own,
so that nothing it does waits for an event of this page. Here is only which batch it works on, and the owner's part.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from gradio.events import api

from components.forms import Form, form
from components.frame import (
    Refresh,
    TabWidgets,
    chip,
    empty_state,
    handler,
    live_dropdown,
    markup,
    notice,
    page_header,
    progress,
    section,
    user_of,
)
from components.picking import pick_list, picked, rows_to_pick
from components.running import after_key
from components.theme import ASSETS
from studio.errors import StudioError
from studio.example import PROMPTS
from studio.jobs import perform
from studio.models import EMBEDDED
from studio.preferences import SampleAnswers, freeze_prompts, guidelines_of
from studio.preferences import progress as progress_of
from studio.store import Batch, Job
from studio.workspace import Workspace

__all__ = ["LabelingWidgets", "build"]

log = logging.getLogger(__name__)

_FIRST = ("model", "prompts", "batch")
_HEADS = ("Batch", "Answers of", "Items", "Judged", "Judgements", "")
_WIDTHS = ("22%", "", "80px", "80px", "110px", "120px")


@dataclass(frozen=True, kw_only=True)
class LabelingWidgets(TabWidgets):
    """`batch` holds the name of the batch on the desk."""

    batch: gr.Textbox


def build(workspace: Workspace) -> LabelingWidgets:
    """Lay out the page and wire it."""
    with gr.Column(elem_classes=["labeling"]):
        page_header("labeling", "Rank answers by keyboard, without knowing which model gave them.")
        page = _Page(workspace)
    _wire(page)

    def labeling_progress(batch: str, request: gr.Request) -> dict[str, Any]:
        """How far a batch is: of `items`, how many have their judgements, how many I judged and how many are left."""
        return asdict(progress_of(workspace.store, batch, user_of(request)))

    api(handler(labeling_progress), api_name="labeling_progress")
    return LabelingWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"batch": page.shown},
        batch=page.shown,
    )


class _Page:
    """The widgets below the header, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Row(elem_classes=["off-screen"]):
            self.shown, self.key, self.offered = (
                gr.Textbox("", label=label, visible="hidden")
                for label in ("Batch on the desk", "Key of the next sampling", "Choices offered")
            )
        self.empty = empty_state(
            "There are no answers to rank yet. A model answers each prompt a few times, then people rank its answers.",
            "Sample answers to the example's prompts",
            visible=False,
        )
        with gr.Column(visible=False) as self.work:
            self._lay_out_desk()
        with gr.Row(elem_classes=["compare-running"], visible=False) as self.sampling:
            self.how_far = markup(label="How far sampling is")
            self.cancel = gr.Button("Cancel", variant="stop", min_width=90, scale=0, elem_id="cancel-sampling")
        self.trouble = markup(label="What sampling said", visible=False)
        with gr.Accordion("Batches and sampling", open=False, elem_classes=["more", "batches"]) as self.fold:
            self._lay_out_owners_part()

    def _lay_out_desk(self) -> None:
        with gr.Row(elem_classes=["labeling-bar"]):
            self.batch = live_dropdown([], label="Batch", show_label=False, container=False, interactive=True, scale=0)
            self.about = markup(label="About the batch")
        self.desk = gr.HTML(
            None,
            label="Desk",
            html_template="",  # its parts are made by the script: what people and models wrote is never HTML
            js_on_load=(ASSETS / "labeling.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="desk",
        )

    def _lay_out_owners_part(self) -> None:
        self.batches = pick_list("Batches", elem_id="batches")
        section("Sample answers", "a model answers each prompt a few times; each prompt becomes one item to rank")
        self.knobs = _lay_out_form()
        with gr.Row(elem_classes=["sampling-start"]):
            self.plan = markup(label="What sampling would do", elem_id="sampling-plan")
            self.start = gr.Button(
                "Start sampling", variant="primary", min_width=140, scale=0, elem_id="start-sampling"
            )
        with gr.Accordion("Add prompts", open=False, elem_classes=["more"]):
            self.prompts_name = gr.Textbox(
                label="Name", info="They become prompts:NAME@1.", placeholder="support", max_lines=1, min_width=200
            )
            self.prompts = gr.Textbox(label="Prompts", info="One a line.", lines=6, max_lines=16)
            self.add = gr.Button("Add prompts", min_width=140, scale=0, elem_id="add-prompts")

    @property
    def look_inputs(self) -> list[Any]:
        return [self.shown, self.key, self.offered, *self.knobs.inputs]

    @property
    def look_outputs(self) -> list[Any]:
        hidden = [self.shown, self.key, self.offered]
        lists = [self.batch, self.knobs.widgets["model"], self.knobs.widgets["prompts"], self.plan]
        frame = [self.empty.box, self.work, self.sampling, self.how_far, self.trouble]
        return [*hidden, *lists, *frame, self.batches, self.about, self.desk]

    # -- what is shown -----------------------------------------------------------------------------------------

    def look(self, shown: str, client_key: str, offered: str, *values: Any) -> list[Any]:
        """The page as the database has it now. Runs outside the queue too, so it does not raise."""
        try:
            batches = self.store.batches()
            shown = shown or next((batch.name for batch in batches), "")
            token, lists = self._lists(shown, batches, offered, self.knobs.named(values))
            frame = self._frame(batches)
            return [shown, client_key or secrets.token_hex(8), token, *lists, *frame, *self._desk(shown, batches)]
        except StudioError as error:
            log.warning("The labeling page could not be brought up to date: %s", error)
            said = gr.HTML(notice(str(error), "bad"), visible=True)
            return [said if output is self.trouble else gr.skip() for output in self.look_outputs]

    def open_batch(self, shown: str) -> list[Any]:
        """What follows when another batch is on the desk."""
        batches = self.store.batches()
        known = shown if shown in {b.name for b in batches} else None
        return [gr.update(value=known), *self._desk(shown, batches)]

    def plan_of(self, *values: Any) -> str:
        return _plan(self.workspace, self.knobs.named(values))

    def _lists(
        self, shown: str, batches: Sequence[Batch], offered: str, given: dict[str, Any]
    ) -> tuple[str, Sequence[Any]]:
        """The choices, as far as they moved: a step of a run must not close a list that somebody has open."""
        names, models, prompts = [b.name for b in batches], _models(self.workspace), _prompts(self.workspace)
        token = str(hash((*names, *models, *prompts)))
        if token == offered:
            return token, [gr.skip()] * 4
        model = given["model"] if given["model"] in {ref for _, ref in models} else _newest_tuned(models)
        asked = given["prompts"] if given["prompts"] in prompts else next(iter(prompts), None)
        return token, [
            gr.Dropdown(choices=names, value=shown if shown in names else None),
            gr.Dropdown(choices=models, value=model),
            gr.Dropdown(choices=prompts, value=asked),
            _plan(self.workspace, {**given, "model": model, "prompts": asked}),
        ]

    def _frame(self, batches: Sequence[Batch]) -> list[Any]:
        """Empty state or desk, and how the newest sampling goes."""
        job = next(iter(self.store.jobs(limit=1, kinds={SampleAnswers.kind})), None)
        is_going = job is not None and not job.is_over
        wrong = _wrong(job) if job and job.is_over else ""
        return [
            gr.Column(visible=not batches and not is_going),
            gr.Column(visible=bool(batches)),
            gr.Row(visible=is_going),
            _going(job) if job and is_going else "",
            gr.HTML(wrong, visible=bool(wrong)),
        ]

    def _desk(self, shown: str, batches: Sequence[Batch]) -> list[Any]:
        """The table of batches, what is to be known of the one on the desk, and the desk's own value."""
        batch = next((b for b in batches if b.name == shown), None)
        value = {"batch": shown, "items": 0, "guidelines": ""}  # of a batch that is not there the studio says so itself
        if batch is not None:
            value |= {"items": batch.items, "guidelines": guidelines_of(self.store, shown)}
        return [_batches_html(batches, shown), _about(batch), value]

    # -- what a person does ------------------------------------------------------------------------------------

    def sample(self, request: gr.Request, client_key: str, *values: Any) -> str:
        """Queue the sampling; gives the client key for the next one."""
        task = self.knobs.read(values)
        self.workspace.queue(task, author=user_of(request), client_key=client_key or None)
        return secrets.token_hex(8)

    def sample_example(self, client_key: str, request: gr.Request) -> str:
        model = _newest_tuned(_models(self.workspace))
        task = SampleAnswers(model=model, prompts=PROMPTS, batch=PROMPTS.name)
        self.workspace.queue(task, author=user_of(request), client_key=client_key or None)
        return secrets.token_hex(8)

    def stop(self, request: gr.Request) -> None:
        for job in self.store.jobs(kinds={SampleAnswers.kind}):
            if not job.is_over:
                perform(self.store, self.workspace.path, job.id, "cancel", by=user_of(request))

    def add_prompts(self, name: str, lines: str, request: gr.Request) -> list[Any]:
        """Freeze prompts that were typed, one a line; gives their reference."""
        rows = [{"instruction": line.strip()} for line in lines.splitlines() if line.strip()]
        made = freeze_prompts(self.store, self.workspace.path, name.strip(), rows, author=user_of(request))
        return [gr.Dropdown(choices=_prompts(self.workspace), value=str(made.ref)), "", ""]


def _wire(page: _Page) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    look = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs, **quiet}
    page.batch.input(None, page.batch, page.shown, js="(batch) => batch", **quiet)
    page.shown.change(handler(page.open_batch), page.shown, [page.batch, page.batches, page.about, page.desk], **quiet)
    page.batches.pick(handler(picked), None, page.shown, **quiet).then(
        None, None, None, js="() => window.scrollTo({ top: 0 })", api_visibility="private"
    )
    page.fold.expand(**look)
    page.start.click(
        handler(page.sample),
        [page.key, *page.knobs.inputs],
        page.key,
        validator=after_key(page.knobs.validator()),
        api_name="sample_answers",
        show_progress="hidden",
    ).success(**look)
    page.empty.action.click(
        handler(page.sample_example), page.key, page.key, api_name="sample_example", **quiet
    ).success(**look)
    page.cancel.click(handler(page.stop), api_name="cancel_sampling", **quiet).then(**look)
    page.add.click(
        handler(page.add_prompts),
        [page.prompts_name, page.prompts],
        [page.knobs.widgets["prompts"], page.prompts_name, page.prompts],
        api_name="add_prompts",
        show_progress="hidden",
    )
    gr.on(
        [widget.change for widget in page.knobs.widgets.values()],  # type: ignore[attr-defined]
        handler(page.plan_of),
        page.knobs.inputs,
        page.plan,
        trigger_mode="always_last",
        **quiet,
    )


# -- the form --------------------------------------------------------------------------------------------------


def _lay_out_form() -> Form[SampleAnswers]:
    """Model, prompts and batch in a row, the rest folded."""
    model, prompts, batch = (SampleAnswers.model_fields[name] for name in _FIRST)
    with gr.Row(elem_classes=["form-row"], equal_height=True):
        given: dict[str, Any] = {
            "model": live_dropdown(
                [], label=model.title, info=model.description, interactive=True, min_width=200, elem_id="sample-model"
            ),
            "prompts": live_dropdown(
                [],
                label=prompts.title,
                info=prompts.description,
                interactive=True,
                min_width=200,
                elem_id="sample-prompts",
            ),
            "batch": gr.Textbox(
                PROMPTS.name,
                label=batch.title,
                info=batch.description,
                max_lines=1,
                min_width=200,
                elem_id="sample-batch",
            ),
        }
    return form(SampleAnswers, given=given, first=_FIRST, more="How many and how varied", columns=3)


def _models(workspace: Workspace) -> list[tuple[str, str]]:
    return [(offer.label, str(offer.ref)) for offer in workspace.offers()]


def _newest_tuned(models: Sequence[tuple[str, str]]) -> str:
    """What is to be aligned next: the newest run that answers, or the model that comes with the studio."""
    return next((ref for _, ref in models if ref.startswith("run:")), str(EMBEDDED))


def _prompts(workspace: Workspace) -> list[str]:
    return [str(s.ref) for kind in ("prompts", "data") for s in workspace.store.snapshots(kind)]


def _plan(workspace: Workspace, given: dict[str, Any]) -> str:
    """What a click on Start sampling would do."""
    if not given.get("model") or not given.get("prompts"):
        return notice("There are no prompts yet. Add some below, or freeze a dataset under Dataset.")
    try:
        task = SampleAnswers.model_validate(given)
        task.check(workspace.store)
        asked = min(task.count, workspace.store.snapshot(task.prompts).rows)
    except StudioError as error:
        return notice(str(error), "bad")
    except ValueError:
        return notice("One of the settings cannot be used; see the message under it.", "caution")
    return notice(
        f"{task.model} answers {asked} prompts {task.answers} times each: {asked * task.answers} answers, "
        f"and up to {asked} items to rank in '{task.batch}'. Prompts that the batch has already are left out."
    )


# -- rows as HTML ----------------------------------------------------------------------------------------------


def _batches_html(batches: Sequence[Batch], shown: str) -> str:
    if not batches:
        return '<p class="quiet">No batches yet. Sampling makes the first one.</p>'
    rows = rows_to_pick("Batches", _HEADS, [(b.name, _cells(b)) for b in batches], current=shown, widths=_WIDTHS)
    return f'<div class="scroll">{rows}</div>'


def _cells(batch: Batch) -> tuple[str, ...]:
    counts = (str(n) for n in (batch.items, batch.judged, batch.judgements))
    return (html.escape(batch.name), html.escape(", ".join(batch.models)), *counts, _simulated(batch))


def _about(batch: Batch | None) -> str:
    return _simulated(batch) if batch else ""


def _simulated(batch: Batch) -> str:
    if not batch.simulated:
        return ""
    return chip(
        "simulated", "caution", f"{batch.simulated} of {batch.judgements} judgements come from a rule, not from people."
    )


def _going(job: Job) -> str:
    words = f"{job.step} of {job.total} prompts" if job.total else job.state.capitalize()
    said = job.message or ("Waits for its turn." if job.is_waiting else "")
    return (
        f'<p class="running-title"><b>{html.escape(job.title)}</b> '
        f'<a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>'
        f'{progress(job.progress, words)}<p class="quiet">{html.escape(said)}</p>'
    )


def _wrong(job: Job) -> str:
    """Why the newest sampling brought nothing, '' when it did."""
    if job.error:
        return notice(job.error, "bad" if job.state in ("failed", "lost") else "caution")
    found = job.result or {}
    if job.state == "done" and not found.get("items"):
        return notice(
            f"Job {job.id} made no items: of {found.get('prompts', 0)} prompts, {found.get('known', 0)} were in the batch "
            f"already and {found.get('alike', 0)} got only equal answers. Raise the temperature or choose other prompts.",
            "caution",
        )
    return ""
