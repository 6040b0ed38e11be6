"""The Compare page: the base with its best prompt, a tuned model and an aligned one, on questions that none was chosen by.

Results are read, not kept: the page shows the comparison whose job id stands in a hidden box.
"""

from __future__ import annotations

import dataclasses
import html
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr
from gradio.events import api

from components.charts import RungPoint, compact, ladder_chart
from components.forms import Form, form
from components.frame import (
    Refresh,
    TabWidgets,
    chip,
    duration,
    empty_state,
    handler,
    live_dropdown,
    markup,
    notice,
    page_header,
    progress,
    rung_chip,
    section,
    user_of,
)
from components.picking import rows_to_read
from studio.errors import InputError, StudioError
from studio.evaluation import EvaluationItem, Interval
from studio.prompts import Compare, Comparison, RungRow, comparison, examples_of, template, templates
from studio.prompts.compare import AnswerPair
from studio.prompts.proposal import Options, Plan, comparisons, options, plan, propose, reward_of
from studio.prompts.verdict import SIFTS, Sift, Verdict, sift, signed, verdict
from studio.store import Evaluation, Job, ScoredItem
from studio.workspace import Workspace

__all__ = ["CompareWidgets", "build"]

_FIRST_PAIRS = 5
_MORE_PAIRS = 10
_ROW_WIDTHS = ("56px", "", "", "52px", "108px", "128px", "116px", "92px", "124px", "128px", "108px")
_MODELS = ("base", "tuned", "aligned", "reward")
_SETS = ("evaluation", "development", "examples")
_CHOOSERS = (*_MODELS, *_SETS)
_OPTIONAL = ("aligned", "reward")  # they may stay without a choice, and came to the form's API last
_TONES = {"tuning": "good", "prompt": "caution", "even": "", "few": "caution"}
_MARKS = {"tuning": "✓", "prompt": "✕", "even": "=", "few": "!"}


@dataclass(frozen=True, kw_only=True)
class CompareWidgets(TabWidgets):
    """`tuned`, `aligned` and `reward` are where another page may name what to compare."""

    start: gr.Button
    tuned: gr.Dropdown
    aligned: gr.Dropdown
    reward: gr.Dropdown
    shown: gr.Textbox


