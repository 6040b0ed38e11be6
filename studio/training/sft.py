"""Supervised fine-tuning: a plain loop that computes logits only where there is something to learn.

Where the time of a small model goes, and what is done about it (benchmarks/): the output layer runs on learned
positions alone, in pieces, batches hold records of like length, and nothing is logged that nobody reads.

Everything that decides the next step (parameters, optimizer, place in the data, the best so far) is in a checkpoint, so
a resumed run takes the same steps as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from studio.errors import RunError
from studio.tasks import Run
from studio.training.conversation import Example
from studio.training.logprobs import bends_logits, token_logprobs
from studio.training.methods import Learner
from studio.training.optimizer import Optimizer

__all__ = ["Outcome", "Schedule", "collate", "learned_loss", "looks", "plan", "tune"]

_IGNORED = -100
_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_SHARE = 20  # saving takes at most so small a part of the time, however large the weights
_GROUP = 32  # batches that are sorted by length together
_FEWEST_LOOKS = 4  # at the validation records, in a run of enough steps
_STEPS_PER_LOOK = 5
_LOGITS_AT_ONCE = 2**25
_NAMED = 32  # rows in a sentence


@dataclass(frozen=True)
class Schedule:
    """How the steps are taken. `learning_rate` is the peak: linear warm-up, then cosine to a tenth.

    `patience`: after so many looks in a row without a better validation loss the run stops early; 0: it never does.
    `recomputes` drops activations and computes them again on the way back: less memory, a third more time.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    patience: int = 0
    recomputes: bool = False
    seed: int = 0

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = max(1, round(total * self.warmup_share))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Outcome:
    """What training did; `finished` is False when it stopped on request, with a checkpoint written.

    `validation_loss` is that of the parameters that were kept: those of step `best_step`.
    """

    finished: bool
    steps: int
    loss: float
    validation_loss: float | None
    validation_loss_before: float | None
    best_step: int
    stopped_early: bool = False


def plan(lengths: Sequence[int], schedule: Schedule) -> list[list[int]]:
    """The rows of every step of the run, the same for the same seed. Each epoch holds every row once."""
    size, steps = schedule.batch_size, []
    for epoch in range(schedule.epochs):
        rng = random.Random(f"{schedule.seed}/{epoch}")
        order = rng.sample(range(len(lengths)), len(lengths))
        batches: list[list[int]] = []
        for start in range(0, len(order), size * _GROUP):
            group = sorted(order[start : start + size * _GROUP], key=lambda i: lengths[i])
            batches += [group[i : i + size] for i in range(0, len(group), size)]
        rng.shuffle(batches)
        steps += batches
    return steps


