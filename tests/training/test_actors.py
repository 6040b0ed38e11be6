"""Actors: adapters that take turns on one base, with nothing of one turn left over in the next."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForCausalLM

from studio.errors import ModelError
from studio.models import Weights
from studio.specs import ModelRef, Sampling
from studio.training.actors import Actors, new_adapter, put_on, save_adapter
from studio.training.decode import generate
from studio.training.logprobs import hidden_states
from tests.training.toys import WORDS, cast, llama, one_thread  # noqa: F401 (one_thread is a fixture)

pytestmark = pytest.mark.usefixtures("one_thread")
ALL = ("policy", "value", "reference", "reward")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
MASK = torch.ones_like(IDS, dtype=torch.bool)


@pytest.fixture
def actors() -> Actors:
    """Four of them, no two alike; policy and value learn."""
    return cast(ALL[:2], ALL[2:], tuned=ALL)


def answer(actors: Actors, name: str | None) -> Tensor:
    with actors.playing(name) as model:
        return model(input_ids=IDS).logits


def policy_gradient(actors: Actors, *interludes: str | None, is_checkpointed: bool = False) -> dict[str, Tensor]:
    """Of some loss of the policy, where others play between its forward and its backward pass."""
    with actors.checkpointing(is_checkpointed):
        with actors.playing("policy") as model:
            loss = hidden_states(model, IDS, MASK).square().mean()
            if is_checkpointed:
                loss.backward()
        for name in interludes:
            with actors.playing(name) as model:
                other = hidden_states(model, IDS, MASK).square().mean()
                if is_checkpointed and name in ALL[:2]:
                    other.backward()
        if not is_checkpointed:
            loss.backward()
    return {name: p.grad for name, p in actors.parameters("policy").items()}


def flags(actors: Actors) -> set[str]:
    """Which adapters ask for gradients; "base" stands for all the rest."""
    owners = {n: name for name in ALL for n in actors.parameters(name)}
    return {owners.get(n, "base") for n, p in actors.model.named_parameters() if p.requires_grad}


# -- who plays ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_bare_base_answers_to_the_last_bit_as_it_did_before_it_had_adapters(actors):
    assert torch.equal(answer(actors, None), llama()(input_ids=IDS).logits)


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_each_answers_as_if_it_were_the_only_one(actors, name):
    alone = cast([name], tuned=ALL)
    for one, other in zip(actors.parameters(name).values(), alone.parameters(name).values(), strict=True):
        other.copy_(one)
    assert torch.equal(answer(actors, name), answer(alone, name))


@torch.no_grad()
def test_no_two_of_them_answer_alike(actors):
    answers = [answer(actors, name) for name in (*ALL, None)]
    assert all(not torch.equal(a, b) for i, a in enumerate(answers) for b in answers[:i])


@torch.no_grad()
@pytest.mark.parametrize("outer", ["policy", "value", None])
@pytest.mark.parametrize("inner", ["policy", "reward", None])
def test_after_a_turn_within_a_turn_the_first_goes_on(actors, outer, inner):
    expected = answer(actors, outer), answer(actors, inner)
    with actors.playing(outer) as model:
        assert torch.equal(answer(actors, inner), expected[1])
        assert torch.equal(model(input_ids=IDS).logits, expected[0])
    assert torch.equal(actors.model(input_ids=IDS).logits, answer(actors, "policy"))


@torch.no_grad()
@pytest.mark.parametrize("name", ["value", None])
def test_a_turn_that_fails_ends_like_any_other(actors, name):
    before = actors.model(input_ids=IDS).logits
    with pytest.raises(ZeroDivisionError), actors.playing(name):
        _ = 1 / 0
    assert torch.equal(actors.model(input_ids=IDS).logits, before)
    assert flags(actors) == {"policy", "value"}


# -- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALL, None])
def test_who_learns_always_asks_for_gradients_and_nobody_else_ever_does(actors, name):
    assert flags(actors) == {"policy", "value"}
    with actors.playing(name):
        assert flags(actors) == {"policy", "value"}
        with actors.playing("reward"):
            assert flags(actors) == {"policy", "value"}
    assert flags(actors) == {"policy", "value"}


@pytest.mark.parametrize("interludes", [["value"], [None], ["reference"], ["value", None, "reward", "value"]], ids=str)
def test_others_may_play_between_a_policys_forward_and_backward_pass(actors, interludes):
    """PEFT alone would give no gradient then, and no error."""
    expected = policy_gradient(copy.deepcopy(actors))
    found = policy_gradient(actors, *interludes)
    assert all(g.abs().max() > 0 for g in expected.values())
    assert all(torch.equal(found[name], g) for name, g in expected.items())


def test_recomputed_activations_give_the_same_gradients(actors):
    """Recomputed with another adapter playing, they were wrong in the second digit."""
    plain, checkpointed = copy.deepcopy(actors), actors
    expected = policy_gradient(plain)
    found = policy_gradient(checkpointed, "value", None, is_checkpointed=True)
    assert all(torch.equal(found[name], g) for name, g in expected.items())
    with plain.playing("value") as model:
        hidden_states(model, IDS, MASK).square().mean().backward()
    for name, p in plain.parameters("value").items():
        assert torch.equal(checkpointed.parameters("value")[name].grad, p.grad)


def test_activations_are_recomputed_within_it_and_only_there(actors):
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    actors.causal.model.layers[0].mlp.register_forward_pre_hook(count)
    policy_gradient(actors, is_checkpointed=True)
    assert runs == 2
    policy_gradient(actors)
    assert runs == 3


def test_checkpointing_leaves_nothing_behind(actors):
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in actors.model.modules())

    before = hooks()
    for _ in range(3):
        policy_gradient(actors, "value", is_checkpointed=True)
    with pytest.raises(ZeroDivisionError), actors.checkpointing(True):
        _ = 1 / 0
    assert hooks() == before
    assert not any(m.training for m in actors.model.modules())
    assert flags(actors) == {"policy", "value"}
    with torch.no_grad():
        assert torch.equal(answer(actors, None), llama()(input_ids=IDS).logits)


def test_a_model_that_would_drop_its_cache_does_not_answer(actors):
    """In train mode, layers that recompute throw the cache away, and what they say next is noise."""
    with actors.checkpointing(True), actors.playing("policy") as model:
        with pytest.raises(ModelError, match="evaluation mode"):
            generate(model, [[5, 6]], Sampling(max_tokens=2), ())
    with actors.playing("policy") as model:
        assert len(generate(model, [[5, 6]], Sampling(max_tokens=2), ())[0].ids) == 2


def dropping_gpt2() -> GPT2LMHeadModel:
    """Its blocks drop by modules."""
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": WORDS, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**size, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5))


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(
    "base", [lambda: llama(attention_dropout=0.5), dropping_gpt2], ids=["by-a-number", "by-modules"]
)
def test_no_activation_is_dropped_in_train_mode_whichever_way_the_model_does_it(base):
    actors = cast(tuned=["policy"], base=base())
    with torch.no_grad():
        still = answer(actors, "policy")
        with actors.checkpointing(True):
            assert actors.model.training
            assert torch.equal(answer(actors, "policy"), still)


def test_an_actors_parameters_are_its_own_even_where_the_base_uses_its_name():
    """RoBERTa and others have layers called `value`."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    base = RobertaForCausalLM(RobertaConfig(vocab_size=WORDS, is_decoder=True, **size))
    actors = cast(["policy", "value"], base=base)
    policy, value = actors.parameters("policy"), actors.parameters("value")
    assert len(policy) == len(value) > 0
    assert not policy.keys() & value.keys()
    assert {n.replace(".policy.", ".value.") for n in policy} == value.keys()
    assert all(".lora_" in n for n in value)


