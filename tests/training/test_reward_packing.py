"""Answers packed behind one prompt: read as if each stood alone, or not packed at all."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from studio.training.reward import can_pack, last_states, packed_states

PROMPT = list(range(5, 17))
ANSWERS = [[20, 21, 22], [23, 24, 25, 26, 27, 28, 2], [29]]
SIZE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZE, num_key_value_heads=2, initializer_range=0.2)).eval()


@pytest.fixture
def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**size, initializer_range=0.2)).eval()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_answer_is_read_as_if_it_stood_alone(name, request):
    model = request.getfixturevalue(name)
    with torch.no_grad():
        [packed] = packed_states(model, [(PROMPT, ANSWERS)])
        alone = torch.cat([last_states(model, [PROMPT + answer], pad=0) for answer in ANSWERS])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=2e-5)
    assert can_pack(model, PROMPT, ANSWERS, pad=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_rankings_beside_each_other_leave_each_other_alone(name, request):
    model = request.getfixturevalue(name)
    rankings = [(PROMPT, ANSWERS), (PROMPT[:3], ANSWERS[1:]), ([40, 41], [[50], [51, 52], [53], [54, 55]])]
    with torch.no_grad():
        together = packed_states(model, rankings)
        alone = [packed_states(model, [ranking])[0] for ranking in rankings]
    assert [len(states) for states in together] == [3, 2, 4]
    for packed, single in zip(together, alone, strict=True):
        torch.testing.assert_close(packed, single, rtol=1e-4, atol=2e-5)


def test_the_gradient_is_the_same_too(llama):
    def gradient(states: torch.Tensor) -> torch.Tensor:
        llama.zero_grad()
        states.square().sum().backward()
        return llama.model.layers[0].self_attn.q_proj.weight.grad.clone()

    packed = gradient(packed_states(llama, [(PROMPT, ANSWERS)])[0])
    alone = gradient(last_states(llama, [PROMPT + answer for answer in ANSWERS], pad=0))
    torch.testing.assert_close(packed, alone, rtol=1e-3, atol=1e-4)


def test_a_model_that_would_read_them_otherwise_is_found_out():
    """A sliding window shorter than prompt and answers makes a mask of its own, or takes none."""
    torch.manual_seed(0)
    config = MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=4, initializer_range=0.2)
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        [packed] = packed_states(model, [(PROMPT, ANSWERS)])
        alone = last_states(model, [PROMPT + answer for answer in ANSWERS], pad=0)
    assert not torch.allclose(packed, alone, atol=1e-2)
    assert not can_pack(model, PROMPT, ANSWERS, pad=0)
