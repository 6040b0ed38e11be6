"""The page of records: found, ordered, ticked, decided about by key, changed together, and all of it taken back."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from components import dataset as dataset_tab
from components.app import Tab, build_app
from components.dataset import bulk
from components.dataset.bulk import ALL
from components.dataset.shared import to_show
from studio.example import EXAMPLE
from studio.instructions import editing
from studio.instructions.checking import run_check
from studio.instructions.checks import check_from
from studio.instructions.records import insertable
from studio.serving import owner_only
from studio.store import CheckRun, Dataset, FlagRow, Record, RecordFilter, Store
from studio.workspace import Workspace
from tests.components.test_dataset import Desk, record_ids
from tests.fixtures_pages import open_workspace, serving


@pytest.fixture
def desk(project: Workspace) -> Desk:
    desk = Desk(project)
    desk.look()
    return desk


@pytest.fixture
def store(project: Workspace) -> Store:
    return project.store


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset(EXAMPLE)


def tick(desk: Desk, *ids: int | str) -> None:
    """What the script of the table does: the ids go into the hidden box."""
    desk.change("Ticked records", " ".join(map(str, ids)))


def flag(store: Store, dataset: Dataset, *record_ids: int) -> None:
    run = CheckRun(dataset.id, "personal", "1", {}, 264, 0, 0.1, 0.0, 0.0)
    flags = [FlagRow(key, "personal", "response", f'E-mail <address> in "{key}"') for key in record_ids]
    store.put_flags(run, flags)


def shown(desk: Desk) -> list[Record]:
    return [desk.workspace.store.record(key) for key in record_ids(desk)]


# -- the table -------------------------------------------------------------------------------------------------


def test_a_row_says_what_was_decided_and_what_checks_found(desk: Desk, store: Store, dataset: Dataset) -> None:
    flag(store, dataset, 2)
    editing.review(store, dataset, [store.record(3)], "approved", author="ann")
    desk.look()
    _, first, second, third, *_ = desk["Records"].split("<tr data-key")
    assert "flag" not in first
    assert "1 flag" in second
    assert "Personal data: E-mail &lt;address&gt; in &quot;2&quot;" in second
    assert "Draft" in second
    assert "Approved" in third


def test_a_record_that_the_form_removed_gives_its_place_to_the_next_of_those_shown(desk: Desk) -> None:
    desk.type(order="longest", split_shown="test")
    desk.do("filter_records")
    ids = record_ids(desk)
    desk.do("open_record", ids[3])
    desk.do("form_remove")
    assert desk["Record"] == ids[4]
    assert f"Record {ids[3]} is removed" in desk.message


@pytest.mark.parametrize("order", ["oldest", "newest", "shortest", "longest"])
def test_the_table_and_the_steps_through_it_keep_to_the_chosen_order(desk: Desk, order: str) -> None:
    desk.type(order=order)
    desk.do("filter_records")
    ids = record_ids(desk)
    lengths = [record.letters for record in shown(desk)]
    if order in ("shortest", "longest"):
        assert lengths == sorted(lengths, reverse=order == "longest")
    desk.do("open_record", ids[0])
    walked = [desk["Record"]]
    for _ in range(3):
        desk.do("move_by_key", 1)
        walked.append(desk["Record"])
    assert walked == ids[:4]
    desk.do("move_by_key", -1)
    assert desk["Record"] == ids[2]


def test_a_record_of_an_address_is_opened_on_its_own_page(project: Workspace) -> None:
    desk = Desk(project)
    desk.look(record="77")
    assert (desk["Record"], desk["Page"]) == (77, 2)
    assert 77 in record_ids(desk)


def test_nothing_is_asked_of_the_database_at_a_beat_when_nothing_changed(desk: Desk) -> None:
    rows = desk["Records"]
    desk.type(records="as it was")
    desk.look()
    assert desk["Records"] == "as it was"
    desk.workspace.store.describe_dataset(desk.workspace.store.dataset(EXAMPLE).id, licence="MIT")
    desk.look()
    assert desk["Records"] == rows


# -- filters ---------------------------------------------------------------------------------------------------


def test_each_filter_narrows_by_what_it_says(desk: Desk, store: Store, dataset: Dataset) -> None:
    flag(store, dataset, 2, 5)
    store.edit_record(7, 1, {"category": ""}, author="ann")
    asked: list[tuple[dict[str, Any], Any]] = [
        ({"found_by_a_check": "personal"}, lambda r: r.id in (2, 5)),
        ({"last_changed_by": "ann"}, lambda r: r.id == 7),
        ({"category_shown": " "}, lambda r: r.category == ""),
        ({"category_shown": "open_qa"}, lambda r: r.category == "open_qa"),
        ({"split_shown": "validation"}, lambda r: r.split == "validation"),
        ({"state_shown": "draft"}, lambda r: r.state == "draft"),
    ]
    for typed, holds in asked:
        desk.type(**typed)
        desk.do("filter_records")
        assert shown(desk), typed
        assert all(map(holds, shown(desk))), typed
        desk.do("clear_filters", "")
    desk.type(**{"characters, at least": 500, "characters, at most": 600})
    desk.do("filter_records")
    assert {500 <= record.letters <= 600 for record in shown(desk)} == {True}


def test_what_is_typed_or_deleted_is_looked_for(desk: Desk) -> None:
    desk.type(search_the_records="tent")
    desk.do("filter_typed")
    assert "Search: tent" in desk.words_of("Filters in force")
    desk.type(search_the_records="")
    desk.do("filter_typed")
    assert desk["Filters in force"] == ""


def test_the_filters_in_force_are_said_and_taken_out_one_by_one_or_all(desk: Desk) -> None:
    desk.type(search_the_records="tent <b>", category_shown="open_qa", state_shown="draft")
    desk.do("filter_records")
    said = desk.words_of("Filters in force")
    for words in ("Search: tent &lt;b&gt;", "Category: Open QA", "State: draft", "Clear all", "Save this filter"):
        assert words in said
    desk.do("drop_filter", "text")
    assert desk["Search the records"] == ""
    assert "Search" not in desk.words_of("Filters in force")
    assert {record.category for record in shown(desk)} == {"open_qa"}
    desk.do("drop_filter", "no such part")
    assert desk["Category shown"] == "open_qa"
    desk.do("clear_filters", "")
    assert (desk["Category shown"], desk["State shown"], desk["Filters in force"]) == ("", "", "")
    assert "of 264" in desk.html


def test_the_lists_offer_what_the_records_hold_once_somebody_opens_them(
    desk: Desk, store: Store, dataset: Dataset
) -> None:
    flag(store, dataset, 2, 5)
    store.edit_record(7, 1, {"category": ""}, author="ann")
    desk.do("offer_filters")
    assert ("Personal data (2)", "personal") in desk.choices_of("Found by a check")
    assert ("ann (1)", "ann") in desk.choices_of("Last changed by")
    assert ("excluded (0)", "excluded") in desk.choices_of("Split shown")
    assert any(value for _, value in desk.choices_of("Came from"))
    desk.look()
    assert ("No category (1)", " ") in desk.choices_of("Category shown")


def test_another_page_sets_every_filter_and_its_records_are_a_chip(desk: Desk, store: Store, dataset: Dataset) -> None:
    flag(store, dataset, 2, 5, 9)
    where = RecordFilter(
        "the", None, "train", "draft", "owner", "nowhere", "personal", shortest=10, longest=9000, ids=(2, 5)
    )
    desk.change("Records asked for", to_show(where))
    assert "2 chosen records" in desk.words_of("Filters in force")
    filters = desk._find("Search the records")
    listener = next(fn for fn in desk.demo.fns.values() if fn.api_name == "filter_records")
    names = [block._id for block in listener.inputs]
    values = [desk.values[key] for key in names[names.index(filters) :]][:10]
    assert values == ["the", " ", "draft", "train", "personal", "owner", "nowhere", 10, 9000, "2 5"]
    assert ("nowhere", "nowhere") in desk.choices_of("Came from")
    assert "No record matches" in desk["Records"]
    desk.do("clear_filters", "")
    assert len(record_ids(desk)) == 50


def test_a_filter_is_saved_applied_from_the_shelf_and_removed(desk: Desk, store: Store, dataset: Dataset) -> None:
    desk.type(split_shown="test")
    desk.do("filter_records")
    desk.type(name_of_the_filter="  ")
    with pytest.raises(gr.Error, match="has no name"):
        desk.do("keep_filter")
    desk.type(name_of_the_filter="For <the> test")
    desk.do("keep_filter")
    (saved,) = store.saved_filters(dataset.id)
    assert (saved.name, saved.filter, saved.author) == ("For <the> test", RecordFilter(split="test"), "owner")
    many = store.count_records(dataset.id, saved.filter)
    assert "For &lt;the&gt; test" in desk["Saved filters"]
    assert f"<td>{many}</td>" in desk["Saved filters"]
    desk.type(name_of_the_filter="For <the> test")
    with pytest.raises(gr.Error, match="exists already"):
        desk.do("keep_filter")

    desk.do("clear_filters", "")
    desk.do("apply_filter", saved.id)
    assert desk["Split shown"] == "test"
    assert {record.split for record in shown(desk)} == {"test"}
    desk.press("remove_filter", "remove", saved.id)
    assert desk["Saved filters"] == ""
    with pytest.raises(gr.Error, match="no longer there"):
        desk.do("apply_filter", saved.id)


# -- ticks and what is done to them ------------------------------------------------------------------------------


def test_the_bar_comes_with_the_first_tick_and_says_what_is_meant(desk: Desk) -> None:
    assert not desk.is_shown("bulk")
    tick(desk, 2, 3)
    assert desk.is_shown("bulk")
    assert "2 ticked records" in desk.words_of("Ticked")
    assert "Take all that match (264)" in desk.words_of("Ticked")
    desk.do("turn_to_next")
    assert desk["Ticked records"] == "2 3"
    desk.do("tick_all")
    assert "All 264 that match" in desk.words_of("Ticked")
    desk.do("tick_none")
    assert not desk.is_shown("bulk")


def test_all_that_match_ends_with_the_filter_and_ticks_do_not(desk: Desk) -> None:
    tick(desk, 2, 3)
    desk.type(split_shown="test")
    desk.do("filter_records")
    assert desk["Ticked records"] == "2 3"
    desk.do("tick_all")
    desk.type(split_shown="train")
    desk.do("filter_records")
    assert desk["Ticked records"] == ""


@pytest.mark.parametrize(
    ("verb", "told", "count"),
    [
        ("approve", "Approved 2 records. Undo takes it back.", 264),
        ("reject", "Rejected 2 records. Undo takes it back.", 264),
        ("duplicate", "Duplicated 2 records. Undo takes it back.", 266),
        ("remove", "Removed 2 records. Undo takes it back.", 262),
    ],
)
def test_what_is_done_to_the_ticked_records_is_undone_at_one_press(
    desk: Desk, store: Store, dataset: Dataset, verb: str, told: str, count: int
) -> None:
    before = list(store.all_records(dataset.id))
    tick(desk, 2, 3)
    desk.do(f"bulk_{verb}")
    assert told in desk.html
    assert store.count_records(dataset.id) == count
    assert f">{count}<" in desk["Datasets"]
    if verb in ("approve", "reject"):
        state = {"approve": "approved", "reject": "rejected"}[verb]
        assert [r.id for r in store.all_records(dataset.id) if r.state == state] == [2, 3]
    desk.do("undo_stroke")
    assert [(r.id, r.response, r.state) for r in store.all_records(dataset.id)] == [
        (r.id, r.response, r.state) for r in before
    ]


def test_what_was_so_already_is_not_called_a_change(desk: Desk) -> None:
    tick(desk, 2, 3)
    desk.do("bulk_draft")
    assert "Nothing had to be changed" in desk.html
    tick(desk, 2)
    desk.do("bulk_approve")
    tick(desk, 2, 3)
    desk.do("bulk_approve")
    assert "Approved 2 records: 1 record changed. Undo takes it back." in desk.html


def test_all_that_match_are_changed_and_nothing_else(desk: Desk, store: Store, dataset: Dataset) -> None:
    desk.type(split_shown="test")
    desk.do("filter_records")
    desk.do("tick_all")
    desk.type(new_category="house style")
    desk.do("bulk_category")
    changed = {r.id for r in store.all_records(dataset.id) if r.category == "house style"}
    assert changed == set(store.record_ids(dataset.id, RecordFilter(split="test")))
    assert desk["Ticked records"] == ""


def test_a_removed_record_gives_its_place_in_the_form_to_the_next(desk: Desk) -> None:
    ids = record_ids(desk)
    desk.do("open_record", ids[4])
    tick(desk, ids[4])
    desk.do("bulk_remove")
    assert desk["Record"] == ids[5]
    assert desk["Ticked records"] == ""


def test_more_than_a_thousand_are_asked_about_first(
    desk: Desk, store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ASK_ABOVE", 10)
    tick(desk, ALL)
    desk.do("bulk_remove")
    assert store.count_records(dataset.id) == 264
    assert "Remove all 264 that match?" in desk.html
    store.add_records(dataset.id, [insertable({"instruction": "a", "response": "b"})], author="ann", source="x")
    desk.do("bulk_yes")
    assert "Remove all 265 that match?" in desk.html  # not what was asked about
    assert store.count_records(dataset.id) == 265
    desk.do("bulk_yes")
    assert store.count_records(dataset.id) == 0
    assert "No record" in desk["Records"] or "no records" in desk["Records"]


def test_a_great_many_become_a_job(desk: Desk, store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "AT_ONCE", 10)
    desk.type(split_shown="train")
    desk.do("filter_records")
    tick(desk, ALL)
    desk.do("bulk_approve")
    (job,) = store.jobs()
    assert (job.kind, job.title) == ("change", f"Approve records of {EXAMPLE}")
    assert job.task["where"] == {"split": "train"}
    assert f"Job {job.id} goes through" in desk.html
    assert store.count_records(dataset.id, RecordFilter(state="approved")) == 0


def test_a_replacement_is_seen_before_it_is_made(desk: Desk, store: Store, dataset: Dataset) -> None:
    tick(desk, *range(1, 60))
    desk.type(find="next step", replace_with="Do <this>")
    desk.do("bulk_preview")
    found = desk.words_of("What would be replaced")
    assert re.search(r"\d+ places in \d+ records", found)
    assert "<ins>" in desk["What would be replaced"]
    assert "&lt;" in desk["What would be replaced"]
    assert not any("Do <this>" in r.response for r in store.all_records(dataset.id))
    desk.type(replace_with="Now")
    with pytest.raises(gr.Error, match="not what the preview showed"):
        desk.do("bulk_replace")
    desk.do("bulk_preview")
    desk.do("bulk_replace")
    changed = [r.id for r in store.all_records(dataset.id) if r.revision > 1]
    assert changed
    assert max(changed) < 60
    assert "Undo takes it back" in desk.html
    desk.do("undo_stroke")
    assert any("Next step" in r.response for r in store.all_records(dataset.id))


def test_a_replacement_that_cannot_be_made_is_a_sentence(desk: Desk) -> None:
    tick(desk, 1, 2)
    desk.type(find="(", how=["is_pattern"])
    with pytest.raises(gr.Error, match="is no pattern that can be read"):
        desk.do("bulk_preview")
    desk.type(find="zebra crossing", how=[])
    desk.do("bulk_preview")
    assert "It was not found in these records." in desk.words_of("What would be replaced")


def test_whoever_writes_loses_nothing_to_a_bulk_change(desk: Desk) -> None:
    desk.type(response="")
    tick(desk, 2)
    with pytest.raises(gr.Error):
        desk.do("bulk_approve")
    assert desk["Response"] == ""
    assert desk.workspace.store.record(2).state == "draft"


# -- by key ------------------------------------------------------------------------------------------------------


def test_a_review_pass_needs_one_key_a_record(desk: Desk, store: Store) -> None:
    ids = record_ids(desk)
    for state in ("approved", "rejected", "draft"):
        desk.do("judge_by_key", state)
    assert [store.record(key).state for key in ids[:3]] == ["approved", "rejected", "draft"]
    assert desk["Record"] == ids[3]
    assert "Approved" in desk["Records"]
    with pytest.raises(gr.Error, match="is no state of a record"):
        desk.do("judge_by_key", "splendid")


def test_a_review_pass_through_drafts_misses_none_over_the_edge_of_a_page(desk: Desk, store: Store) -> None:
    desk.type(state_shown="draft", order="newest")
    desk.do("filter_records")
    desk.do("open_record", record_ids(desk)[0])
    expected = store.record_ids(store.dataset(EXAMPLE).id, RecordFilter(state="draft"), "newest")[:55]
    seen = []
    for _ in range(55):
        seen.append(desk["Record"])
        desk.do("judge_by_key", "approved")
        assert desk["Record"] in record_ids(desk)
    assert seen == expected


def test_the_last_record_of_a_review_pass_stays_open(desk: Desk, store: Store, dataset: Dataset) -> None:
    desk.type(page=10**9)
    desk.do("turn_to_last")
    last = record_ids(desk)[-1]
    desk.do("open_record", last)
    desk.do("judge_by_key", "approved")
    assert desk["Record"] == last
    assert store.record(last).state == "approved"


def test_undo_and_redo_say_what_they_would_take_back(desk: Desk) -> None:
    assert desk["Undo and redo"].count("disabled") == 2
    tick(desk, 2, 3)
    desk.do("bulk_approve")
    assert 'title="Undo: Approved 2 records (Ctrl+Z)"' in desk["Undo and redo"]
    assert desk["Undo and redo"].count("disabled") == 1
    desk.do("undo_stroke")
    assert "Undone: Approved 2 records." in desk.html
    assert 'title="Redo: Approved 2 records (Ctrl+Shift+Z)"' in desk["Undo and redo"]


def test_a_check_that_ran_is_found_by_its_flags(desk: Desk, store: Store, dataset: Dataset, project: Workspace) -> None:
    run = run_check(store, dataset, check_from("names"), project.path / "checks")
    desk.type(found_by_a_check="names")
    desk.do("filter_records")
    assert f"of {run.flagged}" in desk.html
    assert json.dumps(RecordFilter(flag="names").told()) == '{"flag": "names"}'


# -- in a browser: keys and ticks (assets/records.js) --------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, example_folder: Path) -> Iterator[tuple[str, Workspace]]:
    folder = tmp_path_factory.mktemp("records")
    shutil.copytree(example_folder, folder / "acme")
    workspace = open_workspace(folder)
    with serving(build_app(workspace, owner_only, (Tab("dataset", "Dataset", dataset_tab.build),))) as url:
        yield url, workspace


@pytest.fixture
def page(browser: Browser, served: tuple[str, Workspace]) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(15_000)
    page.goto(served[0])
    expect(rows(page).first).to_be_visible()
    page.wait_for_function("window.ladderReady === true", polling=50)
    yield page
    context.close()
    assert errors == []


def rows(page: Page) -> Locator:
    return page.locator("#records tr[data-key]")


def is_open(page: Page, key: int) -> None:
    expect(page.locator('#records tr[aria-selected="true"]')).to_have_attribute("data-key", str(key))
    expect(page.get_by_role("heading", name=f"Record {key}", exact=True)).to_be_visible()


@pytest.mark.journey
def test_keys_pressed_faster_than_the_studio_answers_reach_one_record_each(
    page: Page, served: tuple[str, Workspace]
) -> None:
    rows(page).nth(9).click()
    is_open(page, 10)
    for key in ("j", "k", "j", "ArrowDown"):
        page.keyboard.press(key)
    is_open(page, 12)
    for key in "ara":
        page.keyboard.press(key)
    is_open(page, 15)
    store = served[1].store
    assert [store.record(key).state for key in (11, 12, 13, 14, 15)] == [
        "draft",
        "approved",
        "rejected",
        "approved",
        "draft",
    ]
    expect(rows(page).nth(15)).not_to_be_focused()
    expect(rows(page).nth(14)).to_be_focused()  # and the next key is heard, though the table was drawn anew
    page.keyboard.press("Control+z")
    expect(page.get_by_text("Undone: Approved record 14.")).to_be_visible()


@pytest.mark.journey
def test_keys_mean_nothing_to_whoever_writes(page: Page, served: tuple[str, Workspace]) -> None:
    rows(page).nth(19).click()
    is_open(page, 20)
    page.keyboard.press("/")
    expect(page.get_by_label("Search the records")).to_be_focused()
    page.keyboard.type("jar")
    expect(page.get_by_role("button", name="Take out: Search: jar")).to_be_visible()
    assert served[1].store.record(20).state == "draft"
    for _ in range(3):
        page.keyboard.press("Backspace")
    expect(page.get_by_role("button", name="Take out: Search: jar")).to_have_count(0)
    expect(page.get_by_role("heading", name="Record 20", exact=True)).to_be_visible()


@pytest.mark.journey
def test_ticks_reach_over_rows_and_pages_and_are_done_to_at_one_press(
    page: Page, served: tuple[str, Workspace]
) -> None:
    ticks = page.locator("#records td.tick")
    ticks.nth(30).click()
    ticks.nth(33).click(modifiers=["Shift"])
    expect(page.get_by_text("4 ticked records")).to_be_visible()
    page.locator(".pager").get_by_role("button", name="Next", exact=True).click()
    expect(page.get_by_text("51–100 of 264")).to_be_visible()
    expect(page.locator("#records .tick input:checked")).to_have_count(0)
    ticks.nth(0).click()
    page.get_by_role("button", name="Reject", exact=True).click()
    expect(page.get_by_text("Rejected 5 records. Undo takes it back.")).to_be_visible()
    assert [served[1].store.record(key).state for key in (31, 32, 33, 34, 51)] == ["rejected"] * 5
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#bulk")).to_have_count(0)
    page.get_by_label("Tick all rows of this page").check()
    page.get_by_role("button", name="Take all that match (264)").click()
    expect(page.get_by_text("All 264 that match")).to_be_visible()
    ticks.nth(3).click()
    expect(page.get_by_text("49 ticked records")).to_be_visible()
