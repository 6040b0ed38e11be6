"""Examples: the worked examples that prompts show, in banks; their order, which are on, and which a question gets.

The list itself is assets/examples.js: it shows at once what a person does to a row and tells the studio. Nothing is kept
in the page but ids, the time of the words in the form, and a token of the list that was painted.
"""

from __future__ import annotations

import asyncio
import html
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from gradio.events import api

from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    ask_twice,
    card,
    chip,
    empty_state,
    fresh_choices,
    handler,
    live_dropdown,
    markup,
    notice,
    progress,
    section,
    untouched,
    user_of,
)
from components.picking import picked, rows_to_read
from components.playground.choosing import SelectorForm
from components.theme import ASSETS
from studio.errors import Conflict, InputError, StudioError
from studio.example import SNAPSHOT, load_example
from studio.instructions import CATEGORIES
from studio.models import EMBEDDED
from studio.prompts.bank import (
    Filled,
    Leak,
    Pool,
    add_example,
    edit_example,
    fill_bank,
    held_out,
    leaks,
    pool_of,
)
from studio.prompts.memory import Memory
from studio.prompts.selectors import Query, Selection, Selector, choose_with, selector, vectors_of
from studio.specs import ModelRef
from studio.store import EXAMPLE_FIELDS, Example
from studio.workspace import Workspace

__all__ = ["ExamplesWidgets", "build"]

log = logging.getLogger(__name__)

_FIRST_BANK = "House style"
_CELL_LETTERS = 160
_REFUSED_SHOWN = 100
_NEWS_SECONDS = 0.4


@dataclass(frozen=True, kw_only=True)
class ExamplesWidgets(TabWidgets):
    """`bank` holds the name of the open bank."""

    bank: gr.Textbox


@dataclass(frozen=True)
class _View:
    """A bank as the list shows it: all examples, those that the search leaves with their place from 1, and leaks."""

    bank: str
    text: str
    examples: Sequence[Example]
    shown: Sequence[tuple[int, Example]]
    leaks: Mapping[int, Leak]

    @property
    def token(self) -> str:
        """Changes whenever the list or what is said of it does."""
        rows = hash(tuple((e.id, e.position, e.is_on, e.is_locked, e.updated_at) for e in self.examples))
        return f"{rows} {sorted(self.leaks)} {self.text!r} in {self.bank}"


