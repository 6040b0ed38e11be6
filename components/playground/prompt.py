"""Playground: ask one model, or two beside each other, with a template; see the prompt, keep what is good.

Every answer is a row before anybody keeps it, so that "keep" and "to dataset" name what was really asked, whatever has
been typed since.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.forms import Form, form
from components.frame import (
    Refresh,
    TabWidgets,
    card,
    chip,
    handler,
    live_dropdown,
    markup,
    notice,
    page_header,
    table,
    user_of,
)
from studio.backends import Backend, Partial, side_by_side
from studio.errors import InputError, StudioError
from studio.models import EMBEDDED, conversion, licence
from studio.prompts import Question, record_answer, template, templates, to_dataset
from studio.specs import ModelRef, Sampling
from studio.store import Answer
from studio.workspace import Workspace

log = logging.getLogger(__name__)

__all__ = ["PlaygroundWidgets", "beside_base", "build"]

_COLUMNS = 2
_NOBODY = ""  # the second column is off


@dataclass(frozen=True, kw_only=True)
class PlaygroundWidgets(TabWidgets):
    """`models` are the choices of the columns: "try it" buttons of other tabs set them."""

    models: tuple[gr.Dropdown, gr.Dropdown]


@dataclass(frozen=True)
class _Column:
    """One answer. `ticket` names it from before it is there, so that one that was stopped can be kept as well."""

    box: gr.Column
    head: gr.HTML
    text: gr.Textbox
    ticket: gr.Textbox
    keep: gr.Button
    send: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.head, self.text, self.ticket, self.keep, self.send]


@dataclass(frozen=True)
class _Asking:
    """The widgets that make up a question, in the order handlers get their values."""

    template: gr.Radio
    instruction: gr.Textbox
    context: gr.Textbox
    guidelines: gr.Textbox
    examples: gr.Dropdown
    sampling: Form[Sampling]

    @property
    def inputs(self) -> list[Any]:
        own = [self.template, self.instruction, self.context, self.guidelines, self.examples]
        return own + self.sampling.inputs

    def read(self, values: Sequence[Any]) -> Question:
        name, instruction, context, guidelines, examples = (str(v or "") for v in values[:5])
        return Question(name, instruction, context, guidelines, examples, self.sampling.read(values[5:]))


def build(workspace: Workspace) -> PlaygroundWidgets:
    """Lay out the page and wire it."""
    with page_header("playground", "Ask a model with a template, see exactly what it gets, and keep what works."):
        stop = gr.Button("Stop", min_width=90, scale=0, interactive=False)
        ask = gr.Button("Ask", variant="primary", min_width=120, scale=0, elem_id="ask")
    page = _Page(workspace)
    _wire_asking(page, ask, stop)
    _wire_keeping(page)
    return PlaygroundWidgets(
        refresh=Refresh(page.again, page.chosen, [*page.chosen, page.kept, page.terms]),
        models=(page.model, page.beside),
        links={"model": page.model, "beside": page.beside},
    )


class _Page:
    """The widgets below the header, and what the handlers do with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        offers = _offers(workspace)
        with gr.Row(elem_classes=["playground"]):
            with gr.Column(scale=0, min_width=340, elem_classes=["side"]):
                with card():
                    self.model = live_dropdown(offers, value=str(EMBEDDED), label="Model", elem_id="model-a")
                    self.beside = live_dropdown(
                        [("None", _NOBODY), *offers], value=_NOBODY, label="Beside it", elem_id="model-b"
                    )
                    self.terms = markup(_terms(workspace, str(EMBEDDED)))
                with card("Prompt"):
                    self.asking = _question_widgets(workspace)
            with gr.Column(scale=2, min_width=320):
                with card("Your question"):
                    self.asking.instruction.render()  # type: ignore[no-untyped-call]
                    self.asking.context.render()  # type: ignore[no-untyped-call]
                with card("What the model gets"):
                    self.budget = markup(_budget(None))
                    self.prompt = gr.Textbox(
                        label="Rendered prompt",
                        lines=8,
                        max_lines=16,
                        interactive=False,
                        elem_classes=["mono"],
                        placeholder="Write a question to see the prompt here.",
                    )
            with gr.Column(scale=3, min_width=320), gr.Row(elem_classes=["answers"]):
                self.columns = tuple(_answer_column(number) for number in range(_COLUMNS))
        with card("Kept answers"):
            self.kept = table(
                ["Answer", "Model", "Template", "Question", "Text"],
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

    @property
    def chosen(self) -> list[Any]:
        """The lists whose choices come from rows."""
        return [self.model, self.beside, self.dataset, self.asking.examples]

    def again(self, model: str, beside: str, dataset: str, examples: str) -> list[Any]:
        """The lists as the database has them now; what somebody chose stays."""
        offers = _offers(self.workspace)
        known = {ref for _, ref in offers}
        return [
            gr.Dropdown(choices=offers, value=model if model in known else str(EMBEDDED)),
            gr.Dropdown(choices=[("None", _NOBODY), *offers], value=beside if beside in known else _NOBODY),
            _dropdown(_datasets(self.workspace), dataset),
            _dropdown(_snapshots(self.workspace), examples),
            _kept(self.workspace),
            _terms(self.workspace, model),
        ]

    # -- asking --------------------------------------------------------------------------------------------------

    async def ask(self, request: gr.Request, model: str, beside: str, *values: Any) -> AsyncIterator[list[Any]]:
        """Stream the answers. Each ends as a row, also one that somebody stopped half-way."""
        question = self.asking.read(values)
        messages = question.messages(self.store, self.workspace.path)
        refs = [ModelRef(m) for m in (model, beside) if m]
        sampling = template(question.template).with_room(question.sampling)
        streams = [self._prepared(ref).stream(messages, sampling) for ref in refs]
        tickets = [secrets.token_hex(8) for _ in refs]
        partials = [Partial() for _ in refs]
        recorded: set[int] = set()

        def record(place: int) -> None:
            recorded.add(place)
            record_answer(
                self.store,
                refs[place],
                question,
                messages,
                partials[place].completion,
                ticket=tickets[place],
                author=user_of(request),
            )

        yield [gr.Button(interactive=True), *_shown(partials, refs, tickets)]
        try:
            async for partials in side_by_side(streams):
                for place, partial in enumerate(partials):
                    if partial.finish and place not in recorded:
                        record(place)
                yield [gr.skip(), *_shown(partials, refs, tickets)]
            yield [gr.Button(interactive=False), *_shown(partials, refs, tickets)]
        finally:
            try:
                for place, partial in enumerate(partials):
                    if partial.text and place not in recorded:
                        record(place)
            except StudioError as error:  # the page that could have been told is gone, or has its own error by now
                log.warning("A stopped answer could not be recorded: %s", error)

    def stop(self, *said: str) -> list[Any]:
        """What was said until now can be kept."""
        buttons = [gr.Button(interactive=bool(text)) for text in said for _ in ("keep", "send")]
        return [gr.Button(interactive=False), *buttons]

    async def preview(self, model: str, *values: Any) -> tuple[str, str]:
        """The token bar and the prompt, or why there is none."""
        question = self.asking.read(values)
        if not question.instruction.strip():
            return _budget(None), ""
        try:
            messages = question.messages(self.store, self.workspace.path)
            rendered = await self._prepared(ModelRef(model)).render(messages)
        except StudioError as error:
            return _budget(None, str(error)), ""
        room = template(question.template).with_room(question.sampling).max_tokens
        return _budget((rendered.tokens, room, rendered.window)), rendered.text

    def _prepared(self, ref: ModelRef) -> Backend:
        """The model's backend. While the embedded model converts, a sentence says how far it is."""
        if ref.kind in ("embedded", "run", "dir"):
            self.workspace.weights(ref, wait=False)
        return self.workspace.backend(ref)

    # -- keeping -------------------------------------------------------------------------------------------------

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


def _wire_asking(page: _Page, ask: gr.Button, stop: gr.Button) -> None:
    question = [page.model, *page.asking.inputs]
    asked = ask.click(
        handler(page.ask),
        [page.model, page.beside, *page.asking.inputs],
        [stop, *(widget for column in page.columns for widget in column.outputs)],
        concurrency_id="answers",
        concurrency_limit=32,
        show_progress="hidden",
        api_name="ask",
    )
    stop.click(
        handler(page.stop),
        [column.text for column in page.columns],
        [stop, *(button for column in page.columns for button in (column.keep, column.send))],
        cancels=[asked],
        queue=False,
        api_name="stop",
        api_visibility="private",
    )
    # A text box also tells of `input`; listening to both would ask twice for every key.
    gr.on(
        [
            page.model.change,
            page.asking.template.change,
            page.asking.instruction.change,
            page.asking.context.change,
            page.asking.guidelines.change,
            page.asking.examples.change,
        ],
        handler(page.preview),
        question,
        [page.budget, page.prompt],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=16,
        api_visibility="private",
    )
    page.model.change(
        handler(lambda ref: _terms(page.workspace, ref)),
        page.model,
        page.terms,
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_keeping(page: _Page) -> None:
    for number, column in enumerate(page.columns, start=1):
        column.keep.click(handler(page.keep), column.ticket, [page.kept, column.keep], api_name=f"keep_answer_{number}")
        column.send.click(
            handler(page.send),
            [column.ticket, column.text, page.dataset],
            [page.kept, column.send],
            api_name=f"answer_to_dataset_{number}",
        )


def beside_base(workspace: Workspace, run: str) -> list[Any]:
    """The two columns' models: the base a run was made from, and the run."""
    model = workspace.store.model(f"run:{run}")
    offers = _offers(workspace)
    return [
        gr.Dropdown(choices=offers, value=model.base),
        gr.Dropdown(choices=[("None", _NOBODY), *offers], value=str(model.ref)),
    ]


def _question_widgets(workspace: Workspace) -> _Asking:
    chosen = gr.Radio(
        [(t.title, t.name) for t in templates().values()],
        value="zero-shot",
        label="Template",
        elem_id="template",
        elem_classes=["two-wide"],
    )
    summary = markup(_summary("zero-shot"))
    chosen.change(handler(_summary), chosen, summary, show_progress="hidden", queue=False, api_visibility="private")
    told = (d.guidelines for d in workspace.store.datasets() if d.guidelines)
    guidelines = gr.Textbox(
        next(told, ""),
        label="Guidelines",
        info="How answers should be. The template decides whether the model is told.",
        lines=4,
        max_lines=10,
    )
    snapshots = _snapshots(workspace)
    examples = live_dropdown(
        snapshots, value=snapshots[0] if snapshots else None, label="Examples from", info="Only few-shot templates."
    )
    with gr.Accordion("Sampling", open=False, elem_classes=["more"]):
        sampling = form(Sampling)
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
    return _Asking(chosen, instruction, context, guidelines, examples, sampling)


def _answer_column(number: int) -> _Column:
    with card(visible=number == 0, min_width=240, elem_classes=["answer"]) as box:
        head = markup(_head(None, None))
        text = gr.Textbox(
            label=f"Answer {number + 1}",
            show_label=False,
            lines=8,
            max_lines=24,
            interactive=True,
            placeholder="The answer appears here, word by word.",
            elem_id=f"answer-{number + 1}",
        )
        with gr.Row(elem_classes=["off-screen"]):
            ticket = gr.Textbox("", label=f"Ticket of answer {number + 1}")
        with gr.Row(elem_classes=["form-row"]):
            keep = gr.Button("Keep", min_width=80, interactive=False)
            send = gr.Button("To dataset", min_width=100, interactive=False)
    return _Column(box, head, text, ticket, keep, send)


def _shown(partials: Sequence[Partial], refs: Sequence[ModelRef], tickets: Sequence[str]) -> list[Any]:
    """Values for every column's widgets while answers grow."""
    values: list[Any] = []
    for place in range(_COLUMNS):
        if place >= len(refs):
            values += [gr.Column(visible=False), *[gr.skip()] * 5]
            continue
        partial = partials[place]
        is_growing = bool(partial.text) and not partial.is_over
        is_whole = partial.is_over and bool(partial.text)
        values += [
            gr.Column(visible=True),
            _head(refs[place], partial),
            partial.text,
            tickets[place],
            # Left alone while it grows: a piece that arrives after Stop must not take back what Stop allowed.
            gr.skip() if is_growing else gr.Button("Keep", interactive=is_whole),
            gr.skip() if is_growing else gr.Button("To dataset", interactive=is_whole),
        ]
    return values


def _head(ref: ModelRef | None, partial: Partial | None) -> str:
    """The line above an answer: model, tokens, speed; or why there is none."""
    if ref is None or partial is None:
        return '<div class="answer-head"><span class="quiet">No answer yet</span></div>'
    if partial.error:
        return f'<div class="answer-head">{chip(str(ref))}</div>{notice(partial.error, "bad")}'
    if not partial.finish:
        words = "answering" if partial.text else "reading the prompt"
        return f'<div class="answer-head">{chip(str(ref))}<span class="quiet">{words}</span></div>'
    pace = partial.output_tokens / partial.seconds if partial.seconds else 0.0
    cut = " · cut at the token limit" if partial.finish == "length" else ""
    words = (
        f"{partial.prompt_tokens} + {partial.output_tokens} tokens · {partial.seconds:.1f} s · {pace:.0f} tokens/s{cut}"
    )
    return f'<div class="answer-head">{chip(str(ref))}<span class="quiet">{words}</span></div>'


def _budget(counts: tuple[int, int, int] | None, trouble: str = "") -> str:
    """The token bar: prompt and room for the answer against the model's window."""
    if trouble:
        return notice(trouble, "bad")
    if counts is None:
        return '<div class="budget"><span class="quiet">Tokens are counted as you type.</span></div>'
    used, room, window = counts
    over = used + room > window
    shares = (min(100.0, 100 * used / window), min(100.0, 100 * room / window))
    words = f"{used:,} tokens of prompt + {room:,} for the answer, of {window:,}"
    tone = "bad" if over else "quiet"
    mark = " · does not fit: shorten the prompt" if over else ""
    return (
        f'<div class="budget"><div class="bar" aria-hidden="true"><i style="width:{shares[0]:.2f}%"></i>'
        f'<b style="width:{shares[1]:.2f}%"></b></div><span class="{tone}">{words}{mark}</span></div>'
    )


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


def _summary(name: str) -> str:
    chosen = template(name)
    source = f' <span class="quiet">{html.escape(chosen.citation)}</span>' if chosen.citation else ""
    return f'<p class="quiet">{html.escape(chosen.summary)}{source}</p>'


def _kept(workspace: Workspace) -> list[list[Any]]:
    return [_kept_row(a) for a in workspace.store.kept_completions(20)]


def _kept_row(answer: Answer) -> list[Any]:
    return [answer.id, answer.model, answer.template, answer.variables.get("instruction", ""), answer.text]


def _offers(workspace: Workspace) -> list[tuple[str, str]]:
    return [(o.label, str(o.ref)) for o in workspace.offers()]


def _datasets(workspace: Workspace) -> list[str]:
    return [d.name for d in workspace.store.datasets()]


def _snapshots(workspace: Workspace) -> list[str]:
    return [str(s.ref) for s in workspace.store.snapshots("data")]


def _dropdown(choices: list[str], value: str) -> Any:
    return gr.Dropdown(choices=choices, value=value if value in choices else next(iter(choices), None))
