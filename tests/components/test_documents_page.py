"""The Documents page: files in, at once or as a job, a sentence for each; what they say, and what a prompt would get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components.playground import documents
from studio.errors import InputError
from studio.prompts.documents import as_context, import_documents, retrieve
from studio.store import Document
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.screen import Screen

RETURNS = "# Returns\n\nYou have sixty days to send a tent back, if it is dry.\n"
STOVES = "# Stoves\n\nNever cook inside a tent. A stove needs air.\n"


class Desk(Screen):
    """The Documents page of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = documents.build(workspace)
        super().__init__(demo)
        self.timer = next(block for block in demo.blocks.values() if isinstance(block, gr.Timer))

    def look(self) -> list[Any]:
        """What opening the page does, and each tick while an import is watched."""
        refresh = self.widgets.refresh
        assert refresh is not None
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)
        return answer

    def drop(self, *files: Path) -> None:
        self.type(documents_to_add=[str(file) for file in files])
        self.do("take_in")
        self.look()

    def search(self, question: str, **changes: Any) -> str:
        self.type(question=question, **changes)
        self.do("find_passages")
        return str(self["Passages found"])

    @property
    def is_ticking(self) -> bool:
        return bool(self.props.get(self.timer._id, {}).get("active"))

    @property
    def names(self) -> list[str]:
        return [document.name for document in self.store.documents()]


def put(workspace: Workspace, folder: Path, **texts: str) -> list[Document]:
    """Documents of the workspace, by name without ending."""
    files = []
    for name, text in texts.items():
        files.append(folder / f"{name}.md")
        files[-1].write_text(text, encoding="utf-8")
    report = import_documents(workspace.store, workspace.path, files, author="ann")
    assert not report.refused
    return [imported.document for imported in report.imported]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "uploads"
    made.mkdir()
    return made


@pytest.fixture
def desk(workspace: Workspace, folder: Path) -> Desk:
    """Two documents, the first one open."""
    put(workspace, folder, returns=RETURNS, stoves=STOVES)
    desk = Desk(workspace)
    desk.look()
    return desk


def many_files(folder: Path, count: int = 11) -> list[Path]:
    """More than a page takes in at once."""
    files = [folder / f"page-{n}.txt" for n in range(count)]
    for n, file in enumerate(files):
        file.write_text(f"Page {n} is about stove number {n}.", encoding="utf-8")
    return files


# -- coming in -----------------------------------------------------------------------------------------------


def test_an_empty_workspace_offers_the_example(workspace):
    desk = Desk(workspace)
    desk.look()
    assert "There are no documents yet" in desk["Coverage"]
    desk.do("load_example_documents")
    desk.look()
    assert "9 documents are in" in desk["What became of the files"]
    assert "9 documents" in desk["Coverage"]
    assert all(name in desk["Documents"] for name in desk.names)
    assert desk["Document"]


def test_each_file_gets_a_sentence_and_a_bad_one_stops_no_other(desk, folder):
    good, empty, odd = folder / "care.txt", folder / "empty.txt", folder / "logo.png"
    good.write_text("Wash the jacket at thirty degrees.", encoding="utf-8")
    empty.touch()
    odd.write_bytes(b"\x89PNG")
    desk.drop(good, empty, odd)
    said = desk["What became of the files"]
    assert "care.txt is in, cut into 1 passage." in said
    assert "empty.txt is empty" in said
    assert "logo.png cannot be read here" in said
    assert desk.names == ["care.txt", "returns.md", "stoves.md"]
    assert "care.txt" in desk["Documents"]
    assert desk["Documents to add"] is None


def test_the_uploader_is_the_author(desk, folder):
    file = folder / "care.txt"
    file.write_text("Wash the jacket at thirty degrees.", encoding="utf-8")
    desk.drop(file)
    assert {d.name: d.author for d in desk.store.documents()}["care.txt"] == "owner"


