"""The models page: what there is to start from, and what was made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components import models
from studio.models import Conversion
from studio.models import shelf as shelves
from studio.models.lineage import lineage, obligations
from studio.models.shelf import count_parameters, shelf
from studio.store import ServedModel
from studio.store.models import model_row
from studio.workspace import Workspace
from tests.backends.servers import parrot, playing, refusal
from tests.fixtures_components import call
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
        for block, value in zip(refresh.outputs, refresh.fn(self["Model"], model, self["Endpoint"]), strict=True):
            self._update(block, value)
        return self.text

    @property
    def text(self) -> str:
        return " ".join(self.words(b) for b in self.demo.blocks.values() if isinstance(b, gr.HTML))


@pytest.fixture
def made(project: Workspace) -> Workspace:
    """Two runs, the second on top of the first."""
    for number, base in ((16, BASE), (17, "run:16")):
        project.store.add_model(
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
    return project


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


# -- endpoints -----------------------------------------------------------------------------------------------

KEY = "sk-not-for-anybodys-eyes"


def listing(call: Any) -> None:
    call.say(200, {"data": [{"id": "llama", "owned_by": "vllm"}]}) if call.command == "GET" else parrot(call)


def with_endpoint(workspace: Workspace, url: str = "http://127.0.0.1:8000/v1", **typed: str) -> Hall:
    """The page after somebody added an endpoint."""
    hall = Hall(workspace)
    hall.type(name="office", address=url, key=KEY, **typed)
    hall.do("add_endpoint")
    return hall


def test_an_endpoint_is_added_its_key_box_emptied_and_its_models_offered(workspace: Workspace) -> None:
    hall = with_endpoint(workspace, model_names="llama\nqwen")
    assert [hall[box] for box in ("Name", "Address", "Key")] == ["", "", ""]
    assert hall["Endpoint"] == "office"
    assert "office runs on this machine (127.0.0.1:8000)" in hall.text
    assert "not defined" in hall.text
    offered = {str(offer.ref): offer.label for offer in workspace.offers()}
    assert offered["endpoint:office/llama"] == "llama · office"
    assert "endpoint:office/qwen" in offered


def test_nothing_on_the_page_shows_the_key_again(workspace: Workspace) -> None:
    hall = with_endpoint(workspace)
    hall.do("open_endpoint", "office")
    hall.look()
    assert KEY not in repr(hall.values)
    assert KEY not in json.dumps(hall.demo.get_config_file(), default=repr)


def test_a_test_says_how_fast_a_model_answers_and_offers_what_the_server_has(workspace: Workspace) -> None:
    with playing(listing) as server:
        hall = with_endpoint(workspace, server.url)
        listed, *_, said = call(hall.demo, "test_endpoint", "office")[:5]
    assert "llama began to answer after" in said
    assert "It said: Say hello." in said
    assert "llama" in listed
    assert "endpoint:office/llama" in {str(offer.ref) for offer in workspace.offers()}
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_test_that_fails_leaves_its_sentence_on_the_page_as_text(workspace: Workspace) -> None:
    with playing(refusal(401, f"<b>no</b> {KEY}")) as server:
        hall = with_endpoint(workspace, server.url, model_names="llama")
        *_, said = call(hall.demo, "test_endpoint", "office")[:5]
    assert "office does not accept the key (401: ‹b›no‹/b› [key])" in said
    assert "<b>" not in said


def test_prices_and_models_change_and_an_empty_price_stays_undefined(workspace: Workspace) -> None:
    hall = with_endpoint(workspace)
    hall.type(models_offered="a\nb", price_in="0.5", price_out="1.5", priced_in="EUR")
    hall.do("change_endpoint")
    assert "0.5 / 1.5 EUR" in hall.text
    hall.type(price_in="", price_out="")
    hall.do("change_endpoint")
    changed = workspace.store.endpoint("office")
    assert (changed.price.prompt, [m.name for m in changed.models]) == (None, ["a", "b"])


def test_a_removed_endpoint_is_offered_no_more(workspace: Workspace) -> None:
    hall = with_endpoint(workspace, model_names="llama")
    hall.do("remove_endpoint")
    assert hall["Endpoint"] == ""
    assert "No endpoint yet" in hall.text
    assert not [offer for offer in workspace.offers() if offer.ref.kind == "endpoint"]


def test_offline_a_server_elsewhere_is_refused_and_nothing_is_kept(workspace: Workspace) -> None:
    with pytest.raises(gr.Error, match="the studio is offline: text may not leave this machine"):
        with_endpoint(workspace, "https://models.example/v1")
    assert workspace.store.endpoints() == []


def test_offline_a_server_elsewhere_that_was_added_before_is_not_offered(workspace: Workspace) -> None:
    model = ServedModel("llama")
    workspace.store.add_endpoint("away", "https://models.example/v1", author="ann", timeout=60.0, models=[model])
    assert "Not while offline" in (hall := Hall(workspace)).look()
    assert not [offer for offer in workspace.offers() if offer.ref.kind == "endpoint"]
    assert "the studio is offline" in call(hall.demo, "test_endpoint", "away")[4]


@pytest.mark.parametrize("name", ["add_endpoint", "test_endpoint", "change_endpoint", "remove_endpoint"])
def test_a_stranger_changes_nothing(workspace: Workspace, name: str) -> None:
    hall = with_endpoint(workspace)
    before = workspace.store.endpoints()
    fn = next(f for f in hall.demo.fns.values() if f.api_name == name)
    with pytest.raises(gr.Error, match="This needs the role"):
        call(hall.demo, name, *["office"] * len(fn.inputs), user=None)
    assert workspace.store.endpoints() == before
