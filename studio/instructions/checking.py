"""Checks over a dataset: run as a job, again only where something changed, and mended at one stroke."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, ClassVar

from pydantic import Field

from studio.backends import Backend
from studio.errors import InputError
from studio.instructions.checks import (
    Check,
    DatasetCheck,
    Flag,
    RecordCheck,
    TooLong,
    check_from,
    check_kinds,
    settings_of,
)
from studio.instructions.records import checked_fields
from studio.specs import ModelRef
from studio.store import CheckRun, Dataset, Edit, FlagRow, Record, RecordChange, RecordFilter, Store
from studio.tasks import Lane, Run, Task

__all__ = ["CheckRecords", "checks_of", "mend", "run_check"]

_BATCH = 500
_FLAGS_IN_MEMORY = 8 << 20


class CheckRecords(Task):
    """Look for what would teach a model something wrong."""

    kind: ClassVar[str] = "check"
    lane: ClassVar[Lane] = "light"

    dataset: str = Field(title="Dataset", description="Which records.")
    checks: tuple[str, ...] = Field(
        default=(), title="Checks", description="Which checks; none named: all that need no model."
    )
    model: ModelRef | None = Field(
        default=None, title="Model", description="Whose tokenizer says what is too long; none: that is not checked."
    )
    window: int = Field(default=2048, ge=16, le=1 << 20, title="Window", description="Tokens a run reads of a record.")
    settings: tuple[str, ...] = Field(
        default=(), title="Settings", description="Bounds of single checks, like near_duplicates.threshold=0.9."
    )

    @property
    def title(self) -> str:
        return f"Check {self.dataset}"

    def check(self, store: Store) -> None:
        store.dataset(self.dataset)
        for name in self.checks:
            check_from(name)
        settings_of(self.settings)

    def do(self, run: Run) -> dict[str, Any]:
        dataset = run.store.dataset(self.dataset)
        backend = run.backend(self.model) if self.model else None
        checks = checks_of(self.checks, backend, self.window, str(self.model or ""), settings_of(self.settings))
        memory = run.output.parents[1] / "checks" / str(dataset.id)
        found: dict[str, int] = {}
        for number, check in enumerate(checks):
            if run.stop_requested():
                break
            run.say(f"{check.title}.")
            found[check.name] = run_check(
                run.store, dataset, check, memory, stop=lambda: bool(run.stop_requested())
            ).flagged
            run.log(number + 1, len(checks))
        return {"dataset": self.dataset, "flagged": found, "records": run.store.count_records(dataset.id)}


def checks_of(
    names: Sequence[str],
    backend: Backend | None = None,
    window: int = 2048,
    model: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Check]:
    """The checks of those names, or all; what is too long is counted by the backend's tokenizer, if there is one."""
    made: list[Check] = []
    for name in names or check_kinds():
        given = dict((settings or {}).get(name, {}))
        if name != TooLong.name:
            made.append(check_from(name, given))
        elif backend is not None:
            made.append(TooLong.counting(_counter(backend), **{**given, "window": window, "model": model}))
        elif names:
            raise InputError(
                f"'{TooLong.title}' counts with a model's tokenizer. Choose a model, or leave this check out."
            )
    return made


def run_check(
    store: Store, dataset: Dataset, check: Check, memory: Path, stop: Callable[[], bool] = lambda: False
) -> CheckRun:
    """Run one check and keep what it finds. One that looks at single records looks only at those that changed since.

    Rejected records are not looked at: they go into no snapshot, so there is nothing in them to be mended.
    """
    started, until = time.monotonic(), store.newest_change(dataset.id)
    before = store.check_runs(dataset.id).get(check.name)
    total = store.count_records(dataset.id) - store.count_records(dataset.id, RecordFilter(state="rejected"))
    changed: list[int] | None = None
    flags: Iterator[Flag]
    if isinstance(check, DatasetCheck):
        memory.mkdir(parents=True, exist_ok=True)
        flags = check.look(_Records(store, dataset.id, stop), memory)
    elif isinstance(check, RecordCheck):
        since = before.until if before and before.version == check.stamp else 0.0
        changed = [] if since else None
        flags = _look(check, _Records(store, dataset.id, stop, since, changed))
    else:
        raise InputError(f"'{check.title}' is neither a check of records nor of datasets.")
    run = CheckRun(dataset.id, check.name, check.stamp, check.model_dump(mode="json"), total, 0, 0.0, until, until)
    rows = (FlagRow(f.record_id, f.check, f.field, f.note, f.start, f.end, dict(f.details)) for f in flags)
    with _laid_aside(rows) as found:
        done = replace(run, seconds=time.monotonic() - started)
        return store.put_flags(done, found, only=changed)


