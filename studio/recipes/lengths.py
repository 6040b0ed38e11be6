"""How long the records of a snapshot are for a model, in tokens and in learned tokens: exactly as training counts them.

Counting needs the model's tokenizer, which the page process does not have: a few records are counted through the engine,
many in a job of their own, and every dry run counts too. Neither a snapshot nor a tokenizer changes, so it is done once.
Until then lengths are guessed from letters, and whoever shows them says "about".
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from studio.backends import Backend
from studio.errors import InputError, ModelError, StudioError
from studio.instructions import conversation
from studio.models import Weights
from studio.models.files import tokenizer_digest, write_atomically
from studio.models.lineage import licences_of
from studio.specs import Message, ModelRef, SnapshotRef
from studio.store import Snapshot, Store, read_rows
from studio.tasks import Lane, Run, Task

__all__ = ["Count", "CountTokens", "Lengths", "Refused", "Rows", "count", "encoded", "guessed", "known", "rows_of"]

Count = tuple[int, int]  # tokens of a record, and how many of them are learned

_LETTERS_PER_TOKEN = 3.8
_AROUND_A_TURN = 6  # tokens that a chat template adds
_AT_ONCE = 8  # questions to the engine


@dataclass(frozen=True)
class Refused:
    """A record that a run could not read: its row in the snapshot, counted from 1, and why."""

    row: int
    why: str


@dataclass(frozen=True)
class Lengths:
    """Training and validation records in the order of the snapshot. `refused` is the first that cannot be encoded."""

    train: tuple[Count, ...]
    validation: tuple[Count, ...]
    is_exact: bool
    refused: Refused | None = None


@dataclass(frozen=True)
class Rows:
    """What a pre-flight wants to know of a snapshot's rows. `licences` counts those that rows name themselves."""

    splits: Mapping[str, int]
    letters: tuple[tuple[str, Count], ...]  # (split, (letters, letters of answers) with the turns counted in)
    licences: Mapping[str, int]


# -- rows -----------------------------------------------------------------------------------------------------------


