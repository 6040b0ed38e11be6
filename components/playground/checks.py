"""Checks: does a prompt help here, how fragile is it, is there a better one.

One form serves the three questions, since they are asked of the same things: a prompt, a model, rows of an open set. A
check is a job and goes on when the page is closed. The page keeps the number of the open check and tokens of what was
painted; everything else is read from the database.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import api
from pydantic import ValidationError

from components.frame import Refresh, TabWidgets, card, empty_state, handler, live_dropdown, markup, notice, user_of
from components.picking import pick_list, picked
from components.playground.checks_report import (
    QUESTIONS,
    UNREADABLE,
    answers_html,
    going_html,
    nothing_html,
    past_html,
    plan_html,
    report_html,
)
from components.playground.editor import prompt_choices
from studio.errors import InputError, StudioError
from studio.evaluation.metrics import metric_kinds
from studio.example import EXAMPLE, load_example
from studio.fields import complaints
from studio.jobs import legal_actions, perform
from studio.models import EMBEDDED
from studio.prompts import find_template, templates
from studio.prompts.fragility import Change, Fragility, FragilityPlan, fragility_of, fragility_plan, fragility_words
from studio.prompts.helps import Helps, help_of, help_plan, help_verdict
from studio.prompts.proposal import propose
from studio.prompts.search import Search, SearchPlan, save_winner, search_of, search_plan, search_verdict
from studio.prompts.selectors import selectors
from studio.prompts.techniques import techniques
from studio.prompts.told import asked_twice, seconds_a_call
from studio.prompts.trials import Plan, check_set
from studio.store import Job, Store
from studio.workspace import Workspace

__all__ = ["ChecksWidgets", "build"]

log = logging.getLogger(__name__)

Check = Helps | Fragility | Search

_KINDS: Mapping[str, type[Check]] = {Helps.kind: Helps, Fragility.kind: Fragility, Search.kind: Search}
_LIVE = ("template", "model", "evaluation", "examples", "held_out", "plain", "selector")  # their choices come from rows
_LISTS = ("instructions", "labels")  # one a line
_NO_SETS = "none"  # the token of the choices while there is nothing to choose from
_PAST = 30
_ENOUGH_ROWS = 50  # below that nothing is decided
_FIXED = ("random", "fixed")  # selectors that show every row the same examples
_CHANGES: tuple[tuple[str, Change], ...] = (
    ("Order of its examples", "order"),
    ("Wording of its instruction", "wording"),
    ("Answers of its examples shuffled", "labels"),
    ("One example less", "drop"),
)


@dataclass(frozen=True, kw_only=True)
class ChecksWidgets(TabWidgets):
    """`check` holds the number of the open check, which is a job's. `take` puts a prompt and its examples into the form."""

    check: gr.Textbox
    take: Refresh


def build(workspace: Workspace) -> ChecksWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_form(page)
    _wire_checks(page)
    _serve(page)
    return ChecksWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"check": page.check},
        check=page.check,
        take=Refresh(page.take, [page.painted], page.taken),
    )


