"""Rows that an import left out, mended by hand: what can be read of a row in a record's fields, and the record it becomes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import Conflict
from studio.instructions.formats.base import LARGEST_LISTED
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import guessed_mapping
from studio.instructions.records import FIELDS, insertable
from studio.store import Dataset, LeftOutRow, Store

__all__ = ["Waiting", "cells_left", "fields_to_mend", "is_cut", "leave_out", "mend", "waiting"]

_RECENT = 1000  # strokes and jobs that are looked through for where a row came from
_SAYS = ("content", "value", "text")


@dataclass(frozen=True)
class Waiting:
    """The first rows of a dataset that wait to be mended, how many there are, and the file of each (edit -> name)."""

    rows: tuple[LeftOutRow, ...]
    total: int
    files: Mapping[int, str]


def waiting(store: Store, dataset: Dataset, limit: int = 50) -> Waiting:
    rows, total = store.left_out(dataset.id, limit=limit)
    return Waiting(tuple(rows), total, _files(store, dataset.id) if rows else {})


def fields_to_mend(store: Store, root: Path, row: LeftOutRow) -> dict[str, str]:
    """What can be read of the row, as the four fields."""
    told, guessed = _told(store, root, row.edit_id), guessed_mapping(tuple(row.cells))
    named = {field: column if (column := told.get(field)) in row.cells else guessed.get(field, "") for field in FIELDS}
    fields = {field: row.cells[column].strip() if column else "" for field, column in named.items()}
    said = _said(row.cells.values())
    for field, role in (("instruction", "user"), ("response", "assistant")):
        if not fields[field] or fields[field].startswith(("[{", '{"')):
            fields[field] = said.get(role, fields[field])
    return fields


def cells_left(row: LeftOutRow, fields: Mapping[str, str]) -> dict[str, str]:
    """The cells whose text is in none of the fields."""
    shown = {text.strip() for text in fields.values()}
    return {column: text for column, text in row.cells.items() if text.strip() and text.strip() not in shown}


def is_cut(row: LeftOutRow) -> bool:
    """Whether the row was too long to be kept whole: what is there is only its beginning."""
    return sum(len(text) for text in row.cells.values()) >= LARGEST_LISTED


def mend(store: Store, row_id: int, fields: Mapping[str, str], *, author: str) -> LeftOutRow:
    """Add the record that somebody made of a row, which then waits no longer.

    Raises InputError when it cannot be a record, Conflict when somebody was quicker.
    """
    row = _open_row(store, row_id)
    record = insertable(fields)
    source = _files(store, row.dataset_id).get(row.edit_id, "a row that an import left out")
    store.add_records(row.dataset_id, [record], author=author, source=source)
    store.settle([row.id])
    return row


def leave_out(store: Store, row_id: int) -> LeftOutRow:
    """The row stays out for good. Raises Conflict when it waits no longer."""
    row = _open_row(store, row_id)
    store.settle([row.id])
    return row


def _open_row(store: Store, row_id: int) -> LeftOutRow:
    row = store.left_out_row(row_id)
    if row.settled_at is not None:
        raise Conflict(f"Row {row.row:,} was mended or left out by somebody meanwhile. Choose another row of the list.")
    return row


def _files(store: Store, dataset_id: int) -> dict[int, str]:
    strokes = store.edits(dataset_id, limit=_RECENT)
    return {edit.id: edit.title.removeprefix("Imported ") for edit in strokes if edit.title.startswith("Imported ")}


def _told(store: Store, root: Path, edit_id: int) -> Mapping[str, str]:
    """The mapping of the job that made this edit. None where no job did: then the cells have the fields' names."""
    for job in store.jobs(limit=_RECENT, kinds={ImportRecords.kind}):
        mark = root / "runs" / str(job.id) / "edit"
        if mark.is_file() and mark.read_text() == str(edit_id):
            told: Mapping[str, str] = job.task.get("reading", {}).get("mapping", {})
            return told
    return {}


def _said(cells: Iterable[str]) -> dict[str, str]:
    """Of a conversation in a cell: what the user said first, and what the assistant said last."""
    found: dict[str, str] = {}
    for cell in cells:
        try:
            turns: Any = json.loads(cell) if cell.startswith("[{") else None
        except ValueError:
            continue
        for turn in turns if isinstance(turns, list) else ():
            who, text = _turn(turn)
            if who == "assistant" or (who == "user" and who not in found):
                found[who] = text
    return found


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        return "", ""
    who = str(turn.get("role") or turn.get("from"))
    who = {"human": "user", "gpt": "assistant"}.get(who, who)
    return who, next((str(turn[name]) for name in _SAYS if turn.get(name)), "")
