"""Supervised fine-tuning of an adapter: a plain loop that computes logits only where there is something to learn.

Where the time of a small model goes, and what is done about it (benchmarks/): the output layer runs on learned
positions alone, batches hold records of like length, and nothing is logged that nobody reads.

Everything that decides the next step (weights, optimizer, place in the data) is in a checkpoint, so a resumed run
takes the same steps as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.errors import RunError
from studio.tasks import Run
from studio.training.conversation import Example
from studio.training.optimizer import Optimizer, trainable

__all__ = ["Outcome", "Schedule", "collate", "learned_loss", "parameter_count", "plan", "save_adapter", "tune"]

_IGNORED = -100
_CHECKPOINT_SECONDS = 60.0
_GROUP = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class Schedule:
    """How the steps are taken. `learning_rate` is the peak: linear warm-up, then cosine to a tenth."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
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
    """What training did; `finished` is False when it stopped early on request, with a checkpoint written."""

    finished: bool
    steps: int
    loss: float
    validation_loss: float | None
    validation_loss_before: float | None


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
    hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    targets = labels[:, 1:]
    learned = targets != _IGNORED
    logits = causal.get_output_embeddings()(hidden[:, :-1][learned]).float()
    return torch.nn.functional.cross_entropy(logits, targets[learned], reduction="sum")


def tune(
    model: PeftModel,
    train: Sequence[Example],
    validation: Sequence[Example],
    schedule: Schedule,
    run: Run,
    *,
    pad: int,
    each_epoch: Callable[[int], None] = lambda step: None,
) -> Outcome:
    """Train the adapter in place. Resumes from the run's last checkpoint; stops between two steps when asked.

    Raises RunError when there is nothing to learn or the loss is not a number (the last checkpoint is kept).
    """
    if not any(label != _IGNORED for e in train for label in e.labels):
        raise RunError(
            "Nothing would be learned: no training record has a token of a response left to learn. "
            "Check that responses are not empty and that records fit the longest length."
        )
    device = next(model.parameters()).device
    optimizer = Optimizer(trainable(model), weight_decay=schedule.weight_decay, max_grad_norm=schedule.max_grad_norm)
    steps = plan([len(e.ids) for e in train], schedule)
    per_epoch = len(steps) // schedule.epochs
    saved = run.last_checkpoint()
    state = _resume(run, saved, optimizer) if saved else _State()
    if state.step == 0 and validation:
        state.before = _validate(model, validation, schedule.batch_size, pad)
        run.log(0, len(steps), validation_loss=state.before)
    saved_at, meter = time.monotonic(), _Meter(sum(sum(len(train[i].ids) for i in s) for s in steps[state.step :]))
    model.train()
    while state.step < len(steps):
        if run.stop_requested():
            _save(run, model, optimizer, state)
            return Outcome(False, state.step, state.loss, state.validation, state.before)
        batch = [train[i] for i in steps[state.step]]
        ids, mask, labels = (x.to(device) for x in collate(batch, pad))
        learned = int((labels[:, 1:] != _IGNORED).sum())
        rate = schedule.rate(state.step, len(steps))
        loss = learned_loss(model, ids, mask, labels) / max(1, learned)
        if not torch.isfinite(loss):
            raise RunError(
                f"The loss became {loss.item()} at step {state.step + 1} (records {steps[state.step]}). The last good "
                "checkpoint is kept. Lower the learning rate, or look at these records."
            )
        loss.backward()
        optimizer.step(rate)
        state.step += 1
        state.loss = loss.item()
        meter.count(sum(len(e.ids) for e in batch), learned)
        run.log(state.step, len(steps), loss=state.loss, learning_rate=rate, **meter.figures())
        if state.step % per_epoch == 0:
            if validation:
                with meter.paused():
                    state.validation = _validate(model, validation, schedule.batch_size, pad)
                run.log(state.step, len(steps), validation_loss=state.validation)
            with meter.paused():
                each_epoch(state.step)
            model.train()
        if time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
            _save(run, model, optimizer, state)
            saved_at = time.monotonic()
    model.eval()
    return Outcome(True, state.step, state.loss, state.validation, state.before)


@dataclass
class _State:
    step: int = 0
    loss: float = float("nan")
    validation: float | None = None
    before: float | None = None


class _Meter:
    """Tokens per second and the time left, judged by tokens rather than steps: batches differ in length."""

    def __init__(self, tokens_left: int) -> None:
        self._left = tokens_left
        self._tokens = self._learned = 0
        self._started = time.monotonic()
        self._process = psutil.Process()

    def count(self, tokens: int, learned: int) -> None:
        self._tokens += tokens
        self._learned += learned
        self._left -= tokens

    def figures(self) -> dict[str, float]:
        seconds = max(1e-6, time.monotonic() - self._started)
        return {
            "learned_tokens_per_second": self._learned / seconds,
            "memory_gb": self._process.memory_info().rss / 1e9,
            "seconds_left": self._left * seconds / max(1, self._tokens),
        }

    class _Pause:
        def __init__(self, meter: _Meter) -> None:
            self._meter, self._since = meter, time.monotonic()

        def __enter__(self) -> None:
            self._since = time.monotonic()

        def __exit__(self, *_: object) -> None:
            self._meter._started += time.monotonic() - self._since

    def paused(self) -> _Pause:
        return self._Pause(self)


def _chunks(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    ordered = sorted(examples, key=lambda e: len(e.ids))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _validate(model: PeftModel, examples: Sequence[Example], size: int, pad: int) -> float:
    """Mean -log p per learned token over the validation rows, in nats."""
    device = next(model.parameters()).device
    total, learned = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for batch in _chunks(examples, size):
            ids, mask, labels = (x.to(device) for x in collate(batch, pad))
            total += learned_loss(model, ids, mask, labels).item()
            learned += int((labels[:, 1:] != _IGNORED).sum())
    return total / max(1, learned)


def _save(run: Run, model: PeftModel, optimizer: Optimizer, state: _State) -> None:
    """Adapter, optimizer and place in the data, as safetensors and JSON (no pickles)."""
    folder = run.checkpoint(state.step)
    model.save_pretrained(str(folder / "model"))
    save_file(optimizer.tensors(), folder / "optimizer.safetensors")
    (folder / "state.json").write_text(json.dumps(vars(state)), encoding="utf-8")
    run.publish(folder)


def _resume(run: Run, folder: Path, optimizer: Optimizer) -> _State:
    try:
        state = _State(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        optimizer.restore(load_file(folder / "optimizer.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"The checkpoint {folder.name} of run {run.id} cannot be read ({error}). "
            "Start the run again, or put the checkpoint back from a backup."
        ) from error
    return state


def parameter_count(model: torch.nn.Module) -> int:
    """How many parameters training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def save_adapter(model: PeftModel, folder: Path, base: str, name: str = "default") -> None:
    """A finished adapter, loadable by plain peft; it names its base by reference, not by a path of this machine."""
    model.peft_config[name].base_model_name_or_path = base
    model.save_pretrained(str(folder), selected_adapters=[name])
    if name != "default":  # peft puts any other in a folder of its own
        for file in (folder / name).iterdir():
            file.replace(folder / file.name)
        (folder / name).rmdir()
