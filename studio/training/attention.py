"""Which of transformers' attention computations suits a run.

On the CPU, PyTorch's fused attention is slow going backward over short sequences: with the embedded model in bfloat16, a
step of fine-tuning costs a sixth more processor time than with plain matrix products (8 records of 90 to 260 tokens, two
AVX-512-BF16 cores). From about 400 tokens on, the plain one loses, and its memory grows with the square of the length.
"""

from __future__ import annotations

from typing import Any

__all__ = ["choose_attention"]

_SHORT = 384
_SCORES = 32 * _SHORT**2  # attention scores of one head that are kept for the way back: 2.5 GB for 30 layers of 9 heads


def choose_attention(model: Any, rows: int, longest: int) -> None:
    """Set the faster attention for a run that learns from batches of `rows` sequences of at most `longest` tokens.

    Once for the whole run: what is computed again (log-probabilities, dropped activations) has to come out the same.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    suits = longest <= _SHORT and rows * longest**2 <= _SCORES
    if suits and causal.device.type == "cpu" and causal.config._attn_implementation == "sdpa":
        causal.set_attn_implementation("eager")