def build(workspace: Workspace) -> ExamplesWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_bank(page)
    _wire_list(page)
    _wire_form(page)
    page.ask.click(handler(page.try_question), page.asked_of, page.choice, api_name="try_question", **_QUIET)
    page.question.submit(handler(page.try_question), page.asked_of, page.choice, api_name="ask_question", **_QUIET)
    _serve(workspace, page.memory)
    return ExamplesWidgets(
        refresh=Refresh(page.look, page.look_inputs, page.look_outputs),
        links={"bank": page.asked},
        bank=page.opened,
    )


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        self.memory = Memory()
        with gr.Row(elem_classes=["off-screen"]):
            self.opened, self.example, self.seen, self.painted, self.offered, self.asked = (
                gr.Textbox("", label=label, visible="hidden")
                for label in ("Open bank", "Example", "Words seen", "List painted", "Banks offered", "Bank asked for")
            )
        self._lay_out_bar()
        self.said = markup(label="What happened", elem_classes=["said-here"])
        with gr.Row(elem_classes=["leaks"]):
            self.leaks = markup(label="Examples that are held out")
            self.unleak = gr.Button("Remove them", visible=False, min_width=0, scale=0, elem_id="remove-held-out")
        with gr.Row(elem_classes=["columns", "bank-columns"]):
            self._lay_out_list()
            self._lay_out_form()
        self._lay_out_try()

    def _lay_out_bar(self) -> None:
        with gr.Row(elem_classes=["bank-bar"]):
            self.bank = live_dropdown(
                [],
                label="Bank",
                info="Choose one, or write a new name.",
                allow_custom_value=True,
                min_width=220,
                scale=0,
                elem_id="bank",
            )
            self.about = markup(label="How many examples")
            self.snapshot = live_dropdown(
                [], label="Fill from", info="Training rows of a snapshot.", min_width=220, scale=0, elem_id="fill-from"
            )
            self.fill = gr.Button("Fill", min_width=72, scale=0, elem_id="fill-bank")
            self.add = gr.Button("Write an example", variant="primary", min_width=140, scale=0, elem_id="write-example")

    def _lay_out_list(self) -> None:
        with gr.Column(scale=1, min_width=320, elem_classes=["sheet"]):
            self.empty = empty_state(
                "This bank has no examples yet. Fill it from a snapshot, or write one.",
                "Fill it from the snapshot",
                "Try it with the example",
                visible=False,
            )
            with gr.Column(visible=False) as self.sheet:
                self.search = gr.Textbox(
                    "",
                    label="Search the examples",
                    show_label=False,
                    placeholder="Search the examples",
                    max_lines=1,
                    container=False,
                    elem_classes=["bank-search"],
                )
                self.rows = gr.HTML(
                    None,
                    label="Examples",
                    html_template="",  # its parts are made by the script: what people wrote is never HTML
                    js_on_load=(ASSETS / "examples.js").read_text(encoding="utf-8"),
                    apply_default_css=False,
                    padding=False,
                    elem_id="examples",
                )
                with gr.Row(elem_classes=["pager", "bank-foot"]):
                    markup(_KEYS)
                    self.all_on = gr.Button("All on", size="sm", min_width=0, scale=0)
                    self.all_off = gr.Button("All off", size="sm", min_width=0, scale=0)
                with gr.Accordion("Rename or remove this bank", open=False, elem_classes=["more"]):
                    with gr.Row(elem_classes=["form-row"], equal_height=True):
                        self.new_name = gr.Textbox("", label="New name", max_lines=1, min_width=200)
                    with actions():
                        self.rename = gr.Button("Rename", min_width=0, scale=0)
                        self.drop_bank = gr.Button("Remove this bank", min_width=0, scale=0)
                        self.drop_bank_now = gr.Button(
                            "Yes, remove it with all its examples", variant="stop", visible=False, min_width=0, scale=0
                        )

    def _lay_out_form(self) -> None:
        with card(scale=0, min_width=320, elem_classes=["record"]):
            with gr.Row(elem_classes=["record-head"]):
                self.heading = markup()
                self.up = gr.Button("Move up", size="sm", min_width=0, scale=0, visible=False)
                self.down = gr.Button("Move down", size="sm", min_width=0, scale=0, visible=False)
            self.fields: dict[str, Any] = {
                "instruction": gr.Textbox("", label="Instruction", lines=2, max_lines=6),
                "context": gr.Textbox(
                    label="Context", lines=1, max_lines=6, placeholder="The text it is about, if any"
                ),
                "reasoning": gr.Textbox(
                    "",
                    label="Reasoning",
                    info="The steps to the answer, for prompts that think first.",
                    lines=2,
                    max_lines=8,
                    placeholder="May stay empty",
                ),
                "response": gr.Textbox("", label="Response", lines=4, max_lines=10),
                "category": gr.Dropdown(
                    [("No category", ""), *((_words(c), c) for c in CATEGORIES)],
                    value="",
                    label="Category",
                    allow_custom_value=True,  # examples of a snapshot may have others
                ),
            }
            self.message = markup()
            with actions():
                self.save = gr.Button("Save", variant="primary", min_width=0, scale=0, elem_id="save-example")
                self.undo = gr.Button("Drop changes", min_width=0, scale=0)
                self.remove = gr.Button("Remove", min_width=0, scale=0, visible=False)
                self.remove_now = gr.Button("Yes, remove it", variant="stop", min_width=0, scale=0, visible=False)
            self.history = markup()

    def _lay_out_try(self) -> None:
        self.choosing = SelectorForm()
        with card(elem_classes=["try-card"]):
            section("Try a question", "which examples it gets, before any model answers")
            with gr.Row(elem_classes=["form-row", "try-row"]):
                self.question = gr.Textbox(
                    "",
                    label="Question",
                    max_lines=4,
                    placeholder="Press Enter to see its examples",
                    scale=1,
                    min_width=260,
                    elem_id="try-question",
                )
                self.choosing.lay_out_choice()
                self.k = gr.Number(4, label="Examples", precision=0, min_width=88, elem_classes=["short-number"])
                self.seed = gr.Number(0, label="Seed", precision=0, min_width=88, elem_classes=["short-number"])
                self.ask = gr.Button("Show the choice", min_width=140, scale=0, elem_id="show-choice")
            with gr.Accordion("How it compares", open=False, elem_classes=["more"]):
                self.choosing.lay_out_knobs()
                self.model = live_dropdown(
                    [],
                    label="Model",
                    info="Asked only when a selector compares by its vectors or keeps to a number of tokens.",
                    min_width=240,
                    elem_classes=["short-choice"],
                )
            self.choice = markup(_NO_CHOICE, label="The choice", elem_id="choice")

    # -- what handlers read and write ----------------------------------------------------------------------------

    @property
    def typed(self) -> list[Any]:
        """The open example and what is in its fields."""
        return [self.example, *self.fields.values()]

    @property
    def shown(self) -> list[Any]:
        """Outputs of `_show`."""
        buttons = [self.up, self.down, self.remove, self.remove_now]
        return [self.example, self.seen, self.heading, *self.fields.values(), self.message, self.history, *buttons]

    @property
    def where(self) -> list[Any]:
        """What says which list is on screen."""
        return [self.opened, self.example, self.search, self.painted]

    @property
    def listed(self) -> list[Any]:
        """Outputs of `_listed`."""
        return [self.rows, self.painted, self.about, self.leaks, self.unleak, self.sheet, self.empty.box]

    @property
    def lists(self) -> list[Any]:
        """Outputs of `_lists`."""
        example = [self.empty.example] if self.empty.example else []
        return [self.offered, self.bank, self.snapshot, self.model, self.fill, self.empty.action, *example]

    @property
    def look_inputs(self) -> list[Any]:
        return [*self.where, self.offered, self.snapshot, self.model, self.asked]

    @property
    def look_outputs(self) -> list[Any]:
        return [self.opened, *self.lists, *self.listed, *self.shown]

    @property
    def asked_of(self) -> list[Any]:
        return [self.opened, self.question, self.k, self.seed, self.model, *self.choosing.inputs]

    # -- what is shown -------------------------------------------------------------------------------------------

    def look(
        self, opened: str, example: str, text: str, painted: str, offered: str, snapshot: str, model: str, asked: str
    ) -> list[Any]:
        """The page as the database has it now; what somebody is typing stays. Runs outside the queue: never raises."""
        try:
            form = untouched(self.shown)
            if not opened:
                opened = self._first(asked)
                form = self._show(next(iter(self.store.bank_examples(opened)), None))
                example = form[0]
            lists = self._lists(opened, offered, snapshot, model)
            return [opened, *lists, *self._listed(opened, example, text, painted), *form]
        except StudioError as error:
            log.warning("The examples could not be brought up to date: %s", error)
            return untouched(self.look_outputs)

    def open_bank(self, name: str | None, opened: str, example: str, *typed: str) -> list[Any]:
        """Another bank, or one to be: then its list is empty."""
        name = _clean(name) or opened
        if name != opened and self._is_unsaved(example, typed):
            said = notice(_unsaved(example), "caution")
            return [
                opened,
                gr.Dropdown(value=opened, allow_custom_value=True),
                gr.skip(),
                said,
                *untouched([*self.listed, *self.shown]),
            ]
        if name == opened:
            return [
                opened,
                gr.Dropdown(value=opened, allow_custom_value=True),
                *untouched([self.search, self.said, *self.listed, *self.shown]),
            ]
        first = next(iter(self.store.bank_examples(name)), None)
        form = self._show(first)
        return [name, gr.Dropdown(value=name, allow_custom_value=True), "", "", *self._listed(name, form[0]), *form]

    def show(self, opened: str, example: str, text: str, painted: str) -> list[Any]:
        return self._listed(opened, example, text, painted)

    def _first(self, asked: str) -> str:
        names = [bank.name for bank in self.store.banks()]
        return asked if asked in names else next(iter(names), _FIRST_BANK)

    def _view(self, bank: str, text: str) -> _View:
        examples = self.store.bank_examples(bank)
        found = leaks(examples, held_out(self.store, self.workspace.path))
        wanted = (text or "").casefold().split()
        shown = [(n, e) for n, e in enumerate(examples, 1) if _matches(e, wanted)]
        return _View(bank, " ".join(wanted), examples, shown, {leak.example.id: leak for leak in found})

    def _listed(self, bank: str, example: str, text: str = "", painted: str = "") -> list[Any]:
        """The list and what is said of it, or nothing if that is what was painted."""
        view = self._view(bank, text)
        if view.token == painted:
            return untouched(self.listed)
        return [
            _list_value(view, example),
            view.token,
            _about(view),
            _leaks_html(list(view.leaks.values())),
            gr.Button("Remove it" if len(view.leaks) == 1 else "Remove them", visible=bool(view.leaks)),
            gr.Column(visible=bool(view.examples)),
            gr.Column(visible=not view.examples),
        ]

    def _lists(self, opened: str, offered: str, snapshot: str, model: str) -> list[Any]:
        """The choices, as far as they moved: a job that ends must not close a list that somebody has open."""
        banks = [bank.name for bank in self.store.banks()]
        snapshots = [str(s.ref) for s in self.store.snapshots("data")]
        models = [(offer.label, str(offer.ref)) for offer in self.workspace.offers()]
        can_load = str(SNAPSHOT) in snapshots or not self.store.datasets()
        token = str(hash((opened, *banks, *snapshots, *models, can_load)))
        if token == offered:
            return [token, *untouched(self.lists[1:])]
        return [
            token,
            gr.Dropdown(choices=banks, value=opened, allow_custom_value=True),
            fresh_choices(snapshots, snapshot),
            fresh_choices(models, model, str(EMBEDDED)),
            gr.Button(interactive=bool(snapshots)),
            gr.Button(visible=bool(snapshots)),
            gr.Button(visible=can_load),
        ]

    # -- the bank ------------------------------------------------------------------------------------------------

    def fill_from(self, bank: str | None, snapshot: str | None, request: gr.Request) -> list[Any]:
        filled = fill_bank(self.store, self.workspace.path, bank or "", snapshot or "", author=user_of(request))
        return [_clean(bank), _filled_html(filled)]

    def fill_with_example(self, bank: str | None, request: gr.Request) -> list[Any]:
        load_example(self.store, self.workspace.path)
        return self.fill_from(bank, str(SNAPSHOT), request)

    def rename_bank(self, opened: str, new_name: str) -> list[Any]:
        name = _clean(new_name)
        if not name:
            raise InputError("The new name is empty. Write one, for example 'House style'.")
        self.store.rename_bank(opened, name)
        return [name, "", notice(f"{opened} is now called {name}.", "good")]

    def remove_bank(self, opened: str) -> list[Any]:
        many = self.store.remove_bank(opened)
        return ["", notice(f"{opened} is gone, with its {many:,} examples."), gr.Button(visible=False)]

    def remove_held_out(self, opened: str) -> str:
        gone = self.store.remove_examples(list(self._view(opened, "").leaks))
        return notice(f"Removed {gone:,} held-out example{'' if gone == 1 else 's'}.", "good")

    def switch_all(self, is_on: bool, opened: str, example: str, text: str, painted: str) -> list[Any]:
        """Those that the list shows."""
        self.store.switch_examples([e.id for _, e in self._view(opened, text).shown], is_on)
        return self._listed(opened, example, text, painted)

    def act(self, event: gr.EventData, opened: str, example: str, text: str, painted: str) -> list[Any]:
        """What the list did by itself already. It is sent again only when it was not what the studio has."""
        was_right = self._view(opened, text).token == painted
        try:
            _carry_out(self.workspace, event._data or {})
        except StudioError as error:
            return [notice(str(error), "bad"), *self._listed(opened, example, text)]
        rows, *rest = self._listed(opened, example, text)
        return [gr.skip(), gr.skip() if was_right else rows, *rest]

    # -- one example ---------------------------------------------------------------------------------------------

    def open_example(self, event: gr.EventData, example: str, *typed: str) -> list[Any]:
        self._must_be_saved(example, typed)
        return self._show(self.store.bank_example(_number(picked(event))))

    def write_new(self, example: str, *typed: str) -> list[Any]:
        self._must_be_saved(example, typed)
        return self._show(None)

    def drop_changes(self, example: str) -> list[Any]:
        return self._show(self.store.bank_example(_number(example)) if example else None)

    def save_words(self, request: gr.Request, bank: str | None, seen: str, example: str, *typed: str) -> list[Any]:
        """Store what is in the form. What speaks against it is said beside the button, and the text stays."""
        words = {name: text or "" for name, text in zip(EXAMPLE_FIELDS, typed, strict=True)}
        place, by = self.workspace.path, user_of(request)
        try:
            if example:
                saved = edit_example(self.store, place, _number(example), float(seen), words, author=by)
                return [gr.skip(), *self._show(saved, notice("Saved.", "good"))]
            saved = add_example(self.store, place, bank or "", words, author=by)
            return [saved.bank, *self._show(saved, notice(f"Added to {saved.bank}, at its end.", "good"))]
        except InputError as error:
            form = untouched(self.shown)
            form[self.shown.index(self.message)] = notice(str(error), "caution")
            return [gr.skip(), *form]

    def remove_example(self, opened: str, example: str) -> list[Any]:
        """Then the next one is open, or the one before the last."""
        before = [e.id for e in self.store.bank_examples(opened)]
        place = before.index(_number(example)) if _number(example) in before else 0
        self.store.remove_examples([_number(example)])
        left = self.store.bank_examples(opened)
        beside = left[min(place, len(left) - 1)] if left else None
        return self._show(beside, notice("Removed.", "good"))

    def _show(self, example: Example | None, message: str = "") -> list[Any]:
        """An example in the form, or an empty form for a new one."""
        words = example.fields if example else dict.fromkeys(EXAMPLE_FIELDS, "")
        is_there = [gr.Button(visible=example is not None) for _ in range(3)]
        return [
            str(example.id) if example else "",
            repr(example.updated_at) if example else "",
            f'<h2 class="section-title">{"Example" if example else "New example"}</h2>',
            *(words[name] for name in EXAMPLE_FIELDS),
            message,
            _history(example),
            *is_there,
            gr.Button(visible=False),
        ]

    def _is_unsaved(self, example: str, typed: Sequence[str]) -> bool:
        stored = self.store.bank_example(_number(example)).fields if example else {}
        return any(_typed(text) != _typed(stored.get(n)) for n, text in zip(EXAMPLE_FIELDS, typed, strict=True))

    def _must_be_saved(self, example: str, typed: Sequence[str]) -> None:
        """Refuse to leave a form whose text is not in the database."""
        if self._is_unsaved(example, typed):
            raise Conflict(_unsaved(example))

    # -- trying --------------------------------------------------------------------------------------------------

    async def try_question(
        self, opened: str, question: str, k: float | None, seed: float | None, model: str, *knobs: Any
    ) -> AsyncIterator[str]:
        """Which examples the question gets, or why there are none; while a model reads them, how far it is."""
        read = (0, 0)

        def heard(done: int, total: int) -> None:
            nonlocal read
            read = done, total

        async def chosen() -> str:
            trial = _Trial(self.choosing.read(knobs), (question or "").strip(), int(k or 0), int(seed or 0), model)
            pool = await asyncio.to_thread(pool_of, self.store, self.workspace.path, opened)
            return _choice_html(await _choose(self.workspace, self.memory, trial, pool, heard), pool)

        work = asyncio.create_task(chosen())
        try:
            while not (await asyncio.wait({work}, timeout=_NEWS_SECONDS))[0]:
                words = f"The model has read {read[0]:,} of {read[1]:,} examples" if read[1] else "Choosing"
                yield progress(read[0] / read[1] if read[1] else None, words)
            yield work.result()
        except StudioError as error:
            yield notice(str(error), "caution")
        finally:
            work.cancel()


