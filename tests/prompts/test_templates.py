"""Templates: exactly these words go to the model, and nothing in a variable can change that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError, NotFound
from studio.instructions import conversation
from studio.prompts import Extraction, Template, extract, render, template, templates
from studio.specs import Message, assistant, system, user

# The package's own `templates` is the function.
module = sys.modules["studio.prompts.templates"]

QUESTION = {"instruction": "Which size?", "context": "I am tall.", "guidelines": "Be brief."}
EXAMPLES = [
    {"instruction": "Wash it?", "context": "", "response": "At 30.", "category": "open_qa"},
    {"instruction": "Sum up.", "context": "It rained.", "response": "Wet.", "category": "summarization"},
]
THINK = (
    "Let's think step by step, in one or two short sentences. "
    'Then write the answer itself on a new line that begins with "Reply:".'
)

GOLDEN: dict[str, list[Message]] = {
    "plain": [user("Which size?\n\nI am tall.")],
    "zero-shot": [system("Be brief."), user("Which size?\n\nI am tall.")],
    "few-shot": [
        system("Be brief."),
        user("Wash it?"),
        assistant("At 30."),
        user("Sum up.\n\nIt rained."),
        assistant("Wet."),
        user("Which size?\n\nI am tall."),
    ],
    "chain-of-thought": [system("Be brief."), user(f"Which size?\n\nI am tall.\n\n{THINK}")],
}


def _made(**fields: object) -> Template:
    return Template.model_validate(
        {"name": "made", "title": "t", "technique": "t", "summary": "s", "user": "{{ instruction }}"} | fields
    )


# -- the shipped templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(templates()))
def test_a_template_renders_exactly_these_messages(name: str) -> None:
    chosen = template(name)
    assert render(chosen, QUESTION, EXAMPLES if chosen.shots else []) == GOLDEN[name]


@pytest.mark.parametrize("name", list(templates()))
def test_without_context_and_guidelines_no_hole_is_left(name: str) -> None:
    messages = render(template(name), {"instruction": "Which size?"})
    assert messages[0].role == "user"
    assert messages[0].content.startswith("Which size?")
    assert "\n\n\n" not in messages[0].content


@pytest.mark.parametrize("name", list(templates()))
def test_a_template_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    chosen = template(name)
    assert chosen.name == name
    assert "instruction" in chosen.variables
    assert chosen.title
    assert chosen.summary
    assert chosen.citation or name == "plain"


def test_templates_are_listed_cheapest_first() -> None:
    assert list(templates()) == ["plain", "zero-shot", "chain-of-thought", "few-shot"]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.strip)


@given(WORDS.filter(bool), WORDS)
@settings(deadline=None, derandomize=True, max_examples=80)
def test_the_plain_prompt_asks_what_training_taught(instruction: str, context: str) -> None:
    row = {"instruction": instruction, "context": context, "response": "x"}
    asked = render(template("plain"), {"instruction": instruction, "context": context})
    assert asked == conversation(row)[:1]


@given(WORDS.filter(bool), WORDS)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_examples_are_shown_as_training_teaches_them(instruction: str, context: str) -> None:
    row = {"instruction": instruction, "context": context, "response": "x"}
    assert render(template("few-shot"), {"instruction": "q"}, [row])[:2] == conversation(row)


# -- what people type is text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"order": {"id": 7, "items": []}}',
        "{{ instruction }} {% raw %} {# a note #}",
        "{{ 7 * 7 }}",
        "{{ ''.__class__.__mro__ }}",
        "<b>&amp;</b> 'quoted' \"twice\"",
        "100 % {name} $HOME \\n",
    ],
)
@pytest.mark.parametrize("name", list(templates()))
def test_braces_and_markup_in_variables_stay_as_they_are(name: str, text: str) -> None:
    messages = render(template(name), {"instruction": text, "context": text, "guidelines": text})
    assert text + "\n\n" + text in messages[-1].content
    assert messages[0].content == text or name == "plain"


@pytest.mark.parametrize(
    ("part", "source"),
    [
        pytest.param("user", "{{ instruction.__class__.__mro__ }}", id="class of a variable"),
        pytest.param("user", "{{ ''.__class__.__base__.__subclasses__() }}", id="class of a literal"),
        pytest.param("system", "{{ cycler.__init__.__globals__.os.system('id') }}", id="through a helper"),
    ],
)
def test_a_template_cannot_reach_out_of_its_sandbox(part: str, source: str) -> None:
    chosen = _made(**{part: source})
    with pytest.raises(InputError, match=rf"The {part} part of template 'made' is wrong: .*unsafe"):
        render(chosen, QUESTION)


# -- sentences -----------------------------------------------------------------------------------------------


def test_a_variable_that_no_template_knows_is_refused() -> None:
    with pytest.raises(InputError, match=r"no variable 'tone'\. Its variables are: instruction, context, guidelines"):
        render(template("plain"), QUESTION | {"tone": "warm"})


@pytest.mark.parametrize("variables", [{}, {"instruction": ""}, {"instruction": " \n"}])
def test_an_empty_instruction_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(InputError, match="The instruction is empty"):
        render(template("plain"), variables)


def test_a_name_inside_a_template_that_means_nothing_is_told() -> None:
    with pytest.raises(InputError, match="user part of template 'made' is wrong: 'colour' is undefined"):
        render(_made(user="{{ instruction }} {{ colour }}"), QUESTION)


def test_a_missing_template_is_told_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no template 'plane'\. Known templates: plain, zero-shot"):
        template("plane")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("user: [", "while parsing", id="not YAML"),
        pytest.param("name: x", "Field required", id="fields are missing"),
        pytest.param("name: x\ntitle: t\ntechnique: t\nsummary: s\nuser: '{{ oops'", "line 1: ", id="not Jinja"),
        pytest.param("- 1", "valid dictionary", id="a list"),
    ],
)
def test_a_template_file_that_is_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, reason: str
) -> None:
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"template mine\.yaml cannot be read: .*{reason}.*Mend the file"):
        templates()


def test_a_new_template_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    (tmp_path / "role.yaml").write_text(
        "name: role\ntitle: Role\ntechnique: role\nsummary: s\nsystem: You sell tents.\nuser: '{{ instruction }}'\n"
    )
    assert render(template("role"), {"instruction": "Hi"}) == [system("You sell tents."), user("Hi")]


# -- the answer inside the text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("I think.\nReply: At 30.", Extraction("At 30.", True), id="after the marker"),
        pytest.param("Reply: no. Reply: yes.", Extraction("yes.", True), id="after the last marker"),
        pytest.param(" At 30. ", Extraction("At 30.", False), id="no marker: the whole text stands in"),
        pytest.param("reply: At 30.", Extraction("reply: At 30.", False), id="another spelling is no marker"),
        pytest.param("I think. Reply:", Extraction("", True), id="nothing after it"),
        pytest.param("", Extraction("", False), id="nothing at all"),
    ],
)
def test_the_answer_is_read_after_the_marker(text: str, found: Extraction) -> None:
    assert extract(template("chain-of-thought"), text) == found


def test_a_template_without_a_marker_takes_the_whole_text() -> None:
    assert extract(template("plain"), " Reply: yes \n") == Extraction("Reply: yes", True)


def test_examples_of_a_template_with_a_marker_show_it() -> None:
    messages = render(_made(answer_after="Reply:", shots=2), QUESTION, EXAMPLES)
    assert [m.content for m in messages if m.role == "assistant"] == ["Reply: At 30.", "Reply: Wet."]


# -- digests -------------------------------------------------------------------------------------------------


def test_a_digest_changes_with_the_words_and_with_nothing_else() -> None:
    chosen = _made()
    assert chosen.digest("guidelines", 0) == _made().digest("guidelines", 0)
    others = [chosen.digest("guidelines", 1), chosen.digest("other", 0), _made(user="{{ instruction }}!").digest()]
    assert len({chosen.digest("guidelines", 0), *others}) == 4
