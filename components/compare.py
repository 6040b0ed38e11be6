"""The Compare page: the base with its best prompt against a tuned model, on questions that neither was chosen by.

Results are read, not kept: the page shows the comparison whose job id stands in a hidden box.
"""

from __future__ import annotations

import dataclasses
import html
import secrets
import time
from collections.abc import Callable, Sequence
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
from studio.evaluation import Interval
from studio.prompts import Compare, Comparison, RungRow, comparison, examples_of, template, templates
from studio.prompts.compare import AnswerPair
from studio.prompts.proposal import Options, comparisons, options, plan, propose
from studio.prompts.verdict import SIFTS, Sift, Verdict, sift, signed, verdict
from studio.store import Evaluation, Job, ScoredItem
from studio.workspace import Workspace

__all__ = ["CompareWidgets", "build"]

_FIRST_PAIRS = 5
_MORE_PAIRS = 10
_ROW_WIDTHS = ("56px", "", "", "52px", "108px", "128px", "116px", "92px", "124px", "128px", "108px")
_CHOOSERS = ("base", "tuned", "evaluation", "development", "examples")
_TONES = {"tuning": "good", "prompt": "caution", "even": "", "few": "caution"}
_MARKS = {"tuning": "✓", "prompt": "✕", "even": "=", "few": "!"}


@dataclass(frozen=True, kw_only=True)
class CompareWidgets(TabWidgets):
    """`tuned` is where another page may name the model to compare."""

    start: gr.Button
    tuned: gr.Dropdown
    shown: gr.Textbox


