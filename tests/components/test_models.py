"""The models page: what there is to start from, and what was made here."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest

from components import models
from studio.example import load_example
from studio.models import Conversion
from studio.models import shelf as shelves
from studio.models.lineage import lineage, obligations
from studio.models.shelf import count_parameters, shelf
from studio.store.models import model_row
from studio.workspace import Workspace
from tests.screen import Screen

BASE = "embedded:smollm2-135m-instruct"


class Hall(Screen):
    """The models page of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        with gr.Blocks() as demo:
            self.widgets = models.build(workspace)
        super().__init__(demo)

    def look(self, model: str = "") -> str:
        """What opening the tab does; all that it says then."""
        refresh = self.widgets.refresh
        assert refresh is not None
        for block, value in zip(refresh.outputs, refresh.fn(self["Model"], model), strict=True):
            self._update(block, value)
        return self.text

    @property
    def text(self) -> str:
        return " ".join(self.words(b) for b in self.demo.blocks.values() if isinstance(b, gr.HTML))


@pytest.fixture
def made(workspace: Workspace) -> Workspace:
    """Two runs, the second on top of the first."""
    load_example(workspace.store, workspace.path)
    for number, base in ((16, BASE), (17, "run:16")):
        workspace.store.add_model(
            model_row(
                f"run:{number}",
                f"Tune {base}",
                author="ann",
                base=base,
                method="lora",
                licence="Apache-2.0",
                snapshot="data:brackenfold@1",
                path=f"runs/{number}/model",
                new_parameters=4_884_480,
                train_seconds=372,
            )
        )
    return workspace


def write_model(folder: Path) -> None:
    """The headers of a model of 6 + 4 numbers; its weights are not looked at."""
    folder.mkdir(parents=True)
    header = {"__metadata__": {}, "a": {"shape": [2, 3]}, "b": {"shape": [4]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}')


def test_nothing_made_yet_is_said_and_leads_to_tuning(workspace: Workspace) -> None:
    hall = Hall(workspace)
    assert "SmolLM2 135M Instruct" in hall.look()
    assert any("No model was made here yet" in str(v) for v in hall.values.values())


def test_the_card_tells_where_a_model_comes_from_and_what_its_licences_ask(made: Workspace) -> None:
    hall = Hall(made)
    hall.look()
    hall.do("open_model", "run:17")
    said = " ".join(hall.text.split())
    assert "run:17 ← LoRA on run:16 with data:brackenfold@1 (264 records, Apache-2.0)" in said
    assert f"run:16 ← LoRA on {BASE} with data:brackenfold@1" in said
    assert "Business use allowed. Pass on the licence and the notices" in said
    assert "4,884,480" in said


def test_a_link_opens_the_model_it_names(made: Workspace) -> None:
    hall = Hall(made)
    hall.look("run:16")
    assert hall["Model"] == "run:16"


def test_a_model_that_was_not_made_here_is_a_sentence(made: Workspace) -> None:
    hall = Hall(made)
    with pytest.raises(gr.Error, match="There is no model 'run:99'"):
        hall.do("open_model", "run:99")


def test_a_lineage_ends_where_the_workspace_knows_no_more(made: Workspace) -> None:
    made.store.add_model(model_row("run:20", "Orphan", author="ann", base="run:19", method="lora", snapshot="data:x@1"))
    (step,) = lineage(made.store, "run:20")
    assert step.snapshot is None
    assert [what for what, _ in obligations([step])] == ["run:19"]


def test_a_folder_is_listed_with_its_size_and_a_broken_one_with_its_cure(workspace: Workspace) -> None:
    write_model(workspace.path / "models" / "ours")
    (workspace.path / "models" / "old" / "x").mkdir(parents=True)
    listed = {m.ref: m for m in shelf(workspace.settings, workspace.path)}
    assert count_parameters(workspace.path / "models" / "ours") == 10
    assert (listed["dir:ours"].parameters, listed["dir:ours"].window) == (10, 4096)
    assert listed["dir:old"].state == "unreadable"
    assert "Copy the whole model folder" in listed["dir:old"].says


def test_a_conversion_is_watched_until_it_is_over(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "converted", lambda cache: None)
    monkeypatch.setattr(shelves, "conversion", lambda cache: Conversion(0.3, "Unpacking the weights"))
    hall = Hall(workspace)
    assert "Unpacking the weights" in hall.look()
    timer = next(k for k, b in hall.demo.blocks.items() if isinstance(b, gr.Timer))
    assert hall.props[timer]["active"]
    monkeypatch.setattr(shelves, "converted", lambda cache: Path("there"))
    hall.do("see_shelf")
    assert not hall.props[timer]["active"]
    assert "Ready" in hall.text