def rows_of(root: Path, snapshot: Snapshot) -> Rows:
    """Read once, since pages ask at every change of a field; again when the file is not what it was.

    Raises StorageError when it is gone or was changed.
    """
    try:
        status = (root / snapshot.path).stat()
    except OSError:
        read_rows(root, snapshot)  # which says it with the cure
        raise
    return _rows(root, snapshot, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _rows(root: Path, snapshot: Snapshot, size: int, changed_at: int) -> Rows:
    rows = read_rows(root, snapshot)
    return Rows(
        Counter(str(row["split"]) for row in rows),
        tuple((str(row["split"]), _letters(row)) for row in rows if row["split"] in ("train", "validation")),
        licences_of(rows),
    )


def _letters(row: Mapping[str, Any]) -> Count:
    turns = conversation(row)
    around = round(_AROUND_A_TURN * _LETTERS_PER_TOKEN)
    said = sum(len(turn.content) for turn in turns if turn.role == "assistant")
    return sum(len(turn.content) for turn in turns) + around * len(turns), max(1, said)


def guessed(rows: Rows) -> Lengths:
    """Before anybody counted."""

    def of(split: str) -> tuple[Count, ...]:
        return tuple(
            (round(letters / _LETTERS_PER_TOKEN), 1 + round(said / _LETTERS_PER_TOKEN))
            for where, (letters, said) in rows.letters
            if where == split
        )

    return Lengths(of("train"), of("validation"), is_exact=False)


# -- counted ----------------------------------------------------------------------------------------------------------


def known(root: Path, snapshot: Snapshot, weights: Weights) -> Lengths | None:
    """What was counted before, or None."""
    file = _file(root, snapshot, weights)
    try:
        return _read(file, file.stat().st_mtime_ns)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


async def count(root: Path, snapshot: Snapshot, weights: Weights, backend: Backend) -> Lengths:
    """Count through the engine, which needs the tokenizer alone, and keep it. Raises what asking raises."""
    rows = _numbered(read_rows(root, snapshot))
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(turns: list[Message]) -> Count | str:
        async with gate:
            try:
                marked = await backend.marks(turns, most=0)
            except (InputError, ModelError) as error:
                if type(error) not in (InputError, ModelError):  # the engine's own trouble, not this record's
                    raise
                return str(error)
        return marked.tokens, marked.learned

    found = await asyncio.gather(*(one(conversation(row)) for _, row in rows))
    return _kept(root, snapshot, weights, rows, found)


def encoded(root: Path, snapshot: Snapshot, weights: Weights, tell: Callable[[int, int], None]) -> Lengths:
    """Count in this process, which a worker may: it imports the tokenizer's library. Kept like any count."""
    from studio.training.conversation import encode_example
    from studio.training.loading import load_tokenizer

    if (before := known(root, snapshot, weights)) is not None:
        return before
    tokenizer, rows = load_tokenizer(weights), _numbered(read_rows(root, snapshot))
    found: list[Count | str] = []
    for place, (_, row) in enumerate(rows, 1):
        try:
            example = encode_example(tokenizer, conversation(row))
            found.append((len(example.ids), example.learned))
        except (InputError, ModelError) as error:
            found.append(str(error))
        if place % 500 == 0 or place == len(rows):
            tell(place, len(rows))
    return _kept(root, snapshot, weights, rows, found)


def _numbered(rows: Iterable[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [(number, row) for number, row in enumerate(rows, 1) if row["split"] in ("train", "validation")]


def _kept(
    root: Path,
    snapshot: Snapshot,
    weights: Weights,
    rows: Sequence[tuple[int, dict[str, Any]]],
    found: Sequence[Count | str],
) -> Lengths:
    refused = next(
        ({"row": number, "why": one} for (number, _), one in zip(rows, found, strict=True) if isinstance(one, str)),
        None,
    )
    counts = {
        split: [
            one for (_, row), one in zip(rows, found, strict=True) if row["split"] == split and not isinstance(one, str)
        ]
        for split in ("train", "validation")
    }
    file = _file(root, snapshot, weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({**counts, "refused": refused}, separators=(",", ":")))
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read(file: Path, mark: int) -> Lengths:
    told = json.loads(file.read_text(encoding="utf-8"))
    train, validation = (tuple((int(t), int(n)) for t, n in told[split]) for split in ("train", "validation"))
    refused = Refused(**told["refused"]) if told["refused"] else None
    return Lengths(train, validation, is_exact=True, refused=refused)


def _file(root: Path, snapshot: Snapshot, weights: Weights) -> Path:
    named = f"{snapshot.digest}\n{tokenizer_digest(weights.base)}"
    return root / "lengths" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.json"


class CountTokens(Task):
    """Count the tokens of a snapshot for a model, so that pre-flights of runs on it are exact."""

    kind: ClassVar[str] = "count_tokens"
    lane: ClassVar[Lane] = "light"

    data: SnapshotRef = Field(title="Data", description="A frozen instruction dataset.")
    base: ModelRef = Field(title="Model", description="Whose tokenizer counts.")

    @property
    def title(self) -> str:
        return f"Count the tokens of {self.data} for {self.base}"

    def check(self, store: Store) -> None:
        store.snapshot(self.data)
        if self.base.kind in ("echo", "endpoint"):
            raise InputError(f"{self.base} has no tokenizer here. Choose a model on this machine.")

    def do(self, run: Run) -> dict[str, Any]:
        found = encoded(
            run.output.parents[1],
            run.store.snapshot(self.data),
            run.weights(self.base),
            lambda done, total: run.log(done, total),
        )
        if found.refused:
            raise StudioError(f"Row {found.refused.row} of {self.data} cannot be read: {found.refused.why}")
        return {
            "tokens": sum(tokens for tokens, _ in found.train),
            "learned": sum(learned for _, learned in found.train),
        }
