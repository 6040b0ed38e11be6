"""What lies under the open record: what a model will learn from it, what checks found, comments, and its history.

Each part is read when it is open, and again when another record is opened or this one was stored. Everything that
could move a part writes a new value into one of two boxes, `look` and `look_learn`; each has one listener that takes
its turns and reads the record that is open at that moment. So an answer never lands beside another record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.dataset.beside_parts import (
    comments_html,
    conversation_html,
    finds_html,
    framed,
    history_html,
    learned_html,
)
from components.dataset.record import RecordForm
from components.dataset.shared import Shared, to_show
from components.frame import actions, fresh_choices, handler, live_dropdown, markup, notice, untouched, user_of
from components.picking import picked
from studio.errors import Conflict, InputError, StudioError
from studio.instructions.checking import mend
from studio.instructions.learning import (
    Find,
    Lesson,
    can_learn,
    comment,
    finds_of,
    lesson,
    origin,
    restore,
    versions_of,
)
from studio.models import EMBEDDED
from studio.recipes.lora import Lora
from studio.specs import ModelRef
from studio.store import Record, RecordFilter
from studio.workspace import Workspace

__all__ = ["build_beside"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# A listener of a box that others listen to as well, or that only says "look": never one that waits for its turn.
_AT_ONCE: dict[str, Any] = {**_QUIET, "queue": False, "trigger_mode": "multiple"}
_REMEMBERED = "what a record teaches"  # the person's draft that holds model and longest record
_LONGEST = int(Lora.model_fields["max_length"].default)
_VERSIONS = 10  # that are shown at first, and more at each press

_FOUND, _COMMENTS = "What checks found", "Comments"
_NO_RECORD = '<p class="quiet">Save the new record first.</p>'
_ASKING = '<p class="quiet">The model\'s tokenizer is asked. The first time this takes some seconds.</p>'

# Buttons in our own HTML: a press gives the key of the button.
_PRESS = """
element.addEventListener('click', (event) => {
  const pressed = event.target.closest('button[data-key]');
  if (pressed && !pressed.disabled) trigger('pick', { key: pressed.dataset.key });
});
"""
# Ctrl+Enter in the comment's box. Captured, and on the page, since the box is no child of this element.
_SEND = """
const send = (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.repeat || event.isComposing) return;
  if (!event.target.closest?.('#comment-text')) return;
  event.preventDefault();
  event.stopPropagation();
  document.querySelector('#comment-send')?.click();
};
window.__commentOff?.();
document.addEventListener('keydown', send, true);
window.__commentOff = () => document.removeEventListener('keydown', send, true);
"""
# Until the tokens of the record that was just opened are there, those of the one before are paled.
_PALE = """(record) => {
  for (const it of document.querySelectorAll('.lesson[data-record]'))
    it.toggleAttribute('data-stale', it.dataset.record !== String(record ?? ''));
}"""


@dataclass(frozen=True)
class _Fold:
    """An accordion, and a hidden box that says whether it is open."""

    name: str
    title: str
    box: gr.Accordion
    is_open: gr.Textbox


def build_beside(shared: Shared, form: RecordForm) -> None:
    """Lay out and wire what lies under the open record."""
    with gr.Column(elem_classes=["beside"]):
        beside = _Beside(shared, form)
    _wire(beside)


class _Beside:
    """The widgets, and what their handlers do."""

    def __init__(self, shared: Shared, form: RecordForm) -> None:
        self.shared, self.form = shared, form
        self.workspace: Workspace = shared.workspace
        self.store = shared.workspace.store
        with gr.Accordion("What the model will learn", open=False) as learn:
            with gr.Row(elem_classes=["form-row", "learner"]):
                self.model = live_dropdown([], value=None, label="Model that learns", min_width=0, scale=1)
                self.longest = gr.Number(
                    _LONGEST, label="Longest record", precision=0, minimum=1, min_width=0, scale=0,
                    elem_classes=["longest"],
                )  # fmt: skip
            self.taught = markup(_ASKING, label="What is learned")
        with gr.Accordion(_FOUND, open=False) as found:
            self.finds = _pressable("What was found")
        with gr.Accordion(_COMMENTS, open=False) as comments:
            self.comments = gr.HTML(
                "", label="Comments on the record", js_on_load=_SEND, apply_default_css=False, padding=False
            )
            self.text = gr.Textbox(
                "", label="Comment", show_label=False, lines=2, max_lines=8, container=False,
                placeholder="What should whoever opens it know?", elem_id="comment-text",
            )  # fmt: skip
            with actions():
                self.send = gr.Button("Comment", size="sm", min_width=0, scale=0, elem_id="comment-send")
                markup('<span class="quiet">Ctrl+Enter</span>')
        with gr.Accordion("History", open=False) as history:
            self.versions = _pressable("Versions of the record")
        titles = {"learn": "What the model will learn", "found": _FOUND, "comments": _COMMENTS, "history": "History"}
        boxes = {"learn": learn, "found": found, "comments": comments, "history": history}
        with gr.Row(elem_classes=["off-screen"]):
            self.folds = {
                name: _Fold(name, title, boxes[name], gr.Textbox("", label=f"{title} is open", visible="hidden"))
                for name, title in titles.items()
            }
            self.look = gr.Textbox("", label="Look beside the record", visible="hidden")
            self.look_learn = gr.Textbox("", label="Look what is learned", visible="hidden")
            self.many = gr.Number(_VERSIONS, label="Versions shown", precision=0, visible="hidden")

    # -- reading -----------------------------------------------------------------------------------------------------

    def learned(self, is_open: str, record_id: float | None, model: str | None, longest: float | None) -> Any:
        """The record as the model learns it. What speaks against it is said in its place."""
        if not is_open:
            return gr.skip()
        if not record_id:
            return _NO_RECORD
        record: Record | None = None
        try:
            record = self.store.record(int(record_id))
            return learned_html(record, self._lesson(record, ModelRef(model or str(EMBEDDED)), int(longest or 0)))
        except StudioError as error:
            return framed(int(record_id), notice(str(error), "caution") + (conversation_html(record) if record else ""))

    def _lesson(self, record: Record, ref: ModelRef, longest: int) -> Lesson:
        if can_learn(ref):
            self.workspace.weights(ref, wait=False)
        return asyncio.run(lesson(record, self.workspace.backend(ref), longest))

    @property
    def look_inputs(self) -> list[Any]:
        opened = [self.folds[name].is_open for name in ("found", "comments", "history")]
        return [*opened, self.form.record, self.many]

    @property
    def look_outputs(self) -> list[Any]:
        return [
            self.folds["found"].box,
            self.finds,
            self.folds["comments"].box,
            self.comments,
            self.versions,
        ]

    def read(self, found: str, comments: str, history: str, record_id: float | None, many: float | None) -> list[Any]:
        """The parts that come from rows. Those that are closed only say on their line how much is in them."""
        if not record_id:
            return [gr.Accordion(label=_FOUND), _NO_RECORD, gr.Accordion(label=_COMMENTS), _NO_RECORD, _NO_RECORD]
        try:
            record = self.store.record(int(record_id))
            finds, said = finds_of(self.store, record), self.store.comments(record.id)
            return [
                gr.Accordion(label=_counted(_FOUND, len(finds))),
                self._finds(record, finds) if found else gr.skip(),
                gr.Accordion(label=_counted(_COMMENTS, len(said))),
                comments_html(said) if comments else gr.skip(),
                self._history(record, int(many or _VERSIONS)) if history else gr.skip(),
            ]
        except StudioError as error:
            told = notice(str(error), "caution")
            return [gr.Accordion(label=_FOUND), told, gr.Accordion(label=_COMMENTS), told, told]

    def _finds(self, record: Record, finds: Sequence[Find]) -> str:
        if finds:
            return finds_html(record, finds)
        if self.store.check_runs(record.dataset_id):
            return '<p class="quiet">The checks that have run found nothing here.</p>'
        return '<p class="quiet">No check has run over this dataset yet. Run them on the page Checks.</p>'

    def _history(self, record: Record, many: int) -> str:
        return history_html(versions_of(self.store, record), record, origin(self.store, record), many, _VERSIONS)

    # -- opening and moving --------------------------------------------------------------------------------------------

    def open_learn(self, model: str | None, request: gr.Request) -> list[Any]:
        """Models are listed and what the person chose last is brought back when the part is opened."""
        try:
            offers = [(offer.label, str(offer.ref)) for offer in self.workspace.offers() if can_learn(offer.ref)]
            kept = self.store.draft(user_of(request), _REMEMBERED)
        except StudioError:
            return ["1", gr.skip(), gr.skip(), _now()]
        known = [ref for _, ref in offers]
        wanted = next((ref for ref in (kept.get("model"), str(EMBEDDED)) if ref in known), None)
        chosen = fresh_choices(offers, model, wanted)
        return ["1", chosen, int(kept.get("longest") or _LONGEST), _now()]

    def choose(self, model: str | None, longest: float | None, request: gr.Request) -> str:
        """Another model or another bound: kept for this person's next visit."""
        try:
            kept = {"model": model or "", "longest": int(longest or 0)}
            self.store.save_draft(user_of(request), _REMEMBERED, kept)
        except StudioError:
            pass  # remembering is a convenience; what is looked at does not depend on it
        return _now()

    # -- what a person does --------------------------------------------------------------------------------------------

    @property
    def done(self) -> list[Any]:
        """Outputs of a press that changed the record, or asked for others."""
        return [*self.form.shown, self.form.saved, self.shared.said, self.shared.show, self.many, self.look]

    def press_find(self, event: gr.EventData, request: gr.Request, dataset: str, *typed: Any) -> list[Any]:
        """Apply one remedy to the open record, or have a record shown that it was compared with."""
        do, *told = picked(event).split(" ")
        if do == "show" and told and told[0].isdecimal():
            return self._done(show=to_show(RecordFilter(ids=(int(typed[0] or 0), int(told[0])))))
        if do != "mend" or len(told) != 2:
            raise InputError("This button says of no remedy which one is meant. Reload the page.")
        self.form.leave(dataset, user_of(request), typed)
        record = self.store.record(int(typed[0] or 0))
        edit = mend(self.store, self.store.dataset(dataset), *told, author=user_of(request), record_ids=[record.id])
        return self._changed(dataset, record.id, f"{edit.title}. Undo takes it back.")

    def press_version(
        self, event: gr.EventData, request: gr.Request, dataset: str, many: float | None, *typed: Any
    ) -> list[Any]:
        """Restore a version, or show more of them."""
        do, *told = picked(event).split(" ")
        if do == "more":
            return self._done(many=int(many or _VERSIONS) + _VERSIONS)
        if do != "restore" or len(told) != 2 or not all(number.isdecimal() for number in told):
            raise InputError("This button says of no version which one is meant. Reload the page.")
        number, seen = map(int, told)
        record_id = int(typed[0] or 0)
        record = self.store.record(record_id)
        if record.revision == seen:  # what is still being written becomes a version too, and is no stranger's change
            self.form.leave(dataset, user_of(request), typed)
            seen = self.store.record(record_id).revision
        restore(self.store, record_id, number, seen=seen, author=user_of(request))
        return self._changed(dataset, record_id, f"Version {number} is the newest again. Undo takes it back.")

    def say(self, request: gr.Request, record_id: float | None, text: str) -> list[Any]:
        if not record_id:
            raise Conflict("A new record has no comments yet. Save it first.")
        comment(self.store, int(record_id), text, author=user_of(request))
        return ["", _now()]

    def _changed(self, dataset: str, record_id: int, words: str) -> list[Any]:
        """The record as it is now in the form, or an empty form when it is gone."""
        there = self.store.some_records([record_id])
        if there:
            shown = self.form.show(there[0], notice(words, "good"))
            return self._done(shown=shown, saved=f"{record_id}.{there[0].revision}")
        blank = self.form.blank(dataset)
        return self._done(shown=blank, saved=f"removed.{record_id}.{time.monotonic_ns()}", said=notice(words, "good"))

    def _done(
        self,
        shown: Sequence[Any] | None = None,
        saved: Any = None,
        said: Any = None,
        show: Any = None,
        many: int | None = None,
    ) -> list[Any]:
        rest = [gr.skip() if value is None else value for value in (saved, said, show, many)]
        return [*(shown or untouched(self.form.shown)), *rest, _now()]


