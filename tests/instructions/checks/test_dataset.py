"""Languages, categories and balance: what a record is beside all the others."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from studio.instructions.checks import check_from, languages, mended_record
from studio.store import Record
from tests.instructions.checks.records import ids, look, record

ENGLISH = [
    "The ferry leaves at seven in the morning and comes back in the evening, so take something warm for the way home.",
    "You can wash the jacket at thirty degrees, but leave out the softener, because it would spoil the fabric for good.",
    "We repair zips free of charge for two years after you bought the pack; after that you pay what the parts cost us.",
    "A tent that was packed wet should be hung up within a day, since mould never quite comes out of the seams again.",
]
GERMAN = "Die Fähre fährt um sieben Uhr ab und kommt am Abend zurück, nehmen Sie also etwas Warmes für den Heimweg mit."
FRENCH = "Le bateau part à sept heures du matin et revient le soir, prenez donc quelque chose de chaud pour le retour."


def test_records_in_a_language_few_others_are_in_are_flagged(tmp_path: Path) -> None:
    rows = [record(n, response=ENGLISH[n % 4]) for n in range(1, 30)]
    rows += [record(30, response=GERMAN), record(31, response="Ja."), record(32, response=f"```\n{GERMAN}\n```")]
    (flag,) = look(check_from("languages"), rows, tmp_path)
    assert (flag.record_id, flag.field, flag.details["language"]) == (30, "response", "de")
    assert "most of the dataset is in en" in flag.note


def test_two_languages_that_are_both_common_are_both_meant(tmp_path: Path) -> None:
    rows = [record(n, response=(ENGLISH[n % 4], GERMAN)[n % 2]) for n in range(1, 30)]
    assert ids(look(check_from("languages"), [*rows, record(30, response=FRENCH)], tmp_path)) == [30]


def test_a_short_answer_is_judged_by_its_question(tmp_path: Path) -> None:
    rows = [record(n, response=ENGLISH[n % 4]) for n in range(1, 30)]
    (flag,) = look(check_from("languages"), [*rows, record(30, FRENCH, "Non.")], tmp_path)
    assert (flag.record_id, flag.field) == (30, "instruction")


def test_a_language_is_told_once_for_each_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [record(n, response=ENGLISH[n % 4]) for n in range(1, 30)]
    check = check_from("languages")
    assert look(check, rows, tmp_path) == []
    judged: list[str] = []
    tell = languages.language_of
    monkeypatch.setattr(languages, "language_of", lambda text, sure: (judged.append(text), tell(text, sure))[1])
    rows[3] = dataclasses.replace(rows[3], response=GERMAN, revision=2)
    assert ids(look(check, rows, tmp_path)) == [4]
    assert judged == [GERMAN]


def test_what_needs_a_text_to_be_about_is_flagged_without_one(tmp_path: Path) -> None:
    rows = [record(n, category="open_qa") for n in range(1, 9)]
    rows += [
        record(11, "Sum this up.", "Fine.", category="summarization"),
        record(12, "Sum this up.", "Fine.", category="summarization", context="A long story."),
        record(13, "What is Otto?", "A baker.", category="closed_qa"),
        record(14, "Sum this up: " + "word " * 80, "Fine.", category="summarization"),
    ]
    check = check_from("categories")
    flags = look(check, rows, tmp_path)
    assert ids(flags) == [11, 13]
    by_id = {row.id: row for row in rows}
    assert not check.mend(by_id[11], [f for f in flags if f.record_id == 11], "suggested")
    mine = [f for f in flags if f.record_id == 13]
    after = mended_record(by_id[13], check.mend(by_id[13], mine, "suggested"))
    assert after.category == "open_qa"
    assert not check.mend(after, mine, "suggested")


def test_a_label_of_its_own_and_a_missing_one_are_flagged_only_among_others(tmp_path: Path) -> None:
    rows = [record(n, category="open_qa") for n in range(1, 30)] + [
        record(30, category="opne_qa"),
        record(31, category=""),
    ]
    assert ids(look(check_from("categories"), rows, tmp_path)) == [30, 31]
    own = [record(n, category=f"team-{n % 3}") for n in range(1, 30)]
    assert look(check_from("categories"), own, tmp_path) == []


TOPICS = {
    "tents": "pole peg canvas groundsheet guy line storm porch inner outer seam fly vestibule".split(),
    "stoves": "gas burner flame kettle boil canister simmer wick fuel pot soot valve spark".split(),
    "maps": "contour compass grid bearing scale north legend ridge river path summit sheet fold".split(),
}


def _about(n: int, topic: str, pick: random.Random, label: str = "") -> Record:
    words = [" ".join(pick.choices(TOPICS[topic], k=12)) for _ in range(2)]
    return record(n, words[0], words[1], category=label or topic)


def test_a_label_the_other_records_speak_against_is_doubted_with_how_often_that_is_right(tmp_path: Path) -> None:
    pick = random.Random(0)
    rows = [_about(n, list(TOPICS)[n % 3], pick) for n in range(1, 301)]
    rows[9] = _about(10, "stoves", pick, label="maps")
    check = check_from("categories")
    (flag,) = look(check, rows, tmp_path)
    assert (flag.record_id, flag.details["suggested"]) == (10, "stoves")
    assert flag.details["agreement"] > 0.95
    assert "labels it had not seen" in flag.note
    assert mended_record(rows[9], check.mend(rows[9], [flag], "suggested")).category == "stoves"
    assert look(check, rows, tmp_path) == [flag]


def test_labels_that_words_cannot_tell_apart_are_not_doubted(tmp_path: Path) -> None:
    pick = random.Random(0)
    words = [word for topic in TOPICS.values() for word in topic]
    rows = [
        record(n, " ".join(pick.choices(words, k=12)), " ".join(pick.choices(words, k=12)), category=pick.choice("ab"))
        for n in range(1, 301)
    ]
    assert look(check_from("categories"), rows, tmp_path) == []


def test_balance_is_said_about_the_dataset_with_counts(tmp_path: Path) -> None:
    rows = [record(n, category="open_qa", source="a.csv") for n in range(1, 150)]
    rows += [record(200 + n, category="closed_qa", source="a.csv") for n in range(30)] + [record(300, category="poems")]
    flags = look(check_from("imbalance"), rows, tmp_path)
    assert ids(flags) == [0]
    assert [(flag.details["of"], flag.details["value"]) for flag in flags] == [
        ("category", "open_qa"),
        ("source", "a.csv"),
        ("category", "poems"),
    ]
    assert flags[0].details["counts"] == {"open_qa": 149, "closed_qa": 30, "poems": 1}
    assert look(check_from("imbalance"), rows[:99], tmp_path) == []
