"""Extraction to JSON: the answer is one JSON value, checked against a schema where there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from pydantic import Field, ValidationError, field_validator

from studio.evaluation.metrics.json_valid import ValidJson
from studio.prompts.techniques.base import (
    Ask,
    Found,
    Knobs,
    Technique,
    Trace,
    adding,
)
from studio.specs import Message, Sampling

__all__ = ["Structured", "misfit"]

_OPENING = re.compile(r"[{\[]")


class Schema(Knobs):
    """What the JSON has to look like."""

    json_schema: str = Field(
        "",
        title="JSON schema",
        description="Empty when any JSON will do.",
        json_schema_extra={"lines": 8},
    )

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, text: str) -> str:
        try:
            return ValidJson(json_schema=text).json_schema
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


@dataclass(frozen=True)
class _Piece:
    value: Any
    start: int
    end: int


class Structured(Technique):
    """One call. Strict: the whole text is JSON. Lenient: the first JSON in it that fits."""

    name: ClassVar[str] = "json"
    title: ClassVar[str] = "Extraction to JSON"
    summary: ClassVar[str] = "The answer is JSON, found in the text and checked against a schema."
    knobs: ClassVar[type[Knobs]] = Schema

    settings: Schema

    @property
    def instruction(self) -> str:
        return "\n".join(["Answer with JSON and nothing else.", *self._rules])

    @property
    def _rules(self) -> list[str]:
        schema = self.settings.json_schema
        return [f"The JSON must keep to this schema:\n{schema}"] if schema else []

    def prepare(self, messages: Sequence[Message]) -> list[Message]:
        if not self.is_told:
            return super().prepare(messages)
        # A template may ask for JSON and leave its shape to the schema that somebody sets here.
        is_shown = any(self.settings.json_schema in turn.content for turn in messages)
        return list(messages) if is_shown else adding(messages, *self._rules)

    async def answer(self, ask: Ask, messages: Sequence[Message], sampling: Sampling) -> Trace:
        asked = self.prepare(messages)
        completion = await ask(asked, self.sampling(sampling))
        found = self.extract(completion.text)
        return Trace.of(
            completion.text, found, [(asked, completion)], "" if found.parsed else self._why(completion.text)
        )

    def extract(self, text: str) -> Found:
        """Of several pieces the first that fits; an object before a bare list such as [1], which may be a citation."""
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        whole = [_Piece(None, start, end)] if _is_json(text[start:end]) else []
        pieces = whole or sorted(_pieces(text), key=lambda piece: not _has_object(piece.value))
        fitting = next((piece for piece in pieces if self._fits(text[piece.start : piece.end])), None)
        if fitting is None:
            return Found.nothing()
        return Found.of(text, fitting.start, fitting.end, strict=bool(whole))

    def _fits(self, written: str) -> bool:
        return ValidJson(json_schema=self.settings.json_schema).score(written, None, {}) == 1.0

    def _why(self, text: str) -> str:
        pieces = sorted(_pieces(text), key=lambda piece: not _has_object(piece.value))
        if not pieces:
            return "There is no JSON in the answer."
        return f"The JSON does not keep to the schema: {misfit(pieces[0].value, self.settings.json_schema)}."


def misfit(value: Any, schema: str) -> str:
    """Where and why a JSON value does not keep to a schema ("price: 'x' is not of type 'number'"), or ''."""
    # A fifth of a second that pages spare unless somebody writes a schema.
    import jsonschema
    import referencing

    rules = json.loads(schema)
    kind = jsonschema.validators.validator_for(rules, default=jsonschema.Draft202012Validator)
    checker: Any = kind(rules, registry=referencing.Registry())  # the default one would go to the network
    error = jsonschema.exceptions.best_match(checker.iter_errors(value))
    if error is None:
        return ""
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}" if place else str(error.message)


def _pieces(text: str) -> Iterator[_Piece]:
    """Every outermost object and list of a text, in order."""
    decoder, place = json.JSONDecoder(parse_constant=_refuse), 0
    while opening := _OPENING.search(text, place):
        start = opening.start()
        try:
            value, place = decoder.raw_decode(text, start)
        except ValueError:
            place = start + 1
        except RecursionError:  # a thousand open brackets: nothing behind them is worth the time
            return
        else:
            yield _Piece(value, start, place)


def _is_json(text: str) -> bool:
    return ValidJson().score(text, None, {}) == 1.0 and not text.startswith("```")


def _has_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is Python's, not JSON's")
