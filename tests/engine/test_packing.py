"""Packed weights change the speed of an answer, not the answer."""

from __future__ import annotations

import copy

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model

from studio.engine.packing import pack
from studio.specs import Sampling
from studio.training.decode import generate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 32])
def test_packed_layers_give_the_same_numbers(tiny, dtype, rows):
    plain = copy.deepcopy(tiny).to(dtype)
    packed = pack(copy.deepcopy(plain))
    ids = torch.arange(rows * 7).reshape(rows, 7)
    with torch.inference_mode():
        theirs, ours = plain(ids).logits.float(), packed(ids).logits.float()
    assert any(hasattr(layer, "packed") for layer in packed.modules())
    assert torch.allclose(theirs, ours, atol=1e-4 if dtype is torch.float32 else 0.1)


def test_an_adapter_fits_on_packed_layers(tiny):
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    answers = []
    for base in (copy.deepcopy(tiny), pack(copy.deepcopy(tiny))):
        torch.manual_seed(3)
        model = get_peft_model(base, config).eval()
        answers.append(generate(model, [[5, 6, 7]], Sampling(max_tokens=10), stop_ids=())[0].ids)
    assert answers[0] == answers[1]


def test_weights_are_not_doubled_where_memory_is_short(tiny, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    packed = pack(copy.deepcopy(tiny))
    assert not any(hasattr(layer, "packed") for layer in packed.modules())
