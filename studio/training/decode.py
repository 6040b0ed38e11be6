"""The decode loop, shared by the engine (answers) and by reinforcement learning (rollouts).

Why not `transformers.generate`: it fills what is left open from the checkpoint's own defaults, keeps finished rows in
the batch, cannot be stopped between two tokens, and reports scores after the sampling filters, where a policy
gradient needs them before. Prompts are left-padded and each row draws from its own seeded numbers, so an answer does
not depend on which other prompts share its batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from studio.errors import ModelError
from studio.specs import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AnswerText", "Constraint", "Generated", "OnToken", "generate", "generating", "row_seed", "warp"]

OnToken = Callable[[int, int], bool]
P = ParamSpec("P")


class Constraint(Protocol):
    """Says which tokens one answer may go on with."""

    def allowed(self) -> Tensor:
        """Bool, at most one for each token of the vocabulary or a few more; tokens beyond it are not allowed."""

    def take(self, token: int) -> None:
        """The token that was chosen."""


_ROOM_STEP = 128
_LIKELIEST = (64, 1024)
_BLOCK = 256
_WORTH_SHARING = 32  # tokens; a pass of its own for fewer takes longer than reading them in every row


@dataclass
class Generated:
    """What was sampled for one prompt. The token that ended it, if any, is the last of `ids`.

    `logprobs` are those of the sampled tokens under softmax(logits / temperature), before penalty and filters (at
    temperature 0: under softmax(logits)); empty unless they were asked for.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False  # by a stop token; else by length or by `on_token`


@torch.inference_mode()
def generating(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stop_ids: Collection[int],
    *,
    on_token: OnToken | None = None,
    window: int | None = None,
    seeds: Sequence[int] | None = None,
    logprobs: bool = False,
    constraints: Sequence[Constraint] = (),
) -> Iterator[list[Generated]]:
    """Sample an answer to every prompt, pausing after each token of every row: between two the model may do something
    else. `on_token(row, token)` hears each token and ends the row by returning True.

    `constraints`, if any, are one for each prompt; log-probabilities are those without them.

    Row i draws from the stream of `seeds[i]`, by default one made from `sampling.seed` and i (see `row_seed`).
    """
    if model.training:
        # With gradient checkpointing, layers in train mode drop the cache and the answer becomes noise, silently.
        raise ModelError("Decoding needs the model in evaluation mode: call model.eval() first.")
    answers = [Generated() for _ in prompts]
    if not prompts:
        yield answers
        return
    limits = [_limit(len(prompt), sampling.max_tokens, window) for prompt in prompts]
    stops = frozenset(stop_ids)
    batch = _Batch.prefill(model, prompts)
    chooser = _Chooser(sampling, prompts, batch.logits, seeds)
    while True:
        held = [constraints[row] for row in batch.rows] if constraints else []
        tokens, scores = chooser.choose(batch.logits, logprobs, held)
        kept = []
        for place, row in enumerate(batch.rows):
            token, answer = tokens[place], answers[row]
            answer.ids.append(token)
            if scores:
                answer.logprobs.append(scores[place])
            answer.ended = token in stops
            wants_end = on_token is not None and on_token(row, token)
            if not (answer.ended or wants_end or len(answer.ids) >= limits[row]):
                kept.append(place)
        yield answers
        if not kept:
            return
        if len(kept) < len(tokens):
            order = _fill_holes(kept, len(tokens))
            tokens = [tokens[place] for place in order]
            batch.keep(order)
            chooser.keep(order)
        batch.step(model, tokens)


def _without_pauses(steps: Callable[P, Iterator[list[Generated]]]) -> Callable[P, list[Generated]]:
    def run(*given: P.args, **how: P.kwargs) -> list[Generated]:
        return deque(steps(*given, **how), maxlen=1)[0]

    return run


generate = _without_pauses(generating)  # the whole answers at once


def _limit(prompt: int, max_tokens: int, window: int | None) -> int:
    if prompt == 0:
        raise ModelError("An empty prompt cannot be answered: give at least one token.")
    if window is None:
        return max_tokens
    if prompt > window - 1:
        raise ModelError(
            f"The prompt has {prompt} tokens, but this model reads at most {window - 1} and needs one for its answer. "
            "Shorten it, or drop examples or documents."
        )
    return min(max_tokens, window - prompt)