@dataclass(frozen=True)
class _Trial:
    """A question, and how its examples are to be chosen; the model is asked when the selector needs one."""

    selector: Selector
    question: str
    k: int
    seed: int
    model: str


async def _choose(
    workspace: Workspace,
    memory: Memory,
    trial: _Trial,
    pool: Pool,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Selection:
    """The choice; `on_read` hears how many examples a model has read, of how many."""
    if not trial.question:
        raise InputError("There is no question yet. Write one to see which examples it gets.")
    chosen, asked = trial.selector, (pool.examples, Query(trial.question), trial.k, trial.seed)
    if not chosen.needs_vectors:
        # In a thread: the library that counts a bank's words takes a second to load, and all pages share the loop.
        measured = await asyncio.to_thread(chosen.to_measure, *asked)
        if not measured:
            return await asyncio.to_thread(chosen.choose, *asked)
    ref = ModelRef(trial.model)
    if ref.kind in ("embedded", "run", "dir"):
        workspace.weights(ref, wait=False)  # while the embedded model converts, a sentence says how far it is
    backend = workspace.backend(ref)
    try:
        if chosen.needs_vectors:
            on_read(0, len(pool.examples))
            await vectors_of(backend, pool.examples, Query(trial.question), memory, on_read)
        return await choose_with(chosen, *asked, backend=backend, memory=memory)
    finally:
        await backend.close()


# -- wiring ----------------------------------------------------------------------------------------------------

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _wire_bank(page: _Page) -> None:
    look: dict[str, Any] = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs}
    page.bank.input(
        handler(page.open_bank),
        [page.bank, page.opened, *page.typed],
        [page.opened, page.bank, page.search, page.said, *page.listed, *page.shown],
        trigger_mode="always_last",
        **_QUIET,
    )
    gr.on(
        [page.fill.click, page.empty.action.click],
        handler(page.fill_from),
        [page.bank, page.snapshot],
        [page.opened, page.said],
        api_visibility="private",
    ).success(**look, **_QUIET)
    if page.empty.example is not None:
        page.empty.example.click(
            handler(page.fill_with_example), page.bank, [page.opened, page.said], api_visibility="private"
        ).success(**look, **_QUIET)
    page.unleak.click(handler(page.remove_held_out), page.opened, page.said, **_QUIET).success(**look, **_QUIET)
    page.rename.click(
        handler(page.rename_bank), [page.opened, page.new_name], [page.opened, page.new_name, page.said], **_QUIET
    ).success(**look, **_QUIET)
    ask_twice(page.drop_bank, page.drop_bank_now)
    page.drop_bank_now.click(
        handler(page.remove_bank), page.opened, [page.opened, page.said, page.drop_bank_now], **_QUIET
    ).success(**look, **_QUIET)