def build(workspace: Workspace) -> CompareWidgets:
    """The page, wired."""
    with page_header(
        "compare",
        "Is it worth it? The base with its best prompt, the tuned and the aligned model answer the same questions.",
    ):
        start = gr.Button("Compare", variant="primary", elem_id="start-compare")
    empty = empty_state(
        "There is no tuned model to compare yet. Tune one, then see here whether it beats the best prompt.",
        "Tune a model",
        visible=False,
    )
    with gr.Row(elem_classes=["off-screen"]):
        shown, key, offered, painted = (
            gr.Textbox("", label=label, visible="hidden")
            for label in ("Comparison shown", "Client key", "Choices offered", "Comparison painted")
        )
        limit = gr.Number(_FIRST_PAIRS, label="Answers shown", visible="hidden", precision=0)

    with gr.Column(elem_classes=["card"], visible=False) as asking:
        said = markup(label="What a comparison would do", elem_classes=["compare-plan"])
        fold = gr.Accordion("What to compare", open=False, elem_classes=["more"])
        with fold:
            knobs = _lay_out_form()
    with gr.Row(elem_classes=["compare-running"], visible=False) as running_row:
        running = markup(label="Progress")
        cancel = gr.Button("Cancel", variant="stop", scale=0, min_width=90)
    trouble = markup(label="What went wrong", visible=False)

    with gr.Column(elem_classes=["compare-results"], visible=False) as results:
        picker = live_dropdown([], label="Comparison", interactive=True, elem_classes=["compare-picker"])
        ruling = markup(label="Verdict")
        rows = markup(label="Comparison of the rungs")
        with gr.Accordion("Prompts that were tried for the base", open=False, elem_classes=["more"]):
            tried = markup(label="Prompts tried")
        section("Wins and losses", "the same question, both answers, and the rules they kept")
        held = gr.Radio([], label="Hold against each other", show_label=False, elem_classes=["sifts"])
        by = gr.Radio([], label="Show", show_label=False, elem_classes=["sifts"])
        pairs = markup(label="Answers side by side")
        more = gr.Button(f"Show {_MORE_PAIRS} more", scale=0, elem_classes=["show-more"])

    # -- what is shown -----------------------------------------------------------------------------------------

    frame_outputs = [running_row, running, trouble, results]
    result_outputs = [ruling, rows, tried, held, by, pairs, more, limit]
    shown_outputs = [shown, painted, picker, *frame_outputs, *result_outputs]

    def show(job_id: str, already: str, *, known: Sequence[Job] | None = None) -> list[Any]:
        jobs = comparisons(workspace.store) if known is None else known
        job = _job_to_show(workspace, job_id, jobs)
        read = _job_to_read(job, jobs)
        picked = gr.update(
            choices=[(_past(j), str(j.id)) for j in jobs if _is_found(j)], value=str(read.id) if read else None
        )
        now = f"{read.id}:{read.change}" if read else ""
        inside = [gr.skip()] * len(result_outputs) if already == now else _results(workspace, read)
        return [str(job.id) if job else "", now, picked, *_frame(workspace, job, jobs), *inside]

    def look(job_id: str, already: str, offer: str, client_key: str, *chosen: str) -> list[Any]:
        """Everything that may have moved; what did not is skipped, so that an open list stays open."""
        try:
            jobs = comparisons(workspace.store)
            choices = options(workspace.store)
            now = _offered(choices)
            if now == offer:
                filled: list[Any] = [gr.skip()] * (len(choosers) + 1)
            else:
                filled = _offer(workspace, choices, dict(zip(_CHOOSERS, chosen, strict=True)), offer)
            first = gr.Accordion(open=not any(_is_found(j) for j in jobs)) if not offer else gr.skip()
            has_models = bool(choices.tuned)
            return [
                *filled,
                now,
                client_key or secrets.token_hex(8),
                gr.Column(visible=not has_models),
                gr.Column(visible=has_models),
                gr.Button(interactive=has_models),
                first,
                *show(job_id, already, known=jobs),
            ]
        except StudioError as error:
            return [
                *[gr.skip()] * (len(look_outputs) - len(shown_outputs)),
                *_only_trouble(shown_outputs, trouble, error),
            ]

    choosers = [knobs.widgets[name] for name in _CHOOSERS]
    look_inputs = [shown, painted, offered, key, *choosers]
    look_outputs = [
        *choosers,
        knobs.widgets["guidelines"],
        offered,
        key,
        empty.box,
        asking,
        start,
        fold,
        *shown_outputs,
    ]

    # -- what a person does ------------------------------------------------------------------------------------

    def start_compare(
        base: str,
        tuned: str,
        evaluation: str,
        development: str,
        examples: str,
        guidelines: str,
        prompts: list[str],
        max_tokens: float,
        seed: float,
        client_key: str,
        request: gr.Request,
        aligned: str | None = None,
        reward: str | None = None,
    ) -> tuple[str, str]:
        """Queue a comparison; gives its job id and the client key for the next one."""
        fields = (
            base,
            tuned,
            evaluation,
            development,
            examples,
            guidelines,
            prompts,
            max_tokens,
            seed,
            aligned,
            reward,
        )
        job = workspace.queue(knobs.read(fields), author=user_of(request), client_key=client_key or None)
        return str(job.id), secrets.token_hex(8)

    def stop(job_id: str, request: gr.Request) -> None:
        active = _active(workspace, job_id, comparisons(workspace.store))
        if active is not None:
            workspace.store.request_job(active.id, "cancel", by=user_of(request))

    def say_plan(*values: Any) -> str:
        return _plan(workspace, knobs, values)

    def follow(tuned: str) -> list[str]:
        fitting = propose(workspace.store, tuned)
        return [getattr(fitting, name) for name in following]

    def follow_aligned(aligned: str) -> Any:
        return reward_of(workspace.store, aligned) if aligned else gr.skip()

    def hold(job_id: str, rungs: str) -> list[Any]:
        found = _held(workspace, _number(job_id), rungs)
        choices, first = _sifts(found)
        return [gr.Radio(choices, value=first), *_pairs_of(found, first, _FIRST_PAIRS), _FIRST_PAIRS]

    def show_pairs(job_id: str, rungs: str, sifted: Sift, count: float) -> list[Any]:
        return [*_pairs_of(_held(workspace, _number(job_id), rungs), sifted, int(count)), int(count)]

    following = [n for n in (*_CHOOSERS, "guidelines") if n != "tuned"]
    asked = dataclasses.replace(knobs, widgets={n: w for n, w in knobs.widgets.items() if n not in _OPTIONAL})
    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    look_now: dict[str, Any] = {"fn": handler(look), "inputs": look_inputs, "outputs": look_outputs, **quietly}
    start.click(
        handler(start_compare),
        [*asked.inputs, key, *(knobs.widgets[name] for name in _OPTIONAL)],
        [shown, key],
        validator=asked.validator(),
        api_name="start_compare",
        show_progress="hidden",
    ).success(**look_now)
    cancel.click(handler(stop), shown, None, **quietly).then(**look_now)
    empty.action.click(None, None, None, js="() => document.getElementById('tab-tuning-button')?.click()")
    gr.on(
        [w.change for w in knobs.widgets.values()],  # type: ignore[attr-defined]
        handler(say_plan),
        knobs.inputs,
        said,
        queue=False,
        trigger_mode="always_last",
        **quietly,
    )
    knobs.widgets["tuned"].input(  # type: ignore[attr-defined]
        handler(follow),
        knobs.widgets["tuned"],
        [knobs.widgets[n] for n in following],
        **quietly,
    )
    knobs.widgets["aligned"].input(  # type: ignore[attr-defined]
        handler(follow_aligned), knobs.widgets["aligned"], knobs.widgets["reward"], **quietly
    )
    picker.input(handler(lambda job_id: show(job_id, "")), picker, shown_outputs, **quietly)
    held.input(handler(hold), [picker, held], [by, pairs, more, limit], **quietly)
    by.input(
        handler(lambda job_id, rungs, sifted: show_pairs(job_id, rungs, sifted, _FIRST_PAIRS)),
        [picker, held, by],
        [pairs, more, limit],
        **quietly,
    )
    more.click(
        handler(lambda job_id, rungs, sifted, n: show_pairs(job_id, rungs, sifted, n + _MORE_PAIRS)),
        [picker, held, by, limit],
        [pairs, more, limit],
        **quietly,
    )

    def comparison_table(job: int) -> dict[str, Any]:
        """What a finished comparison found: the verdict and one row per rung."""
        found = comparison(workspace.store, job)
        ruling = verdict(found)
        return {
            "job": job,
            "evaluation": found.snapshot,
            "outcome": ruling.outcome,
            "verdict": f"{ruling.sentence} {ruling.reason}",
            "alignment": ruling.alignment,
            "reward": found.reward,
            "rule": found.rule,
            "simulated": found.simulated,
            "rows": [dataclasses.asdict(row) for row in found.rows],
        }

    api(handler(comparison_table), api_name="comparison_table")

    return CompareWidgets(
        refresh=Refresh(look, look_inputs, look_outputs),
        links={"job": shown},
        start=start,
        tuned=knobs.widgets["tuned"],  # type: ignore[arg-type]
        aligned=knobs.widgets["aligned"],  # type: ignore[arg-type]
        reward=knobs.widgets["reward"],  # type: ignore[arg-type]
        shown=shown,
    )


