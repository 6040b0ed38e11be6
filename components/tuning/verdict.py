"""The verdict under the run on screen: what to do with the model, the figures it rests on, and both models' words.

Beside it, whether the model answers the same outside of the studio. Both are tasks; the page starts them and reads rows.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from components.frame import Tone, actions, card, chip, markup, notice, section
from components.picking import rows_to_read
from components.running import run_bar
from components.tuning.on_screen import run_number
from studio.errors import InputError, StudioError
from studio.evaluation.recommendation import OUTCOMES, Outcome
from studio.jobs import Figures, run_folder
from studio.recipes.round_trip import RoundTrip
from studio.recipes.tuning_state import is_tuning
from studio.recipes.verdict import Verdict
from studio.recipes.verdict_state import (
    Answered,
    Figure,
    Verdicts,
    figures,
    forgotten,
    is_judged,
    read_texts,
    sift,
)
from studio.specs import ModelRef
from studio.store import Job
from studio.tasks import Task
from studio.workspace import Workspace

__all__ = ["VerdictCard", "verdict_chip"]

_AT_ONCE = 10
_TONES: dict[Outcome, Tone] = {"use": "good", "not_yet": "caution", "do_not": "bad", "cannot_tell": ""}
_MARKS: dict[Outcome, str] = {"use": "✓", "not_yet": "!", "do_not": "✕", "cannot_tell": "?"}
_SIFTS = {"better": "Better", "worse": "Worse", "same": "The same"}
_HEADS = ("Measured", "Before", "After", "Difference", "95 % interval", "n")
_WIDTHS = ("", "112px", "112px", "104px", "150px", "56px")


def verdict_chip(outcome: Outcome | None) -> str:
    """What a list of runs says of a verdict, as HTML; a dash where there is none."""
    return "–" if outcome is None else chip(OUTCOMES[outcome], _TONES[outcome])


class VerdictCard:
    """The card. `show(run, painted)` returns the values of `outputs`."""

    def __init__(self, workspace: Workspace, found: Figures, verdicts: Verdicts) -> None:
        self.workspace, self.store, self.figures, self.verdicts = workspace, workspace.store, found, verdicts
        with card(visible=False, elem_id="tuning-verdict") as self.box:
            section("Verdict", "against its base, on records that neither of them learned from")
            self.ruling, self.going = markup(label="Recommendation"), markup(label="How far the verdict is")
            with actions():
                self.judge = gr.Button("Judge this run", min_width=0, scale=0, elem_id="judge-run")
            with gr.Column(visible=False, elem_classes=["judged"]) as self.body:
                self.table = markup(label="Figures of the verdict")
                markup('<h3 class="knob-title">Wins and losses</h3>')
                self.by = gr.Radio([], label="Which answers", show_label=False, elem_classes=["sifts"])
                # What comes back is looked up, and not held against choices of the moment the server started.
                self.by.preprocess = lambda payload: payload  # type: ignore[method-assign]
                self.pairs = markup(label="Answers before and after")
                self.more = gr.Button(f"Show {_AT_ONCE} more", size="sm", scale=0, elem_classes=["show-more"])
                self.lost = markup(label="What it forgot")
            with gr.Row(visible=False, elem_classes=["same-row"]) as self.same_box:
                self.same = markup(label="Same answer everywhere")
                self.check = gr.Button("Check it", size="sm", min_width=0, scale=0, elem_id="check-same")
        with gr.Row(elem_classes=["off-screen"]):
            self.count = gr.Number(_AT_ONCE, label="Answers of the verdict shown", visible="hidden", precision=0)
            self.painted = gr.Textbox("", label="Verdict painted", visible="hidden")

    @property
    def inputs(self) -> list[Any]:
        """What `show` wants to know besides the run."""
        return [self.painted]

    @property
    def text_outputs(self) -> list[Any]:
        """Answers side by side: what `first_of` and `more_of` return."""
        return [self.pairs, self.more, self.count]

    @property
    def outputs(self) -> list[Any]:
        frame = [self.box, self.ruling, self.going, self.judge, self.same_box, self.same, self.check]
        return [*frame, self.painted, self.body, self.table, self.by, *self.text_outputs, self.lost]

    # -- what is shown -------------------------------------------------------------------------------------------

    def show(self, run: str, painted: str) -> list[Any]:
        """The verdict on the run as its rows are now; the texts are left alone while they are the same. Does not raise."""
        try:
            job = self._job(run)
        except StudioError:
            job = None
        if job is None or not self._has_a_say(job):
            return [gr.Column(visible=False), *[gr.skip()] * (len(self.outputs) - 1)]
        return self._shown(job, painted)

    def _has_a_say(self, job: Job) -> bool:
        return job.state == "done" or (not job.is_over and Verdict.kind in self.store.followers(job.id))

    def _shown(self, job: Job, painted: str) -> list[Any]:
        newest, judged = self.verdicts.newest(job.id), self.verdicts.judged(job.id)
        now = f"{judged.id}:{judged.attempt}" if judged is not None else f"{job.id}:"
        texts: Sequence[Answered] = ()
        ruling, gone = _ruling(judged) if judged is not None else "", ""
        if judged is not None and now != painted:
            try:
                texts = self._texts(judged)
            except StudioError as error:
                gone, now = notice(str(error), "bad"), ""
        can_ask = newest is None or newest.state in ("failed", "lost") or (bool(gone) and newest.is_over)
        frame = [
            gr.Column(visible=True),
            ruling + gone,
            self._going(job, newest),
            gr.Button(visible=job.state == "done" and can_ask),
            *self._same(job),
        ]
        if now and now == painted:
            return [*frame, *[gr.skip()] * (len(self.outputs) - len(frame))]
        if judged is None or gone:
            return [*frame, now, gr.Column(visible=False), *[gr.skip()] * (len(self.outputs) - len(frame) - 2)]
        first = next((by for by in _SIFTS if sift(texts, by)), "better")
        result: Mapping[str, Any] = judged.result or {}
        return [
            *frame,
            now,
            gr.Column(visible=True),
            _figures(result),
            gr.Radio([(f"{words} ({len(sift(texts, by))})", by) for by, words in _SIFTS.items()], value=first),
            *_pairs(texts, result, first, _AT_ONCE),
            _lost(texts, result),
        ]

    def first_of(self, run: str, by: str) -> list[Any]:
        """The first answers of that kind."""
        return self._some(run, by, _AT_ONCE)

    def more_of(self, run: str, by: str, count: float) -> list[Any]:
        """As many as are shown, and some more."""
        return self._some(run, by, int(count) + _AT_ONCE)

    def _some(self, run: str, by: str, count: int) -> list[Any]:
        judged = self.verdicts.judged(self._job(run).id)
        if judged is None:
            raise InputError(f"There is no verdict on run {run} yet. Press 'Judge this run'.")
        return _pairs(self._texts(judged), judged.result or {}, by, count)

    def _going(self, job: Job, verdict: Job | None) -> str:
        """How far it is; what comes when the run is done; '' once it is there."""
        if job.state != "done":
            return '<p class="quiet">A verdict follows when the run is done.</p>'
        if verdict is None:
            return (
                '<p class="quiet">Is it better than its base, and what did it forget? Both answer the test records of its '
                "snapshot, and 60 general questions.</p>"
            )
        if is_judged(verdict):
            return ""
        return run_bar(verdict, self.figures.of(verdict.id).latest, "", unit="answer") + _link(verdict)

    def _same(self, job: Job) -> list[Any]:
        """The row about answers outside of the studio."""
        if job.state != "done":
            return [gr.Row(visible=False), "", gr.Button(visible=False)]
        check = self.verdicts.round_trip(job.id)
        if check is None:
            words = '<span class="quiet">Not checked: does it answer the same in plain transformers?</span>'
        elif check.state == "done":
            words = html.escape(str((check.result or {}).get("sentence", "")))
        else:
            words = run_bar(check, self.figures.of(check.id).latest, "") + _link(check)
        can_check = check is None or check.state in ("failed", "lost")
        said = f'<h3 class="knob-title">Same answer everywhere</h3><div class="same-said">{words}</div>'
        return [gr.Row(visible=True), said, gr.Button(visible=can_check)]

    # -- what a person does --------------------------------------------------------------------------------------

    def start(self, run: str, by: str) -> Job:
        """Queue a verdict on the run; a double click queues one."""
        number = self._job(run).id
        return self._queue(Verdict(model=ModelRef.of_run(number)), number, by)

    def check_same(self, run: str, by: str) -> Job:
        """Queue the check whether it answers the same everywhere; a double click queues one."""
        number = self._job(run).id
        return self._queue(RoundTrip(model=ModelRef.of_run(number)), number, by)

    def _queue(self, task: Task, run: int, by: str) -> Job:
        before = self.verdicts.jobs(task.kind, run)
        if before and not before[0].is_over:
            return before[0]
        # Two clicks at the same moment see the same newest job, and so have the same key.
        last = before[0].id if before else 0
        return self.workspace.queue(task, author=by, client_key=f"{task.kind} of run {run} after {last}")

    def _job(self, run: str) -> Job:
        if not (number := run_number(run)):
            raise InputError("No run is chosen. Choose one in the table of runs.")
        job = self.store.job(number)
        if not is_tuning(job):
            raise InputError(f"Run {job.id} is no tuning run: {job.title}. The Jobs page shows it.")
        return job

    def _texts(self, judged: Job) -> Sequence[Answered]:
        return _read(run_folder(self.workspace.path, judged.id), judged.attempt)


@functools.lru_cache(maxsize=16)
def _read(folder: Path, attempt: int) -> Sequence[Answered]:
    """A finished verdict's texts never change."""
    return tuple(read_texts(folder))


