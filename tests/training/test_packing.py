"""Packed weights change the speed of an answer, not the answer."""

from __future__ import annotations

import copy

import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from studio.specs import Sampling
from studio.training import packing
from studio.training.decode import generate
from studio.training.packing import pack, packed

IDS = torch.tensor([[5, 6, 7, 8]])


def with_lora(base, **settings) -> PeftModel:
    """Two adapters, both of which change the answer."""
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **settings)
    model = get_peft_model(base, config, adapter_name="first")
    model.add_adapter("second", config)
    return model.eval()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits.float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 32])
def test_packed_layers_give_the_same_numbers(tiny, dtype, rows):
    plain = copy.deepcopy(tiny).to(dtype)
    ours = pack(copy.deepcopy(plain))
    ids = torch.arange(rows * 7).reshape(rows, 7)
    with torch.inference_mode(), packed(ours):
        assert any(getattr(layer, "in_use", False) for layer in ours.modules())
        assert torch.allclose(
            plain(ids).logits.float(), ours(ids).logits.float(), atol=1e-4 if dtype is torch.float32 else 0.1
        )


@pytest.mark.parametrize("settings", [{}, {"lora_alpha": 3, "use_rslora": True}, {"use_dora": True}])
def test_an_adapter_goes_into_the_packed_weights(tiny, settings):
    plain, ours = (with_lora(base, **settings) for base in (copy.deepcopy(tiny), pack(copy.deepcopy(tiny))))
    answers = []
    for name in ("first", "second", "first"):
        plain.set_adapter(name)
        ours.set_adapter(name)
        with packed(ours, name, "1"):
            assert torch.allclose(logits(plain), logits(ours), atol=1e-4)
            answers.append(generate(ours, IDS.tolist(), Sampling(max_tokens=10), stop_ids=())[0].ids)
        assert answers[-1] == generate(plain, IDS.tolist(), Sampling(max_tokens=10), stop_ids=())[0].ids
    assert answers[0] == answers[2] != answers[1]


def test_the_bare_base_comes_back_under_an_adapter(tiny):
    plain, ours = copy.deepcopy(tiny), with_lora(pack(copy.deepcopy(tiny)))
    with packed(ours, "first", "1"):
        assert not torch.allclose(logits(plain), logits(ours), atol=1e-4)
    with ours.disable_adapter(), packed(ours):
        assert torch.allclose(logits(plain), logits(ours), atol=1e-4)


def test_an_adapter_that_learned_is_put_in_anew(tiny):
    ours = with_lora(pack(copy.deepcopy(tiny)))
    with packed(ours, "first"):
        before = logits(ours)
    for name, parameter in ours.named_parameters():
        if "lora_B.first" in name:
            parameter.data += 0.5
    with packed(ours, "first"):
        after = logits(ours)
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(after, logits(ours), atol=1e-4)


def test_models_that_take_turns_are_laid_out_once(tiny, monkeypatch):
    ours = with_lora(pack(copy.deepcopy(tiny)))
    made = []
    monkeypatch.setattr(packing, "_laid_out", lambda weight: made.append(1) or weight.clone())
    for _ in range(3):
        for name in ("first", "second"):
            ours.set_adapter(name)
            with packed(ours, name, "1"):
                pass
        with ours.disable_adapter(), packed(ours):
            pass
    layers = sum(isinstance(layer, packing._PackedLinear) for layer in ours.modules())
    heads = 1  # the output layer has no adapter
    assert len(made) == 2 * (layers - heads)


def test_outside_nothing_is_different_to_the_last_bit(tiny):
    plain, ours = with_lora(copy.deepcopy(tiny)), with_lora(pack(copy.deepcopy(tiny)))
    with pytest.raises(RuntimeError), packed(ours, "first"):  # and however it was left
        raise RuntimeError
    assert torch.equal(logits(plain), logits(ours))
    loss = ours(IDS, labels=IDS).loss
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for n, p in ours.named_parameters() if "lora_A.first" in n)


def test_weights_are_not_doubled_where_memory_is_short(tiny, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    model = pack(copy.deepcopy(tiny))
    assert not any(hasattr(layer, "packed") for layer in model.modules())
