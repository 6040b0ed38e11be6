"""Records to fill in, and what growing runs and the playground brought into a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError
from studio.instructions import freeze, group_hash, split_of
from studio.instructions.checks.placeholders import Placeholders
from studio.instructions.filling_in import ToFillIn
from studio.instructions.growing import FromDocuments, Paraphrase
from studio.instructions.grown import (
    drafts_of,
    growing_run,
    growing_runs,
    kept_answer_ids,
    kept_answers,
    outcome,
)
from studio.instructions.records import GAP_ANSWER, GAP_QUESTION, insertable
from studio.store import NewDocument, NewPassage, RecordChange, Store, read_rows
from tests.instructions.growing.garden import NAME, grow, planted, records
from tests.prompts.desk import DeskRun

PASSAGES = [
    f"The {thing} of the Otter series weighs {grams} grams and comes from a workshop in the far north. It is checked by "
    "hand, and whoever returns one within two years gets another."
    for thing, grams in (("jacket", 310), ("tent", 920), ("stove", 140))
]


@pytest.fixture
def documents(sqlite_store: Store, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    for name, texts in (("gear", PASSAGES[:2]), ("stoves", PASSAGES[2:])):
        file = tmp_path / f"{name}.part"
        file.write_text("\n".join(texts), encoding="utf-8")
        passages = tuple(NewPassage(f"line {n}", text) for n, text in enumerate(texts))
        new = NewDocument(name, "txt", name.encode().hex(), sum(map(len, texts)), "en", passages)
        sqlite_store.add_document(tmp_path, file, new, author="ann")


def filled(store: Store, root: Path, **more: Any) -> dict[str, Any]:
    task = ToFillIn(dataset=NAME, **more)
    task.check(store)
    run = DeskRun(store, root, task, {})
    result = task.do(run)
    run.finish(result)
    return result


@pytest.mark.usefixtures("documents")
def test_every_passage_becomes_a_draft_with_its_text_and_gaps(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    assert filled(sqlite_store, tmp_path)["added"] == 3
    made = records(sqlite_store)
    assert [record.context for record in made] == PASSAGES
    assert {(record.instruction, record.response) for record in made} == {(GAP_QUESTION, GAP_ANSWER)}
    assert {(record.state, record.category) for record in made} == {("draft", "closed_qa")}
    # In the split of whatever else is drafted from that passage.
    assert [record.group_hash for record in made] == [group_hash("", text) for text in PASSAGES]
    assert [record.split for record in made] == [split_of(group_hash("", text)) for text in PASSAGES]


@pytest.mark.usefixtures("documents")
def test_a_passage_gets_one_record_however_often_it_is_asked_for(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    assert filled(sqlite_store, tmp_path, documents=("gear",), count=1)["left_out"] == {"surplus": 1}
    assert filled(sqlite_store, tmp_path) == {"dataset": NAME, "added": 2, "left_out": {"known": 1}, "note": ""}
    with pytest.raises(InputError, match="Each of the 3 passages has a record in gear already"):
        filled(sqlite_store, tmp_path)


def test_without_documents_nothing_is_queued(sqlite_store: Store) -> None:
    planted(sqlite_store, [])
    with pytest.raises(InputError, match="Add documents in the Playground first"):
        ToFillIn(dataset=NAME).check(sqlite_store)


@pytest.mark.usefixtures("documents")
def test_a_record_goes_into_a_snapshot_once_both_gaps_are_filled(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    filled(sqlite_store, tmp_path)
    dataset = sqlite_store.dataset(NAME)
    first, second, _ = records(sqlite_store)
    with pytest.raises(InputError, match="0 rows"):
        freeze(sqlite_store, tmp_path, dataset, author="ann")
    write = {"instruction": "How heavy is the jacket?", "response": "310 grams."}
    changes = [RecordChange(first.id, write), RecordChange(second.id, {"instruction": "How heavy is the tent?"})]
    sqlite_store.change_records(dataset.id, "Filled in", changes, author="ann")
    frozen = freeze(sqlite_store, tmp_path, dataset, author="ann")
    assert [row["response"] for row in read_rows(tmp_path, frozen)] == ["310 grams."]


@pytest.mark.usefixtures("documents")
def test_the_check_for_placeholders_finds_both_gaps(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    filled(sqlite_store, tmp_path)
    record = records(sqlite_store)[0]
    assert {finding.field for finding in Placeholders().find(record)} == {"instruction", "response"}


@pytest.mark.usefixtures("documents")
def test_a_gap_is_shown_to_no_model(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    filled(sqlite_store, tmp_path)
    with pytest.raises(InputError, match="has no record to reword"):
        grow(sqlite_store, tmp_path, Paraphrase(model="echo:", dataset=NAME), lambda _: "")


@pytest.mark.usefixtures("documents")
def test_a_run_says_what_came_of_its_drafts(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])

    def write(messages: Any) -> str:
        said = messages[-1].content
        if "Answer in one" in said:
            return "It weighs 310 grams." if "jacket" in said else "It weighs 999 grams."
        return "How heavy is the Otter?"

    grow(sqlite_store, tmp_path, FromDocuments(model="echo:", dataset=NAME, lowest_quality=0), write)
    filled(sqlite_store, tmp_path)
    dataset = sqlite_store.dataset(NAME)
    by_hand, by_model = growing_runs(sqlite_store, NAME)
    assert sqlite_store.count_records(dataset.id, drafts_of(by_model)) == 1
    found = outcome(sqlite_store, dataset, by_model)
    assert (found.drafts, found.to_review) == (1, 1)
    assert found.left_out == ((2, "a number that is not in the passage"),)
    (draft,) = sqlite_store.records(dataset.id, drafts_of(by_model))
    sqlite_store.change_records(dataset.id, "ok", [RecordChange(draft.id, {"state": "approved"})], author="ann")
    assert outcome(sqlite_store, dataset, by_model).to_review == 0
    assert outcome(sqlite_store, dataset, by_hand).drafts == 2


@pytest.mark.usefixtures("documents")
def test_a_run_of_another_dataset_is_none_of_this_one(sqlite_store: Store, tmp_path: Path) -> None:
    planted(sqlite_store, [])
    filled(sqlite_store, tmp_path)
    planted(sqlite_store, [], "other")
    (job,) = growing_runs(sqlite_store, NAME)
    assert growing_runs(sqlite_store, "other") == []
    assert growing_run(sqlite_store, str(job.id), NAME) == job
    for number in (str(job.id), "x", "99999999999"):
        with pytest.raises(InputError, match="is not the number of a growing run of other"):
            growing_run(sqlite_store, number, "other")


def test_answers_kept_in_the_playground_are_told_from_other_records(sqlite_store: Store) -> None:
    planted(sqlite_store, [{"instruction": "Mine?", "response": "Yes."}])
    dataset = sqlite_store.dataset(NAME)
    for number, source in enumerate(("answer 3 of echo:", "corrected answer 4 of echo:", "answers.csv")):
        row = insertable({"instruction": f"Question {number}?", "response": "Yes."})
        sqlite_store.add_records(dataset.id, [row], author="ann", source=source)
    assert kept_answers(sqlite_store, dataset) == 2
    kept = sqlite_store.some_records(kept_answer_ids(sqlite_store, dataset))
    assert [record.instruction for record in kept] == ["Question 0?", "Question 1?"]
