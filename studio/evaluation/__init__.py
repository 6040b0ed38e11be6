"""Measuring: stated rules, honest intervals, and the comparison of the rungs."""

from studio.evaluation.rules import EvaluationItem, Rule, judge
from studio.evaluation.statistics import (
    Interval,
    McNemar,
    grouped_mean,
    mcnemar,
    mean_interval,
    paired_difference,
    real_difference,
    real_mean,
    sign_test,
    weighted_difference,
    wilson,
)

__all__ = [
    "EvaluationItem",
    "Interval",
    "McNemar",
    "Rule",
    "grouped_mean",
    "judge",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "real_difference",
    "real_mean",
    "sign_test",
    "weighted_difference",
    "wilson",
]
