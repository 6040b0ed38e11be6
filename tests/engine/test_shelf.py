"""What every method leaves is served as plain peft and transformers compute it, and bases are shared where they can be."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from studio.engine.answers import Speaker
from studio.engine.shelf import Shelf
from studio.errors import ModelError
from studio.models import Weights
from studio.recipes.tuning import tuning_methods
from studio.specs import ModelRef, Sampling
from studio.training import methods
from studio.training.decode import generate
from studio.training.loading import load_base

SMALL = {
    "adalora": {"rank": 2, "first_rank": 4},
    "prefix": {"virtual_tokens": 5},
    "prompt": {"virtual_tokens": 5},
    "p_tuning": {"virtual_tokens": 5, "encoder_size": 16},
    "llama_adapter": {"adapter_length": 4, "adapter_layers": 2},
    "selective": {"last_layers": 1},
}
HERE = sorted(set(tuning_methods()) - {"qlora"})
SHARED = ["lora", "prefix", "prompt", "p_tuning"]
PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16]]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(torch.device("cpu"), torch.float32)


@pytest.fixture
def tuned(tiny_weights, tmp_path, monkeypatch):
    """The files of a method whose parameters are far from where they began."""
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)

    def make(kind: str, seed: int = 1) -> Weights:
        torch.manual_seed(seed)
        fields = {"base": "dir:tiny", "data": "data:words@1", **SMALL.get(kind, {})}
        pupil = methods.learner(tiny_weights, tuning_methods()[kind].model_validate(fields).method(), steps=20)
        with torch.no_grad():
            for parameter in pupil.parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        pupil.model.eval()
        folder = tmp_path / f"{kind}-{seed}"
        pupil.save(folder)
        is_whole = pupil.model is pupil.causal
        base, adapter = (folder, None) if is_whole else (tiny_weights.base, folder)
        return Weights(ModelRef("run:1"), base, adapter, f"{kind}{seed}" if is_whole else tiny_weights.digest, 64, "")

    return make


def plain(weights: Weights) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(weights.base, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, weights.adapter) if weights.adapter else model).eval()


def answers(model, prompts=PROMPTS) -> list[list[int]]:
    return [a.ids for a in generate(model, prompts, Sampling(max_tokens=8), [])]


def plain_answers(model: torch.nn.Module) -> list[list[int]]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own generation warns of position ids
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
            )
            found.append(made[0][-8:].tolist())
    return found


@pytest.mark.parametrize("kind", HERE)
def test_every_method_is_served_as_plain_libraries_answer(shelf, tuned, tiny_weights, kind):
    weights = tuned(kind)
    expected = plain_answers(plain(weights))
    with shelf.model(tiny_weights) as base:
        unlike = answers(base)
    with shelf.model(weights) as model:
        assert answers(model) == expected != unlike


def test_what_is_merged_goes_where_the_shelf_is(tuned):
    elsewhere = Shelf(torch.device("meta"), torch.bfloat16)
    with elsewhere.model(tuned("ia3")) as model:
        assert {(str(p.device), p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("kind", HERE)
def test_every_method_tells_the_probabilities_of_plain_libraries(shelf, tuned, tokenizer, kind):
    weights = tuned(kind)
    prompt, answer = PROMPTS[0], " hello Paris"
    ids = torch.tensor([prompt + tokenizer(answer, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        expected = plain(weights)(input_ids=ids).logits[0, -ids.shape[1] :].log_softmax(-1)
    chosen = expected[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None]).squeeze(-1)
    with shelf.model(weights) as model:
        speaker = Speaker(model, tokenizer, 64, lambda: None, lambda: False, lambda schema: None)  # type: ignore[arg-type]
        told = speaker.logprobs(prompt, answer, 3)
        [first] = speaker.next_tokens(prompt, 1)
        vectors = speaker.embed(["hello", "Paris is the capital"])
    assert [t["logprob"] for t in told] == pytest.approx(chosen.tolist(), abs=1e-4)
    assert first["logprob"] == pytest.approx(float(expected[len(prompt) - 1].max()), abs=1e-4)
    assert all(sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-4) for vector in vectors)


def test_lora_and_beginnings_share_one_base_and_leave_no_trace_on_it(shelf, tuned, tiny_weights):
    with shelf.model(tiny_weights) as base:
        before = answers(base)
    made = {kind: tuned(kind) for kind in SHARED}
    alone = {}
    for kind, weights in made.items():
        with Shelf(shelf.device, shelf.dtype).model(weights) as model:
            alone[kind] = answers(model)
    for _ in range(2):
        for kind, weights in made.items():
            with shelf.model(weights) as model:
                assert answers(model) == alone[kind], kind
        with shelf.model(tiny_weights) as base:
            assert answers(base) == before
    assert shelf.loads == 1


def test_what_cannot_share_a_base_is_held_alone(shelf, tuned, tiny_weights):
    one, other = tuned("ia3"), tuned("ia3", seed=2)
    said = []
    for weights in (one, other, one):
        with shelf.model(weights) as model:
            said.append(answers(model))
    assert said[0] == said[2] != said[1]
    assert shelf.loads == 3
    with shelf.model(tiny_weights) as base:
        assert answers(base) == answers(load_base(tiny_weights, torch.float32))


@pytest.mark.parametrize("kind", ["lora", "prefix", "ia3"])
def test_a_torn_adapter_is_a_sentence_and_the_base_answers_on(shelf, tuned, tiny_weights, kind):
    weights = tuned(kind)
    assert isinstance(weights.adapter, Path)
    (weights.adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="does not fit tiny"), shelf.model(weights):
        pass
    with shelf.model(tiny_weights) as base:
        assert answers(base)


def test_answers_sampled_with_a_beginning_do_not_depend_on_their_neighbours(shelf, tuned):
    long = [[*range(5, 45), n] for n in range(4)]  # what they share is read once
    with shelf.model(tuned("prefix")) as model:
        together = answers(model, long)
        alone = [answers(model, [prompt])[0] for prompt in long]
    assert together == alone
