"""Reward models: an adapter and a linear head that learn from rankings which answer people prefer.

Bradley-Terry over pairs (Ouyang et al. 2022, arXiv 2203.02155, section 3.5). All pairs of one ranking are one element
of a batch, so K answers cost K forward passes and not K(K-1), and one prompt never weighs more than another; where the
model allows it they share one pass over their prompt. The score
is read at the last token, found from the mask: `AutoModelForSequenceClassification` looks for the padding id instead,
and where padding and end of turn are the same token it scores the token before the end.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from studio.errors import ModelError, RunError
from studio.models import Weights
from studio.specs import Message, assistant
from studio.tasks import Run
from studio.training.actors import Actors, new_adapter, parameter_count, save_adapter
from studio.training.attention import choose_attention
from studio.training.conversation import encode_example, encode_prompt
from studio.training.loading import load_tokenizer, make_room
from studio.training.logprobs import hidden_states
from studio.training.optimizer import Optimizer
from studio.training.sft import Schedule

__all__ = [
    "Knobs",
    "Pair",
    "Ranking",
    "RewardHead",
    "Trained",
    "can_pack",
    "last_states",
    "packed_states",
    "pair_loss",
    "score_ids",
    "train",
]

_HEAD, _FACTS = "reward_head.safetensors", "reward.json"
_CHECKPOINT_SECONDS = 60.0
_SCORED_AT_ONCE = 8192  # tokens, padding included
_NORMALISED_ON = 128
_PACKED_AT_ONCE = 2048  # tokens, padding included
_ADAPTER = "default"


def pair_loss(
    chosen: Tensor,
    rejected: Tensor,
    margin: Tensor | None = None,
    p_chosen: Tensor | None = None,
    centering: float = 0.0,
) -> Tensor:
    """-log sigmoid(chosen - rejected), [N] from scores [N].

    `margin` is subtracted from the difference (Llama 2, arXiv 2307.09288, equation 2). `p_chosen` is a soft label, the
    probability that the chosen one is better. `centering` pulls the two scores towards a sum of 0 (arXiv 2312.09244).
    """
    difference = chosen - rejected
    if margin is not None:
        difference = difference - margin
    loss = -nn.functional.logsigmoid(difference)
    if p_chosen is not None:
        loss = p_chosen * loss - (1 - p_chosen) * nn.functional.logsigmoid(-difference)
    return loss + centering * (chosen + rejected) ** 2


@dataclass(frozen=True)
class Ranking:
    """One judgement: answers to one prompt, and pairs of their places (winner, loser). `group` is the prompt's."""

    prompt: Sequence[Message]
    answers: Sequence[str]
    pairs: Sequence[tuple[int, int]]
    group: str


@dataclass(frozen=True)
class Knobs:
    rank: int
    alpha: int
    max_length: int
    epochs: int
    batch_size: int  # in rankings
    learning_rate: float
    centering: float
    seed: int


@dataclass(frozen=True)
class Pair:
    """A held-out pair as the reward model sees it; lengths are in tokens of the answer."""

    group: str
    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int


@dataclass(frozen=True)
class Trained:
    finished: bool
    new_parameters: int = 0
    epoch: int = 0  # the one that was kept
    validation_loss: float | None = None
    held_out: list[Pair] = field(default_factory=list)
    left_out: int = 0
    gain: float = 1.0
    bias: float = 0.0


