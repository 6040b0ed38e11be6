"""Prompt: ask up to four models, prompts or temperatures beside each other; see what each gets; keep what is good.

Every answer is a row before anybody keeps it, so that "keep" and "to dataset" name what was really asked, whatever has
been typed since. What is being written is a draft in the database: it survives a reload and a restart.
"""

from __future__ import annotations

import html
import logging
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from components.forms import Form, form, named_lines
from components.frame import (
    Refresh,
    TabWidgets,
    actions,
    card,
    chip,
    fresh_choices,
    hand_over,
    handler,
    hidden_download,
    live_dropdown,
    markup,
    notice,
    table,
    untouched,
    user_of,
)
from components.playground.checks_report import UNREADABLE
from components.playground.columns import COLUMNS, NOBODY, answer_column, differences, head, own_words, probabilities
from components.playground.editor import Editor, editor, prompt_choices
from components.playground.evaluate_setup import Columns
from components.playground.looking import bar, likeliest, shown_parts, tokens
from studio.backends import Backend, Partial, side_by_side
from studio.errors import InputError, StudioError
from studio.models import EMBEDDED, conversion, licence
from studio.models.endpoints import cost_of_calls, whereabouts
from studio.prompts import (
    Composed,
    Memory,
    Question,
    answered,
    find_template,
    record_answer,
    templates,
    to_dataset,
)
from studio.prompts.budget import budget
from studio.prompts.export import FORMATS, export
from studio.prompts.grid import asked_like
from studio.prompts.helps import Helps, help_of, help_verdict, newest_help
from studio.prompts.onward import send_to_labeling
from studio.prompts.reproduce import reproduction
from studio.prompts.selectors import selectors
from studio.prompts.techniques import technique_of
from studio.specs import Completion, Message, ModelRef, Sampling
from studio.store import Answer
from studio.workspace import Workspace

log = logging.getLogger(__name__)

__all__ = ["PlaygroundWidgets", "beside_base", "build"]

_DRAFT = "playground"
_FIRST = "zero-shot"  # what a new page has chosen
_NEXT = 10  # next tokens shown
_MOST_REPEATS = 10


@dataclass(frozen=True)
class Given:
    """What this page gives to another: the event by which, and the box that holds it then."""

    by: Any
    box: gr.Textbox


@dataclass(frozen=True, kw_only=True)
class PlaygroundWidgets(TabWidgets):
    """`models` are the choices of the first two columns, and the second column: "try it" buttons of other tabs set them.
    Other pages go on from here: `to_check` gives the prompt of which somebody asks whether it helps, and after a space
    its examples; `to_evaluate` the columns (as JSON) that somebody wants to see on a whole set."""

    models: tuple[Any, ...]
    to_check: Given
    to_evaluate: Given


@dataclass(frozen=True)
class _Asking:
    """The widgets that make up a question, in the order handlers get their values."""

    template: gr.Dropdown
    instruction: gr.Textbox
    context: gr.Textbox
    guidelines: gr.Textbox
    more: gr.Textbox
    examples: gr.Dropdown
    selector: gr.Dropdown
    shots: gr.Textbox
    passages: gr.Number
    editor: Editor
    sampling: Form[Sampling]

    @property
    def own(self) -> list[Any]:
        return [
            self.template,
            self.instruction,
            self.context,
            self.guidelines,
            self.more,
            self.examples,
            self.selector,
            self.shots,
            self.passages,
        ]

    @property
    def inputs(self) -> list[Any]:
        return [*self.own, *self.editor.inputs, *self.sampling.inputs]

    def read(self, workspace: Workspace, values: Sequence[Any]) -> Question:
        count, fields = len(self.own), len(self.editor.inputs)
        name, instruction, context, guidelines, more, examples, chosen, shots, passages = values[:count]
        ref = str(name or "plain")
        return Question(
            template=ref,
            instruction=str(instruction or ""),
            context=str(context or ""),
            guidelines=str(guidelines or ""),
            examples=str(examples or ""),
            selector=str(chosen or "fixed"),
            shots=_number(shots, "Examples to show"),
            passages=int(passages or 0),
            more={name: value for name, (_, value) in named_lines(str(more or ""), "other variables").items()},
            draft=self.editor.draft(workspace.store, ref, values[count : count + fields]),
            sampling=self.sampling.read(values[count + fields :]),
        )


def build(workspace: Workspace) -> PlaygroundWidgets:
    """Lay out the page and wire it."""
    page = _Page(workspace)
    _wire_asking(page)
    _wire_looking(page)
    to_check, to_evaluate = _wire_onward(page)
    _wire_editing(page)
    _wire_keeping(page)
    return PlaygroundWidgets(
        refresh=Refresh(page.again, [page.painted, *page.chosen], page.refreshed),
        models=(page.columns[0].model, page.columns[1].model, page.columns[1].box),
        to_check=to_check,
        to_evaluate=to_evaluate,
        links={"model": page.columns[0].model, "beside": page.columns[1].model},
    )


