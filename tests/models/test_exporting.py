"""What leaves the studio: every method, loaded by plain libraries from the exported folder alone; and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio import cli
from studio.errors import InputError, ModelError, StorageError, StudioError, Unsupported
from studio.models import Weights, exporting, resolve
from studio.models.exporting import Exported, Form, export_model, export_zip
from studio.models.files import digest
from studio.models.merging import merged
from studio.settings import Settings
from studio.specs import ModelRef, Sampling
from studio.store import Store
from studio.training.decode import generate
from tests.jobs.tasks_for_tests import MakeModel
from tests.models.made_runs import add_row, put_run
from tests.training.test_methods import ALL

MERGE = {"lora", "rslora", "dora", "adalora", "ia3"}
WHOLE = {"full", "selective"}
PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16]]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 30, 31], [13, 14, 15, 16, 40, 41, 42, 43]])


class Desk:
    """A workspace with `dir:tiny` in it, and exports from it."""

    def __init__(self, path: Path, store: Store, settings: Settings) -> None:
        self.path, self.store, self.settings = path, store, settings
        self.tiny = self.weights("dir:tiny")

    def weights(self, ref: str) -> Weights:
        return resolve(ModelRef(ref), settings=self.settings, store=self.store, workspace=self.path)

    def put(self, name: str, number: int = 1, base: str = "dir:tiny", by: float = 0.3):
        return put_run(self.store, self.path, self.weights(base), name, number, by=by)

    def export(self, ref: str, name: str, form: Form | None = None) -> Exported:
        where = {"settings": self.settings, "store": self.store, "workspace": self.path}
        return export_model(ModelRef(ref), self.path.parent / name, form, **where)


@pytest.fixture
def desk(tmp_path, sqlite_store, model_settings, tiny_folder, monkeypatch) -> Desk:
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)
    shutil.copytree(tiny_folder, tmp_path / "workspace" / "models" / "tiny")
    return Desk(tmp_path / "workspace", sqlite_store, model_settings)


def loaded(folder: Path) -> torch.nn.Module:
    if not (folder / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder).eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :]


def answers(model: torch.nn.Module) -> list[list[int]]:
    """Greedy ones, by the libraries' own generation."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own generation warns of position ids
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            how = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
            found.append(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)[0][-8:].tolist())
    return found


