"""Reading what a model wrote, also a small one: lists with and without numbers, labels, quotes and small talk."""

from __future__ import annotations

import re
from typing import Literal

from studio.instructions.statistics import score
from studio.instructions.statistics.words import words
from studio.specs import Completion

__all__ = ["answer_fault", "first_question", "items", "line"]

# "1." "2)" "Task 3:" "- " at the start of a line.
_MARK = re.compile(
    r"\s*(?:(?:task|instruction|question|aufgabe|tâche|tarea)?\s*#?\s*\d+\s*[.):]|[-*•–])\s*", re.IGNORECASE
)
_BARE_MARK = re.compile(r"\s*(?:\d+\s*[.)]|[-*•–])\s*$")
_LABEL = re.compile(
    r"\s*(?:new |rewritten |rephrased |reworded )?"
    r"(?:task|instruction|question|paraphrase|rewording|answer|output|aufgabe|frage|antwort|réponse|respuesta)\s*\d*\s*:\s*",
    re.IGNORECASE,
)
_SMALL_TALK = re.compile(
    r"\s*(?:sure|certainly|of course|okay|here (?:is|are|'s)|hier (?:ist|sind)|voici)\b", re.IGNORECASE
)
_QUOTES = " \t\"'`*“”„«»"
_QUESTION = re.compile(r"[^.!?。！？\n]*(?:[.](?=\S)[^.!?。！？\n]*)*[?？؟]")
_MOST_QUESTION_WORDS = 60

AnswerFault = Literal["", "cut", "unread", "refusal", "echo", "poor"]


def items(text: str) -> list[str]:
    """The entries of a list, in order. What stands before the first mark is small talk, and nothing else is taken for an
    entry unless no line has a mark at all."""
    lines = [line for line in text.splitlines() if line.strip() and not _BARE_MARK.fullmatch(line)]
    marked = [line for line in lines if _MARK.match(line)]
    found = (_bare(line) for line in marked or lines if marked or not _is_small_talk(line))
    return [entry for entry in found if entry]


def line(text: str) -> str:
    """The first line that is no small talk, without mark, label and quotes; '' when there is none."""
    for candidate in text.splitlines():
        if candidate.strip() and not _is_small_talk(candidate) and (found := _bare(candidate)):
            return found
    return ""


def first_question(text: str) -> str:
    """The first question of 3 to 60 words in what was written; '' when nothing is asked."""
    for candidate in text.splitlines():
        for match in _QUESTION.finditer(_bare(candidate)):
            found = _unquoted(match[0])
            if 3 <= len(words(found)) <= _MOST_QUESTION_WORDS or (not found.isascii() and 2 < len(found) < 200):
                return found
    return ""


def answer_fault(question: str, category: str, answer: Completion, lowest: int) -> AnswerFault:
    """Why an answer is no draft; '' for one to look at. `lowest` bounds its quality score."""
    if not words(answer.text):
        return "unread"
    if answer.finish == "length":
        return "cut"
    quality = score({"instruction": question, "response": answer.text, "category": category})
    parts = {reason.part for reason in quality.reasons if reason.taken >= 40}
    if "refusal" in parts:
        return "refusal"
    if "echo" in parts or words(question) == words(answer.text):
        return "echo"
    return "poor" if quality.points < lowest else ""


def _bare(text: str) -> str:
    text = _unquoted(_MARK.sub("", text, count=1) if _MARK.match(text) else text)
    if match := _LABEL.match(text):
        text = text[match.end() :]
    return _unquoted(text)


def _unquoted(text: str) -> str:
    while (bare := text.strip().strip(_QUOTES)) != text:
        text = bare
    return text


def _is_small_talk(text: str) -> bool:
    return bool(_SMALL_TALK.match(text)) or text.rstrip(_QUOTES).endswith(":")