class _Page:
    """The widgets, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store, self.memory = workspace, workspace.store, Memory()
        offers, prompts = _offers(workspace), prompt_choices(workspace.store, templates())
        self.painted = gr.Textbox("", label="Lists painted", visible="hidden")
        self.to_keep = gr.Button("Keep the draft", visible="hidden", elem_id="keep-draft")
        self.to_check = gr.Textbox("", label="Prompt to be checked", visible="hidden")
        self.to_evaluate = gr.Textbox("", label="Columns to be evaluated", visible="hidden")
        with gr.Row(elem_classes=["playground"]):
            with gr.Column(scale=0, min_width=340, elem_classes=["side"]):
                self.asking = self._question(prompts)
            with gr.Column(scale=2, min_width=320):
                with card("Your question"):
                    self.asking.instruction.render()  # type: ignore[no-untyped-call]
                    self.asking.context.render()  # type: ignore[no-untyped-call]
                with card("What the model gets"):
                    self.budget = markup(bar(None))
                    self.shown = markup("")
                    with gr.Tabs(elem_classes=["pages", "small"]):
                        with gr.Tab("Text"):
                            self.prompt = gr.Textbox(
                                label="Rendered prompt",
                                show_label=False,
                                lines=8,
                                max_lines=18,
                                interactive=False,
                                elem_classes=["mono"],
                                placeholder="Write a question to see the prompt here.",
                            )
                        with gr.Tab("Tokens"):
                            self.see_tokens = gr.Button("Show the tokens", size="sm", min_width=0, scale=0)
                            self.tokens = markup("")
                        with gr.Tab("Next token"):
                            self.see_next = gr.Button("Ask for the likeliest", size="sm", min_width=0, scale=0)
                            self.next = markup("")
            with gr.Column(scale=3, min_width=320):
                with gr.Row(elem_classes=["actions", "ask-row"]):
                    self.add = gr.Button("Add a column", size="sm", min_width=0, scale=0)
                    self.drop = gr.Button("Remove the last", size="sm", min_width=0, scale=0)
                    self.stop = gr.Button("Stop", min_width=80, scale=0, interactive=False)
                    markup('<span class="quiet keys"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span>')
                    self.ask_all = gr.Button(
                        "Ask", variant="primary", min_width=110, scale=0, elem_id="ask", elem_classes=["ctrl-enter"]
                    )
                with gr.Row(elem_classes=["actions", "ask-row"]):
                    self.mark = gr.Checkbox(
                        False, label="Mark where answers differ from the first", container=False, min_width=200
                    )
                    self.evaluate = gr.Button("Evaluate on a set", size="sm", min_width=0, scale=0)
                    self.pair = gr.Button("Send to labeling", size="sm", min_width=0, scale=0)
                with gr.Row(elem_classes=["answers"]):
                    self.columns = tuple(
                        answer_column(n, offers, prompts, str(EMBEDDED) if n == 0 else NOBODY) for n in range(COLUMNS)
                    )
                self.terms = markup(_terms(workspace, str(EMBEDDED)))
                with gr.Accordion("Take it away", open=False, elem_classes=["more"]):
                    with gr.Row(elem_classes=["form-row"]):
                        self.which = gr.Dropdown(list(range(1, COLUMNS + 1)), value=1, label="Answer", min_width=80)
                        self.format = gr.Dropdown(list(FORMATS), value=FORMATS[0], label="As code", min_width=160)
                    with actions():
                        self.code_button = gr.Button("Show the code", size="sm", min_width=0, scale=0)
                        self.reproduce = gr.Button("Reproduce file of this answer", size="sm", min_width=0, scale=0)
                        self.file = hidden_download()
                    self.code = gr.Code(label="Code", language="python", interactive=False, visible=False)
                    self.left_out = markup("")
        with card("Kept answers"):
            self.kept = table(
                ["Answer", "Model", "Prompt", "Question", "Text"],
                label="Kept answers",
                widths=["80px", "18%", "12%", "28%", "36%"],
                rows=_kept(workspace),
                max_height=260,
            )
            with gr.Row(elem_classes=["form-row"]):
                self.dataset = live_dropdown(
                    _datasets(workspace),
                    label="Dataset that answers are sent to",
                    elem_id="send-to",
                    min_width=240,
                    scale=0,
                )

    def _question(self, prompts: list[tuple[str, str]]) -> _Asking:
        workspace = self.workspace
        with card("Prompt"):
            chosen = live_dropdown(prompts, value=_FIRST, label="Prompt", elem_id="template")
            self.summary = markup(self.about(_FIRST))
            self.helps = gr.Button("Does it help here?", size="sm", min_width=0, scale=0)
            told = (d.guidelines for d in self.store.datasets() if d.guidelines)
            guidelines = gr.Textbox(
                next(told, ""),
                label="Guidelines",
                info="How answers should be. The prompt decides whether the model is told.",
                lines=3,
                max_lines=10,
            )
            more = gr.Textbox(
                label="Other variables", placeholder="tone: friendly", info="One a line.", visible=False, lines=2
            )
            with gr.Accordion("Edit this prompt", open=False, elem_classes=["more"]):
                edit = editor(_FIRST)
            with gr.Accordion("Examples", open=False, elem_classes=["more"]):
                sources = _sources(workspace)
                examples = live_dropdown(
                    sources, value=sources[0][1] if sources else None, label="Examples from", min_width=160
                )
                selector = gr.Dropdown(
                    [(kind.title, name) for name, kind in selectors().items() if not kind.is_wrapper],
                    value="fixed",
                    label="Chosen how",
                )
                shots = gr.Textbox("", label="Examples to show", placeholder="As many as the prompt says")
            with gr.Accordion("Documents", open=False, elem_classes=["more"]):
                passages = gr.Number(
                    0, precision=0, minimum=0, maximum=20, label="Passages", info="The best for this question, cited."
                )
            with gr.Accordion("Sampling", open=False, elem_classes=["more"]):
                sampling = form(Sampling)
                self.repeats = gr.Number(
                    1,
                    precision=0,
                    minimum=1,
                    maximum=_MOST_REPEATS,
                    label="Repeats",
                    info="Asks again with other seeds and counts the different answers.",
                )
        instruction = gr.Textbox(
            label="Instruction",
            lines=3,
            max_lines=10,
            placeholder="My Otter jacket soaks through after an hour of rain. What can I do?",
            elem_id="instruction",
            render=False,
        )
        context = gr.Textbox(
            label="Context",
            info="The text the question is about, if there is one.",
            lines=3,
            max_lines=12,
            elem_id="context",
            render=False,
        )
        return _Asking(
            chosen, instruction, context, guidelines, more, examples, selector, shots, passages, edit, sampling
        )

    # -- reading rows again ----------------------------------------------------------------------------------------

    @property
    def chosen(self) -> list[Any]:
        """The lists whose choices come from rows."""
        mine = [self.asking.template, self.asking.examples, self.dataset]
        return [*mine, *(w for c in self.columns for w in (c.model, c.template))]

    @property
    def refreshed(self) -> list[Any]:
        return [*self.chosen, self.kept, self.summary, self.painted, *self.asking.inputs]

    def again(self, request: gr.Request, painted: str, *chosen: str) -> list[Any]:
        """The lists as the database has them now, as far as they moved: a step of a run must not close one that somebody
        has open. What somebody chose stays. The first time, the draft comes back."""
        prompt, examples, dataset, *cells = chosen
        models, prompts = _offers(self.workspace), prompt_choices(self.store, templates())
        sources, datasets, kept = _sources(self.workspace), _datasets(self.workspace), _kept(self.workspace)
        checks = [job.id for job in self.store.jobs(limit=1, states=["done"], kinds=[Helps.kind])]
        token = str(hash(repr((models, prompts, sources, datasets, kept, checks))))
        if token == painted:
            return untouched(self.refreshed)
        draft = {} if painted else self.store.draft(user_of(request), _DRAFT)
        lists = [
            _drafted(prompts, prompt, draft.get("template")),
            _drafted(sources, examples, draft.get("examples")),
            fresh_choices(datasets, dataset),
        ]
        for place in range(COLUMNS):
            model, own = cells[2 * place : 2 * place + 2]
            lists += [
                fresh_choices([("No model", NOBODY), *models], model, str(EMBEDDED) if place == 0 else NOBODY),
                fresh_choices([("As on the left", NOBODY), *prompts], own, NOBODY),
            ]
        about = self.about(prompt) if prompt in {ref for _, ref in prompts} else gr.skip()
        return [*lists, kept, about, token, *self._drafted(draft)]

    def _drafted(self, draft: dict[str, Any]) -> list[Any]:
        values = draft.get("values") or []
        names = self.asking.inputs
        if len(values) != len(names):  # of an earlier version of the page, or none
            return [gr.skip()] * len(names)
        # The lists come back through their choices; an editor that held another prompt has nothing to give back.
        left = [self.asking.template, self.asking.examples]
        edit = self.asking.editor
        if values[names.index(edit.of)] != draft.get("template"):
            left += edit.inputs
        return [gr.skip() if widget in left else value for widget, value in zip(names, values, strict=True)]

    # -- asking ----------------------------------------------------------------------------------------------------

    async def ask(self, request: gr.Request, only: int, repeats: float, mark: bool, *values: Any) -> AsyncIterator[Any]:
        """Stream the answers of all columns (or of `only` one, counted from 1). Each ends as a row, also one that was
        stopped half-way."""
        cells, rest = values[: 3 * COLUMNS], values[3 * COLUMNS :]
        question = self.asking.read(self.workspace, rest)
        asked = [n for n in range(COLUMNS) if cells[3 * n] and only in (0, n + 1)]
        if not asked:
            raise InputError("No column has a model. Choose one.")
        answers = [await self._prepared_answer(question, cells[3 * n : 3 * n + 3]) for n in asked]
        streams = [answered(a.composed, a.backend) for a in answers]
        partials = [Partial() for _ in answers]
        recorded: set[int] = set()

        def record(place: int) -> None:
            recorded.add(place)
            self._record(answers[place], partials[place].completion, user_of(request))

        yield [*_stop_or_ask("stop"), *self._shown(asked, answers, partials, mark=False)]
        try:
            async for partials in side_by_side(streams):
                for place, partial in enumerate(partials):
                    if partial.is_over and (partial.finish or partial.text) and place not in recorded:
                        record(place)
                yield [gr.skip(), gr.skip(), *self._shown(asked, answers, partials, mark=False)]
            counted = await _repeated(answers, int(repeats or 1)) if int(repeats or 1) > 1 else []
            yield [*_stop_or_ask("ask"), *self._shown(asked, answers, partials, mark=mark, counted=counted)]
        finally:
            try:
                for place, partial in enumerate(partials):
                    if partial.text and place not in recorded:
                        record(place)
            except StudioError as error:  # the page that could have been told is gone, or has its own error by now
                log.warning("A stopped answer could not be recorded: %s", error)

    async def _prepared_answer(self, question: Question, cell: Sequence[Any]) -> _Answer:
        ref, question = ModelRef(cell[0]), _of_cell(question, cell)
        backend = self._prepared(ref)
        composed = await question.composed(self.store, self.workspace.path, backend, self.memory)
        _ = composed.messages  # what cannot be rendered is said before anything is asked
        return _Answer(ref, backend, composed, secrets.token_hex(8), whereabouts(ref, self.store).sentence)

    def as_columns(self, *values: Any) -> str:
        """The columns as an evaluation asks them, as JSON."""
        cells, rest = values[: 3 * COLUMNS], values[3 * COLUMNS :]
        question = self.asking.read(self.workspace, rest)
        asked = [cells[3 * n : 3 * n + 3] for n in range(COLUMNS) if cells[3 * n]]
        columns = [asked_like(_of_cell(question, cell), ModelRef(cell[0]), self.store) for cell in asked]
        return Columns(tuple(columns)).written()

    def _record(self, answer: _Answer, completion: Completion, author: str) -> None:
        record_answer(
            self.store,
            answer.ref,
            answer.composed.question,
            answer.composed.messages,
            completion,
            ticket=answer.ticket,
            author=author,
            composed=answer.composed,
        )

    def _shown(
        self,
        asked: Sequence[int],
        answers: Sequence[_Answer],
        partials: Sequence[Partial],
        *,
        mark: bool,
        counted: Sequence[str] = (),
    ) -> list[Any]:
        """Values for every column's outputs while answers grow; columns that are not asked stay as they are."""
        marked = differences([p.text for p in partials]) if mark else [""] * len(partials)
        values: list[Any] = []
        for number in range(COLUMNS):
            if number not in asked:
                values += [gr.skip()] * 6
                continue
            place = asked.index(number)
            partial, answer = partials[place], answers[place]
            is_growing = bool(partial.text) and not partial.is_over
            is_whole = partial.is_over and bool(partial.text)
            price = (
                cost_of_calls(answer.ref, self.store, partial.prompt_tokens, partial.output_tokens)
                if partial.is_over
                else ""
            )
            values += [
                head(answer.ref, partial, elsewhere=answer.elsewhere, price=price),
                partial.text,
                answer.ticket,
                # Left alone while it grows: a piece that arrives after Stop must not take back what Stop allowed.
                gr.skip() if is_growing else gr.Button("Keep", interactive=is_whole),
                gr.skip() if is_growing else gr.Button("To dataset", interactive=is_whole),
                marked[place] + (counted[place] if counted else ""),
            ]
        return values

    def stopped(self, *said: str) -> list[Any]:
        """What was said until now can be kept."""
        buttons = [gr.Button(interactive=bool(text)) for text in said for _ in ("keep", "send")]
        return [*_stop_or_ask("ask"), *buttons]

    def _prepared(self, ref: ModelRef) -> Backend:
        """The model's backend. While the embedded model converts, a sentence says how far it is."""
        if ref.kind in ("embedded", "run", "dir"):
            self.workspace.weights(ref, wait=False)
        return self.workspace.backend(ref)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def preview(self, model: str, *values: Any) -> tuple[str, str, str, str]:
        """The token bar, what the prompt shows, the prompt, and the editor's unsaved changes."""
        edit = self.asking.editor
        try:
            ref = str(values[0] or "plain")
            start = len(self.asking.own)
            changes = edit.difference(self.store, ref, values[start : start + len(edit.inputs)])
            question = self.asking.read(self.workspace, values)
            if not question.instruction.strip() or not model:
                return bar(None), "", "", changes
            backend = self._prepared(ModelRef(model))
            composed = await question.composed(self.store, self.workspace.path, backend, self.memory)
            found = await budget(
                backend,
                composed.compose,
                composed.selection.picks,
                composed.documents,
                room=composed.sampling.max_tokens,
                memory=self.memory,
            )
        except StudioError as error:
            return bar(None, str(error)), "", "", ""
        return bar(found), shown_parts(composed), found.rendered.text, changes

    async def keep_draft(self, request: gr.Request, *values: Any) -> None:
        """What somebody typed and chose comes back after a reload.

        Kept while the editor shows the chosen prompt: a page that comes back gets its texts first and its lists a moment
        later, and what it holds in between is half a draft. Not in a thread, so that the last one sent is the last kept.
        """
        if values[self.asking.inputs.index(self.asking.editor.of)] == values[0]:
            draft = {"values": list(values), "template": values[0], "examples": values[5]}
            self.store.save_draft(user_of(request), _DRAFT, draft)

    async def _composed(self, model: str, values: Sequence[Any]) -> tuple[Backend, Composed]:
        question = self.asking.read(self.workspace, values)
        backend = self._prepared(ModelRef(model))
        return backend, await question.composed(self.store, self.workspace.path, backend, self.memory)

    async def token_view(self, model: str, *values: Any) -> str:
        backend, composed = await self._composed(model, values)
        return tokens(await backend.tokens(composed.technique.prepare(composed.messages)))

    async def next_view(self, model: str, *values: Any) -> str:
        backend, composed = await self._composed(model, values)
        return likeliest(await backend.next_tokens(composed.technique.prepare(composed.messages), _NEXT))

    async def colour(self, ticket: str) -> str:
        """How likely the model finds each token of a recorded answer."""
        answer = self.store.completion(ticket)
        backend = self._prepared(ModelRef(answer.model))
        messages = [Message(**turn) for turn in answer.messages]
        return probabilities(await backend.logprobs(messages, answer.text, top=4))

    def about(self, ref: str) -> str:
        """The prompt in words: what it does, what it costs, where it comes from."""
        chosen = find_template(self.store, ref)
        technique = technique_of(chosen)
        source = f' <span class="quiet">{html.escape(chosen.citation)}</span>' if chosen.citation else ""
        calls = f" {chip(technique.cost)}" if technique.calls > 1 else ""
        return f'<p class="quiet">{html.escape(chosen.summary)}{source}</p>{chip(technique.title)}{calls}{self._checked(ref)}'

    def _checked(self, ref: str) -> str:
        """What the last check of this prompt found, if there was one."""
        job = newest_help(self.store, ref)
        if job is None:
            return ""
        try:
            task, verdict = job.task, help_verdict(help_of(self.store, job.id))
        except UNREADABLE:  # of another version of the studio; the check itself says so
            return ""
        link = f'<a href="?tab=playground&amp;check={job.id}">Check {job.id}</a>'
        where = html.escape(f"{task['model']} on {task['evaluation']}")
        return f'<p class="quiet">{link}, {where}: {html.escape(verdict.sentence)}</p>'

    def opened(self, ref: str, in_editor: str, name_to_save: str) -> list[Any]:
        """A prompt was chosen: its words, its editor, and whether it has variables of its own.

        An editor that holds this prompt already has it from a draft, with changes that are not saved yet, and a name that
        somebody typed since stays.
        """
        chosen = find_template(self.store, ref)
        own = [name for name in chosen.variables if name not in ("instruction", "context", "guidelines")]
        more = gr.Textbox(visible=bool(own), placeholder=f"{own[0]}: …" if own else "")
        edit = self.asking.editor
        shown = edit.show(self.store, ref)
        if in_editor == ref:
            shown[: len(edit.inputs) + 1] = [gr.skip()] * (len(edit.inputs) + 1)
            if name_to_save != edit.name.value:  # that of a new page
                shown[len(edit.inputs) + 1] = gr.skip()
        return [self.about(ref), more, *shown]

    # -- editing ---------------------------------------------------------------------------------------------------

    def save(self, request: gr.Request, ref: str, name: str, tags: str, note: str, *values: Any) -> list[Any]:
        saved = self.asking.editor.saved(self.store, ref, values, (name, tags, note), author=user_of(request))
        gr.Success(f"Saved as {saved}.", duration=3)
        return [self._prompts(saved), ""]

    def revert(self, ref: str) -> list[Any]:
        return self.asking.editor.show(self.store, ref)

    def bring(self, request: gr.Request, file: str) -> Any:
        saved = self.asking.editor.taken(self.store, file, author=user_of(request))
        gr.Success(f"Imported as {saved}.", duration=3)
        return self._prompts(saved)

    def _prompts(self, chosen: str) -> Any:
        choices = prompt_choices(self.store, templates())
        if chosen not in {ref for _, ref in choices}:  # a version that is not the newest
            choices = [(chosen, chosen), *choices]
        return gr.Dropdown(choices=choices, value=chosen)

    # -- keeping ---------------------------------------------------------------------------------------------------

    def keep(self, ticket: str) -> tuple[list[list[Any]], Any]:
        self.store.keep_completion(ticket)
        gr.Success("Kept.", duration=3)
        return _kept(self.workspace), gr.Button("Kept", interactive=False)

    def send(self, request: gr.Request, ticket: str, text: str, name: str) -> tuple[list[list[Any]], Any]:
        if not name:
            raise InputError("There is no dataset to send this to. Make one under Dataset first.")
        answer = self.store.completion(ticket)
        to_dataset(self.store, answer, self.store.dataset(name), text, author=user_of(request))
        gr.Success(f"Added to {name}.", duration=3)
        return _kept(self.workspace), gr.Button("In the dataset", interactive=False)

    def to_labeling(self, request: gr.Request, *tickets: str) -> None:
        given = [ticket for ticket in tickets if ticket]
        if len(given) < 2:
            raise InputError("Ranking takes two answers. Ask two columns first.")
        if not all(self.store.has_completion(ticket) for ticket in given):
            raise InputError(
                "An answer is not finished, or could not be given. Wait for it or ask again; then send them."
            )
        send_to_labeling(self.store, given, author=user_of(request))
        gr.Success("These answers wait under Labeling, in the batch “playground”.", duration=3)

    async def take_code(self, which: int, format: str, *tickets: str) -> list[Any]:
        answer = self._answer_of(which, tickets)
        folder = str(self.workspace.weights(ModelRef(answer.model)).base) if format.startswith("transformers") else ""
        messages = [Message(**turn) for turn in answer.messages]
        made = export(format, ModelRef(answer.model), messages, Sampling(**answer.sampling), folder)  # type: ignore[arg-type]
        language: Any = {"bash": "shell"}.get(made.language, made.language)
        left = f"This format cannot say: {', '.join(made.left_out)}." if made.left_out else ""
        return [gr.Code(made.text, language=language, visible=True), notice(left, "caution") if left else ""]

    async def take_file(self, which: int, *tickets: str) -> str:
        answer = self._answer_of(which, tickets)
        made = await reproduction(self.workspace, answer)
        path = Path(tempfile.mkdtemp()) / f"answer-{answer.id}.json"
        path.write_text(made.to_json(), encoding="utf-8")
        return str(path)

    def _answer_of(self, which: int, tickets: Sequence[str]) -> Answer:
        ticket = tickets[int(which) - 1]
        if not ticket:
            raise InputError(f"Column {which} has no answer yet. Ask first.")
        return self.store.completion(ticket)


