"""What is done to many records at one stroke: find and replace, review, category, removal. All of it can be undone.

A `Stroke` says what is done, a `RecordFilter` to which records; `do_stroke` does it. Above `AT_ONCE` records it is a job
(studio/instructions/change_task.py), so that nobody waits in front of a page.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict

from studio.errors import InputError, NotFound
from studio.instructions.datasets import beside_on_page, neighbour, page_with
from studio.instructions.records import FIELDS, checked_fields, insertable
from studio.store import RECORD_STATES, Dataset, Edit, Order, Record, RecordChange, RecordFilter, Store

__all__ = [
    "ASK_ABOVE",
    "AT_ONCE",
    "Proposal",
    "Replaced",
    "Replacement",
    "Stroke",
    "Verb",
    "change_category",
    "do_stroke",
    "duplicate",
    "preview_replacement",
    "remove",
    "replace_text",
    "review",
    "review_in_passing",
]

ASK_ABOVE = 1000  # records: more are changed only when somebody said so twice
AT_ONCE = 10_000  # records: changed in a second or two, in which nobody else can save; more are a job, part by part
_PREVIEWED = 20_000  # records a preview reads: a second or two
_SHOWN = 20
_WORDS_AROUND = 40
_BATCH = 500

Verb = Literal["approve", "reject", "draft", "category", "remove", "duplicate", "replace"]
_STATE_OF = {"approve": "approved", "reject": "rejected", "draft": "draft"}


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
    looked: int  # records that were read for it, of
    meant: int  # so many

    @property
    def is_whole(self) -> bool:
        """Whether all records that are meant were read; if not, there may be more places than were counted."""
        return self.looked >= self.meant


class Stroke(BaseModel):
    """What is done to each of the records that are meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: Verb
    category: str = ""  # the new one, for `category`
    replacement: Replacement | None = None  # for `replace`

    def title(self, many: str) -> str:
        """What it is called when it was done to 'record 7' or '12 records'."""
        if self.replacement:
            return f"Replaced '{_cut(self.replacement.find)}' with '{_cut(self.replacement.replace)}'"
        words = {
            "approve": "Approved",
            "reject": "Rejected",
            "draft": "Put back to draft:",
            "category": f"Category {self.category.strip() or 'taken off'}:",
            "remove": "Removed",
            "duplicate": "Duplicated",
        }
        return f"{words[self.verb]} {many}"


def do_stroke(
    store: Store, dataset: Dataset, stroke: Stroke, where: RecordFilter, *, author: str, note: str = ""
) -> Edit:
    """Do it to every record that the filter leaves; `note` is put behind its title. Raises InputError for none."""
    if stroke.verb == "replace":
        return replace_text(store, dataset, _wanted(stroke), where, author=author, note=note)
    ids = store.record_ids(dataset.id, where)
    if not ids:
        raise InputError(_NONE)
    title = stroke.title(f"record {ids[0]}" if len(ids) == 1 else f"{len(ids):,} records") + note
    if stroke.verb == "duplicate":
        return _duplicated(store, dataset, ids, title, author)
    return store.change_records(dataset.id, title, _Alike(ids, stroke), author=author)


def _wanted(stroke: Stroke) -> Replacement:
    if stroke.replacement is None:
        raise InputError("There is nothing to look for. Write the text to find.")
    return stroke.replacement


def preview_replacement(
    store: Store,
    dataset: Dataset,
    replacement: Replacement,
    where: RecordFilter | None = None,
    *,
    most: int = _PREVIEWED,
) -> Proposal:
    """Count and show, change nothing. Of more than `most` records the first ones are read."""
    places = records = emptied = 0
    examples: list[Replaced] = []
    meant = store.count_records(dataset.id, where)
    for record, made in _replacements(store, dataset, replacement, where, most):
        if not made.is_usable:
            emptied += 1
            continue
        places, records = places + made.places, records + 1
        if len(examples) < _SHOWN:
            examples.append(_shown(record, made, replacement))
    return Proposal(places, records, tuple(examples), emptied, min(most, meant), meant)


def replace_text(
    store: Store,
    dataset: Dataset,
    replacement: Replacement,
    where: RecordFilter | None = None,
    *,
    author: str,
    note: str = "",
) -> Edit:
    """Replace everywhere. Raises InputError when nothing is found."""
    found = _replacements(store, dataset, replacement, where)
    changes = [RecordChange(r.id, made.fields, r.revision) for r, made in found if made.is_usable]
    if not changes:
        raise InputError(f"'{replacement.find}' was not found in these records, so nothing was changed.")
    title = Stroke(verb="replace", replacement=replacement).title("") + note
    return store.change_records(dataset.id, title, changes, author=author)


def review(store: Store, dataset: Dataset, records: Sequence[Record], state: str, *, author: str) -> Edit:
    """Approve or reject records, or put them back to draft."""
    verb = next((verb for verb, made in _STATE_OF.items() if made == state), None)
    if verb is None:
        raise InputError(f"'{state}' is no state of a record. The states are: {', '.join(RECORD_STATES)}.")
    return _done(store, dataset, records, Stroke(verb=verb), author)


