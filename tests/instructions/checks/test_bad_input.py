"""Ten megabytes in one field cost seconds in no check, whatever they are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.instructions.checks import Check, TooLong, check_kinds, mended_record
from studio.store import Record
from tests.instructions.checks.records import look, record

UNITS = [
    "a",
    " ",
    "\n",
    "1",
    "1 ",
    "1-",
    "0123 ",
    "+1",
    "+49 30 ",
    "@",
    "a@",
    "a@a.",
    "a.",
    ".",
    "1.",
    "1.1.1.1 ",
    ":",
    "a:",
    "::1 ",
    "&",
    "&amp;",
    "&#38;",
    "<a",
    "<",
    "[insert ",
    "{{ ",
    "{a_",
    "TODO:",
    "A ",
    "A.",
    "Ab ",
    "Ab de ",
    "Anna ",
    "Dr. ",
    "Dear ",
    "Ã",
    "Ã¼",
    "â€",
    "\x07",
    "\ufffd",
    "é\u00a0»",
    "eyJ.",
    "eyJaaaaaaaaaaaaa.",
    "sk-",
    "a://b:c",
    "password ",
    "key=",
    "DE89",
    "4111 ",
    "AB12 ",
    "12 Ab ",
    "Abstraße ",
    "rue ",
    "i am sorry ",
    "as an ai ",
    "tut mir leid ",
    "日",
    "👩‍👩‍👧",
    "שלום ",
    "-----BEGIN ",
    "tel ",
    "tel 1",
    "shit ",
    "`",
]


def _check(kind: type[Check]) -> Check:
    if kind is TooLong:
        return TooLong.counting(lambda texts: [len(text) for text in texts], window=512)
    return kind()


def _made(units: list[str], letters: int) -> Record:
    return record(1, response="".join(unit * (letters // len(units) // len(unit.encode())) for unit in units))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(check_kinds()))
def test_ten_megabytes_in_one_field_take_seconds(name: str, tmp_path: Path) -> None:
    check = _check(check_kinds()[name])
    for unit in UNITS:  # by itself, so that what goes back and forth shows in little
        assert _seconds(lambda unit=unit: look(check, [_made([unit], 300_000)], tmp_path)) < 3.0, f"{name} on {unit!r}"
    whole, flags = _made(UNITS, 10_000_000), []
    assert _seconds(lambda: flags.extend(look(check, [whole], tmp_path))) < 25.0
    assert len(flags) <= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["placeholders", "encoding", "personal", "names", "secrets"])
def test_a_megabyte_is_mended_in_seconds(name: str) -> None:
    check, whole = _check(check_kinds()[name]), _made(UNITS, 1_000_000)
    flags = look(check, [whole])
    own = [remedy.name for remedy in check.remedies if remedy.name not in ("reject", "remove")]
    assert _seconds(lambda: mended_record(whole, check.mend(whole, flags, own[0]))) < 10.0


def _seconds(work: Callable[[], object]) -> float:
    """Of this process's own time: how busy the machine is says nothing about an expression."""
    began = time.process_time()
    work()
    return time.process_time() - began
