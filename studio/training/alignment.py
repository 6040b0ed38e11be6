"""From a tuned model, a reward model and prompts to an aligned adapter in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.errors import RunError
from studio.models import Weights
from studio.specs import Message
from studio.tasks import Run
from studio.training.actors import Actors, new_adapter, put_on, save_adapter
from studio.training.attention import choose_attention
from studio.training.conversation import encode_prompt, end_of_turn, stop_ids
from studio.training.decode import Generated
from studio.training.loading import load_tokenizer, make_room
from studio.training.logprobs import refuse_reshaped_logits
from studio.training.ppo import Knobs, Outcome, Score, Trainer, tune
from studio.training.reward import RewardHead, score_ids

__all__ = ["Aligned", "align", "attend", "cast", "refuse_other_base", "scorer"]

_SHOWN = 3  # prompts whose answers people read while the run goes on
_RANK, _ALPHA = 16, 32  # of the adapter a model without one gets


@dataclass(frozen=True)
class Aligned:
    outcome: Outcome
    new_parameters: int
    left_out: int
    prompts: int
    evaluated: int  # validation prompts


def align(
    weights: Weights,
    reward: Weights,
    prompts: Sequence[list[Message]],
    evaluated: Sequence[list[Message]],
    longest: int,
    knobs: Knobs,
    run: Run,
) -> Aligned:
    """Run PPO and leave the adapter in `run.output / "model"`. `longest` is of a prompt in tokens; longer ones are left
    out, not cut. Raises RunError when none is left, or when the reward model stands on another base."""
    refuse_other_base(weights, reward)
    run.say("Reading the prompts.")
    tokenizer = load_tokenizer(weights)
    room = min(longest, weights.window - knobs.max_tokens)
    encoded = [encode_prompt(tokenizer, p) for p in prompts]
    fitting = [p for p in encoded if len(p) <= room]
    if not fitting:
        raise RunError(
            f"None of the {len(encoded)} prompts fits: the shortest has {min(map(len, encoded), default=0)} tokens and "
            f"{room} are allowed beside an answer of {knobs.max_tokens}. Shorten them, or raise the longest prompt."
        )
    looked_at = [(p, m) for m in evaluated if len(p := encode_prompt(tokenizer, m)) <= room]
    make_room(run, weights)
    run.say("Loading the model.")
    torch.manual_seed(knobs.seed)
    actors, head, reference = cast(weights, reward, knobs)
    refuse_reshaped_logits(actors.causal.config, str(weights.ref))
    attend(actors, fitting, knobs)
    stops, pad = stop_ids(tokenizer), tokenizer.pad_token_id or 0
    trainer = Trainer(
        actors,
        reference,
        fitting,
        scorer(actors, head, end_of_turn(tokenizer), pad),
        stops,
        knobs,
        pad=pad,
        window=weights.window,
        stop_requested=run.stop_requested,
    )
    shown = _Shown(looked_at[:_SHOWN], run, lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)).strip())
    run.say(f"Practising on {len(fitting)} prompts.")
    outcome = tune(trainer, run, [p for p, _ in looked_at], shown.ask)
    if outcome.finished:
        run.say("Saving the adapter.")
        save_adapter(actors.model, run.output / "model", str(weights.ref), "policy")
    added = sum(p.numel() for p in actors.parameters("policy").values())
    return Aligned(outcome, added, len(encoded) - len(fitting), len(fitting), len(looked_at))


def refuse_other_base(weights: Weights, reward: Weights) -> None:
    """Policy and reward model share one base in memory, and one tokenizer."""
    if weights.digest != reward.digest:
        raise RunError(
            f"{reward.ref} scores with another base ({reward.base.name}) than {weights.ref} answers with "
            f"({weights.base.name}). Train a reward model on {weights.ref}, and choose that one."
        )


def attend(actors: Actors, prompts: Sequence[Sequence[int]], knobs: Knobs) -> None:
    """Choose the attention that suits the longest conversation these prompts can become."""
    longest = max(map(len, prompts)) + knobs.max_tokens
    choose_attention(actors.causal, max(1, min(knobs.minibatch, knobs.micro_tokens // longest)), longest)


def cast(weights: Weights, reward: Weights, knobs: Knobs) -> tuple[Actors, RewardHead, str | None]:
    """Everybody on one base, with the reward's head and the reference's name: a frozen copy of the tuned adapter, or
    the bare base where nothing was tuned. Either way the policy begins as the reference."""
    if reward.adapter is None:
        raise RunError(f"{reward.ref} has no adapter to score with. Choose a run of the recipe `reward`.")
    model = new_adapter(weights, _RANK, _ALPHA, "policy", samples=True)
    reference = None
    if weights.adapter is not None:
        put_on(model, weights.adapter, "reference")
        reference = "reference"
    put_on(model, reward.adapter, "reward")
    learning = {"policy"}
    if knobs.value_mode == "adapter":
        put_on(model, reward.adapter, "value")  # knows already what makes an answer good
        learning.add("value")
    model.set_adapter("policy")
    actors = Actors(model, learning)
    return actors, RewardHead.load(reward.adapter).to(actors.device), reference


def scorer(actors: Actors, head: RewardHead, stop: int, pad: int) -> Score:
    """Scores answers with the adapter called "reward"; `stop` is the token that ends an answer."""

    def score(prompts: Sequence[Sequence[int]], answers: Sequence[Generated]) -> Tensor:
        # The reward model has only ever seen answers that end: one that was cut off is closed for it.
        rows = [[*p, *a.ids, *([] if a.ended else [stop])] for p, a in zip(prompts, answers, strict=True)]
        with actors.playing("reward") as model:
            return score_ids(model, head, rows, pad)

    return score


class _Shown:
    """The same few prompts, answered greedily by the reference once and by the policy at every evaluation."""

    def __init__(
        self, prompts: Sequence[tuple[list[int], list[Message]]], run: Run, decode: Callable[[list[int]], str]
    ) -> None:
        self._prompts = [ids for ids, _ in prompts]
        self._questions = [messages[-1].content for _, messages in prompts]
        self._run, self._decode = run, decode
        self._reference: list[str] = []

    def ask(self, trainer: Trainer, iteration: int) -> None:
        if not self._prompts:
            return
        if not self._reference:
            self._reference = self._spell(trainer.greedy(self._prompts, trainer.reference))
        policy = self._spell(trainer.greedy(self._prompts)) if iteration else self._reference
        for question, before, now in zip(self._questions, self._reference, policy, strict=True):
            self._run.sample(iteration, question, reference=before, policy=now)

    def _spell(self, answers: Sequence[Generated]) -> list[str]:
        return [self._decode(a.ids) for a in answers]
