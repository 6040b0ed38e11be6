"""The import card: read differently, mended on the spot, from the server or the hub, and nothing half done."""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import gradio as gr
import pytest

from components.app import Tab, build_app
from components.dataset import importing
from components.dataset.importing import build_import
from components.frame import TabWidgets
from studio.instructions import preview
from studio.instructions.hub_import import ImportFromHub
from studio.instructions.import_task import ImportRecords
from studio.serving import owner_only
from studio.workspace import Workspace
from tests.fixtures_pages import serving
from tests.memory_run import MemoryRun
from tests.screen import Screen


class Card(Screen):
    """The import card of a workspace."""

    follows = True

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.card = build_import(workspace)
        super().__init__(demo)

    def drop(self, path: Path) -> None:
        look = next(fn for fn in self.demo.fns.values() if fn.api_name == "look")
        self.values[look.inputs[0]._id] = str(path)
        self.do("look")

    def choices(self, label: str) -> list[Any]:
        return [c[1] if isinstance(c, tuple) else c for c in self.props[self._find(label)]["choices"]]

    def sees(self, label: str) -> bool:
        return bool(self.visible[self._find(label)])

    def step(self) -> str:
        return "result" if self.shows(self.card.done) else "map" if self.sees_start else "choose"

    @property
    def sees_start(self) -> bool:
        button = next(b for b in self.demo.blocks.values() if isinstance(b, gr.Button) and b.value == "Import")
        return self.shows(button)

    @property
    def html(self) -> str:
        return " ".join(str(v) for k, v in self.values.items() if isinstance(self.demo.blocks[k], gr.HTML))

    def texts(self, name: str) -> list[tuple[str, str]]:
        records = self.store.all_records(self.store.dataset(name).id)
        return [(record.instruction, record.response) for record in records]


@pytest.fixture
def card(workspace: Workspace) -> Card:
    return Card(workspace)


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# -- read differently ------------------------------------------------------------------------------------------


def test_another_encoding_reads_the_same_file_anew(card: Card, tmp_path: Path) -> None:
    card.drop(written(tmp_path, "a.csv", "instruction,response\nWo?,Köln\n", "mac-roman"))
    assert card["Encoding of the file"] == "cp1252"
    card.values[card._find("Encoding of the file")] = "mac-roman"
    card.do("import_read_text")
    assert "MAC-ROMAN" in card.html
    card.do("import_file")
    assert card.texts("a") == [("Wo?", "Köln")]


def test_another_sign_between_cells_makes_other_columns(card: Card, tmp_path: Path) -> None:
    card.drop(written(tmp_path, "a.csv", "instruction;a,response;b\nQ,1\n"))
    card.type(between_two_cells=";")
    card.do("import_read_text")
    assert card.choices("Instruction column") == ["instruction", "a,response", "b"]
    card.type(between_two_cells=",")
    card.do("import_read_text")
    assert card.choices("Instruction column") == ["instruction;a", "response;b"]
    card.type(instruction_column="instruction;a", response_column="response;b")
    card.do("import_file")
    assert card.texts("a") == [("Q", "1")]


def test_what_cannot_be_read_so_is_said_and_the_preview_stays(card: Card, tmp_path: Path) -> None:
    card.drop(written(tmp_path, "a.csv", "instruction,response\nA?,B.\n"))
    card.values[card._find("Encoding of the file")] = "klingon"
    card.do("import_read_text")
    assert "&#x27;klingon&#x27; is no encoding of text" in card.html
    assert card["Instruction column"] == "instruction"


def test_a_file_inside_a_zip_can_be_chosen(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "instruction,response\nA?,a.\n")
        archive.writestr("b.jsonl", '{"data": {"question": "B?", "answer": "b."}}\n')
    card.drop(path)
    assert card.choices("File inside the zip") == ["a.csv", "b.jsonl"]
    assert not card.sees("Sheet of the workbook")
    card.values[card._find("File inside the zip")] = "b.jsonl"
    card.do("import_read_member")
    assert card.choices("Response column") == ["data.question", "data.answer"]  # what is in an object has a dotted name
    card.type(instruction_column="data.question", response_column="data.answer", into_dataset="b")
    card.do("import_file")
    assert card.texts("b") == [("B?", "b.")]


def test_columns_can_be_told_of_a_file_whose_shape_was_recognised(card: Card, tmp_path: Path) -> None:
    card.drop(written(tmp_path, "a.csv", "instruction,context,response,category\nA?,,a.,open_qa\n"))
    assert "in the shape of" in card.html
    card.values[card._find("Say which column is what, whatever was recognised")] = True
    card.do("import_by_hand")
    assert card.sees("Instruction column") is not False
    card.type(instruction_column="response", response_column="instruction")
    card.do("import_file")
    assert card.texts("a") == [("a.", "A?")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("twice.csv", "a,a\n1,2\n", "has two columns named"),
        ("empty.csv", "", "is empty"),
        ("one.csv", "instruction\nA?\n", "has a single column"),
        ("cut.zip", "PK\x03\x04 and no more", "is no whole zip file"),
    ],
    ids=["duplicate headers", "empty", "one column", "cut off"],
)
def test_a_file_that_cannot_be_read_is_said_where_it_was_dropped(
    card: Card, tmp_path: Path, name: str, text: str, said: str
) -> None:
    card.drop(written(tmp_path, name, text))
    assert said in card.html
    assert card.step() == "choose"
    assert card.store.datasets() == []
    card.drop(written(tmp_path, "good.csv", "instruction,response\nA?,B.\n"))
    assert said not in card.html
    assert card.step() == "map"


# -- what was left out -----------------------------------------------------------------------------------------


