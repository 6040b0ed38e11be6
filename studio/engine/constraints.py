"""Answers that keep to a JSON schema: at every token only those are allowed from which the schema can still be met.

llguidance compiles the schema and computes the allowed tokens; a mask takes well under a millisecond.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from threading import Lock

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from studio.errors import InputError, Unsupported

__all__ = ["Grammars", "JsonConstraint"]

_HELD = 4
# The spacing that people and models write. Free spacing would let a small model write blanks for ever.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class JsonConstraint:
    """One answer's way through its schema."""

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_SPACING)  # type: ignore[arg-type]
        except ValueError as error:
            raise InputError(f"The JSON schema cannot be read: {error}. Write it as one JSON object.") from error
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            reason = self._matcher.get_error().strip().splitlines()[0]
            raise InputError(f"The JSON schema cannot be kept to: {reason}. Simplify that part of it.")
        self._bits = allocate_token_bitmask(1, tokenizer.vocab_size)
        self._places = torch.arange(32, dtype=torch.int32)

    def allowed(self) -> Tensor:
        """Which tokens may come next, bool [vocabulary of the tokenizer, rounded up to 32]."""
        fill_next_token_bitmask(self._matcher, self._bits)
        return ((self._bits[0, :, None] >> self._places) & 1).bool().flatten()

    def take(self, token: int) -> None:
        """Go on behind this token."""
        self._matcher.consume_token(token)


class Grammars:
    """The last few tokenizers in llguidance's form, by folder: making one takes a second."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, LLTokenizer] = OrderedDict()
        self._lock = Lock()

    def constraint(
        self, schema: str, base: Path, tokenizer: PreTrainedTokenizerBase, stops: Collection[int]
    ) -> JsonConstraint:
        """A constraint for one answer. Raises InputError for a schema that cannot be kept to, Unsupported for a tokenizer
        that llguidance does not know."""
        with self._lock:
            if base not in self._held:
                self._held[base] = _converted(base, tokenizer, stops)
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(base)
            made = self._held[base]
        return JsonConstraint(made, schema)


def _converted(base: Path, tokenizer: PreTrainedTokenizerBase, stops: Collection[int]) -> LLTokenizer:
    try:
        return from_tokenizer(tokenizer, eos_token=sorted(stops))  # type: ignore[arg-type]
    except ValueError as error:
        raise Unsupported(
            f"The tokenizer of {base.name} cannot keep to a JSON schema ({error}). Leave the schema out."
        ) from error
