"""What is done to many records at one stroke: find and replace, review, category, removal. All of it can be undone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from studio.errors import InputError
from studio.instructions.records import FIELDS, checked_fields, insertable
from studio.store import RECORD_STATES, Dataset, Edit, Record, RecordChange, RecordFilter, Store

__all__ = [
    "Proposal",
    "Replaced",
    "Replacement",
    "change_category",
    "duplicate",
    "preview_replacement",
    "remove",
    "replace_text",
    "review",
]

_SHOWN = 20
_WORDS_AROUND = 40


@dataclass(frozen=True)
class Replacement:
    """What to look for and what to write instead, in which fields (none named: in all that are text)."""

    find: str
    replace: str
    fields: tuple[str, ...] = ("instruction", "context", "response")
    ignores_case: bool = True
    whole_words: bool = False
    is_pattern: bool = False  # `find` is a regular expression, and `replace` may name its groups (\\1)

    def compiled(self) -> re.Pattern[str]:
        """Raises InputError when there is nothing to find or the pattern cannot be read."""
        if not self.find:
            raise InputError("There is nothing to look for. Write the text to find.")
        if unknown := [name for name in self.fields if name not in FIELDS]:
            raise InputError(f"'{unknown[0]}' is no field of a record. The fields are: {', '.join(FIELDS)}.")
        source = self.find if self.is_pattern else re.escape(self.find)
        if self.whole_words:
            source = rf"(?<!\w)(?:{source})(?!\w)"
        try:
            pattern = re.compile(source, re.IGNORECASE if self.ignores_case else 0)
            if self.is_pattern:
                re.sub(pattern, self.replace, "")
        except (re.error, IndexError) as error:
            raise InputError(f"'{self.find}' -> '{self.replace}' is no pattern that can be read ({error}).") from error
        if pattern.match(""):
            raise InputError(f"'{self.find}' matches nothing at all as well, so it would be found everywhere.")
        return pattern


@dataclass(frozen=True)
class Replaced:
    """One field before and after; `before` and `after` are cut around the first place."""

    record_id: int
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Proposal:
    """What a replacement would do: how many places in how many records, the first of them, and what it cannot do."""

    places: int
    records: int
    examples: tuple[Replaced, ...]
    emptied: int  # records that would be left without a question or an answer: they stay as they are


def preview_replacement(
    store: Store, dataset: Dataset, replacement: Replacement, where: RecordFilter | None = None
) -> Proposal:
    """Count and show, change nothing."""
    places = records = emptied = 0
    examples: list[Replaced] = []
    for record, made in _replacements(store, dataset, replacement, where):
        if not made.is_usable:
            emptied += 1
            continue
        places, records = places + made.places, records + 1
        if len(examples) < _SHOWN:
            examples.append(_shown(record, made, replacement))
    return Proposal(places, records, tuple(examples), emptied)


def replace_text(
    store: Store, dataset: Dataset, replacement: Replacement, where: RecordFilter | None = None, *, author: str
) -> Edit:
    """Replace everywhere. Raises InputError when nothing is found."""
    found = _replacements(store, dataset, replacement, where)
    changes = [RecordChange(r.id, made.fields, r.revision) for r, made in found if made.is_usable]
    if not changes:
        raise InputError(f"'{replacement.find}' was not found in these records, so nothing was changed.")
    title = f"Replaced '{_cut(replacement.find)}' with '{_cut(replacement.replace)}'"
    return store.change_records(dataset.id, title, changes, author=author)


def review(store: Store, dataset: Dataset, records: Sequence[Record], state: str, *, author: str) -> Edit:
    """Approve or reject records, or put them back to draft."""
    if state not in RECORD_STATES:
        raise InputError(f"'{state}' is no state of a record. The states are: {', '.join(RECORD_STATES)}.")
    words = {"approved": "Approved", "rejected": "Rejected", "draft": "Put back to draft:"}[state]
    return _changed(store, dataset, records, words, lambda r: {"state": state}, author)


def change_category(store: Store, dataset: Dataset, records: Sequence[Record], category: str, *, author: str) -> Edit:
    """Give records a category."""
    words = f"Category {category.strip() or 'taken off'}:"
    return _changed(store, dataset, records, words, lambda r: {"category": category.strip()}, author)


def remove(store: Store, dataset: Dataset, records: Sequence[Record], *, author: str) -> Edit:
    """Take records out of the dataset; undo brings them back."""
    if not records:
        raise InputError(_NONE)
    changes = [RecordChange(r.id, {}, r.revision, is_removed=True) for r in records]
    return store.change_records(dataset.id, f"Removed {_many(records)}", changes, author=author)


def duplicate(store: Store, dataset: Dataset, record: Record, *, author: str) -> None:
    """Add a copy, as a draft. It shares the split of the record, since it asks the same."""
    fields = {name: getattr(record, name) for name in (*FIELDS, "turns", "licence")}
    row = {**insertable(fields), "split": record.split, "source": f"copy of record {record.id}"}
    store.add_records(dataset.id, [row], author=author, source=row["source"])


@dataclass(frozen=True)
class _Made:
    fields: dict[str, Any]
    places: int
    is_usable: bool


def _replacements(
    store: Store, dataset: Dataset, replacement: Replacement, where: RecordFilter | None
) -> Iterator[tuple[Record, _Made]]:
    pattern = replacement.compiled()
    instead = replacement.replace if replacement.is_pattern else replacement.replace.replace("\\", r"\\")
    records = store.all_records(dataset.id)
    if where is not None and where != RecordFilter():
        records = iter(store.some_records(store.record_ids(dataset.id, where)))
    for record in records:
        fields, places = _replaced(record, pattern, instead, replacement.fields)
        if not places:
            continue
        try:
            yield record, _Made(checked_fields(fields), places, True)
        except InputError:
            yield record, _Made({}, places, False)


def _replaced(
    record: Record, pattern: re.Pattern[str], instead: str, names: Sequence[str]
) -> tuple[dict[str, Any], int]:
    """All fields of the record after the replacement, and at how many places it was made."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in FIELDS}
    places = 0
    for name in names if not record.turns else [n for n in names if n == "category"]:
        fields[name], many = pattern.subn(instead, fields[name])
        places += many
    if record.turns:
        roles = {"user" if name in ("instruction", "context") else "assistant" for name in names if name != "category"}
        fields["turns"] = []
        for turn in record.turns:
            content, many = pattern.subn(instead, turn["content"]) if turn["role"] in roles else (turn["content"], 0)
            fields["turns"].append({**turn, "content": content})
            places += many
    return fields, places


