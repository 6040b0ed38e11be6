"""ReAct: the model writes a thought and an action, we carry the action out and tell what came of it, and so on.

The only tool is a calculator. The loop ends at Finish, at an output without an action, or after so many steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from studio.errors import InputError
from studio.prompts.techniques.base import (
    Ask,
    Found,
    Knobs,
    Step,
    Technique,
    Trace,
    at_call,
    before,
    freely,
    with_stop,
)
from studio.prompts.techniques.calculator import calculate
from studio.prompts.techniques.reading import by_default
from studio.specs import Message, Sampling, assistant, user

__all__ = ["Action", "React", "first_action"]

_OBSERVATION = "Observation:"
_ACTION = re.compile(r"Action(?:[^\S\n]*\d+)?:[^\S\n]*(Calculate|Finish)\[", re.IGNORECASE)
_FORMAT = """Answer in steps of this form:
Thought: what has to be found out next
Action: Calculate[12 * (3 + 4)]
Observation: the result, which is given to you
When you know the answer, write instead:
Thought: what the answer is
Action: Finish[the answer]"""


class Loop(Knobs):
    """How long it may go on."""

    steps: int = Field(5, ge=1, le=16, title="Steps", description="At most this many thoughts with their actions.")


@dataclass(frozen=True)
class Action:
    """What the model wants done: `Calculate` or `Finish`, with what; `start` to `end` is where that stands."""

    verb: str
    text: str
    start: int
    end: int


class React(Technique):
    """One call per step. The steps are turns: what the model wrote, and the observation as the reply."""

    name: ClassVar[str] = "react"
    title: ClassVar[str] = "ReAct with a calculator"
    summary: ClassVar[str] = (
        "Thought, action, observation in turn. The model may calculate; small ones lose the format."
    )
    citation: ClassVar[str] = "Yao et al. 2022, arXiv 2210.03629"
    knobs: ClassVar[type[Knobs]] = Loop

    settings: Loop

    @property
    def calls(self) -> int:
        return self.settings.steps

    @property
    def cost(self) -> str:
        return f"1 to {self.calls} calls" if self.calls > 1 else "1 call"

    @property
    def instruction(self) -> str:
        return _FORMAT

    def sampling(self, asked: Sampling) -> Sampling:
        return freely(with_stop(asked, _OBSERVATION))

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        turns, told = self.prepare(messages), ""
        steps: list[Step] = []
        while len(steps) < self.settings.steps:
            said = await ask(turns, at_call(self.sampling(sampling), len(steps)))
            steps.append((list(turns), said))
            text = before(said.text, _OBSERVATION).strip()
            action = first_action(text)
            if action is None:
                return self._trace(told + text, steps, "It ended without an action.")
            # What stands behind the first action was written without its result.
            written = text[: action.end + 1].rstrip()
            if action.verb == "Finish":
                return self._trace(told + written, steps, "")
            observed = f"{_OBSERVATION} {_result(action.text)}"
            told += f"{written}\n{observed}\n"
            turns += [assistant(written), user(observed)]
        return self._trace(told.rstrip("\n"), steps, f"It was stopped after {len(steps)} steps.")

    def extract(self, text: str) -> Found:
        """What the last Finish holds, else the last line that is the model's own."""
        own = re.sub(rf"^{_OBSERVATION}.*$", lambda line: " " * len(line[0]), text, flags=re.MULTILINE)
        ends = [match.end() for match in _ACTION.finditer(own) if match[1].casefold() == "finish"]
        return Found.of(own, ends[-1], _closing(own, ends[-1]), strict=True) if ends else by_default(own, "text")

    def _trace(self, output: str, steps: Sequence[Step], note: str) -> Trace:
        return Trace.of(output, self.extract(output), steps, note)


def first_action(text: str) -> Action | None:
    """The first action in an output; one whose bracket is never closed goes on to the end of its line."""
    match = _ACTION.search(text)
    if match is None:
        return None
    end = _closing(text, match.end())
    return Action(match[1].capitalize(), text[match.end() : end].strip(), match.end(), end)


def _closing(text: str, start: int) -> int:
    """The place of the bracket that closes the one before `start`, or of the line's end where none does."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        if depth == 0:
            return place
    line_end = text.find("\n", start)
    return line_end if line_end >= 0 else len(text)


def _result(expression: str) -> str:
    try:
        return calculate(expression)
    except InputError as error:
        return " ".join(str(error).split())  # the model reads the sentence and may try again
