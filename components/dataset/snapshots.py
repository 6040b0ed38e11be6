"""The page Snapshots: freeze the records, read what was frozen, describe, restore, compare, export, and purge."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markdown_it import MarkdownIt

from components.dataset.differences import rows_html
from components.dataset.shared import Shared
from components.dataset.snapshot_compare import build_compare
from components.dataset.snapshot_export import build_export, save_if_made
from components.dataset.snapshot_purge import build_purge
from components.dataset.snapshot_restore import build_restore
from components.dataset.words import at, count, heading
from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    card,
    chip,
    facts,
    fresh_choices,
    handler,
    hidden_download,
    live_dropdown,
    markup,
    notice,
    untouched,
    user_of,
)
from components.picking import mark_row, pick_list, picked, rows_to_pick
from studio.errors import InputError, StudioError
from studio.instructions import take_snapshot
from studio.instructions.export_task import CARD, QUICK_ROWS, ExportRecords
from studio.instructions.snapshots import (
    first_rows,
    holding,
    selections,
    snapshots_of,
    splits_of,
    still_flagged,
    uses_of,
)
from studio.store import Dataset, RecordFilter, Snapshot, SnapshotUse

__all__ = ["build"]

_ROWS = 10
_COUNTED_BYTES = 32 << 20  # of a file whose splits a look at the list counts; of a larger one when it is opened
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class _Page:
    """The widgets, and what the handlers share."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.workspace = shared, shared.workspace
        self.store, self.root = shared.workspace.store, shared.workspace.path
        self._splits: dict[str, dict[str, int]] = {}  # by the digest of the file, which says all of it
        self._counted: tuple[Any, ...] = ()  # what would be held, for the state of the dataset that it was counted in
        with gr.Row(elem_classes=["form-row", "snapshot-take"]):
            self.which = live_dropdown(label="Records to freeze", choices=[], min_width=240)
            self.held = markup(elem_classes=["snapshot-sentence"])
            self.take = gr.Button("Freeze these records", variant="primary", scale=0, min_width=0)
        self.said = markup()
        self.listed = pick_list("Snapshots", elem_id="snapshots-list")
        with card(visible=False, elem_classes=["snapshot-open"]) as self.open:
            self.about = markup()
            self.rows = markup()
            with actions():
                self.back = gr.Button("Rows before", size="sm", visible=False)
                self.forth = gr.Button("More rows", size="sm", visible=False)
            with gr.Accordion("Dataset card", open=False):
                with actions():
                    self.write_card = gr.Button("Show the card")
                    self.save_card = gr.Button("Download README.md")
                self.card = markup(elem_classes=["snapshot-card"])
            with gr.Row(elem_classes=["off-screen"]):
                self.ref = gr.Textbox("", label="Snapshot that is open", visible="hidden")
                self.row = gr.Number(0, label="First row shown", precision=0, visible="hidden")
            with gr.Accordion("Restore", open=False):
                self.restore = build_restore(shared, self.ref)
        with gr.Accordion("Compare", open=False):
            self.compare = build_compare(shared)
        with gr.Accordion("Export", open=False):
            self.export = build_export(shared)
        with gr.Accordion("Purge", open=False):
            self.purge = build_purge(shared)
        with gr.Row(elem_classes=["off-screen"]):
            self.shown = gr.Textbox("", label="Dataset of the snapshots", visible="hidden")
            self.file = hidden_download()

    # -- what is there -------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[Any]:
        return [
            self.shared.chosen, self.shown, self.ref, self.which,
            self.compare.before, self.compare.after, self.export.what, self.purge.check,
        ]  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        return [
            self.shown, self.which, self.held, self.listed,
            self.compare.before, self.compare.after, self.export.what, self.export.jobs, self.purge.check,
            self.purge.audit, *self.opened, *self.aside,
        ]  # fmt: skip

    @property
    def opened(self) -> list[Any]:
        """Outputs of `open_one` and `_closed`."""
        return [self.ref, self.open, self.about, *self.sheet, self.card, *self.restore.shown]

    @property
    def sheet(self) -> list[Any]:
        return [self.row, self.rows, self.back, self.forth]

    @property
    def aside(self) -> list[Any]:
        """What was said and looked at, which another dataset has no part in."""
        return [self.said, *self.compare.seen, self.export.said, self.purge.seen, self.purge.sure, self.purge.said]

    def refresh(self, name: str, shown: str, ref: str, which: str | None, *chosen: str | None) -> list[Any]:
        """Runs outside the queue at every beat, so it does not raise."""
        if not name:
            return untouched(self.outputs)
        try:
            return self._look(name, shown, ref, which, *chosen)
        except StudioError:
            return untouched(self.outputs)

    def _look(
        self,
        name: str,
        shown: str,
        ref: str,
        which: str | None,
        before: str | None,
        after: str | None,
        what: str | None,
        check: str | None,
    ) -> list[Any]:
        dataset, is_other = self.store.dataset(name), name != shown
        snapshots = snapshots_of(self.store, dataset)
        uses = uses_of(self.store, dataset)
        stays = not is_other and any(s.ref == ref for s in snapshots)
        known = selections(self.store, dataset)
        chosen = which if which in known else next(iter(known))
        opened = untouched(self.opened)
        if stays:
            opened[2] = self._about(self.store.snapshot(ref), uses.get(ref, []))
        return [
            name,
            fresh_choices(list(known), which),
            self._held(dataset, known[chosen]),
            self._list(snapshots, uses, ref if stays else ""),
            *self.compare.choices(snapshots, before, after),
            self.export.choices(dataset, snapshots, what),
            self.export.made(name),
            self.purge.choices(dataset, check),
            self.purge.audited(dataset),
            *(opened if stays or not (is_other or ref) else self._closed()),
            *(self._blank_aside() if is_other else untouched(self.aside)),
        ]

    def _blank_aside(self) -> list[Any]:
        hidden = gr.Button(visible=False)
        compared = ["", gr.Radio(visible=False), "", 1, hidden, hidden]
        return ["", *compared, "", "", gr.Column(visible=False), ""]

    def _closed(self) -> list[Any]:
        hidden = gr.Button(visible=False)
        return ["", gr.Column(visible=False), "", 0, "", hidden, hidden, "", *self.restore.closed()]

    # -- freezing ------------------------------------------------------------------------------------------------

    def would_hold(self, name: str, which: str | None) -> str:
        """Outside the queue, while somebody chooses."""
        try:
            dataset = self.store.dataset(name)
            return self._held(dataset, self._where(dataset, which))
        except StudioError as error:
            return f"<p>{html.escape(str(error))}</p>"

    def freeze(self, request: gr.Request, name: str, which: str | None) -> list[Any]:
        dataset = self.store.dataset(name)
        where = self._where(dataset, which)
        taken = take_snapshot(
            self.store, self.root, dataset, author=user_of(request), where=None if where == RecordFilter() else where
        )
        ref, rows = taken.snapshot.ref, count(taken.snapshot.rows)
        flagged = still_flagged(self.store, dataset)
        new = notice(f"Snapshot {ref} with {rows}. {flagged}".strip(), "caution" if flagged else "good")
        old = notice(f"These records are in {ref} already ({rows}), so it is still the newest snapshot.")
        snapshots = snapshots_of(self.store, dataset)
        uses = uses_of(self.store, dataset)
        return [
            new if taken.is_new else old,
            self._list(snapshots, uses, str(ref)),
            *self._open(taken.snapshot, uses.get(str(ref), [])),
        ]

    def _where(self, dataset: Dataset, which: str | None) -> RecordFilter:
        known = selections(self.store, dataset)
        if (which or "") not in known:
            raise InputError(f"'{which or ''}' is no choice any more. Choose again which records to freeze.")
        return known[which or ""]

    def _held(self, dataset: Dataset, where: RecordFilter) -> str:
        """Every page that is open asks at every beat, so it is counted when the dataset moved."""
        asked = (dataset.id, dataset.change, where)
        counted = self._counted
        if counted[:-1] != asked:
            counted = (*asked, f"<p>{html.escape(holding(self.store, dataset, where).sentence)}</p>")
            self._counted = counted
        return str(counted[-1])

    # -- the list and the open one -------------------------------------------------------------------------------

    def _list(self, snapshots: Sequence[Snapshot], uses: Mapping[str, Sequence[SnapshotUse]], ref: str) -> str:
        if not snapshots:
            return (
                '<p class="nothing">No snapshot of this dataset yet. A run learns from a snapshot, so that it can be '
                "repeated: freeze the records first.</p>"
            )
        rows = [
            (
                str(s.ref),
                (
                    f"<strong>{html.escape(str(s.ref))}</strong>"
                    + (
                        f" {chip('purged', 'caution', 'Written anew without records that were purged')}"
                        * bool(s.purged_at)
                    ),
                    self._split_words(s, limit=_COUNTED_BYTES),
                    f'<span class="hash" title="{s.digest}">{s.digest[:12]}</span>',
                    html.escape(f"{at(s.created_at)} by {s.author}"),
                    _used(uses.get(str(s.ref), [])),
                ),
            )
            for s in snapshots
        ]
        head = ("Snapshot", "Records", "SHA-256", "Taken", "Read by")
        table = rows_to_pick("Snapshots", head, rows, current=ref, widths=("24%", "", "116px", "20%", "18%"))
        return f'<div class="framed snapshot-list">{table}</div>'

    def _split_words(self, snapshot: Snapshot, limit: int | None = None) -> str:
        """'264: 212 train, 25 validation, 27 test'; without the splits while a large file was not looked into."""
        path = self.root / snapshot.path
        if snapshot.digest not in self._splits:
            try:
                if limit is not None and path.stat().st_size > limit:
                    return f"{snapshot.rows:,}"
                self._splits[snapshot.digest] = splits_of(self.root, snapshot)
            except (StudioError, OSError):
                return f"{snapshot.rows:,} (the file cannot be read)"
        parts = ", ".join(f"{n:,} {split}" for split, n in self._splits[snapshot.digest].items())
        return html.escape(f"{snapshot.rows:,}{f': {parts}' if parts else ''}")

    def open_one(self, event: gr.EventData, name: str) -> list[Any]:
        snapshot = self._mine(name, picked(event))
        return self._open(snapshot, uses_of(self.store, self.store.dataset(name)).get(str(snapshot.ref), []))

    def _open(self, snapshot: Snapshot, uses: Sequence[SnapshotUse]) -> list[Any]:
        return [
            str(snapshot.ref),
            gr.Column(visible=True),
            self._about(snapshot, uses),
            *self._sheet(snapshot, 0),
            "",
            *self.restore.closed(),
        ]

    def turn(self, name: str, ref: str, row: float | None) -> list[Any]:
        return self._sheet(self._mine(name, ref), int(row or 0))

    def _sheet(self, snapshot: Snapshot, start: int) -> list[Any]:
        start = min(max(0, start), max(0, (snapshot.rows - 1) // _ROWS * _ROWS))
        rows = first_rows(self.root, snapshot, _ROWS, start)
        end = start + len(rows)
        words = f'<p class="quiet">Rows {start + 1:,} to {end:,} of {snapshot.rows:,}</p>' if rows else ""
        return [
            start,
            rows_html(f"Rows of {snapshot.ref}", rows, first=start + 1) + words if rows else "<p>0 rows.</p>",
            gr.Button(visible=start > 0),
            gr.Button(visible=end < snapshot.rows),
        ]

    def _about(self, snapshot: Snapshot, uses: Sequence[SnapshotUse]) -> str:
        told = {
            "Records": html.unescape(self._split_words(snapshot)),
            "Taken": f"{at(snapshot.created_at)} by {snapshot.author}",
            "Licence": snapshot.licence or "Not stated",
            "SHA-256": snapshot.digest,
            "File": snapshot.path,
            "Read by": "; ".join(_use_words(use) for use in uses) or "No job yet",
        }
        if snapshot.purged_at:
            told["Purged"] = f"{at(snapshot.purged_at)}: the file was written anew, so its hash is another than before."
        return heading(str(snapshot.ref)) + facts(told)

    def _mine(self, name: str, ref: str) -> Snapshot:
        snapshot = self.store.snapshot(ref)
        if (snapshot.kind, snapshot.name) != ("data", name):
            raise InputError(f"{ref} is no snapshot of {name}. Choose one from the list.")
        return snapshot

    # -- the card ------------------------------------------------------------------------------------------------

    def show_card(self, request: gr.Request, name: str, ref: str) -> str:
        snapshot = self._mine(name, ref)
        if snapshot.rows > QUICK_ROWS:
            return self._card_by_job(request, name, snapshot)
        text = self._written(request, name, ref).read_text(encoding="utf-8")
        body = text.split("\n---\n", 1)[1]
        rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(body)
        return f'<div class="snapshot-card-text">{rendered}</div>'

    def download_card(self, request: gr.Request, name: str, ref: str) -> list[Any]:
        snapshot = self._mine(name, ref)
        if snapshot.rows > QUICK_ROWS:
            return [self._card_by_job(request, name, snapshot), None]
        return [gr.skip(), str(self._written(request, name, ref))]

    def _written(self, request: gr.Request, name: str, ref: str) -> Path:
        task = ExportRecords(dataset=name, snapshot=ref, format=CARD)
        return task.write(self.store, self.root, Path(tempfile.mkdtemp()), author=user_of(request))[0]

    def _card_by_job(self, request: gr.Request, name: str, snapshot: Snapshot) -> str:
        task = ExportRecords(dataset=name, snapshot=str(snapshot.ref), format=CARD)
        job = self.workspace.queue(task, author=user_of(request))
        return notice(f"{count(snapshot.rows)} are counted by job {job.id}. The card is under Export when it is done.")

    # -- after restoring and purging -----------------------------------------------------------------------------

    def restore_it(self, request: gr.Request, name: str, ref: str, seen: float | None, which: str | None) -> list[Any]:
        done = self.restore.restore(request, name, ref, seen)
        return [*done, self.would_hold(name, which)]

    def purge_them(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        done = self.purge.purge(request, name, *typed)
        self.compare.forget()
        dataset = self.store.dataset(name)
        listed = self._list(snapshots_of(self.store, dataset), uses_of(self.store, dataset), "")
        compared = self._blank_aside()[1:7]
        return [*done, listed, *self._closed(), *compared]


def build(shared: Shared) -> TabWidgets:
    """Lay out the page and wire it."""
    page = _Page(shared)
    chosen, restore, purge = shared.chosen, page.restore, page.purge
    page.which.input(
        handler(page.would_hold),
        [chosen, page.which],
        page.held,
        queue=False,
        trigger_mode="always_last",
        api_name="snap_would_hold",
        **_QUIET,
    )
    frozen = page.take.click(
        handler(page.freeze),
        [chosen, page.which],
        [page.said, page.listed, *page.opened],
        api_name="snap_freeze",
        api_visibility="private",
    )
    # What can be compared and exported is one more now.
    frozen.success(
        handler(page.refresh), page.inputs, page.outputs, queue=False, api_name="snap_after_freezing", **_QUIET
    )
    page.shared.moves(frozen)
    page.listed.pick(handler(page.open_one), chosen, page.opened, api_name="snap_open", **_QUIET)
    page.ref.change(None, page.ref, None, js=mark_row("snapshots-list"), api_visibility="private")
    for button, step, name in ((page.back, -_ROWS, "before"), (page.forth, _ROWS, "after")):
        button.click(
            handler(page.turn),
            [chosen, page.ref, page.row],
            page.sheet,
            js=f"(...now) => {{ now[now.length - 1] += {step}; return now; }}",
            api_name=f"snap_rows_{name}",
            **_QUIET,
        )
    page.write_card.click(
        handler(page.show_card), [chosen, page.ref], page.card, api_name="snap_card", api_visibility="private"
    )
    saved = page.save_card.click(
        handler(page.download_card),
        [chosen, page.ref],
        [page.card, page.file],
        api_name="snap_save_card",
        api_visibility="private",
    )
    save_if_made(saved, page.file)
    restored = restore.do.click(
        handler(page.restore_it),
        [chosen, page.ref, restore.at, page.which],
        [*restore.shown, page.held],
        api_name="snap_restore",
        api_visibility="private",
    )
    page.shared.moves(restored)
    purged = purge.do.click(
        handler(page.purge_them, role="admin"),
        [chosen, purge.numbers, purge.check, purge.reason, purge.typed],
        [
            purge.numbers, purge.check, purge.seen, purge.sure, purge.reason, purge.typed, purge.said, purge.audit,
            page.listed, *page.opened, *page.compare.seen,
        ],
        api_name="snap_purge",
        api_visibility="private",
    )  # fmt: skip
    page.shared.moves(purged)
    return TabWidgets(refresh=Refresh(page.refresh, page.inputs, page.outputs))


def _used(uses: Sequence[SnapshotUse]) -> str:
    if not uses:
        return '<span class="quiet">nobody yet</span>'
    words = html.escape("; ".join(_use_words(use) for use in uses[:2]))
    more = f", and {len(uses) - 2} more" if len(uses) > 2 else ""
    return f'<span class="clamp">{words}{more}</span>'


def _use_words(use: SnapshotUse) -> str:
    return f"job {use.id} ({use.title})" if use.id else use.title
