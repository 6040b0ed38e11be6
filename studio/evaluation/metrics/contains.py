"""Contains: the answer names a value, or the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.evaluation.metrics.base import Metric, flat

__all__ = ["Contains"]


class Contains(Metric):
    """1 when the answer has the value (without one: the reference) in it, in whole words, whatever the case."""

    title: ClassVar[str] = "Contains"
    summary: ClassVar[str] = "The answer names the value; where none is given, the reference."

    metric: Literal["contains"] = "contains"
    value: str = Field("", title="Value", description="What must be in the answer. Empty for the row's reference.")
    is_whole: bool = Field(True, title="Whole words", description="So that 5 is not found in 15.")

    @property
    def words(self) -> str:
        return f"{self.title} “{self.value}”" if self.value else f"{self.title} the reference"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        wanted = flat(self.value or reference or "")
        if not wanted:
            return None
        pattern = rf"(?<!\w){re.escape(wanted)}(?!\w)" if self.is_whole else re.escape(wanted)
        return float(re.search(pattern, flat(output)) is not None)
