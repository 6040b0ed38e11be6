"""Datasets as people go through them: made, paged, stepped through record by record, and frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.errors import InputError, NotFound
from studio.instructions.records import FIELDS, freeze
from studio.store import Dataset, Order, Record, RecordFilter, Snapshot, Store

__all__ = [
    "PAGE_ROWS",
    "Page",
    "Taken",
    "dataset_named",
    "is_unsaved",
    "name_for",
    "neighbour",
    "new_dataset",
    "page_of",
    "take_snapshot",
]

PAGE_ROWS = 50


@dataclass(frozen=True)
class Page:
    """One page of a dataset; pages and records are counted from 1."""

    records: tuple[Record, ...]
    number: int
    pages: int
    total: int

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_ROWS + 1 if self.total else 0

    @property
    def last(self) -> int:
        return min(self.number * PAGE_ROWS, self.total)


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
    """The page of that number, or the nearest one there is."""
    total = store.count_records(dataset.id, where)
    pages = max(1, -(-total // PAGE_ROWS))
    number = min(max(1, number), pages)
    records = store.records(dataset.id, where, order=order, offset=(number - 1) * PAGE_ROWS, limit=PAGE_ROWS)
    return Page(tuple(records), number, pages, total)


def neighbour(
    store: Store, where: RecordFilter | None, record_id: int, step: Literal[-1, 1], order: Order = "oldest"
) -> tuple[int, Record]:
    """The record before or after in that order, and the number of the page it is on."""
    found = store.beside(store.record(record_id), where, order, step)
    if found is None:
        raise NotFound(f"This is the {'last' if step == 1 else 'first'} record of those shown.")
    record, before = found
    return before // PAGE_ROWS + 1, record


def is_unsaved(stored: Record | None, fields: Mapping[str, str]) -> bool:
    """Whether somebody typed what is not in the stored record (or, for a new one, anything at all)."""
    if stored is None:
        return any(_typed(fields.get(name)) for name in FIELDS if name != "category")
    return any(_typed(fields.get(name)) != _typed(getattr(stored, name)) for name in FIELDS)


def _typed(text: str | None) -> str:
    """As a browser's text field gives it back, and without the white space that saving trims anyway."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n").strip()


def take_snapshot(
    store: Store, root: Path, dataset: Dataset, *, author: str, where: RecordFilter | None = None
) -> Taken:
    """Freeze a dataset (or the part that `where` leaves) as `data:NAME@next`, unless it equals the newest snapshot."""
    known = {snapshot.id for snapshot in store.snapshots("data")}
    snapshot = freeze(store, root, dataset, author=author, where=where)
    return Taken(snapshot, snapshot.id not in known)