# -- the form --------------------------------------------------------------------------------------------------


def _lay_out_form() -> Form[Compare]:
    """Models and sets in two rows, the rest folded. What was chosen is checked by the task."""

    def chooser(name: str) -> gr.Dropdown:
        field = Compare.model_fields[name]
        return live_dropdown(
            [],
            label=field.title,
            info=field.description,
            interactive=True,
            min_width=200,
            elem_id=f"compare-{name}",
        )

    with gr.Row(elem_classes=["form-row", "compare-models"]):
        given: dict[str, Any] = {name: chooser(name) for name in _MODELS}
    with gr.Row(elem_classes=["form-row"]):
        given |= {name: chooser(name) for name in _SETS}
    with gr.Accordion("More settings", open=False, elem_classes=["more"]):
        tries = Compare.model_fields["templates"]
        given["templates"] = gr.CheckboxGroup(
            [(t.title, t.name) for t in templates().values()],
            value=list(tries.default),
            label=tries.title,
            info=tries.description,
        )
        told = Compare.model_fields["guidelines"]
        given["guidelines"] = gr.Textbox(label=told.title, info=told.description, lines=3)
        made = form(Compare, given=given, columns=2)
    return dataclasses.replace(made, folded=frozenset(Compare.model_fields) - set(_CHOOSERS))


