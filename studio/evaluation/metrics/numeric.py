"""Numeric answer: the number that the answer ends with is the reference's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.evaluation.metrics.base import Metric, Need

__all__ = ["NumericAnswer", "last_number"]

# A sign belongs to the number only where no letter or digit stands before it: 5-3 is two numbers, COVID-19 has 19.
_NUMBER = re.compile(r"(?:(?<![\w.,])[-−+])?(?:\d+(?:[.,]\d+)*|(?<![\d.,])[.,]\d+)(?:[eE][-+]?\d+)?")


class NumericAnswer(Metric):
    """1 when the last number of the answer is within the tolerance of the reference's last number.

    1,234.5 and 1.234,5 are read alike; so are 2.8 and 2,8. A lone comma or full stop before exactly three digits
    separates thousands when it is a comma, and is a decimal point when it is a full stop.
    """

    title: ClassVar[str] = "Numeric answer"
    summary: ClassVar[str] = "The last number in the answer is the reference's, within a tolerance."
    needs: ClassVar[Need] = "reference"

    metric: Literal["numeric"] = "numeric"
    tolerance: float = Field(0.0, ge=0, title="Tolerance", description="How far off still counts as right.")
    is_relative: bool = Field(False, title="Relative", description="The tolerance is a share of the reference.")

    @property
    def words(self) -> str:
        if not self.tolerance:
            return self.title
        return f"{self.title} within {f'{self.tolerance:.3g} of it' if self.is_relative else f'±{self.tolerance:g}'}"

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        wanted = last_number(reference) if reference is not None else None
        if wanted is None:
            return None
        said = last_number(output)
        if said is None:
            return 0.0
        room = self.tolerance * (abs(wanted) if self.is_relative else 1.0)
        # 0.1 + 0.2 against 0.3: what binary fractions cannot hold is no mistake of the model.
        return float(abs(said - wanted) <= room or math.isclose(said, wanted, rel_tol=1e-9, abs_tol=1e-12))


def last_number(text: str) -> float | None:
    """The last number written in digits; None where there is none."""
    found = _NUMBER.findall(text)
    return _value(found[-1]) if found else None


def _value(written: str) -> float:
    number = written.replace("−", "-")
    last_comma, last_stop = number.rfind(","), number.rfind(".")
    if last_comma >= 0 and last_stop >= 0:
        decimal = "," if last_comma > last_stop else "."
        number = number.replace("." if decimal == "," else ",", "").replace(",", ".")
        return float(_thousands_gone(number))
    if last_comma >= 0:
        is_grouped = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", number) is not None
        return float(_thousands_gone(number.replace(",", "" if is_grouped else ".")))
    return float(_thousands_gone(number))


def _thousands_gone(number: str) -> str:
    """1.234.567 has more points than a number can have: they separate thousands."""
    return number.replace(".", "") if number.count(".") > 1 else number