def test_many_files_are_a_job_that_the_page_watches(desk, folder):
    desk.drop(*many_files(folder))
    (job,) = desk.store.jobs()
    assert (job.kind, job.state, job.author, len(job.task["files"])) == ("documents", "queued", "owner", 11)
    assert desk["Import watched"] == str(job.id)
    assert "Waits for its turn" in desk["How far the import is"]
    assert desk.is_ticking
    assert len(desk.names) == 2

    running = desk.store.claim_job("light", "here")
    desk.store.start_job(running.id, running.attempt, 1)
    desk.store.log_metrics(running.id, running.attempt, 4, 11, {})
    desk.look()
    assert "4 of 11 documents" in desk["How far the import is"]

    result = {"said": ["page-0.txt is in."], "refused": [{"name": "x", "reason": "x.bin cannot be read <here>."}]}
    desk.store.finish_job(running.id, running.attempt, "done", result=result)
    desk.look()
    assert not desk.is_ticking
    assert "page-0.txt is in." in desk["What became of the files"]
    assert "x.bin cannot be read &lt;here&gt;." in desk["What became of the files"]
    assert desk["Import watched"] == ""


def test_a_page_that_is_opened_later_watches_the_import_too(desk, folder):
    desk.drop(*many_files(folder))
    other = Desk(desk.workspace)
    other.look()
    assert other.is_ticking
    call(other.demo, "cancel_import", other["Import watched"])
    other.look()
    assert desk.store.jobs()[0].state == "cancelled"
    assert "cancelled" in other["What became of the files"]
    assert not other.is_ticking


def test_an_import_that_failed_says_why(desk, folder):
    desk.drop(*many_files(folder))
    job = desk.store.claim_job("light", "here")
    desk.store.start_job(job.id, job.attempt, 1)
    desk.store.finish_job(job.id, job.attempt, "failed", error="The disk is full. Free some space.")
    desk.look()
    assert "The disk is full" in desk["What became of the files"]


# -- what is there -------------------------------------------------------------------------------------------


def test_a_tick_sends_the_list_only_when_it_moved(desk, workspace, folder):
    painted = desk.widgets.refresh.outputs
    kept = dict(zip((getattr(block, "label", "") for block in painted), desk.look(), strict=True))
    assert kept["Documents"] == kept["Coverage"] == kept["Its passages"] == gr.skip()
    put(workspace, folder, care="Wash it.")
    moved = dict(zip((getattr(block, "label", "") for block in painted), desk.look(), strict=True))
    assert "care.md" in moved["Documents"]
    assert moved["Its passages"] == gr.skip()  # what somebody reads stays


def test_a_document_is_listed_with_what_it_is_about(workspace, folder):
    put(workspace, folder, returns=RETURNS, stoves=STOVES, again=RETURNS.replace("# Returns", "# Returns\n"))
    desk = Desk(workspace)
    desk.look()
    assert "stove" in desk["Documents"]
    assert "1 of 1" in desk["Documents"]  # said before, by returns.md
    (again,) = (d for d in desk.store.documents() if d.name == "again.md")
    desk.do("open_document", again.id)
    assert "Nearly the same as returns.md, Returns" in desk["Its passages"]


def test_a_document_is_read_a_page_at_a_time(desk, workspace, folder):
    section = " ".join(["word"] * 100)
    (long,) = put(workspace, folder, long="\n\n".join(f"# Part {n}\n\nText {n} {section}" for n in range(90)))
    desk.do("open_document", long.id)
    assert long.passages > 80
    assert "Text 0 " in desk["Its passages"]
    assert "Text 89 " not in desk["Its passages"]
    for _ in range(5):
        desk.do("turn_forth")
    assert "Text 89 " in desk["Its passages"]
    desk.do("turn_back")
    assert "Text 89 " not in desk["Its passages"]


def test_a_removed_document_is_out_of_prompts_and_comes_back(desk):
    first = desk.store.documents()[0]
    desk.do("open_document", first.id)
    desk.do("remove_open_document")
    desk.look()
    assert desk.names == ["stoves.md"]
    assert "returns.md" in desk["Documents that were removed"]
    assert "returns.md" not in desk["Documents"]
    assert "No passage" in desk.search("sixty days")
    desk.do("restore_open_document")
    desk.look()
    assert desk.names == ["returns.md", "stoves.md"]
    assert desk["Documents that were removed"] == ""


