"""What every way to reach a model offers, and the one sentence for what it does not.

A backend holds no weights: it talks to our engine process, to a server, or makes answers up (`echo:`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from studio.errors import Unsupported
from studio.specs import Chunk, Completion, Message, ModelRef, Rendered, Sampling, TokenLogprob

__all__ = ["MOST_MARKS", "Backend", "Conversation", "Mark", "Marked"]

Conversation = Sequence[Message]

MOST_MARKS = 4096  # tokens that are spelled one by one; a record of 10 MB has millions


@dataclass(frozen=True)
class Mark:
    """One token of a conversation to learn from. The texts of all together are the conversation as the model gets it: a
    character that several tokens make up stands with the last of them, and those before have no text."""

    text: str
    is_learned: bool
    is_special: bool = False  # the model's own sign, as for where a turn begins


@dataclass(frozen=True)
class Marked:
    """A conversation to learn from: its first tokens, and how many there are, how many learned, how many a model reads."""

    marks: tuple[Mark, ...]
    tokens: int
    learned: int
    window: int


class Backend:
    """One model, asked. What a subclass leaves out is refused by name."""

    def __init__(self, ref: ModelRef) -> None:
        self.ref = ref

    def stream(self, messages: Conversation, sampling: Sampling) -> AsyncIterator[Chunk]:
        """The answer piece by piece; closing the iterator stops the model within one token."""
        raise self._refusal("stream an answer")

    async def complete(
        self, batch: Sequence[Conversation], sampling: Sampling, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Whole answers, in the order asked; `on_done` hears how many are finished."""
        raise self._refusal("answer a batch")

    async def logprobs(self, messages: Conversation, continuation: str, top: int = 0) -> list[TokenLogprob]:
        """How likely each token of this answer is, with the `top` likeliest at its place."""
        raise self._refusal("tell how likely an answer is")

    async def next_tokens(self, messages: Conversation, k: int) -> list[TokenLogprob]:
        """The `k` likeliest first tokens of the answer."""
        raise self._refusal("show the likeliest next tokens")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 per text."""
        raise self._refusal("turn texts into vectors")

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """How good a reward model finds each conversation's last answer."""
        raise self._refusal("score answers")

    async def render(self, messages: Conversation) -> Rendered:
        """The prompt exactly as the model gets it."""
        raise self._refusal("show the rendered prompt")

    async def marks(self, messages: Conversation, most: int = MOST_MARKS) -> Marked:
        """The tokens of a conversation as training learns it, the first `most` of them spelled."""
        raise self._refusal("mark learned tokens")

    async def tokens(self, messages: Conversation) -> list[tuple[str, int]]:
        """Every token of the prompt as the model gets it, spelled, with its number in the vocabulary."""
        raise self._refusal("show the prompt's tokens")

    async def count_tokens(self, parts: Sequence[str]) -> list[int]:
        """The number of tokens in each text."""
        raise self._refusal("count tokens")

    async def close(self) -> None:
        """Let go of what this backend holds in this process."""

    def _refusal(self, ability: str) -> Unsupported:
        return Unsupported(f"{self.ref} cannot {ability}. Choose another model for this.")
