"""Data sets on the Hugging Face hub, row by row: `hf:owner/name`, or `hf:owner/name:config` where there are several."""

from __future__ import annotations

import re
from collections.abc import Iterator

from studio.errors import InputError
from studio.instructions.formats.base import Row, damaged, rejected
from studio.settings import Settings

__all__ = ["checked_ref", "hub_rows"]

_REF = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


def checked_ref(ref: str) -> tuple[str, str | None]:
    """Name and configuration of a data set. Raises InputError for what names none."""
    found = _REF.fullmatch(ref)
    if found is None:
        raise InputError(f"'{ref}' names no data set of the hub. Write it like hf:databricks/databricks-dolly-15k.")
    return found[1], found[2]


def hub_rows(ref: str, split: str, settings: Settings) -> Iterator[tuple[int, Row]]:
    """The rows of a split, read from the hub as they are asked for. Raises InputError when it cannot be reached."""
    name, config = checked_ref(ref)
    if settings.offline:
        raise InputError(
            f"{ref} is on huggingface.co, and the studio is offline. Start it with LADDER_OFFLINE=0 to allow that, "
            "or download the data set elsewhere and import its files."
        )
    return _streamed(ref, name, config, split)


def _streamed(ref: str, name: str, config: str | None, split: str) -> Iterator[tuple[int, Row]]:
    from datasets import load_dataset  # takes a second, which nobody waits for who imports a file

    number = 0
    try:
        for row in load_dataset(name, config, split=split, streaming=True):
            number += 1
            column = damaged(row)
            yield number, row if column is None else rejected(number, column, "The cell holds half a character.")
    # What the hub, the network and the files there raise: all of it means that the rows do not come.
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"{ref} ({split}) cannot be read from the hub after {number:,} rows: {said}. "
            "Check its name, its split and the network, and try again."
        ) from error
