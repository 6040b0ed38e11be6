"""Proximal policy optimisation of an adapter against a reward (Schulman et al. 2017, arXiv 1707.06347), for language
models as Ziegler et al. 2019 (arXiv 1909.08593) and Ouyang et al. 2022 (arXiv 2203.02155) do it.

One iteration: answer prompts with the policy, score the answers, take the divergence from the reference off the
reward token by token, estimate advantages, and go over the answers a few times. One base is in memory; policy,
reference, value and reward are adapters on it that take turns.

Shapes: B sequences, T response tokens, right-padded; masks are True on actions, the stop token included. Every mean
is over action tokens, and every loss is a sum divided by the action tokens of the whole minibatch: a mean of means
over micro-batches would weigh a short answer's tokens more than a long one's.

Random numbers are a function of seed, iteration and place, so a resumed run takes the same steps as one that was
never stopped. All of its state is written between iterations; an iteration that is cut short is forgotten.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from studio.errors import InputError, RunError
from studio.specs import Sampling
from studio.tasks import Run
from studio.training.actors import Actors
from studio.training.decode import Generated, generate, row_seed
from studio.training.logprobs import Sequences, hidden_states, lay_out, token_logprobs
from studio.training.optimizer import Optimizer
from studio.training.packing import packed

__all__ = [
    "AdaptiveKL",
    "Evaluation",
    "Interrupted",
    "Knobs",
    "Outcome",
    "Score",
    "Trainer",
    "gae",
    "kl",
    "policy_loss",
    "token_rewards",
    "tune",
    "value_loss",
    "whiten",
]

# Scores of finished answers, [B] float32: from their prompts and what was generated.
Score = Callable[[Sequence[Sequence[int]], Sequence[Generated]], Tensor]
ValueMode = Literal["shared", "adapter"]

_CHECKPOINT_SECONDS = 60.0
_LEAST_TO_WHITEN = 8
_LIKE_LENGTH = 0.75
_LOG_RATIO_LIMIT = 20.0
_SKIPS_IN_A_ROW = 5
_SILENT_ITERATIONS = 5  # with hardly an answer that ends: the policy has run away


# -- the arithmetic ------------------------------------------------------------------------------------------


def kl(logp: Tensor, ref_logp: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Per-token estimates of KL(policy || reference) in nats, [B, T] (Schulman 2020, "Approximating KL divergence").

    Only k1 may be part of a reward: the gradient of the others there is not that of the divergence.
    """
    k1 = logp - ref_logp
    match estimator:
        case "k1":
            return k1
        case "k2":
            return 0.5 * k1**2
        case "k3":
            return torch.expm1(-k1) + k1


def token_rewards(scores: Tensor, logp: Tensor, ref_logp: Tensor, mask: Tensor, beta: float) -> Tensor:
    """-beta * k1 for every action, plus the score, [B], on the last one; 0 outside the mask. Gives [B, T]."""
    rewards = torch.where(mask, -beta * kl(logp, ref_logp, "k1"), 0.0)
    rows = torch.arange(len(scores), device=scores.device)
    rewards[rows, _last_action(mask)] += torch.where(mask.any(-1), scores, 0.0)
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float, bootstrap: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns over actions alone (Schulman et al. 2016, arXiv 1506.02438,
    equation 16), both [B, T] and 0 outside the mask. After the last action the value is `bootstrap`, [B], or 0."""
    advantages = torch.zeros_like(rewards)
    next_value = torch.zeros_like(rewards[:, 0]) if bootstrap is None else bootstrap
    next_advantage = torch.zeros_like(next_value)
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # `where` and no products: what stands outside the mask may not even be a number.
        next_advantage = torch.where(here, delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(here, values[:, t], next_value)
        advantages[:, t] = torch.where(here, next_advantage, 0.0)
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and population deviation 1 over the mask, 0 outside; as it is where there is too little to go by."""
    chosen = x[mask]
    inside = torch.where(mask, x, 0.0)
    if len(chosen) < _LEAST_TO_WHITEN or (spread := chosen.std(correction=0)) < 1e-6:
        return inside
    return torch.where(mask, (x - chosen.mean()) / (spread + 1e-8), 0.0)


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip_low: float, clip_high: float, normalizer: float
) -> tuple[Tensor, dict[str, float]]:
    """The clipped surrogate (Schulman et al. 2017, equation 7), summed over the mask and divided by `normalizer`.

    All tensors are [B, T]. The figures are means over this mask; `clip_frac` counts where clipping decided.
    """
    log_ratio = torch.where(mask, new - old, 0.0).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = torch.where(mask, torch.maximum(free, clipped), 0.0).sum() / normalizer
    with torch.no_grad():
        r, lr = ratio[mask], log_ratio[mask]
        figures = {
            "clip_frac": float((clipped > free)[mask].float().mean()),
            "approx_kl": float((r - 1 - lr).mean()),
            "ratio_mean": float(r.mean()),
            "ratio_max": float(r.max()),
        }
    return loss, figures


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None, normalizer: float
) -> tuple[Tensor, dict[str, float]]:
    """Half the squared error, the worse of the clipped and the free one; summed over the mask, over `normalizer`."""
    # Masked before they are squared: in the backward pass, 0 times what is no number would be none either.
    error = torch.where(mask, values - returns, 0.0) ** 2
    clip_frac = 0.0
    if clip is not None:
        held = torch.where(mask, torch.clamp(values, old_values - clip, old_values + clip) - returns, 0.0) ** 2
        clip_frac = float((held > error)[mask].float().mean())
        error = torch.maximum(error, held)
    return 0.5 * error.sum() / normalizer, {"clip_frac": clip_frac}


