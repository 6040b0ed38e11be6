"""What a dataset is made of: one pass over its records, in memory that does not grow with them.

Every figure carries the filter that shows its records. What is estimated from a sample says so, with its n.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from studio.evaluation import wilson
from studio.instructions.records import CATEGORIES
from studio.instructions.statistics.languages import LETTERS, language
from studio.instructions.statistics.lengths import MOST_IDS, Figure, LengthCounter, Lengths, Where
from studio.instructions.statistics.reservoir import Reservoir
from studio.instructions.statistics.rows import Reading, Row, read
from studio.instructions.statistics.telling import Telling, telling
from studio.instructions.statistics.vocabulary import Vocabulary, VocabularyCounter
from studio.instructions.statistics.words import words

__all__ = [
    "DOLLY",
    "CategoryShare",
    "Coverage",
    "Languages",
    "Shares",
    "Summary",
    "TokenCounter",
    "coverage",
    "summary",
]

TokenCounter = Callable[[Sequence[str]], Sequence[int]]

# Records per category in databricks-dolly-15k (Conover et al. 2023, huggingface.co/datasets/databricks/databricks-dolly-15k)
# as of its 15,011 rows, which these add up to. The same counts stand as constants in the data loaders of federated
# tuning that descend from github.com/alibaba/FederatedScope (branch llm).
DOLLY: Mapping[str, int] = {
    "open_qa": 3742,
    "general_qa": 2191,
    "classification": 2136,
    "closed_qa": 1773,
    "brainstorming": 1766,
    "information_extraction": 1506,
    "summarization": 1188,
    "creative_writing": 709,
}

_FILTERED = ("category", "split", "state", "source", "author")  # what the record filter knows
_MOST_NAMES = 10_000  # different sources or categories that are told apart
_MOST_BARS = 50
_SAMPLE = 2000  # records whose language is looked at
_TEXTS_PER_COUNT = 256


@dataclass(frozen=True)
class Shares:
    """How often each value of a field occurs, most frequent first. `others` counts the records of values beyond the
    first 50, for which there is no bar."""

    bars: tuple[Figure, ...] = ()
    others: int = 0

    def n(self, label: str) -> int:
        return next((bar.n for bar in self.bars if bar.label == label), 0)


@dataclass(frozen=True)
class Languages:
    """Languages of a seeded sample of `n` records, largest first; '' where a text is too short or mixed to tell."""

    n: int
    seed: int
    bars: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class CategoryShare:
    """One of dolly's kinds of task: here, and in dolly."""

    category: str
    n: int
    share: float
    expected: float
    where: Where


@dataclass(frozen=True)
class Coverage:
    """Categories beside dolly-15k's. `distance` is the share of records that would need another category for the shares
    to be alike (total variation): 0 when they are. `elsewhere` counts records of none of the eight."""

    categories: tuple[CategoryShare, ...]
    elsewhere: int
    distance: float | None  # not defined without records

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(c.category for c in self.categories if not c.n)


@dataclass(frozen=True)
class Summary:
    """What a dataset is made of. `tokens` is None when nobody counted any, and `beyond` are the records with more of them
    than the window; lengths are in characters, by field, and under '' those of all text of a record."""

    records: int
    conversations: int
    characters: int
    words: int
    vocabulary: Vocabulary
    languages: Languages
    coverage: Coverage
    telling: Telling
    tokens: Lengths | None = None
    beyond: Figure | None = None
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    categories: Shares = Shares()
    splits: Shares = Shares()
    states: Shares = Shares()
    sources: Shares = Shares()
    licences: Shares = Shares()
    authors: Shares = Shares()


def summary(
    rows: Iterable[Row], *, count: TokenCounter | None = None, window: int | None = None, seed: int = 0
) -> Summary:
    """Count what there is, in one pass. `count` tells the tokens of texts; without it there are none to tell. `window` is
    how many of them are read of a record."""
    desk = _Desk(count, window, seed)
    for row in rows:
        desk.take(read(row))
    return desk.summary()


def coverage(counts: Mapping[str, int]) -> Coverage:
    """How records per category compare with dolly-15k."""
    n, whole = sum(counts.values()), sum(DOLLY.values())
    shares = tuple(
        CategoryShare(c, counts.get(c, 0), counts.get(c, 0) / n if n else 0.0, DOLLY[c] / whole, {"category": c})
        for c in CATEGORIES
    )
    elsewhere = n - sum(share.n for share in shares)
    if not n:
        return Coverage(shares, 0, None)
    apart = sum(abs(share.share - share.expected) for share in shares) + elsewhere / n
    return Coverage(shares, elsewhere, apart / 2)


