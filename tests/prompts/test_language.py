"""The language of templates: declared names are filled in, all other braces are text, and nothing runs away."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from studio.prompts.language import FILTERS, Mistake, Value, fill, used_names


def _told(source: str) -> Mistake | None:
    """What is wrong with a template, if anything is."""
    try:
        fill(source, VALUES)
    except Mistake as mistake:
        return mistake
    return None


VALUES: dict[str, Value] = {
    "instruction": "Ask",
    "context": "one two\nthree",
    "guidelines": "",
    "labels": ("yes", "no"),
}


# -- what is filled in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        pytest.param("{{ instruction }}", "Ask", id="a variable"),
        pytest.param("{{instruction}}!", "Ask!", id="without spaces"),
        pytest.param('{"a": {"b": {{ instruction }}}}', '{"a": {"b": Ask}}', id="inside JSON"),
        pytest.param('{"a":{"b":{{{instruction}}}}}', '{"a":{"b":{Ask}}}', id="three braces are one and a variable"),
        pytest.param('{"q": {{ context | tojson }}}', '{"q": "one two\\nthree"}', id="a JSON string"),
        pytest.param("costs ${{ instruction }}", "costs $Ask", id="declared wins over code"),
        pytest.param("{% if guidelines %}G{% elif context %}C{% else %}N{% endif %}", "C", id="a choice"),
        pytest.param("{% for l in labels %}{{ loop.index }}.{{ l }} {% endfor %}", "1.yes 2.no ", id="a loop"),
        pytest.param(
            "{% for l in context | lines %}- {{ l }}\n{% endfor %}.", "- one two\n- three\n.", id="over lines"
        ),
        pytest.param("{{ labels }}", "yes, no", id="a list"),
        pytest.param("{{ labels | join(' or ') | upper }}", "YES OR NO", id="filters in a row"),
        pytest.param("{{ guidelines or 'Be brief.' }}", "Be brief.", id="or"),
        pytest.param("{{ 'x' if guidelines }}|", "|", id="if without else"),
        pytest.param("{{ guidelines | default('none') }}", "none", id="default is for the empty"),
        pytest.param("{{ context | truncate(8) }}", "one...", id="cut between words"),
        pytest.param("{{ context | indent(2) }}", "one two\n  three", id="indent"),
        pytest.param("{{ context | replace('one', '1') | first }}", "1", id="replace"),
        pytest.param("{% if 'two' in context and labels | length == 2 %}ok{% endif %}", "ok", id="comparing"),
        pytest.param("a  {%- if context -%}  b  {%- endif -%}  c", "abc", id="without the space around it"),
        pytest.param("a{# left out {{ nmae }} #}b", "ab", id="a note"),
        pytest.param("{% raw %}{{ name }} {% if %}{% endraw %}", "{{ name }} {% if %}", id="raw"),
    ],
)
def test_templates_fill_in_decide_and_repeat(source: str, text: str) -> None:
    assert fill(source, VALUES) == text


@pytest.mark.parametrize(
    "code",
    [
        '{{"x": 1}}',
        '{"a": [{"b": {}}]}',
        "{% not jinja %}",
        "{% csrf_token %}",
        "printf('{%d}', x)",
        "${{ x }}",
        "${{ github.sha || secrets.CONTEXT }}",
        'f"{{x}} {y}"',
        "f'''\n{{x}}'''",
        "${#list[@]} {#each items}{/each} {{#if x}}y{{/if}}",
        "{{1, 2}} {{ 42 }}",
        "{{ '{{' }}",
        "style={{ color: 'red' }}",
        "{{ .Values.context }}",
        "{{% notice %}}",
        r"\frac{{1}}{{2}}",
        "{{ it's }} { } }} %} #} {{ {{{",
        "{{}}",
        "{{ " + "(" * 400 + ")" * 400 + " }}",
    ],
)
def test_braces_of_other_languages_reach_the_model_as_they_are(code: str) -> None:
    assert fill(code, VALUES) == code
    assert fill("{{ instruction }}" + code + "{{ instruction }}", VALUES) == f"Ask{code}Ask"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_what_is_filled_in_is_never_read_as_a_template(text: str) -> None:
    assert fill("<{{ instruction }}>", {"instruction": text}) == f"<{text}>"


PIECES = st.sampled_from(
    ["{", "}", "{{", "}}", "{%", "%}", "{#", "#}", " ", "\n", "x", "1", "'", '"', ":", "|", ".", "-"]
)
SOURCES = st.lists(PIECES, max_size=24).map("".join)


@given(SOURCES)
@example("{%{{")
@example("{{{%")
@settings(deadline=None, derandomize=True, max_examples=400)
def test_a_text_is_sent_as_it_is_or_refused_but_never_changed(source: str) -> None:
    try:
        filled = fill(source + ".", {"name": "N"})
    except Mistake:
        return
    assert filled == source + "." or "{#" in source  # a note is left out


@given(SOURCES)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_raw_writes_anything(source: str) -> None:
    assert fill("{% raw %}" + source + "{% endraw %}.", VALUES) == source + "."


WORDS = st.sampled_from(
    "{{ }} {% %} {# #} if elif else endif for in endfor raw endraw set loop loop.index instruction context labels nmae "
    "| upper join replace truncate(3) lines ( ) [ ] , ~ + * ** 9 'x' == not and . __class__ is defined \n".split(" ")
)


@given(st.lists(WORDS, max_size=30).map(" ".join))
@settings(deadline=None, derandomize=True, max_examples=600)
def test_any_source_is_rendered_or_refused_with_a_sentence(source: str) -> None:
    said = _told(source)
    assert said is None or said.reason.endswith((".", "?"))


# -- slips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        pytest.param(
            "a\n{{ instrction }}", "line 2: there is no variable 'instrction'. Did you mean 'instruction'?", id="slip"
        ),
        pytest.param("{{ nmae }}", "write {% raw %}{{ nmae }}{% endraw %}", id="how to write it all the same"),
        pytest.param("{{ xyz }}", "Declared are: instruction, context", id="nothing like it"),
        pytest.param(
            "\n\n{% if contxt %}{% endif %}",
            "line 3: there is no variable 'contxt'. Did you mean 'context'?",
            id="in if",
        ),
        pytest.param("{{ nmae | upper }}", "no variable 'nmae'", id="with a filter"),
        pytest.param("{{ l }}{% for l in labels %}{% endfor %}", "no variable 'l'", id="outside its loop"),
        pytest.param(
            "{{ loop.index }}{% for l in labels %}{% endfor %}", "'loop' is used inside a loop", id="loop outside"
        ),
        pytest.param("{{ context | uper }}", "no filter 'uper'. Did you mean 'upper'?", id="a filter"),
        pytest.param("{% iff context %}", "no '{% iff %}'. Did you mean 'if'?", id="a tag"),
        pytest.param("{% set x = 1 %}", "no '{% set %}'. Templates know 'if' and 'for'", id="more of Jinja"),
        pytest.param("x\n{{ instruction }", "line 2: '{{ instruction' is never closed", id="a brace is missing"),
        pytest.param(
            "{% if context %}\nx", "line 1: '{% if %}' is never closed. Add '{% endif %}'", id="if without end"
        ),
        pytest.param("\n{% if context", "line 2: '{% if' is never closed. End it with '%}'", id="half a tag"),
        pytest.param("{% endif %}", "'{% endif %}' stands in nothing. Open '{% if %}' before it", id="end without if"),
        pytest.param("{% for l in labels %}{% endif %}", "'{% endif %}' stands in for", id="the wrong end"),
        pytest.param("\n{% raw %}x", "line 2: '{% raw %}' is never closed", id="raw without end"),
        pytest.param("{% endraw %}", "'{% endraw %}' ends nothing", id="end without raw"),
        pytest.param("{# note", "the note '{# ' is never closed", id="note without end"),
        pytest.param("{{ instruction here }}", "line 1: {{ instruction here }} cannot be read", id="two words"),
        pytest.param("\n{% if %}{% endif %}", "line 2: expected an expression", id="an empty if"),
        pytest.param(
            "a\n{{ labels | upper }}", "line 2: 'upper' changes a text. Join the list first", id="a list as text"
        ),
        pytest.param("{% for l in context %}{% endfor %}", "a loop goes through labels or lines", id="a text as list"),
        pytest.param("{{ context | truncate('a') }}", "'truncate' cannot use what it is given", id="a wrong value"),
        pytest.param("{{ context | join }}", "'join' joins labels or lines", id="joining a text"),
        pytest.param("{% if context < 3 %}{% endif %}", "this cannot be rendered", id="comparing unlike things"),
        pytest.param("{% if context is defined %}{% endif %}", "'is defined' is not known here", id="a test"),
        pytest.param("{% for a, b in labels %}{% endfor %}", "a loop has one name", id="two names"),
        pytest.param("{% for l in labels recursive %}{% endfor %}", "cannot be recursive", id="recursive"),
        pytest.param("{% for _purse in labels %}{% endfor %}", "begins with a letter", id="a private name"),
        pytest.param(r"{{ context | replace('o', '\ud800') }}", "a character that is none", id="half a character"),
    ],
)
def test_a_slip_is_a_sentence_with_its_line(source: str, sentence: str) -> None:
    with pytest.raises(Mistake) as caught:
        fill(source, VALUES)
    assert sentence in str(caught.value)
    assert caught.value.line > 0


# -- what must not happen ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ instruction.__class__ }}",
        "{{ instruction['__class__'] }}",
        "{{ instruction | attr('__class__') }}",
        "{{ labels | map(attribute='__class__') | list }}",
        "{{ instruction.format(instruction) }}",
        "{{ '{0.__class__}'.format(instruction) }}",
        "{{ self }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{{ lipsum.__globals__ }}",
        "{{ _purse }}",
        "{{ instruction | _rounds(0) }}",
        "{{ instruction | _weighed }}",
        "{% for l in labels %}{{ loop.__class__ }}{% endfor %}",
        "{% for l in labels %}{{ loop.cycle }}{% endfor %}",
        "{% for l in labels %}{{ loop._iterable }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_cannot_reach_out(source: str) -> None:
    with pytest.raises(Mistake):
        fill(source, VALUES)


LINES = "ab\n" * 9_000
NESTED = "{% for a in context | lines %}" * 4 + "{% endfor %}" * 4
BOMBS = {
    "multiplied": "{{ 'x' * 10**9 }}",
    "a power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a power with a name": "{{ instruction if 9 ** 9 ** 9 ** 9 }}",
    "formatted": "{{ '%1000000000d' % 1 }}",
    "a range": "{{ range(10**9) | join }}",
    "a loop over a range": "{% for i in range(10**9) %}{% endfor %}",
    "a wide centre": "{{ instruction | center(1000000000) }}",
    "ljust": "{{ instruction.ljust(1000000000) }}",
    "indented": "{{ context | indent(1000000) }}",
    "indented by a variable": "{{ context | indent(context | length) | indent(context | length) }}",
    "replaced": "{{ context | replace('a', context) }}",
    "replaced by nothing": "{{ context | replace('', context) }}",
    "joined": "{{ context | lines | join(context) }}",
    "a long number": "{{ context | truncate(" + "9" * 900 + ") }}",
    "loops without output": NESTED,
    "loops with output": "{% for a in context | lines %}{{ context }}{% endfor %}",
    "loops that compare": "{% for a in context | lines %}{% if 'abc' in context %}{% endif %}{% endfor %}",
    "loops that filter": "{% for a in context | lines %}{% if context | upper %}{% endif %}{% endfor %}",
    "19 loops in each other": "{% for a in labels %}" * 19 + "x" + "{% endfor %}" * 19,
    "30 loops in each other": "{% for a in labels %}" * 30 + "x" + "{% endfor %}" * 30,
    "many filters": "{{ context | upper | lower }}" * 400,
    "a chain of filters": "{{ context" + " | upper" * 100 + " }}",
    "brackets": "{{ instruction and " + "(" * 450 + "1" + ")" * 450 + " }}",
    "nots": "{{ " + "not " * 240 + "instruction }}",
    "400 ifs in each other": "{% if context %}" * 400 + "{% endif %}" * 400,
    "5,000 elifs": "{% if context %}" + "{% elif labels %}" * 5_000 + "{% endif %}",
    "quotes": "{{ '\"" * 19_000 + "{{ instruction",
    "openers": "{{ instruction }} {{ " * 4_500,
    "raw in raw": "{% raw %}" * 11_000,
    "a long template": "x" * 200_000,
    "long values": "{{ context }}" * 100,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_sentence_and_takes_no_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Mistake):
            fill(BOMBS[name], VALUES | {"context": LINES})
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_a_text_of_many_megabytes_is_refused() -> None:
    for source in ("{{ context }}", "{{ context | upper | length }}"):
        with pytest.raises(Mistake, match="longer than|too long"):
            fill(source, {"context": "x" * 12_000_000})


def test_a_long_prompt_is_no_bomb() -> None:
    context = "word " * 60_000
    source = "{% if context %}{{ context | trim }}{% endif %}\n" + "A line of the prompt. {{ instruction }}\n" * 500
    assert len(fill(source, VALUES | {"context": context})) > 300_000


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_takes_anything_that_is_given_with_a_sentence_at_worst(name: str) -> None:
    for value in ("instruction", "guidelines", "labels", "labels | length"):
        for arguments in ("", "('a')", "(-3)", "('', 'b')", "(labels)", "(none)", "(x=1)"):
            said = _told("{{ " + f"{value} | {name}{arguments}" + " }}")
            assert said is None or said.line == 1


def test_the_names_a_template_uses_are_those_it_declares() -> None:
    source = "{{ context }}{% for label in labels %}{{ label }}{% endfor %}${{ x }}"
    assert used_names(source, ["context", "labels", "instruction"]) == {"context", "labels"}
