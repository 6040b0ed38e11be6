"""What a dataset is made of, kept beside it: figures, topics and scores as of one moment, made on the spot or as a job.

A small dataset is described when somebody asks; a large one takes minutes, so that is a job, and pages read what it
left. A description holds figures, words and ids, and no texts: those are read where they are shown.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from studio.backends import Backend
from studio.errors import InputError, StorageError, StudioError
from studio.instructions.statistics import (
    Figure,
    Lengths,
    Point,
    Quality,
    QualitySummary,
    Summary,
    TokenCounter,
    Topic,
    find_topics,
    quality_summary,
    score,
    summary,
)
from studio.models.files import write_atomically
from studio.specs import ModelRef
from studio.store import Dataset, Record, RecordFilter, Store
from studio.tasks import Lane, Run, Task

__all__ = [
    "AT_ONCE",
    "Describe",
    "Description",
    "TokenCount",
    "TopicMap",
    "Watch",
    "Weak",
    "describe",
    "described_at",
    "description_of",
    "figures_of",
    "forget_description",
    "is_worth_a_wait",
    "records_of",
]

AT_ONCE = 5000  # records that are described while somebody waits

_WEAKEST = 20
_STEP = 500  # records between two looks at whether to stop
_PATIENCE = 10  # a dataset that keeps changing is described again for a tenth of the time at most


@dataclass(frozen=True)
class Weak:
    """A record with few points, and why."""

    record: int
    points: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class TopicMap:
    """Topics of `n` records, found on `fitted` of them; `unnamed` are in none."""

    topics: tuple[Topic, ...]
    points: tuple[Point, ...]
    n: int
    fitted: int
    unnamed: int


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a record's text by one model's tokenizer, without what a chat template adds. They are counted less often
    than the rest, so they have a date of their own. `window` is what the model reads at once, None where nobody knows."""

    model: str
    window: int | None
    change: int
    at: float
    lengths: Lengths
    beyond: Figure | None = None


@dataclass(frozen=True)
class Description:
    """A dataset as it was at `at`, when its `change` was this."""

    dataset: int
    change: int
    at: float
    seconds: float
    summary: Summary
    quality: QualitySummary
    weakest: tuple[Weak, ...]
    topics: TopicMap | None
    why_no_topics: str = ""
    tokens: TokenCount | None = None


_JSON = TypeAdapter(Description)


class Describe(Task):
    """Count what a dataset is made of, find its topics, and score its records."""

    kind: ClassVar[str] = "describe"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Dataset", description="Which records.")
    model: ModelRef | None = Field(
        default=None, title="Model", description="Whose tokenizer counts the tokens; none: they are not counted."
    )

    @property
    def title(self) -> str:
        return f"Describe {self.dataset}"

    def check(self, store: Store) -> None:
        store.dataset(self.dataset)

    def do(self, run: Run) -> dict[str, Any]:
        dataset, root = run.store.dataset(self.dataset), run.output.parents[1]
        count = _counter(run.backend(self.model)) if self.model else None
        window = _window(run, self.model) if self.model else None
        found = describe(
            run.store,
            root,
            dataset,
            count=count,
            model=str(self.model or ""),
            window=window,
            watch=Watch(run.log, run.say, lambda: bool(run.stop_requested())),
        )
        if found is None:
            return {}
        told: dict[str, Any] = {"dataset": dataset.name, "records": found.summary.records}
        return {**told, "tokens": found.tokens.lengths.total} if count and found.tokens else told


@dataclass(frozen=True)
class Watch:
    """Whoever watches the work: how far it is, what it does, and whether to stop."""

    log: Callable[[int, int], None] = lambda step, total: None
    say: Callable[[str], None] = lambda sentence: None
    stop: Callable[[], bool] = lambda: False


class _Stopped(Exception):
    """Somebody asked for an end."""


def describe(
    store: Store,
    root: Path,
    dataset: Dataset,
    *,
    count: TokenCounter | None = None,
    model: str = "",
    window: int | None = None,
    watch: Watch | None = None,
) -> Description | None:
    """Describe the dataset as it is and keep that in the workspace; None when somebody stopped it.

    Tokens are counted by `count`, the tokenizer of `model`; without one, those that were counted before stay.
    """
    started, at = time.monotonic(), time.time()
    watch = watch or Watch()
    dataset = store.dataset(dataset.name)  # read before its records: what changes meanwhile has not been seen
    records = _Records(store, dataset, watch)
    try:
        watch.say("Counting tokens, words and letters." if count else "Counting words and letters.")
        made_of = summary(records, count=count, window=window)
        watch.say("Scoring the answers.")
        weakest = _Weakest()
        quality = quality_summary(weakest.scores(records))
        watch.say("Finding topics.")
        topics, why = _topics(records)
    except _Stopped:
        return None
    tokens = _tokens(made_of, description_of(root, dataset.id), model, window, dataset.change, at)
    made_of = replace(made_of, tokens=None, beyond=None)
    seconds = time.monotonic() - started
    found = Description(dataset.id, dataset.change, at, seconds, made_of, quality, weakest.found, topics, why, tokens)
    _keep(root, found)
    return found


