"""Rows that an import left out: kept with what could be read of them, mended into records, or let go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.instructions import import_file, import_into, preview
from studio.instructions.import_task import ImportRecords
from studio.instructions.importing import Reading, server_file, server_files
from studio.instructions.mending import cells_left, fields_to_mend, is_cut, leave_out, mend, waiting
from studio.store import Dataset, LeftOutRow, Store
from tests.prompts.desk import DeskRun

COLUMNS = {"instruction": "Frage", "response": "Answer", "category": "Type"}
TABLE = "Frage;Answer;Type;Remark\nWhere is it?;Here.;faq;\nAnd then?;;faq;by Ann\n;Yes.;faq;\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "help desk.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def imported(store: Store, path: Path) -> tuple[Dataset, list[LeftOutRow]]:
    import_into(store, "help", path, COLUMNS, author="ann")
    dataset = store.dataset("help")
    return dataset, list(waiting(store, dataset).rows)


def test_rows_left_out_wait_with_their_file_their_reason_and_their_cells(sqlite_store: Store, table: Path) -> None:
    dataset, rows = imported(sqlite_store, table)
    assert [(row.row, row.column) for row in rows] == [(2, "Answer"), (3, "Frage")]
    assert rows[0].cells == {"instruction": "And then?", "response": "", "category": "faq", "Remark": "by Ann"}
    assert waiting(sqlite_store, dataset).files == {rows[0].edit_id: "help desk.csv"}
    assert "The response is empty" in rows[0].reason


def test_an_import_is_one_stroke_that_says_its_file(sqlite_store: Store, table: Path) -> None:
    import_file(sqlite_store, sqlite_store.create_dataset("a", author="ann"), table, COLUMNS, author="ann")
    edit = sqlite_store.next_undo(sqlite_store.dataset("a").id, "ann")
    assert edit is not None
    assert (edit.title, edit.records) == ("Imported help desk.csv", 1)


def test_which_column_was_which_need_not_be_told_again(sqlite_store: Store, table: Path, tmp_path: Path) -> None:
    _, (first, _) = imported(sqlite_store, table)
    fields = fields_to_mend(sqlite_store, tmp_path, first)
    assert fields == {"instruction": "And then?", "context": "", "response": "", "category": "faq"}
    assert cells_left(first, fields) == {"Remark": "by Ann"}


def test_columns_that_were_told_crosswise_stay_crosswise(sqlite_store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("response,instruction,context\nA?,a.,\nB?,,x\n", encoding="utf-8")
    import_into(sqlite_store, "a", file, {"instruction": "response", "response": "context"}, author="ann")
    row = waiting(sqlite_store, sqlite_store.dataset("a")).rows[0]
    assert row.cells == {"instruction": "A?", "instruction (not used)": "a.", "response": ""}


def test_the_job_that_took_a_file_in_knows_which_column_was_which(
    sqlite_store: Store, table: Path, tmp_path: Path
) -> None:
    reading = preview(table).mapped(COLUMNS)
    run = DeskRun(sqlite_store, tmp_path, ImportRecords(dataset="help", path=table, reading=reading), {})
    run.output.mkdir(parents=True)
    run.finish(ImportRecords(dataset="help", path=table, reading=reading).do(run))
    first = waiting(sqlite_store, sqlite_store.dataset("help")).rows[0]
    assert fields_to_mend(sqlite_store, tmp_path, first)["instruction"] == "And then?"


def test_of_a_conversation_the_first_question_and_the_last_answer_can_be_mended(
    sqlite_store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "talks.jsonl"
    turns = [{"role": "user", "content": "Is it dry?"}, {"role": "assistant", "content": "Yes."}]
    lines = [{"messages": turns}, {"messages": turns[:1]}]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    import_into(sqlite_store, "talks", file, Reading(), author="ann")
    (row,) = waiting(sqlite_store, sqlite_store.dataset("talks")).rows
    fields = fields_to_mend(sqlite_store, tmp_path, row)
    assert (fields["instruction"], fields["response"]) == ("Is it dry?", "")


def test_a_mended_row_is_a_record_of_its_file_and_waits_no_longer(sqlite_store: Store, table: Path) -> None:
    dataset, (first, second) = imported(sqlite_store, table)
    mend(sqlite_store, first.id, {"instruction": "And then?", "response": "Wait."}, author="ben")
    record = list(sqlite_store.all_records(dataset.id))[-1]
    assert (record.instruction, record.response, record.source, record.author) == (
        "And then?", "Wait.", "help desk.csv", "ben",
    )  # fmt: skip
    assert waiting(sqlite_store, dataset).rows == (second,)


def test_a_row_is_mended_once_however_often_somebody_presses(sqlite_store: Store, table: Path) -> None:
    dataset, (first, _) = imported(sqlite_store, table)
    fields = {"instruction": "And then?", "response": "Wait."}
    mend(sqlite_store, first.id, fields, author="ben")
    with pytest.raises(Conflict, match="Row 2 was mended or left out by somebody meanwhile"):
        mend(sqlite_store, first.id, fields, author="ann")
    assert sqlite_store.count_records(dataset.id) == 2


def test_a_row_that_still_cannot_be_a_record_goes_on_waiting(sqlite_store: Store, table: Path) -> None:
    dataset, (first, _) = imported(sqlite_store, table)
    with pytest.raises(InputError, match="The response is empty"):
        mend(sqlite_store, first.id, {"instruction": "And then?", "response": " "}, author="ben")
    assert waiting(sqlite_store, dataset).total == 2


def test_a_row_that_is_let_go_is_gone_from_the_list(sqlite_store: Store, table: Path) -> None:
    dataset, (first, _) = imported(sqlite_store, table)
    leave_out(sqlite_store, first.id)
    assert waiting(sqlite_store, dataset).total == 1
    with pytest.raises(Conflict):
        leave_out(sqlite_store, first.id)
    with pytest.raises(NotFound):
        leave_out(sqlite_store, 999)


def test_a_row_too_long_to_be_kept_whole_says_so(sqlite_store: Store, tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text(f"instruction,response\nA?,B.\n{'x' * 30_000},\n", encoding="utf-8")
    import_into(sqlite_store, "long", file, Reading(), author="ann")
    (row,) = waiting(sqlite_store, sqlite_store.dataset("long")).rows
    assert is_cut(row)


# -- files on the server -----------------------------------------------------------------------------------------


def test_only_tables_in_the_folder_for_imports_are_offered(tmp_path: Path) -> None:
    assert server_files(tmp_path) == []
    (tmp_path / "secret.csv").write_text("a,b\n")
    (tmp_path / "imports" / "old").mkdir(parents=True)
    for name in ("big.jsonl", "old/a.csv", "notes.docx"):
        (tmp_path / "imports" / name).write_text("{}")
    (tmp_path / "imports" / "link.csv").symlink_to(tmp_path / "secret.csv")
    assert server_files(tmp_path) == ["big.jsonl", "old/a.csv"]
    assert server_file(tmp_path, "old/a.csv") == tmp_path / "imports" / "old" / "a.csv"


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "link.csv", "", "a\x00.csv"])
def test_a_file_elsewhere_on_the_server_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "imports").mkdir()
    (tmp_path / "secret.csv").write_text("a,b\n")
    (tmp_path / "imports" / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(InputError, match="lies outside of the folder 'imports'"):
        server_file(tmp_path, name)


def test_a_file_that_is_not_in_the_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no file 'new\.csv'"):
        server_file(tmp_path, "new.csv")
