"""Every method: what it says learns is what learns, its loss is PEFT's own, what it saves is what plain libraries load."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from studio.errors import InputError, Unsupported
from studio.models import Weights
from studio.recipes.tuning import Tuning, tuning_methods
from studio.specs import ModelRef, Sampling, assistant, user
from studio.training import methods
from studio.training.conversation import MASKED, Example, encode_example
from studio.training.decode import generate
from studio.training.loading import load_base
from studio.training.method import Method
from studio.training.methods import Learner, learner
from studio.training.sft import Schedule, collate, learned_loss, tune
from tests.memory_run import MemoryRun

STEPS = 24
SMALL = {
    "lora": {"rank": 4},
    "adalora": {"rank": 2, "first_rank": 4},
    "prefix": {"virtual_tokens": 5},
    "prompt": {"virtual_tokens": 5},
    "p_tuning": {"virtual_tokens": 5, "encoder_size": 16},
    "llama_adapter": {"adapter_length": 4, "adapter_layers": 2},
    "selective": {"last_layers": 1},
}
VARIANTS = {"rslora": ("lora", {"rank": 4, "rank_stabilised": True}), "dora": ("lora", {"rank": 4, "magnitudes": True})}
HERE = sorted(set(tuning_methods()) - {"qlora"})
ALL = [*HERE, *VARIANTS]

# What of the model's names each method may move, and nothing else.
MOVES = {
    "lora": "lora_",
    "rslora": "lora_",
    "dora": "lora_",
    "adalora": "lora_",
    "prefix": "prompt_encoder",
    "prompt": "prompt_encoder",
    "p_tuning": "prompt_encoder",
    "ia3": "ia3_",
    "llama_adapter": "adaption_",
    "full": "",
    "selective": "layers.1.",
}


def task(name: str, **fields: object) -> Tuning:
    kind, knobs = VARIANTS.get(name, (name, SMALL.get(name, {})))
    return tuning_methods()[kind].model_validate({"base": "dir:tiny", "data": "data:words@1", **knobs, **fields})


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)


@pytest.fixture(scope="module")
def examples(tokenizer) -> list[Example]:
    words = "one two three four five six seven eight nine fox dog hello Paris".split()
    return [
        encode_example(tokenizer, [user(" ".join(words[: 2 + i % 9])), assistant(" ".join(words[i % 7 :]))])
        for i in range(12)
    ]


@pytest.fixture
def made(float32, tiny_weights):
    def make(name: str, seed: int = 3) -> Learner:
        torch.manual_seed(seed)
        return learner(tiny_weights, task(name).method(), steps=STEPS)

    return make


@pytest.mark.parametrize("name", ALL)
def test_before_it_learns_it_is_asked_as_the_base_is(name, made, examples, float32, tiny_weights, tmp_path):
    """Beginnings too, which say something at random until they have learned."""
    pupil, base = made(name), load_base(tiny_weights)
    ids, mask, labels = collate(examples, pad=2)
    names = set(pupil.parameters())
    with torch.no_grad():
        expected = learned_loss(base, ids, mask, labels)
        with pupil.untouched() as model:
            found = learned_loss(model, ids, mask, labels)
        at_first = learned_loss(pupil.reading(), ids, mask, labels)
    assert torch.equal(found, expected) or name == "llama_adapter"
    torch.testing.assert_close(found, expected)
    assert torch.isclose(at_first, expected) == pupil.is_neutral
    assert set(pupil.parameters()) == names
    schedule = Schedule(epochs=2, batch_size=2, learning_rate=0.0, seed=3)
    outcome = tune(pupil, examples, examples, schedule, MemoryRun(tmp_path), pad=2)
    learned = sum(e.learned for e in examples)
    assert outcome.validation_loss_before == pytest.approx(expected.item() / learned, rel=1e-5)
    assert (outcome.best_step == 0) == pupil.is_neutral


def moved(pupil: Learner, before: dict[str, torch.Tensor]) -> set[str]:
    return {n for n, p in pupil.model.named_parameters() if not torch.equal(before[n], p)}


def snapshot(pupil: Learner) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in pupil.model.named_parameters()}


def two_steps(pupil: Learner, examples: list[Example], folder: Path, rate: float = 1e-2) -> None:
    schedule = Schedule(epochs=1, batch_size=6, learning_rate=rate)
    outcome = tune(pupil, examples, [], schedule, MemoryRun(folder), pad=2)
    assert outcome.steps == 2


@pytest.mark.parametrize("name", ALL)
def test_two_steps_move_exactly_what_the_method_says(made, examples, tmp_path, name):
    pupil = made(name)
    before = snapshot(pupil)
    two_steps(pupil, examples, tmp_path)
    found = moved(pupil, before)
    assert found
    assert all(MOVES[name] in parameter for parameter in found)
    assert found == set(pupil.parameters()), "something that was said to learn did not move"


@pytest.mark.parametrize("name", ALL)
def test_the_loss_is_that_of_the_plain_computation(made, examples, tmp_path, name):
    pupil = made(name)
    two_steps(pupil, examples, tmp_path)
    pupil.model.eval()
    ids, mask, labels = collate(examples[:6], pad=2)
    with torch.no_grad():
        logits = pupil.model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
        plain = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=MASKED, reduction="sum"
        )
        ours = learned_loss(pupil.reading(), ids, mask, labels)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_its_gradient_is_that_of_the_plain_computation(made, examples, name):
    pupil = made(name)
    with torch.no_grad():  # away from where all begin: there, many gradients are zero
        for p in pupil.parameters().values():
            p.add_(torch.randn_like(p) * 0.05)
    pupil.model.eval()
    ids, mask, labels = collate(examples[:6], pad=2)
    learned_loss(pupil.reading(learns=True), ids, mask, labels).backward()
    ours = {n: p.grad.clone() for n, p in pupil.parameters().items()}
    pupil.model.zero_grad()
    logits = pupil.model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
    torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=MASKED, reduction="sum"
    ).backward()
    for n, p in pupil.parameters().items():
        torch.testing.assert_close(ours[n], p.grad, rtol=1e-3, atol=1e-3, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("name", ALL)
def test_plain_libraries_load_it_and_give_the_same_logits(made, examples, tmp_path, tiny_folder, name):
    pupil = made(name)
    two_steps(pupil, examples, tmp_path)
    pupil.model.eval()
    pupil.save(tmp_path / "model")
    if pupil.model is pupil.causal:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
        assert (tmp_path / "model" / "tokenizer.json").is_file()
    else:
        base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
        loaded = PeftModel.from_pretrained(base, tmp_path / "model")
    ids, mask, _ = collate(examples[:4], pad=2)
    with torch.no_grad():
        expected = pupil.model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(loaded.eval()(input_ids=ids, attention_mask=mask).logits, expected)
    assert not [p for p in (tmp_path / "model").rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".pth")]


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft's own generation says so
@pytest.mark.parametrize("name", ALL)
def test_our_decoding_answers_as_plain_generation_does(made, examples, tmp_path, name):
    pupil = made(name)
    two_steps(pupil, examples, tmp_path)
    pupil.model.eval()
    prompts = [e.ids[:7] for e in examples[:3]] + [examples[4].ids[:4]]
    ours = generate(pupil.reading(), prompts, Sampling(max_tokens=8), [])
    for prompt, answer in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        plain = pupil.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
        )[0]
        assert answer.ids == plain[-8:].tolist()


@pytest.mark.parametrize("name", ALL)
def test_a_stopped_and_resumed_run_ends_where_an_undisturbed_one_does(made, examples, tmp_path, name):
    schedule = Schedule(epochs=STEPS // 3, batch_size=4, learning_rate=5e-3, seed=3)
    whole = made(name)
    tune(whole, examples, examples[:3], schedule, MemoryRun(tmp_path / "whole"), pad=2)
    run = MemoryRun(tmp_path / "parts", stop_after=STEPS - 5)
    assert not tune(made(name), examples, examples[:3], schedule, run, pad=2).finished
    run.stop_after = None
    resumed = made(name, seed=99)  # whatever it starts from, the checkpoint decides
    assert tune(resumed, examples, examples[:3], schedule, run, pad=2).finished
    for parameter, value in whole.parameters().items():
        assert torch.equal(value, resumed.parameters()[parameter]), parameter


def test_lora_goes_on_from_a_lora_adapter_and_nothing_else_does(float32, tiny_weights, tiny_lora, tiny_ia3):
    tuned = Weights(ModelRef("run:1"), tiny_weights.base, tiny_lora, tiny_weights.digest, 2048, "")
    pupil = learner(tuned, Method("LORA", {"r": 2}), steps=STEPS)
    assert pupil.model.peft_config["default"].r != 2  # it is the adapter that was there
    with pytest.raises(Unsupported, match="run:1 was made with LoRA, and prefix tuning cannot go on from it"):
        learner(tuned, Method("PREFIX_TUNING", {"num_virtual_tokens": 4}), steps=STEPS)
    other = Weights(ModelRef("run:2"), tiny_weights.base, tiny_ia3, tiny_weights.digest, 2048, "")
    with pytest.raises(Unsupported, match="run:2 was made with IA3, and LoRA cannot go on from it"):
        learner(other, Method("LORA", {"r": 2}), steps=STEPS)
    with pytest.raises(Unsupported, match="run:1 is an adapter on tiny, which has no weights of its own"):
        learner(tuned, Method(), steps=STEPS)


def test_layers_are_chosen_by_name_or_number_and_unknown_ones_are_named(float32, tiny_weights):
    named = learner(tiny_weights, Method(layers=("layers.0.mlp", "model.norm.weight")), steps=STEPS)
    assert {n.removeprefix("model.") for n in named.parameters()} == {
        *(f"layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
        "norm.weight",
    }
    with pytest.raises(InputError, match=r"No layer of dir:tiny is called 'layers.99.'.* for example, .*embed_tokens"):
        learner(tiny_weights, Method(layers=("layers.99.",)), steps=STEPS)


def test_adalora_refuses_a_run_too_short_for_it(float32, tiny_weights):
    with pytest.raises(Unsupported, match="this run has 4"):
        learner(tiny_weights, task("adalora").method(), steps=4)


def test_adalora_ends_with_the_rank_it_was_told_to_keep(made, examples, tmp_path, tiny_weights):
    pupil = made("adalora")
    schedule = Schedule(epochs=STEPS // 3, batch_size=4, learning_rate=5e-3)
    tune(pupil, examples, [], schedule, MemoryRun(tmp_path), pad=2)
    kept = [int((p != 0).sum()) for n, p in pupil.model.named_parameters() if "lora_E" in n]
    assert sum(kept) == 2 * len(kept)
    pupil.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers without a rank are said to look torn
        loaded = PeftModel.from_pretrained(load_base(tiny_weights), tmp_path / "model").eval()
    ids, mask, _ = collate(examples[:4], pad=2)
    with torch.no_grad():
        expected = pupil.model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(loaded(input_ids=ids, attention_mask=mask).logits, expected)


def test_what_adalora_learns_in_bfloat16_is_what_it_saves(tiny_weights, monkeypatch):
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.bfloat16)
    pupil = learner(tiny_weights, task("adalora").method(), steps=STEPS)
    assert not [name for name in pupil.parameters() if "ranknum" in name]


def test_qlora_says_what_it_misses_here(float32, tiny_weights):
    if not (refusal := methods.quantization_refusal()):
        pytest.skip("4-bit weights can be had here")
    with pytest.raises(Unsupported, match=refusal):
        learner(tiny_weights, task("qlora").method(), steps=STEPS)


def test_a_model_of_another_family_is_refused_by_name_where_a_method_knows_it_not(float32, tmp_path, monkeypatch):
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 64}
    gpt = GPT2LMHeadModel(GPT2Config(**size)).eval()
    gpt.config.model_type = "gptx"
    monkeypatch.setattr(methods, "load_base", lambda weights: copy.deepcopy(gpt))
    weights = Weights(ModelRef("dir:gptx"), tmp_path, None, "", 64, "")
    with pytest.raises(Unsupported, match=r"not made for models of the kind 'gptx', which dir:gptx is. It knows gpt2"):
        learner(weights, task("llama_adapter").method(), steps=STEPS)
    with pytest.raises(Unsupported, match="which layers of dir:gptx, a model of the kind 'gptx', these are"):
        learner(weights, task("ia3").method(), steps=STEPS)


def test_recomputing_activations_changes_no_bit_of_what_is_learned(made, examples, tmp_path):
    ends = []
    for recomputes in (False, True):
        pupil = made("lora")
        schedule = Schedule(epochs=2, batch_size=4, learning_rate=1e-2, recomputes=recomputes)
        tune(pupil, examples, [], schedule, MemoryRun(tmp_path / str(recomputes)), pad=2)
        ends.append(snapshot(pupil))
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_the_base_is_read_in_the_fastest_precision(tiny_weights):
    assert load_base(tiny_weights).dtype in (torch.bfloat16, torch.float32)
