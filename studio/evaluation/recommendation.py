"""Use it or not: what a tuned model's answers, held against its base's, come to, in one sentence and one reason.

Directions rest on exact sign tests, which hold for any number of items; sizes on bootstrap intervals, which below 50
items are rough (Miller 2024, arXiv 2411.00640), and then it is said. Below `FEWEST` items nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from studio.evaluation.statistics import Interval, paired_difference, sign_test

__all__ = [
    "FEWEST",
    "FEWEST_GENERAL",
    "OUTCOMES",
    "TEST_RECORDS",
    "Outcome",
    "Recommendation",
    "Tally",
    "recommend",
    "standing",
    "tally",
]

Outcome = Literal["use", "not_yet", "do_not", "cannot_tell"]
OUTCOMES: dict[Outcome, str] = {
    "use": "Use it",
    "not_yet": "Not yet",
    "do_not": "Do not use it",
    "cannot_tell": "Cannot tell",
}

TEST_RECORDS = "test records"
FEWEST = 20  # held-out items, or records of a loss
FEWEST_GENERAL = 50  # general questions
_SURE = 0.05  # two-sided p of a sign test
_FORGOTTEN = 0.1  # of the general questions: a clear loss of fewer is told and decides nothing
_RUINED = 0.5  # of those that the base answers right: no gain elsewhere makes up for that
_ROUGH = 50  # items below which an interval is rough

Standing = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Tally:
    """Two models on the same items: how many answers are better, worse, or the same, the mean scores, and the mean
    difference."""

    better: int
    worse: int
    same: int
    before: float
    after: float
    difference: Interval

    @property
    def n(self) -> int:
        return self.better + self.worse + self.same

    @property
    def p(self) -> float:
        """Of the sign test."""
        return sign_test(self.better, self.worse)

    @property
    def rose(self) -> bool:
        """Clearly better: the sign test and the interval say so."""
        return self.p < _SURE and self.difference.low > 0

    @property
    def fell(self) -> bool:
        return self.p < _SURE and self.difference.high < 0


@dataclass(frozen=True)
class Recommendation:
    """`sentence` decides, or says why nothing is decided; `reason` is what it stands on, or what would help."""

    outcome: Outcome
    sentence: str
    reason: str


def standing(before: float, after: float, margin: float = 0.0) -> Standing:
    """Which answer scores higher; scores no further apart than the margin are the same."""
    if abs(after - before) <= margin + 1e-9:
        return "same"
    return "better" if after > before else "worse"


def tally(before: Sequence[float], after: Sequence[float], margin: float = 0.0) -> Tally | None:
    """What the scores of two models on the same items come to; None for fewer than 2."""
    if len(before) < 2:
        return None
    stands = [standing(b, a, margin) for b, a in zip(before, after, strict=True)]
    counts = {one: stands.count(one) for one in get_args(Standing)}
    means = sum(before) / len(before), sum(after) / len(after)
    return Tally(counts["better"], counts["worse"], counts["same"], *means, paired_difference(before, after))


def recommend(
    answers: Tally | None, general: Tally | None, loss: Interval | None, *, held_out: int, on: str, measure: str
) -> Recommendation:
    """What to do with a tuned model.

    `answers` are on the held-out items and `general` on questions that tuning was not about, right (1) or not (0).
    `loss` is the change in nats per learned token, lower being better; it may stand on other records than `answers` do,
    and on fewer than `FEWEST` it decides nothing either. `on` is what the held-out items are called ("test records"),
    `held_out` how many there are, `measure` what scores them.
    """
    if loss is not None and loss.n < FEWEST:
        loss = None
    if general is not None and _has_forgotten(general):
        return _forgot(general, answers if held_out >= FEWEST else None, on)
    if answers is None or held_out < FEWEST:
        return _too_few(held_out, on)
    counts = f"better on {answers.better} of {answers.n} {on}, worse on {answers.worse}"
    size = _size(measure, answers.difference)
    if answers.rose:
        return Recommendation("use", f"Use it: {counts}.", _joined(size, _rough(answers.n), _lost(general)))
    if answers.fell:
        cure = "Read the worse ones below, then tune on other records or more gently."
        sentence = f"Do not use it: worse on {answers.worse} of {answers.n} {on}, better on {answers.better}."
        return Recommendation("do_not", sentence, _joined(size, cure))
    if loss is not None and loss.low > 0:
        sentence = f"Do not use it: it predicts held-out answers worse than its base, and writes none better: {counts}."
        cure = "It learned its records by heart. Take a lower learning rate, fewer epochs if it had several, or more records."
        return Recommendation("do_not", sentence, cure)
    if loss is not None and loss.high < 0:
        sentence = f"Not yet: it has learned, but its answers cannot be told from its base's: {counts}."
        return Recommendation("not_yet", sentence, _joined(size, "Tune it longer or on more records."))
    sentence = f"Not yet: no difference can be told: {counts}."
    return Recommendation("not_yet", sentence, _joined(size, "Tune it longer or on more records."))


def _has_forgotten(general: Tally) -> bool:
    """Whether it clearly lost a tenth of the general questions or more."""
    return general.n >= FEWEST_GENERAL and general.fell and -general.difference.value >= _FORGOTTEN


def _forgot(general: Tally, answers: Tally | None, on: str) -> Recommendation:
    """Against it, unless it is clearly better at its own subject and kept most of what it knew."""
    known = round(general.before * general.n)
    lost = f"it forgot {general.worse} of {known} general questions that its base answers right"
    others = f"{general.better} {'other' if general.better == 1 else 'others'}"
    cure = "take a lower learning rate, fewer epochs if it had several, or general records among yours."
    if answers is not None and answers.rose and general.worse < _RUINED * known:
        sentence = f"Not yet: better on {answers.better} of {answers.n} {on}, but {lost}."
        return Recommendation("not_yet", sentence, f"For its own subject alone it may do. Else {cure}")
    return Recommendation("do_not", f"Do not use it: {lost}.", f"It learned {others}. To lose less, {cure}")


def _too_few(held_out: int, on: str) -> Recommendation:
    if held_out:
        many = f"{held_out} {on} are too few" if held_out > 1 else f"1 {on.removesuffix('s')} is too few"
    else:
        many = f"there are no {on}"
    grows = " One in ten of new records becomes a test record." if on == TEST_RECORDS else ""
    cure = f"At least {FEWEST} decide. Add some and freeze again.{grows}"
    return Recommendation("cannot_tell", f"Cannot tell: {many}.", cure)


def _lost(general: Tally | None) -> str:
    """What the model is not worse at, or a smaller loss."""
    if general is None:
        return ""
    right = f"{round(general.before * general.n)} → {round(general.after * general.n)} of {general.n}"
    if general.fell:
        return f"It forgot some of what it knew: general questions right {right}."
    return f"General questions right: {right}, no clear loss."


def _rough(n: int) -> str:
    return f"With {n} of them the direction is sure and the size rough." if n < _ROUGH else ""


def _size(measure: str, gap: Interval) -> str:
    """'F1 over words rose by 0.21 [0.16, 0.26].'"""
    if not gap.excludes_zero:
        return f"{measure} changed by {_signed(gap.value)} [{_signed(gap.low)}, {_signed(gap.high)}]."
    verb, (low, high) = ("rose", (gap.low, gap.high)) if gap.low > 0 else ("fell", (-gap.high, -gap.low))
    return f"{measure} {verb} by {abs(gap.value):.2f} [{low:.2f}, {high:.2f}]."


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
