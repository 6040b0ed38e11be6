"""Intervals and paired differences. Every number on a page comes with one of these.

Item scores lie in [0, 1]; what a reward model says lies anywhere, and has functions of its own. Differences are paired
by item (Miller 2024, arXiv 2411.00640): both sides answered the same questions, so the questions' own difficulty
cancels.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from studio.errors import InputError

__all__ = [
    "Interval",
    "McNemar",
    "grouped_mean",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "real_difference",
    "real_mean",
    "sign_test",
    "weighted_difference",
    "wilson",
]

_RESAMPLES = 9999
_EQUAL = 1e-12  # 2/3 - 1/3 and 1/3 - 0 differ in their last bit; that is no spread to resample
_DRAWN_AT_ONCE = 2**20  # places: some 25 MB, where all resamples of 5,000 items would take a gigabyte
_SEED = 20_240_711  # fixed, so that the same answers always give the same interval


@dataclass(frozen=True)
class Interval:
    """An estimate, its 95 % interval, and how many items it stands on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927)."""
    if not 0 <= successes <= n or n == 0:
        raise InputError(f"A share of {successes} in {n} has no interval. It needs at least one item.")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), n)


def mean_interval(scores: Sequence[float]) -> Interval:
    """Mean of item scores in [0, 1] with a BCa bootstrap interval (Efron 1987).

    When all items agree the bootstrap sees no spread and would claim certainty; then Wilson's interval of the
    matching share stands in.
    """
    values = np.asarray(scores, dtype=float)
    if len(values) < 2:
        raise InputError(f"A mean over {len(values)} items has no interval. Measure at least 2 items.")
    if np.ptp(values) < _EQUAL:
        edge = wilson(round(float(values[0]) * len(values)), len(values))
        return Interval(float(values[0]), edge.low, edge.high, len(values))
    low, high = _bootstrap(values)
    return Interval(float(values.mean()), low, high, len(values))


def grouped_mean(values: Sequence[float], groups: Sequence[Hashable]) -> Interval:
    """Mean of values in [0, 1] whose groups are the independent units: a percentile bootstrap over groups.

    Where all groups agree, or there are fewer than 2, Wilson's interval over the groups stands in: the bootstrap would
    see no spread and claim certainty. `n` counts values.
    """
    if not values or len(values) != len(groups):
        raise InputError(f"{len(values)} values in {len(groups)} groups have no mean. Each value needs its group.")
    places = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums, sizes = np.zeros(len(places)), np.zeros(len(places))
    for value, group in zip(values, groups, strict=True):
        sums[places[group]] += value
        sizes[places[group]] += 1
    mean = float(sums.sum() / sizes.sum())
    if len(places) < 2 or np.ptp(sums / sizes) < _EQUAL:
        edge = wilson(round(mean * len(places)), len(places))
        return Interval(mean, min(edge.low, mean), max(edge.high, mean), len(values))
    return Interval(mean, *_resampled_ratio(sums, sizes), len(values))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Mean of `after - before`, item by item, with a BCa bootstrap interval; raises when the items do not match."""
    difference = _differences(before, after)
    if np.ptp(difference) < _EQUAL:
        # All pairs differ alike: no spread to resample. The rule of three bounds what one unseen item could do.
        slack = 3 / len(difference)
        value = float(difference[0])
        return Interval(value, max(-1.0, value - slack), min(1.0, value + slack), len(difference))
    low, high = _bootstrap(difference)
    return Interval(float(difference.mean()), low, high, len(difference))