def _wire(beside: _Beside) -> None:
    form, folds = beside.form, beside.folds
    both = [beside.look, beside.look_learn]
    for name, box in (("record", form.record), ("revision", form.revision), ("saved", form.saved)):
        box.change(handler(lambda: [_now(), _now()]), None, both, api_name=f"beside_{name}_moved", **_AT_ONCE)
    form.record.change(handler(lambda: _VERSIONS), None, beside.many, api_name="beside_first_versions", **_AT_ONCE)
    beside.look.change(
        handler(beside.read), beside.look_inputs, beside.look_outputs, api_name="beside_read", queue=False,
        trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    beside.look_learn.change(
        handler(beside.learned),
        [folds["learn"].is_open, form.record, beside.model, beside.longest],
        beside.taught,
        api_name="beside_learned",
        trigger_mode="always_last",
        concurrency_limit=8,  # the engine's tokenizer waits for nobody
        **_QUIET,
    )
    beside.look_learn.change(None, form.record, None, js=_PALE, trigger_mode="multiple", api_visibility="private")
    folds["learn"].box.expand(
        handler(beside.open_learn),
        beside.model,
        [folds["learn"].is_open, beside.model, beside.longest, beside.look_learn],
        api_name="beside_open_learn",
        **_AT_ONCE,
    )
    for fold in folds.values():
        if fold.name != "learn":
            fold.box.expand(
                handler(lambda: ["1", _now()]),
                None,
                [fold.is_open, beside.look],
                api_name=f"beside_open_{fold.name}",
                **_AT_ONCE,
            )
        fold.box.collapse(handler(lambda: ""), None, fold.is_open, api_name=f"beside_close_{fold.name}", **_AT_ONCE)
    gr.on(
        [beside.model.input, beside.longest.input],
        handler(beside.choose),
        [beside.model, beside.longest],
        beside.look_learn,
        api_name="beside_choose",
        **_AT_ONCE,
    )
    asked = [beside.shared.chosen, *form.typed]
    beside.finds.pick(handler(beside.press_find), asked, beside.done, api_name="beside_mend", **_QUIET)
    beside.versions.pick(
        handler(beside.press_version),
        [beside.shared.chosen, beside.many, *form.typed],
        beside.done,
        api_name="beside_restore",
        **_QUIET,
    )
    gr.on(
        [beside.send.click, beside.text.submit],
        handler(beside.say),
        [form.record, beside.text],
        [beside.text, beside.look],
        api_name="beside_comment",
        **_QUIET,
    )


def _counted(title: str, n: int) -> str:
    return f"{title} ({n:,})" if n else title


def _pressable(label: str) -> gr.HTML:
    """HTML with buttons: listen to `.pick`, read the key of the button with `picked`."""
    return gr.HTML("", label=label, js_on_load=_PRESS, apply_default_css=False, padding=False)


def _now() -> str:
    """A value that was never there before."""
    return str(time.monotonic_ns())
