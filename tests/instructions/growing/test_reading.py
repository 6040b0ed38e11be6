"""Reading what models wrote, small ones too; and the two measures that decide what stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.evaluation.metrics.rouge import RougeL
from studio.instructions.growing.alike import Questions, rouge_l
from studio.instructions.growing.grounding import grounding, overlap
from studio.instructions.growing.reading import answer_fault, first_question, items, line
from studio.specs import Completion

quick = settings(deadline=None, derandomize=True, max_examples=150)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. Wash it.\n2. Dry it.", ["Wash it.", "Dry it."]),
        ("Sure! Here are some tasks:\n\n1) Wash it.\n\n2) Dry it.", ["Wash it.", "Dry it."]),
        ("- **Wash it.**\n* Dry it.", ["Wash it.", "Dry it."]),
        ('Task 1: "Wash it."\nTask 2: Dry it.', ["Wash it.", "Dry it."]),
        ("1. Task: Wash it.\n2.\n3. Dry it.", ["Wash it.", "Dry it."]),
        ("Wash it.\nDry it.", ["Wash it.", "Dry it."]),
        ("1. Wash it.\nThis is how it goes on.\n2. Dry it.", ["Wash it.", "Dry it."]),
        ("Here are the tasks:", []),
        ("  \n1.\n- ", []),
    ],
    ids=[
        "plain",
        "small talk",
        "bullets",
        "labels",
        "label inside",
        "no marks",
        "second lines",
        "only talk",
        "nothing",
    ],
)
def test_a_list_is_read_in_whatever_form_it_comes(text: str, found: list[str]) -> None:
    assert items(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How do I wash it?", "How do I wash it?"),
        ('Sure, here is a new wording:\n\n"How do I wash it?"\n\nI hope this helps!', "How do I wash it?"),
        ("Paraphrase: How do I wash it?", "How do I wash it?"),
        ("", ""),
        ("Certainly!", ""),
    ],
)
def test_one_line_is_read_without_label_quotes_and_small_talk(text: str, found: str) -> None:
    assert line(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Question: How heavy is it? Answer: Two kilos.", "How heavy is it?"),
        ("The text is about tents. How heavy is the 2.1 tent?", "How heavy is the 2.1 tent?"),
        ("1. What does the maker say?\n2. And who is it?", "What does the maker say?"),
        ("The tent is heavy.", ""),
        ("Why?", ""),
        ("テントの重さは何ですか？", "テントの重さは何ですか？"),
    ],
)
def test_the_first_question_is_found(text: str, found: str) -> None:
    assert first_question(text) == found


@pytest.mark.parametrize(
    ("text", "finish", "fault"),
    [
        ("Wash it by hand.", "stop", ""),
        ("Wash it by", "length", "cut"),
        (" .\n", "stop", "unread"),
        ("I am unable to wash jackets.", "stop", "refusal"),
        ("How do I wash it?", "stop", "echo"),
        ("Wash it by hand. " * 20, "stop", "poor"),
    ],
)
def test_an_answer_that_teaches_nothing_has_a_fault(text: str, finish: str, fault: str) -> None:
    answer = Completion(text=text, finish=finish, prompt_tokens=1, output_tokens=1)  # type: ignore[arg-type]
    assert answer_fault("How do I wash it?", "open_qa", answer, 60) == fault


@quick
@given(st.text(max_size=300))
def test_anything_can_be_read(text: str) -> None:
    for entry in [*items(text), line(text), first_question(text)]:
        assert "\n" not in entry
        assert entry == entry.strip()


_SAID = st.lists(st.sampled_from("wash dry the a jacket tent how do i it".split()), max_size=14).map(" ".join)


@quick
@given(_SAID, _SAID)
def test_rouge_l_is_that_of_the_evaluation(one: str, other: str) -> None:
    expected = RougeL().score(one, other, {}) or 0.0
    assert rouge_l(one, other) == pytest.approx(expected)


@quick
@given(st.lists(_SAID, max_size=12), _SAID, st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]))
def test_a_question_is_like_another_exactly_when_their_rouge_l_reaches_the_bound(
    known: list[str], asked: str, bound: float
) -> None:
    reaches = any(rouge_l(asked, other) >= bound - 1e-9 for other in known) and bool(asked)
    assert Questions(known, bound=bound).has_like(asked) == reaches


def test_an_accepted_question_counts_from_then_on() -> None:
    known = Questions(["How do I wash a jacket?"])
    assert not known.has_like("Name three poets of the last century.")
    known.add("Name three poets of the last century.")
    assert known.has_like("Name three great poets of the last century.")
    assert len(known) == 2


PASSAGE = "The Otter jacket weighs 410 grams. Wash it at 30 degrees, and never bleach it. It was made for paddlers."


@pytest.mark.parametrize(
    ("answer", "share", "made_up"),
    [
        ("It weighs 410 grams.", 1.0, ()),
        ("Washing at 30 degrees is right.", 0.75, ()),  # 'right' is not there
        ("It weighs 500 grams.", 2 / 3, ("500",)),
        ("No.", None, ()),
        ("Cyclists love their helmets.", 0.0, ()),
    ],
)
def test_an_answer_is_looked_up_word_by_word(answer: str, share: float | None, made_up: tuple[str, ...]) -> None:
    found = grounding(answer, PASSAGE)
    assert found.share == (None if share is None else pytest.approx(share))
    assert found.made_up == made_up


@quick
@given(st.lists(st.sampled_from(PASSAGE.split()), min_size=3, max_size=20).map(" ".join))
def test_what_the_passage_says_is_grounded_in_it(answer: str) -> None:
    assert grounding(answer, PASSAGE).share in (1.0, None)


def test_texts_about_different_things_have_nothing_in_common() -> None:
    assert overlap("Which helmets do cyclists love?", PASSAGE) == 0
    assert overlap("How heavy is the jacket?", PASSAGE) == 0.5
    assert overlap("How heavy is the jacket?", PASSAGE, but={"jacket"}) == 0
    assert overlap("Is it so?", PASSAGE) is None
