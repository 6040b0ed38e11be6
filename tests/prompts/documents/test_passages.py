"""Cutting: no word is lost or made up, passages are neither long nor torn, and each knows where it stands."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.prompts.documents.passages import Block, Outline, cut
from studio.prompts.documents.words import count_words

SENTENCE = "The tent dries on the line until its seams are dry too. "  # 12 words

words = st.text(st.characters(exclude_categories=["Z", "C"], max_codepoint=0x2000), min_size=1, max_size=12)
texts = st.lists(st.tuples(words, st.sampled_from([" ", " ", " ", ". ", "\n", "\n\n", "! "])), max_size=400).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)
blocks = st.lists(
    st.builds(
        Block,
        text=texts,
        headings=st.lists(st.sampled_from(["Care", "Tents", "Returns"]), max_size=2).map(tuple),
        unit=st.sampled_from(["page", "row", "line", "paragraph"]),
        first=st.integers(1, 99),
        is_heading=st.booleans(),
        tail=st.sampled_from(["\n", "\n\n"]),
    ),
    max_size=12,
)


@given(blocks)
def test_the_words_of_the_passages_are_the_words_of_the_text(given_blocks: list[Block]) -> None:
    pieces = cut(given_blocks)
    assert [w for piece in pieces for w in piece.text.split()] == [w for b in given_blocks for w in b.text.split()]
    assert all(piece.text == piece.text.strip() != "" for piece in pieces)


@given(blocks)
def test_no_passage_is_longer_than_220_words(given_blocks: list[Block]) -> None:
    assert all(count_words(piece.text) <= 220 for piece in cut(given_blocks))


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x4E40), min_size=1, max_size=3000))
def test_a_text_without_spaces_is_cut_too_and_loses_no_sign(text: str) -> None:
    pieces = cut([Block(text)])
    assert "".join(piece.text for piece in pieces) == text
    assert all(len(piece.text) <= 440 for piece in pieces)


@pytest.mark.parametrize("text", ["x" * 100_000, "ab " * 50_000, "。" * 5000, "a.\n" * 20_000], ids=lambda t: t[:3])
def test_a_text_without_sentences_is_cut_all_the_same(text: str) -> None:
    pieces = cut([Block(text)])
    assert re.sub(r"\s", "", "".join(piece.text for piece in pieces)) == re.sub(r"\s", "", text)
    assert max(count_words(piece.text) for piece in pieces) <= 220


def test_a_long_text_becomes_passages_of_120_to_180_words_that_end_with_a_sentence() -> None:
    pieces = cut(Block(SENTENCE * 7) for _ in range(30))
    assert all(120 <= count_words(piece.text) <= 180 for piece in pieces[:-1])
    assert all(piece.text.endswith(".") for piece in pieces)


def test_a_paragraph_that_is_too_long_is_cut_between_sentences() -> None:
    assert [count_words(piece.text) for piece in cut([Block(SENTENCE * 40)])] == [180, 180, 120]


def test_a_heading_begins_a_passage_and_never_ends_one() -> None:
    care, tents = Block("Care", ("Care",), is_heading=True), Block("Tents", ("Care", "Tents"), is_heading=True)
    pieces = cut([care, Block(SENTENCE * 8, ("Care",)), tents, Block(SENTENCE * 8, ("Care", "Tents"))])
    assert [piece.text.split()[0] for piece in pieces] == ["Care", "Tents"]
    full = cut([care, Block(SENTENCE * 13, ("Care",)), tents, Block(SENTENCE, ("Care", "Tents"))])
    assert full[1].text == f"Tents\n\n{SENTENCE.strip()}"


def test_a_few_words_at_the_end_stay_with_what_they_follow() -> None:
    (piece,) = cut([Block((SENTENCE * 14).strip()), Block("Good luck.")])
    assert piece.text.endswith("too.\n\nGood luck.")


@pytest.mark.parametrize(
    ("first", "last", "place"),
    [
        pytest.param(Block("a", ("Care", "Otter")), Block("b", ("Care", "Otter")), "Care > Otter", id="a heading"),
        pytest.param(
            Block("a", ("Care", "Otter")), Block("b", ("Care", "Wren")), "Care > Otter – Wren", id="two of a heading"
        ),
        pytest.param(Block("a", ("Care",)), Block("b", ("Care", "Wren")), "Care", id="a heading and one below it"),
        pytest.param(Block("a", ("Care",)), Block("b", ("Fold",)), "Care – Fold", id="two headings"),
        pytest.param(Block("a", (), "line", 1, 1), Block("b", ("Care",)), "Care", id="before the first heading"),
        pytest.param(Block("a", (), "page", 3, 3), Block("b", (), "page", 3, 3), "page 3", id="a page"),
        pytest.param(Block("a", (), "page", 3, 3), Block("b", (), "page", 5, 5), "pages 3–5", id="pages"),
        pytest.param(Block("a", (), "row", 17, 17), Block("b", (), "row", 18, 18), "rows 17–18", id="rows"),
        pytest.param(Block("a"), Block("b"), "", id="nothing to go by"),
        pytest.param(Block("a", ("x" * 90,)), Block("b", ("x" * 90,)), "x" * 90, id="as the outline gives it"),
    ],
)
def test_a_passage_says_where_it_stands(first: Block, last: Block, place: str) -> None:
    (piece,) = cut([first, last])
    assert piece.place == place


def test_a_place_in_plain_text_is_the_lines_it_is_on() -> None:
    text = "\n".join(SENTENCE.strip() for _ in range(30))
    pieces = cut([Block(text, unit="line", first=5, last=34)])
    assert [piece.place for piece in pieces] == ["lines 5–19", "lines 20–34"]


def test_an_outline_closes_headings_of_the_same_level_and_below() -> None:
    outline = Outline()
    paths = []
    for level, title in ((1, "Care"), (3, "Otter"), (2, "Wren"), (2, "Tents"), (1, "Fold")):
        outline.enter(level, title)
        paths.append(" > ".join(outline.path))
    assert paths == ["Care", "Care > Otter", "Care > Wren", "Care > Tents", "Fold"]


def test_a_heading_of_a_hundred_words_is_shortened_in_the_place_only() -> None:
    outline = Outline()
    outline.enter(1, "word " * 100)
    assert len(outline.path[0]) == 80
    assert outline.path[0].endswith("…")