def mend(
    store: Store, dataset: Dataset, name: str, remedy: str, *, author: str, record_ids: Sequence[int] | None = None
) -> Edit:
    """Apply a remedy to all that a check flagged (or to some of it) at one stroke, which undo takes back.

    Raises InputError when nothing is left to mend.
    """
    run = store.check_runs(dataset.id).get(name)
    if run is None:
        raise InputError(f"The check '{name}' has not run over {dataset.name} yet. Run it first.")
    check = check_from(name, run.settings)
    if isinstance(check, DatasetCheck) and any(store.all_records(dataset.id, run.until)):
        # Whether a record is still another one's copy cannot be seen in it alone.
        raise InputError(f"Records of {dataset.name} changed after '{check.title}' ran. Run it again, then mend.")
    flags: dict[int, list[Flag]] = {}
    for row in store.flags(dataset.id, name, record_ids=record_ids):
        found = Flag(row.record_id, row.check, row.field, row.note, row.start, row.end, row.details or {})
        flags.setdefault(row.record_id, []).append(found)
    changes = []
    for record in store.some_records([key for key in flags if key]):
        if change := _mended(check, record, flags[record.id], remedy):
            changes.append(change)
    if not changes:
        raise InputError(f"'{check.title}' has nothing left to mend here. Run the check again to see what holds.")
    title = f"{next(r.title for r in check.remedies if r.name == remedy)}: {check.title.lower()}"
    return store.change_records(dataset.id, title, changes, author=author)


class _Records(Iterable[Record]):
    """The records of a dataset, read anew each time somebody goes through them."""

    def __init__(
        self,
        store: Store,
        dataset_id: int,
        stop: Callable[[], bool],
        since: float = 0.0,
        passed: list[int] | None = None,
    ) -> None:
        self._store, self._dataset_id, self._stop, self._since = store, dataset_id, stop, since
        self._passed = passed  # takes the ids of all, so that one that was rejected since loses its flags

    def __iter__(self) -> Iterator[Record]:
        for number, record in enumerate(self._store.all_records(self._dataset_id, self._since)):
            if number % _BATCH == 0 and self._stop():
                raise InputError("The check was stopped; what it had found before stays as it was.")
            if self._passed is not None:
                self._passed.append(record.id)
            if record.state != "rejected":
                yield record


def _look(check: RecordCheck, records: Iterable[Record]) -> Iterator[Flag]:
    left = iter(records)
    while batch := list(islice(left, _BATCH)):
        yield from check.look_at(batch)


@contextmanager
def _laid_aside(flags: Iterable[FlagRow]) -> Iterator[Iterator[FlagRow]]:
    """All flags, found before any is handed on: looking takes long, and while flags are stored nobody else can write.
    However many they are, a few megabytes of them are in memory; the others wait in a file without a name."""
    with SpooledTemporaryFile(_FLAGS_IN_MEMORY) as place:
        for flag in flags:
            place.write(json.dumps(vars(flag)).encode() + b"\n")
        place.seek(0)
        yield (FlagRow(**json.loads(line)) for line in place)


def _mended(check: Check, record: Record, flags: Sequence[Flag], remedy: str) -> RecordChange | None:
    mended = check.mend(record, flags, remedy)
    if not mended:
        return None
    fields: dict[str, Any] = {}
    if mended.fields:
        kept = {name: getattr(record, name) for name in ("instruction", "context", "response", "category", "turns")}
        try:
            fields = checked_fields({**kept, **mended.fields})
        except InputError:  # nothing would be left of a field that has to be there: that takes a person
            return None
    more: Mapping[str, Any] = {"split": mended.split, "state": mended.state}
    fields |= {name: value for name, value in more.items() if value}
    return RecordChange(record.id, fields, record.revision, is_removed=mended.remove)


def _counter(backend: Backend) -> Callable[[list[str]], list[int]]:
    def count(texts: list[str]) -> list[int]:
        return asyncio.run(backend.count_tokens(texts))

    return count
