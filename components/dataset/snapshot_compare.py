"""Compare two snapshots, or a snapshot with the records as they are now: the counts, and every change word by word."""

from __future__ import annotations

import html
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.dataset.differences import KINDS, difference_html, kind_shown, kinds_with_counts, pages_of
from components.dataset.shared import Shared
from components.frame import actions, fresh_choices, handler, live_dropdown, markup
from studio.errors import InputError
from studio.instructions.comparing import Difference, compare_snapshots, compare_with_now
from studio.store import Dataset, Snapshot

__all__ = ["NOW", "ComparePart", "build_compare"]

NOW = "now"
_KEPT = 2  # differences that stay in memory, so that turning a page does not compare again
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class ComparePart:
    """The widgets, and the differences that were looked at last."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store, self.root = shared, shared.workspace.store, shared.workspace.path
        self._found: OrderedDict[tuple[str, ...], Difference] = OrderedDict()
        with gr.Row(elem_classes=["form-row", "snapshot-row"]):
            self.before = live_dropdown(label="Compare from", choices=[], min_width=220)
            self.after = live_dropdown(label="Compare to", choices=[], min_width=220)
            self.go = gr.Button("Compare", scale=0, min_width=0)
        self.sentence = markup(elem_classes=["snapshot-sentence"])
        self.kind = gr.Radio(
            [(name.capitalize(), name) for name in KINDS],
            value=KINDS[0],
            label="Kind of difference",
            show_label=False,
            container=False,
            visible=False,
        )
        self.rows = markup(elem_id="snapshot-differences")
        with actions():
            self.previous = gr.Button("Previous changes", size="sm", visible=False)
            self.next = gr.Button("More changes", size="sm", visible=False)
        with gr.Row(elem_classes=["off-screen"]):
            self.page = gr.Number(1, label="Page of changes", precision=0, visible="hidden")

    @property
    def seen(self) -> list[Any]:
        """Outputs of `look` and `turn`."""
        return [self.sentence, self.kind, self.rows, self.page, self.previous, self.next]

    def choices(self, snapshots: Sequence[Snapshot], before: str | None, after: str | None) -> list[Any]:
        """The lists: newest against now, unless somebody chose."""
        refs = [str(snapshot.ref) for snapshot in snapshots]
        now = ("The records as they are now", NOW)
        return [
            fresh_choices(refs, before, refs[0] if refs else None),
            fresh_choices([now, *((ref, ref) for ref in refs)], after, NOW),
        ]

    def look(self, name: str, before: str | None, after: str | None, kind: str) -> list[Any]:
        found = self._difference(name, before, after)
        return [f"<p>{html.escape(found.sentence)}</p>", *self._page(found, kind, 1)]

    def turn(self, name: str, before: str | None, after: str | None, kind: str, page: float | None) -> list[Any]:
        found = self._difference(name, before, after)
        return [gr.skip(), *self._page(found, kind, int(page or 1))]

    def forget(self) -> None:
        """After a purge nothing of what was compared may be looked at again."""
        self._found.clear()

    def _page(self, found: Difference, kind: str, page: int) -> list[Any]:
        kind = kind_shown(found, kind)
        pages = pages_of(found, kind)
        page = min(max(1, page), pages)
        return [
            kinds_with_counts(found, kind),
            difference_html(found, kind, page),
            page,
            gr.Button(visible=page > 1),
            gr.Button(visible=page < pages, value=f"More changes (page {page + 1:,} of {pages:,})"),
        ]

    def _difference(self, name: str, before: str | None, after: str | None) -> Difference:
        if not before or not after:
            raise InputError("Choose two snapshots to compare, or a snapshot and the records as they are now.")
        dataset = self.store.dataset(name)
        old = self._mine(dataset, before)
        new = None if after == NOW else self._mine(dataset, after)
        key = (name, old.digest, new.digest if new else f"{NOW} {dataset.change}")
        if key not in self._found:
            self._found[key] = (
                compare_snapshots(self.root, old, new) if new else compare_with_now(self.store, self.root, old, dataset)
            )
        self._found.move_to_end(key)
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return self._found[key]

    def _mine(self, dataset: Dataset, ref: str) -> Snapshot:
        snapshot = self.store.snapshot(ref)
        if (snapshot.kind, snapshot.name) != ("data", dataset.name):
            raise InputError(f"{ref} is no snapshot of {dataset.name}. Choose another.")
        return snapshot


def build_compare(shared: Shared) -> ComparePart:
    part = ComparePart(shared)
    sides = [shared.chosen, part.before, part.after, part.kind]
    part.go.click(handler(part.look), sides, part.seen, api_name="snap_compare", api_visibility="private")
    part.kind.input(
        handler(lambda name, before, after, kind: part.turn(name, before, after, kind, 1)),
        sides,
        part.seen,
        api_name="snap_kind",
        **_QUIET,
    )
    for button, step, name in ((part.previous, -1, "back"), (part.next, 1, "forth")):
        button.click(
            handler(part.turn),
            [*sides, part.page],
            part.seen,
            js=f"(...now) => {{ now[now.length - 1] += {step}; return now; }}",
            api_name=f"snap_changes_{name}",
            **_QUIET,
        )
    return part
