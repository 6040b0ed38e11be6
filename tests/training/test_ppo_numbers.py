"""The arithmetic of PPO, against numbers worked by hand and against slow, plain computations.

NaN stands for all that padding may hold: what is outside the mask must not matter, not even multiplied by 0.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from studio.errors import InputError
from studio.training.ppo import AdaptiveKL, gae, kl, policy_loss, token_rewards, value_loss, whiten

REWARDS, VALUES = [-0.02, 0.01, -0.03, 1.0], [0.5, 0.6, 0.7, 0.8]
ADVANTAGES, RETURNS = [0.41915, 0.357, 0.26, 0.2], [0.91915, 0.957, 0.96, 1.0]
NAN = math.nan


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers])


def yes(n: int, padding: int = 0) -> Tensor:
    return torch.tensor([[True] * n + [False] * padding])


# -- advantages ----------------------------------------------------------------------------------------------


def test_advantages_and_returns_are_those_worked_by_hand():
    advantages, returns = gae(row(*REWARDS), row(*VALUES), yes(4), gamma=1, lam=0.95)
    assert advantages[0].tolist() == pytest.approx(ADVANTAGES, abs=1e-6)
    assert returns[0].tolist() == pytest.approx(RETURNS, abs=1e-6)


def test_an_answer_that_was_cut_off_may_be_worth_what_comes_after_it():
    advantages, _ = gae(row(*REWARDS), row(*VALUES), yes(4), gamma=1, lam=0.95, bootstrap=torch.tensor([0.9]))
    assert advantages[0, 3].item() == pytest.approx(1.1)


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("value", [0.0, 0.4, NAN], ids=str)
def test_the_score_counts_at_the_stop_token_whatever_the_padding(padding, value):
    """Elsewhere it stood one place further on, where the padding's value of 0.4 made 0.17 of the last advantage."""
    mask, empty = yes(4, padding), [NAN] * padding
    logp, reference = row(-1.0, -1.0, -1.0, -1.0, *empty), row(-1.4, -0.8, -1.6, -1.0, *empty)
    rewards = token_rewards(torch.tensor([1.0]), logp, reference, mask, beta=0.05)
    assert rewards[0, :4].tolist() == pytest.approx(REWARDS, abs=1e-7)
    assert rewards[0, 4:].tolist() == [0.0] * padding
    advantages, returns = gae(rewards, row(*VALUES, *[value] * padding), mask, gamma=1, lam=0.95)
    assert advantages[0].tolist() == pytest.approx([*ADVANTAGES, *[0.0] * padding], abs=1e-6)
    assert returns[0].tolist() == pytest.approx([*RETURNS, *[0.0] * padding], abs=1e-6)


def plain_advantages(
    rewards: list[float], values: list[float], gamma: float, lam: float, after: float
) -> tuple[list[float], list[float]]:
    """The sum of equation 16 in arXiv 1506.02438, one row of actions, term by term."""
    following = [*values, after][1:]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    found = [sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))]
    return found, [a + v for a, v in zip(found, values, strict=True)]


@st.composite
def ragged(draw: st.DrawFn) -> dict[str, Tensor]:
    """Rows of actions with holes and padding between them; a row may even have none. [B, T] each, `after` is [B]."""
    rows, steps = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    actions = draw(st.lists(st.booleans(), min_size=rows * steps, max_size=rows * steps))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    found = {name: torch.randn(rows, steps, dtype=torch.float64) for name in ("rewards", "values", "logp", "ref")}
    after = torch.randn(rows, dtype=torch.float64)
    return found | {"mask": torch.tensor(actions).reshape(rows, steps), "after": after}


@settings(deadline=None)
@given(ragged(), st.floats(0.5, 1), st.floats(0, 1), st.booleans())
def test_advantages_are_those_of_every_row_alone_without_its_padding(rows, gamma, lam, is_cut_off):
    mask, after = rows["mask"], rows["after"] if is_cut_off else torch.zeros_like(rows["after"])
    advantages, returns = gae(rows["rewards"], rows["values"], mask, gamma, lam, after if is_cut_off else None)
    for i in range(len(mask)):
        own = [rows[name][i][mask[i]].tolist() for name in ("rewards", "values")]
        expected = plain_advantages(*own, gamma, lam, float(after[i]))
        assert advantages[i][mask[i]].tolist() == pytest.approx(expected[0], abs=1e-9)
        assert returns[i][mask[i]].tolist() == pytest.approx(expected[1], abs=1e-9)
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


