"""How answers are read: the rules that decide a score, one by one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.prompts.techniques import Found, after_marker, majority, numbers, vote

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("It costs $29.00 today", ["29"], id="currency and zeros to spare"),
        pytest.param("So it is 29.", ["29"], id="full stop of the sentence"),
        pytest.param("3.14.", ["3.14"], id="full stop behind a decimal"),
        pytest.param("29 kg, 5kg, 45%", ["29", "5", "45"], id="units"),
        pytest.param("1,234,567.50", ["1234567.5"], id="thousands by commas"),
        pytest.param(f"1{NARROW}234 and 1\u00a0000", ["1234", "1000"], id="thousands by no-break spaces"),
        pytest.param("1.234,50", ["1234.5"], id="thousands by points, decimal comma"),
        pytest.param("1.234.567", ["1234567"], id="thousands by points"),
        pytest.param("1.234", ["1.234"], id="one point is decimal"),
        pytest.param("1,234", ["1234"], id="one comma before three digits is none"),
        pytest.param("4,90 or 2,8", ["4.9", "2.8"], id="decimal comma"),
        pytest.param("1,2,3", ["1", "2", "3"], id="a list is no decimal"),
        pytest.param("1, 2, 3", ["1", "2", "3"], id="a list with spaces"),
        pytest.param("12,3456", ["12", "3456"], id="four digits are no group"),
        pytest.param("-7 and −7 and (-7)", ["-7", "-7", "-7"], id="negative, in either sign"),
        pytest.param("-$5 or $-5", ["-5", "-5"], id="negative amounts"),
        pytest.param(
            "5-3 and 3–5 and 2024-01-05", ["5", "3", "3", "5", "2024", "1", "5"], id="a dash between is no sign"
        ),
        pytest.param("x-3", ["3"], id="nor behind a letter"),
        pytest.param("- 5 apples", ["5"], id="nor a bullet"),
        pytest.param("-0 and 0.00", ["0", "0"], id="no negative zero"),
        pytest.param("007", ["7"], id="leading zeros"),
        pytest.param(".5 and -.5", ["0.5", "-0.5"], id="no digit before the point"),
        pytest.param("1e5 2.5e-3 5e", ["100000", "0.0025", "5"], id="powers of ten"),
        pytest.param("A4, Q3 and x1y2", [], id="inside words"),
        pytest.param("**12** \\boxed{13} (14)", ["12", "13", "14"], id="in markup"),
        pytest.param("10:30", ["10", "30"], id="a time is two"),
        pytest.param("twelve", [], id="words are no digits"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_a_number_is_read_as_people_mean_it(text: str, read: list[str]) -> None:
    assert [number.text for number in numbers(text)] == read


def test_a_number_knows_where_it_stands() -> None:
    text = "Pay -$1,200.00 now"
    [number] = numbers(text)
    assert (text[number.start : number.end], number.value) == ("-$1,200.00", Decimal(-1200))


VALUES = st.decimals(min_value=-(10**15), max_value=10**15, places=2)


@given(VALUES, st.sampled_from(["{}", "It is {}.", "(${})", "total: {} kg", "**{}**\nmore"]))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_what_was_written_with_separators_is_read_back(value: Decimal, around: str) -> None:
    [number] = numbers(around.format(f"{value:,}"))
    assert number.value == value
    assert numbers(number.text)[0].text == number.text


@given(st.text(max_size=80))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_text_can_be_read(text: str) -> None:
    places = [(number.start, number.end) for number in numbers(text)]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)


ANSWER = "The answer is"


@pytest.mark.parametrize(
    ("text", "found", "strict"),
    [
        pytest.param("4 + 3 = 7.\nThe answer is 7.", "7", True, id="behind the marker"),
        pytest.param("The answer is $29.00, and 3 are left.", "29", True, id="the first number behind it"),
        pytest.param("The answer is 5. No. The answer is 6.", "6", True, id="the last marker counts"),
        pytest.param("The answer is **12** apples", "12", True, id="emphasis"),
        pytest.param("3 and 4. So the answer is 12 of 20.", "12", False, id="another case of letters is lenient"),
        pytest.param("First 3, then 4.", "4", False, id="no marker: the last number"),
        pytest.param(
            "We saw 3.\nThe answer is unknown.\nSorry 4 that.", "4", False, id="only the marker's line counts"
        ),
    ],
)
def test_a_number_is_read_behind_the_marker(text: str, found: str, strict: bool) -> None:
    read = after_marker(text, ANSWER, "number")
    assert (read.text, read.strict, read.parsed) == (found, strict, True)


def test_without_any_number_nothing_is_found() -> None:
    assert after_marker("The answer is unknown.", ANSWER, "number") == Found("", False, 0, 0, parsed=False)


@pytest.mark.parametrize(
    ("text", "marker", "found", "strict"),
    [
        pytest.param("Rome is older. The answer is Paris.", ANSWER, "Paris", True, id="a sentence ends with a stop"),
        pytest.param('The answer is: "Paris".\nBye.', ANSWER, "Paris", True, id="colon and quotes"),
        pytest.param("The answer is St. Louis.", ANSWER, "St. Louis", True, id="a stop inside stays"),
        pytest.param("The answer is to wait…..", ANSWER, "to wait…..", True, id="an ellipsis stays"),
        pytest.param("I think.\nReply: At 30.\nNot more.", "Reply:", "At 30.\nNot more.", True, id="a heading's text"),
        pytest.param("Reply: no. Reply: yes.", "Reply:", "yes.", True, id="the last heading counts"),
        pytest.param("reply: At 30.", "Reply:", "At 30.", False, id="another case of letters is lenient"),
        pytest.param("I think.\n\nAt 30. \n", "Reply:", "At 30.", False, id="no marker: the last line"),
        pytest.param("The answer is\n", ANSWER, "The answer is", False, id="nothing behind it"),
    ],
)
def test_words_are_read_behind_the_marker(text: str, marker: str, found: str, strict: bool) -> None:
    read = after_marker(text, marker, "text")
    assert (read.text, read.strict) == (found, strict)
    assert text[read.start : read.end] == read.text


@pytest.mark.parametrize("text", ["", " \n "])
def test_in_an_empty_output_nothing_is_found(text: str) -> None:
    assert not after_marker(text, ANSWER, "text").parsed


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("$29.00", "29", True),
        ("1,000", "1000.", True),
        ("At 30.", "at  30", True),
        ("Yes", "No", False),
        ("30 kg", "30 lb", False),
        ("-3", "3", False),
    ],
)
def test_votes_agree_where_answers_say_the_same(one: str, other: str, agree: bool) -> None:
    assert (vote(one) == vote(other)) is agree


@pytest.mark.parametrize(
    ("answers", "place", "count"),
    [
        pytest.param(["3", "4", "4.0"], 1, 2, id="most votes"),
        pytest.param(["3", "4", "4", "3"], 0, 2, id="a tie goes to the first"),
        pytest.param(["b", "a", "a", "b", "c"], 0, 2, id="not to the alphabet's first"),
        pytest.param(["x"], 0, 1, id="alone"),
    ],
)
def test_the_majority_wins_and_ties_go_to_the_first(answers: list[str], place: int, count: int) -> None:
    assert majority(answers) == (place, count)
