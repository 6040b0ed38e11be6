"""Alignment: a stepper with its real state, from judgements over a reward model and PPO to what came of it.

The page follows one *line* (studio/recipes/alignment_state.py): the batch, the reward model and the PPO run that belong
together. Which one is known by a run's number in a hidden box, or else by the batch that is chosen.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
import pandas as pd
from gradio.blocks import Block

from components.alignment_cards import (
    ANCHORS,
    aligned_done,
    heads,
    labels,
    ppo_figures,
    rail,
    rail_box,
    result,
    reward_done,
    reward_facts,
    rule,
    runs_to_pick,
)
from components.forms import Form, form
from components.frame import (
    Refresh,
    TabWidgets,
    card,
    chip,
    empty_state,
    handler,
    live_dropdown,
    markup,
    notice,
    page_header,
    section,
    user_of,
)
from components.picking import pick_list, picked
from components.running import (
    act_on,
    after_key,
    curve_of,
    legal_buttons,
    newest_samples,
    run_bar,
    run_buttons,
    run_title,
    samples,
    small_plot,
)
from studio.errors import StudioError
from studio.fields import fill_in
from studio.jobs import Figures
from studio.preferences import SimulateJudgements, freeze_judgements
from studio.recipes.alignment_state import (
    Line,
    alignment_runs,
    fitting,
    follow,
    judged_splits,
    outlook,
    plan_ppo,
    plan_reward,
)
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.specs import SnapshotRef
from studio.store import Batch, Job
from studio.tasks import Task
from studio.workspace import Workspace

__all__ = ["AlignmentWidgets", "build"]

log = logging.getLogger(__name__)

_HUE = "#8b5cf6"  # of L3, between its light and its dark one: a plot has one colour for both modes
_PPO_LISTS = ("base", "reward", "prompts")
_PPO_FIRST = (*_PPO_LISTS, "iterations", "kl_coef")
_NO_WEIGHTS = ("echo", "endpoint")
_SAMPLES = "Answers to validation prompts, the likeliest of each model"
_TO_THE_TOP = "() => { window.scrollTo({ top: 0 }) }"
_NOT_YET = SnapshotRef("prefs:not-yet-frozen@1")  # stands in the form until Start has frozen the batch
# (metric in training, metric at evaluations, what stands above the plot, its y axis)
_CURVES = (
    ("reward/score", "eval/score", "Score", "what the reward model says of an answer", "Score"),
    ("kl/seq", "eval/kl", "Distance (KL)", "of its answers from the tuned model's", "Nats per answer"),
    ("len/response_mean", "", "Length", "of the answers it practises with", "Tokens per answer"),
)

Updates = dict[Block, Any]


@dataclass(frozen=True, kw_only=True)
class AlignmentWidgets(TabWidgets):
    """`try_it` opens the aligned run (`aligned`, a number) in the playground, beside the tuned model; `to_labeling`
    open the desk with `batch` on it."""

    try_it: gr.Button
    aligned: gr.Textbox
    to_labeling: tuple[gr.Button, ...]
    batch: gr.Dropdown


def build(workspace: Workspace) -> AlignmentWidgets:
    """Lay out the page and wire it."""
    with gr.Column(elem_classes=["alignment"]):
        page_header("alignment", "Teach a tuned model what people prefer: rank, learn a reward, practise against it.")
        page = _Page(workspace)
    _wire(page)
    return AlignmentWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"run": page.shown},
        try_it=page.try_it,
        aligned=page.aligned,
        to_labeling=(page.label, page.empty.action),
        batch=page.batch,
    )


class _Page:
    """The widgets below the header, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.figures = Figures(workspace.store)
        with gr.Row(elem_classes=["off-screen"]):
            self.shown, self.key, self.offered, self.reward_painted, self.ppo_painted, self.aligned = (
                gr.Textbox("", label=label, visible="hidden")
                for label in (
                    "Run on screen",
                    "Key of the next start",
                    "Choices offered",
                    "Reward run painted",
                    "PPO run painted",
                    "Aligned run",
                )
            )
        self.rail = rail_box()
        self.trouble = markup(label="What went wrong", visible=False)
        self.empty = empty_state(
            "Nothing is labelled yet. A model answers prompts a few times, people rank its answers, and a reward model "
            "learns from that.",
            "Open Labeling",
            visible=False,
        )
        with gr.Column(elem_classes=["steps"], visible=False) as self.steps:
            self.heads: list[gr.HTML] = []
            with self._step():
                self._lay_out_labels()
            with self._step():
                self._lay_out_reward()
            with self._step():
                self._lay_out_ppo()
            with self._step():
                self._lay_out_result()
        with card(visible=False) as self.past:
            section("Runs", "choose one to see it above")
            self.runs = pick_list("Runs", elem_id="alignment-runs")

    def _step(self) -> gr.Column:
        column = card(elem_id=ANCHORS[len(self.heads)], elem_classes=["step"])
        with column:
            self.heads.append(markup(label=f"Step {len(self.heads) + 1}"))
        return column

    def _lay_out_labels(self) -> None:
        with gr.Row(elem_classes=["label-row"]):
            with gr.Column(scale=0, min_width=280):
                self.batch = live_dropdown([], label="Batch", interactive=True, elem_id="align-batch")
                self.label = gr.Button("Label answers", min_width=120, scale=0, elem_id="label-answers")
            self.labels = markup(label="Labels")
        with gr.Accordion("Try it without people", open=False, elem_classes=["more"], visible=False) as self.rule:
            markup(rule(), elem_classes=["rule"])
            self.simulate = gr.Button(
                "Let the stated rule label the batch (simulated)", size="sm", scale=0, elem_id="simulate-labels"
            )

    def _lay_out_reward(self) -> None:
        with gr.Column(visible=False) as self.reward_run:
            self.reward_title, self.reward_bar = markup(), markup()
            with gr.Row(elem_classes=["actions"]):
                self.reward_actions = run_buttons("reward")
            with gr.Row(elem_classes=["reward-found"]):
                with gr.Column(scale=3, min_width=340):
                    self.reward_curve = small_plot("Loss per pair", _HUE, height=240)
                with gr.Column(scale=4, min_width=340):
                    self.reward_facts = markup(label="Report card")
        with gr.Accordion("Train a reward model", open=True, elem_classes=["more", "start-form"]) as self.reward_form:
            base = Reward.model_fields["base"]
            with gr.Row(elem_classes=["form-row"]):
                chosen = live_dropdown(
                    [], label=base.title, info=base.description, interactive=True, elem_id="reward-base"
                )
            self.reward: Form[Reward] = form(
                Reward, given={"base": chosen}, skip=("data",), first=("base",), more="Advanced", columns=4
            )
            with gr.Row(elem_classes=["start-row"]):
                self.reward_plan = markup(label="What training would do")
                self.train = gr.Button(
                    "Train the reward model", variant="primary", min_width=180, scale=0, elem_id="train-reward"
                )

    def _lay_out_ppo(self) -> None:
        with gr.Column(visible=False) as self.ppo_run:
            self.ppo_title, self.ppo_bar = markup(), markup()
            with gr.Row(elem_classes=["actions"]):
                self.ppo_actions = run_buttons("ppo")
            with gr.Accordion("How it goes", open=True, elem_classes=["more", "live"]) as self.ppo_live:
                self.ppo_figures = markup(label="Last iteration")
                with gr.Row(elem_classes=["curves"]):
                    self.curves = [_curve_column(title, note, y) for _, _, title, note, y in _CURVES]
                self.ppo_samples = markup(label="Sample answers")
        with gr.Accordion("Align a model", open=True, elem_classes=["more", "start-form"]) as self.ppo_form:
            with gr.Row(elem_classes=["form-row"]):
                given: dict[str, Any] = {name: _chooser(name) for name in _PPO_LISTS}
            self.ppo: Form[Ppo] = form(Ppo, given=given, first=_PPO_FIRST, more="Advanced", columns=4)
            with gr.Row(elem_classes=["start-row"]):
                self.ppo_plan = markup(label="What aligning would do")
                self.align = gr.Button(
                    "Align the model", variant="primary", min_width=180, scale=0, elem_id="align-ppo"
                )

    def _lay_out_result(self) -> None:
        self.result = markup(label="Before and after")
        with gr.Row(elem_classes=["actions"], visible=False) as self.onward:
            self.try_it = gr.Button(
                "Try it beside the tuned model", variant="primary", min_width=0, scale=0, elem_id="try-aligned"
            )
            markup(
                '<button type="button" class="plain" data-open-tab="compare" onclick="window.scrollTo(0, 0)">'
                "Compare the three rungs</button>"
            )

    @property
    def look_inputs(self) -> list[Any]:
        boxes = [self.shown, self.key, self.offered, self.reward_painted, self.ppo_painted, self.batch]
        return [*boxes, *self.reward.inputs, *self.ppo.inputs]

    @property
    def look_outputs(self) -> list[Any]:
        boxes = [self.key, self.offered, self.reward_painted, self.ppo_painted, self.aligned]
        frame = [self.rail, self.trouble, self.empty.box, self.steps, self.past, self.runs, *self.heads]
        first = [self.batch, self.labels, self.label, self.rule]
        reward = [self.reward_run, self.reward_title, self.reward_bar, *self.reward_actions.values()]
        reward += [
            self.reward_curve,
            self.reward_facts,
            self.reward_form,
            self.reward.widgets["base"],
            self.reward_plan,
        ]
        ppo = [self.ppo_run, self.ppo_title, self.ppo_bar, *self.ppo_actions.values(), self.ppo_live]
        ppo += [self.ppo_figures, *self.curves]
        ppo += [self.ppo_samples, self.ppo_form, *(self.ppo.widgets[n] for n in _PPO_LISTS), self.ppo_plan]
        return [*boxes, *frame, *first, *reward, *ppo, self.result, self.onward]

    # -- what is shown -----------------------------------------------------------------------------------------

    def look(
        self, shown: str, key: str, offered: str, reward_painted: str, ppo_painted: str, batch: str | None, *values: Any
    ) -> Updates:
        """The page as the database has it now. Runs outside the queue too, so it does not raise."""
        try:
            line, trouble = self._line(batch or "", shown)
            own = len(self.reward.inputs)
            reward, ppo = self.reward.named(values[:own]), self.ppo.named(values[own:])
            return {
                self.key: key or secrets.token_hex(8),
                self.trouble: gr.HTML(notice(trouble, "bad") if trouble else "", visible=bool(trouble)),
                **self._frame(line, shown),
                self.reward_plan: self._plan_reward(line.batch, reward),  # somebody may have labelled meanwhile
                **self._lists(line, offered, reward, ppo),
                **self._reward_run(line, reward_painted),
                **self._ppo_run(line, ppo_painted),
            }
        except StudioError as error:
            log.warning("The alignment page could not be brought up to date: %s", error)
            return {self.trouble: gr.HTML(notice(str(error), "bad"), visible=True)}

    def _line(self, batch: str, shown: str) -> tuple[Line, str]:
        """The line to show, and why it is not the one that was asked for."""
        try:
            return follow(self.store, batch, shown), ""
        except StudioError as error:
            return follow(self.store, batch), str(error)

    def _frame(self, line: Line, shown: str) -> Updates:
        """Everything that is words alone."""
        runs = alignment_runs(self.store)
        is_empty = line.batch is None and not runs
        splits = judged_splits(self.store, line.batch) if line.batch else {}
        is_aligned = line.ppo is not None and line.ppo.state == "done"
        kinds = {1: Reward.kind, 2: Ppo.kind}
        outlooks = {at: outlook(self.store, kind) for at, kind in kinds.items() if line.steps[at].state == "locked"}
        can_simulate = line.batch is not None and line.batch.judged < line.batch.items and not line.simulating
        return {
            self.rail: rail(line),
            self.empty.box: gr.Column(visible=is_empty),
            self.steps: gr.Column(visible=not is_empty),
            self.past: gr.Column(visible=bool(runs)),
            self.runs: runs_to_pick(runs, line, shown),
            **dict(zip(self.heads, heads(line, outlooks), strict=True)),
            self.labels: labels(line.batch, splits, line.simulating),
            self.label: gr.Button(variant="primary" if line.current.number == 1 else "secondary"),
            self.rule: gr.Accordion(visible=can_simulate),
            self.result: result(line.ppo),
            self.onward: gr.Row(visible=is_aligned),
            self.aligned: str(line.ppo.id) if line.ppo and is_aligned else "",
        }

    def _lists(self, line: Line, offered: str, reward: Mapping[str, Any], ppo: Mapping[str, Any]) -> Updates:
        """The choices, as far as they moved: a step of a run must not close a list that somebody has open."""
        batches = [b.name for b in self.store.batches()]
        models = [
            (offer.label, str(offer.ref)) for offer in self.workspace.offers() if offer.ref.kind not in _NO_WEIGHTS
        ]
        scorers = [(f"{m.ref} · on {m.snapshot}", str(m.ref)) for m in self.store.models(scores=True)]
        prompts = [str(s.ref) for kind in ("prompts", "data") for s in self.store.snapshots(kind)]
        fit = fitting(self.store, line)
        name = line.batch.name if line.batch else None
        token = f"{hash((name, fit))}|{hash((*batches, *models, *scorers, *prompts))}"
        if token == offered:
            return {}
        is_other = token.split("|")[0] != offered.split("|")[0]

        def chosen(now: Any, proposed: str, choices: Sequence[Any]) -> Any:
            """What a person chose stays, unless it is gone or another line is on screen."""
            known = [c[1] if isinstance(c, tuple) else c for c in choices]
            return now if now in known and not is_other else proposed if proposed in known else next(iter(known), None)

        base = chosen(reward["base"], fit.ranked, models)
        ours = {
            "base": chosen(ppo["base"], fit.policy, models),
            "reward": chosen(ppo["reward"], fit.reward, scorers),
            "prompts": chosen(ppo["prompts"], fit.prompts, prompts),
        }
        lists: dict[str, Any] = {"base": models, "reward": scorers, "prompts": prompts}
        return {
            self.offered: token,
            self.batch: gr.Dropdown(choices=batches, value=name),
            self.reward.widgets["base"]: gr.Dropdown(choices=models, value=base),
            self.reward_plan: self._plan_reward(line.batch, {**reward, "base": base}),
            **{self.ppo.widgets[n]: gr.Dropdown(choices=lists[n], value=value) for n, value in ours.items()},
            self.ppo_plan: self._plan_ppo({**ppo, **ours}),
        }

    def _reward_run(self, line: Line, painted: str) -> Updates:
        job, locked = line.reward, line.steps[1].state == "locked"
        words = "Train another reward model" if job else "Train the reward model"
        updates: Updates = {
            self.reward_run: gr.Column(visible=job is not None),
            self.reward_form: _fold(job, painted, words, visible=not locked),
            self.reward_painted: _token(job),
        }
        if job is None or painted == _token(job):
            return updates
        curves = self.figures.of(job.id)
        return {
            **updates,
            self.reward_title: run_title(job, chip(f"scores as run:{job.id}", "L3")),
            self.reward_bar: run_bar(job, curves.latest, reward_done(job)),
            **dict(zip(self.reward_actions.values(), legal_buttons(self.workspace, job), strict=True)),
            self.reward_curve: _drawn(curve_of(curves, "loss", "validation_loss")),
            self.reward_facts: reward_facts(job, curves.latest),
        }

    def _ppo_run(self, line: Line, painted: str) -> Updates:
        job, locked = line.ppo, line.steps[2].state == "locked"
        words = "Align again" if job else "Align the model"
        updates: Updates = {
            self.ppo_run: gr.Column(visible=job is not None),
            self.ppo_form: _fold(job, painted, words, visible=not locked),
            self.ppo_painted: _token(job),
        }
        if job is None or painted == _token(job):
            return updates
        curves = self.figures.of(job.id)
        drawn = [_drawn(curve_of(curves, training, validation, "value")) for training, validation, *_ in _CURVES]
        answers = newest_samples(self.store, job.id)
        return {
            **updates,
            self.ppo_title: run_title(job, chip(f"answers as run:{job.id}", "L3")),
            self.ppo_bar: run_bar(job, curves.latest, aligned_done(job), "iteration"),
            **dict(zip(self.ppo_actions.values(), legal_buttons(self.workspace, job), strict=True)),
            self.ppo_live: _live(job, painted, has_figures=bool(curves.latest)),
            self.ppo_figures: ppo_figures(job, curves.latest),
            **dict(zip(self.curves, drawn, strict=True)),
            self.ppo_samples: samples(answers, _SAMPLES, ("reference", "Tuned model"), ("policy", "At iteration")),
        }

    def plan_reward(self, batch: str | None, *values: Any) -> str:
        known = next((b for b in self.store.batches() if b.name == batch), None)
        return self._plan_reward(known, self.reward.named(values))

    def plan_ppo(self, *values: Any) -> str:
        return self._plan_ppo(self.ppo.named(values))

    def _plan_reward(self, batch: Batch | None, values: Mapping[str, Any]) -> str:
        if batch is None or not values["base"]:
            return ""
        return _said(lambda: plan_reward(self.store, batch, fill_in(Reward, {**values, "data": _NOT_YET})).sentence)

    def _plan_ppo(self, values: Mapping[str, Any]) -> str:
        if not all(values[name] for name in _PPO_LISTS):
            return ""
        return _said(lambda: plan_ppo(self.store, self.workspace.path, fill_in(Ppo, values)).sentence)

    # -- what a person does ------------------------------------------------------------------------------------

    def train_reward(self, request: gr.Request, client_key: str, batch: str | None, *values: Any) -> list[str]:
        """Freeze the batch and queue a reward model; gives the client key of the next start, and the run's number."""
        task = self.reward.read(values, data=_NOT_YET)
        frozen = freeze_judgements(self.store, self.workspace.path, batch or "", author=user_of(request))
        return self._queue(task.model_copy(update={"data": frozen.ref}), client_key, request)

    def align_ppo(self, request: gr.Request, client_key: str, *values: Any) -> list[str]:
        return self._queue(self.ppo.read(values), client_key, request)

    def simulate_labels(self, request: gr.Request, client_key: str, batch: str | None) -> str:
        return self._queue(SimulateJudgements(batch=batch or ""), client_key, request)[0]

    def act(self, action: str, request: gr.Request, painted: str) -> None:
        act_on(self.workspace, painted.partition(".")[0], action, by=user_of(request))

    def follow_reward(self, reward: str) -> str:
        """What a reward model can score: answers of the model it started from."""
        return self.store.model(reward).base

    def _queue(self, task: Task, client_key: str, request: gr.Request) -> list[str]:
        # The page has one key for all its buttons, and another kind of run is another run.
        key = f"{task.kind}-{client_key}" if client_key else None
        job = self.workspace.queue(task, author=user_of(request), client_key=key)
        return [secrets.token_hex(8), str(job.id)]


