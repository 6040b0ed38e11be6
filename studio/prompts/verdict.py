"""What a comparison says, in words, and the answers that show it.

A verdict is read off the paired difference on the frozen set. Below 50 items the interval itself is not to be
trusted (Miller 2024, arXiv 2411.00640, recommends against small sets), so nothing is decided there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from studio.evaluation import Interval
from studio.prompts.compare import AnswerPair, Comparison, RungRow
from studio.words import duration

__all__ = ["FEWEST_ITEMS", "SIFTS", "Outcome", "Sift", "Verdict", "sift", "signed", "verdict"]

FEWEST_ITEMS = 50

Outcome = Literal["tuning", "prompt", "even", "few"]
Sift = Literal["better", "worse", "both", "all"]
SIFTS: tuple[Sift, ...] = ("better", "worse", "both", "all")


@dataclass(frozen=True)
class Verdict:
    """One sentence that decides, or says why nothing is decided, and one that says what it costs."""

    outcome: Outcome
    sentence: str
    reason: str
    difference: Interval


def verdict(found: Comparison) -> Verdict:
    """The highest rung against the best prompt, read off their paired difference."""
    prompt, tuned = found.rows[0], found.rows[-1]
    gap = tuned.difference
    if gap is None:
        raise ValueError(f"The comparison of job {found.job_id} has one rung only, so it decides nothing.")
    size = f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}]"
    if gap.n < FEWEST_ITEMS:
        sentence = f"Too few rows to tell: {gap.n} items. The difference measured is {size}."
        return Verdict("few", sentence, f"Measure at least {FEWEST_ITEMS} items before you decide.", gap)
    if gap.low > 0:
        sentence = f"Tuning is worth it here: {size} over the best prompt, {gap.n} items."
        return Verdict("tuning", sentence, _cost(prompt, tuned), gap)
    if gap.high < 0:
        sentence = f"The prompt is better: tuning is at {size} against it, {gap.n} items."
        return Verdict("prompt", sentence, "Keep the prompt, or tune on more or better records.", gap)
    sentence = f"No difference can be told: {size}, {gap.n} items."
    return Verdict("even", sentence, "Keep the prompt, which needs no training, or measure more items.", gap)


def sift(pairs: Sequence[AnswerPair], by: Sift) -> list[AnswerPair]:
    """The pairs where the higher rung kept more rules, or fewer, or where neither answer keeps them all.

    The widest gap comes first; where both fail, the pair that breaks most.
    """
    match by:
        case "better":
            return [p for p in pairs if p.gap > 0]
        case "worse":
            return sorted((p for p in pairs if p.gap < 0), key=lambda p: p.gap)
        case "both":
            failed = [p for p in pairs if not (all(p.before.kept) or all(p.after.kept))]
            return sorted(failed, key=lambda p: p.before.score + p.after.score)
        case _:
            return list(pairs)


def signed(value: float, digits: int = 2) -> str:
    """'+0.31' or '−0.04', with the minus sign that is as wide as the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _cost(prompt: RungRow, tuned: RungRow) -> str:
    """What the higher rung asks for, and what it saves per call."""
    before, after = (row.prompt_tokens + row.output_tokens for row in (prompt, tuned))
    per_call = f"{after:.0f} tokens per call instead of {before:.0f}"
    return f"It needs {_counted(tuned.new_parameters)} new parameters, {duration(tuned.build_seconds)} of training, and {per_call}."


def _counted(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1_000_000 else f"{count:,}"
