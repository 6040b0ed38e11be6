"""L3's data: answers sampled to be ranked, who ranks them, and the judgements as a snapshot to learn from."""

from studio.preferences.desk import (
    LEASE_SECONDS,
    guidelines_of,
    judge,
    last_judged,
    next_items,
    progress,
    skip,
)
from studio.preferences.freezing import FEWEST_JUDGEMENTS, freeze_judgements, freeze_prompts
from studio.preferences.pairs import ranking_pairs
from studio.preferences.report import report_card
from studio.preferences.sampling import SampleAnswers, prompts_of
from studio.preferences.simulated import RULE, SimulateJudgements, points, ranking, rule_annotator
from studio.store import DeskItem, Judged, Progress, Ranking

__all__ = [
    "FEWEST_JUDGEMENTS",
    "LEASE_SECONDS",
    "RULE",
    "DeskItem",
    "Judged",
    "Progress",
    "Ranking",
    "SampleAnswers",
    "SimulateJudgements",
    "freeze_judgements",
    "freeze_prompts",
    "guidelines_of",
    "judge",
    "last_judged",
    "next_items",
    "points",
    "progress",
    "prompts_of",
    "ranking",
    "ranking_pairs",
    "report_card",
    "rule_annotator",
    "skip",
]
