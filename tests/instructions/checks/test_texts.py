"""Placeholders, damaged characters, refusals and insults: what is found in a text, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.instructions.checks import RecordCheck, check_from, mended_record
from studio.instructions.checks.encoding import repaired
from studio.instructions.checks.lexicons import lexicon
from tests.instructions.checks.records import conversation, look, quick, record, seen


def _check(name: str) -> RecordCheck:
    check = check_from(name)
    assert isinstance(check, RecordCheck)
    return check


@pytest.mark.parametrize("text", ["TODO", "n/a", "N/A.", "...", "…", "?", "[TBD]", "xxx", " - ", "NaN", "undefined"])
def test_a_text_that_is_only_a_placeholder_is_flagged_whole(text: str) -> None:
    assert seen(_check("placeholders"), text) == [text]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Lorem ipsum dolor sit amet", ["Lorem ipsum"]),
        ("Dear [insert name], hello", ["[insert name]"]),
        ("Dear <your name here>,", ["<your name here>"]),
        ("Hi {{ name }} and {first_name}", ["{{ name }}", "{first_name}"]),
        ("TODO: write more", ["TODO:"]),
        ("Call [NAME 1] at [PHONE]", []),
        ("A set {1, 2} and a dict {'a': 1}", []),
        ("```\nprint({name})\n```", []),
        ("I have a to-do list; nothing is undefined.", []),
        ("None", []),
        ("A sentence ends here...", []),
    ],
)
def test_gaps_within_a_text_are_pointed_at(text: str, found: list[str]) -> None:
    assert sorted(seen(_check("placeholders"), text)) == sorted(found)


def test_an_empty_question_or_answer_is_flagged_and_an_empty_context_is_not() -> None:
    check = _check("placeholders")
    assert [flag.field for flag in check.look(record(1, " ", "\n" * 500))] == ["instruction", "response"]
    assert [flag.field for flag in check.look(conversation("Hi", "", "Bye", "Bye"))] == ["turns.1"]


def test_a_context_that_says_nothing_can_be_emptied_and_an_answer_cannot() -> None:
    check = _check("placeholders")
    before = record(1, "TODO", "TODO", context="n/a")
    after = mended_record(before, check.mend(before, check.look(before), "clear"))
    assert (after.instruction, after.context, after.response) == ("TODO", "", "TODO")


MEANT = [
    "über",
    "Café – 5 €",
    "“quoted” … it’s",
    "naïve façade",
    "Привет, мир",
    "Ελλάδα",
    "日本語",
    "smørrebrød",
    "😀 ok",
    "½ • ™",
]


@pytest.mark.parametrize("meant", MEANT)
@pytest.mark.parametrize("alphabet", ["cp1252", "latin-1"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_text_read_with_the_wrong_alphabet_comes_back_as_it_was(meant: str, alphabet: str, times: int) -> None:
    damaged = meant
    for _ in range(times):
        damaged = "".join(_read(byte, alphabet) for byte in damaged.encode())
    assert damaged != meant
    check, before = _check("encoding"), record(response=damaged)
    flags = check.look(before)
    assert flags
    assert mended_record(before, check.mend(before, flags, "repair")).response == meant


def _read(byte: int, alphabet: str) -> str:
    try:
        return bytes([byte]).decode(alphabet)
    except UnicodeDecodeError:  # a place that Windows-1252 leaves empty is read as the control character
        return chr(byte)


@pytest.mark.parametrize(
    "text",
    [
        "« CAFÉ\u00a0» et voilà\u00a0»",
        "MÜLLER und GRÖẞE, Ärger “Ä” ‘Ö’",
        "“IRMÔ”, “NÃO”, SÃO",
        "l'été, à l’aube…",
        "مرحبا بالعالم",
        "שלום עולם",
        "नमस्ते",
        "👩‍👩‍👧 🏳️‍🌈",
        "می‌خواهم",
        "x < y && y > z; AT&T",
        "Write <b>&amp;</b> in HTML",
        "a.org?x=1&copy=2",
        "Tab\tand\r\nlines",
    ],
)
def test_sound_texts_of_all_scripts_are_left_alone(text: str) -> None:
    assert seen(_check("encoding"), text) == []
    assert repaired(text) == text


@pytest.mark.parametrize(
    ("damaged", "meant"),
    [
        ("fish &amp; chips", "fish & chips"),
        ("&amp;amp;quot;so&amp;amp;quot;", '"so"'),
        ("it&#39;s &#x2014; so", "it's — so"),
        ("a\x00b\x07c\x7f", "abc"),
        ("\ufeffstart", "start"),
        ("it\x92s \x93so\x94", "it’s “so”"),
        ("&bogus; &#0;", "&bogus; &#0;"),
        ("lost \ufffd stays", "lost \ufffd stays"),
    ],
)
def test_control_characters_and_entities_are_put_right(damaged: str, meant: str) -> None:
    assert repaired(damaged) == meant


def test_what_is_lost_is_flagged_and_not_invented() -> None:
    (flag,) = look(check_from("encoding"), [record(response="caf\ufffd\ufffd")])
    assert (flag.start, flag.end, flag.details["kind"]) == (3, 5, "lost")


@quick
@given(st.text(alphabet="ÃÂâ€™ä¼ðŸ˜&amp;#39lt\x93\x01 é»", max_size=30))
def test_repairing_twice_is_repairing_once(text: str) -> None:
    assert repaired(repaired(text)) == repaired(text)


@quick
@given(st.text(alphabet=st.characters(max_codepoint=0x7E, min_codepoint=0x20, exclude_characters="&"), max_size=60))
def test_plain_ascii_is_never_touched(text: str) -> None:
    assert repaired(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("As an AI language model, I have no taste.", True),
        ("I'm sorry, but I can't assist with that.", True),
        ("I am unable to provide medical advice.", True),
        ("Unfortunately, I cannot help you there.", True),
        ("I’m just an AI, so take care.", True),
        ("My knowledge cutoff is 2021.", True),
        ("Als KI-Sprachmodell habe ich keine Meinung.", True),
        ("Es tut mir leid, aber ich kann dabei nicht helfen.", True),
        ("En tant que modèle de langage, je ne sais pas.", True),
        ("Como modelo de lenguaje, no puedo.", True),
        ("Lo siento, no puedo ayudar.", True),
        ("I can't recommend it enough.", False),
        ("I'm sorry you had to wait; your parcel is here.", False),
        ("The AI lab opened in May. As an aid, use a map.", False),
        ("You cannot help it.", False),
    ],
)
def test_refusals_are_told_from_ordinary_sentences(text: str, found: bool) -> None:
    assert bool(seen(_check("refusals"), text)) is found


def test_only_answers_can_be_refusals() -> None:
    asked = "As an AI language model, what can you not do?"
    assert look(check_from("refusals"), [record(1, asked, "Much."), conversation(asked, "Much.", id=2)]) == []
    (flag,) = look(check_from("refusals"), [conversation("Hi", "As an AI, hello", "Bye", "Bye")])
    assert flag.field == "turns.1"


def test_insults_are_whole_words_in_any_case_and_the_note_says_it_is_a_list() -> None:
    check = _check("offensive")
    assert seen(check, "What a BASTARD, Arschloch!") == ["BASTARD", "Arschloch"]
    assert seen(check, "Scunthorpe, a cockatoo, Matsushita and a class") == []
    assert "word list" in check.explains


@pytest.mark.parametrize("name", ["given_names", "family_names", "offensive", "titles", "capitalised", "things_after"])
def test_a_lexicon_has_its_words_and_says_whose_it_is(name: str) -> None:
    assert len(lexicon(name)) > 50
    assert lexicon(name, "") <= lexicon(name)