def _offered(found: Options) -> str:
    """What there is to choose from, for telling whether it changed: the newest aligned model, and a digest of all."""
    models = tuple(m.ref for part in (found.tuned, found.aligned, found.rewards) for m in part)
    newest = found.aligned[0].ref if found.aligned else ""
    return f"{newest}|{hash((found.bases, models, found.evaluations, found.examples))}"


def _offer(workspace: Workspace, found: Options, chosen: Mapping[str, str], offered: str) -> list[Any]:
    """Choices for the lists, and the guidelines. What a person chose stays; a model aligned since is proposed."""
    fitting = propose(workspace.store, chosen["tuned"] or "")
    is_news = _offered(found).partition("|")[0] != offered.partition("|")[0] or not offered

    def value(name: str) -> str | None:
        if name in _OPTIONAL:
            return chosen[name] or (getattr(fitting, name) if is_news else "")
        return chosen[name] or getattr(fitting, name) or None

    sets = [str(ref) for ref in found.evaluations]
    lists: dict[str, list[Any]] = {
        "base": [str(ref) for ref in found.bases],
        "tuned": [(f"{m.ref} · {m.method or 'model'} on {m.snapshot}", str(m.ref)) for m in found.tuned],
        "aligned": [("None", ""), *((f"{m.ref} · {m.method} from {m.base}", str(m.ref)) for m in found.aligned)],
        "reward": [("None", ""), *((f"{m.ref} · on {m.snapshot}", str(m.ref)) for m in found.rewards)],
        "evaluation": sets,
        "development": sets,
        "examples": [str(ref) for ref in found.examples],
    }
    guidelines = gr.skip() if any(chosen.values()) else fitting.guidelines
    return [*(gr.update(choices=lists[name], value=value(name)) for name in _CHOOSERS), guidelines]


def _plan(workspace: Workspace, knobs: Form[Compare], values: Sequence[Any]) -> str:
    """What a click on Compare would do; runs outside the queue, so it says what is wrong instead of raising."""
    if not values[list(knobs.widgets).index("tuned")]:
        return ""
    try:
        task = knobs.read(values)
        size = plan(workspace.store, task)
    except StudioError as error:
        return notice(str(error), "caution")
    return _plan_html(task, size)