@dataclass(frozen=True)
class _Painted:
    """What is on the page, so that what did not move is left alone: an open list stays open, a reader keeps their place."""

    lists: str = ""
    question: str = ""
    check: str = ""
    report: str = ""
    past: str = ""

    @classmethod
    def read(cls, text: str) -> _Painted:
        parts = text.split("\n")
        return cls(*parts) if len(parts) == 5 else cls()

    def __str__(self) -> str:
        return "\n".join((self.lists, self.question, self.check, self.report, self.past))


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.question = gr.Radio(
            [(words, kind) for kind, words in QUESTIONS.items()],
            value=Helps.kind,
            label="What to check",
            show_label=False,
            container=False,
            elem_classes=["check-question"],
            elem_id="check-question",
        )
        self.check, self.painted, self.key = (
            gr.Textbox("", label=label, visible="hidden")
            for label in ("Open check", "Checks painted", "Key of the next check")
        )
        self.empty = empty_state(
            "There is no open set to check prompts on. Freeze a dataset under Dataset, and its validation rows are one.",
            "Try it with the example",
            visible=False,
        )
        with card(elem_classes=["checks-form"]) as self.form:
            self.fields: dict[str, Any] = self._lay_out_fields()
            self.plan = markup(label="What the check would take", elem_id="check-plan")
            self.start = gr.Button(
                "Start the check", variant="primary", scale=0, elem_id="start-check", elem_classes=["ctrl-enter"]
            )
        with gr.Row(elem_classes=["check-now"], visible=False) as self.act:
            self.now = markup(label="How far the check is")
            self.cancel = gr.Button("Cancel", variant="stop", min_width=90, scale=0, elem_id="cancel-check")
            self.name = gr.Textbox("", label="Name of the prompt", max_lines=1, min_width=200)
            self.save = gr.Button("Save as a prompt", min_width=140, scale=0, elem_id="save-found-prompt")
        self.report = markup(label="Report of the check", elem_id="check-report")
        self.answers = markup(label="Wins and losses of the check", elem_id="check-answers")
        self.past = pick_list("Past checks", elem_id="past-checks")

    def _lay_out_fields(self) -> dict[str, Any]:
        """Widgets by the name of the field they fill in; which are seen depends on the question."""
        made: dict[str, Any] = {
            "template": live_dropdown([], label="Prompt to check", elem_id="check-template"),
            "technique": gr.Dropdown(
                [("As the prompt was written", ""), *((t.title, name) for name, t in techniques().items())],
                value="",
                label="Technique to check",
            ),
            "plain": live_dropdown([], label="Plain prompt"),
            "model": live_dropdown([], label="Model to check with", elem_id="check-model"),
            "evaluation": live_dropdown([], label="Open set", elem_id="check-set"),
            "held_out": live_dropdown([], label="Held-out set", visible=False),
            "examples": live_dropdown([], label="Take examples from"),
            "rows": gr.Number(
                _ENOUGH_ROWS, label="Rows to ask", precision=0, info="0 for all. Under 50 decide nothing."
            ),
            "trials": gr.Number(16, label="Trials", precision=0, info="Prompts tried beside the start.", visible=False),
            "shots": gr.Textbox(
                label="Numbers of examples", placeholder="As the start, or 0, 2, 4, or 0-4", max_lines=1, visible=False
            ),
            "sets": gr.Number(8, label="Example sets", precision=0, info="Different draws of examples.", visible=False),
            "changes": gr.CheckboxGroup(
                list(_CHANGES),
                value=[change for _, change in _CHANGES],
                label="What is changed",
                visible=False,
                elem_classes=["wide"],
            ),
            "instructions": gr.Textbox(
                label="Instructions to try",
                placeholder="One a line. Each stands in place of the prompt's system part.",
                lines=3,
                max_lines=10,
                visible=False,
                elem_classes=["wide"],
            ),
            "labels": gr.Textbox(
                label="Labels to choose from",
                placeholder="One a line, or nothing: then answers are written.",
                lines=2,
                max_lines=6,
                visible=False,
            ),
            "rewords": gr.Checkbox(True, label="Try small rewordings too", visible=False),
        }
        with gr.Accordion("More about the check", open=False, elem_classes=["more"]):
            made |= {
                "selector": live_dropdown([], label="Examples are chosen"),
                "metric": gr.Dropdown(
                    [
                        ("The set's rules, or exact match", ""),
                        *((kind.title, name) for name, kind in metric_kinds().items() if not kind.asks),
                    ],
                    value="",
                    label="Score by",
                ),
                "max_tokens": gr.Number(110, label="Longest answer of the check", precision=0, info="In tokens."),
                "seed": gr.Number(0, label="Seed of the check", precision=0),
                "guidelines": gr.Textbox(
                    label="Guidelines to check with",
                    lines=2,
                    max_lines=8,
                    elem_classes=["wide"],
                ),
            }
        return made

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def asked(self) -> list[Any]:
        """Inputs of `plan_of`, and the last ones of `begin`."""
        return [self.question, *self.fields.values()]

    @property
    def seen(self) -> list[Any]:
        """Outputs of `_seen`."""
        return [self.act, self.now, self.cancel, self.name, self.save, self.report]

    @property
    def look_inputs(self) -> list[Any]:
        chosen = [self.fields[name] for name in _LIVE]
        return [self.check, self.painted, self.key, self.question, *chosen]

    @property
    def look_outputs(self) -> list[Any]:
        around = [self.empty.box, self.empty.action, self.form, self.past]
        return [self.check, self.painted, self.key, self.question, *self.fields.values(), *around, *self.seen]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(self, check: str, painted: str, key: str, question: str, *chosen: Any) -> list[Any]:
        """The page as the database has it now; what somebody chose or typed stays. Runs outside the queue: never raises."""
        try:
            return self._looked(check, _Painted.read(painted), key, question, dict(zip(_LIVE, chosen, strict=True)))
        except StudioError as error:
            log.warning("The checks could not be brought up to date: %s", error)
            return [gr.skip() for _ in self.look_outputs]

    def _looked(self, check: str, before: _Painted, key: str, question: str, chosen: Mapping[str, Any]) -> list[Any]:
        jobs, named, asked = self.store.jobs(limit=_PAST, kinds=set(_KINDS)), check, question
        job, trouble = self._opened(check, jobs, is_first=not before.question)
        if job is not None and str(job.id) != before.check:
            question = job.kind
        check = str(job.id) if job is not None else check
        fields = {name: self._of_question(name, question, before.question) for name in self.fields}
        sets = self._open_sets()
        lists, updates = self._lists(question, sets, before.lists, chosen)
        for name, update in updates.items():
            fields[name] |= update
        report = f"{question} {job.id} {job.change}" if job is not None else f"{question} {check} {bool(sets)}"
        past = f"{check} {[(j.id, j.change) for j in jobs]}"
        return [
            gr.skip() if check == named else check,
            str(_Painted(lists, question, check, report, past)),
            gr.skip() if key else secrets.token_hex(8),
            gr.skip() if question == asked else question,
            *(gr.update(**update) if update else gr.skip() for update in fields.values()),
            *(self._frame(bool(sets)) if lists != before.lists else [gr.skip()] * 3),
            past_html(self.store, jobs, check) if past != before.past else gr.skip(),
            *(
                self._seen(job, trouble or (nothing_html(question) if sets else ""))
                if report != before.report
                else [gr.skip() for _ in self.seen]
            ),
        ]

    def _opened(self, check: str, jobs: Sequence[Job], *, is_first: bool) -> tuple[Job | None, str]:
        """The check that the page or its address names, or why there is none (HTML); at first the one at work, or the newest."""
        if check:
            try:
                return self._job(check), ""
            except InputError as error:
                return None, notice(str(error), "bad")
        if is_first:
            return next((j for j in jobs if not j.is_over), next(iter(jobs), None)), ""
        return None, ""

    def _job(self, check: str) -> Job:
        """The check with this number. Raises InputError, NotFound among them."""
        if not check.isdecimal() or len(check) > 9:
            raise InputError(
                f"'{check[:40]}' is not the number of a check. The list at the end of the page shows them."
            )
        job = self.store.job(int(check))
        if job.kind not in _KINDS:
            raise InputError(f"Job {check} is no check of a prompt. The list at the end of the page shows them.")
        return job

    def _of_question(self, name: str, question: str, before: str) -> dict[str, Any]:
        """Whether the question has this field; nothing while the question stays the same."""
        return {} if question == before else {"visible": name in _KINDS[question].model_fields}

    def _lists(
        self, question: str, sets: Sequence[str], before: str, chosen: Mapping[str, Any]
    ) -> tuple[str, dict[str, dict[str, Any]]]:
        """A token of the choices, and updates where they moved. What was chosen stays unless it is gone."""
        if not sets:  # the form is out of sight, and nothing is chosen in it for anybody
            return _NO_SETS, {}
        offers = self._offers(question, sets, chosen)
        token = str(hash(tuple((name, *choices) for name, choices in offers.items())))
        if token == before:
            return token, {}
        is_first = before in ("", _NO_SETS)
        found = propose(self.store)
        fitting = {
            "template": "few-shot" if found.examples else "zero-shot",
            "model": str(EMBEDDED),
            "evaluation": found.development,
            "examples": found.examples,
            "held_out": "",
            "plain": "plain",
            "selector": "random",
        }
        updates = {name: _offered(choices, chosen[name], fitting[name], is_first) for name, choices in offers.items()}
        if is_first and found.guidelines:
            updates["guidelines"] = {"value": found.guidelines}
        return token, updates

    def _offers(
        self, question: str, sets: Sequence[str], chosen: Mapping[str, Any]
    ) -> dict[str, list[tuple[str, str]]]:
        """The choices of the lists that come from rows."""
        prompts, sources = prompt_choices(self.store, templates()), _sources(self.store)
        return {
            "template": _with_older(self.store, prompts, chosen["template"]),
            "model": [(offer.label, str(offer.ref)) for offer in self.workspace.offers()],
            "evaluation": [(ref, ref) for ref in sets],
            "examples": [("None" if sources else "None yet: fill a bank under Examples", ""), *sources],
            "held_out": [("Half of the open set, by hash", ""), *((ref, ref) for ref in sets)],
            "plain": _with_older(self.store, prompts, chosen["plain"]),
            "selector": [(kind.title, n) for n, kind in selectors().items() if question == Helps.kind or n in _FIXED],
        }

    def _open_sets(self) -> list[str]:
        """Sets that prompts may be tried on; none that judges."""
        refs = [s.ref for kind in ("eval", "data") for s in self.store.snapshots(kind)]
        return [str(ref) for ref in refs if _is_open(self.store, ref)]

    def _frame(self, has_sets: bool) -> list[Any]:
        """The empty state, its button and the form."""
        names = {dataset.name for dataset in self.store.datasets()}
        can_load = not names or EXAMPLE in names
        return [
            gr.Column(visible=not has_sets),
            gr.Button(visible=can_load),
            gr.Column(visible=has_sets),
        ]

    def _seen(self, job: Job | None, instead: str) -> list[Any]:
        """What goes on, what can be done with it, and the report, or what stands in its place."""
        if job is None:
            return [gr.Row(visible=False), "", *[gr.skip()] * 3, instead]
        can_cancel = "cancel" in legal_actions(job, self.workspace.path)
        can_save = self._has_winner(job)
        now = going_html(job) if not job.is_over else _KEEP if can_save else ""
        return [
            gr.Row(visible=bool(now)),
            now,
            gr.Button(visible=can_cancel and not job.is_over),
            gr.update(visible=can_save, **({"value": _fitting_name(job)} if can_save else {})),
            gr.Button(visible=can_save),
            report_html(self.store, job),
        ]

    def _has_winner(self, job: Job) -> bool:
        """A start that nothing beat is there already."""
        return job.kind == Search.kind and bool((job.result or {}).get("best"))

    # -- what a person does --------------------------------------------------------------------------------------

    def switch(self, question: str) -> str:
        """Another question: its newest check, or none."""
        return next((str(job.id) for job in self.store.jobs(limit=1, kinds={question})), "")

    def open(self, event: gr.EventData) -> str:
        """A check of the list."""
        return str(self._job(picked(event)).id)

    def plan_of(self, question: str, *values: Any) -> str:
        """What the check would take, or what speaks against it."""
        try:
            return self._planned(self._read(question, values))
        except StudioError as error:
            return notice(str(error), "caution")

    def begin(self, request: gr.Request, key: str, question: str, *values: Any) -> list[Any]:
        """Queue the check; gives its number and the key of the next one. What speaks against it is said in its place, and
        the form stays as it is."""
        try:
            task = self._read(question, values)
            plan = self._planned(task)  # tells more than queueing: whether examples and rows are enough, and apart
            job = self.workspace.queue(task, author=user_of(request), client_key=key or None)
        except InputError as error:
            return [gr.skip(), gr.skip(), notice(str(error), "caution")]
        return [str(job.id), secrets.token_hex(8), plan]

    def stop(self, request: gr.Request, check: str) -> None:
        perform(self.store, self.workspace.path, self._job(check).id, "cancel", by=user_of(request))

    def keep(self, request: gr.Request, check: str, name: str) -> str:
        """Save the winner of a search. A name that cannot be is said beside it."""
        try:
            job = self._job(check)
            ref = save_winner(self.store, job.id, (name or "").strip(), author=user_of(request))
        except InputError as error:
            return notice(str(error), "caution")
        shown = len(search_of(self.store, job.id).examples)
        bank = (
            f" Its {shown} examples are the bank {ref.partition('@')[0]}; show them by the selector Fixed."
            if shown
            else ""
        )
        return notice(f"Saved as {ref}, to be chosen under Prompt.{bank}", "good")

    def told(self, check: str) -> str:
        """The rows where the two ways of a check differ, as far as their answers are remembered."""
        try:
            job = self._job(check)
            if job.kind != Helps.kind or job.state != "done":
                return ""
            found = help_of(self.store, job.id)
            return answers_html(asked_twice(self.workspace, job), found.difference.n)
        except StudioError as error:
            return notice(f"The answers themselves cannot be shown: {error}", "caution") if check else ""
        except UNREADABLE:
            return ""  # which the report says

    @property
    def taken(self) -> list[Any]:
        """Outputs of `take`."""
        return [self.question, self.fields["template"], self.fields["examples"], self.check, self.painted]

    def take(self, given: str, painted: str) -> list[Any]:
        """The form asks whether a prompt helps, with the examples it is shown with; no past check is open."""
        template, _, examples = given.partition(" ")
        # Not "", so that it is not the first look, which opens the newest check.
        anew = replace(_Painted.read(painted), question="none", check="", report="")
        return [Helps.kind, template, examples or gr.skip(), "", str(anew)]

    def load_example(self) -> str:
        """The example's sets are in; the page is painted anew."""
        load_example(self.store, self.workspace.path)
        return ""

    # -- from the form to a task ---------------------------------------------------------------------------------

    def _read(self, question: str, values: Sequence[Any]) -> Check:
        """The task people described. Raises InputError that names the widget."""
        given = dict(zip(self.fields, values, strict=True))
        return _task(question, given, {name: str(widget.label) for name, widget in self.fields.items()})

    def _planned(self, task: Check) -> str:
        return plan_html(_plan(task, self.store, self.workspace), seconds_a_call(self.store, task.model))


