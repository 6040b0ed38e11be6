"""Editing a prompt: its parts, its versions, and its way in and out as a file."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from components.frame import actions, hidden_download, live_dropdown, markup, notice
from studio.errors import InputError
from studio.fields import complaints
from studio.prompts import Template, changed_fields, find_template, from_yaml, save_template, template, to_yaml
from studio.store import Store

__all__ = ["Editor", "editor", "prompt_choices"]


_FIELDS = ("system", "user", "declares", "shots", "answer_after", "extra_tokens")


@dataclass(frozen=True)
class Editor:
    """The fields of the prompt that is open, and the buttons around them. `of` is the reference they belong to."""

    of: gr.Textbox
    system: gr.Textbox
    user: gr.Textbox
    declares: gr.Textbox
    shots: gr.Number
    answer_after: gr.Textbox
    extra_tokens: gr.Number
    state: gr.HTML
    name: gr.Textbox
    tags: gr.Textbox
    note: gr.Textbox
    save: gr.Button
    revert: gr.Button
    history: gr.Dropdown
    change: gr.HTML
    download: gr.Button
    file: gr.DownloadButton
    upload: gr.UploadButton

    @property
    def inputs(self) -> list[Any]:
        return [self.of, *self.fields]

    @property
    def fields(self) -> list[Any]:
        return [self.system, self.user, self.declares, self.shots, self.answer_after, self.extra_tokens]

    def draft(self, store: Store, ref: str, values: Sequence[Any]) -> Template | None:
        """The prompt as it is being edited; None when nothing was changed. Raises InputError naming what is wrong."""
        of, *fields = values
        if of != ref:  # the fields still show another prompt
            return None
        chosen = find_template(store, ref)
        given = _body(fields)
        if all(getattr(chosen, name) == value for name, value in given.items()):
            return None
        return _made(chosen, given)

    def show(self, store: Store, ref: str) -> list[Any]:
        """Values for `inputs`, then for `state`, `name`, `tags` and `history`."""
        chosen = find_template(store, ref)
        return [ref, *_shown(chosen), "", *self.about(store, ref)]

    def about(self, store: Store, ref: str) -> list[Any]:
        name = find_template(store, ref).name
        own = {t.name: t for t in store.prompt_templates(archived=True)}
        tags = ", ".join(own[name].tags) if name in own else ""
        versions = store.template_versions(name) if name in own else []
        choices = [(f"{v.ref} · {v.note or 'no note'} · {v.author}", v.ref) for v in versions]
        return [name if name in own else f"my-{name}", tags, gr.Dropdown(choices=choices, value=None)]

    def difference(self, store: Store, ref: str, values: Sequence[Any]) -> str:
        """What was changed and not saved, as HTML."""
        of, *fields = values
        if of != ref:
            return ""
        before = find_template(store, ref).model_dump()
        return _difference(before, {**before, **_body(fields)}, "Not saved yet")

    def saved(self, store: Store, ref: str, values: Sequence[Any], about: Sequence[str], *, author: str) -> str:
        """Save the edited prompt under a name and give its reference."""
        name, tags, note = (text.strip() for text in about)
        made = _made(find_template(store, ref), {**_body(values[1:]), "name": name, "title": _title(store, ref, name)})
        labels = [tag.strip() for tag in tags.split(",") if tag.strip()]
        return f"{name}@{save_template(store, made, note=note, author=author, tags=labels)}"

    def against(self, store: Store, ref: str, older: str) -> str:
        """The difference of a version from the one that is open."""
        if not older:
            return ""
        before, after = find_template(store, older).model_dump(), find_template(store, ref).model_dump()
        return _difference(before, after, f"From {older} to {ref}") or notice(f"{older} and {ref} say the same.")

    def written(self, store: Store, ref: str, values: Sequence[Any]) -> str:
        """The prompt as a YAML file, as it is being edited."""
        made = self.draft(store, ref, values) or find_template(store, ref)
        path = Path(tempfile.mkdtemp()) / f"{made.name}.yaml"
        path.write_text(to_yaml(made), encoding="utf-8")
        return str(path)

    def taken(self, store: Store, file: str, *, author: str) -> str:
        """Save what a YAML file holds as a version, and give its reference."""
        try:
            text = Path(file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{Path(file).name} is not UTF-8 text. Choose a YAML file of a prompt.") from error
        made = from_yaml(text)
        return f"{made.name}@{save_template(store, made, note=f'from {Path(file).name}', author=author)}"


def editor(ref: str) -> Editor:
    """Lay it out with this prompt of the library in it, which is the one that a new page has chosen."""
    first = template(ref)
    of = gr.Textbox(ref, label="Prompt in the editor", visible="hidden")
    state = markup("")
    system = gr.Textbox(
        first.system,
        label="System part",
        lines=3,
        max_lines=14,
        elem_classes=["mono"],
        info="What the model is told before anything.",
    )
    user = gr.Textbox(
        first.user,
        label="User part",
        lines=5,
        max_lines=24,
        elem_classes=["mono"],
        info="{{ instruction }}, {{ context }} and other declared names are filled in; other braces stay as they are.",
    )
    with gr.Row(elem_classes=["form-row"]):
        declares = gr.Textbox(
            ", ".join(first.declares), label="Variables", info="Names that may be filled in.", min_width=180
        )
        shots = gr.Number(first.shots, label="Examples", precision=0, minimum=0, min_width=90)
        answer_after = gr.Textbox(first.answer_after, label="Answer stands behind", min_width=120)
        extra_tokens = gr.Number(
            first.extra_tokens, label="Tokens for reasoning", precision=0, minimum=0, min_width=120
        )
    with gr.Row(elem_classes=["form-row"]):
        name = gr.Textbox(f"my-{ref}", label="Save as", min_width=140)
        tags = gr.Textbox(label="Tags", placeholder="support, tone", min_width=120)
        note = gr.Textbox(label="What changed", min_width=160)
    with actions():
        save = gr.Button("Save version", size="sm", variant="primary", min_width=0, scale=0)
        revert = gr.Button("Undo my changes", size="sm", min_width=0, scale=0)
        download = gr.Button("Export YAML", size="sm", min_width=0, scale=0)
        file = hidden_download()
        upload = gr.UploadButton("Import YAML", size="sm", file_types=[".yaml", ".yml"], min_width=0, scale=0)
    history = live_dropdown([], label="Earlier versions", info="Shows what changed since.")
    change = markup("")
    return Editor(
        of, system, user, declares, shots, answer_after, extra_tokens, state, name, tags, note, save, revert, history,
        change, download, file, upload,
    )  # fmt: skip


def prompt_choices(store: Store, library: Mapping[str, Template]) -> list[tuple[str, str]]:
    """Prompts to choose from: those of people first, then the library."""
    own = [(f"{t.title} · {t.ref}", t.ref) for t in store.prompt_templates()]
    return own + [(t.title, name) for name, t in library.items()]


def _body(fields: Sequence[Any]) -> dict[str, Any]:
    system, user, declares, shots, answer_after, extra_tokens = fields
    names = tuple(part.strip() for part in str(declares or "").replace("\n", ",").split(",") if part.strip())
    return {
        "system": str(system or ""),
        "user": str(user or ""),
        "declares": names,
        "shots": int(shots or 0),
        "answer_after": str(answer_after or ""),
        "extra_tokens": int(extra_tokens or 0),
    }


def _made(chosen: Template, changes: Mapping[str, Any]) -> Template:
    try:
        return Template.model_validate({**chosen.model_dump(), **changes})
    except ValidationError as error:
        said = " ".join(complaints(Template, error).values())
        raise InputError(f"{said[:1].upper()}{said[1:]}") from error


def _shown(chosen: Template) -> list[Any]:
    return [
        chosen.system,
        chosen.user,
        ", ".join(chosen.declares),
        chosen.shots,
        chosen.answer_after,
        chosen.extra_tokens,
    ]


def _title(store: Store, ref: str, name: str) -> str:
    chosen = find_template(store, ref)
    return chosen.title if chosen.name == name else name.replace("-", " ").capitalize()


def _difference(before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> str:
    changed = changed_fields(before, after)
    if not changed:
        return ""
    tags = {"same": "span", "added": "ins", "removed": "del"}
    parts = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd class='diff'>"
        + "".join(f"<{tags[p.kind]}>{html.escape(p.text)}</{tags[p.kind]}>" for p in pieces)
        + "</dd>"
        for name, pieces in changed.items()
    )
    return f'<div class="changes"><p class="quiet">{html.escape(title)}</p><dl>{parts}</dl></div>'
