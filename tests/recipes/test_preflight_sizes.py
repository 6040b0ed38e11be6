"""Counts from shapes alone are the counts of the real learners, and refusals those of the real methods."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from studio.errors import InputError, Unsupported
from studio.models import Weights
from studio.models.files import digest
from studio.models.shapes import shapes_of
from studio.recipes.preflight import look_steps
from studio.recipes.tuning import tuning_methods
from studio.specs import ModelRef
from studio.training import sft
from studio.training.attention import _SHORT
from studio.training.method import Method
from studio.training.methods import learner
from studio.training.sizes import Batch, Machine, machine, needs, new_parameters, refusal

KNOBS = {
    "lora": {"rank": 5},
    "adalora": {"rank": 2, "first_rank": 5},
    "prefix": {"virtual_tokens": 7},
    "prompt": {"virtual_tokens": 7},
    "p_tuning": {"virtual_tokens": 7, "encoder_size": 24},
    "llama_adapter": {"adapter_length": 3, "adapter_layers": 30},
    "selective": {"last_layers": 1},
}
CASES = [(kind, KNOBS.get(kind, {})) for kind in sorted(set(tuning_methods()) - {"qlora"})]
CASES += [
    ("lora", {"rank": 4, "magnitudes": True}),
    ("llama_adapter", {"adapter_length": 3, "adapter_layers": 1}),
    ("selective", {"layers": ("layers.0.mlp", "norm")}),
]


def method(kind: str, knobs: dict[str, object]) -> Method:
    return tuning_methods()[kind].model_validate({"base": "dir:tiny", "data": "data:w@1", **knobs}).method()


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer) -> Weights:
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Weights(ModelRef("dir:gpt2"), folder, None, digest(folder), 1024, "")


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.training.loading.best_dtype", lambda: torch.float32)


@pytest.mark.parametrize(("kind", "knobs"), CASES, ids=[f"{k}-{'-'.join(map(str, v)) or 'plain'}" for k, v in CASES])
def test_a_method_adds_exactly_what_its_shapes_say(tiny_weights, kind, knobs):
    made = method(kind, knobs)
    assert new_parameters(made, tiny_weights) == learner(tiny_weights, made, steps=24).size


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # peft sets it itself, and says so
@pytest.mark.parametrize(
    "kind", ["lora", "adalora", "full", "prompt", "p_tuning", "prefix", "llama_adapter", "selective"]
)
def test_so_it_is_for_another_family_with_tied_embeddings(gpt2, kind):
    made = method(kind, KNOBS.get(kind, {}))
    assert new_parameters(made, gpt2) == learner(gpt2, made, steps=24).size


def test_a_run_that_goes_on_from_an_adapter_learns_the_numbers_of_that_adapter(tiny_weights, tiny_lora):
    tuned = Weights(ModelRef("run:1"), tiny_weights.base, tiny_lora, tiny_weights.digest, 2048, "")
    made = method("lora", {"rank": 99})
    assert new_parameters(made, tuned) == learner(tuned, made, steps=24).size


def test_what_the_real_method_refuses_is_refused_before(tiny_weights, tiny_lora, tiny_ia3, gpt2):
    def tuned(folder):
        return Weights(ModelRef("run:1"), tiny_weights.base, folder, tiny_weights.digest, 2048, "")

    cases = [
        (method("prefix", {}), tuned(tiny_lora), "cannot go on from it"),
        (method("lora", {}), tuned(tiny_ia3), "was made with IA3"),
        (method("full", {}), tuned(tiny_lora), "no weights of its own"),
        (method("adalora", {}), tiny_weights, "this run has 9"),
        (method("qlora", {}), tiny_weights, "QLoRA needs"),
        (method("ia3", {}), gpt2, "layers of dir:gpt2, a model of the kind 'gpt2', these are. Choose LoRA"),
    ]
    for made, weights, words in cases:
        assert words in refusal(made, weights, steps=9)
        with pytest.raises(Unsupported):
            learner(weights, made, steps=9)
    assert refusal(method("lora", {}), tiny_weights, steps=1) == ""
    with pytest.raises(InputError, match=r"No layer of dir:tiny is called 'nonsense'"):
        new_parameters(method("selective", {"layers": ("nonsense",)}), tiny_weights)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (4, 1), (20, 1), (27, 1), (54, 2), (108, 4), (9, 3), (500, 50)])
def test_looks_are_counted_as_training_takes_them(steps, epochs):
    assert look_steps(steps, epochs) == sorted(sft.looks(steps, epochs))


def test_more_needs_more(tiny_weights):
    place = Machine(False, 16 << 30, 8 << 30, 2, 2)

    def memory(rows: int, longest: int, recomputes: bool = False, kind: str = "lora") -> int:
        made = method(kind, {})
        learns = new_parameters(made, tiny_weights)
        return needs(
            made, tiny_weights, learns, Batch(rows, longest, rows * 20), recomputes=recomputes, place=place
        ).memory

    assert memory(8, 200) > memory(4, 200) > memory(4, 100)
    assert memory(8, 200, recomputes=True) < memory(8, 200)
    assert memory(8, 200, kind="full") > memory(8, 200)
    assert _SHORT == 384  # the length at which sizes.py, too, says that attention keeps its scores


def test_this_machine_is_described_without_torch():
    place = machine()
    assert place.total >= place.free > 0
    assert place.is_gpu == torch.cuda.is_available()


def test_shapes_say_what_the_config_says(tiny_folder):
    shapes = shapes_of(tiny_folder)
    assert (shapes.layers, shapes.width, shapes.heads, shapes.kv_heads, shapes.head_width) == (2, 32, 4, 2, 8)
    assert len(shapes.linears) == 2 * 7