def _plan(task: Check, store: Store, workspace: Workspace) -> Plan | FragilityPlan | SearchPlan:
    """What a check takes; raises InputError where it cannot work."""
    match task:
        case Helps():
            return help_plan(task, store, workspace.path)
        case Fragility():
            return fragility_plan(task, store, workspace.path)
        case Search():
            return search_plan(task, store, workspace.path)


def _task(question: str, given: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Check:
    """The task with those of the given fields that it has. Raises InputError naming each field that cannot be used."""
    if question not in _KINDS:
        raise InputError(f"'{question}' is no check of a prompt. Choose one of: {', '.join(_KINDS)}.")
    kind = _KINDS[question]
    known = {name: _parsed(name, value) for name, value in given.items() if name in kind.model_fields}
    try:
        return kind.model_validate({name: value for name, value in known.items() if value is not None})
    except ValidationError as error:
        named = {name: str(info.title) for name, info in kind.model_fields.items()} | dict(labels or {})
        wrong = complaints(kind, error)
        raise InputError(
            " ".join(f"{named.get(name, name)}: {said.rstrip('.')}." for name, said in wrong.items())
        ) from error


def _parsed(name: str, value: Any) -> Any:
    """What was typed into one box, as the field takes it."""
    if name in _LISTS and isinstance(value, str):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    return _numbers(value) if name == "shots" and isinstance(value, str) else value


def _numbers(text: str) -> tuple[int, ...]:
    """'0, 2, 4' and '0-4' as numbers."""
    found: list[int] = []
    for part in re.split(r"[,;\s]+", re.sub(r"\s*[-–]\s*", "-", text).strip()):
        if not part:
            continue
        ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part)
        if ends is None or (ends[2] and int(ends[2]) < int(ends[1])):
            raise InputError(f"Numbers of examples: '{part[:40]}' is none. Write them like 0, 2, 4 or 0-4.")
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return tuple(found)