class RewardHead(nn.Module):
    """score = gain * (weight . state) + bias, in float32. Gain and bias bring the first policy's scores to mean 0 and
    deviation 1 (Ziegler et al. 2019, arXiv 1909.08593); kept in a file of our own, since a bias inside a
    classification head is lost when transformers loads it again."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        noise = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(noise / math.sqrt(size + 1))
        self.gain, self.bias = 1.0, 0.0

    def forward(self, states: Tensor) -> Tensor:
        """[..., size] to [...], float32."""
        raw = (states.float() * self.weight).sum(-1)
        return self.gain * raw + self.bias

    def normalise(self, scores: Tensor) -> None:
        """Choose gain and bias so that these scores, [N], would have mean 0 and deviation 1."""
        if len(scores) < 2 or (spread := float(scores.std(correction=0))) < 1e-6:
            return
        gain = 1.0 / spread
        self.gain, self.bias = self.gain * gain, self.bias * gain - float(scores.mean()) * gain

    def save(self, folder: Path) -> None:
        save_file({"weight": self.weight.detach().cpu().contiguous()}, folder / _HEAD)
        (folder / _FACTS).write_text(json.dumps({"gain": self.gain, "bias": self.bias}, indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> RewardHead:
        """Raises ModelError when the folder holds no reward model."""
        try:
            weight = load_file(folder / _HEAD)["weight"]
            facts = json.loads((folder / _FACTS).read_text("utf-8"))
            head = cls(len(weight))
            head.weight = nn.Parameter(weight.float(), requires_grad=False)
            head.gain, head.bias = float(facts["gain"]), float(facts["bias"])
        except FileNotFoundError as error:
            raise ModelError(
                f"{folder} holds no reward model: {Path(error.filename or _HEAD).name} is missing. "
                "Choose a run of the recipe `reward`."
            ) from error
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"The reward head in {folder} cannot be read ({error}). Train it again.") from error
        return head


def last_states(model: Any, rows: Sequence[Sequence[int]], pad: int, left: bool = False) -> Tensor:
    """The state at each row's last token, [N, d]. `left` pads in front; the score does not depend on it."""
    width = max(map(len, rows))
    lengths = torch.tensor([len(row) for row in rows])
    steps = torch.arange(width)
    mask = steps >= (width - lengths)[:, None] if left else steps < lengths[:, None]
    fill = [[pad] * (width - len(row)) for row in rows]
    ids = torch.tensor([f + list(row) if left else list(row) + f for row, f in zip(rows, fill, strict=True)])
    device = next(model.parameters()).device
    states = hidden_states(model, ids.to(device), mask.to(device))
    last = torch.full_like(lengths, width - 1) if left else lengths - 1
    return states[torch.arange(len(rows), device=device), last.to(device)]


Packed = tuple[Sequence[int], Sequence[Sequence[int]]]  # a prompt and its answers


def packed_states(model: Any, rankings: Sequence[Packed]) -> list[Tensor]:
    """For every ranking the state at each answer's last token, [K, d], with the prompt read once for all of them.

    A row holds a prompt and its answers one after the other; a mask keeps answers from seeing each other, and each
    begins at the position after the prompt. What pads a shorter row sees itself alone, since a row of a mask that is
    all closed would not be a number.
    """
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    lengths = [[len(prompt), *map(len, answers)] for prompt, answers in rankings]
    width = max(map(sum, lengths))
    ids = torch.zeros(len(rankings), width, dtype=torch.long)
    positions = torch.zeros(len(rankings), width, dtype=torch.long)
    owner = torch.full((len(rankings), width), -1)
    for row, (prompt, answers) in enumerate(rankings):
        count = sum(lengths[row])
        ids[row, :count] = torch.tensor([*prompt, *(token for answer in answers for token in answer)])
        owner[row, :count] = torch.repeat_interleave(torch.arange(len(lengths[row])), torch.tensor(lengths[row]))
        after = [len(prompt) + torch.arange(n) for n in lengths[row][1:]]
        positions[row, :count] = torch.cat([torch.arange(len(prompt)), *after])
    steps = torch.arange(width)
    mine = (owner[:, :, None] == owner[:, None, :]) & (owner >= 0)[:, :, None]
    seen = (steps <= steps[:, None]) & (mine | (owner == 0)[:, None, :]) & (owner >= 0)[:, :, None]
    seen |= torch.eye(width, dtype=torch.bool)
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    states = causal.get_decoder()(
        input_ids=ids.to(device),
        attention_mask=mask[:, None].to(device),
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state
    ends = [(torch.tensor(own).cumsum(0)[1:] - 1).to(device) for own in lengths]
    return [states[row, places] for row, places in enumerate(ends)]


@torch.no_grad()
def can_pack(model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]], pad: int) -> bool:
    """Whether this model reads answers packed behind one prompt as it reads them alone. Some shift positions or make
    masks of their own (sliding windows), and none says so: hence the try."""
    alone = last_states(model, [[*prompt, *answer] for answer in answers], pad).float()
    try:
        [packed] = packed_states(model, [(prompt, answers)])
        packed = packed.float()
    except (ValueError, RuntimeError, TypeError):
        return False
    tolerance = 0.05 if next(model.parameters()).dtype in (torch.bfloat16, torch.float16) else 1e-3
    return bool((packed - alone).norm() <= tolerance * alone.norm())


