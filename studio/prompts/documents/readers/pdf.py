"""PDF: the text of each page, in the order that the file draws it. A page without text yields an empty block."""

from __future__ import annotations

import re
from collections.abc import Iterator

from studio.errors import InputError
from studio.prompts.documents.passages import Block
from studio.prompts.documents.source import Source, clean, readable

__all__ = ["read"]

_CURE = "Open it in a PDF viewer, save it anew and add that."
_END = b"%%EOF"
_END_WITHIN = 1 << 16
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zß-ÿ])")


def read(source: Source) -> Iterator[Block]:
    """One block a page."""
    import pypdf  # a page that shows no document starts without it

    _check_ends(source)
    with source.path.open("rb") as file:
        with readable(source, _CURE):
            reader = pypdf.PdfReader(file)
            is_locked = reader.is_encrypted and reader.decrypt("") == pypdf.PasswordType.NOT_DECRYPTED
            count = 0 if is_locked else len(reader.pages)
        if is_locked:
            raise InputError(f"{source.name} is locked with a password. Save a copy without one and add that.")
        has_text = False
        for number in range(1, count + 1):
            with readable(source, _CURE):
                text = _joined(clean(reader.pages[number - 1].extract_text()))
            has_text = has_text or bool(text)
            yield Block(text, unit="page", first=number, last=number)
    if not has_text:
        raise InputError(
            f"{source.name} has {count} page{'s' * (count != 1)} and no text: pictures, as a scanner makes them. "
            "Run text recognition (OCR) over it and add the result."
        )


def _check_ends(source: Source) -> None:
    """A cut-off file would be mended by leaving out what is lost, and nobody would know."""
    with source.path.open("rb") as file:
        file.seek(max(0, source.path.stat().st_size - _END_WITHIN))
        if _END not in file.read():
            raise InputError(
                f"{source.name} is no whole PDF: its end is missing. Download or copy it again, and add it."
            )


def _joined(text: str) -> str:
    """Words that a line break cut, whole again."""
    return _HYPHEN.sub("", "\n".join(line.rstrip() for line in text.split("\n"))).strip()