def _wire(page: _Page) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    look = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs, **quiet}
    page.shown.change(**look)
    page.runs.pick(handler(picked), None, page.shown, **quiet).then(
        None, None, None, js=_TO_THE_TOP, api_visibility="private"
    )
    # Another batch is another line: whichever run was on screen is not asked for any more.
    page.batch.input(None, None, page.shown, js="() => ''", **quiet).then(**look)
    page.train.click(
        handler(page.train_reward),
        [page.key, page.batch, *page.reward.inputs],
        [page.key, page.shown],
        validator=after_key(page.reward.validator(data=_NOT_YET), before=2),
        api_name="train_reward",
        show_progress="hidden",
    )
    page.align.click(
        handler(page.align_ppo),
        [page.key, *page.ppo.inputs],
        [page.key, page.shown],
        validator=after_key(page.ppo.validator()),
        api_name="align_ppo",
        show_progress="hidden",
    )
    page.simulate.click(
        handler(page.simulate_labels),
        [page.key, page.batch],
        page.key,
        api_name="simulate_labels",
        show_progress="hidden",
    ).success(**look)
    for kind, buttons, painted in (
        (Reward.kind, page.reward_actions, page.reward_painted),
        (Ppo.kind, page.ppo_actions, page.ppo_painted),
    ):
        for action, button in buttons.items():
            act = handler(partial(page.act, action))
            button.click(act, painted, None, api_name=f"{action}_{kind}", **quiet).then(**look)
    page.ppo.widgets["reward"].input(  # type: ignore[attr-defined]
        handler(page.follow_reward), page.ppo.widgets["reward"], page.ppo.widgets["base"], **quiet
    )
    _wire_plan([page.batch, *page.reward.inputs], page.plan_reward, page.reward_plan)
    _wire_plan(page.ppo.inputs, page.plan_ppo, page.ppo_plan)


