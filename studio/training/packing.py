"""Weights laid out the way the processor's matrix kernels read them, so that they are not laid out anew at every token.

Measured on two AVX-512-BF16 cores with the embedded model: a matrix times one row takes half the time, times 32 rows
four fifths. The layout costs a second copy of the weights, so it is made only where memory is plenty.

A LoRA adapter goes into that copy (W + scaling B A, Hu et al. 2021, section 4.1): kept beside the weights, its 420 small
products take half as long again at every token as the model itself. The plain weights stay as they are, so nothing has
to be undone, and a gradient or a scoring pass sees what it would see without any of this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

__all__ = ["pack", "packed"]

_SHARE_OF_FREE_MEMORY = 0.25
_MOST_FORMS = 3  # answers of a base and its tuned models take turns; laying out anew each time would cost ten tokens

_Form = tuple[str, str | None] | None  # the adapter, with its version, that is in a form besides the weight


class _PackedLinear(nn.Linear):
    """A linear layer with a second form for inference, which is in use within `packed` only."""

    forms: OrderedDict[_Form, Tensor]  # the one that is played last, some that were played before it first
    most_forms: int
    packed: Tensor
    in_use: bool

    def forward(self, input: Tensor) -> Tensor:
        if self.in_use:
            return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")
        return super().forward(input)


def pack(model: nn.Module) -> nn.Module:
    """Pack every plain linear layer of a model on the CPU; anything else is left as it is."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and layer.weight.device.type == "cpu"]
    need = sum(layer.weight.nbytes for layer in layers)
    room = psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY
    if not torch.backends.mkldnn.is_available() or need > room:
        return model
    for layer in layers:
        changed: Any = layer
        # In place, because tied weights and adapters hold on to the layer itself.
        changed.packed = _laid_out(layer.weight)
        changed.forms = OrderedDict({None: changed.packed})
        changed.most_forms = min(_MOST_FORMS, int(room / need))
        changed.in_use = False
        changed.__class__ = _PackedLinear
    return model


@contextmanager
def packed(model: nn.Module, adapter: str | None = None, version: str | None = None) -> Iterator[None]:
    """Answer with the packed weights, the playing LoRA adapter put into them; without gradients.

    `version` changes whenever that adapter's numbers do; without one they are put in anew, which takes as long as ten
    tokens. What was not packed, and layers whose adapter is more than a product (DoRA and the like), compute as ever.
    """
    used: list[_PackedLinear] = [layer for layer in model.modules() if isinstance(layer, _PackedLinear)]
    merged: list[LoraLinear] = []
    try:
        for layer in model.modules():
            if isinstance(layer, LoraLinear) and isinstance(layer.base_layer, _PackedLinear):
                if adapter is not None and _is_product(layer, adapter):
                    _hold(layer.base_layer, (adapter, version), layer)
                    layer.merged_adapters.append(adapter)  # for PEFT: nothing to add to what the base layer gives
                    merged.append(layer)
                else:
                    _hold(layer.base_layer, None, layer)
        for base in used:
            base.in_use = True
        yield
    finally:
        for base in used:
            base.in_use = False
        for layer in merged:
            layer.merged_adapters.pop()


@torch.no_grad()
def _hold(base: _PackedLinear, what: _Form, layer: LoraLinear) -> None:
    lasting = what is None or what[1] is not None
    if not lasting or what not in base.forms:
        change = layer.get_delta_weight(what[0]).float() if what else 0.0
        if what:  # an older version of it
            for old in [form for form in base.forms if form and form[0] == what[0]]:
                del base.forms[old]
        base.forms[what] = _laid_out((base.weight.float() + change).to(base.weight.dtype))
    base.forms.move_to_end(what)
    while len(base.forms) > base.most_forms:
        base.forms.popitem(last=False)
    base.packed = base.forms[what]


def _is_product(layer: LoraLinear, adapter: str) -> bool:
    return adapter in layer.lora_A and adapter not in layer.lora_variant and not layer.lora_bias[adapter]


def _laid_out(weight: Tensor) -> Tensor:
    made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
    return made
