"""Playground: ask one model, or two beside each other, with a template; see the prompt, keep what is good.

Every finished answer is a row before anybody keeps it, so that "keep" and "to dataset" name what was really asked,
whatever has been typed since.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
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
    notice,
    page_header,
    table,
    user_of,
)
from studio.backends import Partial, side_by_side
from studio.errors import InputError, StudioError
from studio.models import EMBEDDED, conversion, licence
from studio.prompts import Question, record_answer, template, templates, to_dataset
from studio.specs import ModelRef, Sampling
from studio.store import Answer
from studio.workspace import Workspace

__all__ = ["PlaygroundWidgets", "beside_base", "build"]

_COLUMNS = 2
_NOBODY = ""  # the second column is off
_KNOBS = ("temperature", "max_tokens", "seed", "top_p", "top_k", "min_p", "repetition_penalty", "stop")


@dataclass(frozen=True, kw_only=True)
class PlaygroundWidgets(TabWidgets):
    """`models` are the choices of the columns: "try it" buttons of other tabs set them."""

    models: tuple[gr.Dropdown, gr.Dropdown]


@dataclass(frozen=True)
class _Column:
    box: gr.Column
    head: gr.HTML
    text: gr.Textbox
    answer_id: gr.Textbox
    keep: gr.Button
    send: gr.Button


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

    def read(self, values: tuple[Any, ...]) -> Question:
        name, instruction, context, guidelines, examples = (str(v or "") for v in values[:5])
        return Question(name, instruction, context, guidelines, examples, self.sampling.read(values[5:]))


def build(workspace: Workspace) -> PlaygroundWidgets:
    with page_header("playground", "Ask a model with a template, see exactly what it gets, and keep what works."):
        stop = gr.Button("Stop", min_width=90, scale=0, interactive=False)
        ask = gr.Button("Ask", variant="primary", min_width=120, scale=0, elem_id="ask")
    with gr.Row(elem_classes=["playground"]):
        with gr.Column(scale=0, min_width=340, elem_classes=["side"]):
            with card():
                first = live_dropdown(_offers(workspace), value=str(EMBEDDED), label="Model", elem_id="model-a")
                second = live_dropdown(
                    [("None", _NOBODY), *_offers(workspace)], value=_NOBODY, label="Beside it", elem_id="model-b"
                )
                terms = gr.HTML(_terms(workspace, str(EMBEDDED)), js_on_load=None)
            with card("Prompt"):
                asking = _question_widgets(workspace)
        with gr.Column(scale=2, min_width=320):
            with card("Your question"):
                asking.instruction.render()  # type: ignore[no-untyped-call]
                asking.context.render()  # type: ignore[no-untyped-call]
            with card("What the model gets"):
                budget = gr.HTML(_budget(None), js_on_load=None)
                prompt = gr.Textbox(
                    label="Rendered prompt",
                    lines=8,
                    max_lines=16,
                    interactive=False,
                    elem_classes=["mono"],
                    placeholder="Write a question to see the prompt here.",
                )
        with gr.Column(scale=3, min_width=320), gr.Row(elem_classes=["answers"]):
            columns = tuple(_answer_column(number) for number in range(_COLUMNS))
    with card("Kept answers"):
        kept = table(
            ["Answer", "Model", "Template", "Question", "Text"],
            label="Kept answers",
            widths=["80px", "18%", "12%", "28%", "36%"],
            rows=_kept(workspace),
            max_height=260,
        )
        with gr.Row(elem_classes=["form-row"]):
            dataset = live_dropdown(
                _datasets(workspace),
                label="Dataset that answers are sent to",
                elem_id="send-to",
                min_width=240,
                scale=0,
            )

    async def ask_models(request: gr.Request, model: str, beside: str, *values: Any) -> AsyncIterator[list[Any]]:
        question = asking.read(values)
        refs = [ModelRef(m) for m in (model, beside) if m]
        messages = question.messages(workspace.store, workspace.path)
        user = user_of(request)
        streams = []
        for ref in refs:
            _refuse_unprepared(workspace, ref)
            chosen = template(question.template)
            room = question.sampling.max_tokens + chosen.extra_tokens
            sampling = question.sampling.model_copy(update={"max_tokens": room})
            streams.append(workspace.backend(ref).stream(messages, sampling))
        yield [gr.Button(interactive=True), *_shown([Partial() for _ in refs], refs, [])]
        ids: dict[int, int] = {}
        partials: list[Partial] = []
        async for partials in side_by_side(streams):
            for place, partial in enumerate(partials):
                if partial.finish and place not in ids:
                    ids[place] = record_answer(
                        workspace.store, refs[place], question, messages, partial.completion, author=user
                    )
            yield [gr.skip(), *_shown(partials, refs, [ids.get(i) for i in range(len(refs))])]
        yield [gr.Button(interactive=False), *_shown(partials, refs, [ids.get(i) for i in range(len(refs))])]

    outputs = [stop, *(w for c in columns for w in (c.box, c.head, c.text, c.answer_id, c.keep, c.send))]
    asked = ask.click(
        handler(ask_models),
        [first, second, *asking.inputs],
        outputs,
        concurrency_id="answers",
        concurrency_limit=32,
        show_progress="hidden",
        api_name="ask",
    )
    stop.click(
        handler(lambda: gr.Button(interactive=False)),
        None,
        stop,
        cancels=[asked],
        queue=False,
        api_visibility="private",
    )

    async def preview(model: str, *values: Any) -> tuple[str, str]:
        question = asking.read(values)
        if not question.instruction.strip():
            return _budget(None), ""
        try:
            messages = question.messages(workspace.store, workspace.path)
            _refuse_unprepared(workspace, ModelRef(model))
            rendered = await workspace.backend(ModelRef(model)).render(messages)
        except StudioError as error:
            return _budget(None, str(error)), ""
        room = question.sampling.max_tokens + template(question.template).extra_tokens
        return _budget((rendered.tokens, room, rendered.window)), rendered.text

    for trigger in (
        asking.instruction.input,
        asking.context.input,
        asking.guidelines.input,
        asking.template.change,
        asking.examples.change,
        first.change,
        asking.instruction.change,
    ):
        trigger(
            handler(preview),
            [first, *asking.inputs],
            [budget, prompt],
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_limit=16,
            api_visibility="private",
        )
    gr.on(
        [first.change],
        handler(lambda ref: _terms(workspace, ref)),
        first,
        terms,
        show_progress="hidden",
        api_visibility="private",
    )
    for number, column in enumerate(columns, start=1):

        def keep(answer_id: str) -> tuple[list[list[Any]], Any]:
            workspace.store.keep_completion(_number(answer_id))
            gr.Success("Kept.", duration=3)
            return _kept(workspace), gr.Button("Kept", interactive=False)

        def send(request: gr.Request, answer_id: str, text: str, name: str) -> tuple[list[list[Any]], Any]:
            if not name:
                raise InputError("There is no dataset to send this to. Make one under Dataset first.")
            answer = workspace.store.completion(_number(answer_id))
            to_dataset(workspace.store, answer, workspace.store.dataset(name), text, author=user_of(request))
            gr.Success(f"Added to {name}.", duration=3)
            return _kept(workspace), gr.Button("In the dataset", interactive=False)

        column.keep.click(handler(keep), column.answer_id, [kept, column.keep], api_name=f"keep_answer_{number}")
        column.send.click(
            handler(send),
            [column.answer_id, column.text, dataset],
            [kept, column.send],
            api_name=f"answer_to_dataset_{number}",
        )

    def reread(model: str, beside: str, name: str, examples: str) -> list[Any]:
        offers = _offers(workspace)
        known = {ref for _, ref in offers}
        return [
            gr.Dropdown(choices=offers, value=model if model in known else str(EMBEDDED)),
            gr.Dropdown(choices=[("None", _NOBODY), *offers], value=beside if beside in known else _NOBODY),
            _dropdown(_datasets(workspace), name),
            _dropdown(_snapshots(workspace), examples),
            _kept(workspace),
            _terms(workspace, model),
        ]

    return PlaygroundWidgets(
        refresh=Refresh(
            reread, [first, second, dataset, asking.examples], [first, second, dataset, asking.examples, kept, terms]
        ),
        models=(first, second),
        links={"model": first, "beside": second},
    )


def beside_base(workspace: Workspace, run: str) -> list[Any]:
    """The two columns' models: the base a run was made from, and the run."""
    model = workspace.store.model(f"run:{_number(run)}")
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
    summary = gr.HTML(_summary("zero-shot"), js_on_load=None)
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
        sampling = form(Sampling, first=_KNOBS)
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
        head = gr.HTML(_head(None, None), js_on_load=None)
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
            answer_id = gr.Textbox("", label=f"Number of answer {number + 1}")
        with gr.Row(elem_classes=["form-row"]):
            keep = gr.Button("Keep", min_width=80, interactive=False)
            send = gr.Button("To dataset", min_width=100, interactive=False)
    return _Column(box, head, text, answer_id, keep, send)


def _shown(partials: list[Partial], refs: list[ModelRef], ids: list[int | None]) -> list[Any]:
    """Values for every column's widgets while answers grow."""
    values: list[Any] = []
    for place in range(_COLUMNS):
        if place >= len(refs):
            values += [gr.Column(visible=False), *[gr.skip()] * 5]
            continue
        partial, answer_id = partials[place], ids[place] if ids else None
        done = answer_id is not None
        values += [
            gr.Column(visible=True),
            _head(refs[place], partial),
            partial.text,
            str(answer_id or ""),
            gr.Button("Keep", interactive=done),
            gr.Button("To dataset", interactive=done),
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


def _refuse_unprepared(workspace: Workspace, ref: ModelRef) -> None:
    """While the embedded model converts, say how far it is instead of waiting in silence."""
    workspace.weights(ref, wait=False) if ref.kind in ("embedded", "run", "dir") else None


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


def _number(answer_id: str) -> int:
    if not answer_id.isdigit():
        raise InputError("There is no finished answer here yet. Ask first, then keep it.")
    return int(answer_id)