def _offered(choices: Sequence[tuple[str, str]], chosen: Any, fitting: str, is_first: bool) -> dict[str, Any]:
    """New choices. A value among them is left alone: since it was read, another hand may have changed it."""
    known = [ref for _, ref in choices]
    if chosen in known and not (is_first and not chosen):
        return {"choices": choices}
    return {"choices": choices, "value": fitting if fitting in known else next(iter(known), None)}


def _with_older(store: Store, prompts: Sequence[tuple[str, str]], chosen: Any) -> list[tuple[str, str]]:
    """The prompts to choose from, and the chosen one where it is a version that is not the newest."""
    if chosen and chosen not in {ref for _, ref in prompts}:
        with suppress(InputError):
            return [(f"{find_template(store, chosen).title} · {chosen}", chosen), *prompts]
    return list(prompts)


def _is_open(store: Store, ref: Any) -> bool:
    try:
        check_set(store, ref)
    except InputError:
        return False
    return True


def _sources(store: Store) -> list[tuple[str, str]]:
    """Where examples can come from: banks, then snapshots."""
    banks = [(f"Bank {bank.name} ({bank.on} on)", bank.name) for bank in store.banks()]
    return banks + [(str(s.ref), str(s.ref)) for s in store.snapshots("data")]


def _fitting_name(job: Job) -> str:
    return f"{str(job.task['template']).partition('@')[0]}-found"[:60]


