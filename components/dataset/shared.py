"""What the pages of this tab share: which dataset is open, and how one page shows records on another."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.errors import InputError
from studio.store import RecordFilter
from studio.workspace import Workspace

__all__ = ["Shared", "asked", "to_show"]


@dataclass(frozen=True)
class Shared:
    """`chosen` holds the name of the open dataset ('' while there is none); every page reads it, the shelf writes it.

    A page that wants certain records looked at gives `to_show(RecordFilter(...))` to the box `show`: the page Records
    opens and shows them. `said` is the line under the tab's header, for what concerns all pages (use `notice`).
    """

    workspace: Workspace
    chosen: gr.Textbox
    show: gr.Textbox
    said: gr.HTML


def to_show(where: RecordFilter) -> str:
    """What to put into `Shared.show`. Asking twice for the same is asking, hence the time."""
    return json.dumps({"at": time.monotonic_ns(), **where.told()})


def asked(told: str) -> RecordFilter:
    """The filter that `to_show` wrote, or that an address gave. Raises InputError."""
    try:
        said: Any = json.loads(told)
        return RecordFilter.of(said)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"'{told[:80]}' says of no records which ones are meant.") from error
