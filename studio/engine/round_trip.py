"""The same questions asked of a model in several ways: by the studio, and by plain libraries from exported folders.

Each side writes the prompt with its own tokenizer and template, so that a difference there is found and not hidden.
Answers are greedy and each alone in its batch, where equal weights in float32 must give equal tokens. One side is in
memory at a time; of each answer its tokens and their log-probabilities are kept.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2.exceptions import TemplateError
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from studio.engine.shelf import Shelf, Tokenizers
from studio.errors import InputError, ModelError
from studio.models import Weights
from studio.models.card import BESIDE
from studio.processes import give_memory_back
from studio.specs import Message, Sampling
from studio.training.conversation import encode_prompt, stop_ids
from studio.training.decode import generate
from studio.training.loading import best_device

__all__ = ["Answer", "Difference", "Side", "Token", "compared", "fitting", "of_plain_libraries", "of_the_studio"]

Asked = Callable[[], bool]  # called after each answer; True: stop here


@dataclass(frozen=True)
class Answer:
    """One prompt as a side wrote it, and what it said. `of_ours` are the log-probabilities it gives to the studio's
    tokens, up to the first where it goes another way. `refusal` says why there is no prompt."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    of_ours: list[float] = field(default_factory=list)
    refusal: str = ""


@dataclass(frozen=True)
class Token:
    """One token, spelled; `logprob` is None in a prompt. An answer or a prompt that is over there has no text."""

    id: int | None
    text: str
    logprob: float | None = None


@dataclass(frozen=True)
class Difference:
    """Where a side first goes another way. `prompt` and `position` count from 1, the position in the tokens of what
    differs; `ours_there` is how likely the other side finds the studio's token."""

    what: Literal["prompt", "answer", "refusal"]
    prompt: int
    position: int = 0
    ours: Token | None = None
    theirs: Token | None = None
    ours_there: float | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Side:
    """A side beside the studio. `first` is the first difference, in a prompt if there is one; the gap is the largest
    between log-probabilities of one token after the same tokens."""

    name: str
    answers: int
    same: int
    largest_gap: float | None
    first: Difference | None

    @property
    def is_same(self) -> bool:
        return self.same == self.answers

    @property
    def has_same_prompts(self) -> bool:
        return self.first is None or self.first.what == "answer"


def fitting(
    weights: Weights, conversations: Sequence[list[Message]], most: int, new_tokens: int
) -> list[list[Message]]:
    """The first so many conversations that this model's template can write and its window holds with an answer."""
    tokenizer = Tokenizers().of(weights)
    kept: list[list[Message]] = []
    for conversation in conversations:
        if len(kept) == most:
            break
        try:
            length = len(encode_prompt(tokenizer, conversation))
        except InputError:  # it spells a control token
            continue
        except ModelError:  # no template, or one that takes no such turns; one question alone must do
            if len(conversation) == 1:
                raise
            continue
        if length + new_tokens <= weights.window:
            kept.append(conversation)
    return kept


def of_the_studio(
    weights: Weights, conversations: Sequence[list[Message]], new_tokens: int, dtype: str, asked: Asked
) -> list[Answer]:
    """What the engine's own shelf, prompts and decoding give, in this process; fewer answers when it was stopped."""
    tokenizer = Tokenizers().of(weights)
    stops, sampling = stop_ids(tokenizer), Sampling(max_tokens=new_tokens)
    shelf, answers = Shelf(best_device(), getattr(torch, dtype)), []
    try:
        with shelf.model(weights) as model:
            for conversation in conversations:
                prompt = encode_prompt(tokenizer, conversation)
                [said] = generate(model, [prompt], sampling, stops, window=weights.window, logprobs=True)
                answers.append(Answer(prompt, said.ids, said.logprobs))
                if asked():
                    break
    finally:
        shelf.clear()
    return answers


