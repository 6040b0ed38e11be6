"""Taking documents in: checked, read, cut into passages, and stored whole or not at all.

What was read is a copy of the upload, so that the upload may change or vanish meanwhile. A file that cannot be used is
refused with one sentence, and the others go on.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.errors import InputError, StorageError
from studio.prompts.documents.language import language
from studio.prompts.documents.near import marked
from studio.prompts.documents.passages import Block, cut
from studio.prompts.documents.readers import ENDINGS, FORMATS
from studio.prompts.documents.source import MOST_TEXT, Source, clean
from studio.settings import Settings
from studio.store import Document, NewDocument, Store
from studio.uploads import in_words, upload_limit

__all__ = ["ImportReport", "Imported", "Refused", "import_document", "import_documents", "is_quick"]

_QUICK_FILES, _QUICK_BYTES = 10, 2 << 20  # a page takes these in while somebody waits
_PIECE = 1 << 20
_SAY_EVERY = 200  # blocks


@dataclass(frozen=True)
class Imported:
    """A document that is there now: new, brought back after it had been removed, or there already."""

    document: Document
    state: Literal["added", "restored", "known"]
    note: str = ""

    @property
    def sentence(self) -> str:
        """What happened, for the person who added it."""
        d = self.document
        said = {
            "added": f"{d.name} is in, cut into {d.passages} passage{'s' * (d.passages != 1)}.",
            "restored": f"{d.name} had been removed and is back, as '{d.name}'.",
            "known": f"This file is already there, as '{d.name}'.",
        }[self.state]
        return f"{said} {self.note}".strip()


@dataclass(frozen=True)
class Refused:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    imported: tuple[Imported, ...]
    refused: tuple[Refused, ...]


def is_quick(files: Sequence[Path]) -> bool:
    """Whether a page may take these in at once; more is a job."""
    return len(files) <= _QUICK_FILES and sum(file.stat().st_size for file in files) <= _QUICK_BYTES


def import_documents(
    store: Store, root: Path, files: Iterable[Path], *, author: str, settings: Settings | None = None
) -> ImportReport:
    """Take in each file that can be used. Raises StorageError when the disk refuses; what is in by then stays."""
    limit = upload_limit(settings or Settings())
    imported: list[Imported] = []
    refused: list[Refused] = []
    for file in files:
        try:
            imported.append(import_document(store, root, file, author=author, limit=limit))
        except InputError as error:
            refused.append(Refused(_name(file), str(error)))
    return ImportReport(tuple(imported), tuple(refused))


def import_document(
    store: Store,
    root: Path,
    file: Path,
    *,
    author: str,
    limit: int,
    say: Callable[[str], None] = lambda sentence: None,
) -> Imported:
    """Take one file of at most `limit` bytes into the workspace at `root`.

    `say` is told from time to time how far it is, and may raise to stop. Raises InputError with the cure when the file
    cannot be used; nothing is left behind then.
    """
    name = _name(file)
    kind = _kind(file, name, limit)
    with _copied(file, root / "documents", name) as (copy, digest):
        if known := store.documents_of_digest(digest):
            return _again(store, known[0])
        blocks = _read(Source(copy, name), kind, say)
        say(f"Cutting {name} into passages.")
        pieces = cut(blocks)
        text = "\n".join(piece.text for piece in pieces)
        made = NewDocument(name, kind, digest, len(text), language(text), marked(store, pieces))
        note = _note(blocks, name, [d.name for d in store.documents()])
        document = store.add_document(root, copy, made, author=author)
    return Imported(document, "added", note)


def _name(file: Path) -> str:
    """The file's name as it can be shown, kept and quoted."""
    name = " ".join(clean(file.name.encode("utf-8", "replace").decode()).split())
    return name if len(name) <= 120 else name[:100].rstrip() + "…" + file.suffix[:10]


def _kind(file: Path, name: str, limit: int) -> str:
    kind = ENDINGS.get(file.suffix.casefold(), "")
    if not kind:
        raise InputError(f"{name} cannot be read here. Documents are {', '.join(FORMATS)}: save it as one of these.")
    try:
        size = file.stat().st_size
    except OSError as error:
        raise InputError(f"{name} is no longer there ({error.strerror}). Add it again.") from error
    if size == 0:
        raise InputError(f"{name} is empty. Choose a file with text.")
    if size > limit:
        raise InputError(
            f"{name} has {in_words(size)}, and uploads may have {in_words(limit)}. Split it into parts, "
            "or have LADDER_MAX_UPLOAD raised."
        )
    return kind


@contextmanager
def _copied(file: Path, folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """A synced copy in the workspace and its SHA-256; gone afterwards unless it was moved to its place."""
    copy = folder / f".{uuid.uuid4().hex}.part"
    digest = hashlib.sha256()
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, copy.open("wb") as target:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())
        except OSError as error:
            raise StorageError(
                f"{name} could not be copied to {folder} ({error.strerror}). "
                "Nothing was changed; free some space or check the folder's permissions, and try again."
            ) from error
        yield copy, digest.hexdigest()
    finally:
        with suppress(OSError):  # it was moved to its place, or never came to be
            copy.unlink()


def _again(store: Store, known: Document) -> Imported:
    if known.removed_at is None:
        return Imported(known, "known")
    return Imported(store.restore_document(known.id), "restored")


def _read(source: Source, kind: str, say: Callable[[str], None]) -> list[Block]:
    blocks: list[Block] = []
    characters = 0
    for block in FORMATS[kind](source):
        if len(blocks) % _SAY_EVERY == 0:
            say(f"Reading {source.name}{f', {block.unit} {block.first}' if block.first > 1 else ''}.")
        blocks.append(block)
        characters += len(block.text)
        if characters > MOST_TEXT:
            raise InputError(
                f"{source.name} has more than {MOST_TEXT:,} characters of text. Split it into parts and add those."
            )
    if not any(re.search(r"\w", block.text) for block in blocks):
        raise InputError(f"{source.name} holds no words. Choose a file with text.")
    return blocks


def _note(blocks: Sequence[Block], name: str, others: Sequence[str]) -> str:
    said = []
    empty = [block for block in blocks if not block.text.strip()]
    if empty:
        said.append(
            f"{len(empty)} of its {len(blocks)} {empty[0].unit}s hold no text, as {empty[0].unit} {empty[0].first}: "
            "pictures are not read."
        )
    if name in others:
        said.append("Another document has the same name; remove that one if this replaces it.")
    return " ".join(said)
