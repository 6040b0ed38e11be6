"""Log-probabilities of chosen tokens: one function for the old, the new and the reference policy.

The output layer runs on action positions alone, in chunks. It is frozen, so the gradient of each log-probability
towards its hidden state is known in the forward pass: only that [N, d] is kept, never a table of [N, vocabulary]
(64 answers of 256 tokens and a vocabulary of 128k would be 8.4 GB), and nothing is computed a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from studio.errors import Unsupported

__all__ = ["Sequences", "bends_logits", "hidden_states", "lay_out", "refuse_reshaped_logits", "token_logprobs"]

_CHUNK_NUMBERS = 2**25  # logits at once: 128 MB in float32

# Settings with which a model bends its logits after the output layer; going past them would be wrong, silently.
_RESHAPING = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


class Sequences:
    """Prompts with their responses, laid out for one forward pass. B rows, L tokens, T response tokens at most.

    `ids` and `mask` are [B, L], right-padded; `actions` is [B, T], True on response tokens (the stop token included);
    `places` is [B, T], where in L the state before each action stands, so that hidden[places] predicts the action.
    """

    def __init__(self, ids: Tensor, mask: Tensor, actions: Tensor, places: Tensor) -> None:
        self.ids, self.mask, self.actions, self.places = ids, mask, actions, places

    @property
    def last(self) -> Tensor:
        """The index of each row's last token, [B]."""
        return self.mask.long().sum(-1) - 1

    @property
    def targets(self) -> Tensor:
        """The actions' token ids, [N] over the mask."""
        return self.ids.gather(1, (self.places + 1).clamp(max=self.ids.shape[1] - 1))[self.actions]


def lay_out(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu"
) -> Sequences:
    """Right-padded rows of prompt + response; masks come from the lengths, never from comparing ids with the pad."""
    rows = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    width, longest = max(map(len, rows)), max(map(len, responses))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    starts = torch.tensor([len(p) for p in prompts])
    answered = torch.tensor([len(r) for r in responses])
    steps = torch.arange(longest)
    actions = steps < answered[:, None]
    places = torch.where(actions, starts[:, None] - 1 + steps, 0)
    mask = torch.arange(width) < lengths[:, None]
    return Sequences(ids.to(device), mask.to(device), actions.to(device), places.to(device))


def hidden_states(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The last layer's states, [B, L, d]. Positions come from the mask: absolute-position models are wrong without."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.get_decoder()(
        input_ids=ids,
        attention_mask=None if bool(mask.all()) else mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state


def token_logprobs(
    model: Any, states: Tensor, targets: Tensor, temperature: float = 1.0, *, entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature)[target] with gradient, and the entropy without (zeros where nobody asks for it);
    both float32 [N].

    `states` is [N, d], the states before the targets, `targets` is [N]. The output layer must be frozen.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    if head.weight.requires_grad:
        raise Unsupported("The output layer of this model is trained, which its log-probabilities do not allow here.")
    found: tuple[Tensor, Tensor] = _TokenLogprobs.apply(
        states, head.weight, getattr(head, "bias", None), targets, temperature, entropy
    )
    return found


def bends_logits(config: Any) -> str:
    """The setting by which a model's logits are not simply those of its output layer; '' for most models."""
    return next((name for name in _RESHAPING if getattr(config, name, None) not in (None, 1, 1.0)), "")


def refuse_reshaped_logits(config: Any, name: str) -> None:
    """Raise Unsupported for a model whose logits are not simply those of its output layer."""
    if setting := bends_logits(config):
        raise Unsupported(
            f"{name} bends its logits ({setting}), which alignment does not reproduce yet. Choose another base."
        )


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        wants_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        wants_gradient = ctx.needs_input_grad[0]
        logprobs = torch.empty(len(states), device=states.device)
        entropy = torch.zeros_like(logprobs)
        slopes = torch.empty_like(states) if wants_gradient else None  # d logprob / d state, [N, d]
        rows = max(1, _CHUNK_NUMBERS // weight.shape[0])
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            logits = torch.nn.functional.linear(states[part], weight, bias).float().div_(temperature)
            total = logits.logsumexp(-1)
            chosen = logits.gather(-1, targets[part, None]).squeeze(-1)
            logprobs[part] = chosen - total
            if not (wants_entropy or slopes is not None):
                continue
            # softmax, [rows, vocabulary]; in place of the logits where these are no longer needed
            shares = (logits.sub(total[:, None]) if wants_entropy else logits.sub_(total[:, None])).exp_()
            if wants_entropy:  # E[logit] as a product of rows: no second table of that size
                entropy[part] = total - torch.linalg.vecdot(shares, logits)
            if slopes is not None:
                expected = shares.to(weight.dtype) @ weight
                slopes[part] = ((weight[targets[part]] - expected) / temperature).to(slopes.dtype)
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradients[0][:, None] * slopes).to(slopes.dtype), None, None, None, None, None
