"""Records written in a form that saves by itself: nothing gets lost on the way, nobody overwrites silently.

A sitting is one record open in one form. The form gives the sitting's name along with everything it sends, so that a
text goes to the record it was written for, whatever else is open by the time it arrives. Two savings of one form can be
under way at once (one after a pause in typing, one because the person moves on) and arrive in either order: each has the
number of its stroke, and an older one never follows a newer one.

What somebody else stored meanwhile is theirs. A state or a category goes together with what is written here; a text does
not: `Overtaken` holds both versions, and the person says which one stays. History keeps both.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from studio.errors import Conflict, InputError, NotFound
from studio.instructions.editing import duplicate, review
from studio.instructions.records import add_record, checked_fields, conversation, question
from studio.store import Dataset, Record, RecordFilter, Store

__all__ = [
    "MOST_LETTERS",
    "ONE_STROKE",
    "Overtaken",
    "Sent",
    "Sittings",
    "Written",
    "duplicated",
    "pair_of",
    "turns_of",
]

ONE_STROKE = 60.0  # seconds of writing in one record that one undo takes back, however often the form saved
MOST_LETTERS = 100_000  # of a record's text that a form in a browser takes without becoming slow

Values: TypeAlias = dict[str, Any]

_TEXT = ("instruction", "context", "response", "turns")
_MORE = ("category", "licence", "state")
_SITTINGS = 1_000  # whose last saving is remembered; what is forgotten is looked up in the history
_SOURCE = "written here"


class Overtaken(Conflict):
    """Somebody stored another text since the form showed the record. `mine` is theirs with what was written here."""

    def __init__(self, sentence: str, theirs: Record, mine: Mapping[str, Any]) -> None:
        super().__init__(sentence)
        self.theirs, self.mine = theirs, mine


@dataclass(frozen=True)
class Sent:
    """What a form sends: its sitting, how many strokes came before, and what is in its fields (`turns` is None for a
    question and its answer). `seen` is the record and the revision that the form was last told about."""

    sitting: str
    fields: Mapping[str, Any]
    stroke: int | None = None
    seen: tuple[int, int] | None = None


@dataclass(frozen=True)
class Written:
    """The record as it is stored now, None while there is none; what this saving had a part in."""

    record: Record | None
    is_new: bool = False
    is_changed: bool = False


@dataclass
class _Last:
    """The last saving of a sitting."""

    record: int | None = None
    revision: int = 0
    stroke: int = 0
    held: Values | None = None  # what the form held then
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Sitting:
    record: int | None
    revision: int
    is_cut: bool  # the form shows the beginning of the texts and cannot change them
    key: str

    @classmethod
    def of(cls, name: str) -> _Sitting | None:
        """None for what is no name: a form in which nothing was opened yet."""
        parts = name.split(".")
        if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return cls(int(parts[0]) or None, int(parts[1]), parts[2] == "cut", parts[3])


class Sittings:
    """The sittings of a store's records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, _Last] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, record: Record | None) -> str:
        """The name of a new sitting with a record, or with one that is yet to be written."""
        key = secrets.token_hex(8)
        if record is None:
            return f"0.0.all.{key}"
        return f"{record.id}.{record.revision}.{'cut' if record.letters > MOST_LETTERS else 'all'}.{key}"

    def keep(self, sent: Sent, dataset: str, *, author: str, over: int = 0) -> Written:
        """Store what was written, if anything was. A new record goes into the dataset of that name.

        Raises InputError for what cannot be stored, NotFound when the record was removed, and Overtaken when somebody
        else changed it, unless they have seen that: `over` is the revision that they choose to write over.
        """
        sitting = _Sitting.of(sent.sitting)
        if sitting is None:
            return Written(None)
        if sent.fields.get("turns") == []:
            raise InputError("The conversation has no turn left. Add one, or reload the record.")
        with self._last(sitting.key) as last:
            typed = _typed(sent.fields, sitting.is_cut)
            seen_id, seen_revision = sent.seen or (None, 0)
            record_id = sitting.record or last.record or seen_id
            if record_id is None:
                return self._added(typed, last, sent, dataset, author)
            newest = self._there(record_id, typed, max(sitting.revision, last.revision))
            if newest is None or (sent.stroke is not None and sent.stroke < last.stroke):
                return Written(newest)
            typed = _as_shown(typed, newest)
            shown = max(sitting.revision, last.revision, seen_revision)
            mine = self._mine(typed, newest, shown, over, last.held)
            if not mine:
                return Written(newest)
            stored = self._stored(newest, mine, author)
            self._remember(last, stored, sent, typed)
            return Written(stored, is_changed=stored.revision > newest.revision)

    @contextmanager
    def _last(self, key: str) -> Iterator[_Last]:
        """What is known of a sitting, for one saving at a time."""
        with self._lock:
            last = self._known.pop(key, None) or _Last()
            self._known[key] = last
            while len(self._known) > _SITTINGS:
                self._known.popitem(last=False)
        with last.lock:
            yield last

    def _remember(self, last: _Last, stored: Record, sent: Sent, typed: Values) -> None:
        last.record, last.revision, last.held = stored.id, stored.revision, typed
        last.stroke = max(last.stroke, sent.stroke or 0)

    def _added(self, typed: Values, last: _Last, sent: Sent, dataset_name: str, author: str) -> Written:
        """A record that is not there yet, as soon as it is whole."""
        if not any(typed[name] for name in _TEXT):
            return Written(None)
        _check_length(typed)
        dataset = self._store.dataset(dataset_name)
        add_record(self._store, dataset, typed, author=author, source=_SOURCE)
        stored = _newest(self._store, dataset, author, _SOURCE)
        self._remember(last, stored, sent, _as_shown(typed, stored))
        return Written(stored, is_new=True, is_changed=True)

    def _there(self, record_id: int, typed: Values, revision: int) -> Record | None:
        """The record; None when it was removed and nothing is lost by that."""
        found = self._store.some_records([record_id])
        if found:
            return found[0]
        before = self._version(record_id, revision)
        if before is not None and all(typed[name] == before[name] for name in typed):
            return None
        raise NotFound(
            f"Record {record_id} was removed while you were writing. Undo brings it back if you removed it; "
            "Reload record drops what you wrote."
        )

    def _mine(self, typed: Values, newest: Record, shown: int, over: int, held: Values | None) -> Values:
        """The fields that were changed here. Raises Overtaken when they do not go together with somebody else's."""
        now = _values(newest)
        before = now if newest.revision <= shown else self._version(newest.id, shown) or {}
        held = held or before
        mine = {name: value for name, value in typed.items() if value != held.get(name) and value != now[name]}
        theirs = {name for name in now if now[name] != before.get(name)}
        if mine.keys() & set(_TEXT) and bool(typed["turns"]) != bool(now["turns"]):
            mine |= {name: typed[name] for name in _TEXT}  # another kind of record: nothing of the one fits the other
        if mine and newest.revision != over and theirs and (theirs & set(_TEXT) or theirs & mine.keys()):
            raise Overtaken(
                f"Record {newest.id} was changed by {newest.author} while you were writing. "
                "Compare the two versions and take one.",
                newest,
                {**now, **mine},
            )
        return mine

    def _version(self, record_id: int, revision: int) -> Values | None:
        """The values of an earlier version, as a form holds them."""
        history = self._store.record_history(record_id)
        found = next((row["fields"] for row in history if row["revision"] == revision), None)
        return _form_values(found) if found else None

    def _stored(self, newest: Record, mine: Values, author: str) -> Record:
        if mine.keys() == {"state"}:
            dataset = next(d for d in self._store.datasets() if d.id == newest.dataset_id)
            review(self._store, dataset, [newest], mine["state"], author=author)
            return self._store.record(newest.id)
        fields = dict(mine)
        if mine.keys() & set(_TEXT):
            whole = {name: getattr(newest, name) for name in (*_TEXT, "category")} | mine
            _check_length(whole)
            fields |= checked_fields(whole)
        try:
            return self._store.edit_record(newest.id, newest.revision, fields, author=author, within=ONE_STROKE)
        except Conflict as error:  # within the last milliseconds
            theirs = self._store.record(newest.id)
            raise Overtaken(str(error), theirs, {**_values(theirs), **mine}) from error