def run_readme(folder: Path, monkeypatch: pytest.MonkeyPatch, base: Path | None = None) -> str:
    """Run the lines of the card where they say they run; what they print."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    said: list[str] = []
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code.replace("PATH/TO/BASE", str(base)), {"print": said.append})
    return said[0]


# -- every method ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_plain_libraries_load_the_folder_and_answer_the_same(desk, name):
    pupil = desk.put(name)
    folder = desk.export("run:1", "out", Form("with-base")).folder
    model = loaded(folder)
    torch.testing.assert_close(logits(model), logits(pupil.model))
    expected = answers(model)
    assert [a.ids for a in generate(pupil.reading(), PROMPTS, Sampling(max_tokens=8), [])] == expected
    assert expected != answers(loaded(desk.tiny.base))
    if name not in MERGE | WHOLE:
        with pytest.raises(Unsupported, match=r"run:1 was made with .*, which has no merged form.*--with-base"):
            desk.export("run:1", "merged", Form("merged"))
        assert not (desk.path.parent / "merged").exists()
        return
    merged = loaded(desk.export("run:1", "merged", Form("merged")).folder)
    assert not isinstance(merged, PeftModel)
    assert answers(merged) == expected
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"), [("lora", "made"), ("prefix", "with-base"), ("ia3", "merged"), ("full", "made")]
)
def test_the_lines_of_the_card_run_and_nothing_names_a_path_of_this_machine(desk, monkeypatch, name, kind):
    desk.put(name)
    done = desk.export("run:1", "out", Form(kind))
    said = run_readme(done.folder, monkeypatch, base=desk.tiny.base)
    tokenizer = AutoTokenizer.from_pretrained(desk.tiny.base)
    assert said
    assert AutoTokenizer.from_pretrained(done.folder).chat_template == tokenizer.chat_template
    for file in done.folder.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            assert str(desk.path.parent) not in file.read_text()
        assert file.suffix not in (".bin", ".pt", ".pkl", ".py")
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=done.folder, check=True)


def test_an_adapter_names_its_base_and_the_card_says_where_all_of_it_is_from(desk):
    pupil = desk.put("lora")
    done = desk.export("run:1", "out")
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == done.base == "dir:tiny"
    card = (done.folder / "README.md").read_text()
    told = (
        desk.tiny.digest,
        "`run:1`, method `lora`",
        f"{pupil.size:,}",
        "No licence named",
        "An adapter, without its base",
    )
    assert [one for one in told if one not in card] == []
    assert not (done.folder / "config.json").exists(), "it would look like a whole model"
    with pytest.raises(OSError, match="dir:tiny"):  # and no hub has a model of such a name
        AutoPeftModelForCausalLM.from_pretrained(done.folder)
    beside = desk.export("run:1", "beside", Form("with-base"))
    assert json.loads((beside.folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    assert beside.base == ""
    assert digest(beside.folder / "base") == desk.tiny.digest


def test_the_card_names_the_licences_of_single_records(desk):
    rows = [
        {"instruction": f"Ask {n}", "context": "", "response": "yes", "split": "train"}
        | ({"licence": "CC-BY-SA-3.0" if n < 2 else "CC-BY-4.0"} if n < 4 else {})
        for n in range(9)
    ]
    data = desk.store.freeze(desk.path, "data", "mixed", rows, author="ann", licence="MIT")
    put_run(desk.store, desk.path, desk.tiny, "lora", snapshot=str(data.ref))
    card = (desk.export("run:1", "out").folder / "README.md").read_text()
    assert "`2 records of data:mixed@1`: Creative Commons Attribution-ShareAlike 3.0" in card
    assert "`2 records of data:mixed@1`: Creative Commons Attribution 4.0" in card  # as many, and another licence
    assert "`data:mixed@1`: MIT" in card
    (desk.path / data.path).unlink()  # the weights are what is exported, so they still are
    card = (desk.export("run:1", "later").folder / "README.md").read_text()
    assert "single records of data:mixed@1, which cannot be read any more" in card


def test_a_model_that_came_as_it_is_leaves_as_it_is(desk):
    folder = desk.export("dir:tiny", "out").folder
    assert digest(folder) == desk.tiny.digest
    assert answers(loaded(folder)) == answers(loaded(desk.tiny.base))


def test_an_empty_folder_is_used_and_missing_ones_above_it_are_made(desk):
    (desk.path.parent / "empty").mkdir()
    assert desk.export("dir:tiny", "empty").size > 0
    assert desk.export("dir:tiny", "a/b/c").folder.name == "c"


def test_merged_weights_in_bfloat16_take_half_the_disk(desk):
    desk.put("lora")
    whole, half = (desk.export("run:1", p, Form("merged", p)) for p in ("float32", "bfloat16"))
    sizes = [(one.folder / "model.safetensors").stat().st_size for one in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert "bfloat16, rounded once more" in half.holds


# -- a run on a run -------------------------------------------------------------------------------------------------


def test_a_lora_run_on_a_lora_run_is_one_adapter_on_the_first_base(desk):
    desk.put("lora")
    pupil = desk.put("lora", 2, base="run:1")
    folder = desk.export("run:2", "out", Form("with-base")).folder
    assert digest(folder / "base") == desk.tiny.digest
    torch.testing.assert_close(logits(loaded(folder)), logits(pupil.model))
    made = desk.export("run:2", "made").folder
    assert json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"] == "dir:tiny"
    assert "`run:1`, method `lora`" in (made / "README.md").read_text()


def test_a_base_that_was_made_here_comes_along(desk):
    desk.put("full", by=0.05)
    pupil = desk.put("lora", 2, base="run:1")
    done = desk.export("run:2", "out")
    assert (done.base, done.holds) == ("", "An adapter and its base.")
    torch.testing.assert_close(logits(loaded(done.folder)), logits(pupil.model))


# -- as one file ----------------------------------------------------------------------------------------------------


def zipped(desk: Desk, ref: str, **more: int) -> Path:
    place = desk.path.parent / "out"
    place.mkdir(exist_ok=True)
    where = {"settings": desk.settings, "store": desk.store, "workspace": desk.path}
    return export_zip(ModelRef(ref), place, **more, **where)


def test_a_zip_holds_the_folder_of_an_export(desk, tmp_path):
    pupil = desk.put("lora", by=0.05)
    file = zipped(desk, "run:1")
    assert file == zipped(desk, "run:1")  # over the one before
    assert [one.name for one in file.parent.iterdir()] == ["run-1.zip"]
    shutil.unpack_archive(file, tmp_path / "carried")
    carried, exported = tmp_path / "carried" / "run-1", desk.export("run:1", "folder").folder
    assert {f.name: f.read_bytes() for f in carried.iterdir()} == {f.name: f.read_bytes() for f in exported.iterdir()}
    base = AutoModelForCausalLM.from_pretrained(desk.tiny.base, dtype=torch.float32)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, carried).eval()), logits(pupil.model))


def test_a_zip_that_is_too_large_names_the_command_and_leaves_nothing(desk):
    desk.put("full")
    with pytest.raises(InputError, match=r"run:1 has .* MB of weights.*`ladder models export run:1 FOLDER`"):
        zipped(desk, "run:1", largest=1000)
    desk.put("lora", 2, base="run:1", by=0.05)  # small, but its base was made here and comes along
    with pytest.raises(InputError, match="run:2 has .* MB of weights"):
        zipped(desk, "run:2", largest=1000)
    assert list((desk.path.parent / "out").iterdir()) == []


def test_a_zip_that_does_not_fit_the_disk_is_a_sentence_and_keeps_the_one_before(desk, monkeypatch):
    desk.put("lora")
    before = zipped(desk, "run:1").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.write", full)
    with pytest.raises(StorageError, match=r"out could not be written \(No space left on device\). Free some space"):
        zipped(desk, "run:1")
    assert [(one.name, one.read_bytes()) for one in (desk.path.parent / "out").iterdir()] == [("run-1.zip", before)]


# -- what is refused ------------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_and_left_as_it_is(desk):
    desk.put("lora")
    folder = desk.path.parent / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"out is there already and not empty. Choose a folder that does not exist yet"
    ):
        desk.export("run:1", "out")
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]


def test_a_run_that_is_not_done_is_refused(desk):
    job = desk.store.queue_job(MakeModel(base="dir:tiny"), author="ann")
    with pytest.raises(ModelError, match=f"run:{job.id} is not a model yet: the run is queued. Wait until it is done"):
        desk.export(f"run:{job.id}", "out")


def test_an_adapter_whose_base_changed_is_refused(desk):
    desk.put("lora")
    file = desk.tiny.base / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 0.5}, file, metadata={"format": "pt"})
    with pytest.raises(StudioError, match=rf"run:1 .* other weights than .*{desk.tiny.digest[:12]}"):
        desk.export("run:1", "out")


def test_a_reward_model_is_refused(desk):
    desk.put("lora")
    shutil.copytree(desk.path / "runs" / "1", desk.path / "runs" / "2")
    facts = {"base": "dir:tiny", "method": "reward", "base_digest": desk.tiny.digest}
    add_row(desk.store, 2, answers=False, scores=True, **facts)
    with pytest.raises(Unsupported, match="run:2 scores answers and gives none"):
        desk.export("run:2", "out")


@pytest.mark.parametrize("kind", ["made", "with-base"])
def test_a_disk_that_fills_up_leaves_nothing_half(desk, monkeypatch, kind):
    desk.put("lora")
    copy = shutil.copyfile

    def full(source, target):
        if Path(source).name == "tokenizer.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy(source, target)

    monkeypatch.setattr(exporting.shutil, "copyfile", full)
    with pytest.raises(StorageError, match=r"out could not be written \(No space left on device\). Free some space"):
        desk.export("run:1", "out", Form(kind))
    assert [path.name for path in desk.path.parent.iterdir() if "out" in path.name] == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(desk, monkeypatch):
    desk.put("lora")
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda there: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StorageError, match=r"run:1 takes 0.00 GB on the disk of .*, where 0.00 GB are free"):
        desk.export("run:1", "out", Form("merged"))


def test_an_adapter_that_does_not_fit_is_a_sentence(desk):
    desk.put("lora")
    (desk.path / "runs/1/model/adapter_model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match="The adapter of run:1 does not fit tiny"):
        desk.export("run:1", "out", Form("merged"))
    assert not (desk.path.parent / "out").exists()


def test_a_base_that_cannot_be_read_is_not_called_a_misfit_of_the_adapter(desk):
    desk.put("lora")
    weights = desk.weights("run:1")
    (desk.tiny.base / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"The weights of run:1 in .*tiny cannot be loaded \("):
        merged(weights)


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_exports_and_refuses_in_one_line(tmp_path, tiny_folder, tiny_weights, capsys, monkeypatch):
    workspace = tmp_path / "workspace"
    shutil.copytree(tiny_folder, workspace / "models" / "tiny")
    store = Store.in_folder(workspace)
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)
    put_run(store, workspace, tiny_weights, "prompt")

    def ladder(*words: str) -> int:
        try:
            cli.main(["--workspace", str(workspace), "models", "export", *words])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    out = str(tmp_path / "out")
    assert ladder("run:1", out, "--with-base", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["holds"]) == (out, "An adapter and its base.")
    assert ladder("run:1", out) == 2
    assert "is there already and not empty" in capsys.readouterr().err
    assert ladder("run:1", str(tmp_path / "merged"), "--merged") == 1
    assert capsys.readouterr().err.startswith("run:1 was made with prompt tuning, which has no merged form")
    assert ladder("dir:tiny", str(tmp_path / "base"), "--precision", "bfloat16") == 2
    assert "Add --merged" in capsys.readouterr().err
    assert ladder("run:1", str(tmp_path / "made")) == 0
    assert "An adapter, without its base." in capsys.readouterr().out
    store.close()