@torch.no_grad()
def score_ids(model: Any, head: RewardHead, rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """The score of every row, [N], in batches of like length."""
    scores = torch.empty(len(rows))
    for places in _by_length([len(row) for row in rows], _SCORED_AT_ONCE):
        scores[torch.tensor(places)] = head(last_states(model, [rows[i] for i in places], pad)).cpu()
    return scores


def _by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Places of rows to compute together: longest first, at most `tokens` of them with the padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        rows = max(1, tokens // max(1, lengths[order[0]]))
        yield order[:rows]
        order = order[rows:]


@dataclass(frozen=True)
class _Encoded:
    prompt: list[int]
    answers: list[list[int]]  # each up to the token that ends it
    pairs: Sequence[tuple[int, int]]
    group: str

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def tokens(self) -> int:
        """With the prompt once."""
        return len(self.prompt) + sum(map(len, self.answers))


def train(
    weights: Weights,
    learned: Sequence[Ranking],
    validation: Sequence[Ranking],
    held_out: Sequence[Ranking],
    knobs: Knobs,
    run: Run,
) -> Trained:
    """Train and leave adapter and head in `run.output / "model"`. The epoch with the lowest validation loss is kept.

    Raises RunError when there is no pair to learn from or the loss is not a number.
    """
    run.say("Reading the judgements.")
    tokenizer = load_tokenizer(weights)
    longest = min(knobs.max_length, weights.window)
    encoded = [[_encode(tokenizer, r) for r in part if r.pairs] for part in (learned, validation, held_out)]
    train_set, validation_set, test_set = ([e for e in part if _fits(e, longest)] for part in encoded)
    left_out = sum(map(len, encoded)) - len(train_set) - len(validation_set) - len(test_set)
    if not train_set:
        reason = f"all are longer than {longest} tokens" if encoded[0] else "there are only ties"
        raise RunError(
            f"Nothing would be learned from {len(learned)} judgements: {reason}. "
            "Judge more items, or raise the longest conversation."
        )
    make_room(run, weights)
    run.say("Loading the model.")
    torch.manual_seed(knobs.seed)
    model = new_adapter(weights, knobs.rank, knobs.alpha, _ADAPTER)
    widest = max(e.tokens for e in train_set)
    choose_attention(model, max(1, _PACKED_AT_ONCE // widest), widest)
    head = RewardHead(model.config.hidden_size, knobs.seed).to(next(model.parameters()).device)
    trainer = _Trainer(Actors(model, {_ADAPTER}), head, train_set, validation_set, knobs, run, tokenizer)
    if not trainer.train():
        return Trained(False)
    run.say("Bringing the scores to mean 0 and deviation 1.")
    head.normalise(torch.cat(trainer.scores(_some(train_set + validation_set + test_set, knobs.seed))))
    pairs = [pair for e, s in zip(test_set, trainer.scores(test_set), strict=True) for pair in _pairs(e, s.tolist())]
    run.say("Saving the reward model.")
    folder = run.output / "model"
    save_adapter(model, folder, str(weights.ref))
    head.save(folder)
    return Trained(
        True,
        parameter_count(model) + head.weight.numel(),
        trainer.best_epoch,
        trainer.best_loss,
        pairs,
        left_out,
        head.gain,
        head.bias,
    )


def _encode(tokenizer: PreTrainedTokenizerBase, ranking: Ranking) -> _Encoded:
    prompt = encode_prompt(tokenizer, ranking.prompt)
    wholes = [encode_example(tokenizer, [*ranking.prompt, assistant(answer)]).ids for answer in ranking.answers]
    return _Encoded(prompt, [ids[len(prompt) :] for ids in wholes], ranking.pairs, ranking.group)


def _fits(encoded: _Encoded, longest: int) -> bool:
    """Whole rankings are left out, not cut: what is judged is often the end of an answer."""
    return encoded.longest <= longest


def _some(rankings: Sequence[_Encoded], seed: int) -> list[_Encoded]:
    """So many rankings, by chance, that their answers are enough to know the scores' mean and deviation."""
    shuffled, count, chosen = random.Random(seed).sample(rankings, len(rankings)), 0, []
    for e in shuffled:
        if count >= _NORMALISED_ON:
            break
        chosen.append(e)
        count += len(e.answers)
    return chosen


def _pairs(e: _Encoded, scores: Sequence[float]) -> list[Pair]:
    length = [len(answer) for answer in e.answers]
    return [Pair(e.group, scores[w], scores[r], length[w], length[r]) for w, r in e.pairs]


class _Trainer:
    """The loop: a step is one batch of rankings; everything that decides the next step is in a checkpoint."""

    def __init__(
        self,
        actors: Actors,
        head: RewardHead,
        rankings: list[_Encoded],
        validation: list[_Encoded],
        knobs: Knobs,
        run: Run,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self._model, self._head, self._run = actors.model, head, run
        self._rankings, self._validation, self._knobs = rankings, validation, knobs
        self._parameters = {**actors.parameters(_ADAPTER), "head": head.weight}
        self._optimizer = Optimizer(self._parameters)
        self._schedule = Schedule(knobs.epochs, knobs.batch_size, knobs.learning_rate, seed=knobs.seed)
        self._pad = tokenizer.pad_token_id or 0
        # The longest: a short conversation fits into a sliding window, where packing cannot be told from not packing.
        longest = max(rankings, key=lambda e: e.longest)
        can = can_pack(self._model, longest.prompt, longest.answers, self._pad)
        self._packs_up_to = longest.longest if can else 0
        self.step = 0
        self.best_loss: float | None = None
        self.best_epoch = 0
        self._best: dict[str, Tensor] = {}

    @property
    def _per_epoch(self) -> int:
        return -(-len(self._rankings) // self._knobs.batch_size)

    def _batch(self, step: int) -> list[_Encoded]:
        epoch, place = divmod(step, self._per_epoch)
        order = random.Random(f"{self._knobs.seed}/{epoch}").sample(range(len(self._rankings)), len(self._rankings))
        size = self._knobs.batch_size
        return [self._rankings[i] for i in order[place * size : (place + 1) * size]]

    def train(self) -> bool:
        """True when all epochs are done; False when it was stopped, with a checkpoint written."""
        total = self._per_epoch * self._knobs.epochs
        saved = self._run.last_checkpoint()
        if saved:
            self._resume(saved)
        elif self._validation:
            self._run.log(0, total, validation_loss=self._validate())
        self._run.say(f"Learning from {len(self._rankings)} judgements.")
        saved_at = started = time.monotonic()
        begin = self.step
        while self.step < total:
            if self._run.stop_requested():
                self._save()
                return False
            batch = self._batch(self.step)
            rate = self._schedule.rate(self.step, total)
            loss, right = self._learn(batch, rate)
            self.step += 1
            left = (time.monotonic() - started) / (self.step - begin) * (total - self.step)
            self._run.log(self.step, total, loss=loss, accuracy=right, learning_rate=rate, seconds_left=left)
            if self.step % self._per_epoch == 0:
                self._end_epoch(self.step // self._per_epoch, total)
            if time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                self._save()
                saved_at = time.monotonic()
        self._take_best()
        return True

    def _learn(self, batch: Sequence[_Encoded], rate: float) -> tuple[float, float]:
        """One step; gives its loss and the share of pairs that were in the right order before it."""
        total, right = 0.0, 0.0
        for part in self._parts(batch):
            losses = []
            for encoded, scores in zip(part, self._score(part), strict=True):
                winners, losers = (scores[list(side)] for side in zip(*encoded.pairs, strict=True))
                losses.append(pair_loss(winners, losers, centering=self._knobs.centering).mean() / len(batch))
                right += float((winners > losers).float().mean()) / len(batch)
            loss = torch.stack(losses).sum()
            if not torch.isfinite(loss):
                raise RunError(
                    f"The loss became {loss.item()} at step {self.step + 1}. The last good checkpoint is kept. "
                    "Lower the learning rate and start again."
                )
            loss.backward()
            total += loss.item()
        self._optimizer.step(rate)
        return total, right

    def _parts(self, rankings: Sequence[_Encoded]) -> list[list[_Encoded]]:
        """In their order, as many at a time as are read together; those that are not packed one at a time."""
        found: list[list[_Encoded]] = []
        widest = 0
        for e in rankings:
            packs = e.longest <= self._packs_up_to
            widest = max(widest, e.tokens) if found else e.tokens
            joins = bool(found) and packs and self._is_packed(found[-1])
            if joins and widest * (len(found[-1]) + 1) <= _PACKED_AT_ONCE:
                found[-1].append(e)
            else:
                found.append([e])
                widest = e.tokens
        return found

    def _is_packed(self, part: Sequence[_Encoded]) -> bool:
        return all(e.longest <= self._packs_up_to for e in part)

    def _score(self, part: Sequence[_Encoded]) -> list[Tensor]:
        """Scores of each ranking's answers, [K]."""
        if self._is_packed(part):
            return [self._head(states) for states in packed_states(self._model, [(e.prompt, e.answers) for e in part])]
        rows = [[[*e.prompt, *answer] for answer in e.answers] for e in part]
        return [self._head(last_states(self._model, own, self._pad)) for own in rows]

    @torch.no_grad()
    def scores(self, rankings: Sequence[_Encoded]) -> list[Tensor]:
        """Each ranking's scores, [K], without gradients."""
        return [scores for part in self._parts(rankings) for scores in self._score(part)]

    def _end_epoch(self, epoch: int, total: int) -> None:
        if not self._validation:
            self._keep(epoch, None)
            return
        loss = self._validate()
        self._run.log(self.step, total, validation_loss=loss)
        if self.best_loss is None or loss < self.best_loss:
            self._keep(epoch, loss)

    def _keep(self, epoch: int, loss: float | None) -> None:
        self.best_loss, self.best_epoch = loss, epoch
        self._best = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def _take_best(self) -> None:
        for name, value in self._best.items():
            self._parameters[name].copy_(value)

    def _validate(self) -> float:
        """Mean loss of the validation rankings."""
        total = 0.0
        for e, own in zip(self._validation, self.scores(self._validation), strict=True):
            winners, losers = (own[list(side)] for side in zip(*e.pairs, strict=True))
            total += float(pair_loss(winners, losers).mean())
        return total / len(self._validation)

    def _save(self) -> None:
        folder = self._run.checkpoint(self.step)
        kept = {f"best/{name}": value.cpu().contiguous() for name, value in self._best.items()}
        save_file({**self._optimizer.tensors(), **kept}, folder / "training.safetensors")
        state = {"step": self.step, "best_loss": self.best_loss, "best_epoch": self.best_epoch}
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
        self._run.publish(folder)

    def _resume(self, folder: Path) -> None:
        try:
            tensors = load_file(folder / "training.safetensors")
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._optimizer.restore({k: v for k, v in tensors.items() if not k.startswith("best/")})
            device = self._head.weight.device
            self._best = {k.removeprefix("best/"): v.to(device) for k, v in tensors.items() if k.startswith("best/")}
            self.step, self.best_loss, self.best_epoch = state["step"], state["best_loss"], state["best_epoch"]
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise RunError(
                f"The checkpoint {folder.name} of run {self._run.id} cannot be read ({error}). "
                "Start the run again, or put the checkpoint back from a backup."
            ) from error
