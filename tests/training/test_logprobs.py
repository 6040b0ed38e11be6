"""Log-probabilities: equal to a plain forward pass, with its gradient, whatever the padding."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from studio.errors import Unsupported
from studio.specs import Sampling
from studio.training import logprobs
from studio.training.decode import generate
from studio.training.logprobs import hidden_states, lay_out, refuse_reshaped_logits, token_logprobs

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
RESPONSES = [[20, 21, 22], [23, 24, 25, 26, 2], [27]]


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    """Absolute positions: wrong as soon as padding shifts them."""
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64, "n_positions": 64}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**size, **drop)).eval().requires_grad_(False)


@pytest.fixture
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**size, vocab_size=64, num_key_value_heads=2)).eval().requires_grad_(False)


def ours(model, prompts, responses, temperature=1.0, pad=0) -> list[list[float]]:
    batch = lay_out(prompts, responses, pad)
    states = hidden_states(model, batch.ids, batch.mask).gather(
        1, batch.places[..., None].expand(-1, -1, model.config.hidden_size)
    )
    table = torch.zeros(batch.actions.shape)
    table[batch.actions] = token_logprobs(model, states[batch.actions], batch.targets, temperature)[0]
    return [row[: len(r)].tolist() for row, r in zip(table, responses, strict=True)]


def plain(model, prompt, response, temperature=1.0) -> list[float]:
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0].float() / temperature
    table = logits.log_softmax(-1)
    return [float(table[len(prompt) - 1 + t, token]) for t, token in enumerate(response)]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_they_are_those_of_a_plain_forward_of_each_row_alone(name, temperature, request):
    model = request.getfixturevalue(name)
    with torch.no_grad():
        found = ours(model, PROMPTS, RESPONSES, temperature)
        for prompt, response, row in zip(PROMPTS, RESPONSES, found, strict=True):
            assert row == pytest.approx(plain(model, prompt, response, temperature), abs=2e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_padding_and_the_id_it_is_made_of_change_nothing(name, request):
    model = request.getfixturevalue(name)
    longer = [*PROMPTS, list(range(3, 40))], [*RESPONSES, list(range(3, 20))]
    with torch.no_grad():
        once, wider, other = (
            ours(model, PROMPTS, RESPONSES),
            ours(model, *longer),
            ours(model, PROMPTS, RESPONSES, pad=2),
        )
    for a, b, c in zip(once, wider, other, strict=False):
        assert a == pytest.approx(b, abs=2e-6)
        assert a == pytest.approx(c, abs=2e-6)


@pytest.mark.parametrize("chunk", [1, 2**25], ids=["row-by-row", "at-once"])
def test_the_gradient_is_that_of_a_plain_log_softmax(llama, chunk, monkeypatch):
    monkeypatch.setattr(logprobs, "_CHUNK_NUMBERS", chunk)
    states = torch.randn(7, 32)
    targets, weights = torch.randint(0, 64, (7,)), torch.randn(7)
    one, other = states.clone().requires_grad_(), states.clone().requires_grad_()
    (token_logprobs(llama, one, targets, 0.8)[0] * weights).sum().backward()
    logits = llama.get_output_embeddings()(other) / 0.8
    (logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1) * weights).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_the_entropy_is_that_of_the_distribution(llama):
    states = torch.randn(5, 32)
    _, entropy = token_logprobs(llama, states, torch.zeros(5, dtype=torch.long), 1.3)
    logits = llama.get_output_embeddings()(states) / 1.3
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=logits).entropy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_rollout_in_which_rows_were_dropped_has_the_log_probabilities_of_a_full_forward(name, request):
    model = request.getfixturevalue(name)
    stops = set(range(0, 64, 5))  # ends come early and at different steps
    answers = generate(model, PROMPTS * 3, Sampling(temperature=1.0, max_tokens=12, seed=4), stops, logprobs=True)
    assert len({len(a.ids) for a in answers}) > 2
    with torch.no_grad():
        found = ours(model, PROMPTS * 3, [a.ids for a in answers])
    for row, answer in zip(found, answers, strict=True):
        assert row == pytest.approx(answer.logprobs, abs=4e-6)


def test_a_model_that_bends_its_logits_is_refused_by_name(llama):
    refuse_reshaped_logits(llama.config, "dir:tiny")
    llama.config.final_logit_softcapping = 30.0
    with pytest.raises(Unsupported, match=r"dir:tiny bends its logits \(final_logit_softcapping\)"):
        refuse_reshaped_logits(llama.config, "dir:tiny")


def test_a_trained_output_layer_is_refused(tiny):
    model = copy.deepcopy(tiny).requires_grad_(True)
    with pytest.raises(Unsupported, match="output layer of this model is trained"):
        token_logprobs(model, torch.randn(2, 32), torch.tensor([1, 2]))
