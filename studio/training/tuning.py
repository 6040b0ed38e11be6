"""From weights and conversations to a tuned model in the run's folder, by whatever method."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from studio.errors import RunError
from studio.models import Weights
from studio.specs import Message, Sampling
from studio.tasks import Run
from studio.training import sft
from studio.training.attention import choose_attention
from studio.training.conversation import Example, encode_example, encode_prompt, stop_ids
from studio.training.decode import generate
from studio.training.loading import load_tokenizer, make_room
from studio.training.memory import place_of_this_run
from studio.training.method import Method
from studio.training.methods import Learner, learner
from studio.training.sizes import ANSWERS_SHARE, Batch, Saving, needs, new_parameters, recomputes

__all__ = ["Knobs", "Trained", "train"]

_SHOWN = 3  # prompts that are answered while the run goes on
_SHOWN_TOKENS = 64


@dataclass(frozen=True)
class Knobs:
    """What every method is told. `schedule` says how the steps are taken; longer records are left out, not cut.

    `keeping` is the memory in bytes that the run was seen to take while it kept its activations, where it was measured.
    """

    schedule: sft.Schedule
    max_length: int
    saving: Saving = "auto"
    keeping: int | None = None


@dataclass(frozen=True)
class Trained:
    """Figures of a run; `finished` is False when it stopped on request, `recomputes` says that it saved memory."""

    finished: bool
    new_parameters: int
    learned_tokens: int
    left_out: int
    recomputes: bool
    outcome: sft.Outcome


def train(
    weights: Weights,
    train_rows: Sequence[list[Message]],
    validation_rows: Sequence[list[Message]],
    method: Method,
    knobs: Knobs,
    run: Run,
    *,
    numbers: Sequence[int] = (),
) -> Trained:
    """Tune and leave the model in `run.output / "model"`. Raises RunError when nothing would be learned.

    `numbers` are what people call the training rows, in their order; 1, 2, 3 where left out.
    """
    run.say("Reading the records.")
    tokenizer = load_tokenizer(weights)
    longest, schedule = min(knobs.max_length, weights.window), knobs.schedule
    training = [encode_example(tokenizer, row) for row in train_rows]
    kept = [e for e in training if len(e.ids) <= longest]
    named = zip(training, numbers or range(1, len(training) + 1), strict=True)
    names = [number for e, number in named if len(e.ids) <= longest]
    validation = [e for e in (encode_example(tokenizer, r) for r in validation_rows) if len(e.ids) <= longest]
    if not kept:
        reason = f"all {len(training)} are longer than {longest} tokens" if training else "the snapshot has none"
        raise RunError(
            f"Nothing would be learned: there is no training record to learn from ({reason}). "
            "Raise the longest record, shorten the records, or choose another snapshot."
        )
    make_room(run, weights)
    schedule = replace(schedule, recomputes=_saves_memory(weights, method, kept, knobs, run))
    run.say("Loading the model.")
    torch.manual_seed(schedule.seed)
    steps = len(sft.plan([len(e.ids) for e in kept], schedule))
    pupil = learner(weights, method, steps=steps)
    choose_attention(pupil.model, schedule.batch_size, max(len(e.ids) for e in kept))
    shown = _Samples(pupil, tokenizer, validation_rows or train_rows, run)
    run.say(_beginning(len(kept), len(training), schedule.epochs))
    pad = tokenizer.pad_token_id or 0
    outcome = sft.tune(pupil, kept, validation, schedule, run, pad=pad, show=shown.now_and_then, numbers=names)
    if outcome.finished:
        shown.answer(outcome.best_step)
        run.say("Saving the model.")
        pupil.save(run.output / "model")
    left_out = len(training) - len(kept)
    return Trained(outcome.finished, pupil.size, _learned(kept), left_out, schedule.recomputes, outcome)


def _saves_memory(weights: Weights, method: Method, kept: Sequence[Example], knobs: Knobs, run: Run) -> bool:
    """Decided by the free memory at this moment, unless somebody said yes or no; the run tells when it was by itself."""
    place, keeping = place_of_this_run(), knobs.keeping
    if keeping is None:
        batch = Batch.of(((len(e.ids), e.learned) for e in kept), knobs.schedule.batch_size)
        learns = new_parameters(method, weights)
        keeping = needs(method, weights, learns, batch, recomputes=False, place=place).memory
    if knobs.saving == "auto" and keeping > place.free:
        run.release_engine()
        place = place_of_this_run()
    run.saves_memory = recomputes(knobs.saving, keeping, place)
    if run.saves_memory and knobs.saving == "auto":
        run.note(
            f"Memory is short: the run would take about {keeping / 1e9:.1f} GB and {place.free / 1e9:.1f} GB are free. So "
            "it computes activations again instead of keeping them, which takes about a third more time."
        )
    return run.saves_memory


def _beginning(kept: int, all_of_them: int, epochs: int) -> str:
    times = f"; every one comes {epochs} times" if epochs > 1 else ""
    left = f" {all_of_them - kept:,} are too long and stay out." if kept < all_of_them else ""
    return f"Learning from {kept:,} records{times}.{left}"


def _learned(examples: Sequence[Example]) -> int:
    return sum(e.learned for e in examples)


class _Samples:
    """The same few prompts, answered by the base before the first step, by the model now and then while it learns, and by
    what is kept of it in the end."""

    def __init__(
        self, pupil: Learner, tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[Message]], run: Run
    ) -> None:
        self._pupil, self._tokenizer, self._run = pupil, tokenizer, run
        self._questions = [row[-2].content for row in rows[:_SHOWN]]
        self._prompts = [encode_prompt(tokenizer, row[:-1]) for row in rows[:_SHOWN]]
        self._last = 0
        self._took = 0.0  # seconds of the last round of answers
        self._spent = 0.0  # seconds of all rounds on the way
        self._base = self._of_the_base()
        self._began = time.monotonic()

    def now_and_then(self, step: int) -> None:
        """Where it does not hold the run up: what a round costs differs a hundredfold between models and machines."""
        if (self._spent + self._took) * ANSWERS_SHARE <= time.monotonic() - self._began:
            self.answer(step)
            self._spent += self._took

    def answer(self, step: int) -> None:
        if step == self._last and step:
            return  # the best step was the last, and answered already
        self._last = step
        for question, base, tuned in zip(
            self._questions, self._base, self._said_by(self._pupil.reading()), strict=True
        ):
            self._run.sample(step, question, base=base, tuned=tuned)

    def _of_the_base(self) -> list[str]:
        """Asked once, before anything is learned; a resumed run reads what was said then."""
        kept = self._run.output / "before.json"
        if kept.is_file():
            told: Any = json.loads(kept.read_text(encoding="utf-8"))
            if isinstance(told, dict) and len(told["answers"]) == len(self._prompts):
                self._took = float(told["seconds"])
                return [str(text) for text in told["answers"]]
        self._run.say("Asking the base first, to have its answers beside those of the tuned model.")
        with self._pupil.untouched() as model:
            answers = self._said_by(model)
        for question, base in zip(self._questions, answers, strict=True):
            self._run.sample(0, question, base=base)
        told = {"answers": answers, "seconds": self._took}
        kept.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        return answers

    def _said_by(self, model: Any) -> list[str]:
        began = time.monotonic()
        self._pupil.model.eval()
        sampling = Sampling(max_tokens=_SHOWN_TOKENS)
        made = generate(model, self._prompts, sampling, stop_ids(self._tokenizer))
        answers = [str(self._tokenizer.decode(g.ids, skip_special_tokens=True)).strip() for g in made]
        self._took = time.monotonic() - began
        return answers
