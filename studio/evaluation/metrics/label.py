"""Label log-likelihood accuracy: which of the labels the model finds likeliest, without writing a word.

The labels are scored as whole answers to the prompt (direct scoring, Brown et al. 2020, arXiv 2005.14165), so a model
that would chat instead of answering is measured all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from studio.errors import InputError
from studio.evaluation.metrics.base import Metric, Need, flat

__all__ = ["LabelAccuracy"]

_MOST_LABELS = 32


class LabelAccuracy(Metric):
    """1 when the likeliest label is the reference. `score` takes that label where others take the answer."""

    title: ClassVar[str] = "Label log-likelihood"
    summary: ClassVar[str] = "The label that the model finds likeliest is the reference."
    needs: ClassVar[Need] = "reference"
    asks: ClassVar[bool] = True

    metric: Literal["label"] = "label"
    labels: tuple[str, ...] = Field((), title="Labels", description="Empty for the different references of the rows.")

    @field_validator("labels")
    @classmethod
    def _can_be_told_apart(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels:
            _distinct(labels)
        return labels

    def labels_of(self, references: Sequence[str | None]) -> tuple[str, ...]:
        """The labels to choose from, sorted where the rows decide; raises InputError unless there are 2 to 32."""
        found = self.labels or tuple(sorted({r.strip() for r in references if r is not None and r.strip()}))
        try:
            return _distinct(found)
        except ValueError as error:
            raise InputError(f"{self.title}: {error}. Name the labels, or choose a set with few answers.") from error

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        return None if reference is None else float(flat(output) == flat(reference))


def _distinct(labels: Sequence[str]) -> tuple[str, ...]:
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise ValueError(f"{len(labels)} labels cannot be compared; it takes 2 to {_MOST_LABELS}")
    if len({flat(label) for label in labels}) < len(labels) or "" in map(flat, labels):
        raise ValueError("two labels are alike or one is empty")
    return tuple(labels)
