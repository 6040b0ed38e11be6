"""Metrics: what an answer is worth, one file each. A new one is a file here with a class; no list has to be kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from studio.discovery import classes_in
from studio.errors import InputError
from studio.evaluation.metrics.base import Metric, Need
from studio.evaluation.metrics.judge import ModelJudge
from studio.evaluation.metrics.label import LabelAccuracy

__all__ = ["LabelAccuracy", "Metric", "ModelJudge", "Need", "metric_from", "metric_kinds"]


@functools.cache
def metric_kinds() -> Mapping[str, type[Metric]]:
    """Every metric by its name."""
    found = {kind.model_fields["metric"].default: kind for kind in classes_in(__path__, __name__, Metric)}
    return dict(sorted(found.items()))


def metric_from(value: Metric | str | Mapping[str, Any]) -> Metric:
    """Build a metric from its name, or from a mapping with its name under `metric` and its settings beside it.

    Raises InputError naming the metric or setting that does not fit.
    """
    if isinstance(value, Metric):
        return value
    fields = {"metric": value} if isinstance(value, str) else dict(value)
    name = str(fields.get("metric", ""))
    if name not in metric_kinds():
        raise InputError(f"There is no metric '{name}'. Known metrics: {', '.join(metric_kinds())}.")
    try:
        return metric_kinds()[name].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or name
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{metric_kinds()[name].title}: {where} {said}.") from error
