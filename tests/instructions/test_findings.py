"""What the checks found, as a page goes through it: where they stand, examples, and what a remedy would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.instructions.checking import checks_of, mend, run_check
from studio.instructions.checks import check_from, check_kinds
from studio.instructions.findings import (
    MOST_CHANGED,
    CheckState,
    check_again,
    examples,
    look_again,
    remarks,
    states,
    would_change,
)
from studio.instructions.records import insertable
from studio.store import CheckRun, Dataset, Store

ROWS: tuple[dict[str, Any], ...] = (
    {"instruction": "Where can I write to?", "response": "Write to shop@brackenfold.example, please."},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "Is it warm?", "response": "It is warm down to five degrees."},
    {"instruction": "How long does it hold?", "response": "It holds for 3 years."},
    {"instruction": "How long does it hold?", "response": "It holds for 12 years."},
    {"instruction": "May I cook inside?", "response": "No, never inside.", "split": "train"},
    {"instruction": "may I cook inside?", "response": "No, never inside it.", "split": "test"},
    {"instruction": "May I smoke?", "response": "TODO", "context": "n/a"},
)


def made(store: Store, rows: tuple[dict[str, Any], ...] = ROWS) -> Dataset:
    dataset = store.create_dataset("gear", author="ann")
    full = [{**insertable(row), **({"split": row["split"]} if "split" in row else {})} for row in rows]
    store.add_records(dataset.id, full, author="ann", source="test")
    return dataset


@pytest.fixture
def dataset(sqlite_store: Store, tmp_path: Path) -> Dataset:
    """With every check run that needs no model."""
    dataset = made(sqlite_store)
    for check in checks_of(("personal", "placeholders", "duplicates", "conflicts", "leakage")):
        run_check(sqlite_store, dataset, check, tmp_path)
    return dataset


def state_of(store: Store, dataset: Dataset, name: str) -> CheckState:
    return next(state for state in states(store, dataset) if state.kind.name == name)


def run_of(store: Store, dataset: Dataset, name: str) -> CheckRun:
    return store.check_runs(dataset.id)[name]


def test_every_check_stands_somewhere_also_one_that_never_ran(sqlite_store: Store, dataset: Dataset) -> None:
    found = {state.kind.name: state for state in states(sqlite_store, dataset)}
    assert list(found) == list(check_kinds())
    assert (found["personal"].records, found["duplicates"].records, found["conflicts"].records) == (1, 2, 2)
    assert found["languages"].run is None
    assert not found["languages"].has_found


def test_what_changed_since_is_counted_up_to_a_bound(sqlite_store: Store, dataset: Dataset) -> None:
    first, second = sqlite_store.records(dataset.id, limit=2)
    sqlite_store.edit_record(first.id, 1, {"response": "By post."}, author="ann")
    sqlite_store.edit_record(second.id, 1, {"response": "Not warm."}, author="ann")
    assert state_of(sqlite_store, dataset, "personal").changed == 2
    more = [insertable({"instruction": f"What is {n}?", "response": "A peg."}) for n in range(150)]
    sqlite_store.add_records(dataset.id, more, author="ann", source="test")
    assert state_of(sqlite_store, dataset, "personal").changed == MOST_CHANGED + 1


def test_a_check_that_compares_records_must_run_again_after_a_change(sqlite_store: Store, dataset: Dataset) -> None:
    assert not state_of(sqlite_store, dataset, "duplicates").must_run_again
    first = sqlite_store.records(dataset.id, limit=1)[0]
    sqlite_store.edit_record(first.id, 1, {"response": "By post."}, author="ann")
    assert state_of(sqlite_store, dataset, "duplicates").must_run_again
    assert not state_of(sqlite_store, dataset, "personal").must_run_again


def test_an_example_of_a_find_carries_the_record_and_its_spans(sqlite_store: Store, dataset: Dataset) -> None:
    (example,) = examples(sqlite_store, run_of(sqlite_store, dataset, "personal"))
    (found,) = example.members
    (flag,) = found.flags
    assert example.kind == "alone"
    assert found.record.response[flag.start : flag.end] == "shop@brackenfold.example"
    assert not found.has_changed


def test_copies_are_one_example_beside_the_record_that_stays(sqlite_store: Store, dataset: Dataset) -> None:
    ids = sqlite_store.record_ids(dataset.id)
    (example,) = examples(sqlite_store, run_of(sqlite_store, dataset, "duplicates"))
    assert example.beside is not None
    assert (example.kind, example.beside.id, example.size) == ("copies", ids[1], 3)
    assert [found.record.id for found in example.members] == ids[2:4]


def test_answers_to_one_question_are_one_example(sqlite_store: Store, dataset: Dataset) -> None:
    ids = sqlite_store.record_ids(dataset.id)
    found = [
        [f.record.id for f in e.members] for e in examples(sqlite_store, run_of(sqlite_store, dataset, "conflicts"))
    ]
    assert found == [ids[4:6]]


def test_a_leak_stands_beside_the_training_record(sqlite_store: Store, dataset: Dataset) -> None:
    ids = sqlite_store.record_ids(dataset.id)
    leaks = {e.members[0].record.id: e for e in examples(sqlite_store, run_of(sqlite_store, dataset, "leakage"))}
    example = leaks[ids[7]]
    assert example.beside is not None
    assert (example.kind, example.beside.id) == ("leak", ids[6])


def test_of_a_large_cluster_a_few_are_shown_and_all_are_counted(sqlite_store: Store, tmp_path: Path) -> None:
    dataset = made(sqlite_store, ({"instruction": "Is it warm?", "response": "Yes."},) * 300)
    run_check(sqlite_store, dataset, check_from("duplicates"), tmp_path)
    (example,) = examples(sqlite_store, run_of(sqlite_store, dataset, "duplicates"))
    assert example.size == 300
    assert len(example.members) == 6
    assert would_change(sqlite_store, run_of(sqlite_store, dataset, "duplicates")) == {"reject": None, "remove": None}


def test_a_remedy_says_how_many_records_it_would_change_now(sqlite_store: Store, dataset: Dataset) -> None:
    assert would_change(sqlite_store, run_of(sqlite_store, dataset, "personal")) == {
        "mask": 1,
        "reject": 1,
        "remove": 1,
    }
    mend(sqlite_store, dataset, "personal", "mask", author="ann")
    assert would_change(sqlite_store, run_of(sqlite_store, dataset, "personal")) == {
        "mask": 0,
        "reject": 0,
        "remove": 0,
    }


def test_a_remedy_tried_on_some_records_counts_those(sqlite_store: Store, dataset: Dataset) -> None:
    copies = sqlite_store.record_ids(dataset.id)[2:4]
    assert would_change(sqlite_store, run_of(sqlite_store, dataset, "duplicates"))["remove"] == 2
    assert would_change(sqlite_store, run_of(sqlite_store, dataset, "duplicates"), copies[:1])["remove"] == 1


def test_what_can_be_looked_at_again_at_once_is(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    mend(sqlite_store, dataset, "personal", "mask", author="ann")
    assert look_again(sqlite_store, dataset, "personal", tmp_path)
    assert not state_of(sqlite_store, dataset, "personal").has_found
    assert not look_again(sqlite_store, dataset, "duplicates", tmp_path)


def test_the_job_that_looks_again_keeps_the_settings(sqlite_store: Store, dataset: Dataset, tmp_path: Path) -> None:
    run = run_check(sqlite_store, dataset, check_from("near_duplicates", {"threshold": 0.9}), tmp_path)
    assert check_again(dataset, run).settings == ("near_duplicates.threshold=0.9",)


def test_what_is_said_of_the_whole_dataset_is_counted_apart(sqlite_store: Store, tmp_path: Path) -> None:
    rows = tuple({"instruction": f"What is {n}?", "response": f"Peg {n}.", "category": "open_qa"} for n in range(120))
    rare = ({"instruction": "Sum it up.", "response": "A peg.", "category": "summarization", "context": "Pegs."},)
    dataset = made(sqlite_store, (*rows, *rare))
    run_check(sqlite_store, dataset, check_from("imbalance"), tmp_path)
    state = state_of(sqlite_store, dataset, "imbalance")
    assert (state.records, state.remarks, state.has_found) == (0, 2, True)
    assert "too few to learn much from" in remarks(sqlite_store, dataset, "imbalance")[1].note
    assert examples(sqlite_store, run_of(sqlite_store, dataset, "imbalance")) == []
