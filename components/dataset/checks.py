"""The page Checks: what would teach a model something wrong, with examples, and remedies at one stroke.

A run is a job and goes on when the page is closed; what it found is read from the database. The page keeps the name of
the open check, the ids that are ticked, the stroke that Undo takes back, and tokens of what was painted.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.dataset.findings import (
    ON_LOAD,
    checks_html,
    examples_html,
    going_html,
    head_html,
    remedy_words,
    standing_html,
)
from components.dataset.shared import Shared, to_show
from components.dataset.words import count
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
from components.picking import mark_row, pick_list, picked
from studio.errors import Conflict, InputError, StudioError
from studio.instructions.checking import CheckRecords, mend
from studio.instructions.checks import Check, TooLong, check_from, check_kinds, told_settings
from studio.instructions.checks.masking import MaskingCheck
from studio.instructions.findings import (
    CheckState,
    check_again,
    examples,
    look_again,
    remarks,
    states,
    would_change,
)
from studio.jobs import legal_actions, perform
from studio.models import EMBEDDED
from studio.recipes.lora import Lora
from studio.specs import ModelRef
from studio.store import Dataset, Job, RecordFilter

__all__ = ["build"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_NO_MODEL = ("Leave this check out", "")
_WINDOW = int(Lora.model_fields["max_length"].default)
_MOST_TICKED = 500
_BOXES = ("Open data check", "Data checks painted", "Records ticked", "Stroke of the remedy", "Finds painted")

_OWN = (
    '<details class="own-check"><summary>A check of your own</summary><p>Your own check is one function in one file: it '
    "is given a record and yields what it finds. Name the file's module in <code>LADDER_EXTRA_CHECKS</code> and start the "
    "studio again; it is then run, listed and mended like the others.</p><pre><code>"
    "from studio.instructions.checks import Finding, record_check\n\n\n"
    '@record_check(\n    name="shouting", title="Shouting",\n    explains="Answers in capital letters. They teach to '
    'shout.",\n)\ndef shouting(record):\n    if record.response.isupper():\n'
    '        yield Finding("response", "All in capital letters.")</code></pre></details>'
)


def build(shared: Shared) -> TabWidgets:
    """Lay out the page and wire it."""
    page = _Page(shared)
    _wire(page)
    return TabWidgets(refresh=Refresh(page.look, page.look_inputs, page.look_outputs))


@dataclass(frozen=True)
class _Remedy:
    """A button and what pressing it does, in words; which remedy it is depends on the open check."""

    row: gr.Row
    button: gr.Button
    words: gr.HTML


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.workspace, self.store = shared, shared.workspace, shared.workspace.store
        with gr.Row(elem_classes=["off-screen"]):
            self.name, self.painted, self.ticked, self.stroke, self.told = map(_box, _BOXES)
        with gr.Row(elem_classes=["checks-top"]):
            self.standing = markup(label="Where the checks stand", elem_id="checks-standing")
            self.stop = gr.Button("Stop", variant="stop", min_width=0, scale=0, visible=False)
            self.run = gr.Button("Run the checks", variant="primary", min_width=0, scale=0, elem_id="run-checks")
        with gr.Row(elem_classes=["columns", "checks-columns"]):
            with gr.Column(scale=1, min_width=360, elem_classes=["checks-list"]):
                self.table = pick_list("Checks of the dataset", elem_id="data-checks")
                markup(_OWN)
            with card(scale=1, min_width=360, visible=False, elem_classes=["check-open"]) as self.panel:
                self._lay_out_panel()

    def _lay_out_panel(self) -> None:
        self.head = markup(label="The open check")
        with gr.Column(visible=False, elem_classes=["mended"]) as self.mended:
            self.message = markup(label="What was mended")
            with actions():
                self.undo = gr.Button("Undo the remedy", size="sm", min_width=0, scale=0)
        self.remedies = [self._remedy() for _ in range(max(len(kind.remedies) for kind in check_kinds().values()))]
        with actions():
            self.show = gr.Button("Show these records", size="sm", min_width=0, scale=0)
            self.alone = gr.Button("Run this check", size="sm", min_width=0, scale=0)
        self.finds = gr.HTML(
            "", label="Examples of the check", elem_id="check-examples", js_on_load=ON_LOAD, apply_default_css=False, padding=False
        )  # fmt: skip
        with gr.Accordion("Settings of this check", open=False, elem_classes=["more"]) as self.settings:
            markup('<p class="quiet">They hold from the next run on, and are kept with what it finds.</p>')
            self.forms: dict[str, Form[Check]] = {}
            self.columns: dict[str, gr.Column] = {}
            for name, kind in check_kinds().items():
                if kind.model_fields:
                    with gr.Column(visible=False) as self.columns[name]:
                        self.forms[name] = self._form(kind)

    def _remedy(self) -> _Remedy:
        with gr.Row(elem_classes=["remedy"], visible=False) as row:
            return _Remedy(row, gr.Button("", size="sm", min_width=0, scale=0), markup())

    def _form(self, kind: type[Check]) -> Form[Check]:
        if kind is not TooLong:
            return form(kind)
        # Which model counts is the run's to know: without one the check is left out.
        model = live_dropdown([_NO_MODEL], value="", label="Model that counts tokens")
        window = gr.Number(
            _WINDOW, label="Window in tokens", precision=0, info="As in tuning: longest record. (16 or more)"
        )
        return form(kind, given={"model": model, "window": window})

    # -- what is read and written ----------------------------------------------------------------------------------

    @property
    def typed(self) -> list[Any]:
        """Inputs: every setting of every check; `_task` takes their values."""
        return [widget for knobs in self.forms.values() for widget in knobs.inputs]

    @property
    def model(self) -> Any:
        return self.forms[TooLong.name].widgets["model"]

    @property
    def overview(self) -> list[Any]:
        """Outputs of `_overview`."""
        return [self.standing, self.stop, self.run, self.table]

    @property
    def found(self) -> list[Any]:
        """Outputs of `_found`."""
        rows = [part for remedy in self.remedies for part in (remedy.row, remedy.button, remedy.words)]
        return [self.head, *rows, self.show, self.finds, self.ticked, self.told]

    @property
    def opened(self) -> list[Any]:
        """Outputs of `_opened`: all of the panel, for a check that was not open before."""
        return [self.name, self.panel, self.mended, self.stroke, self.settings, *self.columns.values()]

    @property
    def look_inputs(self) -> list[Any]:
        return [self.shared.chosen, self.name, self.painted, self.told, self.model]

    @property
    def look_outputs(self) -> list[Any]:
        return [self.painted, *self.overview, *self.found, *self.opened, *self.typed]

    # -- showing ---------------------------------------------------------------------------------------------------

    def look(self, chosen: str, name: str, painted: str, told: str, model: str) -> list[Any]:
        """The page as the database has it now; what did not move is left alone, so that ticks stay. Runs outside the
        queue at every beat, so it does not raise."""
        try:
            return self._look(chosen, name, painted, told, model) if chosen else untouched(self.look_outputs)
        except StudioError:
            return untouched(self.look_outputs)

    def _look(self, chosen: str, name: str, painted: str, told: str, model: str) -> list[Any]:
        dataset, is_new = self.store.dataset(chosen), chosen != painted.partition(" ")[0]
        job = self._job(dataset)
        now = f"{chosen} {dataset.change}.{job.id if job else 0}.{job.change if job else 0}"
        if now == painted:
            return untouched(self.look_outputs)
        stands = states(self.store, dataset)
        name = "" if is_new else name
        state = next((s for s in stands if s.kind.name == name), None)
        return [
            now,
            *self._overview(dataset, stands, job, name),
            *(self._found(dataset, state) if state and _token(state) != told else untouched(self.found)),
            *(self._opened(None) if is_new else untouched(self.opened)),
            *(self._settings(stands) if is_new else self._offers(model)),
        ]

    def _overview(self, dataset: Dataset, stands: Sequence[CheckState], job: Job | None, name: str) -> list[Any]:
        """Where the checks stand, the two buttons, and the table."""
        goes_on = job is not None and not job.is_over
        records = self.store.count_records(dataset.id)
        standing = going_html(job) if job and goes_on else standing_html(stands, _newer(job, stands), records)
        can_stop = job is not None and goes_on and "cancel" in legal_actions(job, self.workspace.path)
        has_run = any(state.run for state in stands)
        return [
            standing,
            gr.Button(visible=can_stop),
            gr.Button(value="Run again" if has_run else "Run the checks", interactive=bool(records) and not goes_on),
            checks_html(stands, name),
        ]

    def _found(self, dataset: Dataset, state: CheckState) -> list[Any]:
        """What the open check found, and its remedies."""
        about_all = remarks(self.store, dataset, state.kind.name) if state.remarks else ()
        would = would_change(self.store, state.run) if state.run and state.records else {}
        buttons: list[Any] = []
        for number in range(len(self.remedies)):
            remedy = state.kind.remedies[number] if number < len(state.kind.remedies) else None
            is_there = remedy is not None and state.records > 0
            if remedy is None or not is_there:
                buttons += [gr.Row(visible=False), gr.skip(), gr.skip()]
                continue
            can = would.get(remedy.name) != 0 and not state.must_run_again
            label = remedy_words(remedy, state, 0, would)
            buttons += [
                gr.Row(visible=True),
                gr.Button(value=label, interactive=can),
                f'<span class="quiet">{html.escape(remedy.explains)}</span>',
            ]
        return [
            head_html(state, about_all, issubclass(state.kind, MaskingCheck)),
            *buttons,
            gr.Button(value=f"Show {count(state.records)}", visible=state.records > 0),
            examples_html(examples(self.store, state.run) if state.run else (), state.records),
            "",
            _token(state),
        ]

    def _opened(self, state: CheckState | None) -> list[Any]:
        """The panel with that check, nothing said yet; without one it is closed."""
        name = state.kind.name if state else ""
        columns = [gr.Column(visible=other == name) for other in self.columns]
        return [
            name,
            gr.Column(visible=state is not None),
            gr.Column(visible=False),
            "",
            gr.Accordion(visible=name in self.columns),
            *columns,
        ]

    def _settings(self, stands: Sequence[CheckState]) -> list[Any]:
        """The settings of the newest runs, and those a check comes with where it has not run."""
        shown: list[Any] = []
        for state in stands:
            if state.kind.name not in self.forms:
                continue
            given = dict(state.run.settings) if state.run else state.kind().model_dump(mode="json")
            if state.kind is TooLong and state.run is None:
                given |= {"window": _WINDOW, "model": str(EMBEDDED)}
            values = self.forms[state.kind.name].show(given)
            if state.kind is TooLong:
                models = self._models()
                chosen = given["model"] if given["model"] in {ref for _, ref in models} else ""
                place = list(self.forms[TooLong.name].widgets).index("model")
                values[place] = gr.Dropdown(choices=models, value=chosen)
            shown += values
        return shown

    def _offers(self, model: str) -> list[Any]:
        """Nothing that somebody may have typed, but the models there are now."""
        return [
            fresh_choices(self._models(), model, "") if widget is self.model else gr.skip() for widget in self.typed
        ]

    def _models(self) -> list[tuple[str, str]]:
        """Those whose tokenizer is here."""
        offers = [offer for offer in self.workspace.offers() if offer.ref.kind != "endpoint"]
        return [_NO_MODEL, *((offer.label, str(offer.ref)) for offer in offers)]

    def _job(self, dataset: Dataset) -> Job | None:
        """The newest run of checks over the dataset."""
        jobs = self.store.jobs(limit=30, kinds={CheckRecords.kind})
        return next((job for job in jobs if job.task.get("dataset") == dataset.name), None)

    def _state(self, dataset: Dataset, name: str) -> CheckState:
        check_from(name)  # it comes from the page
        return next(state for state in states(self.store, dataset) if state.kind.name == name)

    def _all(self, dataset: Dataset, name: str) -> list[Any]:
        """Table and finds anew."""
        stands = states(self.store, dataset)
        state = next((s for s in stands if s.kind.name == name), None)
        found = self._found(dataset, state) if state else untouched(self.found)
        return [*self._overview(dataset, stands, self._job(dataset), name), *found]

    # -- what a person does ----------------------------------------------------------------------------------------

    def open(self, event: gr.EventData, chosen: str) -> list[Any]:
        dataset = self.store.dataset(chosen)
        state = self._state(dataset, picked(event))
        return [*self._found(dataset, state), *self._opened(state)]

    def begin(self, only: str, request: gr.Request, chosen: str, name: str, *typed: Any) -> list[Any]:
        """Queue the checks (or the open one) with the settings as they are typed; what speaks against it is said."""
        dataset = self.store.dataset(chosen)
        job = self._job(dataset)
        if job is None or job.is_over:
            names = (name,) if only else ()
            try:
                self.workspace.queue(self._task(dataset, names, typed), author=user_of(request))
            except InputError as error:
                return [notice(str(error), "caution"), *untouched(self.overview[1:])]
        return self._overview(dataset, states(self.store, dataset), self._job(dataset), name)

    def cancel(self, request: gr.Request, chosen: str, name: str) -> list[Any]:
        dataset = self.store.dataset(chosen)
        job = self._job(dataset)
        if job is not None and not job.is_over:
            perform(self.store, self.workspace.path, job.id, "cancel", by=user_of(request))
        return self._overview(dataset, states(self.store, dataset), self._job(dataset), name)

    def mend(self, number: int, request: gr.Request, chosen: str, name: str, ticked: str) -> list[Any]:
        """Apply a remedy to what is ticked, or to all that was found, and look again."""
        dataset, by = self.store.dataset(chosen), user_of(request)
        remedies = check_from(name).remedies
        if number >= len(remedies):
            raise InputError(f"The check '{name}' has no such remedy. Open it again.")
        try:
            edit = mend(self.store, dataset, name, remedies[number].name, author=by, record_ids=_ids(ticked) or None)
        except (InputError, Conflict) as error:
            stays = untouched([*self.overview, *self.found])
            return [gr.Column(visible=True), notice(str(error), "caution"), gr.Button(visible=False), "", *stays]
        looking = self._look_again(dataset, name, by)
        said = f"{edit.title}: {count(edit.records)} changed. Undo takes it back.{looking}"
        return self._mended(said, str(edit.id), dataset, name)

    def take_back(self, request: gr.Request, chosen: str, name: str, stroke: str) -> list[Any]:
        """Undo the remedy, as long as it is the last thing the person did here."""
        dataset, by = self.store.dataset(chosen), user_of(request)
        newest = self.store.next_undo(dataset.id, by)
        if newest is None or str(newest.id) != stroke:
            later = f"'{newest.title}' came after it" if newest else "It was undone already"
            raise InputError(
                f"The remedy is not your last stroke here: {later}. Undo on the page Records goes further."
            )
        edit = self.store.undo(dataset.id, author=by)
        looking = self._look_again(dataset, name, by)
        return self._mended(f"Undone: {edit.title}, {count(edit.records)}.{looking}", "", dataset, name)

    def _mended(self, said: str, stroke: str, dataset: Dataset, name: str) -> list[Any]:
        """What was done, whether it can be taken back here, and all that is different by it."""
        head = [gr.Column(visible=True), notice(said, "good"), gr.Button(visible=bool(stroke)), stroke]
        return [*head, *self._all(dataset, name)]

    def tick(self, event: gr.EventData, chosen: str, name: str) -> list[Any]:
        """What is ticked, and what the remedies' buttons say for it."""
        dataset, ticked = self.store.dataset(chosen), _ids(picked(event))
        state = self._state(dataset, name)
        would = would_change(self.store, state.run, ticked or None) if state.run else {}
        labels: list[Any] = [
            gr.Button(
                value=remedy_words(remedy, state, len(ticked), would),
                interactive=would.get(remedy.name) != 0 and not state.must_run_again,
            )
            for remedy in state.kind.remedies[: len(self.remedies)]
        ]
        return [" ".join(map(str, ticked)), *labels, *untouched(self.remedies[len(labels) :])]

    def show_found(self, name: str) -> str:
        return to_show(RecordFilter(flag=check_from(name).name))

    def follow(self, event: gr.EventData) -> Any:
        ids = _ids(picked(event))
        return to_show(RecordFilter(ids=ids)) if ids else gr.skip()

    def _look_again(self, dataset: Dataset, name: str, by: str) -> str:
        """After a stroke the finds are not what they were: at once where that is quick, else as a job. Says which."""
        if look_again(self.store, dataset, name, self.workspace.path / "checks" / str(dataset.id)):
            return ""
        job = self._job(dataset)
        if job is not None and not job.is_over:
            return " Run this check again when the job that runs now is done."
        run = self.store.check_runs(dataset.id)[name]
        try:
            queued = self.workspace.queue(check_again(dataset, run), author=by)
        except InputError as error:
            return f" It could not look again: {error}"
        return f" Job {queued.id} looks again."

    def _task(self, dataset: Dataset, names: tuple[str, ...], typed: Sequence[Any]) -> CheckRecords:
        """The job with the settings that somebody typed. Raises InputError naming the check and the field."""
        left = iter(typed)
        settings: list[str] = []
        counting: Mapping[str, Any] = {}
        for name, knobs in self.forms.items():
            values = [next(left) for _ in knobs.widgets]
            try:
                check = knobs.read(values)
            except InputError as error:
                raise InputError(f"{knobs.model.title}: {error}") from error
            if isinstance(check, TooLong):
                counting = {"model": ModelRef(check.model) if check.model else None, "window": check.window}
                check = TooLong(per_turn=check.per_turn)
            if not names or name in names:
                settings += told_settings(check)
        if names == (TooLong.name,) and not counting.get("model"):
            raise InputError(f"'{TooLong.title}' counts with a model's tokenizer. Choose one in its settings.")
        return CheckRecords(dataset=dataset.name, checks=names, settings=tuple(settings), **counting)


