"""The attention that a run learns with is chosen by length; what it computes stays the same."""

from __future__ import annotations

import copy

import pytest
import torch

from studio.training import attention
from studio.training.attention import choose_attention
from studio.training.sft import learned_loss


def kind(model) -> str:
    return str(model.config._attn_implementation)


@pytest.mark.parametrize(
    ("rows", "longest", "chosen"), [(8, 200, "eager"), (8, 384, "eager"), (8, 385, "sdpa"), (33, 384, "sdpa")]
)
def test_short_sequences_are_read_with_plain_products_and_long_ones_are_not(tiny, rows, longest, chosen):
    model = copy.deepcopy(tiny)
    choose_attention(model, rows, longest)
    assert kind(model) == chosen


def test_a_choice_that_was_made_already_is_left_alone(tiny):
    model = copy.deepcopy(tiny)
    model.set_attn_implementation("eager")
    choose_attention(model, 1, 10 * attention._SHORT)
    assert kind(model) == "eager"


def test_loss_and_gradients_are_the_same_also_with_padding(tiny):
    ids = torch.arange(3 * 20).reshape(3, 20) % 50 + 5
    mask = torch.ones_like(ids)
    mask[0, 12:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    found = []
    for longest in (20, 1000):
        model = copy.deepcopy(tiny).train()
        choose_attention(model, 3, longest)
        loss = learned_loss(model, ids, mask, labels)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    (ours, mine), (theirs, plain) = found
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert len(mine) == len(plain) > 0
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(mine, plain, strict=True))
