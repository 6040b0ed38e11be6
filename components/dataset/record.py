"""One record open in a form that saves by itself. The page around it says which record, and what lies beside it.

What somebody writes is stored when a field loses the focus and after two seconds of rest (assets/record.js), and by
whatever opens something else. Answers to that reach no field: somebody may have gone on writing. Which record a text
belongs to is told by the name of the sitting, which comes and goes together with the text (studio/instructions/sittings).
"""

from __future__ import annotations

import html
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from components.dataset.shared import Shared
from components.dataset.words import category_words, heading, when
from components.frame import actions, card, handler, markup, notice, user_of
from components.theme import ASSETS
from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.instructions import CATEGORIES, neighbour
from studio.instructions.editing import remove
from studio.instructions.sittings import (
    MOST_LETTERS,
    Overtaken,
    Sent,
    Sittings,
    Written,
    duplicated,
    pair_of,
    turns_of,
)
from studio.prompts import changed_fields
from studio.store import RECORD_STATES, Dataset, Record

__all__ = ["RecordForm", "build_form"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_TEXTS = ("instruction", "context", "response")
_LETTERS_SHOWN = 5_000  # of each text of a record that is too long to be edited here
_CATEGORIES_AGE = 60.0  # seconds; counting a million records takes longer than opening one of them
_CATEGORIES_SHOWN = 200

# A record that was stored for the first time has a number from now on, if it is still the one in the form.
_ADOPT = """(kept, sitting) => {
  const told = kept ? JSON.parse(kept) : {};
  if (told.sitting !== sitting) return [];
  const there = { __type__: 'update', visible: true };
  const message = told.is_mended ? '' : undefined; // undefined leaves it as it is
  return [told.record, told.revision, told.heading, told.state, told.history, there, there, message];
}"""


@dataclass(frozen=True)
class RecordForm:
    """The form, and what the page around it does with it."""

    shared: Shared
    record: gr.Number
    revision: gr.Number
    saved: gr.Textbox  # changes when a record was stored ("7.3") or removed ("removed.7.x"): the table shows it anew
    back: gr.Button
    forth: gr.Button
    save: gr.Button
    fields: Mapping[str, Any]
    parts: Mapping[str, Any]  # outputs of `show`, by name; the last two are message and history
    sittings: Sittings
    _categories: dict[int, tuple[float, list[str]]] = field(default_factory=dict)

    @property
    def typed(self) -> list[Any]:
        """Inputs: the open record, its revision, and what is in the fields. `leave` takes their values."""
        return [*(self.parts[name] for name in _INPUTS), *self.fields.values()]

    @property
    def shown(self) -> list[Any]:
        """Outputs of `show` and `blank`."""
        return list(self.parts.values())

    def show(self, record: Record, message: str = "") -> list[Any]:
        """A record in the form."""
        is_cut = record.letters > MOST_LETTERS
        texts, turns = {name: getattr(record, name) for name in _TEXTS}, record.turns
        if is_cut:
            texts = {name: _cut(text) for name, text in texts.items()}
            turns = _cut_turns(turns) if turns else None
            message = message or notice(_too_long(record), "caution")
        return self.some(
            **self._opened(self.sittings.open(record), texts, turns, is_cut),
            **self._of_dataset(record.dataset_id, record.category, record.licence),
            record=record.id,
            revision=record.revision,
            heading=heading(f"Record {record.id}"),
            state=record.state,
            **_foot(True),
            message=message,
            history=self.history(record),
        )

    def blank(self, dataset: str, message: str = "") -> list[Any]:
        """An empty form, for a new record."""
        found = next((d for d in self.shared.workspace.store.datasets() if d.name == dataset), None)
        told = f"It becomes a record of {dataset} as soon as it has an instruction and a response."
        return self.some(
            **self._opened(self.sittings.open(None), dict.fromkeys(_TEXTS, ""), None, False),
            **self._of_dataset(found.id if found else 0, "", ""),
            record=None,
            revision=None,
            heading=heading("New record"),
            state="draft",
            **_foot(False),
            message=message,
            history=f'<p class="quiet">{html.escape(told)}</p>',
        )

    def leave(self, dataset: str, author: str, typed: Sequence[Any]) -> None:
        """Whoever opens something else calls this first. It stores what was written, and refuses to go if it cannot."""
        what = f"Record {int(typed[0])} has" if typed[0] else "The new record has"
        try:
            self.keep(dataset, author, typed)
        except Overtaken as error:
            theirs = error.theirs
            raise Conflict(
                f"{what} changes that are not saved: {theirs.author} changed it as well, at {when(theirs.updated_at)}. "
                "Press Save to see both versions, or Reload record to drop yours."
            ) from error
        except NotFound:
            raise
        except InputError as error:
            raise Conflict(f"{what} changes that are not saved. {error} Reload record drops what you wrote.") from error

    def keep(self, dataset: str, author: str, typed: Sequence[Any], over: int = 0) -> Written:
        """Store what was written, if it differs from what is stored. Raises InputError where it cannot be."""
        return self.sittings.keep(_sent(self.fields, typed), dataset, author=author, over=over)

    def history(self, record: Record) -> str:
        """HTML: which version it is, where the record came from, and what may be done with it."""
        own = self._dataset(record.dataset_id)
        by = f"Revision {record.revision}, by {record.author}, {when(record.updated_at)}."
        came = f"In {record.split}. Came from {record.source}." if record.source else f"In {record.split}."
        whose = f"<br>Licence: {html.escape(own.licence)}, as the dataset." if own and own.licence else ""
        return f'<p class="quiet">{html.escape(by)}<br>{html.escape(came)}{"" if record.licence else whose}</p>'

    def some(self, **changed: Any) -> list[Any]:
        """New values for some of what is shown; the rest stays."""
        return [changed.get(name, gr.skip()) for name in self.parts]

    def _opened(
        self, sitting: str, texts: Mapping[str, str], turns: Sequence[Mapping[str, str]] | None, is_cut: bool
    ) -> dict[str, Any]:
        """What every sitting begins with."""
        return {
            **{name: gr.Textbox(value=text, interactive=not is_cut) for name, text in texts.items()},
            **_editor(turns, is_cut),
            "sitting": sitting,
            "saving": {"sitting": sitting, "is_opened": True, "words": "", "tone": ""},
            **_NO_OTHER,
        }

    def _of_dataset(self, dataset_id: int, category: str, licence: str) -> dict[str, Any]:
        """The fields that know the dataset: its own categories, and its licence where a record has none."""
        own = self._dataset(dataset_id)
        known = dict.fromkeys([*CATEGORIES, *(self._own_categories(own) if own else ()), category])
        choices = [("No category", ""), *((category_words(name), name) for name in known if name)]
        return {
            "category": gr.Dropdown(choices=choices, value=category),
            "licence": licence,
        }

    def _dataset(self, dataset_id: int) -> Dataset | None:
        return next((d for d in self.shared.workspace.store.datasets() if d.id == dataset_id), None)

    def _own_categories(self, dataset: Dataset) -> list[str]:
        at, found = self._categories.get(dataset.id, (0.0, []))
        if not at or time.monotonic() - at > _CATEGORIES_AGE:
            found = list(self.shared.workspace.store.categories(dataset.id))[:_CATEGORIES_SHOWN]
            self._categories[dataset.id] = (time.monotonic(), found)
        return found


_INPUTS = ("record", "revision", "sitting", "saving", "kept", "turns")


def build_form(shared: Shared) -> RecordForm:
    """Lay out the form and wire what it does by itself."""
    with card(scale=0, min_width=344, elem_classes=["record"]):
        with gr.Row(elem_classes=["record-head"]):
            title = markup()
            back = gr.Button("Previous", size="sm", min_width=0, scale=0, elem_id="record-back")
            forth = gr.Button("Next", size="sm", min_width=0, scale=0, elem_id="record-forth")
        with gr.Row(elem_classes=["record-state"]):
            state = gr.Radio(
                [(name.capitalize(), name) for name in RECORD_STATES],
                value="draft",
                label="Review state",
                show_label=False,
                container=False,
                elem_id="record-state",
            )
            saving = _script("Saving", "record.js")
        with gr.Column(elem_classes=["record-text"]) as pair:
            instruction = gr.Textbox(label="Instruction", lines=2, max_lines=6)
            context = gr.Textbox(label="Context", lines=2, max_lines=8, placeholder="The text it is about, if any")
            response = gr.Textbox(label="Response", lines=5, max_lines=12)
        with gr.Column(visible=False, elem_classes=["record-text"]) as talk:
            turns = _script("Turns of the record", "turns.js")
        with gr.Row(elem_classes=["record-more"]):
            category = gr.Dropdown(
                [("No category", ""), *((category_words(c), c) for c in CATEGORIES)],
                value="",
                label="Category",
                min_width=120,
                allow_custom_value=True,  # imported records may have others
            )
            licence = gr.Textbox(label="Licence", placeholder="As the dataset", lines=1, max_lines=1, min_width=120)
        message = markup()
        with gr.Column(visible=False, elem_classes=["overtaken"]) as overtaken:
            both = markup()
            with actions():
                take_theirs = gr.Button("Take theirs", size="sm", min_width=0, scale=0)
                save_mine = gr.Button("Save mine over it", size="sm", min_width=0, scale=0)
        with actions():
            save = gr.Button("Save", variant="primary", min_width=0, scale=0, elem_id="record-save")
            reload = gr.Button("Reload record", min_width=0, scale=0)
        history = markup()
        with gr.Row(elem_classes=["record-foot"]):
            to_turns = gr.Button("Make it a conversation", size="sm", min_width=0, scale=0)
            to_pair = gr.Button("Make it one question and answer", size="sm", min_width=0, scale=0, visible=False)
            copy = gr.Button("Duplicate", size="sm", min_width=0, scale=0, visible=False)
            away = gr.Button("Remove", size="sm", min_width=0, scale=0, visible=False)
    with gr.Row(elem_classes=["off-screen"]):
        record = gr.Number(None, label="Record", precision=0, visible="hidden")
        revision = gr.Number(None, label="Revision", precision=0, visible="hidden")
        saved, sitting, kept, theirs = (
            gr.Textbox("", label=label, visible="hidden")
            for label in ("Record saved", "Sitting", "What was stored last", "The other version")
        )
    fields = {
        "instruction": instruction,
        "context": context,
        "response": response,
        "category": category,
        "licence": licence,
        "state": state,
    }
    parts = {
        "record": record, "revision": revision, "sitting": sitting, "saving": saving, "kept": kept, "heading": title,
        "pair": pair, "talk": talk, "turns": turns, **fields, "overtaken": overtaken, "both": both, "theirs": theirs,
        "to_turns": to_turns, "to_pair": to_pair, "copy": copy, "away": away, "message": message, "history": history,
    }  # fmt: skip
    store = shared.workspace.store
    form = RecordForm(shared, record, revision, saved, back, forth, save, fields, parts, Sittings(store))
    _wire(form, _Buttons(reload, take_theirs, save_mine, to_turns, to_pair, copy, away))
    return form


@dataclass(frozen=True)
class _Buttons:
    reload: gr.Button
    take_theirs: gr.Button
    save_mine: gr.Button
    to_turns: gr.Button
    to_pair: gr.Button
    copy: gr.Button
    remove: gr.Button


def _wire(form: RecordForm, buttons: _Buttons) -> None:
    chosen, parts = form.shared.chosen, form.parts
    acts = _Acts(form)
    everything = [*form.shown, form.saved]
    form.save.click(handler(acts.save), [chosen, *form.typed], everything, api_name="save", **_QUIET)
    # Each one at a time, and the last with the newest text: Gradio reads the fields when it starts the one that waited.
    keeping = {
        "form_keep": parts["saving"].keep,
        "form_category": parts["category"].input,
        "form_state": parts["state"].input,
    }
    for api_name, event in keeping.items():
        event(
            handler(acts.keep),
            [chosen, *form.typed],
            [*(parts[name] for name in _KEPT), form.saved],
            trigger_mode="always_last",
            api_name=api_name,
            **_QUIET,
        )
    adopted = [parts[name] for name in ("record", "revision", "heading", "state", "history", "copy", "away", "message")]
    parts["kept"].change(
        None, [parts["kept"], parts["sitting"]], adopted, js=_ADOPT, trigger_mode="multiple", api_visibility="private"
    )
    buttons.reload.click(handler(acts.reload), [chosen, form.record], form.shown, api_name="reload", **_QUIET)
    buttons.take_theirs.click(handler(acts.reload), [chosen, form.record], form.shown, api_name="form_theirs", **_QUIET)
    buttons.save_mine.click(
        handler(acts.save_mine), [chosen, parts["theirs"], *form.typed], everything, api_name="form_mine", **_QUIET
    )
    views = [parts[name] for name in (*_TEXTS, "pair", "talk", "turns", "to_turns", "to_pair")]
    buttons.to_turns.click(handler(acts.to_turns), form.typed, views, api_name="form_to_turns", **_QUIET)
    buttons.to_pair.click(handler(acts.to_pair), form.typed, views, api_name="form_to_pair", **_QUIET)
    buttons.copy.click(handler(acts.duplicate), [chosen, *form.typed], everything, api_name="form_duplicate", **_QUIET)
    buttons.remove.click(handler(acts.remove), [chosen, form.record], everything, api_name="form_remove", **_QUIET)


_KEPT = ("saving", "kept", "overtaken", "both", "theirs")  # what saving by itself may write to: never a field


class _Acts:
    """What the buttons of the form do, and the script that saves."""

    def __init__(self, form: RecordForm) -> None:
        self.form, self.store = form, form.shared.workspace.store

    def save(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        """Store what is in the form. What speaks against it is said beside the button, and the text stays."""
        form = self.form
        try:
            written = form.keep(name, user_of(request), typed)
        except InputError as error:
            return self._refused(typed, error)
        stored = written.record
        if stored is None:
            nothing = "There is nothing to save yet. Write an instruction and a response."
            gone = f"Record {int(typed[0])} was removed meanwhile." if typed[0] else nothing
            return self._refused(typed, InputError(gone))
        said = notice(f"Record {stored.id} was added to {name}.", "good") if written.is_new else ""
        first = {"record": stored.id, "heading": heading(f"Record {stored.id}"), **_foot(True)}
        shown = form.some(
            **(first if typed[0] is None else {}),
            **_NO_OTHER,
            revision=stored.revision,
            saving=_saved(typed, stored),
            kept=self._told(typed, stored),
            message=said,
            history=form.history(stored),
        )
        return [*shown, _key(stored)]

    def keep(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        """The same without anybody having asked, so it speaks softly. It does not raise."""
        try:
            stored = self.form.keep(name, user_of(request), typed).record
        except StudioError as error:
            told = _unsaved(typed, error)
            return [*(told.get(part, gr.skip()) for part in _KEPT), gr.skip()]
        if stored is None:
            return [_says(typed, ""), *[gr.skip()] * len(_KEPT)]
        told = {
            "saving": _saved(typed, stored),
            "kept": self._told(typed, stored, is_mended=stored.letters <= MOST_LETTERS),
        }
        return [*(told.get(part, gr.skip()) for part in _KEPT), _key(stored)]

    def save_mine(self, request: gr.Request, name: str, theirs: str, *typed: Any) -> list[Any]:
        """Over the version that the person has seen beside theirs; over a newer one only when they have seen that."""
        form = self.form
        seen, _, revision = theirs.partition(".")
        over = int(revision) if seen == str(int(typed[0] or 0)) else 0
        try:
            stored = form.keep(name, user_of(request), typed, over).record
        except InputError as error:
            return self._refused(typed, error)
        if stored is None:
            return [*form.blank(name), gr.skip()]
        said = "Your version is saved. The history of the record keeps both."
        return [*form.show(stored, notice(said, "good")), _key(stored)]

    def reload(self, name: str, record: float | None) -> list[Any]:
        found = self.store.some_records([int(record)]) if record else []
        if found:
            return self.form.show(found[0])
        gone = notice(f"Record {int(record)} was removed. Undo brings it back if you removed it.") if record else ""
        return self.form.blank(name, gone)

    def to_turns(self, *typed: Any) -> list[Any]:
        """As a conversation; it is stored as one as soon as it has more than one question and one answer."""
        turns = turns_of(_sent(self.form.fields, typed).fields)
        return [*[gr.skip()] * len(_TEXTS), *_editor(turns).values()]

    def to_pair(self, *typed: Any) -> list[Any]:
        texts = pair_of(_sent(self.form.fields, typed).fields["turns"] or [])
        return [*texts.values(), *_editor(None).values()]

    def duplicate(self, request: gr.Request, name: str, *typed: Any) -> list[Any]:
        """A copy with what is written now, open in the form."""
        self.form.leave(name, user_of(request), typed)
        record = self.store.record(int(typed[0] or 0))
        copy = duplicated(self.store, record, author=user_of(request))
        said = f"Record {copy.id} is a copy of record {record.id}, as a draft."
        return [*self.form.show(copy, notice(said, "good")), _key(copy)]

    def remove(self, request: gr.Request, name: str, record_id: float | None) -> list[Any]:
        """Take the record out and go on to the one after it."""
        record = self.store.record(int(record_id or 0))
        following = self._after(record)
        remove(self.store, self.store.dataset(name), [record], author=user_of(request))
        said = notice(f"Record {record.id} is removed. Undo brings it back.", "good")
        shown = self.form.show(following, said) if following else self.form.blank(name, said)
        return [*shown, f"removed.{record.id}.{secrets.token_hex(4)}"]

    def _told(self, typed: Sequence[Any], stored: Record, *, is_mended: bool = False) -> str:
        """For `_ADOPT`; `is_mended` when what was said against an earlier text no longer holds."""
        told = {
            "sitting": typed[2],
            "record": stored.id,
            "revision": stored.revision,
            "heading": heading(f"Record {stored.id}"),
            "state": stored.state,
            "history": self.form.history(stored),
            "is_mended": is_mended,
        }
        return json.dumps(told)

    def _refused(self, typed: Sequence[Any], error: InputError) -> list[Any]:
        return [*self.form.some(**_unsaved(typed, error), message=notice(str(error), "caution")), gr.skip()]

    def _after(self, record: Record) -> Record | None:
        for step in (1, -1):
            try:
                return neighbour(self.store, None, record.id, step)[1]
            except NotFound:
                continue
        return None


# -- what comes in -------------------------------------------------------------------------------------------


def _sent(fields: Mapping[str, Any], typed: Sequence[Any]) -> Sent:
    """The values of `RecordForm.typed`. They come from a browser, so they are looked at."""
    _record, _revision, sitting, saving, kept, turns, *values = typed
    told: dict[str, Any] = json.loads(kept) if kept else {}
    is_seen = bool(sitting) and told.get("sitting") == sitting
    stroke = saving.get("stroke") if isinstance(saving, dict) else None
    return Sent(
        str(sitting or ""),
        {**dict(zip(fields, values, strict=True)), "turns": _turns(turns)},
        int(stroke) if stroke is not None else None,
        (int(told["record"]), int(told["revision"])) if is_seen else None,
    )


def _turns(value: Any) -> list[dict[str, str]] | None:
    """None while the form shows a question and its answer."""
    if not isinstance(value, dict) or not isinstance(value.get("turns"), list):
        return None
    return [{"role": str(turn.get("role")), "content": str(turn.get("content") or "")} for turn in value["turns"]]


# -- what goes out -------------------------------------------------------------------------------------------


def _script(label: str, name: str) -> gr.HTML:
    """A part of the form that a script makes: what people wrote is never HTML in it."""
    return gr.HTML(
        None,
        label=label,
        html_template="",
        js_on_load=(ASSETS / name).read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id=name.replace(".js", "-script"),
    )


def _editor(turns: Sequence[Mapping[str, str]] | None, is_cut: bool = False) -> dict[str, Any]:
    """Which of the two editors is there, the turns in it, and the way to the other one."""
    return {
        "pair": gr.Column(visible=not turns),
        "talk": gr.Column(visible=bool(turns)),
        "turns": {"turns": [dict(turn) for turn in turns], "is_cut": is_cut} if turns else None,
        "to_turns": gr.Button(visible=not turns and not is_cut),
        "to_pair": gr.Button(visible=bool(turns) and not is_cut),
    }


def _foot(is_stored: bool) -> dict[str, Any]:
    """What can only be done with a record that is there."""
    return {name: gr.Button(visible=is_stored) for name in ("copy", "away")}


def _saved(typed: Sequence[Any], stored: Record) -> dict[str, Any]:
    return _says(typed, f"Saved {when(stored.updated_at)}", "good")


def _says(typed: Sequence[Any], words: str, tone: str = "") -> dict[str, Any]:
    """The line beside the state. It answers one stroke of a sitting: the script shows it if none was begun since."""
    stroke = typed[3].get("stroke") if isinstance(typed[3], dict) else None
    return {"sitting": typed[2], "answers": stroke, "words": words, "tone": tone}


def _unsaved(typed: Sequence[Any], error: StudioError) -> dict[str, Any]:
    """The line that says why what was written is not stored, and both versions where there are two."""
    if isinstance(error, Overtaken):
        words = f"{error.theirs.author} changed it at {when(error.theirs.updated_at)}"
        return {"saving": _says(typed, f"Not saved: {words}", "caution"), **_both(error)}
    first = str(error).partition(". ")[0].removesuffix(".")
    return {"saving": _says(typed, f"Not saved: {first[:1].lower()}{first[1:]}", "caution")}


def _key(stored: Record) -> str:
    return f"{stored.id}.{stored.revision}"


def _both(error: Overtaken) -> dict[str, Any]:
    """Their version, with what is different in the one that was written here marked in it."""
    theirs = error.theirs
    told = changed_fields(_readable(vars(theirs)), _readable(error.mine))
    tags = {"same": "span", "added": "ins", "removed": "del"}
    parts = "".join(
        f'<dt>{html.escape(name.capitalize())}</dt><dd class="diff" dir="auto" tabindex="0">'
        + "".join(f"<{tags[p.kind]}>{html.escape(p.text)}</{tags[p.kind]}>" for p in pieces)
        + "</dd>"
        for name, pieces in told.items()
    )
    who = html.escape(f"{theirs.author} changed this record at {when(theirs.updated_at)}, while you were writing.")
    legend = 'Only in theirs: <del class="diff">struck out</del>. Only in yours: <ins class="diff">underlined</ins>.'
    return {
        "overtaken": gr.Column(visible=True),
        "both": f'<div class="versions" role="group" aria-label="Both versions"><p><strong>{who}</strong></p>'
        f'<p class="quiet">{legend}</p><dl>{parts}</dl></div>',
        "theirs": _key(theirs),
    }


_NO_OTHER: dict[str, Any] = {"overtaken": gr.update(visible=False), "both": "", "theirs": ""}


def _readable(values: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a version by name; the texts of a conversation as who says what."""
    names = ("category", "licence", "state")
    if turns := values.get("turns"):
        texts = {"conversation": "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)}
    else:
        texts = {name: str(values.get(name) or "") for name in _TEXTS}
    return {**texts, **{name: str(values.get(name) or "") for name in names}}


def _too_long(record: Record) -> str:
    return (
        f"This record has {record.letters:,} characters, and the form takes {MOST_LETTERS:,}. You see the beginning of its "
        "texts, and cannot change them here: export the dataset, change the file, and import it."
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS_SHOWN else f"{text[:_LETTERS_SHOWN]}…"


def _cut_turns(turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The first turns, each cut, until there is enough to see."""
    shown: list[dict[str, str]] = []
    for turn in turns:
        shown.append({**turn, "content": _cut(turn["content"])})
        if sum(len(each["content"]) for each in shown) > 4 * _LETTERS_SHOWN:
            break
    return shown