# -- wiring ------------------------------------------------------------------------------------------------------


def _wire(page: _Page) -> None:
    here, name = page.shared.chosen, page.name
    for button, only in ((page.run, ""), (page.alone, "only")):
        button.click(
            handler(partial(page.begin, only)),
            [here, name, *page.typed],
            page.overview,
            api_name=f"checks_run_{only or 'all'}",
            **_QUIET,
        )
    page.stop.click(handler(page.cancel), [here, name], page.overview, api_name="checks_stop", **_QUIET)
    page.table.pick(
        handler(page.open),
        here,
        [*page.found, *page.opened],
        trigger_mode="always_last",
        api_name="checks_open",
        **_QUIET,
    )
    page.name.change(None, name, None, js=mark_row("data-checks"), api_visibility="private")
    said = [page.mended, page.message, page.undo, page.stroke, *page.overview, *page.found]
    for number, remedy in enumerate(page.remedies):
        mended = remedy.button.click(
            handler(partial(page.mend, number)),
            [here, name, page.ticked],
            said,
            js=_TICKED_NOW,
            api_name=f"checks_mend_{number}",
            **_QUIET,
        )
        page.shared.moves(mended)
    back = page.undo.click(handler(page.take_back), [here, name, page.stroke], said, api_name="checks_undo", **_QUIET)
    page.shared.moves(back)
    page.finds.tick(
        handler(page.tick),
        [here, name],
        [page.ticked, *(remedy.button for remedy in page.remedies)],
        trigger_mode="always_last",
        api_name="checks_tick",
        **_QUIET,
    )
    page.finds.follow(handler(page.follow), None, page.shared.show, api_name="checks_follow", **_QUIET)
    page.show.click(handler(page.show_found), name, page.shared.show, api_name="checks_show", **_QUIET)


# Read from the page at the moment of the press: what was ticked just before may still be on its way.
_TICKED_NOW = """(chosen, name) => [chosen, name,
  [...document.querySelectorAll('#check-examples input:checked')].map((box) => box.dataset.record).join(' ')]"""


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(key) for key in text.split()[:_MOST_TICKED] if key.isdecimal())


def _newer(job: Job | None, stands: Sequence[CheckState]) -> Job | None:
    """The job, unless a check ran after it came to its end."""
    if job is None or job.ended_at is None:
        return job
    return None if any(s.run and s.run.ended_at > job.ended_at for s in stands) else job


def _token(state: CheckState) -> str:
    """Moves when there is something else to show of what a check found."""
    return f"{state.kind.name}.{state.run.ended_at if state.run else 0}.{state.records}.{state.changed}"


def _box(label: str) -> gr.Textbox:
    return gr.Textbox("", label=label, visible="hidden")