@dataclass(frozen=True)
class McNemar:
    """Two sides that were right or wrong on the same items, by the items where only one was right.

    `p` is the mid-p value and `exact_p` the exact one, both two-sided. The exact test errs less often than it says,
    and so misses more; mid-p keeps close to its level (Fagerland, Lydersen and Laake 2013).
    """

    only_before: int
    only_after: int
    p: float
    exact_p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """McNemar's test (McNemar 1947) of whether both sides are right equally often; raises when the items do not match.

    Given the items where the sides differ, each is as likely to favour one as the other: a binomial test with 1/2.
    """
    if len(before) != len(after):
        raise InputError(
            f"{len(before)} and {len(after)} items cannot be paired. Measure both on the same evaluation snapshot."
        )
    only_before = sum(b and not a for b, a in zip(before, after, strict=True))
    only_after = sum(a and not b for b, a in zip(before, after, strict=True))
    n, fewer = only_before + only_after, min(only_before, only_after)
    ways, tail = 1, 1  # n over k, and the sum of them up to k: whole numbers, exact for any n
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    exact = min(1.0, 2 * tail / 2**n)
    return McNemar(only_before, only_after, (2 * tail - ways) / 2**n, exact)


def sign_test(better: int, worse: int) -> float:
    """Exact two-sided p of the sign test: were better and worse as likely as each other, how often would they lie at
    least so far apart. True for any number of items, so it holds where a bootstrap would not."""
    return mcnemar([True] * worse + [False] * better, [False] * worse + [True] * better).exact_p


def weighted_difference(before: Sequence[float], after: Sequence[float], weights: Sequence[float]) -> Interval:
    """Sum of `after - before` over the sum of the weights, with a percentile bootstrap over the items: of losses that are
    sums over each record's tokens, the difference per token. Raises when the items do not match."""
    difference, sizes = _differences(before, after), np.asarray(weights, dtype=float)
    if len(sizes) != len(difference) or (sizes <= 0).any():
        raise InputError(f"{len(difference)} items need as many weights above 0, not {len(sizes)}.")
    return Interval(float(difference.sum() / sizes.sum()), *_resampled_ratio(difference, sizes), len(sizes))


def real_mean(values: Sequence[float]) -> Interval:
    """Mean of values that may lie anywhere, such as a reward model's scores, with a BCa bootstrap interval.

    Where all values agree there is no spread to resample and, unlike in [0, 1], no edge to hold on to. The rule of three
    takes its scale from the value then: at 95 %, at most 3 in n items are unlike these, by the value's own size. Values
    that are all 0 (two models that answer alike, say) give [0, 0].
    """
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        raise InputError(f"A mean over {len(found)} values has no interval. Score at least 2 answers.")
    value = float(found.mean())
    if np.ptp(found) < _EQUAL * max(1.0, abs(value)):
        slack = abs(value) * 3 / len(found)
        return Interval(value, value - slack, value + slack, len(found))
    low, high = _bootstrap(found)
    return Interval(value, low, high, len(found))


def real_difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Mean of `after - before`, item by item, of values that may lie anywhere; raises when the items do not match."""
    return real_mean(_differences(before, after).tolist())


def _differences(before: Sequence[float], after: Sequence[float]) -> np.ndarray:
    if len(before) != len(after):
        raise InputError(
            f"{len(before)} and {len(after)} items cannot be paired. Measure both on the same evaluation snapshot."
        )
    if len(before) < 2:
        raise InputError(f"A difference over {len(before)} items has no interval. Measure at least 2 items.")
    return np.asarray(after, dtype=float) - np.asarray(before, dtype=float)


def _resampled_ratio(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of sum(sums) / sum(sizes), drawing the units that both are of."""
    rng, units, ratios = np.random.default_rng(_SEED), len(sizes), np.empty(_RESAMPLES)
    at_once = max(1, _DRAWN_AT_ONCE // units)
    for start in range(0, _RESAMPLES, at_once):
        part = ratios[start : start + at_once]
        drawn = rng.integers(units, size=(len(part), units))
        part[:] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    # Half a second of import that pages and workers spare unless somebody measures.
    from scipy import stats

    found = stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, method="BCa", rng=np.random.default_rng(_SEED), batch=1000
    ).confidence_interval
    return float(found.low), float(found.high)
