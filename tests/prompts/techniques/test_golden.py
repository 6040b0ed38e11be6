"""What every technique sends, word for word, and what it makes of the answers: golden/NAME.txt, to be read.

A technique that asks otherwise than before gives other scores than before, so a change has to be seen in these files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.prompts import render, template
from studio.prompts.techniques import Technique, Trace, technique, techniques
from studio.specs import Completion, Message, Sampling
from tests.prompts.techniques.scripted import saying

GOLDEN = Path(__file__).parent / "golden"
TENTS = "A shop has 3 boxes of 12 tents and sells 7. How many are left?"
REVIEW = "The zip broke on the first day."
WORKED = [
    {"instruction": "2 bags of 5 pegs. How many?", "response": "Each bag has 5, so 2 * 5 = 10. The answer is 10."},
    {"instruction": "9 ropes less 4. How many?", "response": "9 - 4 = 5. The answer is 5."},
]


@dataclass(frozen=True)
class Case:
    """A prompt made of a template, the technique with its settings, and what the model says at each call."""

    says: tuple[str, ...]
    settings: dict[str, Any]
    template: str = "plain"
    instruction: str = TENTS
    examples: tuple[dict[str, str], ...] = ()
    is_told: bool = False


CASES: dict[str, Case] = {
    "direct": Case(("At 30 degrees.",), {}, instruction="How do I wash it?"),
    "direct few-shot": Case((" 29",), {}, template="few-shot", examples=tuple(WORKED)),
    "chain-of-thought": Case(
        ("3 * 12 = 36 tents. 36 - 7 = 29. The answer is 29.\nQ: And if it sells 8?",), {"reads": "number"}
    ),
    "chain-of-thought few-shot": Case(
        ("3 * 12 = 36, less 7 is 29. So the answer is 29.",),
        {"reads": "number", "room": 0},
        template="few-shot",
        examples=tuple(WORKED),
        is_told=True,
    ),
    "zero-shot-chain-of-thought": Case(
        ("There are 3 * 12 = 36 tents. Without 7 there are 29.", " 29, of 36."), {"reads": "number"}
    ),
    "self-consistency": Case(
        ("36 - 7 = 29. The answer is 29.", "The answer is 31.", "So 29 tents.\nThe answer is $29.00."),
        {"reads": "number", "votes": 3},
    ),
    "least-to-most": Case(
        ("1. How many tents are in 3 boxes?\n2. How many does it sell?", "36.", "7.", "29 of the 36 tents are left."),
        {"reads": "text"},
    ),
    "react": Case(
        (
            "Thought: First all tents.\nAction: Calculate[3 × 12]\nObservation: 99",
            "Thought: Less what was sold.\nAction: Calculate[all - 7]",
            "Thought: With the number.\nAction: Calculate[36 - 7]",
            "Thought: That is it.\nAction: Finish[29]",
        ),
        {},
    ),
    "json": Case(
        ('Here: {"zip": "broken"}',),
        {"json_schema": '{"type": "object", "required": ["zip"]}'},
        instruction=f"Extract the fault.\n\n{REVIEW}",
    ),
    "label": Case(("Negative, I fear.",), {"labels": ("positive", "negative")}, instruction=f"Which mood?\n\n{REVIEW}"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_technique_sends_exactly_this(name: str) -> None:
    expected = (GOLDEN / f"{name.replace(' ', '-')}.txt").read_bytes()
    assert _transcript(name) == expected.decode()


def test_every_technique_has_its_golden_file_and_there_is_no_other() -> None:
    assert set(techniques()) <= set(CASES)
    assert {path.stem for path in GOLDEN.iterdir()} == {name.replace(" ", "-") for name in CASES}


@pytest.mark.parametrize("name", list(CASES))
def test_asked_twice_a_technique_does_the_same_twice(name: str) -> None:
    assert _transcript(name) == _transcript(name)


def _transcript(name: str) -> str:
    case = CASES[name]
    made = technique(name.partition(" ")[0], case.settings)
    made = type(made)(made.settings, is_told=case.is_told)
    messages = render(template(case.template), {"instruction": case.instruction}, case.examples)
    sent: list[Sampling] = []
    trace = _answered(made, messages, case.says, sent)
    assert len(sent) == len(case.says) == len(trace.completions)
    calls = [
        f"=== call {number}\n{_sampling(how)}\n{_turns(asked)}\n--- the model says\n{said.text}\n"
        for number, ((asked, said), how) in enumerate(zip(trace.steps, sent, strict=True), start=1)
    ]
    return "\n".join([*calls, f"=== output\n{trace.output}\n", _end(trace)])


def _answered(made: Technique, messages: list[Message], says: Sequence[str], sent: list[Sampling]) -> Trace:
    inner = saying(says)

    async def ask(asked: Sequence[Message], sampling: Sampling) -> Completion:
        sent.append(sampling)
        return await inner(asked, sampling)

    return asyncio.run(made.answer(ask, messages, Sampling(max_tokens=64, seed=7)))


def _sampling(how: Sampling) -> str:
    said = how.model_dump(exclude_defaults=True)
    return ", ".join(f"{key} {value!r}" for key, value in said.items())


def _turns(messages: Sequence[Message]) -> str:
    return "\n".join(f"--- {turn.role}\n{turn.content}" for turn in messages)


def _end(trace: Trace) -> str:
    found = trace.answer
    how = "strict" if found.strict else "lenient" if found.parsed else "not found"
    place = trace.output[found.start : found.end]
    return f"=== answer ({how})\n{found.text}\nwhere it says: {place}\nnote: {trace.note}\n"
