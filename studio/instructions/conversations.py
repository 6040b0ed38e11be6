"""Conversations of several turns: what makes one whole, and the four fields that stand for it in tables and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.errors import InputError

__all__ = ["ROLES", "checked_turns", "fields_of_turns"]

ROLES = ("system", "user", "assistant")


def checked_turns(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The turns with their texts trimmed. Raises InputError unless somebody asks and the assistant answers last."""
    clean = [{"role": str(turn.get("role")), "content": str(turn.get("content") or "").strip()} for turn in turns]
    for number, turn in enumerate(clean, 1):
        if turn["role"] not in ROLES:
            raise InputError(f"Turn {number} is by '{turn['role']}'. A turn is by one of: {', '.join(ROLES)}.")
        if not turn["content"]:
            raise InputError(f"Turn {number} ({turn['role']}) is empty. Write it, or take the turn out.")
    roles = [turn["role"] for turn in clean]
    if "assistant" not in roles:
        raise InputError("The conversation has no assistant turn, so it teaches nothing. Write an answer.")
    if "user" not in roles[: roles.index("assistant")]:
        raise InputError("The assistant speaks before the user does. Put the user's turn in front.")
    if roles[-1] != "assistant":
        raise InputError("The conversation ends with a user turn. Write the answer to it, or take the turn out.")
    return clean


def fields_of_turns(turns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Instruction, context, response and `turns` of a checked conversation.

    One question and its answer are a plain record, whose `turns` is None, so that it is the same record whichever
    file it came from.
    """
    first = next(turn["content"] for turn in turns if turn["role"] == "user")
    is_plain = [turn["role"] for turn in turns] == ["user", "assistant"]
    return {
        "instruction": first,
        "context": "",
        "response": turns[-1]["content"],
        "turns": None if is_plain else [{"role": t["role"], "content": t["content"]} for t in turns],
    }
