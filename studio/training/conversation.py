"""Conversations as the model sees them. Training and serving both come through here, so that they cannot differ.

A conversation is rendered by the model's own chat template and cut where each answer begins and ends; the pieces are
tokenized one by one. So the tokens before an answer are the same whether the answer is about to be generated or is
there to be learned, even where a tokenizer would merge characters across that border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from studio.errors import InputError, ModelError
from studio.specs import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MASKED", "Example", "encode_example", "encode_prompt", "end_of_turn", "render", "stop_ids"]

MASKED = -100  # the label that cross-entropy leaves out

_PROBE = "zephyr"


@dataclass(frozen=True)
class Example:
    """A conversation to learn from: labels are the ids where they are learned and `MASKED` elsewhere."""

    ids: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        return sum(label != MASKED for label in self.labels)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """The conversation in the model's own format, exactly as it gets it."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"{tokenizer.name_or_path} has no chat template, so it is not known how to write a conversation for it. "
            "Choose an instruct or chat model, or add chat_template.jinja to its folder."
        )
    _refuse_control_tokens(tokenizer, messages)
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path} refuses this conversation ({error}). "
            "Change the order or the roles of its turns; some models take no system message."
        ) from error
    return str(text)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The tokens that go in before the model answers."""
    return [token for piece in _prompt_pieces(tokenizer, messages) for token in _ids(tokenizer, piece)]


def encode_example(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Example:
    """The tokens of a conversation, of which every answer and the token that ends it are learned."""
    if not messages or messages[-1].role != "assistant":
        raise InputError("A conversation to learn from ends with the assistant's answer; this one does not.")
    ends = stop_ids(tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    for text, is_answer in _pieces(tokenizer, messages):
        tokens = _ids(tokenizer, text)
        learned = _length_of_answer(tokens, ends, tokenizer) if is_answer else 0
        ids += tokens
        labels += tokens[:learned] + [MASKED] * (len(tokens) - learned)
    last = max(place for place, label in enumerate(labels) if label != MASKED)
    ids, labels = ids[: last + 1], labels[: last + 1]
    prompt = encode_prompt(tokenizer, messages[:-1])
    if ids[: len(prompt)] != prompt:
        raise ModelError(_rewriting(tokenizer))
    return Example(ids, labels)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's end of text and the one its template writes after a turn."""
    found = {tokenizer.eos_token_id} - {None}
    if tokenizer.chat_template:
        turns = [Message(role="user", content=_PROBE), Message(role="assistant", content=_PROBE)]
        after = render(tokenizer, turns, add_generation_prompt=False).rpartition(_PROBE)[2]
        special = [token for token in _ids(tokenizer, after) if token in tokenizer.all_special_ids]
        found |= set(special[:1])
    return frozenset(found)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the template writes after an answer: the last one of a conversation to learn from."""
    turns = [Message(role="user", content=_PROBE), Message(role="assistant", content=_PROBE)]
    return encode_example(tokenizer, turns).ids[-1]


def _pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[tuple[str, bool]]:
    """The rendered conversation, cut before and after every answer; True for an answer."""
    pieces: list[tuple[str, bool]] = []
    done = ""
    for place, turn in enumerate(messages):
        if turn.role == "assistant":
            before = render(tokenizer, messages[:place], add_generation_prompt=True)
            after = render(tokenizer, messages[: place + 1], add_generation_prompt=False)
            if not before.startswith(done) or not after.startswith(before):
                raise ModelError(_rewriting(tokenizer))
            pieces += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
    return pieces


def _prompt_pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[str]:
    whole = render(tokenizer, messages, add_generation_prompt=True)
    try:
        pieces = [text for text, _ in _pieces(tokenizer, messages)]
    except ModelError:
        return [whole]  # the template rewrites earlier turns: it can be served so, but not trained on
    said = "".join(pieces)
    return [*pieces, whole[len(said) :]] if whole.startswith(said) else [whole]


def _length_of_answer(tokens: list[int], ends: frozenset[int], tokenizer: PreTrainedTokenizerBase) -> int:
    for place, token in enumerate(tokens):
        if token in ends:
            return place + 1
    raise ModelError(
        f"The chat template of {tokenizer.name_or_path} writes no end-of-turn token after an answer, "
        "so a model cannot learn from it where to stop. Choose another model."
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template writes all special tokens itself; a second begin-of-text would be one the model never saw.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _refuse_control_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> None:
    """Text that spells a control token would end its turn and speak in another role's name."""
    for number, turn in enumerate(messages, 1):
        for token in tokenizer.all_special_tokens:
            if token in turn.content:
                raise InputError(
                    f"Message {number} ({turn.role}) contains {token}, which this model reads as a command and not "
                    "as text. Remove it or write it differently."
                )


def _rewriting(tokenizer: PreTrainedTokenizerBase) -> str:
    return (
        f"The chat template of {tokenizer.name_or_path} rewrites earlier turns when a new one comes, so a longer "
        "conversation cannot be learned as it will be served. Keep one question and one answer in each record."
    )
