"""The check for names says how good it is, and it is true."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from studio.instructions.checks.names import MEASURED, Names

HERE = Path(__file__).parent
_MARKED = re.compile(r"\[\[([^\]|]+)(?:\|([^\]]+))?\]\]")


def sentences(name: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """Each sentence with the spans of its names."""
    read = []
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text, spans, end = "", [], 0
        for match in _MARKED.finditer(line):
            text += line[end : match.start()]
            inner = match[2] or match[1]
            start = len(text) + match[1].index(inner)
            spans.append((start, start + len(inner)))
            text += match[1]
            end = match.end()
        read.append((text + line[end:], spans))
    return read


def measured(name: str) -> dict[str, float]:
    """How many of the finds are names from end to end, and how many of the names are found so."""
    counts: Counter[str] = Counter()
    check = Names()
    for text, true in sentences(name):
        found = {(span.start, span.end) for span in check.spans(text)}
        counts.update(sentences=1, names=len(true), found=len(found), right=len(found & set(true)))
    return {
        "sentences": counts["sentences"],
        "names": counts["names"],
        "precision": round(counts["right"] / counts["found"], 2),
        "recall": round(counts["right"] / counts["names"], 2),
    }


def test_the_figures_that_people_read_are_those_of_the_sentences_held_apart() -> None:
    assert measured("names_held_out.txt") == MEASURED
    for figure in ("precision", "recall"):
        assert f"{MEASURED[figure]:.0%}" in Names.explains
    assert str(MEASURED["sentences"]) in Names.explains
    assert MEASURED["sentences"] >= 300


def test_the_sentences_held_apart_are_others_than_those_tuned_on() -> None:
    tuned, held = ({text for text, _ in sentences(f"names_{kind}.txt")} for kind in ("tuning", "held_out"))
    assert not tuned & held


@pytest.mark.parametrize("name", ["names_tuning.txt", "names_held_out.txt"])
def test_a_third_of_what_is_measured_on_has_no_name(name: str) -> None:
    without = [text for text, names in sentences(name) if not names]
    assert len(without) >= len(sentences(name)) // 3
