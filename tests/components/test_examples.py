"""The Examples page: banks, their order and marks, the form, what is held out, and which examples a question gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args

from components.playground import examples
from components.playground.choosing import SelectorForm
from components.theme import ASSETS
from studio.instructions import group_hash
from studio.prompts.bank import add_example, fill_bank
from studio.prompts.selectors import selector, selectors
from studio.store import Example
from studio.workspace import Workspace
from tests.fixtures_components import call
from tests.screen import Screen

BANK = "House style"
SNAPSHOT = "data:brackenfold@1"
QUESTIONS = ("How do I dry a wet tent?", "How do I dry a wet jacket?", "Is the shop open on Sunday?", "Who is Pell?")


class Desk(Screen):
    """The Examples page of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.store = workspace, workspace.store
        with gr.Blocks() as demo:
            self.widgets = examples.build(workspace)
        super().__init__(demo)
        listener = next(fn for fn in demo.fns.values() if fn.api_name == "act")
        self.rows = listener.outputs[1]

    def look(self) -> None:
        """What opening the page does."""
        refresh = self.widgets.refresh
        assert refresh is not None
        answer = refresh.fn(*(self.values[block._id] for block in refresh.inputs))
        for block, value in zip(refresh.outputs, answer, strict=True):
            self._update(block, value)

    def act(self, **asked: Any) -> None:
        """What the list tells of a press or a drop."""
        listener = next(fn for fn in self.demo.fns.values() if fn.api_name == "act")
        given = [gr.EventData(None, asked), *(self.values[block._id] for block in listener.inputs)]
        inputs, *_ = special_args(listener.fn, inputs=given, request=gr.Request(username="owner"))
        for block, value in zip(listener.outputs, listener.fn(*inputs), strict=True):
            self._update(block, value)

    def ask(self, question: str, selector: str = "knn", **changes: Any) -> list[str]:
        """Everything that is shown while a question's examples are chosen; changes are values by label."""
        listener = next(fn for fn in self.demo.fns.values() if fn.api_name == "try_question")
        for block in listener.inputs:
            label = {"Question": question, "Selector": selector, **changes}.get(block.label)
            if label is not None:
                self.values[block._id] = label
        given = [self.values[block._id] for block in listener.inputs]
        inputs, *_ = special_args(listener.fn, inputs=given, request=gr.Request(username="owner"))

        async def collect() -> list[str]:
            return [shown async for shown in listener.fn(*inputs)]

        return asyncio.run(collect())

    @property
    def list(self) -> dict[str, Any]:
        return self.values[self.rows._id]

    @property
    def listed(self) -> list[int]:
        return [row[0] for row in self.list["rows"]]

    @property
    def bank(self) -> list[Example]:
        return self.store.bank_examples(BANK)

    @property
    def order(self) -> list[int]:
        return [example.id for example in self.bank]


def write(workspace: Workspace, questions: Sequence[str] = QUESTIONS, bank: str = BANK) -> list[Example]:
    made = []
    for question in questions:
        words = {"instruction": question, "response": f"An answer to: {question}", "category": "open_qa"}
        made.append(add_example(workspace.store, workspace.path, bank, words, author="ann"))
    return made


def hold_out(workspace: Workspace, *questions: str) -> None:
    rule = {"rule": "max_words", "value": 9}
    rows = [{"instruction": question, "context": "", "rules": [rule]} for question in questions]
    workspace.store.freeze(workspace.path, "eval", "exam", rows, author="ann")


@pytest.fixture
def desk(workspace: Workspace) -> Desk:
    """Four examples in a bank, the first one open."""
    write(workspace)
    desk = Desk(workspace)
    desk.look()
    return desk


# -- the bank ------------------------------------------------------------------------------------------------


def test_an_empty_workspace_gets_its_first_bank_from_the_example(workspace):
    desk = Desk(workspace)
    desk.look()
    assert (desk["Bank"], desk.list["rows"]) == (BANK, [])
    desk.do("fill_with_example")
    desk.look()
    assert "Added 213 examples" in desk["What happened"]
    assert desk.listed == desk.order
    assert len(desk.order) == 213


