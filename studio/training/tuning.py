"""From weights and conversations to a LoRA adapter in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from studio.errors import RunError
from studio.models import Weights
from studio.specs import Message, Sampling
from studio.tasks import Run
from studio.training import sft
from studio.training.actors import new_adapter
from studio.training.attention import choose_attention
from studio.training.conversation import encode_example, encode_prompt, stop_ids
from studio.training.decode import generate
from studio.training.loading import load_tokenizer, make_room

__all__ = ["Knobs", "Trained", "train"]

_SHOWN = 2  # validation prompts answered while the run goes on
_SHOWN_TOKENS = 90


@dataclass(frozen=True)
class Knobs:
    rank: int
    alpha: int
    max_length: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Trained:
    finished: bool
    new_parameters: int
    validation_loss: float | None
    validation_loss_before: float | None
    left_out: int


def train(
    weights: Weights,
    train_rows: Sequence[list[Message]],
    validation_rows: Sequence[list[Message]],
    knobs: Knobs,
    run: Run,
) -> Trained:
    """Tune and leave the adapter in `run.output / "model"`. Raises RunError when nothing would be learned."""
    run.say("Reading the records.")
    tokenizer = load_tokenizer(weights)
    longest = min(knobs.max_length, weights.window)
    training = [encode_example(tokenizer, row) for row in train_rows]
    kept = [e for e in training if len(e.ids) <= longest]
    validation = [e for e in (encode_example(tokenizer, r) for r in validation_rows) if len(e.ids) <= longest]
    if not kept:
        reason = f"all {len(training)} are longer than {longest} tokens" if training else "the snapshot has none"
        raise RunError(
            f"Nothing would be learned: there is no training record to learn from ({reason}). "
            "Raise the longest record, shorten the records, or choose another snapshot."
        )
    make_room(run, weights)
    run.say("Loading the model.")
    torch.manual_seed(knobs.seed)
    model = new_adapter(weights, knobs.rank, knobs.alpha)
    choose_attention(model, knobs.batch_size, max(len(e.ids) for e in kept))
    show = _Samples(model, tokenizer, validation_rows, run) if validation_rows else None
    run.say(
        f"Learning from {len(kept)} records; every one comes {knobs.epochs} times."
        if knobs.epochs > 1
        else f"Learning from {len(kept)} records."
    )
    outcome = sft.tune(
        model,
        kept,
        validation,
        sft.Schedule(knobs.epochs, knobs.batch_size, knobs.learning_rate, seed=knobs.seed),
        run,
        pad=tokenizer.pad_token_id or 0,
        each_epoch=show.ask if show else lambda step: None,
    )
    if outcome.finished:
        run.say("Saving the adapter.")
        sft.save_adapter(model, run.output / "model", str(weights.ref))
    return Trained(
        outcome.finished,
        sft.parameter_count(model),
        outcome.validation_loss,
        outcome.validation_loss_before,
        len(training) - len(kept),
    )


class _Samples:
    """The same few validation prompts, answered by the base once and by the tuned model after every epoch."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[Message]], run: Run
    ) -> None:
        self._model, self._tokenizer, self._run = model, tokenizer, run
        self._questions = [row[-2].content for row in rows[:_SHOWN]]
        self._prompts = [encode_prompt(tokenizer, row[:-1]) for row in rows[:_SHOWN]]
        self._base: list[str] = []

    def ask(self, step: int) -> None:
        if not self._base:
            with self._model.disable_adapter():
                self._base = self._answers()
        for question, base, tuned in zip(self._questions, self._base, self._answers(), strict=True):
            self._run.sample(step, question, base=base, tuned=tuned)

    def _answers(self) -> list[str]:
        self._model.eval()
        made = generate(self._model, self._prompts, Sampling(max_tokens=_SHOWN_TOKENS), stop_ids(self._tokenizer))
        return [str(self._tokenizer.decode(g.ids, skip_special_tokens=True)).strip() for g in made]
