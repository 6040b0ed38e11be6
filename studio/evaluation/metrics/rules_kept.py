"""Rules kept: the share of the row's stated rules that the answer keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter

from studio.evaluation.metrics.base import Metric, Need
from studio.evaluation.rules import Rule, judge

__all__ = ["RulesKept"]

_RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


class RulesKept(Metric):
    """The rules of an evaluation set, decided by code: the same score that Compare shows."""

    title: ClassVar[str] = "Rules kept"
    summary: ClassVar[str] = "The share of the row's rules that the answer keeps."
    needs: ClassVar[Need] = "rules"
    is_share: ClassVar[bool] = False

    metric: Literal["rules"] = "rules"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        if not row.get("rules"):
            return None
        kept = judge(_RULES.validate_python(row["rules"]), output)
        return sum(kept) / len(kept)