def build(workspace: Workspace) -> CompareWidgets:
    """The page, wired."""
    with page_header(
        "compare", "Is tuning worth it? The base with its best prompt and the tuned model answer the same questions."
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
        by = gr.Radio([], label="Show", show_label=False, elem_classes=["sifts"])
        pairs = markup(label="Answers side by side")
        more = gr.Button(f"Show {_MORE_PAIRS} more", scale=0, elem_classes=["show-more"])

    # -- what is shown -----------------------------------------------------------------------------------------

    frame_outputs = [running_row, running, trouble, results]
    result_outputs = [ruling, rows, tried, by, pairs, more, limit]
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
            now = str(hash((choices.bases, tuple(m.ref for m in choices.tuned), choices.evaluations, choices.examples)))
            if now == offer:
                filled: list[Any] = [gr.skip()] * (len(choosers) + 1)
            else:
                filled = _offer(workspace, choices, chosen)
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
    ) -> tuple[str, str]:
        """Queue a comparison; gives its job id and the client key for the next one."""
        fields = (base, tuned, evaluation, development, examples, guidelines, prompts, max_tokens, seed)
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
        return [fitting.base, fitting.evaluation, fitting.development, fitting.examples, fitting.guidelines]

    def show_pairs(job_id: str, sifted: Sift, count: float) -> list[Any]:
        return _pairs(workspace, _number(job_id), sifted, int(count))

    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    look_now: dict[str, Any] = {"fn": handler(look), "inputs": look_inputs, "outputs": look_outputs, **quietly}
    start.click(
        handler(start_compare),
        [*knobs.inputs, key],
        [shown, key],
        validator=knobs.validator(),
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
        [knobs.widgets[n] for n in ("base", "evaluation", "development", "examples", "guidelines")],
        **quietly,
    )
    picker.input(handler(lambda job_id: show(job_id, "")), picker, shown_outputs, **quietly)
    by.input(
        handler(lambda job_id, sifted: [*show_pairs(job_id, sifted, _FIRST_PAIRS), _FIRST_PAIRS]),
        [picker, by],
        [pairs, more, limit],
        **quietly,
    )
    more.click(
        handler(lambda job_id, sifted, n: [*show_pairs(job_id, sifted, n + _MORE_PAIRS), n + _MORE_PAIRS]),
        [picker, by, limit],
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
            "rows": [dataclasses.asdict(row) for row in found.rows],
        }

    api(handler(comparison_table), api_name="comparison_table")

    return CompareWidgets(
        refresh=Refresh(look, look_inputs, look_outputs),
        links={"job": shown},
        start=start,
        tuned=knobs.widgets["tuned"],  # type: ignore[arg-type]
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

    with gr.Row(elem_classes=["form-row"]):
        given: dict[str, Any] = {name: chooser(name) for name in _CHOOSERS[:2]}
    with gr.Row(elem_classes=["form-row"]):
        given |= {name: chooser(name) for name in _CHOOSERS[2:]}
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


def _offer(workspace: Workspace, found: Options, chosen: Sequence[str]) -> list[Any]:
    """Choices for the five lists and the guidelines; what a person chose stays."""
    fitting = propose(workspace.store, "")
    tuned = [(f"{m.ref} · {m.method or 'model'} on {m.snapshot}", str(m.ref)) for m in found.tuned]
    lists: list[Any] = [
        [str(ref) for ref in found.bases],
        tuned,
        [str(ref) for ref in found.evaluations],
        [str(ref) for ref in found.evaluations],
        [str(ref) for ref in found.examples],
    ]
    values = [now or getattr(fitting, name) or None for now, name in zip(chosen, _CHOOSERS, strict=True)]
    guidelines = gr.skip() if any(chosen) else fitting.guidelines
    return [*(gr.update(choices=c, value=v) for c, v in zip(lists, values, strict=True)), guidelines]


def _plan(workspace: Workspace, knobs: Form[Compare], values: Sequence[Any]) -> str:
    """What a click on Compare would do; runs outside the queue, so it says what is wrong instead of raising."""
    if not values[list(knobs.widgets).index("tuned")]:
        return ""
    try:
        task = knobs.read(values)
        size = plan(workspace.store, task)
    except StudioError as error:
        return notice(str(error), "caution")
    tries = f"{size.prompts} prompts" if size.prompts != 1 else "1 prompt"
    return (
        f"<p>First <b>{html.escape(task.base)}</b> tries {tries} on {size.development} development items. Then it, with "
        f"the best of them, and <b>{html.escape(task.tuned)}</b> answer the {size.frozen} items of "
        f"<b>{html.escape(task.evaluation)}</b>. At most {size.answers:,} answers; measurements made before are reused.</p>"
    )


# -- which comparison is shown, and how it goes ----------------------------------------------------------------


def _number(job_id: str) -> int:
    if not str(job_id).strip().isdigit():
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
    """'Job 19 · run:17 against smollm2 on eval:brackenfold@1 · 22 Nov 14:03'."""
    when = time.strftime("%-d %b %H:%M", time.localtime(job.ended_at or job.created_at))
    return f"Job {job.id} · {job.task['tuned']} against {job.task['base']} on {job.task['evaluation']} · {when}"


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
    words = f"{job.step} of {job.total} answers" if job.total else job.state.capitalize()
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
    """Verdict, table, prompts tried, the filter, the answers, "more", and how many are shown."""
    if job is None or not _is_found(job):
        return ["", "", "", gr.skip(), "", gr.skip(), _FIRST_PAIRS]
    found = comparison(workspace.store, job.id)
    ruling = verdict(found)
    answers = _answers(workspace, job)
    counts = {by: len(sift(answers, by)) for by in SIFTS}
    first = next(by for by in (*SIFTS[:2], "all") if counts[by] or by == "all")
    names = {"better": "L2 better", "worse": "L1 better", "both": "Both break a rule", "all": "All"}
    return [
        _verdict_html(found, ruling),
        _rows_html(found.rows),
        _tried_html(found.tried, found.rows[0].prompt),
        gr.Radio([(f"{names[by]} ({counts[by]})", by) for by in SIFTS], value=first),
        *_pairs_of(answers, found.rows, first, _FIRST_PAIRS),
        _FIRST_PAIRS,
    ]


def _answers(workspace: Workspace, job: Job) -> list[AnswerPair]:
    rungs = (job.result or {})["rungs"]
    lowest, highest = min(rungs), max(rungs)
    return examples_of(workspace.store, workspace.snapshot(job.task["evaluation"]), rungs[lowest], rungs[highest])


def _pairs(workspace: Workspace, job_id: int, by: Sift, limit: int) -> list[Any]:
    job = workspace.store.job(job_id)
    return _pairs_of(_answers(workspace, job), comparison(workspace.store, job_id).rows, by, limit)


def _pairs_of(answers: Sequence[AnswerPair], rows: Sequence[RungRow], by: str, limit: int) -> list[Any]:
    if by not in get_args(Sift):
        raise InputError(f"'{by}' is no way to choose answers. Choose one of: {', '.join(SIFTS)}.")
    chosen = sift(answers, by)  # type: ignore[arg-type]
    if not chosen:
        return ['<p class="quiet">No item is of that kind.</p>', gr.Button(visible=False)]
    shown = "".join(_pair_html(pair, rows[0], rows[-1]) for pair in chosen[:limit])
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
    return (
        f'<div class="verdict"><div class="ruling" data-tone="{_TONES[ruling.outcome]}">'
        f'<span class="mark" aria-hidden="true">{_MARKS[ruling.outcome]}</span>'
        f"<h2>{html.escape(ruling.sentence)}</h2><p>{html.escape(ruling.reason)}</p>"
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
        f'<div class="sheet-card">{table}</div><p class="footnote">In brackets: the 95 % interval. The difference is paired: '
        "both answered the same questions. Tokens: prompt + answer.</p>"
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


def _tried_html(tried: Sequence[Evaluation], best: str) -> str:
    heads = ("Prompt", "n", "Score", "Tokens per call", "Time per call")
    where = tried[0].snapshot if tried else ""
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


def _pair_html(pair: AnswerPair, before: RungRow, after: RungRow) -> str:
    item = pair.item
    context = ""
    if item.context:
        context = f"<details><summary>Context</summary><div class='answer'>{html.escape(item.context)}</div></details>"
    return (
        f'<article class="pair"><header><span class="number">{pair.before.position + 1}</span>'
        f"<h3>{html.escape(item.instruction)}</h3>{chip(item.category) if item.category else ''}</header>{context}"
        f'<div class="sides">{_side_html(before, pair.before, pair.before_text, pair)}'
        f"{_side_html(after, pair.after, pair.after_text, pair)}</div></article>"
    )


def _side_html(row: RungRow, scored: ScoredItem, text: str, pair: AnswerPair) -> str:
    rules = "".join(
        f'<li data-kept="{str(kept).lower()}"><span aria-hidden="true">{"✓" if kept else "✕"}</span> '
        f'<span class="said">{"kept" if kept else "broken"}:</span> {html.escape(rule.words)}</li>'
        for rule, kept in zip(pair.item.rules, scored.kept, strict=True)
    )
    cut = " · cut off" if scored.finish == "length" else ""
    answer = html.escape(text) or '<span class="quiet">(empty answer)</span>'
    return (
        f'<section data-rung="{html.escape(row.rung, quote=True)}"><p class="side-head">{rung_chip(row.rung)} '
        f"<span>{html.escape(row.model)}</span><span class='quiet'>{sum(scored.kept)} of {len(scored.kept)} rules · "
        f"{scored.output_tokens} tokens{cut}</span></p><div class='answer'>{answer}</div><ul class='rules'>{rules}</ul></section>"
    )


def _value(interval: Interval, write: Callable[[float], str]) -> str:
    return f"<b>{write(interval.value)}</b><br>{_quiet(f'[{write(interval.low)}, {write(interval.high)}]')}"


def _tokens(prompt: float, answer: float) -> str:
    return f"{prompt + answer:.0f}<br>{_quiet(f'{prompt:.0f} + {answer:.0f}')}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _quiet(text: str) -> str:
    return f'<span class="quiet">{html.escape(text)}</span>'