def test_filling_names_every_row_that_is_held_out(project):
    rows = [row["instruction"] for row in project.snapshot(SNAPSHOT) if row["split"] == "train" and not row["context"]]
    hold_out(project, *rows[:3])
    desk = Desk(project)
    desk.look()
    desk.do("fill_from")
    said = desk["What happened"]
    assert "3 are held out" in said
    for question in rows[:3]:
        assert said.count(examples._quoted(question).replace("'", "&#x27;")) >= 1
    assert not {example.instruction for example in desk.bank} & set(rows[:3])


def test_filling_from_no_snapshot_or_into_no_name_is_a_sentence(project):
    desk = Desk(project)
    desk.look()
    desk.type(bank="  ")
    with pytest.raises(gr.Error, match="The bank has no name"):
        desk.do("fill_from")
    desk.type(bank="Mine", fill_from="data:nobody@1")
    with pytest.raises(gr.Error, match="no snapshot 'data:nobody@1'"):
        desk.do("fill_from")


def test_another_bank_opens_with_its_first_example_and_a_new_name_with_none(desk, workspace):
    (other,) = write(workspace, ["What weighs a Heron?"], bank="Facts")
    desk.type(bank="Facts")
    desk.do("open_bank")
    assert (desk["Open bank"], desk["Example"], desk.listed) == ("Facts", str(other.id), [other.id])
    desk.type(bank="  Brand   new ")
    desk.do("open_bank")
    assert (desk["Open bank"], desk["Example"], desk.listed) == ("Brand new", "", [])
    desk.type(instruction="First of its bank?", response="Yes.")
    desk.do("save_words")
    assert [e.instruction for e in workspace.store.bank_examples("Brand new")] == ["First of its bank?"]


def test_a_bank_is_renamed_and_removed(desk, workspace):
    desk.type(new_name=" Tone  of voice ")
    desk.do("rename_bank")
    assert [bank.name for bank in workspace.store.banks()] == ["Tone of voice"]
    desk.type(new_name=" ")
    with pytest.raises(gr.Error, match="new name is empty"):
        desk.do("rename_bank")
    desk.do("remove_bank")
    assert workspace.store.banks() == []
    desk.look()
    assert (desk["Open bank"], desk.listed) == (BANK, [])


# -- the list ------------------------------------------------------------------------------------------------


def test_a_move_is_stored_and_the_list_that_made_it_is_left_alone(desk):
    first, second, third, fourth = desk.order
    before = desk.list
    desk.act(do="move", key=str(first), side="after", other=str(third))
    assert desk.order == [second, third, first, fourth]
    desk.act(do="move", key=str(fourth), side="before", other=str(second))
    assert desk.order == [fourth, second, third, first]
    assert desk.list is before  # painting it again would cost two thousand rows their place
    desk.look()
    assert desk.list is before


def test_marks_are_stored(desk):
    key = desk.order[1]
    desk.act(do="on", key=str(key), value=False)
    desk.act(do="locked", key=str(key), value=True)
    example = desk.store.bank_example(key)
    assert (example.is_on, example.is_locked) == (False, True)
    assert "4 examples · 3 on · 0 locked" in desk["How many examples"]


def test_a_list_that_others_changed_meanwhile_is_sent_again(desk, workspace):
    write(workspace, ["Something new?"])
    desk.act(do="on", key=str(desk.order[0]), value=False)
    assert desk.listed == desk.order
    assert len(desk.listed) == 5


def test_an_example_that_is_gone_is_said_and_the_list_is_sent_again(desk):
    gone = desk.order[2]
    desk.store.remove_examples([gone])
    desk.act(do="on", key=str(gone), value=False)
    assert f"There is no example {gone}" in desk["What happened"]
    assert desk.listed == desk.order


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"do": "on", "key": "1; drop", "value": False},
        {"do": "explode", "key": "1"},
        {"do": "move", "key": "1", "side": "inside", "other": "2"},
        {"do": "move", "key": "1", "side": "before", "other": "-2"},
    ],
    ids=["nothing", "key", "verb", "side", "other"],
)
def test_what_no_list_would_send_changes_nothing(desk, asked):
    before = desk.bank
    desk.act(**asked)
    assert 'data-tone="bad"' in desk["What happened"]
    assert desk.bank == before


