"""What lies under the open record: what a model would learn, what checks found, comments, and the record's history."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from components.dataset.beside_parts import learned_html
from studio.backends import Mark
from studio.engine.client import EngineClient
from studio.instructions import FIELDS, edit_record
from studio.instructions.checking import run_check
from studio.instructions.checks import check_from
from studio.instructions.learning import Lesson
from studio.specs import ModelRef
from studio.store import Record
from studio.workspace import Workspace
from tests.components.test_dataset import Desk

EVIL = "<img src=x onerror=alert(1)>"
FOUND, COMMENTS = "What checks found", "Comments"


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.look()
    return desk


def current(desk: Desk) -> Record:
    return desk.workspace.store.record(desk["Record"])


def change(desk: Desk, by: str = "owner", **fields: str) -> Record:
    """Somebody changes the open record elsewhere; then it is opened again."""
    record = current(desk)
    texts = {name: getattr(record, name) for name in FIELDS}
    changed = edit_record(desk.workspace.store, record.id, record.revision, {**texts, **fields}, author=by)
    desk.do("reload")
    return changed


def check(desk: Desk, name: str = "personal") -> None:
    dataset = desk.workspace.store.dataset(desk["Dataset"])
    run_check(desk.workspace.store, dataset, check_from(name), desk.workspace.path / "checks")


def fold(desk: Desk, title: str) -> str:
    """The words on the line of a part."""
    (key,) = (
        key for key, block in desk.demo.blocks.items() if isinstance(block, gr.Accordion) and block.label == title
    )
    return str(desk.props.get(key, {}).get("label", title))


def keys(html: str) -> list[str]:
    return re.findall(r'data-key="([^"]*)"', html)


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_part_is_read_when_it_is_opened_and_says_before_how_much_is_in_it(desk: Desk) -> None:
    change(desk, response="Write to ann@brackenfold.example today.")
    check(desk)
    desk.workspace.store.comment(current(desk).id, "Is this so?", author="ben")
    desk.do("reload")
    desk.do("open_record", desk["Record"])
    desk.do("beside_read")
    assert fold(desk, FOUND) == "What checks found (1)"
    assert fold(desk, COMMENTS) == "Comments (1)"
    assert not any(desk[label] for label in ("What was found", "Comments on the record", "Versions of the record"))
    desk.do("beside_open_found")
    assert "ann@brackenfold.example" in desk["What was found"]


def test_open_parts_follow_the_record_that_is_opened(desk: Desk) -> None:
    desk.do("beside_open_comments")
    desk.do("beside_open_history")
    first = desk["Record"]
    desk.workspace.store.comment(first, "About the first", author="ben")
    desk.do("step_forth")
    assert desk["Record"] != first
    assert "No comments yet" in desk["Comments on the record"]
    desk.do("step_back")
    assert "About the first" in desk["Comments on the record"]
    assert "Version 1" in desk["Versions of the record"]


def test_a_new_record_has_nothing_beside_it_yet(desk: Desk) -> None:
    desk.do("beside_open_comments")
    desk.do("new")
    desk.do("beside_open_learn")
    assert "Save the new record first" in desk["Comments on the record"]
    assert "Save the new record first" in desk["What is learned"]
    with pytest.raises(gr.Error, match="Save it first"):
        desk.do("beside_comment")


# -- what checks found -----------------------------------------------------------------------------------------------


def test_it_is_said_whether_nothing_was_found_or_nobody_looked(desk: Desk) -> None:
    desk.do("beside_open_found")
    assert "No check has run over this dataset yet" in desk["What was found"]
    check(desk)
    desk.do("beside_read")
    assert "found nothing here" in desk["What was found"]


def test_one_press_masks_what_was_found_and_shows_the_record_as_it_is_then(desk: Desk) -> None:
    change(desk, response="Write to ann@brackenfold.example today.")
    check(desk)
    desk.do("beside_open_found")
    assert "<mark>ann@brackenfold.example</mark>" in desk["What was found"]
    assert keys(desk["What was found"]) == ["mend personal mask", "mend personal reject", "mend personal remove"]
    desk.do("beside_mend", "mend personal mask")
    assert current(desk).response == "Write to [EMAIL] today."
    assert desk["Response"] == "Write to [EMAIL] today."
    assert "Undo takes it back" in desk.html
    assert "ann@" not in desk["What was found"]
    assert fold(desk, FOUND) == FOUND
    desk.do("undo_stroke")
    assert current(desk).response == "Write to ann@brackenfold.example today."


def test_a_record_that_a_remedy_removes_leaves_the_form(desk: Desk) -> None:
    removed = change(desk, response="Write to ann@brackenfold.example today.").id
    check(desk)
    desk.do("beside_open_found")
    desk.do("beside_mend", "mend personal remove")
    assert desk.workspace.store.some_records([removed]) == []
    assert desk["Record"] != removed
    assert "Undo takes it back" in desk.html


def test_a_copy_leads_to_what_it_is_a_copy_of(desk: Desk) -> None:
    record = current(desk)
    desk.do("step_forth")
    change(desk, **{name: getattr(record, name) for name in FIELDS})
    check(desk, "duplicates")
    copy = desk["Record"]
    desk.do("beside_open_found")
    assert f"show {record.id}" in keys(desk["What was found"])
    desk.do("beside_mend", f"show {record.id}")
    assert sorted(map(int, re.findall(r'<tr data-key="(\d+)"', desk["Records"]))) == sorted((record.id, copy))


@pytest.mark.parametrize("key", ["", "mend", "mend personal", "show x", "drop table"])
def test_a_press_that_names_no_remedy_is_refused(desk: Desk, key: str) -> None:
    with pytest.raises(gr.Error, match="says of no remedy"):
        desk.do("beside_mend", key)


# -- comments --------------------------------------------------------------------------------------------------------


def test_a_comment_is_listed_with_its_author_and_the_box_is_empty_again(desk: Desk) -> None:
    desk.do("beside_open_comments")
    desk.type(comment="Is this still so?")
    desk.do("beside_comment")
    assert "<b>owner</b>" in desk["Comments on the record"]
    assert "Is this still so?" in desk["Comments on the record"]
    assert desk["Comment"] == ""
    assert fold(desk, COMMENTS) == "Comments (1)"


def test_an_empty_comment_is_refused(desk: Desk) -> None:
    with pytest.raises(gr.Error, match="The comment is empty"):
        desk.do("beside_comment")


# -- history ---------------------------------------------------------------------------------------------------------


def test_every_version_says_who_when_and_which_words_changed(desk: Desk) -> None:
    change(desk, by="ben", response="Yes, within 30 days.")
    change(desk, by="cho", response="Yes, within 60 days.", category="closed_qa")
    desk.do("beside_open_history")
    said = desk["Versions of the record"]
    assert said.index("Version 3") < said.index("Version 2") < said.index("Version 1")
    assert "<del>30</del><ins>60</ins>" in said
    assert "cho, " in said
    assert "<del>Summarization</del> → <ins>Closed QA</ins>" in said
    assert f"Changed record {desk['Record']}" in said
    assert "Part of the example" in said


def test_a_version_is_restored_and_the_restoring_undone(desk: Desk) -> None:
    first = current(desk)
    change(desk, response="Yes, within 30 days.", category="closed_qa")
    desk.do("beside_open_history")
    assert keys(desk["Versions of the record"]) == ["restore 1 2"]
    desk.do("beside_restore", "restore 1 2")
    assert desk["Response"] == current(desk).response == first.response
    assert (current(desk).category, current(desk).revision) == (first.category, 3)
    assert "Version 1 is the newest again" in desk.html
    assert f"Restored version 1 of record {first.id}" in desk["Versions of the record"]
    desk.do("undo_stroke")
    assert "Undone: Restored version 1" in desk["Versions of the record"]
    assert current(desk).response == "Yes, within 30 days."


def test_what_is_being_written_is_not_lost_by_restoring(desk: Desk) -> None:
    first = current(desk)
    change(desk, response="Mine.")
    desk.do("beside_open_history")
    desk.type(response="Half a thought")
    desk.do("beside_restore", "restore 1 2")
    assert current(desk).response == first.response
    assert desk.workspace.store.record_history(first.id)[0]["fields"]["response"] == "Half a thought"


def test_restoring_over_a_change_that_was_not_seen_is_refused(desk: Desk) -> None:
    change(desk, response="Mine.")
    desk.do("beside_open_history")
    record = current(desk)
    texts = {name: getattr(record, name) for name in FIELDS}
    edit_record(desk.workspace.store, record.id, 2, {**texts, "response": "Theirs."}, author="ann")
    with pytest.raises(gr.Error, match="changed by ann meanwhile"):
        desk.do("beside_restore", "restore 1 2")
    assert current(desk).response == "Theirs."


def test_of_many_versions_the_newest_are_shown_and_more_on_demand(desk: Desk) -> None:
    for number in range(14):
        change(desk, response=f"Answer {number}.")
    desk.do("beside_open_history")
    assert "Version 6" in desk["Versions of the record"]
    assert "Version 5" not in desk["Versions of the record"]
    desk.do("beside_restore", "more")
    assert "Version 1<" in desk["Versions of the record"]
    desk.do("step_forth")
    assert desk["Versions shown"] == 10


@pytest.mark.parametrize("key", ["", "restore", "restore 1", "restore x y"])
def test_a_press_that_names_no_version_is_refused(desk: Desk, key: str) -> None:
    with pytest.raises(gr.Error, match="says of no version"):
        desk.do("beside_restore", key)


# -- untrusted text --------------------------------------------------------------------------------------------------


def test_nothing_that_people_wrote_becomes_a_tag(desk: Desk) -> None:
    change(desk, by=f"ann{EVIL}", instruction=f"{EVIL} ann@brackenfold.example", response=f"[x](javascript:a) {EVIL}")
    check(desk)
    for part in ("found", "comments", "history"):
        desk.do(f"beside_open_{part}")
    desk.type(comment=EVIL)
    desk.do("beside_comment")
    lesson = Lesson(ModelRef("dir:tiny"), (Mark(EVIL, True), Mark("<|im_end|>", True, True)), 2, 2, 9, False)
    shown = [desk["What was found"], desk["Comments on the record"], desk["Versions of the record"]]
    for html in (*shown, learned_html(current(desk), lesson)):
        assert EVIL.replace("<", "&lt;").split("=x")[0] in html
        assert "<img" not in html
        assert 'href="javascript' not in html
        assert "<|" not in html


def test_markdown_of_an_answer_is_set_and_pictures_are_not_fetched(desk: Desk) -> None:
    change(desk, response="Do **this**:\n\n- one\n\n![x](https://far.example/x.png) <b>raw</b>")
    html = learned_html(current(desk), Lesson(ModelRef("dir:tiny"), (), 2, 2, 9, False))
    assert "<strong>this</strong>" in html
    assert "<li>one</li>" in html
    assert "<img" not in html
    assert "<b>raw" not in html
    assert 'dir="auto"' in html


# -- what a model learns ---------------------------------------------------------------------------------------------


@pytest.fixture
def with_tiny(project: Workspace, tiny_folder: Path, engine: EngineClient) -> Desk:
    """A desk whose workspace has a model of its own, `dir:tiny`."""
    shutil.copytree(tiny_folder, project.path / "models" / "tiny")
    project.engine = engine  # the one of all tests: another would take seconds to start
    desk = Desk(project)
    desk.look()
    return desk


def learns(desk: Desk, model: Any, longest: int = 1024) -> str:
    desk.type(model_that_learns=model, longest_record=longest)
    desk.do("beside_choose")
    return str(desk["What is learned"])


def test_the_tokens_that_are_learned_are_marked_for_the_model_that_was_chosen(with_tiny: Desk) -> None:
    desk = with_tiny
    change(desk, response="Paris 👋 is the capital.")
    desk.do("beside_open_learn")
    said = learns(desk, "dir:tiny")
    assert f'data-record="{desk["Record"]}"' in said
    marked = "".join(re.findall(r'<(?:mark|kbd class="learned")>([^<]*)</', said.split('class="taught"')[1]))
    assert marked == "Paris 👋 is the capital.&lt;|im_end|&gt;"
    assert re.search(r"\d+ tokens, \d+ of them learned. It fits in 1,024", said)

    said = learns(desk, "dir:tiny", 20)
    assert "A run leaves it out whole" in said
    assert said.split('class="taught"')[0].count("beyond") == 1
    assert 'class="beyond"' in said.split('class="taught"')[1]

    again = Desk(desk.workspace)
    again.look()
    again.do("beside_open_learn")
    assert (again["Model that learns"], again["Longest record"]) == ("dir:tiny", 20)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("echo:", "echo: has no tokenizer on this machine"),
        ("dir:gone", "There is no model|is not on this machine"),
        ("nonsense", "is not a ModelRef"),
    ],
)
def test_a_model_that_cannot_tell_says_why_in_the_place_of_the_tokens(desk: Desk, model: str, sentence: str) -> None:
    desk.values[desk._find("What the model will learn is open")] = "1"
    assert re.search(sentence, learns(desk, model))
    assert "bubbles" in desk["What is learned"]
