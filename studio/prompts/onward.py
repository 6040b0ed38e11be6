"""From the playground to labeling: answers that stand beside each other become an item that people rank."""

from __future__ import annotations

from collections.abc import Sequence

from studio.errors import InputError
from studio.instructions import group_hash, question, split_of
from studio.prompts.techniques import technique_of
from studio.prompts.templates import find_template
from studio.specs import Message, user
from studio.store import Answer, Prompt, Store

__all__ = ["BATCH", "send_to_labeling"]

BATCH = "playground"


def send_to_labeling(store: Store, tickets: Sequence[str], *, author: str, batch: str = BATCH) -> int:
    """Make one item of two to four recorded answers to the same question; returns its id.

    What people rank is the answer itself, as the technique's strict rule reads it, to the plain question; of a chat, the whole
    conversation. Raises InputError where the answers are alike, empty or to different questions, and Conflict where
    the batch has this question already.
    """
    answers = [store.completion(ticket) for ticket in dict.fromkeys(tickets)]
    said = [_said(store, answer) for answer in answers]
    if not all(said):
        raise InputError("One of the answers is empty, so there is nothing to rank. Ask again, or choose another one.")
    if len(said) < 2 or len(set(said)) < len(said):
        raise InputError("Two of the answers are the same, so neither is better. Choose answers that differ.")
    prompt = _prompt(answers)
    return store.add_pair(batch, prompt, list(zip(answers, said, strict=True)), author=author, reason="playground")


def _said(store: Store, answer: Answer) -> str:
    """The answer itself, where it is in the form that was asked for; what a chat says is all answer."""
    if answer.template:
        found = technique_of(find_template(store, answer.template)).extract(answer.text)
        if found.strict:
            return found.text.strip()
    return answer.text.strip()


def _prompt(answers: Sequence[Answer]) -> Prompt:
    """What all of them answer. Without a source: it comes from no snapshot."""
    messages = _question(answers[0])
    if any(_question(answer) != messages for answer in answers[1:]):
        raise InputError("These answers are to different questions, so they cannot be ranked. Ask both the same one.")
    group = group_hash(messages[0].content, "")  # a whole conversation shares the split of its first question
    if not any(a.template for a in answers) and all(a.messages == answers[0].messages for a in answers):
        messages = [Message(**turn) for turn in answers[0].messages]  # with the system line that all of them had
    return Prompt.of(messages, group=group, split=split_of(group))


def _question(answer: Answer) -> list[Message]:
    """The question however it was prompted; of a chat (no template), what was said without the system line."""
    if not answer.template:
        return [Message(**turn) for turn in answer.messages if turn["role"] != "system"]
    if "instruction" not in answer.variables:
        raise InputError(f"Answer {answer.id} has no instruction among its variables, so its question is not known.")
    return [user(question(answer.variables["instruction"], answer.variables.get("context", "")))]
