"""Statistics: intervals that say what they promise, at the edges too."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import studio.evaluation.statistics as statistics
from studio.errors import InputError
from studio.evaluation import (
    Interval,
    grouped_mean,
    mean_interval,
    paired_difference,
    real_difference,
    real_mean,
    sign_test,
    weighted_difference,
    wilson,
)

SCORES = st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 2 / 3, 0.75, 1.0])
quick = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for properties and simulations, five times faster."""
    monkeypatch.setattr(statistics, "_RESAMPLES", 1999)


# -- shares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 10, 168])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_scipy(share: float, n: int, level: float) -> None:
    k = round(share * n)
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    found = wilson(k, n, level)
    assert (found.value, found.low, found.high) == pytest.approx((k / n, expected.low, expected.high))


def test_wilson_of_a_known_share() -> None:
    # Newcombe 1998, table I: 81 of 263 at 95 %.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_a_share_that_cannot_be_is_refused(k: int, n: int) -> None:
    with pytest.raises(InputError, match=f"A share of {k} in {n} has no interval"):
        wilson(k, n)


# -- means ---------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_covers_the_truth_95_times_in_100(few_resamples: None) -> None:
    random = np.random.default_rng(7)
    grid, weights = np.array([0, 0.25, 0.5, 0.75, 1.0]), [0.1, 0.2, 0.2, 0.2, 0.3]
    truth = float(grid @ weights)
    hits = 0
    for _ in range(400):
        found = mean_interval(random.choice(grid, 60, p=weights).tolist())
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_same_scores_give_the_same_interval() -> None:
    scores = [0.0, 0.5, 1.0, 1.0, 0.25] * 8
    assert mean_interval(scores) == mean_interval(list(scores))


def test_more_items_make_a_narrower_interval() -> None:
    few, many = mean_interval([0.0, 1.0] * 10), mean_interval([0.0, 1.0] * 100)
    assert many.high - many.low < (few.high - few.low) / 2
    assert (few.n, many.n) == (20, 200)


@pytest.mark.parametrize("score", [0.0, 1 / 3, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_items_that_all_agree_claim_no_certainty(score: float, n: int) -> None:
    found = mean_interval([score] * n)
    assert found.value == score
    assert 0 <= found.low <= score <= found.high <= 1
    assert found.high - found.low > 0.05


@pytest.mark.parametrize("scores", [[], [0.5]])
def test_a_mean_of_fewer_than_two_items_is_refused(scores: list[float]) -> None:
    with pytest.raises(InputError, match=f"A mean over {len(scores)} items has no interval"):
        mean_interval(scores)


@given(st.lists(SCORES, min_size=2, max_size=30))
@quick
def test_an_interval_is_always_a_number_within_the_scale(scores: list[float]) -> None:
    found = mean_interval(scores)
    assert all(map(math.isfinite, (found.value, found.low, found.high)))
    assert 0 <= found.low <= found.high <= 1


# -- paired differences --------------------------------------------------------------------------------------


def test_a_paired_difference_covers_the_truth_95_times_in_100(few_resamples: None) -> None:
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        difficulty = random.uniform(0.1, 0.7, 60)
        before = random.binomial(4, difficulty) / 4
        after = random.binomial(4, difficulty + 0.2) / 4
        found = paired_difference(before.tolist(), after.tolist())
        hits += found.low <= 0.2 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_pairing_sees_a_gain_that_the_questions_difficulty_hides() -> None:
    before = [0.0, 0.2, 0.4, 0.6, 0.8] * 8
    after = [b + (0.2 if n % 3 else 0.0) for n, b in enumerate(before)]
    assert paired_difference(before, after).excludes_zero
    unpaired = mean_interval(before), mean_interval(after)
    assert unpaired[0].high > unpaired[1].low


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=30))
@quick
def test_swapping_the_sides_swaps_the_sign(pairs: list[tuple[float, float]]) -> None:
    before, after = zip(*pairs, strict=True)
    forth, back = paired_difference(before, after), paired_difference(after, before)
    assert forth.value == -back.value
    assert all(map(math.isfinite, (forth.low, forth.high)))
    assert forth.low <= forth.high


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        pytest.param([0.5] * 10, [0.5] * 10, 0.0, id="no difference anywhere"),
        pytest.param([0.0] * 10, [1.0] * 10, 1.0, id="the largest difference everywhere"),
        pytest.param([1 / 3, 0.0] * 5, [2 / 3, 1 / 3] * 5, 1 / 3, id="equal but for the last bit"),
        pytest.param([2 / 3, 1 / 3] * 5, [1.0, 2 / 3] * 5, 1 / 3, id="equal but for the last two bits"),
    ],
)
def test_pairs_that_all_differ_alike_claim_no_certainty(before: list[float], after: list[float], value: float) -> None:
    found = paired_difference(before, after)
    assert found.value == pytest.approx(value)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low >= 0.3