_KEEP = '<p class="quiet">Keep the winner: its prompt, and its examples as a bank of the same name.</p>'


# -- wiring ----------------------------------------------------------------------------------------------------

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _look(page: _Page) -> dict[str, Any]:
    return {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs, **_QUIET}


def _wire_form(page: _Page) -> None:
    page.question.input(handler(page.switch), page.question, page.check, api_name="switch_question", **_QUIET).then(
        **_look(page)
    )
    # A text box also tells of `input`; listening to both would plan twice for every key.
    gr.on(
        [page.question.change, *(widget.change for widget in page.fields.values())],
        handler(page.plan_of),
        page.asked,
        page.plan,
        trigger_mode="always_last",
        api_name="plan_check",
        **_QUIET,
    )
    page.start.click(
        handler(page.begin),
        [page.key, *page.asked],
        [page.check, page.key, page.plan],
        api_name="begin_check",
        **_QUIET,
    ).success(**_look(page))
    page.empty.action.click(
        handler(page.load_example), None, page.painted, api_name="load_example_for_checks", api_visibility="private"
    ).then(**_look(page))


def _wire_checks(page: _Page) -> None:
    page.cancel.click(handler(page.stop), page.check, None, api_name="cancel_check", **_QUIET).then(**_look(page))
    page.save.click(handler(page.keep), [page.check, page.name], page.now, api_name="keep_winner", **_QUIET).then(
        **_look(page)
    )
    page.past.pick(
        handler(page.open), None, page.check, api_name="open_check", trigger_mode="always_last", **_QUIET
    ).then(**_look(page))
    # Behind the report: reading hundreds of answers takes a moment, and the verdict need not wait for it.
    page.report.change(
        handler(page.told), page.check, page.answers, trigger_mode="always_last", api_name="show_answers", **_QUIET
    )


