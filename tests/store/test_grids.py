"""Grids: cells are written once, counted and sifted by the database, and answers are remembered by what made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from studio.specs import Completion
from studio.store import CellFilter, GridCell, Store
from tests.store.test_evaluations import Nothing


@pytest.fixture
def job(store: Store) -> int:
    return store.queue_job(Nothing(), author="ann").id


def _cell(column: int = 0, row: int = 0, repeat: int = 0, **fields: Any) -> GridCell:
    values: dict[str, Any] = {
        "output": f"Antwort {row} 🏕️",
        "answer": f"{row}",
        "is_strict": True,
        "finish": "stop",
        "prompt_tokens": 10,
        "output_tokens": 4,
        "seconds": 0.5,
        "calls": 1,
        "is_cached": False,
        "scores": {},
        "examples": [],
    }
    return GridCell(column, row, repeat, **(values | fields))


# -- cells ---------------------------------------------------------------------------------------------------


def test_cells_come_back_as_they_were_by_row_column_and_repeat(store: Store, job: int) -> None:
    made = [
        _cell(1, 3, scores={"exact": None, "f1": 0.25}, examples=[7, "data:gear@1#4"]),
        _cell(0, 3, repeat=1, finish="length", is_strict=False, answer=""),
        _cell(0, 3),
        _cell(0, 1),
    ]
    store.add_cells(job, made)
    assert store.cells(job, [1, 3]) == [made[3], made[2], made[1], made[0]]
    assert store.cell_places(job) == {(1, 3, 0), (0, 3, 1), (0, 3, 0), (0, 1, 0)}
    assert list(store.all_cells(job)) == store.cells(job, [1, 3])


def test_a_cell_that_is_there_stays_as_it_is(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(output="first")])
    store.add_cells(job, [_cell(output="second"), _cell(row=1)])
    assert [c.output for c in store.all_cells(job)] == ["first", "Antwort 1 🏕️"]


def test_cells_belong_to_their_job(store: Store, job: int) -> None:
    other = store.queue_job(Nothing(), author="ann").id
    store.add_cells(job, [_cell()])
    assert (store.cell_places(other), store.column_counts(other), store.cell_rows(other)) == (set(), [], [])


def test_a_nul_is_left_out_on_every_database(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(output="a\x00b", answer="\x00")])
    assert [(c.output, c.answer) for c in store.all_cells(job)] == [("ab", "")]


def test_no_cells_are_no_work(store: Store, job: int) -> None:
    store.add_cells(job, [])
    store.merge_scores(job, {})
    assert list(store.all_cells(job)) == []


def test_all_cells_reach_beyond_one_batch(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(column, row) for row in range(450) for column in (0, 1)])
    found = [(c.row, c.column) for c in store.all_cells(job)]
    assert found == [(row, column) for row in range(450) for column in (0, 1)]


def test_scores_that_come_later_join_those_that_are_there(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(0, row, scores={"exact": 1.0}) for row in range(3)])
    store.merge_scores(job, {(0, 1, 0): {"judge": 0.5}, (0, 2, 0): {"judge": None, "exact": 0.0}})
    assert [c.scores for c in store.all_cells(job)] == [
        {"exact": 1.0},
        {"exact": 1.0, "judge": 0.5},
        {"exact": 0.0, "judge": None},
    ]


# -- sifting -------------------------------------------------------------------------------------------------


@pytest.fixture
def sifted(store: Store, job: int) -> Store:
    """Two columns, six rows: 0 both right, 1 first wrong, 2 both wrong, 3 unparsed, 4 cut, 5 refused and undefined."""
    scores = {0: (1.0, 1.0), 1: (0.0, 1.0), 2: (0.0, 0.0), 3: (1.0, 1.0), 4: (1.0, 1.0), 5: (None, None)}
    cells = [
        _cell(column, row, scores={"exact": score}) for row, pair in scores.items() for column, score in enumerate(pair)
    ]
    changes: dict[tuple[int, int], dict[str, Any]] = {
        (0, 2): {"answer": "other"},
        (1, 3): {"answer": "", "is_strict": False},
        (0, 4): {"finish": "length"},
        (1, 5): {"finish": "refused", "answer": "", "output": "Too long."},
    }
    store.add_cells(job, [replace(c, **changes.get((c.column, c.row), {})) for c in cells])
    return store


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (CellFilter(), [0, 1, 2, 3, 4, 5]),
        (CellFilter("failures", "exact"), [1, 2]),
        (CellFilter("failures", "exact", columns=(1,)), [2]),
        (CellFilter("failures", "f1"), []),
        (CellFilter("differences", "exact"), [1]),
        (CellFilter("differences", "exact", columns=(0,)), []),
        (CellFilter("differences"), [2, 3]),
        (CellFilter("unparsed"), [3]),
        (CellFilter("truncated"), [4]),
        (CellFilter("truncated", columns=(1,)), []),
        (CellFilter("refused"), [5]),
    ],
    ids=str,
)
def test_a_filter_leaves_the_rows_it_says(sifted: Store, job: int, where: CellFilter, rows: list[int]) -> None:
    assert sifted.cell_rows(job, where) == rows
    assert sifted.count_cell_rows(job, where) == len(rows)


def test_rows_come_in_pages(sifted: Store, job: int) -> None:
    pages = [sifted.cell_rows(job, offset=offset, limit=4) for offset in (0, 4, 8)]
    assert pages == [[0, 1, 2, 3], [4, 5], []]


def test_a_failure_may_be_anything_below_a_mark(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(0, row, scores={"f1-12ab": row / 10}) for row in range(10)])
    assert store.cell_rows(job, CellFilter("failures", "f1-12ab", below=0.3)) == [0, 1, 2]


def test_repeats_that_differ_are_no_difference_between_columns(store: Store, job: int) -> None:
    for column in (0, 1):
        store.add_cells(job, [_cell(column, 0, r, answer=f"a{r}", scores={"exact": r % 2}) for r in range(4)])
    assert store.cell_rows(job, CellFilter("differences")) == []
    assert store.cell_rows(job, CellFilter("differences", "exact")) == []


# -- adding up -----------------------------------------------------------------------------------------------


def test_a_column_adds_up_to_its_counts(store: Store, job: int) -> None:
    cells = [
        _cell(0, 0, 0, output="x", seconds=2.0, prompt_tokens=10, output_tokens=2),
        _cell(0, 0, 1, output="y", seconds=4.0, prompt_tokens=20, output_tokens=4, calls=3),
        _cell(0, 1, 0, output="z", is_cached=True, seconds=99.0, finish="length", prompt_tokens=30, output_tokens=6),
        _cell(0, 1, 1, output="z", is_cached=True, answer="", is_strict=False, prompt_tokens=0, output_tokens=0),
        _cell(0, 2, 0, finish="refused", answer="", is_strict=False, seconds=50.0, prompt_tokens=0, output_tokens=0),
        _cell(2, 0, 0, finish="refused", answer="", is_strict=False),
    ]
    store.add_cells(job, cells)
    first, other = store.column_counts(job)
    assert (first.cells, first.rows, first.refused, first.cached) == (5, 3, 1, 2)
    assert (first.parsed, first.strict, first.truncated) == (3, 3, 1)
    assert (first.prompt_tokens, first.output_tokens) == (pytest.approx(15.0), pytest.approx(3.0))
    assert (first.calls, first.seconds) == (4, pytest.approx(6.0))  # neither the cached nor the refused
    assert first.distinct == pytest.approx(1.5)
    assert (other.column, other.cells, other.refused) == (2, 1, 1)
    assert (other.prompt_tokens, other.output_tokens, other.distinct, other.seconds) == (None, None, None, 0.0)


def test_a_rows_score_is_the_mean_of_its_repeats_where_it_is_defined(store: Store, job: int) -> None:
    store.add_cells(job, [_cell(0, 0, r, scores={"f1": s}) for r, s in enumerate((0.25, None, 0.75))])
    store.add_cells(job, [_cell(0, 1, scores={"f1": None}), _cell(1, 1, scores={"f1": 1.0}), _cell(1, 2)])
    found = store.row_scores(job, "f1")
    assert [(f.column, f.scores) for f in found] == [(0, {0: 0.5}), (1, {1: 1.0})]
    assert store.row_scores(job, "exact") == []


# -- the cache -----------------------------------------------------------------------------------------------


def _answer(text: str = "A tent.", **fields: Any) -> Completion:
    values: dict[str, Any] = {"finish": "stop", "prompt_tokens": 9, "output_tokens": 3, "seconds": 0.25}
    return Completion(text=text, **(values | fields))


def test_an_answer_is_found_by_its_key_and_keeps_its_seconds(store: Store) -> None:
    store.cache_answers({"k1": _answer(), "k2": _answer("Ein Zelt ⛺", finish="length")})
    assert store.cached_answers(["k1", "k2", "k3"]) == {"k1": _answer(), "k2": _answer("Ein Zelt ⛺", finish="length")}
    assert store.cached_answers([]) == {}


def test_the_first_answer_under_a_key_stays(store: Store) -> None:
    store.cache_answers({"k": _answer("first")})
    store.cache_answers({"k": _answer("second"), "l": _answer()})
    assert store.cached_answers(["k", "l"]) == {"k": _answer("first"), "l": _answer()}


def test_an_answer_that_a_person_stopped_is_not_remembered(store: Store) -> None:
    store.cache_answers({"k": _answer(finish="cancelled")})
    assert store.cached_answers(["k"]) == {}


def test_a_cached_answer_may_hold_a_nul(store: Store) -> None:
    store.cache_answers({"k": _answer("a\x00b")})
    assert store.cached_answers(["k"]) == {"k": _answer("ab")}


def test_more_keys_than_one_question_holds_are_found(store: Store) -> None:
    store.cache_answers({f"k{n}": _answer(str(n)) for n in range(1200)})
    assert len(store.cached_answers([f"k{n}" for n in range(1500)])) == 1200
