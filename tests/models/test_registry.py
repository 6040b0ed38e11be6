"""A reference leads to files, or to a sentence that says what to do."""

from __future__ import annotations

import shutil

import pytest

from studio.errors import ModelError, NotFound
from studio.models import resolve
from studio.models.files import digest
from studio.specs import ModelRef
from studio.store import model_row
from tests.fixtures_models import TINY


@pytest.fixture
def workspace(tmp_path, tiny_folder, tiny_lora):
    """`dir:tiny`, and the output folders of two runs."""
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    for run in (1, 2):
        shutil.copytree(tiny_lora, tmp_path / "runs" / str(run) / "model")
    return tmp_path


@pytest.fixture
def find(workspace, sqlite_store, model_settings):
    def resolved(ref):
        return resolve(ModelRef(ref), settings=model_settings, store=sqlite_store, workspace=workspace)

    return resolved


def add_run(store, number, base, **facts):
    path = facts.pop("path", f"runs/{number}/model")
    store.add_model(
        model_row(f"run:{number}", f"Run {number}", author="ann", base=base, method="lora", path=path, **facts)
    )


def test_a_folder_in_models_is_a_model(find, workspace):
    weights = find(TINY)
    assert (weights.base, weights.adapter, weights.window) == (workspace / "models" / "tiny", None, 2048)


def test_a_run_is_its_adapter_on_its_base(find, workspace, sqlite_store):
    add_run(sqlite_store, 1, TINY, licence="Apache-2.0")
    weights = find("run:1")
    assert (weights.base, weights.adapter) == (workspace / "models" / "tiny", workspace / "runs" / "1" / "model")
    assert (weights.digest, weights.licence) == (find(TINY).digest, "Apache-2.0")


def test_a_run_on_a_run_is_one_adapter_on_the_original_base(find, workspace, sqlite_store):
    add_run(sqlite_store, 1, TINY)
    add_run(sqlite_store, 2, "run:1")
    weights = find("run:2")
    assert (weights.base, weights.adapter) == (workspace / "models" / "tiny", workspace / "runs" / "2" / "model")


def test_a_run_that_left_whole_weights_is_a_base_of_its_own(find, workspace, sqlite_store):
    add_run(sqlite_store, 3, TINY, path="models/tiny")
    assert (find("run:3").base, find("run:3").adapter) == (workspace / "models" / "tiny", None)


def test_keys_tell_models_apart_and_change_with_their_files(find, workspace, sqlite_store):
    add_run(sqlite_store, 1, TINY)
    add_run(sqlite_store, 2, TINY)
    keys = {find(TINY).key, find("run:1").key, find("run:2").key}
    assert len(keys) == 3
    (workspace / "runs" / "1" / "model" / "adapter_model.safetensors").touch()
    assert find("run:1").key not in keys
    assert find("run:2").key in keys


def test_the_digest_follows_the_weights_and_is_kept_until_they_change(find, workspace):
    folder = workspace / "models" / "tiny"
    before = digest(folder)
    assert digest(folder) == before == find(TINY).digest
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x01\x02\x03\x04")
    assert digest(folder) != before


def test_an_adapter_is_not_put_on_a_base_that_changed(find, sqlite_store):
    add_run(sqlite_store, 1, TINY, base_digest="0" * 64)
    with pytest.raises(ModelError, match=r"run:1 is an adapter for other weights than dir:tiny has now"):
        find("run:1")


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        ("dir:absent", r"dir:absent is not on this machine: .*Folders there: tiny"),
        ("dir:..", r"does not name a folder directly inside"),
        ("dir:tiny/../../runs/1", r"does not name a folder directly inside"),
        ("hf:Qwen/Qwen3-0.6B", r"hf:Qwen/Qwen3-0.6B is not on this machine, and the studio downloads nothing"),
        ("embedded:other", r"no embedded model 'other'. The studio comes with embedded:smollm2"),
        ("run:9", r"no model 'run:9' in this workspace"),
    ],
)
def test_what_is_not_here_is_named_with_the_cure(find, ref, sentence):
    with pytest.raises(NotFound, match=sentence):
        find(ref)


def test_a_model_without_files_here_is_refused(find):
    with pytest.raises(ModelError, match="endpoint:office/llama has no weights on this machine"):
        find("endpoint:office/llama")


def test_a_run_whose_files_are_gone_says_where_they_were(find, workspace, sqlite_store):
    add_run(sqlite_store, 1, TINY)
    shutil.rmtree(workspace / "runs" / "1")
    with pytest.raises(NotFound, match=r"files of run:1 are not in .*runs/1/model"):
        find("run:1")


def test_weights_in_a_format_that_can_run_code_are_not_opened(find, workspace):
    folder = workspace / "models" / "tiny"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors weights. It holds pytorch_model.bin"):
        find(TINY)


def test_a_folder_that_is_not_a_model_says_what_is_missing(find, workspace):
    (workspace / "models" / "tiny" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config.json"):
        find(TINY)
