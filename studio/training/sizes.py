"""How many numbers a method lets learn, and what a run will hold in memory and on disk: from shapes alone.

No torch here: the page asks before anything is loaded. The counts are held against the real learners by the tests, for
every method; the memory is a formula, so it is called a rule of thumb until a dry run has measured this configuration.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal, Self

import psutil

from studio.errors import InputError, Unsupported
from studio.models import Weights
from studio.models.shapes import Shapes, adapter_parameters, shapes_of
from studio.training.method import Method, own_names

__all__ = [
    "ANSWERS_SHARE",
    "Batch",
    "Machine",
    "Needs",
    "Saving",
    "machine",
    "needs",
    "new_parameters",
    "recomputes",
    "refusal",
]

Saving = Literal["auto", "yes", "no"]  # whether a run computes activations again; auto: when memory is short

ANSWERS_SHARE = 50  # sample answers on the way take at most so small a part of a run's time

_ADAPTABLE = frozenset({"llama", "mistral", "gpt2"})  # what PEFT's adaption prompts know
_IA3_LAYERS = (("k_proj", "v_proj", "down_proj"), ("key", "value", "output.dense"), ("c_attn", "mlp.c_proj"))
_FEWEST_STEPS = 10  # of AdaLoRA
_LIBRARIES = 800e6  # bytes that a worker holds before it has read a model
_LOOSE = 1.1  # what allocators hold beyond what is used
_ON_GPU = 700e6  # what CUDA takes for itself
_SHORT = 384  # tokens up to which attention keeps its scores on the CPU, see studio/training/attention.py
_LOGITS_AT_ONCE = 2**25
_SPOKEN = {
    "LORA": "LoRA",
    "ADALORA": "AdaLoRA",
    "IA3": "IA3",
    "PREFIX_TUNING": "Prefix tuning",
    "PROMPT_TUNING": "Prompt tuning",
    "P_TUNING": "P-tuning",
    "ADAPTION_PROMPT": "LLaMA-Adapter",
}


@dataclass(frozen=True)
class Machine:
    """Where a run would happen. `total` and `free` are bytes of the memory that models go to."""

    is_gpu: bool
    total: int
    free: int
    cores: int
    number_bytes: int  # 2 where bfloat16 is multiplied in hardware, else 4


@dataclass(frozen=True)
class Batch:
    """The largest batch of a run: records, and the tokens and learned tokens of the longest ones together."""

    rows: int
    longest: int
    learned: int

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int]], rows: int) -> Self:
        """The most that a step can hold; `counts` are the (tokens, learned tokens) of one record or more."""
        longest = sorted(counts, reverse=True)[:rows]
        return cls(len(longest), longest[0][0], sum(learned for _, learned in longest))


@dataclass(frozen=True)
class Needs:
    """Bytes. `disk` is the most that the run's folder holds while it runs, `left` what stays when it is done."""

    memory: int
    disk: int
    left: int


# -- what learns --------------------------------------------------------------------------------------------------


def new_parameters(method: Method, weights: Weights) -> int:
    """How many numbers may change. Raises what `refusal` would say, or InputError for layers that are not there."""
    if why := refusal(method, weights):
        raise Unsupported(why)
    if weights.adapter is not None:
        return adapter_parameters(weights.adapter)  # it goes on from a copy
    return _count(method, shapes_of(weights.base), weights)


def refusal(method: Method, weights: Weights, steps: int | None = None) -> str:
    """Why the method cannot work on this model or this machine, with the cure; '' where it can."""
    if weights.adapter is not None:
        return _refused_to_go_on(method, weights)
    shapes = shapes_of(weights.base)
    if method.is_quantized:
        if importlib.util.find_spec("bitsandbytes") is None:
            return "QLoRA needs the package bitsandbytes, which is not installed here. Install it, or choose LoRA."
        if not machine().is_gpu:
            return "QLoRA needs a GPU that bitsandbytes can use, and this machine has none. Choose LoRA."
    if method.peft == "ADAPTION_PROMPT" and shapes.model_type not in _ADAPTABLE:
        return (
            f"LLaMA-Adapter is not made for models of the kind '{shapes.model_type}', which {weights.ref} is. "
            f"It knows {', '.join(sorted(_ADAPTABLE))}. Choose LoRA instead."
        )
    if method.peft == "IA3" and _ia3_layers(shapes) is None:
        return no_ia3(shapes.model_type, weights)
    if method.peft == "ADALORA" and steps is not None and steps < _FEWEST_STEPS:
        return (
            f"AdaLoRA moves its ranks over many steps, and this run has {steps}. Give it at least {_FEWEST_STEPS}: "
            "more epochs, a smaller batch or more records. Or choose LoRA."
        )
    return ""


def no_ia3(model_type: str, weights: Weights) -> str:
    """Why IA3 cannot be put on a model of that kind, with the cure."""
    return (
        f"IA3 turns the layers for keys and values up or down, and it is not known which layers of {weights.ref}, a "
        f"model of the kind '{model_type}', these are. Choose LoRA or prefix tuning instead."
    )


def _refused_to_go_on(method: Method, weights: Weights) -> str:
    assert weights.adapter is not None
    if not method.peft:
        return (
            f"{weights.ref} is an adapter on {weights.base.name}, which has no weights of its own to train. "
            "Choose its base, or tune it further with LoRA."
        )
    before = str(_adapter_config(weights.adapter).get("peft_type", "")).removeprefix("PeftType.")
    if before != "LORA" or method.peft != "LORA":
        return (
            f"{weights.ref} was made with {_SPOKEN.get(before, before)}, and {_SPOKEN[method.peft]} cannot go on from it. "
            "Tune its base instead, or go on from a LoRA run with LoRA."
        )
    return ""


