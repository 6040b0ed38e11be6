"""That a technique helps where it should, on models whose every ability is known (check C7 of the plan for prompts).

The scripted models are right only when the prompt holds what a technique is meant to bring there. The noisy voter is
right with a known chance, so that what voting gains can be worked out beforehand (Condorcet 1785).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable, Sequence
from math import comb, prod

import pytest

from studio.evaluation import paired_difference, wilson
from studio.prompts.techniques import Row, Technique, Trace, majority, technique, together
from studio.specs import Message, Sampling, assistant, user
from tests.prompts.techniques.scripted import Speak, Speaking, answer, asking

Question = tuple[str, int]

# Sums whose result does not stand in the question itself.
QUESTIONS: list[Question] = [
    (f"{a} boxes of {b}, and {c} more. How many?", a * b + c)
    for a, b, c in itertools.product((3, 4), (11, 12, 13), range(1, 11))
]
EXEMPLARS = [user("2 boxes of 10, and 1 more. How many?"), assistant("2 * 10 = 20. 20 + 1 = 21. The answer is 21.")]


def _parts(messages: Sequence[Message]) -> tuple[int, int, int]:
    asked = [turn.content for turn in messages if " boxes of " in turn.content][-1]
    a, b, c = map(int, re.findall(r"\d+", asked)[:3])
    return a, b, c


def reasons_as_shown(messages: Sequence[Message], sampling: Sampling) -> str:
    """Reasons where earlier answers do, and guesses otherwise."""
    a, b, c = _parts(messages)
    if any("The answer is" in turn.content for turn in messages if turn.role == "assistant"):
        return f"{a} * {b} = {a * b}. {a * b} + {c} = {a * b + c}. The answer is {a * b + c}."
    return "The answer is 1."


def needs_its_own_reasoning(messages: Sequence[Message], sampling: Sampling) -> str:
    """Writes steps when told to, and knows the result only when the steps stand in the prompt."""
    a, b, c = _parts(messages)
    written = [turn.content for turn in messages if turn.role == "assistant"]
    if any(f"{a * b} plus {c}" in turn for turn in written):
        return f" {a * b + c}"
    return f"First {a} times {b}, so {a * b} plus {c}." if "step by step" in messages[-1].content else "1"


def answers_one_step_at_a_time(messages: Sequence[Message], sampling: Sampling) -> str:
    """Can multiply, or add to a product that stands in the prompt, but not both at once."""
    a, b, c = _parts(messages)
    asked, written = messages[-1].content, [turn.content for turn in messages if turn.role == "assistant"]
    if "smaller questions" in asked:
        return "1. How many are in the boxes?\n2. How many come on top?"
    if "are in the boxes" in asked:
        return str(a * b)
    if "come on top" in asked:
        return str(c) if str(a * b) in written else "1"
    return str(a * b + c) if str(a * b) in written and str(c) in written else "1"


def cannot_calculate(messages: Sequence[Message], sampling: Sampling) -> str:
    """Knows what to calculate, and never what it gives."""
    a, b, c = _parts(messages)
    if "Action: Calculate" not in messages[0].content:
        return "1"
    if messages[-1].content.startswith("Observation:"):
        return f"Thought: Now I know.\nAction: Finish[{messages[-1].content.removeprefix('Observation: ')}]"
    return f"Thought: I have to calculate.\nAction: Calculate[{a} * {b} + {c}]\nObservation: 1"


def knows_it(messages: Sequence[Message], sampling: Sampling) -> str:
    """Needs nothing."""
    a, b, c = _parts(messages)
    return f"The answer is {a * b + c}"


def _right(made: Technique, speak: Speak, shown: Sequence[Message] = ()) -> list[float]:
    traces = [answer(made, asking(speak), [*shown, user(text)]) for text, _ in QUESTIONS]
    return [float(trace.answer.text == str(result)) for trace, (_, result) in zip(traces, QUESTIONS, strict=True)]


@pytest.mark.parametrize(
    ("name", "settings", "speak", "shown"),
    [
        ("chain-of-thought", {"reads": "number"}, reasons_as_shown, EXEMPLARS),
        ("zero-shot-chain-of-thought", {"reads": "number"}, needs_its_own_reasoning, []),
        ("least-to-most", {}, answers_one_step_at_a_time, []),
        ("react", {}, cannot_calculate, []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_technique_beats_the_plain_prompt_where_what_it_adds_is_needed(
    name: str, settings: dict[str, str], speak: Speak, shown: list[Message]
) -> None:
    plain = _right(technique("direct", {"marker": "The answer is"}), speak)
    helped = _right(technique(name, settings), speak, shown)
    gain = paired_difference(plain, helped)
    assert gain.n >= 50
    assert gain.low > 0.9, str(gain)


def test_a_technique_gains_nothing_where_nothing_is_lacking() -> None:
    plain = _right(technique("direct", {"marker": "The answer is"}), knows_it)
    helped = _right(technique("chain-of-thought", {"reads": "number"}), knows_it)
    assert sum(plain) == len(QUESTIONS)
    assert not paired_difference(plain, helped).excludes_zero


# -- votes ---------------------------------------------------------------------------------------------------

P = 0.6
SIMULATED = 2000


def _voter(wrong: Callable[[random.Random], str]) -> Speak:
    """Says the right thing with probability P at every seed and question anew."""

    def speak(messages: Sequence[Message], sampling: Sampling) -> str:
        drawn = random.Random(f"{sampling.seed} {messages[0].content}")
        return f"The answer is {'yes' if drawn.random() < P else wrong(drawn)}."

    return speak


def _voted(votes: int, speak: Speak) -> list[Trace]:
    made = technique("self-consistency", {"votes": votes})
    rows = [Row(made, [user("Is it so?")], Sampling(seed=11), number) for number in range(SIMULATED)]
    found = asyncio.run(together(Speaking(speak), rows))
    return [trace for trace in found if isinstance(trace, Trace)]


@pytest.mark.parametrize("votes", [3, 5])
def test_the_gain_of_voting_is_the_binomial_one(votes: int) -> None:
    traces = _voted(votes, _voter(lambda drawn: "no"))
    need = votes // 2 + 1
    theory = sum(comb(votes, k) * P**k * (1 - P) ** (votes - k) for k in range(need, votes + 1))
    found = wilson(sum(t.answer.text == "yes" for t in traces), len(traces), level=0.99)
    single = wilson(sum("yes" in t.completions[0].text for t in traces), len(traces), level=0.99)
    assert found.n == SIMULATED
    assert found.low <= theory <= found.high, (str(found), theory)
    assert single.low <= P <= single.high
    assert found.low > single.value  # with more votes than one it is better than one


def test_votes_that_are_wrong_in_different_ways_lose_to_the_right_one_as_often_as_counted() -> None:
    """Three wrong answers share 1 - P; where three votes differ, the first of them counts."""
    wrong = ("no", "never", "maybe")
    chances = {"yes": P} | dict.fromkeys(wrong, (1 - P) / len(wrong))
    theory = sum(
        prod(chances[said] for said in drawn)
        for drawn in itertools.product(chances, repeat=3)
        if drawn[majority(drawn)[0]] == "yes"
    )
    traces = _voted(3, _voter(lambda drawn: drawn.choice(wrong)))
    found = wilson(sum(t.answer.text == "yes" for t in traces), len(traces), level=0.99)
    assert found.low <= theory <= found.high, (str(found), theory)
    assert theory > P + 0.05


def test_a_voter_that_is_mostly_wrong_is_made_worse() -> None:
    speak = _voter(lambda drawn: "no")
    traces = _voted(3, lambda messages, sampling: _swapped(speak(messages, sampling)))
    found = wilson(sum(t.answer.text == "yes" for t in traces), len(traces), level=0.99)
    assert found.high < 1 - P


def _swapped(text: str) -> str:
    return text.replace("yes", "NO").replace("no", "yes").replace("NO", "no")
