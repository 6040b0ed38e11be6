"""Tuning: three fields to a run, the run while it goes on, and the runs before it.

knobs       the three fields, the method and its knobs
before      what a run will take, what is in its way, what its licences allow
on_screen   one run: curves, figures, answers on the way
verdict     whether to use what it made, and what that rests on
past        all runs, runs beside each other, and what waits
telling     "tell me when a run ends"

The page only reads rows: training happens in a process of its own and goes on when this page is closed.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.frame import Refresh, TabWidgets, card, hand_over, handler, markup, notice, page_header, user_of
from components.picking import mark_row, picked
from components.running import after_key
from components.tuning.before import preflight_card
from components.tuning.knobs import Knobs, bases, snapshots
from components.tuning.on_screen import OnScreen
from components.tuning.past import Past
from components.tuning.serve import serve
from components.tuning.telling import Telling
from components.tuning.verdict import VerdictCard
from studio.errors import InputError, StudioError
from studio.jobs import Figures, again, run_folder, task_from
from studio.jobs.checkpoints import Checkpoints
from studio.jobs.repeating import changed_knobs
from studio.models import EMBEDDED
from studio.recipes.dry_run import DryRun
from studio.recipes.preflight import Preflight, count_now, preflight
from studio.recipes.tuning import Tuning, tuning_methods
from studio.recipes.tuning_state import ready, tuning_runs
from studio.recipes.verdict import judge_after
from studio.recipes.verdict_state import Verdicts
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job
from studio.workspace import Workspace

__all__ = ["TuningWidgets", "build"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_LOOKS_KEPT = 32  # the pages of a team differ in the run on screen and in what they have painted already
_TO_THE_TOP = "() => { window.scrollTo({ top: 0 }) }"


@dataclass(frozen=True, kw_only=True)
class TuningWidgets(TabWidgets):
    """`try_it` opens the shown run (`run`, a number) in the playground, beside its base."""

    run: gr.Textbox
    try_it: gr.Button


def build(workspace: Workspace) -> TuningWidgets:
    """Lay out the page and wire it."""
    with page_header("tuning", "Teach a model to answer the way your records do."):
        telling = Telling(workspace.store)
        start = gr.Button("Start tuning", variant="primary", min_width=140, scale=0, elem_id="start-tuning")
    page = _Page(workspace, telling)
    _wire_start(page, start)
    _wire_run(page)
    _wire_verdict(page)
    _wire_past(page)
    serve(workspace)
    return TuningWidgets(
        refresh=Refresh(page.again, page.again_inputs, page.again_outputs, is_plain=True),
        links={"run": page.shown},
        run=page.shown,
        try_it=page.screen.try_it,
    )


class _Page:
    """The widgets below the header, and what the handlers do with them."""

    def __init__(self, workspace: Workspace, telling: Telling) -> None:
        self.workspace, self.store, self.telling = workspace, workspace.store, telling
        figures = Figures(workspace.store)
        with gr.Row(elem_classes=["off-screen"]):
            self.key, self.shown, self.offered, self.moved, self.repeated, self.to_count, self.counted, self.has = (
                gr.Textbox("", label=label, visible="hidden")
                for label in (
                    "Key of the next start",
                    "Run on screen",
                    "Choices offered",
                    "Runs that moved",
                    "Run to repeat",
                    "Records to count",
                    "Records that were counted",
                    "Parts on screen",
                )
            )
            method = gr.Textbox(next(iter(tuning_methods())), label="Method", visible="hidden")
        with card("New run"):
            self._lay_out_repeat()
            self.knobs = Knobs(workspace, method)
            self._lay_out_before()
        verdicts = Verdicts(workspace.store)
        self.screen = OnScreen(workspace, figures)
        self.verdict = VerdictCard(workspace, figures, verdicts)
        self.past = Past(workspace, figures, verdicts)
        self._looks: dict[tuple[Any, ...], Any] = {}

    def _lay_out_repeat(self) -> None:
        """Out when the form was filled from a run."""
        with gr.Row(visible=False, elem_classes=["repeat-row"]) as self.repeat_box:
            self.repeating = markup(label="Run with changes")
            self.goes_on = gr.Checkbox(
                False,
                label="Go on from its last checkpoint",
                info="Then only the learning rate, the patience, 'Save memory' and what it is for may differ.",
                min_width=240,
                elem_id="tune-goes-on",
            )
            self.forget = gr.Button("Start something new instead", scale=0, min_width=190, elem_id="tune-forget")

    def _lay_out_before(self) -> None:
        self.plan = markup(elem_id="preflight", label="Before the start")
        with gr.Row(elem_classes=["form-row", "before-row"]):
            self.knobs.use.render()  # type: ignore[no-untyped-call]
            self.dry = gr.Button("Measure first (20 steps)", scale=0, min_width=190, elem_id="measure-first")
            self.judges = gr.Checkbox(
                True, label="Judge it when it is done", min_width=210, scale=0, elem_id="tune-judges"
            )
            self.measuring = markup(label="Measuring")

    @property
    def repeat_outputs(self) -> list[Any]:
        """Which run is repeated, and what shows it."""
        return [self.repeated, self.repeat_box, self.repeating, self.goes_on]

    @property
    def plan_outputs(self) -> list[Any]:
        return [self.plan, self.knobs.minutes, self.dry, self.to_count]

    @property
    def run_inputs(self) -> list[Any]:
        return [*self.screen.inputs, *self.verdict.inputs, *self.past.inputs]

    @property
    def run_outputs(self) -> list[Any]:
        """The run on screen and everything below it: what `show` returns."""
        return [self.has, *self.screen.outputs, *self.verdict.outputs, *self.past.outputs, self.measuring]

    @property
    def again_inputs(self) -> list[Any]:
        k = self.knobs
        state = [self.shown, self.key, self.offered, self.moved, self.has]
        return [*state, k.method, k.data, k.base, *self.run_inputs]

    @property
    def again_outputs(self) -> list[Any]:
        k = self.knobs
        state = [self.offered, self.shown, self.key, self.moved, self.telling.box]
        return [k.data, k.base, k.methods, *state, *self.run_outputs]

    # -- what there is ------------------------------------------------------------------------------------------

    def show(
        self, run: str, smoothing: float, look: str | None, offered: str, painted: str, *of_past: str
    ) -> list[Any]:
        """The run on screen, its verdict, the queue, the runs and the comparison."""
        return ["", *self._shown(tuning_runs(self.store), run, smoothing, look, offered, painted, *of_past)]

    def _shown(
        self,
        jobs: Sequence[Job],
        run: str,
        smoothing: float,
        look: str | None,
        offered: str,
        painted: str,
        *of_past: str,
    ) -> list[Any]:
        screen, verdict = self.screen.show(run, smoothing, look, offered), self.verdict.show(run, painted)
        return [*screen, *verdict, *self.past.show(jobs, run, *of_past), self._measuring()]

    def again(
        self,
        run: str,
        key: str,
        offered: str,
        moved: str,
        has: str,
        method: str,
        data: str | None,
        base: str | None,
        *of_run: Any,
    ) -> list[Any]:
        """The page as the database has it now. Runs outside the queue, so it does not raise. Lists stay as they are
        while their choices do: a step of a run must not close one that somebody has open. What the page has already is
        not sent again: `has` names the parts that the look before this one left on it."""
        try:
            change, state = self.store.change_token(), self.store.state_token()
            jobs = self._once((change,), lambda: tuning_runs(self.store))
            run_now = run or _newest(jobs)
            there, known = snapshots(self.workspace), bases(self.workspace)
            now = str(hash((*there, *known, self.knobs.weights(base or "") is not None)))
            lists: list[Any] = [gr.skip()] * 3
            if now != offered:
                taught = data if data in there else next(iter(there), None)
                learner = base if base in {ref for _, ref in known} else str(EMBEDDED)
                lists = [
                    gr.Dropdown(choices=there, value=taught),
                    gr.Dropdown(choices=known, value=learner),
                    self.knobs.method_list(method, learner or ""),
                ]
            moved_now = f"{state} {run_now}"
            boxes = [(offered, now), (run, run_now), (key, key or secrets.token_hex(8)), (moved, moved_now)]
            state_boxes = [gr.skip() if old == new else new for old, new in boxes]
            told = gr.skip() if moved == moved_now else self.telling.told(jobs)
            parts = self._once((change, run_now, *of_run), lambda: _named(self._shown(jobs, run_now, *of_run)))
            return [*lists, *state_boxes, told, *_news(parts, has)]
        except StudioError:
            return [gr.skip()] * len(self.again_outputs)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """Rows of jobs, and what is drawn from them, for all the pages that look before the next change of any job:
        twenty people who watch a run cost little more than one. A key begins with the change token, read before the rows
        are, so that what is kept is never older than its key."""
        found = self._looks.get(key)
        if found is None:
            found = self._looks[key] = make()
            for old in list(self._looks)[:-_LOOKS_KEPT]:
                self._looks.pop(old, None)
        return found

    def look(self, *values: Any) -> list[Any]:
        """The pre-flight as far as it is known now, and what has to be counted to know the rest."""
        try:
            task = self._task(values)
        except InputError as error:
            return [notice(str(error), "caution"), "", gr.Button(visible=False), ""]
        if task is None:
            return [self._nothing_to_learn(), "", gr.Button(visible=False), ""]
        w = self.workspace
        found = preflight(w.store, w.path, task, w.settings)
        tokens = found.figure("Learned tokens")
        can_count = tokens is not None and tokens.confidence == "about" and found.can_be_counted
        # New each time: what could not be counted is tried again when the form next changes.
        return [*self._planned(task, found), f"{task.data} {task.base} {secrets.token_hex(4)}" if can_count else ""]

    def count(self, to_count: str) -> str:
        """Has the tokens of a snapshot counted for a model, which takes seconds while the engine starts: the form goes on
        meanwhile. What it returns is new, so that the plan is made again, with whatever the form says then."""
        if not to_count:
            return gr.skip()  # type: ignore[no-any-return]
        data, base, _ = to_count.split(" ")
        w = self.workspace
        try:
            count_now(w.store, w.path, SnapshotRef(data), ModelRef(base), w.settings, w.engine)
        except StudioError as error:  # not raised: an event that fails drops the one that waits behind it
            gr.Warning(str(error))
            return gr.skip()  # type: ignore[no-any-return]
        return secrets.token_hex(4)

    def _planned(self, task: Tuning, found: Preflight) -> list[Any]:
        can_measure = not found.blocks and not any(f.confidence == "measured" for f in found.figures)
        minutes = self.knobs.minutes_of(task, found.seconds)
        return [preflight_card(found), minutes, gr.Button(visible=can_measure)]

    def _task(self, values: tuple[Any, ...]) -> Tuning | None:
        """What the form says; None while there is nothing to learn from."""
        has_data = bool(values[self.knobs.inputs.index(self.knobs.data)])
        has_base = bool(values[self.knobs.inputs.index(self.knobs.base)])
        return self.knobs.read(values) if has_data and has_base else None

    def _nothing_to_learn(self) -> str:
        if self.store.snapshots("data"):
            return ""
        return notice("There is no snapshot to learn from yet. Freeze a dataset under Dataset first.")

    def _measuring(self) -> str:
        """How far the newest dry run is, while it goes on, or why it ended without a result."""
        job = next(iter(self.store.jobs(limit=1, kinds={DryRun.kind})), None)
        if job is None or job.state in ("done", "cancelled"):
            return ""
        if job.error:
            return notice(f"Run {job.id} could not measure: {job.error}", "bad")
        far = f", step {job.step} of {job.total}" if job.total else ""
        return notice(f"Run {job.id} measures{far}: {job.message or job.state}")

    # -- what a person does -------------------------------------------------------------------------------------

    def begin(
        self, request: gr.Request, key: str, repeated: str, goes_on: bool, judges: bool, *values: Any
    ) -> list[Any]:
        """Queue the run that the form describes, unless something stands in its way. A form that was filled from a run
        makes a repetition of that one, whose manifest says what was changed."""
        task = self.knobs.read(values)
        ready(self.store, self.workspace.path, task, self.workspace.settings)
        by, before = user_of(request), self.screen.job(repeated) if repeated else None
        if before is not None and before.kind == task.kind:
            changes = {name: now for name, (_, now) in changed_knobs(before, task).items()}
            job = self._again(before, changes, key, by, goes_on)
        else:
            job = self.workspace.queue(task, author=by, client_key=key or None)
        if judges:
            judge_after(self.store, job, author=by)
        return [secrets.token_hex(8), str(job.id), *_repeats_nothing()]

    def run_again(self, request: gr.Request, key: str, judges: bool, run: str) -> list[Any]:
        """The same once more, as a run of its own."""
        ready(self.store, self.workspace.path, self._told_then(run), self.workspace.settings)
        by = user_of(request)
        job = self._again(self.screen.job(run), {}, key, by)
        if judges:
            judge_after(self.store, job, author=by)
        return [secrets.token_hex(8), str(job.id)]

    def _again(self, job: Job, changes: Mapping[str, Any], key: str, by: str, goes_on: bool = False) -> Job:
        place = self.workspace
        return again(place.store, place.path, job.id, changes, by=by, goes_on=goes_on, client_key=key or None)

    def with_changes(self, run: str) -> list[Any]:
        """The form as that run was told, open for changes."""
        job, task = self.screen.job(run), self._told_then(run)
        task.check(self.store)
        can_go_on = job.is_over and job.state != "done" and self._has_checkpoint(job)
        said = notice(f"The form is filled from run {job.id}. Change what should be different, then start.")
        repeat = [str(job.id), gr.Row(visible=True), said, gr.Checkbox(value=False, visible=can_go_on)]
        return [*self.knobs.show(task), gr.Accordion(open=True), *repeat]

    def _has_checkpoint(self, job: Job) -> bool:
        return Checkpoints(run_folder(self.workspace.path, job.id)).any_saved()

    def _told_then(self, run: str) -> Tuning:
        job = self.screen.job(run)
        task = task_from(job.kind, job.task)
        assert isinstance(task, Tuning)  # the screen shows no other runs
        return task

    def measure(self, request: gr.Request, *values: Any) -> list[str]:
        """Queue the dry run of what the form describes."""
        task = DryRun.of(self.knobs.read(values))
        self.workspace.queue(task, author=user_of(request))
        return ["", self._measuring()]

    def write_note(self, request: gr.Request, run: str, text: str) -> list[str]:
        return [self.screen.write_note(run, text, user_of(request)), ""]

    def act(self, action: str, request: gr.Request, run: str, *of_run: Any) -> list[Any]:
        self.screen.act(run, action, user_of(request))
        return self.show(run, *of_run)

    def judge(self, request: gr.Request, run: str, *of_run: Any) -> list[Any]:
        self.verdict.start(run, user_of(request))
        return self.show(run, *of_run)

    def check_same(self, request: gr.Request, run: str, *of_run: Any) -> list[Any]:
        self.verdict.check_same(run, user_of(request))
        return self.show(run, *of_run)

    def order(self, event: gr.EventData, request: gr.Request, run: str, *of_run: Any) -> list[Any]:
        self.past.order(event, user_of(request))
        return self.show(run, *of_run)


def _newest(jobs: Sequence[Job]) -> str:
    """The run to show when nobody chose one: the one at work, or else the next in line, or else the last one."""
    active = [job for job in jobs if job.is_active or job.state == "queued"]
    shown = active[-1:] or jobs[:1]
    return str(shown[0].id) if shown else ""


def _named(parts: Sequence[Any]) -> list[tuple[str, Any]]:
    """Each part of the page with a short name that is another when the part is."""
    return [(f"{zlib.crc32(repr(getattr(part, 'constructor_args', part)).encode()):x}", part) for part in parts]


def _news(parts: Sequence[tuple[str, Any]], has: str) -> list[Any]:
    """The names of all parts, and of the parts those that the page does not have."""
    had = has.split()
    if len(had) != len(parts):  # nothing is there yet, or a press has drawn it
        had = ["-"] * len(parts)
    pairs = list(zip(parts, had, strict=True))
    now = " ".join(old if part == gr.skip() else name for (name, part), old in pairs)
    return [gr.skip() if now == has else now, *(gr.skip() if name == old else part for (name, part), old in pairs)]


def _repeats_nothing() -> list[Any]:
    """The form stands for itself again."""
    return ["", gr.Row(visible=False), "", gr.Checkbox(value=False)]


def _wire_start(page: _Page, start: gr.Button) -> None:
    knobs = page.knobs
    told: list[Any] = knobs.inputs
    start.click(
        handler(page.begin),
        [page.key, page.repeated, page.goes_on, page.judges, *told],
        [page.key, page.shown, *page.repeat_outputs],
        validator=after_key(knobs.validator(), before=4),
        api_name="begin_tuning",
        api_visibility="private",
    )
    gr.on(
        [widget.change for widget in (knobs.method, knobs.base, knobs.effort)],
        handler(knobs.choice),
        [knobs.method, knobs.base, knobs.effort],
        knobs.choice_outputs,
        trigger_mode="multiple",  # the plan listens to the same boxes, and only one listener may wait its turn
        api_name="choose",
        **_QUIET,
    )
    gr.on(
        [widget.change for widget in (page.moved, page.counted, *told)],
        handler(page.look),
        told,
        page.plan_outputs,
        trigger_mode="always_last",
        api_name="plan",
        **_QUIET,
    )
    page.to_count.change(
        handler(page.count), page.to_count, page.counted, trigger_mode="always_last", api_name="count_tokens", **_QUIET
    )
    knobs.methods.pick(handler(_picked), None, knobs.method, api_name="choose_method", **_QUIET)
    page.forget.click(handler(_repeats_nothing), None, page.repeat_outputs, api_name="forget_repeat", **_QUIET)
    page.dry.click(handler(page.measure), knobs.inputs, [page.has, page.measuring], api_name="measure_first", **_QUIET)


def _wire_run(page: _Page) -> None:
    screen = page.screen
    given = [page.shown, *page.run_inputs]
    for name, button in screen.actions.items():
        button.click(handler(partial(page.act, name)), given, page.run_outputs, api_name=f"{name}_run", **_QUIET)
    page.shown.change(handler(page.show), given, page.run_outputs, api_name="show_run", **_QUIET)
    page.shown.change(None, page.shown, None, js=mark_row("tuning-runs"), trigger_mode="multiple", **_QUIET)
    screen.again.click(
        handler(page.run_again),
        [page.key, page.judges, page.shown],
        [page.key, page.shown],
        api_name="run_again",
        **_QUIET,
    )
    screen.change.click(
        handler(page.with_changes),
        page.shown,
        [*page.knobs.inputs, page.knobs.advanced, *page.repeat_outputs],
        api_name="run_with_changes",
        **_QUIET,
    ).success(None, None, None, js=_TO_THE_TOP, api_visibility="private")
    saved = screen.manifest.click(
        handler(screen.manifest_file), page.shown, screen.file, api_name="run_manifest", **_QUIET
    )
    hand_over(saved, screen.file)
    carried = screen.model.click(handler(screen.model_file), page.shown, screen.file, api_name="run_model", **_QUIET)
    hand_over(carried, screen.file)
    for trigger, name in ((screen.add_note.click, "add_note"), (screen.note.submit, "submit_note")):
        trigger(
            handler(page.write_note), [page.shown, screen.note], [screen.notes, screen.note], api_name=name, **_QUIET
        )
    screen.smoothing.change(
        handler(screen.redraw),
        [page.shown, screen.smoothing],
        screen.curve,
        trigger_mode="always_last",
        api_name="smooth",
        **_QUIET,
    )
    screen.look.change(
        handler(screen.answers_at),
        [page.shown, screen.look],
        screen.samples,
        trigger_mode="always_last",
        api_name="choose_look",
        **_QUIET,
    )


def _wire_verdict(page: _Page) -> None:
    verdict = page.verdict
    given = [page.shown, *page.run_inputs]
    verdict.judge.click(handler(page.judge), given, page.run_outputs, api_name="judge_run", **_QUIET)
    verdict.check.click(handler(page.check_same), given, page.run_outputs, api_name="check_same", **_QUIET)
    verdict.by.input(
        handler(verdict.first_of),
        [page.shown, verdict.by],
        verdict.text_outputs,
        api_name="sift_verdict",
        **_QUIET,
    )
    verdict.more.click(
        handler(verdict.more_of),
        [page.shown, verdict.by, verdict.count],
        verdict.text_outputs,
        api_name="more_of_verdict",
        **_QUIET,
    )


def _wire_past(page: _Page) -> None:
    past = page.past
    given = [page.shown, *page.run_inputs]
    past.rows.pick(handler(_picked), None, page.shown, api_name="open_run", **_QUIET)
    past.queue.pick(handler(_picked), None, page.shown, api_name="open_waiting", **_QUIET)
    past.queue.act(handler(page.order), given, page.run_outputs, api_name="order_queue", **_QUIET)
    # The last of two quick ticks has both: "once" would drop it.
    past.rows.tick(handler(_picked), None, past.ticked, api_name="tick_runs", trigger_mode="always_last", **_QUIET)
    gr.on(
        [past.ticked.change, past.measure.change, past.painted.change],
        handler(past.compare),
        [past.ticked, past.measure],
        past.compare_outputs,
        trigger_mode="always_last",
        api_name="compare_runs",
        **_QUIET,
    )


def _picked(event: gr.EventData) -> str:
    return picked(event)
