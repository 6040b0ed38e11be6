"""Toys for alignment: a two-layer Llama that knows 64 words, adapters on it, and rewards a few iterations can learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from studio.training.actors import Actors
from studio.training.decode import Generated
from studio.training.logprobs import hidden_states, lay_out, token_logprobs
from studio.training.ppo import Knobs, Score, Trainer

WORDS, STOP = 64, 3
RAGGED = [[7, 8, 9, 10, 11, 12], [13], [14, 15, 16], [17, 18], [19, 20, 21, 22, 23], [24, 25], [26, 27, 28, 29], [30]]
PRACTICE = {"episodes": 64, "minibatch": 64, "epochs": 4, "max_tokens": 12}


def llama(seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {**size, "vocab_size": WORDS, "num_key_value_heads": 2, "initializer_range": 0.1, **settings}
    return LlamaForCausalLM(LlamaConfig(**config)).eval()


def cast(
    learning: Sequence[str] = ("policy",),
    frozen: Sequence[str] = (),
    *,
    tuned: Collection[str] = (),
    seed: int = 0,
    base: Any = None,
) -> Actors:
    """Actors on one base, the first of them playing. Those in `tuned` answer unlike the base from the beginning."""
    base = llama(seed) if base is None else base
    torch.manual_seed(seed + 1)
    model: PeftModel | None = None
    for name in (*learning, *frozen):
        lora = LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
            init_lora_weights=name not in tuned,
        )
        if model is None:
            model = get_peft_model(base, lora, adapter_name=name, autocast_adapter_dtype=False)
        else:
            model.add_adapter(name, lora, autocast_adapter_dtype=False)
    assert model is not None
    return Actors(model, learning)


@torch.no_grad()
def copy_adapter(actors: Actors, source: str, target: str) -> None:
    for one, other in zip(actors.parameters(source).values(), actors.parameters(target).values(), strict=True):
        other.copy_(one)


def random_prompts(seed: int) -> list[list[int]]:
    """64 prompts of 4 words."""
    return torch.randint(0, WORDS, (64, 4), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Matrices this small take longer on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- rewards -------------------------------------------------------------------------------------------------


def even_words(_: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
    """The share of words with an even number."""
    return torch.tensor([sum(i % 2 == 0 for i in a.ids) / len(a.ids) for a in answers])


def brevity(_: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
    """1 - length / 12."""
    return torch.tensor([1 - len(a.ids) / 12 for a in answers])


def nothing(_: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
    return torch.zeros(len(answers))


def shuffled(score: Score) -> Score:
    """The same scores, each given to somebody else's answer."""
    generator = torch.Generator().manual_seed(5)

    def found(prompts: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
        return score(prompts, answers)[torch.randperm(len(answers), generator=generator)]

    return found


def no_number(_: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
    return torch.full((len(answers),), math.nan)


# -- training ------------------------------------------------------------------------------------------------


def trainer(
    score: Score = even_words,
    actors: Actors | None = None,
    *,
    reference: str | None = None,
    prompts: Sequence[Sequence[int]] = RAGGED,
    stops: Collection[int] = frozenset({STOP, 9, 33}),
    pad: int = 0,
    stop_requested: Callable[[], object] = lambda: "",
    **knobs: Any,
) -> Trainer:
    """A trainer of a few short answers; answers end soon and at different lengths."""
    small = {"iterations": 4, "episodes": 8, "minibatch": 4, "epochs": 2, "max_tokens": 6}
    rates = {"learning_rate": 3e-3, "value_learning_rate": 1e-2, "warmup": 1}
    free = {"target_kl": 1e9, "kl_stop": 1e9, "unfinished_penalty": 0.0}
    chosen = Knobs(**{**small, **rates, **free, **knobs})
    if actors is None:
        actors = cast(("policy", "value") if chosen.value_mode == "adapter" else ("policy",))
    return Trainer(actors, reference, prompts, score, frozenset(stops), chosen, pad=pad, stop_requested=stop_requested)


def practised(score: Score, seed: int, *, iterations: int = 16, **knobs: Any) -> list[dict[str, float]]:
    """The metrics of each iteration of one of the two toy tasks."""
    names = ("policy", "value") if knobs.get("value_mode") == "adapter" else ("policy",)
    settings = {**PRACTICE, "kl_coef": 0.02, "seed": seed, **knobs}
    toy = trainer(
        score,
        cast(names, seed=seed),
        prompts=random_prompts(seed),
        stops={STOP} if score is not even_words else (),
        iterations=iterations,
        **settings,
    )
    return [toy.iterate() for _ in range(iterations)]


def gradients(toy: Trainer) -> dict[str, Tensor]:
    """The gradients of the only step of one iteration: a first moment that began at 0 is then a tenth of them."""
    toy.iterate()
    return {
        name.removesuffix("/exp_avg"): 10 * value for name, value in toy.tensors().items() if name.endswith("/exp_avg")
    }


@torch.no_grad()
def logprobs(
    actors: Actors,
    name: str | None,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float = 1.0,
) -> Tensor:
    """What that actor thinks of these answers, [N] over their words."""
    batch = lay_out(prompts, answers, 0)
    with actors.playing(name) as model:
        states = hidden_states(model, batch.ids, batch.mask)
        rows = torch.arange(len(batch.ids))[:, None]
        return token_logprobs(model, states[rows, batch.places][batch.actions], batch.targets, temperature)[0]


def frozen_bytes(actors: Actors, learning: Collection[str]) -> dict[str, bytes]:
    """Everything that training must leave alone, as it is in memory."""
    moving = {n for name in learning for n in actors.parameters(name)}
    return {
        n: p.detach().contiguous().view(torch.uint8).numpy().tobytes()
        for n, p in actors.model.named_parameters()
        if n not in moving
    }
