"""What an evaluation found, as HTML: figures and paired tests, rows with every column's answer, and what goes on.

Everything that may be pressed is a real button with `data-do` and `data-key`; one small script tells the studio which. What
people and models wrote is escaped here, and nowhere else does it become HTML.
"""

from __future__ import annotations

import html
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import gradio as gr
from pydantic import ValidationError

from components.frame import Tone, chip, notice, progress
from studio.errors import InputError, StudioError
from studio.evaluation import EvaluationItem, Interval, judge
from studio.evaluation.metrics import Metric, ModelJudge
from studio.jobs import legal_actions
from studio.prompts import find_template, render, word_diff
from studio.prompts.distil import LEFT_OUT
from studio.prompts.grid import (
    ColumnFigures,
    Grid,
    GridColumn,
    GridPage,
    GridReport,
    GridRow,
    PageRow,
    PairedColumns,
    failures,
    grid_page,
    grid_report,
    grid_task,
    technique_for,
)
from studio.prompts.grid.columns import is_snapshot
from studio.store import CellFilter, GridCell, Job
from studio.workspace import Workspace

__all__ = ["View", "acting", "asked_for", "figures_html", "going_html", "past", "rows_html", "tuning_set_html"]

ROWS_A_PAGE = 20
_CELL_LETTERS = 220
_FILTERS = {
    "all": "All",
    "failures": "Failures",
    "differences": "Differences",
    "unparsed": "No answer found",
    "truncated": "Cut off",
    "refused": "Refused",
}
_OUTCOMES: dict[str, tuple[str, Tone]] = {
    "better": ("better", "good"),
    "worse": ("worse", "bad"),
    "even": ("no difference", ""),
    "few": ("too few rows", "caution"),
}
_MANY_TESTS = 3

# A row may be pressed anywhere, unless somebody is marking text in it.
_ON_LOAD = """
element.addEventListener('click', (event) => {
  const pressed = event.target.closest('[data-do]');
  if (!pressed || pressed.disabled) return;
  if (pressed.tagName === 'TR' && !getSelection().isCollapsed) return;
  const told = { do: pressed.dataset.do, key: pressed.dataset.key ?? '' };
  if (told.do === 'save') trigger('save', told);
  else trigger('act', told);
});
"""


def acting(label: str, *, elem_id: str, **options: Any) -> gr.HTML:
    """HTML with buttons: listen to `.act` (and `.save`, for what ends as a file) and read the event with `asked_for`."""
    return gr.HTML(
        "", label=label, elem_id=elem_id, js_on_load=_ON_LOAD, apply_default_css=False, padding=False, **options
    )


def asked_for(event: gr.EventData) -> tuple[str, str]:
    """What was pressed, and on what. Both come from the page, so whoever uses them checks them."""
    told = event._data or {}
    return str(told.get("do", "")), str(told.get("key", ""))


@dataclass(frozen=True)
class View:
    """How an evaluation is looked at: by which metric, against which column, which rows, which of them is open.

    `tuning` is the column (from 0) that a tuning set is about to be made of, `made` the job that makes one. A View
    lives in a hidden box as JSON; another evaluation begins with a fresh one.
    """

    grid: int = 0
    metric: str = ""
    baseline: int = 0
    only: str = "all"
    first: int = 0
    row: int = -1
    tuning: int = -1
    made: int = 0

    @classmethod
    def read(cls, text: str, grid: int) -> Self:
        """The view of this evaluation; a fresh one where the text is of another one, or unreadable."""
        try:
            found = json.loads(text or "{}")
            kinds = {field.name: str if field.name in ("metric", "only") else int for field in fields(cls)}
            known: dict[str, Any] = {name: kinds[name](value) for name, value in found.items() if name in kinds}
            view = cls(**known)
        except (ValueError, TypeError, AttributeError):
            return cls(grid)
        return view if view.grid == grid else cls(grid, made=view.made)

    def written(self) -> str:
        return json.dumps(asdict(self))

    def after(self, do: str, key: str) -> Self:
        """What is looked at when that was pressed; raises InputError for what nobody could press."""
        match do:
            case "metric":
                return replace(self, metric=key, first=0)
            case "baseline":
                return replace(self, baseline=whole(key))
            case "only" if key in _FILTERS:
                return replace(self, only=key, first=0, row=-1)
            case "turn":
                return replace(self, first=max(0, whole(key)), row=-1)
            case "row":
                return replace(self, row=-1 if whole(key) == self.row else whole(key))
            case "tuning":
                return replace(self, tuning=-1 if whole(key) == self.tuning else whole(key))
            case _:
                raise InputError(f"An evaluation cannot be looked at by '{do}' {key}. Reload the page.")

    def filter(self, task: Grid) -> CellFilter:
        """Which rows are shown."""
        return _filter(task, self.only, self.metric)