# -- from folders ------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(tiny_weights, tiny_lora) -> Weights:
    return Weights(ModelRef("run:1"), tiny_weights.base, tiny_lora, tiny_weights.digest, 2048, "")


@torch.no_grad()
def test_a_new_adapter_on_a_bare_base_answers_as_the_base(tiny_weights):
    model = new_adapter(tiny_weights, 4, 8, "policy")
    actors = Actors(model, {"policy"})
    assert torch.equal(answer(actors, "policy"), answer(actors, None))


@torch.no_grad()
def test_a_new_adapter_on_a_tuned_model_answers_as_that_and_so_does_its_reference(tuned):
    model = new_adapter(tuned, 16, 32, "policy")
    put_on(model, tuned.adapter, "reference")
    actors = Actors(model, {"policy"})
    policy, reference, base = (answer(actors, name) for name in ("policy", "reference", None))
    assert torch.equal(policy, reference)
    assert not torch.equal(policy, base)
    assert {p.dtype for p in actors.parameters("policy").values()} == {actors.causal.dtype}


@torch.no_grad()
def test_what_one_actor_has_learned_can_be_put_on_another_base_by_itself(actors, tmp_path):
    save_adapter(actors.model, tmp_path / "model", "dir:toy", "policy")
    again = Actors(put_on(llama(), tmp_path / "model", "policy"), ())
    assert torch.equal(answer(again, "policy"), answer(actors, "policy"))
