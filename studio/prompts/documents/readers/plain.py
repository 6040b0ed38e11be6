"""Plain text: paragraphs between empty lines, cited by their lines."""

from __future__ import annotations

from collections.abc import Iterator

from studio.prompts.documents.passages import Block
from studio.prompts.documents.source import Source

__all__ = ["read"]


def read(source: Source) -> Iterator[Block]:
    """One block a paragraph."""
    lines: list[str] = []
    number = 0
    for number, line in enumerate(source.text().split("\n"), start=1):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield _block(lines, number - 1)
            lines = []
    if lines:
        yield _block(lines, number)


def _block(lines: list[str], last: int) -> Block:
    return Block("\n".join(lines), unit="line", first=last - len(lines) + 1, last=last)