def _wire_plan(inputs: Sequence[Any], fn: Any, output: gr.HTML) -> None:
    gr.on(
        [widget.change for widget in inputs],
        handler(fn),
        inputs,
        output,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


# -- layout ----------------------------------------------------------------------------------------------------


def _chooser(name: str) -> gr.Dropdown:
    field = Ppo.model_fields[name]
    return live_dropdown(
        [], label=field.title, info=field.description, interactive=True, min_width=200, elem_id=f"ppo-{name}"
    )


def _curve_column(title: str, note: str, y_title: str) -> gr.LinePlot:
    with gr.Column(min_width=300):
        markup(f'<h4 class="curve-title">{html.escape(title)} <small>{html.escape(note)}</small></h4>')
        return small_plot(y_title, _HUE, x_title="Iteration", height=200, y="value")


# -- what changed ----------------------------------------------------------------------------------------------


def _token(job: Job | None) -> str:
    """Moves with every step of the run; a run that stands still is not drawn again."""
    return f"{job.id}.{job.change}.{job.state}" if job else "-"


def _fold(job: Job | None, painted: str, words: str, *, visible: bool) -> gr.Accordion:
    """The form of a step: open while there is no run, and folded away when one comes on screen."""
    if painted.partition(".")[0] == _token(job).partition(".")[0]:
        return gr.Accordion(visible=visible)  # whoever opened it meanwhile has it open
    return gr.Accordion(label=words, open=job is None, visible=visible)


def _live(job: Job, painted: str, *, has_figures: bool) -> gr.Accordion:
    """Open while it goes on, folded once what it made is read in the next step."""
    words = "How it went" if job.is_over else "How it goes"
    run, _, state = painted.split(".") if "." in painted else ("", "", "")
    if (run, state) == (str(job.id), job.state):
        return gr.Accordion(label=words, visible=has_figures)
    return gr.Accordion(label=words, open=job.state != "done", visible=has_figures)


def _drawn(points: pd.DataFrame) -> gr.LinePlot:
    """Nothing at all before there is a point."""
    return gr.LinePlot(value=points, visible=not points.empty)


def _said(plan: Callable[[], str]) -> str:
    """What a start would do, or why it would not; nothing is raised while somebody types."""
    try:
        return notice(plan())
    except StudioError as error:
        return notice(str(error), "caution")
