"""What the engine does with a loaded model: answers, probabilities and vectors. Runs in the work thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from studio.errors import InputError, ModelError
from studio.specs import Sampling
from studio.training.conversation import stop_ids
from studio.training.decode import AnswerText, Constraint, Generated, generate, generating, row_seed
from studio.training.logprobs import bends_logits
from studio.training.reward import RewardHead, score_ids

__all__ = ["ROWS", "Speaker", "chunks"]

ROWS = 64  # a batch keeps whoever asks meanwhile waiting: about 10 s for short answers of a model of 135M on 2 cores
# Rows times their longest possible length: keeps keys and values of one batch near 1.5 GB for a model of this class.
_TOKENS = 64 * 1024
_TEXTS = 32

Emit = Callable[[dict[str, Any]], None]


def chunks(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Places of prompts to answer together: longest first, so that little is padded and memory is known at once."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    found: list[list[int]] = []
    while order:
        rows = max(1, min(ROWS, _TOKENS // (lengths[order[0]] + max_tokens)))
        found.append(order[:rows])
        order = order[rows:]
    return found


@dataclass
class Speaker:
    """One loaded model with its tokenizer; `hear` counts each token, `cancelled` is asked after each."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    window: int
    hear: Callable[[], None]
    cancelled: Callable[[], bool]
    constrain: Callable[[str], Constraint]  # a JSON schema to a constraint for one answer

    def stream(self, prompt: list[int], sampling: Sampling) -> Iterator[dict[str, Any]]:
        """The answer in pieces, one (perhaps empty) for each token; the last carries why it ended, and the counts."""
        text = AnswerText(self.tokenizer, sampling.stop)
        stops = stop_ids(self.tokenizer)
        piece = ""

        def on_token(_: int, token: int) -> bool:
            nonlocal piece
            self.hear()
            piece = "" if token in stops else text.push(token)
            return text.stopped

        answer = Generated()
        for [answer] in generating(  # noqa: B007
            self.model,
            [prompt],
            sampling,
            stops,
            on_token=on_token,
            window=self.window,
            seeds=[row_seed(sampling.seed, 0)],
            constraints=self._constraints(sampling, 1),
        ):
            yield {"text": piece}
        # Nobody who left hears this line, and a later turn than the one that began may be the one that ends.
        finish = "stop" if answer.ended or text.stopped else "length"
        counts = {"prompt_tokens": len(prompt), "output_tokens": len(answer.ids)}
        yield {"text": text.finish(), "finish": finish, **counts, "last": True}

    def complete(self, prompts: Sequence[list[int]], rows: Sequence[int], sampling: Sampling) -> list[dict[str, Any]]:
        """Whole answers to one chunk; `rows` are the prompts' places in the whole batch and choose their seeds."""
        started = time.perf_counter()
        stops = stop_ids(self.tokenizer)
        texts = [AnswerText(self.tokenizer, sampling.stop) for _ in prompts]
        said = [""] * len(prompts)
        seconds = [0.0] * len(prompts)

        def on_token(row: int, token: int) -> bool:
            self.hear()
            if token not in stops:
                said[row] += texts[row].push(token)
            seconds[row] = time.perf_counter() - started
            return texts[row].stopped or self.cancelled()

        seeds = [row_seed(sampling.seed, row) for row in rows]
        answers = generate(
            self.model,
            prompts,
            sampling,
            stops,
            on_token=on_token,
            window=self.window,
            seeds=seeds,
            constraints=self._constraints(sampling, len(prompts)),
        )
        return [
            {
                "text": said[row] + texts[row].finish(),
                "finish": self._finish(answer, texts[row]),
                "prompt_tokens": len(prompts[row]),
                "output_tokens": len(answer.ids),
                "seconds": seconds[row],
            }
            for row, answer in enumerate(answers)
        ]

    @torch.inference_mode()
    def logprobs(self, prompt: list[int], continuation: str, top: int) -> list[dict[str, Any]]:
        """The log-probability of every token of an answer."""
        answer = list(self.tokenizer(continuation, add_special_tokens=False)["input_ids"])
        if not answer:
            raise InputError("The answer is empty, so there is nothing to tell the probability of.")
        if len(prompt) + len(answer) > self.window:
            raise ModelError(
                f"Prompt and answer have {len(prompt) + len(answer)} tokens; this model reads {self.window}. "
                "Shorten one of them."
            )
        ids = torch.tensor([prompt + answer], device=self.model.device)
        table = self._log_softmax(ids, len(answer) + 1)[:-1]  # [answer tokens, vocabulary]
        return [self._token(row, token, top) for row, token in zip(table, answer, strict=True)]

    @torch.inference_mode()
    def next_tokens(self, prompt: list[int], k: int) -> list[dict[str, Any]]:
        """The likeliest first tokens of the answer."""
        ids = torch.tensor([prompt], device=self.model.device)
        [row] = self._log_softmax(ids, 1)
        best = row.topk(min(k, len(row)))
        return [
            {"token": self._spell(token), "logprob": value}
            for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def score(self, rows: Sequence[list[int]], head: RewardHead) -> list[float]:
        """How good the reward model finds each conversation's last answer."""
        longest = max(map(len, rows), default=0)
        if longest > self.window:
            raise ModelError(
                f"A conversation has {longest} tokens; this model reads {self.window}. Leave the long ones out."
            )
        return [float(s) for s in score_ids(self.model, head, rows, self.tokenizer.pad_token_id or 0)]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The mean of the last layer's states over each text, scaled to length 1."""
        ids = [self._readable(text) for text in texts]
        vectors: list[list[float]] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda place: len(ids[place]))
        for start in range(0, len(order), _TEXTS):
            places = order[start : start + _TEXTS]
            width = max(len(ids[place]) for place in places)
            table = torch.tensor([ids[place] + [0] * (width - len(ids[place])) for place in places])
            mask = torch.tensor([[True] * len(ids[p]) + [False] * (width - len(ids[p])) for p in places])
            for place, vector in zip(places, self._mean_states(table, mask).tolist(), strict=True):
                vectors[place] = vector
        return vectors

    @property
    def _causal(self) -> Any:
        return getattr(self.model, "get_base_model", lambda: self.model)()

    def _log_softmax(self, ids: torch.Tensor, rows: int) -> torch.Tensor:
        """Log-probabilities of what follows each of the last `rows` tokens of one text, [rows, vocabulary].

        float32 from the states on: in bfloat16, two labels that lie close have equal logits.
        """
        causal = self._causal
        head = causal.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear) or bends_logits(causal.config):  # an adapter on it, or softcapping
            return self.model(input_ids=ids, use_cache=False, logits_to_keep=rows).logits[0].float().log_softmax(-1)
        states = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, -rows:].float()
        bias = None if head.bias is None else head.bias.float()
        return torch.nn.functional.linear(states, head.weight.float(), bias).log_softmax(-1)

    def _mean_states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        states = self._causal.get_decoder()(
            input_ids=ids, attention_mask=mask, use_cache=False
        ).last_hidden_state.float()
        sums = states.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1)  # [texts, hidden size]
        return torch.nn.functional.normalize(sums, dim=-1)

    def _readable(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])[: self.window]
        return ids or [next(iter(stop_ids(self.tokenizer)))]  # an empty text still gets a vector

    def _token(self, row: torch.Tensor, token: int, top: int) -> dict[str, Any]:
        best = row.topk(top)
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {
            "token": self._spell(token),
            "logprob": float(row[token]),
            "alternatives": [(self._spell(other), value) for other, value in alternatives],
        }

    def _constraints(self, sampling: Sampling, rows: int) -> list[Constraint]:
        return [self.constrain(sampling.json_schema) for _ in range(rows)] if sampling.json_schema else []

    def _spell(self, token: int) -> str:
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def _finish(self, answer: Generated, text: AnswerText) -> str:
        if answer.ended or text.stopped:
            return "stop"
        return "cancelled" if self.cancelled() else "length"
