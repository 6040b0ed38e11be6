"""GGUF to safetensors, with transformers' own reader. Needs torch, so only the converting process imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["gguf_to_safetensors"]


def gguf_to_safetensors(gguf: Path, folder: Path, progress: Callable[[float, str], None]) -> None:
    """Write weights (bfloat16), tokenizer and chat template of a GGUF file into a folder."""
    progress(0.1, "Reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    progress(0.3, "Unpacking the weights")
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    progress(0.85, "Writing safetensors")
    # They are plain numbers now; left in place, both make save_pretrained refuse.
    model.hf_quantizer = None
    del model.config.quantization_config
    # Half the disk. Rounding to bfloat16 moves a weight by at most 1/256: of twelve greedy answers of 40 tokens in
    # float32, one came out differently.
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
