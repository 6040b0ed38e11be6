"""Comparing snapshots: every record of either side is in one place, and the counts add up."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError, StorageError
from studio.instructions import comparing, freeze, group_hash
from studio.instructions.comparing import Difference, compare, compare_snapshots, compare_with_now, shown
from studio.instructions.records import insertable
from studio.specs import SnapshotRef
from studio.store import RecordChange, Snapshot, Store

quick = settings(deadline=None, derandomize=True, max_examples=60)

Row = dict[str, Any]


def _row(number: int, *, ids: bool = True, **more: Any) -> Row:
    instruction = f"How heavy is tent {number}?"
    row = {"instruction": instruction, "context": "", "response": f"{number} kilos.", "category": "open_qa"}
    row |= {"split": "train", "group": group_hash(instruction, "")}
    return row | ({"record": number} if ids else {}) | more


def _counts(found: Difference) -> tuple[int, int, int, int, int]:
    return len(found.added), len(found.removed), len(found.changed), len(found.moved), found.same


def test_two_equal_snapshots_are_alike() -> None:
    rows = [_row(n) for n in range(1, 6)]
    found = compare(rows, reversed(rows))
    assert _counts(found) == (0, 0, 0, 0, 5)
    assert found.sentence == "The two are alike: 5 records."


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without"])
def test_what_was_added_removed_changed_and_moved_is_found(ids: bool) -> None:
    before = [_row(n, ids=ids) for n in range(1, 6)]
    after = [
        before[0],
        before[1] | {"response": "2.5 kilos."},
        before[2] | {"split": "excluded"},
        before[3] | {"category": "closed_qa", "split": "excluded"},
        _row(9, ids=ids),
    ]
    found = compare(before, after)
    assert found.added == (after[4],)
    assert found.removed == (before[4],)
    assert [(change.before, change.after, change.fields) for change in found.changed] == [
        (before[1], after[1], ("response",)),
        (before[3], after[3], ("category",)),
    ]
    assert found.moves == {("train", "excluded"): 2}
    assert found.fields == {"response": 1, "category": 1}
    assert found.same == 1
    assert found.sentence == (
        "1 added, 1 removed, 2 changed, 2 moved between splits (2 from train to excluded), 1 as they were."
    )


def test_a_record_keeps_its_id_however_much_of_it_changes() -> None:
    other = _row(2)
    found = compare([_row(1), other], [other, _row(1, instruction="Quite another question?", group="0" * 64)])
    assert _counts(found) == (0, 0, 1, 0, 1)
    assert found.changed[0].record == 1


def test_a_restored_snapshot_with_new_ids_is_the_same() -> None:
    before = [_row(n) for n in range(1, 50)]
    after = [row | {"record": row["record"] + 1000} for row in before]
    assert _counts(compare(before, after)) == (0, 0, 0, 0, 49)


def test_an_edited_question_is_found_by_the_group_it_was_born_into() -> None:
    before = [_row(1, ids=False)]
    after = [before[0] | {"instruction": "What does tent 1 weigh?"}]
    found = compare(before, after)
    assert [change.fields for change in found.changed] == [("instruction",)]


def test_of_several_answers_to_one_question_the_most_alike_belong_together() -> None:
    said = ["It weighs two kilos with all its poles.", "Nobody knows what it weighs.", "Ask the maker of the tent."]
    before = [_row(1, ids=False, response=text) for text in said]
    after = [_row(1, ids=False, response=text + " Sorry!") for text in reversed(said)]
    found = compare(before, after)
    assert {(c.before["response"], c.after["response"]) for c in found.changed} == {(t, t + " Sorry!") for t in said}


def test_a_repeated_text_does_not_seem_to_move() -> None:
    twin = _row(1, ids=False, split="test")
    before = [_row(1, ids=False), twin]
    found = compare(before, [twin, _row(1, ids=False)])
    assert _counts(found) == (0, 0, 0, 0, 2)
    assert compare(before, [twin]).removed == (before[0],)


def test_turns_and_licences_are_compared_and_shown_as_text() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    before, after = _row(1, turns=turns), _row(1, turns=[*turns, {"role": "user", "content": "Bye"}], licence="MIT")
    (change,) = compare([before], [after]).changed
    assert change.fields == ("turns", "licence")
    assert shown(after)["turns"] == "user: Hi\n\nassistant: Yes?\n\nuser: Bye"
    assert shown(before)["licence"] == ""


def test_without_groups_or_ids_an_edit_is_a_removal_and_an_addition() -> None:
    before = [{"instruction": "A?", "response": "a"}]
    assert _counts(compare(before, [{"instruction": "A?", "response": "b"}])) == (1, 1, 0, 0, 0)


def _with_own_ids(rows: list[Row]) -> list[Row]:
    """No two records of a snapshot share an id."""
    seen: set[int] = set()
    found: list[Row] = []
    for row in rows:
        key = row.get("record")
        found.append({**row, "record": None} if key in seen else row)
        seen |= {key} if key else set()
    return found


_ROWS = st.lists(
    st.builds(
        lambda number, key, response, split: (
            _row(number, ids=False, response=response, split=split) | ({"record": key} if key else {})
        ),
        st.integers(1, 4),
        st.none() | st.integers(1, 8),
        st.sampled_from(["one.", "two kilos.", "two and a half kilos.", ""]),
        st.sampled_from(["train", "test"]),
    ),
    max_size=12,
).map(_with_own_ids)


def _bag(rows: Any) -> Counter[str]:
    return Counter(repr(sorted(row.items(), key=str)) for row in rows)


@quick
@given(_ROWS, _ROWS)
def test_every_record_of_either_side_is_in_exactly_one_place(before: list[Row], after: list[Row]) -> None:
    found = compare(before, after)
    touched = {id(change): change for change in (*found.changed, *found.moved)}
    changes = {(id(c.before), id(c.after)): c for c in touched.values()}.values()
    assert len(before) == len(found.removed) + len(changes) + found.same
    assert len(after) == len(found.added) + len(changes) + found.same
    assert _bag([*found.removed, *(c.before for c in changes)]) <= _bag(before)
    assert _bag([*found.added, *(c.after for c in changes)]) <= _bag(after)


@quick
@given(_ROWS, _ROWS)
def test_there_and_back_are_the_same_changes(before: list[Row], after: list[Row]) -> None:
    there, back = compare(before, after), compare(after, before)
    assert (len(there.added), len(there.removed), there.same) == (len(back.removed), len(back.added), back.same)


def _touched(row: Row) -> Row:
    return row | {"response": row["response"] + " About."}


@pytest.mark.parametrize(
    "change",
    [
        _touched,
        lambda row: row | {"record": -row["record"]},
        lambda row: row | {"record": None, "group": "one", "response": "x"},
    ],
    ids=["edited", "new ids", "one group"],
)
def test_a_hundred_thousand_rows_are_compared_in_seconds(change: Callable[[Row], Row]) -> None:
    before = [_row(n) for n in range(1, 100_001)]
    after = [change(row) for row in before]
    random.Random(1).shuffle(after)
    start = time.process_time()
    found = compare(before, after)
    assert time.process_time() - start < 15
    assert len(found.removed) + len(found.changed) + found.same == 100_000


# -- in files --------------------------------------------------------------------------------------------------------


def _frozen(root: Path, name: str, rows: list[Row]) -> Snapshot:
    """A snapshot's file, and what its row would say."""
    data = b"".join(json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)
    (root / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Snapshot(1, SnapshotRef("data:gear@1"), "data", "gear", 1, len(rows), digest, name, "", "ann", 0.0)


@quick
@given(_ROWS, _ROWS)
def test_files_are_compared_as_their_rows_are(before: list[Row], after: list[Row]) -> None:
    plain = [{**row, "record": None} for row in before], [{**row, "record": None} for row in after]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = compare_snapshots(root, _frozen(root, "before", plain[0]), _frozen(root, "after", plain[1]))
    expected = compare(*plain)
    assert (len(found.added), len(found.removed)) == (len(expected.added), len(expected.removed))
    assert (len(found.changed), found.same) == (len(expected.changed), expected.same)


def test_a_snapshot_is_compared_with_the_records_as_they_are(sqlite_store: Store, tmp_path: Path) -> None:
    store = sqlite_store
    dataset = store.create_dataset("gear", author="ann")
    rows = [insertable({"instruction": f"How heavy is tent {n}?", "response": "Two kilos."}) for n in range(4)]
    store.add_records(dataset.id, rows, author="ann", source="")
    before = freeze(store, tmp_path, dataset, author="ann")
    one, two, *_ = store.records(dataset.id)
    store.edit_record(one.id, 1, {"response": "A tonne."}, author="ann")
    store.change_records(dataset.id, "Rejected", [RecordChange(two.id, {"state": "rejected"})], author="ann")
    found = compare_with_now(store, tmp_path, before, dataset)
    assert _counts(found) == (0, 1, 1, 0, 2)


def test_a_file_that_was_changed_is_not_compared(tmp_path: Path) -> None:
    snapshot = _frozen(tmp_path, "gear.jsonl", [_row(1)])
    path = tmp_path / snapshot.path
    path.write_text(path.read_text().replace("kilos", "pounds"))
    with pytest.raises(StorageError, match="was changed after it was frozen"):
        compare_snapshots(tmp_path, snapshot, snapshot)


def test_more_differences_than_the_memory_should_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_MOST_DIFFERENT", 3)
    before = _frozen(tmp_path, "before", [_row(n) for n in range(5)])
    after = _frozen(tmp_path, "after", [_row(n, response="x") for n in range(5)])
    with pytest.raises(InputError, match="More than 3 records differ"):
        compare_snapshots(tmp_path, before, after)
