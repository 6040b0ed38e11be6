"""Shapes: rows of other tools are recognised by themselves, and what a record cannot hold is said, never dropped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.instructions.conversations import checked_turns, fields_of_turns
from studio.instructions.importing import OMITTED, Rejected, preview, read_fields
from studio.instructions.shapes import recognised, shape_named, shapes

PLAIN = {"instruction": "q", "context": "", "response": "a", "category": ""}
SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
LONG = [{"role": "system", "content": "s"}, *SAID, *SAID]


def _read(tmp_path: Path, row: dict[str, Any], name: str = "rows.jsonl") -> tuple[str, dict[str, Any]]:
    """The shape that a file of this row has, and the fields that come of it."""
    path = tmp_path / name
    path.write_text(json.dumps(row), encoding="utf-8")
    seen = preview(path)
    ((_, fields),) = read_fields(path, seen.reading)
    assert not isinstance(fields, Rejected), fields
    return seen.shape, fields


def _refused(tmp_path: Path, row: dict[str, Any]) -> Rejected:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    ((_, found),) = read_fields(path, preview(path).reading)
    assert isinstance(found, Rejected)
    return found


@pytest.mark.parametrize(
    ("row", "shape", "expected"),
    [
        pytest.param(PLAIN | {"category": "open_qa"}, "dolly", PLAIN | {"category": "open_qa"}, id="dolly"),
        pytest.param(
            {"instruction": "q", "input": "c", "output": "a"}, "alpaca", PLAIN | {"context": "c"}, id="alpaca"
        ),
        pytest.param({"prompt": "q", "completion": " a"}, "prompt_completion", PLAIN, id="prompt and completion"),
        pytest.param(
            {"prompt": SAID[:1], "completion": SAID[1:]}, "prompt_completion_chat", PLAIN, id="prompt as messages"
        ),
        pytest.param({"messages": SAID}, "openai_chat", PLAIN, id="OpenAI chat"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, SAID[1]]},
            "openai_chat",
            PLAIN,
            id="OpenAI chat in parts",
        ),
        pytest.param(
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "id": "x"},
            "sharegpt",
            PLAIN,
            id="ShareGPT",
        ),
        pytest.param({"conversations": SAID}, "sharegpt", PLAIN, id="ShareGPT with roles"),
        pytest.param({"input": SAID[:1], "ideal": "a"}, "evals", PLAIN, id="evals"),
        pytest.param({"input": "q", "ideal": "a"}, "evals", PLAIN, id="evals with a text"),
        pytest.param(
            {"input": [{"role": "system", "content": "q"}], "ideal": "a"},
            "evals",
            PLAIN,
            id="evals by the system alone",
        ),
    ],
)
def test_a_shape_is_recognised_and_read(
    tmp_path: Path, row: dict[str, Any], shape: str, expected: dict[str, str]
) -> None:
    found, fields = _read(tmp_path, row)
    assert found == shape
    assert fields == expected | {"turns": None}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        pytest.param({"messages": LONG}, "openai_chat", id="OpenAI chat"),
        pytest.param(
            {
                "conversations": [
                    {"from": by, "value": text}
                    for by, text in (("system", "s"), ("human", "q"), ("gpt", "a"), ("human", "q"), ("gpt", "a"))
                ]
            },
            "sharegpt",
            id="ShareGPT",
        ),
        pytest.param(
            {"system": "s", "conversations": LONG[1:]}, "sharegpt", id="ShareGPT with the system text beside it"
        ),
        pytest.param(
            {"instruction": "q", "output": "a", "system": "s", "history": [["q", "a"]]}, "alpaca", id="Alpaca history"
        ),
        pytest.param({"input": LONG[:-1], "ideal": "a"}, "evals", id="evals"),
        pytest.param(
            {
                "input": [
                    {"role": "system", "content": "s"},
                    {"role": "system", "name": "example_user", "content": "q"},
                    {"role": "system", "name": "example_assistant", "content": "a"},
                    {"role": "user", "content": "q"},
                ],
                "ideal": "a",
            },
            "evals",
            id="evals with examples",
        ),
    ],
)
def test_a_conversation_is_read_with_all_its_turns(tmp_path: Path, row: dict[str, Any], shape: str) -> None:
    found, fields = _read(tmp_path, row)
    assert found == shape
    assert (fields["instruction"], fields["response"], fields["turns"]) == ("q", "a", LONG)


def test_lists_in_a_table_are_read_as_json_text(tmp_path: Path) -> None:
    path = tmp_path / "chat.csv"
    path.write_text('id,messages\n1,"' + json.dumps(SAID).replace('"', '""') + '"\n')
    assert preview(path).shape == "openai_chat"
    ((_, fields),) = read_fields(path, preview(path).reading)
    assert fields == PLAIN | {"turns": None}


def test_of_several_right_answers_the_first_is_taken_and_the_others_are_counted(tmp_path: Path) -> None:
    _, fields = _read(tmp_path, {"input": SAID[:1], "ideal": ["a", "b", "c"]})
    assert (fields["response"], fields[OMITTED]) == ("a", 2)
    assert preview(tmp_path / "rows.jsonl").omitted == 2


def test_the_context_that_a_question_ends_with_is_taken_out_of_it_again(tmp_path: Path) -> None:
    _, fields = _read(tmp_path, {"prompt": "q\n\nc", "completion": "a", "context": "c"})
    assert (fields["instruction"], fields["context"]) == ("q", "c")


def test_a_column_named_otherwise_is_left_to_the_mapping() -> None:
    assert recognised({"frage", "antwort"}, [{"frage": "q", "antwort": "a"}]) is None
    assert recognised({"messages"}, [{"messages": "hello"}]) is None


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([], "The conversation is empty", id="no turn"),
        pytest.param("hi", "no list of turns", id="a text"),
        pytest.param(SAID[:1], "no assistant turn", id="no answer"),
        pytest.param(SAID[1:], "The assistant speaks before the user", id="no question"),
        pytest.param([*SAID, SAID[0]], "ends with a user turn", id="a question at the end"),
        pytest.param([SAID[0], {"role": "assistant", "content": " "}], r"Turn 2 \(assistant\) is empty", id="empty"),
        pytest.param([SAID[0], {"role": "tool", "content": "5"}, SAID[1]], "Turn 2 is by 'tool'", id="tool"),
        pytest.param(
            [SAID[0], {"role": "function", "content": "5"}, SAID[1]], "Turn 2 is by 'function'", id="function"
        ),
        pytest.param(
            [SAID[0], {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, SAID[1]],
            r"Turn 2 calls a tool \(tool_calls\)",
            id="tool call",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, SAID[1]],
            "Turn 1 holds more than text",
            id="picture",
        ),
        pytest.param([SAID[0], SAID[1] | {"weight": 0}], "Turn 2 is marked as not to be learned", id="weight 0"),
    ],
)
def test_a_conversation_that_a_record_cannot_hold_is_listed_with_the_reason(
    tmp_path: Path, messages: Any, reason: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": SAID}) + "\n" + json.dumps({"messages": messages}))
    (_, good), (number, bad) = read_fields(path, preview(path).reading)
    assert isinstance(good, dict)
    assert isinstance(bad, Rejected)
    assert (number, bad.column) == (2, "messages")
    assert re.search(reason, bad.reason)


def test_a_conversation_that_offers_tools_is_listed(tmp_path: Path) -> None:
    bad = _refused(tmp_path, {"messages": SAID, "tools": [{"type": "function"}]})
    assert (bad.column, bad.reason) == (
        "tools",
        "The conversation offers tools, which a record cannot hold. Leave the row out.",
    )


def test_every_shape_says_what_it_is() -> None:
    assert set(shapes()) == {
        *("dolly", "alpaca", "sharegpt", "openai_chat", "prompt_completion", "prompt_completion_chat", "evals")
    }
    assert all(shape.title and shape.explains and set(shape.places) for shape in shapes().values())
    with pytest.raises(InputError, match=r"There is no shape 'parrot'\. Known shapes: openai_chat"):
        shape_named("parrot")


# -- turns ---------------------------------------------------------------------------------------------------

TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=5)}),
    max_size=6,
)


def test_one_question_and_its_answer_are_a_plain_record() -> None:
    assert fields_of_turns(SAID) == {"instruction": "q", "context": "", "response": "a", "turns": None}


def test_a_turn_by_somebody_else_is_refused() -> None:
    with pytest.raises(InputError, match=r"Turn 1 is by 'narrator'\. A turn is by one of: system, user, assistant"):
        checked_turns([{"role": "narrator", "content": "x"}, *SAID])


@given(turns=TURNS)
@settings(derandomize=True, deadline=None)
def test_turns_are_taken_whole_or_refused_and_checking_twice_changes_nothing(turns: list[dict[str, str]]) -> None:
    try:
        clean = checked_turns(turns)
    except InputError:
        return
    assert clean == checked_turns(clean) == [{**turn, "content": turn["content"].strip()} for turn in turns]
    fields = fields_of_turns(clean)
    assert fields["response"] == clean[-1]["content"]
    assert fields["turns"] in (None, clean)