def review_in_passing(
    store: Store,
    record: Record,
    state: str,
    where: RecordFilter | None,
    order: Order,
    *,
    author: str,
    shown: tuple[int, Sequence[int]] = (1, ()),
) -> tuple[int, Record] | None:
    """Decide about a record and go on: the page and the record after it, None when it was the last.

    The one after it is looked up before, since a decision may move the record: out of a filter, or to the newest changes.
    `shown` is the page that somebody looks at, by number and ids; while it goes on there, nothing has to be counted.
    """
    number, ids = shown
    following = beside_on_page(store, ids, record.id, 1)
    is_here = following is not None
    if not is_here:
        with contextlib.suppress(NotFound):
            _, following = neighbour(store, where, record.id, 1, order)
    dataset = next(d for d in store.datasets() if d.id == record.dataset_id)
    if record.state != state:
        review(store, dataset, [record], state, author=author)
    if following is None:
        return None
    return number if is_here else page_with(store, following, where, order), following


def change_category(store: Store, dataset: Dataset, records: Sequence[Record], category: str, *, author: str) -> Edit:
    """Give records a category."""
    return _done(store, dataset, records, Stroke(verb="category", category=category), author)


def remove(store: Store, dataset: Dataset, records: Sequence[Record], *, author: str) -> Edit:
    """Take records out of the dataset; undo brings them back."""
    return _done(store, dataset, records, Stroke(verb="remove"), author)


def duplicate(store: Store, dataset: Dataset, record: Record, *, author: str) -> None:
    """Add a copy, as a draft. It shares the split of the record, since it asks the same."""
    _duplicated(store, dataset, [record.id], f"Duplicated record {record.id}", author)


def _duplicated(store: Store, dataset: Dataset, ids: Sequence[int], title: str, author: str) -> Edit:
    edit = store.begin_edit(dataset.id, "add", title, author=author)
    copies = (_copy(record) for part in _parts(ids) for record in store.some_records(part))
    store.add_records(dataset.id, copies, author=author, source="copy", edit=edit)
    return next(done for done in store.edits(dataset.id, author=author) if done.id == edit)


def _copy(record: Record) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in (*FIELDS, "turns", "licence")}
    return {**insertable(fields), "split": record.split, "source": f"copy of record {record.id}"}


class _Alike(Sequence[RecordChange]):
    """The same done to each record; made where it is looked at, so that a million of them are a million numbers.

    No revision is asked for: a state or a category takes nothing away from what somebody writes meanwhile.
    """

    def __init__(self, ids: Sequence[int], stroke: Stroke) -> None:
        self._ids, self._is_removed = ids, stroke.verb == "remove"
        self._fields: dict[str, Any] = {}
        if stroke.verb == "category":
            self._fields = {"category": stroke.category.strip()}
        elif stroke.verb in _STATE_OF:
            self._fields = {"state": _STATE_OF[stroke.verb]}

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> RecordChange: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[RecordChange]: ...
    def __getitem__(self, place: int | slice) -> RecordChange | Sequence[RecordChange]:
        if isinstance(place, slice):
            return [self._made(key) for key in self._ids[place]]
        return self._made(self._ids[place])

    def _made(self, key: int) -> RecordChange:
        return RecordChange(key, self._fields, is_removed=self._is_removed)


@dataclass(frozen=True)
class _Made:
    fields: dict[str, Any]
    places: int
    is_usable: bool


def _replacements(
    store: Store, dataset: Dataset, replacement: Replacement, where: RecordFilter | None, most: int | None = None
) -> Iterator[tuple[Record, _Made]]:
    pattern = replacement.compiled()
    instead = replacement.replace if replacement.is_pattern else replacement.replace.replace("\\", r"\\")
    for record in itertools.islice(_meant(store, dataset, where), most):
        fields, places = _replaced(record, pattern, instead, replacement.fields)
        if not places:
            continue
        try:
            yield record, _Made(checked_fields(fields), places, True)
        except InputError:
            yield record, _Made({}, places, False)


def _meant(store: Store, dataset: Dataset, where: RecordFilter | None) -> Iterable[Record]:
    """The records that the filter leaves, read in batches."""
    if where is None or where == RecordFilter():
        return store.all_records(dataset.id)
    ids = store.record_ids(dataset.id, where)
    return (record for part in _parts(ids) for record in store.some_records(part))


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))


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


def _done(store: Store, dataset: Dataset, records: Sequence[Record], stroke: Stroke, author: str) -> Edit:
    """To records as somebody saw them: refused when one was changed since."""
    if not records:
        raise InputError(_NONE)
    many = f"record {records[0].id}" if len(records) == 1 else f"{len(records):,} records"
    alike = _Alike([record.id for record in records], stroke)
    changes = [replace(change, revision=record.revision) for change, record in zip(alike, records, strict=True)]
    return store.change_records(dataset.id, stroke.title(many), changes, author=author)


_NONE = "No record is meant. Choose records first, or loosen the filter."


def _cut(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"