def _wire_list(page: _Page) -> None:
    page.rows.act(
        handler(page.act),
        page.where,
        [page.said, *page.listed],
        trigger_mode="multiple",  # each press counts
        concurrency_limit=1,  # and in its turn
        **_QUIET,
    )
    page.rows.pick(handler(page.open_example), page.typed, page.shown, trigger_mode="always_last", **_QUIET)
    # `input` tells of keys, not of what was pasted.
    page.search.change(
        handler(page.show), page.where, page.listed, trigger_mode="always_last", api_name="search_examples", **_QUIET
    )
    for button, is_on in ((page.all_on, True), (page.all_off, False)):
        button.click(
            handler(_switching(page, is_on)),
            page.where,
            page.listed,
            api_name=f"switch_all_{'on' if is_on else 'off'}",
            **_QUIET,
        )
    for button, by in ((page.up, -1), (page.down, 1)):
        button.click(None, page.example, None, js=_SHIFT % by, api_visibility="private")
    page.example.change(None, page.example, None, js=_MARK, api_visibility="private")


def _wire_form(page: _Page) -> None:
    look: dict[str, Any] = {"fn": handler(page.look), "inputs": page.look_inputs, "outputs": page.look_outputs}
    page.add.click(handler(page.write_new), page.typed, page.shown, **_QUIET).success(
        None, None, None, js="() => document.querySelector('.record textarea')?.focus()", api_visibility="private"
    )
    page.undo.click(handler(page.drop_changes), page.example, page.shown, **_QUIET)
    page.save.click(
        handler(page.save_words), [page.bank, page.seen, *page.typed], [page.opened, *page.shown], **_QUIET
    ).success(**look, **_QUIET)
    ask_twice(page.remove, page.remove_now)
    page.remove_now.click(
        handler(page.remove_example), [page.opened, page.example], page.shown, api_name="remove_open_example", **_QUIET
    ).success(**look, **_QUIET)