def whole(key: str) -> int:
    if not key.isdecimal():
        raise InputError(f"'{key[:40]}' is no number of a row or a column. Reload the page.")
    return int(key)


def _filter(task: Grid, only: str, metric: str) -> CellFilter:
    chosen = metric or (task.metrics[0].key if task.metrics else "")
    match only:
        case "failures" if chosen:
            return failures(task, chosen)
        case "differences":
            return CellFilter("differences", chosen)
        case "unparsed" | "truncated" | "refused":
            return CellFilter(only)
        case _:
            return CellFilter()


def past(job: Job) -> str:
    """'12 · Evaluate 2 columns on eval:tents@1 · 22 Nov 14:03': what a list of evaluations says of one."""
    state = "" if job.state == "done" else f" · {job.state}"
    return f"{job.id} · {job.title} · {_clock(job.created_at)}{state}"


# -- figures -------------------------------------------------------------------------------------------------


def figures_html(workspace: Workspace, job: Job, view: View) -> str:
    """Columns by metrics, each value with its interval, and the pairs of columns held against each other."""
    _, task = grid_task(workspace.store, job.id)
    chosen = grid_report(workspace.store, job.id, view.metric, view.baseline)
    reports = [
        chosen if chosen.metric == metric else grid_report(workspace.store, job.id, metric.key)
        for metric in task.metrics
    ]
    return f"{_head(job, task)}{_table(chosen, reports, view)}{_footnote(task, chosen)}{_pairs_html(chosen, view)}"


def _head(job: Job, task: Grid) -> str:
    split = "" if task.split == "all" else f", {task.split} rows"
    drawn = f", {task.limit:,} drawn by seed {task.seed}" if task.limit else ""
    repeats = f", {task.repeats} answers per row" if task.repeats > 1 else ""
    about = f"{task.rows}{split}{drawn}{repeats} · {_clock(job.created_at)} by {job.author}"
    return (
        f'<div class="figures-head"><h2 class="section-title">Evaluation {job.id} <small>{html.escape(about)}</small></h2>'
        '<div class="small-acts"><button type="button" data-do="save" data-key="csv">Download CSV</button>'
        '<button type="button" data-do="save" data-key="jsonl">Download JSONL</button></div></div>'
    )


