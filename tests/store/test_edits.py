"""Editing: undo and redo give back every byte, strokes are whole, and nobody overwrites anybody in silence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from studio.errors import Conflict, NotFound
from studio.store import Dataset, Record, RecordChange, RecordFilter, Store
from tests.store.rows import record_row


@pytest.fixture
def dataset(store: Store) -> Dataset:
    made = store.create_dataset("gear", author="ann")
    store.add_records(made.id, map(record_row, range(5)), author="ann", source="test")
    return made


def texts(store: Store, dataset: Dataset) -> list[tuple[Any, ...]]:
    """All of the records that a person would call their content."""
    return [
        (r.id, r.instruction, r.context, r.response, r.category, r.turns, r.state, r.split, r.letters)
        for r in store.all_records(dataset.id)
    ]


def change(record: Record, **fields: Any) -> RecordChange:
    return RecordChange(record.id, fields, record.revision)


def test_a_stroke_over_many_records_is_undone_and_redone_as_one(store: Store, dataset: Dataset) -> None:
    before = texts(store, dataset)
    records = store.records(dataset.id)
    edit = store.change_records(dataset.id, "Made brief", [change(r, response="Yes.") for r in records], author="ben")
    assert (edit.kind, edit.records, edit.title) == ("change", 5, "Made brief")
    after = texts(store, dataset)
    assert store.undo(dataset.id, author="ben").title == "Made brief"
    assert texts(store, dataset) == before
    assert store.redo(dataset.id, author="ben").title == "Made brief"
    assert texts(store, dataset) == after
    store.undo(dataset.id, author="ben")
    assert texts(store, dataset) == before


def test_a_record_that_changed_meanwhile_stops_the_whole_stroke(store: Store, dataset: Dataset) -> None:
    records = store.records(dataset.id)
    store.edit_record(records[3].id, 1, {"response": "Mine."}, author="cem")
    before = texts(store, dataset)
    with pytest.raises(Conflict, match=rf"Record {records[3].id} was changed by cem meanwhile\. Nothing was changed"):
        store.change_records(dataset.id, "All", [change(r, response="Theirs.") for r in records], author="ben")
    assert texts(store, dataset) == before
    assert store.next_undo(dataset.id, "ben") is None


def test_what_a_form_saved_within_a_minute_is_undone_and_redone_at_once(store: Store, dataset: Dataset) -> None:
    before = texts(store, dataset)
    key = store.records(dataset.id)[1].id
    for revision, text in enumerate(("It", "It wei", "It weighs one kilo."), 1):
        store.edit_record(key, revision, {"response": text}, author="ann", within=60)
    after = texts(store, dataset)
    assert [h["fields"]["response"] for h in store.record_history(key)][:2] == ["It wei", "It"]  # nothing is lost
    assert store.undo(dataset.id, author="ann").records == 1
    assert texts(store, dataset) == before
    store.redo(dataset.id, author="ann")
    assert texts(store, dataset) == after
    store.undo(dataset.id, author="ann")
    store.edit_record(key, store.record(key).revision, {"response": "Other."}, author="ann", within=60)
    store.undo(dataset.id, author="ann")
    assert texts(store, dataset) == before


def test_writing_goes_on_only_where_nobody_did_anything_else(store: Store, dataset: Dataset) -> None:
    one, two = store.records(dataset.id)[:2]

    def write(record: Record, text: str, author: str = "ann", within: float = 60) -> None:
        now_there = store.record(record.id).revision
        store.edit_record(record.id, now_there, {"response": text}, author=author, within=within)

    write(one, "a")
    write(two, "b")
    write(one, "c")
    write(one, "d", author="ben")
    write(one, "e")
    write(one, "f", within=0)
    assert [e.author for e in store.edits(dataset.id, limit=6)] == ["ann", "ann", "ben", "ann", "ann", "ann"]
    write(one, "g", author="cem")
    with pytest.raises(Conflict, match=rf"record {one.id} was changed by cem since"):
        store.undo(dataset.id, author="ann")


def test_somebody_elses_later_change_stops_the_undo_of_a_long_stroke(store: Store, dataset: Dataset) -> None:
    key = store.records(dataset.id)[0].id
    for revision, text in enumerate(("One", "One and two"), 1):
        store.edit_record(key, revision, {"response": text}, author="ann", within=60)
    store.edit_record(key, 3, {"response": "Mine."}, author="ben")
    with pytest.raises(Conflict, match=rf"record {key} was changed by ben since"):
        store.undo(dataset.id, author="ann")
    store.undo(dataset.id, author="ben")
    store.undo(dataset.id, author="ann")
    assert store.record(key).response == record_row(0)["response"]


def test_removed_records_come_back_with_undo(store: Store, dataset: Dataset) -> None:
    before = texts(store, dataset)
    gone = [RecordChange(r.id, {}, r.revision, is_removed=True) for r in store.records(dataset.id)[:2]]
    assert store.change_records(dataset.id, "Removed 2 records", gone, author="ann").kind == "remove"
    assert len(texts(store, dataset)) == 3
    with pytest.raises(NotFound):
        store.record(gone[0].record_id)
    store.undo(dataset.id, author="ann")
    assert texts(store, dataset) == before


def test_an_import_is_undone_as_one_and_comes_back(store: Store, dataset: Dataset) -> None:
    edit = store.begin_edit(dataset.id, "add", "Imported shop.csv", author="ben")
    for part in (range(10, 13), range(13, 15)):
        store.add_records(dataset.id, map(record_row, part), author="ben", source="shop.csv", edit=edit)
    after = texts(store, dataset)
    assert len(after) == 10
    undone = store.undo(dataset.id, author="ben")
    assert (undone.id, undone.records) == (edit, 5)
    assert len(texts(store, dataset)) == 5
    store.redo(dataset.id, author="ben")
    assert texts(store, dataset) == after


def test_an_import_is_not_undone_over_somebodys_work(store: Store, dataset: Dataset) -> None:
    store.edit_record(store.records(dataset.id)[0].id, 1, {"response": "Better."}, author="ben")
    with pytest.raises(Conflict, match=r"cannot be undone: record \d+ was changed by ben since"):
        store.undo(dataset.id, author="ann")
    assert len(texts(store, dataset)) == 5


def test_an_edit_is_not_undone_over_somebodys_later_one(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    second = store.edit_record(record.id, 1, {"response": "Ben's."}, author="ben")
    store.edit_record(record.id, second.revision, {"response": "Cem's."}, author="cem")
    with pytest.raises(Conflict, match="was changed by cem since"):
        store.undo(dataset.id, author="ben")
    assert store.record(record.id).response == "Cem's."


def test_each_person_undoes_their_own(store: Store, dataset: Dataset) -> None:
    first, second, *_ = store.records(dataset.id)
    store.edit_record(first.id, 1, {"response": "Ben's."}, author="ben")
    store.edit_record(second.id, 1, {"response": "Cem's."}, author="cem")
    store.undo(dataset.id, author="ben")
    assert store.record(first.id).response == first.response
    assert store.record(second.id).response == "Cem's."
    with pytest.raises(NotFound, match="nothing of yours to undo"):
        store.undo(dataset.id, author="dia")


def test_what_is_done_after_an_undo_ends_the_redo(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    store.edit_record(record.id, 1, {"response": "One."}, author="ben")
    store.undo(dataset.id, author="ben")
    assert store.next_redo(dataset.id, "ben") is not None
    store.edit_record(record.id, store.record(record.id).revision, {"response": "Two."}, author="ben")
    assert store.next_redo(dataset.id, "ben") is None
    with pytest.raises(NotFound, match="nothing of yours to redo"):
        store.redo(dataset.id, author="ben")


def test_history_names_every_version_also_those_that_were_undone(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    store.edit_record(record.id, 1, {"response": "New."}, author="ben")
    store.undo(dataset.id, author="ben")
    told = [(h["revision"], h["fields"]["response"]) for h in store.record_history(record.id)]
    assert told == [(2, "New."), (1, record.response)]


def test_comments_are_kept_in_order(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    store.comment(record.id, "Is this right?", author="ann")
    store.comment(record.id, "Yes, see the manual.", author="ben")
    assert [(c.author, c.text) for c in store.comments(record.id)] == [
        ("ann", "Is this right?"),
        ("ben", "Yes, see the manual."),
    ]


def test_every_write_moves_the_datasets_token(store: Store, dataset: Dataset) -> None:
    record = store.records(dataset.id)[0]
    seen = [store.dataset("gear").change]
    for write in (
        lambda: store.edit_record(record.id, 1, {"response": "New."}, author="ann"),
        lambda: store.undo(dataset.id, author="ann"),
        lambda: store.redo(dataset.id, author="ann"),
        lambda: store.comment(record.id, "Well", author="ann"),
        lambda: store.add_records(dataset.id, [record_row()], author="ann", source="test"),
        lambda: store.save_filter(dataset.id, "mine", RecordFilter(author="ann"), author="ann"),
    ):
        write()
        seen.append(store.dataset("gear").change)
    assert seen == sorted(set(seen))


def test_undo_and_redo_are_each_others_inverse_whatever_is_done(migrated_sqlite):
    Desk.template = migrated_sqlite
    run_state_machine_as_test(
        Desk,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class Desk(RuleBasedStateMachine):
    """One person edits; a model of the undo stack says what has to be there."""

    template: Any

    @initialize()
    def open(self) -> None:
        import shutil
        import tempfile
        from pathlib import Path

        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "studio.db")
        self.store = Store(f"sqlite:///{self.folder / 'studio.db'}")
        self.dataset = self.store.create_dataset("desk", author="ann")
        self.store.add_records(self.dataset.id, map(record_row, range(4)), author="import", source="test")
        self.done: list[Any] = [texts(self.store, self.dataset)]
        self.undone: list[Any] = []
        self.writing: int | None = None  # the record that the last stroke of all wrote in

    def _did(self, writing: int | None = None, *, goes_on: bool = False) -> None:
        if (now := texts(self.store, self.dataset)) != self.done[-1]:
            if goes_on:
                self.done.pop()
            self.done.append(now)
            self.undone.clear()
            self.writing = writing

    @rule(number=st.integers(0, 3), text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
    def edit(self, number: int, text: str) -> None:
        records = self.store.records(self.dataset.id)
        if number < len(records):
            record = records[number]
            self.store.edit_record(record.id, record.revision, {"response": text}, author="ann")
            self._did(record.id)

    @rule(number=st.integers(0, 1), text=st.sampled_from(["", "a", "b"]))
    def write_on(self, number: int, text: str) -> None:
        records = self.store.records(self.dataset.id)
        if number < len(records):
            record = records[number]
            self.store.edit_record(record.id, record.revision, {"response": text}, author="ann", within=3600)
            self._did(record.id, goes_on=self.writing == record.id)

    @rule(state=st.sampled_from(["approved", "rejected"]))
    def review_all(self, state: str) -> None:
        changes = [change(r, state=state) for r in self.store.records(self.dataset.id) if r.state != state]
        if changes:
            self.store.change_records(self.dataset.id, state, changes, author="ann")
            self._did()

    @rule()
    def remove_first(self) -> None:
        for record in self.store.records(self.dataset.id)[:1]:
            gone = RecordChange(record.id, {}, record.revision, is_removed=True)
            self.store.change_records(self.dataset.id, "Removed", [gone], author="ann")
            self._did()

    @rule()
    def add(self) -> None:
        self.store.add_records(self.dataset.id, [record_row(9)], author="ann", source="test")
        self._did()

    @rule()
    def undo(self) -> None:
        if len(self.done) > 1:
            self.store.undo(self.dataset.id, author="ann")
            self.writing = None
            self.undone.append(self.done.pop())
        else:
            assert self.store.next_undo(self.dataset.id, "ann") is None

    @rule()
    def redo(self) -> None:
        if self.undone:
            self.store.redo(self.dataset.id, author="ann")
            self.writing = None
            self.done.append(self.undone.pop())
        else:
            assert self.store.next_redo(self.dataset.id, "ann") is None

    @invariant()
    def everything_is_as_it_was(self) -> None:
        assert texts(self.store, self.dataset) == self.done[-1]

    def teardown(self) -> None:
        import shutil

        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)
