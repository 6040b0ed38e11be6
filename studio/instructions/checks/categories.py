"""Wrong category: a label that does not fit the record, by dolly-15k's rules or by what the other records say."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from studio.instructions.checks.base import (
    NOTHING,
    REJECT,
    REMOVE,
    DatasetCheck,
    Finding,
    Flag,
    Mended,
    Remedy,
    live,
)
from studio.instructions.records import CATEGORIES
from studio.store import Record

__all__ = ["Categories"]

_Likelihood = npt.NDArray[np.float32]

# In dolly-15k these are about a text that is given; without one the task is another.
_NEED_CONTEXT = ("closed_qa", "information_extraction", "summarization")
_INLINE = 250  # letters of an instruction that may hold the text itself

_FOLDS = 3
_LEARNED_FROM = 20_000  # records; more make it slower and hardly better
_AT_ONCE = 5_000
_READ = 300  # letters of instruction and of answer
_FEWEST = 30  # records of a category to learn it from

_SUGGESTED = Remedy(
    "suggested",
    "Take the suggestion",
    "The category becomes the one that the flag suggests. Records without a suggestion stay as they are.",
)


class Categories(DatasetCheck):
    name: ClassVar[str] = "categories"
    title: ClassVar[str] = "Wrong category"
    explains: ClassVar[str] = (
        "Labels that break a rule (a summary needs a text to sum up), and labels that a simple classifier, trained on the "
        "other records, finds very unlikely. Each such flag says how often the classifier agreed with your labels when it "
        "was as sure; if that is too seldom, it says nothing."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = (_SUGGESTED, REJECT, REMOVE)

    sure: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        title="How sure of another category",
        description="Of another category, before a label is doubted.",
    )
    unlikely: float = Field(0.03, gt=0, lt=0.5, title="How unlikely", description="The given label has to be at most.")
    agreement: float = Field(
        0.9,
        gt=0.5,
        le=1,
        title="Agreement needed",
        description="With the labels of records it was not trained on, where it was as sure; below, nothing is doubted.",
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        counts = Counter(record.category for record in live(records))
        total = counts.total()
        uses_dolly = sum(counts[name] for name in CATEGORIES) >= 0.8 * total
        ruled: set[int] = set()
        for record in live(records):
            if (found := _broken_rule(record, uses_dolly, counts)) is not None:
                ruled.add(record.id)
                yield self._flag(record.id, found)
        for record_id, found in self._unlikely(records, counts):
            if record_id not in ruled:
                yield self._flag(record_id, found)

    def _rewrite(self, record: Record, flags: Sequence[Flag], remedy: str) -> Mended:
        better = next((f.details["suggested"] for f in flags if f.details.get("suggested")), None)
        return NOTHING if better is None else Mended({"category": better})

    def _still_true(self, record: Record, flags: list[Flag]) -> list[Flag]:
        return [flag for flag in flags if flag.details.get("category") == record.category]

    def _unlikely(self, records: Iterable[Record], counts: Counter[str]) -> Iterator[tuple[int, Finding]]:
        labels = sorted(name for name, n in counts.items() if name and n >= _FEWEST)
        if len(labels) < 2:
            return
        sample = _sample(record for record in live(records) if record.category in labels)
        trial = _Trial([_read(record) for record in sample], [record.category for record in sample], labels)
        agreed, judged = trial.agreement(self.sure)
        if not judged or agreed < self.agreement:
            return
        said = f"Where it was as sure, the classifier agreed with {100 * agreed:.0f} % of {judged:,} labels it had not seen."
        tried = {record.id for record in sample}
        rest = (record for record in live(records) if record.category in labels and record.id not in tried)
        for some, likelihood in chain([(sample, trial.likelihood)], trial.judge(rest)):
            for record, chances in zip(some, likelihood, strict=True):
                best, given = int(chances.argmax()), labels.index(record.category)
                if chances[best] >= self.sure and chances[given] <= self.unlikely:
                    note = f"More like {labels[best]} than {record.category}. {said}"
                    details = {"category": record.category, "suggested": labels[best], "agreement": round(agreed, 4)}
                    details["sure"] = round(float(chances[best]), 3)
                    yield record.id, Finding("category", note, details=details)


def _sample(records: Iterable[Record]) -> list[Record]:
    """At most so many records as are learned from, every one as likely, the same at every look (Vitter's algorithm R)."""
    random = Random(0)
    kept: list[Record] = []
    for n, record in enumerate(records):
        if n < _LEARNED_FROM:
            kept.append(record)
        elif (place := random.randrange(n + 1)) < _LEARNED_FROM:
            kept[place] = record
    return kept


def _broken_rule(record: Record, uses_dolly: bool, counts: Counter[str]) -> Finding | None:
    label = record.category
    details: dict[str, Any] = {"category": label}
    if not label:
        return (
            Finding("category", "No category, where most records have one.", details=details)
            if _are_labelled(counts)
            else None
        )
    if uses_dolly and label not in CATEGORIES:
        return Finding("category", f"'{label}' is none of the eight categories that the others use.", details=details)
    is_bare = record.turns is None and not record.context and len(record.instruction) < _INLINE
    if label in _NEED_CONTEXT and is_bare:
        if label == "closed_qa":
            details["suggested"] = "open_qa"
        return Finding("category", f"{label} is about a given text, and there is no context.", details=details)
    return None


def _are_labelled(counts: Counter[str]) -> bool:
    return counts[""] < 0.2 * counts.total()


def _read(record: Record) -> str:
    context = "withcontext" if record.context else "nocontext"
    return f"{record.instruction[:_READ]} {context} {record.response[:_READ]}"


class _Trial:
    """A classifier of words, and what it says of each record when it was trained on others (cross-validation)."""

    def __init__(self, read: list[str], given: list[str], labels: list[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second that pages spare
        from sklearn.linear_model import LogisticRegression

        self._words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=15_000, dtype=np.float32)
        self._given = np.array([labels.index(label) for label in given])
        matrix = self._words.fit_transform(read)
        fold = np.random.default_rng(0).permutation(len(read)) % _FOLDS
        self.likelihood = np.zeros((len(read), len(labels)), np.float32)
        for number in range(_FOLDS):
            self._model = LogisticRegression(C=5.0, max_iter=30, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nearly converged is good enough for a doubt, and it is measured
                self._model.fit(matrix[fold != number], self._given[fold != number])
            self._predict(matrix[fold == number], self.likelihood, np.flatnonzero(fold == number))

    def agreement(self, sure: float) -> tuple[float, int]:
        """How often it agrees with the labels where it is as sure, and in how many cases it is."""
        is_sure = self.likelihood.max(axis=1) >= sure
        right = self.likelihood.argmax(axis=1) == self._given
        return (float(right[is_sure].mean()), int(is_sure.sum())) if is_sure.any() else (0.0, 0)

    def judge(self, records: Iterable[Record]) -> Iterator[tuple[list[Record], _Likelihood]]:
        """Records that were not in the trial, in batches."""
        left = iter(records)
        while batch := list(islice(left, _AT_ONCE)):
            likelihood = np.zeros((len(batch), self.likelihood.shape[1]), np.float32)
            self._predict(self._words.transform([_read(record) for record in batch]), likelihood, np.arange(len(batch)))
            yield batch, likelihood

    def _predict(self, matrix: Any, likelihood: _Likelihood, rows: npt.NDArray[np.int64]) -> None:
        likelihood[np.ix_(rows, self._model.classes_)] = self._model.predict_proba(matrix)