def _table(chosen: GridReport, reports: Sequence[GridReport], view: View) -> str:
    """A metric's name is a button: the tests and the failures go by it."""
    metrics = "".join(_metric_head(report.metric, chosen.metric) for report in reports if report.metric is not None)
    heads = "".join(
        f'<th scope="col" title="{html.escape(tip, quote=True)}">{words}</th>' for words, tip in _RATES.items()
    )
    body = "".join(
        f"<tr>{_name_cell(figures, chosen, view)}"
        + "".join(f"<td>{_score(report.columns[place], report)}</td>" for report in reports)
        + "".join(f"<td>{cell}</td>" for cell in _rates(figures, chosen.task))
        + "</tr>"
        for place, figures in enumerate(chosen.columns)
    )
    return (
        '<div class="sheet-card figures-table"><table class="rows" aria-label="Columns by metrics"><thead><tr>'
        f'<th scope="col">Column</th>{metrics}{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


_RATES = {
    "Answered": "Rows that have an answer, of the rows asked so far.",
    "Answer found": "Answers in which the technique's rule found something (parse rate); in brackets: in the exact format.",
    "Cut off": "Answers that ran into the limit of tokens (truncation rate).",
    "Tokens": "Of a prompt and of an answer, on average.",
    "Time": "From asking to answer, of calls made for this evaluation; local models answer many at once.",
    "Known": "Answers that were known already and were not asked for again.",
}


def _metric_head(metric: Metric, chosen: Metric | None) -> str:
    is_chosen = "true" if metric == chosen else "false"
    tip = html.escape(f"{metric.summary} Press to test and sift by it.", quote=True)
    return (
        f'<th scope="col"><button type="button" data-do="metric" data-key="{html.escape(metric.key, quote=True)}" '
        f'aria-pressed="{is_chosen}" title="{tip}">{html.escape(metric.words)}</button></th>'
    )


def _name_cell(figures: ColumnFigures, report: GridReport, view: View) -> str:
    place, buttons = figures.place, ""
    if len(report.columns) > 1:
        is_baseline = "true" if place == view.baseline else "false"
        words = "Compared with" if place == view.baseline else "Compare with this"
        buttons = (
            f'<button type="button" data-do="baseline" data-key="{place}" aria-pressed="{is_baseline}">{words}</button>'
        )
    buttons += f'<button type="button" data-do="tuning" data-key="{place}">Make a tuning set</button>'
    return (
        f'<th scope="row"><span class="number">{place + 1}</span> {html.escape(figures.title)}'
        f'<div class="small-acts">{buttons}</div></th>'
    )


def _score(figures: ColumnFigures, report: GridReport) -> str:
    metric = report.metric
    if figures.score is None or metric is None:
        first = isinstance(metric, ModelJudge) and metric.against == "first" and figures.place == 0
        why = "The others are compared with this one." if first else "Not defined for any answer so far."
        return f'<span class="quiet" title="{why}">–</span>'
    write = _percent if metric.is_share else "{:.2f}".format
    return _value(figures.score, write, figures.counts.rows)


def _value(found: Interval, write: Any, rows: int) -> str:
    only = f" n {found.n:,}" if found.n != rows else ""
    return f"<b>{write(found.value)}</b><br>{_quiet(f'[{write(found.low)}, {write(found.high)}]{only}')}"


def _rates(figures: ColumnFigures, task: Grid) -> list[str]:
    counts = figures.counts
    answered = f"{figures.answered:,}" if task.repeats == 1 else f"{figures.answered:,} for {counts.rows:,} rows"
    refused = f"<br>{_quiet(f'{counts.refused:,} refused')}" if counts.refused else ""
    distinct = (
        f"<br>{_quiet(f'{counts.distinct:.1f} different a row')}"
        if task.repeats > 1 and counts.distinct is not None
        else ""
    )
    tokens = "–"
    if counts.prompt_tokens is not None and counts.output_tokens is not None:
        tokens = f"{counts.prompt_tokens:,.0f} + {counts.output_tokens:,.0f}"
    strict = f"<br>{_quiet(f'[{_percent(figures.strict_rate)}]')}" if figures.strict_rate is not None else ""
    pace = figures.seconds_per_call
    return [
        answered + refused + distinct,
        _maybe(figures.parse_rate) + strict,
        _maybe(figures.truncation_rate),
        tokens,
        f"{pace:.2f} s" if pace is not None else '<span class="quiet" title="All answers were known.">–</span>',
        f"{counts.cached:,}",
    ]


def _footnote(task: Grid, chosen: GridReport) -> str:
    said = ["In brackets: the 95 % interval. Of shares it is Wilson's, of graded scores a bootstrap over the rows."]
    if task.repeats > 1:
        said[0] = "In brackets: the 95 % interval, a bootstrap over the rows; repeats of a row are averaged first."
    if isinstance(chosen.metric, ModelJudge):
        said += [_bias_words(figures) for figures in chosen.columns if figures.position_bias is not None]
        said += [
            f"{html.escape(figures.title)}: {figures.unread:,} verdicts could not be read."
            for figures in chosen.columns
            if figures.unread
        ]
    return f'<p class="footnote">{" ".join(said)}</p>'


def _bias_words(figures: ColumnFigures) -> str:
    bias = figures.position_bias
    assert bias is not None
    return (
        f"{html.escape(figures.title)}: standing first moved the verdict by {bias.value:+.2f} "
        f"[{bias.low:+.2f}, {bias.high:+.2f}]."
    )


def _pairs_html(report: GridReport, view: View) -> str:
    """Each column against the baseline: what can be told, and by which test."""
    if report.metric is None or len(report.columns) < 2:
        return ""
    baseline = html.escape(report.columns[view.baseline].title)
    title = (
        f'<h2 class="section-title">Paired tests <small>{html.escape(report.metric.words)}, against {baseline}, on the '
        "rows that both answered</small></h2>"
    )
    if not report.pairs:
        why = "The judge's scores are comparisons already, all with the same side. An interval above 0.50 is a win."
        return f'{title}<p class="quiet">{why}</p>'
    items = "".join(_pair_html(pair, report) for pair in report.pairs)
    tests = len(report.pairs)
    many = (
        f'<p class="footnote">{tests} tests at once: by chance alone, one in twenty looks decided.</p>'
        if tests >= _MANY_TESTS
        else ""
    )
    return f'{title}<ul class="pairs">{items}</ul>{many}'


def _pair_html(pair: PairedColumns, report: GridReport) -> str:
    words, tone = _OUTCOMES[pair.outcome]
    test = "McNemar's test, mid-p" if pair.test is not None else "paired bootstrap over the rows"
    named = _quiet(f" ({test})") if pair.difference is not None and pair.outcome != "few" else ""
    number = f'<span class="number">{pair.place + 1}</span>'
    title = html.escape(report.columns[pair.place].title)
    lead = f"<b>{title}</b> " if pair.outcome == "few" else ""
    return f"<li>{chip(words, tone)}{number}<span>{lead}{html.escape(pair.sentence)}{named}</span></li>"


# -- rows ----------------------------------------------------------------------------------------------------


def rows_html(workspace: Workspace, job: Job, view: View) -> str:
    """The filters with how many rows each leaves, a page of rows, and all of the open one."""
    store = workspace.store
    _, task = grid_task(store, job.id)
    chosen = _chosen(task, view.metric)
    page = grid_page(store, workspace.path, job.id, view.filter(task), offset=max(0, view.first), limit=ROWS_A_PAGE)
    heads = "".join(
        f'<th scope="col" title="{html.escape(c.title, quote=True)}"><span class="number">{n}</span> '
        f"{html.escape(c.title)}</th>"
        for n, c in enumerate(task.columns, 1)
    )
    # The second row is always there: a row that opens must not move the others, or the focus would be on another one.
    body = "".join(
        _row_html(row, chosen, is_open=row.row.number == view.row)
        + _opened_row(_opened(workspace, row, task) if row.row.number == view.row else "", len(task.columns) + 2)
        for row in page.rows
    )
    if not page.rows:
        body = f'<tr><td colspan="{len(task.columns) + 2}" class="nothing">{_nothing(view, job)}</td></tr>'
    table = (
        f'<div class="sheet-card rows-table" style="--columns:{len(task.columns)}"><table class="rows" '
        'aria-label="Rows and answers"><thead><tr><th scope="col">Row</th><th scope="col">Question</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    title = '<h2 class="section-title">Rows <small>press one to read its answers word by word</small></h2>'
    return f"{title}{_sifts(workspace, job, task, view)}{table}{_pager(page, view)}"


def _chosen(task: Grid, key: str) -> Metric | None:
    return next((m for m in task.metrics if m.key == key), next(iter(task.metrics), None))


def _sifts(workspace: Workspace, job: Job, task: Grid, view: View) -> str:
    """Those that leave nothing are not offered, except the three that everybody looks for."""
    buttons = []
    for only, words in _FILTERS.items():
        if (only == "failures" and not task.metrics) or (only == "differences" and len(task.columns) < 2):
            continue
        count = workspace.store.count_cell_rows(job.id, _filter(task, only, view.metric))
        if count or only in ("all", "failures", "differences", view.only):
            is_on = "true" if only == view.only else "false"
            buttons.append(
                f'<button type="button" data-do="only" data-key="{only}" aria-pressed="{is_on}">{words} {count:,}</button>'
            )
    return f'<div class="sift-row" role="group" aria-label="Which rows">{"".join(buttons)}</div>'


def _nothing(view: View, job: Job) -> str:
    if view.only != "all":
        return "No row is of that kind."
    return "No row was asked." if job.is_over else "The first answers appear here."


def _pager(page: GridPage, view: View) -> str:
    if page.total <= ROWS_A_PAGE:
        return ""
    last = view.first + len(page.rows)
    back = "" if view.first else " disabled"
    forth = "" if last < page.total else " disabled"
    return (
        '<div class="small-acts rows-pager">'
        f'<button type="button" data-do="turn" data-key="{max(0, view.first - ROWS_A_PAGE)}"{back}>Previous</button>'
        f'<span aria-live="polite">{view.first + 1:,}–{last:,} of {page.total:,}</span>'
        f'<button type="button" data-do="turn" data-key="{last}"{forth}>Next</button></div>'
    )


def _row_html(row: PageRow, chosen: Metric | None, *, is_open: bool) -> str:
    number = row.row.number
    cells = "".join(f"<td>{_cell_html(found, chosen)}</td>" for found in row.cells)
    return (
        f'<tr data-do="row" data-key="{number}" class="{"is-open" if is_open else ""}"><td><button type="button" '
        f'data-do="row" data-key="{number}" aria-expanded="{"true" if is_open else "false"}" '
        f'aria-label="Row {number + 1}">{number + 1}</button></td>'
        f'<td><span class="clamp" dir="auto">{html.escape(_short(row.row.instruction))}</span></td>{cells}</tr>'
    )


def _opened_row(inside: str, width: int) -> str:
    return f'<tr class="opened"{"" if inside else " hidden"}><td colspan="{width}">{inside}</td></tr>'


def _cell_html(cells: Sequence[GridCell], chosen: Metric | None) -> str:
    if not cells:
        return _quiet("not yet")
    first = cells[0]
    more = f" {_quiet(f'+{len(cells) - 1}')}" if len(cells) > 1 else ""
    if first.is_refused:
        return chip("refused", "bad") + more
    text = html.escape(_short(first.answer or first.output)) or _quiet("(empty)")
    return f'{_mark(cells, chosen)}{more}<span class="clamp" dir="auto">{text}</span>'


def _mark(cells: Sequence[GridCell], metric: Metric | None) -> str:
    """Pass or fail by the metric, with the value where it is graded or a mean of repeats."""
    if metric is None:
        return ""
    scores = [score for cell in cells if (score := cell.scores.get(metric.key)) is not None]
    if not scores:
        return '<span class="mark quiet" title="Not defined for this answer">–</span> '
    mean = sum(scores) / len(scores)
    passes = mean >= metric.passes - 1e-9
    value = f" {mean:.2f}" if not metric.is_share or len(scores) > 1 else ""
    return (
        f'<span class="mark" data-tone="{"good" if passes else "bad"}"><span aria-hidden="true">'
        f'{"✓" if passes else "✕"}</span><span class="said">{"passes" if passes else "fails"}</span>{value}</span> '
    )


def _opened(workspace: Workspace, row: PageRow, task: Grid) -> str:
    """Question, reference or rules, and each column's prompt and answers with the words in which they differ."""
    asked = row.row
    parts = [f'<h3>Question</h3><div class="answer" dir="auto">{html.escape(asked.instruction)}</div>']
    if asked.context:
        parts.append(
            f'<details><summary>Context</summary><div class="answer" dir="auto">{html.escape(asked.context)}</div></details>'
        )
    if asked.reference is not None:
        parts.append(f'<h3>Reference</h3><div class="answer" dir="auto">{html.escape(asked.reference)}</div>')
    item = _item(asked.fields)
    first = next((cell.answer or cell.output for cell in row.cells[0] if not cell.is_refused), None)
    sides = "".join(
        _side(
            place,
            _prompt_html(workspace, task.columns[place], asked, cells),
            "".join(_answer_html(cell, task, item, _against(place, asked.reference, first)) for cell in cells),
            task,
        )
        for place, cells in enumerate(row.cells)
    )
    return f'<div class="opened-row">{"".join(parts)}<div class="answer-sides">{sides}</div></div>'


def _against(place: int, reference: str | None, first: str | None) -> tuple[str, str] | None:
    """What an answer is held against word by word, and what that is called."""
    if reference is not None:
        return "the reference", reference
    return ("column 1", first) if place and first is not None else None


def _item(row: Mapping[str, Any]) -> EvaluationItem | None:
    if not row.get("rules"):
        return None
    try:
        return EvaluationItem.model_validate(row)
    except ValidationError:  # a set of a later studio: its rules cannot be told
        return None


def _side(place: int, prompt: str, answers: str, task: Grid) -> str:
    title = html.escape(task.columns[place].title)
    said = answers or _quiet("Not answered yet.")
    return f'<section><h4><span class="number">{place + 1}</span> {title}</h4>{prompt}{said}</section>'


def _prompt_html(workspace: Workspace, column: GridColumn, row: GridRow, cells: Sequence[GridCell]) -> str:
    """What the column sent for this row. A bank may have changed since, and then so has what is shown of it here."""
    if not cells:
        return ""
    try:
        template = find_template(workspace.store, column.template)
        shown = _examples(workspace, column, cells[0].examples)
        asked = render(template, column.filled_in(template, row, workspace.store), shown)
        messages = technique_for(template, column).prepare(asked)
    except StudioError as error:
        return notice(f"The prompt cannot be shown: {error}", "caution")
    moving = ["the bank's examples"] if shown and not is_snapshot(column.bank) else []
    moving += ["the passages"] if column.passages else []
    words = f"Prompt, with {' and '.join(moving)} as they are now" if moving else "Prompt as it was sent"
    turns = "".join(
        f'<p class="quiet">{turn.role}</p><div class="answer" dir="auto">{html.escape(turn.content)}</div>'
        for turn in messages
    )
    return f'<details><summary>{words}</summary><div class="turns">{turns}</div></details>'


def _examples(workspace: Workspace, column: GridColumn, names: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The examples by the names that an answer keeps: ids in a bank, or places in a snapshot such as data:gear@1#7."""
    if not names:
        return []
    if is_snapshot(column.bank):
        rows = workspace.snapshot(column.bank)
        return [rows[int(str(name).rpartition("#")[2]) - 1] for name in names]
    return [workspace.store.bank_example(int(name)).fields for name in names]


def _answer_html(cell: GridCell, task: Grid, item: EvaluationItem | None, against: tuple[str, str] | None) -> str:
    if cell.is_refused:
        return notice(cell.output, "bad")
    output = html.escape(cell.output) or _quiet("(empty answer)")
    read = ""
    if cell.answer.strip() != cell.output.strip():
        read = (
            f'<p class="quiet">Read as the answer:</p><div class="answer" dir="auto">{html.escape(cell.answer)}</div>'
        )
        read = read if cell.answer else notice("No answer was found in it.", "caution")
    return (
        f'<p class="answer-facts">{_scores(cell, task)}{_quiet(_facts(cell))}</p>'
        f'<div class="answer" dir="auto">{output}</div>{read}{_rules_html(item, cell)}{_difference(cell, against)}'
    )


def _scores(cell: GridCell, task: Grid) -> str:
    return "".join(
        f'<span class="scored">{html.escape(metric.words)} {_mark([cell], metric)}</span>' for metric in task.metrics
    )


def _facts(cell: GridCell) -> str:
    said = [f"{cell.prompt_tokens:,} + {cell.output_tokens:,} tokens"]
    said += ["known already"] if cell.is_cached else [f"{cell.seconds:.2f} s"]
    said += [f"{cell.calls} calls"] if cell.calls > 1 else []
    said += ["cut at the token limit"] if cell.finish == "length" else []
    said += [] if cell.is_strict else ["not in the format that was asked for"]
    if cell.examples:
        said.append(f"examples shown: {', '.join(str(name) for name in cell.examples)}")
    return " · ".join(said)


def _rules_html(item: EvaluationItem | None, cell: GridCell) -> str:
    if item is None:
        return ""
    kept = judge(item.rules, cell.answer)
    lines = "".join(
        f'<li data-kept="{str(is_kept).lower()}"><span aria-hidden="true">{"✓" if is_kept else "✕"}</span> '
        f'<span class="said">{"kept" if is_kept else "broken"}:</span> {html.escape(rule.words)}</li>'
        for rule, is_kept in zip(item.rules, kept, strict=True)
    )
    return f'<ul class="rules-kept">{lines}</ul>'


def _difference(cell: GridCell, against: tuple[str, str] | None) -> str:
    if against is None:
        return ""
    named, other = against
    answer = cell.answer or cell.output
    if answer.strip() == other.strip():
        return f'<p class="quiet">The same words as {named}.</p>'
    tags = {"same": "span", "added": "ins", "removed": "del"}
    words = "".join(f"<{tags[p.kind]}>{html.escape(p.text)}</{tags[p.kind]}>" for p in word_diff(other, answer))
    return (
        f"<details open><summary>Word by word against {named}</summary>"
        f'<div class="diff" dir="auto" role="group" aria-label="Differences from {named}">{words}</div></details>'
    )


# -- what goes on --------------------------------------------------------------------------------------------


def going_html(workspace: Workspace, job: Job) -> str:
    """How far an evaluation is, with what may be done about it; '' for one that ended well."""
    if job.state == "done":
        return ""
    words = f"{job.step:,} of {job.total:,} answers" if job.total else job.state.capitalize()
    if job.is_over:
        stopped = (
            f"Evaluation {job.id} was stopped ({job.state}). What was answered by then stays, and is not asked again."
        )
        said = notice(job.error or stopped, "bad" if job.error else "caution")
    else:
        message = "Waits for its turn." if job.is_waiting else job.message or job.state.capitalize()
        said = f'{progress(job.progress, words)}<p class="quiet">{html.escape(message)}</p>'
    return _going(workspace, job, f"Evaluation {job.id}", said)


def tuning_set_html(workspace: Workspace, job: Job) -> str:
    """How far a tuning set is; once it is there, what is in it and where."""
    found, dataset = job.result or {}, str(job.task["dataset"])
    if not job.is_over:
        words = f"{job.step:,} of {job.total:,} questions" if job.total else job.state.capitalize()
        message = "Waits for its turn." if job.is_waiting else job.message
        said = f'{progress(job.progress, words)}<p class="quiet">{html.escape(message)}</p>'
        return _going(workspace, job, f"Tuning set {dataset}", said)
    if job.state != "done":
        stopped = f"The tuning set {dataset} was stopped ({job.state}). Records that are there stay."
        return _going(workspace, job, f"Tuning set {dataset}", notice(job.error or stopped, "bad" if job.error else ""))
    left = ", ".join(f"{count:,} {LEFT_OUT.get(why, why)}" for why, count in found.get("left_out", {}).items())
    added = int(found.get("added", 0))
    sentence = f"Added {added:,} records to {dataset}, from {found.get('questions', 0):,} questions."
    said = notice(f"{sentence}{f' Left out: {left}.' if left else ''}", "good" if added else "caution")
    named = html.escape(dataset, quote=True)
    link = f'<p><a href="?tab=dataset&amp;dataset={named}">Open {named} under Dataset</a></p>'
    return f'<div class="going">{said}{link if added else ""}</div>'


def _going(workspace: Workspace, job: Job, title: str, said: str) -> str:
    legal = legal_actions(job, workspace.path)
    buttons = "".join(
        f'<button type="button" data-do="{action}" data-key="{job.id}">{action.capitalize()}</button>'
        for action in ("pause", "resume", "cancel")
        if action in legal
    )
    return (
        f'<div class="going"><div class="going-head"><b>{html.escape(title)}</b> <a href="?tab=jobs&amp;job={job.id}">'
        f'Job {job.id}</a><div class="small-acts">{buttons}</div></div>{said}</div>'
    )


# -- words and small parts -----------------------------------------------------------------------------------


def _clock(at: float) -> str:
    return time.strftime("%-d %b %H:%M", time.localtime(at))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _maybe(share: float | None) -> str:
    return _percent(share) if share is not None else '<span class="quiet" title="No answer yet">–</span>'


def _quiet(text: str) -> str:
    return f'<span class="quiet">{html.escape(text)}</span>'


def _short(text: str) -> str:
    line = " ".join(text[: 2 * _CELL_LETTERS].split())
    return line if len(line) <= _CELL_LETTERS else f"{line[:_CELL_LETTERS].rstrip()}…"
