"""What changed between two texts, word by word: two versions of a template, unsaved words, or two answers.

Words that both texts have exactly once hold them together (as in patience diff, by Bram Cohen); between those, the
fewest changes are looked for (Myers 1986) unless there are too many, where all of it is shown as rewritten. So two texts
of 50 kB take a fraction of a second however different they are.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Kind", "Piece", "changed_fields", "word_diff"]

Kind = Literal["same", "added", "removed"]

# A script without spaces is compared letter by letter; else a sentence would be one word.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|[^\w\s]")
_MOST_CHANGES = 250  # of words, between two that hold the texts together
_DEEPEST = 12


@dataclass(frozen=True)
class Piece:
    """A run of words. Those that are same or removed make the text before, same or added the text after."""

    kind: Kind
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The pieces in reading order; where words were replaced, the removed stand before the added."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    return _pieces(old, new, _whole_words(old, new, _pairs(old, new)))


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Piece]]:
    """The difference of every field that is not the same, as in two bodies of a template; lists are shown as lines."""
    names = dict.fromkeys((*before, *after))
    texts = {name: (_text(before.get(name)), _text(after.get(name))) for name in names}
    return {name: word_diff(old, new) for name, (old, new) in texts.items() if old != new}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)


Pair = tuple[int, int]  # places of the same word in both texts
Span = tuple[int, int, int, int]  # a stretch of the one text, and of the other


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    """Words that are the same, in order."""
    found: list[Pair] = []
    waiting: list[tuple[Span, int]] = [((0, len(old), 0, len(new)), 0)]
    while waiting:
        span, depth = waiting.pop()
        ends, span = _alike_at_the_ends(old, new, span)
        found += ends
        anchors = _anchors(old, new, span) if depth < _DEEPEST else []
        if anchors:
            found += anchors
            waiting += [(part, depth + 1) for part in _between(span, anchors)]
        else:
            found += _fewest_changes(old, new, span)
    return sorted(found)


def _alike_at_the_ends(old: Sequence[str], new: Sequence[str], span: Span) -> tuple[list[Pair], Span]:
    a, a_end, b, b_end = span
    pairs: list[Pair] = []
    while a < a_end and b < b_end and old[a] == new[b]:
        pairs.append((a, b))
        a, b = a + 1, b + 1
    while a < a_end and b < b_end and old[a_end - 1] == new[b_end - 1]:
        a_end, b_end = a_end - 1, b_end - 1
        pairs.append((a_end, b_end))
    return pairs, (a, a_end, b, b_end)


def _anchors(old: Sequence[str], new: Sequence[str], span: Span) -> list[Pair]:
    """The longest series of words that stand once in either stretch and in the same order."""
    a, a_end, b, b_end = span
    in_old, in_new = Counter(old[a:a_end]), Counter(new[b:b_end])
    places = {word: place for place, word in enumerate(new[b:b_end], start=b) if in_new[word] == 1}
    once = [(p, places[word]) for p, word in enumerate(old[a:a_end], start=a) if in_old[word] == 1 and word in places]
    return _longest_rising(once)


def _longest_rising(pairs: Sequence[Pair]) -> list[Pair]:
    """By patience sorting: the piles' last cards rise, and each card remembers the one that it lies beside."""
    tops: list[int] = []
    piles: list[int] = []
    beside: list[int] = []
    for index, (_, place) in enumerate(pairs):
        pile = bisect.bisect_left(tops, place)
        beside.append(piles[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [place]
        piles[pile : pile + 1] = [index]
    chain: list[Pair] = []
    index = piles[-1] if piles else -1
    while index >= 0:
        chain.append(pairs[index])
        index = beside[index]
    return chain[::-1]


def _between(span: Span, anchors: Sequence[Pair]) -> Iterator[Span]:
    a, a_end, b, b_end = span
    for p, q in (*anchors, (a_end, b_end)):
        if a < p and b < q:
            yield a, p, b, q
        a, b = p + 1, q + 1


def _fewest_changes(old: Sequence[str], new: Sequence[str], span: Span) -> list[Pair]:
    """Myers' greedy search for the shortest edit, given up beyond `_MOST_CHANGES`."""
    a, a_end, b, b_end = span
    if a == a_end or b == b_end:
        return []
    reach, trail = {1: 0}, []
    height, width = a_end - a, b_end - b
    for changes in range(min(height + width, _MOST_CHANGES) + 1):
        trail.append(dict(reach))
        for k in range(-changes, changes + 1, 2):
            down = k == -changes or (k != changes and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < height and 0 <= x - k < width and old[a + x] == new[b + x - k]:
                x += 1
            reach[k] = x
            if x >= height and x - k >= width:
                return _walked_back(trail, a, b, height, width)
    return []


def _walked_back(trail: Sequence[Mapping[int, int]], a: int, b: int, x: int, y: int) -> list[Pair]:
    pairs: list[Pair] = []
    for changes in range(len(trail) - 1, -1, -1):
        reach, k = trail[changes], x - y
        down = k == -changes or (k != changes and reach[k - 1] < reach[k + 1])
        from_k = k + 1 if down else k - 1
        from_x = reach[from_k]
        from_y = from_x - from_k
        while x > max(from_x, 0) and y > max(from_y, 0) and (x, y) != (from_x, from_y):
            x, y = x - 1, y - 1
            pairs.append((a + x, b + y))
        x, y = from_x, from_y
    return pairs


def _whole_words(old: Sequence[str], new: Sequence[str], pairs: Sequence[Pair]) -> list[Pair]:
    """Without the spaces that are the same between two words that are not: "a b" became "c d", not "a" "c" and "b" "d"."""
    kept = {(-1, -1), *pairs, (len(old), len(new))}
    return [
        (p, q)
        for p, q in pairs
        if not old[p].isspace() or "\n" in old[p] or (p - 1, q - 1) in kept or (p + 1, q + 1) in kept
    ]


def _pieces(old: Sequence[str], new: Sequence[str], pairs: Sequence[Pair]) -> list[Piece]:
    found: list[tuple[Kind, list[str]]] = []

    def say(kind: Kind, words: Sequence[str]) -> None:
        if not words:
            return
        if found and found[-1][0] == kind:
            found[-1][1].extend(words)
        else:
            found.append((kind, list(words)))

    a = b = 0
    for p, q in (*pairs, (len(old), len(new))):
        say("removed", old[a:p])
        say("added", new[b:q])
        say("same", old[p : p + 1])
        a, b = p + 1, q + 1
    return [Piece(kind, "".join(words)) for kind, words in found]