def test_one_item_that_differs_is_no_proof() -> None:
    assert not paired_difference([0.0] * 40, [0.0] * 39 + [1.0]).excludes_zero


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match="2 and 3 items cannot be paired"):
        paired_difference([0, 1], [0, 1, 1])


def test_a_difference_of_one_pair_is_refused() -> None:
    with pytest.raises(InputError, match="A difference over 1 items has no interval"):
        paired_difference([0.0], [1.0])


# -- values that may lie anywhere ----------------------------------------------------------------------------


def test_a_mean_of_values_from_anywhere_covers_the_truth_95_times_in_100(few_resamples: None) -> None:
    random = np.random.default_rng(13)
    hits = 0
    for _ in range(400):
        found = real_mean(random.normal(-40.0, 9.0, 60).tolist())
        hits += found.low <= -40.0 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_another_unit_changes_an_interval_by_the_unit_alone() -> None:
    values = [0.3, -1.2, 2.5, 0.9, 4.0] * 8
    small, large = real_mean(values), real_mean([100 * v - 7 for v in values])
    assert (large.value, large.low, large.high) == pytest.approx(
        (100 * small.value - 7, 100 * small.low - 7, 100 * small.high - 7)
    )


def test_a_difference_of_values_from_anywhere_is_paired_and_may_be_wider_than_the_scale_of_shares() -> None:
    before = [-20.0, 3.0, 14.0, 0.5] * 15
    after = [b + (5.0 if n % 2 else 4.0) for n, b in enumerate(before)]
    found = real_difference(before, after)
    assert found.value == pytest.approx(4.5)
    assert 4 <= found.low <= 4.5 <= found.high <= 5
    assert found.n == 60


@pytest.mark.parametrize(("value", "slack"), [(0.0, 0.0), (-2.0, 0.3), (40.0, 6.0)])
def test_values_that_all_agree_are_doubted_by_their_own_size(value: float, slack: float) -> None:
    found = real_mean([value] * 20)
    assert (found.low, found.value, found.high) == pytest.approx((value - slack, value, value + slack))


def test_two_models_that_answer_alike_do_not_differ() -> None:
    found = real_difference([1.5, -3.0, 0.2] * 20, [1.5, -3.0, 0.2] * 20)
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)
    assert not found.excludes_zero


def test_a_gain_on_a_handful_of_items_is_no_proof() -> None:
    assert not real_difference([0.0, 0.0, 0.0], [2.0, 2.0, 2.0]).excludes_zero


def test_sides_of_different_length_are_refused_wherever_their_values_lie() -> None:
    with pytest.raises(InputError, match="2 and 3 items cannot be paired"):
        real_difference([0, 1], [0, 1, 1])


@pytest.mark.parametrize("values", [[], [3.5]])
def test_a_mean_of_fewer_than_two_values_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match=f"A mean over {len(values)} values has no interval"):
        real_mean(values)


# -- values that come in groups ------------------------------------------------------------------------------


def _agreements(random: np.random.Generator, groups: int, size: int) -> tuple[list[float], list[int]]:
    """Pairs of one prompt are right or wrong together more often than not."""
    ease = random.beta(2, 1, groups)
    values = [float(random.random() < e) for e in ease for _ in range(size)]
    return values, [g for g in range(groups) for _ in range(size)]


