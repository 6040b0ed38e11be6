"""Rules: what an answer keeps, with the traps that a careless reading falls into."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from studio.evaluation import EvaluationItem, Rule, judge

RULE: TypeAdapter[Any] = TypeAdapter(Rule)

ONE_OF_EACH: list[dict[str, Any]] = [
    {"rule": "max_words", "value": 5},
    {"rule": "min_words", "value": 2},
    {"rule": "speaks_to_reader"},
    {"rule": "ends_with_next_step"},
    {"rule": "contains_all", "values": ["tent", "pack"]},
    {"rule": "contains_any", "values": ["2.1", "2,1"]},
    {"rule": "any_word", "values": ["ten", "4", "H₂O"]},
    {"rule": "excludes", "values": ["sorry"]},
    {"rule": "opens_with", "values": ["Refund"]},
    {"rule": "list_items", "min": 2},
    {"rule": "number", "value": 4.9},
]
BY_NAME = {spec["rule"]: spec for spec in ONE_OF_EACH}


def _keeps(name: str, answer: str) -> bool:
    return RULE.validate_python(BY_NAME[name]).keeps(answer)


@pytest.mark.parametrize("answer", ["", " ", "\n\t\n"])
@pytest.mark.parametrize("name", [name for name in BY_NAME])
def test_an_empty_answer_keeps_no_rule(name: str, answer: str) -> None:
    assert not _keeps(name, answer)


@pytest.mark.parametrize(
    ("name", "answer", "kept"),
    [
        pytest.param("max_words", "one two three four five", True, id="max words: the last that fits"),
        pytest.param("max_words", "one two three four five six", False, id="max words: one too many"),
        pytest.param("max_words", "a-long-word,with;marks", True, id="max words: spaces part words"),
        pytest.param("min_words", "one", False, id="min words: one short"),
        pytest.param("min_words", "one\ntwo", True, id="min words: lines count too"),
        pytest.param("speaks_to_reader", "You can.", True, id="reader: You"),
        pytest.param("speaks_to_reader", "It is YOURS.", True, id="reader: yours"),
        pytest.param("speaks_to_reader", "you’ll see", True, id="reader: curly apostrophe"),
        pytest.param("speaks_to_reader", "your tent", True, id="reader: your"),
        pytest.param("speaks_to_reader", "Young Yousef, our youth.", False, id="reader: young is not you"),
        pytest.param("speaks_to_reader", "thank-you", True, id="reader: after a hyphen"),
        pytest.param("ends_with_next_step", "Dry. Next step: hang it.", True, id="next step: same line"),
        pytest.param("ends_with_next_step", "Dry.\n\nNext step: hang it.", True, id="next step: next line"),
        pytest.param("ends_with_next_step", "Dry:\n- a\n- b\nNext step: hang it", True, id="next step: after a list"),
        pytest.param("ends_with_next_step", "Next step: hang it.", True, id="next step: alone"),
        pytest.param("ends_with_next_step", "Dry. Next step:\nHang it.", True, id="next step: text on its own line"),
        pytest.param("ends_with_next_step", "Dry. Next step: send 4.90 euros.", True, id="next step: 4.90"),
        pytest.param("ends_with_next_step", "Dry. Next step: come by 5 p.m. on Friday.", True, id="next step: p.m."),
        pytest.param("ends_with_next_step", "Dry. Next step: hang it. Good luck.", False, id="next step: not the last"),
        pytest.param("ends_with_next_step", "Dry. Next step: go!\nBye", False, id="next step: a line after it"),
        pytest.param("ends_with_next_step", "Your next step: hang it.", False, id="next step: inside a sentence"),
        pytest.param("ends_with_next_step", "Dry. next step: hang it.", False, id="next step: small letter"),
        pytest.param("ends_with_next_step", "Dry. Next step:", False, id="next step: nothing named"),
        pytest.param("ends_with_next_step", "Dry. **Next step:** go.", False, id="next step: Markdown"),
        pytest.param("contains_all", "Your TENT and\nyour pack", True, id="all: any case"),
        pytest.param("contains_all", "Your tent", False, id="all: one is missing"),
        pytest.param("contains_any", "It weighs 2,1 kg", True, id="any: the second"),
        pytest.param("contains_any", "It weighs 21 kg", False, id="any: none"),
        pytest.param("any_word", "It is Ten.", True, id="word: any case"),
        pytest.param("any_word", "Often, in tents", False, id="word: part of another"),
        pytest.param("any_word", "2+2=4", True, id="word: a number between signs"),
        pytest.param("any_word", "It is 4.\nGood.", True, id="word: a full stop is no decimal point"),
        pytest.param("any_word", "4.0", True, id="word: the same number"),
        pytest.param("any_word", "14, 4.5, 3.4, 4,000 or 40", False, id="word: part of another number"),
        pytest.param("any_word", "1/4, 4/5, 9-4", False, id="word: part of a fraction or a range"),
        pytest.param("any_word", "4cm, 4ºC", True, id="word: a number with its unit"),
        pytest.param("any_word", "Eighty-ten", False, id="word: the end of a number in words"),
        pytest.param("any_word", "_Ten_ or **ten**", True, id="word: Markdown"),
        pytest.param("any_word", "water (H₂O)", True, id="word: signs"),
        pytest.param("excludes", "No trouble.", True, id="excludes: absent"),
        pytest.param("excludes", "SORRY about that", False, id="excludes: any case"),
        pytest.param("opens_with", "  refund. You get it.", True, id="opens: case and spaces"),
        pytest.param("opens_with", "A refund.", False, id="opens: later is not first"),
        pytest.param("list_items", "- a\n- b\nNext", True, id="list: two lines"),
        pytest.param("list_items", "  - a\n\t- b", True, id="list: indented"),
        pytest.param("list_items", "a - b - c", False, id="list: dashes in a line"),
        pytest.param("list_items", "- a\n-\n- ", False, id="list: empty points"),
        pytest.param("list_items", "-a\n-b", False, id="list: no space"),
        pytest.param("number", "It is 4.90 euros, not 5.", True, id="number: the first one"),
        pytest.param("number", "It is 4,9 euros.", True, id="number: decimal comma"),
        pytest.param("number", "Of 75 euros you pay 4.90.", False, id="number: another comes first"),
        pytest.param("number", "About -4.90 degrees", False, id="number: minus"),
        pytest.param("number", "Nearly five", False, id="number: words are none"),
    ],
)
def test_a_rule_is_kept_or_not(name: str, answer: str, kept: bool) -> None:
    assert _keeps(name, answer) is kept


def test_values_are_found_across_line_breaks_and_cases() -> None:
    rule = RULE.validate_python({"rule": "contains_all", "values": ["down soap"]})
    assert rule.keeps("Use DOWN\n  soap.")


def test_judging_follows_the_order_of_the_rules() -> None:
    rules = [RULE.validate_python(spec) for spec in ONE_OF_EACH]
    answer = "Refund. You get 4.90. Next step: ask."
    verdict = dict(zip(BY_NAME, judge(rules, answer), strict=True))
    assert [name for name, kept in verdict.items() if kept] == [
        "min_words",
        "speaks_to_reader",
        "ends_with_next_step",
        "excludes",
        "opens_with",
        "number",
    ]


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=list(BY_NAME))
def test_every_rule_says_itself_in_words_and_survives_json(spec: dict[str, Any]) -> None:
    rule = RULE.validate_python(spec)
    assert rule.words
    assert RULE.validate_json(RULE.dump_json(rule)) == rule


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"rule": "is_nice"}, id="unknown rule"),
        pytest.param({"rule": "max_words", "value": 0}, id="no word allowed"),
        pytest.param({"rule": "max_words", "value": 5, "values": ["x"]}, id="a stray field"),
        pytest.param({"rule": "contains_any", "values": []}, id="no values"),
        pytest.param({"rule": "contains_any", "values": [""]}, id="an empty value, which every answer has"),
        pytest.param({"value": 5}, id="no name"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RULE.validate_python(spec)


@pytest.mark.parametrize("fields", [{"rules": []}, {"instruction": ""}, {"hint": "no"}])
def test_an_item_needs_a_question_and_rules(fields: dict[str, Any]) -> None:
    good = {"instruction": "How?", "rules": ONE_OF_EACH[:1]}
    EvaluationItem.model_validate(good)
    with pytest.raises(ValidationError):
        EvaluationItem.model_validate(good | fields)


@given(st.text())
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_answer_can_be_judged(answer: str) -> None:
    rules = [RULE.validate_python(spec) for spec in ONE_OF_EACH]
    assert len(judge(rules, answer)) == len(rules)
