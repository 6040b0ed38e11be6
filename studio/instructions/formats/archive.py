"""Zip files: one member is read as if it were the file. Members are never unpacked under their own names.

What a zip says about itself is checked before anything is unpacked: zipfile gives no member more bytes than the
directory declares, so that bounds on what is declared are bounds on what comes out.
"""

from __future__ import annotations

import io
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from studio.errors import InputError
from studio.instructions.formats.base import Cut, Format, Layout, Row, Source
from studio.instructions.formats.json_lines import JsonLines

__all__ = ["Member", "Zip", "is_workbook", "is_zip", "members_of", "open_zip"]

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_LARGEST_DIRECTORY = 32 << 20
_LARGEST_UNPACKED = 32 << 30
# Text shrinks to a tenth, tables of repeated words to a hundredth, bombs to a thousandth.
_LARGEST_RATIO = 250
_ALWAYS_FINE = 64 << 20
_END, _END_64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_OTHERS = {
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a PowerPoint file",
    "META-INF/manifest.xml": "an OpenDocument file",
}
_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)


def is_zip(source: Source) -> bool:
    return source.sample.startswith(_MAGIC)


@contextmanager
def open_zip(path: Path, name: str, largest: int = _LARGEST_UNPACKED) -> Iterator[zipfile.ZipFile]:
    """The zip at `path`, checked. Raises InputError for one that is cut off or would unpack to more than is sane."""
    try:
        _check_directory(path, name)
        archive = zipfile.ZipFile(path)
    except (*_DAMAGES, struct.error, ValueError) as error:
        raise InputError(f"{name} is no whole zip file ({error}). It may be cut off: upload it again.") from error
    with archive:
        _check_sizes(archive, path.stat().st_size, name, largest)
        yield archive


def _names_in(source: Source) -> list[str]:
    with source.local() as path, open_zip(path, source.name) as archive:
        return archive.namelist()


def is_workbook(source: Source) -> bool:
    """Whether a zip is a workbook. Raises InputError for another kind of office document."""
    names = set(_names_in(source))
    other = next((what for part, what in _OTHERS.items() if part in names), "")
    if other:
        raise InputError(f"{source.name} is {other}, not a table. Save its table as .xlsx or CSV.")
    return "xl/workbook.xml" in names


def members_of(source: Source, suffixes: Iterable[str]) -> tuple[str, ...]:
    """The members that can be tables, judged by their names. Raises InputError when there is none."""
    names = _names_in(source)
    known = tuple(suffixes)
    found = [name for name in names if _is_file(name) and name.lower().endswith(known)]
    if found:
        # A .txt beside tables is more likely a note about them.
        return tuple(sorted(found, key=lambda name: name.lower().endswith(".txt")))
    if any(name.lower().endswith(".zip") for name in names):
        raise InputError(f"{source.name} holds a zip within a zip. Unpack it, and choose the inner one.")
    raise InputError(f"{source.name} holds no table. It can hold files that end in {', '.join(sorted(known))}.")


class Member(Source):
    """A member of a zip, read out of it."""

    def __init__(self, archive: Source, member: str) -> None:
        self._archive, self._member = archive, member
        self.name, self.suffix = f"{member} in {archive.name}", PurePosixPath(member).suffix.lower()

    def open(self) -> BinaryIO:
        return io.BufferedReader(_MemberBytes(self._archive, self._member), 1 << 13)

    @contextmanager
    def local(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ladder-member-") as folder:
            path = Path(folder) / "member"
            with self.open() as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file)
            yield path


class Zip(Format):
    """Written as JSON Lines in a zip. A zip is read as the member that is chosen of it."""

    name = "zip"
    title = "Zipped JSON Lines"
    suffixes = (".zip",)
    rank = 99

    def sniff(self, source: Source, wanted: Layout) -> Layout | None:
        return None

    def rows(self, source: Source, layout: Layout) -> Iterator[tuple[int, Row]]:
        raise InputError(f"{source.name} is a zip file. Choose the member that is to be read.")

    def write(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]) -> None:
        with tempfile.TemporaryDirectory(prefix="ladder-member-", dir=path.parent) as folder:
            lines = Path(folder) / "records.jsonl"
            JsonLines().write(lines, rows, columns)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(lines, lines.name)


class _MemberBytes(io.RawIOBase):
    """The bytes of a member; damage in them is a Cut."""

    def __init__(self, archive: Source, member: str) -> None:
        self._name = f"{member} in {archive.name}"
        self._open = self._opened(archive, member)
        self._file = next(self._open)

    @staticmethod
    def _opened(archive: Source, member: str) -> Iterator[Any]:
        with archive.local() as path, open_zip(path, archive.name) as opened:
            try:
                file = opened.open(member)
            except KeyError as error:
                raise InputError(f"{archive.name} holds no '{member}'. Choose another member.") from error
            except RuntimeError as error:
                raise InputError(f"{archive.name} is locked with a password. Unpack it first.") from error
            except _DAMAGES as error:
                raise InputError(f"'{member}' in {archive.name} cannot be unpacked ({error}).") from error
            with file:
                yield file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            found = self._file.read(len(buffer))
        except _DAMAGES as error:
            raise Cut(f"From here on {self._name} is damaged ({error}). Get it whole, and import it again.") from error
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._open.close()  # type: ignore[attr-defined]
        super().close()


def _is_file(name: str) -> bool:
    parts = PurePosixPath(name).parts
    # macOS puts a shadow of every file beside it.
    is_hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in parts)
    return not name.endswith("/") and not is_hidden


def _check_directory(path: Path, name: str) -> None:
    """Refuse a list of members that would fill the memory; zipfile reads it whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = max(0, size - (1 << 16) - 22 - 20)
        file.seek(begin)
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0:
            raise zipfile.BadZipFile("its end is missing")
        directory = struct.unpack_from("<I", tail, at + 12)[0]
        if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR:
            file.seek(struct.unpack_from("<Q", tail, at - 12)[0])
            end = file.read(56)
            if end[:4] == _END_64:
                directory = struct.unpack_from("<Q", end, 40)[0]
    if directory > _LARGEST_DIRECTORY:
        raise InputError(f"{name} lists too many members ({directory >> 20} MB of names). Unpack what you need of it.")


def _check_sizes(archive: zipfile.ZipFile, packed: int, name: str, largest: int) -> None:
    sizes = [(info.file_size, info.compress_size) for info in archive.infolist()]
    total = sum(size for size, _ in sizes)
    if total > largest:
        raise InputError(
            f"{name} would unpack to {total / (1 << 30):,.1f} GB; {largest / (1 << 30):,.1f} GB can be read. "
            "Unpack what you need of it, and save tables as CSV."
        )
    worst = max((size / max(1, small) for size, small in sizes if size > _ALWAYS_FINE), default=0.0)
    if worst > _LARGEST_RATIO or (total > _ALWAYS_FINE and total / packed > _LARGEST_RATIO):
        raise InputError(f"{name} would unpack to more than {_LARGEST_RATIO} times its size, as a zip bomb does.")
