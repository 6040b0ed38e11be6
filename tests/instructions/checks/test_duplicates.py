"""Copies, near copies, leaks and contradictions: found exactly, however many records there are."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.instructions.checks import check_from, mended_record
from studio.instructions.checks import signatures as signing
from studio.instructions.checks.conflicts import is_other_answer
from studio.store import Record
from tests.instructions.checks.records import conversation, ids, look, quick, record

PLAIN = (
    "The Heron tent keeps two people dry for three seasons and weighs a little more than two kilos with all its pegs"
)


def test_copies_differ_in_case_space_and_unicode_form_and_the_oldest_stays(tmp_path: Path) -> None:
    rows = [
        record(1, "How much?", "Ten euros each."),
        record(2, "HOW  much?", "ten euros\neach."),
        record(3, "How much?", "Eleven euros each."),
        record(4, "How much？", "Ten euros each."),  # a full-width question mark
    ]
    flags = look(check_from("duplicates"), rows, tmp_path)
    assert ids(flags) == [2, 4]
    assert flags[0].details == {"cluster": 1, "of": 3, "others": [1, 2, 4]}


def test_an_approved_copy_stays_before_an_older_draft_and_a_rejected_one_is_nobodys_copy(tmp_path: Path) -> None:
    rows = [record(1, state="rejected"), record(2), record(3, state="approved"), record(4)]
    assert ids(look(check_from("duplicates"), rows, tmp_path)) == [2, 4]


def test_conversations_are_compared_turn_by_turn(tmp_path: Path) -> None:
    rows = [conversation("Hi", "Hello", "Bye", "See you", id=1), conversation("hi", "hello", "bye", "see you", id=2)]
    assert ids(look(check_from("duplicates"), [*rows, conversation("Hi", "Hello Bye", id=3)], tmp_path)) == [2]


def test_near_copies_are_found_with_how_alike_they_are(tmp_path: Path) -> None:
    near = PLAIN.replace("a little more", "slightly more")
    rows = [
        record(1, "Describe the tent at length, please", PLAIN * 2),
        record(2, response="Something else entirely, friend"),
    ]
    rows.append(record(3, "Describe the tent at length, please", f"{PLAIN}{near}"))
    (flag,) = look(check_from("near_duplicates"), rows, tmp_path)
    assert flag.record_id == 3
    assert flag.details["nearest"] == 1
    assert flag.details["similarity"] == pytest.approx(_similarity(rows[0], rows[2]), abs=0.001)


def test_an_exact_copy_is_no_near_copy(tmp_path: Path) -> None:
    assert (
        look(check_from("near_duplicates"), [record(1, PLAIN, PLAIN), record(2, PLAIN, PLAIN.upper())], tmp_path) == []
    )


def test_two_questions_about_one_long_text_are_no_near_copies(tmp_path: Path) -> None:
    story = " ".join(f"word{n}" for n in range(300))
    rows = [
        record(1, "Who wrote the letter to the harbour?", "Maren did.", context=story),
        record(2, "When does the ferry come back?", "On Saturday.", context=story),
    ]
    assert look(check_from("near_duplicates", {"threshold": 0.5}), rows, tmp_path) == []


def test_one_question_about_two_texts_is_no_near_copy(tmp_path: Path) -> None:
    texts = [" ".join(f"{name}{n}" for n in range(60)) for name in ("ship", "moor")]
    rows = [record(n, "What is the mood of this text?", "Calm.", context=text) for n, text in enumerate(texts, 1)]
    assert look(check_from("near_duplicates", {"threshold": 0.5}), rows, tmp_path) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_found_are_those_that_comparing_everything_finds(tmp_path: Path, seed: int) -> None:
    rows = _families(seed)
    these = signing.signed(iter(rows), tmp_path)
    found = signing.alike(these, signing.np.arange(len(rows)), 0.8)
    pairs = {frozenset(pair) for pair in zip(found.one.tolist(), found.other.tolist(), strict=True)}
    true = {
        frozenset((a, b))
        for a, b in itertools.combinations(range(len(rows)), 2)
        if _similarity(rows[a], rows[b]) >= 0.8
    }
    assert pairs <= true
    assert len(true) > 20
    assert len(pairs) >= 0.99 * len(true)


def test_a_large_bucket_of_records_from_one_mould_is_one_cluster(tmp_path: Path) -> None:
    mould = " ".join(f"part{n}" for n in range(120))
    rows = [record(n, f"{mould} number{n}", mould) for n in range(1, 400)]
    flags = look(check_from("near_duplicates"), rows, tmp_path)
    assert {flag.details["cluster"] for flag in flags} == {1}
    assert len(flags) == 398


def test_only_what_was_edited_is_signed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _families(1)
    check = check_from("near_duplicates")
    first = look(check, rows, tmp_path)
    at = first[0].record_id - 1
    rows[at] = dataclasses.replace(rows[at], response="Now something completely different is written here", revision=2)
    signed: list[int] = []
    fresh = signing._fresh
    monkeypatch.setattr(signing, "_fresh", lambda new, codes: (signed.extend(r.id for r in new), fresh(new, codes))[1])
    second = look(check, rows, tmp_path)
    assert signed == [rows[at].id]
    shutil.rmtree(tmp_path)
    assert look(check, rows, tmp_path) == second
    assert first != second


@pytest.mark.parametrize("broken", ["hashes", "format.json", "ids"])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, broken: str) -> None:
    rows, check = _families(2), check_from("near_duplicates")
    first = look(check, rows, tmp_path)
    (tmp_path / "signatures" / broken).write_bytes(b"\x01\x02\x03")
    assert look(check, rows, tmp_path) == first


def test_removed_and_new_records_are_followed(tmp_path: Path) -> None:
    rows, check = _families(3), check_from("near_duplicates")
    look(check, rows[: len(rows) // 2], tmp_path)
    shuffled = random.Random(0).sample(rows, len(rows) - 7)
    assert look(check, shuffled, tmp_path / "same") == look(check, shuffled, tmp_path)


def test_nothing_and_texts_without_words_are_fine(tmp_path: Path) -> None:
    for name in ("duplicates", "near_duplicates", "leakage", "conflicts", "languages", "categories", "imbalance"):
        assert look(check_from(name), [], tmp_path) == []
    rows = [record(1, "🙂", "🙃🙃"), record(2, "…", "!!"), record(3, "", "")]
    assert look(check_from("near_duplicates"), rows, tmp_path) == []


def test_a_leak_is_flagged_in_the_part_held_out_and_only_that_part_moves(tmp_path: Path) -> None:
    check = check_from("leakage")
    long = [f"{PLAIN} {PLAIN}", f"{PLAIN} {PLAIN}, all told"]
    rows = [
        record(1, "How heavy is it?", "Two kilos."),
        record(2, "how heavy is it?", "About two kilos, with pegs.", split="test"),
        record(3, "Tell me about the tent", long[0], split="validation"),
        record(4, "Tell me about the tent now", long[1]),
        record(5, "Where is the shop?", "In Tolsey.", split="test"),
        record(6, "how heavy is it?", "Light.", split="excluded"),
    ]
    flags = look(check, rows, tmp_path)
    assert ids(flags) == [2, 3]
    assert [flag.details["nearest"] for flag in flags] == [1, 4]
    for row in rows:
        mine = [flag for flag in flags if flag.record_id == row.id]
        after = mended_record(row, check.mend(row, mine, "exclude"))
        assert after.split == ("excluded" if row.id in (2, 3) else row.split)
        assert not check.mend(after, mine, "exclude")


def test_copies_in_the_part_held_out_all_leak(tmp_path: Path) -> None:
    near = [record(n, "Tell me of the tent", f"{PLAIN} {PLAIN}!", split="test") for n in (2, 3, 4)]
    rows = [record(1, "Tell me of the tent now", f"{PLAIN} {PLAIN}"), *near]
    assert ids(look(check_from("leakage"), rows, tmp_path)) == [2, 3, 4]


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["train", "validation", "test", "excluded"])), max_size=12
    )
)
def test_no_record_of_training_is_ever_flagged_as_a_leak(tmp_path_factory: pytest.TempPathFactory, drawn: list) -> None:
    rows = [record(n, f"{PLAIN} {letter}", PLAIN, split=split) for n, (letter, split) in enumerate(drawn, 1)]
    flags = look(check_from("leakage"), rows, tmp_path_factory.mktemp("memory"))
    assert {row.split for row in rows if row.id in ids(flags)} <= {"validation", "test"}


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("Delivery takes 3 days.", "Delivery takes 5 days.", True),
        ("It costs 1,000 euros.", "It costs 1000 euros.", False),
        ("Yes, you can return it.", "No, you can not return it.", True),
        ("Paris.", "paris", False),
        ("Paris.", "London.", True),
        ("You can return it within a month.", "Within a month you can return it.", False),
        ("Ja, das geht.", "Nein.", True),
    ],
)
def test_answers_conflict_when_they_cannot_both_be_right(one: str, other: str, differ: bool) -> None:
    assert is_other_answer(one, other, 0.3) is differ
    assert is_other_answer(other, one, 0.3) is differ


def test_conflicting_answers_are_flagged_on_all_sides_but_not_where_many_are_right(tmp_path: Path) -> None:
    rows = [
        record(1, "How long does it take?", "3 days."),
        record(2, "how long does it take?", "5 days."),
        record(3, "How long does it take?", "3 days!"),
        record(4, "Write a poem.", "Roses are red.", category="creative_writing"),
        record(5, "Write a poem.", "The sea is wide.", category="creative_writing"),
        record(6, "How long does it take?", "9 days.", context="For the island."),
    ]
    flags = look(check_from("conflicts"), rows, tmp_path)
    assert ids(flags) == [1, 2, 3]
    assert {flag.record_id: flag.details["against"] for flag in flags} == {1: 2, 2: 1, 3: 2}


def _families(seed: int) -> list[Record]:
    """Records of which many are another one with a few words changed."""
    pick = random.Random(seed)
    words = [f"w{n}" for n in range(3000)]
    rows: list[Record] = []
    for n in range(1, 121):
        if rows and pick.random() < 0.6:
            old = pick.choice(rows)
            said = old.response.split()
            for _ in range(pick.randint(1, 4)):
                said[pick.randrange(len(said))] = pick.choice(words)
            rows.append(record(n, old.instruction, " ".join(said)))
        else:
            rows.append(
                record(n, " ".join(pick.choices(words, k=8)), " ".join(pick.choices(words, k=pick.randint(20, 120))))
            )
    return rows


def _similarity(one: Record, other: Record) -> float:
    a, b = ({*_runs(r.instruction), *_runs(r.response)} for r in (one, other))
    return len(a & b) / len(a | b)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[n : n + 3]) for n in range(max(1, len(words) - 2))} if words else set()
