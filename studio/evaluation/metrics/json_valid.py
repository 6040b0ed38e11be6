"""JSON validity: the answer is JSON and, where a schema is given, keeps to it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NoReturn

from pydantic import Field, field_validator

from studio.evaluation.metrics.base import Metric

__all__ = ["ValidJson"]

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)


class ValidJson(Metric):
    """1 when the whole answer, or the one fenced block that it consists of, is JSON (RFC 8259) and keeps to the schema.

    A schema may refer to its own parts only: nothing is fetched.
    """

    title: ClassVar[str] = "JSON validity"
    summary: ClassVar[str] = "The answer is JSON, and keeps to the schema where one is given."

    metric: Literal["json"] = "json"
    json_schema: str = Field("", title="JSON schema", description="Empty when any JSON will do.")

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, text: str) -> str:
        if text.strip():
            _validator(text)
        return text.strip()

    @property
    def words(self) -> str:
        return "JSON that keeps to the schema" if self.json_schema else self.title

    def score(self, output: str, reference: str | None, row: Mapping[str, Any]) -> float | None:
        fenced = _FENCED.fullmatch(output.strip())
        try:
            value = _parsed(fenced[1] if fenced else output)
            return float(not self.json_schema or _validator(self.json_schema).is_valid(value))
        except (ValueError, RecursionError):  # a thousand open brackets
            return 0.0


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is Python's, not JSON's")


@functools.lru_cache(maxsize=16)
def _validator(text: str) -> Any:
    """A checker for a schema; raises ValueError saying what is wrong with it."""
    # A fifth of a second that pages spare unless somebody writes a schema.
    import jsonschema
    import referencing

    try:
        schema = _parsed(text)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise ValueError('is no schema; write it like {"type": "object", "required": ["name"]}')
    foreign = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
    if foreign is not None:
        raise ValueError(f"refers to {foreign}, and nothing is fetched; copy that part under $defs")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"is no schema: {error.message}") from error
    return kind(schema, registry=referencing.Registry())  # the default one would go to the network


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
