"""The recommendation: which figures lead to which word, and that too few lead to none."""

from __future__ import annotations

import pytest

from studio.evaluation import Interval
from studio.evaluation.recommendation import (
    FEWEST,
    TEST_RECORDS,
    Recommendation,
    Tally,
    recommend,
    standing,
    tally,
)

FELL, ROSE, LEVEL = (Interval(value, value - 0.1, value + 0.1, 60) for value in (-1.2, 0.4, 0.02))


def answers(better: int, worse: int, same: int = 0) -> Tally:
    """Scores 0.3 apart where they differ."""
    before = [0.2] * better + [0.5] * worse + [0.4] * same
    after = [0.5] * better + [0.2] * worse + [0.4] * same
    found = tally(before, after, 0.05)
    assert found is not None
    return found


def general(lost: int, gained: int = 0, kept: int = 20, n: int = 60) -> Tally:
    missed = n - lost - gained - kept
    before = [1.0] * (lost + kept) + [0.0] * (gained + missed)
    after = [0.0] * lost + [1.0] * (kept + gained) + [0.0] * missed
    found = tally(before, after)
    assert found is not None
    return found


def advice(
    of_answers: Tally | None, of_general: Tally | None = None, loss: Interval | None = None, **told: int
) -> Recommendation:
    held_out = of_answers.n if of_answers else 0
    return recommend(
        of_answers,
        of_general,
        loss,
        **{"held_out": held_out, **told},
        on=TEST_RECORDS,
        measure="F1 over words",
    )


CASES = {
    "clearly better": (
        answers(41, 6, 13),
        general(2, 1),
        FELL,
        "use",
        "Use it: better on 41 of 60 test records, worse on 6.",
    ),
    "clearly worse": (answers(6, 41, 13), general(2), FELL, "do_not", "Do not use it: worse on 41 of 60 test records"),
    "learned, and answers no better": (answers(30, 25, 5), general(0), FELL, "not_yet", "Not yet: it has learned"),
    "nothing to be told": (answers(30, 25, 5), general(0), LEVEL, "not_yet", "Not yet: no difference can be told"),
    "predicts worse": (answers(30, 25, 5), general(0), ROSE, "do_not", "predicts held-out answers worse"),
    "better, but forgot": (
        answers(41, 6, 13),
        general(14, 1),
        FELL,
        "not_yet",
        "Not yet: better on 41 of 60 test records, but it forgot 14 of 34 general questions",
    ),
    "better, but forgot most": (answers(41, 6, 13), general(20, 1), FELL, "do_not", "it forgot 20 of 40"),
    "no better, and forgot": (answers(30, 25, 5), general(14, 1), FELL, "do_not", "it forgot 14 of 34"),
    "forgot, and too few records": (answers(5, 1), general(14, 1), FELL, "do_not", "it forgot 14 of 34"),
    "too few": (answers(12, 0), general(0), FELL, "cannot_tell", "Cannot tell: 12 test records are too few."),
    "better without the questions": (answers(41, 6, 13), None, FELL, "use", "Use it"),
}


@pytest.mark.parametrize(("of_answers", "of_general", "loss", "outcome", "words"), CASES.values(), ids=CASES)
def test_figures_lead_to_one_word(of_answers, of_general, loss, outcome, words):
    found = advice(of_answers, of_general, loss)
    assert found.outcome == outcome
    assert words in found.sentence
    assert found.reason


def test_a_small_clear_loss_is_told_and_decides_nothing():
    found = advice(answers(41, 6, 13), general(7, 0, kept=40, n=120))
    assert found.outcome == "use"
    assert "It forgot some of what it knew: general questions right 47 → 40 of 120." in found.reason


def test_a_loss_that_may_be_chance_is_no_forgetting():
    found = advice(answers(41, 6, 13), general(8, 4))
    assert found.outcome == "use"
    assert "28 → 24 of 60, no clear loss" in found.reason


def test_below_the_stated_number_nothing_is_decided_whatever_the_figures_say():
    for n in range(2, FEWEST):
        assert advice(answers(n, 0), general(0), FELL).outcome == "cannot_tell"
    assert advice(answers(FEWEST, 0), general(0), FELL).outcome == "use"


def test_the_loss_of_a_few_records_decides_nothing_beside_many_answers():
    few = Interval(ROSE.value, ROSE.low, ROSE.high, FEWEST - 1)
    assert advice(answers(30, 25, 5), general(0), ROSE).outcome == "do_not"
    assert advice(answers(30, 25, 5), general(0), few).outcome == "not_yet"


def test_no_test_records_and_a_single_one_say_what_to_do():
    assert advice(None).sentence == "Cannot tell: there are no test records."
    assert "One in ten of new records" in advice(None).reason
    assert advice(None, held_out=1).sentence == "Cannot tell: 1 test record is too few."


def test_of_few_records_the_size_is_called_rough():
    assert "With 24 of them the direction is sure and the size rough." in advice(answers(20, 2, 2)).reason
    assert "rough" not in advice(answers(41, 6, 13)).reason


def test_equal_models_are_never_recommended_nor_refused():
    """Coin flips: the rules keep to their level."""
    import random

    rng, decided = random.Random(3), 0
    for _ in range(200):
        before = [rng.random() for _ in range(40)]
        found = tally(before, [rng.random() for _ in before])
        decided += advice(found).outcome != "not_yet"
    assert decided / 200 <= 0.08


def test_scores_within_the_margin_are_the_same():
    assert [standing(0.5, after, 0.05) for after in (0.55, 0.56, 0.45, 0.44)] == ["same", "better", "same", "worse"]
    assert standing(0.0, 1.0) == "better"
