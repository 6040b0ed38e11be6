"""A selector's examples, as many as a number of tokens has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, SerializeAsAny

from studio.errors import InputError
from studio.prompts.selectors.base import Candidates, Order, Query, Selection, Selector, selector
from studio.prompts.selectors.knn import Knn
from studio.prompts.selectors.nearness import Vectors
from studio.store import Example

__all__ = ["LengthBudget"]


def _made(value: Any) -> Any:
    return value if isinstance(value, Selector) else selector(value)


class LengthBudget(Selector):
    """Drops the farthest example, then the next, until the rest holds. Locked ones stay."""

    name: ClassVar[str] = "length"
    title: ClassVar[str] = "Within a length"
    summary: ClassVar[str] = "What another selector chose, less the farthest ones that the length has no room for."
    is_wrapper: ClassVar[bool] = True

    inner: Annotated[SerializeAsAny[Selector], BeforeValidator(_made)] = Field(
        default_factory=Knn, title="Selector", description="Who chooses first."
    )
    tokens: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        title="Longest together",
        description="All examples of a prompt together, without the model's own marks.",
        json_schema_extra={"unit": "tokens"},
    )

    def choose(
        self,
        pool: Sequence[Example],
        query: Query,
        k: int,
        seed: int = 0,
        *,
        vectors: Vectors | None = None,
        sizes: Mapping[int, int] | None = None,
    ) -> Selection:
        """As the inner selector, cut to length. Raises InputError when the locked ones alone are too long."""
        selection = self.inner.choose(pool, query, k, seed, vectors=vectors, sizes=sizes)
        return self._cut(selection, sizes or {})

    def _cut(self, selection: Selection, sizes: Mapping[int, int]) -> Selection:
        if unknown := [e.id for e in selection.examples if e.id not in sizes]:
            raise InputError(f"The length of example {unknown[0]} is not known. Count it with a model first.")
        kept = sorted(selection.picks, key=lambda pick: pick.rank)
        while (total := sum(sizes[p.example.id] for p in kept)) > self.tokens and not kept[-1].example.is_locked:
            kept.pop()
        if total > self.tokens:
            raise InputError(
                f"The {len(kept)} locked examples have {total:,} tokens; at most {self.tokens:,} are allowed. "
                "Unlock one, or allow more."
            )
        dropped = tuple(pick for pick in selection.picks if pick not in kept)
        picks = tuple(pick for pick in selection.picks if pick in kept)
        return replace(selection, picks=picks, dropped=(*selection.dropped, *dropped))

    def to_measure(
        self, pool: Sequence[Example], query: Query, k: int, seed: int = 0, *, vectors: Vectors | None = None
    ) -> list[Example]:
        return self.inner.choose(pool, query, k, seed, vectors=vectors).examples

    @property
    def needs_vectors(self) -> bool:
        return self.inner.needs_vectors

    def _prefer(self, among: Candidates, n: int) -> list[int]:
        return self.inner._prefer(among, n)

    @property
    def _order(self) -> Order:
        return self.inner._order
