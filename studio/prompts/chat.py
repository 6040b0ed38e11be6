"""Chats: asking several times in a row, with branches. Any model may give any answer.

A chat is a tree. Editing a question or asking again adds a sibling beside the turn; the path on the page goes through
the turn somebody chose and on to the newest leaf below it.

An answer becomes an instruction record like this: the last question is the instruction, what was said before it is the
context, as a transcript ("User: …", "Assistant: …", a blank line between turns), and the answer, edited or not, is the
response. The system line stays out: records are asked without one, and the dataset's guidelines say what it would.
All records of one chat share the split of its first question, so that no conversation is on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.backends import Backend
from studio.errors import InputError, ModelError, Unsupported
from studio.instructions import CATEGORIES, group_hash, split_of
from studio.instructions.records import insertable
from studio.specs import Completion, Message, ModelRef, Sampling, system
from studio.store import Chat, Dataset, Store, Turn

__all__ = ["Fit", "Step", "Thread", "ask", "correct", "edit", "fit", "question_of", "read", "record", "transcript"]

_TITLE_CHARACTERS = 60
_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Step:
    """One turn on the path and the turns that stand beside it (ids, oldest first, its own among them)."""

    turn: Turn
    siblings: tuple[int, ...]

    @property
    def place(self) -> int:
        """Counted from 1: '2 of 3'."""
        return self.siblings.index(self.turn.id) + 1

    @property
    def before(self) -> int:
        """The sibling to the left; the turn itself when it is the first."""
        return self.siblings[max(0, self.place - 2)]

    @property
    def after(self) -> int:
        """The sibling to the right; the turn itself when it is the last."""
        return self.siblings[min(len(self.siblings) - 1, self.place)]


@dataclass(frozen=True)
class Thread:
    """A chat along one path, from its first question to a leaf."""

    chat: Chat
    steps: tuple[Step, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(step.turn for step in self.steps)

    @property
    def waits(self) -> bool:
        """Whether the last question has no answer yet."""
        return bool(self.steps) and self.steps[-1].turn.is_question

    @property
    def messages(self) -> list[Message]:
        """The conversation as it is sent: the system line, if there is one, and every turn."""
        return _messages(self.chat, self.turns)


@dataclass(frozen=True)
class Fit:
    """A conversation held against a model's window; all counts in tokens, `room` is for the answer.

    `messages` is what fits, and `left_out` counts the oldest questions, with their answers, that do not. Where the
    backend cannot count, `window` is 0 and everything goes.
    """

    messages: tuple[Message, ...]
    left_out: int
    tokens: int
    room: int
    window: int

    @property
    def sentence(self) -> str:
        """What a person must know before it is sent; '' when everything fits."""
        if not self.window:
            return "This model does not tell its window, so whether the conversation fits is not known."
        if not self.left_out:
            return ""
        what = "question and its answer" if self.left_out == 1 else f"{self.left_out} questions and their answers"
        return (
            f"The first {what} do not fit: without them the conversation has {self.tokens:,} tokens, "
            f"and {self.room:,} are kept for the answer, of {self.window:,}. "
            "Send it without them, lower max tokens, or start a new chat."
        )


def read(store: Store, chat_id: int, at: int | None = None) -> Thread:
    """The chat along the path through turn `at` and on to the newest leaf below it; by default to the newest of all."""
    chat, turns = store.chat(chat_id), store.turns(chat_id)
    by_id = {turn.id: turn for turn in turns}
    if at is not None and at not in by_id:
        raise InputError(f"Turn {at} is not in chat {chat_id}. Reload the page: another chat may be open.")
    beside: dict[int | None, list[int]] = {}
    for turn in turns:
        beside.setdefault(turn.parent_id, []).append(turn.id)
    steps: list[Step] = []
    place = _newest_leaf(turns, at)
    while place is not None:
        turn = by_id[place]
        steps.append(Step(turn, tuple(beside[turn.parent_id])))
        place = turn.parent_id
    return Thread(chat, tuple(reversed(steps)))


def ask(store: Store, chat_id: int, text: str, *, after: int | None, author: str) -> Turn:
    """Add a question after an answer, or at the start; the first one gives a nameless chat its title."""
    return store.add_question(chat_id, after, text, author=author, title=_title(text))


def edit(store: Store, turn_id: int, text: str, *, author: str) -> Turn:
    """A question in other words, beside the first one; the same words give the same turn back."""
    turn = store.turn(turn_id)
    if not turn.is_question:
        raise InputError(f"Turn {turn_id} is an answer. Correct it into a dataset, or ask again for another one.")
    if text == turn.content:
        return turn
    return store.add_question(turn.chat_id, turn.parent_id, text, author=author)


def question_of(store: Store, turn_id: int) -> Thread:
    """The chat up to and with a question, or the one that an answer was given to: what is asked (again)."""
    turn = store.turn(turn_id)
    last = turn.id if turn.is_question else turn.parent_id
    thread = read(store, turn.chat_id, last)
    end = next(place for place, step in enumerate(thread.steps, 1) if step.turn.id == last)
    return Thread(thread.chat, thread.steps[:end])


async def fit(backend: Backend, messages: Sequence[Message], sampling: Sampling) -> Fit:
    """Hold a conversation against the model's window, leaving out the oldest pairs where it is too long.

    Nothing is sent here: what would be left out is told, and sending is the caller's. Raises ModelError when even the
    last question alone does not fit.
    """
    head = 1 if messages and messages[0].role == "system" else 0
    pairs = (len(messages) - head - 1) // 2

    def without(count: int) -> tuple[Message, ...]:
        return (*messages[:head], *messages[head + 2 * count :])

    try:
        whole = await backend.render(messages)
    except Unsupported:
        return Fit(tuple(messages), 0, 0, sampling.max_tokens, 0)
    room, window = sampling.max_tokens, whole.window
    if whole.tokens + room <= window:
        return Fit(tuple(messages), 0, whole.tokens, room, window)
    least, most = 0, pairs + 1  # too long without the first `least`; `most` stands for: even the last question is
    tokens = {0: whole.tokens}
    while most - least > 1:
        count = (least + most) // 2
        tokens[count] = (await backend.render(without(count))).tokens
        if tokens[count] + room <= window:
            most = count
        else:
            least = count
    if most > pairs:
        raise ModelError(_too_long(backend.ref, bool(head), tokens[least], room, window))
    return Fit(without(most), most, tokens[most], room, window)


def record(
    store: Store,
    question: int,
    model: ModelRef,
    completion: Completion,
    *,
    ticket: str,
    messages: Sequence[Message],
    sampling: Sampling,
    author: str,
) -> Turn:
    """Append an answer, whole or stopped half-way, to turn `question`; `messages` is what was really sent."""
    turns = question_of(store, question).turns
    variables = {"instruction": turns[-1].content, "context": transcript(turns[:-1])}
    return store.add_answer(
        question,
        model,
        completion,
        ticket=ticket,
        variables=variables,
        messages=list(messages),
        sampling=sampling,
        author=author,
    )


def correct(store: Store, turn_id: int, dataset: Dataset, text: str, *, author: str) -> None:
    """Add an answer, as `text` has it (edited or not), to an instruction dataset, and keep it.

    Raises InputError for a question, and for a text that is empty.
    """
    turn = store.turn(turn_id)
    if turn.is_question:
        raise InputError(f"Turn {turn_id} is a question. Choose one of its answers to put into a dataset.")
    turns = question_of(store, turn_id).turns
    context = transcript(turns[:-1])
    fields = {
        "instruction": turns[-1].content,
        "context": context,
        "response": text,
        "category": CATEGORIES[2] if context else CATEGORIES[0],
    }
    root = group_hash(turns[0].content, "")
    row = {**insertable(fields), "group_hash": root, "split": split_of(root)}
    word = "answer" if row["response"] == turn.content.strip() else "corrected answer"
    source = f"{word} {turn.completion_id} of {turn.model} in chat {turn.chat_id}"
    store.add_records(dataset.id, [row], author=author, source=source)
    store.keep_completion(turn.ticket)


def transcript(said: Sequence[Turn] | Sequence[Message]) -> str:
    """A conversation as a person would read it; '' for none."""
    return "\n\n".join(f"{_SPEAKERS[turn.role]}: {turn.content.strip()}" for turn in said)


def _messages(chat: Chat, turns: Sequence[Turn]) -> list[Message]:
    said = [Message(role=turn.role, content=turn.content) for turn in turns]
    return [system(chat.system), *said] if chat.system.strip() else said


def _newest_leaf(turns: Sequence[Turn], at: int | None) -> int | None:
    """The newest turn at or below `at`: nothing was said after it, so it is a leaf."""
    below = {at}
    newest = at
    for turn in turns:  # parents first
        if turn.parent_id in below:
            below.add(turn.id)
            newest = turn.id
    return newest


def _title(text: str) -> str:
    line = " ".join(text.strip().partition("\n")[0].split())
    if len(line) <= _TITLE_CHARACTERS:
        return line
    whole, space, _ = line[:_TITLE_CHARACTERS].rpartition(" ")
    return f"{whole if space else line[: _TITLE_CHARACTERS - 1]}…"


def _too_long(ref: ModelRef, has_system: bool, tokens: int, room: int, window: int) -> str:
    what = "The system line and the last question have" if has_system else "The last question has"
    cure = "Shorten it" if not has_system else "Shorten one of them"
    if tokens < window:
        cure += f", or lower max tokens to {window - tokens:,} or less"
    return f"{what} {tokens:,} tokens and {room:,} are kept for the answer, but {ref} reads {window:,}. {cure}."
