"""The dataset page: open, page, search, edit, import and freeze, as a person does it and as a script does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args
from gradio_client import Client, handle_file

from components import dataset
from components.app import Tab, build_app
from components.dataset import importing
from components.picking import rows_to_pick
from components.uploads import uploaded
from studio.errors import InputError
from studio.example import EXAMPLE
from studio.instructions import FIELDS, edit_record
from studio.serving import owner_only
from studio.workspace import Workspace
from tests.fixtures_pages import call, open_workspace, serving
from tests.screen import Screen


class Desk(Screen):
    """The dataset tab of a workspace."""

    follows = True

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with gr.Blocks() as demo:
            self.widgets = dataset.build(workspace)
        super().__init__(demo)

    def look(self, **asked: str) -> None:
        """What opening the tab does."""
        refresh = self.widgets.refresh
        assert refresh is not None
        for key, value in asked.items():
            self.values[self.widgets.links[key]._id] = value
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)
        self.settle()

    def press(self, name: str, button: str, key: str | int) -> None:
        """A button that stands in a row."""
        listener = next(fn for fn in self.demo.fns.values() if fn.api_name == name)
        inputs = [self.values[block._id] for block in listener.inputs]
        event = gr.EventData(None, {"do": button, "key": str(key)})
        assert listener.fn is not None
        inputs, *_ = special_args(listener.fn, inputs=[event, *inputs], request=gr.Request(username="owner"))
        self._take(listener.outputs, listener.fn(*inputs))
        self.settle()

    def change(self, label: str, value: object) -> None:
        """What a script of the page writes into a hidden box."""
        key = self._find(label)
        self.values[key] = value
        self._changed.append(key)
        self.settle()

    def words_of(self, label: str) -> str:
        return self.words(self.demo.blocks[self._find(label)])

    def choices_of(self, label: str) -> list[tuple[str, str]]:
        choices: list[tuple[str, str]] = self.props[self._find(label)]["choices"]
        return choices

    def is_shown(self, elem_id: str) -> bool:
        return self.shows(next(b for b in self.demo.blocks.values() if b.elem_id == elem_id))

    @property
    def typed(self) -> dict[str, str]:
        return {name: self[name.capitalize()] for name in FIELDS if name != "category"}

    @property
    def html(self) -> str:
        return " ".join(str(v) for k, v in self.values.items() if isinstance(self.demo.blocks[k], gr.HTML))

    @property
    def message(self) -> str:
        form = next(f for f in self.demo.fns.values() if f.api_name == "save")
        return self.words(form.outputs[-3])


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.look()
    return desk


def record_ids(desk: Desk) -> list[int]:
    return [int(i) for i in re.findall(r'<tr data-key="(\d+)"', desk["Records"])]


def test_an_empty_workspace_offers_the_example(workspace: Workspace) -> None:
    desk = Desk(workspace)
    desk.look()
    assert desk["What is open"] == "empty"
    desk.do("example")
    assert desk["What is open"] == "records"
    assert desk["Dataset"] == EXAMPLE


def test_a_person_who_comes_sees_the_first_page_and_its_first_record(desk: Desk) -> None:
    assert "brackenfold" in desk["Datasets"]
    assert len(record_ids(desk)) == 50
    assert "1–50 of 264" in desk.html
    assert desk["Record"] == record_ids(desk)[0]
    assert desk["Instruction"] == desk.workspace.store.record(desk["Record"]).instruction


def test_paging_goes_to_the_last_page_and_no_further(desk: Desk) -> None:
    desk.type(page=2)
    desk.do("turn_to_next")
    assert "51–100 of 264" in desk.html
    desk.type(page=10**9)
    desk.do("turn_to_last")
    assert "251–264 of 264" in desk.html
    assert desk["Page"] == 6


def test_filters_narrow_the_table_and_start_at_its_first_page(desk: Desk) -> None:
    desk.type(page=3, split_shown="test", search_the_records="tent")
    desk.do("filter_records")
    assert desk["Page"] == 1
    store = desk.workspace.store
    for record in map(store.record, record_ids(desk)):
        assert record.split == "test"
        assert "tent" in f"{record.instruction} {record.context} {record.response}".lower()
    desk.type(search_the_records="no such words anywhere")
    desk.do("filter_records")
    assert "No record matches" in desk["Records"]


def test_an_edit_is_saved_with_its_author_and_its_history(desk: Desk) -> None:
    record = desk["Record"]
    desk.type(response="You can return it.")
    desk.do("save")
    saved = desk.workspace.store.record(record)
    assert (saved.response, saved.revision, saved.author) == ("You can return it.", 2, "owner")
    assert "Revision 2, by owner" in desk.html


def test_an_edit_is_undone_and_done_again(desk: Desk) -> None:
    before = desk["Response"]
    desk.type(response="You can return it.")
    desk.do("save")
    desk.do("undo_stroke")
    assert desk["Response"] == desk.workspace.store.record(desk["Record"]).response == before
    desk.do("redo_stroke")
    assert desk["Response"] == desk.workspace.store.record(desk["Record"]).response == "You can return it."
    with pytest.raises(gr.Error, match="nothing of yours to redo"):
        desk.do("redo_stroke")


def test_undo_stores_what_is_being_written_so_that_redo_has_it(desk: Desk) -> None:
    desk.type(response="You can return it.")
    desk.do("save")
    desk.type(response="And more.")
    desk.do("undo_stroke")
    assert desk["Response"] != "And more."
    desk.do("redo_stroke")
    assert desk["Response"] == desk.workspace.store.record(desk["Record"]).response == "And more."


def test_a_record_that_was_undone_away_leaves_the_form(desk: Desk) -> None:
    desk.do("new")
    desk.type(instruction="Do you ship abroad?", response="Yes.")
    desk.do("save")
    added = desk["Record"]
    desk.do("undo_stroke")
    assert desk["Record"] != added
    assert desk.workspace.store.count_records(desk.workspace.store.dataset(EXAMPLE).id) == 264


def test_a_conflict_is_said_and_keeps_what_was_typed(desk: Desk) -> None:
    record = desk.workspace.store.record(desk["Record"])
    fields = {name: getattr(record, name) for name in FIELDS}
    edit_record(desk.workspace.store, record.id, 1, {**fields, "response": "Theirs."}, author="ann")
    desk.type(response="Mine, and long.")
    desk.do("save")
    assert "was changed by ann" in desk.message
    assert desk["Response"] == "Mine, and long."
    desk.do("reload")
    assert desk["Response"] == "Theirs."


def test_an_empty_response_is_refused_beside_the_button(desk: Desk) -> None:
    desk.type(response="  ")
    desk.do("save")
    assert "The response is empty" in desk.message


@pytest.mark.parametrize(("name", "key"), [("step_forth", None), ("open_record", 9), ("open_dataset", EXAMPLE)])
def test_what_was_typed_is_stored_by_moving_on(desk: Desk, name: str, key: Any) -> None:
    record = desk["Record"]
    desk.type(response="Half a thought")
    desk.do(name, key)
    assert desk.workspace.store.record(record).response == "Half a thought"


@pytest.mark.parametrize(("name", "key"), [("step_forth", None), ("open_record", 9), ("open_dataset", EXAMPLE)])
def test_nobody_moves_on_from_a_text_that_cannot_be_stored(desk: Desk, name: str, key: Any) -> None:
    record = desk["Record"]
    desk.type(response=" ")
    with pytest.raises(gr.Error, match="changes that are not saved"):
        desk.do(name, key)
    assert (desk["Record"], desk["Response"]) == (record, " ")


def test_next_and_previous_walk_over_the_edge_of_a_page(desk: Desk) -> None:
    last = record_ids(desk)[-1]
    desk.do("open_record", last)
    desk.do("step_forth")
    assert desk["Page"] == 2
    assert desk["Record"] == record_ids(desk)[0] > last
    desk.do("step_back")
    assert (desk["Page"], desk["Record"]) == (1, last)


def test_before_the_first_record_there_is_none(desk: Desk) -> None:
    with pytest.raises(gr.Error, match="first record"):
        desk.do("step_back")


def test_a_new_record_is_added_and_can_be_edited_at_once(desk: Desk) -> None:
    desk.do("new")
    assert desk["Record"] is None
    assert not any(desk.typed.values())
    desk.type(instruction="Is the shop open on Sunday?", response="No. Next step: come on Monday.")
    desk.do("save")
    assert "was added to brackenfold" in desk.message
    assert desk.workspace.store.record(desk["Record"]).source == "written here"
    assert "265" in desk["Datasets"]


def test_a_link_opens_the_record_it_names(project: Workspace) -> None:
    desk = Desk(project)
    desk.look(record="77")
    assert desk["Record"] == 77


def test_the_beat_of_a_job_leaves_what_is_being_typed_alone(desk: Desk) -> None:
    desk.type(response="Half a thought")
    desk.look()
    assert desk["Response"] == "Half a thought"


def test_a_snapshot_is_taken_once_for_the_same_records(desk: Desk) -> None:
    desk.do("take_snapshot")
    assert "No record changed since data:brackenfold@1 (264 records)" in desk.html
    desk.type(response="Changed.")
    desk.do("save")
    desk.do("take_snapshot")
    assert "Snapshot data:brackenfold@2 with 264 records." in desk.html


TABLE = "Frage;Answer;Type\nHow do I reset it?;Hold the button.;faq\nAnd then?;;faq\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "help desk.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def drop(desk: Desk, path: Path) -> None:
    desk.do("open_card")
    look = next(f for f in desk.demo.fns.values() if f.api_name == "look")
    desk.values[look.inputs[0]._id] = str(path)
    desk.do("look")


def test_an_import_shows_its_rows_its_guess_and_what_was_left_out(desk: Desk, table: Path) -> None:
    drop(desk, table)
    assert desk["What is open"] == "import"
    assert "CSV with semicolons" in desk.html
    assert desk["Response column"] == "Answer"
    assert desk["Instruction column"] is None
    assert desk["Into dataset"] == "help-desk"
    with pytest.raises(gr.Error, match="mapped to 'instruction'"):
        desk.do("import_file")
    assert [d.name for d in desk.workspace.store.datasets()] == [EXAMPLE]

    desk.type(instruction_column="Frage")
    desk.do("import_file")
    assert "1 record was imported into help-desk. 1 row was left out" in desk.html
    assert "The response is empty" in desk.html
    desk.do("show_imported")
    assert (desk["What is open"], desk["Dataset"]) == ("records", "help-desk")


def test_a_large_file_becomes_a_job_and_its_dataset_can_be_watched(
    desk: Desk, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_QUICK_BYTES", 1)
    drop(desk, table)
    with pytest.raises(gr.Error, match="mapped to 'instruction'"):
        desk.do("import_file")
    assert [d.name for d in desk.workspace.store.datasets()] == [EXAMPLE]
    assert desk.workspace.store.jobs() == []

    desk.type(instruction_column="Frage")
    desk.do("import_file")
    (job,) = desk.workspace.store.jobs()
    assert (job.kind, job.state, job.task["dataset"]) == ("import", "queued", "help-desk")
    assert f"job {job.id} takes it in" in desk.html
    desk.do("show_imported")
    assert (desk["What is open"], desk["Dataset"]) == ("records", "help-desk")


def test_a_file_in_a_known_shape_asks_for_no_columns(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    turns = [{"role": "user", "content": "Is it dry?"}, {"role": "assistant", "content": "Not yet."}]
    file.write_text(json.dumps({"messages": [*turns, *turns]}) + "\n", encoding="utf-8")
    drop(desk, file)
    assert "in the shape of OpenAI chat" in desk.html
    desk.do("import_file")
    (record,) = desk.workspace.store.all_records(desk.workspace.store.dataset("talks").id)
    assert [turn["content"] for turn in record.turns or []] == ["Is it dry?", "Not yet."] * 2


def test_rows_of_a_table_cannot_carry_a_script() -> None:
    said = rows_to_pick('a"b', ("<i>",), [('"><script>', ("&lt;b&gt;",))])
    assert "<script>" not in said
    assert "<i>" not in said


# -- scripts -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, example_folder: Path) -> Iterator[tuple[Client, Workspace]]:
    folder = tmp_path_factory.mktemp("dataset")
    shutil.copytree(example_folder, folder / "acme")
    workspace = open_workspace(folder)
    with serving(build_app(workspace, owner_only, (Tab("dataset", "Dataset", dataset.build),))) as url:
        yield Client(url, verbose=False), workspace


def test_a_script_reads_saves_and_freezes(studio: tuple[Client, Workspace]) -> None:
    client, _ = studio
    page = client.predict(dataset=EXAMPLE, page=2, api_name="/dataset_page")
    assert (page["first"], page["last"], page["total"]) == (51, 100, 264)
    row = page["records"][0]
    texts = {name: row[name] for name in FIELDS}
    saved = client.predict(
        **{**texts, "response": "Changed."}, record=row["id"], revision=row["revision"], api_name="/save_record"
    )
    assert saved["revision"] == row["revision"] + 1
    with pytest.raises(Exception, match="was changed by owner"):
        client.predict(**texts, record=row["id"], revision=row["revision"], api_name="/save_record")
    assert client.predict(dataset=EXAMPLE, api_name="/freeze_snapshot") == {
        "snapshot": "data:brackenfold@2",
        "rows": 264,
        "is_new": True,
    }
    assert not client.predict(dataset=EXAMPLE, api_name="/freeze_snapshot")["is_new"]


def test_a_script_imports_a_file(studio: tuple[Client, Workspace], table: Path) -> None:
    client, workspace = studio
    told = client.predict(
        file=handle_file(str(table)),
        dataset="help-desk",
        instruction="Frage",
        response="Answer",
        category="Type",
        api_name="/import_records",
    )
    assert told["added"] == 1
    assert [(row["row"], row["column"]) for row in told["left_out"]] == [(2, "Answer")]
    assert workspace.store.dataset("help-desk").author == "owner"


def test_a_script_cannot_import_a_file_of_the_server(studio: tuple[Client, Workspace]) -> None:
    client, workspace = studio
    stolen = {"path": str(workspace.path / "studio.db"), "meta": {"_type": "gradio.FileData"}}
    event, _ = call(client.src, "import_records", stolen, "stolen", "a", "b", "", "", "")
    assert event == "error"
    with pytest.raises(InputError, match="was not uploaded"):
        uploaded(stolen)
