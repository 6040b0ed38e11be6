"""The reports of the Checks page as HTML: what the core says in sentences, its figures beside small pictures of them.

The pictures are drawn in checks_pictures.py.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence

from components.frame import chip, duration, notice, progress
from components.picking import rows_to_pick, rows_to_read
from components.playground.checks_pictures import ends_of, reach_of, scale, scale_around, strip, whisker
from studio.errors import StudioError
from studio.evaluation import Interval
from studio.evaluation.metrics import metric_kinds
from studio.prompts.fragility import (
    Fragility,
    FragilityPlan,
    FragilityReport,
    Kind,
    Line,
    fragility_of,
    fragility_words,
)
from studio.prompts.helps import Help, Helps, Side, help_of, help_verdict
from studio.prompts.search import Search, SearchPlan, SearchReport, Trial, search_of, search_verdict
from studio.prompts.told import AskedTwice, Told
from studio.prompts.trials import Plan
from studio.prompts.verdict import FEWEST_ITEMS, signed
from studio.store import Job, Store

__all__ = [
    "QUESTIONS",
    "UNREADABLE",
    "answers_html",
    "going_html",
    "nothing_html",
    "past_html",
    "plan_html",
    "report_html",
]

QUESTIONS = {
    Helps.kind: "Does it help here?",
    Fragility.kind: "How fragile is it?",
    Search.kind: "Is there a better one?",
}

_PAIRS, _MORE_PAIRS = 3, 20
_LEADERS = 12
_OPEN_LINES = 10  # a longer list of ways is folded under its strip
# An older studio may have written its result otherwise.
UNREADABLE = (StudioError, KeyError, TypeError, ValueError)
_OLD = "Its result cannot be read by this studio. Start it again: known answers are not asked for again."
_MARKS = {"good": "✓", "bad": "✕", "caution": "!", "": "="}
_TONES = {
    **{"helps": "good", "hurts": "bad", "better": "good", "worse": "bad"},
    **{"even": "", "start": "", "few": "caution"},
}
_KINDS: Mapping[Kind, tuple[str, str]] = {
    "as written": ("As it is written", ""),
    "order": ("Its examples in another order", "part of the width"),
    "wording": ("Its instruction in other words", "part of the width"),
    "labels": ("The answers of its examples shuffled", "another prompt, so no part of the width"),
    "drop": ("One example less", "another prompt, so no part of the width"),
}


# -- before, and while it runs ------------------------------------------------------------------------------------


def plan_html(plan: Plan | FragilityPlan | SearchPlan, pace: tuple[float, str] | None) -> str:
    """What a check takes at most; `pace` is seconds a call, and where that was measured."""
    match plan:
        case FragilityPlan(ways=ways, rows=rows, plan=calls):
            changed = ", ".join(f"{n} {_way(kind, n)}" for kind, n in ways.items() if kind != "as written")
            size = f"{sum(ways.values())} ways to write it (as it is, {changed}), each asked on {rows} rows."
        case SearchPlan(prompts=prompts, development=development, held_out=held, plan=calls):
            size = (
                f"{prompts} prompts (the start and {prompts - 1} others) on {development} development rows; then the best "
                f"and the start, once, on {held} rows held out."
            )
        case _:
            calls = plan
            size = "Every row is asked both ways."
    return f'<p class="check-plan">{html.escape(f"{size} {calls.sentence} {_minutes(calls, pace)}")}</p>'


def _way(kind: Kind, n: int) -> str:
    words = {"order": "other order", "wording": "rewording", "labels": "shuffle", "drop": "example dropped"}[kind]
    return words if n == 1 else {"drop": "with an example dropped"}.get(kind, f"{words}s")


def _minutes(calls: Plan, pace: tuple[float, str] | None) -> str:
    if not calls.output_tokens:
        return "Nothing is written, so it is quick."
    if pace is None:
        return "How long a call takes is known after the first check with this model."
    seconds, where = pace
    return f"At the pace of {where} that is about {duration(calls.calls * seconds)}."


def nothing_html(question: str) -> str:
    """What stands where a report will be."""
    said = {
        Helps.kind: "Choose a prompt or a technique. Both it and the plain prompt answer the same rows, and the difference "
        "comes with an interval.",
        Fragility.kind: "Choose a prompt. It is asked in other orders and other words, and one number says how far the "
        "score moves.",
        Search.kind: "Write instructions to try, or say how many examples. The best one is tested once on rows that "
        "the search never saw.",
    }[question]
    return f'<div class="check-nothing"><p>{html.escape(said)}</p></div>'


def going_html(job: Job) -> str:
    words = f"{job.step:,} of {job.total:,} answers" if job.total else job.state.capitalize()
    said = "Waits for its turn." if job.is_waiting else job.message
    return (
        f'<p class="running-title"><b>{html.escape(job.title)}</b> <a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>'
        f'{progress(job.progress, words)}<p class="quiet">{html.escape(said)} It goes on when you close the page.</p>'
    )


# -- the list -----------------------------------------------------------------------------------------------------


def past_html(store: Store, jobs: Sequence[Job], current: str) -> str:
    """All checks, newest first, each with what it found."""
    if not jobs:
        return ""
    rows = [
        (
            job.id,
            (
                html.escape(QUESTIONS[job.kind]),
                f'{html.escape(_about(job))}<span class="clamp quiet">{html.escape(_finding(store, job))}</span>',
                html.escape(_when(job)),
            ),
        )
        for job in jobs
    ]
    listed = rows_to_pick(
        "Checks", ("Check", "What it found", "When"), rows, current=current, widths=("168px", "", "112px")
    )
    return f'<h2 class="section-title">Past checks</h2><div class="framed past-checks">{listed}</div>'


def _finding(store: Store, job: Job) -> str:
    """One sentence: what was found, or how far it is, or why there is nothing."""
    try:
        if not _is_found(job):
            return job.error or f"{job.state.capitalize()}."
        if job.kind == Helps.kind:
            return help_verdict(help_of(store, job.id)).sentence
        if job.kind == Fragility.kind:
            return fragility_words(fragility_of(store, job.id))[0]
        return search_verdict(search_of(store, job.id)).sentence
    except UNREADABLE:
        return _OLD


def _is_found(job: Job) -> bool:
    key = {Helps.kind: "difference", Fragility.kind: "lines", Search.kind: "best"}[job.kind]
    return key in (job.result or {})


def _about(job: Job) -> str:
    task = job.task
    what = (
        f"{task.get('technique') or task['template']} against {task['plain']}"
        if job.kind == Helps.kind
        else task["template"]
    )
    return f"{what} · {task['model']} · {task['evaluation']}"


def _when(job: Job) -> str:
    return time.strftime("%-d %b %H:%M", time.localtime(job.ended_at or job.created_at))


# -- a report -----------------------------------------------------------------------------------------------------


def report_html(store: Store, job: Job) -> str:
    """A finished check in full; why there is nothing for one that ended otherwise, and '' for one that goes on."""
    if not job.is_over:
        return ""
    if not _is_found(job):
        reason = job.error or (
            f"Check {job.id} is {job.state}, so it found nothing. Start it again: known answers are not asked for again."
        )
        return notice(reason, "bad" if job.state in ("failed", "lost") else "caution")
    try:
        if job.kind == Helps.kind:
            return _help_html(job, help_of(store, job.id))
        if job.kind == Fragility.kind:
            return _fragility_html(job, fragility_of(store, job.id))
        return _search_html(job, search_of(store, job.id))
    except UNREADABLE:
        return notice(_OLD, "caution")


def _ruling(tone: str, sentences: Sequence[str], job: Job, figure: str) -> str:
    """The answer: the first sentence large, the others below it, a picture beside them."""
    first, *more = sentences
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in more)
    about = f"Check {job.id} · {_about(job)} · by {job.author} · {_when(job)}"
    return (
        f'<div class="verdict check-verdict"><div class="ruling" data-tone="{tone}">'
        f'<span class="mark" aria-hidden="true">{_MARKS[tone]}</span><h2>{html.escape(first)}</h2>{said}'
        f'<p class="footnote">{html.escape(about)}</p></div>{figure}</div>'
    )


def _headline(value: str, words: str, picture: str, caption: str) -> str:
    return (
        f'<figure class="headline"><p><b>{value}</b> <span>{html.escape(words)}</span></p>{picture}'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


# -- does it help -------------------------------------------------------------------------------------------------


def _help_html(job: Job, found: Help) -> str:
    verdict, gap = help_verdict(found), found.difference
    reach = reach_of([gap])
    picture = whisker(gap, -reach, reach, origin=0.0, is_up_good=found.higher_is_better) + scale_around(reach)
    figure = _headline(
        signed(gap.value), f"[{signed(gap.low)}, {signed(gap.high)}], {gap.n} rows", picture,
        f"{_metric(found.metric)}: tried minus plain, row by row, with the 95 % interval.",
    )  # fmt: skip
    refusal = [f"One row that could not be asked: {found.refusal}"] if found.refusal else []
    ruling = _ruling(_TONES[verdict.outcome], [verdict.sentence, verdict.cost, verdict.reading, *refusal], job, figure)
    task = job.task
    names = {"Plain": str(task["plain"]), "Tried": str(task.get("technique") or task["template"])}
    ends = ends_of([found.plain.score, found.tried.score])
    rows = [
        _side_cells(name, ref, side, found.plain, ends)
        for (name, ref), side in zip(names.items(), (found.plain, found.tried), strict=True)
    ]
    heads = ("Asked", "Score", "", "Answer found", "Format kept", "Cut off", "Calls", "Tokens a row", "Time a row")
    widths = ("22%", "", "148px", "104px", "104px", "80px", "64px", "128px", "128px")
    table = rows_to_read("Both ways beside each other", heads, rows, widths=widths)
    return f'{ruling}<div class="sheet-card check-sides">{table}</div>'


def _metric(key: str) -> str:
    """The title of a metric; one with settings of its own has its key only."""
    kind = metric_kinds().get(key)
    return kind.title if kind is not None else key


def _side_cells(name: str, ref: str, side: Side, plain: Side, ends: tuple[float, float]) -> tuple[str, ...]:
    return (
        f'{name} <span class="quiet">{html.escape(ref)}</span>',
        whisker(side.score, *ends),
        _sized(side.score),
        f"{side.parsed:.0%}",
        f"{side.strict:.0%}",
        f"{side.cut:.0%}",
        f"{side.calls:.3g}",
        f"{side.tokens:.0f}{_times(side.tokens, plain.tokens, side is plain)}",
        f"{side.seconds:.2f} s{_times(side.seconds, plain.seconds, side is plain)}",
    )


def _times(value: float, base: float, is_base: bool) -> str:
    return "" if is_base or not base else f' <span class="quiet">× {value / base:.1f}</span>'


def answers_html(rows: Sequence[AskedTwice], asked: int) -> str:
    """Where the tried way did better, and where worse: how many rows, and their texts beside each other."""
    better = sorted((row for row in rows if row.gain > 0), key=lambda row: -row.gain)
    worse = sorted((row for row in rows if row.gain < 0), key=lambda row: row.gain)
    same = len(rows) - len(better) - len(worse)
    lost = f" The answers of {asked - len(rows)} rows are not known any more." if asked > len(rows) else ""
    counted = f"Better on {len(better)}, worse on {len(worse)}, alike on {same} of {len(rows)} rows.{lost}"
    return (
        f'<h2 class="section-title">Wins and losses <small>{html.escape(counted)}</small></h2>'
        f"{_group('It did better', better)}{_group('It did worse', worse)}"
    )


def _group(title: str, rows: Sequence[AskedTwice]) -> str:
    if not rows:
        return ""
    shown = "".join(map(_pair, rows[:_PAIRS]))
    folded = rows[_PAIRS : _PAIRS + _MORE_PAIRS]
    more = f"<details><summary>{len(folded)} more</summary>{''.join(map(_pair, folded))}</details>" if folded else ""
    return f'<section class="check-pairs"><h3>{title} <small>{len(rows)} rows</small></h3>{shown}{more}</section>'


def _pair(row: AskedTwice) -> str:
    context = ""
    if row.context:
        context = f"<details><summary>Context</summary><div class='answer'>{html.escape(row.context)}</div></details>"
    return (
        f'<article class="pair"><header><h3>{html.escape(row.instruction)}</h3></header>{context}'
        f'<div class="sides">{_answer("Plain", row.plain)}{_answer("Tried", row.tried)}</div></article>'
    )


def _answer(name: str, told: Told) -> str:
    cut = " · cut off" if told.was_cut else ""
    text = html.escape(told.text) or '<span class="quiet">(empty answer)</span>'
    return (
        f'<section><p class="side-head"><b>{name}</b><span class="quiet">score {told.score:.2f}{cut}</span></p>'
        f'<div class="answer">{text}</div></section>'
    )


# -- how fragile --------------------------------------------------------------------------------------------------


def _fragility_html(job: Job, found: FragilityReport) -> str:
    ruling = _ruling(_fragile_tone(found), fragility_words(found), job, _width_figure(found))
    gaps = [line.difference for line in found.lines if line.difference is not None]
    reach = reach_of(gaps)
    groups = "".join(_kind_html(kind, found.of(kind), reach) for kind in _KINDS)
    head = (
        '<div class="check-lines-head" aria-hidden="true"><span>How it was written</span>'
        f"{scale_around(reach, 'as written')}<span>Difference</span><span>Score</span></div>"
    )
    return f'{ruling}<div class="sheet-card check-lines">{head}{groups}</div>'


def _fragile_tone(found: FragilityReport) -> str:
    if found.width is None:
        return ""
    if found.width.interval.n < FEWEST_ITEMS:
        return "caution"
    return "bad" if found.width.is_beyond_chance else "good"


def _width_figure(found: FragilityReport) -> str:
    if found.width is None:
        return ""
    size = found.width.interval
    ends = (0.0, max(0.2, ends_of([size])[1]))
    picture = whisker(size, *ends) + scale(f"{ends[0]:g}", "", f"{ends[1]:g}")
    return _headline(
        f"{size.value:.2f}", f"wide [{size.low:.2f}, {size.high:.2f}], {size.n} rows", picture,
        "How far apart the same prompt's scores lie, written in other ways, luck taken out. "
        f"Luck alone may put the worst and the best {found.width.chance:.2f} apart.",
    )  # fmt: skip


def _kind_html(kind: Kind, lines: Sequence[Line], reach: float) -> str:
    if not lines:
        return ""
    title, note = _KINDS[kind]
    rows = [_line_cells(line, reach) for line in lines]
    table = rows_to_read(title, (), rows, widths=("34%", "", "176px", "148px"))
    if kind == "as written":
        return table
    scores = [line.score.value for line in lines]
    gaps = [line.difference.value for line in lines if line.difference is not None]
    head = (
        f"<summary><span><b>{title}</b> <small>{len(lines)} ways, {note}</small></span>{strip(gaps, -reach, reach)}"
        f"<span>{signed(min(gaps))} to {signed(max(gaps))}</span><span>{min(scores):.2f} to {max(scores):.2f}</span></summary>"
    )
    return f"<details{' open' if len(lines) <= _OPEN_LINES else ''}>{head}{table}</details>"


def _line_cells(line: Line, reach: float) -> tuple[str, ...]:
    gap = line.difference
    name = html.escape(line.name if line.kind != "as written" else "As it is written")
    if gap is None:
        return (name, strip([0.0], -reach, reach), '<span class="quiet">compared with</span>', _sized(line.score))
    return (name, whisker(gap, -reach, reach, origin=0.0), _sized(gap, signs=True), _sized(line.score))


# -- is there a better one ----------------------------------------------------------------------------------------


def _search_html(job: Job, found: SearchReport) -> str:
    verdict = search_verdict(found)
    figure = ""
    if found.difference is not None:
        gap = found.difference
        reach = reach_of([gap])
        figure = _headline(
            signed(gap.value), f"[{signed(gap.low)}, {signed(gap.high)}], {gap.n} rows held out",
            whisker(gap, -reach, reach, origin=0.0) + scale_around(reach),
            "The one final test: winner minus start on rows that the search never saw, with its 95 % interval.",
        )  # fmt: skip
    ruling = _ruling(_TONES[verdict.outcome], [verdict.sentence, verdict.honesty], job, figure)
    return f"{ruling}{_final_html(found)}{_leaders_html(found)}{_winner_html(found)}"


def _final_html(found: SearchReport) -> str:
    if found.difference is None:
        return ""
    ends = ends_of([found.start, found.winner])
    rows = [
        (name, whisker(score, *ends), _sized(score), str(score.n))
        for name, score in (("The start", found.start), ("The winner", found.winner))
    ]
    table = rows_to_read(
        "Final test", ("Final test, held out", "Score", "", "Rows"), rows, widths=("34%", "", "148px", "72px")
    )
    return f'<div class="sheet-card check-board">{table}</div>'


def _leaders_html(found: SearchReport) -> str:
    order = sorted(range(len(found.trials)), key=lambda n: (n != found.best, -found.trials[n].score.value, n))
    ends = ends_of([trial.score for trial in found.trials])
    heads = ("", "Prompt", "Score on development rows", "", "Tokens a row")
    widths = ("48px", "34%", "", "148px", "112px")
    rows = [_trial_cells(place, n, found, found.trials[n], ends) for place, n in enumerate(order, 1)]
    table = rows_to_read("Prompts that were tried", heads, rows[:_LEADERS], widths=widths)
    folded = rows[_LEADERS:]
    more = (
        f'<details class="check-more"><summary>{len(folded)} more</summary>'
        f"{rows_to_read('Further prompts that were tried', (), folded, widths=widths)}</details>"
        if folded
        else ""
    )
    return (
        '<h2 class="section-title">Where it was chosen <small>the best of many is partly the luckiest</small></h2>'
        f'<div class="sheet-card check-board">{table}{more}</div>'
    )


def _trial_cells(
    place: int, number: int, found: SearchReport, trial: Trial, ends: tuple[float, float]
) -> tuple[str, ...]:
    marks = (chip("winner", "good") if number == found.best else "") + (chip("start") if number == 0 else "")
    return (
        str(place),
        f"{html.escape(trial.words)} {marks}",
        whisker(trial.score, *ends),
        _sized(trial.score),
        f"{trial.tokens:.0f}",
    )


def _winner_html(found: SearchReport) -> str:
    """The winner's words."""
    parts = [
        f"<dt>{name} part</dt><dd class='answer'>{html.escape(text)}</dd>"
        for name, text in (("System", found.template.system), ("User", found.template.user))
        if text.strip()
    ]
    shown = "".join(
        f"<li><b>{html.escape(example['instruction'])}</b><br>{html.escape(example['response'])}</li>"
        for example in found.examples
    )
    if shown:
        parts.append(f"<dt>{len(found.examples)} examples, in this order</dt><dd><ol>{shown}</ol></dd>")
    return f'<details class="check-winner"><summary>Read the winner</summary><dl>{"".join(parts)}</dl></details>'


def _sized(interval: Interval, *, signs: bool = False) -> str:
    value, low, high = (signed(v) if signs else f"{v:.2f}" for v in (interval.value, interval.low, interval.high))
    return f'<b>{value}</b> <span class="quiet">[{low}, {high}]</span>'