# -- for scripts -----------------------------------------------------------------------------------------------


def _serve(page: _Page) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    workspace, store = page.workspace, page.store

    def start_prompt_check(request: gr.Request, question: str, fields: dict[str, Any]) -> int:
        """Queue a check; gives the number of its job."""
        task = _task(question, fields)
        _plan(task, store, workspace)
        return workspace.queue(task, author=user_of(request)).id

    def read_prompt_check(check: int) -> dict[str, Any]:
        """What a finished check found: its sentences, and its figures as the job has them."""
        job = page._job(str(check))
        return {"said": _sentences(store, job), "found": job.result or {}}

    def save_found_prompt(request: gr.Request, check: int, name: str) -> str:
        """Keep the winner of a finished search as a prompt; gives its reference."""
        return save_winner(store, page._job(str(check)).id, name, author=user_of(request))

    for fn in (start_prompt_check, read_prompt_check, save_found_prompt):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


def _sentences(store: Store, job: Job) -> list[str]:
    """Raises NotFound for a check without a result."""
    if job.kind == Helps.kind:
        verdict = help_verdict(help_of(store, job.id))
        return [verdict.sentence, verdict.cost, verdict.reading]
    if job.kind == Fragility.kind:
        return fragility_words(fragility_of(store, job.id))
    found = search_verdict(search_of(store, job.id))
    return [found.sentence, found.honesty]