def of_plain_libraries(
    folder: Path,
    conversations: Sequence[list[Message]],
    ours: Sequence[Answer],
    new_tokens: int,
    dtype: str,
    asked: Asked,
) -> list[Answer]:
    """What transformers, and peft where the folder holds an adapter with its base, give from that folder alone."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    answers = []
    with warnings.catch_warnings():
        # Of layers that AdaLoRA left without a rank, and of positions that peft's generation works out itself.
        warnings.simplefilter("ignore")
        model = _loaded(folder, dtype)
        for conversation, said in zip(conversations, ours, strict=False):
            answers.append(_answered(model, tokenizer, conversation, said, new_tokens))
            if asked():
                break
    del model
    gc.collect()
    give_memory_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return answers


def compared(name: str, ours: Sequence[Answer], theirs: Sequence[Answer], weights: Weights) -> Side:
    """Where a side says something else than the studio."""
    tokenizer = Tokenizers().of(weights)
    found = [_difference(number, *pair, tokenizer) for number, pair in enumerate(zip(ours, theirs, strict=True), 1)]
    differences = [one for one in found if one is not None]
    gaps = [abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in _pairs(one, other)]
    # Another prompt is worth more to know than another answer, which may be rounding.
    differences.sort(key=lambda one: one.what == "answer")
    first = differences[0] if differences else None
    return Side(name, len(found), len(found) - len(differences), max(gaps, default=None), first)


def _loaded(folder: Path, dtype: str) -> Any:
    """As the folder's README.md says."""
    is_adapter = (folder / "adapter_config.json").is_file()
    base = folder / BESIDE if is_adapter else folder
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
    if is_adapter:
        model = PeftModel.from_pretrained(model, str(folder))
    return model.to(best_device()).eval()


@torch.inference_mode()
def _answered(model: Any, tokenizer: Any, conversation: list[Message], ours: Answer, new_tokens: int) -> Answer:
    turns = [{"role": turn.role, "content": turn.content} for turn in conversation]
    try:
        written = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    except (TemplateError, ValueError) as error:
        return Answer([], refusal=(str(error).strip().splitlines() or [type(error).__name__])[0][:300])
    ids = written["input_ids"].to(model.device)
    # A checkpoint's own sampling defaults (a repetition penalty, for one) are no part of its weights.
    made = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    table = torch.stack(made.logits).squeeze(1).float().log_softmax(-1)  # [new tokens, vocabulary]
    said = made.sequences[0, -len(table) :].tolist()
    # The first place where the two go apart still follows the same tokens.
    shared = next((n for n, pair in enumerate(zip(said, ours.ids, strict=False)) if pair[0] != pair[1]), len(table))
    places = range(min(shared + 1, len(table), len(ours.ids)))
    return Answer(
        ids[0].tolist(),
        said,
        [float(row[token]) for row, token in zip(table, said, strict=True)],
        [float(table[place][ours.ids[place]]) for place in places],
    )


def _pairs(ours: Answer, theirs: Answer) -> Iterator[tuple[float, float]]:
    """Log-probabilities of the studio's tokens on either side, where both read the same before."""
    if ours.prompt == theirs.prompt:
        yield from zip(ours.logprobs, theirs.of_ours, strict=False)


def _difference(number: int, ours: Answer, theirs: Answer, tokenizer: PreTrainedTokenizerBase) -> Difference | None:
    if theirs.refusal:
        return Difference("refusal", number, refusal=theirs.refusal)
    if (place := _parting(ours.prompt, theirs.prompt)) is not None:
        one, other = _token(ours.prompt, place, tokenizer), _token(theirs.prompt, place, tokenizer)
        return Difference("prompt", number, place + 1, one, other)
    if (place := _parting(ours.ids, theirs.ids)) is not None:
        return Difference(
            "answer",
            number,
            place + 1,
            _token(ours.ids, place, tokenizer, ours.logprobs),
            _token(theirs.ids, place, tokenizer, theirs.logprobs),
            theirs.of_ours[place] if place < len(theirs.of_ours) else None,
        )
    return None


def _parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place where two rows of tokens differ; None when they are equal."""
    if one == other:
        return None
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def _token(ids: Sequence[int], place: int, tokenizer: PreTrainedTokenizerBase, logprobs: Sequence[float] = ()) -> Token:
    if place >= len(ids):
        return Token(None, "")
    text = str(tokenizer.decode([ids[place]], clean_up_tokenization_spaces=False))
    return Token(ids[place], text, logprobs[place] if place < len(logprobs) else None)