def _stop_or_ask(can: Literal["stop", "ask"]) -> list[Any]:
    """Stop and Ask: which of the two makes sense."""
    return [gr.Button(interactive=can == "stop"), gr.Button(interactive=can == "ask")]


def _of_cell(question: Question, cell: Sequence[Any]) -> Question:
    """The question as one column asks it: with a prompt and a temperature of its own, if it has them."""
    _, other, temperature = cell
    if other:
        question = replace(question, template=other, draft=None)
    if (given := _fraction(temperature, "Temperature")) is not None:
        question = replace(question, sampling=_with_temperature(question.sampling, given))
    return question


@dataclass(frozen=True)
class _Answer:
    """One cell on its way."""

    ref: ModelRef
    backend: Backend
    composed: Composed
    ticket: str
    elsewhere: str


async def _repeated(answers: Sequence[_Answer], repeats: int) -> list[str]:
    """Every cell asked again with other seeds: how many of the answers differ, as HTML."""
    found = []
    for answer in answers:
        technique, first = answer.composed.technique, answer.composed.sampling

        async def ask(messages: Sequence[Message], sampling: Sampling, backend: Backend = answer.backend) -> Completion:
            [completion] = await backend.complete([messages], sampling)
            return completion

        said = []
        for number in range(repeats):
            sampling = first.model_copy(update={"seed": first.seed + number})
            said.append((await technique.answer(ask, answer.composed.messages, sampling)).answer.text)
        different = list(dict.fromkeys(said))
        rows = "".join(
            f"<li><small>{said.count(text)} ×</small> {html.escape(text) or '<i>no answer</i>'}</li>"
            for text in different
        )
        found.append(
            f'<details class="repeats"><summary>{repeats} answers, {len(different)} different</summary><ul>{rows}</ul></details>'
        )
    return found


