"""What the Alignment page says of its four steps, as HTML: the rail, the heads, the report card, before and after."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from components.charts import compact
from components.frame import chip, duration, facts, notice, progress
from components.picking import rows_to_pick
from components.running import measured, state_chip
from studio.preferences import RULE
from studio.prompts.verdict import signed
from studio.recipes.alignment_state import Cost, Line, Step, concerns, remarks
from studio.recipes.ppo import Ppo
from studio.recipes.reward import Reward
from studio.store import Batch, Job

__all__ = [
    "ANCHORS",
    "aligned_done",
    "heads",
    "labels",
    "ppo_figures",
    "rail",
    "rail_box",
    "report_card",
    "result",
    "reward_done",
    "reward_facts",
    "rule",
    "runs_to_pick",
]

ANCHORS = ("step-labels", "step-reward", "step-ppo", "step-result")

_TO_STEP = """
element.addEventListener('click', (event) => {
  const step = event.target.closest('[data-to]');
  if (step) document.getElementById(step.dataset.to)?.scrollIntoView({ block: 'start' });
});
"""
_PURPOSES = (
    "People rank answers of the tuned model, best first.",
    "Learns from the rankings to score an answer the way people would.",
    "The tuned model practises: answers that score higher become likelier, near to how it answered before.",
    "What the practice changed, and where to see it for yourself.",
)
_REWARD_SHAPES = {
    "Loss": ("loss", "{:.3f}"),
    "Validation loss": ("validation_loss", "{:.3f}"),
    "Pairs it gets right, in training": ("accuracy", "{:.0%}"),
    "Learning rate": ("learning_rate", "{:.6f}"),
}
_PPO_SHAPES = {
    "Score": ("reward/score", "{:+.2f}"),
    "Distance (KL)": ("kl/seq", "{:.2f} nats"),
    "Length": ("len/response_mean", "{:.0f} tokens"),
    "Answers that end": ("reward/ended_rate", "{:.0%}"),
    "Answers a second": ("perf/episodes_s", "{:.2f}"),
    "Memory": ("memory_gb", "{:.1f} GB"),
}
_RUN_HEADS = ("Run", "State", "What", "From", "Learns from", "Outcome", "Took", "Started")
_RUN_WIDTHS = ("76px", "104px", "112px", "", "", "", "84px", "116px")


# -- rail and heads ------------------------------------------------------------------------------------------


def rail(line: Line) -> str:
    """The four steps beside each other; each leads to its card."""
    places = zip(line.steps, ANCHORS, strict=True)
    return f'<ol class="rail">{"".join(_place(s, anchor, s == line.current) for s, anchor in places)}</ol>'


def rail_box() -> gr.HTML:
    """Where the rail stands. A link to a place on the page would lose the address: Gradio's pages have a base of their
    own."""
    return gr.HTML("", label="Steps", js_on_load=_TO_STEP, apply_default_css=False, padding=False)


def heads(line: Line, outlooks: Mapping[int, Cost]) -> list[str]:
    """The first lines of the four cards; `outlooks` are the costs of those that cannot start yet, by place."""
    batch = line.batch
    marks = (
        _simulated(batch.simulated, batch.judgements) if batch else "",
        _simulated_run(line.reward),
        "",
        _simulated_run(line.ppo),
    )
    jobs = (line.simulating, line.reward, line.ppo, None)
    parts = zip(line.steps, _purposes(line, outlooks), marks, jobs, strict=True)
    return [_head(step, step == line.current, purpose, mark, job) for step, purpose, mark, job in parts]


def _purposes(line: Line, outlooks: Mapping[int, Cost]) -> list[str]:
    """What the steps are for, and what those that cannot start yet are going to cost."""
    found = list(_PURPOSES)
    if line.newer:
        newer = "1 judgement is" if line.newer == 1 else f"{line.newer} judgements are"
        found[1] += f" {newer} newer than it: train another one to use what was said since."
    for place, cost in outlooks.items():
        found[place] += f" {cost.sentence}"
    return found


def _place(step: Step, anchor: str, is_current: bool) -> str:
    now = ' aria-current="step"' if is_current else ""
    return (
        f'<li data-state="{step.state}"{now}><button type="button" data-to="{anchor}">{_number(step)}'
        f"<span><b>{html.escape(step.name)}</b><small>{html.escape(step.words)}</small></span></button></li>"
    )


def _head(step: Step, is_current: bool, purpose: str, mark: str, job: Job | None) -> str:
    words = "" if step.state == "done" or job else chip(step.words, "L3" if is_current else "")  # a run has its own
    return (
        f'<header class="step-head" data-state="{step.state}" data-current="{str(is_current).lower()}">{_number(step)}'
        f"<div><h2>{html.escape(step.name)}</h2><p>{html.escape(purpose)}</p></div><div>{mark}{words}</div></header>"
    )


def _number(step: Step) -> str:
    shown, spoken = ("✓", f"Step {step.number}, done") if step.state == "done" else (str(step.number), "")
    said = f' role="img" aria-label="{spoken}"' if spoken else ""
    return f'<i class="number"{said}>{shown}</i>'


# -- step 1 --------------------------------------------------------------------------------------------------


def labels(batch: Batch | None, splits: Mapping[str, int], simulating: Job | None) -> str:
    """How many judgements a batch has, by whom, and for what they are."""
    if batch is None:
        return ""
    kinds = (("people", batch.human), ("a stated rule", batch.simulated), ("an AI judge", batch.ai))
    by = " · ".join(f"{count} by {who}" for who, count in kinds if count)
    use = f"{splits['train']} to learn from · {splits['validation']} to check · {splits['test']} held out"
    rows = {"Judged": f"{batch.judged} of {batch.items} items", "Judgements": by or "none yet"}
    if batch.judgements:
        rows["Split"] = use
    rows["Answers of"] = ", ".join(batch.models)
    return facts(rows) + (_simulating(simulating) if simulating else "")


def rule() -> str:
    """What the rule does, before anybody lets it."""
    return (
        '<p class="quiet">For trying things out: a rule ranks every item, also those that people ranked. It shows how '
        "the studio works, not what anybody prefers, and everything made from it is marked as simulated.</p>"
        f"<blockquote>{html.escape(RULE)}</blockquote>"
    )


def _simulating(job: Job) -> str:
    words = f"{job.step} of {job.total} items" if job.total else job.state.capitalize()
    return f'<div class="simulating"><p>{html.escape(job.title)}</p>{progress(job.progress, words)}</div>'


def _simulated_run(job: Job | None) -> str:
    """The mark of a run whose reward was learned from judgements of a rule."""
    found = (job.result if job else None) or {}
    return _simulated(found.get("simulated", 0), found.get("judgements"))


def _simulated(count: int, of: int | None) -> str:
    if not count:
        return ""
    share = f"{count} of {of}" if of else str(count)
    return chip("simulated", "caution", f"{share} judgements come from a rule, not from people.")


# -- step 2 --------------------------------------------------------------------------------------------------


def reward_done(job: Job) -> str:
    found = job.result or {}
    return (
        f"Trained in {duration(found.get('train_seconds', 0))} on {found.get('judgements', 0)} judgements; "
        f"the pass with the lowest validation loss was kept ({found.get('epoch', 0)})."
    )


def reward_facts(job: Job, latest: Mapping[str, float]) -> str:
    """What it measures while it learns; afterwards the report card stands there."""
    if job.state == "done":
        return report_card(job.result or {})
    return facts(_typeset(measured(latest, _REWARD_SHAPES)))


def report_card(result: Mapping[str, Any]) -> str:
    """How often it agrees with judgements it has never seen, beside what the length of answers alone would give."""
    report = result.get("report")
    said = "".join(notice(sentence, "caution") for sentence in concerns(result))
    if report is None:
        return f'<section class="report"><h3>Report card</h3>{_not_defined()}{said}</section>'
    accuracy, longer, alike = report["accuracy"], report["longer_wins"], report["length_matched"]
    rows = _share("Agrees with the judgements", accuracy, "own") + _share("Always the longer answer", longer, "other")
    n = f"{report['pairs']} held-out pairs of {report['prompts']} prompts"
    more = {
        "Answers of like length": f"{_percent(alike['value'])} of {alike['n']} pairs"
        if alike
        else "not defined: no such pair",
        "Calibration error": f"{report['ece']:.2f} (0 is best)",
        "Brier score": f"{report['brier']:.2f} (0.25 is guessing)",
    }
    return (
        f'<section class="report"><h3>Report card <small>{html.escape(n)}</small></h3>'
        f'<div class="shares">{rows}{_scale()}</div>{said}{facts(more)}</section>'
    )


def _share(name: str, interval: Mapping[str, float], whose: str) -> str:
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    spoken = f"{value:.0f} %, 95 % interval {low:.0f} to {high:.0f} %"
    return (
        f'<span class="name">{html.escape(name)}</span>'
        f'<span class="track" data-whose="{whose}" role="img" aria-label="{spoken}">'
        f'<i style="left:{low:.1f}%;width:{max(0.0, high - low):.1f}%"></i><b style="left:{value:.1f}%"></b></span>'
        f'<span class="value"><b>{value:.0f} %</b> <small>{low:.0f} to {high:.0f}</small></span>'
    )


def _scale() -> str:
    return (
        '<span></span><span class="scale"><span>0</span><span>guessing, 50 %</span><span>100</span></span>'
        "<span><small>95 % interval</small></span>"
    )


def _not_defined() -> str:
    return '<p class="not-defined">Agrees with the judgements: <b>not defined</b> (no held-out pair)</p>'


# -- steps 3 and 4 -------------------------------------------------------------------------------------------


def ppo_figures(job: Job, latest: Mapping[str, float]) -> str:
    """The last iteration in a row of numbers."""
    found = _typeset(measured(latest, _PPO_SHAPES))
    if not found:
        return ""
    title = f'<h3 class="curve-title">Iteration {job.step} <small>on the prompts it practises with</small></h3>'
    return f'{title}<dl class="figures">{"".join(_figure(name, value) for name, value in found.items())}</dl>'


def aligned_done(job: Job) -> str:
    found = job.result or {}
    return (
        f"Aligned in {duration(found.get('train_seconds', 0))}: {found.get('episodes', 0)} answers in "
        f"{found.get('iterations', 0)} iterations."
    )


def result(job: Job | None) -> str:
    """Before and after on the validation prompts."""
    if job is None or job.state != "done":
        return ""
    found = job.result or {}
    before, best = found.get("before"), found.get("best")
    made = chip(f"run:{job.id}", "L3", "Its name wherever a model is chosen")
    said = "".join(notice(sentence, "caution") for sentence in remarks(found))
    where = f"on {found.get('evaluated', 'the')} validation prompts"
    measures = (
        _change(
            "Score",
            where,
            signed(before["score"]),
            signed(best["score"]),
            "1 is one deviation among the labelled answers",
        )
        + _change(
            "Distance (KL)", where, _nats(before), f"{_nats(best)} nats", "of whole answers from the tuned model's"
        )
        + _kept(best["iteration"], found)
        if before and best
        else '<p class="not-defined">Score and KL: <b>not defined</b> (no validation prompt)</p>'
    )
    return (
        f'<div class="outcome"><p>{made} answers, made from {html.escape(str(found.get("base", "")))} with the scores of '
        f'{html.escape(str(found.get("reward", "")))}.</p><div class="changes">{measures}</div>{said}</div>'
    )


def _change(name: str, where: str, before: str, after: str, note: str) -> str:
    return (
        f"<div><h4>{name} <small>{html.escape(where)}</small></h4>"
        f'<p><span>{before}</span><i aria-label="became">→</i><b>{after}</b></p><small>{html.escape(note)}</small></div>'
    )


def _nats(found: Mapping[str, float]) -> str:
    return f"{found['kl']:.1f}".replace("-", "−")


def _kept(iteration: int, found: Mapping[str, Any]) -> str:
    added = compact(found.get("new_parameters", 0))
    return (
        f"<div><h4>Kept</h4><p><b>iteration {iteration}</b></p>"
        f"<small>the best of {found.get('iterations', 0)}; {added} new parameters</small></div>"
    )


def _figure(name: str, value: str) -> str:
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"


# -- the runs before -----------------------------------------------------------------------------------------


def runs_to_pick(runs: Sequence[Job], line: Line, shown: str) -> str:
    """Reward and PPO runs; the one on screen is marked."""
    if not runs:
        return '<p class="quiet">No runs yet.</p>'
    newest = line.ppo or line.reward
    current = shown or (str(newest.id) if newest else "")
    return rows_to_pick(
        "Runs", _RUN_HEADS, [(job.id, _run_cells(job)) for job in runs], current=current, widths=_RUN_WIDTHS
    )


def _run_cells(job: Job) -> list[str]:
    is_reward = job.kind == Reward.kind
    taken = job.took if job.ended_at else None
    return [
        f"run:{job.id}",
        state_chip(job),
        "Reward model" if is_reward else "PPO",
        html.escape(str(job.task["base"])),
        html.escape(str(job.task["data"] if is_reward else job.task["reward"])),
        html.escape(_outcome(job)),
        duration(taken) if taken is not None else "–",
        datetime.fromtimestamp(job.created_at).strftime("%d %b, %H:%M"),
    ]


def _outcome(job: Job) -> str:
    found = job.result or {}
    if job.state != "done":
        return "–"
    if job.kind == Ppo.kind:
        before, best = found.get("before"), found.get("best")
        return f"score {signed(before['score'])} → {signed(best['score'])}" if before and best else "not defined"
    report = found.get("report")
    return f"{_percent(report['accuracy']['value'])} of {report['pairs']} pairs" if report else "not defined"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _typeset(found: Mapping[str, str]) -> dict[str, str]:
    return {name: value.replace("%", " %").replace("-", "−") for name, value in found.items()}
