"""What every check promises: it is found by its file, says what it does, and mends only what is still true."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.instructions import checks
from studio.instructions.checks import (
    DatasetCheck,
    Finding,
    RecordCheck,
    TooLong,
    check_from,
    check_kinds,
    mended_record,
    record_check,
)
from studio.store import Record
from tests.instructions.checks.records import TEXTS, conversation, look, quick, record

ALL = list(check_kinds())
OF_RECORDS = [name for name, kind in check_kinds().items() if issubclass(kind, RecordCheck) and name != "too_long"]


@record_check(name="shouting", title="Shouting", explains="Answers in capital letters. They teach the model to shout.")
def shouting(record: Record) -> Iterator[Finding]:
    if record.response.isupper():
        yield Finding("response", "The whole answer is in capital letters.", 0, len(record.response))


def test_a_check_is_found_by_its_file_and_says_what_it_does() -> None:
    assert len(ALL) == 15
    for name, kind in check_kinds().items():
        assert kind.name == name
        assert kind.title
        assert kind.explains.count(". ") >= 1
        assert len({remedy.name for remedy in kind.remedies}) == len(kind.remedies)


def test_a_check_of_ones_own_is_one_function() -> None:
    check = shouting()
    loud, calm = record(1, response="WEAR A HAT"), record(2, response="Wear a hat")
    (flag,) = look(check, [loud, calm])
    assert (flag.record_id, flag.check, flag.field, flag.start, flag.end) == (1, "shouting", "response", 0, 10)
    assert check.mend(loud, [flag], "remove").remove
    assert check.mend(loud, [flag], "reject").state == "rejected"


def test_a_file_in_the_folder_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whispering.py").write_text(
        "from studio.instructions.checks.base import Finding, record_check\n\n\n"
        "@record_check(name='whispering', title='Whispering', explains='Answers in brackets. They are hard to hear.')\n"
        "def whispering(record):\n"
        "    if record.response.startswith('('):\n"
        "        yield Finding('response', 'The answer is in brackets.')\n"
    )
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    checks.check_kinds.cache_clear()
    try:
        assert list(check_kinds())[-1] == "whispering"
        assert [flag.record_id for flag in look(check_from("whispering"), [record(1), record(2, response="(hm)")])] == [
            2
        ]
    finally:
        sys.modules.pop("studio.instructions.checks.whispering", None)
        checks.check_kinds.cache_clear()


def test_settings_change_the_stamp_and_so_does_nothing_else() -> None:
    assert check_from("near_duplicates").stamp == check_from("near_duplicates", {"threshold": 0.8}).stamp
    assert check_from("near_duplicates").stamp != check_from("near_duplicates", {"threshold": 0.9}).stamp


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("spelling", {}, "no check 'spelling'"),
        ("near_duplicates", {"threshold": 7}, "threshold"),
        ("near_duplicates", {"treshold": 0.9}, "treshold"),
    ],
    ids=["unknown", "out of bounds", "misspelled"],
)
def test_what_does_not_fit_is_named(name: str, settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_from(name, settings)


def test_an_unknown_remedy_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="It has: reject, remove, clear"):
        check_from("placeholders").mend(record(response="TODO"), [], "mask")


def test_a_flag_that_is_older_than_the_text_mends_nothing() -> None:
    check = check_from("personal")
    flags = look(check, [record(response="Write to ann@example.org")])
    assert not check.mend(record(response="Write to us, or call. Thanks"), flags, "mask")
    assert not check.mend(record(response="Write to us, or call. Thanks"), flags, "remove")


def test_a_flag_of_another_record_or_check_mends_nothing() -> None:
    check = check_from("personal")
    flags = look(check, [record(2, response="Write to ann@example.org")])
    assert not check.mend(record(1, response="Write to ann@example.org"), flags, "mask")
    assert not check_from("names").mend(record(2, response="Write to ann@example.org"), flags, "mask")


def test_a_dataset_check_refuses_what_can_be_read_only_once(tmp_path: Path) -> None:
    check = check_from("duplicates")
    assert isinstance(check, DatasetCheck)
    with pytest.raises(TypeError, match="more than once"):
        list(check.look(iter([record()]), tmp_path))


DAMAGED = st.lists(
    st.sampled_from(
        [
            "Maria Lopez",
            "Dr. Zorblax",
            "anna@example.org",
            "+49 30 1234567",
            "4111 1111 1111 1111",
            "12",
            "DE89 3704 0044 0532 0130 00",
            "Ã¼",
            "&amp;lt;",
            "&",
            "amp;",
            "\x07",
            "\ufffd",
            "[EMAIL 3]",
            "[NAME]",
            "password: hunter2Xy",
            "TODO",
            "n/a",
            "As an AI language model",
            "shit",
            "/",
            "\n",
            "مرحبا",
            "👩‍👩‍👧",
            "Will",
            "St.",
            "10.0.0.1",
        ]
    )
    | TEXTS,
    max_size=8,
).map(" ".join)


@quick
@given(st.sampled_from(OF_RECORDS), DAMAGED, DAMAGED, DAMAGED, st.booleans())
def test_mending_twice_is_mending_once_and_flags_survive_json(
    name: str, one: str, two: str, three: str, talks: bool
) -> None:
    check = check_from(name)
    assert isinstance(check, RecordCheck)
    before = conversation(one, two, three, two) if talks else record(1, one, two, context=three)
    flags = check.look(before)
    for flag in flags:
        json.dumps(dict(flag.details))
        if flag.start is not None and flag.end is not None:
            field = before.turns[int(flag.field[6:])]["content"] if before.turns else getattr(before, flag.field)
            assert 0 <= flag.start <= flag.end <= len(field)
    for remedy in check.remedies:
        mended = check.mend(before, flags, remedy.name)
        if mended.remove:
            continue
        after = mended_record(before, mended)
        assert not check.mend(after, check.look(after), remedy.name), (remedy.name, after)


def test_a_mended_conversation_keeps_its_question_and_answer_in_step() -> None:
    check = check_from("personal")
    before = conversation("I am ann@example.org", "Hello.", "My friend is bob@example.org", "Write to ann@example.org.")
    after = mended_record(before, check.mend(before, look(check, [before]), "mask"))
    assert after.turns is not None
    assert [turn["content"] for turn in after.turns] == [
        "I am [EMAIL 1]",
        "Hello.",
        "My friend is [EMAIL 2]",
        "Write to [EMAIL 1].",
    ]
    assert (after.instruction, after.response) == ("I am [EMAIL 1]", "Write to [EMAIL 1].")


def test_a_length_needs_a_counter_and_only_what_could_be_too_long_is_counted() -> None:
    asked: list[str] = []

    def count(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [len(text.split()) for text in texts]

    check = TooLong.counting(count, window=32)
    short, few, many = record(1, "Hi", "Ho"), record(2, "x" * 90, "One word"), record(3, "word " * 40, "Too many")
    (flag,) = look(check, [short, few, many])
    assert (flag.record_id, flag.details["tokens"], flag.details["window"]) == (3, 58, 32)
    assert "Hi" not in asked
    with pytest.raises(InputError, match="Choose a model"):
        look(TooLong(window=32), [many])


def test_what_is_too_long_can_be_rejected_without_counting_again_unless_it_was_edited() -> None:
    counting, plain = TooLong.counting(lambda texts: [len(text) for text in texts], window=32), TooLong(window=32)
    long = record(1, "Why?", "word " * 40)
    flags = look(counting, [long])
    for check in (counting, plain):
        assert check.mend(long, flags, "reject").state == "rejected"
        assert not check.mend(record(1, "Why?", "So."), flags, "reject")


def test_settings_are_told_as_lines_and_read_again() -> None:
    check = check_from("personal", {"kinds": ["phone", "card"]})
    lines = checks.told_settings(check)
    assert lines == ['personal.kinds=["phone", "card"]']
    assert check_from("personal", checks.settings_of(lines)["personal"]) == check
    assert checks.told_settings(check_from("personal")) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("threshold=0.9", "sets nothing"),
        ("near_duplicates.threshold", "sets nothing"),
        ("near_duplicates.threshold=2", "Near duplicates: threshold"),
        ("near_duplicates.depth=2", "Near duplicates: depth"),
        ("spelling.depth=2", "no check 'spelling'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checks.settings_of([line])


def test_a_module_of_checks_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_EXTRA_CHECKS", "no_such_checks")
    checks.check_kinds.cache_clear()
    try:
        with pytest.raises(InputError, match="names the module 'no_such_checks'"):
            check_kinds()
    finally:
        checks.check_kinds.cache_clear()