def _adapter_config(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} has no readable adapter_config.json. Put the folder back as it was.") from error


def _count(method: Method, shapes: Shapes, weights: Weights) -> int:
    settings, both = method.settings, sum(layer.inputs + layer.outputs for layer in shapes.linears)
    match method.peft:
        case "":
            return sum(shapes.parameters[name] for name in own_names(method, list(shapes.parameters), str(weights.ref)))
        case "LORA":
            magnitudes = sum(layer.outputs for layer in shapes.linears) if settings.get("use_dora") else 0
            return int(settings["r"]) * both + magnitudes
        case "ADALORA":
            return int(settings["init_r"]) * (both + len(shapes.linears))
        case "PREFIX_TUNING":
            return int(settings["num_virtual_tokens"]) * shapes.layers * 2 * shapes.kv_heads * shapes.head_width
        case "PROMPT_TUNING":
            return int(settings["num_virtual_tokens"]) * shapes.width
        case "P_TUNING":
            d, h = shapes.width, int(settings["encoder_hidden_size"])
            return int(settings["num_virtual_tokens"]) * d + (d * h + h) + (h * h + h) + (h * d + d)
        case "IA3":
            names = _ia3_layers(shapes) or ()
            return sum(
                layer.inputs if layer.name.endswith(names[-1]) else layer.outputs
                for layer in shapes.linears
                if layer.name.endswith(tuple(names))
            )
        case "ADAPTION_PROMPT":
            layers = min(int(settings["adapter_layers"]), shapes.layers)
            return layers * (int(settings["adapter_len"]) * shapes.width + 1)
        case _:
            raise Unsupported(f"It is not known how many numbers {method.peft} adds. Choose another method.")


def _ia3_layers(shapes: Shapes) -> tuple[str, ...] | None:
    if shapes.is_transposed:  # the learner, too, looks among torch's linear layers alone
        return None
    names = [layer.name for layer in shapes.linears]
    return next(
        (layers for layers in _IA3_LAYERS if all(any(n.endswith(layer) for n in names) for layer in layers)), None
    )


def needs(method: Method, weights: Weights, learning: int, batch: Batch, *, recomputes: bool, place: Machine) -> Needs:
    """Memory at the largest batch, and disk, of a run whose `learning` numbers may change.

    Kept for the way back are, for each token and layer: the norms' float32 copies, queries, keys, values and what
    attention made of them, and four times the feed-forward layer; where attention keeps its scores (short texts on the
    CPU), these too. Optimizer: float32 masters, two moments, and the gradients once more in float32.
    """
    shapes, size = shapes_of(weights.base), place.number_bytes
    held = shapes.numbers * (0.6 if method.is_quantized else size)
    if method.peft:
        held += learning * size  # beside the model; its own weights are counted already
    optimizer = learning * (size + 4 + 4 + 8)
    best = learning * size
    checkpoint = learning * 12
    tokens = batch.rows * (batch.longest + int(method.settings.get("num_virtual_tokens", 0)))
    attention = shapes.heads * shapes.head_width
    layer = 10 * shapes.width * size + (3 * attention + 2 * shapes.kv_heads * shapes.head_width) * size
    layer += 4 * shapes.inner * size + 2 * shapes.width * size
    keeps_scores = not place.is_gpu and batch.longest <= _SHORT and batch.rows * batch.longest**2 <= 32 * _SHORT**2
    if keeps_scores:
        layer += (4 + size) * shapes.heads * batch.longest
    activations = tokens * (
        layer + (shapes.layers * shapes.width * size if recomputes else layer * (shapes.layers - 1))
    )
    logits = min(batch.learned, max(1, _LOGITS_AT_ONCE // max(1, shapes.vocabulary))) * shapes.vocabulary * 12
    stepping = activations + logits
    own = held + optimizer + best + max(stepping, checkpoint)
    memory = (_ON_GPU if place.is_gpu else _LIBRARIES) + own * _LOOSE
    left = (learning if method.peft else shapes.numbers) * size
    # A new checkpoint is whole before the old one goes; an adapter is in it as a file of its own too.
    one = learning * 12 + best + (learning * size if method.peft else 0)
    return Needs(int(memory), int(left + 2 * one), int(left))


def recomputes(saving: Saving, keeping: int, place: Machine) -> bool:
    """Whether a run computes its activations again on the way back instead of keeping them: far less memory, a third
    more time. `keeping` is the memory in bytes of a run that keeps them."""
    return saving == "yes" or (saving == "auto" and keeping > place.free)


# -- the machine --------------------------------------------------------------------------------------------------


def machine() -> Machine:
    """Where runs happen, without asking torch."""
    cores = os.cpu_count() or 1
    if (gpu := _gpu_memory()) is not None:
        return Machine(True, *gpu, cores, 2)
    memory = psutil.virtual_memory()
    return Machine(False, memory.total, memory.available, cores, 2 if _multiplies_bfloat16() else 4)


@cache
def _gpu_memory() -> tuple[int, int] | None:
    """Total and free bytes of the first GPU that torch could use; None where there is none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return None
    try:
        if metadata.version("torch").endswith("+cpu"):
            return None
    except metadata.PackageNotFoundError:
        return None
    if not Path("/proc/driver/nvidia/gpus").is_dir():
        return None
    return _asked_nvidia()


def _asked_nvidia() -> tuple[int, int] | None:
    argv = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout
        total, free = (int(part) << 20 for part in said.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return total, free


@cache
def _multiplies_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    known = flags.read_text(encoding="utf-8", errors="replace") if flags.exists() else ""
    return "avx512_bf16" in known or "amx_bf16" in known
