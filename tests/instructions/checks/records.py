"""Records for the tests of the checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from studio.instructions.checks import Check, DatasetCheck, Flag, RecordCheck
from studio.store import Record

quick = settings(deadline=None, derandomize=True, max_examples=80)
TEXTS = st.text(max_size=80)


def record(
    id: int = 1, instruction: str = "What do I need?", response: str = "A tent and a map.", **more: Any
) -> Record:
    fields = {
        "dataset_id": 1,
        "context": "",
        "category": "open_qa",
        "turns": None,
        "licence": "",
        "state": "draft",
        "letters": 0,
        "group_hash": "",
        "split": "train",
        "source": "sheet.csv",
        "provenance": None,
        "author": "ann",
        "revision": 1,
        "created_at": 0.0,
        "updated_at": 0.0,
    }
    return Record(id=id, instruction=instruction, response=response, **{**fields, **more})


def conversation(*said: str, id: int = 1) -> Record:
    """Turns of user and assistant, beginning with the user."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    return record(id, said[0], said[-1], turns=turns)


def look(check: Check, records: Sequence[Record], memory: Path | None = None) -> list[Flag]:
    if isinstance(check, DatasetCheck):
        assert memory is not None
        return list(check.look(records, memory))
    assert isinstance(check, RecordCheck)
    return list(check.look_at(records))


def ids(flags: Iterable[Flag]) -> list[int]:
    return sorted({flag.record_id for flag in flags})


def seen(check: RecordCheck, text: str) -> list[str]:
    """What a check points at in a text."""
    return [text[flag.start : flag.end] for flag in check.look(record(response=text)) if flag.field == "response"]
