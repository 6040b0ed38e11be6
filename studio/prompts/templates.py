"""Prompt templates: one YAML file each in assets/templates, rendered in a sandbox.

A template says what the system and the user turn hold, how many examples go before them, and where in the model's
text the answer begins. A new one is one file.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from studio.errors import InputError, NotFound
from studio.specs import Message, Sampling, assistant, system, user

__all__ = ["Extraction", "Template", "extract", "render", "template", "templates"]

_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "templates"
_REQUIRED = ("instruction",)
_OPTIONAL = ("context", "guidelines")


class Template(BaseModel):
    """One way of prompting. `system` and `user` are Jinja2; an example's turn is rendered with the same `user`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    technique: str
    summary: str
    citation: str = ""
    system: str = ""
    user: str
    shots: int = Field(0, ge=0, le=32)
    answer_after: str = ""
    extra_tokens: int = Field(0, ge=0, description="Tokens on top of the answer's own, for written reasoning.")

    @field_validator("system", "user")
    @classmethod
    def _is_jinja(cls, source: str) -> str:
        try:
            _environment().parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from error
        return source

    @property
    def variables(self) -> tuple[str, ...]:
        """Names the template uses, in order of need."""
        used = _used(self.system) | _used(self.user)
        return tuple(n for n in (*_REQUIRED, *_OPTIONAL) if n in used)

    def with_room(self, sampling: Sampling) -> Sampling:
        """The sampling with the tokens on top that written reasoning takes."""
        return sampling.model_copy(update={"max_tokens": sampling.max_tokens + self.extra_tokens})

    def digest(self, *more: Any) -> str:
        """Eight hex digits that change when the template, or anything else that shapes the prompt, does."""
        text = json.dumps([self.model_dump(), *more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Extraction:
    """The answer inside a model's text. `strict` is False when the marker was missing and the whole text stands in."""

    text: str
    strict: bool


def templates() -> dict[str, Template]:
    """Every template by name, cheapest first."""
    # A page asks at every key that is pressed, so a file is read again only when it changed.
    found = [_load(path, path.stat().st_mtime_ns) for path in sorted(_FOLDER.glob("*.yaml"))]
    order = sorted(found, key=lambda t: (t.shots, t.extra_tokens, len(t.system), t.name))
    return {t.name: t for t in order}


def template(name: str) -> Template:
    known = templates()
    if name not in known:
        raise NotFound(f"There is no template '{name}'. Known templates: {', '.join(known)}.")
    return known[name]


def render(chosen: Template, variables: Mapping[str, str], examples: Sequence[Mapping[str, Any]] = ()) -> list[Message]:
    """The conversation that asks for an answer. `examples` are instruction records, shown as earlier turns.

    Raises InputError for an empty instruction or a variable the template does not declare.
    """
    unknown = set(variables) - {*_REQUIRED, *_OPTIONAL}
    if unknown:
        known = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise InputError(f"Template '{chosen.name}' has no variable '{min(unknown)}'. Its variables are: {known}.")
    if not variables.get("instruction", "").strip():
        raise InputError("The instruction is empty. Write what the model should do.")
    values = {name: "" for name in _OPTIONAL} | {k: v.strip() for k, v in variables.items()}
    messages: list[Message] = []
    head = _fill(chosen, "system", values)
    if head:
        messages.append(system(head))
    for example in examples:
        shown = {**values, "instruction": example["instruction"], "context": example.get("context", "")}
        messages += [user(_fill(chosen, "user", shown)), assistant(_answer(chosen, example["response"]))]
    return [*messages, user(_fill(chosen, "user", values))]


def extract(chosen: Template, text: str) -> Extraction:
    """The answer: what follows the last marker, or the whole text where the template has none."""
    if not chosen.answer_after:
        return Extraction(text.strip(), True)
    _, marker, answer = text.rpartition(chosen.answer_after)
    return Extraction(answer.strip(), bool(marker))


def _answer(chosen: Template, response: str) -> str:
    return f"{chosen.answer_after} {response}" if chosen.answer_after else response


@functools.lru_cache(maxsize=256)
def _load(path: Path, _mtime_ns: int) -> Template:
    try:
        return Template.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"The template {path.name} cannot be read: {reason}. Mend the file or remove it.") from error


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)


def _used(source: str) -> set[str]:
    return jinja2.meta.find_undeclared_variables(_environment().parse(source))


def _fill(chosen: Template, part: str, values: Mapping[str, str]) -> str:
    try:
        return _environment().from_string(getattr(chosen, part)).render(values).strip()
    except jinja2.TemplateError as error:
        raise InputError(f"The {part} part of template '{chosen.name}' is wrong: {error.message}.") from error
