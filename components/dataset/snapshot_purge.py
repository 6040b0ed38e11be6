"""Purge: take records out of the dataset's whole history. Shown first, confirmed by typing, for admins, and listed."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from components.dataset.shared import Shared
from components.dataset.words import at, clamped
from components.frame import actions, fresh_choices, handler, live_dropdown, markup, notice, user_of
from components.picking import rows_to_read
from studio.errors import InputError
from studio.instructions.checks import check_kinds
from studio.instructions.purging import look_before_purge, numbers_in, purge
from studio.store import Dataset, Record, RecordFilter

__all__ = ["PurgePart", "build_purge"]

_SHOWN = 20
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class PurgePart:
    """The widgets of a purge, and the list of those that were done."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.store, self.root = shared, shared.workspace.store, shared.workspace.path
        markup(
            '<p class="quiet">For what may not be kept, such as a person\'s data. Records go with all their earlier '
            "versions, flags and comments, and out of the snapshots that hold them, whose hashes change. Nothing brings "
            "them back, undo neither. Models that were trained on them, files that people downloaded, and copies of the "
            "database from before an update are not reached.</p>"
        )
        with gr.Row(elem_classes=["form-row", "snapshot-row"]):
            self.numbers = gr.Textbox(
                label="Numbers of the records to purge", placeholder="12, 14-16", max_lines=4, min_width=240
            )
            self.check = live_dropdown(
                label="Or those that a check flagged", choices=[("None", "")], value="", min_width=240
            )
            self.look = gr.Button("Look what would go", scale=0, min_width=0)
        self.seen = markup()
        with gr.Column(visible=False) as self.sure:
            with gr.Row(elem_classes=["form-row", "snapshot-row"]):
                self.reason = gr.Textbox(
                    label="Reason of the purge",
                    info="Stays in the list below, and on the dataset card. Leave the text itself out.",
                    max_lines=2,
                    min_width=320,
                )
                self.typed = gr.Textbox(
                    label="Type the number of records", info="To confirm.", max_lines=1, min_width=220, scale=0
                )
            with actions():
                self.do = gr.Button("Purge for good", variant="stop")
        self.said = markup()
        self.audit = markup()
        with actions():
            self.erase = gr.Button("Write the database file anew", size="sm")

    def choices(self, dataset: Dataset, check: str | None) -> gr.Dropdown:
        titles = {name: kind.title for name, kind in check_kinds().items()}
        runs = self.store.check_runs(dataset.id)
        flagged = [(f"{titles.get(c, c)} ({run.flagged:,})", c) for c, run in runs.items() if run.flagged]
        return fresh_choices([("None", ""), *flagged], check, "")

    def audited(self, dataset: Dataset) -> str:
        """Who purged how many records, when and why, as HTML."""
        rows = [
            (
                at(purge.created_at),
                html.escape(purge.author),
                f"{purge.records:,}",
                html.escape(purge.reason),
                html.escape(", ".join(purge.snapshots) or "none"),
            )
            for purge in self.store.purges(dataset.id)
        ]
        if not rows:
            return '<p class="quiet">Nothing was purged from this dataset yet.</p>'
        head = ("When", "By", "Records", "Reason", "Snapshots written anew")
        listed = rows_to_read("Purges", head, rows, widths=("168px", "110px", "84px", "", "28%"))
        return f'<div class="framed">{listed}</div>'

    def look_first(self, name: str, told: str, check: str | None) -> list[Any]:
        """What would go, and the way to do it."""
        dataset = self.store.dataset(name)
        found = look_before_purge(self.store, self.root, dataset, self._chosen(dataset, told, check))
        listed = rows_to_read(
            "Records to purge", ("No.", "Instruction", "Response"), map(_row, found.records[:_SHOWN]), widths=_WIDTHS
        )
        more = f'<p class="quiet">And {len(found.records) - _SHOWN:,} more.</p>' if len(found.records) > _SHOWN else ""
        return [
            notice(found.sentence, "caution") + f'<div class="framed">{listed}</div>{more}',
            gr.Column(visible=True),
        ]

    def purge(
        self, request: gr.Request, name: str, told: str, check: str | None, reason: str, typed: str | None
    ) -> list[Any]:
        dataset = self.store.dataset(name)
        written = (typed or "").strip().replace(",", "")
        if not written.isdecimal():
            raise InputError("Type the number of records that are to be purged into the field, to confirm.")
        done = purge(
            self.store,
            self.root,
            dataset,
            self._chosen(dataset, told, check),
            reason=reason or "",
            confirmed=int(written),
            author=user_of(request),
        )
        said = notice(done.sentence, "caution" if done.traces or done.trouble else "good")
        return ["", "", "", gr.Column(visible=False), "", "", said, self.audited(dataset)]

    def write_anew(self) -> str:
        self.store.erase()
        return notice("The database file was written anew: nothing that was deleted is left in it.", "good")

    def _chosen(self, dataset: Dataset, told: str, check: str | None) -> list[int]:
        """The numbers that were written, and those that the check flagged."""
        flagged = self.store.record_ids(dataset.id, RecordFilter(flag=check)) if check else []
        return list(dict.fromkeys((*numbers_in(told or ""), *flagged)))


_WIDTHS = ("64px", "", "")


def _row(record: Record) -> tuple[str, ...]:
    return (str(record.id), clamped(record.instruction), clamped(record.response))


def build_purge(shared: Shared) -> PurgePart:
    part = PurgePart(shared)
    part.look.click(
        handler(part.look_first, role="admin"),
        [shared.chosen, part.numbers, part.check],
        [part.seen, part.sure],
        api_name="snap_look_purge",
        api_visibility="private",
    )
    gr.on(
        [part.numbers.input, part.check.input],
        handler(lambda: ["", gr.Column(visible=False)]),
        None,
        [part.seen, part.sure],
        queue=False,
        trigger_mode="always_last",
        api_name="snap_purge_others",
        **_QUIET,
    )
    part.erase.click(
        handler(part.write_anew, role="admin"), None, part.said, api_name="snap_erase", api_visibility="private"
    )
    return part
