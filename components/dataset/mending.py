"""Rows that an import left out: a list with the reasons, and the open row in the fields of a record, to be mended.

It stands twice in the tab, with labels of its own each time: in the card of an import that just ended, and on Grow.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import gradio as gr

from components.dataset.words import clamped, count
from components.frame import actions, ask_twice, handler, markup, notice, untouched, user_of
from components.picking import pick_list, picked, rows_to_pick
from studio.errors import StudioError
from studio.instructions import FIELDS
from studio.instructions.mending import cells_left, fields_to_mend, is_cut, leave_out, mend, waiting
from studio.store import LeftOutRow
from studio.workspace import Workspace

__all__ = ["Mending"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_SHOWN = 50
_CELL_LETTERS = 400


class Mending:
    """Lay it out where it stands, then `wire` it."""

    def __init__(self, workspace: Workspace, name: str, label: str, nothing: str = "", *, is_main: bool = True) -> None:
        """`name` begins the ids; `label` says what a field is called here, like 'Mended {}'; `nothing` is said where no
        row waits; `is_main` where mending is what the card is for."""
        self._workspace, self._store, self._name, self._nothing = workspace, workspace.store, name, nothing
        with gr.Row(elem_classes=["off-screen"]):
            self.row = gr.Textbox("", label=f"Row to mend ({name})", visible="hidden")
        self.told = markup()
        with gr.Column(visible=False, elem_classes=["mending"]) as self.box:
            with gr.Row(elem_classes=["mending-desk"]):
                with gr.Column(scale=1, min_width=280, elem_classes=["mending-rows"]):
                    self.rows = pick_list(f"Rows left out ({name})", elem_id=f"{name}-left-out")
                with gr.Column(scale=1, min_width=280):
                    self.about = markup()
                    lines = {"instruction": 2, "context": 2, "response": 3, "category": 1}
                    self.fields = {
                        field: gr.Textbox(label=label.format(field).capitalize(), lines=lines[field], max_lines=10)
                        for field in FIELDS
                    }
                    self.said = markup()
                    with actions():
                        self.add = gr.Button(
                            "Add as record", variant="primary" if is_main else "secondary", elem_id=f"{name}-mend"
                        )
                        self.leave = gr.Button("Leave out", elem_id=f"{name}-leave")
                        self.leave_all = gr.Button("Leave all out", elem_id=f"{name}-leave-all")
                        self.really = gr.Button(
                            "Leave all of them out for good", variant="stop", visible=False, elem_id=f"{name}-really"
                        )

    @property
    def shown(self) -> list[Any]:
        """Outputs of `show`."""
        return [self.box, self.told, self.rows, self.row, self.about, *self.fields.values(), self.said, self.really]

    def wire(self, dataset: Any) -> Any:
        """`dataset` holds its name. Returns the listener that adds a record."""

        def open_row(event: gr.EventData, name: str) -> list[Any]:
            return self.show(name, picked(event))

        def add(request: gr.Request, name: str, row: str, *values: Any) -> list[Any]:
            try:
                fields = dict(zip(FIELDS, values, strict=True))
                mended = mend(self._store, _number(row), fields, author=user_of(request))
            except StudioError as error:
                return self._saying(notice(str(error), "bad"))
            said = notice(f"Row {mended.row:,} is a record of {name} now.", "good")
            return self.show(name, "", said)

        def leave(name: str, row: str) -> list[Any]:
            try:
                gone = leave_out(self._store, _number(row))
            except StudioError as error:
                return self._saying(notice(str(error), "bad"))
            return self.show(name, "", notice(f"Row {gone.row:,} stays out."))

        def leave_all(name: str) -> list[Any]:
            self._store.settle_all(self._store.dataset(name).id)
            return self.show(name)

        named = self._name
        self.rows.pick(
            handler(open_row),
            dataset,
            self.shown,
            api_name=f"{named}_open_row",
            trigger_mode="multiple",
            **_QUIET,
        )
        fields = list(self.fields.values())
        added = self.add.click(
            handler(add),
            [dataset, self.row, *fields],
            self.shown,
            api_name=f"{named}_mend",
            **_QUIET,
        )
        self.leave.click(handler(leave), [dataset, self.row], self.shown, api_name=f"{named}_leave_out", **_QUIET)
        ask_twice(self.leave_all, self.really)
        self.really.click(handler(leave_all), dataset, self.shown, api_name=f"{named}_leave_all_out", **_QUIET)
        return added

    def show(self, name: str, row: str = "", said: str = "") -> list[Any]:
        """The rows that wait in the dataset, with that one open, or else the first."""
        found = waiting(self._store, self._store.dataset(name), _SHOWN)
        if not found.total:
            box, _, *rest = self.show_nothing()
            return [box, said + (f"<p>{html.escape(self._nothing)}</p>" if self._nothing else ""), *rest]
        opened = self._store.left_out_row(_number(row)) if row else found.rows[0]
        fields = fields_to_mend(self._store, self._workspace.path, opened)
        many = count(found.total, "row")
        told = f"{many} of files could not be taken in and {'waits' if found.total == 1 else 'wait'} here."
        told += " Rows are counted without the header."
        if found.total > len(found.rows):
            told += f" The first {len(found.rows)} are listed."
        listed = [
            (r.id, (html.escape(found.files.get(r.edit_id, "")), f"{r.row:,}", clamped(r.reason))) for r in found.rows
        ]
        rows = rows_to_pick(
            "Rows left out", ("File", "Row", "Reason"), listed, current=opened.id, widths=("30%", "64px", "")
        )
        return [
            gr.Column(visible=True),
            f"<p>{html.escape(told)}</p>",
            f'<div class="framed">{rows}</div>',
            str(opened.id),
            _about(opened, fields),
            *fields.values(),
            said,
            gr.Button(visible=False),
        ]

    def show_nothing(self) -> list[Any]:
        """As long as nobody knows what was left out."""
        return [gr.Column(visible=False), "", "", "", "", *("" for _ in FIELDS), "", gr.Button(visible=False)]

    def is_current(self, row: str, name: str) -> bool:
        """Whether the open row still waits, so that what somebody types into it is left alone."""
        if not row.isdecimal():
            return False
        opened = self._store.left_out_row(_number(row))
        return opened.settled_at is None and opened.dataset_id == self._store.dataset(name).id

    def _saying(self, said: str) -> list[Any]:
        return [*untouched(self.shown[:-2]), said, gr.skip()]


def _about(row: LeftOutRow, fields: Mapping[str, str]) -> str:
    column = f", column {row.column}" if row.column else ""
    words = notice(f"Row {row.row:,}{column}: {row.reason}", "caution")
    if is_cut(row):
        words += notice(
            "The row was too long to be kept whole. Mend it in the file and import it again, or only its beginning "
            "becomes a record.",
            "bad",
        )
    left = cells_left(row, fields)
    if not left:
        return words
    items = "".join(
        f"<dt>{html.escape(name or 'The row as it stands')}</dt><dd>{html.escape(_short(text))}</dd>"
        for name, text in left.items()
    )
    return f'{words}<dl class="cells">{items}</dl>'


def _short(text: str) -> str:
    return text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS]}…"


def _number(row: str) -> int:
    return int(row) if row.isdecimal() and len(row) < 10 else 0
