"""Techniques as objects: found by their file, set by their knobs, and each with its rule for reading an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from studio.errors import InputError, NotFound, RunError
from studio.fields import describe
from studio.prompts import Template, render, template, templates
from studio.prompts import techniques as package
from studio.prompts.techniques import technique, technique_of, techniques
from studio.prompts.techniques.least_to_most import _DECOMPOSE, smaller_questions
from studio.prompts.techniques.react import Action, first_action
from studio.specs import Completion, Message, Sampling, assistant, user
from tests.prompts.techniques.scripted import answer, asking, completion, saying

QUESTION = [user("How many?")]


# -- the catalogue -------------------------------------------------------------------------------------------


def test_techniques_are_listed_cheapest_first() -> None:
    known = list(techniques().values())
    assert known[0].name == "direct"
    assert [t.calls for t in known] == sorted(t.calls for t in known)
    assert set(techniques()) >= {"chain-of-thought", "json", "label", "least-to-most", "react", "self-consistency"}


@pytest.mark.parametrize("name", list(techniques()))
def test_a_technique_says_what_it_is_what_it_costs_and_where_it_comes_from(name: str) -> None:
    found = technique(name)
    assert found.name == name
    assert found.title
    assert found.summary
    assert found.citation or name == "json"  # no paper
    assert str(found.calls) in found.cost
    assert all(field.help for field in describe(found.knobs))


@pytest.mark.parametrize("alias", ["plain", "zero-shot", "few-shot"])
def test_few_shot_is_direct_with_examples_as_turns(alias: str) -> None:
    assert technique(alias).name == "direct"


def test_an_unknown_technique_is_told_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no technique 'magic'\. Known techniques: direct, "):
        technique("magic")


SHOUT = """
from studio.prompts.techniques.base import Found, Technique

class Shout(Technique):
    name = "{name}"
    title = "Shout"
    summary = "In capitals."

    def extract(self, text):
        return Found.of(text.upper(), 0, len(text), strict=True)
