"""What the selectors share that compare the examples with the question."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from studio.instructions import question
from studio.prompts.selectors.base import Candidates, Order, Pick, Selector
from studio.prompts.selectors.nearness import Nearness, by_vectors, by_words

__all__ = ["Comparing"]


class Comparing(Selector, ABC):
    """Knows how near every example is to the question.

    The nearest one comes last by default, right before the question: a model leans on what it read last (recency bias,
    Zhao et al. 2021, arXiv 2102.09690), and of the two orders Liu et al. 2021 tried for KATE, nearest last did best on
    Natural Questions and little worse elsewhere. So the other order is a knob, and a selection says which it has.
    """

    compares: ClassVar[bool] = True

    by: Literal["words", "model"] = Field(
        "words",
        title="Compare by",
        description="Shared words need no model; vectors of the chosen model also find other words for the same thing.",
        json_schema_extra={"labels": {"words": "Shared words (TF-IDF)", "model": "Vectors of the model"}},
    )
    nearest: Literal["last", "first"] = Field(
        "last",
        title="Nearest example",
        description="Models lean on what they read last, so the nearest example stands right before the question.",
        json_schema_extra={"labels": {"last": "Last", "first": "First"}},
    )

    @property
    def needs_vectors(self) -> bool:
        return self.by == "model"

    def _nearness(self, among: Candidates) -> Nearness:
        if self.by == "model":
            return by_vectors(among.shelf, among.vectors)
        texts = [question(example.instruction, example.context) for example in among.shelf]
        return by_words(texts, among.query.text)

    def _similarity(self, among: Candidates) -> Sequence[float]:
        return self._nearness(among).to_query().tolist() if among.shelf else []

    def _arranged(self, picks: Sequence[Pick]) -> list[Pick]:
        nearest_first = sorted(picks, key=lambda pick: (-(pick.similarity or 0.0), pick.rank))
        return nearest_first if self.nearest == "first" else nearest_first[::-1]

    @property
    def _order(self) -> Order:
        return "nearest first" if self.nearest == "first" else "nearest last"