def _plan_html(task: Compare, size: Plan) -> str:
    others = " and ".join(f"<b>{html.escape(ref)}</b>" for ref in list(task.rungs.values())[1:])
    base, joint = f"<b>{html.escape(task.base)}</b>", " and" if task.aligned is None else ""
    if size.prompts:
        choosing = f"First {base} tries {size.prompts} prompts on {size.development} development items. Then "
        first = f"it, with the best of them,{joint}"
    else:
        choosing, first = "", f"{base}, with '{html.escape(template(task.templates[0]).title)}',{joint}"
    scoring = f" <b>{html.escape(task.reward)}</b> scores all those answers." if task.reward else ""
    asked = f"{size.answers:,} answers" + (f" and {size.scores:,} scores" if size.scores else "")
    return (
        f"<p>{choosing}{first} {others} answer the {size.frozen} items of <b>{html.escape(task.evaluation)}</b>.{scoring} "
        f"At most {asked}; measurements made before are reused.</p>"
    )


# -- which comparison is shown, and how it goes ----------------------------------------------------------------


def _number(job_id: str) -> int:
    if not str(job_id).strip().isdecimal():
        raise InputError(f"'{job_id}' is not the number of a comparison. Choose one from the list.")
    return int(job_id)


def _is_found(job: Job) -> bool:
    return bool((job.result or {}).get("rungs"))


def _job_to_show(workspace: Workspace, job_id: str, jobs: Sequence[Job]) -> Job | None:
    if job_id:
        return workspace.store.job(_number(job_id))
    return next((j for j in jobs if not j.is_over), None) or next((j for j in jobs if _is_found(j)), None)


def _active(workspace: Workspace, job_id: str, jobs: Sequence[Job]) -> Job | None:
    shown = workspace.store.job(_number(job_id)) if job_id else None
    if shown is not None and not shown.is_over:
        return shown
    return next((j for j in jobs if not j.is_over), None)


def _job_to_read(job: Job | None, jobs: Sequence[Job]) -> Job | None:
    """While a comparison has found nothing yet, the one before it stays to be read."""
    if job is not None and _is_found(job):
        return job
    return next((j for j in jobs if _is_found(j)), None)


def _past(job: Job) -> str:
    """'Job 19 · run:17 and run:19 against smollm2 on eval:brackenfold@1 · 22 Nov 14:03'."""
    when = time.strftime("%-d %b %H:%M", time.localtime(job.ended_at or job.created_at))
    who = " and ".join(filter(None, (job.task["tuned"], job.task.get("aligned"))))
    return f"Job {job.id} · {who} against {job.task['base']} on {job.task['evaluation']} · {when}"


def _frame(workspace: Workspace, job: Job | None, jobs: Sequence[Job]) -> list[Any]:
    """Running row, its words, trouble, results: what is seen of a comparison in its state."""
    active = _active(workspace, str(job.id) if job else "", jobs)
    wrong = ""
    if job is not None and job.is_over and not _is_found(job):
        wrong = notice(
            job.error or f"Comparison {job.id} was stopped ({job.state}). Start it again: what it measured is reused.",
            "bad" if job.error else "",
        )
    return [
        gr.Row(visible=active is not None),
        _going(active) if active is not None else "",
        gr.HTML(wrong, visible=bool(wrong)),
        gr.Column(visible=_job_to_read(job, jobs) is not None),
    ]


def _going(job: Job) -> str:
    counted = "answers and scores" if job.task.get("reward") else "answers"
    words = f"{job.step} of {job.total} {counted}" if job.total else job.state.capitalize()
    said = job.message or ("Waits for its turn." if job.is_waiting else "")
    return (
        f'<p class="running-title"><b>{html.escape(job.title)}</b> '
        f'<a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>'
        f'{progress(job.progress, words)}<p class="quiet">{html.escape(said)}</p>'
    )


def _only_trouble(outputs: Sequence[Any], place: Any, error: StudioError) -> list[Any]:
    said = gr.HTML(notice(str(error), "bad"), visible=True)
    return [said if output is place else gr.skip() for output in outputs]


# -- results ---------------------------------------------------------------------------------------------------