# -- wiring ----------------------------------------------------------------------------------------------------


def _wire_asking(page: _Page) -> None:
    cells = [widget for column in page.columns for widget in column.inputs]
    inputs = [page.repeats, page.mark, *cells, *page.asking.inputs]
    turns = [page.stop, page.ask_all]
    outputs = [*turns, *(widget for column in page.columns for widget in column.outputs)]
    streaming: dict[str, Any] = {
        "concurrency_id": "answers",
        "concurrency_limit": 32,
        "show_progress": "hidden",
        # Ask can be pressed again once the answers stand there, a moment before their event is over; a press in that
        # moment waits for its turn, where by default it would be dropped without a word.
        "trigger_mode": "always_last",
    }

    def asking(only: int) -> Any:
        async def ask(request: gr.Request, *values: Any) -> AsyncIterator[Any]:
            async for update in page.ask(request, only, *values):
                yield update

        return handler(ask)

    asked = page.ask_all.click(asking(0), inputs, outputs, api_name="ask", **streaming)
    events: list[Any] = [asked]
    for number, column in enumerate(page.columns, start=1):
        events.append(column.again.click(asking(number), inputs, outputs, api_name=f"ask_{number}", **streaming))
    for event in events:
        event.failure(
            handler(lambda: _stop_or_ask("ask")), None, turns,
            queue=False, show_progress="hidden", api_visibility="private", api_name="ask_failed",
        )  # fmt: skip
    page.stop.click(
        handler(page.stopped),
        [column.text for column in page.columns],
        [*turns, *(button for column in page.columns for button in (column.keep, column.send))],
        cancels=events,
        queue=False,
        api_name="stop",
        api_visibility="private",
    )
    _wire_columns(page)