def _switching(page: _Page, is_on: bool) -> Callable[..., list[Any]]:
    def switch(opened: str, example: str, text: str, painted: str) -> list[Any]:
        return page.switch_all(is_on, opened, example, text, painted)

    return switch


_ROW = 'document.querySelector(`#examples [data-key="${CSS.escape(key)}"]`)'
_SHIFT = f"(key) => {{ {_ROW}?.dispatchEvent(new CustomEvent('shift', {{ bubbles: true, detail: %d }})) }}"
_MARK = (
    "(key) => { for (const row of document.querySelectorAll('#examples [data-key]')) { "
    "const on = row.dataset.key === key; row.setAttribute('aria-selected', on); "
    "if (on) row.scrollIntoView({ block: 'nearest' }); } }"
)


# -- for scripts -----------------------------------------------------------------------------------------------


def _serve(workspace: Workspace, memory: Memory) -> None:
    """The same actions under stable names, with plain values in and out, for gradio_client."""
    store, root = workspace.store, workspace.path

    def bank_examples(bank: str) -> list[dict[str, Any]]:
        """The examples of a bank in its order."""
        return [asdict(example) for example in store.bank_examples(bank)]

    def fill_example_bank(request: gr.Request, bank: str, snapshot: str) -> dict[str, Any]:
        """Fill a bank (a new one, if nobody has) with the training rows of a snapshot."""
        filled = fill_bank(store, root, bank, snapshot, author=user_of(request))
        return {"added": filled.added, "said": filled.sentence, "refused": [r.sentence for r in filled.refused]}

    def save_example(
        request: gr.Request,
        bank: str,
        instruction: str,
        response: str,
        context: str = "",
        reasoning: str = "",
        category: str = "",
        example: int = 0,
        seen: float = 0.0,
    ) -> dict[str, Any]:
        """Add an example, or save new words of one that was read with `updated_at` = `seen`."""
        words = dict(zip(EXAMPLE_FIELDS, (instruction, context, reasoning, response, category), strict=True))
        by = user_of(request)
        if example:
            return asdict(edit_example(store, root, example, seen, words, author=by))
        return asdict(add_example(store, root, bank, words, author=by))

    def mark_example(example: int, is_on: bool, is_locked: bool) -> dict[str, Any]:
        """Switch an example on or off, and lock it or not."""
        store.switch_examples([example], is_on)
        store.lock_examples([example], is_locked)
        return asdict(store.bank_example(example))

    def move_example(example: int, side: str, other: int) -> dict[str, Any]:
        """Put an example right before or after another one ('before' or 'after')."""
        _carry_out(workspace, {"do": "move", "key": example, "side": side, "other": other})
        return asdict(store.bank_example(example))

    def remove_examples(examples: list[int]) -> int:
        """Remove examples; gives how many were there."""
        return store.remove_examples(examples)

    async def chosen_examples(
        bank: str, question: str, k: int = 4, seed: int = 0, made_of: dict[str, Any] | None = None, model: str = ""
    ) -> dict[str, Any]:
        """Which examples a question gets: `made_of` is {"name": "knn", and its knobs}; in the order of the prompt."""
        trial = _Trial(selector(made_of or "knn"), question.strip(), k, seed, model or str(EMBEDDED))
        pool = await asyncio.to_thread(pool_of, store, root, bank)
        found = await _choose(workspace, memory, trial, pool)
        picks = [{"example": p.example.id, "similarity": p.similarity, **p.example.fields} for p in found.picks]
        return {"order": found.order, "picks": picks, "missing": found.missing, "own": [e.id for e in found.own]}

    served = (bank_examples, fill_example_bank, save_example, mark_example, move_example, remove_examples)
    for fn in (*served, chosen_examples):
        api(handler(fn), api_name=fn.__name__, api_description=fn.__doc__)