def test_another_score_changes_the_rewards_of_its_own_answer_alone():
    torch.manual_seed(0)
    logp, reference = torch.randn(2, 5, 6)
    mask = torch.arange(6) < torch.tensor([6, 2, 1, 4, 3])[:, None]
    scores = torch.randn(5)
    before = token_rewards(scores, logp, reference, mask, 0.1)
    scores[3] += 1
    moved = token_rewards(scores, logp, reference, mask, 0.1) - before
    assert moved.nonzero().tolist() == [[3, 3]]
    assert moved[3, 3].item() == pytest.approx(1.0)
    values = torch.randn(5, 6)
    one, other = (gae(r, values, mask, 1, 0.95)[0] for r in (before, before + moved))
    assert (one != other).any(-1).tolist() == [False, False, False, True, False]


# -- whitening -----------------------------------------------------------------------------------------------


def test_whitening_divides_by_the_deviation_of_the_whole_population():
    twice = torch.tensor([ADVANTAGES, ADVANTAGES])  # the same population, and enough of it
    found = whiten(twice, torch.ones(2, 4, dtype=torch.bool))
    assert found[1].tolist() == pytest.approx([1.2995, 0.5660, -0.5787, -1.2868], abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-100, 100, width=32), max_size=9), min_size=1, max_size=5))
def test_whitened_numbers_have_mean_0_and_deviation_1_or_stay_as_they_are(rows):
    width = max(map(len, rows)) + 1
    x = torch.tensor([[*r, *[NAN] * (width - len(r))] for r in rows], dtype=torch.float64)
    mask = ~x.isnan()
    found, inside = whiten(x, mask), x[mask]
    assert not found[~mask].any()
    if len(inside) < 8 or inside.std(correction=0) < 1e-6:
        assert torch.equal(found[mask], inside)
    else:
        assert found[mask].mean().item() == pytest.approx(0, abs=1e-6)
        assert found[mask].std(correction=0).item() == pytest.approx(1, abs=1e-2)


# -- divergence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", [0.5, -0.2]), ("k2", [0.125, 0.02]), ("k3", [0.106531, 0.021403])],
)
def test_the_three_estimates_of_the_divergence(estimator, expected):
    found = kl(row(-1.0, -2.0), row(-1.5, -1.8), estimator)
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(st.floats(-30, 0, width=32), st.floats(-30, 0, width=32))
def test_k3_is_never_below_0(logp, reference):
    assert kl(torch.tensor([logp]), torch.tensor([reference]), "k3").item() >= 0


def test_k1_and_k3_agree_on_many_samples():
    torch.manual_seed(1)
    policy, reference = torch.randn(2, 12).log_softmax(-1)
    truth = (policy.exp() * (policy - reference)).sum().item()
    drawn = policy.exp().multinomial(200_000, replacement=True)
    for estimator in ("k1", "k3"):
        samples = kl(policy[drawn], reference[drawn], estimator)
        error = samples.std().item() / math.sqrt(len(samples))
        assert samples.mean().item() == pytest.approx(truth, abs=4 * error)


@pytest.mark.parametrize(("seen", "expected"), [(9, 0.151536), (5, 0.148720), (6, 0.15)])
def test_the_pull_follows_the_divergence_of_whole_answers(seen, expected):
    steered = AdaptiveKL(0.15, target=6, horizon=10_000)
    assert steered.update(seen, 512) == pytest.approx(expected, abs=1e-6)
    assert steered.coef == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("target", "horizon"), [(0, 1e4), (-1, 1e4), (6, 0), (6, -5)])
def test_a_target_or_horizon_that_cannot_steer_is_refused(target, horizon):
    with pytest.raises(InputError, match="Both must be above 0"):
        AdaptiveKL(0.15, target, horizon)


# -- losses --------------------------------------------------------------------------------------------------


def test_the_clipped_loss_is_that_worked_by_hand():
    ratios, advantages = row(1.3, 0.7, 1.1, 0.75), row(1.0, 1.0, -1.0, -1.0)
    each = [
        policy_loss(r.log()[None, None], row(0.0), a[None, None], yes(1), 0.2, 0.2, 1)[0].item()
        for r, a in zip(ratios[0], advantages[0], strict=True)
    ]
    assert each == pytest.approx([-1.2, -0.7, 1.1, 0.8], abs=1e-6)
    loss, figures = policy_loss(ratios.log(), torch.zeros(1, 4), advantages, yes(4), 0.2, 0.2, 4)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert figures == pytest.approx(
        {"clip_frac": 0.5, "approx_kl": 0.034171, "ratio_mean": 0.9625, "ratio_max": 1.3}, abs=1e-6
    )