# -- pieces --------------------------------------------------------------------------------------------------


def _ruling(job: Job) -> str:
    result: Mapping[str, Any] = job.result or {}
    outcome: Outcome = result["outcome"]
    return (
        f'<div class="ruling" data-tone="{_TONES[outcome]}"><span class="mark" aria-hidden="true">'
        f"{_MARKS[outcome]}</span><div><p class='sentence'>{html.escape(result['sentence'])}</p>"
        f"<p>{html.escape(result['reason'])}</p></div></div>"
    )


def _link(job: Job) -> str:
    return f'<p class="quiet"><a href="?tab=jobs&amp;job={job.id}">Job {job.id}</a></p>'


def _figures(result: Mapping[str, Any]) -> str:
    rows = [_row(figure) for figure in figures(result)]
    if not rows:
        return ""
    table = rows_to_read("Figures of the verdict", _HEADS, rows, widths=_WIDTHS)
    return f'<div class="framed">{table}</div><p class="footnote">{_notes(result)}</p>'


def _row(figure: Figure) -> tuple[str, ...]:
    mark = f" {chip('decides', 'L2')}" if figure.decides else ""
    lower = ' <span class="quiet">lower is better</span>' if figure.lower_is_better else ""
    return (
        f"<b>{html.escape(figure.name)}</b>{lower}{mark}",
        figure.before,
        figure.after,
        figure.difference,
        f'<span class="quiet">{figure.interval}</span>',
        str(figure.n),
    )


