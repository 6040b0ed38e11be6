"""Extraction to JSON: the first JSON that fits, exactly as the model wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.techniques import technique
from studio.specs import user
from tests.prompts.techniques.scripted import answer, saying

SCHEMA = json.dumps({"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]})
OBJECT = '{"price": 3}'


@pytest.mark.parametrize(
    ("text", "found", "strict"),
    [
        pytest.param(f" {OBJECT}\n", OBJECT, True, id="nothing else"),
        pytest.param("[1, 2]", "[1, 2]", True, id="a list alone"),
        pytest.param('"yes"', '"yes"', True, id="a bare value"),
        pytest.param(f"```json\n{OBJECT}\n```", OBJECT, False, id="in a code block"),
        pytest.param(f"Here it is: {OBJECT} Anything else?", OBJECT, False, id="in prose"),
        pytest.param('{"a": 1} {"a": 2}', '{"a": 1}', False, id="the first of two"),
        pytest.param('As [1] says: {"a": 1}', '{"a": 1}', False, id="a citation is passed over"),
        pytest.param('[{"a": 1}] {"b": 1}', '[{"a": 1}]', False, id="a list of objects is none"),
        pytest.param("See [1].", "[1]", False, id="a citation where there is nothing else"),
        pytest.param('{oops} {"a": "}{"}', '{"a": "}{"}', False, id="braces that are no JSON, and in a text"),
        pytest.param('{"a": {"b": [1]}} x', '{"a": {"b": [1]}}', False, id="nested"),
    ],
)
def test_the_first_json_is_found(text: str, found: str, strict: bool) -> None:
    read = technique("json").extract(text)
    assert (read.text, read.strict, read.parsed) == (found, strict, True)
    assert text[read.start : read.end] == found


@pytest.mark.parametrize(
    "text", ["", "none", '{"a": 1', "{'a': 1}", '{"a": NaN}', "[" * 5000, "{[" * 3000, '{"a": 1,}', "```\nx\n```"]
)
def test_what_is_no_json_is_not_found(text: str) -> None:
    assert not technique("json").extract(text).parsed


def test_with_a_schema_the_first_that_fits_is_found() -> None:
    read = technique("json", {"json_schema": SCHEMA}).extract('{"price": "x"} then {"price": 4}')
    assert (read.text, read.strict) == ('{"price": 4}', False)


@pytest.mark.parametrize(
    ("output", "note"),
    [
        ('{"price": "x"}', "The JSON does not keep to the schema: price: 'x' is not of type 'number'."),
        ('So {"cost": 3}.', "The JSON does not keep to the schema: 'price' is a required property."),
        ("3", "There is no JSON in the answer."),
        ("I do not know.", "There is no JSON in the answer."),
        (OBJECT, ""),
    ],
)
def test_a_schema_that_is_not_kept_to_is_said_with_its_place(output: str, note: str) -> None:
    trace = answer(technique("json", {"json_schema": SCHEMA}), saying([output]), [user("q")])
    assert (trace.note, trace.answer.parsed) == (note, not note)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ("{", "is no JSON"),
        ('{"type": "thing"}', "is no schema"),
        ('{"$ref": "http://example.org/x"}', "nothing is fetched"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"JSON schema: .*{sentence}"):
        technique("json", {"json_schema": schema})


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), st.sampled_from(["{}", "so {} it is", "```\n{}\n```"]))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_json_comes_out_of_a_text_as_it_went_in(value: dict[str, Any], around: str) -> None:
    written = json.dumps(value, ensure_ascii=False)
    read = technique("json").extract(around.replace("{}", written))
    assert read.text == written
    assert read.strict is (around == "{}")