def description_of(root: Path, dataset_id: int) -> Description | None:
    """The newest description of a dataset; None when there is none, or one that an earlier studio wrote otherwise."""
    try:
        return _JSON.validate_json(_place(root, dataset_id).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise StorageError(f"{_place(root, dataset_id)} cannot be read ({error.strerror}). Remove it.") from error


def described_at(root: Path, dataset_id: int) -> int:
    """Another number whenever there is another description, without reading it; 0 when there is none."""
    try:
        return _place(root, dataset_id).stat().st_mtime_ns
    except OSError:
        return 0


def is_worth_a_wait(records: int, found: Description | None) -> bool:
    """Whether to describe a changed dataset while somebody looks at it: it is small, and not described all the time."""
    if not 0 < records <= AT_ONCE:
        return False
    return found is None or time.time() - found.at >= _PATIENCE * found.seconds


def figures_of(found: Description) -> dict[str, Sequence[Figure]]:
    """Every bar of a description, by the part that it stands in."""
    s = found.summary
    parts: dict[str, Sequence[Figure]] = {
        "categories": (*s.categories.bars, *_missing(s)),
        "splits": s.splits.bars,
        "states": s.states.bars,
        "sources": s.sources.bars,
        "authors": s.authors.bars,
        "licences": s.licences.bars,
        "languages": s.languages.bars,
        "telling": s.telling.bars,
        "quality": found.quality.bars,
        "reasons": found.quality.reasons,
    }
    parts |= {f"lengths.{of}".removesuffix("."): lengths.bars for of, lengths in s.lengths.items()}
    if found.tokens:
        parts["tokens"] = (*found.tokens.lengths.bars, *([found.tokens.beyond] if found.tokens.beyond else []))
    if found.topics:
        parts["topics"] = [Figure(t.name, t.n, t.share, t.where) for t in found.topics.topics]
    return parts


def records_of(found: Description, part: str, label: str) -> RecordFilter:
    """The records of a bar, or one record (`record`, its number). Raises InputError where none can be shown."""
    if part == "record" and label.isdecimal():
        return RecordFilter(ids=(int(label),))
    figure = next((f for f in figures_of(found).get(part, ()) if f.label == label), None)
    if figure is None or figure.where is None or not figure.n:
        raise InputError(f"The statistics have no records under '{label[:80]}' (any more). Bring them up to date.")
    asked: Mapping[str, Any] = figure.where
    return RecordFilter(**asked)


# -- the work --------------------------------------------------------------------------------------------------------


class _Records(Iterable[Record]):
    """The records of a dataset, read anew each time somebody goes through them; each time is a part of the way."""

    _TIMES = 3

    def __init__(self, store: Store, dataset: Dataset, watch: Watch) -> None:
        self._store, self._dataset_id, self._watch = store, dataset.id, watch
        self._total = store.count_records(dataset.id)
        self._times = 0

    def __iter__(self) -> Iterator[Record]:
        # Topics of many records are found in two readings; the second one is the end of the third part.
        before, self._times = min(self._times, self._TIMES - 1) * self._total, self._times + 1
        for number, record in enumerate(self._store.all_records(self._dataset_id)):
            if number % _STEP == 0:
                self._watch.log(min(before + number, self._TIMES * self._total), self._TIMES * self._total)
                if self._watch.stop():
                    raise _Stopped
            yield record


class _Weakest:
    """The records with the fewest points, while all are scored."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, tuple[str, ...]]] = []

    def scores(self, records: Iterable[Record]) -> Iterator[tuple[int, Quality]]:
        for record in records:
            found = score(record)
            if found.reasons:
                # Most points first out; among equals, the later record.
                heapq.heappush(self._heap, (-found.points, -record.id, tuple(r.sentence for r in found.reasons)))
                if len(self._heap) > _WEAKEST:
                    heapq.heappop(self._heap)
            yield record.id, found

    @property
    def found(self) -> tuple[Weak, ...]:
        return tuple(Weak(-key, -points, why) for points, key, why in sorted(self._heap, reverse=True))


def _topics(records: Iterable[Record]) -> tuple[TopicMap | None, str]:
    """The topics, or why there are none."""
    try:
        found = find_topics(lambda: records)
    except InputError as error:
        return None, str(error)
    return TopicMap(found.topics, found.points, found.n, found.fitted, found.unnamed), ""


def _tokens(
    made_of: Summary, before: Description | None, model: str, window: int | None, change: int, at: float
) -> TokenCount | None:
    """Those of now, or else those that were counted before."""
    if made_of.tokens is None:
        return before.tokens if before else None
    return TokenCount(model, window, change, at, made_of.tokens, made_of.beyond)


def _missing(s: Summary) -> list[Figure]:
    return [Figure(c.category, 0, 0.0) for c in s.coverage.categories if not c.n]


def forget_description(root: Path, dataset_id: int) -> None:
    """After a purge: what was counted quotes bits of records. The next look counts anew."""
    _place(root, dataset_id).unlink(missing_ok=True)


def _place(root: Path, dataset_id: int) -> Path:
    return root / "statistics" / f"{dataset_id}.json"


def _keep(root: Path, found: Description) -> None:
    place = _place(root, found.dataset)
    try:
        place.parent.mkdir(exist_ok=True)
        write_atomically(place, _JSON.dump_json(found).decode())
    except OSError as error:
        raise StorageError(
            f"{place} cannot be written ({error.strerror}). Make room on its disk, then try again."
        ) from error


def _counter(backend: Backend) -> TokenCounter:
    def count(texts: Sequence[str]) -> Sequence[int]:
        return asyncio.run(backend.count_tokens(texts))

    return count


def _window(run: Run, model: ModelRef) -> int | None:
    """What the model reads at once; a server's model does not tell."""
    if model.kind in ("echo", "endpoint"):
        return None
    try:
        return run.weights(model).window
    except StudioError:
        return None