def _notes(result: Mapping[str, Any]) -> str:
    """What the figures stand on, and what was left out."""
    said = [
        f"On the test split of {result['snapshot']}: {result['test_records']:,} records, none of them learned from."
    ]
    if evaluation := result.get("evaluation"):
        said.append(f"Answers on {evaluation}.")
    if asked := result.get("asked_in_training"):
        said.append(f"{asked} more ask what a training record asks as well, and stay out.")
    if left := result.get("left_out"):
        said.append(f"{left} cannot be read whole by the model and stay out.")
    if refused := result.get("refused"):
        said.append(f"{refused} questions were refused by a model and stay out.")
    if margin := result.get("margin"):
        said.append(f"Answers whose scores lie within {margin:g} count as the same.")
    return html.escape(" ".join(said))


def _pairs(texts: Sequence[Answered], result: Mapping[str, Any], by: str, count: int) -> list[Any]:
    """The first so many of a kind, whether there are more, and how many are shown."""
    if by not in _SIFTS:
        raise InputError(f"'{by}' is no kind of answer. Choose one of: {', '.join(_SIFTS)}.")
    chosen = sift(texts, by)
    if not chosen:
        return ['<p class="quiet">There are none of that kind.</p>', gr.Button(visible=False), _AT_ONCE]
    measure = str(result.get("metrics", {}).get(result.get("measure"), {}).get("title", "Score"))
    shown = "".join(_pair(one, measure) for one in chosen[:count])
    tail = f'<p class="quiet">{min(count, len(chosen))} of {len(chosen)} shown.</p>' if len(chosen) > _AT_ONCE else ""
    return [f'<div class="pairs">{shown}{tail}</div>', gr.Button(visible=len(chosen) > count), count]


