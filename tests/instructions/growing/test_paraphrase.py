"""Paraphrase: the same question in other words, with the answer, group and split of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError
from studio.fields import describe
from studio.instructions.growing import LEFT_OUT, Paraphrase
from studio.store import Store
from tests.instructions.growing.garden import Choosy, grow, held_out, last, planted, records
from tests.prompts.desk import Answering

FIELDS: dict[str, Any] = {"model": "echo:", "dataset": "gear"}
ORIGINAL = "How often should I wash the Otter jacket within 12 months?"
REWORDED = "Within 12 months, how many times does the Otter jacket need washing?"


def _row(number: int = 0, **more: Any) -> dict[str, Any]:
    row = {
        "instruction": ORIGINAL,
        "context": "It is wool.",
        "response": "Twice.",
        "category": "closed_qa",
        "licence": "MIT",
    }
    return row | ({"context": f"It is wool {number}."} if number else {}) | more


def _task(**more: Any) -> Paraphrase:
    return Paraphrase.model_validate(FIELDS | more)


def test_a_variant_keeps_answer_context_category_licence_group_and_split(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row()])
    run, result = grow(sqlite_store, tmp_path, _task(), lambda _: f'Sure, here you are:\n"{REWORDED}"')
    original, variant = records(sqlite_store)
    assert variant.instruction == REWORDED
    for name in ("context", "response", "category", "licence", "group_hash", "split"):
        assert getattr(variant, name) == getattr(original, name), name
    assert variant.state == "draft"
    assert variant.provenance is not None
    assert (variant.provenance["seeds"], variant.provenance["way"]) == ([original.id], "paraphrase")
    assert result == {"dataset": "gear", "added": 1, "left_out": {}, "note": ""}
    assert run.steps == [(1, 1)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Certainly!", "unread"),
        (ORIGINAL, "alike"),
        ("how often should I wash the Otter jacket within 12 months", "alike"),
        ("How many times does the Otter jacket need washing?", "lost"),
        ("Within 12 months, how many times does the jacket need washing?", "lost"),
        ("Within 12 months or 24, how many times does the Otter jacket need washing?", "lost"),
        ("Otter 12: is bread better than any cake could be?", "far"),
        ("Otter 12?", "length"),
    ],
    ids=["talk", "same", "nearly same", "number lost", "name lost", "number made up", "another question", "too short"],
)
def test_a_variant_that_means_something_else_is_left_out(
    sqlite_store: Store, tmp_path: Path, answer: str, why: str
) -> None:
    planted(sqlite_store, [_row()])
    _, result = grow(sqlite_store, tmp_path, _task(), lambda _: answer)
    assert (result["added"], result["left_out"]) == (0, {why: 1})
    assert why in LEFT_OUT


def test_german_nouns_are_no_names(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row(instruction="Wie wäscht man die Jacke mit dem Futter und dem Kragen?")])
    _, result = grow(sqlite_store, tmp_path, _task(), lambda _: "Auf welche Weise reinigt man eine Jacke samt Futter?")
    assert result["added"] == 1


def test_held_out_drafted_and_long_records_are_not_varied(sqlite_store: Store, tmp_path: Path) -> None:
    turns = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "user", "assistant")]
    planted(
        sqlite_store,
        [
            _row(),
            _row(1, split="test"),
            _row(2, state="rejected"),
            _row(3, provenance={"model": "echo:"}),
            _row(4, instruction="wash " * 121),
            {"turns": turns},
        ],
    )
    backend = Answering(_task().model, lambda _: REWORDED)
    grow(sqlite_store, tmp_path, _task(), backend)
    assert len(backend.asked) == 1
    assert ORIGINAL in last(backend.asked[0])


def test_every_record_is_reworded_once_before_any_is_twice(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row(n, instruction=f"{ORIGINAL[:-1]} or {100 + n}?") for n in range(1, 11)])
    backend = Answering(_task().model, lambda _: "")
    _, result = grow(sqlite_store, tmp_path, _task(variants=2), backend)
    asked = [last(messages) for messages in backend.asked]
    assert len(asked) == 20
    assert len(set(asked[:10])) == 10
    assert result["left_out"] == {"unread": 20}


def test_a_variant_that_is_there_or_in_an_evaluation_set_stays_out(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row(), _row(1)])
    held_out(sqlite_store, tmp_path, REWORDED, "It is wool 1.")
    _, result = grow(sqlite_store, tmp_path, _task(variants=2), lambda _: REWORDED)
    assert (result["added"], result["left_out"]) == (1, {"evaluation": 2, "known": 1})


def test_a_variant_of_a_record_whose_original_is_in_an_evaluation_set_stays_out(
    sqlite_store: Store, tmp_path: Path
) -> None:
    planted(sqlite_store, [_row()])
    held_out(sqlite_store, tmp_path, ORIGINAL, "It is wool.")
    _, result = grow(sqlite_store, tmp_path, _task(), lambda _: REWORDED)
    assert (result["added"], result["left_out"]) == (0, {"evaluation": 1})


def test_cut_variants_are_left_out(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row()])
    _, result = grow(sqlite_store, tmp_path, _task(), Choosy(lambda _: REWORDED, cuts="Otter"))
    assert result["left_out"] == {"cut": 1}


def test_nothing_to_reword_is_refused(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [_row(split="test")])
    with pytest.raises(InputError, match="'gear' has no record of category 'poetry' to reword"):
        grow(sqlite_store, tmp_path, _task(category="poetry"), lambda _: REWORDED)


def test_every_field_has_a_title_and_a_description() -> None:
    assert all(field.title and field.help for field in describe(Paraphrase))
    assert _task().title == "Reword 50 records of gear with echo:"
