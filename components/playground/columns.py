"""The answer columns of the Prompt page: what each is asked with, its answer, and the marks on it."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.frame import card, chip, live_dropdown, markup, notice
from studio.backends import Partial
from studio.prompts import word_diff
from studio.specs import ModelRef, TokenLogprob

__all__ = ["COLUMNS", "NOBODY", "Column", "answer_column", "differences", "head", "own_words", "probabilities"]

COLUMNS = 4
NOBODY = ""  # a column that is off, and "as on the left"


@dataclass(frozen=True)
class Column:
    """One cell: any prompt x model x temperature. `ticket` names its answer from before it is there, so that one that was
    stopped can be kept as well."""

    box: gr.Column
    model: gr.Dropdown
    own: gr.Accordion
    template: gr.Dropdown
    temperature: gr.Textbox
    head: gr.HTML
    text: gr.Textbox
    ticket: gr.Textbox
    keep: gr.Button
    send: gr.Button
    again: gr.Button
    look: gr.Button
    marks: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """What makes the cell its own."""
        return [self.model, self.template, self.temperature]

    @property
    def outputs(self) -> list[Any]:
        """What changes while it answers."""
        return [self.head, self.text, self.ticket, self.keep, self.send, self.marks]


def own_words(template: str, temperature: str) -> str:
    """What a column has of its own, as the heading over it."""
    own = [template] if template else []
    own += [f"temperature {temperature}"] if str(temperature or "").strip() else []
    return f"Here: {', '.join(own)}" if own else "Another prompt or temperature here"


def answer_column(number: int, models: list[tuple[str, str]], prompts: list[tuple[str, str]], model: str) -> Column:
    """Column `number` from 0; those without a model are hidden until somebody adds them."""
    with card(visible=bool(model), min_width=260, elem_classes=["answer"], elem_id=f"answer-card-{number + 1}") as box:
        choice = live_dropdown(
            [("No model", NOBODY), *models], value=model, label=f"Model {number + 1}", elem_id=f"model-{number + 1}"
        )
        with gr.Accordion(own_words(NOBODY, ""), open=False, elem_classes=["more"]) as own:
            template = live_dropdown([("As on the left", NOBODY), *prompts], value=NOBODY, label=f"Prompt {number + 1}")
            temperature = gr.Textbox("", label=f"Temperature {number + 1}", placeholder="As on the left")
        line = markup(head(None, None))
        text = gr.Textbox(
            label=f"Answer {number + 1}",
            show_label=False,
            lines=7,
            max_lines=24,
            interactive=True,
            placeholder="The answer appears here, word by word.",
            elem_id=f"answer-{number + 1}",
        )
        with gr.Row(elem_classes=["off-screen"]):
            ticket = gr.Textbox("", label=f"Ticket of answer {number + 1}")
        with gr.Row(elem_classes=["actions"]):
            keep = gr.Button("Keep", size="sm", min_width=0, scale=0, interactive=False)
            send = gr.Button("To dataset", size="sm", min_width=0, scale=0, interactive=False)
            again = gr.Button("Ask this one", size="sm", min_width=0, scale=0)
            look = gr.Button("Probabilities", size="sm", min_width=0, scale=0)
        marks = markup("")
    return Column(box, choice, own, template, temperature, line, text, ticket, keep, send, again, look, marks)


def head(ref: ModelRef | None, partial: Partial | None, *, elsewhere: str = "", price: str = "") -> str:
    """The line above an answer: model, tokens, speed; or why there is none. `elsewhere` says that text left this machine."""
    if ref is None or partial is None:
        return '<div class="answer-head"><span class="quiet">No answer yet</span></div>'
    mark = f'<span class="leaves">{html.escape(elsewhere)}</span>' if elsewhere else ""
    if partial.error:
        return f'<div class="answer-head">{chip(str(ref))}{mark}</div>{notice(partial.error, "bad")}'
    if not partial.finish:
        words = "answering" if partial.text else "reading the prompt"
        return f'<div class="answer-head">{chip(str(ref))}{mark}<span class="quiet">{words}</span></div>'
    pace = partial.output_tokens / partial.seconds if partial.seconds else 0.0
    cut = " · cut at the token limit" if partial.finish == "length" else ""
    first = f" · first after {partial.first_token_seconds:.2f} s" if partial.first_token_seconds is not None else ""
    cost = f" · {price}" if price else ""
    words = (
        f"{partial.prompt_tokens} + {partial.output_tokens} tokens · {partial.seconds:.1f} s{first} · "
        f"{pace:.0f} tokens/s{cut}{cost}"
    )
    return f'<div class="answer-head">{chip(str(ref))}{mark}<span class="quiet">{html.escape(words)}</span></div>'


def differences(texts: Sequence[str]) -> list[str]:
    """For every answer the words in which it differs from the first, as HTML; '' for the first and for empty ones."""
    if not texts:
        return []
    return ["", *(_difference(texts[0], text) for text in texts[1:])]


def _difference(first: str, text: str) -> str:
    if not first or not text:
        return ""
    if first == text:
        return notice("The same words as answer 1.")
    tags = {"same": "span", "added": "ins", "removed": "del"}
    words = "".join(f"<{tags[p.kind]}>{html.escape(p.text)}</{tags[p.kind]}>" for p in word_diff(first, text))
    return f'<div class="diff" role="group" aria-label="Differences from answer 1">{words}</div>'


def probabilities(tokens: Sequence[TokenLogprob]) -> str:
    """Every token of an answer, the surer the paler, with the likeliest others at its place on hover and focus."""
    mean = sum(t.logprob for t in tokens) / len(tokens) if tokens else 0.0
    spans = "".join(_token(t) for t in tokens)
    note = (
        f"{len(tokens)} tokens, perplexity {math.exp(-mean):.2f}. The darker a token, the less likely the model found it; "
        "rest on one to see what else it might have said."
    )
    return (
        f'<div class="logprobs" role="group" aria-label="Token probabilities">{spans}</div><p class="quiet">{note}</p>'
    )


def _token(token: TokenLogprob) -> str:
    share = math.exp(token.logprob)
    others = ", ".join(f"{_visible(t)} {math.exp(p):.1%}" for t, p in token.alternatives)
    tip = f"{_visible(token.token)} {share:.1%}" + (f" · likeliest: {others}" if others else "")
    doubt = round(min(0.6, 0.12 * -token.logprob), 3)
    return f'<span tabindex="0" style="--doubt:{doubt}" title="{html.escape(tip, quote=True)}">{html.escape(token.token)}</span>'


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace(" ", "·") or "∅"