def looks(steps: int, epochs: int) -> frozenset[int]:
    """After which steps the validation records are read: at the end of every epoch, and at least four times in a run
    that is long enough for it."""
    ends = {steps * epoch // epochs for epoch in range(1, epochs + 1)}
    parts = min(_FEWEST_LOOKS, max(1, steps // _STEPS_PER_LOOK))
    if epochs < parts:
        ends |= {round(steps * part / parts) for part in range(1, parts + 1)}
    return frozenset(ends - {0})


def collate(examples: Sequence[Example], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, attention mask and labels, each [B, T]."""
    longest = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), longest), pad)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    labels = torch.full((len(examples), longest), _IGNORED)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        mask[row, :n] = 1
        labels[row, :n] = torch.tensor(example.labels)
    return ids, mask, labels


def learned_loss(model: Any, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log p over the learned tokens, in nats; equal to the plain computation over all positions.

    `ids`, `mask`, `labels` are [B, T]; the label at t is predicted at t-1. The output layer sees learned positions
    alone: with a vocabulary of 49,152 and prompts masked, that is most of its work saved.
    """
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    targets = labels[:, 1:]
    learned = targets != _IGNORED
    if bends_logits(causal.config):  # its logits are not simply those of the output layer, so it has to say them itself
        logits = causal(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1][learned].float()
        return torch.nn.functional.cross_entropy(logits, targets[learned], reduction="sum")
    hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    states, chosen = hidden[:, :-1][learned], targets[learned]
    head = causal.get_output_embeddings()
    if not torch.is_grad_enabled() or head.weight.requires_grad:
        return _loss_in_pieces(head, states, chosen)
    return -token_logprobs(causal, states, chosen, entropy=False)[0].sum()


def _loss_in_pieces(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    """With gradients towards the output layer too, and never a table of [learned tokens, vocabulary]."""
    rows = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
    parts = [
        checkpoint(_loss_of, head, states[start : start + rows], targets[start : start + rows], use_reentrant=False)
        if torch.is_grad_enabled() and len(states) > rows
        else _loss_of(head, states[start : start + rows], targets[start : start + rows])
        for start in range(0, len(states), rows)
    ]
    return torch.stack(parts).sum() if parts else states.sum() * 0.0


def _loss_of(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")


def tune(
    learner: Learner,
    train: Sequence[Example],
    validation: Sequence[Example],
    schedule: Schedule,
    run: Run,
    *,
    pad: int,
    show: Callable[[int], None] = lambda step: None,
    numbers: Sequence[int] = (),
) -> Outcome:
    """Train in place, and end with the parameters whose validation loss was lowest. Resumes from the run's last
    checkpoint; stops between two steps when asked. `show` is called after each look at the validation records;
    `numbers` are what people call the records of `train`, for errors to name them.

    Raises RunError when there is nothing to learn or the loss is not a number (the last checkpoint is kept).
    """
    if not any(label != _IGNORED for e in train for label in e.labels):
        raise RunError(
            "Nothing would be learned: no training record has a token of a response left to learn. "
            "Check that responses are not empty and that records fit the longest length."
        )
    loop = _Loop(learner, train, validation, schedule, run, pad, numbers)
    loop.begin()
    loop.train_mode()
    while loop.is_going:
        if run.stop_requested():
            loop.save()
            return loop.outcome(finished=False)
        loop.step()
        if loop.state.step in loop.looks:
            loop.look()
            with loop.meter.paused():
                show(loop.state.step)
            loop.train_mode()
        loop.save_if_due()
    loop.keep_best()
    return loop.outcome(finished=True)


@dataclass
class _State:
    """Where the run is. `best` is the lowest validation loss so far, `waited` the looks since then."""

    step: int = 0
    loss: float = float("nan")
    validation: float | None = None
    before: float | None = None
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    stopped_early: bool = False


class _Loop:
    def __init__(
        self,
        learner: Learner,
        train: Sequence[Example],
        validation: Sequence[Example],
        schedule: Schedule,
        run: Run,
        pad: int,
        numbers: Sequence[int],
    ) -> None:
        self.learner, self.schedule, self.run, self.pad = learner, schedule, run, pad
        self.numbers = numbers or range(1, len(train) + 1)
        self.train, self.validation = train, validation
        self.steps = plan([len(e.ids) for e in train], schedule)
        self.looks = looks(len(self.steps), schedule.epochs)
        self.optimizer = Optimizer(
            learner.parameters(), weight_decay=schedule.weight_decay, max_grad_norm=schedule.max_grad_norm
        )
        self.state = _State()
        self._best: dict[str, Tensor] = {}
        self._saving = 0.0
        self._good = ""  # name of the newest checkpoint

    def begin(self) -> None:
        saved = self.run.last_checkpoint()
        if saved:
            self._resume(saved)
            self._good = saved.name
        self._saved_at = time.monotonic()
        left = self.steps[self.state.step :]
        self.meter = _Meter(sum(len(self.train[i].ids) for step in left for i in step), self._looks_left())
        if self.state.step == 0 and self.validation:
            with self.meter.looking(), self.learner.untouched() as model:
                self.state.before = self._validate(model)
            if not math.isfinite(self.state.before):
                raise RunError(
                    f"Before anything was learned, the loss of {self.learner.weights.ref} on the validation records is "
                    f"{self.state.before}: its weights or one of these records cannot be computed with. Choose another "
                    "model, or put its weights back from where they came."
                )
            if self.learner.is_neutral:  # else that loss is not theirs
                self.state.best, self._best = self.state.before, self._copy()
            self.run.log(0, len(self.steps), validation_loss=self.state.before)

    def train_mode(self) -> None:
        self.learner.model.train()
        if self.schedule.recomputes:
            self.learner.causal.activation_checkpointing_enable({"use_reentrant": False})

    @property
    def is_going(self) -> bool:
        return self.state.step < len(self.steps) and not self.state.stopped_early

    def step(self) -> None:
        """One step: the mean loss over the learned tokens of a batch, its gradient, and the optimizer's move."""
        state, rows = self.state, self.steps[self.state.step]
        batch = [self.train[i] for i in rows]
        ids, mask, labels = (x.to(self.learner.device) for x in collate(batch, self.pad))
        learned = int((labels[:, 1:] != _IGNORED).sum())
        rate = self.schedule.rate(state.step, len(self.steps))
        loss = learned_loss(self.learner.reading(learns=True), ids, mask, labels) / max(1, learned)
        (loss + self.learner.penalty()).backward()
        norm = self.optimizer.step(rate, then=lambda: self.learner.after_step(state.step))
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            what = "loss" if not math.isfinite(loss.item()) else "gradient"
            self._diverged(f"The {what} became {loss.item() if what == 'loss' else norm}", state.step + 1)
        state.step += 1
        state.loss = loss.item()
        self.meter.count(sum(len(e.ids) for e in batch), learned)
        figures = self.meter.figures()
        self.run.log(state.step, len(self.steps), loss=state.loss, learning_rate=rate, **figures)

    def look(self) -> None:
        """Read the validation records; keep these parameters if they do best, stop after too many that do not."""
        if not self.validation:
            return
        state = self.state
        with self.meter.looking():
            state.validation = self._validate(self.learner.reading())
        if not math.isfinite(state.validation):
            self._diverged(f"The loss on the validation records became {state.validation}", state.step)
        self.run.log(state.step, len(self.steps), validation_loss=state.validation)
        if not self.learner.is_settled(state.step):
            return
        if state.best is None or state.validation < state.best or not self._best:
            state.best, state.best_step, state.waited = state.validation, state.step, 0
            self._best = self._copy()
        else:
            state.waited += 1
            state.stopped_early = bool(self.schedule.patience) and state.waited >= self.schedule.patience

    def _diverged(self, what: str, step: int) -> NoReturn:
        """Nothing of this step is saved: the checkpoint before it is still the newest."""
        rows = [str(self.numbers[i]) for i in sorted(self.steps[step - 1])]
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        kept = f"The last good checkpoint, {self._good}, is kept" if self._good else "No checkpoint was saved before it"
        raise RunError(
            f"{what} at step {step}, with rows {', '.join(rows[:_NAMED])}{more} of the snapshot. {kept}. "
            f"Lower the learning rate from {self.schedule.learning_rate:g}, or look at these rows."
        )

    def keep_best(self) -> None:
        """The best parameters instead of the last ones, where these are worse."""
        self.learner.model.eval()
        if self._best and self.state.best_step != self.state.step:
            with torch.no_grad():
                for name, parameter in self.learner.parameters().items():
                    parameter.copy_(self._best[name])

    def outcome(self, *, finished: bool) -> Outcome:
        s = self.state
        kept = s.best if self._best and self.validation else s.validation
        step = s.best_step if self._best else s.step
        return Outcome(finished, s.step, s.loss, kept, s.before, step, s.stopped_early)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def save_if_due(self) -> None:
        due = max(_CHECKPOINT_SECONDS, _CHECKPOINT_SHARE * self._saving)
        if time.monotonic() - self._saved_at > due:
            self.save()

    def save(self) -> None:
        """Parameters, optimizer, the best so far and the place in the data, as safetensors and JSON (no pickles)."""
        started = time.monotonic()
        folder = self.run.checkpoint(self.state.step)
        self.learner.save_part(folder / "model")
        save_file({**self.optimizer.tensors(), **self.learner.tensors()}, folder / "optimizer.safetensors")
        if self._best:
            save_file(self._best, folder / "best.safetensors")
        (folder / "state.json").write_text(json.dumps(asdict(self.state)), encoding="utf-8")
        self.run.publish(folder)
        self._good = f"step-{self.state.step}"
        self._saved_at = time.monotonic()
        self._saving = self._saved_at - started

    def _resume(self, folder: Path) -> None:
        try:
            self.state = _State(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
            tensors = load_file(folder / "optimizer.safetensors")
            self.learner.restore(tensors)
            self.optimizer.restore(tensors)
            if (folder / "best.safetensors").exists():
                self._best = load_file(folder / "best.safetensors")
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise RunError(
                f"The checkpoint {folder.name} of run {self.run.id} cannot be read ({error}). "
                "Start the run again, or put the checkpoint back from a backup."
            ) from error

    def _copy(self) -> dict[str, Tensor]:
        return {n: p.detach().cpu().clone().contiguous() for n, p in self.learner.parameters().items()}

    def _looks_left(self) -> int:
        return sum(step > self.state.step for step in self.looks) if self.validation else 0

    def _validate(self, reading: Any) -> float:
        """Mean -log p per learned token over the validation rows, in nats."""
        total, learned = 0.0, 0
        self.learner.model.eval()
        with torch.inference_mode():
            for batch in _chunks(self.validation, self.schedule.batch_size):
                ids, mask, labels = (x.to(self.learner.device) for x in collate(batch, self.pad))
                total += learned_loss(reading, ids, mask, labels).item()
                learned += int((labels[:, 1:] != _IGNORED).sum())
        return total / max(1, learned)


class _Meter:
    """Tokens per second and the time left, judged by tokens rather than steps: batches differ in length."""

    def __init__(self, tokens_left: int, looks_left: int) -> None:
        self._left, self._looks_left = tokens_left, looks_left
        self._tokens = self._learned = self._looks = 0
        self._look_seconds = 0.0
        self._started = time.monotonic()
        self._process = psutil.Process()

    def count(self, tokens: int, learned: int) -> None:
        self._tokens += tokens
        self._learned += learned
        self._left -= tokens

    def figures(self) -> dict[str, float]:
        seconds = max(1e-6, time.monotonic() - self._started)
        a_look = self._look_seconds / max(1, self._looks)
        return {
            "learned_tokens_per_second": self._learned / seconds,
            "memory_gb": self._process.memory_info().rss / 1e9,
            "seconds_left": self._left * seconds / max(1, self._tokens) + self._looks_left * a_look,
        }

    class _Pause:
        def __init__(self, meter: _Meter, is_look: bool) -> None:
            self._meter, self._since, self._is_look = meter, time.monotonic(), is_look

        def __enter__(self) -> None:
            self._since = time.monotonic()

        def __exit__(self, *_: object) -> None:
            spent, meter = time.monotonic() - self._since, self._meter
            meter._started += spent
            if self._is_look:
                meter._looks += 1
                meter._look_seconds += spent
                meter._looks_left = max(0, meter._looks_left - 1)

    def paused(self) -> _Pause:
        return self._Pause(self, False)

    def looking(self) -> _Pause:
        return self._Pause(self, True)


def _chunks(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    ordered = sorted(examples, key=lambda e: len(e.ids))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