def _results(workspace: Workspace, job: Job | None) -> list[Any]:
    """Verdict, both tables, prompts tried, the two filters, the answers, "more", and how many are shown."""
    if job is None or not _is_found(job):
        return ["", "", "", gr.skip(), gr.skip(), "", gr.skip(), _FIRST_PAIRS]
    found = comparison(workspace.store, job.id)
    rungs = _against(job)
    answers = _held(workspace, job.id)
    choices, first = _sifts(answers)
    return [
        _verdict_html(found, verdict(found)),
        _rows_html(found.rows) + _steps_html(found),
        _tried_html(found.tried, found.rows[0].prompt),
        gr.Radio(
            [(f"{high} against {low}", f"{low}:{high}") for low, high in rungs],
            value=":".join(rungs[0]),
            visible=len(rungs) > 1,
        ),
        gr.Radio(choices, value=first),
        *_pairs_of(answers, first, _FIRST_PAIRS),
        _FIRST_PAIRS,
    ]


@dataclass(frozen=True)
class _Held:
    """Two rungs held against each other: their measurements, what the reward model said, the answers item by item."""

    before: Evaluation
    after: Evaluation
    rewards: tuple[Sequence[float], Sequence[float]]
    answers: Sequence[AnswerPair]


def _against(job: Job) -> list[tuple[str, str]]:
    """Which rungs can be held against each other, (lower, higher): the highest and the one below it come first."""
    names = sorted((job.result or {})["rungs"], reverse=True)
    return [(low, high) for high in names for low in names if low < high]


def _held(workspace: Workspace, job_id: int, rungs: str = "") -> _Held:
    """`rungs` is like 'L2:L3'; '' stands for the highest and the one below it."""
    job = workspace.store.job(job_id)
    known = _against(job)
    if rungs and tuple(rungs.split(":")) not in known:
        raise InputError(
            f"'{rungs}' are no two rungs of comparison {job_id}. Choose one of: {', '.join(map(':'.join, known))}."
        )
    result: dict[str, Any] = job.result or {}
    before, after = (result["rungs"][rung] for rung in (rungs.split(":") if rungs else known[0]))
    return _Held(
        workspace.store.evaluation(before),
        workspace.store.evaluation(after),
        tuple(workspace.store.scores(key).get(result.get("reward", ""), ()) for key in (before, after)),  # type: ignore[arg-type]
        examples_of(workspace.store, workspace.snapshot(job.task["evaluation"]), before, after),
    )


def _sifts(held: _Held) -> tuple[list[tuple[str, str]], Sift]:
    """The ways to choose answers with how many each finds, and the first that finds any."""
    names = {
        "better": f"{held.after.rung} better",
        "worse": f"{held.before.rung} better",
        "both": "Both break a rule",
        "all": "All",
    }
    counts = {by: len(sift(held.answers, by)) for by in SIFTS}
    first = next((by for by in SIFTS[:2] if counts[by]), "all")
    return [(f"{names[by]} ({counts[by]})", by) for by in SIFTS], first  # type: ignore[return-value]


def _pairs_of(held: _Held, by: str, limit: int) -> list[Any]:
    if by not in get_args(Sift):
        raise InputError(f"'{by}' is no way to choose answers. Choose one of: {', '.join(SIFTS)}.")
    chosen = sift(held.answers, by)  # type: ignore[arg-type]
    if not chosen:
        return ['<p class="quiet">No item is of that kind.</p>', gr.Button(visible=False)]
    shown = "".join(_pair_html(pair, held) for pair in chosen[:limit])
    tail = f'<p class="quiet">{min(limit, len(chosen))} of {len(chosen)} items shown.</p>'
    return [shown + tail, gr.Button(visible=len(chosen) > limit)]


