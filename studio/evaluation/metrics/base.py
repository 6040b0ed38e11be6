"""What every metric is: a name, what it needs to know, its bounds, and a score that may be undefined.

A metric never says 0 for what it cannot judge: None means that the score is not defined, and such an answer is left
out of the mean instead of pulling it down.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Metric", "Need", "flat"]

Need = Literal["", "reference", "rules"]


class Metric(BaseModel):
    """One way to judge an answer. A subclass is found by its `metric`, a literal with a default; fields are settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[Need] = ""  # what a row must have for the score to be defined
    is_share: ClassVar[bool] = True  # every score is 0 or 1, so that the mean is a share
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    passes: ClassVar[float] = 1.0  # an answer below this is among the failures
    asks: ClassVar[bool] = False  # a model is asked, so that the text alone does not tell

    metric: str

    @property
    def key(self) -> str:
        """The name that scores are kept under: two metrics that differ in a setting have two."""
        settings = self.model_dump(mode="json", exclude={"metric"}, exclude_defaults=True)
        if not settings:
            return self.metric
        return f"{self.metric}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]}"

    @property
    def words(self) -> str:
        """What is measured, with its settings, as a person would say it."""
        return self.title

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        """How good the answer is, or None where that is not defined. `row` is the snapshot's."""
        raise NotImplementedError


_EDGES = " \t\r\n\"'`*_.,;:!?“”‘’«»„"


def flat(text: str) -> str:
    """Lower case, one Unicode form, single spaces, and no quotes, emphasis or full stop at either end."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", text).strip(_EDGES)
