"""The shapes of a model, read from its config and the headers of its weights. No weights are loaded, and no torch.

What a method adds to a model, and what a run will need, follows from them: see studio/training/sizes.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.models.files import read_config, weight_files

__all__ = ["Linear", "Shapes", "adapter_parameters", "layer_number", "shapes_of"]

_HEADER_BYTES = 100 << 20
_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".masked_bias", ".attention.bias")  # kept in files, never trained
_OUTPUTS = ("lm_head.weight", "embed_out.weight", "output.weight")
_TRANSPOSED = frozenset({"gpt2", "openai-gpt"})  # their layers are Conv1D: [in, out] in the file
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class Linear:
    """One matrix of a model."""

    name: str  # of its layer: model.layers.3.mlp.up_proj
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Shapes:
    """What a model is made of. `parameters` are its trainable numbers by name, tied ones once."""

    model_type: str
    parameters: Mapping[str, int]
    linears: tuple[Linear, ...]  # all but the output layer
    layers: int
    width: int
    inner: int  # of the feed-forward layers
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    is_transposed: bool = False  # its layers are no torch.nn.Linear but [in, out] matrices, as those of GPT-2 are
    has_experts: bool = False  # their matrices lie differently in memory than in files, so counts are close, not exact

    @property
    def numbers(self) -> int:
        return sum(self.parameters.values())


def shapes_of(folder: Path) -> Shapes:
    """The shapes of the model in a folder. Raises ModelError for files that are not whole."""
    files = weight_files(folder)
    return _shapes(folder, tuple((file.name, file.stat().st_mtime_ns) for file in files))


def adapter_parameters(folder: Path) -> int:
    """How many numbers an adapter holds."""
    return sum(math.prod(shape) for file in weight_files(folder) for shape in _header(file).values())


def layer_number(name: str) -> int | None:
    """model.layers.29.mlp.up_proj.weight -> 29."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


@lru_cache(maxsize=32)
def _shapes(folder: Path, marks: tuple[tuple[str, int], ...]) -> Shapes:
    config = read_config(folder)
    tensors: dict[str, tuple[int, ...]] = {}
    for name, _ in marks:
        tensors |= _header(folder / name)
    is_tied = bool(config.get("tie_word_embeddings", False))
    own = {
        name: shape
        for name, shape in tensors.items()
        if not name.endswith(_BUFFERS) and not (is_tied and name in _OUTPUTS)
    }
    is_transposed = config.get("model_type") in _TRANSPOSED
    width = _first(config, "hidden_size", "n_embd", "d_model")
    heads = _first(config, "num_attention_heads", "n_head", "num_heads") or 1
    return Shapes(
        model_type=str(config.get("model_type", "")),
        parameters={name: math.prod(shape) for name, shape in own.items()},
        linears=tuple(_linear(name, shape, is_transposed) for name, shape in own.items() if _is_linear(name, shape)),
        layers=_first(config, "num_hidden_layers", "n_layer", "num_layers"),
        width=width,
        inner=_first(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * width,
        heads=heads,
        kv_heads=_first(config, "num_key_value_heads") or heads,
        head_width=_first(config, "head_dim") or width // heads,
        vocabulary=_first(config, "vocab_size"),
        is_transposed=is_transposed,
        has_experts=any(_first(config, name) for name in _EXPERTS),
    )


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _HEADER_BYTES)))
        return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a whole safetensors file. Copy the model folder again.") from error


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    if len(shape) != 2 or not name.endswith(".weight") or name in _OUTPUTS:
        return False
    return not any(word in name for word in ("embed", "wte", "wpe", "relative_attention_bias"))


def _linear(name: str, shape: tuple[int, ...], is_transposed: bool) -> Linear:
    first, second = shape
    inputs, outputs = (first, second) if is_transposed else (second, first)
    return Linear(name.removesuffix(".weight"), inputs, outputs)


def _first(config: Mapping[str, Any], *names: str) -> int:
    return next((int(config[name]) for name in names if config.get(name)), 0)
