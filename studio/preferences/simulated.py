"""Simulated judgements: a rule that anybody can check takes the place of people, for demos and tests.

Its judgements are an annotator's of kind `rule` and are shown as simulated wherever they appear. To change the rule,
change RULE and `points`: another wording is another annotator, so what the old rule said stays its own.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

from pydantic import Field

from studio.evaluation.rules import SpeaksToReader
from studio.store import Annotator, DeskItem, Ranking, Store
from studio.tasks import Lane, Run, Task

__all__ = ["RULE", "SimulateJudgements", "points", "ranking", "rule_annotator"]

RULE = (
    'One point for speaking to the reader ("you"), one point off for every figure (a number in digits) that the question '
    "does not give, and a tenth of a point off for every word past 45. Equal points are a tie."
)

_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_ENOUGH_WORDS, _WORD_COST = 45, 0.1
_ITEMS = 32
_LEASE_SECONDS = 60.0


def points(prompt_text: str, answer_text: str) -> float:
    """What the rule gives an answer: 1 at best."""
    given = set(_FIGURE.findall(prompt_text))
    made_up = sum(figure not in given for figure in _FIGURE.findall(answer_text))
    too_many = max(0, len(answer_text.split()) - _ENOUGH_WORDS)
    speaks = SpeaksToReader(rule="speaks_to_reader").keeps(answer_text)
    # Rounded, so that answers the rule finds equal are equal as floats too.
    return round(speaks - made_up - _WORD_COST * too_many, 6)


def ranking(prompt_text: str, answers: Sequence[tuple[int, str]]) -> list[list[int]]:
    """The ids of answers (id, text) in groups of equal points, best first."""
    given = {key: points(prompt_text, text) for key, text in answers}
    order = sorted(given, key=lambda key: (-given[key], key))
    return [list(group) for _, group in groupby(order, key=given.__getitem__)]


def rule_annotator(store: Store) -> Annotator:
    """The annotator that stands for the rule as it is worded now."""
    return store.annotator(f"rule-{hashlib.sha256(RULE.encode()).hexdigest()[:8]}", kind="rule", note=RULE)


class SimulateJudgements(Task):
    """Rank every item of a batch by the stated rule; the judgements are marked as simulated."""

    kind: ClassVar[str] = "simulate"
    lane: ClassVar[Lane] = "light"

    batch: str = Field(title="Batch", description="The set of items to rank by the stated rule.")

    @property
    def title(self) -> str:
        return f"Rank '{self.batch}' by a stated rule (simulated)"

    def check(self, store: Store) -> None:
        store.batch_source(self.batch)  # raises for a batch that is not there

    def do(self, run: Run) -> dict[str, Any]:
        annotator = rule_annotator(run.store)
        done = run.store.labeling_progress(self.batch, annotator)
        judged = 0
        while not run.stop_requested():
            items = run.store.lease_items(self.batch, annotator, _ITEMS, seconds=_LEASE_SECONDS)
            if not items:
                break
            for item in items:
                run.store.judge(_ranking_of(item), annotator)
            judged += len(items)
            run.log(done.mine + judged, done.items)
        return {"batch": self.batch, "items": done.items, "judged": judged, "annotator": annotator.name, "rule": RULE}


def _ranking_of(item: DeskItem) -> Ranking:
    groups = ranking("\n".join(turn["content"] for turn in item.prompt), item.answers)
    return Ranking(item.assignment_id, str(uuid.uuid4()), groups, tie_kind="equal" if len(groups) == 1 else "")
