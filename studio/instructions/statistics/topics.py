"""What a dataset is about: clusters of questions with names, and a map of them.

TF-IDF over instruction and context, reduced to 50 directions (latent semantic analysis; Deerwester et al. 1990), and
k-means in small batches (Sculley 2010) on at most 20,000 records drawn by seed; the others go to the nearest topic. The
same records and seed give the same topics.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import InputError
from studio.instructions.statistics.languages import language
from studio.instructions.statistics.lengths import MOST_IDS, Where
from studio.instructions.statistics.reservoir import Reservoir
from studio.instructions.statistics.rows import Row, read
from studio.instructions.statistics.words import topic_stop_words, topic_words

__all__ = ["NO_TOPIC", "Point", "Topic", "Topics", "find_topics"]

NO_TOPIC = -1  # a record without any word that the topics know

_SAMPLE = 20_000
_POINTS = 2000
_BATCH = 5000
_LETTERS = 2000  # of a question that tell its topic
_FEATURES = 20_000
_DIRECTIONS = 50
_FEWEST, _MOST = 4, 16
_FEWEST_RECORDS = 8
_TERMS = 8
_IN_NAME = 3
_TYPICAL = 3
_LANGUAGE_SAMPLE = 200

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Topic:
    """A cluster of questions, named by the words that set it apart. Topics are counted from 0, largest first; `where`
    names its first 1,000 records, None when the rows have no ids. `typical` are the records nearest to its middle, of
    those it was found on."""

    number: int
    name: str
    terms: tuple[str, ...]
    n: int
    share: float
    where: Where | None
    typical: tuple[int, ...] = ()


@dataclass(frozen=True)
class Point:
    """A record on the map."""

    x: float
    y: float
    topic: int
    record: int


@dataclass(frozen=True, eq=False)
class Topics:
    """`ids` and `labels` say of each record, in the order read, which topic it is in; `fitted` is how many of the `n`
    records the topics were found on, and `unnamed` how many are in none."""

    topics: tuple[Topic, ...]
    points: tuple[Point, ...]
    n: int
    fitted: int
    unnamed: int
    seed: int
    ids: NDArray[np.int64]
    labels: NDArray[np.int8]

    def ids_of(self, topic: int) -> list[int]:
        """The records of a topic."""
        return [int(i) for i in self.ids[self.labels == topic]]


def find_topics(read_all: Callable[[], Iterable[Row]], *, k: int | None = None, seed: int = 0) -> Topics:
    """Find `k` topics, or as many as suit the size. More than 20,000 records are read twice.

    Raises InputError for too few records, or for records that share no words.
    """
    if k is not None and not 2 <= k <= 100:
        raise InputError(f"{k} topics cannot be found. Choose from 2 to 100, or leave it empty.")
    reservoir = Reservoir[tuple[int, str]](_SAMPLE, seed)
    for row in read_all():
        reservoir.offer(partial(_text, row))
    sample, n = reservoir.kept, reservoir.offered
    if n < _FEWEST_RECORDS:
        raise InputError(f"Topics need at least {_FEWEST_RECORDS} records, and there are {n}. Add some first.")
    with _one_thread():
        found = _Clusters([text for _, text in sample], k or _suited(n), seed)
        if n == len(sample):
            ids, labels = np.array([key for key, _ in sample], dtype=np.int64), found.labels
        else:
            ids, labels = _assigned(read_all(), found)
    counts = Counter(labels.tolist())
    made = tuple(
        Topic(
            number,
            name,
            terms,
            counts[number],
            counts[number] / n,
            _where(ids[labels == number]),
            tuple(sample[row][0] for row in found.typical(number) if sample[row][0]),
        )
        for number, (name, terms) in enumerate(found.named)
    )
    points = tuple(_points(found, [key for key, _ in sample], seed))
    return Topics(made, points, n, len(sample), counts[NO_TOPIC], seed, ids, labels)


def _suited(n: int) -> int:
    return min(_MOST, max(_FEWEST, round(math.sqrt(n) / 5)))


def _text(row: Row) -> tuple[int, str]:
    record = read(row)
    asked = (content for role, content in record.turns if role == "user") if record.turns else ()
    text = "\n".join(asked) or f"{record.instruction}\n{record.context}"
    return record.key, text[:_LETTERS]


def _where(ids: NDArray[np.int64]) -> Where | None:
    return {"ids": tuple(ids[:MOST_IDS].tolist())} if ids.size and ids.all() else None


def _assigned(rows: Iterable[Row], found: _Clusters) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    ids: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int8]] = []
    for batch in _batches(map(_text, rows)):
        ids.append(np.array([key for key, _ in batch], dtype=np.int64))
        labels.append(found.nearest(found.placed([text for _, text in batch])))
    return np.concatenate(ids), np.concatenate(labels)


def _batches(texts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class _Clusters:
    """Topics found on a sample, and where any question lies among them."""

    def __init__(self, texts: Sequence[str], k: int, seed: int) -> None:
        self._stop = topic_stop_words(_languages(texts))
        self._words, counted = self._fitted_words(texts)
        self._directions = _fitted_directions(counted, seed)
        self.places = self._reduced(counted)
        self._centres = self._fitted_centres(k, seed)
        labels = self.nearest(self.places)
        # Largest first, and without those that nothing is nearest to.
        sizes = Counter(labels[labels != NO_TOPIC].tolist())
        order = sorted(sizes, key=lambda number: (-sizes[number], number))
        self._centres = self._centres[order]
        self.labels = self.nearest(self.places)
        self.named = self._names(counted)

    def placed(self, texts: Sequence[str]) -> Floats:
        """Where questions lie: a direction of length 1, or nothing but zeros for one without a known word."""
        return self._reduced(self._words.transform(texts))

    def nearest(self, places: Floats) -> NDArray[np.int8]:
        closeness = places @ self._centres.T - (self._centres**2).sum(axis=1) / 2
        labels = closeness.argmax(axis=1).astype(np.int8)
        labels[~places.any(axis=1)] = NO_TOPIC
        return labels

    def typical(self, topic: int) -> list[int]:
        """The rows nearest to the middle of a topic, nearest first; of questions alike in their words, the first."""
        rows = np.flatnonzero(self.labels == topic)
        nearest = np.argsort(-(self.places[rows] @ self._centres[topic]).round(5), kind="stable")
        found: dict[bytes, int] = {}
        for row in rows[nearest].tolist():
            found.setdefault(self.places[row].round(4).tobytes(), row)
            if len(found) == _TYPICAL:
                break
        return list(found.values())

    def flat(self, rows: Sequence[int]) -> Floats:
        """Two coordinates: the directions in which the topics differ most."""
        middle = self._centres.mean(axis=0)
        _, _, directions = np.linalg.svd(self._centres - middle, full_matrices=False)
        directions = directions[:2]
        # A decomposition has no sign of its own; without one chosen, another build of the library would mirror the map.
        signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
        found = (self.places[list(rows)] - middle) @ (directions * signs[:, None]).T
        if found.shape[1] < 2:
            found = np.hstack([found, np.zeros((len(found), 2 - found.shape[1]), dtype=np.float32)])
        return found.astype(np.float32)

    def _analysed(self, text: str) -> list[str]:
        return [word for word in topic_words(text) if word not in self._stop]

    def _fitted_words(self, texts: Sequence[str]) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second that pages spare

        for fewest, most in ((2, 0.5), (1, 1.0)):
            made = TfidfVectorizer(
                analyzer=self._analysed,
                min_df=fewest,
                max_df=most,
                max_features=_FEATURES,
                sublinear_tf=True,
                dtype=np.float32,
            )
            try:
                return made, made.fit_transform(texts)
            except ValueError:  # no word is left: once more with the rare and the frequent ones
                continue
        raise InputError(f"The {len(texts)} questions have no words that could name a topic.")

    def _reduced(self, counted: Any) -> Floats:
        places = counted.toarray() if self._directions is None else self._directions.transform(counted)
        lengths = np.linalg.norm(places, axis=1, keepdims=True)
        known = np.asarray(counted.getnnz(axis=1) > 0)[:, None] & (lengths > 1e-6)
        return np.where(known, places / np.where(known, lengths, 1), 0).astype(np.float32)

    def _fitted_centres(self, k: int, seed: int) -> Floats:
        from sklearn.cluster import MiniBatchKMeans

        known = self.places[self.places.any(axis=1)]
        if not len(known):
            raise InputError(f"The {len(self.places)} questions have no words that could name a topic.")
        k = min(k, len(np.unique(known.round(4), axis=0)))
        made = MiniBatchKMeans(n_clusters=k, random_state=seed, n_init=3, batch_size=1024)
        return np.asarray(made.fit(known).cluster_centers_, dtype=np.float32)

    def _names(self, counted: Any) -> list[tuple[str, tuple[str, ...]]]:
        """A name and the strongest words of each topic: those that weigh more in it than in all records."""
        vocabulary = self._words.get_feature_names_out()
        everywhere = np.asarray(counted.mean(axis=0)).ravel()
        taken: set[str] = set()
        named: list[tuple[str, tuple[str, ...]]] = []
        for number in range(len(self._centres)):
            here = np.asarray(counted[self.labels == number].mean(axis=0)).ravel()
            order = np.argsort(everywhere - here, kind="stable")
            strongest = [str(vocabulary[i]) for i in order[: 4 * _TERMS] if here[i] > 0]
            terms = list(_without_forms(strongest))
            free = [term for term in terms if term not in taken][:_IN_NAME]
            taken.update(free)
            # Every word may be taken when there are few; a number keeps the names apart then.
            name = ", ".join(free) or f"{', '.join(terms[:_IN_NAME])} ({number + 1})"
            named.append((name, tuple(terms[:_TERMS])))
        return named


def _languages(texts: Sequence[str]) -> set[str]:
    """Those of a few questions; one alone is often too short to tell."""
    some = texts[:: max(1, len(texts) // _LANGUAGE_SAMPLE)]
    return {language("\n".join(some[i : i + 4])) for i in range(0, len(some), 4)} - {""} or {"en"}


def _without_forms(terms: Iterable[str]) -> Iterator[str]:
    """Not 'tents' after 'tent'."""
    said: list[str] = []
    for term in terms:
        if not any(_is_form(term, other) for other in said):
            said.append(term)
            yield term


def _is_form(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) > 3 and long.startswith(short) and len(long) - len(short) <= 2


def _fitted_directions(counted: Any, seed: int) -> Any:
    """None where there are too few words or records to reduce."""
    from sklearn.decomposition import TruncatedSVD

    if min(counted.shape) <= _DIRECTIONS:
        return None
    return TruncatedSVD(_DIRECTIONS, random_state=seed).fit(counted)


def _points(found: _Clusters, ids: Sequence[int], seed: int) -> Iterator[Point]:
    rows = [row for row, label in enumerate(found.labels) if label != NO_TOPIC]
    if len(rows) > _POINTS:
        rows = sorted(random.Random(seed).sample(rows, _POINTS))
    for row, (x, y) in zip(rows, found.flat(rows), strict=True):
        yield Point(round(float(x), 4), round(float(y), 4), int(found.labels[row]), ids[row])


def _one_thread() -> Any:
    """Sums of floats depend on who adds them: one thread gives the same topics every time."""
    import sklearn.cluster  # noqa: F401  # only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
