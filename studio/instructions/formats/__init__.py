"""Containers of rows, one file each. A new one is a file here with a Format; no list has to be kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studio.discovery import classes_in
from studio.errors import InputError
from studio.instructions.formats.archive import Member, is_workbook, is_zip, members_of
from studio.instructions.formats.base import File, Format, Layout, Rejected, Row, Source

__all__ = ["Format", "Layout", "Opened", "Rejected", "Row", "format_named", "formats", "opened"]


@dataclass(frozen=True)
class Opened:
    """A file that was looked at: what it is and how it is laid out. `members` are those of a zip."""

    format: Format
    source: Source
    layout: Layout
    members: tuple[str, ...] = ()


@functools.cache
def formats() -> Mapping[str, Format]:
    """Every format by its name, in the order in which they are asked."""
    found = [kind() for kind in classes_in(__path__, __name__, Format)]  # type: ignore[type-abstract]
    return {form.name: form for form in sorted(found, key=lambda form: form.rank)}


def format_named(name: str) -> Format:
    if name not in formats():
        raise InputError(f"There is no format '{name}'. Known formats: {', '.join(sorted(formats()))}.")
    return formats()[name]


def opened(path: Path, wanted: Layout | None = None) -> Opened:
    """Look at a file. What `wanted` leaves open is guessed; raises InputError for a file that holds no table."""
    wanted = wanted or Layout()
    source: Source = File(path)
    members: tuple[str, ...] = ()
    candidates = [format_named(wanted.format)] if wanted.format else list(formats().values())
    if is_zip(source) and not is_workbook(source):
        members = members_of(source, {s for form in formats().values() for s in form.suffixes} - {".zip"})
        if wanted.member and wanted.member not in members:
            raise InputError(f"{path.name} has no member '{wanted.member}'. It has: {', '.join(members[:20])}.")
        source = Member(source, wanted.member or members[0])
        wanted = wanted.model_copy(update={"member": wanted.member or members[0]})
    for form in candidates:
        layout = form.sniff(source, wanted)
        if layout is not None:
            return Opened(form, source, layout.model_copy(update={"member": wanted.member if members else ""}), members)
    named = f" as {candidates[0].title}" if wanted.format else ""
    raise InputError(f"{source.name} cannot be read{named}. Save it as CSV (UTF-8), Excel or JSON Lines.")
