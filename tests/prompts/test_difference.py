"""Differences: both texts can be read off the pieces, and few words are marked where few changed."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.prompts.difference import Piece, changed_fields, word_diff

SAME, ADDED, REMOVED = "same", "added", "removed"


def _said(pieces: list[Piece]) -> str:
    marks = {"same": "{}", "added": "[+{}]", "removed": "[-{}]"}
    return "".join(marks[piece.kind].format(piece.text) for piece in pieces)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param("", "", "", id="nothing"),
        pytest.param("", "new", "[+new]", id="all added"),
        pytest.param("old", "", "[-old]", id="all removed"),
        pytest.param("Be brief.", "Be brief.", "Be brief.", id="nothing changed"),
        pytest.param("Be brief.", "Be very brief.", "Be [+very ]brief.", id="a word more"),
        pytest.param("Be very brief.", "Be brief.", "Be [-very ]brief.", id="a word less"),
        pytest.param("Be brief.", "Be kind.", "Be [-brief][+kind].", id="a word for another"),
        pytest.param("one two three", "one deux trois", "one [-two three][+deux trois]", id="words that go together"),
        pytest.param("a\nb\nc", "a\nx\nc", "a\n[-b][+x]\nc", id="a line"),
        pytest.param("Sei kurz", "Sei kürzer", "Sei [-kurz][+kürzer]", id="umlauts"),
        pytest.param("短く答えて", "長く答えて", "[-短][+長]く答えて", id="no spaces between words"),
        pytest.param("a b a b a b", "a b a b", "a b a b[- a b]", id="nothing stands once"),
        pytest.param('{"a": 1}', '{"a": 2}', '{"a": [-1][+2]}', id="JSON"),
    ],
)
def test_changed_words_are_marked_and_no_others(before: str, after: str, said: str) -> None:
    assert _said(word_diff(before, after)) == said


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", " ", "\n", ". ", "ä", "短"]), max_size=25).map("".join)


def _text(pieces: list[Piece], *kinds: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind in kinds)


@given(WORDS | st.text(max_size=40), WORDS | st.text(max_size=40))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_both_texts_can_be_read_off_the_pieces(before: str, after: str) -> None:
    pieces = word_diff(before, after)
    assert _text(pieces, SAME, REMOVED) == before
    assert _text(pieces, SAME, ADDED) == after
    assert all(piece.text for piece in pieces)
    assert all(one.kind != other.kind for one, other in itertools.pairwise(pieces))


@given(WORDS)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert word_diff(text, text) == ([Piece("same", text)] if text else [])


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_where_no_word_stands_once_the_fewest_are_marked(one: list[str], other: list[str]) -> None:
    # Each word twice in a row, so that nothing anchors, and glued by a sign that is no space.
    before, after = (
        "-".join(w for word in one for w in (word, word)),
        "-".join(w for word in other for w in (word, word)),
    )
    kept = _text(word_diff(before, after), SAME)
    assert len(kept) == _longest_common(before, after)


def _longest_common(one: str, other: str) -> int:
    row = [0] * (len(other) + 1)
    for letter in one:
        above = list(row)
        for place, rival in enumerate(other, start=1):
            row[place] = above[place - 1] + 1 if letter == rival else max(above[place], row[place - 1])
    return row[-1]


def _prose(words: int, seed: int, vocabulary: int = 4_000) -> list[str]:
    draw = random.Random(seed)
    return [f"w{int(draw.paretovariate(0.6)) % vocabulary}" for _ in range(words)]


def test_a_few_edits_in_fifty_kilobytes_are_found_one_by_one() -> None:
    before = _prose(10_000, seed=1)
    after = list(before)
    for place in (10, 4_000, 9_990):
        after[place] = "edited"
    changed = [p for p in word_diff(" ".join(before), " ".join(after)) if p.kind != SAME]
    assert len(changed) == 6
    assert [p.text for p in changed if p.kind == ADDED] == ["edited"] * 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(_prose(10_000, 1), _prose(10_000, 2), id="nothing in common"),
        pytest.param(_prose(10_000, 1, 3), _prose(10_000, 2, 3), id="three words only"),
        pytest.param(_prose(10_000, 1), sorted(_prose(10_000, 1)), id="sorted"),
        pytest.param(["x"] * 20_000, ["x"] * 19_000, id="one word"),
        pytest.param(_prose(10_000, 1), _prose(10_000, 1)[::-1], id="backwards"),
    ],
)
def test_texts_that_differ_throughout_are_compared_too(before: list[str], after: list[str]) -> None:
    pieces = word_diff(" ".join(before), " ".join(after))
    assert _text(pieces, SAME, REMOVED) == " ".join(before)
    assert _text(pieces, SAME, ADDED) == " ".join(after)


def test_only_fields_that_changed_are_shown() -> None:
    before = {"user": "Ask", "system": "", "labels": ["yes", "no"], "shots": 2, "note": "x"}
    after = {"user": "Ask", "system": "Be brief", "labels": ["yes", "maybe", "no"], "shots": 3}
    found = changed_fields(before, after)
    assert {name: _said(pieces) for name, pieces in found.items()} == {
        "system": "[+Be brief]",
        "labels": "yes\n[+maybe\n]no",
        "shots": "[-2][+3]",
        "note": "[-x]",
    }