def _carry_out(workspace: Workspace, asked: Mapping[str, Any]) -> None:
    """What the list says was done: {do, key, value} or {do: move, key, side, other}."""
    store, key = workspace.store, _number(asked.get("key"))
    match asked.get("do"), asked.get("side"):
        case "on", _:
            store.switch_examples([key], bool(asked.get("value")))
        case "locked", _:
            store.lock_examples([key], bool(asked.get("value")))
        case "move", "before":
            store.move_example(key, "before", _number(asked.get("other")))
        case "move", "after":
            store.move_example(key, "after", _number(asked.get("other")))
        case _:
            raise InputError(
                f"An example cannot be told to '{asked.get('do')}' {asked.get('side') or ''}".rstrip() + "."
            )


# -- words and small parts -------------------------------------------------------------------------------------

_NO_CHOICE = '<p class="quiet">Its examples appear here, in the order of the prompt, with how similar they are.</p>'
_KEYS = (
    '<p class="quiet">Drag a row to move it, or press <kbd>Alt</kbd> <kbd>↑</kbd> <kbd>↓</kbd>. '
    "<kbd>Space</kbd> switches it, <kbd>L</kbd> locks it, <kbd>Enter</kbd> opens it.</p>"
)


def _list_value(view: _View, current: str) -> dict[str, Any]:
    """What assets/examples.js paints."""
    none = "No example matches. Take a word out of the search."
    return {
        "rows": [_row(number, example, view.leaks.get(example.id)) for number, example in view.shown],
        "current": current,
        "fixed": bool(view.text),
        "nothing": none if view.examples and not view.shown else "",
        "at": secrets.token_hex(4),  # else a list that is sent again, since the page's own is wrong, changes nothing
    }


