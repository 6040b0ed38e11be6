"""AdamW for adapters: they compute in the model's own precision while the optimizer keeps float32 masters of them.

Steps are far smaller than bf16 can add, and float32 products beside bf16 ones cost a third of a training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["Optimizer", "trainable"]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training may change, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over float32 masters of the given parameters."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
    ) -> None:
        self._names, self._parameters = list(parameters), list(parameters.values())
        self._masters = [p.detach().float().clone() for p in self._parameters]
        fused = {"fused": True} if self._masters else {}
        self._adamw = torch.optim.AdamW(
            self._masters or [torch.zeros(0)], betas=betas, eps=eps, weight_decay=weight_decay, **fused
        )
        self._max_grad_norm = max_grad_norm

    def step(self, rate: float, then: Callable[[], bool] = lambda: False) -> float:
        """One step at that learning rate; gives the gradient's norm before it was cut, and takes the gradients away.

        `then` is called after the move, while the gradients are still there; where it changed parameters itself it
        returns True, and the masters follow. When the norm is not a number nothing moves: it is for the caller to
        count that and to say so.
        """
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters, self._max_grad_norm))
        if math.isfinite(norm):
            for group in self._adamw.param_groups:
                group["lr"] = rate
            self._adamw.step()
            self._publish()
            if then():
                self._follow()
        self.forget()
        return norm

    def norm(self) -> float:
        """Of the gradients as they are."""
        return float(torch.nn.utils.get_total_norm([p.grad.float() for p in self._parameters if p.grad is not None]))

    def forget(self) -> None:
        """Take the gradients away without a step."""
        for parameter in self._parameters:
            parameter.grad = None

    def _follow(self) -> None:
        """Take over what somebody else wrote into the parameters; the digits that those cannot hold stay elsewhere."""
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                master.copy_(torch.where(master.to(parameter.dtype) == parameter, master, parameter.float()))

    def _publish(self) -> None:
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                parameter.copy_(master)

    def tensors(self) -> dict[str, Tensor]:
        """Masters and moments by parameter name; copies, so they stay as they are while training goes on."""
        found = {f"{name}/master": m for name, m in zip(self._names, self._masters, strict=True)}
        for index, values in self._adamw.state_dict()["state"].items():
            found |= {f"{self._names[index]}/{key}": value for key, value in values.items()}
        return {k: v.detach().cpu().clone().contiguous() for k, v in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave. Raises KeyError when they belong to another adapter."""
        moments: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for index, name in enumerate(self._names):
                self._masters[index].copy_(tensors[f"{name}/master"])
                keys = [k for k in tensors if k.startswith(f"{name}/") and not k.endswith("/master")]
                if keys:
                    moments[index] = {k.rpartition("/")[2]: tensors[k].clone() for k in keys}
        self._adamw.load_state_dict({**self._adamw.state_dict(), "state": moments})
        self._publish()