def _pair(one: Answered, measure: str) -> str:
    asked, _, more = one.question.partition("\n\n")
    context = _folded("Context", more) if more else ""
    wanted = _folded("Wanted answer" if one.part == "answers" else "A right answer", one.wanted)
    category = chip(one.category.replace("_", " ")) if one.category else ""
    before = _side("Base", "", one.before, _scored(measure, one.before_score, one.before_loss, one.before_cut))
    after = _side("Tuned", "L2", one.after, _scored(measure, one.after_score, one.after_loss, one.after_cut))
    return (
        f'<article class="pair"><header><span class="number">{one.number}</span><h3>{html.escape(asked)}</h3>{category}'
        f'</header>{context}{wanted}<div class="sides">{before}{after}</div></article>'
    )


def _folded(words: str, text: str) -> str:
    return f"<details><summary>{words}</summary><div class='answer'>{html.escape(text)}</div></details>"


def _scored(measure: str, score: float | None, loss: float | None, was_cut: bool) -> str:
    parts = [f"{measure} {score:.2f}"] if measure and score is not None else []
    parts += [f"loss {loss:.2f}"] if loss is not None else []
    parts += ["cut off"] if was_cut else []
    return " · ".join(parts)


def _side(who: str, tone: Tone, text: str, scored: str) -> str:
    answer = html.escape(text) or '<span class="quiet">(empty answer)</span>'
    return (
        f'<section><p class="side-head">{chip(who, tone)}<span class="quiet">{html.escape(scored)}</span></p>'
        f"<div class='answer'>{answer}</div></section>"
    )


def _lost(texts: Sequence[Answered], result: Mapping[str, Any]) -> str:
    """What the general questions say, with both models' words where only one of them is right."""
    general: Mapping[str, Any] | None = result.get("general")
    if not general:
        return ""
    lost, gained = forgotten(texts)
    n, known = general["n"], round(general["before"] * general["n"])
    summary = (
        f"Of {n} general questions the base answers {known} right. The tuned model forgot {len(lost)} of these and "
        f"learned {len(gained)} {'other' if len(gained) == 1 else 'others'}."
    )
    parts = [_group(f"Forgotten ({len(lost)})", lost), _group(f"Learned ({len(gained)})", gained)]
    return f'<h3 class="knob-title">What it forgot</h3><p>{summary}</p>{"".join(parts)}'


def _group(words: str, texts: Sequence[Answered]) -> str:
    if not texts:
        return ""
    return (
        f'<details class="group"><summary>{words}</summary><div class="pairs">'
        f"{''.join(_pair(one, '') for one in texts)}</div></details>"
    )
