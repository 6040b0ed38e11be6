"""What a dataset is made of, what it is about, and which of its records want a look. Pure: records in, figures out."""

from studio.instructions.statistics.figures import (
    DOLLY,
    CategoryShare,
    Coverage,
    Languages,
    Shares,
    Summary,
    TokenCounter,
    coverage,
    summary,
)
from studio.instructions.statistics.languages import language
from studio.instructions.statistics.lengths import MOST_IDS, Figure, Lengths, Where
from studio.instructions.statistics.quality import (
    PARTS,
    Part,
    Quality,
    QualitySummary,
    Reason,
    quality_summary,
    score,
)
from studio.instructions.statistics.rows import Reading, Row, read
from studio.instructions.statistics.telling import Telling
from studio.instructions.statistics.topics import NO_TOPIC, Point, Topic, Topics, find_topics
from studio.instructions.statistics.vocabulary import Vocabulary

__all__ = [
    "DOLLY",
    "MOST_IDS",
    "NO_TOPIC",
    "PARTS",
    "CategoryShare",
    "Coverage",
    "Figure",
    "Languages",
    "Lengths",
    "Part",
    "Point",
    "Quality",
    "QualitySummary",
    "Reading",
    "Reason",
    "Row",
    "Shares",
    "Summary",
    "Telling",
    "TokenCounter",
    "Topic",
    "Topics",
    "Vocabulary",
    "Where",
    "coverage",
    "find_topics",
    "language",
    "quality_summary",
    "read",
    "score",
    "summary",
]
