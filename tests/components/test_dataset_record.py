"""The record form: it saves by itself, tells two editors of each other, and holds conversations and very long texts."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

from components.app import Tab, build_app
from components.dataset.record import RecordForm, build_form
from components.dataset.shared import shared_by_pages
from components.frame import TabWidgets, handler, user_of
from studio.errors import Conflict, NotFound
from studio.example import EXAMPLE, load_example
from studio.instructions import FIELDS, add_record, edit_record
from studio.instructions.editing import remove, review
from studio.instructions.sittings import MOST_LETTERS, Overtaken, Sent, Sittings
from studio.serving import owner_only
from studio.store import Dataset, Record, Store
from studio.workspace import Workspace
from tests.fixtures_pages import open_workspace, serving
from tests.screen import Screen

TALK = [
    {"role": "user", "content": "Is it dry?"},
    {"role": "assistant", "content": "Not yet."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Now it is."},
]


def laid_out(workspace: Workspace) -> RecordForm:
    """The form, and what a page needs at least to open records in it."""
    shared = shared_by_pages(workspace, EXAMPLE)
    chosen = shared.chosen
    form = build_form(shared)
    store = workspace.store
    asked = gr.Textbox("", label="Open record", elem_id="open-record")

    def open_record(which: str, name: str, request: gr.Request, *typed: Any) -> list[Any]:
        form.leave(name, user_of(request), typed)
        return form.show(store.record(int(which))) if which else form.blank(name)

    inputs = [asked, chosen, *form.typed]
    gr.Button("Open").click(handler(open_record), inputs, form.shown, api_name="open", show_progress="hidden")
    for button, by in ((form.back, -1), (form.forth, 1)):

        def step(request: gr.Request, name: str, *typed: Any, by: int = by) -> list[Any]:
            form.leave(name, user_of(request), typed)
            return form.show(store.record(int(typed[0]) + by))

        button.click(handler(partial(step, by=by)), [chosen, *form.typed], form.shown, show_progress="hidden")
    return form


class Desk(Screen):
    """The form of a workspace, as one person has it open."""

    follows = True

    def __init__(self, workspace: Workspace, user: str = "owner") -> None:
        self.store, self.user = workspace.store, user
        with gr.Blocks() as demo:
            self.form = laid_out(workspace)
        super().__init__(demo)

    def open(self, record: int | str) -> None:
        self.type(open_record=str(record))
        self.do("open", user=self.user)

    def press(self, name: str) -> None:
        self.do(name, user=self.user)

    def write(self, **texts: Any) -> None:
        """Type, and rest."""
        self.type(**texts)
        self.press("form_keep")

    def turn(self, *turns: dict[str, str]) -> None:
        self.values[self.form.parts["turns"]._id] = {"turns": list(turns)}

    @property
    def turns(self) -> list[dict[str, str]] | None:
        value = self.values[self.form.parts["turns"]._id]
        return value["turns"] if value else None

    @property
    def line(self) -> str:
        return str(self["Saving"]["words"])

    @property
    def message(self) -> str:
        return self.words(self.form.parts["message"])

    def said(self, name: str) -> str:
        return html.unescape(self.words(self.form.parts[name]))


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.open(9)
    return desk


@pytest.fixture
def store(project: Workspace) -> Store:
    return project.store


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset(EXAMPLE)


def by_ann(store: Store, record: int, **changes: Any) -> Record:
    """Somebody else changes a record."""
    now = store.record(record)
    fields = {name: getattr(now, name) for name in (*FIELDS, "turns")}
    return edit_record(store, record, now.revision, {**fields, **changes}, author="ann")


def added(store: Store, dataset: Dataset, **fields: Any) -> Record:
    add_record(store, dataset, {"instruction": "Q", "response": "A", **fields}, author="ann", source="a file")
    return store.records(dataset.id, order="newest", limit=1)[0]


# -- what it shows -------------------------------------------------------------------------------------------


def test_a_record_is_shown_with_its_category_licence_source_and_state(desk: Desk, dataset: Dataset) -> None:
    record = added(desk.store, dataset, category="helpdesk", licence="CC0-1.0", state="approved")
    desk.open(record.id)
    assert (desk["Category"], desk["Licence"], desk["Review state"]) == ("helpdesk", "CC0-1.0", "approved")
    assert "Came from a file" in desk.said("history")


def test_the_dataset_s_own_categories_are_among_the_choices(desk: Desk, dataset: Dataset, project: Workspace) -> None:
    added(desk.store, dataset, category="helpdesk")
    desk = Desk(project)
    desk.open(9)
    choices = [value for _, value in desk.props[desk.form.parts["category"]._id]["choices"]]
    assert {"helpdesk", "open_qa", ""} <= set(choices)


def test_where_a_record_has_no_licence_the_dataset_s_is_told(desk: Desk, dataset: Dataset) -> None:
    assert "Licence: Apache-2.0, as the dataset." in desk.said("history")
    desk.open(added(desk.store, dataset, licence="CC0-1.0").id)
    assert "as the dataset" not in desk.said("history")


# -- saving by itself ----------------------------------------------------------------------------------------


def test_what_is_written_is_stored_after_a_rest(desk: Desk) -> None:
    desk.write(response="You can return it.")
    saved = desk.store.record(9)
    assert (saved.response, saved.revision, saved.author) == ("You can return it.", 2, "owner")
    assert desk.line.startswith("Saved ")
    assert desk["Record saved"] == "9.2"


def test_saving_by_itself_writes_into_no_field(desk: Desk) -> None:
    listener = next(fn for fn in desk.demo.fns.values() if fn.api_name == "form_keep")
    fields = [*desk.form.fields.values(), desk.form.parts["turns"], desk.form.record, desk.form.parts["sitting"]]
    assert not {block._id for block in listener.outputs} & {block._id for block in fields}


def test_nothing_is_stored_where_nothing_changed(desk: Desk) -> None:
    desk.press("form_keep")
    desk.write(response=f"  {desk.store.record(9).response}\r\n")
    assert desk.store.record(9).revision == 1
    assert desk.store.edits(desk.store.record(9).dataset_id, author="owner") == []


def test_one_saving_after_another_is_no_conflict(desk: Desk) -> None:
    for text in ("You", "You can", "You can return it."):
        desk.write(response=text)
    assert (desk.store.record(9).response, desk.store.record(9).revision) == ("You can return it.", 4)


def test_what_cannot_be_stored_is_said_softly_and_stays(desk: Desk) -> None:
    desk.write(response="  ")
    assert desk.line == "Not saved: the response is empty"
    assert desk.message.strip() == ""
    assert desk["Response"] == "  "
    desk.press("save")
    assert "The response is empty" in desk.message
    assert desk.line == "Not saved: the response is empty"
    assert desk.store.record(9).revision == 1


def test_a_new_record_is_stored_once_it_is_whole_and_only_once(desk: Desk, dataset: Dataset) -> None:
    before = desk.store.count_records(dataset.id)
    desk.open("")
    desk.write(instruction="Is the shop open on Sunday?")
    assert "the response is empty" in desk.line
    assert desk.store.count_records(dataset.id) == before
    desk.write(response="No.")
    desk.write(response="No. Come on Monday.", category="open_qa")
    assert desk.store.count_records(dataset.id) == before + 1
    record = desk.store.record(int(desk["Record saved"].split(".")[0]))
    assert (record.response, record.category, record.source) == ("No. Come on Monday.", "open_qa", "written here")


def test_a_state_is_stored_at_once_with_a_name_for_undo(desk: Desk, dataset: Dataset) -> None:
    desk.write(review_state="approved")
    assert desk.store.record(9).state == "approved"
    undo = desk.store.next_undo(dataset.id, "owner")
    assert undo is not None
    assert undo.title == "Approved record 9"


def test_licence_and_category_are_stored(desk: Desk) -> None:
    desk.write(licence="CC0-1.0", category="helpdesk")
    assert (desk.store.record(9).licence, desk.store.record(9).category) == ("CC0-1.0", "helpdesk")


def test_whoever_opens_something_else_loses_nothing(desk: Desk) -> None:
    desk.type(response="Half a thought")
    desk.open(10)
    assert desk["Record"] == 10
    assert desk.store.record(9).response == "Half a thought"


def test_a_new_record_that_is_left_is_stored_too(desk: Desk, dataset: Dataset) -> None:
    before = desk.store.count_records(dataset.id)
    desk.open("")
    desk.type(instruction="Q?", response="A.")
    desk.open(10)
    assert desk.store.count_records(dataset.id) == before + 1


def test_an_empty_form_can_be_left(desk: Desk) -> None:
    desk.open("")
    desk.open(10)
    assert desk["Record"] == 10


def test_what_cannot_be_stored_is_not_left(desk: Desk) -> None:
    desk.type(response=" ")
    with pytest.raises(
        gr.Error, match=r"Record 9 has changes that are not saved\. The response is empty.* Reload record"
    ):
        desk.open(10)
    assert (desk["Record"], desk["Response"]) == (9, " ")
    desk.press("reload")
    desk.open(10)
    assert desk["Record"] == 10


# -- what arrives late ---------------------------------------------------------------------------------------


def sent(sitting: str, stroke: int | None = None, **fields: Any) -> Sent:
    return Sent(sitting, fields, stroke)


def written(record: Record, **changes: Any) -> dict[str, Any]:
    return {**{name: getattr(record, name) for name in (*FIELDS, "turns", "licence", "state")}, **changes}


def test_an_older_saving_that_arrives_late_does_not_follow_a_newer_one(store: Store) -> None:
    sittings, record = Sittings(store), store.record(9)
    name = sittings.open(record)
    sittings.keep(sent(name, 2, **written(record, response="A and B")), EXAMPLE, author="owner")
    late = sittings.keep(sent(name, 1, **written(record, response="A")), EXAMPLE, author="owner")
    assert not late.is_changed
    assert store.record(9).response == "A and B"


def test_one_undo_takes_back_what_a_form_saved_in_several_goes(store: Store) -> None:
    sittings, record = Sittings(store), store.record(9)
    form = sittings.open(record)
    for text in ("Air", "Air it f", "Air it for a day."):
        sittings.keep(sent(form, **written(store.record(9), response=text)), EXAMPLE, author="owner")
    assert store.record(9).response == "Air it for a day."
    store.undo(record.dataset_id, author="owner")
    assert store.record(9).response == record.response


def test_savings_of_one_form_that_arrive_together_all_count(store: Store) -> None:
    sittings, record = Sittings(store), store.record(9)
    name = sittings.open(record)
    errors: list[Exception] = []

    def save(stroke: int) -> None:
        try:
            what = sent(name, stroke, **written(record, response=f"Text {stroke}"))
            sittings.keep(what, EXAMPLE, author="owner")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(stroke,)) for stroke in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.record(9).response == "Text 8"


def test_a_new_record_that_arrives_twice_is_one_record(store: Store, dataset: Dataset) -> None:
    sittings, before = Sittings(store), store.count_records(dataset.id)
    name = sittings.open(None)
    threads = [
        threading.Thread(
            target=sittings.keep,
            args=(sent(name, stroke, instruction="Q", response=f"A {stroke}"), EXAMPLE),
            kwargs={"author": "owner"},
        )
        for stroke in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count_records(dataset.id) == before + 1
    assert store.records(dataset.id, order="newest", limit=1)[0].response == "A 2"


def test_a_text_goes_to_the_record_it_was_written_for(desk: Desk) -> None:
    """An answer that came late says that another record is open: the sitting knows better."""
    desk.values[desk.form.record._id] = 10
    desk.values[desk.form.revision._id] = 1
    desk.write(response="Of nine.")
    assert desk.store.record(9).response == "Of nine."
    assert desk.store.record(10).revision == 1


def test_after_a_restart_the_form_goes_on_where_it_was(desk: Desk, project: Workspace) -> None:
    desk.write(response="Before.")
    after = Desk(project)
    after.values = {key: desk.values[old] for key, old in zip(after.values, desk.values, strict=True)}
    after.write(response="After.")
    assert after.store.record(9).response == "After."
    assert after.line.startswith("Saved ")


# -- two editors ---------------------------------------------------------------------------------------------


def test_the_second_editor_is_told_who_and_sees_both_versions(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs alone.")
    desk.write(response="Mine alone.")
    assert desk.line.startswith("Not saved: ann changed it at ")
    assert desk.shows(desk.form.parts["overtaken"])
    assert "ann changed this record at" in desk.said("both")
    assert "<del>Theirs</del>" in desk.values[desk.form.parts["both"]._id]
    assert "<ins>Mine</ins>" in desk.values[desk.form.parts["both"]._id]
    assert desk.store.record(9).response == "Theirs alone."
    assert desk["Response"] == "Mine alone."


def test_theirs_can_be_taken(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.")
    desk.write(response="Mine.")
    desk.press("form_theirs")
    assert desk["Response"] == "Theirs."
    assert not desk.shows(desk.form.parts["overtaken"])
    desk.write(response="Theirs, and more.")
    assert desk.store.record(9).author == "owner"


def test_mine_can_be_saved_over_it_and_the_history_keeps_both(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.", category="helpdesk")
    desk.write(response="Mine.")
    desk.press("form_mine")
    record = desk.store.record(9)
    assert (record.response, record.revision) == ("Mine.", 3)
    assert record.category == desk["Category"] == "helpdesk", "what was not written here stays theirs"
    assert "Theirs." in [row["fields"]["response"] for row in desk.store.record_history(9)]
    assert not desk.shows(desk.form.parts["overtaken"])
    desk.write(response="Mine, and more.")
    assert desk.store.record(9).response == "Mine, and more."


def test_over_a_version_that_nobody_saw_nothing_is_saved(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.")
    desk.write(response="Mine.")
    by_ann(desk.store, 9, response="Theirs again.")
    desk.press("form_mine")
    assert desk.store.record(9).response == "Theirs again."
    assert "again" in desk.said("both")
    desk.press("form_mine")
    assert desk.store.record(9).response == "Mine."


def test_an_overtaken_text_is_not_left_behind(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.")
    desk.type(response="Mine.")
    with pytest.raises(gr.Error, match="ann changed it as well.*Press Save to see both versions"):
        desk.open(10)
    desk.press("save")
    assert desk.shows(desk.form.parts["overtaken"])
    assert "was changed by ann" in desk.message


def test_a_record_that_was_only_read_can_be_left_whoever_changed_it(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.")
    desk.open(10)
    assert desk["Record"] == 10
    assert desk.store.record(9).response == "Theirs."


def test_a_state_given_meanwhile_goes_together_with_a_text(desk: Desk, dataset: Dataset) -> None:
    review(desk.store, dataset, [desk.store.record(9)], "approved", author="ann")
    desk.write(response="Mine.")
    desk.write(response="Mine, and more.")
    assert (desk.store.record(9).response, desk.store.record(9).state) == ("Mine, and more.", "approved")


def test_a_text_that_nobody_here_has_seen_is_not_approved(desk: Desk) -> None:
    by_ann(desk.store, 9, response="Theirs.")
    desk.write(review_state="approved")
    assert desk.store.record(9).state == "draft"
    assert desk.shows(desk.form.parts["overtaken"])


def test_a_second_window_of_the_same_person_is_another_editor(desk: Desk, project: Workspace) -> None:
    other = Desk(project)
    other.open(9)
    other.write(response="In the other window.")
    desk.write(response="In this window.")
    assert desk.line.startswith("Not saved: owner changed it at ")
    assert desk.store.record(9).response == "In the other window."


def test_versions_cannot_carry_a_script(desk: Desk) -> None:
    by_ann(desk.store, 9, response="<script>theirs</script>")
    desk.write(response="<script>mine</script>")
    assert "<script>" not in desk.values[desk.form.parts["both"]._id]


def test_a_record_removed_meanwhile_is_told_and_can_be_left(desk: Desk, dataset: Dataset) -> None:
    remove(desk.store, dataset, [desk.store.record(9)], author="ann")
    desk.open(10)
    assert desk["Record"] == 10


def test_what_was_written_into_a_removed_record_is_not_dropped_silently(desk: Desk, dataset: Dataset) -> None:
    remove(desk.store, dataset, [desk.store.record(9)], author="ann")
    desk.write(response="Mine.")
    assert "record 9 was removed while you were writing" in desk.line
    with pytest.raises(gr.Error, match="was removed while you were writing"):
        desk.open(10)
    desk.press("reload")
    assert "Record 9 was removed" in desk.message
    assert desk["Record"] is None


# -- conversations -------------------------------------------------------------------------------------------


@pytest.fixture
def talk(desk: Desk, dataset: Dataset) -> Record:
    record = added(desk.store, dataset, turns=TALK)
    desk.open(record.id)
    return record


def test_a_conversation_is_shown_as_turns(desk: Desk, talk: Record) -> None:
    assert desk.turns == TALK
    assert desk.shows(desk.form.parts["talk"])
    assert not desk.shows(desk.form.parts["pair"])
    desk.open(9)
    assert desk.turns is None
    assert desk.shows(desk.form.parts["pair"])


def test_turns_are_changed_added_and_put_in_another_order(desk: Desk, talk: Record) -> None:
    system = {"role": "system", "content": "Be brief."}
    desk.turn(system, *TALK[2:], *TALK[:2])
    desk.press("form_keep")
    record = desk.store.record(talk.id)
    assert record.turns == [system, *TALK[2:], *TALK[:2]]
    assert (record.instruction, record.response) == ("And now?", "Not yet.")


def test_a_long_conversation_is_kept_whole(desk: Desk, talk: Record) -> None:
    desk.turn(*TALK * 20)
    desk.press("form_keep")
    assert desk.store.record(talk.id).turns == TALK * 20


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([*TALK, {"role": "user", "content": "Thanks."}], "ends with a user turn"),
        ([TALK[0], {"role": "assistant", "content": " "}, *TALK[2:]], "Turn 2 (assistant) is empty"),
        ([{"role": "wizard", "content": "Hi"}, *TALK], "Turn 1 is by 'wizard'"),
        ([], "no turn left"),
    ],
    ids=["no answer", "empty turn", "strange role", "nothing"],
)
def test_a_conversation_that_is_not_whole_is_refused_and_stays(
    desk: Desk, talk: Record, turns: list[dict[str, str]], said: str
) -> None:
    desk.turn(*turns)
    desk.press("save")
    assert said in desk.said("message")
    assert desk.turns == turns
    assert desk.store.record(talk.id).revision == 1


def test_a_pair_becomes_a_conversation_and_back(desk: Desk) -> None:
    before = desk.store.record(9)
    desk.press("form_to_turns")
    assert desk.shows(desk.form.parts["talk"])
    assert [turn["role"] for turn in desk.turns or []] == ["user", "assistant"]
    desk.press("form_keep")
    assert desk.store.record(9) == before, "to be looked at otherwise is no change"

    desk.turn(*(desk.turns or []), *TALK[2:])
    desk.press("form_keep")
    assert len(desk.store.record(9).turns or []) == 4
    with pytest.raises(gr.Error, match="has 4 turns. Take turns out"):
        desk.press("form_to_pair")

    desk.turn(*TALK[:2])
    desk.press("form_to_pair")
    assert desk.shows(desk.form.parts["pair"])
    assert (desk["Instruction"], desk["Response"]) == ("Is it dry?", "Not yet.")
    desk.press("form_keep")
    record = desk.store.record(9)
    assert (record.instruction, record.response, record.turns) == ("Is it dry?", "Not yet.", None)


def test_a_context_goes_along_into_the_conversation(desk: Desk, dataset: Dataset) -> None:
    record = added(desk.store, dataset, context="The label says 30 degrees.")
    desk.open(record.id)
    desk.press("form_to_turns")
    assert (desk.turns or [])[0]["content"] == "Q\n\nThe label says 30 degrees."
    desk.open(9)
    assert desk.store.record(record.id).revision == 1


def test_a_new_record_can_be_a_conversation(desk: Desk) -> None:
    desk.open("")
    desk.press("form_to_turns")
    desk.turn(*TALK)
    desk.press("form_keep")
    record = desk.store.record(int(desk["Record saved"].split(".")[0]))
    assert record.turns == TALK


def test_of_two_editors_of_a_conversation_the_second_sees_both(desk: Desk, talk: Record) -> None:
    theirs = [*TALK[:3], {"role": "assistant", "content": "Now it is dry."}]
    by_ann(desk.store, talk.id, turns=theirs)
    desk.turn(*TALK[:3], {"role": "assistant", "content": "Now it is soaked."})
    desk.press("form_keep")
    assert "Conversation" in desk.said("both")
    assert "<ins>soaked</ins>" in desk.values[desk.form.parts["both"]._id]
    desk.press("form_mine")
    assert (desk.store.record(talk.id).turns or [])[3]["content"] == "Now it is soaked."


# -- the foot ------------------------------------------------------------------------------------------------


def test_a_copy_has_what_was_written_last_and_is_open_then(desk: Desk) -> None:
    desk.type(response="Changed.")
    desk.press("form_duplicate")
    copy = desk.store.record(desk["Record"])
    assert (copy.response, copy.state, copy.source) == ("Changed.", "draft", "copy of record 9")
    assert f"Record {copy.id} is a copy of record 9" in desk.message
    assert desk["Record saved"] == f"{copy.id}.1"


def test_a_removed_record_gives_way_to_the_next_and_can_be_brought_back(desk: Desk, dataset: Dataset) -> None:
    desk.press("form_remove")
    assert desk["Record"] == 10
    assert "Record 9 is removed. Undo brings it back" in desk.message
    assert desk["Record saved"].startswith("removed.9.")
    with pytest.raises(NotFound):
        desk.store.record(9)
    desk.store.undo(dataset.id, author="owner")
    assert desk.store.record(9).id == 9


def test_the_last_record_gives_way_to_the_one_before_and_then_to_an_empty_form(desk: Desk) -> None:
    store = desk.store
    small = store.create_dataset("small", author="owner")
    first, last = added(store, small), added(store, small, instruction="Another")
    desk.type(dataset="small")
    desk.open(last.id)
    desk.press("form_remove")
    assert desk["Record"] == first.id
    desk.press("form_remove")
    assert desk["Record"] is None
    assert not desk.shows(desk.form.parts["away"])


# -- texts of every kind -------------------------------------------------------------------------------------


def test_a_text_too_long_for_a_browser_is_shown_in_part_and_kept_whole(desk: Desk, dataset: Dataset) -> None:
    long = "word " * 2_000_000
    record = added(desk.store, dataset, response=long)
    desk.open(record.id)
    assert len(desk["Response"]) < 10_000
    assert desk.props[desk.form.parts["response"]._id]["interactive"] is False
    assert "10,000,000 characters" in desk.message
    assert "export the dataset" in desk.message
    desk.write(review_state="approved", category="helpdesk")
    stored = desk.store.record(record.id)
    assert (stored.state, stored.category, stored.response) == ("approved", "helpdesk", long.strip())
    desk.open(9)
    assert desk.props[desk.form.parts["response"]._id]["interactive"] is True
    assert desk.store.record(record.id).response == long.strip()


def test_a_long_conversation_of_long_texts_is_shown_in_part_and_kept_whole(desk: Desk, dataset: Dataset) -> None:
    turns = [{**turn, "content": turn["content"] * 20_000} for turn in TALK * 5]
    record = added(desk.store, dataset, turns=turns)
    desk.open(record.id)
    assert sum(len(turn["content"]) for turn in desk.turns or []) < 30_000
    desk.write(review_state="rejected")
    assert desk.store.record(record.id).turns == turns


def test_more_than_the_form_holds_is_refused_with_the_way_out(desk: Desk) -> None:
    desk.type(response="a" * (MOST_LETTERS + 1))
    desk.press("save")
    assert "the form takes 100,000" in desk.message
    assert "put it into a file" in desk.message


@pytest.mark.parametrize("text", ["مرحبا بالعالم", "שלום", "👩‍🚀🏳️‍🌈", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "a\x00b"])
def test_every_script_is_stored_as_written(desk: Desk, text: str) -> None:
    desk.write(response=text)
    assert desk.store.record(9).response == text.replace("\x00", "")


# -- the studio's side, where no form is needed ----------------------------------------------------------------


def test_a_sitting_that_is_none_changes_nothing(store: Store) -> None:
    assert Sittings(store).keep(sent("", response="x"), EXAMPLE, author="owner").record is None
    assert Sittings(store).keep(sent("9.1.all", response="x"), EXAMPLE, author="owner").record is None


def test_overtaken_is_a_conflict_with_both_versions(store: Store) -> None:
    sittings, record = Sittings(store), store.record(9)
    name = sittings.open(record)
    by_ann(store, 9, response="Theirs.")
    with pytest.raises(Conflict) as caught:
        sittings.keep(sent(name, **written(record, response="Mine.")), EXAMPLE, author="owner")
    assert isinstance(caught.value, Overtaken)
    assert (caught.value.theirs.response, caught.value.mine["response"]) == ("Theirs.", "Mine.")


def test_sittings_that_are_forgotten_do_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.instructions.sittings._SITTINGS", 2)
    sittings, record = Sittings(store), store.record(9)
    names = [sittings.open(record) for _ in range(5)]
    for name in names:
        sittings.keep(sent(name, **written(record)), EXAMPLE, author="owner")
    sittings.keep(sent(names[0], **written(record, response="Mine.")), EXAMPLE, author="owner")
    assert store.record(9).response == "Mine."


# -- in a browser --------------------------------------------------------------------------------------------


class Gate:
    """Holds the answer to the next saving back, which is stored by then, until it is opened."""

    def __init__(self, sittings: Sittings) -> None:
        self._keep, self._closed = sittings.keep, False
        self.held, self._go = threading.Event(), threading.Event()
        sittings.keep = self._slow  # type: ignore[method-assign]

    def close(self) -> None:
        self.held.clear()
        self._go.clear()
        self._closed = True

    def open(self) -> None:
        self._go.set()

    def _slow(self, *args: Any, **options: Any) -> Any:
        is_held, self._closed = self._closed, False
        written = self._keep(*args, **options)
        if is_held:
            self.held.set()
            self._go.wait(20)
        return written


@pytest.fixture(scope="module")
def served_form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Workspace, Gate]]:
    workspace = open_workspace(tmp_path_factory.mktemp("form"))
    load_example(workspace.store, workspace.path)
    gates: list[Gate] = []

    def build(workspace: Workspace) -> TabWidgets:
        gates.append(Gate(laid_out(workspace).sittings))
        return TabWidgets()

    with serving(build_app(workspace, owner_only, (Tab("dataset", "Dataset", build),))) as url:
        yield url, workspace, gates[0]


@pytest.fixture
def page(browser: Browser, served_form: tuple[str, Workspace, Gate]) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.set_default_timeout(15_000)
    page.goto(served_form[0])
    page.wait_for_function("window.ladderReady === true", polling=50)
    yield page
    context.close()
    assert errors == []


def opened(page: Page, record: int | str) -> None:
    page.get_by_label("Open record").fill(str(record))
    page.get_by_role("button", name="Open", exact=True).click()
    name = f"Record {record}" if record else "New record"
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


@pytest.mark.journey
def test_an_answer_that_comes_late_touches_nothing_that_was_opened_since(
    page: Page, served_form: tuple[str, Workspace, Gate]
) -> None:
    _, workspace, gate = served_form
    opened(page, 9)
    gate.close()
    page.get_by_label("Response").fill("Written into nine.")
    assert gate.held.wait(10)
    opened(page, 10)
    gate.open()
    page.wait_for_timeout(500)
    expect(page.get_by_role("heading", name="Record 10", exact=True)).to_be_visible()
    expect(page.locator(".record-saving")).not_to_contain_text("Saved")
    page.get_by_label("Response").fill("Written into ten.")
    page.get_by_label("Instruction").focus()
    expect(page.locator(".record-saving")).to_contain_text("Saved")
    texts = [workspace.store.record(record).response for record in (9, 10)]
    assert texts == ["Written into nine.", "Written into ten."]


@pytest.mark.journey
def test_what_is_written_while_the_studio_stores_stays_and_is_stored_next(
    page: Page, served_form: tuple[str, Workspace, Gate]
) -> None:
    _, workspace, gate = served_form
    opened(page, 11)
    gate.close()
    field = page.get_by_label("Response")
    field.fill("One")
    assert gate.held.wait(10)
    field.press_sequentially(" and two")
    gate.open()
    expect(page.locator(".record-saving")).to_contain_text("Saving…")
    expect(page.locator(".record-saving")).to_contain_text("Saved")
    expect(field).to_have_value("One and two")
    assert workspace.store.record(11).response == "One and two"


@pytest.mark.journey
def test_a_new_record_gets_its_number_where_it_is_written(page: Page, served_form: tuple[str, Workspace, Gate]) -> None:
    _, workspace, _ = served_form
    opened(page, "")
    page.get_by_label("Instruction").fill("Is the shop open on Sunday?")
    page.get_by_label("Response").fill("No.")
    expect(page.locator(".record-saving")).to_contain_text("Saved")
    dataset = workspace.store.dataset(EXAMPLE)
    newest = workspace.store.records(dataset.id, order="newest", limit=1)[0]
    assert newest.response == "No."
    expect(page.get_by_role("heading", name=f"Record {newest.id}", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Duplicate")).to_be_visible()


@pytest.mark.journey
def test_a_conversation_is_written_and_ordered_with_the_keyboard(
    page: Page, served_form: tuple[str, Workspace, Gate]
) -> None:
    _, workspace, _ = served_form
    opened(page, 12)
    page.get_by_role("button", name="Make it a conversation").click()
    page.get_by_role("button", name="Add turn").click()
    expect(page.get_by_label("Turn 3, user")).to_be_focused()
    page.keyboard.type("And on <b>Monday</b>?")
    page.get_by_role("button", name="Add turn").click()
    page.keyboard.type("مفتوح 👍")
    page.keyboard.press("Control+s")
    expect(page.locator(".record-saving")).to_contain_text("Saved")
    turns = workspace.store.record(12).turns or []
    assert [turn["content"] for turn in turns[2:]] == ["And on <b>Monday</b>?", "مفتوح 👍"]

    page.get_by_label("Move turn 3 up").press("Enter")
    expect(page.get_by_label("Turn 2, user")).to_have_value("And on <b>Monday</b>?")
    page.get_by_label("Take turn 3 out").press("Enter")
    expect(page.get_by_label("Turn 3, assistant")).to_be_focused()
    expect(page.locator(".record-saving")).to_contain_text("Saved")
    page.wait_for_function("document.querySelector('.record-saving').textContent.startsWith('Saved')")
    page.wait_for_timeout(200)
    assert [t["role"] for t in workspace.store.record(12).turns or []] == ["user", "user", "assistant"]


@pytest.mark.journey
def test_keys_save_and_go_on_from_within_a_field(page: Page, served_form: tuple[str, Workspace, Gate]) -> None:
    _, workspace, _ = served_form
    opened(page, 14)
    field = page.get_by_label("Response")
    field.fill("Fourteen.")
    field.press("Control+Enter")
    expect(page.get_by_role("heading", name="Record 15", exact=True)).to_be_visible()
    expect(field).to_be_focused()
    field.fill("Fifteen.")
    field.press("Alt+ArrowUp")
    expect(page.get_by_role("heading", name="Record 14", exact=True)).to_be_visible()
    expect(field).to_have_value("Fourteen.")
    assert workspace.store.record(15).response == "Fifteen."
    field.fill(" ")
    field.press("Control+s")
    expect(page.locator(".record-saving")).to_contain_text("Not saved: the response is empty")
    expect(page.get_by_text("Write one, or leave the record out.")).to_be_visible()
    expect(page.locator("#record-save")).to_have_attribute("title", "Ctrl+S")
    field.fill("Fourteen again.")
    field.press("Shift+Tab")
    expect(page.get_by_text("Write one, or leave the record out.")).not_to_be_visible()
    page.get_by_role("button", name="Reload record").click()
    expect(field).to_have_value("Fourteen again.")


@pytest.mark.journey
def test_two_windows_on_one_record_see_each_other(page: Page, served_form: tuple[str, Workspace, Gate]) -> None:
    _, workspace, _ = served_form
    opened(page, 13)
    by_ann(workspace.store, 13, response="Theirs alone.")
    page.get_by_label("Response").fill("Mine alone.")
    page.keyboard.press("Tab")
    expect(page.get_by_role("group", name="Both versions")).to_contain_text("ann changed this record")
    expect(page.locator(".record-saving")).to_contain_text("Not saved: ann changed it")
    page.get_by_role("button", name="Save mine over it").click()
    expect(page.get_by_role("group", name="Both versions")).not_to_be_visible()
    assert workspace.store.record(13).response == "Mine alone."
