"""Train/test leakage: what is asked in validation or test was already answered in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from studio.instructions.checks.base import EXCLUDE, DatasetCheck, Finding, Flag, Remedy, live, prompt_of
from studio.instructions.checks.normal import digest, digests, groups
from studio.instructions.checks.signatures import Signed, alike, signed
from studio.store import Record

__all__ = ["Leakage"]

_Rows = npt.NDArray[np.int64]


class Leakage(DatasetCheck):
    name: ClassVar[str] = "leakage"
    title: ClassVar[str] = "Training data in validation or test"
    explains: ClassVar[str] = (
        "Records of validation or test whose question, or nearly all of whose text, is in a training record too. "
        "They make a model look better than it is, because it has seen the answer."
    )
    remedies: ClassVar[tuple[Remedy, ...]] = (EXCLUDE,)

    threshold: float = Field(
        0.8,
        ge=0.5,
        le=1.0,
        title="How alike to training",
        description="Share of three-word runs that two records have in common.",
    )

    def look(self, records: Iterable[Record], memory: Path) -> Iterator[Flag]:
        splits: list[str] = []
        prompts: list[bytes] = []

        def noted() -> Iterator[Record]:
            for record in live(records):
                splits.append(record.split)
                prompts.append(digest([prompt_of(record)]))
                yield record

        these = signed(noted(), memory)
        split = np.array(splits, dtype="U10")
        is_train, is_held_out = split == "train", (split == "validation") | (split == "test")
        leaks: dict[int, tuple[int, float]] = {}
        for row, source in _shared(groups(digests(prompts)), is_train, is_held_out):
            leaks[row] = (source, 1.0)
        for row, source, similarity in _near(these, is_train, is_held_out, self.threshold):
            if similarity > leaks.get(row, (0, 0.0))[1]:
                leaks[row] = (source, similarity)
        for row in sorted(leaks):
            source, similarity = leaks[row]
            twin = int(these.ids[source])
            how = "Asks the same as" if similarity == 1.0 else f"{100 * similarity:.0f} % the same as"
            details = {"nearest": twin, "similarity": round(similarity, 3), "split": splits[row]}
            yield self._flag(int(these.ids[row]), Finding("", f"{how} training record {twin}.", details=details))


def _shared(
    group: _Rows, is_train: npt.NDArray[np.bool_], is_held_out: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Rows held out whose group has a training row, each with the first of those."""
    train = np.flatnonzero(is_train)
    trained, first = np.unique(group[train], return_index=True)
    held = np.flatnonzero(is_held_out)
    held = held[np.isin(group[held], trained)]
    sources = train[first[np.searchsorted(trained, group[held])]]
    return zip(held.tolist(), sources.tolist(), strict=True)


def _near(
    these: Signed, is_train: npt.NDArray[np.bool_], is_held_out: npt.NDArray[np.bool_], threshold: float
) -> Iterator[tuple[int, int, float]]:
    # One row stands for its exact copies within a side, so that a text repeated a thousand times is compared once.
    group = groups(these.digests)
    sides = [_first_of_each(group, np.flatnonzero(side)) for side in (is_train, is_held_out)]
    pairs = alike(these, np.concatenate(sides), threshold)
    crosses = is_train[pairs.one] != is_train[pairs.other]
    one, other, similarity = pairs.one[crosses], pairs.other[crosses], pairs.similarity[crosses]
    held, source = np.where(is_train[one], other, one), np.where(is_train[one], one, other)
    copies: dict[int, list[int]] = {}
    for row in np.flatnonzero(is_held_out & np.isin(group, group[held])).tolist():
        copies.setdefault(int(group[row]), []).append(row)
    for standing, twin, how in zip(held.tolist(), source.tolist(), similarity.tolist(), strict=True):
        for row in copies[int(group[standing])]:
            yield row, twin, how


def _first_of_each(group: _Rows, rows: _Rows) -> _Rows:
    return rows[np.unique(group[rows], return_index=True)[1]]
