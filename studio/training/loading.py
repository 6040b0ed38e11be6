"""Weights into memory: safetensors only, no remote code, in the fastest precision the hardware has."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from studio.errors import ModelError
from studio.models import Weights
from studio.models.files import weight_files
from studio.tasks import Run

__all__ = ["best_device", "best_dtype", "free_memory", "load_base", "load_tokenizer", "make_room"]


@cache
def best_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it (four times faster than float32 on such CPUs), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    flags = Path("/proc/cpuinfo")
    known = flags.read_text(encoding="utf-8", errors="replace") if flags.exists() else ""
    return torch.bfloat16 if "avx512_bf16" in known or "amx_bf16" in known else torch.float32


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def free_memory() -> int:
    """Bytes that are free where models go: on the GPU, or else in this machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def make_room(run: Run, weights: Weights) -> None:
    """Have the engine put its weights down when memory is short for a run on that model."""
    if free_memory() < _room(weights):
        run.say("Freeing the engine's memory for this run.")
        run.release_engine()


def _room(weights: Weights) -> int:
    """Bytes under which a run had better have the machine for itself: the weights with gradients passing through, and
    4 GiB of activations (the embedded model at batch 8 was seen at 3.9 GB in all). A guess, so nothing is refused."""
    return 2 * sum(file.stat().st_size for file in weight_files(weights.base)) + 4 * 2**30


def load_tokenizer(weights: Weights) -> PreTrainedTokenizerBase:
    """The base's tokenizer with its chat template."""
    return AutoTokenizer.from_pretrained(str(weights.base), local_files_only=True, trust_remote_code=False)


def load_base(weights: Weights, dtype: torch.dtype | None = None) -> Any:
    """The base's weights in evaluation mode, without any adapter. Raises ModelError when they cannot be read."""
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(weights.base),
            dtype=dtype or best_dtype(),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The weights of {weights.ref} in {weights.base} cannot be loaded ({error}). Put the folder back as it was."
        ) from error
    return model.to(best_device()).eval()
