"""How surprised a model is by records it may not have learned: the loss of training, record by record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from studio.training.conversation import Example
from studio.training.sft import collate, learned_loss

__all__ = ["record_losses"]


@torch.inference_mode()
def record_losses(
    model: Any, examples: Sequence[Example], go_on: Callable[[int], bool] = lambda done: True
) -> list[float] | None:
    """Sum of -log p over each record's learned tokens, in nats. `go_on` hears how many are done; None once it says no.

    One record at a time: no other one's padding is near it, and a few dozen take seconds.
    """
    model.eval()
    found: list[float] = []
    for example in examples:
        ids, mask, labels = (x.to(model.device) for x in collate([example], pad=0))
        found.append(learned_loss(model, ids, mask, labels).item())
        if not go_on(len(found)):
            return None
    return found