def _row(number: int, example: Example, leak: Leak | None) -> list[Any]:
    texts = (_short(example.instruction), _short(example.response), _words(example.category))
    held = leak.place.words if leak else ""
    return [example.id, number, example.is_on, example.is_locked, *texts, example.source or "by hand", held]


def _about(view: _View) -> str:
    on = sum(e.is_on for e in view.examples)
    locked = sum(e.is_on and e.is_locked for e in view.examples)
    many = len(view.examples)
    said = [f"{many:,} example{'' if many == 1 else 's'}", f"{on:,} on", f"{locked:,} locked"]
    if view.text:
        said.append(f"{len(view.shown):,} match the search")
    return f'<p class="quiet" aria-live="polite">{" · ".join(said)}</p>'


def _leaks_html(found: Sequence[Leak]) -> str:
    """A caution with the cure, or nothing."""
    if not found:
        return ""
    first = found[0].sentence
    many = f" {len(found) - 1:,} more are held out too." if len(found) > 1 else ""
    return notice(f"{first}{many} Selectors leave {'them' if many else 'it'} out until then.", "caution")


def _filled_html(filled: Filled) -> str:
    said = notice(filled.sentence, "caution" if filled.refused or filled.left_out or filled.unread else "good")
    if len(filled.refused) < 2:
        return said
    named = "".join(f"<li>{html.escape(row.sentence)}</li>" for row in filled.refused[:_REFUSED_SHOWN])
    more = len(filled.refused) - _REFUSED_SHOWN
    rest = f"<li>And {more:,} more.</li>" if more > 0 else ""
    return (
        f'{said}<details class="refused"><summary>The {len(filled.refused):,} rows that were held out</summary>'
        f"<ul>{named}{rest}</ul></details>"
    )


