"""Restore the open snapshot: look what would happen, then do it at one stroke; or make a new dataset of it."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from components.dataset.differences import KINDS, PAGE, difference_html, pages_of
from components.dataset.shared import Shared
from components.dataset.words import count
from components.frame import actions, handler, markup, notice, user_of
from studio.errors import InputError
from studio.instructions.comparing import Difference
from studio.instructions.restoring import plan, restore, restore_as_new

__all__ = ["RestorePart", "build_restore"]

_TITLES = {"changed": "Would get their earlier text", "added": "Would come back", "removed": "Would be removed"}


class RestorePart:
    """The widgets; `ref` holds the open snapshot."""

    def __init__(self, shared: Shared, ref: gr.Textbox) -> None:
        self.shared, self.ref = shared, ref
        self.store, self.root = shared.workspace.store, shared.workspace.path
        markup(
            '<p class="quiet">Brings the records of this snapshot back as the content of the dataset, under the numbers '
            "they have; Undo on the page Records takes it back. Splits stay as they are, and so do rejected records.</p>"
        )
        with actions():
            self.look = gr.Button("Look what a restore would do")
            self.do = gr.Button("Restore these records", variant="primary", visible=False)
        self.seen = markup()
        with gr.Row(elem_classes=["off-screen"]):
            self.at = gr.Number(None, label="State that the restore was looked at in", precision=0, visible="hidden")
        with gr.Row(elem_classes=["form-row", "snapshot-row"]):
            self.name = gr.Textbox(label="Name of a new dataset", placeholder="brackenfold-may", max_lines=1)
            self.make = gr.Button("Restore as a new dataset", scale=0, min_width=0)
        self.said = markup()

    @property
    def shown(self) -> list[Any]:
        """Outputs of `closed`: nothing was looked at."""
        return [self.do, self.seen, self.at, self.said]

    def closed(self) -> list[Any]:
        return [gr.Button(visible=False), "", None, ""]

    def look_first(self, name: str, ref: str) -> list[Any]:
        found = plan(self.store, self.root, self.store.dataset(name), self.store.snapshot(ref))
        told = notice(found.sentence, "caution" if found.changes else "")
        return [gr.Button(visible=bool(found.changes)), told + _parts(found.difference), found.at, ""]

    def restore(self, request: gr.Request, name: str, ref: str, seen: float | None) -> list[Any]:
        if seen is None:
            raise InputError("Look first what the restore would do, then restore.")
        edit = restore(
            self.store,
            self.root,
            self.store.dataset(name),
            self.store.snapshot(ref),
            author=user_of(request),
            seen=int(seen),
        )
        done = f"{edit.title}: {count(edit.records)} changed. Undo on the page Records takes it back."
        return [gr.Button(visible=False), "", None, notice(done, "good")]

    def restore_as_new(self, request: gr.Request, ref: str, name: str | None) -> list[Any]:
        if not (name or "").strip():
            raise InputError("The new dataset has no name. Write one, such as brackenfold-may.")
        made = restore_as_new(
            self.store, self.root, self.store.snapshot(ref), (name or "").strip(), author=user_of(request)
        )
        rows = count(self.store.count_records(made.id))
        return [notice(f"{made.name} holds {rows} of {ref}, as drafts. Open it on the left.", "good"), ""]


def _parts(found: Difference) -> str:
    """The first of what would change, one kind under the other, folded."""
    parts = []
    for kind in KINDS:
        if kind in _TITLES and (inside := difference_html(found, kind)):
            n = {"changed": len(found.changed), "added": len(found.added), "removed": len(found.removed)}[kind]
            first = f", the first {PAGE}" if pages_of(found, kind) > 1 else ""
            title = html.escape(f"{_TITLES[kind]} ({n:,}{first})")
            parts.append(f'<details class="snapshot-part"><summary>{title}</summary>{inside}</details>')
    return "".join(parts)


def build_restore(shared: Shared, ref: gr.Textbox) -> RestorePart:
    part = RestorePart(shared, ref)
    part.look.click(
        handler(part.look_first),
        [shared.chosen, ref],
        part.shown,
        api_name="snap_look_restore",
        api_visibility="private",
    )
    part.make.click(
        handler(part.restore_as_new),
        [ref, part.name],
        [part.said, part.name],
        api_name="snap_restore_as_new",
        api_visibility="private",
    )
    return part
