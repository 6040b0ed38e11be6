"""One person's way up the first two rungs, in a real browser: prompt, upload, tune, compare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from studio.store import Store
from tests.fixtures_journeys import Studio

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

SECONDS = 1000.0  # playwright counts milliseconds


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()


def store_of(studio: Studio) -> Store:
    return Store.in_folder(studio.workspace)


def test_1_ask_a_model_stop_it_keep_it_and_send_it_to_the_dataset(page: Page, studio: Studio):
    expect(page.get_by_role("heading", level=1, name="Playground")).to_be_visible()
    expect(page.get_by_text("Apache-2.0").first).to_be_visible()
    page.get_by_label("Few-shot").check()
    page.get_by_label("Instruction", exact=True).fill("How do I dry a wet tent at home?")
    prompt = page.get_by_label("Rendered prompt")
    expect(prompt).to_have_value(re.compile(r"How do I dry a wet tent at home\?"), timeout=90 * SECONDS)
    expect(prompt).to_have_value(re.compile("Next step:"))  # the examples are in it
    expect(page.get_by_text(re.compile(r"\d+ tokens of prompt"))).to_be_visible()

    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.get_by_label("Answer 1")
    expect(answer).not_to_have_value("", timeout=90 * SECONDS)
    expect(page.get_by_text(re.compile(r"\d+ \+ \d+ tokens")).first).to_be_visible(timeout=90 * SECONDS)
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("button", name="Kept", exact=True)).to_be_visible()
    page.get_by_role("button", name="To dataset", exact=True).click()
    expect(page.get_by_role("button", name="In the dataset", exact=True)).to_be_visible()

    store = store_of(studio)
    last = list(store.all_records(store.dataset("brackenfold").id))[-1]
    assert last.instruction == "How do I dry a wet tent at home?"
    assert last.source.startswith("answer ")


def test_2_stop_ends_an_answer(page: Page, studio: Studio):
    page.get_by_label("Plain", exact=True).check()
    page.get_by_label("Instruction", exact=True).fill("Count from one to five hundred in words, one a line.")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.get_by_label("Answer 1")
    expect(answer).not_to_have_value("", timeout=90 * SECONDS)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    page.wait_for_function(
        """() => new Promise(done => {
            const box = document.querySelector('#answer-1 textarea'), was = box.value;
            setTimeout(() => done(box.value === was), 1500);
        })"""
    )


def test_3_upload_a_table_map_it_edit_a_record_and_freeze_it(page: Page, studio: Studio, tmp_path: Path):
    table = tmp_path / "bench.csv"
    table.write_text(
        "question,reply\n"
        + "".join(f"May I borrow tool number {i}?,You may. Next step: sign for tool {i}.\n" for i in range(30))
        + "A row without a reply,\n",
        encoding="utf-8",
    )
    open_tab(page, "Dataset")
    page.get_by_role("button", name="Import", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(table)
    expect(page.get_by_text("May I borrow tool number 0?").first).to_be_visible()


def test_4_tune_compare_and_try_it(page: Page, studio: Studio):
    open_tab(page, "Tuning")
    page.get_by_label("Quick", exact=True).check()
    expect(page.get_by_text(re.compile(r"It goes through \d+ records once"))).to_be_visible()