class AdaptiveKL:
    """The coefficient that steers the sequence divergence towards a target (Ziegler et al. 2019, section 2.2)."""

    def __init__(self, coef: float, target: float, horizon: float) -> None:
        if target <= 0 or horizon <= 0:
            raise InputError(
                f"A divergence target of {target:g} and a horizon of {horizon:g} cannot be steered by. "
                "Both must be above 0."
            )
        self.coef, self._target, self._horizon = coef, target, horizon

    def update(self, kl_seq: float, n: int) -> float:
        """`kl_seq` is the mean over sequences of the sum over tokens, in nats; `n` the episodes it was seen in."""
        error = min(max(kl_seq / self._target - 1, -0.2), 0.2)
        self.coef *= 1 + error * n / self._horizon
        return self.coef


def _last_action(mask: Tensor) -> Tensor:
    """The index of each row's last action, [B]."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, steps, -1).amax(-1).clamp(min=0)


# -- what a run is told, and what comes out of it -------------------------------------------------------------


@dataclass(frozen=True)
class Knobs:
    iterations: int
    episodes: int = 16
    minibatch: int = 8
    epochs: int = 2
    max_tokens: int = 48
    temperature: float = 1.0
    learning_rate: float = 1e-4
    value_learning_rate: float = 1e-3
    value_mode: ValueMode = "shared"
    value_weight: float = 0.1
    value_warmup: int = 0  # iterations in which only the value learns
    kl_coef: float = 0.02
    kl_target: float | None = None
    kl_horizon: float = 10_000.0
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    score_clip: float = 5.0
    unfinished_penalty: float = 1.0
    target_kl: float = 0.05
    kl_stop: float = 30.0
    warmup: int = 5
    evaluate_every: int = 10
    micro_tokens: int = 4096  # of a micro-batch, padding included
    checkpointing: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The policy on the same few prompts with the same random numbers: mean score, mean sequence KL in nats."""

    iteration: int
    score: float
    kl: float

    def worth(self, kl_coef: float) -> float:
        return self.score - kl_coef * self.kl


@dataclass(frozen=True)
class Outcome:
    """`before` is the reference's evaluation, `best` the one whose adapter the policy holds now."""

    finished: bool
    iterations: int
    before: Evaluation | None = None
    best: Evaluation | None = None
    skipped: int = 0
    halted: str = ""  # why it ended before its last iteration, in words


class Interrupted(Exception):
    """Somebody asked to stop in the middle of an iteration."""


@dataclass
class _State:
    """What the next iteration starts from, besides the tensors."""

    iteration: int = 0
    opt_steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0  # across iterations: one may hold fewer updates than it takes to give up
    silent: int = 0  # iterations in a row in which hardly an answer ended
    halted: str = ""
    evaluated: int = -1  # the iteration that was last looked at from outside
    kl_coef: float = 0.0
    before: Evaluation | None = None
    best: Evaluation | None = None


