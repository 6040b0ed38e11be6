"""Metrics: numbers that can be worked out by hand, and None where there is nothing to measure against."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studio.errors import InputError
from studio.evaluation import mcnemar
from studio.evaluation.metrics import LabelAccuracy, Metric, ModelJudge, metric_from, metric_kinds
from studio.evaluation.metrics.numeric import last_number

quick = settings(deadline=None, derandomize=True, max_examples=60)
TEXTS = st.text(max_size=60)


def _score(metric: str | dict[str, Any], output: str, reference: str | None = None, **row: Any) -> float | None:
    return metric_from(metric).score(output, reference, row)


# -- what there is -------------------------------------------------------------------------------------------


def test_a_metric_is_found_by_its_file_and_names_itself() -> None:
    kinds = metric_kinds()
    assert {"exact", "f1", "contains", "regex", "numeric", "json", "rouge_l", "chrf", "rules", "label", "judge"} == set(
        kinds
    )
    for name, kind in kinds.items():
        assert (kind.model_fields["metric"].default, bool(kind.title), bool(kind.summary)) == (name, True, True)
        assert kind.bounds[0] <= kind.passes <= kind.bounds[1]


def test_two_settings_of_one_metric_are_kept_apart_and_the_default_has_the_plain_name() -> None:
    keys = [metric_from(m).key for m in ("contains", _contains("tent"), _contains("pack"), _contains("tent"))]
    assert keys[0] == "contains"
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]


def _contains(value: str) -> dict[str, Any]:
    return {"metric": "contains", "value": value}


def test_a_metric_survives_the_way_into_a_row_and_back() -> None:
    for fields in ("exact", _contains("tent"), {"metric": "judge", "model": "echo:"}):
        metric = metric_from(fields)
        assert metric_from(metric.model_dump(mode="json")) == metric


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param("bleu", r"no metric 'bleu'\. Known metrics: chrf, contains", id="unknown"),
        pytest.param({"metric": "regex", "pattern": "("}, "is no regular expression: missing", id="pattern"),
        pytest.param({"metric": "regex"}, "Regular expression: pattern", id="no pattern"),
        pytest.param({"metric": "json", "json_schema": "{"}, "json_schema is no JSON", id="schema is no JSON"),
        pytest.param({"metric": "json", "json_schema": "3"}, "is no schema; write it like", id="schema is a number"),
        pytest.param({"metric": "json", "json_schema": '{"type": "strin"}'}, "'strin' is not valid", id="bad schema"),
        pytest.param(
            {"metric": "json", "json_schema": '{"items": [{"$ref": "https://example.com/x"}]}'},
            "refers to https://example.com/x, and nothing is fetched",
            id="schema elsewhere",
        ),
        pytest.param({"metric": "numeric", "tolerance": -1}, "Numeric answer: tolerance", id="tolerance"),
        pytest.param({"metric": "label", "labels": ["yes"]}, "1 labels cannot be compared", id="one label"),
        pytest.param({"metric": "label", "labels": ["yes", "Yes."]}, "two labels are alike", id="equal labels"),
        pytest.param({"metric": "judge"}, "Model judge: model", id="no judge"),
        pytest.param({"metric": "exact", "case": True}, "Exact match: case", id="a setting it has not"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_with_the_cure(fields: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        metric_from(fields)


# -- hand-computed numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "output", "reference", "expected"),
    [
        ("exact", " Paris. ", "paris", 1.0),
        ("exact", "“Paris”", "Paris", 1.0),
        ("exact", "ＰＡＲＩＳ", "Paris", 1.0),  # full-width letters
        ("exact", "new\n york", "New York", 1.0),
        ("exact", "Paris, France", "Paris", 0.0),
        ("exact", "-5", "5", 0.0),
        ("exact", "", "Paris", 0.0),
        # 3 of 4 words of the answer, 3 of 3 of the reference: 2 * 3 / 7
        ("f1", "the Heron weighs 2.1 kilos", "Heron: weighs 2.1", 6 / 7),
        ("f1", "cat cat cat", "cat dog", 2 / 5),  # a word counts as often as both have it
        ("f1", "The, the a!", "an", 1.0),  # nothing left on either side
        ("f1", "", "tent", 0.0),
        ("f1", "l’été", "lété", 1.0),  # the typographic apostrophe is punctuation too
        ("contains", "It is 15 kilos", "5", 0.0),
        ("contains", "It is 5 kilos", "5", 1.0),
        ("contains", "We open at NOON.", "noon", 1.0),
        (_contains("C++"), "I write C++ daily", None, 1.0),
        ({"metric": "contains", "value": "5", "is_whole": False}, "15", None, 1.0),
        ({"metric": "regex", "pattern": r"^Order [A-Z]{2}-\d+$"}, "Hello.\nOrder HX-12\nBye", None, 1.0),
        ({"metric": "regex", "pattern": "order"}, "Order", None, 0.0),
        ({"metric": "regex", "pattern": "order", "is_case_sensitive": False}, "Order", None, 1.0),
        ("numeric", "3 tents at 4 euros make 12.", "12", 1.0),
        ("numeric", "12.0", "The answer is 12", 1.0),
        ("numeric", "0.30000000000000004", "0.3", 1.0),
        ("numeric", "none", "12", 0.0),
        ("numeric", "13", "12", 0.0),
        ({"metric": "numeric", "tolerance": 1}, "13", "12", 1.0),
        ({"metric": "numeric", "tolerance": 0.05, "is_relative": True}, "105", "100", 1.0),
        ({"metric": "numeric", "tolerance": 0.05, "is_relative": True}, "106", "100", 0.0),
        ("json", '{"name": "Heron", "kilos": 2.1}', None, 1.0),
        ("json", '```json\n{"name": "Heron"}\n```', None, 1.0),
        ("json", 'Here: {"name": "Heron"}', None, 0.0),
        ("json", '{"kilos": NaN}', None, 0.0),
        ("json", "[" * 100_000, None, 0.0),
        ("json", "", None, 0.0),
        # The longest common subsequence "police the gunman" has 3 of 4 words on both sides.
        ("rouge_l", "police kill the gunman", "police killed the gunman", 3 / 4),
        # "the gunman police": 2 in order, of 4 and 4
        ("rouge_l", "the gunman kill police", "police killed the gunman", 2 / 4),
        ("rouge_l", "größe über", "Größe Über", 1.0),
        ("rouge_l", "", "police", 0.0),
        ("chrf", "tent", "tent", 1.0),
        ("chrf", "xyz", "tent", 0.0),
        ("chrf", "", "tent", 0.0),
    ],
)
def test_scores_are_those_worked_out_by_hand(metric: Any, output: str, reference: str | None, expected: float) -> None:
    assert _score(metric, output, reference) == pytest.approx(expected)


def test_chrf_of_a_word_with_one_letter_changed() -> None:
    # "abc" against "abd". Runs of 1: a, b of 3 match; of 2: ab of 2; of 3: 0 of 1. Longer runs are in neither, so three
    # orders count. Precision = recall = (2/3 + 1/2 + 0) / 3 = 7/18, and so is the F-score.
    assert _score("chrf", "abc", "abd") == pytest.approx(7 / 18)


def test_rouge_and_chrf_are_the_libraries() -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_chrf

    said, wanted = "Dry the tent, then pack it.", "Let the tent dry before you pack it away."
    assert _score("rouge_l", said, wanted) == RougeScorer(["rougeL"]).score(wanted, said)["rougeL"].fmeasure
    assert _score("chrf", said, wanted) == pytest.approx(sentence_chrf(said, [wanted]).score / 100)


def test_json_keeps_to_its_schema() -> None:
    schema = '{"type": "object", "required": ["name"], "properties": {"name": {"$ref": "#/$defs/short"}}, '
    schema += '"$defs": {"short": {"type": "string", "maxLength": 5}}}'
    metric = {"metric": "json", "json_schema": schema}
    found = [_score(metric, text) for text in ('{"name": "Heron"}', '{"name": "Herons"}', '{"kilos": 2}', "Heron")]
    assert found == [1.0, 0.0, 0.0, 0.0]


def test_rules_kept_is_the_share_that_compare_shows() -> None:
    rules = [{"rule": "contains_all", "values": ["tent"]}, {"rule": "max_words", "value": 2}]
    assert _score("rules", "My tent", rules=rules) == 1.0
    assert _score("rules", "My green tent", rules=rules) == 0.5


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("2,8 kg", 2.8),
        ("1,234", 1234),
        ("1.234.567", 1234567),
        ("1.234", 1.234),
        ("5-3", 3),
        ("COVID-19", 19),
        ("it is −7 °C", -7),
        ("$-3.50.", -3.5),
        ("1e3", 1000),
        ("-.5", -0.5),
        ("1..2", 2),
        ("2, 3, 4", 4),
        ("no number", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: float | None) -> None:
    assert last_number(text) == number


# -- not defined is not zero ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exact", "f1", "contains", "numeric", "rouge_l", "chrf", "label"])
def test_without_a_reference_a_score_is_not_defined(name: str) -> None:
    assert _score(name, "Paris") is None


@pytest.mark.parametrize(
    ("metric", "reference"),
    [("numeric", "no number here"), ("rouge_l", "?!"), ("chrf", " "), ("contains", "."), ("rules", "x")],
)
def test_a_reference_that_says_nothing_measures_nothing(metric: str, reference: str) -> None:
    assert _score(metric, "Paris 7", reference) is None


def test_a_pattern_that_runs_away_is_stopped_and_not_called_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.evaluation.metrics.pattern._SECONDS", 0.01)
    assert _score({"metric": "regex", "pattern": "(x+x+)+y"}, "x" * 4000) is None


@quick
@given(output=TEXTS, reference=TEXTS)
def test_every_score_is_within_its_bounds_or_not_defined(output: str, reference: str) -> None:
    for metric in _of_texts():
        score = metric.score(output, reference, {})
        assert score is None or metric.bounds[0] <= score <= metric.bounds[1] + 1e-9
        if metric.is_share:
            assert score in (None, 0.0, 1.0)


@quick
@given(text=TEXTS)
def test_the_reference_itself_gets_full_marks_wherever_a_score_is_defined(text: str) -> None:
    for metric in _of_texts(needs="reference"):
        assert metric.score(text, text, {}) in (None, pytest.approx(1.0))


def _of_texts(needs: str | None = None) -> list[Metric]:
    names = ["exact", "f1", "contains", "numeric", "json", "rouge_l", "chrf"]
    return [m for m in map(metric_from, names) if needs in (None, m.needs)]


# -- labels --------------------------------------------------------------------------------------------------


def test_the_labels_are_those_of_the_rows_unless_they_are_named() -> None:
    assert LabelAccuracy().labels_of(["spam", "ham ", None, "spam", " "]) == ("ham", "spam")
    assert LabelAccuracy(labels=("yes", "no")).labels_of(["spam"]) == ("yes", "no")
    with pytest.raises(InputError, match="33 labels cannot be compared; it takes 2 to 32. Name the labels"):
        LabelAccuracy().labels_of([f"label {n}" for n in range(33)])


def test_the_likeliest_label_is_held_against_the_reference() -> None:
    assert [_score("label", label, "Spam") for label in ("spam", "ham")] == [1.0, 0.0]


# -- the judge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "first"),
        ("b.", "second"),
        ("**Tie**", "tie"),
        ("Answer B", "second"),
        ("A is better because it is short.", "first"),
        ("The better answer is B.", "second"),
        ("A better answer is B", "second"),
        ("Both say much.\nVerdict: [[A]]", "first"),
        ("B.\nIt answers the question.", "second"),
        ("A good answer would name the tent.", None),
        ("Both are fine", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_it_is_not_there(reply: str, verdict: str | None) -> None:
    assert ModelJudge.verdict(reply) == verdict


@pytest.mark.parametrize(
    ("in_first_place", "in_second_place", "score"),
    [
        ("first", "second", 1.0),  # preferred wherever it stood
        ("second", "first", 0.0),
        ("first", "first", 0.5),  # the place decided
        ("second", "second", 0.5),
        ("tie", "tie", 0.5),
        ("first", "tie", 0.5),
        (None, "second", None),
        ("first", None, None),
    ],
)
def test_only_verdicts_that_agree_in_both_orders_decide(
    in_first_place: Any, in_second_place: Any, score: float | None
) -> None:
    points = ModelJudge.points(in_first_place, "first"), ModelJudge.points(in_second_place, "second")
    assert ModelJudge.settled(*points) == score


def test_the_judge_sees_the_question_and_both_answers_in_the_order_given() -> None:
    judge = ModelJudge(model="echo:", criteria="Shorter is better {here}.")  # type: ignore[arg-type]
    told, asked = judge.messages("Why?", "Because.", "No idea.")
    assert "Shorter is better {here}." in told.content
    assert asked.content.index("Why?") < asked.content.index("Because.") < asked.content.index("No idea.")


# -- McNemar -------------------------------------------------------------------------------------------------


def _pairs(only_before: int, only_after: int, both: int = 3) -> tuple[list[bool], list[bool]]:
    before = [True] * only_before + [False] * only_after + [True] * both
    after = [False] * only_before + [True] * only_after + [True] * both
    return before, after


@pytest.mark.parametrize(
    ("only_before", "only_after", "p", "exact_p"),
    [
        # n = 6, fewer = 1: exact 2 (1 + 6) / 64, mid-p less the 6 / 64 of the point itself
        (1, 5, 8 / 64, 14 / 64),
        (0, 6, 1 / 64, 2 / 64),
        (3, 3, 1.0, 1.0),
        (0, 0, 1.0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_before: int, only_after: int, p: float, exact_p: float) -> None:
    found = mcnemar(*_pairs(only_before, only_after))
    assert (found.only_before, found.only_after) == (only_before, only_after)
    assert (found.p, found.exact_p) == (pytest.approx(p), pytest.approx(exact_p))


@quick
@given(only_before=st.integers(0, 400), only_after=st.integers(0, 400))
def test_mcnemar_agrees_with_scipys_binomial(only_before: int, only_after: int) -> None:
    found = mcnemar(*_pairs(only_before, only_after))
    n = only_before + only_after
    assert found.exact_p == pytest.approx(stats.binomtest(only_before, n).pvalue if n else 1.0)
    assert found.p == pytest.approx(found.exact_p - stats.binom.pmf(only_before, n, 0.5) * (only_before != only_after))
    assert found == mcnemar(*_pairs(only_before, only_after, both=90))  # what both got right tells nothing


def test_mcnemar_needs_the_same_items() -> None:
    with pytest.raises(InputError, match="2 and 1 items cannot be paired"):
        mcnemar([True, False], [True])