def _choice_html(selection: Selection, pool: Pool) -> str:
    """The examples in the order of the prompt, and what was left out of it."""
    rows = [
        (
            str(place),
            "–" if pick.similarity is None else f"{pick.similarity:.2f}",
            _clamped(pick.example.instruction) + (chip("locked") if pick.example.is_locked else ""),
            _clamped(pick.example.response),
        )
        for place, pick in enumerate(selection.picks, 1)
    ]
    many = len(selection.picks)
    said = f"{many} example{'' if many == 1 else 's'} of {len(pool.examples):,}, in this order ({selection.order})."
    listed = rows_to_read("Examples of this question", ("No.", "Similarity", "Instruction", "Response"), rows)
    table = f'<div class="framed choice">{listed}</div>' if rows else ""
    return f'<p class="quiet" role="status">{html.escape(said)}</p>{_left_out(selection, pool)}{table}'


def _left_out(selection: Selection, pool: Pool) -> str:
    said = []
    if selection.missing:
        said.append(f"{selection.missing} fewer than wanted: no more examples are on.")
    said += [f"{_quoted(e.instruction)} is this very question, so it was left out." for e in selection.own]
    if selection.dropped:
        said.append(f"{len(selection.dropped)} had no room within the length.")
    if pool.leaks:
        said.append(f"{len(pool.leaks)} held-out example{'' if len(pool.leaks) == 1 else 's'} cannot be chosen.")
    said += pool.unread
    return "".join(notice(sentence, "caution") for sentence in said)


def _history(example: Example | None) -> str:
    if example is None:
        return '<p class="quiet">It comes at the end of the bank when you save it.</p>'
    when = time.strftime("%d %b %Y, %H:%M", time.localtime(example.updated_at)).lstrip("0")
    came = f"From {example.source}." if example.source else "Written here."
    return f'<p class="quiet">{html.escape(came)} By {html.escape(example.author)}, {when}.</p>'


def _unsaved(example: str) -> str:
    what = "The open example has" if example else "The new example has"
    return f"{what} changes that are not saved. Save them, or press Drop changes."


def _matches(example: Example, wanted: Sequence[str]) -> bool:
    text = "\n".join((*example.fields.values(), example.source)).casefold() if wanted else ""
    return all(word in text for word in wanted)


def _typed(text: str | None) -> str:
    """As a browser's text field gives it back, and without the white space that saving trims anyway."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n").strip()


def _clean(name: str | None) -> str:
    return " ".join((name or "").split())


def _number(key: Any) -> int:
    if not str(key).strip().isdecimal():
        raise InputError(f"'{key}' is not the number of an example. The list shows them all.")
    return int(key)


def _short(text: str) -> str:
    line = " ".join(text[: 2 * _CELL_LETTERS].split())
    return line if len(line) <= _CELL_LETTERS else f"{line[:_CELL_LETTERS].rstrip()}…"


def _clamped(text: str) -> str:
    return f'<span class="clamp">{html.escape(_short(text))}</span>'


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:60]}…”" if len(line) > 61 else f"“{line}”"


def _words(category: str) -> str:
    """open_qa -> Open QA. A category of somebody's own stays as it was written."""
    if category not in CATEGORIES:
        return category
    words = category.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}".replace(" qa", " QA")
