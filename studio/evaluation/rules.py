"""Rules that code can decide: what a good answer to an evaluation item keeps. No model judges here.

An item's score is the share of its rules that the answer keeps. A rule is one class with a `keeps` method; its name
in the JSON is the `rule` field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EvaluationItem", "Rule", "judge"]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def keeps(self, answer: str) -> bool:
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The rule as a person would say it."""
        raise NotImplementedError


# An empty value would be in every answer.
_Values = Annotated[tuple[Annotated[str, Field(pattern=r"\S")], ...], Field(min_length=1)]


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).casefold().strip()


def _sentences(text: str) -> list[str]:
    """Sentences and lines.

    A full stop inside a number (4.90) or before a small letter (5 p.m. on Friday) ends none, nor does the line
    break after "Next step:".
    """
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+(?=[^\sa-z])|(?<!:)\n+", text.strip()) if s.strip()]


class MaxWords(_Rule):
    rule: Literal["max_words"]
    value: int = Field(gt=0)

    def keeps(self, answer: str) -> bool:
        return 0 < len(answer.split()) <= self.value

    @property
    def words(self) -> str:
        return f"at most {self.value} words"


class MinWords(_Rule):
    rule: Literal["min_words"]
    value: int = Field(gt=0)

    def keeps(self, answer: str) -> bool:
        return len(answer.split()) >= self.value

    @property
    def words(self) -> str:
        return f"at least {self.value} words"


class SpeaksToReader(_Rule):
    rule: Literal["speaks_to_reader"]

    def keeps(self, answer: str) -> bool:
        return re.search(r"\byou(r|rs|rself|['’](re|ve|ll|d))?\b", answer, re.IGNORECASE) is not None

    @property
    def words(self) -> str:
        return "speaks to the reader as you"


class EndsWithNextStep(_Rule):
    rule: Literal["ends_with_next_step"]

    def keeps(self, answer: str) -> bool:
        sentences = _sentences(answer)
        return bool(sentences) and re.match(r"Next step:\s*\S", sentences[-1]) is not None

    @property
    def words(self) -> str:
        return "the last sentence begins with “Next step:”"


class ContainsAll(_Rule):
    rule: Literal["contains_all"]
    values: _Values

    def keeps(self, answer: str) -> bool:
        return all(_flat(v) in _flat(answer) for v in self.values)

    @property
    def words(self) -> str:
        return "names " + " and ".join(self.values)


class ContainsAny(_Rule):
    rule: Literal["contains_any"]
    values: _Values

    def keeps(self, answer: str) -> bool:
        return any(_flat(v) in _flat(answer) for v in self.values)

    @property
    def words(self) -> str:
        return "names " + " or ".join(self.values)


class AnyWord(_Rule):
    """Whole words and whole numbers: `ten` is not in "often", and 4 neither in 14 nor in 4.5, but in 4.0."""

    rule: Literal["any_word"]
    values: _Values

    def keeps(self, answer: str) -> bool:
        return any(re.search(self._whole(_flat(value)), _flat(answer)) for value in self.values)

    @staticmethod
    def _whole(value: str) -> str:
        if value[-1].isdigit():  # a unit may follow: 100cm, 24hrs
            return rf"(?<![^\W_])(?<![^\W_]-)(?<!\d[.,/]){re.escape(value)}(?!\d|,\d|/\d|\.\d*[1-9])"
        return rf"(?<![^\W_])(?<![^\W_]-){re.escape(value)}(?![^\W_])"

    @property
    def words(self) -> str:
        return "has the word " + " or ".join(self.values)


class Excludes(_Rule):
    rule: Literal["excludes"]
    values: _Values

    def keeps(self, answer: str) -> bool:
        # An empty answer excludes everything; it must not score for that.
        return bool(answer.strip()) and not any(_flat(v) in _flat(answer) for v in self.values)

    @property
    def words(self) -> str:
        return "does not say " + " or ".join(self.values)


class OpensWith(_Rule):
    rule: Literal["opens_with"]
    values: _Values

    def keeps(self, answer: str) -> bool:
        return any(_flat(answer).startswith(_flat(v)) for v in self.values)

    @property
    def words(self) -> str:
        return "opens with " + " or ".join(self.values)


class ListItems(_Rule):
    rule: Literal["list_items"]
    min: int = Field(gt=0)

    def keeps(self, answer: str) -> bool:
        return len(re.findall(r"^[^\S\n]*-[^\S\n]+\S", answer, re.MULTILINE)) >= self.min

    @property
    def words(self) -> str:
        return f"lists at least {self.min} points, each on a line with “- ”"


class Number(_Rule):
    rule: Literal["number"]
    value: float

    def keeps(self, answer: str) -> bool:
        found = re.search(r"-?\d+(?:[.,]\d+)?", answer)
        return found is not None and abs(float(found[0].replace(",", ".")) - self.value) <= 0.01

    @property
    def words(self) -> str:
        return f"the first number is {self.value:g}"


Rule = Annotated[
    MaxWords
    | MinWords
    | SpeaksToReader
    | EndsWithNextStep
    | ContainsAll
    | ContainsAny
    | AnyWord
    | Excludes
    | OpensWith
    | ListItems
    | Number,
    Field(discriminator="rule"),
]


class EvaluationItem(BaseModel):
    """One question of an evaluation set and the rules a good answer keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = Field(min_length=1)
    context: str = ""
    category: str = ""
    rules: tuple[Rule, ...] = Field(min_length=1)


def judge(rules: Sequence[Rule], answer: str) -> list[bool]:
    """Which rules the answer keeps, in their order."""
    return [rule.keeps(answer) for rule in rules]