@dataclass
class _Rollout:
    """One iteration's answers and all that is known of them before the first step; tensors [B, T] unless said."""

    prompts: list[list[int]]
    answers: list[Generated]
    mask: Tensor
    logp: Tensor
    ref_logp: Tensor
    values: Tensor
    entropy: Tensor
    raw: Tensor = field(default_factory=lambda: torch.empty(0))  # scores as they came, [B]
    scores: Tensor = field(default_factory=lambda: torch.empty(0))  # after clipping and the unfinished rule, [B]
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    returns: Tensor = field(default_factory=lambda: torch.empty(0))


# -- the loop --------------------------------------------------------------------------------------------------


class Trainer:
    """Holds the actors, their optimizers and the state between iterations.

    `reference` names the frozen adapter, or is None where the reference is the bare base. In value mode "adapter" the
    actors have an adapter called "value".
    """

    def __init__(
        self,
        actors: Actors,
        reference: str | None,
        prompts: Sequence[Sequence[int]],
        score: Score,
        stop_ids: frozenset[int],
        knobs: Knobs,
        *,
        pad: int = 0,
        window: int | None = None,
        stop_requested: Callable[[], object] = lambda: "",
    ) -> None:
        if not prompts:
            raise RunError("There is no prompt to practise on. Choose a set with prompts that fit the model's window.")
        self.actors, self.knobs = actors, knobs
        self.reference, self._score, self._stops = reference, score, stop_ids
        self._prompts = [list(p) for p in prompts]
        self._pad, self._window = pad, window
        self._stop_requested = stop_requested
        size = actors.causal.config.hidden_size
        self.value_head = nn.Linear(size, 1).to(actors.device, torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        adam: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-5}
        self._optimizers = {"policy": Optimizer(actors.parameters("policy"), **adam)}
        if knobs.value_mode == "adapter":
            self._optimizers["value"] = Optimizer(actors.parameters("value"), **adam)
        head = {f"head.{name}": p for name, p in self.value_head.named_parameters()}
        self._optimizers["head"] = Optimizer(head, **adam)
        self.state = _State(kl_coef=knobs.kl_coef)
        self._adaptive = (
            AdaptiveKL(knobs.kl_coef, knobs.kl_target, knobs.kl_horizon) if knobs.kl_target is not None else None
        )
        self._best: dict[str, Tensor] = {}

    # -- one iteration -----------------------------------------------------------------------------------------

    def iterate(self) -> dict[str, float]:
        """One whole iteration. Gives its metrics; raises Interrupted when somebody wants to stop meanwhile."""
        clock = _Clock()
        minibatches = self._minibatches(0)
        roll = self._roll_out(self.state.iteration, clock, minibatches)
        figures = self._update(roll, minibatches, clock)
        metrics = {**_describe(roll, self.state.kl_coef, self.knobs.score_clip), **figures, **clock.figures(roll)}
        kl_seq = metrics["kl/seq"]
        self.state.iteration += 1
        self.state.silent = self.state.silent + 1 if metrics["reward/ended_rate"] < 0.05 else 0
        if self._adaptive is not None:
            self.state.kl_coef = self._adaptive.update(kl_seq, len(roll.prompts))
        metrics["progress/iteration"] = self.state.iteration
        metrics["progress/episodes"] = self.state.iteration * self.knobs.episodes
        metrics["progress/opt_steps"] = self.state.opt_steps
        return metrics

    def _chosen(self, iteration: int) -> list[list[int]]:
        """This iteration's prompts: every one comes once before any comes again."""
        n, chosen = len(self._prompts), []
        for k in range(iteration * self.knobs.episodes, (iteration + 1) * self.knobs.episodes):
            turn, place = divmod(k, n)
            chosen.append(self._prompts[_permutation(f"{self.knobs.seed}/prompts/{turn}", n)[place]])
        return chosen

    def _minibatches(self, epoch: int) -> list[list[int]]:
        order = _permutation(f"{self.knobs.seed}/{self.state.iteration}/{epoch}", self.knobs.episodes)
        size = self.knobs.minibatch
        return [order[i : i + size] for i in range(0, len(order), size)]

    def _micro_batches(self, rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """A minibatch in pieces of like length that fit into memory."""
        order = sorted(rows, key=lambda i: -lengths[i])
        found: list[list[int]] = []
        while order:
            longest = lengths[order[0]]
            fitting = order[: max(1, self.knobs.micro_tokens // longest)]
            # A third of the work would be padding, were all computed together.
            size = sum(lengths[i] >= _LIKE_LENGTH * longest for i in fitting)
            found.append(order[:size])
            order = order[size:]
        return found

    def _roll_out(self, iteration: int, clock: _Clock, minibatches: list[list[int]]) -> _Rollout:
        prompts = self._chosen(iteration)
        with clock.at("rollout"):
            seeds = [row_seed(self.knobs.seed, iteration * self.knobs.episodes + i) for i in range(len(prompts))]
            answers = self._answer(prompts, self.knobs.temperature, seeds)
        with clock.at("ref"):
            roll = self._look_at(prompts, answers, minibatches)
        with clock.at("score"):
            self._judge(roll)
        return roll

    def _answer(
        self,
        prompts: Sequence[Sequence[int]],
        temperature: float,
        seeds: list[int] | None = None,
        adapter: str | None = "policy",
    ) -> list[Generated]:
        """Sample in evaluation mode. No filters: any would make the sampled policy another one."""

        def watch(_row: int, _token: int) -> bool:
            return bool(self._stop_requested())

        sampling = Sampling(temperature=temperature, max_tokens=self.knobs.max_tokens)
        with self.actors.playing(adapter) as model, packed(model, adapter):
            answers = generate(model, prompts, sampling, self._stops, on_token=watch, window=self._window, seeds=seeds)
        self._go_on_or_leave()
        return answers

    @torch.no_grad()
    def _look_at(self, prompts: list[list[int]], answers: list[Generated], minibatches: list[list[int]]) -> _Rollout:
        """Log-probabilities under policy and reference, and values, computed in the batches of the first epoch: then
        the first ratio is 1 to the last bit, whatever the precision."""
        width = max(len(a.ids) for a in answers)
        shape, device = (len(prompts), width), self.actors.device
        mask = torch.zeros(shape, dtype=torch.bool, device=device)
        logp, ref_logp, values, entropy = (torch.zeros(shape, device=device) for _ in range(4))
        lengths = [len(p) + len(a.ids) for p, a in zip(prompts, answers, strict=True)]
        for rows in (micro for mini in minibatches for micro in self._micro_batches(mini, lengths)):
            self._go_on_or_leave()
            batch = self._laid_out(prompts, answers, rows)
            where, steps = torch.tensor(rows, device=device), batch.actions.shape[1]
            mask[where, :steps] = batch.actions
            with self.actors.playing("policy"):
                states = self._states(batch)
                logp[where, :steps], entropy[where, :steps] = self._logprobs(batch, states)
                if self.knobs.value_mode == "shared":
                    values[where, :steps] = self._values(states)
            with self.actors.playing(self.reference):
                ref_logp[where, :steps], _ = self._logprobs(batch, self._states(batch))
            if self.knobs.value_mode == "adapter":
                with self.actors.playing("value"):
                    values[where, :steps] = self._values(self._states(batch))
        return _Rollout(prompts, answers, mask, logp, ref_logp, torch.where(mask, values, 0.0), entropy)

    def _judge(self, roll: _Rollout) -> None:
        """Scores, rewards, advantages and returns."""
        knobs = self.knobs
        roll.raw = self._score(roll.prompts, roll.answers).to(roll.logp)
        ended = torch.tensor([a.ended for a in roll.answers], device=roll.logp.device)
        roll.scores = roll.raw.clamp(-knobs.score_clip, knobs.score_clip)
        roll.scores = torch.where(ended, roll.scores, roll.scores - knobs.unfinished_penalty)
        rewards = token_rewards(roll.scores, roll.logp, roll.ref_logp, roll.mask, self.state.kl_coef)
        advantages, roll.returns = gae(rewards, roll.values, roll.mask, knobs.gamma, knobs.lam)
        roll.advantages = advantages

    # -- learning from it ----------------------------------------------------------------------------------------

    def _update(self, roll: _Rollout, first: list[list[int]], clock: _Clock) -> dict[str, float]:
        knobs, tally = self.knobs, _Tally()
        advantages = whiten(roll.advantages, roll.mask)
        lengths = [len(p) + len(a.ids) for p, a in zip(roll.prompts, roll.answers, strict=True)]
        rate = knobs.learning_rate * min(1.0, (self.state.iteration + 1) / max(1, knobs.warmup))
        early = 0.0
        with clock.at("update"):
            for epoch in range(knobs.epochs):
                for rows in first if epoch == 0 else self._minibatches(epoch):
                    self._go_on_or_leave()
                    figures = self._learn(roll, advantages, self._micro_batches(rows, lengths))
                    is_sound = _is_sound(figures)
                    if is_sound:
                        norms = self._step(rate)
                        is_sound = all(map(math.isfinite, norms.values()))
                        figures |= norms
                    if not is_sound:
                        self.forget()
                        self.state.skipped += 1
                        self.state.skipped_in_a_row += 1
                        if self.state.skipped_in_a_row >= _SKIPS_IN_A_ROW:
                            raise RunError(_not_a_number(self.state.iteration + 1, _SKIPS_IN_A_ROW, figures))
                        continue
                    self.state.skipped_in_a_row = 0
                    self.state.opt_steps += 1
                    tally.add(figures)
                if tally.last("policy/approx_kl") > knobs.target_kl:
                    early = epoch + 1.0
                    break
        return {
            **tally.means(),
            "policy/lr": rate,
            "guard/skipped": self.state.skipped,
            "guard/early_stop_epoch": early,
        }

    def _learn(self, roll: _Rollout, advantages: Tensor, micro_batches: list[list[int]]) -> dict[str, float]:
        """Gradients of one minibatch, in pieces; its figures are means over all of its actions."""
        actions = [int(roll.mask[rows].sum()) for rows in micro_batches]
        total = sum(actions)
        figures: dict[str, float] = {}
        for rows, count in zip(micro_batches, actions, strict=True):
            for name, value in self._learn_piece(roll, advantages, rows, total).items():
                if name == "policy/ratio_max":
                    figures[name] = max(figures.get(name, 0.0), value)
                else:
                    weight = total if name.endswith("/loss") else count
                    figures[name] = figures.get(name, 0.0) + weight * value
        # Divided at the end: shares that were divided one by one need not add up to 1, and a first ratio has to be 1.
        return {name: value if name == "policy/ratio_max" else value / total for name, value in figures.items()}

    def _learn_piece(self, roll: _Rollout, advantages: Tensor, rows: list[int], total: int) -> dict[str, float]:
        knobs = self.knobs
        batch = self._laid_out(roll.prompts, roll.answers, rows)
        steps = batch.actions.shape[1]
        old, old_values, returns = (x[rows, :steps] for x in (roll.logp, roll.values, roll.returns))
        found: dict[str, float] = {}
        is_shared, is_warming = knobs.value_mode == "shared", self.state.iteration < knobs.value_warmup
        with self.actors.checkpointing(knobs.checkpointing):
            # Forward, backward, and only then the next adapter: see Actors.
            with self.actors.playing("policy"):
                states = self._states(batch)
                new, _ = self._logprobs(batch, states)
                loss, figures = policy_loss(
                    new, old, advantages[rows, :steps], batch.actions, knobs.clip, knobs.clip, total
                )
                found |= {f"policy/{name}": value for name, value in figures.items()} | {"policy/loss": loss.item()}
                if is_warming:
                    loss = loss * 0.0
                if is_shared:
                    values = self._values(states.detach() if is_warming else states)
                    worth, more = value_loss(values, old_values, returns, batch.actions, knobs.value_clip, total)
                    loss = loss + knobs.value_weight * worth
                if torch.isfinite(loss):
                    loss.backward()
            if not is_shared:
                with self.actors.playing("value"):
                    values = self._values(self._states(batch))
                    worth, more = value_loss(values, old_values, returns, batch.actions, knobs.value_clip, total)
                    if torch.isfinite(worth):
                        worth.backward()
        found |= {f"value/{name}": value for name, value in more.items()} | {"value/loss": worth.item()}
        return found

    def _step(self, rate: float) -> dict[str, float]:
        """One optimizer step of everything that learns, or of nothing when a norm is no number; the norms."""
        rates = {"policy": rate, "value": rate, "head": self.knobs.value_learning_rate}
        norms = {name: optimizer.norm() for name, optimizer in self._optimizers.items()}
        if all(map(math.isfinite, norms.values())):
            for name, optimizer in self._optimizers.items():
                optimizer.step(rates[name])
        value = norms.get("value", 0.0)
        return {"policy/grad_norm": norms["policy"], "value/grad_norm": math.hypot(value, norms["head"])}

    def forget(self) -> None:
        """Take away the gradients of a minibatch that is not going to be stepped on."""
        for optimizer in self._optimizers.values():
            optimizer.forget()

    # -- forward passes ------------------------------------------------------------------------------------------

    def _laid_out(self, prompts: Sequence[list[int]], answers: Sequence[Generated], rows: Sequence[int]) -> Sequences:
        return lay_out([prompts[i] for i in rows], [answers[i].ids for i in rows], self._pad, self.actors.device)

    def _states(self, batch: Sequences) -> Tensor:
        """States before each action, [B, T, d]."""
        states = hidden_states(self.actors.model, batch.ids, batch.mask)
        return states.gather(1, batch.places[..., None].expand(-1, -1, states.shape[-1]))

    def _logprobs(self, batch: Sequences, states: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the actions and the entropies, [B, T], 0 outside the mask."""
        temperature = self.knobs.temperature
        logp, entropy = token_logprobs(self.actors.model, states[batch.actions], batch.targets, temperature)
        empty = torch.zeros(batch.actions.shape, device=states.device)
        return empty.masked_scatter(batch.actions, logp), empty.masked_scatter(batch.actions, entropy)

    def _values(self, states: Tensor) -> Tensor:
        return self.value_head(states.float()).squeeze(-1)

    def _go_on_or_leave(self) -> None:
        if self._stop_requested():
            raise Interrupted

    # -- looking at it from outside --------------------------------------------------------------------------------

    def evaluate(self, prompts: Sequence[Sequence[int]]) -> Evaluation:
        """Mean score and divergence on these prompts, the same random numbers each time; remembers the best."""
        chosen = [list(p) for p in prompts]
        answers = self._answer(
            chosen, self.knobs.temperature, [row_seed(self.knobs.seed + 1, i) for i in range(len(chosen))]
        )
        size = self.knobs.minibatch
        roll = self._look_at(
            chosen, answers, [list(range(len(chosen)))[i : i + size] for i in range(0, len(chosen), size)]
        )
        self._judge(roll)
        divergence = float((kl(roll.logp, roll.ref_logp, "k1") * roll.mask).sum(-1).mean())
        found = Evaluation(self.state.iteration, float(roll.scores.mean()), divergence)
        self.state.before = self.state.before or found
        best = self.state.best
        worth = found.worth(self.state.kl_coef)
        if math.isfinite(worth) and (best is None or worth > best.worth(self.state.kl_coef)):
            self.state.best = found
            self._best = {n: p.detach().clone() for n, p in self.actors.parameters("policy").items()}
        return found

    def greedy(self, prompts: Sequence[Sequence[int]], adapter: str | None = "policy") -> list[Generated]:
        """The likeliest answers, as the policy or the reference gives them."""
        return self._answer(prompts, 0.0, adapter=adapter)

    @torch.no_grad()
    def take_best(self) -> None:
        """Give the policy the weights of its best evaluation."""
        for name, parameter in self.actors.parameters("policy").items():
            if name in self._best:
                parameter.copy_(self._best[name])

    # -- between iterations ----------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next iteration needs, copied: it stays as it is while training goes on."""
        found = {f"{o}:{k}": v for o, optimizer in self._optimizers.items() for k, v in optimizer.tensors().items()}
        return found | {f"best:{name}": value.cpu().contiguous() for name, value in self._best.items()}

    def save(self, folder: Path, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "training.safetensors")
        (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint. Raises OSError, ValueError, KeyError or SafetensorError when it is not whole."""
        tensors = load_file(folder / "training.safetensors")
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for name, optimizer in self._optimizers.items():
            optimizer.restore({k.removeprefix(f"{name}:"): v for k, v in tensors.items() if k.startswith(f"{name}:")})
        device = self.actors.device
        self._best = {k.removeprefix("best:"): v.to(device) for k, v in tensors.items() if k.startswith("best:")}
        evaluations = {k: Evaluation(**state[k]) if state[k] else None for k in ("before", "best")}
        self.state = _State(**{**state, **evaluations})
        if self._adaptive is not None:
            self._adaptive.coef = self.state.kl_coef


def tune(
    trainer: Trainer,
    run: Run,
    evaluated: Sequence[Sequence[int]],
    show: Callable[[Trainer, int], None] = lambda trainer, iteration: None,
) -> Outcome:
    """Iterate to the end, resuming from the run's last checkpoint; stops within seconds when asked.

    The policy ends with the weights of its best evaluation on `evaluated`. `show(trainer, iteration)` is called after
    each. Raises RunError when updates stop being numbers; the last checkpoint is kept.
    """
    total = trainer.knobs.iterations
    saved = run.last_checkpoint()
    if saved is not None:
        _restore(trainer, saved, run)
    saved_at = started = time.monotonic()
    begin = trainer.state.iteration
    last = asdict(trainer.state), trainer.tensors()
    try:
        while True:
            if evaluated and _is_due(trainer):
                _evaluate(trainer, run, evaluated, show)
                last = asdict(trainer.state), trainer.tensors()
            if trainer.state.iteration >= total or trainer.state.halted:
                break
            if run.stop_requested():
                raise Interrupted
            metrics = trainer.iterate()
            trainer.state.halted = _reason_to_halt(trainer, metrics)
            last = asdict(trainer.state), trainer.tensors()
            done = trainer.state.iteration
            left = (time.monotonic() - started) / (done - begin) * (total - done)
            run.log(done, total, **metrics, seconds_left=left)
            if time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                _save(trainer, run, *last)
                saved_at = time.monotonic()
    except Interrupted:
        trainer.forget()
        _save(trainer, run, *last)
        return Outcome(False, last[0]["iteration"])
    trainer.take_best()
    state = trainer.state
    return Outcome(True, state.iteration, state.before, state.best, state.skipped, state.halted)


def _is_due(trainer: Trainer) -> bool:
    """Whether the next thing to do is to look at the policy: also when a stop came while that was being done."""
    state, knobs = trainer.state, trainer.knobs
    is_last = state.iteration >= knobs.iterations or bool(state.halted)
    return state.evaluated < state.iteration and (is_last or state.iteration % knobs.evaluate_every == 0)


def _evaluate(
    trainer: Trainer, run: Run, prompts: Sequence[Sequence[int]], show: Callable[[Trainer, int], None]
) -> None:
    found = trainer.evaluate(prompts)
    run.log(found.iteration, trainer.knobs.iterations, **{"eval/score": found.score, "eval/kl": found.kl})
    show(trainer, found.iteration)
    trainer.state.evaluated = found.iteration


def _reason_to_halt(trainer: Trainer, metrics: dict[str, float]) -> str:
    if metrics["kl/seq"] > trainer.knobs.kl_stop:
        return (
            f"Stopped at iteration {trainer.state.iteration}: answers had moved {metrics['kl/seq']:.1f} nats away from "
            f"the reference (the limit is {trainer.knobs.kl_stop:g}). The best policy so far is kept."
        )
    if trainer.state.silent >= _SILENT_ITERATIONS:
        return (
            f"Stopped at iteration {trainer.state.iteration}: for {_SILENT_ITERATIONS} iterations hardly an answer came "
            "to an end. The best policy so far is kept. Raise the longest answer, or lower the learning rate."
        )
    return ""


def _save(trainer: Trainer, run: Run, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    folder = run.checkpoint(state["iteration"])
    trainer.save(folder, state, tensors)
    run.publish(folder)


def _restore(trainer: Trainer, folder: Path, run: Run) -> None:
    try:
        trainer.restore(folder)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"The checkpoint {folder.name} of run {run.id} cannot be read ({error}). "
            "Start the run again, or put the checkpoint back from a backup."
        ) from error


# -- figures -----------------------------------------------------------------------------------------------------


def _describe(roll: _Rollout, kl_coef: float, score_clip: float) -> dict[str, float]:
    """What can be said of an iteration's answers; every mean over tokens is over actions."""
    mask, k1 = roll.mask, kl(roll.logp, roll.ref_logp, "k1")
    kl_seq = float(torch.where(mask, k1, 0.0).sum(-1).mean())
    lengths = mask.sum(-1).float()
    returns, values, advantages = roll.returns[mask], roll.values[mask], roll.advantages[mask]
    variance = float(returns.var(correction=0))
    return {
        "reward/score_raw": float(roll.raw.mean()),
        "reward/score": float(roll.scores.mean()),
        "reward/score_std": float(roll.scores.std(correction=0)),
        "reward/total": float(roll.scores.mean()) - kl_coef * kl_seq,
        "reward/kl_penalty": kl_coef * kl_seq,
        "reward/ended_rate": sum(a.ended for a in roll.answers) / len(roll.answers),
        "reward/clipped_rate": float((roll.raw.abs() > score_clip).float().mean()),
        "kl/seq": kl_seq,
        "kl/token": float(k1[mask].mean()),
        "kl/k3": float(kl(roll.logp, roll.ref_logp, "k3")[mask].mean()),
        "kl/coef": kl_coef,
        "kl/sqrt": math.sqrt(max(0.0, kl_seq)),
        "policy/entropy": float(roll.entropy[mask].mean()),
        "value/mean": float(values.mean()),
        "value/explained_var": 1 - float((returns - values).var(correction=0)) / variance if variance > 1e-12 else 0.0,
        "adv/mean": float(advantages.mean()),
        "adv/std_before_whiten": float(advantages.std(correction=0)),
        "len/response_mean": float(lengths.mean()),
        "len/response_p95": float(lengths.quantile(0.95)),
        "len/score_corr": _correlation(lengths, roll.raw),
        "gen/distinct2": _distinct_pairs(roll.answers),
        "gen/repeat4_rate": _repeated(roll.answers, 4),
    }


def _correlation(x: Tensor, y: Tensor) -> float:
    spread = float(x.std(correction=0) * y.std(correction=0))
    return float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1e-9 else 0.0


def _distinct_pairs(answers: Sequence[Generated]) -> float:
    """Different pairs of neighbouring tokens, as a share of all: falls when answers become alike."""
    pairs = [pair for a in answers for pair in zip(a.ids, a.ids[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def _repeated(answers: Sequence[Generated], size: int) -> float:
    """The share of an answer's runs of `size` tokens that it has said before, averaged over answers."""
    shares = []
    for a in answers:
        runs = [tuple(a.ids[i : i + size]) for i in range(len(a.ids) - size + 1)]
        shares.append(1 - len(set(runs)) / len(runs) if runs else 0.0)
    return sum(shares) / len(shares)


class _Tally:
    """Means of the minibatches' figures, and the first ratio, which has to be 1."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    def add(self, figures: dict[str, float]) -> None:
        self._rows.append(figures)

    def last(self, name: str) -> float:
        return self._rows[-1][name] if self._rows else 0.0

    def means(self) -> dict[str, float]:
        if not self._rows:
            return {}
        names = self._rows[0]
        found = {name: sum(row[name] for row in self._rows) / len(self._rows) for name in names}
        found["policy/ratio_max"] = max(row["policy/ratio_max"] for row in self._rows)
        found["policy/ratio_first"] = self._rows[0]["policy/ratio_mean"]
        return found


class _Clock:
    """Where the time of an iteration goes."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._name, self._since = "", 0.0

    def at(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._spent[self._name] = self._spent.get(self._name, 0.0) + time.monotonic() - self._since

    def figures(self, roll: _Rollout) -> dict[str, float]:
        total, tokens = sum(self._spent.values()), float(roll.mask.sum())
        return {
            **{f"time/{name}": seconds for name, seconds in self._spent.items()},
            "time/total": total,
            "perf/episodes_s": len(roll.prompts) / total,
            "perf/gen_tok_s": tokens / max(1e-9, self._spent.get("rollout", 0.0)),
            "perf/train_tok_s": tokens / max(1e-9, self._spent.get("update", 0.0)),
            "memory_gb": psutil.Process().memory_info().rss / 1e9,
        }


def _is_sound(figures: dict[str, float]) -> bool:
    return (
        math.isfinite(figures["policy/loss"])
        and math.isfinite(figures["value/loss"])
        and 0.1 <= figures["policy/ratio_mean"] <= 10.0
    )


def _not_a_number(iteration: int, skipped: int, figures: dict[str, float]) -> str:
    return (
        f"In iteration {iteration}, {skipped} updates in a row could not be used (policy loss "
        f"{figures['policy/loss']:.3g}, value loss {figures['value/loss']:.3g}, ratio {figures['policy/ratio_mean']:.3g}). "
        "The last checkpoint is kept. Lower the learning rate, or train the reward model again."
    )


def _permutation(key: str, n: int) -> list[int]:
    return random.Random(key).sample(range(n), n)
