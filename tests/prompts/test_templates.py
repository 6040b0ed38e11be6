"""Templates: exactly these words go to the model, and nothing in a variable can change that."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError, NotFound
from studio.instructions import conversation
from studio.prompts import Extraction, Template, extract, render, template, templates
from studio.prompts.templates import find_template, from_yaml, save_template, to_yaml
from studio.specs import Message, assistant, system, user
from studio.store import Store

# The package's own `templates` is the function.
module = sys.modules["studio.prompts.templates"]

QUESTION = {"instruction": "Which size?", "context": "I am tall.", "guidelines": "Be brief."}
EXAMPLES = [
    {"instruction": "Wash it?", "context": "", "reasoning": "It is wool.", "response": "At 30.", "category": "open_qa"},
    {"instruction": "Sum up.", "context": "It rained.", "response": "Wet.", "category": "summarization"},
]
THINK = (
    "Let's think step by step, in one or two short sentences. "
    'Then write the answer itself on a new line that begins with "Reply:".'
)

ASKED = "Which size?\n\nI am tall."
TEXT = "Which size?\n\nText:\nI am tall."
REACT = """Be brief.

Answer in steps of this form:
Thought: what has to be found out next
Action: Calculate[12 * (3 + 4)]
Observation: the result, which is given to you
When you know the answer, write instead:
Thought: what the answer is
Action: Finish[the answer]"""
SHOWN = [user("Wash it?"), assistant("At 30."), user("Sum up.\n\nIt rained."), assistant("Wet.")]
REASONED = [
    user("Wash it?"),
    assistant("It is wool. The answer is At 30."),
    user("Sum up.\n\nIt rained."),
    assistant("The answer is Wet."),
]
BRIEF = system("Be brief.")

GOLDEN: dict[str, list[Message]] = {
    "plain": [user(ASKED)],
    "zero-shot": [BRIEF, user(ASKED)],
    "few-shot": [BRIEF, *SHOWN, user(ASKED)],
    "chain-of-thought": [BRIEF, user(f"{ASKED}\n\n{THINK}")],
    "chain-of-thought-examples": [BRIEF, *REASONED, user(ASKED)],
    "zero-shot-chain-of-thought": [BRIEF, user(f"{ASKED}\n\nLet's think step by step.")],
    "self-consistency": [
        BRIEF,
        user(
            f"{ASKED}\n\nThink step by step, in a few short sentences. "
            'Then write the answer on a last line that begins with "The answer is".'
        ),
    ],
    "least-to-most": [BRIEF, user(ASKED)],
    "react": [system(REACT), user(ASKED)],
    "extract-json": [BRIEF, user(f"{ASKED}\n\nAnswer with one JSON object and nothing else.")],
    "classify": [BRIEF, user(f"{ASKED}\n\nAnswer with exactly one of these labels: positive, negative, neutral.")],
    "summary": [
        BRIEF,
        user(
            f"{TEXT}\n\nSummarise the text in at most three sentences. "
            "Keep its names, numbers and dates, and add nothing."
        ),
    ],
    "rewrite": [
        system("This is the house style:\nBe brief."),
        user(
            f"{TEXT}\n\nRewrite the text in the house style. Keep what it says, with its names and numbers. "
            "Answer with the new text alone."
        ),
    ],
    "answer-from-documents": [
        BRIEF,
        user(
            "Passages:\nI am tall.\n\nQuestion: Which size?\n\nAnswer from the passages alone and name the number of each "
            "one you use, like [1]. If they do not hold the answer, say: The documents do not say."
        ),
    ],
}
TECHNIQUES = {
    "direct",
    "chain-of-thought",
    "zero-shot-chain-of-thought",
    "self-consistency",
    "least-to-most",
    "react",
    "json",
    "label",
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
    assert len(messages) == 1 or name == "react"
    for message in messages:
        assert "\n\n\n" not in message.content
        assert message.content == message.content.strip()
    assert "Which size?" in messages[-1].content.splitlines()[0]


@pytest.mark.parametrize("name", list(templates()))
def test_a_template_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    chosen = template(name)
    assert chosen.name == name
    assert "instruction" in chosen.variables
    assert chosen.technique in TECHNIQUES
    assert chosen.title
    assert chosen.summary
    assert chosen.citation or name == "plain"


def test_templates_are_listed_cheapest_first() -> None:
    names = list(templates())
    assert names[:2] == ["plain", "zero-shot"]
    assert names[-2:] == ["few-shot", "chain-of-thought-examples"]
    assert names.index("react") < names.index("chain-of-thought")


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
    assert messages[-1].content.count(text) == 2
    assert text in messages[0].content


@pytest.mark.parametrize(
    ("part", "source", "sentence"),
    [
        pytest.param(
            "user", "a\n{{ instrction }}", "the user part, line 2: there is no variable 'instrction'", id="slip"
        ),
        pytest.param("system", "{{ instruction", "the system part, line 1: ", id="never closed"),
        pytest.param("user", "{{ instruction.__class__.__mro__ }}", "look inside a value", id="class of a variable"),
        pytest.param("user", "{{ ''.__class__.__base__.__subclasses__() }}", "call anything", id="class of a literal"),
        pytest.param(
            "system", "{{ cycler.__init__.__globals__.os.system('id') }}", "no variable 'cycler'", id="helper"
        ),
        pytest.param("user", "{{ 'x' * 10**9 }}", "cannot calculate", id="a bomb"),
        pytest.param("user", "x" * 100_001, "has 100,001 characters", id="too long"),
        pytest.param("user", "a\nb\x00", "line 2 holds a character that is none", id="NUL"),
        pytest.param("user", "\ud800", "line 1 holds a character that is none", id="half a character"),
    ],
)
def test_a_template_that_could_not_be_rendered_is_not_made(part: str, source: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        _made(**{part: source})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param({"name": "My Template"}, "pattern", id="name"),
        pytest.param({"title": ""}, "at least 1", id="title"),
        pytest.param({"declares": ["instruction", "2nd"]}, "'2nd' cannot be a variable", id="variable"),
        pytest.param({"declares": ["instruction", "loop"]}, "'loop' cannot be a variable", id="a word of the language"),
        pytest.param({"declares": ["instruction", "labels"]}, "'labels' cannot be a variable", id="a setting"),
        pytest.param({"labels": ["yes", "Yes "]}, "'yes' is there twice", id="labels that differ by case"),
        pytest.param({"labels": ["yes", " "]}, "cannot be a label", id="an empty label"),
        pytest.param({"json_schema": "{'a': 1}"}, "is no JSON", id="a schema that is Python"),
        pytest.param({"json_schema": "[1]"}, "is no schema", id="a schema that is a list"),
        pytest.param({"json_schema": '{"type": "thing"}'}, "is no schema", id="a schema of no kind"),
        pytest.param({"json_schema": '{"a":' * 3_000 + "1" + "}" * 3_000}, "nested too deep", id="a deep schema"),
        pytest.param({"shots": 33}, "less than or equal to 32", id="shots"),
        pytest.param({"colour": "red"}, "Extra inputs", id="a field that is none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        _made(**fields)


def test_a_template_declares_variables_of_its_own() -> None:
    made = _made(user="{{ instruction }} Be {{ tone }}.", declares=["instruction", "tone"])
    assert made.variables == ("instruction", "tone")
    assert render(made, QUESTION | {"tone": "warm"}) == [user("Which size? Be warm.")]
    assert render(made, {"instruction": "Hi", "tone": ""}) == [user("Hi Be .")]
    with pytest.raises(InputError, match="Template 'made' needs a value for 'tone'"):
        render(made, QUESTION)
    with pytest.raises(ValueError, match="no variable 'context'"):
        _made(user="{{ instruction }} {{ context }}", declares=["instruction"])


def test_labels_and_schema_of_the_template_stand_in_its_prompt() -> None:
    schema = '{"type": "object", "required": ["size"]}'
    asked = render(template("extract-json").model_copy(update={"json_schema": schema}), QUESTION)
    assert asked[-1].content.endswith(f"It must keep to this schema:\n{schema}")
    asked = render(_made(user="{{ instruction }} {{ labels }}", labels=["yes", "no"]), QUESTION)
    assert asked == [user("Which size? yes, no")]


def test_a_question_is_needed_only_where_it_is_asked() -> None:
    made = _made(user="Sum up: {{ context }}")
    assert render(made, {"context": "It rained."}) == [user("Sum up: It rained.")]


def test_reasoning_is_not_shown_where_none_is_asked_for() -> None:
    assert render(template("few-shot"), QUESTION, EXAMPLES)[2] == assistant("At 30.")


# -- sentences -----------------------------------------------------------------------------------------------


def test_a_variable_that_no_template_knows_is_refused() -> None:
    with pytest.raises(InputError, match=r"no variable 'tone'\. Its variables are: instruction, context, guidelines"):
        render(template("plain"), QUESTION | {"tone": "warm"})


@pytest.mark.parametrize("variables", [{}, {"instruction": ""}, {"instruction": " \n"}])
def test_an_empty_instruction_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(InputError, match="The instruction is empty"):
        render(template("plain"), variables)


def test_a_variable_that_is_nearly_known_is_named() -> None:
    with pytest.raises(InputError, match="no variable 'instuction'. Did you mean 'instruction'"):
        render(template("plain"), {"instuction": "Hi"})


def test_a_copy_that_was_broken_says_where() -> None:
    broken = template("plain").model_copy(update={"user": "a\n{{ colour }} {{ instruction }}"})
    with pytest.raises(InputError, match="The user part of template 'plain'.* line 2: there is no variable 'colour'"):
        render(broken, QUESTION)


def test_a_missing_template_is_told_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no template 'plane'\. Known templates: plain, zero-shot"):
        template("plane")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("user: [", "line 1: ", id="not YAML"),
        pytest.param("name: x", "title: is needed", id="fields are missing"),
        pytest.param("name: x\ntitle: t\ntechnique: t\nsummary: s\nuser: '{% if x'", "line 1: ", id="not Jinja"),
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
    assert [m.content for m in messages if m.role == "assistant"] == ["It is wool.\nReply: At 30.", "Reply: Wet."]


# -- digests -------------------------------------------------------------------------------------------------


def test_a_digest_changes_with_the_words_and_with_nothing_else() -> None:
    chosen = _made()
    assert chosen.digest("guidelines", 0) == _made().digest("guidelines", 0)
    others = [chosen.digest("guidelines", 1), chosen.digest("other", 0), _made(user="{{ instruction }}!").digest()]
    assert len({chosen.digest("guidelines", 0), *others}) == 4


def test_words_about_a_template_do_not_change_its_digest() -> None:
    assert _made(title="Other", summary="Other", citation="Other", name="other").digest() == _made().digest()
    assert _made(labels=["yes", "no"]).digest() != _made().digest()


# -- YAML ----------------------------------------------------------------------------------------------------

LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
# No double braces and no tags: those are the language's own matter.
PROMPTS = st.lists(
    LINES | st.sampled_from(["\n", "  ", "# ", "- ", ": ", "'", '"', "\u2028", "\x85", "\t", "\r\n"]), max_size=8
)
PLAIN = PROMPTS.map(lambda pieces: "".join(pieces).replace("{", "("))


@given(
    PLAIN, PLAIN, st.lists(st.sampled_from(["no", "1", "1e3", "null", "12:30", "~", "- a", "ä", "a: b"]), unique=True)
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_a_template_comes_back_from_yaml(head: str, prompt: str, labels: list[str]) -> None:
    made = _made(
        system=head, user=prompt, citation=prompt[:50], answer_after=head[:9], labels=labels, shots=len(labels)
    )
    assert from_yaml(to_yaml(made)) == made


@pytest.mark.parametrize("name", list(templates()))
def test_templates_of_the_library_are_exported_as_readable_files(name: str) -> None:
    written = to_yaml(template(name))
    assert from_yaml(written) == template(name)
    assert "\\n" not in written


def test_words_in_yaml_are_words() -> None:
    read = from_yaml("name: x\ntitle: 12:30\nuser: '{{ instruction }}'\nlabels: [yes, no, 007]\nshots: 2\n")
    assert (read.title, read.labels, read.shots) == ("12:30", ("yes", "no", "007"), 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("name: x\nuser: a: b", "no YAML: line 2: ", id="not YAML"),
        pytest.param("a: &a [x]\nb: *a", "line 2: references .* are not read", id="a reference"),
        pytest.param("user: !!python/object:os.system id", "no YAML: line 1: ", id="Python"),
        pytest.param("[" * 5_000, "no YAML: ", id="nested without end"),
        pytest.param("\x01", "no YAML: ", id="a control character"),
        pytest.param("", "no template: ", id="empty"),
        pytest.param(
            "name: x\ntitle: t\nuser: u\nshots: many", "shots: must be a whole number, not 'many'", id="a field"
        ),
        pytest.param("name: x\ntitle: t\nuser: |\n  a\n  {{ b }}", "the user part, line 2: there is no", id="Jinja"),
        pytest.param("x" * 300_001, "too many for a template", id="too long"),
    ],
)
def test_a_file_that_is_no_template_is_told_why(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_yaml(text)


# -- templates of one's own ----------------------------------------------------------------------------------


def test_a_saved_template_is_found_by_its_version_or_by_its_name(sqlite_store: Store) -> None:
    first, second = _made(), _made(user="{{ instruction }}!", labels=["yes"])
    assert save_template(sqlite_store, first, "First", "ann") == 1
    assert save_template(sqlite_store, second, "Louder", "ben") == 2
    assert find_template(sqlite_store, "made@1") == first
    assert find_template(sqlite_store, "made@2") == find_template(sqlite_store, "made") == second
    assert find_template(sqlite_store, "zero-shot") == template("zero-shot")


def test_saving_an_unchanged_template_makes_no_version(sqlite_store: Store) -> None:
    save_template(sqlite_store, _made())
    assert save_template(sqlite_store, _made(), "again", "ben") == 1
    assert [v.note for v in sqlite_store.template_versions("made")] == [""]


def test_an_archived_template_is_still_found_by_what_names_it(sqlite_store: Store) -> None:
    save_template(sqlite_store, _made())
    sqlite_store.archive_template("made")
    assert find_template(sqlite_store, "made@1") == _made()


def test_names_of_the_library_are_taken(sqlite_store: Store) -> None:
    with pytest.raises(InputError, match="'plain' is a template of the library and stays as it is. Save yours under"):
        save_template(sqlite_store, _made(name="plain"))
    assert sqlite_store.prompt_templates() == []


def test_a_broken_copy_is_not_saved(sqlite_store: Store) -> None:
    with pytest.raises(ValueError, match="no variable 'colour'"):
        save_template(sqlite_store, _made().model_copy(update={"user": "{{ colour }}"}))
    assert sqlite_store.prompt_templates() == []


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        pytest.param("maed", "no template 'maed'. Did you mean 'made'?", id="a slip"),
        pytest.param("zero-shto", "Did you mean 'zero-shot'?", id="a slip in the library"),
        pytest.param("qqq", "no template 'qqq'. Known templates: made, plain", id="nothing like it"),
        pytest.param("made@7", "'made' has no version 7. It has 1 to 1.", id="no such version"),
        pytest.param("made@x", "'made@x' names no version", id="no number"),
        pytest.param("made@0", "'made@0' names no version", id="zero"),
        pytest.param("plain@1", "'plain' is in the library and has no versions", id="a version of the library"),
        pytest.param("a\x00b", "There is no template", id="NUL"),
        pytest.param("", "There is no template", id="empty"),
    ],
)
def test_a_name_that_is_none_is_told_with_those_that_are(sqlite_store: Store, ref: str, sentence: str) -> None:
    save_template(sqlite_store, _made())
    with pytest.raises(InputError, match=re.escape(sentence)):
        find_template(sqlite_store, ref)


def test_a_version_that_this_studio_cannot_read_says_what_is_wrong(sqlite_store: Store) -> None:
    sqlite_store.add_template_version("odd", {"name": "odd", "title": "Odd", "user": "{% if %}"}, author="ann")
    with pytest.raises(InputError, match="odd@1 cannot be used: the user part, line 1: .* Save a mended version"):
        find_template(sqlite_store, "odd")
