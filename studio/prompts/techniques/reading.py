"""Reading an answer out of a text: numbers, what follows a marker, the last line. Pure functions.

How an answer is read decides the score as much as the model does, so the rules are few and said in full. A number is
written in the digits 0 to 9 and does not begin inside a word: `A4` holds none. A sign belongs to it only where no letter,
digit or bracket stands before it: `5-3` is 5 and 3. Currency signs, units and a full stop at the end are left out:
`$29.00`, `29 kg` and `29.` are 29. Thousands may be set apart by commas, no-break spaces or (two or more) points;
`1.234,50` can only be 1234.5, and a lone comma before one or two digits is a decimal comma: `4,90` is 4.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from studio.prompts.techniques.base import Found

__all__ = ["Number", "Reads", "after_marker", "by_default", "majority", "numbers", "vote"]

Reads = Literal["text", "number"]

_SPACES = "\u00a0\u202f\u2009"  # no-break, narrow no-break and thin
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\]])[-−])?
    (?:[$€£¥](?P<late>[-−])?)?                                   # $-5 is written as often as -$5
    (?<!\w)
    (?: (?P<points> [0-9]{{1,3}} (?: (?:\.[0-9]{{3}})+ ,[0-9]{{1,2}} (?!\w) | (?:\.[0-9]{{3}}){{2,}} (?![\w.]) ) )
      | (?P<groups> [0-9]{{1,3}} (?:[,{_SPACES}][0-9]{{3}})+ (?![0-9]) (?:\.[0-9]+)? )
      | (?P<comma>  (?<![0-9],) [0-9]+ ,[0-9]{{1,2}} (?![0-9,]) )
      | (?P<plain>  (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+) (?:[eE][-+]?[0-9]{{1,2}}(?!\w))? )
    )
    """,
    re.VERBOSE,
)
_EMPHASIS = " \t*_`\"'“”"


@dataclass(frozen=True)
class Number:
    """A number and where it stands; `text` is the plain form: no separators, no zeros to spare, `-` for any minus."""

    text: str
    start: int
    end: int

    @property
    def value(self) -> Decimal:
        return Decimal(self.text)

    def found(self, *, strict: bool) -> Found:
        return Found(self.text, strict, self.start, self.end)


def numbers(text: str, start: int = 0, end: int | None = None) -> list[Number]:
    """Every number in a text, or between two places of it, in order, by the rules above."""
    found = _NUMBER.finditer(text, start, len(text) if end is None else end)
    return [Number(_plainly(match), match.start(), match.end()) for match in found]


def after_marker(text: str, marker: str, reads: Reads) -> Found:
    """The answer behind the last marker, strictly where it is written as asked for, leniently in any case of letters.

    As a number: the first one in what is left of the line. As text: all that follows a marker with a colon; the rest of the
    line behind one within a sentence ("The answer is"), without the sentence's full stop. Else `by_default`.
    """
    exact = text.rfind(marker)
    alike = [match.start() for match in re.finditer(re.escape(marker), text, re.IGNORECASE)]
    for place, strict in ((exact, True), (alike[-1] if alike else -1, False)):
        if place >= 0:
            found = _behind(text, place + len(marker), reads, is_heading=marker.endswith(":"), strict=strict)
            if found.parsed:
                return found
    return by_default(text, reads)


def by_default(text: str, reads: Reads) -> Found:
    """Without any marker: the last number, or the last line that is not empty."""
    if reads == "number":
        known = numbers(text)
        return known[-1].found(strict=False) if known else Found.nothing()
    end = len(text.rstrip())
    return Found.of(text, text.rfind("\n", 0, end) + 1, end, strict=False)


def vote(answer: str) -> str:
    """What two answers have in common that say the same: the number, else the words without case, spacing and full stop."""
    plain = " ".join(answer.split()).casefold().rstrip(".")
    known = numbers(plain)
    return known[0].text if len(known) == 1 and (known[0].start, known[0].end) == (0, len(plain)) else plain


def majority(answers: Sequence[str]) -> tuple[int, int]:
    """The place of the first answer that most agree with, and how many do. Of answers with equally many the first wins."""
    votes = [vote(answer) for answer in answers]
    winner = max(dict.fromkeys(votes), key=votes.count)
    return votes.index(winner), votes.count(winner)


def _behind(text: str, place: int, reads: Reads, *, is_heading: bool, strict: bool) -> Found:
    start = len(text) - len(text[place:].lstrip())
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    if reads == "number":
        known = numbers(text, start, line_end)
        return known[0].found(strict=strict) if known else Found.nothing()
    if is_heading:
        return Found.of(text, place, len(text), strict=strict)
    return _bare(text, start, line_end, strict=strict)


def _bare(text: str, start: int, end: int, *, strict: bool) -> Found:
    """The end of a sentence, without colon, emphasis and full stop around it."""
    while start < end and text[start] in _EMPHASIS + ":":
        start += 1
    while start < end and (text[end - 1] in _EMPHASIS or (text[end - 1] == "." and text[end - 2 : end] != "..")):
        end -= 1
    return Found.of(text, start, end, strict=strict)


def _plainly(match: re.Match[str]) -> str:
    kind, written = str(match.lastgroup), match[match.lastgroup or 0]
    match kind:
        case "points":
            written = written.replace(".", "").replace(",", ".")
        case "groups":
            written = re.sub(rf"[,{_SPACES}]", "", written)
        case "comma":
            written = written.replace(",", ".")
    whole, _, fraction = f"{Decimal(written):f}".partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    plain = f"{whole}.{fraction}" if fraction else whole
    is_negative = bool(match["sign"]) != bool(match["late"])
    return f"-{plain}" if is_negative and plain != "0" else plain