def test_clipping_may_reach_further_up_than_down():
    def loss(ratio: float, advantage: float) -> float:
        return policy_loss(row(math.log(ratio)), row(0.0), row(advantage), yes(1), 0.1, 0.3, 1)[0].item()

    assert loss(1.25, 1.0) == pytest.approx(-1.25)
    assert loss(1.5, 1.0) == pytest.approx(-1.3)
    assert loss(0.8, -1.0) == pytest.approx(0.9)


def test_at_ratio_1_the_gradient_is_that_of_the_plain_policy_gradient():
    torch.manual_seed(2)
    logp, advantages = torch.randn(3, 5), torch.randn(3, 5)
    mask = torch.arange(5) < torch.tensor([5, 1, 3])[:, None]
    new = logp.clone().requires_grad_()
    policy_loss(new, logp, advantages, mask, 0.2, 0.2, 9)[0].backward()
    torch.testing.assert_close(new.grad, torch.where(mask, -advantages / 9, 0.0))


def test_beyond_the_clip_nothing_pulls_any_further():
    new = row(math.log(1.3), math.log(0.7), math.log(1.3), math.log(0.7)).requires_grad_()
    policy_loss(new, torch.zeros(1, 4), row(1.0, -1.0, -1.0, 1.0), yes(4), 0.2, 0.2, 1)[0].backward()
    assert new.grad[0].tolist() == pytest.approx([0, 0, 1.3, -0.7])


def test_a_ratio_that_ran_away_stays_a_number():
    loss, figures = policy_loss(row(500.0), row(0.0), row(-1.0), yes(1), 0.2, 0.2, 1)
    assert math.isfinite(loss.item())
    assert figures["ratio_max"] == pytest.approx(math.exp(20))


def test_the_worse_of_the_free_and_the_clipped_value_counts():
    loss, figures = value_loss(row(0.9), row(0.5), row(1.0), yes(1), 0.2, 1)
    assert (loss.item(), figures["clip_frac"]) == (pytest.approx(0.045), 1.0)
    loss, figures = value_loss(row(0.9), row(0.5), row(1.0), yes(1), None, 1)
    assert (loss.item(), figures["clip_frac"]) == (pytest.approx(0.005), 0.0)


@pytest.mark.parametrize("pieces", [[[0, 1]], [[0], [1]]], ids=["one-micro-batch", "two"])
def test_every_token_of_a_minibatch_weighs_the_same_however_it_is_cut(pieces):
    """A mean of the micro-batches' means would be 0: the one token of the short answer would weigh as much as three."""
    mask = torch.tensor([[True, False, False], [True, True, True]])
    advantages = torch.tensor([[1.0, NAN, NAN], [-1.0, -1.0, -1.0]])
    ones = torch.zeros(2, 3)
    loss = sum(policy_loss(ones[p], ones[p], advantages[p], mask[p], 0.2, 0.2, 4)[0].item() for p in pieces)
    assert loss == pytest.approx(0.5)
    returns = torch.tensor([[1.0, NAN, NAN], [2.0, 2.0, 2.0]])
    worth = sum(value_loss(ones[p], ones[p], returns[p], mask[p], None, 4)[0].item() for p in pieces)
    assert worth == pytest.approx((0.5 * 1 + 3 * 0.5 * 4) / 4)


@settings(deadline=None)
@given(ragged(), st.sampled_from([None, 0.2]))
def test_what_stands_outside_the_mask_changes_nothing(rows, clip):
    mask = rows["mask"]
    if not mask.any():
        return

    def everything(outside: float) -> list[Tensor]:
        x = {n: torch.where(mask, v, outside) for n, v in rows.items() if n not in ("mask", "after")}
        rewards = token_rewards(rows["after"], x["logp"], x["ref"], mask, 0.1)
        advantages, returns = gae(x["rewards"], x["values"], mask, 0.9, 0.9)
        new, values = (torch.where(mask, rows[n], 0.0).requires_grad_() for n in ("ref", "rewards"))
        policy, _ = policy_loss(new, x["logp"], x["rewards"], mask, 0.2, 0.2, 3)
        value, _ = value_loss(values, x["values"], x["ref"], mask, clip, 3)
        (policy + value).backward()
        return [rewards, advantages, returns, whiten(x["values"], mask), policy, value, new.grad, values.grad]

    for with_zeros, with_nan in zip(everything(0.0), everything(NAN), strict=True):
        assert torch.equal(with_zeros, with_nan)
