"""Grow: more records for the open dataset. A model drafts them and people approve, passages wait to be filled in, rows
that an import left out are mended, and answers are kept in the Playground.

A run is a job and goes on when the page is closed. The page keeps the number of the open run and a token of what was
painted; everything else is read from rows.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gradio as gr
from pydantic import BaseModel, create_model

from components.dataset.mending import Mending
from components.dataset.shared import Shared, to_show
from components.dataset.words import category_words, count, when
from components.forms import Form, form
from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    card,
    fresh_choices,
    handler,
    live_dropdown,
    markup,
    notice,
    untouched,
    user_of,
)
from components.picking import pick_list, picked, rows_to_pick, rows_to_read
from components.running import RUN_ACTIONS, act_on, legal_buttons, run_bar, run_buttons, run_title, state_chip
from studio.errors import InputError, StudioError
from studio.fields import fill_in
from studio.instructions.filling_in import ToFillIn
from studio.instructions.growing import FromDocuments, Growing, Paraphrase, SelfInstruct
from studio.instructions.grown import (
    WAYS,
    Outcome,
    drafts_of,
    growing_run,
    growing_runs,
    kept_answer_ids,
    kept_answers,
    outcome,
)
from studio.models import EMBEDDED
from studio.prompts.told import seconds_a_call
from studio.specs import ModelRef
from studio.store import Dataset, Job, RecordFilter, Store
from studio.words import duration

__all__ = ["build"]

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_COMMON = ("temperature", "max_tokens", "lowest_quality", "seed")
_OWN: Mapping[str, tuple[type[BaseModel], tuple[str, ...]]] = {
    SelfInstruct.kind: (SelfInstruct, ("shown", "wanted", "alike", "requests")),
    FromDocuments.kind: (FromDocuments, ("questions", "grounded")),
    Paraphrase.kind: (Paraphrase, ("variants", "too_alike")),
}
_TITLES: Mapping[str, str] = {
    SelfInstruct.kind: "New tasks like yours",
    FromDocuments.kind: "Questions from documents",
    Paraphrase.kind: "Your questions in other words",
    ToFillIn.kind: "Passages to fill in by hand",
}
_ABOUT: Mapping[str, tuple[str, str]] = {
    SelfInstruct.kind: (
        "A model sees a few of your records at a time and writes new tasks of the same kind, then answers them "
        "(self-instruct). What repeats a question, refuses or echoes is left out, and so is what an evaluation set asks.",
        "one request for every few tasks, and one for every answer",
    ),
    FromDocuments.kind: (
        "A model asks a question that a passage answers, then answers it from the passage alone. An answer with words or "
        "numbers that the passage does not have is left out.",
        "two requests for every passage",
    ),
    Paraphrase.kind: (
        "A model says your questions in other words, and the answers stay as people wrote them. This teaches a model to "
        "understand more wordings; it adds no new knowledge.",
        "one request for every variant",
    ),
    ToFillIn.kind: (
        "Each passage of your documents becomes a draft with the passage as its context, and people write question and "
        "answer. Nothing is made up; a record that nobody has filled in goes into no snapshot.",
        "no model and no waiting, but the writing is yours",
    ),
}
_SMALL = (
    "The embedded model has 135 million parameters, few for this work: of 36 texts that it wrote in a measurement, 4 "
    "could be used. Choose a larger model where you can, and read every draft."
)
_PLAYGROUND = (
    'An answer in the Playground that is good, or good once you have corrected it, can be kept: press "To dataset" under '
    "it and choose where it goes. It comes in as a draft and says which model gave it."
)


def build(shared: Shared) -> TabWidgets:
    """Lay out the page and wire it."""
    page = _Page(shared)
    _wire(page)
    return TabWidgets(refresh=Refresh(page.look, page.look_inputs, page.look_outputs))


def _knobs_of(kind: type[BaseModel], names: Collection[str]) -> type[BaseModel]:
    """Some fields of a task as a class of their own."""
    own: dict[str, Any] = {n: (kind.model_fields[n].annotation, kind.model_fields[n]) for n in names}
    return create_model(f"{kind.__name__}{''.join(sorted(names)).title()}", **own)


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.workspace, self.store = shared, shared.workspace, shared.workspace.store
        with gr.Row(elem_classes=["off-screen"]):
            self.run, self.painted, self.key = (
                gr.Textbox("", label=label, visible="hidden")
                for label in ("Open growing run", "Growing painted", "Key of the next growing run")
            )
        # Ticks only while the open run goes on: here steps matter, and the pulse tells of states alone.
        self.timer = gr.Timer(_TICK_SECONDS, active=False)
        with card("Draft records", elem_classes=["grow-form"]):
            self._lay_out_form()
        with card("Runs of this dataset", elem_classes=["grow-runs"]):
            self._lay_out_runs()
        with card("Rows left out by imports"):
            self.mending = Mending(
                self.workspace, "grow", "Mended {}", "None waits. Rows that an import cannot use are listed here."
            )
        with card("From the Playground"):
            markup(f"<p>{html.escape(_PLAYGROUND)}</p>")
            with actions():
                self.kept = gr.Button("Show the kept answers", visible=False, elem_id="grow-kept")

    def _lay_out_form(self) -> None:
        self.way = gr.Radio(
            [(title, kind) for kind, title in _TITLES.items()],
            value=SelfInstruct.kind,
            label="How to grow the dataset",
            show_label=False,
            container=False,
            elem_id="grow-way",
        )
        self.about = markup(_about(SelfInstruct.kind))
        with gr.Row(elem_classes=["form-row"]):
            self.model = live_dropdown(
                [], label="Model that drafts", info="Larger ones draft better.", elem_id="grow-model", min_width=240
            )
            self.category = live_dropdown(
                [("All categories", "")],
                value="",
                label="Category to grow",
                info="Which records it starts from.",
                min_width=160,
            )
            self.documents = live_dropdown(
                [],
                multiselect=True,
                label="Documents to draft from",
                info="None chosen: all that are in use.",
                visible=False,
                min_width=240,
            )
            self.count = form(_knobs_of(Growing, ["count"]))
        with gr.Accordion("More about the drafts", open=False, elem_classes=["more"]) as self.more:
            self.common = form(_knobs_of(Growing, _COMMON), columns=4)
            self.own: dict[str, Form[BaseModel]] = {}
            self.boxes: dict[str, gr.Column] = {}
            for kind, (task, names) in _OWN.items():
                with gr.Column(visible=kind == SelfInstruct.kind) as self.boxes[kind]:
                    self.own[kind] = form(_knobs_of(task, names), columns=4)
        self.cost = markup()
        with actions():
            self.start = gr.Button("Start drafting", variant="primary", elem_id="grow-start")

    def _lay_out_runs(self) -> None:
        self.runs = pick_list("Growing runs", elem_id="growing-runs")
        with gr.Column(visible=False, elem_classes=["grow-run"]) as self.opened:
            self.now = markup()
            with actions():
                self.show_drafts = gr.Button("Show the drafts", variant="primary", elem_id="grow-drafts")
                self.acts = run_buttons("growing")
            self.left_out = markup()

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def asked(self) -> list[Any]:
        """Inputs of `_task`, behind the dataset."""
        own = [widget for part in self.own.values() for widget in part.inputs]
        return [
            self.way, self.model, self.category, self.documents, *self.count.inputs, *self.common.inputs, *own
        ]  # fmt: skip

    @property
    def seen(self) -> list[Any]:
        """Outputs of `_seen`."""
        return [self.opened, self.now, self.show_drafts, *self.acts.values(), self.left_out, self.timer]

    @property
    def listed(self) -> list[Any]:
        return [self.painted, self.run, self.key, self.model, self.category, self.documents, self.runs, self.kept]

    @property
    def look_inputs(self) -> list[Any]:
        return [
            self.shared.chosen, self.run, self.painted, self.key, self.way, self.model, self.category, self.documents,
            self.count.inputs[0], self.mending.row,
        ]  # fmt: skip

    @property
    def look_outputs(self) -> list[Any]:
        return [*self.listed, self.cost, *self.seen, *self.mending.shown]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(
        self,
        name: str,
        run: str,
        painted: str,
        key: str,
        way: str,
        model: str | None,
        category: str | None,
        documents: Sequence[str] | None,
        wanted: float | None,
        row: str,
    ) -> list[Any]:
        """The page as the database has it now; what somebody chose or typed stays. Runs outside the queue: never raises."""
        if not name:
            return untouched(self.look_outputs)
        try:
            dataset = self.store.dataset(name)
            jobs = growing_runs(self.store, name)
            token = self._token(dataset, jobs)
            if token == painted:
                return untouched(self.look_outputs)
            job = next((j for j in jobs if str(j.id) == run), next(iter(jobs), None))
            models = [(offer.label, str(offer.ref)) for offer in self.workspace.offers()]
            drafting = model if model in {ref for _, ref in models} else str(EMBEDDED)
            return [
                token,
                str(job.id) if job else "",
                gr.skip() if key else secrets.token_hex(8),
                fresh_choices(models, model, drafting),
                fresh_choices(_categories(self.store, dataset), category, ""),
                self._documents(documents),
                _runs_html(jobs, job),
                _kept(kept_answers(self.store, dataset)),
                _cost(self.store, way, drafting, wanted),
                *self._seen(dataset, job),
                *self._left_out(name, row),
            ]
        except StudioError as error:
            log.warning("Growing could not be brought up to date: %s", error)
            return untouched(self.look_outputs)

    def _token(self, dataset: Dataset, jobs: Sequence[Job]) -> str:
        waiting = self.store.left_out(dataset.id, limit=1)
        first = waiting[0][0].id if waiting[0] else 0
        moved = [(job.id, job.state, job.attempt) for job in jobs]
        models = [str(offer.ref) for offer in self.workspace.offers()]
        seen = (dataset.id, dataset.change, moved, models, self.store.documents_token(), first, waiting[1])
        return str(hash(repr(seen)))

    def _documents(self, chosen: Sequence[str] | None) -> gr.Dropdown:
        names = [document.name for document in self.store.documents()]
        known = [name for name in chosen or () if name in names]
        if known == list(chosen or ()):
            return gr.Dropdown(choices=names)
        return gr.Dropdown(choices=names, value=known)

    def _left_out(self, name: str, row: str) -> list[Any]:
        """What somebody is mending stays as it is."""
        if self.mending.is_current(row, name):
            return untouched(self.mending.shown)
        return self.mending.show(name)

    def _seen(self, dataset: Dataset, job: Job | None) -> list[Any]:
        """The open run: how far it is, what it came to, and what can be done."""
        if job is None:
            hidden = [gr.Button(visible=False), *legal_buttons(self.workspace, None)]
            return [gr.Column(visible=False), "", *hidden, "", gr.Timer(active=False)]
        came = outcome(self.store, dataset, job)
        return [
            gr.Column(visible=True),
            f"{run_title(job)}{run_bar(job, {}, _done(came))}{notice(came.note, 'caution') if came.note else ''}",
            gr.Button(_drafts_words(came), visible=came.to_review > 0),
            *legal_buttons(self.workspace, job),
            _left_out_html(came),
            gr.Timer(active=job.is_active or job.state == "queued"),
        ]

    # -- what a person does --------------------------------------------------------------------------------------

    def turn_to(self, way: str, model: str | None, wanted: float | None) -> list[Any]:
        """Another way: its words, and the fields that it has."""
        asks_model, has_documents = way != ToFillIn.kind, way in (FromDocuments.kind, ToFillIn.kind)
        return [
            _about(way),
            gr.Dropdown(visible=asks_model),
            gr.Dropdown(visible=not has_documents),
            gr.Dropdown(visible=has_documents),
            gr.Accordion(visible=asks_model),
            *(gr.Column(visible=kind == way) for kind in self.boxes),
            _cost(self.store, way, model or "", wanted),
            gr.Button("Start drafting" if asks_model else "Make the records"),
        ]

    def begin(self, request: gr.Request, key: str, name: str, *values: Any) -> list[Any]:
        """Queue a run and open it."""
        task = self._task(name, values)
        job = self.workspace.queue(task, author=user_of(request), client_key=key or None)
        dataset = self.store.dataset(name)
        jobs = growing_runs(self.store, name)
        return [str(job.id), secrets.token_hex(8), _runs_html(jobs, job), *self._seen(dataset, job)]

    def _task(self, name: str, values: Sequence[Any]) -> Growing | ToFillIn:
        """What people described. Raises InputError that names each field that cannot be used."""
        if not name:
            raise InputError("No dataset is open. Choose one at the left.")
        way, model, category, documents, *rest = values
        if way not in WAYS:
            raise InputError(f"'{way}' is no way to grow a dataset. Choose one of: {', '.join(WAYS)}.")
        parts = [self.count, self.common, *self.own.values()]
        typed: dict[str, Any] = {
            "model": model or None,
            "category": category or "",
            "documents": tuple(documents or ()),
        }
        for part in parts:
            own, rest = rest[: len(part.inputs)], rest[len(part.inputs) :]
            if part in (self.count, self.common) or part is self.own.get(way):
                typed |= part.named(own)
        kind = WAYS[way]
        return fill_in(kind, {n: v for n, v in typed.items() if n in kind.model_fields} | {"dataset": name})

    def open_run(self, event: gr.EventData, name: str) -> list[Any]:
        job = growing_run(self.store, picked(event), name)
        return [str(job.id), *self._seen(self.store.dataset(name), job)]

    def tick(self, name: str, run: str) -> list[Any]:
        """How far the open run is. Runs outside the queue: never raises."""
        try:
            return self._seen(self.store.dataset(name), growing_run(self.store, run, name))
        except StudioError:
            return [*untouched(self.seen[:-1]), gr.Timer(active=False)]

    def act(self, action: str, request: gr.Request, name: str, run: str) -> list[Any]:
        job = act_on(self.workspace, run, action, by=user_of(request))
        return self._seen(self.store.dataset(name), growing_run(self.store, str(job.id), name))

    def drafts(self, name: str, run: str) -> str:
        where = drafts_of(growing_run(self.store, run, name))
        return to_show(RecordFilter(state="draft", source=where.source))

    def kept_ones(self, name: str) -> str:
        ids = kept_answer_ids(self.store, self.store.dataset(name))
        if not ids:
            raise InputError(f"No record of {name} was kept in the Playground. Somebody may have removed them.")
        return to_show(RecordFilter(ids=ids))


# -- wiring ----------------------------------------------------------------------------------------------------


def _wire(page: _Page) -> None:
    name = page.shared.chosen
    wanted = page.count.inputs[0]
    page.way.input(
        handler(page.turn_to),
        [page.way, page.model, wanted],
        [page.about, page.model, page.category, page.documents, page.more, *page.boxes.values(), page.cost, page.start],
        api_name="grow_way",
        **_QUIET,
    )
    gr.on(
        [page.model.input, wanted.change],  # type: ignore[attr-defined]
        handler(lambda way, model, wanted: _cost(page.store, way, model or "", wanted)),
        [page.way, page.model, wanted],
        page.cost,
        trigger_mode="always_last",
        api_name="grow_cost",
        **_QUIET,
    )
    page.start.click(
        handler(page.begin),
        [page.key, name, *page.asked],
        [page.run, page.key, page.runs, *page.seen],
        api_name="grow_start",
        **_QUIET,
    )
    page.runs.pick(handler(page.open_run), name, [page.run, *page.seen], api_name="grow_open_run", **_QUIET)
    page.timer.tick(
        handler(page.tick),
        [name, page.run],
        page.seen,
        queue=False,
        trigger_mode="once",
        api_name="grow_tick",
        **_QUIET,
    )
    for action in RUN_ACTIONS:

        def act(request: gr.Request, name: str, run: str, action: str = action) -> list[Any]:
            return page.act(action, request, name, run)

        page.acts[action].click(handler(act), [name, page.run], page.seen, api_name=f"grow_{action}", **_QUIET)
    page.show_drafts.click(
        handler(page.drafts), [name, page.run], page.shared.show, api_name="grow_show_drafts", **_QUIET
    )
    page.kept.click(handler(page.kept_ones), name, page.shared.show, api_name="grow_show_kept", **_QUIET)
    page.shared.moves(page.mending.wire(name))


# -- words and small parts -------------------------------------------------------------------------------------


def _about(way: str) -> str:
    words, cost = _ABOUT.get(way, ("", ""))
    return f'<p class="grow-about">{html.escape(words)} <span class="quiet">Cost: {html.escape(cost)}.</span></p>'


def _cost(store: Store, way: str, model: str, wanted: float | None) -> str:
    """How long a request takes, where that was measured; and what to expect of a small model."""
    if way == ToFillIn.kind or not model:
        return ""
    try:
        ref = ModelRef(model)
        pace = seconds_a_call(store, ref)
    except (StudioError, ValueError):
        return ""
    words = ""
    if pace is not None and wanted and wanted > 0:
        requests = 2 * int(wanted)  # where every second one gives a draft; with a small model it is far less
        words = (
            f"One request took {pace[0]:.1f} s in {pace[1]}: {count(int(wanted), 'draft')} take "
            f"{duration(pace[0] * requests)} or more, since not everything that is written can be used."
        )
    told = f'<p class="quiet">{html.escape(words)}</p>' if words else ""
    return told + (notice(_SMALL, "caution") if ref.kind == "embedded" else "")


def _categories(store: Store, dataset: Dataset) -> list[tuple[str, str]]:
    found = [(f"{category_words(c)} ({n:,})", c) for c, n in store.categories(dataset.id).items() if c]
    return [("All categories", ""), *found]


def _runs_html(jobs: Sequence[Job], opened: Job | None) -> str:
    if not jobs:
        return '<p class="quiet">No run yet. Drafts of a run wait here for somebody to approve them.</p>'
    rows = [(job.id, _run_row(job)) for job in jobs]
    head = ("Run", "Way", "Model", "State", "Drafts", "Left out", "By")
    widths = ("64px", "", "22%", "104px", "72px", "80px", "22%")
    current = opened.id if opened else None
    return f'<div class="framed">{rows_to_pick("Growing runs", head, rows, current=current, widths=widths)}</div>'


def _run_row(job: Job) -> tuple[str, ...]:
    result = job.result or {}
    left_out = sum(int(n) for n in result.get("left_out", {}).values())
    return (
        str(job.id),
        html.escape(_TITLES[job.kind]),
        html.escape(str(job.task.get("model") or "none")),
        state_chip(job),
        f"{result['added']:,}" if "added" in result else "",
        f"{left_out:,}" if result else "",
        html.escape(f"{job.author}, {when(job.created_at)}"),
    )


def _done(came: Outcome) -> str:
    if not came.drafts:
        return "The run is done. None of its drafts is in the dataset."
    parts = ((came.to_review, "to review"), (came.approved, "approved"), (came.rejected, "rejected"))
    return f"{count(came.drafts, 'draft')}: {', '.join(f'{n:,} {what}' for n, what in parts if n)}."


def _drafts_words(came: Outcome) -> str:
    return "Show the draft" if came.to_review == 1 else f"Show the {came.to_review:,} drafts"


def _left_out_html(came: Outcome) -> str:
    if not came.left_out:
        return ""
    rows = [(f"{n:,}", html.escape(f"{why[:1].upper()}{why[1:]}")) for n, why in came.left_out]
    total = sum(n for n, _ in came.left_out)
    return f"<h3>Left out: {total:,}</h3>" + rows_to_read(
        "What was left out, and why", ("Texts", "Reason"), rows, widths=("80px", "")
    )


def _kept(many: int) -> gr.Button:
    return gr.Button(
        f"Show the {count(many, 'kept answer')}" if many != 1 else "Show the kept answer", visible=many > 0
    )
