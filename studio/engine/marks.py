"""A conversation token by token as training learns it, spelled so that people can read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studio.specs import Message
from studio.training.conversation import MASKED, encode_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["marks", "spelled"]

_HALF = "\ufffd"  # what a decoder writes for bytes that are no character, or none yet
_BYTES = 4  # of one character at most, so that all tokens of one that is not whole yet are decoded again
_TOGETHER = 16


def marks(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], most: int) -> dict[str, Any]:
    """The first `most` tokens (text, learned, special), and how many there are and are learned: training's own labels."""
    example = encode_example(tokenizer, messages)
    special = frozenset(tokenizer.all_special_ids)
    ids = example.ids[:most]
    labels = example.labels[:most]
    return {
        "marks": [
            (text, label != MASKED, token in special)
            for text, token, label in zip(spelled(tokenizer, ids), ids, labels, strict=True)
        ],
        "tokens": len(example.ids),
        "learned": example.learned,
    }


def spelled(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text of every token; all together they are the text of all.

    A character that several tokens make up, as an emoji is, stands with the last of them. Tokens are decoded with some
    before them, since there are tokenizers that leave out the space before whatever comes first.
    """
    texts: list[str] = []
    begun = said = 0  # the first token that is decoded along, and how much of what it begins is said already

    def read(end: int) -> str:
        return str(tokenizer.decode(list(ids[begun:end]), clean_up_tokenization_spaces=False))

    for end in range(1, len(ids) + 1):
        text = read(end)
        is_whole = end == len(ids) or not text.endswith(_HALF)
        sure = len(text) if is_whole else len(text) - 1
        texts.append(text[said:sure])
        said = max(said, sure)
        if end - begun >= _TOGETHER:
            begun = end - _BYTES
            said = len(read(end)) - (not is_whole)
    return texts
