"""An adapter put into its base for good, where its method can be. Needs torch, so the page process never imports it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from studio.errors import ModelError
from studio.models.registry import Weights
from studio.models.shelf import count_parameters

__all__ = ["UNREADABLE", "first_line", "merged", "misfit", "save_merged", "unreadable"]

_BYTES = 4  # of a number in float32
# What transformers, peft and safetensors raise for files that are missing, torn or of another shape.
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


def merged(weights: Weights) -> Any:
    """The base with its adapter in it, on the processor and in float32, so that only the sum is rounded, if at all.

    Raises ModelError when the base cannot be read, or the files do not fit each other or memory. Whether the method can
    be merged is the caller's to know.
    """
    _refuse_if_too_big(weights)
    base = _base(weights)
    try:
        with warnings.catch_warnings():
            # Layers that were left without a rank are what AdaLoRA is for, and no sign of a torn file.
            warnings.filterwarnings("ignore", message=".*LoRA tensor.*have invalid shape")
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            model: Any = PeftModel.from_pretrained(base, str(weights.adapter))
        return model.merge_and_unload().eval()
    except UNREADABLE as error:
        raise misfit(weights, error) from error


def save_merged(weights: Weights, folder: Path, precision: Literal["float32", "bfloat16"]) -> None:
    """Write what `merged` gives, and its config, into a folder."""
    model = merged(weights)
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(str(folder))
    for file in folder.glob("*.safetensors"):  # which are written for their owner alone
        file.chmod((folder / "config.json").stat().st_mode)


def _base(weights: Weights) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(weights.base),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except UNREADABLE as error:
        raise unreadable(weights, error) from error


def unreadable(weights: Weights, error: Exception) -> ModelError:
    """What to say of a base whose files a library could not read."""
    return ModelError(
        f"The weights of {weights.ref} in {weights.base} cannot be loaded ({first_line(error)}). "
        "Check that its files are complete, or choose another model."
    )


def misfit(weights: Weights, error: Exception) -> ModelError:
    """What to say of an adapter that a library could not put on its base."""
    return ModelError(
        f"The adapter of {weights.ref} does not fit {weights.base.name} ({first_line(error)}). "
        "Check that its files are complete and that it was trained on this base."
    )


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _refuse_if_too_big(weights: Weights) -> None:
    need = count_parameters(weights.base) * _BYTES / 1e9
    free = psutil.virtual_memory().available / 1e9
    if need > free:
        raise ModelError(
            f"Merging {weights.ref} into its base needs {need:.1f} GB of memory but {free:.1f} GB are free. "
            "Cancel a running job and try again."
        )