def _wire_columns(page: _Page) -> None:
    """Columns come and go; one whose model was chosen from elsewhere opens."""
    models = [column.model for column in page.columns]
    boxes = [column.box for column in page.columns]

    def add(*chosen: str) -> list[Any]:
        free = next((n for n, model in enumerate(chosen) if not model), None)
        if free is None:
            raise InputError(f"There are {COLUMNS} columns at most. Remove one first.")
        return [gr.Dropdown(value=chosen[0] or str(EMBEDDED)) if n == free else gr.skip() for n in range(COLUMNS)]

    def drop(*chosen: str) -> list[Any]:
        last = max((n for n, model in enumerate(chosen) if model and n), default=None)
        return [gr.Dropdown(value=NOBODY) if n == last else gr.skip() for n in range(COLUMNS)]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.add.click(handler(add), models, models, **quiet)
    page.drop.click(handler(drop), models, models, **quiet)
    gr.on(
        [model.change for model in models],
        handler(lambda *chosen: [gr.Column(visible=bool(model) or n == 0) for n, model in enumerate(chosen)]),
        models,
        boxes,
        queue=False,
        trigger_mode="multiple",
        **quiet,
    )
    for column in page.columns:
        gr.on(
            [column.template.change, column.temperature.change],
            handler(lambda template, temperature: gr.Accordion(label=own_words(template or "", temperature or ""))),
            [column.template, column.temperature],
            column.own,
            queue=False,
            **quiet,
        )
    page.columns[0].model.change(
        handler(lambda ref: _terms(page.workspace, ref)),
        page.columns[0].model,
        page.terms,
        queue=False,
        trigger_mode="multiple",
        **quiet,
    )


