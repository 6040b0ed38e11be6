"""Classification: one label out of a closed set, read or scored, with the prompt's own leaning taken out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.backends import EchoBackend
from studio.errors import InputError, Unsupported
from studio.prompts.techniques import (
    CONTENT_FREE,
    Technique,
    calibrated,
    emptied,
    label_logprobs,
    prior,
    probabilities,
    technique,
)
from studio.specs import Message, TokenLogprob, assistant, system, user
from tests.prompts.techniques.scripted import answer, saying


def _of(*labels: str) -> Technique:
    return technique("label", {"labels": labels})


@pytest.mark.parametrize(
    ("text", "label", "strict"),
    [
        pytest.param("positive", "Positive", True, id="in any case of letters"),
        pytest.param("  VERY \n good ", "very good", True, id="in any spacing"),
        pytest.param("Positive.", "Positive", False, id="a full stop is not the label"),
        pytest.param("I would say negative, not positive.", "Negative", False, id="the first mention"),
        pytest.param("It is very good indeed.", "very good", False, id="the longer label at one place"),
        pytest.param("It is very bad.", "very", False, id="the shorter where only it fits"),
    ],
)
def test_the_label_is_read(text: str, label: str, strict: bool) -> None:
    found = _of("very", "very good", "Positive", "Negative").extract(text)
    assert (found.text, found.strict, found.parsed) == (label, strict, True)
    assert " ".join(text[found.start : found.end].split()).casefold() == label.casefold()


@pytest.mark.parametrize("text", ["", "unsure", "positively", "un-Negativ"])
def test_a_text_without_a_label_has_none(text: str) -> None:
    assert not _of("positive", "negative").extract(text).parsed


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["yes"], "'yes' is the only one; name at least two"),
        (["yes", "YES"], "alike but for capitals"),
        (["yes", " "], "one is empty"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=f"Labels: .*{sentence}"):
        technique("label", {"labels": labels})


def test_without_labels_nobody_is_asked() -> None:
    with pytest.raises(InputError, match="has no labels. Name at least two"):
        answer(technique("label"), saying([]), [user("q")])


# -- scoring -------------------------------------------------------------------------------------------------


class _Likely(EchoBackend):
    """Finds each word of an answer as likely as a table says."""

    def __init__(self, table: dict[str, float]) -> None:
        super().__init__()
        self._table = table

    async def logprobs(self, messages: Any, continuation: str, top: int = 0) -> list[TokenLogprob]:
        return [TokenLogprob(token=word, logprob=self._table[word]) for word in continuation.split()]


def test_labels_of_several_tokens_are_compared_by_the_mean() -> None:
    found = asyncio.run(
        label_logprobs(_Likely({"yes": -2.0, "not": -1.5, "sure": -1.5}), [user("q")], ["yes", "not sure"])
    )
    assert found == [-2.0, -1.5]


def test_a_backend_that_cannot_tell_likelihoods_says_so() -> None:
    with pytest.raises(Unsupported, match="cannot tell how likely"):
        asyncio.run(label_logprobs(EchoBackend(), [user("q")], ["a", "b"]))


def test_shares_add_up_whatever_the_size_of_the_log_probabilities() -> None:
    assert probabilities([math.log(3), 0.0]) == pytest.approx([0.75, 0.25])
    assert sum(probabilities([-2000.0, -2001.0])) == pytest.approx(1)


SHARES = st.lists(st.floats(-20, 0), min_size=2, max_size=6).map(probabilities)


@given(SHARES)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_an_input_without_content_is_undecided_once_calibrated(bias: Sequence[float]) -> None:
    if min(bias) > 1e-9:
        assert calibrated(bias, bias) == pytest.approx([1 / len(bias)] * len(bias))


@given(SHARES)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_prompt_that_leans_nowhere_keeps_the_order(shares: Sequence[float]) -> None:
    even = [1 / len(shares)] * len(shares)
    order = sorted(range(len(shares)), key=lambda i: shares[i])
    found = calibrated(shares, even)
    assert all(found[a] <= found[b] for a, b in pairwise(order))


def test_calibration_turns_a_choice_that_only_the_prompt_made() -> None:
    bias = prior([[0.9, 0.1], [0.7, 0.3]])
    assert bias == pytest.approx([0.8, 0.2])
    shares = [0.7, 0.3]  # less than the prompt's own leaning to the first
    assert calibrated(shares, bias) == pytest.approx(probabilities([0.7 / 0.8, 0.3 / 0.2]))
    assert calibrated(shares, bias)[1] > 0.5


def test_a_label_that_is_never_likely_divides_nothing_by_zero() -> None:
    assert all(math.isfinite(share) for share in calibrated([0.5, 0.5], [1.0, 0.0]))


def test_calibration_needs_an_input() -> None:
    with pytest.raises(InputError, match="at least one input without content"):
        prior([])


def test_the_same_prompt_is_asked_about_nothing() -> None:
    messages: list[Message] = [system("s"), user("Review: good"), assistant("pos"), user("Good? Review: good\nLabel:")]
    asked = emptied(messages, "good")
    assert [turns[-1].content for turns in asked] == [f"Good? Review: {empty}\nLabel:" for empty in CONTENT_FREE]
    assert all(turns[:-1] == messages[:-1] for turns in asked)


@pytest.mark.parametrize("query", ["", "bad"])
def test_an_input_that_is_not_in_the_question_cannot_be_taken_out(query: str) -> None:
    with pytest.raises(InputError, match="does not stand in the question"):
        emptied([user("Review: good")], query)
