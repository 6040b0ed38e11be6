"""Several adapters that take turns on one base: policy, reference, value, reward. One copy of the weights in memory.

PEFT switches adapters, but not without side effects: `set_adapter` freezes every other adapter, so a gradient that
is asked for after a switch is zero without an error, and so does switching all of them off or on. All switching goes
through `Actors.playing`, which puts the flags back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from studio.errors import Unsupported
from studio.models import Weights
from studio.training.loading import load_base
from studio.training.packing import pack

__all__ = ["Actors", "new_adapter", "parameter_count", "put_on", "save_adapter"]


class Actors:
    """The model with its adapters; those in `learning` always ask for gradients, all others never do."""

    def __init__(self, model: PeftModel, learning: Collection[str]) -> None:
        self.model = model.eval()
        self._learning = sorted(learning)
        self._player: str | None = model.active_adapter
        self._put_flags_back()

    @property
    def causal(self) -> Any:
        """The base model with its output layer."""
        return self.model.get_base_model()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """One adapter's parameters, by name."""
        # By peft's prefix too (".lora_A.value."): RoBERTa, for one, calls a layer of its own `value`.
        own = re.compile(rf"\.{self.model.base_model.prefix}\w+\.{re.escape(name)}(\.|$)")
        return {n: p for n, p in self.model.named_parameters() if own.search(n)}

    @contextmanager
    def playing(self, name: str | None) -> Iterator[PeftModel]:
        """Answer as that adapter, or as the bare base; then as whoever played before."""
        before = self._player
        try:
            self._switch(name)
            yield self.model
        finally:
            self._switch(before)

    @contextmanager
    def checkpointing(self, is_on: bool) -> Iterator[None]:
        """Recompute activations in the backward pass instead of keeping them. A recomputation uses whatever adapter
        plays then, so within this the backward pass must come before the next switch."""
        if not is_on:
            yield
            return
        self.causal.activation_checkpointing_enable({"use_reentrant": False})
        _silence_dropout(self.model)
        self.model.train()  # transformers checkpoints in train mode only
        try:
            yield
        finally:
            self.model.eval()
            self.causal.activation_checkpointing_disable()
            self.causal.disable_input_require_grads()  # which enabling turned on

    def _switch(self, name: str | None) -> None:
        if name == self._player:
            return  # peft goes over every module several times: most of what a turn of a small model would cost
        tuner: Any = self.model.base_model
        # Not by peft's disable_adapter(): within it, a turn of an adapter would be one of the base, without an error.
        if name is None:
            tuner.disable_adapter_layers()
        else:
            if self._player is None:
                tuner.enable_adapter_layers()
            self.model.set_adapter(name, inference_mode=True)
        self._player = name
        self._put_flags_back()

    def _put_flags_back(self) -> None:
        self.model.requires_grad_(False)
        if self._learning:
            self.model.set_requires_grad(self._learning, True)


def put_on(model: Any, folder: Path, name: str) -> PeftModel:
    """Load an adapter of that name from a folder, in the base's own precision."""
    settings: dict[str, Any] = {"adapter_name": name, "is_trainable": True, "autocast_adapter_dtype": False}
    if isinstance(model, PeftModel):
        model.load_adapter(str(folder), **settings)
        return model
    return PeftModel.from_pretrained(model, str(folder), **settings)


def new_adapter(weights: Weights, rank: int, alpha: int, name: str = "default", *, samples: bool = False) -> PeftModel:
    """The base with a new adapter, or with a copy of the adapter the base itself is; packed if it `samples` as well."""
    if weights.adapter is not None:
        _refuse_if_not_lora(weights, weights.adapter)
    base = load_base(weights)
    if samples:
        pack(base)
    if weights.adapter is not None:
        return put_on(base, weights.adapter, name)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, config, adapter_name=name, autocast_adapter_dtype=False)


def _refuse_if_not_lora(weights: Weights, adapter: Path) -> None:
    method = str(PeftConfig.from_pretrained(str(adapter)).peft_type).removeprefix("PeftType.")
    if method != "LORA":
        raise Unsupported(
            f"{weights.ref} was made with {method}, and only LoRA adapters can share a base with others, as alignment "
            "needs. Align its base, or a model that was tuned with LoRA or with whole weights."
        )


def parameter_count(model: nn.Module) -> int:
    """How many parameters training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_adapter(model: PeftModel, folder: Path, base: str, name: str = "default") -> None:
    """A finished adapter, loadable by plain peft; it names its base by reference, not by a path of this machine."""
    model.peft_config[name].base_model_name_or_path = base
    model.save_pretrained(str(folder), selected_adapters=[name])
    if name != "default":  # peft puts any other in a folder of its own
        for file in (folder / name).iterdir():
            file.replace(folder / file.name)
        (folder / name).rmdir()


def _silence_dropout(model: nn.Module) -> None:
    """Both kinds: many models drop attention by a number in their config, not by a module."""
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