# At once, and while somebody goes on writing three times a second: each time is a write to the disk.
_NOW_AND_THEN = """() => {
  const keep = () => {
    window.ladderDraft = { at: Date.now() };
    document.getElementById('keep-draft')?.click();
  };
  const last = window.ladderDraft ?? { at: 0 };
  clearTimeout(last.timer);
  // Not before the widgets have what was just written, hence never in this very moment.
  window.ladderDraft = { at: last.at, timer: setTimeout(keep, Math.max(0, last.at + 333 - Date.now())) };
}"""


def _wire_looking(page: _Page) -> None:
    question = [page.columns[0].model, *page.asking.inputs]
    # A text box also tells of `input`; listening to both would ask twice for every key.
    gr.on(
        [page.columns[0].model.change, *(widget.change for widget in page.asking.inputs)],
        handler(page.preview),
        question,
        [page.budget, page.shown, page.prompt, page.asking.editor.state],
        queue=False,  # a queued one that ends as somebody presses Ask can take the answer's stream with it
        show_progress="hidden",
        trigger_mode="always_last",
        api_name="preview",
        api_visibility="private",
    )
    # Apart from the preview, which waits for the engine.
    gr.on([widget.change for widget in page.asking.inputs], None, js=_NOW_AND_THEN, api_visibility="private")
    page.to_keep.click(
        handler(page.keep_draft),
        page.asking.inputs,
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name="keep_draft",
        api_visibility="private",
    )
    page.asking.template.change(
        handler(page.opened),
        [page.asking.template, page.asking.editor.of, page.asking.editor.name],
        [page.summary, page.asking.more, *_about_editor(page)],
        queue=False,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
    )
    page.see_tokens.click(handler(page.token_view), question, page.tokens, api_name="show_tokens")
    page.see_next.click(handler(page.next_view), question, page.next, api_name="next_tokens")
    for number, column in enumerate(page.columns, start=1):
        column.look.click(handler(page.colour), column.ticket, column.marks, api_name=f"probabilities_{number}")


