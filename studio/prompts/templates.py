"""Prompt templates: what the system and the user turn hold, and where in the model's text the answer begins.

The library is one YAML file each in assets/templates: a new one is one file. What people write themselves is kept in the
store, in versions that never change. `language.py` says what stands between the braces.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from studio.errors import InputError, NotFound
from studio.evaluation.metrics.json_valid import ValidJson
from studio.fields import complaints
from studio.prompts.language import Mistake, Value, did_you_mean, fill, used_names
from studio.specs import Message, Sampling, assistant, system, user
from studio.store import Store, TemplateVersion

__all__ = [
    "Extraction",
    "Template",
    "extract",
    "find_template",
    "from_yaml",
    "render",
    "save_template",
    "template",
    "template_of",
    "templates",
    "to_yaml",
]

_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "templates"
_PARTS = ("system", "user")
_STANDARD = ("instruction", "context", "guidelines")  # what every page and every set of rows has
_SETTINGS = ("labels", "json_schema")  # filled in from the template itself
_RESERVED = frozenset(
    "and elif else endfor endif endraw false for if in is loop none not or raw recursive true".split()
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_REF = re.compile(r"([a-z0-9-]+)@([1-9]\d{0,8})")
_MOST_YAML = 300_000


class Template(BaseModel):
    """One way of prompting. An example's turn is rendered with the same `user`.

    Beside the variables that it declares, a template may use its own `labels` (a list) and `json_schema` (a text).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]+$", max_length=60, description="Lower-case letters, digits and hyphens.")
    title: str = Field(min_length=1, max_length=120)
    technique: str = Field("direct", pattern=r"^[a-z0-9-]+$", description="How it is asked and the answer is read.")
    summary: str = Field("", max_length=400)
    citation: str = Field("", max_length=200)
    declares: tuple[str, ...] = Field(
        _STANDARD, max_length=30, title="Variables", description="The names that {{ name }} may stand for."
    )
    system: str = ""
    user: str
    shots: int = Field(0, ge=0, le=32, description="Examples before the question, as earlier turns.")
    answer_after: str = Field("", max_length=80, description="The answer stands behind these words; empty: all of it.")
    extra_tokens: int = Field(0, ge=0, le=4096, description="Tokens on top of the answer's own, for written reasoning.")
    labels: tuple[str, ...] = Field((), max_length=200, description="What a classification chooses from.")
    json_schema: str = Field("", max_length=20_000, title="JSON schema", description="What extracted JSON keeps to.")

    @field_validator("title", "summary", "citation", "system", "user", "answer_after", "json_schema")
    @classmethod
    def _is_text(cls, text: str) -> str:
        # No database and no tokenizer takes either: NUL ends PostgreSQL's texts, half a surrogate pair has no bytes.
        if (found := re.search(r"[\x00\ud800-\udfff]", text)) is not None:
            line = text.count("\n", 0, found.start()) + 1
            raise ValueError(f"line {line} holds a character that is none (U+{ord(found[0]):04X}). Remove it.")
        return text

    @field_validator("declares")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _NAME.fullmatch(name) or name in _RESERVED or name in _SETTINGS:
                raise ValueError(
                    f"'{name[:60]}' cannot be a variable. Take another word of small letters, digits and underscores"
                )
        return tuple(dict.fromkeys(names))

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        plain = tuple(" ".join(label.split()) for label in labels)
        folded = [label.casefold() for label in plain]
        for label, fold in zip(plain, folded, strict=True):
            if not label or len(label) > 100:
                raise ValueError(f"'{label[:60]}' cannot be a label. Take 1 to 100 characters.")
            if folded.count(fold) > 1:
                raise ValueError(f"'{label}' is there twice. Remove one.")
        return plain

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, text: str) -> str:
        if text.strip() and not text.lstrip().startswith("{"):
            raise ValueError('is no schema; write it like {"type": "object", "required": ["name"]}')
        try:
            return ValidJson(json_schema=text).json_schema
        except ValidationError as error:
            raise ValueError("; ".join(complaints(ValidJson, error).values())) from error
        except RecursionError as error:
            raise ValueError("is nested too deep. Make it flatter") from error

    @model_validator(mode="after")
    def _can_be_rendered(self) -> Self:
        for part in _PARTS:
            try:
                used_names(getattr(self, part), self._names)
            except Mistake as mistake:
                raise ValueError(f"the {part} part, {mistake}") from mistake
        return self

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.declares, *_SETTINGS)

    @property
    def variables(self) -> tuple[str, ...]:
        """Declared names that the template uses, in the order in which it declares them."""
        used = frozenset.union(*(self._used(part) for part in _PARTS))
        return tuple(name for name in self.declares if name in used)

    def _used(self, part: str) -> frozenset[str]:
        try:
            return used_names(getattr(self, part), self._names)
        except Mistake as mistake:  # a copy may be changed without a check
            raise InputError(f"The {part} part of template '{self.name}' is wrong: {mistake}") from mistake

    def with_room(self, sampling: Sampling) -> Sampling:
        """The sampling with the tokens on top that written reasoning takes."""
        return sampling.model_copy(update={"max_tokens": sampling.max_tokens + self.extra_tokens})

    def digest(self, *more: Any) -> str:
        """Eight hex digits that change when the template, or anything else that shapes the prompt, does.

        Its name, title, summary and citation shape nothing.
        """
        shaping = self.model_dump(exclude={"name", "title", "summary", "citation"})
        text = json.dumps([shaping, *more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Extraction:
    """The answer inside a model's text. `strict` is False when the marker was missing and the whole text stands in."""

    text: str
    strict: bool


# -- the library and what people saved -----------------------------------------------------------------------


def templates() -> dict[str, Template]:
    """Every template of the library by name, cheapest first."""
    # A page asks at every key that is pressed, so a file is read again only when it changed.
    found = [_load(path, path.stat().st_mtime_ns) for path in sorted(_FOLDER.glob("*.yaml"))]
    return {t.name: t for t in sorted(found, key=_cost)}


def _cost(one: Template) -> tuple[Any, ...]:
    return one.shots, one.extra_tokens, one.technique != "direct", len(one.system) + len(one.user), one.name


def template(name: str) -> Template:
    """A template of the library. Raises NotFound."""
    known = templates()
    if name not in known:
        raise NotFound(f"There is no template '{name}'. Known templates: {', '.join(known)}.")
    return known[name]


def find_template(store: Store, ref: str) -> Template:
    """The template that `zero-shot` (library), `support-reply@3` (a version) or `support-reply` (its newest) names.

    Archived ones are found too: what was measured with them names them. Raises NotFound.
    """
    library = templates()
    if ref in library:
        return library[ref]
    name, version = ref, None
    if "@" in ref:
        match = _REF.fullmatch(ref)
        if match is None:
            raise InputError(f"'{ref[:80]}' names no version of a template. Write it like support-reply@3.")
        name, version = match[1], int(match[2])
    try:
        return template_of(store.template_version(name, version))
    except NotFound:
        stored = [known.name for known in store.prompt_templates(archived=True)]
        if name in stored:
            raise  # it is the version that is missing, and the store says which there are
        if name in library:
            raise NotFound(f"'{name}' is in the library and has no versions. Write '{name}'.") from None
        hint = did_you_mean(name, [*stored, *library]) or f" Known templates: {', '.join([*stored, *library])}."
        raise NotFound(f"There is no template '{name}'.{hint}") from None


def save_template(
    store: Store, chosen: Template, note: str = "", author: str = "", tags: Sequence[str] | None = None
) -> int:
    """Keep the template as the newest version of its name, and return its number; an unchanged one gets no new version.

    Names of the library are refused with an InputError. `tags` replaces the tags; None leaves them.
    """
    if chosen.name in templates():
        raise InputError(
            f"'{chosen.name}' is a template of the library and stays as it is. Save yours under another name."
        )
    body = Template.model_validate(chosen.model_dump()).model_dump(mode="json")  # a copy that was changed is unchecked
    return store.add_template_version(chosen.name, body, note=note, author=author, tags=tags).version


def template_of(version: TemplateVersion) -> Template:
    """The template that a version holds. Raises InputError where this studio cannot read it."""
    try:
        return Template.model_validate(version.body)
    except ValidationError as error:
        raise InputError(f"{version.ref} cannot be used: {_in_words(error)} Save a mended version.") from error


# -- rendering -----------------------------------------------------------------------------------------------


def render(chosen: Template, variables: Mapping[str, str], examples: Sequence[Mapping[str, Any]] = ()) -> list[Message]:
    """The conversation that asks for an answer. `examples` are instruction records, shown as earlier turns.

    Raises InputError for an empty instruction, and for a variable that is missing or not declared.
    """
    values = _values(chosen, variables)
    messages: list[Message] = []
    head = _filled(chosen, "system", values)
    if head:
        messages.append(system(head))
    for example in examples:
        own = {"instruction": example["instruction"], "context": example.get("context", "")}
        shown = {**values, **{name: value for name, value in own.items() if name in values}}
        messages += [user(_filled(chosen, "user", shown)), assistant(_answer(chosen, example))]
    return [*messages, user(_filled(chosen, "user", values))]


def extract(chosen: Template, text: str) -> Extraction:
    """The answer: what follows the last marker, or the whole text where the template has none."""
    if not chosen.answer_after:
        return Extraction(text.strip(), True)
    _, marker, answer = text.rpartition(chosen.answer_after)
    return Extraction(answer.strip(), bool(marker))


def _values(chosen: Template, variables: Mapping[str, str]) -> dict[str, Value]:
    """A value for every declared name. The standard ones may be given whether the template wants them or not."""
    known = tuple(dict.fromkeys((*_STANDARD, *chosen.declares)))
    for name in sorted(variables):
        if name not in known:
            hint = did_you_mean(name, known) or f" Its variables are: {', '.join(known)}."
            raise InputError(f"Template '{chosen.name}' has no variable '{name}'.{hint}")
    used = chosen.variables
    if "instruction" in used and not variables.get("instruction", "").strip():
        raise InputError("The instruction is empty. Write what the model should do.")
    for name in used:
        if name not in variables and name not in _STANDARD:
            raise InputError(
                f"Template '{chosen.name}' needs a value for '{name}'. Fill it in, or leave it empty on purpose."
            )
    given: dict[str, Value] = {name: variables.get(name, "").strip() for name in chosen.declares}
    return given | {"labels": chosen.labels, "json_schema": chosen.json_schema}


def _answer(chosen: Template, example: Mapping[str, Any]) -> str:
    """An example's answer as the model should give its own: reasoning first, where the template asks for any."""
    if not chosen.answer_after:
        return str(example["response"])
    marked = f"{chosen.answer_after} {example['response']}"
    reasoning = str(example.get("reasoning") or "").strip()
    gap = "\n" if chosen.answer_after.endswith(":") else " "  # a heading has its own line, "The answer is" a sentence
    return f"{reasoning}{gap}{marked}" if reasoning else marked


def _filled(chosen: Template, part: str, values: Mapping[str, Value]) -> str:
    try:
        return fill(getattr(chosen, part), values).strip()
    except Mistake as mistake:
        raise InputError(f"The {part} part of template '{chosen.name}' is wrong: {mistake}") from mistake


# -- YAML ----------------------------------------------------------------------------------------------------


def to_yaml(chosen: Template) -> str:
    """The template as a file of the library has it; `from_yaml` reads it back."""
    fields = chosen.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump(fields, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120)


def from_yaml(text: str) -> Template:
    """The template that a YAML text holds. Raises InputError that names the line or the field."""
    if len(text) > _MOST_YAML:
        raise InputError(
            f"The file has {len(text):,} characters, too many for a template. Give at most {_MOST_YAML:,}."
        )
    try:
        return Template.model_validate(yaml.load(text, Loader=_Loader))
    except ValidationError as error:
        raise InputError(f"This is no template: {_in_words(error)}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"This is no YAML: {line}{error.problem}. Mend the line.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")[:200] or "it is nested too deep"
        raise InputError(f"This is no YAML: {reason}. Mend the file.") from error


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: `no`, `007` and `12:30` are the words that they look like, and nothing is a reference."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            # Ten aliases of ten aliases of ... would be a small file and a huge value.
            event = self.get_event()
            raise yaml.constructor.ConstructorError(None, None, "references (*) are not read", event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}


class _Dumper(yaml.SafeDumper):
    """Lines stay lines: a prompt is read and edited in the file."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Written as they are, the rarer line breaks would come back as plain ones.
    style = '"' if re.search("[\r\x85\u2028\u2029]", text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)


@functools.lru_cache(maxsize=256)
def _load(path: Path, _mtime_ns: int) -> Template:
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"The template {path.name} cannot be read: {error} Mend the file or remove it.") from error


def _in_words(error: ValidationError) -> str:
    wrong = complaints(Template, error)
    return " ".join(f"{name}: {said.rstrip('.')}." if name else f"{said.rstrip('.')}." for name, said in wrong.items())