def test_a_search_keeps_places_and_forbids_moving(desk):
    desk.type(search_the_examples="DRY jacket")
    desk.do("search_examples")
    assert [(row[0], row[1]) for row in desk.list["rows"]] == [(desk.order[1], 2)]
    assert desk.list["fixed"]
    assert "1 match the search" in desk["How many examples"]
    desk.type(search_the_examples="no such words")
    desk.do("search_examples")
    assert "No example matches" in desk.list["nothing"]


def test_all_off_means_those_that_the_search_leaves(desk):
    desk.type(search_the_examples="dry")
    desk.do("search_examples")
    desk.do("switch_all_off")
    assert [example.is_on for example in desk.bank] == [False, False, True, True]
    desk.do("switch_all_on")
    assert all(example.is_on for example in desk.bank)


def test_two_thousand_examples_are_short_on_the_wire(workspace):
    rows = [
        {"instruction": f"Question {n}?", "response": "word " * 400, "group_hash": group_hash(str(n), "")}
        for n in range(2000)
    ]
    workspace.store.add_examples(BANK, rows, author="ann")
    desk = Desk(workspace)
    desk.look()
    assert len(desk.list["rows"]) == 2000
    assert max(len(text) for row in desk.list["rows"] for text in row if isinstance(text, str)) < 170


def test_the_script_puts_no_text_of_others_into_markup():
    script = (ASSETS / "examples.js").read_text(encoding="utf-8")
    assert script.count("innerHTML") == 2  # the list's own parts, and the blank row
    for way in ("insertAdjacentHTML", "outerHTML", "document.write", "eval("):
        assert way not in script


# -- held out ------------------------------------------------------------------------------------------------


def test_an_example_of_a_later_evaluation_set_is_a_caution_with_its_cure(desk, workspace):
    assert desk["Examples that are held out"] == ""
    hold_out(workspace, QUESTIONS[0], QUESTIONS[2])
    desk.look()
    assert "row 1 of eval:exam@1, so no prompt may show it" in desk["Examples that are held out"]
    assert "1 more are held out too" in desk["Examples that are held out"]
    assert [row[-1] for row in desk.list["rows"]] == ["row 1 of eval:exam@1", "", "row 2 of eval:exam@1", ""]
    desk.do("remove_held_out")
    desk.look()
    assert [example.instruction for example in desk.bank] == [QUESTIONS[1], QUESTIONS[3]]
    assert desk["Examples that are held out"] == ""


# -- the form ------------------------------------------------------------------------------------------------


def test_new_words_are_saved_with_their_author(desk):
    desk.type(reasoning="Wet cloth dries in moving air.", response="Hang it up.")
    desk.do("save_words")
    saved = desk.bank[0]
    assert (saved.reasoning, saved.response, saved.author) == ("Wet cloth dries in moving air.", "Hang it up.", "owner")
    desk.type(response="Hang it up outside.")
    desk.do("save_words")
    assert desk.bank[0].response == "Hang it up outside."


def test_a_conflict_is_said_and_keeps_what_was_typed(desk, workspace):
    first = desk.bank[0]
    row = {**first.fields, "response": "Theirs.", "group_hash": first.group_hash}
    workspace.store.edit_example(first.id, first.updated_at, row, author="ann")
    desk.type(response="Mine, and long.")
    desk.do("save_words")
    assert desk["Response"] == "Mine, and long."
    assert desk.bank[0].response == "Theirs."
    desk.do("drop_changes")
    assert desk["Response"] == "Theirs."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"response": " "}, "The response is empty"),
        ({"instruction": QUESTIONS[3]}, "has an example with this question already"),
        ({"instruction": "What is asked in the exam?"}, "row 1 of eval:exam@1"),
    ],
    ids=["empty", "twin", "held out"],
)
def test_what_cannot_be_saved_is_said_beside_the_button(desk, workspace, words, sentence):
    hold_out(workspace, "What is asked in the exam?")
    before = desk.bank
    desk.type(**words)
    listener = next(fn for fn in desk.demo.fns.values() if fn.api_name == "save_words")
    desk.do("save_words")
    assert any(sentence in str(desk.values[block._id]) for block in listener.outputs)
    assert desk.bank == before
    for name, text in words.items():
        assert desk[name.capitalize()] == text


