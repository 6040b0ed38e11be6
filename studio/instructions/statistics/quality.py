"""A score from 0 to 100 for each record, from signs that can be counted and are said in words.

It finds answers that break off, repeat themselves, echo the question or were never written. It does not know whether
an answer is true or kind: a record of 100 points shows none of these signs, no more. The weights are ours and were set
by hand, so scores put records in an order to look at and measure nothing.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from studio.instructions.statistics.lengths import MOST_IDS, Figure, Where
from studio.instructions.statistics.rows import Row, read
from studio.instructions.statistics.words import words

__all__ = ["PARTS", "Part", "Quality", "QualitySummary", "Reason", "quality_summary", "score"]

Part = Literal["empty", "placeholder", "refusal", "damage", "short", "long", "breaks_off", "echo", "repeats", "variety"]

# What each part looks for, and the most points that it takes off.
PARTS: Mapping[Part, tuple[str, int]] = {
    "empty": ("There is no answer.", 100),
    "placeholder": ("Text stands in for an answer that nobody wrote: TODO, lorem ipsum, [insert …].", 60),
    "refusal": ("The answer begins with a refusal.", 40),
    "damage": ("Letters were damaged by a wrong encoding, as in 'MÃ¼ll'.", 30),
    "short": ("A question that asks for more than a fact got a few words.", 25),
    "long": ("A summary is longer than the text that it sums up.", 25),
    "breaks_off": ("The last sentence has no end.", 10),
    "echo": ("The answer begins by repeating the question.", 60),
    "repeats": ("Runs of four words occur again and again.", 50),
    "variety": ("Few different words for the length.", 20),
}

_LETTERS = 20_000  # of a text that are looked at; one field may hold megabytes

# Patterns look at text in lower case, and only where one of their hints is: searching for those is many times faster.
_PLACEHOLDER = re.compile(
    r"\b(?:todo|tbd|fixme|lorem ipsum)\b|\[(?:insert|your|add|name of)\b[^\]\n]{0,60}\]|^\W*(?:n/a|none|null|xxx+)?\W*$"
)
_PLACEHOLDER_HINTS = ("todo", "tbd", "fixme", "lorem", "[insert", "[your", "[add", "[name")
_SHORTEST_TEXT = 20  # characters; below, the whole answer may be 'n/a'
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:sorry|afraid),? (?:but )?i (?:can't|cannot|can not|am unable|am not able)\b"
    r"|\bi(?:'m| am) (?:unable|not able) to\b"
    r"|\bals (?:ki|künstliche intelligenz|sprachmodell)\b"
    r"|\ben tant qu(?:e modèle|'ia)\b|\bcomo (?:modelo de lenguaje|una? ia)\b"
)
_REFUSAL_HINTS = ("as a", "sorry", "afraid", "unable", "not able", "als ", "en tant", "como ")
_DAMAGE = re.compile("\ufffd|Ã[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|Â[\u00a0-\u00bf]")
_ASKS_FOR_MORE = re.compile(
    r"\b(?:explain|describe|write|summari[sz]e|why|compare|discuss|erkläre|beschreibe|schreibe?|warum|explique[zr]?"
    r"|décri[st]|écri[st]|pourquoi|explica|describe|escribe|por qué)\b",
    re.IGNORECASE,
)
_WANTS_MORE = frozenset({"brainstorming", "creative_writing", "summarization"})
_WANTS_NO_SENTENCE = frozenset({"classification", "information_extraction"})
_ENDS = tuple(".!?…。！？؟।॥។")
_CLOSING = " \t\r\n\"'”’»«)]}*_`"
_LISTED = re.compile(r"\s*(?:[-*•‣–|>#]|\d+[.):]|[a-zA-Z][.)]\s)")


@dataclass(frozen=True)
class Reason:
    """Why points were taken off; `turn` counts the answers of a conversation from 1, 0 in a plain record."""

    part: Part
    taken: int
    sentence: str
    turn: int = 0


@dataclass(frozen=True)
class Quality:
    """Points and what was taken off for; 100 points have no reasons."""

    points: int
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class QualitySummary:
    """Scores of n records in bars of ten points, and how often each part took points off."""

    n: int
    mean: float | None  # not defined without records
    bars: tuple[Figure, ...]
    reasons: tuple[Figure, ...]


def score(row: Row) -> Quality:
    """The points of a record. Of a conversation with several answers, those of its weakest."""
    record = read(row)
    if not record.turns:
        return _judged(record.instruction, record.context, record.response, record.category, 0)
    asked, number, weakest = "", 0, Quality(100)
    for role, content in record.turns:
        if role == "user":
            asked = content
        elif role == "assistant":
            number += 1
            found = _judged(asked, "", content, record.category, number)
            weakest = min(weakest, found, key=lambda quality: quality.points)
    return weakest


def quality_summary(scores: Iterable[tuple[int, Quality]]) -> QualitySummary:
    """How the scores of a dataset are spread, by record id."""
    spread = [_Counted(f"{low} to {100 if low == 90 else low + 9}") for low in range(0, 100, 10)]
    parts = {part: _Counted(part) for part in PARTS}
    n = total = 0
    for key, quality in scores:
        n, total = n + 1, total + quality.points
        spread[min(quality.points // 10, 9)].add(key)
        for part in {reason.part for reason in quality.reasons}:
            parts[part].add(key)
    reasons = sorted((c.figure(n) for c in parts.values() if c.n), key=lambda figure: (-figure.n, figure.label))
    return QualitySummary(n, total / n if n else None, tuple(c.figure(n) for c in spread), tuple(reasons))


class _Counted:
    """Records of one bar; the first thousand are remembered by id."""

    def __init__(self, label: str) -> None:
        self._label, self._ids, self.n = label, array("q"), 0

    def add(self, key: int) -> None:
        self.n += 1
        if len(self._ids) < MOST_IDS:
            self._ids.append(key)

    def figure(self, n: int) -> Figure:
        where: Where | None = {"ids": tuple(self._ids)} if self.n and all(self._ids) else None
        return Figure(self._label, self.n, self.n / n if n else 0.0, where)


def _judged(question: str, context: str, answer: str, category: str, turn: int) -> Quality:
    answer = answer.strip()
    if not answer:
        return Quality(0, (Reason("empty", 100, "There is no answer.", turn),))
    end, answer = answer[-_LETTERS:], answer[:_LETTERS]
    said, asked = words(answer), words(question[:_LETTERS])
    found: list[tuple[Part, int, str]] = []
    _look_at_the_text(found, question, answer)
    _look_at_the_length(found, question, context, category, len(asked), len(said))
    _look_at_the_end(found, end, category, len(said))
    _look_at_the_words(found, asked, said)
    reasons = tuple(Reason(part, taken, sentence, turn) for part, taken, sentence in found)
    return Quality(max(0, 100 - sum(reason.taken for reason in reasons)), reasons)


_Found = list[tuple[Part, int, str]]


def _look_at_the_text(found: _Found, question: str, answer: str) -> None:
    lowered = answer.lower()
    if len(answer) < _SHORTEST_TEXT or any(hint in lowered for hint in _PLACEHOLDER_HINTS):
        if match := _PLACEHOLDER.search(lowered):
            found.append(("placeholder", 60, f"'{match[0].strip()[:40]}' stands where an answer should."))
    start = lowered[:300].replace("’", "'")
    if any(hint in start for hint in _REFUSAL_HINTS) and (match := _REFUSAL.search(start)):
        found.append(("refusal", 40, f"The answer begins with a refusal ('{match[0]}')."))
    for name, text in (("question", question[:_LETTERS]), ("answer", answer)):
        if not text.isascii() and (match := _DAMAGE.search(text)):
            found.append(("damage", 30, f"The {name} has letters that a wrong encoding damaged ('{match[0]}')."))
            return


def _look_at_the_length(found: _Found, question: str, context: str, category: str, asked: int, said: int) -> None:
    if said < 8 and (category in _WANTS_MORE or _ASKS_FOR_MORE.search(question[:300])):
        taken = 25 if said < 3 else 15
        found.append(("short", taken, f"{_words(said)} answer a question of {_words(asked)} that asks for more."))
    if category == "summarization" and context and said > (given := len(words(context[: 2 * _LETTERS]))):
        found.append(("long", 25, f"The summary has {_words(said)}, its text {given}."))


def _look_at_the_end(found: _Found, answer: str, category: str, said: int) -> None:
    if said < 8 or category in _WANTS_NO_SENTENCE or "```" in answer:
        return
    last = answer.rsplit("\n", 1)[-1]
    is_item = _LISTED.match(last) or ("\n" in answer and len(last.split()) < 8)
    if not is_item and not answer.rstrip(_CLOSING).endswith(_ENDS):
        found.append(("breaks_off", 10, f"The last sentence has no end ('… {last[-30:].strip()}')."))


def _look_at_the_words(found: _Found, asked: list[str], said: list[str]) -> None:
    if len(asked) >= 4 and said[: len(asked)] == asked:
        rest = len(said) - len(asked)
        if rest < 3:
            found.append(("echo", 60, "The answer is the question over again."))
        else:
            found.append(("echo", 15, f"The answer begins with the {_words(len(asked))} of the question."))
    if len(said) >= 20:
        runs = len(said) - 3
        repeated = 1 - len(set(zip(said, said[1:], said[2:], said[3:], strict=False))) / runs
        if repeated > 0.15:
            found.append(
                ("repeats", min(50, round(80 * repeated)), f"{repeated:.0%} of its runs of four words repeat.")
            )
    if len(said) >= 50:
        pieces = [len(set(said[i : i + 50])) for i in range(0, len(said) - 49, 50)]
        different = sum(pieces) / len(pieces)
        if different < 25:
            found.append(("variety", 20, f"Of 50 words in a row, {different:.0f} differ."))


def _words(n: int) -> str:
    return f"{n} word{'s' * (n != 1)}"