def test_bad_rows_are_mended_in_the_card_with_the_columns_that_were_told(card: Card, tmp_path: Path) -> None:
    card.drop(written(tmp_path, "help.csv", "Frage;Answer\nA?;a.\nB?;\nC?;\n"))
    card.type(instruction_column="Frage")
    card.do("import_file")
    assert "1 record was imported into help. 2 rows were left out, to be mended below." in card.html
    assert card["Instruction of the row"] == "B?"
    card.type(response_of_the_row="b.")
    card.do("import_mend")
    assert card.texts("help") == [("A?", "a."), ("B?", "b.")]
    assert card["Instruction of the row"] == "C?"
    card.do("import_leave_out")
    assert card.store.left_out(card.store.dataset("help").id)[1] == 0


# -- large files, files on the server, the hub -----------------------------------------------------------------


def do_job(card: Card) -> None:
    """What a worker does with the job that the card queued."""
    (job,) = card.store.jobs()
    claimed = card.store.claim_job("light", "desk", only=job.id)
    assert claimed is not None
    card.store.start_job(job.id, claimed.attempt, pid=1)
    run = MemoryRun(card.workspace.path / "runs" / str(job.id), store=card.store, workspace=card.workspace.path)
    run.id = job.id
    run.output.mkdir(parents=True)
    card.store.finish_job(job.id, claimed.attempt, "done", result=ImportRecords.model_validate(job.task).do(run))


def test_a_job_is_watched_to_its_end_and_its_bad_rows_are_mended_here(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_QUICK_BYTES", 1)
    card.drop(written(tmp_path, "help.csv", "Frage,Answer\nA?,a.\nB?,\n"))
    card.type(instruction_column="Frage")
    card.do("import_file")
    (job,) = card.store.jobs()
    assert f"job {job.id} takes it in" in card.html
    assert card.step() == "result"
    card.do("import_tick")
    assert card["Import watched"] == str(job.id)
    do_job(card)
    card.do("import_tick")
    assert "1 record was imported into help. 1 row was left out, to be mended below." in card.html
    assert card["Import watched"] == ""
    assert card["Instruction of the row"] == "B?"


def test_a_file_on_the_server_is_imported_where_it_lies(card: Card, workspace: Workspace) -> None:
    folder = workspace.path / "imports"
    card.do("import_list_files")
    assert "holds no table" in card.html
    folder.mkdir()
    written(folder, "large.csv", "instruction,response\nA?,B.\n")
    card.do("import_list_files")
    assert card.choices("File on the server") == ["large.csv"]
    card.type(file_on_the_server="large.csv")
    card.do("import_look_served")
    assert card["Into dataset"] == "large"
    card.do("import_file")
    (job,) = card.store.jobs()
    task = ImportRecords.model_validate(job.task)
    assert (task.path, task.upload) == (folder / "large.csv", "")


@pytest.mark.parametrize("listener", ["import_list_files", "import_look_served"])
def test_files_on_the_server_are_for_administrators(card: Card, listener: str) -> None:
    with pytest.raises(gr.Error, match="needs the role 'admin'"):
        card.do(listener, user="somebody")


def test_a_file_outside_of_the_folder_is_refused_whatever_the_page_says(card: Card, workspace: Workspace) -> None:
    written(workspace.path, "secret.csv", "instruction,response\nA?,B.\n")
    card.type(file_on_the_server="../secret.csv")
    card.do("import_look_served")
    assert "lies outside of the folder" in card.html
    card.type(where_rows_come_from="server\n../secret.csv\n", into_dataset="mine")
    with pytest.raises(gr.Error, match="lies outside of the folder"):
        card.do("import_file")
    assert card.store.jobs() == []


def test_offline_the_hub_is_not_asked_and_the_card_says_what_to_do(card: Card) -> None:
    card.type(data_set_on_the_hub="hf:databricks/databricks-dolly-15k")
    card.do("import_look_hub")
    assert "the studio is offline. Start it with LADDER_OFFLINE=0" in card.html
    assert card.step() == "choose"


def test_a_data_set_of_the_hub_becomes_a_job(card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = preview(written(tmp_path, "a.jsonl", '{"frage": "A?", "answer": "a."}\n'))
    monkeypatch.setattr(importing, "preview_hub", lambda *_: seen)
    card.type(data_set_on_the_hub="hf:acme/help", split_on_the_hub="test")
    card.do("import_look_hub")
    assert card["Into dataset"] == "help"
    with pytest.raises(gr.Error, match="mapped to 'instruction'"):
        card.do("import_file")
    assert card.store.datasets() == []
    card.type(instruction_column="frage")
    card.do("import_file")
    (job,) = card.store.jobs()
    task = ImportFromHub.model_validate(job.task)
    assert (task.ref, task.split, task.reading.mapping["instruction"]) == ("hf:acme/help", "test", "frage")


# -- an upload that breaks off -----------------------------------------------------------------------------------


@pytest.fixture
def url(workspace: Workspace) -> Iterator[str]:
    with serving(build_app(workspace, owner_only, (Tab("dataset", "Dataset", only_the_card),))) as url:
        yield url


def only_the_card(workspace: Workspace) -> TabWidgets:
    build_import(workspace)
    return TabWidgets()


def test_an_upload_that_breaks_off_changes_nothing(url: str, workspace: Workspace) -> None:
    before = workspace.store.change_token()
    host = urlparse(url)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\ninstruction,response\nA?,'
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(body) + 10_000}\r\n\r\n"
    )
    with socket.create_connection((host.hostname or "", host.port or 0), 5) as wire:
        wire.sendall(head.encode() + body)
    assert workspace.store.datasets() == []
    assert workspace.store.jobs() == []
    assert workspace.store.change_token() == before
    assert not (workspace.path / "inbox").exists()