def _shown(record: Record, made: _Made, replacement: Replacement) -> Replaced:
    for name in FIELDS:
        before, after = getattr(record, name), made.fields[name]
        if before != after:
            return Replaced(record.id, name, *_around_difference(before, after))
    turns = zip(record.turns or [], made.fields["turns"] or [], strict=False)
    number, (old, new) = next((n, pair) for n, pair in enumerate(turns, 1) if pair[0] != pair[1])
    return Replaced(record.id, f"turn {number}", *_around_difference(old["content"], new["content"]))


def _around_difference(before: str, after: str) -> tuple[str, str]:
    """Both texts, cut to what stands around the first difference."""
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    start = max(0, at - _WORDS_AROUND)
    return _window(before, start), _window(after, start)


def _window(text: str, start: int) -> str:
    end = start + 4 * _WORDS_AROUND
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _changed(
    store: Store,
    dataset: Dataset,
    records: Sequence[Record],
    words: str,
    fields: Callable[[Record], dict[str, Any]],
    author: str,
) -> Edit:
    if not records:
        raise InputError(_NONE)
    changes = [RecordChange(r.id, fields(r), r.revision) for r in records]
    return store.change_records(dataset.id, f"{words} {_many(records)}", changes, author=author)


_NONE = "No record is meant. Choose records first, or loosen the filter."


def _many(records: Sequence[Record]) -> str:
    return f"record {records[0].id}" if len(records) == 1 else f"{len(records):,} records"


def _cut(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"
