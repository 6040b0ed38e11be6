"""What the pages of this tab share: which dataset is open, and how one page shows records on another."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.frame import markup
from studio.errors import InputError
from studio.store import RecordFilter
from studio.workspace import Workspace

__all__ = ["Shared", "asked", "shared_by_pages", "to_show"]


@dataclass(frozen=True)
class Shared:
    """`chosen` holds the name of the open dataset ('' while there is none); every page reads it, the shelf writes it.

    A page that wants certain records looked at gives `to_show(RecordFilter(...))` to the box `show`: the page Records
    opens and shows them. `said` is the line under the tab's header, for what concerns all pages (use `notice`).
    `moved` changes when records did; give the listener to `moves`.
    """

    workspace: Workspace
    chosen: gr.Textbox
    show: gr.Textbox
    said: gr.HTML
    moved: gr.Textbox

    def moves(self, made: Any) -> None:
        """After a listener that changed records elsewhere than in the form: the shelf counts them anew."""
        made.success(None, None, self.moved, js="() => String(Date.now())", api_visibility="private")


def shared_by_pages(workspace: Workspace, dataset: str = "") -> Shared:
    """Lay out the boxes, out of sight, and the line."""
    with gr.Row(elem_classes=["off-screen"]):
        chosen = gr.Textbox(dataset, label="Dataset", visible="hidden")
        show = gr.Textbox("", label="Records asked for", visible="hidden")
        moved = gr.Textbox("", label="Records moved", visible="hidden")
    return Shared(workspace, chosen, show, markup(), moved)


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