@pytest.mark.parametrize(("name", "key"), [("open_example", 2), ("write_new", None)])
def test_what_was_typed_is_not_lost_by_moving_on(desk, name, key):
    desk.type(response="Half a thought")
    with pytest.raises(gr.Error, match="changes that are not saved"):
        desk.do(name, key)
    assert desk["Response"] == "Half a thought"


def test_a_bank_does_not_open_over_unsaved_words(desk):
    desk.type(response="Half a thought", bank="Another")
    desk.do("open_bank")
    assert (desk["Bank"], desk["Open bank"]) == (BANK, BANK)
    assert "changes that are not saved" in desk["What happened"]
    assert desk["Response"] == "Half a thought"


def test_a_new_example_comes_at_the_end(desk):
    desk.do("write_new")
    assert (desk["Example"], desk["Instruction"]) == ("", "")
    desk.type(instruction="May dogs come in?", response="Yes.")
    desk.do("save_words")
    assert desk.bank[-1].instruction == "May dogs come in?"
    assert desk["Example"] == str(desk.order[-1])


def test_after_a_removal_the_next_one_is_open(desk):
    first, second, *_, last = desk.order
    desk.do("open_example", first)
    desk.do("remove_open_example")
    assert desk["Example"] == str(second)
    desk.do("open_example", last)
    desk.do("remove_open_example")
    assert desk["Example"] == str(desk.order[-1])


def test_the_beat_of_a_job_leaves_what_is_being_typed_alone(desk):
    desk.type(response="Half a thought")
    desk.look()
    assert desk["Response"] == "Half a thought"


# -- trying a question ---------------------------------------------------------------------------------------


def order_of(shown: str) -> list[str]:
    """The questions of the examples, in the order they are shown."""
    return sorted((question for question in QUESTIONS if question in shown), key=shown.index)


def test_a_question_gets_its_nearest_examples_with_their_similarity(desk):
    shown = desk.ask("How do I dry a wet boot?", Examples=2)[-1]
    assert "2 examples of 4, in this order (nearest last)" in shown
    assert QUESTIONS[0] in shown
    assert QUESTIONS[1] in shown
    assert QUESTIONS[2] not in shown
    assert "<td>0." in shown


def test_the_nearest_can_come_first(desk):
    question = "How do I dry a wet tent in the shop?"
    last = desk.ask(question, Examples=3)[-1]
    first = desk.ask(question, Examples=3, **{"Nearest example": "first"})[-1]
    assert order_of(last)[-1] == order_of(first)[0] == QUESTIONS[0]
    assert order_of(last) == order_of(first)[::-1]
    assert "nearest first" in first


def test_selectors_that_compare_nothing_say_no_similarity(desk):
    shown = desk.ask("Anything?", "fixed", Examples=3)[-1]
    assert "as in the bank" in shown
    assert order_of(shown) == list(QUESTIONS[:3])
    assert shown.count("<td>–</td>") == 3


def test_a_seed_draws_the_same_examples_twice(desk):
    assert desk.ask("Anything?", "random", Seed=3) == desk.ask("Anything?", "random", Seed=3)


def test_the_question_itself_and_what_is_held_out_are_left_out_by_name(desk, workspace):
    hold_out(workspace, QUESTIONS[1])
    shown = desk.ask(QUESTIONS[0])[-1]
    assert "is this very question, so it was left out" in shown
    assert "1 held-out example cannot be chosen" in shown
    assert "2 fewer than wanted" in shown
    assert QUESTIONS[1] not in shown


