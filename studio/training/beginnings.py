"""What some adapters are: keys and values that stand before every text.

Prefix tuning (Li & Liang 2021, arXiv 2101.00190) learns them as they are. Prompt tuning (Lester et al. 2021, arXiv
2104.08691) and p-tuning (Liu et al. 2021, arXiv 2103.10385) learn embeddings, which the model turns into keys and values
by reading them once. Nothing after them is seen by them, so reading them once for a whole batch, or once for all
answers of an engine, gives what PEFT computes anew in every row.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers.cache_utils import DynamicCache

__all__ = ["BEGINNINGS", "Beginning", "Prefixed", "beginning_of", "has_beginning", "read_beginning"]

BEGINNINGS = frozenset({"PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"})  # PEFT's names of them

Beginning = list[tuple[Tensor, Tensor]]  # keys and values of each layer, [1, heads, n, head size]


def has_beginning(model: Any) -> bool:
    """Whether the model's adapter is one of these."""
    return isinstance(model, PeftModel) and bool(model.active_peft_config.is_prompt_learning)


def beginning_of(model: PeftModel, *, learns: bool = False) -> Beginning:
    """The adapter's keys and values; with gradients towards it when it `learns`."""
    causal: Any = model.get_base_model()
    with nullcontext() if learns else torch.no_grad():
        made: Any = model.get_prompt(1)
        if isinstance(made, Tensor):  # embeddings, [1, n, d]
            embeddings = made.to(causal.get_input_embeddings().weight.dtype)
            cache = DynamicCache(config=causal.config)
            causal.get_decoder()(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
            made = cache
    return [(layer.keys, layer.values) for layer in made.layers]


@torch.no_grad()
def read_beginning(folder: Path, causal: Any) -> Beginning:
    """That of an adapter in a folder, for a model that is left as it is. Raises what the files raise."""
    config: Any = PeftConfig.from_pretrained(str(folder))
    weight = causal.get_input_embeddings().weight
    learned = load_file(folder / "adapter_model.safetensors")["prompt_embeddings"].to(weight.device, weight.dtype)
    if config.peft_type == "PREFIX_TUNING":
        heads = config.num_attention_heads
        size = (1, config.num_virtual_tokens, config.num_layers * 2, heads, config.token_dim // heads)
        layers = learned.view(size).permute(2, 0, 3, 1, 4).split(2)  # [2, 1, heads, n, head size] each
        return [(keys, values) for keys, values in layers]
    cache = DynamicCache(config=causal.config)
    causal.get_decoder()(inputs_embeds=learned[None], past_key_values=cache, use_cache=True)
    made: Any = cache.layers
    return [(layer.keys, layer.values) for layer in made]


class Prefixed:
    """A model (or its decoder) that reads everything after a beginning; called as the model itself is.

    Masks and positions that callers give are of the text alone, and so is what comes back.
    """

    def __init__(self, model: Any, beginning: Beginning) -> None:
        self._model, self._beginning = model, beginning
        self._length = beginning[0][0].shape[-2]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def get_decoder(self) -> Any:
        return Prefixed(self._model.get_decoder(), self._beginning)

    def __call__(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool = False,
        **settings: Any,
    ) -> Any:
        given: Any = input_ids if input_ids is not None else settings["inputs_embeds"]
        cache = past_key_values if past_key_values is not None else DynamicCache(config=self._model.config)
        if not cache.get_seq_length():
            for place, (keys, values) in enumerate(self._beginning):
                rows = (given.shape[0], -1, -1, -1)
                cache.update(keys.expand(rows), values.expand(rows), place)
        if attention_mask is not None:
            attention_mask = self._longer(attention_mask)
        if position_ids is not None:
            position_ids = position_ids + self._length
        # The cache is where the beginning lies, so there is one even where the caller wants none back.
        answer = self._model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            **settings,
        )
        return answer

    def _longer(self, mask: Tensor) -> Tensor:
        """The beginning is seen from everywhere: 1 in a mask [rows, tokens], 0 in an additive one [rows, 1, 1, tokens]."""
        seen = 0.0 if mask.is_floating_point() else 1
        return torch.nn.functional.pad(mask, (self._length, 0), value=seen)
