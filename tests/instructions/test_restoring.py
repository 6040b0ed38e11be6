"""Restoring: the records are as the snapshot has them, at one stroke, and no group is ever in two splits."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import Conflict, InputError
from studio.instructions import freeze
from studio.instructions.records import checked_fields, frozen_row, insertable
from studio.instructions.restoring import Plan, plan, restore, restore_as_new
from studio.store import Dataset, RecordChange, RecordFilter, Snapshot, Store, read_rows

quick = settings(deadline=None, derandomize=True, max_examples=40)


def _fields(number: int, **more: Any) -> dict[str, Any]:
    return insertable({"instruction": f"How heavy is tent {number}?", "response": f"{number} kilos."} | more)


@pytest.fixture
def gear(sqlite_store: Store) -> Dataset:
    dataset = sqlite_store.create_dataset("gear", author="ann", licence="MIT")
    sqlite_store.add_records(dataset.id, [_fields(n) for n in range(1, 6)], author="ann", source="gear.csv")
    return dataset


def _texts(store: Store, dataset: Dataset) -> Counter[str]:
    """What a snapshot would hold, without the splits."""
    return _bag(frozen_row(r) for r in store.all_records(dataset.id) if r.state != "rejected")


def _held(root: Path, snapshot: Snapshot) -> Counter[str]:
    return _bag(read_rows(root, snapshot))


def _bag(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps({**row, "split": ""}, sort_keys=True) for row in rows)


def _counts(found: Plan) -> tuple[int, int, int, int]:
    d = found.difference
    return len(d.added), len(d.changed), len(d.removed), d.same


def test_what_would_happen_is_said_before_it_does(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    snapshot = freeze(store, tmp_path, gear, author="ann")
    one, two, three, *_ = store.records(gear.id)
    store.edit_record(one.id, 1, {"response": "A tonne."}, author="ben")
    store.change_records(gear.id, "Removed", [RecordChange(two.id, {}, is_removed=True)], author="ben")
    store.change_records(gear.id, "Rejected", [RecordChange(three.id, {"state": "rejected"})], author="ben")
    store.add_records(gear.id, [_fields(9)], author="ben", source="")
    found = plan(store, tmp_path, gear, snapshot)
    assert _counts(found) == (2, 1, 1, 2)
    assert found.sentence == (
        "2 records would come back, 1 would get its earlier text, 1 would be removed, 2 stay as they are."
    )
    assert [(c.record, c.fields, c.before["response"]) for c in found.difference.changed] == [
        (one.id, ("response",), "A tonne.")
    ]
    assert {row["record"] for row in found.difference.added} == {two.id, three.id}


def test_restoring_keeps_the_ids_and_is_undone_at_one_stroke(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    snapshot = freeze(store, tmp_path, gear, author="ann")
    before = store.record_ids(gear.id)
    one, two, *_ = store.records(gear.id)
    store.edit_record(one.id, 1, {"response": "A tonne."}, author="ben")
    store.change_records(gear.id, "Removed", [RecordChange(two.id, {}, is_removed=True)], author="ben")
    store.add_records(gear.id, [_fields(9)], author="ben", source="")
    now = _texts(store, gear)
    edit = restore(store, tmp_path, gear, snapshot, author="cid")
    assert (edit.title, edit.records) == ("Restored data:gear@1", 3)
    assert store.record_ids(gear.id) == before
    assert _texts(store, gear) == _held(tmp_path, snapshot)
    assert freeze(store, tmp_path, gear, author="cid").ref == snapshot.ref
    store.undo(gear.id, author="cid")
    assert _texts(store, gear) == now
    store.redo(gear.id, author="cid")
    assert _texts(store, gear) == _held(tmp_path, snapshot)


def test_a_rejected_record_stays_and_one_that_comes_back_is_reviewed_again(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    one, two, *_ = store.records(gear.id)
    store.change_records(gear.id, "Rejected", [RecordChange(one.id, {"state": "rejected"})], author="ann")
    snapshot = freeze(store, tmp_path, gear, author="ann")
    store.change_records(gear.id, "Rejected", [RecordChange(two.id, {"state": "rejected"})], author="ann")
    assert "1 rejected or unfilled record is left as it is." in plan(store, tmp_path, gear, snapshot).sentence
    restore(store, tmp_path, gear, snapshot, author="ann")
    assert [store.record(key).state for key in (one.id, two.id)] == ["rejected", "draft"]


def test_a_record_that_a_check_moved_out_of_the_test_split_stays_out(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    snapshot = freeze(store, tmp_path, gear, author="ann")
    one = store.records(gear.id)[0]
    moved = RecordChange(one.id, {"split": "excluded", "response": "A tonne."})
    store.change_records(gear.id, "Moved", [moved], author="ann")
    restore(store, tmp_path, gear, snapshot, author="ann")
    assert (store.record(one.id).split, store.record(one.id).response) == ("excluded", "1 kilos.")


def test_a_conversation_comes_back_whole(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    turns = [
        {"role": role, "content": f"{role} {n}"} for n, role in enumerate(["user", "assistant", "user", "assistant"])
    ]
    store.add_records(gear.id, [insertable({"turns": turns})], author="ann", source="")
    talk = store.records(gear.id)[-1]
    snapshot = freeze(store, tmp_path, gear, author="ann")
    store.edit_record(
        talk.id, 1, checked_fields({"turns": [*turns[:3], {"role": "assistant", "content": "No."}]}), author="ann"
    )
    restore(store, tmp_path, gear, snapshot, author="ann")
    again = store.record(talk.id)
    assert (again.turns, again.instruction, again.response) == (turns, talk.instruction, talk.response)


def test_nothing_to_restore_is_said_and_changes_nothing(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    snapshot = freeze(sqlite_store, tmp_path, gear, author="ann")
    with pytest.raises(InputError, match="The records are as in data:gear@1 already: 5 records."):
        restore(sqlite_store, tmp_path, gear, snapshot, author="ann")


def test_what_changed_since_somebody_looked_is_not_overwritten(
    sqlite_store: Store, gear: Dataset, tmp_path: Path
) -> None:
    store = sqlite_store
    snapshot = freeze(store, tmp_path, gear, author="ann")
    one, two, *_ = store.records(gear.id)
    store.edit_record(one.id, 1, {"response": "A tonne."}, author="ann")
    seen = plan(store, tmp_path, gear, snapshot).at
    store.edit_record(two.id, 1, {"response": "Two tonnes."}, author="ben")
    with pytest.raises(Conflict, match="was changed since you looked"):
        restore(store, tmp_path, gear, snapshot, author="ann", seen=seen)
    assert store.record(two.id).response == "Two tonnes."


def test_a_purged_record_does_not_come_back(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    snapshot = freeze(store, tmp_path, gear, author="ann")
    store.purge_records(gear.id, [store.record_ids(gear.id)[0]], "Asked to.", [snapshot.ref], author="ann")
    found = plan(store, tmp_path, gear, snapshot)
    assert (found.lost, found.changes) == (1, ())
    assert "1 record of the snapshot cannot come back, as it was purged." in found.sentence


def test_a_snapshot_becomes_a_dataset_of_its_own(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    one = store.records(gear.id)[0]
    store.edit_record(one.id, 1, {"instruction": "What does the first tent weigh?"}, author="ann")
    snapshot = freeze(store, tmp_path, gear, author="ann")
    new = restore_as_new(store, tmp_path, snapshot, "gear-again", author="ben")
    assert (new.licence, store.count_records(new.id)) == ("MIT", 5)
    assert _texts(store, new) == _held(tmp_path, snapshot)
    for was, made in zip(store.all_records(gear.id), store.all_records(new.id), strict=True):
        assert (made.group_hash, made.split, made.source) == (was.group_hash, was.split, "data:gear@1")
    with pytest.raises(InputError, match="no snapshot of gear-again"):
        plan(store, tmp_path, new, snapshot)
    with pytest.raises(Conflict, match="exists already"):
        restore_as_new(store, tmp_path, snapshot, "gear-again", author="ben")


_STROKES = st.lists(
    st.tuples(
        st.sampled_from(["add", "edit", "remove", "reject", "exclude", "freeze", "restore", "undo"]),
        st.integers(0, 7),
        st.integers(1, 4),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def empty(migrated_sqlite: Path) -> Path:
    return migrated_sqlite


@quick
@given(_STROKES)
def test_whatever_was_done_a_restore_gives_the_snapshot_and_no_group_leaks(
    empty: Path, strokes: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copy(empty, root / "studio.db")
        store = Store(f"sqlite:///{root / 'studio.db'}")
        dataset = store.create_dataset("gear", author="ann")
        store.add_records(dataset.id, [_fields(n) for n in (1, 1, 2, 3)], author="ann", source="")
        frozen = [freeze(store, root, dataset, author="ann")]
        for what, which, number in strokes:
            ids = store.record_ids(dataset.id)
            key = ids[which % len(ids)] if ids else None
            try:
                if what == "restore":
                    restore(store, root, dataset, frozen[which % len(frozen)], author="ann")
                else:
                    _do(store, root, dataset, what, key, number, frozen)
            except InputError:  # nothing to undo, nothing to freeze, nothing to restore
                continue
            splits: defaultdict[str, set[str]] = defaultdict(set)
            for record in store.all_records(dataset.id):
                splits[record.group_hash].add(record.split)
            assert all(len(found - {"excluded"}) <= 1 for found in splits.values())
            if what == "restore":
                assert _texts(store, dataset) == _held(root, frozen[which % len(frozen)])
        store.close()


def _do(
    store: Store, root: Path, dataset: Dataset, what: str, key: int | None, number: int, frozen: list[Snapshot]
) -> None:
    if what == "add":
        store.add_records(dataset.id, [_fields(number, response=f"About {number}.")], author="ann", source="")
    elif what == "freeze":
        frozen.append(freeze(store, root, dataset, author="ann"))
    elif what == "undo":
        store.undo(dataset.id, author="ann")
    elif key is None:
        return
    elif what == "edit":
        fields = {"instruction": f"How heavy is tent {number}?", "response": f"{number} pounds."}
        store.edit_record(key, store.record(key).revision, fields, author="ann")
    else:
        more: dict[str, dict[str, Any]] = {"reject": {"state": "rejected"}, "exclude": {"split": "excluded"}}
        change = RecordChange(key, more.get(what, {}), is_removed=what == "remove")
        if what in ("remove", *more):
            store.change_records(dataset.id, what, [change], author="ann")


def test_a_part_of_a_dataset_comes_back_as_that_part(sqlite_store: Store, gear: Dataset, tmp_path: Path) -> None:
    store = sqlite_store
    some = tuple(store.record_ids(gear.id)[:2])
    part = freeze(store, tmp_path, gear, author="ann", where=RecordFilter(ids=some))
    restore(store, tmp_path, gear, part, author="ann")
    assert tuple(store.record_ids(gear.id)) == some