def _shared_beginning(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all of several prompts begin with, the last token of each left out; 0 when reading them apart
    would cost no more."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in lexical order these two differ earliest
    most = min(map(len, prompts)) - 1
    shared = next((n for n in range(most) if first[n] != last[n]), most)
    return shared if shared >= _WORTH_SHARING else 0


def _fill_holes(kept: list[int], size: int) -> list[int]:
    """A new order of the kept places in which only rows from the end move, so that little of the cache is copied."""
    count = len(kept)
    holes = sorted(set(range(count)) - set(kept))
    order = list(range(count))
    for hole, place in zip(holes, [place for place in kept if place >= count], strict=True):
        order[hole] = place
    return order


# ---------------------------------------------------------------------------------------------------------------
# The rows still being answered
# ---------------------------------------------------------------------------------------------------------------


class _Batch:
    """Cache, mask and positions of the unfinished rows; `logits` are of each row's next token, [rows, vocabulary]."""

    def __init__(self, rows: list[int], cache: DynamicCache, mask: Tensor, logits: Tensor) -> None:
        self.rows = rows
        self.logits = logits
        self._cache = cache
        self._mask = mask  # [rows, tokens so far], True where there is a token
        self._is_plain = all(isinstance(layer, _GrowingLayer) for layer in cache.layers)
        self._positions = mask.sum(-1, keepdim=True)  # of the next token, [rows, 1]

    @classmethod
    def prefill(cls, model: Any, prompts: Sequence[Sequence[int]]) -> _Batch:
        """Read all prompts at once; equal prompts (many samples of one question) are read once, and so is what all of
        them begin with (examples, guidelines)."""
        places: dict[tuple[int, ...], int] = {}
        readers = torch.tensor([places.setdefault(tuple(prompt), len(places)) for prompt in prompts])
        cache = _growing_cache(model.config)
        shared = _shared_beginning(list(places))
        if shared:
            beginning = torch.tensor([next(iter(places))[:shared]], device=model.device)
            model(input_ids=beginning, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache.batch_select_indices(torch.zeros(len(places), dtype=torch.long, device=model.device))
        rests = [prompt[shared:] for prompt in places]
        width = max(map(len, rests))
        # Left-padded: generation continues from the last column, so the prompt must end there.
        ids = torch.tensor([[0] * (width - len(rest)) + list(rest) for rest in rests])
        mask = torch.tensor([[True] * shared + [False] * (width - len(r)) + [True] * len(r) for r in rests])
        ids, mask = ids.to(model.device), mask.to(model.device)
        logits = model(
            input_ids=ids,
            attention_mask=None if bool(mask.all()) else mask,
            # Absolute-position models are wrong without these, and RoPE models slightly so.
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, shared:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if len(places) < len(prompts):
            readers = readers.to(model.device)
            cache.batch_select_indices(readers)
            mask, logits = mask[readers], logits[readers]
        return cls(list(range(len(prompts))), cache, mask, logits)

    def step(self, model: Any, tokens: list[int]) -> None:
        """Read one more token in each row."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=True)
        self.logits = model(
            input_ids=torch.tensor(tokens, device=self._mask.device).unsqueeze(-1),
            attention_mask=self._additive_mask() if self._is_plain else self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        self._positions = self._positions + 1

    def _additive_mask(self) -> Tensor:
        """[rows, 1, 1, tokens so far], 0 where there is a token, else minus infinity.

        In this shape transformers takes it as it is. Given none, it lets torch expand grouped queries, which on a CPU
        takes six times as long; given a boolean one, torch converts it again in every layer.
        """
        nothing = torch.zeros((), dtype=self.logits.dtype, device=self.logits.device)
        return nothing.new_full((), -torch.inf).where(~self._mask, nothing)[:, None, None]

    def keep(self, order: list[int]) -> None:
        index = torch.tensor(order, device=self._mask.device)
        self.rows = [self.rows[place] for place in order]
        self._mask, self._positions = self._mask[index], self._positions[index]
        layers: list[Any] = self._cache.layers
        for layer in layers:
            if isinstance(layer, _GrowingLayer):
                layer.keep(order)
            else:
                layer.batch_select_indices(index)


class _GrowingLayer(DynamicLayer):
    """Keys and values in a buffer with room to spare.

    The stock layer copies the whole cache for every token (15 % of a step with 32 rows) and for every row that ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[Tensor] = []
        self._rows = 0
        self._length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._length = self._length, self._length + key_states.shape[-2]
        self._rows = key_states.shape[0]
        if not self._buffers or self._length > self._buffers[0].shape[-2]:
            self._grow(key_states, value_states, start)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._rows, :, start : self._length] = states
        return self._show()

    def _grow(self, key_states: Tensor, value_states: Tensor, start: int) -> None:
        room = self._length + max(_ROOM_STEP, self._length // 4)
        old, self._buffers = self._buffers, []
        for place, states in enumerate((key_states, value_states)):
            rows, heads, _, size = states.shape
            self._buffers.append(states.new_empty(rows, heads, room, size))
            if old:
                self._buffers[place][:, :, :start] = old[place][:rows, :, :start]

    def keep(self, order: list[int]) -> None:
        for buffer in self._buffers:
            for place, source in enumerate(order):
                if place != source:
                    buffer[place, :, : self._length] = buffer[source, :, : self._length]
        self._rows = len(order)
        self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._rows = len(indices)
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[: self._rows, :, : self._length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def _growing_cache(config: Any) -> DynamicCache:
    """A cache for this model; layers that are not plain (sliding windows and the like) stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


# ---------------------------------------------------------------------------------------------------------------
# Choosing the next token
# ---------------------------------------------------------------------------------------------------------------


class _Chooser:
    """Turns logits into tokens as `Sampling` says, with one stream of random numbers per row."""

    def __init__(
        self, sampling: Sampling, prompts: Sequence[Sequence[int]], logits: Tensor, seeds: Sequence[int] | None
    ) -> None:
        self._sampling = sampling
        self._step = 0
        self._draws: Tensor | None = None  # [rows, max_tokens], uniform in [0, 1)
        if sampling.temperature > 0:
            seeds = seeds or [row_seed(sampling.seed, row) for row in range(len(prompts))]
            self._draws = torch.stack([_uniform(seed, sampling.max_tokens) for seed in seeds]).to(logits.device)
        self._seen: Tensor | None = None  # [rows, vocabulary], True for tokens in prompt or answer
        if sampling.repetition_penalty != 1.0:
            self._seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                self._seen[row, torch.tensor(prompt, device=logits.device)] = True

    def choose(
        self, logits: Tensor, with_logprobs: bool, constraints: Sequence[Constraint] = ()
    ) -> tuple[list[int], list[float]]:
        """The next token of every row, and its log-probability if asked."""
        tokens = self._pick(_constrained(logits, constraints) if constraints else logits)
        for constraint, token in zip(constraints, tokens.tolist(), strict=bool(constraints)):
            constraint.take(token)
        if self._seen is not None:
            self._seen.scatter_(-1, tokens.unsqueeze(-1), True)
        self._step += 1
        if not with_logprobs:
            return tokens.tolist(), []
        scaled = logits.float() / (self._sampling.temperature or 1.0)
        chosen = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return tokens.tolist(), (chosen - scaled.logsumexp(-1)).tolist()

    def _pick(self, logits: Tensor) -> Tensor:
        if self._seen is not None:
            logits = _penalised(logits.float(), self._seen, self._sampling.repetition_penalty)
        if self._draws is None:
            return logits.max(-1).indices  # argmax takes five times as long in bfloat16
        return _drawn(warp(logits.float(), self._sampling), self._draws[:, self._step, None])

    def keep(self, order: list[int]) -> None:
        if self._draws is not None:
            self._draws = self._draws[torch.tensor(order, device=self._draws.device)]
        if self._seen is not None:
            self._seen = self._seen[torch.tensor(order, device=self._seen.device)]


def _constrained(logits: Tensor, constraints: Sequence[Constraint]) -> Tensor:
    allowed = torch.zeros(logits.shape, dtype=torch.bool)
    for row, constraint in enumerate(constraints):
        mask = constraint.allowed()[: logits.shape[-1]]
        allowed[row, : len(mask)] = mask
    return logits.masked_fill(~allowed.to(logits.device), -torch.inf)


def _drawn(logits: Tensor, draws: Tensor) -> Tensor:
    """The token of each row at which the running sum of its probabilities passes the draw in [0, 1), [rows].

    In two levels, blocks of tokens and tokens of one block: a running sum over a large vocabulary takes twice as long as
    all the rest. Shapes: [rows, vocabulary] and [rows, 1].
    """
    probabilities = logits.softmax(-1)
    if rest := -logits.shape[-1] % _BLOCK:
        probabilities = torch.nn.functional.pad(probabilities, (0, rest))
    blocks = probabilities.unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(-1).cumsum(-1)
    block, left = _passed(sums, draws * sums[:, -1:])
    within = blocks.take_along_dim(block.unsqueeze(-1), 1).squeeze(1).cumsum(-1)
    place, _ = _passed(within, left)
    return (block * _BLOCK + place).squeeze(-1)


def _passed(sums: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """Where running sums first pass a height, and how far it lies above the sum before that; both [rows, 1]."""
    # Strictly below the whole sum: rounding must never pick a filtered token.
    height = torch.minimum(height, sums[:, -1:] * (1 - 2**-20))
    place = torch.searchsorted(sums, height, right=True)
    before = sums.gather(-1, (place - 1).clamp(min=0))
    return place, height - before.where(place > 0, 0)


def row_seed(seed: int, row: int) -> int:
    """One stream per row; neighbouring seeds share none of theirs, so a second batch is not the first one shifted."""
    return (seed * 1_000_003 + row) % 2**63


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """Temperature, then top-k, top-p and min-p; filtered tokens become -inf. Shapes: [rows, vocabulary]."""
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[:, -1:], -torch.inf)
    if sampling.top_p < 1:
        logits = logits.masked_fill(logits < _nucleus_floor(logits, sampling.top_p), -torch.inf)
    if sampling.min_p > 0:
        floor = logits.max(-1, keepdim=True).values + torch.tensor(sampling.min_p).log()
        logits = logits.masked_fill(logits < floor, -torch.inf)
    return logits


def _nucleus_floor(logits: Tensor, top_p: float) -> Tensor:
    """The smallest logit of the smallest set of likeliest tokens whose probabilities reach `top_p`, [rows, 1]."""
    total = logits.logsumexp(-1, keepdim=True)
    for size in (*(few for few in _LIKELIEST if few < logits.shape[-1]), logits.shape[-1]):
        # Sorting all of a large vocabulary takes longer than the model; the first few nearly always suffice.
        likeliest = logits.topk(size).values
        reached = (likeliest - total).exp().cumsum(-1)
        if bool((reached[:, -1] >= top_p).all()):
            break
    within = (reached < top_p).sum(-1, keepdim=True).clamp(max=size - 1)
    return likeliest.gather(-1, within)


def _penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _uniform(seed: int, count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------------------------
# From tokens to text
# ---------------------------------------------------------------------------------------------------------------


class AnswerText:
    """The text of an answer while its tokens come in: never half a character, never part of a stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._ids: list[int] = []
        self._context = 0  # ids before this one are spelled and no longer needed as context
        self._spelled = 0
        self._held = ""
        self.stopped = False  # by a stop string

    def push(self, token: int) -> str:
        """Take one token, give the text that is certain now."""
        self._ids.append(token)
        return self._release(self._fresh(is_last=False))

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        text = self._release(self._fresh(is_last=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _fresh(self, is_last: bool) -> str:
        # Spelled again from the last whole piece, since a token's spelling depends on the one before.
        before = self._spell(self._ids[self._context : self._spelled])
        text = self._spell(self._ids[self._context :])
        if text.endswith("\ufffd") and not is_last:
            return ""
        self._context, self._spelled = self._spelled, len(self._ids)
        return text[len(before) :]

    def _spell(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _release(self, fresh: str) -> str:
        if self.stopped:
            return ""
        text = self._held + fresh
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many last characters of the text could be the beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