def _verdict_html(found: Comparison, ruling: Verdict) -> str:
    points = [
        RungPoint(
            r.rung,
            r.model.partition(":")[2] if r.rung == "L1" else r.model,
            r.score,
            r.prompt_tokens + r.output_tokens,
            r.new_parameters,
        )
        for r in found.rows
    ]
    aligned = ""
    if ruling.alignment:
        aligned = f'<p class="alignment">{rung_chip("L3")} {_simulated_chip(found)}{html.escape(ruling.alignment)}</p>'
    return (
        f'<div class="verdict"><div class="ruling" data-tone="{_TONES[ruling.outcome]}">'
        f'<span class="mark" aria-hidden="true">{_MARKS[ruling.outcome]}</span>'
        f"<h2>{html.escape(ruling.sentence)}</h2><p>{html.escape(ruling.reason)}</p>{aligned}"
        f'<p class="footnote">A score is the share of rules that an answer keeps, on {html.escape(found.snapshot)}.</p></div>'
        f"<figure>{ladder_chart(points)}<figcaption>Higher is better, further left is cheaper. "
        "Bars: 95 % interval. Size: new parameters.</figcaption></figure></div>"
    )


def _rows_html(rows: Sequence[RungRow]) -> str:
    heads = (
        *("Rung", "Model", "Prompt", "n", "Score", "Difference", "All rules kept"),
        *("Build time", "New parameters", "Tokens per call", "Time per call"),
    )
    table = rows_to_read("The rungs side by side", heads, [_row_cells(row) for row in rows], widths=_ROW_WIDTHS)
    return (
        f'<div class="sheet-card">{table}</div><p class="footnote">In brackets: the 95 % interval. The difference from L1 '
        "is paired: both answered the same questions. Tokens: prompt + answer.</p>"
    )


def _row_cells(row: RungRow) -> tuple[str, ...]:
    gap = row.difference
    return (
        rung_chip(row.rung),
        html.escape(row.model),
        html.escape(template(row.prompt).title),
        str(row.items),
        _value(row.score, "{:.2f}".format),
        _value(gap, signed) if gap else _quiet("compared with"),
        _value(row.all_rules, _percent),
        duration(row.build_seconds),
        compact(row.new_parameters),
        _tokens(row.prompt_tokens, row.output_tokens),
        f"{row.seconds_per_call:.2f} s",
    )


def _steps_html(found: Comparison) -> str:
    """Each rung against the one above it in the table: the scores, what the reward model and the rule say, and the KL.

    '' for a comparison of two rungs that nothing scored: the first table says it all.
    """
    rows = found.rows
    if len(rows) < 3 and not found.reward:
        return ""
    columns: list[tuple[str, Callable[[RungRow], str]]] = [
        ("Rung", lambda row: rung_chip(row.rung)),
        ("Score", lambda row: _maybe(row.score, "{:.2f}".format)),
        ("Step", lambda row: _maybe(row.step, signed)),
    ]
    if any(row.reward for row in rows):
        columns += [
            ("Reward score", lambda row: _maybe(row.reward, signed)),
            ("Step", lambda row: _maybe(row.reward_step, signed)),
        ]
    if any(row.rule for row in rows):
        columns += [
            ("Points by the rule", lambda row: _maybe(row.rule, signed)),
            ("Step", lambda row: _maybe(row.rule_step, signed)),
        ]
    if any(row.kl is not None for row in rows):
        columns.append(("KL, nats", lambda row: f"{row.kl:.1f}" if row.kl is not None else _quiet("–")))
    lines = [[cell(row) for _, cell in columns] for row in rows]
    table = rows_to_read("Rung by rung", [head for head, _ in columns], lines)
    return (
        '<h2 class="section-title">Rung by rung <small>a step is the paired difference with the rung above it in the table'
        f'</small></h2><div class="sheet-card">{table}</div><p class="footnote">{_step_notes(found)}</p>'
    )


def _step_notes(found: Comparison) -> str:
    said = []
    if found.reward:
        said.append(f"Reward score: what {html.escape(found.reward)} says of an answer, on a scale of its own.")
    if any(row.kl is not None for row in found.rows):
        said.append("KL: how far a whole answer has moved from the model that alignment began with.")
    if found.simulated:
        said.append(f"{_simulated_chip(found)}A rule gave the judgements, not people.")
    if found.rule:
        said.append(f"The rule: {html.escape(found.rule)}")
    return " ".join(said)


