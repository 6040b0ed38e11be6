"""Models to test with: a tiny random Llama, adapters on it, an engine that serves it, and the real embedded model."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from studio.engine.client import EngineClient
from studio.models import EMBEDDED, Weights, convert, resolve
from studio.processes import wait_until
from studio.settings import Settings
from studio.specs import ModelRef

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

TINY = ModelRef("dir:tiny")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    from tests.tiny_models import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The tiny model in this process, in float32."""
    from tests.tiny_models import tiny_llama

    return tiny_llama(tokenizer)


@pytest.fixture(scope="session")
def model_workspace(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast, tiny: LlamaForCausalLM
) -> Path:
    """A workspace folder whose models/ holds `dir:tiny`."""
    workspace = tmp_path_factory.mktemp("workspace")
    folder = workspace / "models" / "tiny"
    tiny.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return workspace


@pytest.fixture(scope="session")
def tiny_folder(model_workspace: Path) -> Path:
    return model_workspace / "models" / "tiny"


@pytest.fixture(scope="session")
def tiny_lora(model_workspace: Path, tiny_folder: Path) -> Path:
    """A LoRA adapter on the tiny model that changes its answers."""
    from tests.tiny_models import save_lora

    return save_lora(tiny_folder, model_workspace / "adapters" / "lora")


@pytest.fixture(scope="session")
def tiny_ia3(model_workspace: Path, tiny_folder: Path) -> Path:
    """An adapter that is not LoRA."""
    from tests.tiny_models import save_ia3

    return save_ia3(tiny_folder, model_workspace / "adapters" / "ia3")


@pytest.fixture(scope="session")
def runtime() -> Iterator[Path]:
    """Short on purpose: a unix socket's path ends at 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ladder-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model_settings(runtime: Path) -> Settings:
    return Settings(runtime=runtime, threads=min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def engine(model_settings: Settings, model_workspace: Path) -> Iterator[EngineClient]:
    """One engine for all tests that do not end it."""
    client = EngineClient(model_settings, model_workspace)
    yield client
    leave(client)


def leave(client: EngineClient) -> None:
    """Close a client where no event loop runs, and see its engine off before its folder goes."""
    asyncio.run(client.close())
    assert wait_until(lambda: client.state() == "off", 15), "the engine stays although its last client left"


@pytest.fixture(scope="session")
def tiny_weights(model_settings: Settings, model_workspace: Path) -> Weights:
    return resolve(TINY, settings=model_settings, store=None, workspace=model_workspace)


@dataclass(frozen=True)
class Embedded:
    folder: Path
    weights: Weights


@pytest.fixture(scope="session")
def embedded(model_settings: Settings, model_workspace: Path) -> Embedded:
    """The real embedded model, converted once into the per-user cache."""
    folder = convert(model_settings.cache, lambda fraction, message: None)
    weights = resolve(EMBEDDED, settings=model_settings, store=None, workspace=model_workspace)
    return Embedded(folder, weights)
