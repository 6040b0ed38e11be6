"""Pattern: a regular expression is found in the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from studio.evaluation.metrics.base import Metric

__all__ = ["Pattern"]

_SECONDS = 1.0


class Pattern(Metric):
    """1 when the pattern is found anywhere in the answer; `^` and `$` are the ends of lines.

    A pattern that takes longer than a second on an answer, as `(a+)+$` can, leaves the score undefined.
    """

    title: ClassVar[str] = "Regular expression"
    summary: ClassVar[str] = "The pattern is found in the answer."

    metric: Literal["regex"] = "regex"
    pattern: str = Field(min_length=1, title="Pattern", description=r"For example \bOrder [A-Z]{2}-\d+")
    is_case_sensitive: bool = Field(True, title="Case matters", description="Off: Order and order are the same.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        import regex  # a tenth of a second that pages spare unless somebody writes a pattern

        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern

    @property
    def words(self) -> str:
        return f"Matches {self.pattern}"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        import regex  # Python's own re cannot be interrupted

        flags = regex.MULTILINE | (0 if self.is_case_sensitive else regex.IGNORECASE)
        try:
            return float(regex.search(self.pattern, output, flags, timeout=_SECONDS) is not None)
        except TimeoutError:
            return None