def test_the_interval_of_a_grouped_mean_covers_the_truth_95_times_in_100(few_resamples: None) -> None:
    random = np.random.default_rng(17)
    hits = 0
    for _ in range(400):
        found = grouped_mean(*_agreements(random, 40, 6))
        hits += found.low <= 2 / 3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_values_of_one_group_are_not_taken_for_so_many_witnesses() -> None:
    values, groups = _agreements(np.random.default_rng(19), 30, 6)
    grouped, alone = grouped_mean(values, groups), grouped_mean(values, range(len(values)))
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low > 1.2 * (alone.high - alone.low)
    assert (grouped.n, alone.n) == (180, 180)


def test_a_large_group_weighs_by_its_values() -> None:
    found = grouped_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.value == 0.75


@pytest.mark.parametrize(
    ("values", "groups"),
    [([1.0] * 12, [1, 2, 3, 4] * 3), ([0.0] * 12, [1, 2, 3, 4] * 3), ([1.0, 0.0, 1.0], ["only"] * 3)],
    ids=["all right", "all wrong", "one group"],
)
def test_groups_that_all_agree_claim_no_certainty(values: list[float], groups: list[object]) -> None:
    found = grouped_mean(values, groups)  # type: ignore[arg-type]
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.3


def test_the_same_groups_give_the_same_interval_in_any_names() -> None:
    values, groups = _agreements(np.random.default_rng(23), 12, 4)
    assert grouped_mean(values, groups) == grouped_mean(values, [f"group {g}" for g in groups])


@pytest.mark.parametrize(("values", "groups"), [([], []), ([1.0], []), ([1.0, 0.0], ["a"])])
def test_a_value_without_its_group_is_refused(values: list[float], groups: list[str]) -> None:
    with pytest.raises(InputError, match="Each value needs its group"):
        grouped_mean(values, groups)


# -- how an interval reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.01, 0.2, True), (-0.2, -0.01, True), (-0.1, 0.1, False), (0.0, 0.1, False)]
)
def test_an_interval_excludes_zero_only_when_zero_is_outside(low: float, high: float, clear: bool) -> None:
    assert Interval(0.05, low, high, 10).excludes_zero is clear


def test_an_interval_is_written_with_its_bounds_and_its_items() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 168)) == "0.500 [0.250, 0.750] (n=168)"


# -- directions and losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 5), (6, 0), (18, 4), (4, 18), (41, 6)])
def test_the_sign_test_is_the_exact_binomial_test(better, worse):
    n = better + worse
    expected = stats.binomtest(better, n, 0.5).pvalue if n else 1.0
    assert sign_test(better, worse) == pytest.approx(expected)


def test_a_weighted_difference_is_per_token_and_not_per_record():
    found = weighted_difference([10.0, 400.0], [5.0, 200.0], [10, 100])
    assert found.value == pytest.approx(-205 / 110)
    assert found.low <= found.value <= found.high
    assert found.n == 2


def test_the_interval_of_a_weighted_difference_holds_the_truth_as_often_as_it_says(few_resamples):
    rng, hits, times = np.random.default_rng(5), 0, 200
    for _ in range(times):
        weights = rng.integers(5, 60, size=40).astype(float)
        before = rng.normal(3.0, 0.6, size=40) * weights
        after = before + rng.normal(-0.4, 0.5, size=40) * weights
        found = weighted_difference(before.tolist(), after.tolist(), weights.tolist())
        hits += found.low <= -0.4 <= found.high
    assert hits / times > 0.9


def test_the_interval_of_thousands_of_records_takes_little_memory():
    rng = np.random.default_rng(1)
    weights, before = rng.integers(5, 60, size=2000).astype(float).tolist(), rng.normal(size=2000).tolist()
    tracemalloc.start()
    found = weighted_difference(before, [value - 0.5 for value in before], weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.low <= found.value <= found.high
    assert peak < 100e6


def test_a_record_without_a_learned_token_has_no_share_of_a_difference():
    with pytest.raises(InputError, match="as many weights above 0"):
        weighted_difference([1.0, 2.0], [1.0, 2.0], [3.0, 0.0])