def _simulated_chip(found: Comparison) -> str:
    if not found.simulated:
        return ""
    return chip("simulated", "caution", "The judgements it learned from come from a rule, not from people.") + " "


def _maybe(interval: Interval | None, write: Callable[[float], str]) -> str:
    return _value(interval, write) if interval is not None else _quiet("–")


def _tried_html(tried: Sequence[Evaluation], best: str) -> str:
    if not tried:
        return (
            f"<p class='footnote'>{html.escape(template(best).title)} was the only one, so none had to be chosen.</p>"
        )
    heads = ("Prompt", "n", "Score", "Tokens per call", "Time per call")
    where = tried[0].snapshot
    lines = [_tried_cells(e, best) for e in sorted(tried, key=lambda e: -e.score)]
    table = rows_to_read("Prompts tried", heads, lines)
    return (
        f'<p class="footnote">Measured on {html.escape(where)}, which the verdict does not use.</p>'
        f'<div class="sheet-card">{table}</div>'
    )


def _tried_cells(e: Evaluation, best: str) -> tuple[str, ...]:
    name = e.template.partition("#")[0]
    chosen = f" {chip('best, used for L1', 'L1')}" if name == best else ""
    return (
        html.escape(template(name).title) + chosen,
        str(e.items),
        _value(Interval(e.score, e.low, e.high, e.items), "{:.2f}".format),
        _tokens(e.prompt_tokens, e.output_tokens),
        f"{e.seconds / e.items:.2f} s",
    )


def _pair_html(pair: AnswerPair, held: _Held) -> str:
    item, place = pair.item, pair.before.position
    context = ""
    if item.context:
        context = f"<details><summary>Context</summary><div class='answer'>{html.escape(item.context)}</div></details>"
    before, after = ([f"reward {signed(said[place])}"] if said else [] for said in held.rewards)
    return (
        f'<article class="pair"><header><span class="number">{place + 1}</span>'
        f"<h3>{html.escape(item.instruction)}</h3>{chip(item.category) if item.category else ''}</header>{context}"
        f'<div class="sides">{_side_html(held.before, pair.before, pair.before_text, item, before)}'
        f"{_side_html(held.after, pair.after, pair.after_text, item, after)}</div></article>"
    )


def _side_html(e: Evaluation, scored: ScoredItem, text: str, item: EvaluationItem, said: Sequence[str]) -> str:
    rules = "".join(
        f'<li data-kept="{str(kept).lower()}"><span aria-hidden="true">{"✓" if kept else "✕"}</span> '
        f'<span class="said">{"kept" if kept else "broken"}:</span> {html.escape(rule.words)}</li>'
        for rule, kept in zip(item.rules, scored.kept, strict=True)
    )
    cut = ["cut off"] if scored.finish == "length" else []
    figures = [f"{sum(scored.kept)} of {len(scored.kept)} rules", *said, f"{scored.output_tokens} tokens", *cut]
    answer = html.escape(text) or '<span class="quiet">(empty answer)</span>'
    return (
        f'<section data-rung="{html.escape(e.rung, quote=True)}"><p class="side-head">{rung_chip(e.rung)} '
        f"<span>{html.escape(e.model)}</span>{_quiet(' · '.join(figures))}</p>"
        f"<div class='answer'>{answer}</div><ul class='rules'>{rules}</ul></section>"
    )


def _value(interval: Interval, write: Callable[[float], str]) -> str:
    return f"<b>{write(interval.value)}</b><br>{_quiet(f'[{write(interval.low)}, {write(interval.high)}]')}"


def _tokens(prompt: float, answer: float) -> str:
    return f"{prompt + answer:.0f}<br>{_quiet(f'{prompt:.0f} + {answer:.0f}')}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _quiet(text: str) -> str:
    return f'<span class="quiet">{html.escape(text)}</span>'
