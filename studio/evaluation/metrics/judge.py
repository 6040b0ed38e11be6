"""Model judge: a model says which of two answers is better, asked in both orders.

A model that judges prefers the answer that stands first, or second, for its place alone (Zheng et al. 2023, arXiv
2306.05685). So each pair is shown both ways; where the two verdicts disagree it is a tie, and how often the place
decided is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.evaluation.metrics.base import Metric
from studio.specs import Message, ModelRef, system, user

__all__ = ["ModelJudge", "Verdict"]

Verdict = Literal["first", "second", "tie"]

_SYSTEM = (
    "You compare two answers to one question. {criteria} Length and order do not matter. "
    "Reply with one word and nothing else: A when answer A is better, B when answer B is better, Tie when neither is."
)
_CHOICE = r"(A|B|Tie)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.DOTALL)
    for form in (
        rf"\W*(?:answer\W+)?{_CHOICE}\W*",  # the whole reply
        rf".*\[\[{_CHOICE}\]\].*",
        rf".*\b(?:better|best|verdict|choice|winner)\b(?:\W+answer)?(?:\W+is)?(?:\W+answer)?\W+{_CHOICE}\b(?!['’]).*",
        rf"\W*(?:answer\W+)?{_CHOICE}(?:\s+is\s+better\b|\s*[.:,)\n]).*",
    )
)
_MEANS: dict[str, Verdict] = {"a": "first", "b": "second", "tie": "tie"}


class ModelJudge(Metric):
    """1 when the judge prefers the answer in both orders, 0 when it prefers the other, 0.5 for a tie.

    None where a verdict could not be read. `against` says what the answer is held against: the first column's, or the
    row's reference.
    """

    title: ClassVar[str] = "Model judge"
    summary: ClassVar[str] = "A model compares each answer with the first column's, in both orders."
    is_share: ClassVar[bool] = False
    passes: ClassVar[float] = 0.5
    asks: ClassVar[bool] = True

    metric: Literal["judge"] = "judge"
    model: ModelRef = Field(title="Judge", description="The model that compares.")
    against: Literal["first", "reference"] = Field(
        "first", title="Against", description="The first column's answer, or the row's reference."
    )
    criteria: str = Field(
        "The better one is more correct, more helpful and does what was asked.",
        min_length=1,
        title="What makes an answer better",
        description="The judge is told this.",
    )
    max_tokens: int = Field(16, ge=1, le=512, title="Max tokens", description="Longest verdict, in tokens.")

    @property
    def words(self) -> str:
        return f"Preferred by {self.model} over {'the first column' if self.against == 'first' else 'the reference'}"

    def messages(self, question: str, first: str, second: str) -> list[Message]:
        """The conversation that asks for a verdict, the answers in this order."""
        shown = f"Question:\n{question}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nWhich answer is better?"
        return [system(_SYSTEM.format(criteria=self.criteria.strip())), user(shown)]

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        """Not defined for a text alone: see `messages`, `verdict` and `settled`."""
        return None

    @staticmethod
    def verdict(reply: str) -> Verdict | None:
        """What the judge said; None when that cannot be read."""
        for form in _FORMS:
            if found := form.fullmatch(reply.strip()):
                return _MEANS[found[1].casefold()]
        return None

    @staticmethod
    def points(verdict: Verdict | None, place: Literal["first", "second"]) -> float | None:
        """What a verdict gives the answer that stood in this place."""
        if verdict is None:
            return None
        return 0.5 if verdict == "tie" else float(verdict == place)

    @staticmethod
    def settled(as_first: float | None, as_second: float | None) -> float | None:
        """The score from both orders: what both say, or a tie where they disagree."""
        if as_first is None or as_second is None:
            return None
        return as_first if as_first == as_second else 0.5