def test_a_link_opens_its_document(desk):
    second = desk.store.documents()[1]
    other = Desk(desk.workspace)
    other.values[other.widgets.links["document"]._id] = str(second.id)
    other.look()
    assert "Never cook inside a tent" in other["Its passages"]


@pytest.mark.parametrize("key", ["", "0; drop", "99"])
def test_a_document_that_is_not_there_cannot_be_opened(desk, key):
    with pytest.raises(gr.Error, match="document"):
        desk.do("open_document", key)


# -- searching -----------------------------------------------------------------------------------------------


def test_a_search_shows_what_the_prompt_would_get(desk):
    shown = desk.search("How many days to send a tent back?")
    hits = retrieve(desk.store, "How many days to send a tent back?")
    first = as_context(hits).split(":")[0]
    assert first == "[1] returns.md, Returns"
    assert "<b>[1]</b> returns.md, Returns" in shown
    assert f"{hits[0].score:.2f}" in shown
    assert "sixty days" in shown
    assert shown.index("<b>[1]</b>") < shown.index("<b>[2]</b>")


def test_a_search_keeps_to_a_document_and_a_number(desk):
    stoves = str(desk.store.documents()[1].id)
    assert "returns.md" not in desk.search("a tent", **{"in": stoves})
    assert "[2]" not in desk.search("a tent", **{"in": ""}, passages=1)
    assert "[2]" in desk.search("a tent", passages=10**6)


def test_nothing_found_and_nothing_asked_are_said(desk):
    assert "No passage shares a word" in desk.search("zebra")
    assert "as you type" in desk.search("  ")


def test_words_of_documents_are_no_markup(workspace, folder):
    put(workspace, folder, odd="Wet <img src=x onerror=alert(1)> tents & ${1}.")
    desk = Desk(workspace)
    desk.look()
    for shown in (desk.search("wet tents"), desk["Its passages"]):
        assert "<img" not in shown
        assert "&lt;img" in shown


# -- scripts -------------------------------------------------------------------------------------------------


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        documents.build(project)
    return demo


def test_a_script_lists_searches_reads_and_removes(page, project):
    listed = call(page, "list_documents")
    assert "9 documents" in listed["said"]
    (best, *_) = call(page, "search_documents", "How long may I return something?", 3, None)
    assert best["label"].startswith(best["document"])
    passages = call(page, "read_document", best["document_id"])
    assert best["text"] in [passage["text"] for passage in passages]
    assert call(page, "remove_document", best["document_id"]) == best["document"]
    assert len(call(page, "list_documents")["documents"]) == 8
    assert call(page, "restore_document", best["document_id"]) == best["document"]


def test_a_script_adds_what_it_uploaded_and_nothing_else(page, project, folder, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    file = folder / "care.txt"
    file.write_text("Wash it.", encoding="utf-8")
    told = call(page, "add_documents", [{"path": str(file)}])
    assert told == {"said": ["care.txt is in, cut into 1 passage."], "refused": [], "job": None}
    with pytest.raises(gr.Error, match="was not uploaded"):
        call(page, "add_documents", [{"path": str(project.path / "studio.db")}])


def test_a_stranger_does_nothing(page, project):
    first = project.store.documents()[0]
    asked = (
        ("add_documents", []),
        ("list_documents",),
        ("search_documents", "tent", 1, None),
        ("read_document", first.id),
        ("remove_document", first.id),
        ("take_in", []),
    )
    for name, *args in asked:
        with pytest.raises(gr.Error, match="not signed in"):
            call(page, name, *args, user=None)
    assert len(project.store.documents()) == 9


def test_the_number_of_a_document_is_a_number():
    with pytest.raises(InputError, match="is not the number of a document"):
        documents._number("seven")
