"""Datasets as people go through them: made, paged, stepped through record by record, and frozen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.errors import InputError, NotFound
from studio.instructions.records import freeze
from studio.store import Dataset, Order, Record, RecordFilter, SavedFilter, Snapshot, Store

__all__ = [
    "COUNTED",
    "PAGE_ROWS",
    "Page",
    "Shares",
    "Taken",
    "beside_on_page",
    "dataset_named",
    "keep_filter",
    "name_for",
    "neighbour",
    "new_dataset",
    "page_of",
    "page_with",
    "shares_of",
    "take_snapshot",
]

PAGE_ROWS = 50
COUNTED = 10_000  # records that a filter leaves; of a million, counting the finds of a usual word took 260 ms
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Page:
    """One page of a dataset; pages and records are counted from 1.

    Where a filter leaves more than can be counted while somebody waits, `is_capped` says that `total` and `pages` are
    what was counted, and that there are more.
    """

    records: tuple[Record, ...]
    number: int
    pages: int
    total: int
    is_capped: bool = False

    @property
    def is_last(self) -> bool:
        return self.number == self.pages and not self.is_capped

    @property
    def total_words(self) -> str:
        """'1,234', or 'more than 10,000'."""
        return f"{'more than ' if self.is_capped else ''}{self.total:,}"

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_ROWS + 1 if self.total else 0

    @property
    def last(self) -> int:
        return min(self.number * PAGE_ROWS, self.total)


@dataclass(frozen=True)
class Shares:
    """What the records of a dataset can be told apart by: value -> number of records, largest first."""

    split: dict[str, int]
    author: dict[str, int]
    source: dict[str, int]
    flag: dict[str, int]  # checks that found something, by name


@dataclass(frozen=True)
class Taken:
    """A snapshot, and whether it is a new one or the newest one over again, since no record changed."""

    snapshot: Snapshot
    is_new: bool


def new_dataset(store: Store, name: str, *, author: str, licence: str = "", description: str = "") -> Dataset:
    """Make an empty dataset. Its name becomes part of references, so only some signs are allowed."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(
            f"'{name}' cannot name a dataset: only letters, digits, '.', '-' and '_' can be part of a reference. "
            f"Write {_cured(name) or 'support-answers'}, for example."
        )
    return store.create_dataset(name, author=author, licence=licence.strip(), description=description)


def dataset_named(store: Store, name: str, *, author: str, licence: str = "") -> Dataset:
    """The dataset of that name; one that is not there yet is made, under `licence`."""
    known = next((dataset for dataset in store.datasets() if dataset.name == name), None)
    return known or new_dataset(store, name, author=author, licence=licence)


def name_for(file: Path) -> str:
    """A name for the dataset that a file is going to be."""
    return _cured(file.stem) or "records"


def _cured(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.strip()).strip("-")


def page_of(
    store: Store, dataset: Dataset, where: RecordFilter | None = None, number: int = 1, order: Order = "oldest"
) -> Page:
    """The page of that number, or the nearest one there is.

    Of what a filter leaves, no more is counted than COUNTED, unless a page behind that is asked for.
    """

    def some(page: int, of: int = 0) -> tuple[Record, ...]:
        start = (page - 1) * PAGE_ROWS
        return tuple(store.records(dataset.id, where, order=order, offset=start, limit=PAGE_ROWS, of=of))

    is_filtered = where is not None and where != RecordFilter()
    if is_filtered and number <= 1 and len(records := some(1)) < PAGE_ROWS:
        return Page(records, 1, 1, len(records))  # all there are: looking once more would only take its time again
    total = store.count_records(dataset.id, where, most=COUNTED + 1 if is_filtered else None)
    is_capped = is_filtered and total > COUNTED
    if is_capped and number * PAGE_ROWS > COUNTED:
        total, is_capped = store.count_records(dataset.id, where), False
    total = COUNTED if is_capped else total
    pages = max(1, -(-total // PAGE_ROWS))
    number = min(max(1, number), pages)
    return Page(some(number, 0 if is_capped else total), number, pages, total, is_capped)


def neighbour(
    store: Store, where: RecordFilter | None, record_id: int, step: Literal[-1, 1], order: Order = "oldest"
) -> tuple[int, Record]:
    """The record before or after in that order, and the number of the page it is on."""
    found = store.beside(store.record(record_id), where, order, step)
    if found is None:
        raise NotFound(f"This is the {'last' if step == 1 else 'first'} record of those shown.")
    record, before = found
    return before // PAGE_ROWS + 1, record


def beside_on_page(store: Store, shown: Sequence[int], record_id: int, step: Literal[-1, 1]) -> Record | None:
    """The record beside one on the page that somebody looks at. None at its edge, and when it was removed meanwhile."""
    place = shown.index(record_id) + step if record_id in shown else -1
    found = store.some_records([shown[place]]) if 0 <= place < len(shown) else []
    return found[0] if found else None


def page_with(store: Store, record: Record, where: RecordFilter | None = None, order: Order = "oldest") -> int:
    """The number of the page that a record is on, or would be on if it were among those found."""
    before = store.beside(record, where, order, -1)
    return (before[1] + 1) // PAGE_ROWS + 1 if before else 1


def shares_of(store: Store, dataset: Dataset) -> Shares:
    """Counts over all of a dataset, which take a second for each part in a million records."""
    split, author, source = (store.record_shares(dataset.id, name) for name in ("split", "author", "source"))
    runs = sorted(store.check_runs(dataset.id).values(), key=lambda run: (-run.flagged, run.check))
    return Shares(split, author, source, {run.check: run.flagged for run in runs if run.flagged})


def keep_filter(store: Store, dataset: Dataset, name: str, where: RecordFilter, *, author: str) -> SavedFilter:
    """Save a filter under a name. Raises InputError for one that nobody could find again."""
    if where == RecordFilter():
        raise InputError("There is no filter to save: all records are shown.")
    if not name.strip():
        raise InputError("The filter has no name. Write one.")
    if len(name.strip()) > _LONGEST_NAME:
        raise InputError(f"The name has {len(name.strip())} characters. {_LONGEST_NAME} are enough to find it again.")
    return store.save_filter(dataset.id, name.strip(), where, author=author)


def take_snapshot(
    store: Store, root: Path, dataset: Dataset, *, author: str, where: RecordFilter | None = None
) -> Taken:
    """Freeze a dataset (or the part that `where` leaves) as `data:NAME@next`, unless it equals the newest snapshot."""
    known = {snapshot.id for snapshot in store.snapshots("data")}
    snapshot = freeze(store, root, dataset, author=author, where=where)
    return Taken(snapshot, snapshot.id not in known)