def test_a_selector_may_ask_the_chosen_model(desk):
    shown = desk.ask("How do I dry a wet boot?", Model="echo:", **{"Compare by": "model"})[-1]
    assert "4 examples of 4" in shown
    longest = {"Longest together": 12, "Model": "echo:", "Chooses first": "fixed"}
    shown = desk.ask("How do I dry a wet boot?", "length", **longest)[-1]
    assert "had no room within the length" in shown


@pytest.mark.parametrize(
    ("question", "changes", "sentence"),
    [
        (" ", {}, "There is no question yet"),
        ("Why?", {"Examples": -1}, "cannot show -1 examples"),
        ("Why?", {"Selector": "oracle"}, "There is no selector"),
        ("Why?", {"Compare by": "model", "Model": "run:99"}, "run:99"),
    ],
    ids=["question", "count", "selector", "model"],
)
def test_what_cannot_be_chosen_is_a_sentence_in_its_place(desk, question, changes, sentence):
    selector = changes.pop("Selector", "knn")
    assert sentence in desk.ask(question, selector, **changes)[-1]


def test_an_empty_bank_says_how_to_fill_it(workspace):
    desk = Desk(workspace)
    desk.look()
    assert "The bank is empty" in desk.ask("Why?")[-1]


def test_words_of_people_are_no_markup(desk, workspace):
    write(workspace, ["<img src=x onerror=alert(1)> wet tent?"])
    shown = desk.ask("Is the wet tent dry?", Examples=5)[-1]
    assert "<img" not in shown
    assert "&lt;img" in shown


@pytest.mark.parametrize("name", selectors())
def test_every_selector_has_its_widgets(name):
    with gr.Blocks():
        choosing = SelectorForm()
        choosing.lay_out_choice()
        choosing.lay_out_knobs()
    values = [widget.value for widget in choosing.inputs]
    assert choosing.read([name, *values[1:]]) == selector(name)


# -- scripts -------------------------------------------------------------------------------------------------


@pytest.fixture
def page(project: Workspace) -> gr.Blocks:
    with gr.Blocks() as demo:
        examples.build(project)
    return demo


def test_a_script_fills_marks_moves_and_chooses(page, project):
    told = call(page, "fill_example_bank", BANK, SNAPSHOT)
    assert (told["added"], told["refused"]) == (213, [])
    first, second, *_ = (row["id"] for row in call(page, "bank_examples", BANK))
    assert call(page, "move_example", first, "after", second)["id"] == first
    assert [row["id"] for row in call(page, "bank_examples", BANK)][:2] == [second, first]
    marked = call(page, "mark_example", first, True, True)
    assert marked["is_locked"]
    added = call(page, "save_example", BANK, "May dogs come in?", "Yes.", "", "", "", 0, 0.0)
    edited = call(page, "save_example", BANK, "May dogs come in?", "No.", "", "", "", added["id"], added["updated_at"])
    assert (edited["response"], edited["author"]) == ("No.", "owner")
    chosen = call(page, "chosen_examples", BANK, "May my dog come in?", 2, 0, {"name": "knn"}, "")
    assert [pick["example"] for pick in chosen["picks"]] == [first, added["id"]]
    assert call(page, "remove_examples", [added["id"], 999_999]) == 1


def test_a_stranger_does_nothing(page, project):
    fill_bank(project.store, project.path, BANK, SNAPSHOT, author="ann")
    before = project.store.bank_examples(BANK)
    asked = (
        ("fill_example_bank", "Mine", SNAPSHOT),
        ("bank_examples", BANK),
        ("mark_example", before[0].id, False, False),
        ("move_example", before[0].id, "after", before[1].id),
        ("remove_examples", [before[0].id]),
        ("remove_bank", BANK),
        ("switch_all_off", BANK, "", "", ""),
    )
    for name, *args in asked:
        with pytest.raises(gr.Error, match="not signed in"):
            call(page, name, *args, user=None)
    assert project.store.bank_examples(BANK) == before
