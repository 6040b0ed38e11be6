"""Rankings as pairs: every strict preference once, no tie, no pair turned round."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.preferences import ranking_pairs


def test_a_ranking_of_four_with_a_tie_is_five_pairs() -> None:
    assert ranking_pairs([["a"], ["b", "c"], ["d"]]) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")]


@pytest.mark.parametrize(
    ("groups", "count"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([[1, 2, 3]], 0, id="all equal"),
        pytest.param([[1], [2]], 1, id="two"),
        pytest.param([[1], [2], [3], [4]], 6, id="four"),
        pytest.param([[n] for n in range(9)], 36, id="nine"),
    ],
)
def test_k_ranks_make_k_over_two_pairs(groups: list[list[int]], count: int) -> None:
    assert len(ranking_pairs(groups)) == count


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_pairs_say_exactly_what_the_ranking_says(ranks: list[int]) -> None:
    groups = [[a for a, rank in enumerate(ranks) if rank == r] for r in sorted(set(ranks))]
    pairs = ranking_pairs(groups)
    assert all(ranks[winner] < ranks[loser] for winner, loser in pairs)
    told_apart = [pair for pair in combinations(range(len(ranks)), 2) if ranks[pair[0]] != ranks[pair[1]]]
    assert sorted(tuple(sorted(pair)) for pair in pairs) == told_apart
