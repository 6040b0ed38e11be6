"""One record open in a form: read, written, saved. The page around it says which record, and what lies beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.dataset.shared import Shared
from components.dataset.words import category_words, heading, when
from components.frame import actions, card, handler, markup, notice, untouched, user_of
from studio.errors import Conflict, InputError
from studio.instructions import CATEGORIES, FIELDS, add_record, edit_record, is_unsaved
from studio.store import Record

__all__ = ["RecordForm", "build_form"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class RecordForm:
    """The form, and what the page around it does with it."""

    shared: Shared
    record: gr.Number
    revision: gr.Number
    heading: gr.HTML
    fields: Mapping[str, Any]
    message: gr.HTML
    history: gr.HTML
    back: gr.Button
    forth: gr.Button
    save: gr.Button
    reload: gr.Button
    saved: gr.Textbox  # changes when a record was stored: the table shows it anew

    @property
    def typed(self) -> list[Any]:
        """Inputs: the open record, its revision, and what is in the fields. `leave` takes their values."""
        return [self.record, self.revision, *self.fields.values()]

    @property
    def shown(self) -> list[Any]:
        """Outputs of `show` and `blank`."""
        return [self.record, self.revision, self.heading, *self.fields.values(), self.message, self.history]

    def show(self, record: Record, message: str = "") -> list[Any]:
        """A record in the form."""
        by = f"Revision {record.revision}, by {record.author}, {when(record.updated_at)}."
        came = f"In {record.split}. Came from {record.source}." if record.source else f"In {record.split}."
        history = f'<p class="quiet">{html.escape(by)}<br>{html.escape(came)}</p>'
        fields = [getattr(record, name) for name in FIELDS]
        return [record.id, record.revision, heading(f"Record {record.id}"), *fields, message, history]

    def blank(self, dataset: str) -> list[Any]:
        """An empty form, for a new record."""
        told = f'<p class="quiet">It becomes a record of {html.escape(dataset)} when you save it.</p>'
        return [None, None, heading("New record"), "", "", "", "", "", told]

    def leave(self, dataset: str, author: str, typed: Sequence[Any]) -> None:
        """Whoever opens something else calls this first. Refuses to leave text that is not in the database."""
        record, _revision, *fields = typed
        stored = self.shared.workspace.store.record(int(record)) if record else None
        if is_unsaved(stored, dict(zip(FIELDS, fields, strict=True))):
            what = f"Record {stored.id} has" if stored else "The new record has"
            raise Conflict(f"{what} changes that are not saved. Save them, or press Reload record to drop them.")


def build_form(shared: Shared) -> RecordForm:
    """Lay out the form and wire what it does by itself."""
    with card(scale=0, min_width=344, elem_classes=["record"]):
        with gr.Row(elem_classes=["record-head"]):
            title = markup()
            back = gr.Button("Previous", size="sm", min_width=0, scale=0)
            forth = gr.Button("Next", size="sm", min_width=0, scale=0)
        fields = {
            "instruction": gr.Textbox(label="Instruction", lines=2, max_lines=6),
            "context": gr.Textbox(label="Context", lines=2, max_lines=8, placeholder="The text it is about, if any"),
            "response": gr.Textbox(label="Response", lines=5, max_lines=12),
            "category": gr.Dropdown(
                [("No category", ""), *((category_words(c), c) for c in CATEGORIES)],
                value="",
                label="Category",
                allow_custom_value=True,  # imported records may have others
            ),
        }
        message = markup()
        with actions():
            save = gr.Button("Save", variant="primary", min_width=0, scale=0)
            reload = gr.Button("Reload record", min_width=0, scale=0)
        history = markup()
    with gr.Row(elem_classes=["off-screen"]):
        record = gr.Number(None, label="Record", precision=0, visible="hidden")
        revision = gr.Number(None, label="Revision", precision=0, visible="hidden")
        saved = gr.Textbox("", label="Record saved", visible="hidden")
    form = RecordForm(shared, record, revision, title, fields, message, history, back, forth, save, reload, saved)
    _wire(form)
    return form


def _wire(form: RecordForm) -> None:
    store, chosen = form.shared.workspace.store, form.shared.chosen

    def save(request: gr.Request, name: str, record: float | None, revision: float | None, *typed: str) -> list[Any]:
        """Store what is in the form. What speaks against it is said beside the button, and the text stays."""
        fields = {key: value or "" for key, value in zip(FIELDS, typed, strict=True)}
        try:
            if record:
                stored = edit_record(store, int(record), int(revision or 1), fields, author=user_of(request))
                said = notice(f"Record {stored.id} is saved.", "good")
            else:
                dataset = store.dataset(name)
                add_record(store, dataset, fields, author=user_of(request), source="written here")
                stored = store.records(dataset.id, offset=store.count_records(dataset.id) - 1, limit=1)[0]
                said = notice(f"Record {stored.id} was added to {name}.", "good")
        except InputError as error:
            form_now = untouched(form.shown)
            form_now[-2] = notice(str(error), "caution")
            return [*form_now, gr.skip()]
        return [*form.show(stored, said), f"{stored.id}.{stored.revision}"]

    def reload(name: str, record: float | None) -> list[Any]:
        return form.show(store.record(int(record))) if record else form.blank(name)

    form.save.click(handler(save), [chosen, *form.typed], [*form.shown, form.saved], **_QUIET)
    form.reload.click(handler(reload), [chosen, form.record], form.shown, **_QUIET)