def _wire_onward(page: _Page) -> tuple[Given, Given]:
    """To the pages that measure: they ask saved prompts."""
    template, examples, edit = page.asking.template, page.asking.examples, page.asking.editor

    def checkable(ref: str, shown: str | None, *edited: Any) -> str:
        if edit.draft(page.store, ref, edited) is not None:
            raise InputError("A check asks the saved prompt, and your edits are not saved. Save or revert them first.")
        return f"{ref} {shown or ''}"

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    given = [template, examples, *edit.inputs]
    to_check = page.helps.click(handler(checkable), given, page.to_check, api_name="to_check", **quiet)
    cells = [box for column in page.columns for box in column.inputs]
    given = [*cells, *page.asking.inputs]
    to_evaluate = page.evaluate.click(
        handler(page.as_columns), given, page.to_evaluate, api_name="to_evaluate", **quiet
    )
    return Given(to_check, page.to_check), Given(to_evaluate, page.to_evaluate)


def _about_editor(page: _Page) -> list[Any]:
    edit = page.asking.editor
    return [*edit.inputs, edit.state, edit.name, edit.tags, edit.history]


def _wire_editing(page: _Page) -> None:
    edit, chosen = page.asking.editor, page.asking.template
    edit.save.click(
        handler(page.save),
        [chosen, edit.name, edit.tags, edit.note, *edit.inputs],
        [chosen, edit.note],
        api_name="save_prompt",
    )
    edit.revert.click(handler(page.revert), chosen, _about_editor(page), api_visibility="private")
    edit.history.change(
        handler(lambda ref, older: edit.against(page.store, ref, older or "")),
        [chosen, edit.history],
        edit.change,
        api_name="compare_versions",
    )
    written = edit.download.click(
        handler(lambda ref, *values: edit.written(page.store, ref, values)),
        [chosen, *edit.inputs],
        edit.file,
        api_name="export_prompt",
    )
    hand_over(written, edit.file)
    edit.upload.upload(handler(page.bring), edit.upload, chosen, api_name="import_prompt")


