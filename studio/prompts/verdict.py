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
    """One sentence that decides, or says why nothing is decided, and one that says what it costs.

    `alignment` says what the step from L2 to L3 did; '' where there is no L3.
    """

    outcome: Outcome
    sentence: str
    reason: str
    difference: Interval
    alignment: str = ""


def verdict(found: Comparison) -> Verdict:
    """The best rung above the prompt against the best prompt, read off their paired difference.

    Where two rungs stand above the prompt, the better one is looked at: by chance alone it would win in at most 5 of
    100 comparisons instead of 2.5.
    """
    prompt, *above = found.rows
    best = max(above, key=lambda row: row.score.value, default=prompt)
    gap = best.difference
    if gap is None:
        raise ValueError(f"The comparison of job {found.job_id} has one rung only, so it decides nothing.")
    is_alone = len(above) == 1
    size = _sized(gap) if is_alone else f"{_sized(gap)} for {best.rung}"
    alignment = _alignment(found)
    if gap.n < FEWEST_ITEMS:
        sentence = f"Too few rows to tell: {gap.n} items. The difference measured is {size}."
        return Verdict("few", sentence, f"Measure at least {FEWEST_ITEMS} items before you decide.", gap, alignment)
    if gap.low > 0:
        sentence = f"Tuning is worth it here: {size} over the best prompt, {gap.n} items."
        return Verdict("tuning", sentence, _cost(prompt, best), gap, alignment)
    if gap.high < 0:
        loser = "tuning" if is_alone else best.rung
        sentence = f"The prompt is better: {loser} is at {_sized(gap)} against it, {gap.n} items."
        return Verdict("prompt", sentence, "Keep the prompt, or tune on more or better records.", gap, alignment)
    sentence = f"No difference can be told: {size}, {gap.n} items."
    reason = "Keep the prompt, which needs no training, or measure more items."
    return Verdict("even", sentence, reason, gap, alignment)


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


def _alignment(found: Comparison) -> str:
    """What the step from L2 to L3 did to the reward score, the frozen score and the rule, and how far it went."""
    aligned = found.rows[-1]
    if aligned.rung != "L3" or aligned.step is None:
        return ""
    if aligned.items < FEWEST_ITEMS:
        return f"Nor can {aligned.items} items tell what alignment did."
    parts = [_of_reward(aligned, found.rows[-2]), _of_distance(aligned), _told("On the frozen set", aligned.step)]
    if aligned.rule_step is not None:
        parts.append(_told("By the stated rule that simulated the judgements", aligned.rule_step))
        if _rose(aligned.reward_step) and not _rose(aligned.rule_step):
            parts.append("Read the answers: the gain may be in the eyes of the reward model alone.")
    elif found.simulated:
        parts.append("It learned from simulated judgements.")
    return " ".join(filter(None, parts))


def _of_reward(aligned: RungRow, below: RungRow) -> str:
    gap = aligned.reward_step
    if gap is None:
        return "No reward model scored the answers, so whether alignment pleased it cannot be told."
    if not gap.excludes_zero:
        return f"Whether alignment changed the reward score cannot be told: {_sized(gap)} against {below.rung}."
    return f"Alignment {'raised' if _rose(gap) else 'lowered'} the reward score: {_sized(gap)} against {below.rung}."


def _of_distance(aligned: RungRow) -> str:
    if aligned.kl is None:
        return ""
    return f"{aligned.rung} is {signed(aligned.kl, 1).lstrip('+')} nats (KL) away from the model it began as."


def _told(where: str, gap: Interval) -> str:
    if not gap.excludes_zero:
        return f"{where} no difference can be told: {_sized(gap)}."
    return f"{where} it is {'better' if _rose(gap) else 'worse'}: {_sized(gap)}."


def _rose(gap: Interval | None) -> bool:
    return gap is not None and gap.low > 0


def _sized(gap: Interval) -> str:
    return f"{signed(gap.value)} [{signed(gap.low)}, {signed(gap.high)}]"


def _cost(prompt: RungRow, tuned: RungRow) -> str:
    """What the higher rung asks for, and what it saves per call."""
    before, after = (row.prompt_tokens + row.output_tokens for row in (prompt, tuned))
    per_call = f"{after:.0f} tokens per call instead of {before:.0f}"
    return f"It needs {_counted(tuned.new_parameters)} new parameters, {duration(tuned.build_seconds)} of training, and {per_call}."


def _counted(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1_000_000 else f"{count:,}"