"""


def test_a_new_technique_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    (tmp_path / "shout_for_a_test.py").write_text(SHOUT.format(name="shout"))
    assert technique("shout").extract("yes").text == "YES"


def test_two_techniques_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    (tmp_path / "second_react_for_a_test.py").write_text(SHOUT.format(name="react"))
    with pytest.raises(RunError, match=r"Two techniques are called 'react': .*Rename one"):
        techniques()


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "calls", "cost"),
    [
        ("direct", {}, 1, "1 call"),
        ("zero-shot-chain-of-thought", {}, 2, "2 calls"),
        ("self-consistency", {"votes": 9}, 9, "9 calls"),
        ("least-to-most", {"most": 3}, 5, "2 to 5 calls"),
        ("react", {"steps": 4}, 4, "1 to 4 calls"),
        ("react", {"steps": 1}, 1, "1 call"),
    ],
)
def test_what_a_question_costs_follows_from_the_settings(
    name: str, settings: dict[str, int], calls: int, cost: str
) -> None:
    found = technique(name, settings)
    assert (found.calls, found.cost) == (calls, cost)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"votes": 1}, "Votes: must be 2 or more, not 1"),
        ({"temperature": 0}, "Temperature of the votes: must be above 0"),
        ({"reads": "smoke"}, "Read as: must be 'text' or 'number'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        technique("self-consistency", settings)


def test_a_change_of_one_setting_keeps_the_others_and_the_original() -> None:
    before = technique("self-consistency", {"votes": 9})
    after = before.with_settings({"reads": "number"})
    assert (after.calls, before.settings.model_dump()["reads"]) == (9, "text")


# -- templates and their technique ---------------------------------------------------------------------------


def _template(**fields: object) -> Template:
    basics = {"name": "made", "title": "t", "summary": "s", "user": "{{ instruction }}", "technique": "direct"}
    return Template.model_validate(basics | fields)


def test_a_template_gives_its_technique_marker_and_room_and_says_the_instruction_itself() -> None:
    found = technique_of(_template(technique="chain-of-thought", answer_after="Reply:", extra_tokens=90))
    assert found.prepare(QUESTION) == QUESTION
    assert found.sampling(Sampling(max_tokens=20)).max_tokens == 20
    assert found.extract("So.\nReply: At 30.").text == "At 30."


def test_a_template_without_a_technique_of_its_own_is_asked_directly() -> None:
    found = technique_of(_template(technique="rewrite", answer_after="Reply:"))
    assert (found.name, found.extract("So. Reply: yes").text) == ("direct", "yes")


@pytest.mark.parametrize("name", list(templates()))
def test_a_template_of_the_library_says_all_that_its_technique_needs(name: str) -> None:
    chosen = template(name)
    found = technique_of(chosen)
    assert chosen.technique in {found.name, *found.aliases}
    asked = render(chosen, {"instruction": "How many?"})
    parts = [_DECOMPOSE] if found.name == "least-to-most" else []
    assert found.prepare(asked)[-1].content == "\n\n".join([asked[-1].content, *parts])


def test_a_template_can_be_asked_with_other_settings() -> None:
    assert technique_of(_template(technique="self-consistency"), {"votes": 7}).calls == 7


@pytest.mark.parametrize("name", sorted(set(techniques()) - {"least-to-most", "label", "direct"}))
def test_a_template_that_says_nothing_of_it_gets_the_instruction(name: str) -> None:
    found = technique(name)
    [asked] = found.prepare(QUESTION)
    assert asked.content == f"How many?\n\n{found.instruction}"
    assert type(found)(is_told=True).prepare(QUESTION) == QUESTION


def test_a_json_template_still_gets_a_schema_that_it_does_not_show() -> None:
    schema = '{"type": "object"}'
    found = type(technique("json"))(is_told=True).with_settings({"json_schema": schema})
    assert found.prepare(QUESTION)[0].content == f"How many?\n\nThe JSON must keep to this schema:\n{schema}"
    assert found.prepare([user(f"Keep to {schema}")]) == [user(f"Keep to {schema}")]


@pytest.mark.parametrize("name", sorted(set(techniques()) - {"label", "direct"}))
def test_a_conversation_that_ends_with_an_answer_cannot_be_asked(name: str) -> None:
    with pytest.raises(InputError, match="does not end with a question"):
        answer(technique(name), saying(["x"]), [*QUESTION, assistant("7")])


# -- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "text", "found", "strict"),
    [
        pytest.param("", " At 30. \n", "At 30.", True, id="the whole text"),
        pytest.param("Reply:", "Reply: no. Reply: yes.", "yes.", True, id="behind the last marker"),
        pytest.param("Reply:", "yes.", "yes.", False, id="no marker: the whole text stands in"),
    ],
)
def test_a_direct_answer_is_the_text_or_what_stands_behind_the_marker(
    marker: str, text: str, found: str, strict: bool
) -> None:
    read = technique("direct", {"marker": marker}).extract(text)
    assert (read.text, read.strict, text[read.start : read.end]) == (found, strict, found)


@pytest.mark.parametrize("name", sorted(set(techniques()) - {"label"}))
def test_an_empty_output_holds_no_answer(name: str) -> None:
    found = technique(name).extract(" \n ")
    assert (found.text, found.parsed, found.strict) == ("", False, False)


def test_a_chain_is_read_up_to_the_question_that_the_model_goes_on_to_ask_itself() -> None:
    text = "The answer is 3.\nQ: And then?\nA: The answer is 9."
    assert technique("chain-of-thought", {"reads": "number"}).extract(text).text == "3"


@pytest.mark.parametrize(
    ("reads", "text", "found", "strict"),
    [
        ("number", "36 - 7.\n\nTherefore, the answer (arabic numerals) is 29 of 36.", "29", True),
        ("number", "36 - 7 = 29", "29", False),
        ("number", "Therefore, the answer (arabic numerals) is unknown.", "", False),
        ("text", "Steps.\n\nTherefore, the answer is Paris.\nReally.", "Paris.\nReally.", True),
        ("text", "Steps.\nParis", "Paris", False),
    ],
)
def test_the_answer_of_two_calls_stands_behind_the_trigger(reads: str, text: str, found: str, strict: bool) -> None:
    read = technique("zero-shot-chain-of-thought", {"reads": reads}).extract(text)
    assert (read.text, read.strict) == (found, strict)


@pytest.mark.parametrize(
    ("reads", "text", "found", "strict"),
    [
        ("text", "1. a?\n7.\n\nFinal answer:\nIt is 29.", "It is 29.", True),
        ("text", "1. a?\nFinal answer:\n7.\n\nFinal answer:\n8.", "8.", True),
        ("number", "Final answer:\n7 of 36, so 29.", "29", True),
        ("number", "Final answer:\nnone", "", False),
        ("text", "Just this.\nIt is 29.", "It is 29.", False),
    ],
)
def test_the_last_answer_stands_below_the_last_heading(reads: str, text: str, found: str, strict: bool) -> None:
    read = technique("least-to-most", {"reads": reads}).extract(text)
    assert (read.text, read.strict) == (found, strict)
    assert text[read.start : read.end] == found


@pytest.mark.parametrize(
    ("text", "found", "strict"),
    [
        pytest.param("Thought: x\nAction: Finish[29]", "29", True, id="finish"),
        pytest.param("Action 3: finish[a [b] c]", "a [b] c", True, id="numbered, any case, brackets inside"),
        pytest.param("Action: Finish[29", "29", True, id="a bracket that is never closed"),
        pytest.param("Action: Finish[1]\nNo.\nAction: Finish[2]", "2", True, id="the last one counts"),
        pytest.param(
            "Action: Calculate[1]\nObservation: 'Action: Finish[5' no", "Action: Calculate[1]", False, id="only its own"
        ),
        pytest.param("I think 29.\nObservation: 3", "I think 29.", False, id="the last line of its own"),
    ],
)
def test_a_loop_is_read_where_it_finishes(text: str, found: str, strict: bool) -> None:
    read = technique("react").extract(text)
    assert (read.text, read.strict) == (found, strict)
    assert text[read.start : read.end] == found


# -- calls ---------------------------------------------------------------------------------------------------


def test_chains_without_an_answer_do_not_vote() -> None:
    made = technique("self-consistency", {"votes": 3, "reads": "number"})
    trace = answer(made, saying(["dunno", "hm", "The answer is 4."]), QUESTION)
    assert (trace.answer.text, trace.output, trace.note) == ("4", "The answer is 4.", "1 of 3 chains say 4.")
    nothing = answer(made, saying(["dunno", "hm", "no"]), QUESTION)
    assert (nothing.answer.parsed, nothing.note) == (False, "No answer was found in 3 chains.")


def test_every_vote_is_drawn_with_its_own_seed_at_the_techniques_temperature() -> None:
    seen: list[tuple[float, int]] = []
    made = technique("self-consistency", {"votes": 4, "temperature": 0.5})
    answer(made, asking(lambda m, s: str(seen.append((s.temperature, s.seed)))), QUESTION, Sampling(temperature=1.5))
    assert {temperature for temperature, _ in seen} == {0.5}
    assert len({seed for _, seed in seen}) == 4


@pytest.mark.parametrize(
    ("listed", "parts"),
    [
        pytest.param("1. One?\n2) Two?\n 3: Three?", ["One?", "Two?", "Three?"], id="numbered"),
        pytest.param("- One?\n* Two?\n• Three?", ["One?", "Two?", "Three?"], id="bulleted"),
        pytest.param("First:\n1. One?\nThen.\n2. One?\n3. one?", ["One?"], id="once each"),
        pytest.param("1. How  many?\n2. Two?", ["Two?"], id="not the question itself"),
        pytest.param("1. a\n2. b\n3. c\n4. d\n5. e", ["a", "b", "c", "d"], id="no more than allowed"),
        pytest.param("It is 29.", [], id="no list"),
        pytest.param("3.5 litres and -4", [], id="numbers are no items"),
    ],
)
def test_smaller_questions_are_the_items_of_the_list(listed: str, parts: list[str]) -> None:
    assert smaller_questions(listed, "How many?", 4) == parts


def test_without_smaller_questions_the_question_itself_is_asked() -> None:
    trace = answer(technique("least-to-most"), saying(["No.", "29"]), QUESTION)
    assert trace.steps[1][0] == QUESTION
    assert (trace.answer.text, trace.note) == ("29", "No smaller questions were named, so it was asked directly.")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Thought: t\nAction: Calculate[2 * (3 + 4)] more", Action("Calculate", "2 * (3 + 4)", 29, 40)),
        ("action 2: calculate[1]\nAction: Finish[2]", Action("Calculate", "1", 20, 21)),
        ("Action: Calculate[1 + 1\nmore", Action("Calculate", "1 + 1", 18, 23)),
        ("Action: Search[x]", None),
        ("", None),
    ],
)
def test_the_first_action_counts(text: str, action: Action | None) -> None:
    assert first_action(text) == action


@pytest.mark.parametrize(
    ("outputs", "answered", "observed"),
    [
        pytest.param(
            ["Action: Calculate[1+1]\nAction: Finish[99]", "Action: Finish[2]"], "2", ["2"], id="a second action"
        ),
        pytest.param(["Thought: t\nObservation: 99\nAction: Finish[99]"], "Thought: t", [], id="an observation first"),
    ],
)
def test_what_the_model_makes_up_behind_its_action_is_left_out(
    outputs: list[str], answered: str, observed: list[str]
) -> None:
    said = iter(outputs)

    async def never_stopping(messages: Sequence[Message], sampling: Sampling) -> Completion:
        return completion(next(said))

    trace = answer(technique("react"), never_stopping, QUESTION)
    assert (trace.answer.text, "99" in trace.output) == (answered, False)
    assert [
        line.removeprefix("Observation: ") for line in trace.output.splitlines() if "Observation" in line
    ] == observed
    assert not any("99" in turn.content for turn in trace.steps[-1][0])


def test_a_loop_ends_after_its_steps_and_says_so() -> None:
    trace = answer(technique("react", {"steps": 2}), saying(["Action: Calculate[1+1]"] * 9), QUESTION)
    assert len(trace.completions) == 2
    assert (trace.note, trace.answer.strict) == ("It was stopped after 2 steps.", False)
    assert trace.output == "\n".join(["Action: Calculate[1+1]", "Observation: 2"] * 2)


def test_a_loop_ends_at_an_output_without_an_action() -> None:
    trace = answer(technique("react"), saying(["It is 29."]), QUESTION)
    assert (len(trace.completions), trace.answer.text, trace.note) == (1, "It is 29.", "It ended without an action.")


@pytest.mark.parametrize("name", ["zero-shot-chain-of-thought", "least-to-most", "react"])
def test_sampled_calls_draw_each_for_itself_and_the_first_with_the_seed_that_was_asked_for(name: str) -> None:
    def seeds(sampling: Sampling) -> list[int]:
        seen: list[int] = []
        speak = asking(lambda m, s: f"1. x?\nAction: Calculate[1]{seen.append(s.seed) or ''}")
        answer(technique(name), speak, QUESTION, sampling)
        return seen

    drawn = seeds(Sampling(temperature=1.0, seed=5))
    assert drawn[0] == 5
    assert len(set(drawn)) == len(drawn) > 1
    assert set(seeds(Sampling(seed=5))) == {5}  # greedy calls draw nothing and may share a batch


@pytest.mark.parametrize("name", ["zero-shot-chain-of-thought", "least-to-most"])
def test_only_the_last_call_is_held_to_a_json_schema(name: str) -> None:
    seen: list[str] = []
    answer(
        technique(name),
        asking(lambda m, s: f"1. x?{seen.append(s.json_schema) or ''}"),
        QUESTION,
        Sampling(json_schema="{}"),
    )
    assert seen == [""] * (len(seen) - 1) + ["{}"]


def test_written_steps_never_ask_for_more_tokens_than_there_may_be() -> None:
    assert technique("chain-of-thought").sampling(Sampling(max_tokens=4090)).max_tokens == 4096


def test_an_answer_that_ran_out_of_tokens_is_marked() -> None:
    trace = answer(technique("direct"), saying(["x"]), QUESTION)
    assert not trace.was_cut
    cut = trace.completions[0].model_copy(update={"finish": "length"})
    assert type(trace).of("x", trace.answer, [(QUESTION, cut)]).was_cut