def duplicated(store: Store, record: Record, *, author: str) -> Record:
    """A copy of the record, as a draft."""
    dataset = next(d for d in store.datasets() if d.id == record.dataset_id)
    duplicate(store, dataset, record, author=author)
    return _newest(store, dataset, author, f"copy of record {record.id}")


def turns_of(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    """A question and its answer as the two turns of a conversation; what is not written yet is an empty turn."""
    asked = question(str(fields.get("instruction") or "").strip(), str(fields.get("context") or "").strip())
    answer = str(fields.get("response") or "").strip()
    return [{"role": "user", "content": asked.strip()}, {"role": "assistant", "content": answer}]


def pair_of(turns: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """A conversation of two turns as a question and its answer. Raises InputError for any other."""
    if [turn["role"] for turn in turns] != ["user", "assistant"]:
        raise InputError(
            f"This conversation has {len(turns)} turns. Take turns out until one by the user and one by the assistant "
            "are left; those become the instruction and the response."
        )
    return {"instruction": turns[0]["content"], "context": "", "response": turns[1]["content"]}


def _newest(store: Store, dataset: Dataset, author: str, source: str) -> Record:
    return store.records(dataset.id, RecordFilter(author=author, source=source), order="newest", limit=1)[0]


def _typed(fields: Mapping[str, Any], is_cut: bool) -> Values:
    """What is in the fields, as `_form_values` has it. Of texts that were cut nothing is taken."""
    values = _form_values(fields)
    return {name: values[name] for name in _MORE} if is_cut else values


def _values(record: Record) -> Values:
    return _form_values({name: getattr(record, name) for name in (*_TEXT, *_MORE)})


def _form_values(fields: Mapping[str, Any]) -> Values:
    """Texts as a browser's field gives them back, without the white space that storing trims anyway. Where there are
    turns they are all the text there is."""
    turns = [{"role": str(t["role"]), "content": _plain(t["content"])} for t in fields.get("turns") or []] or None
    texts = {name: "" if turns else _plain(fields.get(name)) for name in ("instruction", "context", "response")}
    more = {name: _plain(fields.get(name)) for name in _MORE}
    return {**texts, "turns": turns, **more, "state": more["state"] or "draft"}


def _as_shown(typed: Values, record: Record) -> Values:
    """Two turns say the same as the question and the answer they were made of, and are stored as those."""
    turns = typed.get("turns")
    if not turns or [turn["role"] for turn in turns] != ["user", "assistant"]:
        return typed
    same = not record.turns and [_plain(m.content) for m in conversation(vars(record))] == [t["content"] for t in turns]
    pair = {name: _plain(getattr(record, name)) for name in _TEXT[:3]} if same else pair_of(turns)
    return {**typed, **pair, "turns": None}


def _check_length(fields: Values) -> None:
    texts = [turn["content"] for turn in fields["turns"]] if fields["turns"] else [fields[name] for name in _TEXT[:3]]
    letters = sum(map(len, texts))
    if letters > MOST_LETTERS:
        raise InputError(
            f"The text has {letters:,} characters, and the form takes {MOST_LETTERS:,}. Shorten it, or put it into a file "
            "and import that."
        )


def _plain(text: Any) -> str:
    return str(text or "").replace("\r\n", "\n").replace("\r", "\n").strip()
