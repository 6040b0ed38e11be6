"""The page Grow: drafts by a model, passages to fill in, rows to mend, and answers kept in the playground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components.dataset import grow
from components.dataset.shared import asked, shared_by_pages
from studio.errors import InputError
from studio.example import EXAMPLE
from studio.instructions import import_into
from studio.instructions.filling_in import ToFillIn
from studio.instructions.growing import FromDocuments, Paraphrase, SelfInstruct
from studio.instructions.records import GAP_ANSWER, insertable
from studio.specs import ModelRef
from studio.store import RecordFilter
from studio.workspace import Workspace
from tests.prompts.desk import Answering, DeskRun
from tests.screen import Screen

ECHO = ModelRef("echo:")


class Growth(Screen):
    """The page of a workspace, with a dataset open."""

    follows = True

    def __init__(self, workspace: Workspace, name: str = EXAMPLE) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            refresh = grow.build(shared_by_pages(workspace, name)).refresh
        assert refresh is not None
        self.refresh = refresh
        super().__init__(demo)
        self.look()

    def look(self) -> None:
        """What opening the page does, and every beat after it."""
        answer = self.refresh.fn(*(self.values[block._id] for block in self.refresh.inputs))
        for block, value in zip(self.refresh.outputs, answer, strict=True):
            self._update(block, value)
        self.settle()

    def press(self, way: str) -> None:
        """Choose a way, as a person does."""
        self.values[self._find("How to grow the dataset")] = way
        self.do("grow_way")

    def sees(self, label: str) -> bool:
        return bool(self.visible[self._find(label)])

    @property
    def html(self) -> str:
        return " ".join(str(v) for k, v in self.values.items() if isinstance(self.demo.blocks[k], gr.HTML))

    @property
    def asked(self) -> RecordFilter:
        return asked(self["Records asked for"])


@pytest.fixture
def page(project: Workspace) -> Growth:
    return Growth(project)


def do_job(page: Growth, task: Any, says: str = "") -> None:
    """A run from its start to its end."""
    run = DeskRun(page.store, page.workspace.path, task, {ECHO: Answering(ECHO, lambda _: says)})
    run.finish(task.do(run))


# -- runs --------------------------------------------------------------------------------------------------------


def test_a_run_is_queued_as_the_form_says_and_is_open_at_once(page: Growth) -> None:
    assert page["Model that drafts"].startswith("embedded:")
    page.type(drafts=12, category_to_grow="open_qa", temperature=1.2, examples_shown=3)
    page.do("grow_start")
    (job,) = page.store.jobs()
    told = SelfInstruct.model_validate(job.task)
    assert (job.kind, job.state, told.dataset) == ("self-instruct", "queued", EXAMPLE)
    assert (told.count, told.category, told.temperature, told.shown) == (12, "open_qa", 1.2, 3)
    assert page["Open growing run"] == str(job.id)
    assert f'data-key="{job.id}"' in page["Growing runs"]


@pytest.mark.parametrize(
    ("way", "kind", "fields"),
    [
        ("paraphrase", Paraphrase, {"variants": 2}),
        ("from-documents", FromDocuments, {"questions": 3}),
        ("to-fill-in", ToFillIn, {}),
    ],
)
def test_every_way_has_its_own_fields_and_its_own_task(page: Growth, way: str, kind: type[Any], fields: Any) -> None:
    page.press(way)
    has_documents = way != "paraphrase"
    assert (page.sees("Category to grow"), page.sees("Documents to draft from")) == (not has_documents, has_documents)
    assert page.sees("Model that drafts") == (way != "to-fill-in")
    page.type(**{"variants": 2, "questions_per_passage": 3})
    page.do("grow_start")
    (job,) = page.store.jobs()
    told = kind.model_validate(job.task)
    assert {name: getattr(told, name) for name in fields} == fields


def test_a_double_press_starts_one_run(page: Growth) -> None:
    key = page["Key of the next growing run"]
    page.do("grow_start")
    page.type(key_of_the_next_growing_run=key)
    page.do("grow_start")
    assert len(page.store.jobs()) == 1


def test_a_number_out_of_bounds_is_named_and_nothing_is_queued(page: Growth) -> None:
    page.type(drafts=0, temperature=9)
    with pytest.raises(gr.Error, match=r"Temperature: must be 5 or less, not 9\. Drafts: must be 1 or more, not 0"):
        page.do("grow_start")
    assert page.store.jobs() == []


def test_documents_that_are_not_there_are_said_before_a_run_waits(page: Growth) -> None:
    for document in page.store.documents():
        page.store.remove_document(document.id)
    page.press("to-fill-in")
    with pytest.raises(gr.Error, match="Add documents in the Playground first"):
        page.do("grow_start")
    assert page.store.jobs() == []


def test_drafts_of_a_run_are_counted_explained_and_shown_on_the_records_page(page: Growth) -> None:
    task = Paraphrase(model="echo:", dataset=EXAMPLE, count=20)
    do_job(page, task, says="no")  # far too short for any of them
    page.look()
    assert "Left out:" in page.html
    assert "Far shorter or longer than the original" in page.html
    assert "Of " in page.html
    assert "could be used" in page.html

    page.press("to-fill-in")
    do_job(page, ToFillIn(dataset=EXAMPLE, count=2))
    page.look()
    newest = page.store.jobs(kinds={"to-fill-in"})[0]
    page.do("grow_open_run", newest.id)
    assert "2 drafts: 2 to review." in page.html
    page.do("grow_show_drafts")
    dataset = page.store.dataset(EXAMPLE)
    found = page.store.records(dataset.id, page.asked)
    assert [record.response for record in found] == [GAP_ANSWER] * 2


def test_a_run_can_be_cancelled_where_it_is_shown(page: Growth) -> None:
    page.do("grow_start")
    page.do("grow_cancel")
    assert page.store.jobs()[0].state == "cancelled"
    page.do("grow_tick")
    assert "cancelled" in page.html


def test_a_beat_leaves_what_somebody_chose_and_typed(page: Growth) -> None:
    page.type(drafts=7, category_to_grow="open_qa", model_that_drafts="echo:gone")
    page.type(model_that_drafts=page.workspace.offers()[0].ref)
    do_job(page, ToFillIn(dataset=EXAMPLE, count=2))
    page.look()
    assert (page["Drafts"], page["Category to grow"]) == (7, "open_qa")


def test_a_small_model_is_called_small_before_it_is_asked(page: Growth) -> None:
    assert "of 36 texts that it wrote in a measurement, 4 could be used" in page.html
    page.press("to-fill-in")
    assert "of 36 texts" not in page.html


# -- rows to mend --------------------------------------------------------------------------------------------------

TABLE = "instruction,response\nHow do I reset it?,Hold the button.\nAnd then?,\nAnd <b>now</b>?,\n"


@pytest.fixture
def mending(project: Workspace, tmp_path: Path) -> Growth:
    path = tmp_path / "help.csv"
    path.write_text(TABLE, encoding="utf-8")
    import_into(project.store, "help", path, {"instruction": "instruction", "response": "response"}, author="ann")
    return Growth(project, "help")


def test_rows_left_out_are_listed_with_file_row_and_reason(mending: Growth) -> None:
    listed = mending["Rows left out (grow)"]
    assert "help.csv" in listed
    assert "The response is empty" in listed
    assert "2 rows of files could not be taken in" in mending.html
    assert mending["Mended instruction"] == "And then?"
    assert "<b>" not in mending.html


def test_a_row_is_mended_and_the_next_one_opens(mending: Growth) -> None:
    mending.type(mended_response="Wait.")
    mending.do("grow_mend")
    records = list(mending.store.all_records(mending.store.dataset("help").id))
    assert (records[-1].instruction, records[-1].response) == ("And then?", "Wait.")
    assert mending["Mended instruction"] == "And <b>now</b>?"
    assert "Row 2 is a record of help now." in mending.html


def test_a_row_that_is_still_empty_keeps_what_was_typed(mending: Growth) -> None:
    mending.type(mended_instruction="And after that?")
    mending.do("grow_mend")
    assert "The response is empty" in mending.html
    assert mending["Mended instruction"] == "And after that?"
    assert mending.store.left_out(mending.store.dataset("help").id)[1] == 2


def test_a_beat_does_not_take_away_what_is_being_mended(mending: Growth) -> None:
    mending.type(mended_response="Half a thou")
    dataset = mending.store.dataset("help")
    mending.store.add_records(dataset.id, [insertable({"instruction": "A?", "response": "B."})], author="x", source="y")
    mending.look()
    assert mending["Mended response"] == "Half a thou"


def test_all_rows_are_let_go_at_the_second_press(mending: Growth) -> None:
    mending.do("grow_leave_out")
    assert "Row 2 stays out." in mending.html
    mending.do("grow_leave_all_out")
    assert mending.store.left_out(mending.store.dataset("help").id)[1] == 0
    assert "None waits." in mending.html


# -- from the playground -------------------------------------------------------------------------------------------


def test_answers_kept_in_the_playground_can_be_looked_at(page: Growth) -> None:
    dataset = page.store.dataset(EXAMPLE)
    row = insertable({"instruction": "Is it dry?", "response": "Yes."})
    page.store.add_records(dataset.id, [row], author="ann", source="corrected answer 7 of echo:")
    page.look()
    page.do("grow_show_kept")
    (record,) = page.store.records(dataset.id, page.asked)
    assert record.instruction == "Is it dry?"


def test_what_the_address_says_is_never_trusted(page: Growth) -> None:
    with pytest.raises(gr.Error, match="is not the number of a growing run"):
        page.do("grow_open_run", "1; drop")
    with pytest.raises(InputError):
        asked(json.dumps([1]))
