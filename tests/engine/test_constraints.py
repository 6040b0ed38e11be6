"""Answers that keep to a JSON schema, whatever the model would rather say."""

from __future__ import annotations

import json

import jsonschema
import pytest

from studio.backends import EchoBackend, LocalBackend
from studio.errors import InputError, Unsupported
from studio.specs import Sampling, user

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "sizes": {"type": "array", "items": {"enum": ["S", "M", "L"]}, "minItems": 1, "maxItems": 2},
        "is_wet": {"type": "boolean"},
    },
    "required": ["name", "sizes", "is_wet"],
    "additionalProperties": False,
}


@pytest.fixture
def backend(engine, tiny_weights):
    return LocalBackend(tiny_weights, engine)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
async def test_a_model_that_knows_nothing_writes_json_that_keeps_to_the_schema(backend, temperature):
    sampling = Sampling(max_tokens=200, temperature=temperature, json_schema=json.dumps(SCHEMA))
    for answer in await backend.complete([[user(f"Question {n}")] for n in range(5)], sampling):
        jsonschema.validate(json.loads(answer.text), SCHEMA)
        assert answer.finish == "stop"


async def test_it_streams_what_it_completes(backend):
    sampling = Sampling(max_tokens=200, json_schema=json.dumps(SCHEMA))
    [whole] = await backend.complete([[user("Say it")]], sampling)
    assert "".join([chunk.text async for chunk in backend.stream([user("Say it")], sampling)]) == whole.text


async def test_a_schema_that_cannot_be_kept_to_is_a_sentence(backend):
    with pytest.raises(InputError, match="JSON schema cannot be kept to"):
        await backend.complete([[user("Hello")]], Sampling(json_schema='{"type": "unheard of"}'))


async def test_a_backend_without_schemas_refuses_them_by_name():
    sampling = Sampling(json_schema=json.dumps(SCHEMA))
    with pytest.raises(Unsupported, match="echo: cannot keep to a JSON schema"):
        await EchoBackend().complete([[user("Hello")]], sampling)
    with pytest.raises(Unsupported, match="echo: cannot keep to a JSON schema"):
        await anext(EchoBackend().stream([user("Hello")], sampling))


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "is no JSON"), ("[1]", "no JSON object"), ("nonsense", "is no JSON")]
)
def test_what_is_no_schema_is_refused_where_it_is_written(text, reason):
    with pytest.raises(ValueError, match=reason):
        Sampling(json_schema=text)
