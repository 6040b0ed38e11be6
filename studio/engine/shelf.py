"""What the engine holds in memory: one base with any number of adapters on it, and tokenizers without weights.

LoRA adapters share the base, and so do those that are nothing but a beginning (prefix, prompt and p-tuning). PEFT cannot
mix any other kind with them on one base: such a model is merged where it can be and held as a base of its own.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedTokenizerBase

from studio.errors import ModelError
from studio.models import Weights
from studio.models.exporting import merge_refusal
from studio.models.files import weight_files
from studio.models.merging import UNREADABLE, first_line, merged, misfit, unreadable
from studio.processes import give_memory_back
from studio.training.beginnings import BEGINNINGS, Beginning, Prefixed, read_beginning
from studio.training.loading import load_base, load_tokenizer
from studio.training.packing import pack, packed

__all__ = ["Shelf", "Tokenizers"]

_ADAPTERS = 8
_TOKENIZERS = 4


class Tokenizers:
    """The last few tokenizers, by folder. No weights: a count or a rendered prompt never waits for those."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, PreTrainedTokenizerBase] = OrderedDict()
        self._lock = threading.Lock()  # both of the engine's threads come here

    def of(self, weights: Weights) -> PreTrainedTokenizerBase:
        with self._lock:
            if weights.base not in self._held:
                self._held[weights.base] = _read_tokenizer(weights)
                while len(self._held) > _TOKENIZERS:
                    self._held.popitem(last=False)
            self._held.move_to_end(weights.base)
            return self._held[weights.base]


@dataclass
class _Base:
    weights: Weights
    model: Any
    adapters: OrderedDict[str, Path]
    beginnings: OrderedDict[str, Beginning]
    is_merged: bool = False  # its own adapter is in it, and no other can be

    def is_of(self, weights: Weights, merged: bool) -> bool:
        if merged or self.is_merged:
            return merged and self.is_merged and self.weights.key == weights.key
        return (self.weights.base, self.weights.digest) == (weights.base, weights.digest)


class Shelf:
    """One base at a time; asking for another one puts the first away."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self.loads = 0  # how many times a base was read from disk
        self._base: _Base | None = None

    @contextmanager
    def model(self, weights: Weights) -> Iterator[Any]:
        """The model these weights make: the base alone, or with one adapter switched on."""
        method = _method_of(weights)
        is_merged = method not in ("", "LORA", *BEGINNINGS)
        base = self._load(weights, is_merged)
        if method == "LORA":
            assert weights.adapter is not None
            self._put_on(base, weights, weights.adapter)
            base.model.set_adapter(weights.key)
            with packed(base.model, weights.key, version=weights.key):
                yield base.model
            return
        with base.model.disable_adapter() if _has_adapters(base) else nullcontext(), packed(base.model):
            if method in BEGINNINGS:
                yield Prefixed(_causal(base.model), self._beginning(base, weights))
            else:
                yield base.model

    def clear(self) -> None:
        """Free the memory."""
        self._base = None
        gc.collect()
        give_memory_back()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def holdings(self) -> dict[str, Any]:
        """What is loaded, for the status."""
        base = self._base
        return {
            "base": str(base.weights.base) if base else None,
            "adapters": [str(path) for path in base.adapters.values()] if base else [],
            "beginnings": len(base.beginnings) if base else 0,
            "loads": self.loads,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
        }

    def _load(self, weights: Weights, merged: bool) -> _Base:
        if self._base is None or not self._base.is_of(weights, merged):
            self.clear()
            _refuse_if_too_big(weights, self.device)
            model = self._read_merged(weights) if merged else self._read_base(weights)
            self._base = _Base(weights, model, OrderedDict(), OrderedDict(), merged)
            self.loads += 1
        return self._base

    def _read_base(self, weights: Weights) -> Any:
        try:
            model = load_base(weights, self.dtype)
        except UNREADABLE as error:
            raise unreadable(weights, error) from error
        model.requires_grad_(False)
        return pack(model)

    def _read_merged(self, weights: Weights) -> Any:
        """The base with this one adapter in it: merged in float32 where PEFT can, so that only the sum is rounded."""
        model: Any
        if not merge_refusal(weights):
            model = merged(weights)
        else:
            try:
                model = PeftModel.from_pretrained(load_base(weights, torch.float32), str(weights.adapter))
            except UNREADABLE as error:
                raise misfit(weights, error) from error
        model.requires_grad_(False)
        return pack(model.to(self.device, self.dtype).eval())

    def _beginning(self, base: _Base, weights: Weights) -> Beginning:
        assert weights.adapter is not None
        if weights.key not in base.beginnings:
            try:
                base.beginnings[weights.key] = read_beginning(weights.adapter, _causal(base.model))
            except UNREADABLE as error:
                raise misfit(weights, error) from error
            while len(base.beginnings) > _ADAPTERS:
                base.beginnings.popitem(last=False)
        base.beginnings.move_to_end(weights.key)
        return base.beginnings[weights.key]

    def _put_on(self, base: _Base, weights: Weights, adapter: Path) -> None:
        if weights.key in base.adapters:
            base.adapters.move_to_end(weights.key)
            return
        # bfloat16 like the base: left to itself, PEFT keeps adapters in float32 and casts at every layer.
        settings: dict[str, Any] = {"adapter_name": weights.key, "autocast_adapter_dtype": False}
        try:
            if isinstance(base.model, PeftModel):
                base.model.load_adapter(str(adapter), **settings)
            else:
                base.model = PeftModel.from_pretrained(base.model, str(adapter), **settings)
        except UNREADABLE as error:
            self.clear()  # a half-loaded adapter would leave traces in the base
            raise misfit(weights, error) from error
        base.model.eval()
        base.adapters[weights.key] = adapter
        while len(base.adapters) > _ADAPTERS:
            oldest, _ = base.adapters.popitem(last=False)
            base.model.set_adapter(weights.key)
            base.model.delete_adapter(oldest)


def _read_tokenizer(weights: Weights) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(weights)
    except UNREADABLE as error:
        raise ModelError(
            f"The tokenizer of {weights.ref} cannot be loaded from {weights.base} ({first_line(error)}). "
            "Copy the whole model folder again."
        ) from error


def _method_of(weights: Weights) -> str:
    """PEFT's name of the adapter's method; '' for whole weights."""
    if weights.adapter is None:
        return ""
    weight_files(weights.adapter)
    return str(PeftConfig.from_pretrained(str(weights.adapter)).peft_type).removeprefix("PeftType.")


def _has_adapters(base: _Base) -> bool:
    return isinstance(base.model, PeftModel) and not base.is_merged


def _causal(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _refuse_if_too_big(weights: Weights, device: torch.device) -> None:
    if device.type != "cpu":
        return  # CUDA says so itself, in the same sentence
    need = sum(file.stat().st_size for file in weight_files(weights.base)) / 1e9
    free = psutil.virtual_memory().available / 1e9
    if need > free:
        raise ModelError(
            f"{weights.ref} needs {need:.1f} GB of memory but {free:.1f} GB are free. "
            "Cancel a running job or choose a smaller base."
        )
