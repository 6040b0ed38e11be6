"""Quality: signs that can be counted, said in words; a clean record keeps its hundred points."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.instructions.statistics import PARTS, Quality, quality_summary, score

GOOD = {
    "instruction": "How do I care for a down jacket?",
    "context": "",
    "response": "Wash it at thirty degrees with a mild soap. Dry it slowly, and shake it from time to time so that the down opens.",
    "category": "open_qa",
}
LONG = (
    "First brush off the mud, since grit would scratch the fabric in the drum. Close every zip and open the pockets. Turn "
    "the garment inside out, then choose a short programme with cold water and half the usual amount of liquid soap. A "
    "second rinse gets rid of what clings to the feathers. Spin gently. Afterwards lay two tennis balls beside it in the "
    "dryer, because they beat apart the lumps that wet plumage makes. Check by hand after twenty minutes whether any "
    "chamber still feels damp, and repeat at low heat until none does. Store it loosely on a hanger, never squeezed."
)

quick = settings(deadline=None, derandomize=True, max_examples=60)


def _parts(quality: Quality) -> dict[str, int]:
    return {reason.part: reason.taken for reason in quality.reasons}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"response": "At 30 degrees."},
        {"response": "Paris", "instruction": "What is the capital of France?"},
        {"response": "wool", "category": "classification", "instruction": "Which of these is warm: wool or tin?"},
        {"response": "Bring these:\n- a tent\n- a stove\n- a map", "category": "brainstorming"},
        {"response": "Use this, and mind the name of the file:\n```\nprint('wash')\n```"},
        {"response": "洗濯は手で行い、乾燥は日陰でゆっくりと行ってください。"},
        {"response": "اغسل السترة بالماء البارد ولا تستخدم المبيض ولا تجففها في الشمس أبدا."},
        {"response": "Das nennt man „Wäsche“, und sie dauert nicht länger als eine Stunde am Tag."},
        {"response": LONG},
    ],
    ids=["plain", "short fact", "one word", "label", "list", "code", "japanese", "arabic", "quotes", "long"],
)
def test_a_record_without_signs_keeps_its_hundred_points(more: dict[str, str]) -> None:
    assert score(GOOD | more) == Quality(100)


@pytest.mark.parametrize(
    ("more", "part", "words"),
    [
        ({"response": "  "}, "empty", "no answer"),
        ({"response": "TODO: write this with Ann before May."}, "placeholder", "'todo'"),
        ({"response": "n/a"}, "placeholder", "'n/a'"),
        ({"response": "Dear [insert name of customer], thank you."}, "placeholder", "[insert name of customer]"),
        ({"response": "As an AI language model, I have no jacket to wash here."}, "refusal", "as an ai"),
        ({"response": "I’m sorry, but I can’t help with jackets of down."}, "refusal", "i'm sorry, but i can't"),
        ({"response": "Frag MÃ¼ller, der weiÃŸ, wie es geht."}, "damage", "answer"),
        ({"instruction": "Was kostet das fÃ¼r mich?"}, "damage", "question"),
        ({"instruction": "Explain how down keeps people warm.", "response": "Air."}, "short", "1 word answer"),
        ({"category": "summarization", "context": "Wool is warm."}, "long", "its text 3"),
        ({"response": GOOD["response"][:-10]}, "breaks_off", "has no end"),
        ({"response": "How do I care for a down jacket?"}, "echo", "over again"),
        ({"response": "How do I care for a down jacket? With soap, warm water and much time."}, "echo", "begins with"),
        ({"response": "Wash it by hand. " * 12}, "repeats", "repeat"),
        ({"response": "Wash " + "it and dry it and wash it or dry it or " * 12 + "so."}, "variety", "Of 50 words"),
    ],
)
def test_every_sign_takes_points_off_and_says_why(more: dict[str, str], part: str, words: str) -> None:
    found = score(GOOD | more)
    assert found.points < 100
    sentence = next(reason.sentence for reason in found.reasons if reason.part == part)
    assert words in sentence
    assert sentence.endswith(".")


def test_nobody_answered_gets_no_points_and_an_echo_few() -> None:
    assert score(GOOD | {"response": ""}).points == 0
    assert score(GOOD | {"response": GOOD["instruction"]}).points <= 40


def test_a_conversation_is_as_good_as_its_weakest_answer() -> None:
    turns = [
        {"role": "user", "content": GOOD["instruction"]},
        {"role": "assistant", "content": "TODO"},
        {"role": "user", "content": "And the boots?"},
        {"role": "assistant", "content": "Brush them."},
    ]
    found = score({"instruction": GOOD["instruction"], "response": "Brush them.", "turns": turns})
    assert _parts(found) == {"placeholder": 60}
    assert found.reasons[0].turn == 1


@quick
@given(
    st.fixed_dictionaries(
        {name: st.text(max_size=200) for name in ("instruction", "context", "response")}
        | {"category": st.sampled_from(["", "summarization", "classification", "brainstorming"])}
    )
)
def test_points_are_a_hundred_less_what_was_taken_off_and_never_below_nothing(row: dict[str, str]) -> None:
    found = score(row)
    assert found.points == max(0, 100 - sum(reason.taken for reason in found.reasons))
    assert found == score(row)
    assert all(0 < reason.taken <= PARTS[reason.part][1] for reason in found.reasons)


@pytest.mark.parametrize("piece", ["a", "a ", "\n- ", "[insert", "Ã", "é ", "i'm sorry ", "n/a ", ".", "漢"])
def test_ten_megabytes_of_anything_are_judged_at_once(piece: str) -> None:
    text = piece * (10_000_000 // len(piece.encode()))
    start = time.process_time()
    score({"instruction": text, "context": text, "response": text, "category": "summarization"})
    assert time.process_time() - start < 2


def test_a_summary_counts_points_in_tens_and_reasons_by_part() -> None:
    rows: list[dict[str, Any]] = [GOOD, GOOD | {"response": ""}, GOOD | {"response": "TODO"}, GOOD]
    found = quality_summary((number, score(row)) for number, row in enumerate(rows, 1))
    assert found.n == 4
    assert found.mean == pytest.approx((100 + 0 + 40 + 100) / 4)
    assert {bar.label: (bar.n, bar.where) for bar in found.bars if bar.n} == {
        "0 to 9": (1, {"ids": (2,)}),
        "40 to 49": (1, {"ids": (3,)}),
        "90 to 100": (2, {"ids": (1, 4)}),
    }
    assert {figure.label: figure.share for figure in found.reasons} == {"empty": 0.25, "placeholder": 0.25}


def test_no_scores_have_no_mean() -> None:
    assert quality_summary([]).mean is None


def test_scores_fall_when_words_are_taken_away() -> None:
    draw = random.Random(2)
    said = LONG.split()
    cut = [" ".join(said[: draw.randint(20, 90)]).rstrip(".") + " of the" for _ in range(20)]
    assert all(score(GOOD | {"response": text}).points < score(GOOD | {"response": LONG}).points for text in cut)