def _wire_keeping(page: _Page) -> None:
    tickets = [column.ticket for column in page.columns]
    for number, column in enumerate(page.columns, start=1):
        column.keep.click(handler(page.keep), column.ticket, [page.kept, column.keep], api_name=f"keep_answer_{number}")
        column.send.click(
            handler(page.send),
            [column.ticket, column.text, page.dataset],
            [page.kept, column.send],
            api_name=f"answer_to_dataset_{number}",
        )
    page.pair.click(handler(page.to_labeling), tickets, None, api_name="answers_to_labeling")
    page.code_button.click(
        handler(page.take_code), [page.which, page.format, *tickets], [page.code, page.left_out], api_name="export_code"
    )
    made = page.reproduce.click(handler(page.take_file), [page.which, *tickets], page.file, api_name="reproduce_file")
    hand_over(made, page.file)


def beside_base(workspace: Workspace, run: str) -> list[Any]:
    """The first two columns' models: the base a run was made from, and the run."""
    model = workspace.store.model(f"run:{run}")
    offers = _offers(workspace)
    return [
        gr.Dropdown(choices=[("No model", NOBODY), *offers], value=model.base),
        gr.Dropdown(choices=[("No model", NOBODY), *offers], value=str(model.ref)),
        gr.Column(visible=True),
    ]


# -- small pieces ----------------------------------------------------------------------------------------------


def _number(text: Any, what: str) -> int | None:
    if str(text or "").strip() == "":
        return None
    if not str(text).strip().isdecimal():
        raise InputError(f"{what} cannot be '{text}'. Write a whole number, or leave it empty.")
    return int(text)


def _fraction(text: Any, what: str) -> float | None:
    if str(text or "").strip() == "":
        return None
    try:
        return float(str(text).replace(",", "."))
    except ValueError as error:
        raise InputError(f"{what} cannot be '{text}'. Write a number such as 0.7, or leave it empty.") from error


def _with_temperature(sampling: Sampling, temperature: float) -> Sampling:
    if not 0 <= temperature <= 5:
        raise InputError(f"A temperature of {temperature:g} is out of range. Choose 0 to 5.")
    return sampling.model_copy(update={"temperature": temperature})


def _terms(workspace: Workspace, ref: str) -> str:
    """The model's licence in plain words, and whether it is ready."""
    found = next((o for o in workspace.offers() if o.ref == ref), None)
    if found is None:
        return ""
    known = licence(found.licence)
    allowed = {True: "Companies may build on it", False: "Not for business", None: "Not known"}[known.commercial]
    state = _preparing(workspace) if ref == str(EMBEDDED) else ""
    return (
        f'<div class="terms">{chip(found.licence or "no licence named", title=known.name)}'
        f'<span class="quiet">{html.escape(allowed)}. {html.escape(known.duties)}</span>{state}</div>'
    )


def _preparing(workspace: Workspace) -> str:
    state = conversion(workspace.settings.cache)
    return f"<span>Being prepared for first use: {state.fraction:.0%}</span>" if state else ""


def _kept(workspace: Workspace) -> list[list[Any]]:
    return [_kept_row(a) for a in workspace.store.kept_completions(20)]


def _kept_row(answer: Answer) -> list[Any]:
    return [answer.id, answer.model, answer.template, answer.variables.get("instruction", ""), answer.text]


def _offers(workspace: Workspace) -> list[tuple[str, str]]:
    return [(o.label, str(o.ref)) for o in workspace.offers()]


def _datasets(workspace: Workspace) -> list[str]:
    return [d.name for d in workspace.store.datasets()]


def _sources(workspace: Workspace) -> list[tuple[str, str]]:
    """Where examples can come from: banks, then snapshots."""
    banks = [(f"Bank {b.name} ({b.on} on)", b.name) for b in workspace.store.banks()]
    return banks + [(str(s.ref), str(s.ref)) for s in workspace.store.snapshots("data")]


def _drafted(choices: list[tuple[str, str]], value: str, drafted: str | None) -> gr.Dropdown:
    """New choices, and what a draft had chosen among them."""
    if drafted in [ref for _, ref in choices] and drafted != value:
        return gr.Dropdown(choices=choices, value=drafted)
    return fresh_choices(choices, value)