class _Desk:
    """What is counted so far."""

    def __init__(self, count: TokenCounter | None, window: int | None, seed: int) -> None:
        self._records = self._conversations = 0
        self._words = VocabularyCounter()
        self._lengths = {of: LengthCounter(is_filter=not of) for of in ("", "instruction", "context", "response")}
        self._tokens = _Tokens(count) if count else None
        self._tallies = {of: _Tally(of) for of in ("category", "split", "state", "source", "licence", "author")}
        self._window = window
        self._seed, self._sample = seed, Reservoir[tuple[int, str]](_SAMPLE, seed)

    def take(self, row: Reading) -> None:
        self._records += 1
        self._conversations += bool(row.turns)
        texts = row.texts
        for text in texts:
            self._words.add(words(text))
        self._lengths[""].add(row.letters)
        self._lengths["instruction"].add(len(row.instruction), row.key)
        self._lengths["response"].add(len(row.response), row.key)
        if row.context:  # most records have none, and bars of zeros would hide the others
            self._lengths["context"].add(len(row.context), row.key)
        if self._tokens:
            self._tokens.add("\n".join(texts), row.key)
        for of, tally in self._tallies.items():
            tally.add(getattr(row, of), row.key)
        self._sample.offer(lambda: (row.key, "\n".join(text[:LETTERS] for text in texts if text)[:LETTERS]))

    def summary(self) -> Summary:
        lengths = {of: counter.lengths() for of, counter in self._lengths.items()}
        vocabulary = self._words.vocabulary()
        shares = {of: tally.shares(self._records) for of, tally in self._tallies.items()}
        languages = _languages(self._sample.kept, self._seed)
        return Summary(
            records=self._records,
            conversations=self._conversations,
            characters=lengths[""].total,
            words=vocabulary.words,
            vocabulary=vocabulary,
            languages=languages,
            coverage=coverage(self._tallies["category"].counts),
            telling=telling(self._sample.kept, [bar.label for bar in languages.bars if bar.label]),
            tokens=self._tokens.lengths() if self._tokens else None,
            beyond=self._tokens.beyond(self._window) if self._tokens and self._window else None,
            lengths=lengths,
            categories=shares["category"],
            splits=shares["split"],
            states=shares["state"],
            sources=shares["source"],
            licences=shares["licence"],
            authors=shares["author"],
        )


class _Tally:
    """Values of one field. Past the first 10,000 different ones, new values are counted together, under no name."""

    def __init__(self, of: str) -> None:
        self._of = of
        self.counts: Counter[str] = Counter()
        self._keys: dict[str, array[int]] = {}  # of the values that the filter does not know
        self._unnamed = 0

    def add(self, value: str, key: int) -> None:
        if value not in self.counts and len(self.counts) >= _MOST_NAMES:
            self._unnamed += 1
            return
        self.counts[value] += 1
        if key and not self._asked(value):
            keys = self._keys.setdefault(value, array("q"))
            if len(keys) < MOST_IDS:
                keys.append(key)

    def shares(self, records: int) -> Shares:
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        shown, rest = ordered[:_MOST_BARS], ordered[_MOST_BARS:]
        bars = tuple(Figure(value, n, n / records, self._where(value)) for value, n in shown)
        return Shares(bars, sum(n for _, n in rest) + self._unnamed)

    def _where(self, value: str) -> Where | None:
        return self._asked(value) or ({"ids": tuple(self._keys[value])} if value in self._keys else None)

    def _asked(self, value: str) -> Where | None:
        """How the record filter asks for it, None where it cannot."""
        if self._of == "category" and not value:
            return {"category": None}  # '' asks for nothing
        return {self._of: value} if value and self._of in _FILTERED else None


class _Tokens:
    """Counted in batches: a tokenizer in another process is asked once for many texts."""

    def __init__(self, count: TokenCounter) -> None:
        self._count = count
        self._waiting: list[tuple[str, int]] = []
        self._lengths = LengthCounter(is_filter=False)

    def add(self, text: str, key: int) -> None:
        self._waiting.append((text, key))
        if len(self._waiting) == _TEXTS_PER_COUNT:
            self._settle()

    def lengths(self) -> Lengths:
        self._settle()
        return self._lengths.lengths()

    def beyond(self, window: int) -> Figure:
        self._settle()
        return self._lengths.beyond(window)

    def _settle(self) -> None:
        if not self._waiting:
            return
        counts = self._count([text for text, _ in self._waiting])
        for n, (_, key) in zip(counts, self._waiting, strict=True):
            self._lengths.add(n, key)
        self._waiting = []


def _languages(sample: Sequence[tuple[int, str]], seed: int) -> Languages:
    ids: dict[str, list[int]] = {}
    for key, text in sample:
        ids.setdefault(language(text), []).append(key)
    ordered = sorted(ids.items(), key=lambda item: (-len(item[1]), item[0]))
    return Languages(len(sample), seed, tuple(_language_bar(code, keys, len(sample)) for code, keys in ordered))


def _language_bar(code: str, keys: Sequence[int], n: int) -> Figure:
    # No record knows its language, so the filter names those of the sample that were judged to be in it.
    where = {"ids": tuple(keys[:MOST_IDS])} if all(keys) else None
    return Figure(code, len(keys), len(keys) / n, where, wilson(len(keys), n))
